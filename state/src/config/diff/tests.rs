use super::*;
use crate::fixture::*;
use crate::{Reply, State};

fn read(text: &str) -> WantedConfig {
    serde_json::from_str(text).unwrap()
}

fn planned(state: &State, text: &str) -> Vec<String> {
    plan(&read(text), state, false).unwrap().lines
}

/// Applies a file and checks that it then has nothing to change.
fn applied(state: &mut State, file: &WantedConfig, prune: bool) -> Vec<String> {
    let plan_of = plan(file, state, prune).unwrap();
    let changes = plan_of.changes.len();
    let outcome = run(state, propose(1, 500 + state.position, configure(plan_of.changes))).outcomes.remove(0);
    let Ok(Reply::Configured(names)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(names.len(), changes);
    assert_eq!(plan(file, state, prune), Ok(Plan::default()));
    plan_of.lines
}

const ACME: &str = r#"{"tenants": [{"name": "acme", "domain": "acme.example", "timezone": "Europe/London",
    "currency": "GBP", "limits": {"calls": 100},
    "extensions": [
        {"number": "101", "name": "John Doe", "caller_id": "+442075866660",
         "password_digest": {"md5": "00000000000000000000000000000000"}},
        {"number": "103", "password_digest": {"md5": "11111111111111111111111111111111"}}],
    "numbers": [{"number": "+442075866660", "to": {"extension": "103"}}]}]}"#;

#[test]
fn a_new_tenant_is_made_with_all_it_has() {
    let mut state = State::default();
    let lines = applied(&mut state, &read(ACME), false);
    let expected =
        ["+ tenant acme", "+ extension acme/101", "+ extension acme/103", "+ number acme/+442075866660"];
    assert_eq!(lines, expected);
}

#[test]
fn a_known_tenant_is_changed_where_it_differs_and_a_given_list_is_complete() {
    let mut state = started();
    let lines = applied(&mut state, &read(ACME), false);
    let expected = [
        "~ tenant acme limits",
        "~ extension acme/101 name, password, caller_id",
        "+ extension acme/103",
        "+ number acme/+442075866660",
        "- extension acme/102",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_is_left_out_is_untouched_and_a_limit_left_out_is_none() {
    let mut state = State::default();
    applied(&mut state, &read(ACME), false);
    assert_eq!(planned(&state, r#"{"tenants": [{"name": "acme"}]}"#), [""; 0]);
    assert_eq!(planned(&state, r#"{"tenants": []}"#), [""; 0]);
    assert_eq!(planned(&state, r#"{}"#), [""; 0]);
    let file = read(r#"{"tenants": [{"name": "acme", "limits": {"registrations": 5}}]}"#);
    assert_eq!(applied(&mut state, &file, false), ["~ tenant acme limits"]);
    let limits = Limits { registrations: Some(5), ..Limits::default() };
    assert_eq!(state.tenants.values().next().unwrap().limits, limits);
}

#[test]
fn an_extension_without_a_password_keeps_its_own() {
    let mut state = started();
    let file = r#"{"tenants": [{"name": "acme", "extensions": [{"number": "101"}, {"number": "102", "name": "B"}]}]}"#;
    assert_eq!(applied(&mut state, &read(file), false), ["~ extension acme/102 name"]);
}

#[test]
fn a_number_moves_between_tenants_in_one_file() {
    let mut state = State::default();
    applied(&mut state, &read(ACME), false);
    let file = read(
        r#"{"tenants": [{"name": "a-new", "domain": "a.example",
             "extensions": [{"number": "1", "password_digest": {"md5": "00000000000000000000000000000000"}}],
             "numbers": [{"number": "+442075866660", "to": {"extension": "1"}}]},
            {"name": "acme", "numbers": []}]}"#,
    );
    let lines = applied(&mut state, &file, false);
    let expected = [
        "- number acme/+442075866660",
        "+ tenant a-new",
        "+ extension a-new/1",
        "+ number a-new/+442075866660",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_extension_goes_once_its_number_leads_elsewhere() {
    let mut state = State::default();
    applied(&mut state, &read(ACME), false);
    let file = read(
        r#"{"tenants": [{"name": "acme", "extensions": [{"number": "101", "name": "John Doe",
            "caller_id": "+442075866660"}], "numbers": [{"number": "+442075866660", "to": {"extension": "101"}}]}]}"#,
    );
    let lines = applied(&mut state, &file, false);
    assert_eq!(lines, ["~ number acme/+442075866660 to", "- extension acme/103"]);
}

#[test]
fn prune_removes_tenants_that_a_given_list_leaves_out() {
    let mut state = started();
    applied(&mut state, &read(r#"{"tenants": [{"name": "globex", "domain": "globex.example"}]}"#), false);
    assert_eq!(plan(&read("{}"), &state, true), Ok(Plan::default()));
    let file = read(r#"{"tenants": [{"name": "globex"}]}"#);
    assert_eq!(applied(&mut state, &file, true), ["- tenant acme"]);
}

#[test]
fn what_can_not_be_applied_is_named() {
    let state = started();
    let error = |text: &str| plan(&read(text), &state, false).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"trunks": [{"name": "x"}]}"#),
        "trunks: not in this release; take it out of the file"
    );
    assert!(error(r#"{"rate_decks": []}"#).starts_with("rate_decks: "));
    assert!(error(r#"{"tenants": [{"name": "acme", "account": {}}]}"#).starts_with("tenants.acme.account: "));
    assert_eq!(error(r#"{"tenants": [{"name": "new"}]}"#), "tenants.new.domain: is missing");
    assert_eq!(error(r#"{"tenants": [{"name": "a"}, {"name": "a"}]}"#), "tenants.a: is there twice");
    let of_extension =
        |fields: &str| error(&format!(r#"{{"tenants": [{{"name": "acme", "extensions": [{fields}]}}]}}"#));
    assert_eq!(of_extension(r#"{"number": "9"}"#), "tenants.acme.extensions.9.password: is missing");
    let clear = r#"{"number": "9", "password": "p"}"#;
    assert_eq!(of_extension(clear), "tenants.acme.extensions.9.password: is not hashed");
    let twice = r#"{"number": "101"}, {"number": "101"}"#;
    assert_eq!(of_extension(twice), "tenants.acme.extensions.101: is there twice");
}

#[test]
fn an_export_changes_nothing_where_it_comes_from_and_makes_the_same_elsewhere() {
    let mut state = State::default();
    applied(&mut state, &read(ACME), false);
    let rules = r#"{"tenants": [{"name": "acme", "dial_rules": {"country": "44", "national": "0"}}]}"#;
    assert_eq!(applied(&mut state, &read(rules), false), ["~ tenant acme dial_rules"]);
    let text = serde_json::to_string(&state.export_config()).unwrap();
    assert!(!text.contains("\"password\""));
    let file = read(&text);
    assert_eq!(plan(&file, &state, true), Ok(Plan::default()));
    let mut copy = State::default();
    applied(&mut copy, &file, false);
    assert_eq!(
        (&copy.tenants, &copy.extensions, &copy.numbers),
        (&state.tenants, &state.extensions, &state.numbers)
    );
    let bare = r#"{"tenants": [{"name": "acme", "dial_rules": null}]}"#;
    assert_eq!(applied(&mut state, &read(bare), false), ["~ tenant acme dial_rules"]);
}
