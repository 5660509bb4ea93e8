//! `sekimori config`: the settings that count and where each came from, a file with every key, and
//! the schema of the files for editors.

use std::io::Write;
use std::sync::Arc;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{Done, Exit, Failure, Global, check, config_of, explain, text};
use crate::config::{self, Kind};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The settings that count: built-in < mailboxes.defaults < mailbox file
    Show {
        /// Where each value came from
        #[arg(long)]
        origin: bool,
        /// Those of a mailbox; else those of the daemon file
        #[arg(long)]
        mailbox: Option<String>,
    },
    /// A complete file, each key with its meaning
    Example {
        /// Which file
        #[arg(default_value = "daemon")]
        file: File,
    },
    /// The JSON Schema (draft-07) of a file, for editors
    Schema {
        /// Which file
        file: File,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum File {
    /// sekimori.yaml
    Daemon,
    /// A mailbox file
    Mailbox,
}

impl From<File> for Kind {
    fn from(file: File) -> Self {
        match file {
            File::Daemon => Self::Daemon,
            File::Mailbox => Self::Mailbox,
        }
    }
}

pub(super) fn config(global: &Global, command: &Command, out: &mut dyn Write) -> Done {
    match command {
        Command::Show { origin, mailbox } => show(global, *origin, mailbox.as_deref(), out),
        Command::Example { file } => Ok(write!(out, "{}", config::example((*file).into()))?),
        Command::Schema { file } => Ok(writeln!(out, "{:#}", config::schema((*file).into()))?),
    }
}

fn show(global: &Global, origin: bool, mailbox: Option<&str>, out: &mut dyn Write) -> Done {
    let daemon = Arc::new(config_of(global)?);
    let settings = match mailbox {
        None => config::show(&global.config),
        Some(written) => {
            let address = explain::complete(written, &daemon).map_err(|error| {
                Failure::new(Exit::Usage, format!("--mailbox {written}: {error}"))
            })?;
            let found = explain::mailbox(&daemon, &address)?;
            config::show_mailbox(&daemon, found.path.as_deref(), &found.policy.mailbox)
        }
    };
    let settings = settings.map_err(|found| check::refused(&found))?;
    if !global.json {
        return Ok(write!(out, "{}", settings.yaml(origin))?);
    }
    for leaf in settings.leaves() {
        let line = json!({
            "schema": "sekimori.config/1",
            "key": leaf.key,
            "value": leaf.value,
            "origin": leaf.origin,
        });
        writeln!(out, "{}", text::json(&line))?;
    }
    Ok(())
}
