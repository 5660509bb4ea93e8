//! How a mail of our own is written down: header fields that nothing can be injected into
//! (RFC 5322, 2047), and bodies that are ASCII on the wire (RFC 2045).

mod enclosure;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Address;

pub use enclosure::Report;

/// RFC 5322 2.1.1 says 78, RFC 2047 2 says 76.
const LINE: usize = 76;
/// Code points of a quoted value (RELIABILITY S8).
const QUOTED: usize = 256;
/// What `References` may hold (RELIABILITY 4b).
const REFERENCES: usize = 20;
const REFERENCES_OCTETS: usize = 2048;
/// A Message-ID must fit into a line with the field's name (RFC 5322 2.1.1).
const MESSAGE_ID_OCTETS: usize = 900;
/// All boundaries begin with it. Cannot stand in a base64 line; a plain part that holds it is sent as
/// base64.
const BOUNDARY: &str = "=_sekimori_report";

/// A value out of a mail as it may be quoted: one line, no control and no bidi character, white
/// space single, at most 256 code points and then `…`.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    let mut count = 0;
    let mut space = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            space = true;
            continue;
        }
        if is_bidi_control(c) {
            continue;
        }
        if space && count > 0 {
            cleaned.push(' ');
            count += 1;
        }
        space = false;
        if count >= QUOTED {
            cleaned.push('…');
            break;
        }
        cleaned.push(c);
        count += 1;
    }
    cleaned
}

/// The text as one Message-ID with its brackets: printable ASCII, one pair of brackets, at most
/// 900 octets.
pub(super) fn message_id(text: &str) -> Option<&str> {
    let text = text.trim();
    let inner = text.strip_prefix('<')?.strip_suffix('>')?;
    let clean = !inner.is_empty()
        && inner
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
    (clean && text.len() <= MESSAGE_ID_OCTETS).then_some(text)
}

/// The ids of the original's `References`, then its own: the last 20 within 2 KiB.
pub(super) fn references(old: &str, id: &str) -> Vec<String> {
    let mut octets = id.len();
    let mut ids: Vec<String> = vec![id.to_owned()];
    let found = old.split_inclusive('>').filter_map(|piece| {
        let at = piece.rfind('<')?;
        message_id(piece.get(at..)?)
    });
    for older in found.collect::<Vec<_>>().into_iter().rev() {
        octets += older.len() + 3;
        if ids.len() == REFERENCES || octets > REFERENCES_OCTETS {
            break;
        }
        if older != id {
            ids.push(older.to_owned());
        }
    }
    ids.reverse();
    ids
}

/// An address in ASCII as a header writes it: domain as A-labels, local part quoted where the
/// grammar wants it (`"user."@ezweb.ne.jp`). `None` when its local part goes beyond ASCII.
pub(super) fn ascii_address(address: &Address) -> Option<String> {
    let (local, domain) = (address.local(), address.domain());
    let domain = if domain.is_ascii() {
        domain.to_owned()
    } else {
        idna::domain_to_ascii(domain).ok()?
    };
    let in_domain = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    if domain.is_empty() || !domain.bytes().all(in_domain) {
        return None;
    }
    if !local.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return None;
    }
    let is_quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    if is_quoted || local.split('.').all(is_atom) {
        return Some(format!("{local}@{domain}"));
    }
    Some(format!("{}@{domain}", quoted_string(local)))
}

/// A header in the making. Values are proved to be ASCII and without line ends of their own.
pub(super) struct Fields(String);

impl Fields {
    pub(super) fn new() -> Self {
        Self(String::new())
    }

    /// A value of our own making; a folded line in it is kept, any other control is dropped.
    pub(super) fn ascii(&mut self, name: &str, value: &str) {
        let lines: Vec<String> = value
            .split("\r\n ")
            .map(|line| line.chars().filter(|c| matches!(c, ' '..='~')).collect())
            .collect();
        self.line(name, &lines.join("\r\n "));
    }

    /// One word a line.
    pub(super) fn folded(&mut self, name: &str, words: &[String]) {
        self.ascii(name, &words.join("\r\n "));
    }

    /// Unstructured text, as encoded words where it is not plain ASCII (RFC 2047).
    pub(super) fn text(&mut self, name: &str, text: &str) {
        let text = clean(text);
        let used = name.len() + 2;
        let value = fold(&text, used).unwrap_or_else(|| encoded_words(&text, used));
        self.line(name, &value);
    }

    /// One address with a display name. One that ASCII cannot write stands as an empty group
    /// with its text in the name (RFC 6857 3.1.8).
    pub(super) fn mailbox(&mut self, name: &str, display: &str, address: &Address) {
        let used = name.len() + 2;
        let value = match ascii_address(address) {
            None => format!(
                "{}\r\n :;",
                encoded_words(&clean(&address.to_string()), used)
            ),
            Some(spec) if clean(display).is_empty() => spec,
            Some(spec) => format!("{}\r\n <{spec}>", phrase(&clean(display), used)),
        };
        self.line(name, &value);
    }

    /// A mail of one text part.
    pub(super) fn finish_text(mut self, text: &str) -> Vec<u8> {
        let (encoding, body) = text_body(text);
        self.line("MIME-Version", "1.0");
        self.line("Content-Type", "text/plain; charset=utf-8");
        self.line("Content-Transfer-Encoding", encoding);
        self.0.push_str("\r\n");
        self.0.push_str(&body);
        self.0.into_bytes()
    }

    /// A mail of one content in two forms, the better one last (RFC 2046 5.1.4).
    pub(super) fn finish_alternative(mut self, text: &str, html: &str) -> Vec<u8> {
        self.line("MIME-Version", "1.0");
        self.line(
            "Content-Type",
            &format!("multipart/alternative;\r\n boundary=\"{BOUNDARY}\""),
        );
        self.0.push_str("\r\n");
        for (content_type, form) in [("text/plain", text), ("text/html", html)] {
            let (encoding, body) = text_body(form);
            self.part(&format!("{content_type}; charset=utf-8"), encoding, &body);
        }
        self.0.push_str(&format!("--{BOUNDARY}--\r\n"));
        self.0.into_bytes()
    }

    fn part(&mut self, content_type: &str, encoding: &str, body: &str) {
        self.0.push_str(&format!("--{BOUNDARY}\r\n"));
        self.line("Content-Type", content_type);
        self.line("Content-Transfer-Encoding", encoding);
        self.0.push_str("\r\n");
        self.0.push_str(body);
    }

    fn line(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("{name}: {value}\r\n"));
    }
}

/// Plain text as it is where it is short-lined ASCII, else as base64. Ends with CRLF.
fn text_body(text: &str) -> (&'static str, String) {
    let text: String = text
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .chars()
        .filter(|&c| c == '\n' || c == '\t' || !c.is_control() && !is_bidi_control(c))
        .collect();
    let lines = text.lines();
    let plain = text.is_ascii() && lines.clone().all(|line| line.len() <= LINE);
    let crlf: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    if plain && !crlf.contains(BOUNDARY) {
        ("7bit", crlf)
    } else {
        ("base64", base64_lines(crlf.as_bytes()))
    }
}

pub(super) fn base64_lines(octets: &[u8]) -> String {
    octets
        .chunks(LINE / 4 * 3)
        .map(|chunk| BASE64.encode(chunk) + "\r\n")
        .collect()
}

/// Printable ASCII folded at its spaces; `None` when it needs encoded words.
fn fold(text: &str, used: usize) -> Option<String> {
    if text.contains("=?") || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return None;
    }
    let mut folded = String::with_capacity(text.len() + 8);
    let mut column = used;
    for (at, word) in text.split(' ').enumerate() {
        if at > 0 {
            let break_here = column + 1 + word.len() > LINE;
            folded.push_str(if break_here { "\r\n " } else { " " });
            column = if break_here { 1 } else { column + 1 };
        }
        column += word.len();
        if column > LINE {
            return None;
        }
        folded.push_str(word);
    }
    Some(folded)
}

/// RFC 2047 words, one a line, none cut inside a character.
fn encoded_words(text: &str, used: usize) -> String {
    const FRAME: usize = "=?utf-8?B??=".len();
    let room = |column: usize| LINE.saturating_sub(column + FRAME) / 4 * 3;
    let mut words = Vec::new();
    let mut word = String::new();
    let mut limit = room(used);
    for c in text.chars() {
        if word.len() + c.len_utf8() > limit && !word.is_empty() {
            words.push(std::mem::take(&mut word));
            limit = room(1);
        }
        word.push(c);
    }
    words.push(word);
    words
        .iter()
        .map(|word| format!("=?utf-8?B?{}?=", BASE64.encode(word)))
        .collect::<Vec<_>>()
        .join("\r\n ")
}

fn is_atom(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
}

fn quoted_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A display name: a quoted string where it fits into one line, else encoded words.
fn phrase(name: &str, used: usize) -> String {
    let quoted = quoted_string(name);
    if name.is_ascii() && !name.contains("=?") && used + quoted.len() <= LINE {
        quoted
    } else {
        encoded_words(name, used)
    }
}

fn is_bidi_control(c: char) -> bool {
    matches!(
        c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaned() {
        let long = "あ".repeat(300);
        let cut = format!("{}…", "あ".repeat(256));
        let rows: &[(&str, &str)] = &[
            ("plain", "plain"),
            (" a\r\nBcc: x@y\t b ", "a Bcc: x@y b"),
            ("a\0b\u{85}c\u{2028}d", "a b c d"),
            ("a\u{202e}b\u{2066}c", "abc"),
            ("\u{3000}件名\u{3000}", "件名"),
            (&long, &cut),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(clean(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        let rows: &[(&str, Option<&str>)] = &[
            ("taro@y.example", Some("taro@y.example")),
            ("user.@ezweb.ne.jp", Some("\"user.\"@ezweb.ne.jp")),
            ("a..b@docomo.ne.jp", Some("\"a..b\"@docomo.ne.jp")),
            ("\"a b\"@y.example", Some("\"a b\"@y.example")),
            ("a@日本.example", Some("a@xn--wgv71a.example")),
            ("山田@y.example", None),
        ];
        for (text, expected) in rows {
            let address = Address::parse(text).unwrap();
            assert_eq!(ascii_address(&address).as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn reference_lists() {
        let many: String = (0..30).map(|n| format!("<{n}@x>\r\n ")).collect();
        assert_eq!(references("", "<m@x>"), ["<m@x>"]);
        assert_eq!(
            references("<a@x> junk <b@x>\r\n <c d>", "<m@x>"),
            ["<a@x>", "<b@x>", "<m@x>"]
        );
        let kept = references(&many, "<m@x>");
        assert_eq!(
            (kept.len(), kept[0].as_str(), kept[19].as_str()),
            (20, "<11@x>", "<m@x>")
        );
        let big = format!("<{}@x>", "a".repeat(800));
        assert_eq!(references(&big.repeat(9), "<m@x>").len(), 3);
        for bad in [
            "",
            "<>",
            "a@x",
            "<a@x",
            "<a@x>\r\nBcc: y",
            "<あ@x>",
            "<a<b@x>",
        ] {
            assert_eq!(message_id(bad), None, "{bad:?}");
        }
    }
}
