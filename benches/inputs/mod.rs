//! What the benches and the instruction counts work on, the same octets in every run, and the pieces
//! of work of the pure core that both measure.
//!
//! The crate that includes this file has `mail`, `policy` and `smtp` at its root.

pub mod lists;
pub mod mails;
pub mod pieces;
