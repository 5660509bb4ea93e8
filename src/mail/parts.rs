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
mod tests;
