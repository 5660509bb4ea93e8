//! Virus and spam scanners for real: clamd, rspamd and spamd of Debian, each started by the test that
//! asks it, and the built daemon in front of them as an MTA and an operator see it.
//!
//! No engine needs the network: clamd has two signatures of our own making, rspamd no module that
//! asks DNS, spamd `--local`. Needs the packages that `tests/run` installs. No file of the project is
//! a virus or spam: both are put together while a test runs (`mails`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking"
)]

#[path = "../blackbox/harness.rs"]
#[allow(dead_code, reason = "not all of the harness is needed here")]
mod harness;
#[path = "../blackbox/hop.rs"]
#[allow(dead_code, reason = "not all of the hop is needed here")]
mod hop;
#[path = "../blackbox/http.rs"]
#[allow(dead_code, reason = "not all of the client is needed here")]
mod http;
#[path = "../mta/harness.rs"]
#[allow(dead_code, reason = "not all of the harness is needed here")]
mod servers;
#[path = "../blackbox/session.rs"]
#[allow(dead_code, reason = "not all of the session is needed here")]
mod session;

mod clamd;
mod engine;
mod mails;
mod rspamd;
mod scene;
mod spamd;
mod zip;

mod kept;
mod learning;
mod limits;
mod nonsense;
mod on_error;
mod once;
mod rig;
mod roads;
mod spam;
mod trouble;
mod virus;
