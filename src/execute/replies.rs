//! How many auto-replies leave in an hour (RELIABILITY 4b). A reply beyond that is left out, and the
//! why-record says so; its sender may get one later.
//!
//! Counted in memory, so a restart begins anew: the 24 h ledger, which is durable, is what stops a
//! loop; this stops a flood from many senders. Notices have no such limit: they go to addresses of
//! the owner's choice.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const HOUR: i64 = 3_600_000;
/// Of one mailbox.
const OF_A_MAILBOX: usize = 30;
/// Of all; bounds the memory too.
const OF_ALL: usize = 1000;

/// The auto-replies of the last hour: when, unix milliseconds, and whose.
#[derive(Debug, Default)]
pub struct Replies(Mutex<VecDeque<(i64, String)>>);

impl Replies {
    /// Counts one more of `mailbox`; `false` where that is too many.
    pub(super) fn may_answer(&self, mailbox: &str, now: i64) -> bool {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that went back forgets what it has not reached again.
        sent.retain(|(at, _)| now.saturating_sub(*at).saturating_abs() < HOUR);
        let own = sent.iter().filter(|(_, of)| of == mailbox).count();
        let may = own < OF_A_MAILBOX && sent.len() < OF_ALL;
        if may {
            sent.push_back((now, mailbox.to_owned()));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_an_hour_and_no_more() {
        let replies = Replies::default();
        let asked = |mailbox: &str, count: usize, now: i64| {
            (0..count)
                .filter(|_| replies.may_answer(mailbox, now))
                .count()
        };
        assert_eq!(asked("a", 40, 1), OF_A_MAILBOX);
        assert_eq!(asked("b", 40, 2), OF_A_MAILBOX);
        assert_eq!(asked("a", 1, HOUR), 0);
        assert_eq!(asked("a", 40, HOUR + 1), OF_A_MAILBOX);
        let all: usize = (0..100).map(|n| asked(&n.to_string(), 40, 10 * HOUR)).sum();
        assert_eq!(all, OF_ALL);
        assert_eq!(asked("a", 1, 5 * HOUR), 1, "the clock went back");
    }
}
