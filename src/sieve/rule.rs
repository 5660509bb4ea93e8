//! The conditions of a script that settings know too.

use super::script::{Argument, Node, Place};
use crate::mail::fold::{fold, fold_address};

/// Characters of an entry (the built-in limits).
const SUBJECT_CHARS: std::ops::RangeInclusive<usize> = 2..=320;
const SUFFIX_CHARS: std::ops::RangeInclusive<usize> = 1..=320;

/// Why something was not taken, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) place: Place,
    pub(super) reason: String,
}

pub(super) fn refuse<T>(node: &Node, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        place: node.place,
        reason: reason.into(),
    })
}

/// One test that settings can ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    /// Every mail.
    True,
    /// The Subject contains one of them.
    Subject(Vec<String>),
    /// An address of the header From: entries that are ends, and whether some stood for whole
    /// addresses in the script.
    From { entries: Vec<String>, whole: bool },
    /// One of `reject.headers`.
    Header(&'static str),
    /// `at_least` or `at_most`, octets.
    Size(&'static str, u64),
}

/// Facts of which all or any must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) any: bool,
    pub(super) facts: Vec<Fact>,
}

/// Reads the test of a rule. `variables`: `${name}` is a variable in this script.
pub(super) fn condition(test: &Node, variables: bool) -> Result<Condition, Refusal> {
    let any = test.name == "anyof";
    let mut facts = Vec::new();
    if any || test.name == "allof" {
        collect(test, &test.name, variables, &mut facts)?;
    } else {
        facts.push(fact(test, variables)?);
    }
    if any && facts.contains(&Fact::True) {
        facts = vec![Fact::True];
    }
    if !any && facts.len() > 1 {
        facts.retain(|fact| *fact != Fact::True);
    }
    // One condition is all and any.
    let any = any && facts.len() > 1;
    Ok(Condition { any, facts })
}

fn collect(test: &Node, join: &str, variables: bool, facts: &mut Vec<Fact>) -> Result<(), Refusal> {
    for inner in test.inner() {
        match inner.name.as_str() {
            name if name == join => collect(inner, join, variables, facts)?,
            "anyof" | "allof" if inner.inner().len() > 1 => {
                return refuse(
                    inner,
                    "`allof` and `anyof` within each other have no counterpart",
                );
            }
            "anyof" | "allof" => collect(inner, join, variables, facts)?,
            _ => facts.push(fact(inner, variables)?),
        }
    }
    Ok(())
}

fn fact(test: &Node, variables: bool) -> Result<Fact, Refusal> {
    match test.name.as_str() {
        "true" => Ok(Fact::True),
        "false" => refuse(test, "the rule is switched off"),
        "not" => negated(test, variables),
        "size" => size(test, false),
        "header" => header(test, variables),
        "address" => address(test, variables),
        "exists" => refuse(test, "that a header field is there cannot be asked"),
        "envelope" => refuse(test, "rules look at the header From, not at the envelope"),
        "body" => refuse(test, "the text of a mail cannot be asked"),
        name => refuse(test, format!("the test `{name}` has no counterpart")),
    }
}

fn negated(test: &Node, variables: bool) -> Result<Fact, Refusal> {
    let [inner] = test.inner() else {
        return refuse(test, "`not` has one test");
    };
    match (inner.name.as_str(), inner.arguments.as_slice()) {
        ("size", _) => size(inner, true),
        ("not", _) => match inner.inner() {
            [twice] => fact(twice, variables),
            _ => refuse(inner, "`not` has one test"),
        },
        ("false", _) => Ok(Fact::True),
        ("exists", [Argument::Strings(fields)]) => match lower(fields).as_slice() {
            [field] if field == "from" => Ok(Fact::Header("from_missing")),
            [field] if field == "subject" => Ok(Fact::Header("subject_missing")),
            _ => refuse(inner, "only From and Subject can be asked for being absent"),
        },
        (name, _) => refuse(
            test,
            format!("`not {name}` has no counterpart: entries hold or allow, none excepts"),
        ),
    }
}

fn size(test: &Node, not: bool) -> Result<Fact, Refusal> {
    let [Argument::Tag(relation), Argument::Number(octets)] = test.arguments.as_slice() else {
        return refuse(test, "`size` wants `:over` or `:under` and a number");
    };
    match (relation.as_str(), not) {
        ("over", false) => Ok(Fact::Size("at_least", octets.saturating_add(1))),
        ("over", true) => Ok(Fact::Size("at_most", *octets)),
        ("under", true) => Ok(Fact::Size("at_least", *octets)),
        ("under", false) if *octets > 0 => Ok(Fact::Size("at_most", octets - 1)),
        _ => refuse(test, "no mail is under 0 octets"),
    }
}

/// The arguments of a `header`, `address` or `envelope` test.
struct Match {
    kind: String,
    part: String,
    fields: Vec<String>,
    keys: Vec<String>,
}

fn arguments(test: &Node, variables: bool) -> Result<Match, Refusal> {
    let mut found = Match {
        kind: "is".to_owned(),
        part: "all".to_owned(),
        fields: Vec::new(),
        keys: Vec::new(),
    };
    let mut lists = Vec::new();
    let mut arguments = test.arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Strings(texts) => lists.push(texts),
            Argument::Number(_) => return refuse(test, "a number has no place here"),
            Argument::Tag(tag) => match tag.as_str() {
                "is" | "contains" | "matches" => found.kind.clone_from(tag),
                "all" | "domain" | "localpart" => found.part.clone_from(tag),
                "comparator" => match arguments.next() {
                    Some(Argument::Strings(names))
                        if *names == ["i;ascii-casemap"] || *names == ["i;unicode-casemap"] => {}
                    _ => {
                        return refuse(
                            test,
                            "with this comparator case counts; here it never does",
                        );
                    }
                },
                "regex" => {
                    return refuse(test, "there are no regular expressions here, on purpose");
                }
                _ => return refuse(test, format!("`:{tag}` has no counterpart")),
            },
        }
    }
    let [fields, keys] = lists.as_slice() else {
        return refuse(test, format!("`{}` wants names and texts", test.name));
    };
    if variables && keys.iter().any(|key| key.contains("${")) {
        return refuse(test, "a variable has no counterpart");
    }
    found.fields = lower(fields);
    found.keys.clone_from(keys);
    Ok(found)
}

fn header(test: &Node, variables: bool) -> Result<Fact, Refusal> {
    let Match {
        kind, fields, keys, ..
    } = arguments(test, variables)?;
    let empty = kind == "is" && keys.iter().all(String::is_empty);
    match fields.as_slice() {
        [field] if field == "subject" && empty => Ok(Fact::Header("subject_empty")),
        [field] if field == "from" && empty => Ok(Fact::Header("from_empty")),
        [field] if field == "subject" => {
            let entries: Result<Vec<String>, Refusal> =
                keys.iter().map(|key| subject(test, &kind, key)).collect();
            Ok(Fact::Subject(entries?))
        }
        [field] if field == "from" => {
            let help = "write `address :domain :is \"from\" \"DOMAIN\"` or `address :matches \"from\" \"*@DOMAIN\"`";
            refuse(
                test,
                format!(
                    "`header` looks at the whole From with its names, an entry is the end of an address; {help}"
                ),
            )
        }
        [field] if field.starts_with("x-spam") => refuse(
            test,
            "a scanner's field stands in the daemon file: scanners.spam.upstream; then `spam: {scan: true, quarantine: true}`",
        ),
        [_] => refuse(test, "only Subject and From can be asked"),
        _ => refuse(
            test,
            "one field a test: a text looked for in several fields has no counterpart",
        ),
    }
}

fn subject(test: &Node, kind: &str, key: &str) -> Result<String, Refusal> {
    let entry = match kind {
        "contains" => key.to_owned(),
        "matches" => match pattern(key) {
            Some((true, text, true)) => text,
            _ => {
                return refuse(
                    test,
                    format!(
                        "`{key}`: only a text anywhere in the Subject (`*text*`) has a counterpart"
                    ),
                );
            }
        },
        _ => {
            return refuse(
                test,
                "a Subject as a whole cannot be compared: entries are contained in it",
            );
        }
    };
    if entry.trim() != entry {
        return refuse(
            test,
            format!("`{entry}`: white space at the ends of an entry does not count here"),
        );
    }
    sound(test, &entry, SUBJECT_CHARS, fold(&entry).is_empty())?;
    Ok(entry)
}

fn address(test: &Node, variables: bool) -> Result<Fact, Refusal> {
    let arguments = arguments(test, variables)?;
    if arguments.fields != ["from"] {
        return refuse(test, "only the header From can be asked");
    }
    let (entries, whole) = suffixes(test, &arguments)?;
    Ok(Fact::From { entries, whole })
}

/// The entries of a test on the envelope's `from`, for replies by sender.
pub(super) fn senders(test: &Node, variables: bool) -> Result<Vec<String>, Refusal> {
    if test.name != "envelope" {
        return refuse(
            test,
            "a reply to some senders only is chosen by `envelope \"from\"`",
        );
    }
    let arguments = arguments(test, variables)?;
    if arguments.fields != ["from"] {
        return refuse(test, "only the envelope's `from` chooses a reply");
    }
    Ok(suffixes(test, &arguments)?.0)
}

fn suffixes(test: &Node, arguments: &Match) -> Result<(Vec<String>, bool), Refusal> {
    let mut entries = Vec::new();
    let mut whole = false;
    for key in &arguments.keys {
        let (open, text) = match (arguments.kind.as_str(), pattern(key)) {
            ("is", _) => (false, key.clone()),
            ("matches", Some((open, text, false))) => (open, text),
            ("matches", _) => {
                return refuse(
                    test,
                    format!("`{key}`: only the end of an address (`*@domain`) has a counterpart"),
                );
            }
            _ => {
                return refuse(
                    test,
                    format!(
                        "`{key}`: a text anywhere in an address has no counterpart, an entry is its end"
                    ),
                );
            }
        };
        let entry = match (arguments.part.as_str(), open) {
            ("all", true) => text,
            ("all", false) => {
                if text
                    .rsplit_once('@')
                    .is_none_or(|(local, _)| local.is_empty())
                {
                    let reason = format!("`{key}` is no whole address: the script meets nobody");
                    return refuse(test, reason);
                }
                whole = true;
                text
            }
            ("domain", true) => text,
            ("domain", false) => format!("@{text}"),
            _ => return refuse(test, "a local part alone has no counterpart"),
        };
        if entry.contains(char::is_whitespace) {
            return refuse(test, format!("`{entry}`: white space in an address"));
        }
        sound(test, &entry, SUFFIX_CHARS, fold_address(&entry).is_empty())?;
        entries.push(entry);
    }
    Ok((entries, whole))
}

fn sound(
    test: &Node,
    entry: &str,
    chars: std::ops::RangeInclusive<usize>,
    is_nothing: bool,
) -> Result<(), Refusal> {
    if is_nothing || !chars.contains(&entry.chars().count()) {
        let (least, most) = (chars.start(), chars.end());
        return refuse(
            test,
            format!("`{entry}`: an entry has {least} to {most} characters"),
        );
    }
    if entry.contains(char::is_control) {
        return refuse(test, "a control character in a text that is looked for");
    }
    Ok(())
}

/// A `:matches` pattern without wildcards but at its ends: whether it begins with `*`, the text,
/// whether it ends so.
fn pattern(key: &str) -> Option<(bool, String, bool)> {
    let (begins, rest) = match key.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, key),
    };
    let mut text = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.as_str().is_empty() => return Some((begins, text, true)),
            '*' | '?' => return None,
            '\\' => text.push(chars.next()?),
            _ => text.push(c),
        }
    }
    Some((begins, text, false))
}

pub(super) fn lower(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| text.to_ascii_lowercase()).collect()
}
