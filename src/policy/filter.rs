//! Stages 5-9: the scanners' words, forwarding, notice, reply. They complete the trail.

use super::{
    Action, Arrival, Class, Forwarding, Hit, NoReply, OnError, Outcome, Passed, Plan, Policy,
    SCANNER_ERROR, ScanReport, Score, Spam, SpamScan, Stage, Step, Verdict, VirusScan, robot,
};
use crate::mail::Message;

/// `Received` fields that a mail may have before it counts as looping (RFC 5321 6.3).
const RECEIVED_LIMIT: usize = 100;

impl Policy {
    /// Stages 5-9 (CONTRACT section 2) for a mail that [`Policy::screen`] let pass.
    pub fn decide(
        &self,
        message: &Message,
        arrival: &Arrival<'_>,
        passed: Passed,
        scan: &ScanReport,
    ) -> Plan {
        let mut plan = Plan::keep(passed.trail);
        self.virus_stage(&mut plan, &scan.virus);
        if plan.verdict == Verdict::Quarantine {
            return self.close(plan);
        }
        let looping = Self::is_looping(message, arrival);
        self.spam_stage(&mut plan, scan.spam, passed.skip_spam, looping);
        if plan.verdict == Verdict::Quarantine {
            return self.close(plan);
        }
        self.forwarding_stage(&mut plan, message, arrival);
        self.notify_stage(&mut plan, message, arrival);
        self.auto_reply_stage(&mut plan, message, arrival);
        plan
    }

    /// Stages 1-4 for a mail that nobody looks into: none is asked. A virus scan is wanted all the
    /// same, since it needs no reading of ours.
    pub fn unread(&self) -> Passed {
        Passed {
            trail: Vec::new(),
            skip_spam: true,
            wants_virus: self.virus,
            wants_spam: false,
        }
    }

    /// The rest for such a mail: it is kept, or held as a whole where it is infected.
    pub fn decide_unread(&self, scan: &ScanReport) -> Plan {
        let mut plan = Plan::unread();
        let mut virus = Plan::keep(Vec::new());
        self.virus_stage(&mut virus, &scan.virus);
        for step in virus.trail {
            let at = plan.trail.iter_mut().find(|at| at.stage == step.stage);
            if let Some(at) = at.filter(|_| self.virus) {
                *at = step;
            }
        }
        if let Some(hit) = virus.hit {
            plan.settle(Verdict::Quarantine, Stage::Virus, Class::Virus, hit);
        }
        plan
    }

    /// Whether the mailbox and the daemon have the stage on at all.
    pub(super) fn is_on(&self, stage: Stage) -> bool {
        match stage {
            Stage::RejectFromSuffixes => !self.from_suffixes.is_empty(),
            Stage::RejectSubjectContains => !self.subject_contains.is_empty(),
            Stage::RejectHeaders => !self.headers.is_empty(),
            Stage::Allow => {
                !self.allow.senders.is_empty() || !self.allow.verified_senders.is_empty()
            }
            Stage::Virus => self.virus,
            Stage::Spam => self.spam.is_some(),
            Stage::Forwarding => !matches!(self.forwarding, Forwarding::Off),
            Stage::Notify => self.notify.is_some(),
            Stage::AutoReply => self.auto_reply.is_some(),
        }
    }

    /// The step of a stage that is off or moot.
    pub(super) fn unasked(&self, stage: Stage) -> Step {
        let outcome = if self.is_on(stage) {
            Outcome::Skipped
        } else {
            Outcome::Off
        };
        Step {
            stage,
            outcome,
            hit: None,
        }
    }

    /// A held mail: whatever stages are left are moot.
    pub(super) fn close(&self, mut plan: Plan) -> Plan {
        let rest = Stage::ALL.iter().skip(plan.trail.len());
        plan.trail.extend(rest.map(|&stage| self.unasked(stage)));
        plan.no_reply = Some(match self.auto_reply {
            Some(_) => NoReply::Quarantined,
            None => NoReply::Off,
        });
        plan
    }

    /// Our own mark says so, or the `Received` fields are too many: nothing more is sent for it.
    pub(super) fn is_looping(message: &Message, arrival: &Arrival<'_>) -> bool {
        arrival.looping || message.header.all("Received").nth(RECEIVED_LIMIT).is_some()
    }

    pub(super) fn virus_stage(&self, plan: &mut Plan, scan: &VirusScan) {
        let name = match scan {
            _ if !self.virus => None,
            VirusScan::NotScanned | VirusScan::Failed(OnError::Deliver | OnError::Tempfail) => None,
            VirusScan::Failed(OnError::Quarantine) => {
                hold_unscanned(plan, Stage::Virus, Class::Virus);
                return;
            }
            VirusScan::Clean => {
                plan.trail.push(Step::asked(Stage::Virus, None));
                return;
            }
            VirusScan::Infected(name) => Some(name),
        };
        let Some(name) = name else {
            plan.trail.push(self.unasked(Stage::Virus));
            return;
        };
        let named = if name.is_empty() { "infected" } else { name };
        let hit = Hit {
            entry: named.to_owned(),
            origin: None,
        };
        plan.trail
            .push(Step::asked(Stage::Virus, Some(hit.clone())));
        plan.settle(Verdict::Replace, Stage::Virus, Class::Virus, hit);
        plan.actions
            .push(Action::ReportVirus { name: name.clone() });
    }

    /// A notice that comes back and is held itself is not told of by another one.
    pub(super) fn spam_stage(&self, plan: &mut Plan, scan: SpamScan, exempt: bool, looping: bool) {
        let asked = self
            .spam
            .as_ref()
            .filter(|_| !exempt && plan.verdict == Verdict::Deliver);
        let is_spam = match (asked, scan) {
            (Some(spam), SpamScan::Judged { spam: said, score }) => Some(spam.says(said, score)),
            (Some(_), SpamScan::Failed(OnError::Quarantine)) => {
                hold_unscanned(plan, Stage::Spam, Class::Spam);
                return;
            }
            _ => None,
        };
        let (Some(spam), Some(is_spam)) = (asked, is_spam) else {
            plan.trail.push(self.unasked(Stage::Spam));
            return;
        };
        let hit = is_spam.then(|| Hit {
            entry: "spam".to_owned(),
            origin: None,
        });
        plan.trail.push(Step::asked(Stage::Spam, hit.clone()));
        let Some(hit) = hit else { return };
        if !spam.quarantine {
            plan.mark = Some(spam.mark_subject.clone()).filter(|mark| !mark.is_empty());
            return;
        }
        plan.settle(Verdict::Quarantine, Stage::Spam, Class::Spam, hit);
        if spam.notice_each && !looping {
            plan.actions.push(Action::QuarantineNotice);
        }
    }

    /// Runs also for a mail that is replaced or forwarded. Mail of robots triggers no notice
    /// (RFC 5436), which also keeps notices of notices away.
    pub(super) fn notify_stage(&self, plan: &mut Plan, message: &Message, arrival: &Arrival<'_>) {
        let robot = robot::is_auto_submitted(message) || Self::is_looping(message, arrival);
        let Some(notify) = self.notify.as_ref().filter(|_| !robot) else {
            plan.trail.push(self.unasked(Stage::Notify));
            return;
        };
        plan.note(Stage::Notify, Outcome::Match, None);
        plan.actions.push(Action::Notify {
            to: notify.to.clone(),
            fields: notify.fields.clone(),
        });
    }
}

impl Spam {
    /// The mailbox's own threshold where there is one and a score, else the scanner's word.
    fn says(&self, said: bool, score: Option<Score>) -> bool {
        match (self.score, score) {
            (Some(from), Some(score)) => score >= from,
            _ => said,
        }
    }
}

/// Nobody could look at the mail, and it shall not pass unseen.
fn hold_unscanned(plan: &mut Plan, stage: Stage, class: Class) {
    let hit = Hit {
        entry: SCANNER_ERROR.to_owned(),
        origin: None,
    };
    plan.trail.push(Step::asked(stage, Some(hit.clone())));
    plan.settle(Verdict::Quarantine, stage, class, hit);
}
