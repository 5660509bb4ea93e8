//! `sekimori test`: rule tests. Each case is decided by the same call as a mail of the daemon and as
//! `explain`; only what the case names is compared.

mod junit;
mod outcome;
mod report;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::outcome::Outcome;
use super::dry_run::{self, DryRun, Trial};
use super::{Done, Exit, Failure, Global, check, config_of};
use crate::config::ruletests::{CaseMail, RuleCase, RuleTests};
use crate::config::{Mailbox, ruletests};
use crate::execute::Scanned;
use crate::mail::{FromField, Message, ReversePath};
use crate::policy::{AuthReport, ScanReport, SpamScan, VirusScan};
use crate::view;

/// Looked for beside the daemon file when no PATH is given.
const USUAL_NAME: &str = "tests.yaml";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What is written on stdout
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Also writes a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Files of rule tests, or folders with such; none: tests.yaml beside the daemon file
    paths: Vec<PathBuf>,
}

/// `--format`; `--json` goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Junit,
}

pub(super) fn test(global: &Global, options: &Options, out: &mut dyn Write) -> Done {
    let files = files(options, &global.config)?;
    let dry_run = DryRun::new(config_of(global)?);
    let tests = read(&files)?;
    let ready = prepare(&dry_run, &tests)?;
    let outcomes: Vec<Outcome> = ready.iter().map(Ready::run).collect();
    if let Some(path) = &options.junit {
        let report = junit::report(&outcomes);
        std::fs::write(path, report).map_err(|error| Failure::io(path.display(), &error))?;
    }
    match options.format {
        _ if global.json => report::json_lines(&outcomes, out)?,
        Format::Junit => out.write_all(junit::report(&outcomes).as_bytes())?,
        Format::Text => report::text(global.quiet, &outcomes, out)?,
    }
    if outcomes.iter().all(Outcome::passed) {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, ""))
    }
}

/// The files that the paths stand for, none twice.
fn files(options: &Options, daemon_file: &Path) -> Result<Vec<PathBuf>, Failure> {
    if options.paths.is_empty() {
        let usual = daemon_file.with_file_name(USUAL_NAME);
        if usual.exists() {
            return Ok(vec![usual]);
        }
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "which rule tests? give a PATH: there is no {}",
                usual.display()
            ),
        ));
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for path in &options.paths {
        let metadata =
            std::fs::metadata(path).map_err(|error| Failure::io(path.display(), &error))?;
        let found = if metadata.is_dir() {
            ruletests::rule_tests_below(path)
        } else {
            vec![path.clone()]
        };
        if found.is_empty() {
            let message = format!(
                "{}: no *.yaml file with `cases:` at its top in this folder",
                path.display()
            );
            return Err(Failure::new(Exit::NoInput, message));
        }
        for file in found {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// All files, or all mistakes of all of them.
fn read(files: &[PathBuf]) -> Result<Vec<RuleTests>, Failure> {
    let mut tests = Vec::new();
    let mut found = Vec::new();
    for file in files {
        match ruletests::rule_tests(file) {
            Ok(read) => tests.push(read),
            Err(mistakes) => found.extend(mistakes),
        }
    }
    if found.is_empty() {
        Ok(tests)
    } else {
        Err(check::refused(&found))
    }
}

/// A case with its mail and settings.
struct Ready<'a> {
    file: &'a Path,
    case: &'a RuleCase,
    mailbox: Arc<Mailbox>,
    message: Message,
    /// What scanners before us say of it.
    upstream: Scanned,
}

/// Finds every mail and every mailbox, before the first case is decided.
///
/// # Errors
/// Everything that was not found, with the exit code of the first.
fn prepare<'a>(dry_run: &DryRun, tests: &'a [RuleTests]) -> Result<Vec<Ready<'a>>, Failure> {
    let mut mailboxes = HashMap::new();
    let mut ready = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for (file, case) in tests.iter().flat_map(|tests| {
        let file = tests.path.as_path();
        tests.cases.iter().map(move |case| (file, case))
    }) {
        let raw = match &case.mail {
            CaseMail::Text(raw) => Ok(raw.clone()),
            CaseMail::File(path) => {
                dry_run::read(&path.value).map_err(|failure| told_at(file, path.line, failure))
            }
        };
        let address = &case.mailbox.value;
        let mailbox = match mailboxes.get(&address.key()) {
            Some(mailbox) => Ok(Arc::clone(mailbox)),
            None => dry_run
                .mailbox(address)
                .map_err(|failure| told_at(file, case.mailbox.line, failure)),
        };
        match (raw, mailbox) {
            (Ok(raw), Ok(mailbox)) => {
                let (raw, message) = dry_run.message(&raw);
                mailboxes.insert(address.key(), Arc::clone(&mailbox));
                ready.push(Ready {
                    file,
                    case,
                    mailbox,
                    upstream: dry_run.upstream(&raw, case.trusted_client),
                    message,
                });
            }
            (raw, mailbox) => failures.extend(raw.err().into_iter().chain(mailbox.err())),
        }
    }
    let Some(exit) = failures.first().map(|first| first.exit) else {
        return Ok(ready);
    };
    let mut messages: Vec<String> = failures.into_iter().map(|f| f.message).collect();
    messages.dedup();
    Err(Failure::findings(exit, &messages))
}

/// A failure with the place in the test file; mistakes in settings show places of their own.
fn told_at(file: &Path, line: u32, failure: Failure) -> Failure {
    match failure.exit {
        Exit::Config => failure,
        exit => Failure::new(
            exit,
            format!("{}:{line}: {}", file.display(), failure.message),
        ),
    }
}

impl Ready<'_> {
    fn run(&self) -> Outcome {
        let (case, message) = (self.case, &self.message);
        let trial = Trial {
            message,
            recipient: &case.mailbox.value,
            sender: case.sender.clone().unwrap_or_else(|| sender(message)),
            now: case.at.unwrap_or_else(|| now(&self.mailbox)),
            trusted_client: case.trusted_client,
            auth: AuthReport {
                dmarc_pass: case.dmarc_pass,
            },
            scanned: scanned(case, &self.upstream),
        };
        let owner = self.mailbox.policy.mailbox.to_string();
        let decided = view::plan(&owner, &trial.decide(&self.mailbox));
        Outcome::of(self.file, case, &decided)
    }
}

/// A mail written for a test comes from whom it says: its Return-Path, else the first address of its
/// From.
fn sender(message: &Message) -> ReversePath {
    dry_run::return_path(message).unwrap_or_else(|| {
        let from = match &message.from {
            FromField::Addresses(addresses) => addresses.first(),
            FromField::EmptyAddress | FromField::Empty | FromField::Missing => None,
        };
        from.and_then(|from| dry_run::reverse_path(&from.text).ok())
            .unwrap_or(ReversePath::Null)
    })
}

/// The present, moved into the period of the mailbox's auto-reply: a test that passes today must not
/// fail after the holidays. What depends on the day says `at`.
fn now(mailbox: &Mailbox) -> i64 {
    let now = jiff::Timestamp::now().as_second();
    let period = mailbox.policy.auto_reply.as_ref();
    let [start, end] = [
        period.and_then(|reply| reply.start),
        period.and_then(|reply| reply.end),
    ];
    now.max(start.unwrap_or(now)).min(end.unwrap_or(i64::MAX))
}

/// The case's own word, else that of scanners before us: no engine is asked.
fn scanned(case: &RuleCase, upstream: &Scanned) -> Scanned {
    let report = &upstream.report;
    Scanned {
        report: ScanReport {
            virus: match &case.virus {
                Some(name) => VirusScan::Infected(name.clone()),
                None => report.virus.clone(),
            },
            spam: match case.spam {
                Some(true) => SpamScan::SPAM,
                Some(false) => SpamScan::HAM,
                None => report.spam,
            },
        },
        ..Scanned::default()
    }
}
