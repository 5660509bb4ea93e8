//! Replies: code, enhanced code (RFC 3463, 2034) and text that is always one clean line.

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
            text: escape(&text.into()),
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
}

/// `250 2.0.0 text`, no line end: for records and logs.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(enhanced) => write!(f, "{} {} {}", self.code, enhanced, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = c == ' ' || c.is_ascii_graphic();
            (!plain)
                .then(|| c.escape_default())
                .into_iter()
                .flatten()
                .chain(plain.then_some(c))
        })
        .take(400)
        .collect()
}
