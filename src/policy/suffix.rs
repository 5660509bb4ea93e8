//! Sets of address endings, sub-linear in their size.

use super::{Hit, Pattern};
use crate::mail::Folded;

/// Endings of addresses: a plain string suffix of the folded address.
#[derive(Debug, Clone, Default)]
pub struct SuffixSet {}

impl SuffixSet {
    /// Compiles the entries.
    pub fn build(_patterns: Vec<Pattern>) -> Self {
        unimplemented!()
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// The first entry in file order that `address` ends with.
    pub fn find(&self, _address: &Folded) -> Option<Hit> {
        unimplemented!()
    }
}

/// As [`SuffixSet`], but an entry with a local part before its `@` must equal the whole address.
#[derive(Debug, Clone, Default)]
pub struct AllowSet {}

impl AllowSet {
    /// Compiles the entries.
    pub fn build(_patterns: Vec<Pattern>) -> Self {
        unimplemented!()
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// The first entry in file order that covers `address`.
    pub fn find(&self, _address: &Folded) -> Option<Hit> {
        unimplemented!()
    }
}
