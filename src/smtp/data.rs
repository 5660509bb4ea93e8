//! The octets between `DATA` and its end (RFC 5321 4.1.1.4, 4.5.2), in pieces of any size.
//!
//! Contract: only `CRLF . CRLF` ends the data. What comes out has CRLF line ends only, stuffing
//! dots removed, every other octet (NUL too) as it came. Memory is bounded by the limit: a mail
//! that is refused is read to its end but not kept.

use std::mem;

use memchr::memchr2;

use crate::mail::buffer;

/// What a CR or LF that stands alone in the data does (`bare_newline`). It never ends the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewline {
    /// The mail is read to its real end and refused.
    Reject,
    /// It is stored as CRLF.
    Normalize,
}

/// Why the data is not a mail that can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFault {
    /// A CR or LF stood alone under [`BareNewline::Reject`].
    BareNewline,
    /// Over the limit, counted with CRLF line ends and without stuffing dots (RFC 1870 5).
    TooBig,
    /// [`DataReader::abandon`]: there is no room for it.
    NoRoom,
    /// [`DataReader::abandon`]: it cannot be kept for another reason.
    NotKept,
}

const FIRST_OCTETS: usize = 4096;
/// What holds more is given back to the system.
const LARGE: usize = 512 * 1024;

/// Reads one mail's data.
#[derive(Debug)]
pub struct DataReader {
    bare_newline: BareNewline,
    limit: u64,
    state: State,
    raw: Vec<u8>,
    /// Octets that [`DataReader::take`] gave away.
    taken: u64,
    fault: Option<DataFault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After a real CRLF, or at the beginning.
    LineStart,
    Line,
    Cr,
    /// A dot at the start of a line: the end, or stuffing.
    Dot,
    DotCr,
    End,
}

impl DataReader {
    /// A reader of a mail of at most `limit` octets.
    pub fn new(bare_newline: BareNewline, limit: u64) -> Self {
        Self {
            bare_newline,
            limit,
            state: State::LineStart,
            raw: Vec::new(),
            taken: 0,
            fault: None,
        }
    }

    /// Takes octets up to the end of data and returns how many were taken; fewer than given only
    /// when the end was among them.
    pub fn feed(&mut self, octets: &[u8]) -> usize {
        let mut taken = 0;
        while self.state != State::End {
            let rest = octets.get(taken..).unwrap_or_default();
            let Some(&octet) = rest.first() else { break };
            let (plain, next) = plain(rest, self.state);
            if plain > 0 {
                self.keep(rest.get(..plain).unwrap_or_default());
                self.state = next;
                taken += plain;
                continue;
            }
            self.state = self.step(octet);
            taken += 1;
        }
        taken
    }

    /// The end of data was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// The octets of the message since the last call, so that they need not be kept here; `None`
    /// once the mail is refused.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.fault.is_some() {
            return None;
        }
        self.taken += self.raw.len() as u64;
        Some(mem::take(&mut self.raw))
    }

    /// How many octets [`DataReader::take`] would give; `None` once the mail is refused.
    pub fn held(&self) -> Option<usize> {
        self.fault.is_none().then_some(self.raw.len())
    }

    /// Frees the memory; the rest is read and thrown away.
    pub fn abandon(&mut self, why: DataFault) {
        self.fail(why);
    }

    /// The message, or what [`DataReader::take`] left of it.
    ///
    /// # Errors
    /// The first [`DataFault`] that was met.
    pub fn finish(self) -> Result<Vec<u8>, DataFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.raw),
        }
    }

    fn step(&mut self, octet: u8) -> State {
        match (self.state, octet) {
            (State::LineStart, b'.') => State::Dot,
            (State::Dot, b'\r') => State::DotCr,
            (State::DotCr, b'\n') => State::End,
            (State::Cr, b'\n') => {
                self.keep(b"\r\n");
                State::LineStart
            }
            (State::Cr | State::DotCr, _) => {
                self.bare();
                self.in_line(octet)
            }
            (State::LineStart | State::Line | State::Dot | State::End, _) => self.in_line(octet),
        }
    }

    /// After a bare newline too: what follows it is no start of a line, so a dot there is a dot.
    fn in_line(&mut self, octet: u8) -> State {
        match octet {
            b'\r' => State::Cr,
            b'\n' => {
                self.bare();
                State::Line
            }
            _ => {
                self.keep(&[octet]);
                State::Line
            }
        }
    }

    fn bare(&mut self) {
        match self.bare_newline {
            BareNewline::Reject => self.fail(DataFault::BareNewline),
            BareNewline::Normalize => self.keep(b"\r\n"),
        }
    }

    fn keep(&mut self, octets: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.taken + (self.raw.len() + octets.len()) as u64 > self.limit {
            return self.fail(DataFault::TooBig);
        }
        if self.raw.capacity() - self.raw.len() < octets.len() {
            self.grow(octets.len());
        }
        self.raw.extend_from_slice(octets);
    }

    /// To twice as much, of which only what is filled takes memory where it is large.
    fn grow(&mut self, by: usize) {
        let more = by.max(self.raw.len()).max(FIRST_OCTETS);
        if self.raw.len() + more <= LARGE {
            return self.raw.reserve_exact(more);
        }
        let mut grown = buffer(self.raw.len() + more);
        grown.extend_from_slice(&self.raw);
        self.raw = grown;
    }

    fn fail(&mut self, fault: DataFault) {
        self.fault.get_or_insert(fault);
        self.raw = Vec::new();
    }
}

/// How many of the octets can be kept at once, and what state they lead to: all of them up to a dot
/// at the start of a line, a CR at the end, or a CR or LF that stands alone.
fn plain(octets: &[u8], mut state: State) -> (usize, State) {
    let mut at = 0;
    while matches!(state, State::Line | State::LineStart) {
        let rest = octets.get(at..).unwrap_or_default();
        if rest.is_empty() || (state == State::LineStart && rest.starts_with(b".")) {
            break;
        }
        let text = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        at += text;
        if text > 0 {
            state = State::Line;
        }
        match rest.get(text..) {
            Some([b'\r', b'\n', ..]) => (at, state) = (at + 2, State::LineStart),
            _ => break,
        }
    }
    (at, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::wire_data;
    use proptest::prelude::*;

    fn read(mode: BareNewline, octets: &[u8]) -> (Option<Result<Vec<u8>, DataFault>>, usize) {
        let mut reader = DataReader::new(mode, 1 << 20);
        let taken = reader.feed(octets);
        (reader.is_done().then(|| reader.finish()), taken)
    }

    #[test]
    fn ends_and_dots() {
        let rows: &[(&[u8], &[u8])] = &[
            (b".\r\n", b""),
            (b"\r\n.\r\n", b"\r\n"),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b".a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
            (b". \r\n.\r\n", b" \r\n"),
            (b"\0.\r\n\xff\r\n.\r\n", b"\0.\r\n\xff\r\n"),
            (b"a.\r\n.\r\n", b"a.\r\n"),
        ];
        for (octets, message) in rows {
            for mode in [BareNewline::Reject, BareNewline::Normalize] {
                let (end, taken) = read(mode, &[octets, b"QUIT\r\n".as_slice()].concat());
                assert_eq!(end, Some(Ok(message.to_vec())), "{octets:?}");
                assert_eq!(taken, octets.len(), "{octets:?}");
            }
        }
    }

    #[test]
    fn bare_newlines_end_nothing() {
        let rows: &[(&[u8], &[u8])] = &[
            (b"\n.\n", b"\r\n.\r\n"),
            (b"\n.\r\n", b"\r\n.\r\n"),
            (b"\r.\r", b"\r\n.\r\n"),
            (b"\r.\r\n", b"\r\n.\r\n"),
            (b"\r\n.\n", b"\r\n\r\n"),
            (b"\r\n.\r", b"\r\n\r\n"),
            (b"\r\n.\r.\r\n", b"\r\n\r\n.\r\n"),
            (b"\n..\n", b"\r\n..\r\n"),
            (b"\r\r\n", b"\r\n\r\n"),
            (b"\n\n", b"\r\n\r\n"),
            (b"\n\r", b"\r\n\r\n"),
            (b"\r\0\n.\r\n", b"\r\n\0\r\n.\r\n"),
        ];
        for (middle, stored) in rows {
            let octets = [b"a", *middle, b"b\r\n"].concat();
            for mode in [BareNewline::Reject, BareNewline::Normalize] {
                assert_eq!(read(mode, &octets).0, None, "{middle:?}");
            }
            let ended = [&octets, b".\r\n".as_slice()].concat();
            let expected = [b"a", *stored, b"b\r\n"].concat();
            assert_eq!(
                read(BareNewline::Normalize, &ended),
                (Some(Ok(expected)), ended.len()),
                "{middle:?}"
            );
            assert_eq!(
                read(BareNewline::Reject, &ended),
                (Some(Err(DataFault::BareNewline)), ended.len()),
                "{middle:?}"
            );
        }
    }

    #[test]
    fn a_limit_counts_message_octets() {
        let rows: &[(u64, &[u8], bool)] = &[
            (4, b"ab\r\n.\r\n", true),
            (3, b"ab\r\n.\r\n", false),
            (3, b"..\r\n.\r\n", true),
            (0, b".\r\n", true),
        ];
        for (limit, octets, fits) in rows {
            let mut reader = DataReader::new(BareNewline::Reject, *limit);
            assert_eq!(reader.feed(octets), octets.len());
            assert!(reader.is_done());
            if !fits {
                assert_eq!(reader.held(), None);
                assert_eq!(reader.finish(), Err(DataFault::TooBig));
            } else {
                assert!(reader.finish().is_ok());
            }
        }
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![
            Just(b'\r'),
            Just(b'\n'),
            Just(b'.'),
            Just(b'a'),
            any::<u8>()
        ];
        proptest::collection::vec(octet, 0..32)
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in octets(), cut in 0usize..32) {
            for mode in [BareNewline::Reject, BareNewline::Normalize] {
                let mut reader = DataReader::new(mode, 20);
                let (head, tail) = octets.split_at(cut.min(octets.len()));
                let taken = reader.feed(head) + reader.feed(tail);
                let mut whole = DataReader::new(mode, 20);
                prop_assert_eq!(taken, whole.feed(&octets));
                prop_assert_eq!(reader.is_done(), whole.is_done());
                prop_assert_eq!(reader.finish(), whole.finish());
            }
        }

        /// Nor does it matter what is taken on the way: neither to the octets nor to the limit.
        #[test]
        fn what_is_taken_belongs_to_the_message(octets in octets(), cut in 0usize..32) {
            let (head, tail) = octets.split_at(cut.min(octets.len()));
            let mut reader = DataReader::new(BareNewline::Normalize, 20);
            reader.feed(head);
            let taken = reader.take();
            prop_assert_eq!(reader.held(), taken.is_some().then_some(0));
            reader.feed(tail);
            let mut whole = DataReader::new(BareNewline::Normalize, 20);
            whole.feed(&octets);
            let rest = reader.finish();
            let together = rest.map(|rest| [taken.unwrap_or_default(), rest].concat());
            prop_assert_eq!(together, whole.finish());
        }

        /// Whatever is stored can be written again and is read back the same, whatever comes first.
        #[test]
        fn stored_is_what_the_next_hop_stores(octets in octets()) {
            let ended = [octets.as_slice(), b"\r\n.\r\n"].concat();
            if let (Some(Ok(stored)), _) = read(BareNewline::Normalize, &ended) {
                let wire = wire_data(&[&stored]).expect("no stray line end in the store");
                prop_assert_eq!(read(BareNewline::Reject, &wire), (Some(Ok(stored)), wire.len()));
            }
        }

        #[test]
        fn an_end_is_crlf_dot_crlf(octets in octets()) {
            let (end, taken) = read(BareNewline::Normalize, &octets);
            let on_wire = [b"\r\n", octets.as_slice()].concat();
            let found = on_wire.windows(5).position(|five| five == b"\r\n.\r\n");
            prop_assert_eq!(end.is_some(), found.is_some());
            if let Some(at) = found {
                prop_assert_eq!(taken, at + 3);
            }
        }
    }
}
