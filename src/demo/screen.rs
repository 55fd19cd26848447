//! What a newcomer sees when the demo stands.

use super::credentials::Credentials;
use super::layout::Layout;
use crate::output::bold;

/// The screen; its first line begins with `ready`.
pub(super) fn ready(layout: &Layout, credentials: &Credentials) -> String {
    let sip: Vec<String> = layout.nodes.iter().map(|node| node.sip()).collect();
    let head = format!("ready: {} nodes with a quorum, SIP on {}\n\n", layout.nodes.len(), sip.join(", "));
    head + &nodes(layout) + &phones(layout, credentials) + &failures(layout) + &looking(layout)
}

fn nodes(layout: &Layout) -> String {
    let rows = layout.nodes.iter().map(|node| {
        let (sip, api, media) = (node.sip(), node.api_url(), node.media());
        format!("  {:<4} {:<5} {sip:<16} {api:<22} {media}\n", node.name, node.site)
    });
    let head = format!(
        "  {:<4} {:<5} {:<16} {:<22} {}\n",
        "node", "site", "SIP (UDP, TCP)", "HTTP API", "media (RTP)"
    );
    bold("What runs where") + "\n" + &head + &rows.collect::<String>() + "\n"
}

fn phones(layout: &Layout, credentials: &Credentials) -> String {
    let proxies: Vec<String> = layout.nodes.iter().map(|node| node.sip()).collect();
    let all = format!("  All logins: {}\n\n", layout.dir.join("credentials.json").display());
    let shown: Vec<_> = credentials.extensions.iter().take(2).collect();
    let logins = shown.iter().zip(&proxies).map(|(login, proxy)| {
        let (number, domain, password) = (&login.number, &login.domain, &login.password);
        format!("  sip:{number}@{domain}  user {number}  password {password}  outbound proxy {proxy}\n")
    });
    let logins = logins.collect::<String>();
    let call = match shown.as_slice() {
        [from, to] => {
            format!("  then dial {} from {}; they may register at different nodes.\n", to.number, from.number)
        }
        _ => "  no extension with a known password\n".to_owned(),
    };
    bold("Point two softphones at it") + "\n" + &logins + &call + &all
}

fn failures(layout: &Layout) -> String {
    let Some(last) = layout.nodes.last() else { return String::new() };
    let (name, pid, config) = (&last.name, last.pid_file(), last.config());
    bold("Kill a node, start it again")
        + &format!(
            "\n  kill -9 $(cat {})\n  tandem node run --config {} &\n",
            pid.display(),
            config.display()
        )
        + &format!("  The two others go on without {name}; it comes back by itself with the same state.\n\n")
}

fn looking(layout: &Layout) -> String {
    let credentials = layout.dir.join("credentials.json");
    let apis: Vec<String> = layout.nodes.iter().map(|node| node.api_url()).collect();
    let first = apis.first().cloned().unwrap_or_default();
    let program =
        std::env::current_exe().ok().and_then(|program| Some(program.parent()?.display().to_string()));
    let path = program.map(|folder| format!("\n  export PATH={folder}:$PATH")).unwrap_or_default();
    let token = format!("sed -n 's/.*\"admin_token\": *\"\\([^\"]*\\)\".*/\\1/p' {}", credentials.display());
    bold("Look at it, in another terminal")
        + &path
        + &format!("\n  export TANDEM_API={}\n  export TANDEM_TOKEN=$({token})\n", apis.join(","))
        + "  tandem cluster status --watch\n  tandem registrations\n  tandem calls\n  tandem cdrs --layout classic\n"
        + &format!("  curl -s -H \"Authorization: Bearer $TANDEM_TOKEN\" {first}/v1/calls\n")
        + &format!("  curl -sN -H \"Authorization: Bearer $TANDEM_TOKEN\" {first}/v1/events\n")
        + &format!("  curl -s {first}/metrics | grep ^tandem_\n\n")
        + "Ctrl-C ends calls and stops all nodes; the state stays.\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::DemoArgs;
    use crate::demo::credentials::Login;
    use crate::testing::Scratch;

    #[test]
    fn the_first_line_says_ready_and_the_rest_what_a_newcomer_needs() {
        let dir = Scratch::new();
        let args = DemoArgs { dir: dir.path().to_owned(), file: None, subnet: "127.0.0".into() };
        let layout = Layout::of(&args).unwrap();
        let login = |number: &str| Login {
            tenant: "acme".into(),
            domain: "acme.example".into(),
            number: number.into(),
            password: "secret".into(),
        };
        let credentials =
            Credentials { admin_token: "hidden".into(), extensions: vec![login("101"), login("102")] };
        let screen = ready(&layout, &credentials);
        assert!(screen.starts_with("ready: 3 nodes with a quorum, SIP on 127.0.0.1:5060, 127.0.0.2:5060"));
        let second = "sip:102@acme.example  user 102  password secret  outbound proxy 127.0.0.2:5060";
        assert!(screen.contains(second), "{screen}");
        assert!(screen.contains("export TANDEM_API=http://127.0.0.1:8080,http://127.0.0.2:8080"));
        assert!(!screen.contains("hidden"));
    }
}
