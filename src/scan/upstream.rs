//! The verdict of a scanner that ran before us, read from a header field
//! (`scanners.*.upstream`).
//!
//! The field's place in the header says nothing (scanners add it at the top or at the end), so any
//! field of that name counts, however many fields stand before it: a forged one can only make its own
//! mail suspect. Whether the client is trusted at all is the caller's to ask.

use crate::mail::find_field;

/// A field name and the word that its value begins with when the scanner found something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Field name, case-insensitive.
    pub header: String,
    /// First word of the value, case-insensitive.
    pub word: String,
}

impl Upstream {
    /// The rest of the value behind the word (often the virus name in brackets) if some field in the
    /// header of `raw` says so, and `None` if none does.
    pub fn finding(&self, raw: &[u8]) -> Option<String> {
        find_field(raw, &self.header, |text| after_word(text, &self.word))
    }
}

fn after_word(value: &str, word: &str) -> Option<String> {
    let value = value.trim_start();
    let (head, rest) = value.split_at_checked(word.len())?;
    if word.is_empty()
        || !head.eq_ignore_ascii_case(word)
        || rest.starts_with(char::is_alphanumeric)
    {
        return None;
    }
    let name = rest.trim_matches(|c: char| c.is_whitespace() || "():,;".contains(c));
    Some(name.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::{Upstream, after_word};

    /// A milter adds its field behind all others, of which the sender may have written many.
    #[test]
    fn no_number_of_fields_hides_the_verdict() {
        let upstream = Upstream {
            header: "X-Virus".to_owned(),
            word: "Yes".to_owned(),
        };
        let many = "A: b\r\n".repeat(200_000);
        let rows = [
            ("x-virus : Yes (Eicar)\r\n\r\n".to_owned(), Some("Eicar")),
            (format!("{many}X-Virus: Yes, Eicar\r\n\r\n"), Some("Eicar")),
            (
                format!("X-Virus: No\r\n{many}X-Virus:\r\n Yes\r\n\r\n"),
                Some(""),
            ),
            (format!("{many}\r\nX-Virus: Yes\r\n"), None),
            (format!("X-Virus: {}Yes\r\n\r\n", "x".repeat(1 << 20)), None),
        ];
        for (raw, expected) in rows {
            assert_eq!(upstream.finding(raw.as_bytes()).as_deref(), expected);
        }
    }

    #[test]
    fn the_first_word_decides() {
        let rows = [
            (
                "Infected (Eicar-Signature)",
                "Infected",
                Some("Eicar-Signature"),
            ),
            ("infected", "Infected", Some("")),
            ("YES", "YES", Some("")),
            ("Yes, score=7.2", "YES", Some("score=7.2")),
            ("YESTERDAY", "YES", None),
            ("No", "YES", None),
            ("", "YES", None),
            ("anything", "", None),
            ("日本", "YES", None),
        ];
        for (value, word, expected) in rows {
            assert_eq!(
                after_word(value, word).as_deref(),
                expected,
                "{value:?} {word:?}"
            );
        }
    }
}
