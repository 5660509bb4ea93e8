//! Replies: code, enhanced code (RFC 3463, 2034) and text that is always one clean line.

use std::borrow::Cow;
use std::fmt;

/// `class.subject.detail` of RFC 3463; the class is the reply code's first digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One reply. The text holds printable ASCII only: whatever was put in is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// RFC 5321 4.2.
    pub code: u16,
    /// Absent on greetings, `LHLO` and 3xx replies.
    pub enhanced: Option<EnhancedCode>,
    /// Without line ends.
    pub text: String,
}

impl Reply {
    /// A reply with an enhanced code whose class is that of `code`.
    pub fn new(code: u16, subject: u16, detail: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: Some(EnhancedCode((code / 100) as u8, subject, detail)),
            text: escaped(text.into()),
        }
    }

    /// A reply without an enhanced code: greetings, answers to `LHLO`, 3yz (RFC 2034 4).
    pub fn plain(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: None,
            text: escaped(text.into()),
        }
    }

    /// 4yz.
    pub fn is_temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// 2yz.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Appends the reply as one line with its line end, at most 512 octets (RFC 5321 4.5.3.1.5).
    /// The text is escaped once more, as the fields are open to everyone.
    pub fn write(&self, wire: &mut Vec<u8>) {
        let line = line(self.code, self.enhanced, &escape(&self.text));
        wire.reserve(line.len() + 2);
        wire.extend_from_slice(line.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
}

/// `250 2.0.0 text`, no line end: for records and logs.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(self.code, self.enhanced, &self.text))
    }
}

fn line(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> String {
    let mut line = String::with_capacity("250 2.777.777 ".len() + text.len());
    push_number(&mut line, code);
    line.push(' ');
    if let Some(EnhancedCode(class, subject, detail)) = enhanced {
        for (number, end) in [(class.into(), '.'), (subject, '.'), (detail, ' ')] {
            push_number(&mut line, number);
            line.push(end);
        }
    }
    line.push_str(text);
    line
}

/// A tenth of what formatting costs, which is most of a reply.
fn push_number(text: &mut String, number: u16) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

/// Characters of an escaped text at most.
const MAX_TEXT: usize = 400;

/// [`escape`] of a text that is nobody else's.
fn escaped(text: String) -> String {
    match escape(&text) {
        Cow::Borrowed(whole) if whole.len() == text.len() => text,
        changed => changed.into_owned(),
    }
}

/// Printable ASCII, at most 400 octets; clean text stays as it is.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic();
    if text.bytes().all(|octet| is_plain(char::from(octet))) {
        return text.get(..MAX_TEXT).unwrap_or(text).into();
    }
    let escaped = text.chars().flat_map(|c| {
        let plain = is_plain(c);
        let code = (!plain).then(|| c.escape_default());
        code.into_iter().flatten().chain(plain.then_some(c))
    });
    escaped.take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        let rows = [
            (Reply::new(250, 0, 0, "ok"), "250 2.0.0 ok\r\n"),
            (
                Reply::new(550, 6, 11, "a\r\n250 b"),
                "550 5.6.11 a\\r\\n250 b\r\n",
            ),
            (Reply::plain(354, "go\u{1b}"), "354 go\\u{1b}\r\n"),
            (
                Reply {
                    text: "a\nb".into(),
                    ..Reply::plain(220, "")
                },
                "220 a\\nb\r\n",
            ),
        ];
        for (reply, expected) in rows {
            let mut wire = Vec::new();
            reply.write(&mut wire);
            assert_eq!(String::from_utf8(wire).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn one_short_clean_line(code in 200u16..600, subject in 0u16..1000, text in any::<String>()) {
            let mut wire = Vec::new();
            Reply::new(code, subject, 0, text).write(&mut wire);
            prop_assert!(wire.len() <= 512);
            let (line, end) = wire.split_at(wire.len() - 2);
            prop_assert_eq!(end, b"\r\n");
            prop_assert!(line.iter().all(|octet| (b' '..=b'~').contains(octet)));
        }
    }
}
