//! What leaves us: a message's octets as the `DATA` of RFC 5321 4.5.2, on the wire.
//!
//! Contract: whatever is written holds no CR without LF and no LF without CR, every line that
//! begins with a dot has one more, and the only `CRLF . CRLF` is the end. A message that would
//! need more than that is refused, never repaired here (SMTP smuggling, CVE-2023-51764).

use memchr::memchr2;

/// A CR or LF that stands alone in what should be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a CR or LF stands alone at octet {at} of the message")]
pub struct StrayLineEnd {
    /// Octets before it, counted over all that was pushed.
    pub at: u64,
}

/// Turns message octets, given in pieces of any size, into wire octets.
///
/// After an error the transaction cannot be finished: close the connection without sending the
/// end of data.
#[derive(Debug)]
pub struct Writer {
    before: Before,
    pushed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    LineStart,
    Text,
    Cr,
}

impl Writer {
    /// At the beginning of a message.
    pub fn new() -> Self {
        Self {
            before: Before::LineStart,
            pushed: 0,
        }
    }

    /// Appends the wire form of `octets` to `wire`.
    ///
    /// # Errors
    /// [`StrayLineEnd`] at the first CR or LF that stands alone; `wire` then ends before it.
    pub fn push(&mut self, octets: &[u8], wire: &mut Vec<u8>) -> Result<(), StrayLineEnd> {
        let mut rest = octets;
        while let Some((first, behind)) = rest.split_first() {
            match (self.before, first) {
                (Before::Cr, b'\n') => {
                    wire.extend_from_slice(b"\r\n");
                    self.before = Before::LineStart;
                    self.pushed += 1;
                    rest = behind;
                    continue;
                }
                (Before::Cr, _) => return Err(self.stray_before()),
                (Before::LineStart, b'.') => wire.push(b'.'),
                _ => {}
            }
            let (run, after) = rest.split_at(run(rest));
            wire.extend_from_slice(run);
            self.pushed += run.len() as u64;
            (self.before, rest) = match after {
                [b'\r'] => (Before::Cr, b"".as_slice()),
                [] if !run.ends_with(b"\n") => (Before::Text, after),
                [] | [b'.', ..] => (Before::LineStart, after),
                _ => return Err(StrayLineEnd { at: self.pushed }),
            };
            self.pushed += u64::from(self.before == Before::Cr);
        }
        Ok(())
    }

    /// Appends the end of data; a last line without a line end gets one.
    ///
    /// # Errors
    /// [`StrayLineEnd`] when the message ends with a CR.
    pub fn finish(self, wire: &mut Vec<u8>) -> Result<(), StrayLineEnd> {
        match self.before {
            Before::Cr => return Err(self.stray_before()),
            Before::Text => wire.extend_from_slice(b"\r\n"),
            Before::LineStart => {}
        }
        wire.extend_from_slice(b".\r\n");
        Ok(())
    }

    fn stray_before(&self) -> StrayLineEnd {
        StrayLineEnd {
            at: self.pushed.saturating_sub(1),
        }
    }
}

/// How many octets stand on the wire as they are: up to a dot behind a line end, a CR or LF without
/// the other, or the end.
fn run(octets: &[u8]) -> usize {
    let mut at = 0;
    while let Some(line) = memchr2(b'\r', b'\n', octets.get(at..).unwrap_or_default()) {
        at += line;
        match octets.get(at..) {
            Some([b'\r', b'\n', b'.', ..]) => return at + 2,
            Some([b'\r', b'\n', ..]) => at += 2,
            _ => return at,
        }
    }
    octets.len()
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// The whole `DATA` of one message (headers put before it, then the message), end included.
///
/// # Errors
/// [`StrayLineEnd`]; nothing may then be sent.
pub fn wire_data(parts: &[&[u8]]) -> Result<Vec<u8>, StrayLineEnd> {
    let octets: usize = parts.iter().map(|part| part.len()).sum();
    let mut wire = Vec::with_capacity(octets + octets / 64 + 8);
    let mut writer = Writer::new();
    for part in parts {
        writer.push(part, &mut wire)?;
    }
    writer.finish(&mut wire)?;
    Ok(wire)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written() {
        let rows: &[(&[&[u8]], &[u8])] = &[
            (&[b""], b".\r\n"),
            (&[b"a\r\n"], b"a\r\n.\r\n"),
            (&[b"a"], b"a\r\n.\r\n"),
            (&[b".\r\n"], b"..\r\n.\r\n"),
            (&[b".a\r\n..b\r\nc.d\r\n"], b"..a\r\n...b\r\nc.d\r\n.\r\n"),
            (&[b"a\r", b"\n", b".", b"\r\n"], b"a\r\n..\r\n.\r\n"),
            (&[b"X: y\r\n", b"\r\n.b"], b"X: y\r\n\r\n..b\r\n.\r\n"),
            (&[b"\0\xff.\r\n"], b"\0\xff.\r\n.\r\n"),
        ];
        for (parts, wire) in rows {
            assert_eq!(wire_data(parts).as_deref(), Ok(*wire), "{parts:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        let rows: &[(&[&[u8]], u64)] = &[
            (&[b"a\nb\r\n"], 1),
            (&[b"a\rb\r\n"], 1),
            (&[b"ab\r\n\n.\r\n"], 4),
            (&[b"ab\r\n\r.\r\n"], 4),
            (&[b"a\r\r\n"], 1),
            (&[b"a\r"], 1),
            (&[b"a\r", b".\r\n"], 1),
            (&[b"a\r\n.", b"\n"], 4),
        ];
        for (parts, at) in rows {
            assert_eq!(wire_data(parts), Err(StrayLineEnd { at: *at }), "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..24), cut in 0usize..24) {
            let (head, tail) = octets.split_at(cut.min(octets.len()));
            prop_assert_eq!(wire_data(&[&octets]), wire_data(&[head, tail]));
        }

        #[test]
        fn nothing_on_the_wire_stands_alone(octets in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..24)) {
            if let Ok(wire) = wire_data(&[&octets]) {
                let text = String::from_utf8(wire).unwrap();
                let lines = text.replace("\r\n", "|");
                prop_assert!(!lines.contains(['\r', '\n']));
                prop_assert_eq!(format!("|{lines}").find("|.|"), Some(lines.len() - 2));
            }
        }
    }
}
