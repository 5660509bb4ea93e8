//! Header text for a person: unfolded, RFC 2047 encoded words decoded as leniently as real mail
//! needs, raw 8-bit and raw ISO-2022-JP recognised.
//!
//! Adjacent words of one charset are joined as octets before they are decoded, so that a character
//! or an escape state that was cut in two survives.

use super::charset::{self, Charset};

/// An encoded word's charset label is never longer.
const MAX_LABEL: usize = 64;

/// Decodes an unstructured value; `declared` is the charset that raw 8-bit text is taken for when
/// it is not UTF-8. Trimmed.
pub(super) fn decode(raw: &[u8], declared: Option<Charset>) -> String {
    let unfolded = unfold(raw);
    let mut out = Output {
        text: String::with_capacity(unfolded.len()),
        pending: Vec::new(),
        charset: None,
        declared,
    };
    let mut rest = unfolded.as_slice();
    while let Some((before, word, after)) = next_word(rest) {
        if out.charset.is_none() || !before.iter().all(u8::is_ascii_whitespace) {
            out.raw(before);
        }
        out.word(&word);
        rest = after;
    }
    out.raw(rest);
    out.text.trim().to_owned()
}

/// Whether a value, folded as it may be, is read from its first octet on as an encoded word.
pub(super) fn begins_with_word(raw: &[u8]) -> bool {
    raw.starts_with(b"=?") && matches!(word_at(&unfold(raw)), Found::Word(..))
}

/// Raw text without looking at encoded words: what a structured field is parsed from.
pub(super) fn decode_raw(raw: &[u8], declared: Option<Charset>) -> String {
    charset::decode_raw(&unfold(raw), declared)
}

struct Output {
    text: String,
    /// Octets of adjacent words of `charset`.
    pending: Vec<u8>,
    charset: Option<Charset>,
    declared: Option<Charset>,
}

impl Output {
    fn raw(&mut self, raw: &[u8]) {
        self.flush();
        self.text.push_str(&charset::decode_raw(raw, self.declared));
    }

    fn word(&mut self, word: &Word) {
        if self.charset != Some(word.charset) {
            self.flush();
            self.charset = Some(word.charset);
        }
        self.pending.extend_from_slice(&word.octets);
    }

    fn flush(&mut self) {
        if let Some(charset) = self.charset.take() {
            self.text.push_str(&charset.decode(&self.pending));
            self.pending.clear();
        }
    }
}

struct Word {
    charset: Charset,
    octets: Vec<u8>,
}

/// The next encoded word with what stands before and after it.
/// A control, format or direction character: what could repaint a terminal or change the order in
/// which a line is read. Text of a mail is shown without.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// The text with U+FFFD for each harmful character.
pub fn harmless(text: &str) -> String {
    let shown = |c| if is_harmful(c) { '\u{FFFD}' } else { c };
    text.chars().map(shown).collect()
}

fn next_word(text: &[u8]) -> Option<(&[u8], Word, &[u8])> {
    let mut from = 0;
    loop {
        let start = from + memchr::memmem::find(text.get(from..)?, b"=?")?;
        match word_at(text.get(start..)?) {
            Found::Word(word, length) => {
                let (before, rest) = text.split_at_checked(start)?;
                return Some((before, word, rest.get(length..)?));
            }
            Found::Other => from = start + 2,
            Found::Unclosed => return None,
        }
    }
}

enum Found {
    /// A word and its length in octets.
    Word(Word, usize),
    /// Text that begins like one.
    Other,
    /// No `?=` comes any more, so there are no more words.
    Unclosed,
}

/// Reads `=?charset?encoding?text?=` (RFC 2047 2); the text may hold spaces and any length.
fn word_at(text: &[u8]) -> Found {
    let head = text.get(2..).unwrap_or_default();
    let window = head.get(..MAX_LABEL).unwrap_or(head);
    let Some(mark) = memchr::memchr(b'?', window) else {
        return Found::Other;
    };
    let label = head.get(..mark).unwrap_or_default();
    let tail = head.get(mark + 1..).unwrap_or_default();
    let [encoding, b'?', encoded @ ..] = tail else {
        return Found::Other;
    };
    if label.is_empty() || label.iter().any(u8::is_ascii_whitespace) {
        return Found::Other;
    }
    let base64 = match encoding {
        b'B' | b'b' => true,
        b'Q' | b'q' => false,
        _ => return Found::Other,
    };
    let Some(end) = memchr::memmem::find(encoded, b"?=") else {
        return Found::Unclosed;
    };
    let body = encoded.get(..end).unwrap_or_default();
    let octets = if base64 {
        charset::base64(body)
    } else {
        q(body)
    };
    let word = Word {
        charset: Charset::of(label),
        octets,
    };
    Found::Word(word, text.len() - encoded.len() + end + 2)
}

/// The Q encoding (RFC 2047 4.2); what is no `=XX` stands for itself.
fn q(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'_', _) => octets.push(b' '),
            (b'=', [high, low, later @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    octets.push(high << 4 | low);
                    rest = later;
                }
                _ => octets.push(b'='),
            },
            (octet, _) => octets.push(*octet),
        }
    }
    octets
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Takes out line ends; the white space that folded a line stays (RFC 5322 2.2.3).
fn unfold(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    for line in raw.split(|octet| matches!(octet, b'\r' | b'\n')) {
        text.extend_from_slice(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_for_a_person() {
        let rows: &[(&[u8], &str)] = &[
            (b" plain ", "plain"),
            (b" a\r\n b", "a b"),
            (b"=?utf-8?Q?caf=C3=A9_x?=", "café x"),
            (b"=?UTF-8?b?44OG44K544OI?=", "テスト"),
            (b"=?utf-8?B?44OG44K5?=\r\n =?utf-8?B?44OI?=", "テスト"),
            (b"=?utf-8?Q?=E3=83?= =?utf-8?Q?=86=E3=82=B9?=", "テス"),
            (b"=?utf-8?Q?=E3=83?==?utf-8?Q?=86?=", "テ"),
            (
                b"=?iso-2022-jp?B?GyRCJUYl?= =?iso-2022-jp?B?ORsoQg==?=",
                "テス",
            ),
            (
                b"=?iso-2022-jp?Q?=1B$B%F?= =?iso-2022-jp?Q?%9=1B(B?=",
                "テス",
            ),
            (b"=?iso-2022-jp?B?GyhJMUBeWUQbKEI=?=", "ｱﾀﾞﾙﾄ"),
            (b"=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
            (b"x=?utf-8?Q?a?=y", "xay"),
            (b"=?utf-8?Q?a?= =?iso-8859-1?Q?=E9?=", "aé"),
            (b"=?cp932?B?g2WDWINn?=", "テスト"),
            (b"=?x-sjis?Q?=83e=83X?=", "テス"),
            (b"=?nonsense?Q?a=E9?=", "aé"),
            (b"=?utf-8*en?Q?a?=", "a"),
            (b"=?utf-8?Q?a b?=", "a b"),
            (b"=?utf-8?Q?a=ZZ=4?=", "a=ZZ=4"),
            (b"=?utf-8?X?a?=", "=?utf-8?X?a?="),
            (b"=?utf-8?Q?a", "=?utf-8?Q?a"),
            (b"=??Q?a?=", "=??Q?a?="),
            (b"=?", "=?"),
            (b"=?utf-8?Q??=", ""),
            (b"Re: \x1B$B%F%9%H\x1B(B", "Re: テスト"),
            (b"\x83e\x83X\x83g\r\n \x83e", "テスト テ"),
        ];
        for (raw, expected) in rows {
            assert_eq!(decode(raw, None), *expected, "{:?}", raw.escape_ascii());
        }
    }

    #[test]
    fn hostile_words_are_linear() {
        for piece in ["=?", "=?a?q?x", "=?a?q?=", "=?utf-8?q?a?= ", "?=", "=?a?b?"] {
            decode(piece.repeat(100_000).as_bytes(), None);
        }
    }

    proptest! {
        #[test]
        fn any_octets(raw in any::<Vec<u8>>()) {
            decode(&raw, None);
        }

        #[test]
        fn a_word_is_read_back(text in "\\PC{1,20}", cut in 1usize..8) {
            use base64::Engine as _;
            let octets = text.as_bytes();
            let words: Vec<String> = octets
                .chunks(cut * 3)
                .map(|chunk| base64::engine::general_purpose::STANDARD.encode(chunk))
                .map(|encoded| format!("=?utf-8?B?{encoded}?="))
                .collect();
            let decoded = decode(words.join("\r\n ").as_bytes(), None);
            prop_assert_eq!(decoded, text.trim());
        }
    }
}
