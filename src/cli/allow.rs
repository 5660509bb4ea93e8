//! `sekimori allow`: whose mail skips the spam stage of a mailbox.

use std::io::Write;

use clap::{Args, Subcommand};

use super::change::{self, Outcome, Target};
use super::{Done, Global};
use crate::config::edit::List;

#[derive(Debug, Subcommand)]
pub(super) enum Allow {
    /// Adds senders: addresses, or ends of addresses such as @example.jp
    Add(Change),
    /// Removes senders
    Remove(Change),
    /// The senders that count, those of mailboxes.defaults too
    List {
        /// Whose settings; a name without @ gets server.default_domain
        #[arg(long)]
        mailbox: String,
        #[command(flatten)]
        kind: Kind,
    },
    /// Removes all senders
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
    /// One sender each; none or -: the lines of stdin
    entries: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Kind {
    /// The list that counts only for mail whose domain is proved (verified_senders)
    #[arg(long)]
    verified: bool,
}

impl Kind {
    fn list(&self) -> List {
        match self.verified {
            true => List::AllowVerified,
            false => List::AllowSenders,
        }
    }
}

pub(super) fn allow(global: &Global, command: &Allow, out: &mut dyn Write) -> Done {
    match command {
        Allow::Add(Change {
            target,
            kind,
            entries,
        }) => {
            let given = (kind.list(), change::given(entries)?);
            change::add(global, target, given, out)
        }
        Allow::Remove(Change {
            target,
            kind,
            entries,
        }) => {
            let given = (kind.list(), change::given(entries)?);
            change::remove(global, target, given, out)
        }
        Allow::List { mailbox, kind } => change::list(global, mailbox, &[kind.list()], out),
        Allow::Clear { target, kind, yes } => {
            change::confirmed(*yes)?;
            change::change(global, target, out, |session, _| {
                let list = kind.list();
                Ok(Outcome::removed(list, session.clear(list)?))
            })
        }
    }
}
