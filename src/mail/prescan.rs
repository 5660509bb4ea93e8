//! The walk over a mail's MIME tree, linear and without recursion: are parts and nesting within
//! bounds, and what does each part's header say?
//!
//! mail-parser recurses where a mail nests, and decodes what is nested in base64 before it
//! recurses, so no look from outside can bound it (RELIABILITY F4). Therefore it never sees a
//! mail: this walk finds the parts and gives it one part's header at a time.

mod text;

use std::ops::Range;

use super::Header;
use text::{Block, Line, Reader, Text};

/// The bounds (`server.limits`); beyond them a mail is decided on its header fields alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Header fields of the message, a count.
    pub header_fields: usize,
    /// Octets of the message's header block.
    pub header_bytes: usize,
    /// MIME parts, a count.
    pub mime_parts: usize,
    /// Nesting of multiparts and message/rfc822.
    pub mime_depth: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            header_fields: 1000,
            header_bytes: 1 << 20,
            mime_parts: 1000,
            mime_depth: 64,
        }
    }
}

/// The first bound that a mail exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// More than `header_fields` fields; the first ones were read.
    HeaderFields,
    /// More than `header_bytes` octets of header; the first ones were read.
    HeaderBytes,
    /// More than `mime_parts` parts.
    MimeParts,
    /// Deeper than `mime_depth`.
    MimeDepth,
}

/// What a part's header says of its place in the tree.
pub(super) enum Kind {
    /// It holds no other parts, or none that are looked for (an encoded message).
    Leaf,
    /// A multipart with its boundary; a digest's parts are messages by default (RFC 2046 5.1.5).
    Multipart {
        /// The `boundary` parameter.
        boundary: Vec<u8>,
        /// `multipart/digest`.
        digest: bool,
    },
    /// A message in clear: its header follows.
    Message,
}

/// Where a part lies in the mail.
pub(super) struct Place {
    /// Its header block. Of the mail itself with the empty line, of all others without.
    pub head: Range<usize>,
    /// Where its body begins.
    pub body: usize,
    /// It stands in a digest.
    pub in_digest: bool,
}

/// What is told of a walk.
pub(super) trait Visit {
    /// A part, within the bounds, in the order of the mail.
    fn part(&mut self, header: &Header, place: Place) -> Kind;

    /// A delimiter line begins at this octet: the part before it ends, and of the open multiparts
    /// and messages as many stay open.
    fn delimiter(&mut self, _at: usize, _open: usize) {}
}

impl<F: FnMut(&Header, bool) -> Kind> Visit for F {
    fn part(&mut self, header: &Header, place: Place) -> Kind {
        self(header, place.in_digest)
    }
}

/// Walks the parts of `raw`, whose own header is `top` and body begins at `body_start`. How deep
/// multiparts and messages nest, 0 for a mail without.
///
/// # Errors
/// The first bound that is exceeded.
pub(super) fn walk(
    raw: &[u8],
    top: &Header,
    body_start: usize,
    bounds: &Bounds,
    visit: &mut impl Visit,
) -> Result<usize, Exceeded> {
    let mut walk = Walk::new(top, body_start, bounds, visit)?;
    if !walk.is_over() {
        walk.feed(raw.get(body_start..).unwrap_or_default())?;
    }
    walk.finish()
}

/// A walk whose mail comes in pieces.
pub(super) struct Walk<'b, V> {
    text: Text,
    tree: Tree<'b, V>,
}

impl<'b, V: Visit> Walk<'b, V> {
    /// As [`walk`]; the body is to be [fed](Self::feed).
    pub(super) fn new(
        top: &Header,
        body_start: usize,
        bounds: &'b Bounds,
        visit: &'b mut V,
    ) -> Result<Self, Exceeded> {
        let mut tree = Tree {
            bounds,
            visit,
            open: Vec::new(),
            parts: 0,
            depth: 0,
            head: None,
            block: Block::default(),
        };
        tree.head = tree.part(top, 0..body_start, body_start)?;
        Ok(Self {
            text: Text::new(octets(body_start)),
            tree,
        })
    }

    /// Nothing that follows changes anything.
    pub(super) fn is_over(&self) -> bool {
        self.tree.open.is_empty()
    }

    /// The next octets of the body.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Exceeded> {
        self.text.feed(piece, &mut self.tree)
    }

    /// At the end of the body, or when it [is over](Self::is_over).
    pub(super) fn finish(mut self) -> Result<usize, Exceeded> {
        let end = place(self.text.finish(&mut self.tree)?);
        if let Some(start) = self.tree.head.take() {
            let header = self.tree.block.take();
            self.tree.part(&header, start..end, end)?;
        }
        Ok(self.tree.depth)
    }
}

/// Where we are among the parts.
struct Tree<'b, V> {
    bounds: &'b Bounds,
    visit: &'b mut V,
    open: Vec<Level>,
    parts: usize,
    /// Levels that were open at once.
    depth: usize,
    /// Where the header block begins that is being read.
    head: Option<usize>,
    block: Block,
}

impl<V: Visit> Reader for Tree<'_, V> {
    type Stop = Exceeded;

    fn wants_all(&self) -> bool {
        self.head.is_some()
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), Exceeded> {
        let (start, end) = (place(line.start), place(line.end));
        let delimiter = self.delimiter(line);
        if let Some(head) = self.head {
            if delimiter.is_none() && !line.content.is_empty() {
                self.block.push(line);
                return Ok(());
            }
            let header = self.block.take();
            let body = if delimiter.is_some() { start } else { end };
            self.head = self.part(&header, head..start, body)?;
        }
        if let Some(delimiter) = delimiter {
            let more = self.close(&delimiter, start);
            self.head = more.then_some(end);
        }
        Ok(())
    }
}

/// A place in a mail that is in memory, or whose places nobody looks up.
fn place(octets: u64) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

fn octets(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}

enum Level {
    Multipart { boundary: Vec<u8>, digest: bool },
    Message,
}

/// A delimiter line (RFC 2046 5.1.1).
struct Delimiter {
    /// Index of its multipart among the open levels.
    level: usize,
    /// With `--` behind it: no part follows.
    close: bool,
}

impl<V: Visit> Tree<'_, V> {
    /// Counts and reads one part. Gives where a header begins, if its body is a message.
    fn part(
        &mut self,
        header: &Header,
        head: Range<usize>,
        body: usize,
    ) -> Result<Option<usize>, Exceeded> {
        self.parts += 1;
        if self.parts > self.bounds.mime_parts {
            return Err(Exceeded::MimeParts);
        }
        let in_digest = matches!(
            self.open.last(),
            Some(Level::Multipart { digest: true, .. })
        );
        let place = Place {
            head,
            body,
            in_digest,
        };
        let message = match self.visit.part(header, place) {
            Kind::Leaf => return Ok(None),
            Kind::Multipart { boundary, digest } => {
                self.open.push(Level::Multipart { boundary, digest });
                None
            }
            Kind::Message => {
                self.open.push(Level::Message);
                Some(body)
            }
        };
        self.depth = self.depth.max(self.open.len());
        if self.open.len() > self.bounds.mime_depth {
            return Err(Exceeded::MimeDepth);
        }
        Ok(message)
    }

    /// Whose delimiter a line is; the innermost multipart's counts first.
    fn delimiter(&self, line: &Line<'_>) -> Option<Delimiter> {
        let rest = line.content.strip_prefix(b"--")?;
        self.open
            .iter()
            .enumerate()
            .rev()
            .find_map(|(level, open)| {
                let Level::Multipart { boundary, .. } = open else {
                    return None;
                };
                let tail = rest.strip_prefix(boundary.as_slice())?;
                let close = tail.starts_with(b"--");
                let padding = if close { tail.get(2..)? } else { tail };
                let is_padding = padding.trim_ascii().is_empty() && line.is_blank_behind;
                is_padding.then_some(Delimiter { level, close })
            })
    }

    /// Ends what the delimiter at this octet ends; true if a part follows.
    fn close(&mut self, delimiter: &Delimiter, at: usize) -> bool {
        let keep = delimiter.level + usize::from(!delimiter.close);
        self.visit.delimiter(at, keep);
        self.open.truncate(keep);
        !delimiter.close
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::header::{self, Lines};
    use super::super::message;
    use super::*;

    /// All that is told of a walk.
    #[derive(Debug, Default, PartialEq)]
    struct Told(
        Vec<(Range<usize>, usize, bool, Header)>,
        Vec<(usize, usize)>,
    );

    impl Visit for Told {
        fn part(&mut self, header: &Header, place: Place) -> Kind {
            let kind = message::kind_of(header, place.in_digest);
            let content = header.fields().iter().cloned().map(|mut field| {
                field.span = 0..0;
                field
            });
            let content = content.filter(|field| field.name.starts_with("Content-"));
            let header = Header::of(content.collect());
            self.0
                .push((place.head, place.body, place.in_digest, header));
            kind
        }

        fn delimiter(&mut self, at: usize, open: usize) {
            self.1.push((at, open));
        }
    }

    fn bounds() -> Bounds {
        Bounds {
            mime_parts: 12,
            mime_depth: 4,
            ..Bounds::default()
        }
    }

    fn in_pieces(raw: &[u8], length: usize) -> (Result<usize, Exceeded>, Told) {
        let scan = header::scan(raw, &bounds());
        let (mut told, bounds) = (Told::default(), bounds());
        let body = raw.get(scan.body_start..).unwrap();
        let walked =
            Walk::new(&scan.header, scan.body_start, &bounds, &mut told).and_then(|mut walk| {
                for piece in body.chunks(length) {
                    if !walk.is_over() {
                        walk.feed(piece)?;
                    }
                }
                walk.finish()
            });
        (walked, told)
    }

    /// The same by a look at each line of a mail in memory.
    fn by_lines(raw: &[u8]) -> (Result<usize, Exceeded>, Told) {
        let scan = header::scan(raw, &bounds());
        let (mut told, bounds) = (Told::default(), bounds());
        let mut tree = Tree {
            bounds: &bounds,
            visit: &mut told,
            open: Vec::new(),
            parts: 0,
            depth: 0,
            head: None,
            block: Block::default(),
        };
        let walked = (|| {
            let mut head = tree.part(&scan.header, 0..scan.body_start, scan.body_start)?;
            if tree.open.is_empty() {
                return Ok(0);
            }
            for line in Lines::new(raw, scan.body_start) {
                let content = raw.get(line.content.clone()).unwrap();
                let delimiter = tree.delimiter(&Line {
                    content,
                    is_blank_behind: true,
                    start: 0,
                    end: 0,
                    line_end: b"",
                });
                let ends = delimiter.is_some() || content.is_empty();
                if let (Some(start), true) = (head, ends) {
                    let place = start..line.content.start;
                    let block = header::block(raw.get(place.clone()).unwrap());
                    let body = if delimiter.is_some() {
                        line.content.start
                    } else {
                        line.end
                    };
                    head = tree.part(&block, place, body)?;
                }
                if let Some(delimiter) = delimiter {
                    let more = tree.close(&delimiter, line.content.start);
                    head = more.then_some(line.end);
                }
            }
            if let Some(start) = head {
                let block = header::block(raw.get(start..).unwrap());
                tree.part(&block, start..raw.len(), raw.len())?;
            }
            Ok(tree.depth)
        })();
        (walked, told)
    }

    fn same(raw: &[u8], lengths: &[usize]) {
        let expected = by_lines(raw);
        for &length in lengths {
            assert_eq!(in_pieces(raw, length), expected, "pieces of {length}");
        }
    }

    #[test]
    fn long_lines_and_headers_are_read_within_bounds() {
        let top = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
        let long = "x".repeat(100_000);
        let blank = " ".repeat(100_000);
        let folded = "\r\n a=b;".repeat(20_000);
        let rows = [
            format!("--b{blank}\r\n\r\nx\r\n--b--{blank}\r\n"),
            format!("--b{blank}x\r\n\r\nx\r\n--b--\r\n"),
            format!("--b\r\n{long}\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n"),
            format!("--b\r\nContent-Type: text/plain; name={long}\r\n\r\n{long}\r\n--b--"),
            format!("--b\r\nContent-Type: text/plain;{folded}\r\nContent-Id: x\r\n\r\n"),
            format!("--b\r\nX: y{folded}\r\nContent-Disposition: attachment\r\n\r\n--b"),
            format!("--b\r\n{}\r\nx", "Content-Type: text/plain\r\n".repeat(300)),
            format!("{}--b\r\n\r\n", "-- \r\n-----\r\n".repeat(5000)),
        ];
        for row in rows {
            same(
                format!("{top}{row}").as_bytes(),
                &[1000, 4096, 65_537, usize::MAX],
            );
        }
        let boundary = "b".repeat(3900);
        let raw = format!(
            "Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n\r\n--{boundary}--"
        );
        assert_eq!(in_pieces(raw.as_bytes(), 100).1.1.len(), 2);
        same(raw.as_bytes(), &[7, 100, usize::MAX]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn pieces_do_not_matter(
            top in "Content-Type: (multipart/(mixed|digest); boundary=[ab]|message/rfc822)\r\n\r\n",
            body in "(--[ab](--)? {0,2}|-|--|x-?-?|[ \t]|Content-(Type|Disposition|X)[ ]?:[ ]?(multipart/(mixed|digest); boundary=\"?[abc]|message/rfc822|text/plain|attachment)|X: y|\r\n|\r\n|\r|\n){0,40}",
            length in 1_usize..9,
        ) {
            let raw = [top.as_bytes(), body.as_bytes()].concat();
            let expected = by_lines(&raw);
            prop_assert_eq!(in_pieces(&raw, length), by_lines(&raw));
            prop_assert_eq!(in_pieces(&raw, usize::MAX), expected);
        }
    }
}
