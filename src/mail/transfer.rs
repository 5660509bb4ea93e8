//! Content-Transfer-Encoding (RFC 2045 6), decoded as leniently as real mail needs.

use std::borrow::Cow;

use super::{Header, charset};

/// How a part's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is: 7bit, 8bit, binary, and what nobody knows.
    Identity,
    /// RFC 2045 6.8.
    Base64,
    /// RFC 2045 6.7.
    QuotedPrintable,
}

impl Encoding {
    /// What the first field of the name says; a comment or parameter behind the word is passed over.
    pub(super) fn of(header: &Header) -> Self {
        let Some(field) = header.first("Content-Transfer-Encoding") else {
            return Self::Identity;
        };
        let text = field.text();
        let word = text.split([' ', '\t', ';', '(']).find(|w| !w.is_empty());
        match word.map(|word| word.trim_matches('"').to_ascii_lowercase()) {
            Some(word) if word == "base64" => Self::Base64,
            Some(word) if word == "quoted-printable" => Self::QuotedPrintable,
            _ => Self::Identity,
        }
    }

    /// The octets that a body stands for; at most as many as it has, and two. What is no encoding
    /// is passed over in base64 and stands for itself in quoted-printable.
    pub fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Identity => Cow::Borrowed(body),
            Self::Base64 => Cow::Owned(charset::base64(body)),
            Self::QuotedPrintable => Cow::Owned(quoted_printable(body)),
        }
    }
}

fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'=', rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        octets.extend_from_slice(before);
        let after = after.get(1..).unwrap_or_default();
        rest = if let Some(next) = soft_break(after) {
            next
        } else if let Some((octet, next)) = hex_pair(after) {
            octets.push(octet);
            next
        } else {
            octets.push(b'=');
            after
        };
    }
    octets.extend_from_slice(rest);
    octets
}

/// What comes behind a line end that does not count, if one follows; a relay may have put blanks
/// before it.
fn soft_break(text: &[u8]) -> Option<&[u8]> {
    let blanks = text
        .iter()
        .take_while(|octet| matches!(octet, b' ' | b'\t'));
    match text.get(blanks.count()..).unwrap_or_default() {
        [b'\r', b'\n', rest @ ..] | [b'\r' | b'\n', rest @ ..] => Some(rest),
        rest => rest.is_empty().then_some(rest),
    }
}

fn hex_pair(text: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = text else {
        return None;
    };
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let octet = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    Some((octet, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header;
    use proptest::prelude::*;

    #[test]
    fn encodings() {
        let rows = [
            ("Content-Transfer-Encoding: base64", Encoding::Base64),
            ("content-transfer-encoding :\r\n BASE64", Encoding::Base64),
            ("Content-Transfer-Encoding: base64;", Encoding::Base64),
            ("Content-Transfer-Encoding: base64 (x)", Encoding::Base64),
            ("Content-Transfer-Encoding: \"base64\"", Encoding::Base64),
            (
                "Content-Transfer-Encoding: Quoted-Printable",
                Encoding::QuotedPrintable,
            ),
            ("Content-Transfer-Encoding: 8bit", Encoding::Identity),
            ("Content-Transfer-Encoding: x-uuencode", Encoding::Identity),
            ("Content-Transfer-Encoding:", Encoding::Identity),
            ("Content-Type: text/plain", Encoding::Identity),
        ];
        for (fields, expected) in rows {
            let header = header::block(fields.as_bytes());
            assert_eq!(Encoding::of(&header), expected, "{fields}");
        }
    }

    #[test]
    fn bodies() {
        let rows: &[(Encoding, &[u8], &[u8])] = &[
            (Encoding::Identity, b"a=20\r\n", b"a=20\r\n"),
            (Encoding::Base64, b"YWJj\r\nZGVm\r\n", b"abcdef"),
            (Encoding::Base64, b"  YW Jj\r\n", b"abc"),
            (Encoding::Base64, b"YWI", b"ab"),
            (Encoding::Base64, b"YQ==YWI=", b"aab"),
            (Encoding::Base64, b"Y-_j", b"c\xEF\xE3"),
            (Encoding::QuotedPrintable, b"a=3Db=3d", b"a=b="),
            (Encoding::QuotedPrintable, b"a=\r\nb=\nc=", b"abc"),
            (Encoding::QuotedPrintable, b"a= \t\r\nb", b"ab"),
            (Encoding::QuotedPrintable, b"a=ZZ= b=4", b"a=ZZ= b=4"),
            (Encoding::QuotedPrintable, b"a\r\n\r\nb", b"a\r\n\r\nb"),
        ];
        for (encoding, body, expected) in rows {
            let decoded = encoding.decode(body);
            assert_eq!(&*decoded, *expected, "{:?}", body.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_octets(body in any::<Vec<u8>>()) {
            for encoding in [Encoding::Identity, Encoding::Base64, Encoding::QuotedPrintable] {
                prop_assert!(encoding.decode(&body).len() <= body.len() + 2);
            }
        }

        #[test]
        fn what_was_encoded_is_read_back(octets in any::<Vec<u8>>(), width in 4usize..80) {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(&octets);
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(width).collect();
            let decoded = Encoding::Base64.decode(&lines.join(b"\r\n".as_slice())).into_owned();
            prop_assert_eq!(&decoded, &octets);
            let quoted: String = octets.iter().map(|octet| format!("={octet:02X}=\r\n")).collect();
            let decoded = Encoding::QuotedPrintable.decode(quoted.as_bytes()).into_owned();
            prop_assert_eq!(&decoded, &octets);
        }
    }
}
