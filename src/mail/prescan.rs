//! The walk over a mail's MIME tree, linear and without recursion: are parts and nesting within
//! bounds, and what does each part's header say?
//!
//! mail-parser recurses where a mail nests, and decodes what is nested in base64 before it
//! recurses, so no look from outside can bound it (RELIABILITY F4). Therefore it never sees a
//! mail: this walk finds the parts and gives it one part's header at a time.

use std::ops::Range;

use super::Header;
use super::header::{self, Lines};

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
    let mut walk = Walk {
        bounds,
        visit,
        open: Vec::new(),
        parts: 0,
        depth: 0,
    };
    let mut head = walk.part(top, 0..body_start, body_start)?;
    if walk.open.is_empty() {
        return Ok(0);
    }
    for line in Lines::new(raw, body_start) {
        let content = raw.get(line.content.clone()).unwrap_or_default();
        let delimiter = walk.delimiter(content);
        let ends = delimiter.is_some() || content.is_empty();
        if let (Some(start), true) = (head, ends) {
            let place = start..line.content.start;
            let block = raw.get(place.clone()).unwrap_or_default();
            let body = if delimiter.is_some() {
                line.content.start
            } else {
                line.end
            };
            head = walk.part(&header::block(block), place, body)?;
        }
        if let Some(delimiter) = delimiter {
            let more = walk.close(&delimiter, line.content.start);
            head = more.then_some(line.end);
        }
    }
    if let Some(start) = head {
        let block = raw.get(start..).unwrap_or_default();
        walk.part(&header::block(block), start..raw.len(), raw.len())?;
    }
    Ok(walk.depth)
}

struct Walk<'b, V> {
    bounds: &'b Bounds,
    visit: &'b mut V,
    open: Vec<Level>,
    parts: usize,
    /// Levels that were open at once.
    depth: usize,
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

impl<V: Visit> Walk<'_, V> {
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
    fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let rest = line.strip_prefix(b"--")?;
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
                padding
                    .trim_ascii()
                    .is_empty()
                    .then_some(Delimiter { level, close })
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
