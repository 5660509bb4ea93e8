//! What to do with a message: one mailbox's compiled settings and the two pure calls
//! [`Policy::screen`] (stages 1-4) and [`Policy::decide`] (the rest).

pub mod alone;
mod entries;
pub mod evidence;
pub mod facts;
pub mod filter;
pub mod forward;
pub mod pattern;
pub mod plan;
pub mod respond;
mod robot;
pub mod screen;
pub mod substring;
pub mod suffix;

use std::sync::Arc;

pub use alone::Alone;
pub use facts::{Facts, Redecided};
pub use pattern::{Origin, Pattern};
pub use plan::{
    Action, AuthReport, Class, Hit, NoReply, NotifyField, OnError, Outcome, Plan, SCANNER_ERROR,
    ScanReport, Score, SpamScan, Stage, Step, Verdict, VirusScan,
};
pub use screen::{Passed, Screening};
pub use substring::SubstringSet;
pub use suffix::{AllowSet, SuffixSet};

pub use crate::mail::compose::Language;

use crate::mail::{Address, ReversePath};

/// What is known of a mail beside its text when one recipient's decision is made.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub now: i64,
    /// The reverse path.
    pub sender: &'a ReversePath,
    /// The recipient as `RCPT TO` named it (after the default domain was added).
    pub recipient: &'a Address,
    /// The mail's origin is a trusted client: counts for announcements.
    pub trusted_client: bool,
    /// What sender authentication found.
    pub auth: &'a AuthReport,
    /// The mail carries our own forwarding mark of this mailbox (the caller checks the keyed
    /// mark): nothing is forwarded, notified or answered again (RFC 5321 6.3).
    pub looping: bool,
}

/// One mailbox's settings, compiled.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The mailbox.
    pub mailbox: Address,
    /// Further addresses that count as the owner's own.
    pub aliases: Vec<Address>,
    /// Language of notices and reports.
    pub language: Language,
    /// The operator's announcement senders; `None` when the mailbox does not want them.
    pub announcements: Option<Arc<AllowSet>>,
    /// Stage 1; empty = off.
    pub from_suffixes: SuffixSet,
    /// Stage 2; empty = off.
    pub subject_contains: SubstringSet,
    /// Stage 3, in the order written; empty = off.
    pub headers: Vec<HeaderRule>,
    /// Stage 4.
    pub allow: Allow,
    /// Stage 5: `virus.scan` of the mailbox and an engine that is not off.
    pub virus: bool,
    /// The owner is told at once of each mail that stages 1-3 hold, too.
    pub notice_user_rule: bool,
    /// Stage 6; `None` = off (by the mailbox or because the engine is off).
    pub spam: Option<Spam>,
    /// Stage 7.
    pub forwarding: Forwarding,
    /// Stage 8; `None` = off.
    pub notify: Option<Notify>,
    /// Stage 9; `None` = off.
    pub auto_reply: Option<AutoReply>,
}

impl Policy {
    /// A mailbox with every function off: each mail is kept.
    pub fn new(mailbox: Address) -> Self {
        Self {
            mailbox,
            aliases: Vec::new(),
            language: Language::default(),
            announcements: None,
            from_suffixes: SuffixSet::default(),
            subject_contains: SubstringSet::default(),
            headers: Vec::new(),
            allow: Allow::default(),
            virus: false,
            notice_user_rule: false,
            spam: None,
            forwarding: Forwarding::Off,
            notify: None,
            auto_reply: None,
        }
    }

    /// Octets that its lists of patterns take.
    pub fn list_bytes(&self) -> usize {
        let rules = match &self.forwarding {
            Forwarding::Rules(rules) => rules.as_slice(),
            Forwarding::Off | Forwarding::All(_) => &[],
        };
        let from_suffixes = rules.iter().filter_map(|rule| rule.from_suffixes.as_ref());
        let subject_contains = rules
            .iter()
            .filter_map(|rule| rule.subject_contains.as_ref());
        let replies = self.auto_reply.iter().flat_map(|reply| &reply.per_sender);
        let senders = replies.map(|reply| &reply.senders);
        let allow = [&self.allow.senders, &self.allow.verified_senders];
        from_suffixes
            .chain([&self.from_suffixes])
            .map(SuffixSet::heap_bytes)
            .sum::<usize>()
            + subject_contains
                .chain([&self.subject_contains])
                .map(SubstringSet::heap_bytes)
                .sum::<usize>()
            + senders
                .chain(allow)
                .map(AllowSet::heap_bytes)
                .sum::<usize>()
    }
}

/// The five words of `reject.headers` (manual A13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCondition {
    /// No `From:` field.
    FromMissing,
    /// `From:` with nothing behind it.
    FromEmpty,
    /// `From: <>`, or no address in it.
    FromEmptyAddress,
    /// No `Subject:` field.
    SubjectMissing,
    /// `Subject:` with nothing behind it.
    SubjectEmpty,
}

impl HeaderCondition {
    /// The word of mailbox files and of the why-record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromMissing => "from_missing",
            Self::FromEmpty => "from_empty",
            Self::FromEmptyAddress => "from_empty_address",
            Self::SubjectMissing => "subject_missing",
            Self::SubjectEmpty => "subject_empty",
        }
    }
}

/// One word of `reject.headers` and where it stands.
#[derive(Debug, Clone)]
pub struct HeaderRule {
    /// The condition.
    pub condition: HeaderCondition,
    /// Its place in the mailbox file.
    pub origin: Origin,
}

/// Stage 4.
#[derive(Debug, Clone, Default)]
pub struct Allow {
    /// Counts also against stages 1-3.
    pub before_reject: bool,
    /// Entries that need no proof.
    pub senders: AllowSet,
    /// Entries that count only for mail that is DMARC-aligned and passing.
    pub verified_senders: AllowSet,
}

/// Stage 6.
#[derive(Debug, Clone)]
pub struct Spam {
    /// Spam from this score on, where the scanner gives one; `None` = the scanner's own word.
    pub score: Option<Score>,
    /// Put before the local copy's Subject; empty = none.
    pub mark_subject: String,
    /// Hold it, instead of delivering it with the mark.
    pub quarantine: bool,
    /// Whether the owner is told of each held mail at once.
    pub notice_each: bool,
}

/// Stage 7.
#[derive(Debug, Clone, Default)]
pub enum Forwarding {
    /// Nothing is forwarded.
    #[default]
    Off,
    /// Every mail goes to the targets (manual A03).
    All(Redirect),
    /// The first rule that matches (manual A04); the index is the one in the file.
    Rules(Vec<ForwardRule>),
}

/// Where a forward goes.
#[derive(Debug, Clone, Default)]
pub struct Redirect {
    /// Targets, 1-10.
    pub to: Vec<Address>,
    /// A copy stays in the mailbox.
    pub keep_copy: bool,
}

/// One conditional forwarding rule.
#[derive(Debug, Clone)]
pub struct ForwardRule {
    /// Not looked at.
    pub paused: bool,
    /// One condition is enough, instead of all.
    pub any: bool,
    /// The condition on the Subject.
    pub subject_contains: Option<SubstringSet>,
    /// The condition on the header From.
    pub from_suffixes: Option<SuffixSet>,
    /// The condition on attachments.
    pub attachment: Option<bool>,
    /// The condition on the size in octets.
    pub size: Option<SizeCondition>,
    /// Where to.
    pub redirect: Redirect,
    /// The rule's place in the file, for the why-record.
    pub origin: Origin,
}

/// A forwarding rule's size condition, octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeCondition {
    /// So much or more.
    AtLeast(u64),
    /// So much or less.
    AtMost(u64),
}

/// Stage 8.
#[derive(Debug, Clone)]
pub struct Notify {
    /// 1-3 addresses.
    pub to: Vec<Address>,
    /// What is told, in this order.
    pub fields: Vec<NotifyField>,
}

/// Stage 9.
#[derive(Debug, Clone)]
pub struct AutoReply {
    /// Not before (Unix seconds).
    pub start: Option<i64>,
    /// Not after (Unix seconds, inclusive).
    pub end: Option<i64>,
    /// The reply's Subject; `%{subject}` stands for the mail's.
    pub subject: String,
    /// The reply's text.
    pub message: String,
    /// Other texts for some senders; the first match wins.
    pub per_sender: Vec<SenderReply>,
    /// How long a sender gets no second reply, seconds (`limits.auto_reply_interval`).
    pub interval: i64,
}

/// A text of its own for some senders, by reverse path.
#[derive(Debug, Clone)]
pub struct SenderReply {
    /// Matched as `allow.senders` is.
    pub senders: AllowSet,
    /// The text.
    pub message: String,
}
