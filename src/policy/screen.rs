//! Stages 1-4: what the header fields alone decide.

use super::{
    Action, AllowSet, Arrival, Class, HeaderCondition, Hit, OnError, Plan, Policy, ScanReport,
    SpamScan, Stage, Step, Verdict, VirusScan,
};
use crate::mail::{Folded, FromField, Message, SubjectField};

/// The first half's result.
#[derive(Debug, Clone)]
pub enum Screening {
    /// Nothing held it: scanners may be asked, then [`Policy::decide`].
    Passed(Passed),
    /// A reject stage holds it.
    Settled(Box<Plan>),
}

/// What stages 1-4 leave for the rest.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The steps so far.
    pub trail: Vec<Step>,
    /// The spam stage is skipped: the allow list or an announcement.
    pub skip_spam: bool,
    /// A virus scan is wanted.
    pub wants_virus: bool,
    /// A spam scan is wanted.
    pub wants_spam: bool,
}

impl Passed {
    /// The stage whose scanner failed and whose mail is then put off; `None` = it can be decided.
    /// What a virus has settled needs no word on spam.
    pub fn put_off(&self, scan: &ScanReport) -> Option<Stage> {
        let virus = Some(&scan.virus).filter(|_| self.wants_virus);
        let spam = Some(scan.spam).filter(|_| self.wants_spam);
        match (virus, spam) {
            (Some(VirusScan::Failed(OnError::Tempfail)), _) => Some(Stage::Virus),
            (Some(VirusScan::Infected(_) | VirusScan::Failed(OnError::Quarantine)), _) => None,
            (_, Some(SpamScan::Failed(OnError::Tempfail))) => Some(Stage::Spam),
            _ => None,
        }
    }
}

impl Policy {
    /// Stages 1-4 (CONTRACT section 2): reject and allow, by every address of the header From and
    /// every Subject.
    pub fn screen(&self, message: &Message, arrival: &Arrival<'_>) -> Screening {
        let announced = self.is_announcement(message, arrival);
        let allowed = self.allow_hit(message, arrival);
        let exempt = announced || (self.allow.before_reject && allowed.is_some());

        let mut plan = Plan::keep(Vec::with_capacity(Stage::ALL.len()));
        for stage in [
            Stage::RejectFromSuffixes,
            Stage::RejectSubjectContains,
            Stage::RejectHeaders,
        ] {
            if exempt {
                plan.trail.push(self.unasked(stage));
                continue;
            }
            self.reject_stage(&mut plan, stage, message, arrival);
            if plan.verdict == Verdict::Quarantine {
                return Screening::Settled(Box::new(self.close(plan)));
            }
        }

        let skip_spam = announced || allowed.is_some();
        self.allow_stage(&mut plan, allowed);
        Screening::Passed(Passed {
            trail: plan.trail,
            skip_spam,
            wants_virus: self.virus,
            wants_spam: self.spam.is_some() && !skip_spam,
        })
    }

    /// One of stages 1-3. A notice that comes back and is held itself is not told of by another one.
    pub(super) fn reject_stage(
        &self,
        plan: &mut Plan,
        stage: Stage,
        message: &Message,
        arrival: &Arrival<'_>,
    ) {
        if !self.is_on(stage) {
            plan.trail.push(self.unasked(stage));
            return;
        }
        let hit = self.reject_hit(stage, message);
        plan.trail.push(Step::asked(stage, hit.clone()));
        if let Some(hit) = hit {
            plan.settle(Verdict::Quarantine, stage, Class::UserRule, hit);
            if self.notice_user_rule && !Self::is_looping(message, arrival) {
                plan.actions.push(Action::QuarantineNotice);
            }
        }
    }

    /// Stage 4, with what [`Policy::allow_hit`] found.
    pub(super) fn allow_stage(&self, plan: &mut Plan, allowed: Option<Hit>) {
        plan.trail.push(if self.is_on(Stage::Allow) {
            Step::asked(Stage::Allow, allowed)
        } else {
            self.unasked(Stage::Allow)
        });
    }

    /// A mail of the operator's that this mailbox wants in any case. The header From is anyone's
    /// to write, so it counts with proof or from a trusted client only.
    fn is_announcement(&self, message: &Message, arrival: &Arrival<'_>) -> bool {
        let believed = arrival.auth.dmarc_pass || arrival.trusted_client;
        let senders = self.announcements.as_ref().filter(|_| believed);
        senders.is_some_and(|senders| senders.find_any(from_addresses(message)).is_some())
    }

    pub(super) fn allow_hit(&self, message: &Message, arrival: &Arrival<'_>) -> Option<Hit> {
        self.allow_sets(arrival)
            .find_map(|set| set.find_any(from_addresses(message)))
    }

    /// The lists of stage 4 that count for this mail.
    fn allow_sets(&self, arrival: &Arrival<'_>) -> impl Iterator<Item = &AllowSet> {
        let verified = Some(&self.allow.verified_senders).filter(|_| arrival.auth.dmarc_pass);
        std::iter::once(&self.allow.senders).chain(verified)
    }

    fn reject_hit(&self, stage: Stage, message: &Message) -> Option<Hit> {
        match stage {
            Stage::RejectFromSuffixes => self.from_suffixes.find_any(from_addresses(message)),
            Stage::RejectSubjectContains => self.subject_contains.find_any(subjects(message)),
            Stage::RejectHeaders => self.header_hits(message).next(),
            _ => None,
        }
    }

    /// Every entry of a list stage (1-4) that matches, the first `most` in file order; the one that
    /// the stage names is the first. Other stages have none.
    pub(super) fn list_hits(
        &self,
        stage: Stage,
        message: &Message,
        arrival: &Arrival<'_>,
        most: usize,
    ) -> Vec<Hit> {
        match stage {
            Stage::RejectFromSuffixes => self.from_suffixes.find_all(from_addresses(message), most),
            Stage::RejectSubjectContains => self.subject_contains.find_all(subjects(message), most),
            Stage::RejectHeaders => self.header_hits(message).take(most).collect(),
            Stage::Allow => self
                .allow_sets(arrival)
                .flat_map(|set| set.find_all(from_addresses(message), most))
                .take(most)
                .collect(),
            _ => Vec::new(),
        }
    }

    fn header_hits(&self, message: &Message) -> impl Iterator<Item = Hit> {
        let held = self
            .headers
            .iter()
            .filter(|rule| rule.condition.holds(message));
        held.map(|rule| Hit {
            entry: rule.condition.as_str().to_owned(),
            origin: Some(rule.origin.clone()),
        })
    }
}

impl HeaderCondition {
    fn holds(self, message: &Message) -> bool {
        match self {
            Self::FromMissing => message.from == FromField::Missing,
            Self::FromEmpty => message.from == FromField::Empty,
            Self::FromEmptyAddress => message.from == FromField::EmptyAddress,
            Self::SubjectMissing => message.subject == SubjectField::Missing,
            Self::SubjectEmpty => message.subject == SubjectField::Empty,
        }
    }
}

/// The addresses of the header From in the form that is compared.
pub(super) fn from_addresses(message: &Message) -> impl Iterator<Item = &Folded> {
    let addresses = match &message.from {
        FromField::Addresses(addresses) => addresses.as_slice(),
        FromField::EmptyAddress | FromField::Empty | FromField::Missing => &[],
    };
    addresses.iter().map(|address| &address.folded)
}

/// The Subjects in the form that is searched.
pub(super) fn subjects(message: &Message) -> impl Iterator<Item = &Folded> {
    let texts = match &message.subject {
        SubjectField::Text(texts) => texts.as_slice(),
        SubjectField::Empty | SubjectField::Missing => &[],
    };
    texts.iter().map(|text| &text.folded)
}
