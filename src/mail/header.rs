//! The header block, scanned by our own code: every field in order, none swallowed.
//!
//! (mail-parser loses a field behind some dates and shows the last of several, so it is asked for
//! the MIME facts of a part only.) The scan is linear and tolerant: LF, CRLF or a lone CR end a
//! line; an mbox `From ` line and blank lines before the first field, and lines without a colon
//! between fields, are passed over; white space may stand before a colon.

use std::ops::Range;

use super::{Bounds, Exceeded, address, mailbox, words};

const MIME_PREFIX: &[u8] = b"Content-";
/// `Content-` fields that are read of a part.
pub(super) const MAX_MIME_FIELDS: usize = 100;
/// Octets of one MIME field that are read: mail-parser's time grows with the square of the number
/// of parameters.
pub(super) const MAX_MIME_FIELD: usize = 4096;

/// Fields of most mails, at most.
const USUAL: usize = 32;

/// One header field: the name as written and the raw value, folded lines included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// As written, without the colon.
    pub name: String,
    /// Everything between the colon and the line end that closes the field, raw bytes.
    pub value: Vec<u8>,
    /// The field's octets in the message, name and closing line end included.
    pub span: Range<usize>,
}

/// All fields of a message's header block, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    fields: Vec<Field>,
}

impl Header {
    #[cfg(test)]
    pub(super) fn of(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// All fields in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields of that name, case-insensitive, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
    }

    /// The first field of that name.
    pub fn first(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// Every mailbox address named in the fields of that name (`To`, `Cc`, `Resent-To`, …),
    /// groups and comments understood, in [`Address::key`](super::Address::key) form; at most
    /// 1,000.
    pub fn address_keys(&self, name: &str) -> Vec<String> {
        self.all(name)
            .flat_map(|field| mailbox::list(&words::decode_raw(&field.value, None)))
            .take(mailbox::MAX_ADDRESSES)
            .map(|found| address::key(&found.local, &found.domain))
            .collect()
    }
}

impl Field {
    /// The value unfolded and decoded for a person (RFC 2047), trimmed.
    pub fn text(&self) -> String {
        words::decode(&self.value, None)
    }
}

/// What [`scan`] found.
pub(super) struct Scan {
    /// The fields within the bounds.
    pub header: Header,
    /// The octet after the empty line that ends the header, or the end.
    pub body_start: usize,
    /// Which bound stopped the reading of fields.
    pub exceeded: Option<Exceeded>,
}

/// Reads the header block at the beginning of `raw`. `body_start` is found beyond the bounds too.
pub(super) fn scan(raw: &[u8], bounds: &Bounds) -> Scan {
    scan_from(raw, preamble(raw), bounds)
}

/// The header block ends in these octets, whatever follows them.
pub(super) fn is_closed(head: &[u8]) -> bool {
    let (start, seen) = opening(head);
    seen < head.len() && each_field(head, start, |_| {}) < head.len()
}

/// The `Content-` fields of a part's header, which ends with its last octet. Little is copied,
/// however large the header is.
pub(super) fn block(raw: &[u8]) -> Header {
    let mut fields = Vec::new();
    each_field(raw, 0, |mut found| {
        let name = raw.get(found.name.clone()).unwrap_or_default();
        if begins_as_content(name) && fields.len() < MAX_MIME_FIELDS {
            found.value.end = found.value.end.min(found.value.start + MAX_MIME_FIELD);
            fields.push(found.field(raw));
        }
    });
    Header { fields }
}

/// A field of a part begins with this line, and is one of those that [`block`] reads.
pub(super) fn is_content_field(line: &[u8]) -> bool {
    begins_as_content(line) && colon(line).is_some()
}

fn begins_as_content(name: &[u8]) -> bool {
    let start = name.get(..MIME_PREFIX.len()).unwrap_or_default();
    start.eq_ignore_ascii_case(MIME_PREFIX)
}

/// Gives the places of a header block without its fields of that name to `keep`, up to its first error.
pub(super) fn without<E>(
    block: &[u8],
    name: &str,
    keep: impl FnMut(Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let of_name = |written: &[u8]| {
        let written = written.trim_ascii_end();
        written.eq_ignore_ascii_case(name.as_bytes())
    };
    without_fields(block, preamble(block), of_name, keep)
}

/// Gives the places of a part's header block without its `Content-` fields to `keep`, up to its first
/// error.
pub(super) fn without_content<E>(
    block: &[u8],
    keep: impl FnMut(Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    without_fields(block, 0, begins_as_content, keep)
}

fn without_fields<E>(
    block: &[u8],
    start: usize,
    is_left_out: impl Fn(&[u8]) -> bool,
    mut keep: impl FnMut(Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let mut result = Ok(());
    let mut at = 0;
    each_field(block, start, |found| {
        if is_left_out(block.get(found.name.clone()).unwrap_or_default()) {
            if result.is_ok() {
                result = keep(at..found.span.start);
            }
            at = found.span.end;
        }
    });
    result?;
    keep(at..block.len())
}

/// Gives the text of each field of that name in the header at the beginning of `raw` to `read`, up to
/// the first that it makes something of. No bound of [`Bounds`] hides a field from it; of each value
/// the first 4 KiB are read.
pub fn find_field<T>(raw: &[u8], name: &str, mut read: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let mut found = None;
    each_field(raw, preamble(raw), |mut field| {
        let written = raw.get(field.name.clone()).unwrap_or_default();
        let is_it = written
            .trim_ascii_end()
            .eq_ignore_ascii_case(name.as_bytes());
        if found.is_none() && is_it {
            field.value.end = field.value.end.min(field.value.start + MAX_MIME_FIELD);
            found = read(&field.field(raw).text());
        }
    });
    found
}

fn scan_from(raw: &[u8], start: usize, bounds: &Bounds) -> Scan {
    let mut fields: Vec<Field> = Vec::with_capacity(USUAL);
    let mut exceeded = None;
    let body_start = each_field(raw, start, |found| {
        if exceeded.is_none() {
            exceeded = bound(fields.len(), found.span.end - start, bounds);
        }
        if exceeded.is_none() {
            fields.push(found.field(raw));
        }
    });
    if exceeded.is_none() && body_start - start > bounds.header_bytes.saturating_add(2) {
        exceeded = Some(Exceeded::HeaderBytes);
    }
    Scan {
        header: Header { fields },
        body_start,
        exceeded,
    }
}

/// Where one field and its parts lie.
struct Found {
    name: Range<usize>,
    value: Range<usize>,
    span: Range<usize>,
}

impl Found {
    fn field(self, raw: &[u8]) -> Field {
        let name = raw.get(self.name).unwrap_or_default().trim_ascii_end();
        Field {
            name: String::from_utf8_lossy(name).into_owned(),
            value: raw.get(self.value).unwrap_or_default().to_vec(),
            span: self.span,
        }
    }
}

/// Finds every field from `start` on; gives where the body begins.
fn each_field(raw: &[u8], start: usize, mut see: impl FnMut(Found)) -> usize {
    let mut lines = Lines::new(raw, start);
    while let Some(line) = lines.next() {
        if line.content.is_empty() {
            break;
        }
        let Some(colon) = colon(raw.get(line.content.clone()).unwrap_or_default()) else {
            continue;
        };
        let name = line.content.start..line.content.start + colon;
        let mut value = name.end + 1..line.content.end;
        let mut span = line.content.start..line.end;
        while let Some(more) = lines.continuation() {
            value.end = more.content.end;
            span.end = more.end;
        }
        see(Found { name, value, span });
    }
    lines.at
}

fn bound(fields: usize, octets: usize, bounds: &Bounds) -> Option<Exceeded> {
    if octets > bounds.header_bytes {
        Some(Exceeded::HeaderBytes)
    } else if fields >= bounds.header_fields {
        Some(Exceeded::HeaderFields)
    } else {
        None
    }
}

/// Where the first field begins: behind a byte order mark, an mbox `From ` line, and blank lines
/// that a field follows.
pub(super) fn preamble(raw: &[u8]) -> usize {
    opening(raw).0
}

/// The same, and how far one must look to know.
fn opening(raw: &[u8]) -> (usize, usize) {
    let mut start = if raw.starts_with(b"\xEF\xBB\xBF") {
        3
    } else {
        0
    };
    let rest = raw.get(start..).unwrap_or_default();
    if rest.starts_with(b"From ") || rest.starts_with(b">From ") {
        let mut lines = Lines::new(raw, start);
        let first = lines.next().and_then(|line| raw.get(line.content));
        if first.and_then(colon).is_none() {
            start = lines.at;
        }
    }
    for line in Lines::new(raw, start) {
        let content = raw.get(line.content.clone()).unwrap_or_default();
        if !content.trim_ascii().is_empty() {
            let first = match colon(content) {
                Some(_) => line.content.start,
                None => start,
            };
            return (first, line.end);
        }
    }
    (start, raw.len())
}

/// The place of the colon behind a field name (RFC 5322 2.2: printable ASCII; 8-bit is tolerated).
fn colon(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = line.get(..colon)?.trim_ascii_end();
    let token = !name.is_empty() && name.iter().all(|&b| b > b' ' && b != 0x7F);
    token.then_some(colon)
}

/// One line: where its content lies and where the next begins.
pub(super) struct Line {
    pub content: Range<usize>,
    pub end: usize,
}

/// The lines of a text; CRLF, LF or a lone CR ends one.
pub(super) struct Lines<'a> {
    raw: &'a [u8],
    /// The octet where the next line begins.
    pub at: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(raw: &'a [u8], at: usize) -> Self {
        Self { raw, at }
    }

    /// The next line if it continues a folded field (RFC 5322 2.2.3).
    fn continuation(&mut self) -> Option<Line> {
        match self.raw.get(self.at) {
            Some(b' ' | b'\t') => self.next(),
            _ => None,
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let rest = self.raw.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let ending = match rest.get(length..) {
            Some([b'\r', b'\n', ..]) => 2,
            Some([_, ..]) => 1,
            _ => 0,
        };
        let content = self.at..self.at + length;
        self.at = content.end + ending;
        Some(Line {
            content,
            end: self.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(raw: &str) -> Vec<(String, String)> {
        let scan = scan(raw.as_bytes(), &Bounds::default());
        let fields = scan.header.fields().iter();
        fields
            .map(|field| (field.name.clone(), field.text()))
            .collect()
    }

    #[test]
    fn every_field_in_order() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);
        let rows: &[Row<'_>] = &[
            ("A: 1\r\nB: 2\r\n\r\nC: 3", &[("A", "1"), ("B", "2")], 14),
            ("A: 1\nB: 2\n\nC: 3", &[("A", "1"), ("B", "2")], 11),
            ("A: 1\rB: 2\r\rC: 3", &[("A", "1"), ("B", "2")], 11),
            ("A: 1\r\n 2\r\n\t3\r\n\r\n", &[("A", "1 2\t3")], 16),
            ("A: 1\r\n \r\nB: 2\r\n\r\n", &[("A", "1"), ("B", "2")], 17),
            ("A:1\r\nA:2", &[("A", "1"), ("A", "2")], 8),
            ("A : 1\r\n\r\n", &[("A", "1")], 9),
            ("A:\r\n\r\n", &[("A", "")], 6),
            (
                "A: 1\r\njunk\r\n more\r\nB: 2\r\n\r\n",
                &[("A", "1"), ("B", "2")],
                27,
            ),
            (" lead\r\nA: 1\r\n\r\n", &[("A", "1")], 15),
            ("\r\n\r\nA: 1\r\n\r\n", &[("A", "1")], 12),
            ("\r\nplain body\r\n", &[], 2),
            ("From a@b Mon\r\nA: 1\r\n\r\n", &[("A", "1")], 22),
            (">From a@b Mon\r\nA: 1\r\n\r\n", &[("A", "1")], 23),
            ("From : a@b\r\n\r\n", &[("From", "a@b")], 14),
            ("\u{FEFF}A: 1\r\n\r\n", &[("A", "1")], 11),
            (": 1\r\nB: 2\r\n\r\n", &[("B", "2")], 13),
            ("", &[], 0),
        ];
        for (raw, expected, body_start) in rows {
            let found = fields(raw);
            let found: Vec<(&str, &str)> = found
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            assert_eq!(found, *expected, "{raw:?}");
            let scan = scan(raw.as_bytes(), &Bounds::default());
            assert_eq!(scan.body_start, *body_start, "{raw:?}");
        }
    }

    #[test]
    fn spans_cover_whole_fields() {
        let raw = b"A: 1\r\nB:\r\n 2\r\n\r\n";
        let scan = scan(raw, &Bounds::default());
        let spans: Vec<&[u8]> = scan
            .header
            .fields()
            .iter()
            .map(|f| &raw[f.span.clone()])
            .collect();
        assert_eq!(spans, [b"A: 1\r\n".as_slice(), b"B:\r\n 2\r\n"]);
        assert_eq!(
            scan.header.first("b").map(|f| f.value.as_slice()),
            Some(b"\r\n 2".as_slice())
        );
    }
}
