//! The shape that every machine of the switch has, so that one actor loop can drive them all.

/// A pure machine: inputs and the time go in, outputs come out, nothing else happens.
pub trait Machine: Clone + Send + 'static {
    /// Everything that can happen to it.
    type Input: Clone + Send + std::fmt::Debug + 'static;
    /// Everything that it can ask for.
    type Output: Send + 'static;

    /// Takes one input at `now`.
    fn handle_input(&mut self, now: Now, input: Self::Input);

    /// The next thing to carry out, in order; `None` when all is done.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// When it wants [`Machine::handle_timeout`], on the steady clock of [`Now::steady_ms`].
    fn poll_timeout(&self) -> Option<u64>;

    /// Lets what is due happen.
    fn handle_timeout(&mut self, now: Now);

    /// It has done all that it ever will.
    fn is_finished(&self) -> bool;
}

/// The time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Milliseconds on this node's steady clock: for timers.
    pub steady_ms: u64,
    /// Cluster time: for what is recorded.
    pub cluster: tandem_state::ClusterTime,
}
