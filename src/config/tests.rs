use super::*;

const WHOLE: &str = r#"
[node]
name = "n1"
site = "east"
data = "data"
[cluster]
listen = "127.0.0.1:7400"
[sip]
udp = ["127.0.0.1:5060"]
tcp = ["127.0.0.1:5060"]
advertise = "127.0.0.1"
[rtp]
listen = "127.0.0.1"
ports = "20000-29999"
[api]
listen = "127.0.0.1:8080"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, PathBuf::from("/etc/tandem/tandem.toml")).map_err(|error| format!("{error:#}"))
}

#[test]
fn the_whole_file_and_its_defaults_are_the_same() {
    let whole = parse(WHOLE).unwrap();
    assert_eq!(whole.data, PathBuf::from("/etc/tandem/data"));
    assert_eq!(whole.api_url(), "http://127.0.0.1:8080");
    let short = parse("[node]\nname = \"n1\"\nsite = \"east\"\n").unwrap();
    assert_eq!(short, whole);
}

#[test]
fn errors_name_file_line_and_key() {
    for (from, to, expected) in [
        ("site = ", "sight = ", "/etc/tandem/tandem.toml:4: node.sight: unknown field `sight`"),
        ("[api]", "[apis]", "/etc/tandem/tandem.toml:15: apis: unknown field `apis`"),
        ("\"20000-29999\"", "\"29999-20000\"", "/etc/tandem/tandem.toml:14: rtp.ports: the range must begin"),
        (
            "\"127.0.0.1:7400\"",
            "\"127.0.0.1\"",
            "/etc/tandem/tandem.toml:7: cluster.listen: invalid socket address",
        ),
        ("\"n1\"", "\"Node 1\"", "/etc/tandem/tandem.toml:3: node.name: a name has 1 to 63"),
        ("\"n1\"", "7", "/etc/tandem/tandem.toml:3: node.name: invalid type"),
        (
            "advertise = \"127.0.0.1\"",
            "advertise = \"0.0.0.0\"",
            "tandem.toml:11: sip.advertise: phones can't reach",
        ),
        (
            "advertise = \"127.0.0.1\"",
            "advertise = \"h:1\"",
            "tandem.toml:11: sip.advertise: give a host name",
        ),
        ("name = \"n1\"", "", "/etc/tandem/tandem.toml:2: node: missing field `name`"),
        ("udp = [", "udp = ", "/etc/tandem/tandem.toml:9: sip.udp: "),
    ] {
        let error = parse(&WHOLE.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn addresses_that_nobody_could_reach_are_refused_by_key() {
    let all = WHOLE
        .replace("advertise = \"127.0.0.1\"", "")
        .replace("udp = [\"127.0.0.1:5060\"]", "udp = [\"0.0.0.0:5060\"]");
    assert!(parse(&all).unwrap_err().contains("sip.advertise: must say"));
    let all = WHOLE.replace("127.0.0.1:7400", "0.0.0.0:7400");
    assert!(parse(&all).unwrap_err().contains("cluster.listen: other nodes dial"));
    let none = WHOLE.replace("[\"127.0.0.1:5060\"]", "[]");
    assert!(parse(&none).unwrap_err().contains("sip.udp, sip.tcp: at least one"));
    let named = WHOLE.replace("advertise = \"127.0.0.1\"", "advertise = \"sip.example\"");
    let named = named.replace("[rtp]\nlisten = \"127.0.0.1\"", "[rtp]\nlisten = \"0.0.0.0\"");
    assert!(parse(&named).unwrap_err().contains("rtp.advertise: must say"));
}
