//! A message parsed once: the facts that rules look at.

use std::sync::LazyLock;

use mail_parser::{ContentType, HeaderName, MessageParser, MimeHeaders as _};

use super::charset::Charset;
use super::mailbox::{self, Mailbox};
use super::prescan::{self, Kind};
use super::{Bounds, Exceeded, Field, Folded, Header, address, fold, header, words};

/// Longer ones are not used: RFC 5322 2.1.1's line.
const MAX_MESSAGE_ID: usize = 998;
/// Octets of one MIME field that are read: mail-parser's time grows with the square of the number
/// of parameters.
const MAX_MIME_FIELD: usize = 4096;
/// Fields of one name that are read of a part.
const MAX_MIME_FIELDS: usize = 4;

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
            mut exceeded,
        } = header::scan(raw, bounds);
        let mut attachment = false;
        if exceeded.is_none() {
            let found = prescan::walk(raw, &header, body_start, bounds, |header, in_digest| {
                let part = Part::read(header, in_digest);
                attachment |= part.attachment;
                part.kind
            });
            exceeded = found.err();
        }
        let declared = Part::charset(&header);
        Self {
            from: from(&header, declared),
            from_text: from_text(&header, declared),
            subject: subject(&header, declared),
            attachment: attachment && exceeded.is_none(),
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

/// What one part's MIME fields say.
struct Part {
    kind: Kind,
    attachment: bool,
}

impl Part {
    fn read(header: &Header, in_digest: bool) -> Self {
        let octets = mime_fields(header);
        let parsed = MIME_FIELDS.parse_headers(&octets);
        let fields = parsed
            .as_ref()
            .map_or(&[] as &[_], |message| message.headers());
        let content = |name: HeaderName<'static>| {
            fields
                .iter()
                .filter(move |field| field.name == name)
                .filter_map(|field| field.value.as_content_type())
        };
        let media = content(HeaderName::ContentType).next();
        let kind = kind(header, media, in_digest);
        let dispositions = || content(HeaderName::ContentDisposition);
        let inline = dispositions().all(ContentType::is_inline);
        let named = media.is_some_and(|media| media.has_attribute("name"))
            || dispositions().any(|field| field.has_attribute("filename"));
        let attachment = is_message(media, in_digest)
            || dispositions().any(ContentType::is_attachment)
            || named && matches!(kind, Kind::Leaf) && !is_shown(media, inline);
        Self { kind, attachment }
    }

    /// The charset that the top Content-Type declares.
    fn charset(header: &Header) -> Option<Charset> {
        let octets = mime_fields(header);
        let parsed = MIME_FIELDS.parse_headers(&octets)?;
        let label = parsed.content_type()?.attribute("charset")?;
        Some(Charset::of(label.as_bytes()))
    }
}

/// mail-parser reads the parameters of the two fields (RFC 2045, 2183, 2231) and nothing else.
static MIME_FIELDS: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .header_content_type(HeaderName::ContentType)
        .header_content_type(HeaderName::ContentDisposition)
        .default_header_ignore()
});

/// A header block of a part's Content-Type and Content-Disposition fields, each cut to
/// [`MAX_MIME_FIELD`].
fn mime_fields(header: &Header) -> Vec<u8> {
    let mut octets = Vec::new();
    for name in ["Content-Type", "Content-Disposition"] {
        for field in header.all(name).take(MAX_MIME_FIELDS) {
            let value = field.value.get(..MAX_MIME_FIELD).unwrap_or(&field.value);
            octets.extend_from_slice(name.as_bytes());
            octets.push(b':');
            octets.extend(value.iter().filter(|octet| !matches!(octet, b'\r' | b'\n')));
            octets.extend_from_slice(b"\r\n");
        }
    }
    octets.extend_from_slice(b"\r\n");
    octets
}

fn kind(header: &Header, media: Option<&ContentType<'_>>, in_digest: bool) -> Kind {
    if is_message(media, in_digest) {
        let encoding = header.first("Content-Transfer-Encoding").map(Field::text);
        return match encoding.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("base64" | "quoted-printable") => Kind::Leaf,
            _ => Kind::Message,
        };
    }
    let Some(media) = media.filter(|media| media.ctype() == "multipart") else {
        return Kind::Leaf;
    };
    match media.attribute("boundary") {
        Some(boundary) if !boundary.is_empty() => Kind::Multipart {
            boundary: boundary.trim_end().as_bytes().to_vec(),
            digest: media.subtype() == Some("digest"),
        },
        _ => Kind::Leaf,
    }
}

fn is_message(media: Option<&ContentType<'_>>, in_digest: bool) -> bool {
    media.map_or(in_digest, |media| {
        media.ctype() == "message" && matches!(media.subtype(), Some("rfc822" | "global"))
    })
}

/// Text that is shown with the mail, and what was cut off a returned mail: a file name does not
/// make it an attachment.
fn is_shown(media: Option<&ContentType<'_>>, inline: bool) -> bool {
    media.map_or(inline, |media| match (media.ctype(), media.subtype()) {
        ("text", Some("rfc822-headers")) | ("multipart", _) => true,
        ("text", Some("calendar")) => false,
        ("text", _) => inline,
        _ => false,
    })
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
