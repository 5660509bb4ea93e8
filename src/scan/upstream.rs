//! The verdict of a scanner that ran before us, read from a header field
//! (`scanners.*.upstream`).
//!
//! The field's place in the header says nothing (scanners add it at the top or at the end), so any
//! field of that name counts: a forged one can only make its own mail suspect. Whether the client
//! is trusted at all is the caller's to ask.

use crate::mail::Header;

/// A field name and the word that its value begins with when the scanner found something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Field name, case-insensitive.
    pub header: String,
    /// First word of the value, case-insensitive.
    pub word: String,
}

impl Upstream {
    /// The rest of the value behind the word (often the virus name in brackets) if some field says
    /// so, and `None` if none does.
    pub fn finding(&self, header: &Header) -> Option<String> {
        header
            .all(&self.header)
            .find_map(|field| after_word(&field.text(), &self.word))
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
    use super::after_word;

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
