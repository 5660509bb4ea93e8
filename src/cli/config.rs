//! `sekimori config`: the settings that count and where each came from, a file with every key, and
//! the schema of the files for editors.

use std::io::Write;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::dry_run::DryRun;
use super::{Done, Global, check, config_of, text};
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
        Command::Example { file } => {
            let example = config::example((*file).into());
            if global.json {
                let line = json!({"schema": "sekimori.example/1", "text": example});
                writeln!(out, "{}", text::json(&line))?;
            } else {
                write!(out, "{example}")?;
            }
            Ok(())
        }
        Command::Schema { file } => {
            let schema = config::schema((*file).into());
            match global.json {
                true => writeln!(out, "{schema}")?,
                false => writeln!(out, "{schema:#}")?,
            }
            Ok(())
        }
    }
}

fn show(global: &Global, origin: bool, mailbox: Option<&str>, out: &mut dyn Write) -> Done {
    let daemon = config_of(global)?;
    let settings = match mailbox {
        None => config::show(&global.config),
        Some(name) => {
            let dry_run = DryRun::new(daemon);
            let (_, found) = dry_run.named(name)?;
            let (path, address) = (found.path.as_deref(), &found.policy.mailbox);
            config::show_mailbox(&dry_run.config, path, address)
        }
    };
    let settings = settings.map_err(|found| check::refused(&found))?;
    if !global.json {
        write!(out, "{}", settings.yaml(origin))?;
        return Ok(());
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
