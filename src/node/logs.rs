//! The log: standard error, level by RUST_LOG.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Begins to log.
pub(super) fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,openraft=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).with_target(true).init();
    }
}
