//! A mail of a text part and another, of what is attached: a header block, or a mail in its octets.

use memchr::memmem;

use super::{BOUNDARY, Fields, base64_lines, text_body};

/// Octets of a header block that are quoted; Postfix keeps as many (`header_size_limit`).
const HEADER_OCTETS: usize = 100 * 1024;
/// RFC 2046 5.1.1: a boundary has at most 70 characters. The seed of one may have so many.
const SEED: usize = 40;

/// A mail of our own around octets that are not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What stands before the enclosed octets; the whole mail where none are enclosed.
    pub head: Vec<u8>,
    /// What stands behind them.
    pub tail: Vec<u8>,
}

impl Fields {
    /// A mail of a text part and the header fields of another (RFC 6522 4), the lines of its first
    /// 100 KiB.
    pub(in crate::mail) fn finish_with_header(
        mut self,
        text: &str,
        header_block: &[u8],
    ) -> Vec<u8> {
        self.begin_parts(BOUNDARY, text, None);
        let (encoding, body) = header_body(first_lines(header_block));
        self.begin_part(BOUNDARY, "text/rfc822-headers", encoding);
        self.0.push_str(&body);
        self.0.push_str(&format!("--{BOUNDARY}--\r\n"));
        self.0.into_bytes()
    }

    /// A mail of a text part and another mail, whose octets are those of `enclosed`, one after the
    /// other, as they are. `seed` makes the boundary one that nobody has foreseen.
    pub(in crate::mail) fn finish_with_mail(
        mut self,
        text: &str,
        enclosed: &[&[u8]],
        seed: &str,
    ) -> Report {
        let boundary = boundary(seed, enclosed);
        let eight_bit = !enclosed.iter().all(|piece| piece.is_ascii());
        let encoding = if eight_bit { "8bit" } else { "7bit" };
        self.begin_parts(&boundary, text, eight_bit.then_some(encoding));
        self.begin_part(&boundary, "message/rfc822", encoding);
        Report {
            head: self.0.into_bytes(),
            tail: format!("\r\n--{boundary}--\r\n").into_bytes(),
        }
    }

    /// `encoding`: of the whole, where a part is not 7bit (RFC 2045 6.4).
    fn begin_parts(&mut self, boundary: &str, text: &str, encoding: Option<&str>) {
        self.line("MIME-Version", "1.0");
        self.line(
            "Content-Type",
            &format!("multipart/mixed;\r\n boundary=\"{boundary}\""),
        );
        if let Some(encoding) = encoding {
            self.line("Content-Transfer-Encoding", encoding);
        }
        self.0.push_str("\r\n");
        let (encoding, body) = text_body(text);
        self.begin_part(boundary, "text/plain; charset=utf-8", encoding);
        self.0.push_str(&body);
    }

    fn begin_part(&mut self, boundary: &str, content_type: &str, encoding: &str) {
        self.0.push_str(&format!("--{boundary}\r\n"));
        self.line("Content-Type", content_type);
        self.line("Content-Transfer-Encoding", encoding);
        self.0.push_str("\r\n");
    }
}

/// A boundary that does not occur in these octets. Each try is one pass over them; who does not know the
/// seed cannot make it take a second.
fn boundary(seed: &str, enclosed: &[&[u8]]) -> String {
    let seed: String = seed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(SEED)
        .collect();
    let mut boundary = format!("{BOUNDARY}_{seed}");
    let mut number = 0_u64;
    while occurs(boundary.as_bytes(), enclosed) {
        number += 1;
        boundary = format!("{BOUNDARY}_{seed}_{number}");
    }
    boundary
}

/// Whether the word occurs in the pieces or across their ends.
fn occurs(word: &[u8], pieces: &[&[u8]]) -> bool {
    let finder = memmem::Finder::new(word);
    let keep = word.len().saturating_sub(1);
    let mut before: Vec<u8> = Vec::new();
    for piece in pieces {
        before.extend_from_slice(piece.get(..keep).unwrap_or(piece));
        if finder.find(&before).is_some() || finder.find(piece).is_some() {
            return true;
        }
        if piece.len() > keep {
            before.clear();
            before.extend_from_slice(piece.get(piece.len() - keep..).unwrap_or_default());
        }
        before.drain(..before.len().saturating_sub(keep));
    }
    false
}

/// The whole lines among the first octets of a block.
fn first_lines(block: &[u8]) -> &[u8] {
    match block.get(..HEADER_OCTETS) {
        None => block,
        Some(start) => {
            let end = memchr::memrchr(b'\n', start).map_or(start.len(), |at| at + 1);
            start.get(..end).unwrap_or(start)
        }
    }
}

/// A header block as it is where it is clean ASCII, else as base64.
fn header_body(block: &[u8]) -> (&'static str, String) {
    let plain = std::str::from_utf8(block).ok().filter(|text| {
        let lines = text.strip_suffix("\r\n").unwrap_or(text).split("\r\n");
        let clean = |b: u8| b == b'\t' || matches!(b, b' '..=b'~');
        !text.contains(BOUNDARY)
            && lines
                .into_iter()
                .all(|line| line.len() <= 998 && line.bytes().all(clean))
    });
    match plain {
        Some(text) if text.ends_with("\r\n") => ("7bit", text.to_owned()),
        Some(text) => ("7bit", format!("{text}\r\n")),
        None => ("base64", base64_lines(block)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_huge_header_is_quoted_in_part() {
        let line = "X-A: b\r\n";
        for (lines, ending, quoted) in [(9, "", 9), (1 << 20, "", HEADER_OCTETS / 8), (0, "x", 0)] {
            let block = line.repeat(lines) + ending;
            let report = Fields::new().finish_with_header("text", block.as_bytes());
            let report = String::from_utf8(report).unwrap();
            assert_eq!(report.matches(line).count(), quoted, "{lines} lines");
            assert!(report.ends_with(&format!("\r\n--{BOUNDARY}--\r\n")));
        }
        let one_line = "x".repeat(1 << 20);
        let report = Fields::new().finish_with_header("text", one_line.as_bytes());
        assert!(report.len() < 2 * HEADER_OCTETS);
    }

    #[test]
    fn the_boundary_is_none_of_the_octets() {
        let first = format!("{BOUNDARY}_ab");
        let second = format!("--{first}_1");
        let (start, end) = first.split_at(9);
        let rows: &[(&[&[u8]], &str)] = &[
            (&[], ""),
            (&[b"", b"x"], ""),
            (&[first.as_bytes()], "_1"),
            (&[b"x--", start.as_bytes(), b"", end.as_bytes(), b"x"], "_1"),
            (&[start.as_bytes(), b"x", end.as_bytes()], ""),
            (
                &[
                    &first.as_bytes()[..1],
                    &first.as_bytes()[1..2],
                    &first.as_bytes()[2..],
                ],
                "_1",
            ),
            (&[second.as_bytes()], "_2"),
        ];
        for (pieces, suffix) in rows {
            assert_eq!(
                boundary("<ab>", pieces),
                format!("{first}{suffix}"),
                "{pieces:?}"
            );
        }
        assert!(boundary(&"x".repeat(500), &[]).len() < 60);
    }

    proptest! {
        #[test]
        fn a_word_is_found_wherever_the_pieces_end(
            word in "[ab]{1,5}", text in "[ab]{0,20}", cuts in proptest::collection::vec(0..20usize, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(occurs(word.as_bytes(), &pieces), text.contains(&word));
        }
    }
}
