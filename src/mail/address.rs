//! Mail addresses as an SMTP path carries them (RFC 5321 4.1.2, RFC 6531).
//!
//! Wider than the grammar where real Japanese mail is: `user..name.@docomo.ne.jp` is an address.
//! Comparison goes through [`Address::key`], never through the text as written.

use std::fmt;

/// A mailbox address: local part and domain, both as written.
///
/// Limits: local part 1-64 octets, domain 1-255 octets, no control characters
/// (RFC 5321 4.5.3.1.1-2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    local: String,
    domain: String,
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
    /// A control character, a space outside quotes, or an angle bracket.
    #[error("a character that no address has: {0:?}")]
    Character(char),
}

impl Address {
    /// Reads `local@domain` (no angle brackets, no display name, no source route).
    ///
    /// # Errors
    /// [`AddressError`] when it is not one address within the limits.
    pub fn parse(_text: &str) -> Result<Self, AddressError> {
        unimplemented!()
    }

    /// The part before the last `@`, as written.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the last `@`, as written.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The one form for comparison and look-up: folded, the domain's labels as U-labels,
    /// no trailing dot. Two addresses are the same mailbox exactly when their keys are equal.
    pub fn key(&self) -> String {
        unimplemented!()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}
