//! `sekimori explain`: what the settings of a mailbox would do with a mail, stage by stage.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::dry_run::{self, DryRun, Trial};
use super::words::{self, Language};
use super::{Done, Exit, Failure, Global, config_of, decision, text};
use crate::mail::{Message, ReversePath};
use crate::policy::AuthReport;
use crate::view;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Whose settings
    #[arg(long)]
    mailbox: String,
    /// The reverse path; without it the first Return-Path field's, else the null path
    #[arg(long)]
    sender: Option<String>,
    /// Also what each stage would say if nothing before it counted
    #[arg(long)]
    all_stages: bool,
    /// Also asks the scanners, as the daemon would
    #[arg(long)]
    scan: bool,
    /// Of the text; without it the locale's
    #[arg(long, value_enum)]
    language: Option<Language>,
    /// The mail; - is stdin
    file: PathBuf,
}

pub(super) fn explain(global: &Global, options: &Options, out: &mut dyn Write) -> Done {
    let dry_run = DryRun::new(config_of(global)?);
    let (recipient, mailbox) = dry_run.named(&options.mailbox)?;
    let (raw, message) = dry_run.message(&read(&options.file)?);
    // The mail is taken as the MTA would hand it over: from a trusted client, now.
    let mut trial = Trial {
        sender: sender(options.sender.as_deref(), &message)?,
        recipient: &recipient,
        now: jiff::Timestamp::now().as_second(),
        trusted_client: true,
        auth: AuthReport::default(),
        scanned: dry_run.upstream(&raw, true),
        message: &message,
    };
    if options.scan {
        trial.scanned = dry_run.ask(&raw, &trial, &mailbox)?;
    }
    let owner = mailbox.policy.mailbox.to_string();
    let decision = view::plan(&owner, &trial.decide(&mailbox));
    let mut value = view::with(json!({"schema": "sekimori.explain/1"}), decision);
    if options.scan {
        value = view::with(
            value,
            json!({"scan": trial.scanned.recorded(&mailbox.policy)}),
        );
    }
    if options.all_stages {
        let stages = view::all_stages(&trial.all_stages(&mailbox));
        value = view::with(value, json!({"all_stages": stages}));
    }
    if global.json {
        writeln!(out, "{}", text::json(&value))?;
    } else {
        decision::write(&value, words::language(options.language), out)?;
    }
    Ok(())
}

fn sender(given: Option<&str>, message: &Message) -> Result<ReversePath, Failure> {
    let Some(given) = given else {
        return Ok(dry_run::return_path(message).unwrap_or(ReversePath::Null));
    };
    dry_run::reverse_path(given)
        .map_err(|error| Failure::new(Exit::Usage, format!("--sender {given}: {error}")))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() != "-" {
        return dry_run::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("stdin", &error))?;
    Ok(bytes)
}
