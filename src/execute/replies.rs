//! How many auto-replies leave in an hour (RELIABILITY 4b). A reply beyond that is left out, and the
//! why-record says so; its sender may get one later.
//!
//! Counted in memory, so a restart begins anew: the 24 h ledger, which is durable, is what stops a
//! loop; this stops a flood from many senders. Notices have no such limit: they go to addresses of
//! the owner's choice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const HOUR: i64 = 3_600_000;
/// Of one mailbox.
const OF_A_MAILBOX: usize = 30;
/// Of all; bounds the memory too.
const OF_ALL: usize = 1000;

/// The auto-replies of the last hour: when, unix milliseconds, and whose. Clones share them.
#[derive(Debug, Default, Clone)]
pub struct Replies(Arc<Mutex<VecDeque<(i64, String)>>>);

/// The right to one reply more. Dropped before it is [used](Turn::spend), it does not count: a mail
/// that its next hop puts off again and again has no reply either.
#[derive(Debug)]
pub(super) struct Turn {
    replies: Replies,
    at: i64,
    mailbox: String,
    spent: bool,
}

impl Replies {
    /// Counts one more of `mailbox`; `None` where that is too many.
    pub(super) fn turn(&self, mailbox: &str, now: i64) -> Option<Turn> {
        let mut sent = self.sent();
        // A clock that went back forgets what it has not reached again.
        sent.retain(|(at, _)| now.saturating_sub(*at).saturating_abs() < HOUR);
        let own = sent.iter().filter(|(_, of)| of == mailbox).count();
        let may = own < OF_A_MAILBOX && sent.len() < OF_ALL;
        may.then(|| {
            sent.push_back((now, mailbox.to_owned()));
            Turn {
                replies: self.clone(),
                at: now,
                mailbox: mailbox.to_owned(),
                spent: false,
            }
        })
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<(i64, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The reply is on its way.
    pub(super) fn spend(mut self) {
        self.spent = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.spent {
            return;
        }
        let mut sent = self.replies.sent();
        let mine = |(at, of): &(i64, String)| *at == self.at && *of == self.mailbox;
        if let Some(place) = sent.iter().position(mine) {
            sent.remove(place);
        }
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
                .filter_map(|_| replies.turn(mailbox, now))
                .map(Turn::spend)
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

    #[test]
    fn a_reply_that_was_not_sent_does_not_count() {
        let replies = Replies::default();
        for _ in 0..2 * OF_A_MAILBOX {
            assert!(replies.turn("a", 1).is_some());
        }
        let open: Vec<_> = (0..OF_A_MAILBOX)
            .map(|_| replies.turn("a", 1).unwrap())
            .collect();
        assert!(
            replies.turn("a", 1).is_none(),
            "those under way count at once"
        );
        open.into_iter().for_each(Turn::spend);
        assert!(replies.turn("a", 1).is_none());
    }
}
