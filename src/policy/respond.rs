//! Stage 9: who gets the owner's automatic reply, and above all who never does.
//!
//! A reply goes to the reverse path only, and only if nothing in [`Policy::no_reply`] speaks
//! against it (RFC 3834 section 2, RFC 5230 4.5 and 4.6, RFC 5321 4.5.5). That the sender had a
//! reply within the window is the store's to know: the action carries the window.

use super::{
    Action, Arrival, AutoReply, Hit, NoReply, Outcome, Plan, Policy, Stage, Step, Verdict,
};
use crate::mail::fold::fold_address;
use crate::mail::{Address, Field, Message, ReversePath};

impl Policy {
    pub(super) fn auto_reply_stage(
        &self,
        plan: &mut Plan,
        message: &Message,
        arrival: &Arrival<'_>,
    ) {
        match self.reply_to(plan, message, arrival) {
            Ok((reply, to)) => {
                let (message, hit) = reply.text_for(to);
                plan.note(Stage::AutoReply, Outcome::Match, hit);
                plan.actions.push(Action::AutoReply {
                    to: to.clone(),
                    subject: reply.subject.clone(),
                    message: message.to_owned(),
                    window: reply.interval,
                });
            }
            Err(reason) => {
                plan.no_reply = Some(reason);
                plan.trail.push(match reason {
                    NoReply::Off | NoReply::Quarantined | NoReply::Virus | NoReply::Spam => {
                        self.unasked(Stage::AutoReply)
                    }
                    _ => Step::asked(Stage::AutoReply, None),
                });
            }
        }
    }

    /// The reply and whom it goes to, or the first reason against it.
    fn reply_to<'a>(
        &'a self,
        plan: &Plan,
        message: &Message,
        arrival: &Arrival<'a>,
    ) -> Result<(&'a AutoReply, &'a Address), NoReply> {
        let reply = self.auto_reply.as_ref().ok_or(NoReply::Off)?;
        if plan.verdict == Verdict::Replace {
            return Err(NoReply::Virus);
        }
        let tagged = |step: &Step| step.stage == Stage::Spam && step.outcome == Outcome::Match;
        if plan.trail.iter().any(tagged) {
            return Err(NoReply::Spam);
        }
        if reply.start.is_some_and(|start| arrival.now < start) {
            return Err(NoReply::NotStarted);
        }
        if reply.end.is_some_and(|end| arrival.now > end) {
            return Err(NoReply::Ended);
        }
        let ReversePath::Address(sender) = arrival.sender else {
            return Err(NoReply::NullSender);
        };
        if let Some(reason) = robot_reason(message) {
            return Err(reason);
        }
        if is_role(sender.local()) {
            return Err(NoReply::RoleSender);
        }
        let own = self.own_keys(arrival);
        if own.contains(&sender.key()) {
            return Err(NoReply::OwnAddress);
        }
        if !is_addressed(message, &own) {
            return Err(NoReply::NotAddressed);
        }
        if Self::is_looping(message, arrival) {
            return Err(NoReply::Loop);
        }
        Ok((reply, sender))
    }
}

impl AutoReply {
    /// The sender's own text with the entry that chose it, or the common one.
    fn text_for(&self, sender: &Address) -> (&str, Option<Hit>) {
        let folded = fold_address(&sender.to_string());
        self.per_sender
            .iter()
            .find_map(|reply| Some((reply.message.as_str(), reply.senders.find(&folded)?)))
            .map_or((&self.message, None), |(message, hit)| (message, Some(hit)))
    }
}

/// `Auto-Submitted` with anything but `no` (RFC 3834 section 5; comments and parameters are
/// allowed behind it).
pub(super) fn is_auto_submitted(message: &Message) -> bool {
    let mut fields = message.header.all("Auto-Submitted");
    fields.any(|field| first_token(field) != "no")
}

/// What the header fields say of a sender that is a program.
fn robot_reason(message: &Message) -> Option<NoReply> {
    let header = &message.header;
    let present = |names: &[&str]| names.iter().any(|name| header.first(name).is_some());
    if is_auto_submitted(message) {
        Some(NoReply::AutoSubmitted)
    } else if present(&LIST_FIELDS) {
        Some(NoReply::MailingList)
    } else if header
        .all("Precedence")
        .any(|field| ["bulk", "list", "junk"].contains(&first_token(field).as_str()))
    {
        Some(NoReply::Precedence)
    } else if present(&ROBOT_FIELDS) || header.all("X-Auto-Response-Suppress").any(suppresses) {
        Some(NoReply::Suppressed)
    } else if header
        .all("Content-Type")
        .any(|field| REPORT_TYPES.contains(&first_token(field).as_str()))
    {
        Some(NoReply::Report)
    } else {
        None
    }
}

/// RFC 2369 and RFC 2919, as RFC 5230 4.6 lists them.
const LIST_FIELDS: [&str; 7] = [
    "List-Id",
    "List-Help",
    "List-Subscribe",
    "List-Unsubscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
];

/// Fields that responders put into what they send, whatever their value.
const ROBOT_FIELDS: [&str; 3] = ["X-Autoreply", "X-Autorespond", "X-Loop"];

/// Notifications about another mail (RFC 6522, 3464, 8098, 6533).
const REPORT_TYPES: [&str; 5] = [
    "multipart/report",
    "message/delivery-status",
    "message/disposition-notification",
    "message/global-delivery-status",
    "message/global-disposition-notification",
];

/// `X-Auto-Response-Suppress` (MS-OXCMAIL) with a word that covers replies like ours.
fn suppresses(field: &Field) -> bool {
    without_comments(&field.value)
        .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .any(|word| ["all", "autoreply", "oof"].contains(&word))
}

/// A structured value up to its parameters, in lower case, without comments and white space.
fn first_token(field: &Field) -> String {
    let value = without_comments(&field.value);
    let token = value.split(';').next().unwrap_or_default();
    token.split_whitespace().collect()
}

/// A value in lower case, its comments (RFC 5322 3.2.2, nested ones too) as spaces.
fn without_comments(value: &[u8]) -> String {
    let mut depth = 0_usize;
    let mut quoted_pair = false;
    let mut plain = String::with_capacity(value.len());
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            _ if quoted_pair => quoted_pair = false,
            '\\' => quoted_pair = true,
            '(' => depth += 1,
            ')' if depth > 0 => {
                depth -= 1;
                plain.push(' ');
            }
            _ if depth == 0 => plain.push(c.to_ascii_lowercase()),
            _ => {}
        }
    }
    plain
}

/// One of the owner's addresses stands in a field that names recipients (RFC 5230 4.5).
fn is_addressed(message: &Message, own: &[String]) -> bool {
    RECIPIENT_FIELDS.iter().any(|name| {
        let named = message.header.address_keys(name);
        named.iter().any(|key| own.contains(key))
    })
}

/// The fields of RFC 5230 4.5.
const RECIPIENT_FIELDS: [&str; 6] = ["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"];

/// A local part that programs and list managers send from (RFC 5230 4.6 and common practice).
/// `postmaster` is a person.
fn is_role(local: &str) -> bool {
    let local = local.to_lowercase();
    let local = local.trim_matches('"');
    let name = local.split(['+', '=']).next().unwrap_or(local);
    let squeezed = name.replace(['-', '_', '.'], "");
    ["listserv", "majordomo"].contains(&name)
        || ROLE_STARTS.iter().any(|start| local.starts_with(start))
        || local.contains("-request")
        || name.ends_with("-bounces")
        || ["noreply", "donotreply"]
            .iter()
            .any(|start| squeezed.starts_with(start))
        || NO_REPLY_ENDS.iter().any(|end| name.ends_with(end))
}

/// `SRS0` and `SRS1` with their three separators, and BATV's `prvs`: rewritten reverse paths.
const ROLE_STARTS: [&str; 10] = [
    "mailer-daemon",
    "owner-",
    "bounce",
    "srs0=",
    "srs0+",
    "srs0-",
    "srs1=",
    "srs1+",
    "srs1-",
    "prvs=",
];

/// `shop-noreply`, `shop.no-reply`; a mere `noreply` at the end may be a name's (`casinoreply`).
const NO_REPLY_ENDS: [&str; 8] = [
    "-noreply",
    "_noreply",
    ".noreply",
    "-no-reply",
    "_no_reply",
    ".no-reply",
    "-donotreply",
    "-do-not-reply",
];
