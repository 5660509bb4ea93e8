//! A mailbox file as written.

/// A mailbox file, or `mailboxes.defaults`.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawMailbox {}
