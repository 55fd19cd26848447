//! The apply file.
