//! A parameter of a MIME field (RFC 2045 5.1) for a person, read from octets: file names as real
//! mail writes them, in RFC 2231 pieces, as encoded words, as raw Shift_JIS, EUC-JP, ISO-2022-JP or
//! UTF-8.
//!
//! mail-parser reads text: of a raw 8-bit name nothing is left. So it is asked for the structure
//! of a mail alone.

use super::charset::{self, Charset};
use super::words;

/// The parameter of that name (lower case), decoded and trimmed; empty if it is empty. RFC 2231's
/// form goes before the plain one (RFC 6266 4.3). Linear in the value.
pub(super) fn parameter(value: &[u8], name: &str) -> Option<String> {
    let value: Vec<u8> = value
        .iter()
        .copied()
        .filter(|octet| !matches!(octet, b'\r' | b'\n'))
        .collect();
    let mut plain = None;
    let mut pieces: Vec<Piece> = Vec::new();
    for (attribute, octets) in Parameters(after(&value, b';')) {
        let attribute = attribute.to_ascii_lowercase();
        let Some(suffix) = attribute.strip_prefix(name.as_bytes()) else {
            continue;
        };
        match suffix {
            b"" => plain = plain.or(Some(octets)),
            [b'*', number @ ..] => pieces.extend(Piece::of(number, octets)),
            _ => {}
        }
    }
    joined(pieces).or_else(|| plain.map(|octets| words::decode(&octets, None)))
}

/// One piece of a value (RFC 2231 3).
struct Piece {
    number: u32,
    encoded: bool,
    octets: Vec<u8>,
}

impl Piece {
    /// Of what stands behind the first `*`: nothing, `0`, `0*`.
    fn of(number: &[u8], octets: Vec<u8>) -> Option<Self> {
        let (digits, encoded) = match number.strip_suffix(b"*") {
            Some(digits) => (digits, true),
            None => (number, number.is_empty()),
        };
        let number = if digits.is_empty() {
            0
        } else {
            std::str::from_utf8(digits).ok()?.parse().ok()?
        };
        Some(Self {
            number,
            encoded,
            octets,
        })
    }
}

fn joined(mut pieces: Vec<Piece>) -> Option<String> {
    pieces.sort_by_key(|piece| piece.number);
    let first = pieces.first()?;
    let mut charset = None;
    let mut octets = Vec::new();
    let mut start = 0;
    if first.encoded
        && let Some((label, text)) = charset_and_text(&first.octets)
    {
        charset = Some(Charset::of(label));
        start = text;
    }
    for piece in &pieces {
        let text = piece.octets.get(start..).unwrap_or_default();
        start = 0;
        if piece.encoded {
            percent(text, &mut octets);
        } else {
            octets.extend_from_slice(text);
        }
    }
    let text = match charset {
        Some(charset) => charset.decode(&octets),
        None if first.encoded => charset::decode_raw(&octets, None),
        None => words::decode(&octets, None),
    };
    Some(text.trim().to_owned())
}

/// `charset'language'text`: the charset's label and where the text begins.
fn charset_and_text(octets: &[u8]) -> Option<(&[u8], usize)> {
    let label = memchr::memchr(b'\'', octets)?;
    let language = memchr::memchr(b'\'', octets.get(label + 1..)?)?;
    Some((octets.get(..label)?, label + language + 2))
}

/// `%XX` decoded; what is none stands for itself.
fn percent(text: &[u8], octets: &mut Vec<u8>) {
    let digit = |octet: Option<&u8>| char::from(*octet?).to_digit(16);
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let pair = match (first, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        octets.push(pair.unwrap_or(*first));
        if pair.is_some() {
            rest = after.get(2..).unwrap_or_default();
        }
    }
}

/// The `name=value` pairs of what stands behind a field's first semicolon.
struct Parameters<'a>(&'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.0.is_empty() {
                return None;
            }
            let length = memchr::memchr2(b'=', b';', self.0).unwrap_or(self.0.len());
            let name = self.0.get(..length).unwrap_or_default().trim_ascii();
            let is_named = self.0.get(length) == Some(&b'=') && !name.is_empty();
            let rest = self.0.get(length + 1..).unwrap_or_default();
            if !is_named {
                self.0 = rest;
                continue;
            }
            let (value, rest) = match rest.trim_ascii_start() {
                [b'"', quoted @ ..] => {
                    let (value, rest) = quoted_string(quoted);
                    (value, after(rest, b';'))
                }
                rest => token(rest),
            };
            self.0 = rest;
            return Some((name, value));
        }
    }
}

/// What stands behind the first such octet; nothing if there is none.
fn after(text: &[u8], octet: u8) -> &[u8] {
    let at = memchr::memchr(octet, text).unwrap_or(text.len());
    text.get(at + 1..).unwrap_or_default()
}

/// The value up to its closing quote, and what follows. A backslash behind an 8-bit octet is the second
/// half of a Shift_JIS character and quotes nothing.
fn quoted_string(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut shift = Shift::default();
    let mut before = 0;
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        let is_double = shift.see(octet);
        rest = after;
        match (octet, after.split_first()) {
            (b'"', _) if !is_double => return (value, rest),
            (b'\\', Some((&quoted @ (b'"' | b'\\'), after))) if !is_double && before < 0x80 => {
                value.push(quoted);
                rest = after;
                before = 0;
                continue;
            }
            _ => value.push(octet),
        }
        before = octet;
    }
    (value, rest)
}

/// The value up to the next semicolon, blanks in it included, and what follows.
fn token(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut shift = Shift::default();
    let end = text
        .iter()
        .position(|octet| !shift.see(*octet) && *octet == b';')
        .unwrap_or(text.len());
    let value = text.get(..end).unwrap_or_default().trim_ascii();
    (value.to_vec(), text.get(end + 1..).unwrap_or_default())
}

/// Whether raw ISO-2022-JP is within its two-octet characters, where any printable octet may stand.
#[derive(Default)]
struct Shift {
    escape: Option<u8>,
    double: bool,
}

impl Shift {
    /// True if the octet belongs to a two-octet character.
    fn see(&mut self, octet: u8) -> bool {
        match (self.escape, octet) {
            (_, 0x1B) => self.escape = Some(0x1B),
            (Some(0x1B), b'$' | b'(') => self.escape = Some(octet),
            (Some(b'$'), b'@' | b'B') => (self.escape, self.double) = (None, true),
            (Some(b'('), b'B' | b'J') => (self.escape, self.double) = (None, false),
            _ => {
                self.escape = None;
                return self.double;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn file_names_of_real_mail() {
        let rows: &[(&[u8], Option<&str>)] = &[
            (b"attachment; filename=a.zip", Some("a.zip")),
            (b"attachment; filename=\"a b.zip\"", Some("a b.zip")),
            (b"attachment;\r\n\tFileName = \"a.zip\" ; x=y", Some("a.zip")),
            (b"attachment; filename=my file.zip; x=y", Some("my file.zip")),
            (b"attachment; filename=\"a\\\"b\\\\c\"", Some("a\"b\\c")),
            (b"attachment; filename=\"C:\\x\\y\"", Some("C:\\x\\y")),
            (b"attachment; x=\"; filename=no\"; filename=a", Some("a")),
            (b"attachment; filename=\"", Some("")),
            (b"attachment; filename=", Some("")),
            (b"attachment; filename", None),
            (b"attachment", None),
            (b"", None),
            (b"attachment; xfilename=a; filenamex=b", None),
            (
                b"attachment; filename*=UTF-8''%E8%AB%8B%E6%B1%82.zip",
                Some("請求.zip"),
            ),
            (
                b"attachment; filename*=iso-2022-jp'ja'%1B%24B%25F%259%25H%1B%28B.txt",
                Some("テスト.txt"),
            ),
            (
                b"attachment; filename*0*=utf-8''%E8%AB%8B%E6;\r\n filename*1*=%B1%82; filename*2=.zip",
                Some("請求.zip"),
            ),
            (
                b"attachment; filename*10=k; filename*0=a; filename*2=c; filename*1=b",
                Some("abck"),
            ),
            (
                b"attachment; filename=\"x.zip\"; filename*=utf-8''%E3%81%82",
                Some("あ"),
            ),
            (b"attachment; filename*=%E3%81%82", Some("あ")),
            (b"attachment; filename*=utf-8''%ZZ%4", Some("%ZZ%4")),
            (
                b"attachment; filename=\"=?utf-8?B?44OG44K5?=\r\n =?utf-8?B?44OI?=.txt\"",
                Some("テスト.txt"),
            ),
            (
                b"attachment; filename==?iso-2022-jp?B?GyRCJUYlORsoQg==?=",
                Some("テス"),
            ),
            (b"attachment; filename=\"\x83e\x83X\x83g.txt\"", Some("テスト.txt")),
            (b"attachment; filename=\"\x83\\\x83t\x83g.txt\"", Some("ソフト.txt")),
            (b"attachment; filename=\"\x89\xC2\x94\\\"; x=y", Some("可能")),
            (
                b"attachment; filename=\"\x1B$B$\"$;$\\\x1B(B.txt\"; x=y",
                Some("あせぼ.txt"),
            ),
            (b"attachment; filename=\x1B$B$;\x1B(B.txt; x=y", Some("せ.txt")),
            (
                b"attachment; filename=\"\xA5\xC6\xA5\xB9\xA5\xC8.txt\"",
                Some("テスト.txt"),
            ),
            ("attachment; filename=\"添付.txt\"".as_bytes(), Some("添付.txt")),
        ];
        for (value, expected) in rows {
            let found = parameter(value, "filename");
            assert_eq!(found.as_deref(), *expected, "{:?}", value.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_octets(value in any::<Vec<u8>>()) {
            parameter(&value, "filename");
        }

        #[test]
        fn any_parameters(value in "(; ?|filename|[*0-9]{1,3}|=|\"|\\\\|\x1b[$(][B@J]|utf-8''|%4?1?|\\PC){0,30}") {
            parameter(value.as_bytes(), "filename");
        }

        #[test]
        fn a_quoted_name_is_read_back(name in "[!-~あ-ん漢字]([ -~あ-ん漢字]{0,20}[!-~漢字])?") {
            prop_assume!(!name.contains("=?"));
            // Behind an 8-bit octet a backslash is read as half of a character.
            prop_assume!(name.is_ascii() || !name.contains(['\\', '"']));
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let value = format!("attachment; filename=\"{quoted}\"; x=y");
            prop_assert_eq!(parameter(value.as_bytes(), "filename"), Some(name.clone()));
            let coded: String = name.bytes().map(|octet| format!("%{octet:02x}")).collect();
            let value = format!("attachment; filename*=utf-8''{coded}");
            prop_assert_eq!(parameter(value.as_bytes(), "filename"), Some(name));
        }
    }
}
