//! Command lines (RFC 5321 4.1.1, RFC 2033 4.1) and their parameters.
//!
//! Contract: any line gives a command or the reply that refuses it. Wider than the grammar where
//! clients are: spaces after `FROM:` and at the end, source routes (dropped), bare local parts.

use core::net::IpAddr;
use std::borrow::Cow;

use super::Reply;
use crate::mail::{Address, ReversePath};

/// Octets of a command line with its line end: 512 (RFC 5321 4.5.3.1.4) and room for what
/// extensions add to it.
pub const LINE_OCTETS: usize = 2048;

/// One command, its arguments read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO`, `EHLO` or `LHLO`, and the client's name with anything but name characters as `?`.
    Hello(Hello, String),
    /// `MAIL FROM`.
    Mail(ReversePath, MailParameters),
    /// `RCPT TO`.
    Rcpt(Address),
    /// `DATA`.
    Data,
    /// `RSET`.
    Rset,
    /// `NOOP`, whatever its argument.
    Noop,
    /// `VRFY`; the argument is not looked at.
    Vrfy,
    /// `HELP`.
    Help,
    /// `QUIT`.
    Quit,
    /// `XFORWARD`, from anyone: the session knows whom to believe.
    Xforward(Vec<Forwarded>),
    /// `STARTTLS` (RFC 3207), whether it is offered or not.
    StartTls,
    /// `EXPN`: known, not offered.
    NotOffered,
    /// `BDAT`, which is not offered: what follows it cannot be told from commands.
    Bdat,
    /// A request of another protocol (`POST / HTTP/1.1`).
    Foreign,
}

/// Which greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hello {
    /// RFC 5321, without extensions.
    Helo,
    /// RFC 5321.
    Ehlo,
    /// RFC 2033.
    Lhlo,
}

/// Parameters of `MAIL FROM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// `SIZE=` (RFC 1870); what does not fit 64 bits is the greatest number.
    pub size: Option<u64>,
    /// `BODY=8BITMIME` (RFC 6152).
    pub eight_bit: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
}

/// One attribute of `XFORWARD`; `None` is nothing, `[UNAVAILABLE]` or `[TEMPUNAVAIL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forwarded {
    /// `ADDR`, with or without `IPV6:`.
    Ip(Option<IpAddr>),
    /// `NAME`.
    Name(Option<String>),
    /// `PORT`, `PROTO`, `HELO`, `IDENT`, `SOURCE`: taken and not used.
    Unused,
}

impl Command {
    /// Reads one line without its line end. A bare local part gets `default_domain`.
    ///
    /// # Errors
    /// The reply: 500 for what is no command, 501, 553 and 555 for bad arguments.
    pub fn parse(line: &[u8], default_domain: Option<&str>) -> Result<Self, Reply> {
        let line = std::str::from_utf8(line).map_err(|_| unreadable())?;
        if line.chars().any(char::is_control) {
            return Err(unreadable());
        }
        let line = line.trim_end_matches(' ');
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start_matches(' ');
        match verb.to_ascii_uppercase().as_str() {
            "HELO" => hello(Hello::Helo, rest),
            "EHLO" => hello(Hello::Ehlo, rest),
            "LHLO" => hello(Hello::Lhlo, rest),
            "MAIL" => mail(rest, default_domain),
            "RCPT" => rcpt(rest, default_domain),
            "DATA" => bare(Self::Data, rest),
            "RSET" => bare(Self::Rset, rest),
            "QUIT" => bare(Self::Quit, rest),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "VRFY" if rest.is_empty() => Err(argument("VRFY needs an argument")),
            "VRFY" => Ok(Self::Vrfy),
            "XFORWARD" => xforward(rest),
            "STARTTLS" => bare(Self::StartTls, rest),
            "EXPN" => Ok(Self::NotOffered),
            "BDAT" => Ok(Self::Bdat),
            "GET" | "POST" | "PUT" | "CONNECT" | "OPTIONS" => Ok(Self::Foreign),
            _ => Err(Reply::new(500, 5, 1, "command unknown")),
        }
    }
}

fn unreadable() -> Reply {
    Reply::new(500, 5, 2, "a command is a line of printable text")
}

fn argument(text: &str) -> Reply {
    Reply::new(501, 5, 4, text)
}

fn bare(command: Command, rest: &str) -> Result<Command, Reply> {
    if rest.is_empty() {
        Ok(command)
    } else {
        Err(argument("this command has no argument"))
    }
}

fn hello(hello: Hello, rest: &str) -> Result<Command, Reply> {
    if rest.is_empty() || rest.len() > 255 {
        return Err(argument("a greeting needs a name of at most 255 octets"));
    }
    let name = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | ':' | '[' | ']' => c,
        _ => '?',
    };
    Ok(Command::Hello(hello, rest.chars().map(name).collect()))
}

fn mail(rest: &str, default_domain: Option<&str>) -> Result<Command, Reply> {
    let bad = |why: &str| Reply::new(501, 1, 7, why);
    let path = after_keyword(rest, "FROM:").ok_or_else(|| argument("MAIL FROM:<address>"))?;
    let (address, rest) = path_of(path, default_domain).map_err(bad)?;
    let parameters = mail_parameters(rest)?;
    match address {
        None => Ok(Command::Mail(ReversePath::Null, parameters)),
        Some(address) if !parameters.smtputf8 && !is_ascii(&address) => Err(not_ascii()),
        Some(address) => Ok(Command::Mail(ReversePath::Address(address), parameters)),
    }
}

fn rcpt(rest: &str, default_domain: Option<&str>) -> Result<Command, Reply> {
    let bad = |why: &str| Reply::new(501, 1, 3, why);
    let path = after_keyword(rest, "TO:").ok_or_else(|| argument("RCPT TO:<address>"))?;
    let (address, rest) = path_of(path, default_domain).map_err(bad)?;
    let address = address.ok_or_else(|| bad("a recipient is not empty"))?;
    match parameters(rest)?.first() {
        Some(_) => Err(unknown_parameter()),
        None => Ok(Command::Rcpt(address)),
    }
}

/// Refuses an address that needs SMTPUTF8 where it was not given (RFC 6531 3.5).
pub(super) fn not_ascii() -> Reply {
    Reply::new(553, 6, 7, "this address needs SMTPUTF8")
}

/// Whether an address can go without SMTPUTF8.
pub(super) fn is_ascii(address: &Address) -> bool {
    address.local().is_ascii() && address.domain().is_ascii()
}

fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword)
        .then(|| rest.trim_start_matches(' '))
}

/// Reads `<path>`; gives the address (none for `<>`) and what stands after the path.
fn path_of<'a>(
    text: &'a str,
    default_domain: Option<&str>,
) -> Result<(Option<Address>, &'a str), &'static str> {
    let inner = text
        .strip_prefix('<')
        .ok_or("a path stands in angle brackets")?;
    if let Some(rest) = inner.strip_prefix('>') {
        return Ok((None, rest));
    }
    let mailbox = after_route(inner).ok_or("the source route is malformed")?;
    let local_end = local_part(mailbox).ok_or("the local part is malformed")?;
    let (local, domain) = mailbox.split_at_checked(local_end).unwrap_or((mailbox, ""));
    let (text, rest) = match domain.strip_prefix('@') {
        Some(domain) => {
            let (domain, rest) = domain.split_once('>').ok_or("the path has no end")?;
            if domain.contains([' ', '"', '(', ')', ',', ':', ';', '<', '@', '\\'])
                && !domain.starts_with('[')
            {
                return Err("the domain is malformed");
            }
            let end = local.len() + 1 + domain.len();
            (Cow::from(mailbox.get(..end).unwrap_or_default()), rest)
        }
        None => {
            let rest = domain.strip_prefix('>').ok_or("the path has no end")?;
            let domain = default_domain.ok_or("the address has no domain")?;
            (format!("{local}@{domain}").into(), rest)
        }
    };
    let address = Address::parse(&text).map_err(|_| "this is no mail address")?;
    Ok((Some(address), rest))
}

/// Skips `@a,@b:` (RFC 5321 4.1.1.3: accepted and ignored).
fn after_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let (route, mailbox) = path.split_once(':')?;
    let hop = |hop: &str| {
        hop.strip_prefix('@')
            .is_some_and(|domain| !domain.is_empty() && !domain.contains(|c| " \"<>@".contains(c)))
    };
    route.split(',').all(hop).then_some(mailbox)
}

/// Where the local part ends: at the `@`, or at the `>` of a bare one. Never empty.
fn local_part(text: &str) -> Option<usize> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['@', '>'])?;
        let local = text.get(..end)?;
        let plain = !local.is_empty()
            && !local.contains([' ', '"', '(', ')', ',', ':', ';', '<', '[', '\\', ']']);
        return plain.then_some(end);
    };
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (at > 0).then_some(at + 2),
            _ => {}
        }
    }
    None
}

/// `KEYWORD` or `KEYWORD=value`, each once, after a space.
fn parameters(text: &str) -> Result<Vec<(String, Option<&str>)>, Reply> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(argument("something follows the path"));
    }
    let mut found: Vec<(String, Option<&str>)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if keyword.is_empty() || !keyword.chars().all(named) || value == Some("") {
            return Err(argument("a parameter is malformed"));
        }
        if found.iter().any(|(known, _)| *known == keyword) {
            return Err(argument("a parameter stands twice"));
        }
        found.push((keyword, value));
    }
    Ok(found)
}

fn mail_parameters(text: &str) -> Result<MailParameters, Reply> {
    let mut known = MailParameters::default();
    for (keyword, value) in parameters(text)? {
        match (keyword.as_str(), value) {
            ("SIZE", Some(digits)) if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
                known.size = Some(digits.parse().unwrap_or(u64::MAX));
            }
            ("SIZE", _) => return Err(argument("SIZE is a number of octets")),
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => known.eight_bit = true,
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", _) => return Err(argument("BODY is 7BIT or 8BITMIME")),
            ("SMTPUTF8", None) => known.smtputf8 = true,
            ("SMTPUTF8", Some(_)) => return Err(argument("SMTPUTF8 has no value")),
            _ => return Err(unknown_parameter()),
        }
    }
    Ok(known)
}

fn unknown_parameter() -> Reply {
    Reply::new(555, 5, 4, "a parameter is unknown")
}

fn xforward(rest: &str) -> Result<Command, Reply> {
    let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(argument("XFORWARD attribute=value"));
    }
    let attributes: Option<Vec<Forwarded>> = words.into_iter().map(forwarded).collect();
    attributes
        .map(Command::Xforward)
        .ok_or_else(|| argument("an XFORWARD attribute is malformed"))
}

fn forwarded(word: &str) -> Option<Forwarded> {
    let (name, value) = word.split_once('=')?;
    let value = xtext(value)?;
    let value = match value.to_ascii_uppercase().as_str() {
        "" | "[UNAVAILABLE]" | "[TEMPUNAVAIL]" => None,
        _ => Some(value),
    };
    match name.to_ascii_uppercase().as_str() {
        "ADDR" => match value.as_deref().map(ip) {
            Some(None) => None,
            found => Some(Forwarded::Ip(found.flatten())),
        },
        "NAME" => Some(Forwarded::Name(value)),
        "PORT" | "PROTO" | "HELO" | "IDENT" | "SOURCE" => Some(Forwarded::Unused),
        _ => None,
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    let bare = after_keyword(text, "IPV6:").unwrap_or(text);
    bare.parse().ok()
}

/// Decodes xtext (RFC 3461 4); at most 255 octets of text without control characters.
fn xtext(text: &str) -> Option<String> {
    let mut pieces = text.split('+');
    let mut octets = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        if !hex.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        octets.push(u8::from_str_radix(hex, 16).ok()?);
        octets.extend_from_slice(rest.as_bytes());
    }
    let decoded = String::from_utf8(octets).ok()?;
    (decoded.len() <= 255 && !decoded.chars().any(char::is_control)).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(line: &str, domain: Option<&str>) -> String {
        match Command::parse(line.as_bytes(), domain) {
            Ok(Command::Mail(sender, parameters)) => {
                let size = parameters
                    .size
                    .map(|size| format!(" size={size}"))
                    .unwrap_or_default();
                let eight_bit = if parameters.eight_bit { " 8bit" } else { "" };
                let utf8 = if parameters.smtputf8 { " utf8" } else { "" };
                format!("mail {sender}{size}{eight_bit}{utf8}")
            }
            Ok(Command::Rcpt(address)) => format!("rcpt {address}"),
            Ok(Command::Hello(hello, name)) => format!("{hello:?} {name}"),
            Ok(other) => format!("{other:?}"),
            Err(reply) => reply.to_string().chars().take(9).collect(),
        }
    }

    #[test]
    fn lines() {
        let rows = [
            ("LHLO mx.example.org", "Lhlo mx.example.org"),
            ("ehlo [IPv6:::1]", "Ehlo [IPv6:::1]"),
            ("HELO a(b)\u{3042}", "Helo a?b??"),
            ("LHLO", "501 5.5.4"),
            ("LHLO  ", "501 5.5.4"),
            ("NOOP", "Noop"),
            ("noop \"unclosed", "Noop"),
            ("NOOP\0", "500 5.5.2"),
            ("RSET\rQUIT", "500 5.5.2"),
            ("NOOP\tx", "500 5.5.2"),
            ("rset   ", "Rset"),
            ("RSET x", "501 5.5.4"),
            ("DATA", "Data"),
            ("DATA now", "501 5.5.4"),
            ("QUIT", "Quit"),
            ("VRFY", "501 5.5.4"),
            ("VRFY root", "Vrfy"),
            ("HELP me", "Help"),
            ("EXPN all", "NotOffered"),
            ("STARTTLS", "StartTls"),
            ("STARTTLS now", "501 5.5.4"),
            ("BDAT 20 LAST", "Bdat"),
            ("POST / HTTP/1.1", "Foreign"),
            ("XYZZY", "500 5.5.1"),
            ("", "500 5.5.1"),
            (" NOOP", "500 5.5.1"),
            ("MAILFROM:<a@b.c>", "500 5.5.1"),
        ];
        for (line, expected) in rows {
            assert_eq!(outcome(line, None), expected, "{line:?}");
        }
    }

    #[test]
    fn paths() {
        let rows = [
            ("MAIL FROM:<>", "mail "),
            ("MAIL FROM:<a@example.org>", "mail a@example.org"),
            ("mail from: <a@example.org>  ", "mail a@example.org"),
            (
                "MAIL FROM:<@hop.example,@hop2.example:a@example.org>",
                "mail a@example.org",
            ),
            ("MAIL FROM:<@hop.example:a@b@example.org>", "501 5.1.7"),
            ("MAIL FROM:<@hop.example a@example.org>", "501 5.1.7"),
            ("MAIL FROM:<@:a@example.org>", "501 5.1.7"),
            (
                "MAIL FROM:<\"john doe\"@example.org>",
                "mail \"john doe\"@example.org",
            ),
            (
                "MAIL FROM:<\"a@b\"@example.org>",
                "mail \"a@b\"@example.org",
            ),
            (
                "MAIL FROM:<\"a\\\"b\"@example.org>",
                "mail \"a\\\"b\"@example.org",
            ),
            ("MAIL FROM:<\"a\"b@example.org>", "501 5.1.7"),
            ("MAIL FROM:<\"a@example.org>", "501 5.1.7"),
            ("MAIL FROM:<\"\"@example.org>", "501 5.1.7"),
            (
                "MAIL FROM:<taro..yamada.@docomo.example>",
                "mail taro..yamada.@docomo.example",
            ),
            ("MAIL FROM:<a@[192.0.2.1]>", "mail a@[192.0.2.1]"),
            ("MAIL FROM:a@example.org", "501 5.1.7"),
            ("MAIL FROM:<a@example.org", "501 5.1.7"),
            ("MAIL FROM:<a@example.org>>", "501 5.5.4"),
            ("MAIL FROM:<a@example.org>x", "501 5.5.4"),
            ("MAIL FROM:<a@b@example.org>", "501 5.1.7"),
            ("MAIL FROM:<a b@example.org>", "501 5.1.7"),
            ("MAIL FROM:<a@exam ple.org>", "501 5.1.7"),
            ("MAIL FROM:<a@>", "501 5.1.7"),
            ("MAIL FROM:<@example.org>", "501 5.1.7"),
            ("MAIL FROM:", "501 5.1.7"),
            ("MAIL", "501 5.5.4"),
            ("MAIL TO:<a@example.org>", "501 5.5.4"),
            ("MAIL FROM:<a>", "mail a@east.example.jp"),
            ("RCPT TO:<taro>", "rcpt taro@east.example.jp"),
            ("RCPT TO:<Postmaster>", "rcpt Postmaster@east.example.jp"),
            (
                "RCPT TO:<@hop.example:taro@east.example.jp>",
                "rcpt taro@east.example.jp",
            ),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<\"\"@east.example.jp>", "501 5.1.3"),
            ("RCPT TO:<taro> NOTIFY=NEVER", "555 5.5.4"),
            ("RCPT FROM:<taro>", "501 5.5.4"),
        ];
        for (line, expected) in rows {
            assert_eq!(outcome(line, Some("east.example.jp")), expected, "{line:?}");
        }
        assert_eq!(outcome("MAIL FROM:<a>", None), "501 5.1.7");
        assert_eq!(outcome("RCPT TO:<postmaster>", None), "501 5.1.3");
    }

    #[test]
    fn parameters_of_mail() {
        let rows = [
            ("SIZE=100 BODY=8BITMIME", "mail a@b.example size=100 8bit"),
            ("size=0   body=7bit", "mail a@b.example size=0"),
            (
                "SIZE=99999999999999999999",
                "mail a@b.example size=18446744073709551615",
            ),
            ("SMTPUTF8", "mail a@b.example utf8"),
            ("SMTPUTF8=1", "501 5.5.4"),
            ("SIZE=-1", "501 5.5.4"),
            ("SIZE=", "501 5.5.4"),
            ("SIZE", "501 5.5.4"),
            ("SIZE=1 SIZE=2", "501 5.5.4"),
            ("BODY=BINARYMIME", "501 5.5.4"),
            ("=x", "501 5.5.4"),
            ("RET=HDRS", "555 5.5.4"),
            ("FOO", "555 5.5.4"),
        ];
        for (parameters, expected) in rows {
            let line = format!("MAIL FROM:<a@b.example> {parameters}");
            assert_eq!(outcome(&line, None), expected, "{line:?}");
        }
        let utf8 = "MAIL FROM:<\u{3042}@b.example>";
        assert_eq!(outcome(utf8, None), "553 5.6.7");
        assert_eq!(
            outcome(&format!("{utf8} SMTPUTF8"), None),
            "mail \u{3042}@b.example utf8"
        );
        assert!(Command::parse(b"RCPT TO:<a\xe3\x81", None).is_err());
    }

    #[test]
    fn xforward_attributes() {
        let ip = |text: &str| Some(vec![Forwarded::Ip(text.parse().ok())]);
        let name = |text: &str| Some(vec![Forwarded::Name(Some(text.to_owned()))]);
        let rows = [
            ("ADDR=192.0.2.1", ip("192.0.2.1")),
            ("ADDR=IPV6:2001:db8::1", ip("2001:db8::1")),
            ("ADDR=", ip("")),
            ("ADDR=[UNAVAILABLE]", ip("")),
            ("addr=[tempunavail]", ip("")),
            ("NAME=mx+2Eexample+2Borg", name("mx.example+org")),
            ("NAME=a+0D+0Ab", None),
            ("NAME=a+0", None),
            ("NAME=a++2B", None),
            ("NAME=+FF", None),
            ("ADDR=here", None),
            ("COLOR=red", None),
            ("NAME", None),
            ("", None),
            (
                "PORT=25 PROTO=ESMTP",
                Some(vec![Forwarded::Unused, Forwarded::Unused]),
            ),
        ];
        for (attributes, expected) in rows {
            let line = format!("XFORWARD {attributes}");
            let found = match Command::parse(line.as_bytes(), None) {
                Ok(Command::Xforward(found)) => Some(found),
                _ => None,
            };
            assert_eq!(found, expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_line(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Command::parse(&line, Some("example.org"));
        }

        #[test]
        fn any_path(path in "[<>@:,\"\\\\ab. \\[\\]\u{3042}=]{0,20}", to in any::<bool>()) {
            let verb = if to { "RCPT TO:<" } else { "MAIL FROM:<" };
            if let Err(reply) = Command::parse(format!("{verb}{path}").as_bytes(), None) {
                prop_assert!((500..600).contains(&reply.code));
            }
        }
    }
}
