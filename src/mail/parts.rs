//! The leaf parts of a mail: where each lies in its octets, what it is called, what it holds.
//!
//! Found by [`prescan`](super::prescan)'s walk: linear, without recursion, within the bounds. Parts
//! within multiparts and within messages in clear are leaves of the mail; a message that is
//! encoded is one leaf. What the walk does not see belongs to no part: a preamble, an epilogue, a
//! uuencoded file in a text.

use std::borrow::Cow;
use std::ops::Range;

use super::header::MAX_MIME_FIELD;
use super::letter::clean;
use super::parameter::parameter;
use super::prescan::{self, Kind, Place, Visit};
use super::{Bounds, Header, header, message, words};

pub use super::transfer::Encoding;

/// RFC 6838 4.2: 127 characters a name.
const MAX_MEDIA_TYPE: usize = 255;
/// Fields of one name in which a file name is looked for.
const MAX_FIELDS: usize = 4;

/// One leaf part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number as IMAP counts (RFC 3501 6.4.5): `2.1.3`.
    pub path: String,
    /// Its header block in the mail, the empty line left out (but with it where the mail has no
    /// other part).
    pub head: Range<usize>,
    /// Its body in the mail, without the line end that belongs to the delimiter behind it.
    pub body: Range<usize>,
    /// Its file name for a person: decoded, one line, at most 256 code points; empty = none.
    pub name: String,
    /// `type/subtype`, as declared or by default, in lower case, printable ASCII.
    pub media_type: String,
    /// How its body is written.
    pub encoding: Encoding,
}

impl Part {
    /// The octets of its body, decoded; only this one part's are copied, and only if it is encoded.
    pub fn decoded<'a>(&self, raw: &'a [u8]) -> Cow<'a, [u8]> {
        let body = raw.get(self.body.clone()).unwrap_or_default();
        self.encoding.decode(body)
    }

    /// It is a whole message, which begins with header fields; an encoded one, as others are no
    /// leaves.
    pub fn is_message(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "message/rfc822" | "message/global"
        )
    }
}

/// A part in which a virus was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infected {
    /// [`Part::path`].
    pub path: String,
    /// [`Part::name`].
    pub name: String,
    /// [`Part::media_type`].
    pub media_type: String,
    /// What the scanner calls it.
    pub virus: String,
}

/// The leaf parts of a mail in order. None of one beyond the bounds.
pub fn parts(raw: &[u8], bounds: &Bounds) -> Vec<Part> {
    let header::Scan {
        header,
        body_start,
        exceeded,
    } = header::scan(raw, bounds);
    let mut collector = Collector {
        raw,
        parts: Vec::new(),
        is_open: false,
        levels: Vec::new(),
    };
    let walked = prescan::walk(raw, &header, body_start, bounds, &mut collector);
    if exceeded.is_some() || walked.is_err() {
        return Vec::new();
    }
    collector.end(raw.len());
    collector.parts
}

struct Collector<'a> {
    raw: &'a [u8],
    parts: Vec<Part>,
    /// The last part has no end yet.
    is_open: bool,
    /// As the walk's own.
    levels: Vec<Level>,
}

/// An open multipart or message.
struct Level {
    path: Vec<usize>,
    /// Of a multipart: its parts so far.
    count: Option<usize>,
}

impl Collector<'_> {
    /// The number of the next part. A multipart that is a message's whole body has none of its own
    /// (RFC 3501 6.4.5).
    fn number(&mut self, kind: &Kind) -> Vec<usize> {
        let (mut path, number) = match self.levels.last_mut() {
            Some(Level {
                path,
                count: Some(count),
            }) => {
                *count += 1;
                (path.clone(), Some(*count))
            }
            level => {
                let path = level.map_or_else(Vec::new, |level| level.path.clone());
                let is_multipart = matches!(kind, Kind::Multipart { .. });
                (path, (!is_multipart).then_some(1))
            }
        };
        path.extend(number);
        path
    }

    /// The open part ends before this octet.
    fn end(&mut self, at: usize) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        if let Some(part) = self.parts.last_mut() {
            part.body.end = at.max(part.body.start);
        }
    }
}

impl Visit for Collector<'_> {
    fn part(&mut self, header: &Header, place: Place) -> Kind {
        let kind = message::kind_of(header, place.in_digest);
        let path = self.number(&kind);
        match &kind {
            Kind::Leaf => {
                self.parts.push(leaf(header, place, &path));
                self.is_open = true;
            }
            Kind::Multipart { .. } => self.levels.push(Level {
                path,
                count: Some(0),
            }),
            Kind::Message => self.levels.push(Level { path, count: None }),
        }
        kind
    }

    fn delimiter(&mut self, at: usize, open: usize) {
        let line_end = match self.raw.get(..at).unwrap_or_default() {
            [.., b'\r', b'\n'] => 2,
            [.., b'\r' | b'\n'] => 1,
            _ => 0,
        };
        self.end(at.saturating_sub(line_end));
        self.levels.truncate(open);
    }
}

fn leaf(header: &Header, place: Place, path: &[usize]) -> Part {
    let path: Vec<String> = path.iter().map(ToString::to_string).collect();
    Part {
        path: path.join("."),
        head: place.head,
        body: place.body..place.body,
        name: file_name(header),
        media_type: media_type(header, place.in_digest),
        encoding: Encoding::of(header),
    }
}

fn file_name(header: &Header) -> String {
    let named = |field: &'static str, name: &'static str| {
        header
            .all(field)
            .take(MAX_FIELDS)
            .filter_map(move |field| parameter(beginning(&field.value), name))
    };
    let mut names = named("Content-Disposition", "filename")
        .chain(named("Content-Type", "name"))
        .map(|name| clean(&name));
    names.find(|name| !name.is_empty()).unwrap_or_default()
}

fn media_type(header: &Header, in_digest: bool) -> String {
    let field = header.first("Content-Type");
    let text = field.map_or_else(String::new, |field| {
        words::decode_raw(beginning(&field.value), None)
    });
    let declared = text.split([';', ' ', '\t']).find(|word| !word.is_empty());
    let declared: String = declared
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(MAX_MEDIA_TYPE)
        .collect();
    match (declared.contains('/'), in_digest) {
        (true, _) => declared.to_ascii_lowercase(),
        (false, true) => "message/rfc822".to_owned(),
        (false, false) => "text/plain".to_owned(),
    }
}

fn beginning(value: &[u8]) -> &[u8] {
    value.get(..MAX_MIME_FIELD).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(raw: &[u8]) -> Vec<Part> {
        let parts = parts(raw, &Bounds::default());
        let mut end = 0;
        for part in &parts {
            let order = [
                end,
                part.head.start,
                part.head.end,
                part.body.start,
                part.body.end,
                raw.len(),
            ];
            assert!(order.is_sorted(), "{part:?}");
            end = part.body.end;
        }
        parts
    }

    /// A line a part: path, type, name, body.
    fn listed(raw: &str) -> Vec<String> {
        let parts = found(raw.as_bytes());
        let line = |part: &Part| {
            let body = String::from_utf8(part.decoded(raw.as_bytes()).into_owned()).unwrap();
            format!("{} {} [{}] {body:?}", part.path, part.media_type, part.name)
        };
        parts.iter().map(line).collect()
    }

    const NESTED: &str = "From: a@b\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\npreamble\r\n\
        --b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n\
        --c\r\n\r\nplain\r\n--c\r\nContent-Type: TEXT/html; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\n<b>=3D</b>\r\n--c--\r\nepilogue\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\
        Content-Type: multipart/mixed; boundary=d\r\n\r\n--d\r\n\r\ninner\r\n\
        --d\r\nContent-Type: application/zip; name=x.zip\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment;\r\n filename*=utf-8''%E8%AB%8B%E6%B1%82.zip\r\n\r\nUEsD\r\nBA==\r\n--d--\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nalone\r\n\
        --b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQTogYg==\r\n\
        --b--\r\nepilogue\r\n";

    #[test]
    fn leaves_and_their_numbers() {
        assert_eq!(
            listed(NESTED),
            [
                "1.1 text/plain [] \"plain\"",
                "1.2 text/html [] \"<b>=</b>\"",
                "2.1 text/plain [] \"inner\"",
                "2.2 application/zip [請求.zip] \"PK\\u{3}\\u{4}\"",
                "3.1 text/plain [] \"alone\"",
                "4 message/rfc822 [] \"A: b\"",
            ]
        );
    }

    #[test]
    fn odd_mails() {
        let rows: &[(&str, &[&str])] = &[
            ("", &["1 text/plain [] \"\""]),
            ("A: b\r\n\r\nx\r\n", &["1 text/plain [] \"x\\r\\n\""]),
            (
                "Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx",
                &["1.1 text/plain [] \"x\""],
            ),
            (
                "Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx",
                &["1.1.1 text/plain [] \"x\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nunclosed",
                &["1 text/plain [] \"unclosed\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n--b\r\n\r\n--b--",
                &["1 text/plain [] \"\"", "2 text/plain [] \"\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\ry\n--b--\n",
                &["1 text/plain [] \"x\\ry\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b",
                &["1 text/plain [] \"\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png; name=a",
                &["1 image/png [a] \"\""],
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--bc\r\ny\r\n--b--",
                &["1 text/plain [] \"x\\r\\n--bc\\r\\ny\""],
            ),
            (
                "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n\r\nx\r\n--b--",
                &["1.1 text/plain [] \"x\""],
            ),
            (
                "Content-Type: multipart/mixed\r\n\r\nx",
                &["1 multipart/mixed [] \"x\""],
            ),
        ];
        for (raw, expected) in rows {
            assert_eq!(listed(raw), *expected, "{raw:?}");
        }
    }

    #[test]
    fn a_name_is_looked_for_in_all_fields_and_cleaned() {
        let rows = [
            (
                "Content-Disposition: attachment; filename=a\r\nContent-Type: x/y; name=b",
                "a",
            ),
            (
                "Content-Disposition: attachment\r\nContent-Type: x/y; name=b",
                "b",
            ),
            (
                "Content-Disposition: attachment; filename=\"\"\r\nContent-Type: x/y; name=b",
                "b",
            ),
            (
                "Content-Disposition: inline\r\nContent-Disposition: attachment; filename=a",
                "a",
            ),
            (
                "Content-Disposition: x; filename*=utf-8''a%0D%0ABcc%3A%20x%E2%80%AEexe",
                "a Bcc: xexe",
            ),
            ("Content-Type: x/y", ""),
        ];
        for (fields, expected) in rows {
            let raw = format!("{fields}\r\n\r\nx");
            assert_eq!(found(raw.as_bytes())[0].name, expected, "{fields}");
        }
        let long = format!("Content-Type: x/y; name={}\r\n\r\nx", "a".repeat(100_000));
        assert_eq!(found(long.as_bytes())[0].name.chars().count(), 257);
        let long = format!("Content-Type: x/{}\r\n\r\nx", "y".repeat(100_000));
        assert_eq!(found(long.as_bytes())[0].media_type.len(), MAX_MEDIA_TYPE);
    }

    #[test]
    fn none_beyond_the_bounds() {
        let many = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
            "--b\r\n\r\nx\r\n".repeat(1000)
        );
        assert_eq!(found(many.as_bytes()), []);
        let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(65) + "\r\nx";
        assert_eq!(found(deep.as_bytes()), []);
        let fields = "A: b\r\n".repeat(1001) + "\r\nx";
        assert_eq!(found(fields.as_bytes()), []);
    }

    #[test]
    fn hostile_mails_are_walked_in_one_pass() {
        let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";
        let nest = |n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
        let deep: String = (0..60).map(nest).collect();
        for (piece, times) in [
            ("--b0x\r\n", 200_000),
            ("Content-Type: x/y; name*0=a\r\n", 100_000),
            ("x\r\n", 400_000),
            ("=\r\n", 400_000),
        ] {
            let raw = format!("{head}{deep}{}", piece.repeat(times));
            assert_eq!(found(raw.as_bytes()).len(), 1, "{piece:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets(raw in any::<Vec<u8>>()) {
            for part in found(&raw) {
                part.decoded(&raw);
            }
        }

        #[test]
        fn any_mail(
            raw in "((Content-Type|Content-Disposition|Content-Transfer-Encoding|X)[ ]?:[ ]?(multipart/(mixed|digest)|message/rfc822|base64|attachment|[a-z/]{0,9})(; ?(boundary|name|filename)[*0]{0,3}=\"?[a-c]{0,2}\"?)?(\r\n|\n|\r|\r\n )|--[a-c]{1,2}(--)?\r\n|\r\n|[a-z=]{1,9}){0,40}",
        ) {
            let parts = found(raw.as_bytes());
            let mut paths: Vec<&str> = parts.iter().map(|part| part.path.as_str()).collect();
            let count = paths.len();
            paths.sort_unstable();
            paths.dedup();
            prop_assert_eq!(paths.len(), count, "each has its own number");
            for part in &parts {
                part.decoded(raw.as_bytes());
            }
        }
    }
}
