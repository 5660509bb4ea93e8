//! `sekimori notify`: who is told of a mailbox's new mail.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::change::{self, Outcome, Target};
use super::{Done, Global};
use crate::config::edit::{List, Value};

#[derive(Debug, Subcommand)]
pub(super) enum Notify {
    /// Tells exactly these addresses of each new mail
    Set {
        #[command(flatten)]
        target: Target,
        /// What they are told: from, to, subject, attachment, size
        #[arg(long, value_delimiter = ',')]
        fields: Vec<String>,
        /// At most limits.notify_addresses
        #[arg(required = true)]
        addresses: Vec<String>,
    },
    /// Tells nobody
    Off {
        #[command(flatten)]
        target: Target,
    },
    /// Who is told
    List {
        /// Whose settings; a name without @ gets server.default_domain
        #[arg(long)]
        mailbox: String,
    },
}

pub(super) fn notify(global: &Global, command: &Notify, out: &mut dyn Write) -> Done {
    let list = List::NotifyTo;
    match command {
        Notify::Set {
            target,
            fields,
            addresses,
        } => change::change(global, target, out, |session, config| {
            let given = ("arguments", addresses.join("\n").into_bytes());
            let addresses = change::checked(list, config, given)?;
            let mut outcome = Outcome::default();
            if !fields.is_empty() {
                let words = fields.iter().cloned().map(Value::Text).collect();
                session.set("notify.fields", Value::List(words))?;
                outcome.set.insert("notify.fields".into(), json!(fields));
            }
            outcome.set.insert(list.name().into(), json!(addresses));
            session.replace(list, addresses)?;
            Ok(outcome)
        }),
        Notify::Off { target } => change::change(global, target, out, |session, _| {
            Ok(Outcome::removed(list, session.clear(list)?))
        }),
        Notify::List { mailbox } => change::list(global, mailbox, &[list], out),
    }
}
