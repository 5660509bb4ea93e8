//! Keeps the reactor awake while one of its threads waits for a disk.
//!
//! A thread that the reactor's events have woken wakes no other one for a single task. Were that task
//! to hang, nobody would ask for further events, nor look at the clock, while other threads sleep.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// After so long a thread that sleeps takes the place of one that hangs.
const PULSE: Duration = Duration::from_millis(250);

/// A thread that gives the reactor something to do from outside, over and over, which wakes one of those that
/// sleep. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    _end: Sender<()>,
}

impl Pulse {
    /// # Errors
    /// There can be no further thread.
    pub(super) fn start(reactor: Handle) -> io::Result<Self> {
        let (end, ended) = channel();
        thread::Builder::new().name("pulse".into()).spawn(move || {
            while ended.recv_timeout(PULSE) == Err(RecvTimeoutError::Timeout) {
                drop(reactor.spawn(async {}));
            }
        })?;
        Ok(Self { _end: end })
    }
}
