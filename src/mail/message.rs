//! A message parsed once: the facts that rules look at.

use super::charset::Charset;
use super::mailbox::{self, Mailbox};
use super::{Bounds, Exceeded, Folded, Header, address, fold, header, words};

/// Longer ones are not used: RFC 5322 2.1.1's line.
const MAX_MESSAGE_ID: usize = 998;

/// One address of the header From.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromAddress {
    /// As a person reads it, `local@domain`.
    pub text: String,
    /// What suffixes are compared with ([`fold_address`](super::fold::fold_address)).
    pub folded: Folded,
}

/// The header From, all fields of that name together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromField {
    /// At least one address, in order of appearance.
    Addresses(Vec<FromAddress>),
    /// `From: <>`, or text without an address.
    EmptyAddress,
    /// `From:` and nothing behind it.
    Empty,
    /// No such field.
    Missing,
}

/// One Subject field's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectText {
    /// Decoded, for a person.
    pub decoded: String,
    /// What patterns are searched in.
    pub folded: Folded,
}

/// The Subject, all fields of that name together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectField {
    /// At least one field with text; a rule looks at each.
    Text(Vec<SubjectText>),
    /// Present, but nothing is in it.
    Empty,
    /// No such field.
    Missing,
}

/// The facts of one message. Made once a mail, shared by all its recipients.
#[derive(Debug, Clone)]
pub struct Message {
    /// The header From.
    pub from: FromField,
    /// The From field(s) decoded for a person; empty if there is none.
    pub from_text: String,
    /// The Subject.
    pub subject: SubjectField,
    /// A part with `Content-Disposition: attachment`, a leaf part with a file name that is not
    /// inline text, or a `message/rfc822` part.
    pub attachment: bool,
    /// Octets as received (CRLF line ends).
    pub size: u64,
    /// All header fields.
    pub header: Header,
    /// Where the body begins: the octet after the empty line, or the end.
    pub body_start: usize,
    /// Set when the mail is beyond a bound and only its header fields were read.
    pub exceeded: Option<Exceeded>,
}

impl Message {
    /// Reads a message. Never fails; it finds less in a mail that is broken or beyond `bounds`.
    pub fn parse(raw: &[u8], bounds: &Bounds) -> Self {
        let header::Scan {
            header,
            body_start,
            exceeded,
        } = header::scan(raw, bounds);
        Self {
            from: from(&header, None),
            from_text: from_text(&header, None),
            subject: subject(&header, None),
            attachment: false,
            size: u64::try_from(raw.len()).unwrap_or(u64::MAX),
            header,
            body_start,
            exceeded,
        }
    }

    /// The first Subject for a person; empty if there is none.
    pub fn subject_text(&self) -> &str {
        match &self.subject {
            SubjectField::Text(texts) => texts.first().map_or("", |text| text.decoded.as_str()),
            SubjectField::Empty | SubjectField::Missing => "",
        }
    }

    /// The Message-ID with its angle brackets, if there is a well-formed one.
    pub fn message_id(&self) -> Option<String> {
        let text = self.header.first("Message-ID")?.text();
        let start = text.find('<')?;
        let id = text.get(start..=start + text.get(start..)?.find('>')?)?;
        let inner = id.get(1..id.len() - 1)?;
        let printable = inner
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && octet != b'<');
        (printable && inner.contains('@') && id.len() <= MAX_MESSAGE_ID).then(|| id.to_owned())
    }
}

fn from(header: &Header, declared: Option<Charset>) -> FromField {
    let mut addresses: Vec<FromAddress> = Vec::new();
    let mut state = FromField::Missing;
    for field in header.all("From") {
        let text = words::decode_raw(&field.value, declared);
        let mut found = mailbox::list(&text);
        if found.is_empty() {
            found = mailbox::list(&words::decode(&field.value, declared));
        }
        if found.is_empty() {
            match (text.trim().is_empty(), &state) {
                (true, FromField::Missing) => state = FromField::Empty,
                (true, _) => {}
                (false, _) => state = FromField::EmptyAddress,
            }
        }
        addresses.extend(found.into_iter().map(from_address));
    }
    if addresses.is_empty() {
        state
    } else {
        FromField::Addresses(addresses)
    }
}

fn from_address(mailbox: Mailbox) -> FromAddress {
    let Mailbox { local, domain } = mailbox;
    FromAddress {
        folded: fold::fold_address(&address::key(&local, &domain)),
        text: format!("{local}@{domain}"),
    }
}

fn from_text(header: &Header, declared: Option<Charset>) -> String {
    let texts: Vec<String> = header
        .all("From")
        .map(|field| words::decode(&field.value, declared))
        .filter(|text| !text.is_empty())
        .collect();
    texts.join(", ")
}

fn subject(header: &Header, declared: Option<Charset>) -> SubjectField {
    let mut texts = Vec::new();
    let mut state = SubjectField::Missing;
    for field in header.all("Subject") {
        state = SubjectField::Empty;
        let decoded = words::decode(&field.value, declared);
        let folded = fold::fold(&decoded);
        if !folded.is_empty() {
            texts.push(SubjectText { decoded, folded });
        }
    }
    if texts.is_empty() {
        state
    } else {
        SubjectField::Text(texts)
    }
}
