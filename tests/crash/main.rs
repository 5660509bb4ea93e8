//! Kills the daemon under load, by SIGKILL and by cutting the power of its disk, and accounts for
//! every mail that was answered 2xx. `tests/crash/run` runs it at full size on the release build;
//! without the variables below it is a short form of the same.
//!
//! * `SEKIMORI_CRASH_KILLS`, `SEKIMORI_CRASH_CUTS`: trials
//! * `SEKIMORI_CRASH_MAILS`: recipients that are accepted in a trial, on average
//! * `SEKIMORI_CRASH_SEED`: what is random; the order of threads is not in it
//! * `SEKIMORI_CRASH_PROGRAM`: the program under test

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod client;
mod disk;
mod kill;
mod letter;
mod notice;
mod oracle;
mod power;
mod release;
mod round;
mod sink;
mod site;
mod sweep;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}"))
    })
}
