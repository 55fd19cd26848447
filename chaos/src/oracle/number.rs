//! Who owns an outside number.

use super::Model;

/// A tenant, and where its calls to the number lead.
pub type Owner = (String, String);

/// One outside number: free, or owned by one tenant.
#[derive(Debug)]
pub struct Number;

/// What is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberOp {
    /// A tenant takes it, or has it lead elsewhere.
    Take(Owner),
    /// A tenant gives it back.
    Free(String),
    /// Where it leads for a tenant.
    Read(String),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberSaid {
    /// It was done.
    Done,
    /// It is another tenant's, or nobody's.
    Refused,
    /// Where it leads; `None`: it is not this tenant's.
    Leads(Option<String>),
}

impl Model for Number {
    type State = Option<Owner>;
    type Op = NumberOp;
    type Said = NumberSaid;

    fn step(state: &Option<Owner>, op: &NumberOp) -> (Option<Owner>, NumberSaid) {
        let owned_by = |tenant: &String| state.as_ref().filter(|(owner, _)| owner == tenant);
        match op {
            NumberOp::Take(owner) if state.is_none() || owned_by(&owner.0).is_some() => {
                (Some(owner.clone()), NumberSaid::Done)
            }
            NumberOp::Free(tenant) if owned_by(tenant).is_some() => (None, NumberSaid::Done),
            NumberOp::Take(_) | NumberOp::Free(_) => (state.clone(), NumberSaid::Refused),
            NumberOp::Read(tenant) => {
                (state.clone(), NumberSaid::Leads(owned_by(tenant).map(|(_, to)| to.clone())))
            }
        }
    }
}
