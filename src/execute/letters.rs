//! From a decision to the letters of [`compose`]: who writes, to whom, when.

use bytes::Bytes;
use jiff::tz::TimeZone;

use super::{Mail, Task};
use crate::config::{Config, Mailbox};
use crate::mail::compose::{self, Infection, Kept, Letter, Original, Report, Rest};
use crate::mail::notice::{self, Daily, HeldEntry, Reason};
use crate::mail::{Address, compose::Mailbox as Named};
use crate::policy::{NotifyField, SCANNER_ERROR, Stage};
use crate::scan::Remains;
use crate::store::{Id, QuarantineEntry};
use crate::view::zoned;

/// A day, in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

/// The receipt notice of stage 8 for one of its addresses.
pub(super) fn receipt_notice(
    task: &Task,
    mail: &Mail,
    id: Id,
    to: &Address,
    fields: &[NotifyField],
) -> Vec<u8> {
    let letter = Draft::new(&mail.config, &task.mailbox, id, mail.received_at);
    compose::receipt_notice(&letter.to(to), fields, &original(task, mail))
}

/// The reply of stage 9; it comes from the mailbox itself.
pub(super) fn auto_reply(
    task: &Task,
    mail: &Mail,
    id: Id,
    to: &Address,
    subject: &str,
    message: &str,
) -> Vec<u8> {
    let draft = Draft::new(&mail.config, &task.mailbox, id, mail.received_at);
    let own = Letter {
        from: Named {
            name: String::new(),
            address: task.mailbox.policy.mailbox.clone(),
        },
        reply_to: None,
        signature: "",
        ..draft.to(to)
    };
    compose::auto_reply(&own, subject, message, &original(task, mail))
}

/// The report that replaces an infected mail, in pieces. Without a cure nobody has looked into
/// it: its header alone is shown. So it is where what remains makes a report over `message_size`,
/// which the next hop may refuse.
pub(super) fn virus_report(
    task: &Task,
    mail: &Mail,
    id: Id,
    virus: &str,
    held: Option<&QuarantineEntry>,
) -> Vec<Bytes> {
    let draft = Draft::new(&mail.config, &task.mailbox, id, mail.received_at);
    let head = mail.raw.head();
    let header = head.get(..mail.message.body_start).unwrap_or(head);
    let original = original(task, mail);
    let held = held.map(|held| held_entry(held, &task.mailbox.timezone, false));
    let kept = held.as_ref().map(|held| Kept {
        id: &held.id,
        until: &held.expires_at,
    });
    let report = |rest: Rest<'_>| {
        let infection = Infection {
            virus,
            parts: task.scanned.cure.as_ref().map_or(&[], |cure| &cure.parts),
            rest,
            kept,
        };
        let letter = draft.to(&task.mailbox.policy.mailbox);
        compose::virus_report(&letter, &infection, &original)
    };
    let rest = match task.scanned.cure.as_ref().map(|cure| &cure.remains) {
        Some(Remains::Mail(remains)) => {
            let octets: Vec<&[u8]> = remains.iter().map(AsRef::as_ref).collect();
            let report = report(Rest::Mail(&octets));
            let pieces = around(report, remains);
            if size(&pieces) <= mail.config.server.limits.message_size {
                return pieces;
            }
            Rest::TooLarge(header)
        }
        Some(Remains::Header) | None => Rest::Header(header),
        Some(Remains::Nothing) => Rest::Nothing,
    };
    around(report(rest), &[])
}

fn around(report: Report, enclosed: &[Bytes]) -> Vec<Bytes> {
    let (head, tail) = (Bytes::from(report.head), Bytes::from(report.tail));
    let pieces = [&[head], enclosed, &[tail]].concat();
    pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect()
}

fn size(pieces: &[Bytes]) -> u64 {
    let octets: usize = pieces.iter().map(Bytes::len).sum();
    u64::try_from(octets).unwrap_or(u64::MAX)
}

/// The notice of one held mail.
pub(super) fn quarantine_notice(
    task: &Task,
    mail: &Mail,
    id: Id,
    held: &QuarantineEntry,
) -> Vec<u8> {
    let draft = Draft::new(&mail.config, &task.mailbox, id, mail.received_at);
    let expiring = held.expires_at.saturating_sub(held.received_at) <= DAY;
    let entry = held_entry(held, &task.mailbox.timezone, expiring);
    notice::one_held(&draft.to(&task.mailbox.policy.mailbox), &entry)
}

/// The daily notice of a mailbox's held mail, for the daemon's clock.
pub(crate) fn daily_notice(
    config: &Config,
    mailbox: &Mailbox,
    id: Id,
    now: i64,
    daily: &Daily,
) -> Vec<u8> {
    let draft = Draft::new(config, mailbox, id, now);
    notice::report(&draft.to(&mailbox.policy.mailbox), daily)
}

/// Unix milliseconds as an RFC 5322 date-time.
pub(super) fn rfc5322(millis: i64, timezone: &TimeZone) -> String {
    let zoned = zoned(millis, timezone);
    jiff::fmt::rfc2822::to_string(&zoned)
        .unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".into())
}

/// What all letters of one mailbox have.
struct Draft<'a> {
    config: &'a Config,
    mailbox: &'a Mailbox,
    date: String,
    message_id: String,
}

impl<'a> Draft<'a> {
    fn new(config: &'a Config, mailbox: &'a Mailbox, id: Id, now: i64) -> Self {
        Self {
            config,
            mailbox,
            date: rfc5322(now, &mailbox.timezone),
            message_id: format!("<{id}@{}>", config.server.hostname),
        }
    }

    fn to<'b>(&'b self, to: &'b Address) -> Letter<'b> {
        let relay = &self.config.relay;
        let language = self.mailbox.policy.language;
        Letter {
            language,
            from: Named {
                name: relay.from.name.clone(),
                address: relay.from.address.clone(),
            },
            to,
            reply_to: relay.reply_to.as_ref(),
            mailbox: &self.mailbox.policy.mailbox,
            date: &self.date,
            message_id: &self.message_id,
            signature: relay.signature.of(language),
        }
    }
}

fn original(task: &Task, mail: &Mail) -> Original {
    let message = &mail.message;
    let text = |name: &str| {
        message
            .header
            .first(name)
            .map(|field| field.text())
            .unwrap_or_default()
    };
    let references = match text("references") {
        none if none.is_empty() => text("in-reply-to"),
        references => references,
    };
    Original {
        from: message.from_text.clone(),
        subject: message.subject_text().to_owned(),
        size: message.size,
        attachment: message.attachment,
        received_at: for_a_person(mail.received_at, &task.mailbox.timezone),
        message_id: message.message_id(),
        references,
    }
}

/// A held mail as a notice tells of it; `expiring`: it goes within a day.
pub(crate) fn held_entry(held: &QuarantineEntry, timezone: &TimeZone, expiring: bool) -> HeldEntry {
    let entry = held.entry.clone().unwrap_or_default();
    HeldEntry {
        id: held.id.to_string(),
        from: held.from.clone(),
        subject: held.subject.clone(),
        received_at: for_a_person(held.received_at, timezone),
        expires_at: for_a_person(held.expires_at, timezone),
        expiring,
        size: held.size,
        reason: match Stage::named(&held.stage) {
            Some(Stage::RejectFromSuffixes) => Reason::FromSuffix(entry),
            Some(Stage::RejectSubjectContains) => Reason::SubjectContains(entry),
            Some(Stage::RejectHeaders) => Reason::Header(entry),
            _ if entry == SCANNER_ERROR => Reason::NotScanned,
            _ => Reason::Spam,
        },
    }
}

fn for_a_person(millis: i64, timezone: &TimeZone) -> String {
    zoned(millis, timezone)
        .strftime("%Y-%m-%d %H:%M %:z")
        .to_string()
}
