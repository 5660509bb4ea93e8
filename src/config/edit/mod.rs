//! Mailbox files changed by command: comments, order and everything else that a change does not
//! touch stay octet for octet.
//!
//! `yaml` makes one [`Change`] to a text (pure); `entries` says which lists there are and what is an
//! entry; `text_list` is the same for the text file of a long list; [`Session`] reads a mailbox's
//! file under a lock, makes changes, and writes it when the whole is good.

mod entries;
mod file;
mod layout;
mod overview;
mod session;
mod shape;
mod text_list;
mod value;
mod yaml;

use std::collections::BTreeSet;
use std::io;

pub use entries::{HEADER_WORDS, List};
pub use overview::{
    ForwardCounts, ForwardView, Overview, ReplySwitches, ReplyView, RuleView, SenderView,
    overview_of_file,
};
pub use session::{Access, Entries, Listed, Saved, Session, Written};
pub use value::Value;
pub use yaml::{ByHand, apply};

use super::{Config, Diagnostic};
use crate::mail::{Address, fold};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// `mailboxes.writable: false`.
    #[error(
        "mailboxes.writable is false: the operator keeps these files; change them where they come from (--dry-run shows what to change)"
    )]
    ReadOnly,
    /// The file is bad as it is.
    #[error("{}", all(.0))]
    BadFile(Vec<Diagnostic>),
    /// The change would make it bad, or is no good by itself.
    #[error("{}", all(.0))]
    BadValue(Vec<Diagnostic>),
    /// A form that only a person should change.
    #[error(
        "{file}:{line}:{col}: written in a form that only a person should change: {what} there by hand"
    )]
    ByHand {
        /// The file.
        file: String,
        /// From 1.
        line: u32,
        /// From 1.
        col: u32,
        /// What to do.
        what: String,
    },
    /// A first list of the mailbox would push out one that is not copied.
    #[error(
        "{list}: mailboxes.defaults has this list{}, and one of the mailbox's own would replace it; write the list into the mailbox's file by hand",
        .file.as_ref().map(|file| format!(" in {file}")).unwrap_or_default()
    )]
    Defaults {
        /// Its dotted path.
        list: &'static str,
        /// The text file that holds it.
        file: Option<String>,
    },
    /// A link that leads out of `mailboxes.dir`.
    #[error("{file} leads to {target}, outside mailboxes.dir: change it there by hand")]
    Outside {
        /// The link.
        file: String,
        /// Where it leads.
        target: String,
    },
    /// Another edit does not end.
    #[error("{0}: another edit holds this lock for more than 10 seconds; try again")]
    Busy(String),
    /// Somebody else has written the file.
    #[error("{0} has changed meanwhile; try again")]
    Changed(String),
    /// The owner of the file would change.
    #[error("{0} belongs to another user: do this as that user or as root")]
    Owner(String),
    /// No key of a mailbox file.
    #[error("{0}: a key is written as in `spam.mark_subject` or `forwarding.rules[0].paused`")]
    NoKey(String),
    /// An address that makes no file name.
    #[error("{0}: too long for the name of a file")]
    NoFileName(String),
    /// The file system.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
}

fn all(found: &[Diagnostic]) -> String {
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// Adds `sender` to `allow.senders` of the mailbox's own file, which is made if there is none.
/// `false` when it is allowed already. A list of `mailboxes.defaults` is not pushed out by a first
/// one: that needs a person's eye.
///
/// # Errors
/// [`EditError`]; the file is as it was then.
pub fn allow_sender(
    config: &Config,
    mailbox: &Address,
    sender: &Address,
) -> Result<bool, EditError> {
    let entry = sender.to_string();
    let is_allowed = |session: &Session<'_>| {
        let compiled = session.compiled()?;
        let senders = &compiled.policy.allow.senders;
        Ok::<bool, EditError>(senders.find(&fold::fold_address(&entry)).is_some())
    };
    if is_allowed(&Session::open(config, mailbox, Access::Look)?)? {
        return Ok(false);
    }
    let mut session = Session::open(config, mailbox, Access::Change)?;
    let added = session.add(List::AllowSenders, &[entry])?;
    if added.copied > 0 {
        let list = List::AllowSenders.name();
        return Err(EditError::Defaults { list, file: None });
    }
    session.save()?;
    Ok(!added.changed.is_empty())
}

/// One step of a path in a mailbox file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Of a section.
    Key(String),
    /// Of a list, from 0.
    Item(usize),
}

/// One change to what a file says.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The value at a path; sections on the way are made.
    Set(Vec<Step>, Value),
    /// A key, and the sections that are empty without it.
    Remove(Vec<Step>),
    /// Entries at the end of a list, which is made if it is not there.
    Add(Vec<Step>, Vec<String>),
    /// Entries out of a list, by their index; the last ones take the key with them.
    Take(Vec<Step>, BTreeSet<usize>),
    /// An item before that index of a list; behind the last when there is none.
    Insert(Vec<Step>, usize, Value),
    /// An item of a list to the index that it has then.
    Move(Vec<Step>, usize, usize),
}

impl Change {
    fn path(&self) -> &[Step] {
        match self {
            Self::Set(path, _)
            | Self::Remove(path)
            | Self::Add(path, _)
            | Self::Take(path, _)
            | Self::Insert(path, _, _)
            | Self::Move(path, _, _) => path,
        }
    }
}

impl Change {
    /// What a person would have to do.
    fn in_words(&self) -> String {
        let at = dotted(self.path());
        match self {
            Self::Set(_, value) => format!("set {at} to {}", short(&value.inline())),
            Self::Remove(_) => format!("remove {at}"),
            Self::Add(_, texts) => format!("add {} to {at}", short(&texts.join(", "))),
            Self::Take(_, indexes) => format!("remove {} entries of {at}", indexes.len()),
            Self::Insert(_, index, value) => {
                let value = short(&value.inline());
                format!("put {value} as number {} into {at}", index + 1)
            }
            Self::Move(_, from, to) => format!("move number {} of {at} to {}", from + 1, to + 1),
        }
    }
}

fn dotted(path: &[Step]) -> String {
    let mut words = String::new();
    for step in path {
        match step {
            Step::Key(key) if words.is_empty() => words.push_str(key),
            Step::Key(key) => words = words + "." + key,
            Step::Item(index) => words.push_str(&format!("[{index}]")),
        }
    }
    words
}

fn short(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short + "…"
    } else {
        short
    }
}

/// The steps of a dotted path: `forwarding.rules[0].paused`. `None` when it is none.
pub fn path(dotted: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in dotted.split('.') {
        let (key, items) = part
            .split_once('[')
            .map_or((part, None), |(k, i)| (k, Some(i)));
        let word = |b: u8| b.is_ascii_lowercase() || b == b'_';
        if key.is_empty() || !key.bytes().all(word) {
            return None;
        }
        steps.push(Step::Key(key.to_owned()));
        for item in items.into_iter().flat_map(|items| items.split('[')) {
            steps.push(Step::Item(item.strip_suffix(']')?.parse().ok()?));
        }
    }
    Some(steps)
}
