//! A mailbox file over the defaults: to a [`Policy`] and what else the daemon needs of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::compile::timezone;
use super::error::Severity;
use super::field::Field;
use super::lines::Lines;
use super::mailbox::*;
use super::number::Points;
use super::patterns::{self, NamedList};
use super::settings::{Config, Engine, Limits};
use super::source::{DAEMON_FILE, Place, Report};
use super::text::{Mail, Size, Text};
use super::{Mailbox, SpamNotice, location};
use crate::mail::Address;
use crate::mail::fold::fold_address;
use crate::policy::*;

/// Checks `mailboxes.defaults`, whose errors belong to the daemon file.
pub(crate) fn check_defaults(report: &mut Report, config: &Config, raw: &Field<RawMailbox>) {
    let Some(defaults) = raw.get() else { return };
    let own = [
        &defaults.version.at,
        &defaults.mailbox.at,
        &defaults.aliases.at,
    ];
    for (key, at) in OWN_KEYS.iter().zip(own) {
        if let Some(at) = at {
            let message = format!("`{key}` is no key of the defaults");
            report.error_help(
                "unknown-key",
                at.key,
                message,
                "it stands in a mailbox file",
            );
        }
    }
    if let Ok(address) = Address::parse("nobody@localhost") {
        let mut files = Vec::new();
        compile(report, config, defaults, &address, &mut files);
    }
}

/// Makes the mailbox of `address`. What is wrong is in the report, and left out of the result.
/// `files` gets the text files that its lists come from.
pub(crate) fn compile(
    report: &mut Report,
    config: &Config,
    raw: &RawMailbox,
    address: &Address,
    files: &mut Vec<PathBuf>,
) -> Mailbox {
    let timezone = timezone(report, &raw.timezone);
    let mut compile = Compile {
        report,
        limits: &config.limits,
        files,
        timezone: &timezone,
    };
    let aliases = compile.addresses(&raw.aliases);
    let own: Vec<String> = std::iter::once(address)
        .chain(&aliases)
        .map(Address::key)
        .collect();
    let announced = raw.announcements.or_default() && !config.announcement_senders.is_empty();
    let spam = raw.spam.or_default();
    let notice_includes = compile.notice_includes(&spam.notice_includes);
    let at_once = spam.notice.or_default() == RawNotice::Each;
    let tells = |class| at_once && notice_includes.contains(&class);
    let reject = raw.reject.or_default();
    let from_suffixes = compile.reject_from(&reject);
    let subject_contains = compile.reject_subject(&reject);
    let allow = compile.allow(&raw.allow.or_default(), &from_suffixes);
    let policy = Policy {
        mailbox: address.clone(),
        language: match raw.language.or_default() {
            RawLanguage::Ja => Language::Ja,
            RawLanguage::En => Language::En,
        },
        announcements: announced.then(|| Arc::clone(&config.announcement_senders)),
        from_suffixes,
        subject_contains,
        headers: compile.headers(&reject.headers),
        allow,
        virus: raw.virus.or_default().scan.or_default()
            && config.scanners.virus.engine != Engine::Off,
        notice_user_rule: tells(Class::UserRule),
        spam: compile.spam(
            &spam,
            config.scanners.spam.engine != Engine::Off,
            tells(Class::Spam),
        ),
        forwarding: compile.forwarding(&raw.forwarding.or_default(), &own),
        notify: compile.notify(&raw.notify.or_default(), &own),
        auto_reply: compile.auto_reply(&raw.auto_reply),
        aliases,
    };
    let spam_notice = match spam.notice.or_default() {
        RawNotice::Off => SpamNotice::Off,
        RawNotice::Each => SpamNotice::Each,
        RawNotice::Daily => SpamNotice::Daily,
    };
    Mailbox {
        key: policy.mailbox.key(),
        policy: Arc::new(policy),
        timezone,
        spam_notice,
        notice_includes,
        path: None,
        generation: config.generation.clone(),
    }
}

/// Whether [`compile`] makes the same of any mailbox file with both daemon files.
pub(crate) fn makes_as(one: &Config, other: &Config) -> bool {
    let written = |config: &Config| {
        // With the places of the defaults, which trails name.
        let defaults = format!("{:?}", config.mailboxes.defaults);
        (format!("{:?}", config.limits), defaults)
    };
    let announcers = |config: &Config| -> Vec<_> {
        let hits = config.announcement_senders.entries();
        hits.map(|hit| (hit.entry, hit.origin)).collect()
    };
    one.path == other.path
        && one.mailboxes.dir == other.mailboxes.dir
        && scans_as(one, other)
        && written(one) == written(other)
        && announcers(one) == announcers(other)
}

/// Whether the same scanners are on in both daemon files.
pub(crate) fn scans_as(one: &Config, other: &Config) -> bool {
    let on = |config: &Config| {
        let scanners = &config.scanners;
        [&scanners.virus, &scanners.spam].map(|scanner| scanner.engine != Engine::Off)
    };
    on(one) == on(other)
}

struct Compile<'a> {
    report: &'a mut Report,
    limits: &'a Limits,
    files: &'a mut Vec<PathBuf>,
    timezone: &'a TimeZone,
}

impl Compile<'_> {
    fn reject_from(&mut self, raw: &RawReject) -> SuffixSet {
        let (here, file) = (&raw.from_suffixes, &raw.from_suffixes_file);
        let list = NamedList {
            name: "from_suffixes",
            here,
            file,
        };
        let lines = patterns::load(self.report, list, self.files);
        patterns::check_length(self.report, &lines, self.limits.from_suffix_chars);
        patterns::check_total(self.report, list.name, &lines, self.limits.entries_total);
        patterns::compile(self.report, &lines, Severity::Error)
    }

    fn reject_subject(&mut self, raw: &RawReject) -> SubstringSet {
        let (here, file) = (&raw.subject_contains, &raw.subject_contains_file);
        let list = NamedList {
            name: "subject_contains",
            here,
            file,
        };
        let lines = patterns::load(self.report, list, self.files);
        patterns::check_length(self.report, &lines, self.limits.subject_chars);
        patterns::check_total(self.report, list.name, &lines, self.limits.entries_total);
        patterns::compile(self.report, &lines, Severity::Error)
    }

    fn headers(&mut self, raw: &Field<Vec<Field<RawHeader>>>) -> Vec<HeaderRule> {
        let mut seen = Vec::new();
        let mut rules = Vec::new();
        for item in raw.or_default() {
            let Some(word) = item.value else { continue };
            if seen.contains(&word) {
                self.report
                    .error("duplicate", item.place(), "this word is there already");
            }
            seen.push(word);
            let condition = match word {
                RawHeader::FromMissing => HeaderCondition::FromMissing,
                RawHeader::FromEmpty => HeaderCondition::FromEmpty,
                RawHeader::FromEmptyAddress => HeaderCondition::FromEmptyAddress,
                RawHeader::SubjectMissing => HeaderCondition::SubjectMissing,
                RawHeader::SubjectEmpty => HeaderCondition::SubjectEmpty,
            };
            rules.push(HeaderRule {
                condition,
                origin: self.report.origin(item.place()),
            });
        }
        rules
    }

    fn allow(&mut self, raw: &RawAllow, rejected: &SuffixSet) -> Allow {
        let before_reject = raw.before_reject.or_default();
        let lists = [
            NamedList {
                name: "senders",
                here: &raw.senders,
                file: &raw.senders_file,
            },
            NamedList {
                name: "verified_senders",
                here: &raw.verified_senders,
                file: &raw.verified_senders_file,
            },
        ];
        let [senders, verified_senders] = lists.map(|list| {
            let lines = patterns::load(self.report, list, self.files);
            patterns::check_total(self.report, list.name, &lines, self.limits.entries_total);
            if !before_reject {
                self.warn_shadowed(&lines, rejected);
            }
            patterns::compile::<AllowSet>(self.report, &lines, Severity::Warning)
        });
        if !verified_senders.is_empty() {
            let at = match raw.verified_senders.get() {
                Some(_) => raw.verified_senders.place(),
                None => raw.verified_senders_file.place(),
            };
            let message = "not built yet: without `trust.verify` these entries count for no mail";
            let help = "`senders` counts without proof";
            self.report.warning("not-built", at, message, help);
        }
        Allow {
            before_reject,
            senders,
            verified_senders,
        }
    }

    /// The pipeline rejects first (manual, allow against reject).
    fn warn_shadowed(&mut self, lines: &Lines, rejected: &SuffixSet) {
        for (at, text) in lines.iter() {
            let Some(hit) = rejected.find(&fold_address(text)) else {
                continue;
            };
            let place = hit.origin.map(|o| format!(" in {o}")).unwrap_or_default();
            let message = format!("the reject entry `{}`{place} covers this entry", hit.entry);
            let help = "remove one of them, or set `allow.before_reject: true`";
            self.report.warning("shadowed-allow", at, message, help);
        }
    }

    fn notice_includes(&mut self, raw: &Field<Vec<Field<RawHeld>>>) -> Vec<Class> {
        let mut classes = Vec::new();
        for item in raw.or_default() {
            let class = match item.value {
                None => continue,
                Some(RawHeld::Spam) => Class::Spam,
                Some(RawHeld::UserRule) => Class::UserRule,
            };
            if classes.contains(&class) {
                self.report
                    .error("duplicate", item.place(), "this word is there already");
            }
            classes.push(class);
        }
        if raw.get().is_some_and(Vec::is_empty) {
            let message = "a notice that tells of nothing";
            let help = "write `spam`, `user_rule` or both, or `notice: off`";
            self.report.error_help("empty", raw.key(), message, help);
        }
        classes
    }

    fn spam(&mut self, raw: &RawSpam, engine: bool, notice_each: bool) -> Option<Spam> {
        let mark_subject = self.one_line(&raw.mark_subject);
        let scan = raw.scan.or_default();
        (scan && engine).then(|| Spam {
            score: raw.score.value.map(|Points(points)| Score::of(points)),
            mark_subject,
            quarantine: raw.quarantine.or_default(),
            notice_each,
        })
    }

    fn forwarding(&mut self, raw: &RawForwarding, own: &[String]) -> Forwarding {
        let (all, rules) = (raw.all.key(), raw.rules.key());
        if raw.all.is_given() && raw.rules.is_given() && all.file == rules.file {
            let help = "keep the one that `mode` names";
            let message = "`all` and `rules` exclude each other";
            self.report
                .error_help("conflict", all.later(rules), message, help);
        }
        let redirect = raw
            .all
            .get()
            .map(|section| self.redirect(&section.to, &section.keep_copy, all, own));
        let listed = self.rules(&raw.rules, own);
        let mode = raw.mode.or_default();
        if !raw.mode.is_given() && (raw.all.is_given() || raw.rules.is_given()) {
            let at = if raw.all.is_given() { all } else { rules };
            let help = "write `mode: all` or `mode: rules`";
            self.report.warning(
                "mode-off",
                at,
                "nothing is forwarded without a `mode`",
                help,
            );
        }
        let missing = match mode {
            RawMode::All if !raw.all.is_given() => Some("all: {to: [...]}"),
            RawMode::Rules if !raw.rules.is_given() => Some("rules:"),
            _ => None,
        };
        if let Some(what) = missing {
            let message = "this mode needs the section of its name";
            self.report.error_help(
                "missing",
                raw.mode.place(),
                message,
                format!("add `{what}`"),
            );
        }
        match (mode, redirect) {
            (RawMode::All, Some(redirect)) => Forwarding::All(redirect),
            (RawMode::Rules, _) => Forwarding::Rules(listed),
            (RawMode::Off | RawMode::All, _) => Forwarding::Off,
        }
    }

    fn rules(&mut self, raw: &Field<Vec<Field<RawRule>>>, own: &[String]) -> Vec<ForwardRule> {
        let items = raw.or_default();
        self.check_count(&items, self.limits.forwarding_rules, "rules");
        items.iter().map(|item| self.rule(item, own)).collect()
    }

    fn rule(&mut self, item: &Field<RawRule>, own: &[String]) -> ForwardRule {
        let raw = item.or_default();
        let subject = NamedList {
            name: "subject_contains",
            here: &raw.subject_contains,
            file: &raw.subject_contains_file,
        };
        let from = NamedList {
            name: "from_suffixes",
            here: &raw.from_suffixes,
            file: &raw.from_suffixes_file,
        };
        let subject_contains = self.condition(subject);
        let from_suffixes = self.condition(from);
        let free = !raw.attachment.is_given() && !raw.size.is_given();
        if item.value.is_some() && free && !subject.is_given() && !from.is_given() {
            let help = "add a condition, or use `mode: all` for every mail";
            let message = "a rule without conditions applies to no mail";
            self.report
                .warning("no-condition", item.place(), message, help);
        }
        let size = raw
            .size
            .get()
            .and_then(|size| self.size(size, raw.size.key()));
        ForwardRule {
            paused: raw.paused.or_default(),
            any: raw.r#match.or_default() == RawMatch::Any,
            subject_contains,
            from_suffixes,
            attachment: raw.attachment.value,
            size,
            redirect: match item.get() {
                Some(rule) => self.redirect(&rule.to, &rule.keep_copy, item.place(), own),
                None => Redirect::default(),
            },
            origin: self.report.origin(item.place()),
        }
    }

    fn condition<S: patterns::Set>(&mut self, list: NamedList<'_>) -> Option<S> {
        if !list.is_given() {
            return None;
        }
        let lines = patterns::load(self.report, list, self.files);
        let most = self.limits.forwarding_pattern_bytes;
        patterns::check_bytes(self.report, list, &lines, most);
        Some(patterns::compile(self.report, &lines, Severity::Warning))
    }

    fn size(&mut self, raw: &RawSize, key: Place) -> Option<SizeCondition> {
        match (&raw.at_least.value, &raw.at_most.value) {
            (Some(_), Some(_)) => {
                let help = "a rule has one bound";
                let message = "`at_least` and `at_most` exclude each other";
                let at = raw.at_least.key().later(raw.at_most.key());
                self.report.error_help("conflict", at, message, help);
                None
            }
            (Some(Text(Size(size))), None) => Some(SizeCondition::AtLeast(*size)),
            (None, Some(Text(Size(size)))) => Some(SizeCondition::AtMost(*size)),
            (None, None) => {
                if !raw.at_least.is_given() && !raw.at_most.is_given() {
                    self.report
                        .error("missing", key, "`at_least` or `at_most` is wanted");
                }
                None
            }
        }
    }

    fn redirect(
        &mut self,
        to: &Field<Vec<Field<Text<Mail>>>>,
        keep_copy: &Field<bool>,
        at: Place,
        own: &[String],
    ) -> Redirect {
        self.check_targets(to, self.limits.forwarding_targets, "targets");
        for item in to.or_default() {
            // The operator's defaults may name a mailbox, which then keeps its own mail.
            let of_defaults = item.place().file == DAEMON_FILE;
            let is_own = item
                .get()
                .is_some_and(|Text(Mail(a))| own.contains(&a.key()));
            if is_own && !of_defaults {
                let help = "`keep_copy: true` keeps the mail";
                let message = "a forward to the mailbox itself";
                self.report
                    .error_help("own-address", item.place(), message, help);
            }
        }
        if to.get().map_or(!to.is_given(), Vec::is_empty) {
            let at = if to.is_given() { to.key() } else { at };
            self.report
                .error_help("missing", at, "nobody to forward to", "add `to: [address]`");
        }
        Redirect {
            to: self.addresses(to),
            keep_copy: keep_copy.or_default(),
        }
    }

    fn notify(&mut self, raw: &RawNotify, own: &[String]) -> Option<Notify> {
        self.check_targets(&raw.to, self.limits.notify_addresses, "addresses");
        for item in raw.to.or_default() {
            let of_defaults = item.place().file == DAEMON_FILE;
            let is_own = item
                .get()
                .is_some_and(|Text(Mail(a))| own.contains(&a.key()));
            if is_own && !of_defaults {
                let help = "name an address that is read elsewhere";
                let message = "a notice of each mail into the same mailbox";
                self.report
                    .warning("own-address", item.place(), message, help);
            }
        }
        let fields = self.notify_fields(&raw.fields.or_default());
        if fields.is_empty() {
            self.report
                .error("empty", raw.fields.key(), "a notice that tells nothing");
        }
        let to = self.addresses(&raw.to);
        (!to.is_empty()).then_some(Notify { to, fields })
    }

    fn notify_fields(&mut self, items: &[Field<RawNotifyField>]) -> Vec<NotifyField> {
        let mut fields = Vec::new();
        for item in items {
            let field = match item.value {
                None => continue,
                Some(RawNotifyField::From) => NotifyField::From,
                Some(RawNotifyField::To) => NotifyField::To,
                Some(RawNotifyField::Subject) => NotifyField::Subject,
                Some(RawNotifyField::Attachment) => NotifyField::Attachment,
                Some(RawNotifyField::Size) => NotifyField::Size,
            };
            if fields.contains(&field) {
                self.report
                    .error("duplicate", item.place(), "this word is there already");
            }
            fields.push(field);
        }
        fields
    }

    fn auto_reply(&mut self, section: &Field<RawAutoReply>) -> Option<AutoReply> {
        let raw = section.or_default();
        let start = self.instant(&raw.start);
        let end = self.instant(&raw.end);
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            let at = if raw.end.is_given() {
                raw.end.place()
            } else {
                raw.start.place()
            };
            self.report.error("range", at, "`end` is before `start`");
        }
        let enabled = raw.enabled.or_default();
        let message = self.reply_text(&raw.message);
        if enabled
            && message.trim().is_empty()
            && (raw.message.value.is_some() || !raw.message.is_given())
        {
            let at = if raw.message.is_given() {
                raw.message.key()
            } else {
                raw.enabled.place()
            };
            self.report
                .error_help("missing", at, "a reply without a text", "add `message: |`");
        }
        let reply = AutoReply {
            start,
            end,
            subject: self.one_line(&raw.subject),
            message,
            per_sender: raw
                .per_sender
                .or_default()
                .iter()
                .map(|item| self.sender_reply(item))
                .collect(),
            interval: i64::try_from(self.limits.auto_reply_interval.as_secs()).unwrap_or(i64::MAX),
        };
        enabled.then_some(reply)
    }

    fn sender_reply(&mut self, item: &Field<RawSenderReply>) -> SenderReply {
        let raw = item.or_default();
        let list = NamedList {
            name: "senders",
            here: &raw.senders,
            file: &raw.senders_file,
        };
        let lines = patterns::load(self.report, list, self.files);
        let senders = patterns::compile(self.report, &lines, Severity::Warning);
        if item.value.is_some() && !list.is_given() {
            self.report
                .error("missing", item.place(), "`senders` is missing");
        }
        let message = self.reply_text(&raw.message);
        let unwritten = raw.message.value.is_some() || !raw.message.is_given();
        if item.value.is_some() && unwritten && message.trim().is_empty() {
            let at = if raw.message.is_given() {
                raw.message.key()
            } else {
                item.place()
            };
            self.report.error("missing", at, "a reply without a text");
        }
        SenderReply { senders, message }
    }

    fn reply_text(&mut self, raw: &Field<String>) -> String {
        let text = raw.or_default();
        let most = self.limits.auto_reply_message_bytes;
        if text.len() as u64 > most {
            let message = format!("a text of {} bytes, at most {most} are allowed", text.len());
            self.report.error("too-big", raw.key(), message);
        }
        text
    }

    /// RFC 3339 with an offset, or the local time of the mailbox's zone. Unix seconds.
    fn instant(&mut self, raw: &Field<String>) -> Option<i64> {
        let text = raw.get()?.trim();
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Some(instant.as_second());
        }
        let local = text
            .parse::<jiff::civil::DateTime>()
            .ok()
            .filter(|_| text.contains([':']));
        let zoned = local.and_then(|local| self.timezone.to_zoned(local).ok());
        if zoned.is_none() {
            let help = "`2026-12-28T00:00:00+09:00`, or without the offset in `timezone`";
            let message = format!("{text:?} is no point in time");
            self.report.error_help("value", raw.place(), message, help);
        }
        zoned.map(|zoned| zoned.timestamp().as_second())
    }

    /// Text that goes into a header field: one line, no control characters.
    fn one_line(&mut self, raw: &Field<String>) -> String {
        let text = raw.or_default();
        let text = text.trim_end_matches('\n');
        if text.chars().any(char::is_control) {
            self.report.error(
                "value",
                raw.place(),
                "one line without control characters is wanted",
            );
        }
        text.to_owned()
    }

    /// Too many: the first surplus one is named.
    fn check_count<T>(&mut self, items: &[Field<T>], most: u64, what: &str) {
        if let Some(surplus) = items.get(usize::try_from(most).unwrap_or(usize::MAX)) {
            let message = format!("{} {what}, at most {most} are allowed", items.len());
            self.report.error("too-many", surplus.place(), message);
        }
    }

    /// Too many, or twice the same: the second one is named.
    fn check_targets(&mut self, to: &Field<Vec<Field<Text<Mail>>>>, most: u64, what: &str) {
        let items = to.or_default();
        self.check_count(&items, most, what);
        let mut seen = std::collections::HashSet::new();
        for item in &items {
            let again = item
                .get()
                .is_some_and(|Text(Mail(address))| !seen.insert(address.key()));
            if again {
                self.report
                    .error("duplicate", item.place(), "this address is there already");
            }
        }
    }

    fn addresses(&self, raw: &Field<Vec<Field<Text<Mail>>>>) -> Vec<Address> {
        let items = raw.or_default();
        items
            .into_iter()
            .filter_map(|item| item.value)
            .map(|Text(Mail(address))| address)
            .collect()
    }
}

/// Reports a `mailbox:` that is not the one that the file's path says.
pub(crate) fn check_path(report: &mut Report, dir: &Path, path: &Path, raw: &RawMailbox) {
    let Some(Text(Mail(address))) = raw.mailbox.get() else {
        return;
    };
    let candidates = location::candidates(&location::absolute(dir), address);
    if !candidates.contains(&location::absolute(path)) {
        let wanted = candidates
            .first()
            .map(|p| p.display().to_string())
            .unwrap_or_default();
        let message = format!("this is the place of another mailbox than {address}");
        let help = format!("the settings of {address} belong into {wanted}");
        report.error_help("mailbox-path", raw.mailbox.place(), message, help);
    }
}
