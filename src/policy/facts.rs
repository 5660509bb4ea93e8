//! What a decision looks at, without the mail: enough to decide again when the mail is gone.
//!
//! Stages 1-7 decide alike on the facts and on the mail itself (verdict, stage, entry, targets of a
//! forward). Notices and replies (8, 9) look at header fields that are not kept.

use std::borrow::Cow;

use super::{Arrival, AuthReport, Plan, Policy, ScanReport, Screening, SpamScan, VirusScan};
use crate::mail::{Address, Message, ReversePath};

/// The facts of one mail for one recipient.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// From, Subject, attachment and size count, its header does not. Borrowed from the mail while
    /// that is there: it may be large, and have many recipients.
    pub message: Cow<'a, Message>,
    /// The reverse path.
    pub sender: ReversePath,
    /// The recipient as [`Arrival::recipient`].
    pub recipient: Address,
    /// When it came in, Unix seconds.
    pub now: i64,
    /// What scanners said.
    pub scan: ScanReport,
    /// What sender authentication found.
    pub auth: AuthReport,
    /// As [`Arrival::trusted_client`].
    pub trusted_client: bool,
    /// Our own mark, or too many `Received` fields.
    pub looping: bool,
}

/// A decision on facts.
#[derive(Debug, Clone)]
pub struct Redecided {
    /// The decision; its notices and replies mean nothing.
    pub plan: Plan,
    /// False where a scanner is wanted that did not look at the mail when it came in.
    pub certain: bool,
}

impl<'a> Facts<'a> {
    /// The facts of a mail.
    pub fn of(message: &'a Message, arrival: &Arrival<'_>, scan: &ScanReport) -> Self {
        Self {
            message: Cow::Borrowed(message),
            sender: arrival.sender.clone(),
            recipient: arrival.recipient.clone(),
            now: arrival.now,
            scan: scan.clone(),
            auth: *arrival.auth,
            trusted_client: arrival.trusted_client,
            looping: Policy::is_looping(message, arrival),
        }
    }

    /// Both pure calls, as for the mail itself.
    pub fn decide(&self, policy: &Policy) -> Redecided {
        let arrival = Arrival {
            now: self.now,
            sender: &self.sender,
            recipient: &self.recipient,
            trusted_client: self.trusted_client,
            auth: &self.auth,
            looping: self.looping,
        };
        match policy.screen(&self.message, &arrival) {
            Screening::Settled(plan) => Redecided {
                plan: *plan,
                certain: true,
            },
            Screening::Passed(passed) => {
                let no_virus = matches!(
                    self.scan.virus,
                    VirusScan::NotScanned | VirusScan::Failed(_)
                );
                let no_spam = !matches!(self.scan.spam, SpamScan::Judged { .. });
                let unasked = passed.wants_virus && no_virus || passed.wants_spam && no_spam;
                Redecided {
                    plan: policy.decide(&self.message, &arrival, passed, &self.scan),
                    certain: !unasked,
                }
            }
        }
    }
}
