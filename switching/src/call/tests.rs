//! Calls with phones around them.

mod bench;
mod flows;
mod phone;
mod random;
mod show;
