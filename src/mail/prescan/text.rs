//! What of a text the walk looks at, fed in pieces of any size: the lines of header blocks, and of
//! all else those that begin with two hyphens. Most of a body is passed over without a look at each
//! line; what is kept of one line, and of one header block, has a bound.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr2, memrchr2};

use super::super::header::{self, Header, MAX_MIME_FIELD, MAX_MIME_FIELDS};

/// Octets that are kept of a line: more than a delimiter can have, whose boundary is a parameter of
/// a field of [`MAX_MIME_FIELD`].
const LINE: usize = 4 * MAX_MIME_FIELD;
/// Octets that are kept of the first line of a field.
const FIELD_LINE: usize = 2 * MAX_MIME_FIELD;

static HYPHENS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("--"));

/// A line that ended.
pub(super) struct Line<'a> {
    /// Its first octets, without the line end.
    pub content: &'a [u8],
    /// All behind them is white space.
    pub is_blank_behind: bool,
    /// Where in the mail it begins.
    pub start: u64,
    /// Where the next one begins.
    pub end: u64,
    /// CRLF, LF, CR, or nothing at the end of the text.
    pub line_end: &'static [u8],
}

/// Who is told of the lines.
pub(super) trait Reader {
    /// What ends the reading.
    type Stop;

    /// The next line must be told, whatever it begins with.
    fn wants_all(&self) -> bool;

    fn line(&mut self, line: &Line<'_>) -> Result<(), Self::Stop>;
}

/// Where in the text we are.
pub(super) struct Text {
    /// Octets of the mail that were fed.
    at: u64,
    /// Where the line begins that is kept.
    start: u64,
    line: Vec<u8>,
    is_blank_behind: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    /// In a line that is kept.
    Kept,
    /// In a line that nobody wants.
    Passed,
    /// Behind the CR of a line that is kept.
    Cr,
}

impl Text {
    /// At the start of a line, `at` octets into the mail.
    pub(super) fn new(at: u64) -> Self {
        Self {
            at,
            start: at,
            line: Vec::new(),
            is_blank_behind: true,
            state: State::LineStart,
        }
    }

    /// Reads the next octets.
    pub(super) fn feed<R: Reader>(
        &mut self,
        mut piece: &[u8],
        reader: &mut R,
    ) -> Result<(), R::Stop> {
        while let Some(&first) = piece.first() {
            let taken = match self.state {
                State::LineStart if reader.wants_all() => self.begin(),
                State::LineStart => self.pass(piece),
                State::Passed => match memchr2(b'\r', b'\n', piece) {
                    None => piece.len(),
                    Some(end) => {
                        self.state = State::LineStart;
                        end + 1
                    }
                },
                State::Cr => {
                    let taken = usize::from(first == b'\n');
                    self.at += taken as u64;
                    self.end(if taken == 1 { b"\r\n" } else { b"\r" }, reader)?;
                    piece = piece.get(taken..).unwrap_or_default();
                    continue;
                }
                State::Kept => {
                    let length = memchr2(b'\r', b'\n', piece).unwrap_or(piece.len());
                    self.keep(piece.get(..length).unwrap_or_default());
                    match piece.get(length) {
                        Some(b'\r') => {
                            self.state = State::Cr;
                            length + 1
                        }
                        Some(_) => {
                            self.at += length as u64 + 1;
                            self.end(b"\n", reader)?;
                            piece = piece.get(length + 1..).unwrap_or_default();
                            continue;
                        }
                        None => length,
                    }
                }
            };
            self.at += taken as u64;
            piece = piece.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The text ends here; where that is.
    pub(super) fn finish<R: Reader>(&mut self, reader: &mut R) -> Result<u64, R::Stop> {
        match self.state {
            State::Cr => self.end(b"\r", reader)?,
            State::Kept if self.at > self.start => self.end(b"", reader)?,
            _ => {}
        }
        Ok(self.at)
    }

    fn begin(&mut self) -> usize {
        self.start = self.at;
        self.state = State::Kept;
        0
    }

    /// At the start of a line: passes over all up to the next one that begins with hyphens, or may
    /// do so. How many octets.
    fn pass(&mut self, piece: &[u8]) -> usize {
        let mut from = 0;
        let at = loop {
            let rest = piece.get(from..).unwrap_or_default();
            let Some(found) = HYPHENS.find(rest) else {
                break last_line(piece);
            };
            let at = from + found;
            let before = at.checked_sub(1).and_then(|before| piece.get(before));
            if matches!(before, None | Some(b'\r' | b'\n')) {
                break at;
            }
            let rest = piece.get(at..).unwrap_or_default();
            match memchr2(b'\r', b'\n', rest) {
                Some(end) => from = at + end + 1,
                None => break last_line(piece),
            }
        };
        match piece.get(at..).unwrap_or_default() {
            [] => at,
            [b'-'] | [b'-', b'-', ..] => {
                self.start = self.at + at as u64;
                self.state = State::Kept;
                at
            }
            _ => {
                self.state = State::Passed;
                piece.len()
            }
        }
    }

    fn keep(&mut self, octets: &[u8]) {
        let room = LINE - self.line.len();
        let (kept, behind) = octets.split_at(room.min(octets.len()));
        self.line.extend_from_slice(kept);
        self.is_blank_behind = self.is_blank_behind && behind.trim_ascii().is_empty();
    }

    fn end<R: Reader>(&mut self, line_end: &'static [u8], reader: &mut R) -> Result<(), R::Stop> {
        let told = reader.line(&Line {
            content: &self.line,
            is_blank_behind: self.is_blank_behind,
            start: self.start,
            end: self.at,
            line_end,
        });
        self.line.clear();
        self.is_blank_behind = true;
        self.state = State::LineStart;
        told
    }
}

/// Where the last line begins.
fn last_line(piece: &[u8]) -> usize {
    memrchr2(b'\r', b'\n', piece).map_or(0, |end| end + 1)
}

/// What the walk needs of a part's header block.
#[derive(Default)]
pub(super) struct Block {
    /// The lines of its first `Content-` fields.
    octets: Vec<u8>,
    fields: usize,
    /// Octets of the field that the last line belongs to; 0 for one that is not kept.
    field: usize,
}

impl Block {
    pub(super) fn push(&mut self, line: &Line<'_>) {
        let is_more = line.content.starts_with(b" ") || line.content.starts_with(b"\t");
        let most = if is_more {
            match (FIELD_LINE + MAX_MIME_FIELD).saturating_sub(self.field) {
                most if self.field > 0 && most > 0 => most,
                _ => return,
            }
        } else {
            self.field = 0;
            if self.fields == MAX_MIME_FIELDS || !header::is_content_field(line.content) {
                return;
            }
            self.fields += 1;
            FIELD_LINE
        };
        let kept = line.content.get(..most).unwrap_or(line.content);
        self.octets.extend_from_slice(kept);
        self.octets.extend_from_slice(line.line_end);
        self.field += kept.len() + line.line_end.len();
    }

    /// The header, and nothing is left of it here.
    pub(super) fn take(&mut self) -> Header {
        let header = header::block(&self.octets);
        self.octets.clear();
        (self.fields, self.field) = (0, 0);
        header
    }
}
