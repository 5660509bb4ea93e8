//! Decoding and folding: one form of text for both sides of every match.
//!
//! Folding is NFKC, full case folding, zero-width characters removed, a separate (han)dakuten
//! joined to its kana, runs of white space one space, trimmed (CONTRACT section 2). It is
//! idempotent.

/// Text in the one form that is compared. Only the functions of this module make one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folded(String);

impl Folded {
    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when nothing is left: as a pattern it would match every mail.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Folds text (a decoded Subject, a pattern).
pub fn fold(_text: &str) -> Folded {
    unimplemented!()
}

/// Folds an address, or the end of one (`@shop.example`, `.shop.example`): [`fold`], and every
/// complete `xn--` label behind the last `@` (all labels when there is none) as its U-label.
pub fn fold_address(_text: &str) -> Folded {
    unimplemented!()
}

/// Decodes an unstructured header value as it stands in the message (folded lines, RFC 2047 words,
/// raw ISO-2022-JP, CP932, EUC-JP or UTF-8) to text for a person. Never fails; what cannot be
/// decoded becomes U+FFFD.
pub fn decode(_raw: &[u8]) -> String {
    unimplemented!()
}
