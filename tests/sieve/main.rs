//! Sieve: exported scripts decide as the settings do, held against Dovecot Pigeonhole over real
//! mail; imported scripts; and that nothing panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod commands;
mod corpus;
mod differential;
mod facts;
mod imported;
mod parsing;
mod pigeonhole;
mod reasons;
mod settings;
mod texts;
