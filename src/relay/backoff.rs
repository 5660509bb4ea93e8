//! When to try again and how fast to send: pure arithmetic, time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::deliver::Outcome;

const MINUTE: Duration = Duration::from_secs(60);

/// `relay.retry`, obeyed as configured: no jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Wait after the first failure.
    pub first: Duration,
    /// Each wait is the one before times this; less than 1 counts as 1.
    pub factor: f64,
    /// No wait is longer.
    pub longest: Duration,
    /// Age at which a mail has failed for good.
    pub give_up: Duration,
}

impl Retry {
    /// How long to wait after attempt number `attempts` (1 = the first) failed at `age` since the
    /// mail was queued; `None` = give up. A wait that would pass `give_up` ends there, so that
    /// the last attempt is made at that age.
    pub fn next(&self, attempts: u32, age: Duration) -> Option<Duration> {
        let left = self
            .give_up
            .checked_sub(age)
            .filter(|left| !left.is_zero())?;
        let exponent = f64::from(attempts.saturating_sub(1));
        let seconds = self.first.as_secs_f64() * self.factor.max(1.0).powf(exponent);
        let wait =
            Duration::try_from_secs_f64(seconds).map_or(self.longest, |w| w.min(self.longest));
        Some(wait.min(left))
    }
}

/// What becomes of an outgoing mail after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is out, or must be taken for it.
    Sent,
    /// Try again after so long.
    Again(Duration),
    /// It was refused for good, or is too old: a forward goes into its owner's mailbox, anything
    /// else ends here.
    Failed,
}

impl Retry {
    /// The fate of one recipient's mail whose attempt number `attempts` ended with `outcome` at
    /// `age` since it was queued. `at_most_once`: a mail that may have arrived is not sent again
    /// (RFC 5436 2.7; notices and auto-replies, not forwards).
    pub fn fate(
        &self,
        outcome: &Outcome,
        at_most_once: bool,
        attempts: u32,
        age: Duration,
    ) -> Fate {
        match outcome {
            Ok(_) => Fate::Sent,
            Err(error) if error.ambiguous && at_most_once => Fate::Sent,
            Err(error) if !error.is_temporary() => Fate::Failed,
            Err(_) => self.next(attempts, age).map_or(Fate::Failed, Fate::Again),
        }
    }
}

/// `relay.min_interval` and `relay.per_minute` over a sliding minute. Remembers the moments of
/// the last minute, at most `per_minute` of them.
#[derive(Debug)]
pub struct RateLimit {
    min_interval: Duration,
    per_minute: usize,
    last: Option<Instant>,
    minute: VecDeque<Instant>,
}

impl RateLimit {
    /// `per_minute` 0 = no limit.
    pub fn new(min_interval: Duration, per_minute: u32) -> Self {
        Self {
            min_interval,
            per_minute: per_minute as usize,
            last: None,
            minute: VecDeque::new(),
        }
    }

    /// Other limits from now on; what was booked counts for them.
    pub fn set(&mut self, min_interval: Duration, per_minute: u32) {
        self.min_interval = min_interval;
        self.per_minute = per_minute as usize;
    }

    /// Books the next free moment, `now` or later, after all that were booked before.
    pub fn book(&mut self, now: Instant) -> Instant {
        let mut moment = self
            .last
            .map_or(now, |last| now.max(last + self.min_interval));
        if self.per_minute > 0 {
            while self
                .minute
                .front()
                .is_some_and(|&first| first + MINUTE <= now)
            {
                self.minute.pop_front();
            }
            while self.minute.len() >= self.per_minute
                && let Some(first) = self.minute.pop_front()
            {
                moment = moment.max(first + MINUTE);
            }
            self.minute.push_back(moment);
        }
        self.last = Some(moment);
        moment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::DeliverError;
    use crate::smtp::Reply;
    use proptest::prelude::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn waits() {
        let retry = Retry {
            first: seconds(60),
            factor: 2.0,
            longest: seconds(3600),
            give_up: seconds(3 * 86400),
        };
        let rows: &[(u32, u64, Option<u64>)] = &[
            (0, 0, Some(60)),
            (1, 0, Some(60)),
            (2, 60, Some(120)),
            (6, 1860, Some(1920)),
            (7, 3780, Some(3600)),
            (u32::MAX, 9999, Some(3600)),
            (80, 3 * 86400 - 10, Some(10)),
            (80, 3 * 86400, None),
            (1, 3 * 86400 + 1, None),
        ];
        for &(attempts, age, expected) in rows {
            let next = retry.next(attempts, seconds(age));
            assert_eq!(next, expected.map(seconds), "{attempts} {age}");
        }
        let flat = Retry {
            factor: 0.0,
            ..retry
        };
        assert_eq!(flat.next(9, seconds(0)), Some(seconds(60)));
        let never = Retry {
            give_up: seconds(0),
            ..retry
        };
        assert_eq!(never.next(1, seconds(0)), None);
    }

    #[test]
    fn fates() {
        let retry = Retry {
            first: seconds(60),
            factor: 2.0,
            longest: seconds(3600),
            give_up: seconds(100),
        };
        let failed = |code, ambiguous| {
            Err(DeliverError {
                ambiguous,
                ..DeliverError::new(Reply::new(code, 0, 0, "x"), "x")
            })
        };
        let again = Fate::Again(seconds(60));
        let rows: &[(Outcome, bool, u64, Fate)] = &[
            (failed(451, false), true, 0, again),
            (failed(451, false), false, 0, again),
            (failed(451, true), true, 0, Fate::Sent),
            (failed(451, true), false, 0, again),
            (failed(550, false), false, 0, Fate::Failed),
            (failed(451, false), false, 100, Fate::Failed),
        ];
        for (outcome, at_most_once, age, expected) in rows {
            let fate = retry.fate(outcome, *at_most_once, 1, seconds(*age));
            assert_eq!(fate, *expected, "{outcome:?} {at_most_once}");
        }
    }

    #[test]
    fn free_of_limits() {
        let now = Instant::now();
        let mut limit = RateLimit::new(seconds(0), 0);
        for _ in 0..1000 {
            assert_eq!(limit.book(now), now);
        }
    }

    #[test]
    fn pauses() {
        let now = Instant::now();
        let mut limit = RateLimit::new(seconds(2), 0);
        let booked: Vec<_> = (0..3).map(|_| limit.book(now) - now).collect();
        assert_eq!(booked, [seconds(0), seconds(2), seconds(4)]);
        assert_eq!(limit.book(now + seconds(60)), now + seconds(60));
    }

    #[test]
    fn other_limits_count_what_was_booked() {
        let now = Instant::now();
        let mut limit = RateLimit::new(seconds(0), 5);
        for step in 0..5 {
            limit.book(now + seconds(step));
        }
        limit.set(seconds(7), 2);
        let after = |moment: Instant| (moment - now).as_secs();
        assert_eq!(after(limit.book(now + seconds(5))), 63);
        assert_eq!(after(limit.book(now + seconds(5))), 70);
        assert_eq!(after(limit.book(now + seconds(5))), 123);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(
            steps in proptest::collection::vec(0u64..40, 1..60), per_minute in 1u32..5, pause in 0u64..3,
        ) {
            let mut now = Instant::now();
            let mut limit = RateLimit::new(seconds(pause), per_minute);
            let mut booked = Vec::new();
            for step in steps {
                now += seconds(step);
                let moment = limit.book(now);
                prop_assert!(moment >= now);
                booked.push(moment);
            }
            for pair in booked.windows(2) {
                prop_assert!(pair[1] >= pair[0] + seconds(pause));
            }
            for window in booked.windows(per_minute as usize + 1) {
                prop_assert!(window[per_minute as usize] >= window[0] + MINUTE);
            }
        }
    }
}
