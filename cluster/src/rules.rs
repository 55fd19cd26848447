//! The newest rules that this process follows.

use tandem_state::tables::NEWEST_APPLY_VERSION;

/// Those of this release.
#[cfg(not(feature = "faults"))]
pub(crate) fn newest() -> u16 {
    NEWEST_APPLY_VERSION
}

/// Those of this release, or older ones: a test build passes for an older release by the environment's
/// `TANDEM_APPLY_VERSION`.
#[cfg(feature = "faults")]
pub(crate) fn newest() -> u16 {
    use std::sync::LazyLock;
    use tandem_state::tables::FIRST_APPLY_VERSION;
    static NEWEST: LazyLock<u16> = LazyLock::new(|| {
        let asked = std::env::var("TANDEM_APPLY_VERSION").ok().and_then(|text| text.parse().ok());
        asked.unwrap_or(NEWEST_APPLY_VERSION).clamp(FIRST_APPLY_VERSION, NEWEST_APPLY_VERSION)
    });
    *NEWEST
}
