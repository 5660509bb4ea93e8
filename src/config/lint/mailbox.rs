//! One mailbox file, merged over the defaults: what it does that its owner may not mean, and what
//! the lints over all files need of it.

use std::collections::HashMap;

use super::super::field::Field;
use super::super::mailbox::{
    RawAllow, RawAutoReply, RawForwarding, RawHeld, RawMailbox, RawMatch, RawMode, RawNotice,
    RawReject, RawRule, RawSpam,
};
use super::super::patterns::NamedList;
use super::super::source::{Place, Report};
use super::super::text::{Mail, Text};
use super::super::{Mailbox, location};
use super::lists::{self, Entry, Use};
use super::{Scope, entries, history, rules};
use crate::mail::Address;
use crate::mail::fold::{fold, fold_address};
use crate::policy::{AllowSet, SubstringSet};

/// What other files may clash with.
#[derive(Debug, Default)]
pub(in super::super) struct Seen {
    /// Its aliases.
    pub(in super::super) aliases: Vec<(Address, Place)>,
    /// Whom it writes to, of the domains of this server.
    pub(in super::super) targets: Vec<Target>,
}

/// Somebody whom a mailbox forwards to or notifies.
#[derive(Debug, Clone)]
pub(in super::super) struct Target {
    /// As [`Address::key`] gives it.
    pub(in super::super) key: String,
    pub(in super::super) at: Place,
    /// The mail that goes there; `None`: a notice.
    pub(in super::super) mail: Option<Guard>,
}

/// What is known of the mail that a rule forwards. A forward changes neither.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Guard {
    pub(in super::super) attachment: Option<bool>,
    /// Octets, both included.
    pub(in super::super) size: (u64, u64),
}

impl Guard {
    /// Any mail.
    pub(in super::super) const ANY: Self = Self {
        attachment: None,
        size: (0, u64::MAX),
    };

    /// Mail that passes both; `None` when there is none.
    pub(in super::super) fn and(self, other: Self) -> Option<Self> {
        let size = (self.size.0.max(other.size.0), self.size.1.min(other.size.1));
        let apart = matches!((self.attachment, other.attachment), (Some(a), Some(b)) if a != b);
        (!apart && size.0 <= size.1).then_some(Self {
            attachment: self.attachment.or(other.attachment),
            size,
        })
    }

    /// The mail that a rule leaves to those behind it, as far as its attachments and size tell.
    fn behind(self, rule: &RawRule) -> Option<Self> {
        let lists = gives_subjects(rule) || gives_senders(rule);
        let both = rule.attachment.is_given() && rule.size.is_given();
        if rule.r#match.or_default() == RawMatch::All && (lists || both) {
            return Some(self);
        }
        let attachment = rule.attachment.value.map(|has| !has);
        let size = match rules::size(rule) {
            None => Self::ANY.size,
            Some((0, most)) => (most.checked_add(1)?, u64::MAX),
            Some((least, _)) => (0, least - 1),
        };
        self.and(Self { attachment, size })
    }
}

/// Looks at a mailbox file; `raw` is merged over the defaults.
pub(in super::super) fn mailbox(
    report: &mut Report,
    scope: Scope<'_>,
    raw: &RawMailbox,
    mailbox: &Mailbox,
) -> Seen {
    let own = &mailbox.policy.mailbox;
    let mut addresses = vec![own.clone()];
    addresses.extend(mailbox.policy.aliases.iter().cloned());
    shared(report, scope, raw, mailbox, &addresses);
    let seen = Seen {
        aliases: aliases(&raw.aliases),
        targets: targets(raw, |key| scope.ours.serves(key)),
    };
    own_aliases(report, scope, own, &seen.aliases);
    let reject = raw.reject.or_default();
    let subject = NamedList {
        name: "subject_contains",
        here: &reject.subject_contains,
        file: &reject.subject_contains_file,
    };
    let texts = scope.entries(report, subject, fold);
    history::subjects(report, scope, own, &texts);
    let notify = raw.notify.or_default();
    if scope.is_here(&notify.fields) && !notify.to.is_given() {
        let message = "nobody is notified: `to` is missing";
        let help = "add `to: [address]`, or leave `notify` out";
        report.warning("no-effect", notify.fields.key(), message, help);
    }
    if !scope.ours.serves(&own.key()) {
        let at = if scope.is_here(&raw.mailbox) {
            raw.mailbox.place()
        } else {
            Place::top(scope.home)
        };
        let message = format!(
            "no mail comes here: {} is not in `mailboxes.domains`",
            own.domain()
        );
        let help = "add the domain there, or remove this file";
        report.warning("foreign-domain", at, message, help);
    }
    seen
}

/// What a mailbox file and `mailboxes.defaults` have in common.
/// `made` is the mailbox, or one without a file, `own` are its addresses.
pub(super) fn shared(
    report: &mut Report,
    scope: Scope<'_>,
    raw: &RawMailbox,
    made: &Mailbox,
    own: &[Address],
) {
    let end = made.policy.auto_reply.as_ref().and_then(|reply| reply.end);
    reject_and_allow(
        report,
        scope,
        &raw.reject.or_default(),
        &raw.allow.or_default(),
        made,
        own,
    );
    forwarding(report, scope, &raw.forwarding.or_default());
    auto_reply(report, scope, &raw.auto_reply.or_default(), end);
    let spam = raw.spam.or_default();
    let unmarked = spam.mark_subject.get().is_some_and(String::is_empty);
    if spam.scan.value == Some(true)
        && spam.quarantine.value != Some(true)
        && unmarked
        && scope.is_here(&spam.mark_subject)
    {
        let message = "spam is neither held nor marked: the scan changes nothing";
        let help = "write `quarantine: true`, or a mark";
        report.warning("no-effect", spam.mark_subject.place(), message, help);
    }
    notice(report, scope, &spam);
}

fn notice(report: &mut Report, scope: Scope<'_>, spam: &RawSpam) {
    if spam.notice.or_default() == RawNotice::Off {
        if scope.is_here(&spam.notice_includes) {
            let message = "the owner is told of nothing: `notice` is off";
            let help = "write `notice: each` or `notice: daily`, or leave this out";
            report.warning("no-effect", spam.notice_includes.key(), message, help);
        }
        return;
    }
    let includes = spam.notice_includes.or_default();
    let only_spam = includes
        .iter()
        .all(|item| item.value == Some(RawHeld::Spam));
    let held = spam.scan.value == Some(true) && spam.quarantine.value == Some(true);
    if only_spam && !held && scope.is_here(&spam.notice) {
        let message = "the notice has nothing to tell: no spam is held";
        let help = "`scan: true` with `quarantine: true` holds spam; `notice_includes: [user_rule]` \
                    tells of mail that the owner's own rules hold";
        report.warning("no-effect", spam.notice.place(), message, help);
    }
}

/// Whom the settings forward to and notify, of those that `is_ours`.
pub(in super::super) fn targets(raw: &RawMailbox, is_ours: impl Fn(&str) -> bool) -> Vec<Target> {
    let mut found = Vec::new();
    let mut add = |to: &Field<Vec<Field<Text<Mail>>>>, mail: Option<Guard>| {
        for item in to.get().into_iter().flatten() {
            let key = item.get().map(|Text(Mail(address))| address.key());
            if let Some(key) = key.filter(|key| is_ours(key)) {
                let at = item.place();
                found.push(Target { key, at, mail });
            }
        }
    };
    let forwarding = raw.forwarding.or_default();
    match forwarding.mode.value {
        Some(RawMode::All) => add(&forwarding.all.or_default().to, Some(Guard::ANY)),
        Some(RawMode::Rules) => {
            let rules = forwarding.rules.get().into_iter().flatten();
            let mut left = Some(Guard::ANY);
            for rule in rules.filter_map(Field::get) {
                if rule.paused.value != Some(true) && has_condition(rule) {
                    add(&rule.to, left.and_then(|left| left.and(guard(rule))));
                    left = left.and_then(|left| left.behind(rule));
                }
            }
        }
        Some(RawMode::Off) | None => {}
    }
    add(&raw.notify.or_default().to, None);
    found
}

fn has_condition(rule: &RawRule) -> bool {
    let lists = gives_subjects(rule) || gives_senders(rule);
    lists || rule.attachment.is_given() || rule.size.is_given()
}

fn gives_subjects(rule: &RawRule) -> bool {
    rule.subject_contains.is_given() || rule.subject_contains_file.is_given()
}

fn gives_senders(rule: &RawRule) -> bool {
    rule.from_suffixes.is_given() || rule.from_suffixes_file.is_given()
}

fn guard(rule: &RawRule) -> Guard {
    if rule.r#match.or_default() == RawMatch::Any {
        return Guard::ANY;
    }
    Guard {
        attachment: rule.attachment.value,
        size: rules::size(rule).unwrap_or(Guard::ANY.size),
    }
}

fn aliases(raw: &Field<Vec<Field<Text<Mail>>>>) -> Vec<(Address, Place)> {
    let items = raw.get().into_iter().flatten();
    let alias = |item: &Field<Text<Mail>>| {
        let Text(Mail(address)) = item.get()?;
        Some((address.clone(), item.place()))
    };
    items.filter_map(alias).collect()
}

fn own_aliases(report: &mut Report, scope: Scope<'_>, own: &Address, aliases: &[(Address, Place)]) {
    let (own, dir) = (own.key(), &scope.config.mailboxes.dir);
    for (alias, at) in aliases {
        let key = alias.key();
        if key == own {
            let message = "the mailbox's own address needs no alias";
            report.warning("needless-alias", *at, message, "remove it");
        } else if !scope.ours.serves(&key) {
            let message = format!("{} is not in `mailboxes.domains`", alias.domain());
            let help = "add the domain there, or remove the alias: mail to it is refused";
            report.warning("foreign-domain", *at, message, help);
        } else if let Some(path) = existing(dir, alias) {
            let message = format!(
                "{alias} has a file of its own, which counts: {}",
                path.display()
            );
            let help = "remove the alias, or that file";
            report.warning("alias-of-mailbox", *at, message, help);
        }
    }
}

fn existing(dir: &std::path::Path, address: &Address) -> Option<std::path::PathBuf> {
    let candidates = location::candidates(dir, address);
    candidates.into_iter().find(|path| path.exists())
}

fn reject_and_allow(
    report: &mut Report,
    scope: Scope<'_>,
    reject: &RawReject,
    allow: &RawAllow,
    made: &Mailbox,
    own: &[Address],
) {
    let list = |name, here, file| NamedList { name, here, file };
    let from = list("", &reject.from_suffixes, &reject.from_suffixes_file);
    let rejects = scope.entries(report, from, fold_address);
    lists::endings(report, &rejects, Use::Reject);
    lists::own(report, &rejects, scope.ours, own);
    lists::covered_endings(report, &rejects, Use::Reject);
    let subject = list("", &reject.subject_contains, &reject.subject_contains_file);
    let texts = scope.entries(report, subject, fold);
    lists::covered_texts(report, &texts, &made.policy.subject_contains);

    let here = list("", &allow.senders, &allow.senders_file);
    let senders = scope.entries(report, here, fold_address);
    let proved = list("", &allow.verified_senders, &allow.verified_senders_file);
    let verified = scope.entries(report, proved, fold_address);
    for listed in [&senders, &verified] {
        lists::endings(report, listed, Use::Allow);
        lists::covered_endings(report, listed, Use::Allow);
    }
    let all_senders = entries(report, here, fold_address);
    lists::needless_proof(report, &verified, &all_senders);
    if allow.before_reject.value == Some(true) {
        lists::moot_rejects(report, &rejects, &all_senders);
    }
}

fn forwarding(report: &mut Report, scope: Scope<'_>, raw: &RawForwarding) {
    for rule in raw.rules.get().into_iter().flatten().filter_map(Field::get) {
        let list = |name, here, file| NamedList { name, here, file };
        let subject = list("", &rule.subject_contains, &rule.subject_contains_file);
        let texts = scope.entries(report, subject, fold);
        let set = SubstringSet::build(lists::patterns(report, &texts));
        lists::covered_texts(report, &texts, &set);
        let from = list("", &rule.from_suffixes, &rule.from_suffixes_file);
        let endings = scope.entries(report, from, fold_address);
        lists::endings(report, &endings, Use::Choose);
        lists::covered_endings(report, &endings, Use::Choose);
    }
    rules::rules(report, scope, raw);
}

fn auto_reply(report: &mut Report, scope: Scope<'_>, raw: &RawAutoReply, end: Option<i64>) {
    if scope.is_here(&raw.subject) {
        let subject = raw.subject.or_default();
        placeholders(
            report,
            &subject.replace("%{subject}", ""),
            raw.subject.place(),
        );
    }
    if scope.is_here(&raw.message) {
        placeholders(report, &raw.message.or_default(), raw.message.key());
    }
    if end.is_some_and(|end| end < scope.now) && scope.is_here(&raw.end) {
        let help = "set a new `end`, or `enabled: false`";
        report.warning(
            "ended",
            raw.end.place(),
            "nobody is answered: `end` is over",
            help,
        );
    }
    per_sender(report, scope, raw);
}

fn placeholders(report: &mut Report, text: &str, at: Place) {
    let Some((_, rest)) = text.split_once("%{") else {
        return;
    };
    let name: String = rest.chars().take_while(|c| *c != '}').take(40).collect();
    let message = format!("`%{{{name}}}` is sent as it stands");
    let help = "`%{subject}` is known, in `auto_reply.subject`";
    report.warning("placeholder", at, message, help);
}

/// The first item that matches a sender answers.
fn per_sender(report: &mut Report, scope: Scope<'_>, raw: &RawAutoReply) {
    let mut listed: Vec<Entry> = Vec::new();
    let mut items: HashMap<String, usize> = HashMap::new();
    let mut ends = Vec::new();
    for reply in raw
        .per_sender
        .get()
        .into_iter()
        .flatten()
        .filter_map(Field::get)
    {
        let list = NamedList {
            name: "",
            here: &reply.senders,
            file: &reply.senders_file,
        };
        let senders = scope.entries(report, list, fold_address);
        lists::endings(report, &senders, Use::Choose);
        lists::covered_endings(report, &senders, Use::Allow);
        for (line, _) in &senders {
            items.entry(line.text.clone()).or_insert(ends.len());
        }
        listed.extend(senders);
        ends.push(listed.len());
        if scope.is_here(&reply.message) {
            placeholders(report, &reply.message.or_default(), reply.message.key());
        }
    }
    // The first entry that covers a sender, of all texts.
    let set = AllowSet::build(lists::patterns(report, &listed));
    for (index, (line, folded)) in listed.iter().enumerate() {
        let item = ends.partition_point(|end| *end <= index);
        let hit = set.find(folded);
        let hit = hit.filter(|hit| items.get(&hit.entry).is_some_and(|first| *first < item));
        if let Some(hit) = hit {
            let message = format!(
                "the entry {} of an earlier text covers it",
                lists::shown(&hit)
            );
            let help = "put the narrower senders first";
            report.warning("unreachable-reply", line.place, message, help);
        }
    }
}
