//! Each stage asked for itself: what it says of a mail when nothing before it counts.
//!
//! For the owner who is about to remove the entry that held a mail: what would hold it next? It
//! runs the very stages of [`Policy::screen`] and [`Policy::decide`], each on an empty plan.

use super::{Arrival, Hit, Plan, Policy, ScanReport, Stage};
use crate::mail::Message;

/// Entries of one list that are named, at most.
pub const MOST_ENTRIES: usize = 20;

/// What one stage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// The stage.
    pub stage: Stage,
    /// The plan of this stage only: its trail has one step.
    pub plan: Plan,
    /// Stages 1-4: every entry that matches, at most [`MOST_ENTRIES`], in file order. The first is
    /// the one that the step names.
    pub entries: Vec<Hit>,
}

impl Policy {
    /// All nine stages, in order. What the mail itself forbids (loops, mail of robots) stays
    /// forbidden.
    pub fn all_stages(
        &self,
        message: &Message,
        arrival: &Arrival<'_>,
        scan: &ScanReport,
    ) -> Vec<Alone> {
        Stage::ALL
            .into_iter()
            .map(|stage| Alone {
                stage,
                plan: self.alone(stage, message, arrival, scan),
                entries: self.list_hits(stage, message, arrival, MOST_ENTRIES),
            })
            .collect()
    }

    fn alone(
        &self,
        stage: Stage,
        message: &Message,
        arrival: &Arrival<'_>,
        scan: &ScanReport,
    ) -> Plan {
        let mut plan = Plan::keep(Vec::with_capacity(1));
        match stage {
            Stage::RejectFromSuffixes | Stage::RejectSubjectContains | Stage::RejectHeaders => {
                self.reject_stage(&mut plan, stage, message, arrival);
            }
            Stage::Allow => self.allow_stage(&mut plan, self.allow_hit(message, arrival)),
            Stage::Virus => self.virus_stage(&mut plan, &scan.virus),
            Stage::Spam => {
                let looping = Self::is_looping(message, arrival);
                self.spam_stage(&mut plan, scan.spam, false, looping);
            }
            Stage::Forwarding => self.forwarding_stage(&mut plan, message, arrival),
            Stage::Notify => self.notify_stage(&mut plan, message, arrival),
            Stage::AutoReply => self.auto_reply_stage(&mut plan, message, arrival),
        }
        plan
    }
}
