//! Faults from below and beside: system calls that fail, disks, damage, next hops that misbehave,
//! clocks, signals. Each test runs the real program; `tests/faults/run` has the long forms.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value
)]

#[allow(dead_code)]
#[path = "../blackbox/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../blackbox/hop.rs"]
mod hop;
#[allow(dead_code)]
#[path = "../blackbox/session.rs"]
mod session;

mod damage;
mod disk;
mod hops;
mod notices;
mod process;
mod scenario;
mod sweep;
