//! A decision: what becomes of one mail for one mailbox, and why.

use core::fmt;

use super::Origin;
use crate::mail::Address;

/// The four ends of a mail (CONTRACT section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// In the mailbox.
    Deliver,
    /// Sent on, no copy kept.
    Forward,
    /// Held.
    Quarantine,
    /// The virus report is delivered instead.
    Replace,
}

impl Verdict {
    /// All.
    pub const ALL: [Self; 4] = [
        Self::Deliver,
        Self::Forward,
        Self::Quarantine,
        Self::Replace,
    ];

    /// The verdict of that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
    }

    /// The word of replies, records and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Forward => "forward",
            Self::Quarantine => "quarantine",
            Self::Replace => "replace",
        }
    }
}

/// The nine stages, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// 1
    RejectFromSuffixes,
    /// 2
    RejectSubjectContains,
    /// 3
    RejectHeaders,
    /// 4
    Allow,
    /// 5
    Virus,
    /// 6
    Spam,
    /// 7
    Forwarding,
    /// 8
    Notify,
    /// 9
    AutoReply,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::RejectFromSuffixes,
        Self::RejectSubjectContains,
        Self::RejectHeaders,
        Self::Allow,
        Self::Virus,
        Self::Spam,
        Self::Forwarding,
        Self::Notify,
        Self::AutoReply,
    ];

    /// The stage of that id.
    pub fn named(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == id)
    }

    /// The stage id of replies, records and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RejectFromSuffixes => "reject.from_suffixes",
            Self::RejectSubjectContains => "reject.subject_contains",
            Self::RejectHeaders => "reject.headers",
            Self::Allow => "allow",
            Self::Virus => "virus",
            Self::Spam => "spam",
            Self::Forwarding => "forwarding",
            Self::Notify => "notify",
            Self::AutoReply => "auto_reply",
        }
    }
}

/// What a stage found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It applies.
    Match,
    /// It was looked at and does not apply.
    Pass,
    /// The mailbox or the daemon has it off.
    Off,
    /// Something before it made it moot.
    Skipped,
}

impl Outcome {
    /// All.
    pub const ALL: [Self; 4] = [Self::Match, Self::Pass, Self::Off, Self::Skipped];

    /// The outcome of that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }

    /// The word of JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Pass => "pass",
            Self::Off => "off",
            Self::Skipped => "skipped",
        }
    }
}

/// The entry that decided, as written, and its place if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The entry; for `reject.headers` its word, for scanners the virus or `spam`.
    pub entry: String,
    /// `None` for what no file line decided (a scanner).
    pub origin: Option<Origin>,
}

/// One stage of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// What it found.
    pub outcome: Outcome,
    /// With [`Outcome::Match`]: the entry, where one decided (`notify` and the reply that
    /// everybody gets have none).
    pub hit: Option<Hit>,
}

impl Step {
    /// A stage that was asked: a match exactly when it names an entry.
    pub(super) fn asked(stage: Stage, hit: Option<Hit>) -> Self {
        let outcome = if hit.is_some() {
            Outcome::Match
        } else {
            Outcome::Pass
        };
        Self {
            stage,
            outcome,
            hit,
        }
    }
}

/// Why something lies in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The owner's reject settings.
    UserRule,
    /// The spam stage.
    Spam,
    /// The infected original of a replaced mail.
    Virus,
}

impl Class {
    /// The word of JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserRule => "user_rule",
            Self::Spam => "spam",
            Self::Virus => "virus",
        }
    }
}

pub use crate::mail::compose::Fact as NotifyField;

/// What must be done beside the verdict. Each becomes one outgoing mail, held until the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The original octets go to the targets.
    Redirect {
        /// Targets.
        to: Vec<Address>,
        /// A copy stays in the mailbox.
        keep_copy: bool,
    },
    /// A receipt notice.
    Notify {
        /// To whom.
        to: Vec<Address>,
        /// What it tells.
        fields: Vec<NotifyField>,
    },
    /// A reply, unless the sender had one within the window.
    AutoReply {
        /// The reverse path.
        to: Address,
        /// Subject with `%{subject}` not yet filled in.
        subject: String,
        /// Text.
        message: String,
        /// Seconds.
        window: i64,
    },
    /// The report that replaces an infected mail.
    ReportVirus {
        /// As the scanner named it.
        name: String,
    },
    /// The owner is told of the held mail.
    QuarantineNotice,
}

/// Why no reply is sent, the `reason` of `explain --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReply {
    /// The function is off.
    Off,
    /// The mail is held.
    Quarantined,
    /// The mail is infected.
    Virus,
    /// The mail is tagged spam.
    Spam,
    /// Before `start`.
    NotStarted,
    /// After `end`.
    Ended,
    /// The null reverse path.
    NullSender,
    /// `Auto-Submitted` other than `no`.
    AutoSubmitted,
    /// A mailing list's field.
    MailingList,
    /// `Precedence: bulk`, `list` or `junk`.
    Precedence,
    /// `X-Auto-Response-Suppress`, `X-Autoreply`, `X-Autorespond`, `X-Loop`.
    Suppressed,
    /// A report or notification (`multipart/report` and kin).
    Report,
    /// A role or robot's address.
    RoleSender,
    /// The owner's own address.
    OwnAddress,
    /// No address of the owner stands in To, Cc, Bcc or their Resent- forms.
    NotAddressed,
    /// Too many `Received` fields, or our own loop mark.
    Loop,
    /// Nobody looked at the mail.
    Unread,
}

impl NoReply {
    /// All.
    pub const ALL: [Self; 17] = [
        Self::Off,
        Self::Quarantined,
        Self::Virus,
        Self::Spam,
        Self::NotStarted,
        Self::Ended,
        Self::NullSender,
        Self::AutoSubmitted,
        Self::MailingList,
        Self::Precedence,
        Self::Suppressed,
        Self::Report,
        Self::RoleSender,
        Self::OwnAddress,
        Self::NotAddressed,
        Self::Loop,
        Self::Unread,
    ];

    /// The reason of that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The word of JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Quarantined => "quarantined",
            Self::Virus => "virus",
            Self::Spam => "spam",
            Self::NotStarted => "not_started",
            Self::Ended => "ended",
            Self::NullSender => "null_sender",
            Self::AutoSubmitted => "auto_submitted",
            Self::MailingList => "mailing_list",
            Self::Precedence => "precedence",
            Self::Suppressed => "suppressed",
            Self::Report => "report",
            Self::RoleSender => "role_sender",
            Self::OwnAddress => "own_address",
            Self::NotAddressed => "not_addressed",
            Self::Loop => "loop",
            Self::Unread => "unread",
        }
    }
}

/// The decision for one mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What becomes of the mail.
    pub verdict: Verdict,
    /// The stage that decided; only with `Quarantine` and `Replace`.
    pub stage: Option<Stage>,
    /// The entry that decided; only with `Quarantine` and `Replace`.
    pub hit: Option<Hit>,
    /// Set when something goes into quarantine.
    pub class: Option<Class>,
    /// Put before the local copy's Subject.
    pub mark: Option<String>,
    /// `forwarding.rules[N]` or `forwarding.all` of the redirect among the actions.
    pub forward_rule: Option<String>,
    /// Why there is no `AutoReply` among the actions; `None` exactly when there is one.
    pub no_reply: Option<NoReply>,
    /// Side effects, in stage order.
    pub actions: Vec<Action>,
    /// One step a stage, in order, all nine.
    pub trail: Vec<Step>,
}

impl Plan {
    /// The implicit keep (RFC 5228 2.10.2): delivered, nothing beside it.
    pub(super) fn keep(trail: Vec<Step>) -> Self {
        Self {
            verdict: Verdict::Deliver,
            stage: None,
            hit: None,
            class: None,
            mark: None,
            forward_rule: None,
            no_reply: None,
            actions: Vec::new(),
            trail,
        }
    }

    /// Kept without a look at the mail: every stage is skipped.
    pub fn unread() -> Self {
        let mut plan = Self::keep(Vec::new());
        plan.no_reply = Some(NoReply::Unread);
        for stage in Stage::ALL {
            plan.note(stage, Outcome::Skipped, None);
        }
        plan
    }

    /// A stage takes the mail out of the mailbox's way.
    pub(super) fn settle(&mut self, verdict: Verdict, stage: Stage, class: Class, hit: Hit) {
        self.verdict = verdict;
        self.stage = Some(stage);
        self.class = Some(class);
        self.hit = Some(hit);
    }

    /// Records a stage.
    pub(super) fn note(&mut self, stage: Stage, outcome: Outcome, hit: Option<Hit>) {
        self.trail.push(Step {
            stage,
            outcome,
            hit,
        });
    }
}

/// What becomes of mail that a scanner could not look at (`scanners.*.on_error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// `451 4.3.0`.
    Tempfail,
    /// As if it were clean; a header line says that it was not scanned.
    Deliver,
    /// Held in the scanner's stage and class, entry [`SCANNER_ERROR`].
    Quarantine,
}

/// The entry of mail that is held because its scanner failed.
pub const SCANNER_ERROR: &str = "scanner-error";

/// What a virus scanner said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VirusScan {
    /// No scanner looked.
    #[default]
    NotScanned,
    /// Nothing found.
    Clean,
    /// Found, with the name if one was given.
    Infected(String),
    /// The scanner failed.
    Failed(OnError),
}

/// What a spam scanner said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpamScan {
    /// No scanner looked.
    #[default]
    NotScanned,
    /// It looked.
    Judged {
        /// Its own word.
        spam: bool,
        /// Its score, if it gives one.
        score: Option<Score>,
    },
    /// The scanner failed.
    Failed(OnError),
}

impl SpamScan {
    /// Not spam, of a scanner that gives no score.
    pub const HAM: Self = Self::Judged {
        spam: false,
        score: None,
    };
    /// Spam, of a scanner that gives no score.
    pub const SPAM: Self = Self::Judged {
        spam: true,
        score: None,
    };
}

/// A spam score, in thousandths of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(pub i64);

impl Score {
    /// The nearest thousandth; what is no number is 0.
    pub fn of(points: f64) -> Self {
        // `as` takes what is too large to the bound, and NaN to 0.
        Self((points * 1000.0).round() as i64)
    }
}

impl fmt::Display for Score {
    /// In points, with as many decimals as it has and at least one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        let decimals = format!("{rest:03}");
        let (first, others) = decimals.split_at(1);
        write!(f, "{sign}{whole}.{first}{}", others.trim_end_matches('0'))
    }
}

/// Both scanners' words for one mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanReport {
    /// Virus scanner.
    pub virus: VirusScan,
    /// Spam scanner.
    pub spam: SpamScan,
}

/// What sender authentication found for the header From.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuthReport {
    /// DMARC-aligned and passing.
    pub dmarc_pass: bool,
}
