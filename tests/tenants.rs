//! Two tenants with the same extension numbers on the same nodes: they never meet, in calls or in what is shown.

mod support;

use serde_json::Value;
use std::sync::LazyLock;
use std::time::Duration;
use support::demo::Demo;
use support::phone::Phone;

static DEMO: LazyLock<Demo> = LazyLock::new(|| Demo::start(25));

#[test]
fn a_number_called_in_one_tenant_rings_there_alone() {
    let caller = DEMO.account();
    let (ours, theirs) = DEMO.twins();
    let mut caller = Phone::registered(&DEMO, &caller, 1);
    let mut acme = Phone::registered(&DEMO, &ours, 2);
    let mut globex = Phone::registered(&DEMO, &theirs, 2);
    DEMO.await_registrations(1, &ours, 1);
    DEMO.await_registrations(1, &theirs, 1);

    let mut out = caller.call(&ours.number);
    let mut inc = acme.incoming();
    assert!(!globex.hears("INVITE", Duration::from_millis(500)), "the other tenant's phone rang");
    acme.answer(&mut inc, 200, "OK");
    caller.expect(&mut out, 200);
    caller.hang_up(&mut out);
    acme.ended(&inc);
    assert_eq!(DEMO.cdr(&caller.account, &ours.number)["tenant"], "acme");
    assert!(DEMO.cdrs(1, &theirs, &ours.number).is_empty());
}

#[test]
fn a_phone_can_not_call_into_another_tenants_domain_as_its_own() {
    let (ours, theirs) = DEMO.twins();
    let mut acme = Phone::registered(&DEMO, &ours, 1);
    let mut globex = Phone::registered(&DEMO, &theirs, 2);
    DEMO.await_registrations(1, &theirs, 1);
    let mut out = acme.call_uri(&format!("sip:{}@{}", theirs.number, theirs.domain));
    let refusal = acme.response(&mut out, 200);
    assert!(refusal.status().is_some_and(|status| status >= 400), "{}", refusal.start);
    assert!(!globex.hears("INVITE", Duration::from_millis(500)), "the other tenant's phone rang");
}

#[test]
fn a_password_of_one_tenant_opens_nothing_in_the_other() {
    let (ours, theirs) = DEMO.twins();
    let mut mixed = theirs.clone();
    mixed.password = ours.password;
    let mut phone = Phone::new(&DEMO, &mixed, 1);
    let response = phone.register_as(&phone.contact(), 600);
    assert!(matches!(response.status(), Some(401 | 403)), "{}", response.start);
}

#[test]
fn lists_of_a_tenant_hold_nothing_of_the_other() {
    let (ours, theirs) = DEMO.twins();
    let _acme = Phone::registered(&DEMO, &ours, 1);
    DEMO.await_registrations(3, &ours, 1);
    DEMO.await_registrations(3, &theirs, 0);
    let all = DEMO.items(3, "/v1/tenants/globex/registrations");
    assert!(all.iter().all(|one: &Value| one["tenant"] == "globex"), "{all:?}");
}
