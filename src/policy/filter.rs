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
        let entry = match scan {
            VirusScan::Clean => None,
            VirusScan::Infected(name) if name.is_empty() => Some("infected"),
            VirusScan::Infected(name) => Some(name.as_str()),
            VirusScan::Failed(OnError::Quarantine) => Some(SCANNER_ERROR),
            VirusScan::NotScanned | VirusScan::Failed(_) => {
                plan.trail.push(self.unasked(Stage::Virus));
                return;
            }
        };
        if !self.virus {
            plan.trail.push(self.unasked(Stage::Virus));
            return;
        }
        let hit = entry.map(by_scanner);
        plan.trail.push(Step::asked(Stage::Virus, hit.clone()));
        let Some(hit) = hit else { return };
        let verdict = match scan {
            VirusScan::Infected(_) => Verdict::Replace,
            _ => Verdict::Quarantine,
        };
        plan.settle(verdict, Stage::Virus, Class::Virus, hit);
        if let VirusScan::Infected(name) = scan {
            let name = name.clone();
            plan.actions.push(Action::ReportVirus { name });
        }
    }

    /// A notice that comes back and is held itself is not told of by another one.
    pub(super) fn spam_stage(&self, plan: &mut Plan, scan: SpamScan, exempt: bool, looping: bool) {
        let asked = self
            .spam
            .as_ref()
            .filter(|_| !exempt && plan.verdict == Verdict::Deliver);
        let entry = match (asked, scan) {
            (Some(spam), SpamScan::Judged { spam: said, score }) => {
                Some(spam.says(said, score).then_some("spam"))
            }
            (Some(_), SpamScan::Failed(OnError::Quarantine)) => Some(Some(SCANNER_ERROR)),
            _ => None,
        };
        let (Some(spam), Some(entry)) = (asked, entry) else {
            plan.trail.push(self.unasked(Stage::Spam));
            return;
        };
        let hit = entry.map(by_scanner);
        plan.trail.push(Step::asked(Stage::Spam, hit.clone()));
        let Some(hit) = hit else { return };
        if !spam.quarantine && hit.entry != SCANNER_ERROR {
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

/// What a scanner decided: no line of a file.
fn by_scanner(entry: &str) -> Hit {
    Hit {
        entry: entry.to_owned(),
        origin: None,
    }
}
