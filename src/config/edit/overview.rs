//! What a mailbox's settings come to, for a person: which functions are on, how much is in each
//! list (MANUAL A01), the forwarding rules, the auto-reply.

use std::path::Path;

use serde::Serialize;

use super::entries::List;
use super::session::Session;
use crate::config::error::Diagnostic;
use crate::config::field::Field;
use crate::config::lines::Lines;
use crate::config::mailbox::{RawMailbox, RawMode, RawRule, RawSize};
use crate::config::patterns::{self, NamedList};
use crate::config::source::Report;
use crate::config::text::{FilePath, Mail, Size, Text};
use crate::config::{Config, Mailbox, SpamNotice, read_file, read_mailbox_and};
use crate::mail::Address;
use crate::policy::{Language, NotifyField};

/// One mailbox at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// The address.
    pub mailbox: String,
    /// Its file; `None` when it has the defaults.
    pub file: Option<String>,
    /// Functions that are on: `reject`, `allow`, `virus`, `spam`, `forwarding`, `notify`,
    /// `auto_reply`.
    pub on: Vec<&'static str>,
    /// `ja` or `en`.
    pub language: &'static str,
    /// IANA name.
    pub timezone: String,
    /// Whether operator announcements get through.
    pub announcements: bool,
    /// Entries.
    pub reject: RejectCounts,
    /// Entries.
    pub allow: AllowCounts,
    /// `virus.scan`.
    pub virus_scan: bool,
    /// Its switches.
    pub spam: SpamSwitches,
    /// Where mail is sent on.
    pub forwarding: ForwardCounts,
    /// Who is told of new mail.
    pub notify: NotifyView,
    /// Whether it is on, and when.
    pub auto_reply: ReplySwitches,
}

/// `reject` in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct RejectCounts {
    /// Entries.
    pub from_suffixes: usize,
    /// Entries.
    pub subject_contains: usize,
    /// The words.
    pub headers: Vec<String>,
}

/// `allow` in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct AllowCounts {
    /// Also wins over `reject`.
    pub before_reject: bool,
    /// Entries.
    pub senders: usize,
    /// Entries.
    pub verified_senders: usize,
}

/// `spam`.
#[derive(Debug, Clone, Serialize)]
pub struct SpamSwitches {
    /// As set; without a scanner it does nothing.
    pub scan: bool,
    /// Held, not only marked.
    pub quarantine: bool,
    /// `off`, `each` or `daily`.
    pub notice: &'static str,
    /// The words of what it tells of.
    pub notice_includes: Vec<&'static str>,
}

/// `forwarding` in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct ForwardCounts {
    /// `off`, `all` or `rules`.
    pub mode: &'static str,
    /// Of `all`, or of all rules together.
    pub targets: usize,
    /// Rules, paused ones too.
    pub rules: usize,
}

/// `notify`.
#[derive(Debug, Clone, Serialize)]
pub struct NotifyView {
    /// Addresses.
    pub to: Vec<String>,
    /// What is told.
    pub fields: Vec<&'static str>,
}

/// `auto_reply` without its texts.
#[derive(Debug, Clone, Serialize)]
pub struct ReplySwitches {
    /// On or off.
    pub enabled: bool,
    /// Not before, as written.
    pub start: Option<String>,
    /// Not after, as written.
    pub end: Option<String>,
    /// Texts for some senders.
    pub per_sender: usize,
}

/// `forwarding` in full.
#[derive(Debug, Clone, Serialize)]
pub struct ForwardView {
    /// `off`, `all` or `rules`.
    pub mode: &'static str,
    /// Targets of `all`.
    pub to: Vec<String>,
    /// Of `all`: a copy stays in the mailbox.
    pub keep_copy: bool,
    /// In their order.
    pub rules: Vec<RuleView>,
}

/// One forwarding rule.
#[derive(Debug, Clone, Serialize)]
pub struct RuleView {
    /// From 1.
    pub number: usize,
    /// For the person.
    pub name: Option<String>,
    /// Not looked at.
    pub paused: bool,
    /// `all` or `any` of the conditions.
    #[serde(rename = "match")]
    pub matching: &'static str,
    /// The Subject contains one of these.
    pub subject_contains: Vec<String>,
    /// The From ends with one of these.
    pub from_suffixes: Vec<String>,
    /// Has one, or has none.
    pub attachment: Option<bool>,
    /// `at_least` or `at_most` and octets.
    pub size: Option<(&'static str, u64)>,
    /// Targets.
    pub to: Vec<String>,
    /// A copy stays in the mailbox.
    pub keep_copy: bool,
}

/// `auto_reply` in full.
#[derive(Debug, Clone, Serialize)]
pub struct ReplyView {
    /// On or off.
    pub enabled: bool,
    /// Not before, as written.
    pub start: Option<String>,
    /// Not after, as written.
    pub end: Option<String>,
    /// `None`: the built-in one.
    pub subject: Option<String>,
    /// The text.
    pub message: String,
    /// Other texts, the first that matches counts.
    pub per_sender: Vec<SenderView>,
}

/// A text for some senders.
#[derive(Debug, Clone, Serialize)]
pub struct SenderView {
    /// The reverse path ends with one of these.
    pub senders: Vec<String>,
    /// The text.
    pub message: String,
}

/// The mailbox of the file at `path`, which lies below `mailboxes.dir`.
///
/// # Errors
/// All errors and warnings when there is an error.
pub fn overview_of_file(config: &Config, path: &Path) -> Result<Overview, Vec<Diagnostic>> {
    let bytes = read_file(path)?;
    let mut made = None;
    let attempt = read_mailbox_and(config, path, bytes, None, |report, merged, mailbox| {
        if !report.has_errors() {
            made = Some(overview(report, mailbox, merged, Some(path)));
        }
    });
    made.ok_or(attempt.found)
}

impl Session<'_> {
    /// The mailbox at a glance.
    ///
    /// # Errors
    /// [`super::EditError::BadValue`].
    pub fn overview(&self) -> Result<Overview, super::EditError> {
        let mailbox = self.compiled()?;
        let (mut report, merged) = self.merged();
        let file = self.on_disk().map(|_| self.path());
        Ok(overview(&mut report, &mailbox, &merged, file))
    }

    /// The forwarding.
    pub fn forwarding(&self) -> ForwardView {
        let (mut report, merged) = self.merged();
        let forwarding = merged.forwarding.or_default();
        let all = forwarding.all.or_default();
        let rules = forwarding.rules.or_default();
        let rule = |(index, item): (usize, &Field<RawRule>)| {
            rule_view(&mut report, index + 1, &item.or_default())
        };
        ForwardView {
            mode: forwarding.mode.or_default().word(),
            to: addresses(&all.to),
            keep_copy: all.keep_copy.or_default(),
            rules: rules.iter().enumerate().map(rule).collect(),
        }
    }

    /// The auto-reply.
    pub fn auto_reply(&self) -> ReplyView {
        let (mut report, merged) = self.merged();
        let reply = merged.auto_reply.or_default();
        let mut texts = Vec::new();
        for item in reply.per_sender.or_default() {
            let raw = item.or_default();
            texts.push(SenderView {
                senders: entries(&mut report, "senders", &raw.senders, &raw.senders_file),
                message: raw.message.or_default(),
            });
        }
        ReplyView {
            enabled: reply.enabled.or_default(),
            start: reply.start.value,
            end: reply.end.value,
            subject: reply.subject.value,
            message: reply.message.or_default(),
            per_sender: texts,
        }
    }
}

fn overview(
    report: &mut Report,
    mailbox: &Mailbox,
    merged: &RawMailbox,
    file: Option<&Path>,
) -> Overview {
    let mut lines = |list: List| list.lines(report, merged);
    let reject = RejectCounts {
        from_suffixes: lines(List::RejectFrom).len(),
        subject_contains: lines(List::RejectSubject).len(),
        headers: lines(List::RejectHeaders)
            .into_iter()
            .map(|l| l.text)
            .collect(),
    };
    let allow = AllowCounts {
        before_reject: mailbox.policy.allow.before_reject,
        senders: lines(List::AllowSenders).len(),
        verified_senders: lines(List::AllowVerified).len(),
    };
    let spam = merged.spam.or_default();
    let forwarding = forward_counts(merged);
    let auto_reply = merged.auto_reply.or_default();
    let notify = mailbox.policy.notify.as_ref();
    let mut overview = Overview {
        mailbox: mailbox.policy.mailbox.to_string(),
        file: file.map(|path| path.display().to_string()),
        on: Vec::new(),
        language: match mailbox.policy.language {
            Language::Ja => "ja",
            Language::En => "en",
        },
        timezone: mailbox.timezone.iana_name().unwrap_or("UTC").to_owned(),
        announcements: merged.announcements.or_default(),
        reject,
        allow,
        virus_scan: merged.virus.or_default().scan.or_default(),
        spam: SpamSwitches {
            scan: spam.scan.or_default(),
            quarantine: spam.quarantine.or_default(),
            notice: match mailbox.spam_notice {
                SpamNotice::Off => "off",
                SpamNotice::Each => "each",
                SpamNotice::Daily => "daily",
            },
            notice_includes: mailbox.notice_includes.iter().map(|c| c.as_str()).collect(),
        },
        forwarding,
        notify: NotifyView {
            to: notify.map_or_else(Vec::new, |n| n.to.iter().map(Address::to_string).collect()),
            fields: notify.map_or_else(Vec::new, |n| n.fields.iter().map(field).collect()),
        },
        auto_reply: ReplySwitches {
            enabled: auto_reply.enabled.or_default(),
            start: auto_reply.start.value,
            end: auto_reply.end.value,
            per_sender: auto_reply.per_sender.or_default().len(),
        },
    };
    overview.on = on(&overview);
    overview
}

fn on(overview: &Overview) -> Vec<&'static str> {
    let Overview { reject, allow, .. } = overview;
    let rejects = reject.from_suffixes + reject.subject_contains + reject.headers.len();
    [
        ("reject", rejects > 0),
        ("allow", allow.senders + allow.verified_senders > 0),
        ("virus", overview.virus_scan),
        ("spam", overview.spam.scan),
        ("forwarding", overview.forwarding.mode != "off"),
        ("notify", !overview.notify.to.is_empty()),
        ("auto_reply", overview.auto_reply.enabled),
    ]
    .into_iter()
    .filter_map(|(name, on)| on.then_some(name))
    .collect()
}

fn forward_counts(merged: &RawMailbox) -> ForwardCounts {
    let forwarding = merged.forwarding.or_default();
    let chosen = forwarding.mode.or_default();
    let rules = forwarding.rules.or_default();
    let targets = match chosen {
        RawMode::Off => 0,
        RawMode::All => forwarding.all.or_default().to.or_default().len(),
        RawMode::Rules => rules
            .iter()
            .map(|rule| rule.or_default().to.or_default().len())
            .sum(),
    };
    ForwardCounts {
        mode: chosen.word(),
        targets,
        rules: rules.len(),
    }
}

fn rule_view(report: &mut Report, number: usize, raw: &RawRule) -> RuleView {
    RuleView {
        number,
        name: raw.name.value.clone(),
        paused: raw.paused.or_default(),
        matching: raw.r#match.or_default().word(),
        subject_contains: entries(
            report,
            "subject_contains",
            &raw.subject_contains,
            &raw.subject_contains_file,
        ),
        from_suffixes: entries(
            report,
            "from_suffixes",
            &raw.from_suffixes,
            &raw.from_suffixes_file,
        ),
        attachment: raw.attachment.value,
        size: raw.size.get().and_then(size),
        to: addresses(&raw.to),
        keep_copy: raw.keep_copy.or_default(),
    }
}

fn size(raw: &RawSize) -> Option<(&'static str, u64)> {
    let bound = |name, field: &Field<Text<Size>>| Some((name, field.get()?.0.0));
    bound("at_least", &raw.at_least).or_else(|| bound("at_most", &raw.at_most))
}

fn entries(
    report: &mut Report,
    name: &'static str,
    here: &Field<Lines>,
    file: &Field<FilePath>,
) -> Vec<String> {
    let lines = patterns::load(report, NamedList { name, here, file }, &mut Vec::new());
    lines.iter().map(|(_, text)| text.to_owned()).collect()
}

fn addresses(raw: &Field<Vec<Field<Text<Mail>>>>) -> Vec<String> {
    let items = raw.or_default();
    let address = |item: &Field<Text<Mail>>| Some(item.get()?.0.0.to_string());
    items.iter().filter_map(address).collect()
}

fn field(field: &NotifyField) -> &'static str {
    match field {
        NotifyField::From => "from",
        NotifyField::To => "to",
        NotifyField::Subject => "subject",
        NotifyField::Attachment => "attachment",
        NotifyField::Size => "size",
    }
}
