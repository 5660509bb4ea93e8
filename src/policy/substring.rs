//! Sets of Subject substrings, sub-linear in their size.

use super::{Hit, Pattern};
use crate::mail::Folded;

/// Texts that a folded Subject may contain.
#[derive(Debug, Clone, Default)]
pub struct SubstringSet {}

impl SubstringSet {
    /// Compiles the entries.
    pub fn build(_patterns: Vec<Pattern>) -> Self {
        unimplemented!()
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// The first entry in file order that `text` contains.
    pub fn find(&self, _text: &Folded) -> Option<Hit> {
        unimplemented!()
    }
}
