//! `sekimori reject`: whose mail, and which Subjects and headers, a mailbox does not want.

use std::io::Write;

use clap::{Args, Subcommand};

use super::change::{self, Outcome, Target};
use super::{Done, Exit, Failure, Global};
use crate::config::edit::{HEADER_WORDS, List};

#[derive(Debug, Subcommand)]
pub(super) enum Reject {
    /// Adds entries; those that are there already are left out
    Add(Change),
    /// Removes entries
    Remove(Change),
    /// The entries that count, those of mailboxes.defaults too
    List {
        /// Whose settings; a name without @ gets server.default_domain
        #[arg(long)]
        mailbox: String,
        #[command(flatten)]
        kind: Kind,
    },
    /// Removes all entries
    Clear {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        kind: Kind,
        /// Really
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    kind: Kind,
    /// One entry each; none or -: the lines of stdin
    entries: Vec<String>,
}

/// Which list. Without one, `@domain` and whole addresses are for --from, the words of --header for
/// that.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Kind {
    /// Ends of addresses: the header From ends with an entry
    #[arg(long)]
    from: bool,
    /// Pieces of text: the Subject contains an entry
    #[arg(long)]
    subject: bool,
    /// from_missing, from_empty, from_empty_address, subject_missing, subject_empty
    #[arg(long)]
    header: bool,
}

const LISTS: [List; 3] = [List::RejectFrom, List::RejectSubject, List::RejectHeaders];

pub(super) fn reject(global: &Global, command: &Reject, out: &mut dyn Write) -> Done {
    match command {
        Reject::Add(Change {
            target,
            kind,
            entries,
        }) => {
            let given = change::given(entries)?;
            let list = kind.of_entries(&given.1)?;
            change::add(global, target, (list, given), out)
        }
        Reject::Remove(Change {
            target,
            kind,
            entries,
        }) => {
            let given = change::given(entries)?;
            let list = kind.of_entries(&given.1)?;
            change::remove(global, target, (list, given), out)
        }
        Reject::List { mailbox, kind } => change::list(global, mailbox, &kind.chosen(), out),
        Reject::Clear { target, kind, yes } => {
            change::confirmed(*yes)?;
            change::change(global, target, out, |session, _| {
                let mut outcome = Outcome::default();
                for list in kind.chosen() {
                    outcome = outcome.and(Outcome::removed(list, session.clear(list)?));
                }
                Ok(outcome)
            })
        }
    }
}

impl Kind {
    fn chosen(&self) -> Vec<List> {
        let all = LISTS
            .into_iter()
            .zip([self.from, self.subject, self.header]);
        let chosen: Vec<List> = all.filter(|(_, on)| *on).map(|(list, _)| list).collect();
        if chosen.is_empty() {
            return LISTS.to_vec();
        }
        chosen
    }

    /// The list that is named, or that all of the entries can only belong to.
    fn of_entries(&self, text: &[u8]) -> Result<List, Failure> {
        if let [one] = self.chosen()[..] {
            return Ok(one);
        }
        let text = String::from_utf8_lossy(text);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut guesses: Vec<Option<List>> = lines.map(guess).collect();
        guesses.dedup();
        match guesses[..] {
            [Some(list)] => Ok(list),
            _ => Err(Failure::new(
                Exit::Usage,
                "say which list: --from, --subject or --header",
            )),
        }
    }
}

/// The list that an entry can only belong to.
fn guess(entry: &str) -> Option<List> {
    if HEADER_WORDS.contains(&entry) {
        return Some(List::RejectHeaders);
    }
    let (_, domain) = entry.rsplit_once('@')?;
    let bare = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
    let address = domain.contains('.') && domain.chars().all(bare);
    let one_word = !entry.contains(char::is_whitespace) && entry.matches('@').count() == 1;
    (address && one_word).then_some(List::RejectFrom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_guessed_only_where_there_is_no_doubt() {
        for (entry, expected) in [
            ("@spam.example", Some(List::RejectFrom)),
            ("a.b@spam.example", Some(List::RejectFrom)),
            ("@日本.example", Some(List::RejectFrom)),
            ("from_missing", Some(List::RejectHeaders)),
            ("spam.example", None),
            (".bulk.example", None),
            ("未承諾広告", None),
            ("mail me @ home.example", None),
            ("@", None),
            ("@here", None),
            ("a@b@c.example", None),
        ] {
            assert_eq!(guess(entry), expected, "{entry}");
        }
    }
}
