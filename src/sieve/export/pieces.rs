//! The tests and actions that scripts are made of.

use super::super::script::Node;
use super::{Finding, QUARANTINE};
use crate::mail::Address;
use crate::policy::{
    AutoReply, HeaderCondition, Language, Notify, NotifyField, Policy, SizeCondition,
};

pub(super) const DAY: i64 = 24 * 60 * 60;

/// Text of the settings in a script with variables: no `${` in it may be taken for one (RFC 5229).
pub(super) fn literal(text: &str) -> String {
    text.replace("${", "${dollar}{")
}

/// A `:matches` pattern of what ends so.
pub(super) fn ends_with(text: &str) -> String {
    let mut pattern = String::from("*");
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    literal(&pattern)
}

pub(super) fn set(name: &str, value: &str) -> Node {
    Node::new("set").string(name).string(value)
}

pub(super) fn is_set(name: &str) -> Node {
    Node::new("string")
        .tag("is")
        .string(format!("${{{name}}}"))
        .string("yes")
}

/// Keeps a header field's text as the variable of its name.
pub(super) fn remembered(name: &str) -> Node {
    let any = Node::new("header").tag("matches").string(name).string("*");
    Node::new("if").test(any).block(vec![set(name, "${1}")])
}

pub(super) fn file() -> Node {
    Node::new("fileinto").tag("create").string(QUARANTINE)
}

pub(super) fn held(stage: &str, test: Node) -> Node {
    let block = vec![file(), Node::new("stop")];
    Node::new("if")
        .test(test)
        .block(block)
        .comment("")
        .comment(stage)
}

pub(super) fn exists(field: &str) -> Node {
    Node::new("exists").string(field)
}

pub(super) fn header_test(condition: HeaderCondition) -> Node {
    let not_blank = |field: &str| {
        Node::new("header")
            .tag("matches")
            .string(field)
            .string("?*")
    };
    let blank = |field: &str| Node::all(vec![exists(field), Node::negated(not_blank(field))]);
    match condition {
        HeaderCondition::FromMissing => Node::negated(exists("from")),
        HeaderCondition::SubjectMissing => Node::negated(exists("subject")),
        HeaderCondition::FromEmpty => blank("from"),
        HeaderCondition::SubjectEmpty => blank("subject"),
        HeaderCondition::FromEmptyAddress => {
            let address = Node::new("address")
                .tag("all")
                .tag("matches")
                .string("from")
                .string("?*@?*");
            Node::all(vec![not_blank("from"), Node::negated(address)])
        }
    }
}

pub(super) fn size_test(condition: SizeCondition) -> Node {
    let over = |octets: u64| Node::new("size").tag("over").number(octets);
    match condition {
        SizeCondition::AtLeast(0) => Node::new("true"),
        SizeCondition::AtLeast(octets) => over(octets - 1),
        SizeCondition::AtMost(octets) => Node::negated(over(octets)),
    }
}

pub(super) fn matching(field: &str, regex: impl Into<String>) -> Node {
    Node::new("header").tag("regex").string(field).string(regex)
}

/// The field's value begins with the word, and the word ends there.
pub(super) fn found(field: Finding<'_>) -> Node {
    let mut regex = String::from("^[[:space:]]*");
    for c in field.word.chars() {
        if "\\^$.[]|()*+?{}".contains(c) {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex.push_str("([^[:alnum:]]|$)");
    matching(field.header, literal(&regex))
}

/// Sets the variable `attachment` (RFC 5703): the contract's words for what one is.
pub(super) fn attachment() -> Node {
    let field = |name: &str, part: &str, kind: &str, texts: &[&str]| {
        let node = Node::new("header")
            .tag("mime")
            .tag(part)
            .tag(kind)
            .string(name);
        node.strings(texts.iter().map(|text| (*text).to_owned()).collect())
    };
    let kind = |part, texts: &[&str]| field("Content-Type", part, "is", texts);
    let param = |name: &str, param: &str| {
        let node = Node::new("header").tag("mime").tag("param").string(param);
        node.tag("matches").string(name).string("?*")
    };
    let disposition = |texts: &[&str]| field("Content-Disposition", "type", "is", texts);
    let named = Node::any(vec![
        param("Content-Type", "name"),
        param("Content-Disposition", "filename"),
    ]);
    let disposed = field("Content-Disposition", "type", "matches", &["?*"]);
    let elsewhere = Node::all(vec![disposed, Node::negated(disposition(&["inline"]))]);
    let typed = field("Content-Type", "type", "matches", &["?*"]);
    let no_text = Node::all(vec![typed, Node::negated(kind("type", &["text"]))]);
    let apart = Node::any(vec![
        elsewhere,
        no_text,
        kind("contenttype", &["text/calendar"]),
    ]);
    let leaf = Node::all(vec![
        named,
        Node::negated(kind("type", &["multipart"])),
        Node::negated(kind("contenttype", &["text/rfc822-headers"])),
        apart,
    ]);
    let test = Node::any(vec![
        kind("contenttype", &["message/rfc822", "message/global"]),
        disposition(&["attachment"]),
        leaf,
    ]);
    let yes = vec![set("attachment", "yes"), Node::new("break")];
    let each = Node::new("if").test(test).block(yes);
    Node::new("foreverypart")
        .block(vec![each])
        .comment("")
        .comment("an attachment?")
}

pub(super) fn own_keys(policy: &Policy) -> Vec<String> {
    let own = std::iter::once(&policy.mailbox).chain(&policy.aliases);
    own.map(Address::key).collect()
}

/// Comments (RFC 5322 3.2.2, one deep) and white space.
const GAP: &str = "([[:space:]]|\\([^)]*\\))*";

/// `Auto-Submitted` with another word than `no`.
pub(super) fn auto_submitted() -> Node {
    let other = "([^n([:space:]]|n([^o]|$)|no[^[:space:];(]|$)";
    matching("auto-submitted", format!("^{GAP}{other}"))
}

/// Whom nobody answers; Pigeonhole's `vacation` knows some of them, we say all.
pub(super) fn robots() -> Vec<Node> {
    let any_field = |names: &[&str]| names.iter().map(|name| exists(name)).collect::<Vec<_>>();
    let first_word =
        |field, words: &str| matching(field, format!("^{GAP}({words})[[:space:]]*([;(]|$)"));
    let mut tests = vec![auto_submitted()];
    tests.extend(any_field(&[
        "list-id",
        "list-help",
        "list-subscribe",
        "list-unsubscribe",
        "list-post",
        "list-owner",
        "list-archive",
    ]));
    tests.push(first_word("precedence", "bulk|list|junk"));
    tests.extend(any_field(&["x-autoreply", "x-autorespond", "x-loop"]));
    tests.push(matching(
        "x-auto-response-suppress",
        "(^|[,;[:space:]])(all|autoreply|oof)([,;[:space:]]|$)",
    ));
    tests.push(first_word(
        "content-type",
        "multipart/report|message/delivery-status|message/disposition-notification|\
         message/global-delivery-status|message/global-disposition-notification",
    ));
    let roles = Node::new("envelope")
        .tag("localpart")
        .tag("regex")
        .string("from");
    tests.push(roles.strings(roles_regexes()));
    tests
}

/// Local parts of programs, as stage 9 knows them.
pub(super) fn roles_regexes() -> Vec<String> {
    let squeezed = |word: &str| {
        let letters: Vec<String> = word.chars().map(String::from).collect();
        format!("^[-_.]*{}", letters.join("[-_.]*"))
    };
    let mut regexes = vec![squeezed("noreply"), squeezed("donotreply")];
    let exact = [
        "^(listserv|majordomo)([+=]|$)",
        "^(mailer-daemon|owner-|bounce|srs[01][=+-]|prvs=)",
        "-request",
        "^[^+=]*(-bounces|[-_.]noreply|-no-reply|_no_reply|\\.no-reply|-donotreply|-do-not-reply)([+=]|$)",
    ];
    regexes.extend(exact.map(str::to_owned));
    regexes
}

/// A point in time beside now; both as UTC text, so that they order as text.
pub(super) fn moment(relation: &str, seconds: i64) -> Node {
    let utc = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let text = utc.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let node = Node::new("currentdate")
        .tag("zone")
        .string("+0000")
        .tag("value")
        .string(relation);
    node.string("iso8601").string(text)
}

pub(super) fn vacation(policy: &Policy, reply: &AutoReply, message: &str) -> Node {
    // A sender gets one reply, whatever its text.
    let mut node = Node::new("vacation")
        .tag("days")
        .number(days(reply.interval))
        .tag("handle")
        .string("auto_reply");
    if !reply.subject.is_empty() {
        let parts: Vec<String> = reply.subject.split("%{subject}").map(literal).collect();
        node = node.tag("subject").string(parts.join("${subject}"));
    }
    let own = std::iter::once(&policy.mailbox).chain(&policy.aliases);
    let own = own.map(|address| literal(&address.to_string())).collect();
    node.tag("addresses").strings(own).string(literal(message))
}

pub(super) fn days(seconds: i64) -> u64 {
    u64::try_from(seconds)
        .unwrap_or(0)
        .div_ceil(DAY.unsigned_abs())
        .max(1)
}

/// A notice for each target (RFC 5435, 5436), its text behind variables of the mail.
pub(super) fn notices(policy: &Policy, notify: &Notify) -> Vec<Node> {
    let (title, words) = match policy.language {
        Language::Ja => (
            "メール受信のお知らせ",
            ["差出人", "宛先", "件名", "添付ファイル"],
        ),
        Language::En => ("You have new mail", ["From", "To", "Subject", "Attachment"]),
    };
    let mut commands = Vec::new();
    let mut body = String::new();
    for field in &notify.fields {
        let [from, to, subject, attachment] = words;
        let (label, value) = match field {
            NotifyField::From => (from, "${from}".to_owned()),
            NotifyField::To => (to, literal(&policy.mailbox.to_string())),
            NotifyField::Subject => (subject, "${subject}".to_owned()),
            NotifyField::Attachment => (attachment, "${attachment}".to_owned()),
            NotifyField::Size => continue,
        };
        match field {
            NotifyField::From => commands.push(remembered("from")),
            NotifyField::Subject => commands.push(remembered("subject")),
            NotifyField::To | NotifyField::Attachment | NotifyField::Size => {}
        }
        body.push_str(&format!("{label}: {value}\n"));
    }
    commands.push(
        Node::new("set")
            .tag("encodeurl")
            .string("body")
            .string(body),
    );
    for to in &notify.to {
        let method = format!("mailto:{}?body=${{body}}", uri(&to.to_string()));
        commands.push(
            Node::new("notify")
                .tag("message")
                .string(title)
                .string(method),
        );
    }
    commands
}

/// An address in a mailto URI (RFC 6068).
pub(super) fn uri(address: &str) -> String {
    let mut uri = String::new();
    for octet in address.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~@!+'*".contains(&octet) {
            uri.push(char::from(octet));
        } else {
            uri.push_str(&format!("%{octet:02X}"));
        }
    }
    uri
}
