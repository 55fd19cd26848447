use crate::archive::Fact;
use crate::command::Command;
use crate::config::*;
use crate::fixture::*;
use crate::*;

fn outcome(state: &mut State, seq: u64, changes: Vec<ConfigChange>) -> Outcome {
    run(state, propose(1, seq, configure(changes))).outcomes.remove(0)
}

fn configured(names: &[&str]) -> Outcome {
    Ok(Reply::Configured(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn put_number(tenant: &str, number: &str, to: &str) -> ConfigChange {
    let to = NumberTarget::Extension(to.into());
    ConfigChange::PutNumber { tenant: tenant.into(), number: NumberConfig { number: number.into(), to } }
}

fn remove_extension(tenant: &str, number: &str) -> ConfigChange {
    ConfigChange::RemoveExtension { tenant: tenant.into(), number: number.into() }
}

fn remove_tenant(name: &str) -> ConfigChange {
    ConfigChange::RemoveTenant { name: name.into() }
}

#[test]
fn changes_are_named_audited_and_told_once_per_tenant() {
    let mut state = State::default();
    let changes = vec![
        ConfigChange::PutTenant(tenant("acme")),
        put_extension("acme", "101"),
        put_number("acme", "+4420", "101"),
    ];
    let applied = run(&mut state, propose(1, 1, configure(changes.clone())));
    let names = ["tenant acme", "extension acme/101", "number acme/+4420"];
    assert_eq!(applied.outcomes, [configured(&names)]);
    let kinds: Vec<EventKind> = applied.events.into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::TenantChanged("acme".into())]);
    let audit: Vec<&str> = applied
        .archive
        .iter()
        .filter_map(|r| if let Fact::Audit(audit) = &r.fact { Some(audit.action.as_str()) } else { None })
        .collect();
    assert_eq!(audit, ["put tenant acme", "put extension acme/101", "put number acme/+4420"]);

    let again = run(&mut state, propose(1, 2, configure(changes)));
    assert_eq!(again, Applied { outcomes: vec![configured(&[])], ..Applied::default() });
}

#[test]
fn the_first_refusal_undoes_everything() {
    let mut state = started();
    run(&mut state, propose(1, 80, bind("101", 1)));
    let before = state.clone();
    let changes = vec![
        ConfigChange::PutTenant(tenant("new")),
        remove_extension("acme", "101"),
        put_extension("nobody", "1"),
    ];
    let applied = run(&mut state, propose(1, 90, configure(changes)));
    assert_eq!(applied.outcomes, [Err(Refusal::NoTenant("nobody".into()))]);
    assert_eq!((applied.events.len(), applied.archive.len()), (0, 0));
    assert_eq!(state.tenants, before.tenants);
    assert_eq!((&state.bindings, &state.by_domain), (&before.bindings, &before.by_domain));
}

#[test]
fn domains_and_numbers_are_unique_over_all_tenants() {
    let mut state = started();
    let twin = TenantConfig { domain: "acme.example".into(), ..tenant("globex") };
    let taken = Refusal::Taken { what: "domain acme.example".into(), owner: "tenant acme".into() };
    assert_eq!(outcome(&mut state, 90, vec![ConfigChange::PutTenant(twin)]), Err(taken));
    outcome(&mut state, 91, vec![put_number("acme", "+4420", "101")]).unwrap();
    let theirs = vec![
        ConfigChange::PutTenant(tenant("globex")),
        put_extension("globex", "101"),
        put_number("globex", "+4420", "101"),
    ];
    let taken = Refusal::Taken { what: "number +4420".into(), owner: "tenant acme".into() };
    assert_eq!(outcome(&mut state, 92, theirs), Err(taken));
}

#[test]
fn a_changed_secret_removes_the_bindings_and_a_changed_name_does_not() {
    let mut state = started();
    run(&mut state, propose(1, 80, bind("101", 1)));
    run(&mut state, propose(1, 81, bind("102", 1)));
    let renamed = Extension { name: "Jane".into(), ..extension("101") };
    let put = |extension| ConfigChange::PutExtension { tenant: "acme".into(), extension };
    assert_eq!(outcome(&mut state, 90, vec![put(renamed.clone())]), configured(&["extension acme/101"]));
    assert_eq!(state.bindings.len(), 2);
    let secret = Digests { md5: "e".repeat(32), ..renamed.secret.clone() };
    let applied = run(&mut state, propose(1, 91, configure(vec![put(Extension { secret, ..renamed })])));
    assert_eq!(applied.events[0].kind.name(), "registration.removed");
    assert_eq!(state.bindings.keys().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["102"]);
}

#[test]
fn a_changed_domain_removes_the_bindings_and_frees_the_old_one() {
    let mut state = started();
    run(&mut state, propose(1, 80, bind("101", 1)));
    let moved = TenantConfig { domain: "new.example".into(), ..tenant("acme") };
    assert_eq!(outcome(&mut state, 90, vec![ConfigChange::PutTenant(moved)]), configured(&["tenant acme"]));
    assert!(state.bindings.is_empty());
    assert_eq!(state.tenant_by_domain("ACME.example"), None);
    assert_eq!(state.tenant_by_domain("NEW.example").unwrap().0, TenantId(1));
}

#[test]
fn an_extension_to_which_a_number_leads_stays() {
    let mut state = started();
    outcome(&mut state, 90, vec![put_number("acme", "+4420", "101")]).unwrap();
    let refused = outcome(&mut state, 91, vec![remove_extension("acme", "101")]);
    assert_eq!(refused.unwrap_err().to_string(), "extension acme/101: number +4420 leads to it");
    let off = ConfigChange::RemoveNumber { tenant: "acme".into(), number: "+4420".into() };
    let both = outcome(&mut state, 92, vec![off.clone(), remove_extension("acme", "101")]);
    assert_eq!(both, configured(&["number acme/+4420", "extension acme/101"]));
    assert_eq!(outcome(&mut state, 93, vec![off]), Err(Refusal::NoNumber("acme/+4420".into())));
    let gone = Err(Refusal::NoExtension("acme/101".into()));
    assert_eq!(outcome(&mut state, 94, vec![remove_extension("acme", "101")]), gone);
    assert_eq!(outcome(&mut state, 95, vec![put_number("acme", "+4420", "101")]), gone);
}

#[test]
fn a_tenant_with_calls_stays_and_one_without_goes_with_all_it_has() {
    let mut state = started();
    run(&mut state, propose(1, 80, bind("101", 1)));
    outcome(&mut state, 81, vec![put_number("acme", "+4420", "101")]).unwrap();
    let scope = TokenScope::Tenant(TenantId(1));
    let token = TokenRecord { id: "t".into(), hash: [1; 32], scope, created: ClusterTime(0) };
    run(&mut state, propose(1, 82, Command::PutToken { token }));
    run(&mut state, propose(1, 83, create_call(1)));
    assert_eq!(
        outcome(&mut state, 90, vec![remove_tenant("acme")]),
        Err(Refusal::Busy("tenant acme".into()))
    );
    run(&mut state, propose(1, 91, end_call(1, CallChange::default())));
    let applied = run(&mut state, propose(1, 92, configure(vec![remove_tenant("acme")])));
    let names: Vec<&str> = applied.events.iter().map(|e| e.kind.name()).collect();
    assert_eq!(names, ["registration.removed", "tenant.removed"]);
    assert!(state.tenants.is_empty() && state.extensions.is_empty() && state.numbers.is_empty());
    assert!(state.bindings.is_empty() && state.tokens.is_empty() && state.by_domain.is_empty());
    assert_eq!(outcome(&mut state, 93, vec![remove_tenant("acme")]), Err(Refusal::NoTenant("acme".into())));
}

#[test]
fn a_tenant_id_is_never_used_again() {
    let mut state = started();
    outcome(&mut state, 90, vec![remove_tenant("acme"), ConfigChange::PutTenant(tenant("acme"))]).unwrap();
    assert_eq!(state.tenants.keys().collect::<Vec<_>>(), [&TenantId(2)]);
}
