//! A mail's octets as a Maildir file has them: LF line ends.

use std::io::{self, Write};

/// Writes with CRLF as LF; a CR that stands alone stays.
pub(super) struct LfWriter<W: Write> {
    out: W,
    /// The last octet was a CR, and is not written yet.
    cr: bool,
}

impl<W: Write> LfWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, cr: false }
    }

    pub(super) fn push(&mut self, octets: &[u8]) -> io::Result<()> {
        let Some(&first) = octets.first() else {
            return Ok(());
        };
        if std::mem::take(&mut self.cr) && first != b'\n' {
            self.out.write_all(b"\r")?;
        }
        let mut written = 0;
        for at in memchr::memchr_iter(b'\r', octets) {
            let next = octets.get(at + 1);
            if next.is_some_and(|&next| next != b'\n') {
                continue;
            }
            self.out
                .write_all(octets.get(written..at).unwrap_or_default())?;
            written = at + 1;
            self.cr = next.is_none();
        }
        self.out
            .write_all(octets.get(written..).unwrap_or_default())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.cr {
            self.out.write_all(b"\r")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_crlf_changes(pieces in proptest::collection::vec("[a\r\n]{0,5}", 0..8)) {
            let mut out = Vec::new();
            let mut writer = LfWriter::new(&mut out);
            for piece in &pieces {
                writer.push(piece.as_bytes()).unwrap();
            }
            writer.finish().unwrap();
            let expected = pieces.concat().replace("\r\n", "\n");
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
