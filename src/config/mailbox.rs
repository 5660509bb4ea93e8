//! A mailbox file as written; `mailboxes.defaults` has the same keys but `mailbox` and `aliases`.

use serde::Deserialize;

use super::field::{Field, Merge, merge_fields};
use super::lines::Lines;
use super::text::{Mail, Size, Text};

/// The form of the file that this version reads.
pub(crate) const VERSION: u64 = 1;

/// One mailbox.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawMailbox {
    /// Always 1.
    pub(crate) version: Field<u64>,
    /// The address; the file lies at `<domain>/<localpart>.yaml`.
    pub(crate) mailbox: Field<Text<Mail>>,
    /// Count as "me" for auto-reply; mail to them has these settings.
    pub(crate) aliases: Field<Vec<Field<Text<Mail>>>>,
    /// `ja` or `en`: notices, reports.
    pub(crate) language: Field<RawLanguage>,
    /// IANA name.
    pub(crate) timezone: Field<String>,
    /// Operator mail skips stages 1-3 and 6.
    pub(crate) announcements: Field<bool>,
    /// Stages 1-3: to quarantine.
    pub(crate) reject: Field<RawReject>,
    /// Stage 4: skips the spam stage; never the virus stage.
    pub(crate) allow: Field<RawAllow>,
    /// Stage 5.
    pub(crate) virus: Field<RawVirus>,
    /// Stage 6.
    pub(crate) spam: Field<RawSpam>,
    /// Stage 7.
    pub(crate) forwarding: Field<RawForwarding>,
    /// Stage 8.
    pub(crate) notify: Field<RawNotify>,
    /// Stage 9.
    pub(crate) auto_reply: Field<RawAutoReply>,
}
merge_fields!(RawMailbox: version, mailbox, aliases, language, timezone, announcements, reject,
    allow, virus, spam, forwarding, notify, auto_reply);

/// `language`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLanguage {
    Ja,
    En,
}
impl Merge for RawLanguage {}

/// `reject`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawReject {
    /// Header From address ends with.
    pub(crate) from_suffixes: Field<Lines>,
    /// The same from a text file.
    pub(crate) from_suffixes_file: Field<String>,
    /// Decoded Subject contains.
    pub(crate) subject_contains: Field<Lines>,
    /// The same from a text file.
    pub(crate) subject_contains_file: Field<String>,
    /// Missing and empty header fields.
    pub(crate) headers: Field<Vec<Field<RawHeader>>>,
}

/// One of `reject.headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawHeader {
    FromMissing,
    FromEmpty,
    FromEmptyAddress,
    SubjectMissing,
    SubjectEmpty,
}

/// `allow`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAllow {
    /// Also wins over `reject`.
    pub(crate) before_reject: Field<bool>,
    /// Header From address ends with; with a local part: equals.
    pub(crate) senders: Field<Lines>,
    /// The same from a text file.
    pub(crate) senders_file: Field<String>,
    /// Counts only when DMARC-aligned and passing.
    pub(crate) verified_senders: Field<Lines>,
    /// The same from a text file.
    pub(crate) verified_senders_file: Field<String>,
}

/// `virus`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawVirus {
    /// A report stands in for infected mail, which is held.
    pub(crate) scan: Field<bool>,
}
merge_fields!(RawVirus: scan);

/// `spam`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawSpam {
    /// Mail is scanned.
    pub(crate) scan: Field<bool>,
    /// Put before the Subject of the local copy; `""` = no mark.
    pub(crate) mark_subject: Field<String>,
    /// Held; `false` = delivered with the mark.
    pub(crate) quarantine: Field<bool>,
    /// When the owner is told of held mail.
    pub(crate) notice: Field<RawNotice>,
}
merge_fields!(RawSpam: scan, mark_subject, quarantine, notice);

/// `spam.notice`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawNotice {
    Off,
    Each,
    Daily,
}
impl Merge for RawNotice {}

/// `forwarding`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawForwarding {
    /// `off`, `all` or `rules`: the two kinds exclude each other.
    pub(crate) mode: Field<RawMode>,
    /// With `mode: all`.
    pub(crate) all: Field<RawRedirect>,
    /// With `mode: rules`: the first match wins.
    pub(crate) rules: Field<Vec<Field<RawRule>>>,
}
merge_fields!(RawForwarding: mode, all, rules);

/// `forwarding.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawMode {
    Off,
    All,
    Rules,
}
impl Merge for RawMode {}

/// `forwarding.all`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRedirect {
    /// Targets.
    pub(crate) to: Field<Vec<Field<Text<Mail>>>>,
    /// A copy stays in the mailbox.
    pub(crate) keep_copy: Field<bool>,
}
merge_fields!(RawRedirect: to, keep_copy);

/// One of `forwarding.rules`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRule {
    /// For the person.
    pub(crate) name: Field<String>,
    /// Not looked at.
    pub(crate) paused: Field<bool>,
    /// `all` or `any` of the conditions.
    #[serde(rename = "match")]
    pub(crate) matching: Field<RawMatch>,
    /// Decoded Subject contains.
    pub(crate) subject_contains: Field<Lines>,
    /// The same from a text file.
    pub(crate) subject_contains_file: Field<String>,
    /// Header From address ends with.
    pub(crate) from_suffixes: Field<Lines>,
    /// The same from a text file.
    pub(crate) from_suffixes_file: Field<String>,
    /// Has one, or has none.
    pub(crate) attachment: Field<bool>,
    /// `at_least` or `at_most`.
    pub(crate) size: Field<RawSize>,
    /// Targets.
    pub(crate) to: Field<Vec<Field<Text<Mail>>>>,
    /// A copy stays in the mailbox.
    pub(crate) keep_copy: Field<bool>,
}

/// `match` of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawMatch {
    All,
    Any,
}

/// `size` of a rule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawSize {
    /// So much or more.
    pub(crate) at_least: Field<Text<Size>>,
    /// So much or less.
    pub(crate) at_most: Field<Text<Size>>,
}

/// `notify`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawNotify {
    /// Whom.
    pub(crate) to: Field<Vec<Field<Text<Mail>>>>,
    /// What is told.
    pub(crate) fields: Field<Vec<Field<RawNotifyField>>>,
}
merge_fields!(RawNotify: to, fields);

/// One of `notify.fields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawNotifyField {
    From,
    To,
    Subject,
    Attachment,
    Size,
}

/// `auto_reply`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAutoReply {
    /// On or off.
    pub(crate) enabled: Field<bool>,
    /// Not before.
    pub(crate) start: Field<String>,
    /// Not after.
    pub(crate) end: Field<String>,
    /// `%{subject}` stands for the mail's.
    pub(crate) subject: Field<String>,
    /// The text.
    pub(crate) message: Field<String>,
    /// Other texts; the first match wins, else `message`.
    pub(crate) per_sender: Field<Vec<Field<RawSenderReply>>>,
}
merge_fields!(RawAutoReply: enabled, start, end, subject, message, per_sender);

/// One of `auto_reply.per_sender`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawSenderReply {
    /// Reverse path ends with; with a local part: equals.
    pub(crate) senders: Field<Lines>,
    /// The same from a text file.
    pub(crate) senders_file: Field<String>,
    /// The text.
    pub(crate) message: Field<String>,
}

impl Merge for RawReject {
    fn over(self, below: &Self) -> Self {
        let (from_suffixes, from_suffixes_file) = over_list(
            (self.from_suffixes, self.from_suffixes_file),
            (&below.from_suffixes, &below.from_suffixes_file),
        );
        let (subject_contains, subject_contains_file) = over_list(
            (self.subject_contains, self.subject_contains_file),
            (&below.subject_contains, &below.subject_contains_file),
        );
        let headers = self.headers.over(&below.headers);
        Self {
            from_suffixes,
            from_suffixes_file,
            subject_contains,
            subject_contains_file,
            headers,
        }
    }
}

impl Merge for RawAllow {
    fn over(self, below: &Self) -> Self {
        let before_reject = self.before_reject.over(&below.before_reject);
        let (senders, senders_file) = over_list(
            (self.senders, self.senders_file),
            (&below.senders, &below.senders_file),
        );
        let (verified_senders, verified_senders_file) = over_list(
            (self.verified_senders, self.verified_senders_file),
            (&below.verified_senders, &below.verified_senders_file),
        );
        Self {
            before_reject,
            senders,
            senders_file,
            verified_senders,
            verified_senders_file,
        }
    }
}

/// A list and its `_file` are one leaf.
fn over_list(
    upper: (Field<Lines>, Field<String>),
    lower: (&Field<Lines>, &Field<String>),
) -> (Field<Lines>, Field<String>) {
    if upper.0.is_given() || upper.1.is_given() {
        upper
    } else {
        (lower.0.clone(), lower.1.clone())
    }
}
