//! Mail of programs, told by its header fields and its reverse path: it gets no notice and no
//! reply (RFC 3834 section 2, RFC 5230 4.6, RFC 5436). `respond` has the tests.

use super::NoReply;
use crate::mail::{Field, Message};

/// `Auto-Submitted` with anything but `no` (RFC 3834 section 5; comments and parameters are
/// allowed behind it).
pub(super) fn is_auto_submitted(message: &Message) -> bool {
    let mut fields = message.header.all("Auto-Submitted");
    fields.any(|field| first_token(field) != "no")
}

/// What the header fields say of a sender that is a program.
pub(super) fn reason(message: &Message) -> Option<NoReply> {
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

/// A local part that programs and list managers send from (RFC 5230 4.6 and common practice).
/// `postmaster` is a person.
pub(super) fn is_role(local: &str) -> bool {
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
