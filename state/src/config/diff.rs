//! What would make the configuration as it is wanted.
