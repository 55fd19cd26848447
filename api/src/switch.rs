//! What the API asks of the running switch: the things that the replicated state alone can't answer.

use std::future::Future;
use std::pin::Pin;

use tandem_state::{Binding, CallId, ClusterTime, Principal};

/// A hang-up under way.
pub type HangupFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HangupError>> + Send + 'a>>;

/// What is known of bindings, being asked for; it may be shorter than what was asked.
pub type HeldFuture<'a> = Pin<Box<dyn Future<Output = Vec<Option<Held>>> + Send + 'a>>;

/// What the node that holds a binding's flow knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// When it ends unless it is refreshed.
    pub expires: ClusterTime,
    /// Its phone did not answer when it was last asked.
    pub unreachable: bool,
}

/// Why a call was not hung up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HangupError {
    /// No such call, or it has ended.
    NotFound,
    /// Its owner doesn't answer.
    Unreachable(String),
    /// Too much is under way.
    Overloaded,
    /// Its owner refused.
    Refused(String),
}

/// The running switch as the API sees it. Nothing here may block.
pub trait Switch: Send + Sync {
    /// Ends a call, wherever its owner is; done when the owner has taken the order.
    fn hangup(&self, call: CallId, by: Principal) -> HangupFuture<'_>;

    /// `Ok` while this node may take calls, else why not.
    fn readiness(&self) -> Result<(), String>;

    /// What is known of bindings where they are held, in their order, as far as it can be had in a moment.
    fn held(&self, bindings: Vec<Binding>) -> HeldFuture<'_>;

    /// Brings gauges up to date, just before they are read.
    fn refresh_gauges(&self);
}

/// A node without a switch: it has no calls, and takes none.
#[derive(Debug, Clone, Copy)]
pub struct NoSwitch;

impl Switch for NoSwitch {
    fn hangup(&self, _call: CallId, _by: Principal) -> HangupFuture<'_> {
        Box::pin(std::future::ready(Err(HangupError::NotFound)))
    }

    fn readiness(&self) -> Result<(), String> {
        Err("this node takes no calls".to_owned())
    }

    fn held(&self, _bindings: Vec<Binding>) -> HeldFuture<'_> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn refresh_gauges(&self) {}
}
