//! Charsets of mail: labels as they are written, octets to text.
//!
//! All variants of ISO-2022-JP (half-width kana by `ESC ( I`, SO/SI or 8-bit, JIS X 0212, NEC and
//! IBM rows) are put into EUC-JP octets and decoded as that; the rest is encoding_rs's.

use encoding_rs::{EUC_JP, EUC_KR, Encoding, GBK, SHIFT_JIS, UTF_8, WINDOWS_1252};

/// How to decode octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// One that encoding_rs knows.
    Known(&'static Encoding),
    /// ISO-2022-JP, -1, -2, -3, -MS, CP5022x.
    Iso2022Jp,
    /// RFC 2152.
    Utf7,
    /// No or an unknown label, or US-ASCII: found out by looking.
    Unknown,
}

impl Charset {
    /// The charset of a label, RFC 2231's language suffix and common misspellings understood.
    pub(super) fn of(label: &[u8]) -> Self {
        let label = String::from_utf8_lossy(label).trim().to_ascii_lowercase();
        let label = label.split('*').next().unwrap_or_default();
        match label.replace('_', "-").as_str() {
            "us-ascii" | "ascii" | "unknown" | "unknown-8bit" | "x-unknown" | "" => Self::Unknown,
            "utf-7" | "utf7" | "unicode-1-1-utf-7" | "csunicode11utf7" => Self::Utf7,
            "jis" | "csiso2022jp" | "cp50220" | "cp50221" | "cp50222" => Self::Iso2022Jp,
            "cp932" | "ms932" | "mskanji" | "ms-kanji" | "x-ms-cp932" | "windows-932"
            | "windows-31j" | "cswindows31j" | "sjis" | "x-sjis" | "sjis-win" | "shiftjis"
            | "shift-jis" | "x-sjis-cp932" | "sjis-open" | "sjis-docomo" | "sjis-kddi"
            | "sjis-softbank" => Self::Known(SHIFT_JIS),
            "eucjp-ms" | "eucjpms" | "euc-jp-ms" | "eucjp-win" | "eucjp" | "euc-jp"
            | "x-euc-jp" | "x-eucjp" | "ujis" | "cp51932" | "cp20932" => Self::Known(EUC_JP),
            "utf8" | "utf-8-mac" | "utf8-mac" | "utf8mb4" | "x-utf-8" => Self::Known(UTF_8),
            other if other.contains("2022-jp") || other.contains("2022jp") => Self::Iso2022Jp,
            _ => Self::by_encoding_rs(label),
        }
    }

    fn by_encoding_rs(label: &str) -> Self {
        let found = Encoding::for_label(label.as_bytes()).or_else(|| {
            let number = label
                .trim_start_matches("cp")
                .trim_start_matches("ms")
                .trim_start_matches("windows")
                .trim_start_matches('-');
            Encoding::for_label(format!("windows-{number}").as_bytes())
                .or_else(|| Encoding::for_label(label.replace("iso8859", "iso-8859").as_bytes()))
                .or_else(|| Encoding::for_label(label.replace('_', "-").as_bytes()))
        });
        match found {
            Some(encoding) if encoding == encoding_rs::REPLACEMENT => Self::Unknown,
            Some(encoding) if encoding == encoding_rs::ISO_2022_JP => Self::Iso2022Jp,
            Some(encoding) => Self::Known(encoding),
            None => Self::Unknown,
        }
    }

    /// Decodes; what cannot be decoded becomes U+FFFD.
    pub(super) fn decode(self, octets: &[u8]) -> String {
        match self {
            Self::Known(encoding) => encoding.decode_without_bom_handling(octets).0.into_owned(),
            Self::Iso2022Jp => iso_2022_jp(octets),
            Self::Utf7 => utf_7(octets),
            Self::Unknown => decode_raw(octets, None),
        }
    }
}

/// Decodes octets without a label: ISO-2022-JP by its escapes, UTF-8 if it is, `declared`, else
/// the Japanese charset that it reads as, else windows-1252.
pub(super) fn decode_raw(octets: &[u8], declared: Option<Charset>) -> String {
    if has_designator(octets) {
        return iso_2022_jp(octets);
    }
    if let Ok(text) = std::str::from_utf8(octets) {
        return text.to_owned();
    }
    if let Some(text) = declared.and_then(|charset| declared_text(octets, charset)) {
        return text;
    }
    let (encoding, _) = [
        (EUC_JP, reads_as_euc(octets)),
        (SHIFT_JIS, reads_as_sjis(octets)),
    ]
    .into_iter()
    .find(|(_, reads)| *reads)
    .unwrap_or((
        if mostly_utf8(octets) {
            UTF_8
        } else {
            WINDOWS_1252
        },
        true,
    ));
    encoding.decode_without_bom_handling(octets).0.into_owned()
}

fn declared_text(octets: &[u8], charset: Charset) -> Option<String> {
    match charset {
        Charset::Known(encoding) if encoding != UTF_8 => encoding
            .decode_without_bom_handling_and_without_replacement(octets)
            .map(Into::into),
        _ => None,
    }
}

fn has_designator(octets: &[u8]) -> bool {
    memchr::memchr_iter(0x1B, octets).any(|at| {
        matches!(
            octets.get(at + 1..),
            Some([b'$', b'@' | b'A' | b'B' | b'(', ..] | [b'(', b'I' | b'J', ..])
        )
    })
}

/// UTF-8 that was cut or has few octets of another kind in it.
fn mostly_utf8(octets: &[u8]) -> bool {
    let high = octets.iter().filter(|octet| **octet >= 0x80).count();
    let good: usize = octets
        .utf8_chunks()
        .map(|chunk| chunk.valid().bytes().filter(|octet| *octet >= 0x80).count())
        .sum();
    good * 2 > high
}

fn clean(encoding: &'static Encoding, octets: &[u8]) -> Option<String> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(octets)?;
    let private = text
        .chars()
        .any(|c| matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{80}'..='\u{9F}'));
    (!private).then(|| text.into_owned())
}

fn reads_as_euc(octets: &[u8]) -> bool {
    let pairs = octets.iter().filter(|octet| **octet >= 0xA1).count() / 2;
    pairs > 0
        && clean(EUC_JP, octets).is_some_and(|text| {
            pairs > 1 || text.chars().any(|c| matches!(c, '\u{3040}'..='\u{30FF}'))
        })
}

/// CP932: two wide characters side by side and a lead octet that European text has no letter for,
/// or a run of half-width kana.
fn reads_as_sjis(octets: &[u8]) -> bool {
    let lead = octets.iter().any(|octet| matches!(octet, 0x81..=0x9F));
    clean(SHIFT_JIS, octets).is_some_and(|text| {
        let wide = |c: char| c >= '\u{2000}' && !matches!(c, '\u{FF61}'..='\u{FF9F}');
        let kana = text
            .chars()
            .filter(|c| matches!(c, '\u{FF61}'..='\u{FF9F}'));
        let pair = text
            .chars()
            .zip(text.chars().skip(1))
            .any(|(a, b)| wide(a) && wide(b));
        lead && pair || kana.count() > 2 && !text.chars().any(wide)
    })
}

/// What a graphic set of ISO 2022 holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Ascii,
    Kana,
    Jis0208,
    Jis0212,
    Gb2312,
    Ksc5601,
}

impl Set {
    fn encoding(self) -> &'static Encoding {
        match self {
            Self::Ascii | Self::Kana | Self::Jis0208 | Self::Jis0212 => EUC_JP,
            Self::Gb2312 => GBK,
            Self::Ksc5601 => EUC_KR,
        }
    }
}

/// Any variant of ISO-2022-JP.
fn iso_2022_jp(octets: &[u8]) -> String {
    let mut out = Runs::default();
    let mut set = Set::Ascii;
    let mut shifted = false;
    let mut rest = octets;
    while let [first, after @ ..] = rest {
        if let Some((designated, length)) = designator(rest) {
            set = designated;
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        rest = after;
        let wide = !matches!(set, Set::Ascii | Set::Kana) && !shifted;
        match (*first, after) {
            (0x0E, _) => shifted = true,
            (0x0F, _) => shifted = false,
            (b'\r' | b'\n', _) => {
                set = Set::Ascii;
                shifted = false;
                out.push(Set::Ascii, &[*first]);
            }
            (high, [low, later @ ..]) if wide && is_94(high) && is_94(*low) => {
                out.push(set, &[high | 0x80, low | 0x80]);
                rest = later;
            }
            (octet, _) if (set == Set::Kana || shifted) && is_94(octet) => {
                out.push(Set::Kana, &[octet | 0x80]);
            }
            (octet @ 0xA1..=0xDF, _) => out.push(Set::Kana, &[octet]),
            (octet, _) => out.push(Set::Ascii, &[octet]),
        }
    }
    out.finish()
}

fn is_94(octet: u8) -> bool {
    matches!(octet & 0x7F, 0x21..=0x7E)
}

/// The escape sequence that `text` begins with, and its length.
fn designator(text: &[u8]) -> Option<(Set, usize)> {
    let [0x1B, sequence @ ..] = text else {
        return None;
    };
    match sequence {
        [b'(', b'I', ..] => Some((Set::Kana, 3)),
        [b'(', b'B' | b'J' | b'H', ..] => Some((Set::Ascii, 3)),
        [b'$', b'@' | b'B', ..] => Some((Set::Jis0208, 3)),
        [b'$', b'A', ..] => Some((Set::Gb2312, 3)),
        [b'$', b'(', b'@' | b'B' | b'O' | b'Q', ..] => Some((Set::Jis0208, 4)),
        [b'$', b'(', b'D' | b'P', ..] => Some((Set::Jis0212, 4)),
        [b'$', b'(', b'A', ..] => Some((Set::Gb2312, 4)),
        [b'$', b'(', b'C', ..] => Some((Set::Ksc5601, 4)),
        _ => None,
    }
}

/// Text that is made of runs in several encodings.
#[derive(Default)]
struct Runs {
    text: String,
    encoding: Option<&'static Encoding>,
    octets: Vec<u8>,
}

impl Runs {
    fn push(&mut self, set: Set, octets: &[u8]) {
        if self.encoding != Some(set.encoding()) {
            self.flush();
            self.encoding = Some(set.encoding());
        }
        match set {
            Set::Kana => self.octets.push(0x8E),
            Set::Jis0212 => self.octets.push(0x8F),
            _ => {}
        }
        self.octets.extend_from_slice(octets);
    }

    fn flush(&mut self) {
        if let Some(encoding) = self.encoding.take() {
            let (text, _) = encoding.decode_without_bom_handling(&self.octets);
            self.text.push_str(&text);
            self.octets.clear();
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        self.text
    }
}

/// RFC 2152.
fn utf_7(octets: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = octets;
    while let Some(plus) = memchr::memchr(b'+', rest) {
        let (plain, shifted) = rest.split_at_checked(plus).unwrap_or((rest, &[]));
        text.push_str(&String::from_utf8_lossy(plain));
        let shifted = shifted.get(1..).unwrap_or_default();
        let length = shifted
            .iter()
            .position(
                |octet| !matches!(octet, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/'),
            )
            .unwrap_or(shifted.len());
        let (encoded, after) = shifted.split_at_checked(length).unwrap_or((shifted, &[]));
        if encoded.is_empty() {
            text.push('+');
        }
        let octets = base64(encoded);
        let units = octets
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair));
        text.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
        rest = after.strip_prefix(b"-").unwrap_or(after);
    }
    text.push_str(&String::from_utf8_lossy(rest));
    text
}

/// Base64 (RFC 2045 6.8); octets outside the alphabet are passed over, padding may be missing.
pub(super) fn base64(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut bits = 0u32;
    let mut count = 0u32;
    for &octet in text {
        let value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                bits = 0;
                count = 0;
                continue;
            }
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.extend(u8::try_from(bits >> count & 0xFF));
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn iso_2022_jp_in_all_variants() {
        let rows: &[(&[u8], &str)] = &[
            (b"\x1B$B%F%9%H\x1B(B!", "テスト!"),
            (b"\x1B$@%F%9%H\x1B(J!", "テスト!"),
            (b"\x1B$(B%F%9%H\x1B(B", "テスト"),
            (b"\x1B(I1@^YD\x1B(B", "ｱﾀﾞﾙﾄ"),
            (b"\x1B(J\x0E1@^YD\x0Fx", "ｱﾀﾞﾙﾄx"),
            (b"\xB1\xC0\xDE\xD9\xC4 x", "ｱﾀﾞﾙﾄ x"),
            (b"\x1B$B-!-j\x1B(B", "①㈱"),
            (b"\x1B$(D0!\x1B(B", "丂"),
            (b"\x1B$A0!\x1B(B", "啊"),
            (b"\x1B$(C0!\x1B(B", "가"),
            (b"\x1B$B%F%9%H", "テスト"),
            (b"\x1B$B%F\x1B", "テ\x1B"),
            (b"\x1B$B%", "%"),
        ];
        for (octets, expected) in rows {
            assert_eq!(Charset::Iso2022Jp.decode(octets), *expected, "{octets:?}");
        }
    }

    #[test]
    fn labels() {
        use encoding_rs::{ISO_8859_2, WINDOWS_1251};
        let rows = [
            ("CP932", Charset::Known(SHIFT_JIS)),
            ("x-sjis", Charset::Known(SHIFT_JIS)),
            ("MS932", Charset::Known(SHIFT_JIS)),
            ("Windows-31J", Charset::Known(SHIFT_JIS)),
            ("Shift_JIS", Charset::Known(SHIFT_JIS)),
            ("eucJP-ms", Charset::Known(EUC_JP)),
            ("EUC-JP", Charset::Known(EUC_JP)),
            ("CP50220", Charset::Iso2022Jp),
            ("CP50221", Charset::Iso2022Jp),
            ("ISO-2022-JP", Charset::Iso2022Jp),
            ("iso-2022-jp-1", Charset::Iso2022Jp),
            ("ISO-2022-JP-2", Charset::Iso2022Jp),
            ("ISO-2022-JP-3", Charset::Iso2022Jp),
            ("ISO-2022-JP-MS", Charset::Iso2022Jp),
            ("UTF-7", Charset::Utf7),
            ("utf8", Charset::Known(UTF_8)),
            ("UTF-8*en", Charset::Known(UTF_8)),
            ("cp1251", Charset::Known(WINDOWS_1251)),
            ("iso8859-2", Charset::Known(ISO_8859_2)),
            ("ks_c_5601-1987", Charset::Known(EUC_KR)),
            ("gb2312", Charset::Known(GBK)),
            ("us-ascii", Charset::Unknown),
            ("iso-2022-kr", Charset::Unknown),
            ("nonsense", Charset::Unknown),
            ("", Charset::Unknown),
        ];
        for (label, expected) in rows {
            assert_eq!(Charset::of(label.as_bytes()), expected, "{label}");
        }
    }

    #[test]
    fn raw_octets() {
        let rows: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            ("テスト".as_bytes(), "テスト"),
            (b"\x1B$B%F%9%H\x1B(B", "テスト"),
            (b"\x83e\x83X\x83g", "テスト"),
            (b"\x87@\x87A\x87B", "①②③"),
            (b"\xB1\xC0\xDE\xD9\xC4", "ｱﾀﾞﾙﾄ"),
            (b"\xA5\xC6\xA5\xB9\xA5\xC8", "テスト"),
            (b"\x96\xA2\x8F\xB3\x91\xF8\x8DL\x8D\x90", "未承諾広告"),
            (b"\xCC\xA4\xBE\xB5\xC2\xFA\xB9\xAD\xB9\xF0", "未承諾広告"),
            (b"Fr\xF6sche", "Frösche"),
            (b"t\xE4ss\xE4 \xF6\xF6\xF6", "tässä ööö"),
            (b"a \x96 b\x85", "a – b…"),
            ("caf\u{e9} テスト\u{e9}".as_bytes(), "café テストé"),
            (b"\xE3\x83\x86\xE3\x82\xB9\xE3\x83", "テス\u{FFFD}"),
        ];
        for (octets, expected) in rows {
            assert_eq!(decode_raw(octets, None), *expected, "{octets:?}");
        }
        let declared = Some(Charset::Known(encoding_rs::BIG5));
        assert_eq!(decode_raw(b"\xA4\xA4\xA4\xE5", declared), "中文");
        assert_eq!(decode_raw("中".as_bytes(), declared), "中");
    }

    #[test]
    fn utf_7_and_base64() {
        let rows: &[(&[u8], &str)] = &[
            (b"Hi Mom -+Jjo--!", "Hi Mom -\u{263A}-!"),
            (b"A+ImIDkQ.", "A\u{2262}\u{391}."),
            (b"1 +- 1", "1 + 1"),
            (b"+", "+"),
            (b"+2D3-", "\u{FFFD}"),
        ];
        for (octets, expected) in rows {
            assert_eq!(utf_7(octets), *expected, "{octets:?}");
        }
        let rows: &[(&[u8], &[u8])] = &[
            (b"dGVzdA==", b"test"),
            (b"dGVzdA", b"test"),
            (b"dGV zd\r\nA=", b"test"),
            (b"dA==dA==", b"tt"),
            (b"!", b""),
        ];
        for (text, expected) in rows {
            assert_eq!(base64(text), *expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_decode(octets in any::<Vec<u8>>(), label in "\\PC{0,12}") {
            let text = Charset::of(label.as_bytes()).decode(&octets);
            prop_assert!(text.len() <= octets.len() * 3 + 3);
            let _ = iso_2022_jp(&octets);
        }
    }
}
