//! The engines of `scan`, against peers that we play and (`--ignored`) against the real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod clamd;
mod cured;
mod engines;
mod faults;
mod peer;
mod real;
mod rspamd;
mod spamd;
