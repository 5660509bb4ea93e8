//! The built program as an operator and an MTA see it: sockets, commands, exit codes, files.
//!
//! Each test has a daemon, a folder and ports of its own; nothing is shared, nothing waits without a
//! deadline. Real MTAs stand in `tests/mta`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    clippy::cloned_ref_to_slice_refs
)]

mod harness;
mod hop;
mod http;
mod session;

mod bomb_mails;
mod bombs;
mod check;
mod config;
mod demo;
mod durability;
mod editing;
mod exit_codes;
mod explain;
mod forward;
mod history;
mod hostile;
mod injection;
mod letters;
mod limits;
mod loops;
mod maildir;
mod names;
mod next_hop;
mod notices;
mod poison;
mod prepared;
mod protocol;
mod quarantine;
mod queue;
mod reload;
mod replay;
mod rule_tests;
mod tail;
mod tls;
mod verdicts;
