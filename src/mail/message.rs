//! A message parsed once: the facts that rules look at.

use std::io;
use std::sync::LazyLock;

use mail_parser::{ContentType, HeaderName, MessageParser, MimeHeaders as _};

use super::charset::Charset;
use super::header::MAX_MIME_FIELD;
use super::mailbox::{self, MAX_ADDRESSES, Mailbox};
use super::prescan::{Kind, Walk};
use super::transfer::Encoding;
use super::{Bounds, Exceeded, Folded, Header, Octets, address, fold, header, words};

/// Longer ones are not used: RFC 5322 2.1.1's line.
const MAX_MESSAGE_ID: usize = 998;
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
    /// At least one address, in order of appearance; at most 1,000.
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
    /// How deep multiparts and messages nest; 0 = no parts, or beyond a bound.
    pub depth: usize,
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
        let scan = header::scan(raw, bounds);
        let body = raw.get(scan.body_start..).unwrap_or_default();
        let parts = Parts::read(&scan, bounds, |walk| walk.feed(body));
        Self::found(scan, parts, raw.len() as u64)
    }

    /// The same of a message that need not be in memory. It may block.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(octets: &Octets, bounds: &Bounds) -> io::Result<Self> {
        let scan = header::scan(octets.head(), bounds);
        let mut unread = None;
        let parts = Parts::read(&scan, bounds, |walk| {
            let mut at = scan.body_start as u64;
            while at < octets.size() && !walk.is_over() {
                match octets.piece(at) {
                    Ok(piece) => {
                        at = at.saturating_add(piece.len() as u64);
                        walk.feed(&piece)?;
                    }
                    Err(error) => {
                        unread = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        });
        match unread {
            Some(error) => Err(error),
            None => Ok(Self::found(scan, parts, octets.size())),
        }
    }

    fn found(scan: header::Scan, parts: Parts, size: u64) -> Self {
        let header::Scan {
            header, body_start, ..
        } = scan;
        let declared = declared_charset(&header);
        Self {
            from: from(&header, declared),
            from_text: from_text(&header, declared),
            subject: subject(&header, declared),
            attachment: parts.attachment && parts.exceeded.is_none(),
            depth: parts.depth,
            size,
            header,
            body_start,
            exceeded: parts.exceeded,
        }
    }

    /// A message of this size that nobody looked into, as if it had no header.
    pub fn unread(size: u64) -> Self {
        Self::known(FromField::Missing, SubjectField::Missing, false, size)
    }

    /// A message of which only this is known.
    pub fn known(from: FromField, subject: SubjectField, attachment: bool, size: u64) -> Self {
        Self {
            from,
            from_text: String::new(),
            subject,
            attachment,
            depth: 0,
            size,
            header: Header::default(),
            body_start: 0,
            exceeded: None,
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

/// What the parts of a message say of it.
#[derive(Default, Clone, Copy)]
struct Parts {
    attachment: bool,
    depth: usize,
    /// Of the header or of the parts.
    exceeded: Option<Exceeded>,
}

impl Parts {
    /// Walks the body that `feed` gives, if the header is within its bounds.
    fn read(
        scan: &header::Scan,
        bounds: &Bounds,
        feed: impl FnOnce(&mut Walk<'_, &mut dyn FnMut(&Header, bool) -> Kind>) -> Result<(), Exceeded>,
    ) -> Self {
        let mut parts = Self {
            exceeded: scan.exceeded,
            ..Self::default()
        };
        if parts.exceeded.is_some() {
            return parts;
        }
        let mut read: &mut dyn FnMut(&Header, bool) -> Kind = &mut |header, in_digest| {
            let part = Part::read(header, in_digest);
            parts.attachment |= part.attachment;
            part.kind
        };
        let walked =
            Walk::new(&scan.header, scan.body_start, bounds, &mut read).and_then(|mut walk| {
                if !walk.is_over() {
                    feed(&mut walk)?;
                }
                walk.finish()
            });
        match walked {
            Ok(nested) => parts.depth = nested,
            Err(bound) => parts.exceeded = Some(bound),
        }
        parts
    }
}

/// What a part with this header holds.
pub(super) fn kind_of(header: &Header, in_digest: bool) -> Kind {
    Part::read(header, in_digest).kind
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
}

/// The charset that the Content-Type declares, looked for where From or Subject is raw 8-bit.
fn declared_charset(header: &Header) -> Option<Charset> {
    let mut texts = header.all("From").chain(header.all("Subject"));
    if texts.all(|field| field.value.is_ascii()) {
        return None;
    }
    let octets = mime_fields(header);
    let parsed = MIME_FIELDS.parse_headers(&octets)?;
    let label = parsed.content_type()?.attribute("charset")?;
    Some(Charset::of(label.as_bytes()))
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
        return match Encoding::of(header) {
            Encoding::Base64 | Encoding::QuotedPrintable => Kind::Leaf,
            Encoding::Identity => Kind::Message,
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
        found.truncate(MAX_ADDRESSES - addresses.len());
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(raw: impl AsRef<[u8]>) -> Message {
        Message::parse(raw.as_ref(), &Bounds::default())
    }

    fn from_state(raw: impl AsRef<[u8]>) -> String {
        match parse(raw).from {
            FromField::Addresses(found) => {
                let found: Vec<&str> = found.iter().map(|a| a.folded.as_str()).collect();
                found.join(" ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn from_in_all_shapes() {
        let rows: &[(&[u8], &str)] = &[
            (b"From: A <a@B.C>\r\n\r\n", "a@b.c"),
            (b"From: a@b, c@d\r\nFrom: e@f\r\n\r\n", "a@b c@d e@f"),
            (b"FROM : a@b\r\n\r\n", "a@b"),
            (b"From: A\r\n <a@b\r\n .c>\r\n\r\n", "a@b.c"),
            (b"From: G: a@b;\r\n\r\n", "a@b"),
            (b"From: <>\r\n\r\n", "EmptyAddress"),
            (b"From: root\r\n\r\n", "EmptyAddress"),
            (b"From: G:;\r\n\r\n", "EmptyAddress"),
            (b"From:\r\n\r\n", "Empty"),
            (b"From: \r\n \r\n\r\n", "Empty"),
            (b"From:\r\nFrom: <>\r\n\r\n", "EmptyAddress"),
            (b"From: <>\r\nFrom:\r\n\r\n", "EmptyAddress"),
            (b"From:\r\nFrom: a@b\r\n\r\n", "a@b"),
            (b"To: a@b\r\n\r\nFrom: x@y\r\n", "Missing"),
            (b"", "Missing"),
            (b"From: \x1B$B%F%\"%9%H\x1B(B <a@b>\r\n\r\n", "a@b"),
            (b"From: \x83e\x83X\x83g\x81@\x83\\ <a@b>\r\n\r\n", "a@b"),
            (b"From: =?utf-8?Q?A_=3Ca=40b=3E?=\r\n\r\n", "a@b"),
            (b"From: =?utf-8?q?a@b?=\r\n\r\n", "a@b"),
            (b"From: \"taro\"@x.jp.\r\n\r\n", "taro@x.jp"),
            (b"From: a@xn--r8jz45g.jp\r\n\r\n", "a@例え.jp"),
            (
                b"Date: Wed, 17 May 2000 17:52:54 Z\r\nFrom: a@b\r\n\r\n",
                "a@b",
            ),
            (b"From x@y Wed May 17\r\nFrom: a@b\r\n\r\n", "a@b"),
            (b"\r\n\r\nFrom: a@b\r\n\r\n", "a@b"),
            (b"junk\r\nFrom: a@b\r\n\r\n", "a@b"),
            (b"A: b\rFrom: a@b\r\n\r\n", "a@b"),
        ];
        for (raw, expected) in rows {
            assert_eq!(from_state(raw), *expected, "{:?}", raw.escape_ascii());
        }
    }

    #[test]
    fn a_thousand_addresses_are_enough() {
        let raw = format!("From: {}\r\nFrom: x@y\r\n\r\n", "a@b, ".repeat(200_000));
        let FromField::Addresses(found) = parse(raw).from else {
            panic!("no addresses");
        };
        assert_eq!(found.len(), MAX_ADDRESSES);
    }

    #[test]
    fn subjects() {
        let rows: &[(&[u8], &[&str])] = &[
            (b"Subject: Hi\r\nSubject: Ho\r\n\r\n", &["Hi", "Ho"]),
            (b"Subject:\r\nSubject: Ho\r\n\r\n", &["Ho"]),
            (b"Subject: =?cp932?B?g2WDWINn?=\r\n\r\n", &["テスト"]),
            (b"Subject: =?utf-8?B??=\r\n\r\n", &[]),
            (b"Subject: =?utf-8?B?4oCL?=\r\n\r\n", &[]),
            (b"Subject: \r\n\r\n", &[]),
            (
                b"Content-Type: text/plain; charset=big5\r\nSubject: \xA4\xA4\xA4\xE5\r\n\r\n",
                &["中文"],
            ),
        ];
        for (raw, expected) in rows {
            let found = match parse(raw).subject {
                SubjectField::Text(texts) => texts.into_iter().map(|t| t.decoded).collect(),
                SubjectField::Empty => Vec::new(),
                SubjectField::Missing => panic!("{:?}", raw.escape_ascii()),
            };
            assert_eq!(found, *expected, "{:?}", raw.escape_ascii());
        }
        assert_eq!(parse("A: b\r\n\r\n").subject, SubjectField::Missing);
    }

    fn mixed(parts: &str) -> String {
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{parts}\r\n--b--\r\n")
    }

    #[test]
    fn attachments() {
        let rows = [
            ("Content-Type: text/plain", false),
            ("Content-Type: text/plain; name=a.txt", false),
            (
                "Content-Type: text/plain; name=a.txt\r\nContent-Disposition: inline",
                false,
            ),
            (
                "Content-Type: text/plain\r\nContent-Disposition: attachment",
                true,
            ),
            (
                "Content-Type: text/plain\r\nContent-Disposition: ATTACHMENT; filename=a",
                true,
            ),
            (
                "Content-Type: text/plain\r\nContent-Disposition: other; filename=a",
                true,
            ),
            ("Content-Type: image/png", false),
            ("Content-Type: image/png; name=a.png", true),
            (
                "Content-Type: image/png\r\nContent-Disposition: inline; filename=a.png",
                true,
            ),
            ("Content-Type: image/png; name*0*=utf-8''a; name*1*=b", true),
            ("content-type: image/png;\r\n\tname=\r\n \"a.png\"", true),
            ("Content-Type : image/png; name=a", true),
            ("Content-Type: application/octet-stream", false),
            ("Content-Type: text/calendar", false),
            ("Content-Type: text/calendar; name=a.ics", true),
            ("Content-Type: text/rfc822-headers; name=a", false),
            (
                "Content-Type: application/pkcs7-signature; name=smime.p7s",
                true,
            ),
            ("Content-Type: message/rfc822\r\n\r\nSubject: x", true),
            (
                "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA",
                true,
            ),
            (
                "Content-Type: multipart/mixed; boundary=c; name=x\r\n\r\n--c--",
                false,
            ),
            (
                "Content-Type: multipart/digest; boundary=c\r\n\r\n--c\r\n\r\nA: b\r\n--c--",
                true,
            ),
            ("\r\nContent-Disposition: attachment", false),
        ];
        for (part, expected) in rows {
            assert_eq!(parse(mixed(part)).attachment, expected, "{part}");
        }
        let single = "Content-Type: application/pdf; name=a.pdf\r\n\r\n";
        assert!(parse(single).attachment);
        let folded = "Content-Type: multipart/mixed; boundary=\"x\r\n y\"\r\n\r\n--x y\r\n\
                      Content-Disposition: attachment\r\n\r\n--x y--\r\n";
        assert!(parse(folded).attachment);
        let after_the_end = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n\
                             --b\r\nContent-Disposition: attachment\r\n\r\n";
        assert!(!parse(after_the_end).attachment);
    }

    /// `depth` nested containers, in five ways that a hostile sender may write.
    fn nested(way: usize, depth: usize) -> String {
        let level = |n: usize| match way {
            0 => "Content-Type: message/rfc822\r\n\r\n".to_owned(),
            1 => "content-TYPE :\r\n message/(x)RFC822\r\n\r\n".to_owned(),
            2 => format!("Content-Type: multipart/mixed; boundary=b{n}x\r\n\r\n--b{n}x\r\n"),
            3 => "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n".to_owned(),
            _ => "Content-Type: message/global\n\n".to_owned(),
        };
        let levels: String = (0..depth).map(level).collect();
        format!("{levels}Content-Type: text/plain\r\n\r\nend\r\n")
    }

    #[test]
    fn bounds() {
        let bounds = Bounds::default();
        for way in [0, 2, 4] {
            assert_eq!(parse(nested(way, 64)).exceeded, None, "{way}");
            assert_eq!(
                parse(nested(way, 65)).exceeded,
                Some(Exceeded::MimeDepth),
                "{way}"
            );
        }
        for way in 0..5 {
            let bomb = parse(nested(way, 33_000));
            let expected = if way == 1 {
                None
            } else {
                Some(Exceeded::MimeDepth)
            };
            assert_eq!(bomb.exceeded.or(expected), bomb.exceeded, "{way}");
            assert!(bomb.exceeded.is_none() || !bomb.attachment);
        }
        let parts = |count| mixed(&"\r\n--b\r\n".repeat(count));
        assert_eq!(parse(parts(998)).exceeded, None);
        assert_eq!(parse(parts(999)).exceeded, Some(Exceeded::MimeParts));
        let fields = |count| format!("{}\r\nbody", "A: b\r\n".repeat(count));
        assert_eq!(parse(fields(bounds.header_fields)).exceeded, None);
        let many = parse(fields(200_000));
        assert_eq!(many.exceeded, Some(Exceeded::HeaderFields));
        assert_eq!(many.header.fields().len(), bounds.header_fields);
        assert_eq!(many.body_start, 200_000 * 6 + 2);
        let long = parse(format!("From: a@b\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)));
        assert_eq!(long.exceeded, Some(Exceeded::HeaderBytes));
        assert_eq!(long.header.fields().len(), 1);
    }

    #[test]
    fn a_message_in_base64_is_not_entered() {
        use base64::Engine as _;
        let inner = base64::engine::general_purpose::STANDARD.encode(nested(0, 33_000));
        let raw = format!(
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{inner}"
        );
        assert!(parse(raw).attachment);
    }

    #[test]
    fn message_ids() {
        let rows = [
            ("<a@b>", Some("<a@b>")),
            ("\r\n <a@b> (c)", Some("<a@b>")),
            ("a@b", None),
            ("<a b@c>", None),
            ("<a>", None),
            ("<>", None),
            ("><a@b>", Some("<a@b>")),
        ];
        for (value, expected) in rows {
            let message = parse(format!("Message-ID: {value}\r\n\r\n"));
            assert_eq!(message.message_id().as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn address_keys() {
        let message = parse(
            "To: \"A, B\" <A@B.example.>, G: c@d (x@y), \"e\"@f;\r\nCc: x@y\r\nto: z@xn--r8jz45g.jp\r\n\r\n",
        );
        let keys = message.header.address_keys("To");
        assert_eq!(keys, ["a@b.example", "c@d", "e@f", "z@例え.jp"]);
    }

    proptest! {
        #[test]
        fn any_octets(raw in any::<Vec<u8>>()) {
            let message = parse(&raw);
            prop_assert!(message.body_start <= raw.len());
        }

        #[test]
        fn any_mail(
            raw in "((From|Subject|Content-Type|Content-Disposition|X)[ ]?:[ ]?(multipart/mixed|message/rfc822|attachment|=[?]utf-8[?][bq][?][a-z=_]{0,9}[?]=|[<>\"(),;:@a-z.]{0,9})(; ?(boundary|name|filename)[*0]{0,3}=\"?[a-c]{0,2}\"?)?(\r\n|\n|\r|\r\n )|--[a-c]{1,2}(--)?\r\n|\r\n){0,24}",
        ) {
            let message = parse(&raw);
            prop_assert!(message.body_start <= raw.len());
            let mut end = 0;
            for field in message.header.fields() {
                prop_assert!(field.span.start >= end && field.span.end <= message.body_start);
                end = field.span.end;
            }
        }
    }
}
