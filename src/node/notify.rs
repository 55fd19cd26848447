//! What systemd is told, if it started this process.

use std::time::Duration;

use sd_notify::NotifyState;

/// The node works; from now on systemd's watchdog is fed.
pub(super) fn ready() {
    tell(NotifyState::Ready);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(feed(limit / 2));
    }
}

/// The node is stopping.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Runs on the runtime that the node runs on: when that hangs, so does this.
async fn feed(every: Duration) {
    loop {
        tell(NotifyState::Watchdog);
        tokio::time::sleep(every).await;
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
