//! Mail addresses as an SMTP path carries them (RFC 5321 4.1.2, RFC 6531).
//!
//! Wider than the grammar where real Japanese mail is: `user..name.@docomo.ne.jp` is an address.
//! Comparison goes through [`Address::key`], never through the text as written.

use std::borrow::Cow;
use std::fmt;

use super::fold::{fold, fold_address};

const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;

/// A mailbox address: local part and domain, both as written.
///
/// Limits: local part 1-64 octets, domain 1-255 octets, no control characters
/// (RFC 5321 4.5.3.1.1-2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The whole of it.
    text: String,
    /// Octets before the last `@`.
    local: usize,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`, or nothing before or after it.
    #[error("an address has a local part, an @ and a domain")]
    Shape,
    /// Over 64 octets before the `@` or over 255 after it.
    #[error("a local part has at most 64 octets and a domain at most 255")]
    TooLong,
    /// A control character, or a space, an angle bracket or another of RFC 5322's specials
    /// outside quotes.
    #[error("a character that no address has: {0:?}")]
    Character(char),
}

impl Address {
    /// Reads `local@domain` (no angle brackets, no display name, no source route).
    ///
    /// # Errors
    /// [`AddressError`] when it is not one address within the limits.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Shape)?;
        if local.is_empty() || domain.trim_end_matches('.').is_empty() {
            return Err(AddressError::Shape);
        }
        if local.len() > MAX_LOCAL || domain.len() > MAX_DOMAIN {
            return Err(AddressError::TooLong);
        }
        if local.starts_with('"') {
            check_quoted(local)?;
        } else {
            check_plain(local, "@[]")?;
        }
        check_plain(domain, "")?;
        check_folded(local, domain)?;
        Ok(Self {
            text: text.to_owned(),
            local: local.len(),
        })
    }

    /// All of it, as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the last `@`, as written.
    pub fn local(&self) -> &str {
        self.text.get(..self.local).unwrap_or_default()
    }

    /// The part after the last `@`, as written.
    pub fn domain(&self) -> &str {
        self.text.get(self.local + 1..).unwrap_or_default()
    }

    /// The one form for comparison and look-up: folded, the domain's labels as U-labels,
    /// no trailing dot. Two addresses are the same mailbox exactly when their keys are equal.
    pub fn key(&self) -> String {
        key(self.local(), self.domain())
    }

    /// The same mailbox, written as its [`Address::key`]; as it is where that reads as none.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self::parse(&self.key()).unwrap_or_else(|_| self.clone())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The form for comparison of any two parts, those of a header too.
pub(super) fn key(local: &str, domain: &str) -> String {
    fold_address(&[&unquoted(local), "@", domain].concat()).into()
}

/// A quoted local part without its quotes where they say nothing (RFC 5321 4.1.2: the quoted and
/// the plain form are equal).
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inner) = local
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return local.into();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    // Folded before it is escaped: more than one character becomes a backslash or a quote. Between
    // quotes folding cuts nothing off.
    let folded = fold(&format!("\"{plain}\""));
    let inner = folded.as_str().strip_prefix('"');
    let plain = inner
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&plain);
    if plain.is_empty() || check_plain(plain, "@[]").is_err() {
        let escaped = plain.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("\"{escaped}\"").into();
    }
    plain.to_owned().into()
}

/// Neither part may vanish when it is folded, and no domain become more than one
/// (U+2024 folds to a dot, U+200B to nothing, U+FF20 to `@`).
fn check_folded(local: &str, domain: &str) -> Result<(), AddressError> {
    if local.is_ascii() && domain.is_ascii() {
        return Ok(());
    }
    let (locals, domains) = (key(local, "x"), key("x", domain));
    let sound = |domain: &str| !domain.is_empty() && !domain.contains('@');
    let sound = locals
        .strip_suffix("@x")
        .is_some_and(|local| !local.is_empty())
        && domains.strip_prefix("x@").is_some_and(sound);
    if sound {
        Ok(())
    } else {
        Err(AddressError::Shape)
    }
}

fn check_plain(text: &str, also: &str) -> Result<(), AddressError> {
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let bad = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || "<>\"(),:;\\".contains(c) && !(also.is_empty() && c == ':')
            || also.contains(c)
    };
    match text.chars().find(|&c| !usual(c) && bad(c)) {
        Some(c) => Err(AddressError::Character(c)),
        None => Ok(()),
    }
}

fn check_quoted(local: &str) -> Result<(), AddressError> {
    let mut chars = local.chars().skip(1);
    while let Some(c) = chars.next() {
        let content = match c {
            '"' => {
                return match chars.next() {
                    None => Ok(()),
                    Some(_) => Err(AddressError::Character('"')),
                };
            }
            '\\' => chars.next().ok_or(AddressError::Character('\\'))?,
            _ => c,
        };
        if content.is_control() {
            return Err(AddressError::Character(content));
        }
    }
    Err(AddressError::Character('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses() {
        use AddressError::{Character, Shape, TooLong};
        let rows: &[(&str, Result<&str, AddressError>)] = &[
            ("taro@east.example.jp", Ok("taro@east.example.jp")),
            ("Taro@East.Example.JP.", Ok("taro@east.example.jp")),
            ("user..name.@docomo.ne.jp", Ok("user..name.@docomo.ne.jp")),
            (".user.@ezweb.ne.jp", Ok(".user.@ezweb.ne.jp")),
            ("\"taro\"@x.jp", Ok("taro@x.jp")),
            ("\"t\\aro\"@x.jp", Ok("taro@x.jp")),
            ("\"a b\"@x.jp", Ok("\"a b\"@x.jp")),
            ("\"a@b\"@x.jp", Ok("\"a@b\"@x.jp")),
            ("\"a\\\"b\"@x.jp", Ok("\"a\\\"b\"@x.jp")),
            ("\"\"@x.jp", Ok("\"\"@x.jp")),
            ("太郎@例え.jp", Ok("太郎@例え.jp")),
            ("太郎@xn--r8jz45g.jp", Ok("太郎@例え.jp")),
            ("a+b=c@x.jp", Ok("a+b=c@x.jp")),
            ("a@[192.0.2.1]", Ok("a@[192.0.2.1]")),
            ("a@[IPv6:2001:db8::1]", Ok("a@[ipv6:2001:db8::1]")),
            ("", Err(Shape)),
            ("taro", Err(Shape)),
            ("@x.jp", Err(Shape)),
            ("a@", Err(Shape)),
            ("a@.", Err(Shape)),
            ("a@\u{2024}\u{2024}", Err(Shape)),
            ("a@\u{200b}", Err(Shape)),
            ("\u{2060}@x.jp", Err(Shape)),
            ("a@b\u{ff20}x.jp", Err(Shape)),
            ("a b@x.jp", Err(Character(' '))),
            ("a@x .jp", Err(Character(' '))),
            ("<a@x.jp>", Err(Character('<'))),
            ("a@x.jp>", Err(Character('>'))),
            ("a\r@x.jp", Err(Character('\r'))),
            ("a@x.jp\n", Err(Character('\n'))),
            ("\"a\nb\"@x.jp", Err(Character('\n'))),
            ("\"a>b\"@x.jp", Ok("\"a>b\"@x.jp")),
            ("\"a\"b\"@x.jp", Err(Character('"'))),
            ("\"a@x.jp", Err(Character('"'))),
            ("a@b@x.jp", Err(Character('@'))),
            ("a,b@x.jp", Err(Character(','))),
            ("a\u{0}@x.jp", Err(Character('\u{0}'))),
        ];
        for (text, expected) in rows {
            let key = Address::parse(text).map(|address| address.key());
            let expected = expected.clone().map(str::to_owned);
            assert_eq!(key, expected, "{text:?}");
        }
        let long = |local: usize, domain: usize| {
            Address::parse(&format!("{}@{}", "l".repeat(local), "d".repeat(domain)))
        };
        assert!(long(64, 255).is_ok());
        assert_eq!(long(65, 1), Err(TooLong));
        assert_eq!(long(1, 256), Err(TooLong));
    }

    #[test]
    fn what_folds_to_a_backslash_or_a_quote_escapes_nothing_in_a_key() {
        let rows = [
            ("\"a\u{ff3c}b \"@x.jp", "\"a\\\\b \"@x.jp"),
            ("\"a\u{fe68}\"@x.jp", "\"a\\\\\"@x.jp"),
            ("\"\u{ff02} a\"@x.jp", "\"\\\" a\"@x.jp"),
            ("\" a\"@x.jp", "\" a\"@x.jp"),
            ("\"Ａb\"@x.jp", "ab@x.jp"),
        ];
        for (text, expected) in rows {
            let key = Address::parse(text).unwrap().key();
            assert_eq!(key, expected, "{text:?}");
            assert_eq!(Address::parse(&key).unwrap().key(), key, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(text in "\\PC{0,8}@?\\PC{0,8}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(address.to_string(), text.clone());
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
        }

        #[test]
        fn a_key_is_its_own_key(local in "[a-zA-Z.ßＡ+-]{1,9}", domain in "[a-zA-Z.ßＡ例-]{1,9}") {
            if let Ok(address) = Address::parse(&format!("{local}@{domain}")) {
                let again = Address::parse(&address.key()).map(|a| a.key());
                prop_assert_eq!(again, Ok(address.key()));
            }
        }
    }
}
