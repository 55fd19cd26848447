//! What must hold. Each check says what does not.

pub(crate) mod leases;
pub(crate) mod linear;
pub(crate) mod once;
pub(crate) mod recovery;
pub(crate) mod replicas;

/// `Err`: what does not hold.
pub(crate) type Checked = Result<(), String>;
