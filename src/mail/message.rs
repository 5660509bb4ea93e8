//! A message parsed once: the facts that rules look at.

use super::{Bounds, Exceeded, Folded, Header};

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
    pub fn parse(_raw: &[u8], _bounds: &Bounds) -> Self {
        unimplemented!()
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
        unimplemented!()
    }
}
