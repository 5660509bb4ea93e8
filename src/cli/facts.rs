//! The stored facts of a mailbox's mail, asked of the running daemon (`replay`, `check`).

use super::admin::Daemon;
use super::{Done, Exit, Failure, Global, client};
use crate::store::FactsRecord;

/// Gives the facts of each mail of a mailbox to `each`, oldest first, `None` for one whose record
/// cannot be read; `since` as in [`super::history`]. Ends at the first error of `each`.
///
/// # Errors
/// [`Exit::NoUser`] for an unknown mailbox, [`Exit::Usage`] for a bad time, [`Exit::Unavailable`]
/// when the daemon does not run.
pub(super) fn stream(
    global: &Global,
    mailbox: &str,
    since: Option<&str>,
    each: &mut dyn FnMut(Option<FactsRecord>) -> Done,
) -> Done {
    let query = client::query(&[("mailbox", Some(mailbox)), ("since", since)]);
    let mut line = |line: &[u8]| each(serde_json::from_slice(line).ok());
    let asked = Daemon::of(global)?.stream(&format!("/v1/facts{query}"), &mut line);
    asked.map_err(|failure| match failure.exit {
        Exit::NoInput => Failure::new(Exit::NoUser, failure.message),
        _ => failure,
    })
}
