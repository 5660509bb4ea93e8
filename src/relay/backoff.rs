//! When to try again and how fast to send: pure arithmetic, time is an argument.

use std::time::{Duration, Instant};

/// `relay.retry`, obeyed as configured (no jitter).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Wait after the first failure.
    pub first: Duration,
    /// Each wait is the one before times this; at least 1.
    pub factor: f64,
    /// No wait is longer.
    pub longest: Duration,
    /// Age at which a mail has failed for good.
    pub give_up: Duration,
}

impl Retry {
    /// How long to wait after attempt number `attempts` (1 = the first) failed at `age` since the
    /// mail was queued; `None` = give up. The last attempt falls on `give_up` itself.
    pub fn next(&self, _attempts: u32, _age: Duration) -> Option<Duration> {
        None
    }
}

/// `relay.min_interval` and `relay.per_minute` over a sliding minute.
#[derive(Debug)]
pub struct RateLimit {
    min_interval: Duration,
    per_minute: u32,
}

impl RateLimit {
    /// `per_minute` 0 = no limit.
    pub fn new(min_interval: Duration, per_minute: u32) -> Self {
        Self {
            min_interval,
            per_minute,
        }
    }

    /// Books the next free moment, `now` or later.
    pub fn book(&mut self, now: Instant) -> Instant {
        let _ = (self.min_interval, self.per_minute);
        now
    }
}
