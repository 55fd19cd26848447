//! Whether one contact is bound to an address of record.

use super::Model;

/// One contact of one address of record.
#[derive(Debug)]
pub struct Binding;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingOp {
    /// REGISTER with it.
    Bind,
    /// REGISTER with `expires=0`.
    Unbind,
    /// Is it there?
    Read,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingSaid {
    /// 200.
    Done,
    /// Whether it is there.
    There(bool),
}

impl Model for Binding {
    type State = bool;
    type Op = BindingOp;
    type Said = BindingSaid;

    fn step(there: &bool, op: &BindingOp) -> (bool, BindingSaid) {
        match op {
            BindingOp::Bind => (true, BindingSaid::Done),
            BindingOp::Unbind => (false, BindingSaid::Done),
            BindingOp::Read => (*there, BindingSaid::There(*there)),
        }
    }
}
