//! `sekimori replay`: what draft settings would have done with the mail of the last days, decided
//! again from the stored facts by the same two calls.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::{Done, Exit, Failure, Global, check, config_of, dry_run, facts, text};
use crate::config::{self, Config, Directory, Lookup, Mailbox};
use crate::mail::Address;
use crate::policy::{Plan, Stage, Verdict};
use crate::store::FactsRecord;
use crate::view;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Whose mail
    #[arg(long)]
    mailbox: String,
    /// A mailbox file with the settings to try; relative paths in it are relative to it
    #[arg(long)]
    draft: PathBuf,
    /// Received since: RFC 3339, a date, or a time span such as 12h or 2d; else all that is stored
    #[arg(long)]
    since: Option<String>,
}

pub(super) fn replay(global: &Global, options: &Options, out: &mut dyn Write) -> Done {
    let config = Arc::new(config_of(global)?);
    let asked = dry_run::complete(&options.mailbox, &config).map_err(|error| {
        let message = format!("--mailbox {}: {error}", options.mailbox);
        Failure::new(Exit::Usage, message)
    })?;
    let draft_there = std::fs::metadata(&options.draft);
    draft_there.map_err(|error| Failure::io(options.draft.display(), &error))?;
    let owner = owner(&config, &asked)?;
    let draft = config::load_draft(&config, &options.draft, &owner)
        .map_err(|errors| check::refused(&errors))?;
    let mut replay = Replay::new(&draft);
    let since = options.since.as_deref();
    facts::stream(global, &asked.to_string(), since, &mut |record| {
        let first = replay.changes.len();
        replay.take(record);
        if global.json {
            for change in replay.changes.drain(first..) {
                writeln!(out, "{}", text::json(&change))?;
            }
        }
        Ok(())
    })?;
    if !global.json {
        replay.print(global, out)?;
    }
    Ok(())
}

/// The mails seen so far.
struct Replay<'a> {
    draft: &'a Mailbox,
    counts: Counts,
    /// As they are printed.
    changes: Vec<Value>,
}

#[derive(Debug, Default)]
struct Counts {
    mails: u64,
    newly_held: u64,
    newly_passed: u64,
    newly_forwarded: u64,
    /// Of those that no change is listed for.
    no_longer_forwarded: u64,
    unchanged: u64,
    not_certain: u64,
}

impl<'a> Replay<'a> {
    fn new(draft: &'a Mailbox) -> Self {
        Self {
            draft,
            counts: Counts::default(),
            changes: Vec::new(),
        }
    }

    /// One mail, or a record that cannot be read.
    fn take(&mut self, record: Option<FactsRecord>) {
        self.counts.mails += 1;
        let again = record.and_then(|record| {
            let facts = view::facts(&record, &self.draft.policy.mailbox)?;
            let again = facts.decide(&self.draft.policy);
            again.certain.then_some((record, again.plan))
        });
        let Some((record, plan)) = again else {
            self.counts.not_certain += 1;
            return;
        };
        let before = self.changes.len();
        let (was, is) = (was_held(&record), is_held(&plan));
        if is && !was {
            self.counts.newly_held += 1;
            self.changes.push(newly_held(&record, &plan));
        }
        if was && !is {
            self.counts.newly_passed += 1;
            self.changes.push(newly_passed(&record));
        }
        let targets = view::targets(&plan);
        let new = missing(&targets, &record.forward);
        if !new.is_empty() {
            self.counts.newly_forwarded += 1;
            self.changes.push(newly_forwarded(&record, &plan, &new));
        }
        if self.changes.len() == before {
            let count = match !missing(&record.forward, &targets).is_empty() {
                true => &mut self.counts.no_longer_forwarded,
                false => &mut self.counts.unchanged,
            };
            *count += 1;
        }
    }

    fn print(&self, global: &Global, out: &mut dyn Write) -> std::io::Result<()> {
        let counts = &self.counts;
        let rows = [
            ("mails", counts.mails),
            ("newly held", counts.newly_held),
            ("newly passed", counts.newly_passed),
            ("newly forwarded", counts.newly_forwarded),
            ("no longer forwarded", counts.no_longer_forwarded),
            ("unchanged", counts.unchanged),
            ("not certain", counts.not_certain),
        ];
        for (name, count) in rows {
            writeln!(out, "{:21} {count}", format!("{name}:"))?;
        }
        if global.quiet {
            return Ok(());
        }
        for name in ["newly_held", "newly_passed", "newly_forwarded"] {
            let mut of_kind = self
                .changes
                .iter()
                .filter(|change| change["change"] == name);
            let first = of_kind.next();
            if first.is_some() {
                writeln!(out, "\n{}:", name.replace('_', " "))?;
            }
            for change in first.into_iter().chain(of_kind) {
                writeln!(out, "  {}", text::change(change))?;
            }
        }
        Ok(())
    }
}

/// The addresses of one list that another one has in no way of writing them.
fn missing<'a>(these: &'a [String], among: &[String]) -> Vec<&'a String> {
    if these == among {
        return Vec::new();
    }
    let key = |text: &String| Address::parse(text).map_or_else(|_| text.clone(), |a| a.key());
    let among: Vec<String> = among.iter().map(key).collect();
    let new = these
        .iter()
        .filter(|address| !among.contains(&key(address)));
    new.collect()
}

/// The infected original of a replaced mail is held too.
fn was_held(record: &FactsRecord) -> bool {
    let verdict = record.verdict.as_deref().and_then(Verdict::named);
    matches!(verdict, Some(Verdict::Quarantine | Verdict::Replace))
}

fn is_held(plan: &Plan) -> bool {
    matches!(plan.verdict, Verdict::Quarantine | Verdict::Replace)
}

fn newly_held(record: &FactsRecord, plan: &Plan) -> Value {
    let hit = plan.hit.as_ref();
    let origin = hit.and_then(|hit| hit.origin.as_ref());
    let by = json!({
        "stage": plan.stage.map(Stage::as_str),
        "entry": hit.map(|hit| &hit.entry),
        "origin": origin.map(ToString::to_string),
    });
    change("newly_held", record, by)
}

/// With the stage and the entry that held it then.
fn newly_passed(record: &FactsRecord) -> Value {
    let by = json!({"stage": record.stage, "entry": record.entry, "origin": record.origin});
    change("newly_passed", record, by)
}

fn newly_forwarded(record: &FactsRecord, plan: &Plan, to: &[&String]) -> Value {
    let step = plan
        .trail
        .iter()
        .find(|step| step.stage == Stage::Forwarding);
    let hit = step.and_then(|step| step.hit.as_ref());
    let origin = hit.and_then(|hit| hit.origin.as_ref());
    let by = json!({
        "stage": Stage::Forwarding.as_str(),
        "entry": hit.map(|hit| &hit.entry),
        "origin": origin.map(ToString::to_string),
        "to": to,
    });
    change("newly_forwarded", record, by)
}

fn change(what: &str, record: &FactsRecord, by: Value) -> Value {
    let change = json!({
        "schema": "sekimori.replay/1",
        "change": what,
        "id": record.id,
        "received_at": view::time(record.id.millis()),
        "sender": record.sender,
        "subject": record.subject.first().map_or("", String::as_str),
    });
    view::with(change, by)
}

/// The mailbox that an address belongs to.
fn owner(config: &Arc<Config>, asked: &Address) -> Result<Address, Failure> {
    let directory = Directory::new(config.clone());
    let mut found = directory.lookup(asked);
    if !matches!(&found, Lookup::Found(mailbox) if mailbox.path.is_some()) {
        // Only an alias can need the other files.
        directory.index_now();
        found = directory.lookup(asked);
    }
    let unknown = |why: &str| Err(Failure::new(Exit::NoUser, format!("{asked}: {why}")));
    match found {
        Lookup::Found(mailbox) => Ok(mailbox.policy.mailbox.clone()),
        Lookup::UnknownDomain => unknown("not one of mailboxes.domains"),
        Lookup::UnknownMailbox => unknown("no such mailbox"),
        // The daemon may know more than this user may read.
        Lookup::Unavailable(_) => Ok(asked.clone()),
    }
}
