//! `sekimori check`: every error and warning of the settings files in one run.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::json;

use super::{Done, Exit, Failure, Global, facts, text};
use crate::config::{self, Diagnostic, Severity};
use crate::mail::{Address, Folded, SubjectField};
use crate::view;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Warnings count as errors (exit 1)
    #[arg(long)]
    deny_warnings: bool,
    /// Files to check; none: the daemon file and every mailbox file it names
    paths: Vec<PathBuf>,
}

pub(super) fn check(global: &Global, options: &Options, out: &mut dyn Write) -> Done {
    for path in options
        .paths
        .iter()
        .chain(options.paths.is_empty().then_some(&global.config))
    {
        std::fs::metadata(path).map_err(|error| Failure::io(path.display(), &error))?;
    }
    let (mut errors, mut warnings) = (0, 0);
    // Without a daemon there is no history: asked for once, then no more.
    let silent = AtomicBool::new(false);
    let lately = |mailbox: &Address, each: &mut dyn FnMut(&[&Folded])| {
        if !silent.load(Ordering::Relaxed) && lately(global, mailbox, each).is_err() {
            silent.store(true, Ordering::Relaxed);
        }
    };
    config::check_each(&global.config, &options.paths, &lately, &mut |found| {
        errors += count(&found, Severity::Error);
        warnings += count(&found, Severity::Warning);
        print(global, &found, out)
    })?;
    if !global.json && !global.quiet {
        writeln!(out, "{errors} errors, {warnings} warnings")?;
    }
    if errors > 0 {
        return Err(Failure::new(Exit::Config, ""));
    }
    if warnings > 0 && options.deny_warnings {
        return Err(Failure::new(Exit::Failed, ""));
    }
    Ok(())
}

/// The Subjects of the mail that the daemon knows of.
fn lately(global: &Global, mailbox: &Address, each: &mut dyn FnMut(&[&Folded])) -> Done {
    let asked = facts::stream(global, &mailbox.to_string(), None, &mut |record| {
        let facts = record.and_then(|record| view::facts(&record, mailbox));
        if let Some(facts) = facts {
            let texts = match &facts.message.subject {
                SubjectField::Text(texts) => texts.as_slice(),
                SubjectField::Empty | SubjectField::Missing => &[],
            };
            let folded: Vec<&Folded> = texts.iter().map(|text| &text.folded).collect();
            each(&folded);
        }
        Ok(())
    });
    // A mailbox that the daemon does not know had no mail.
    asked.or_else(|failure| match failure.exit {
        Exit::NoUser => Ok(()),
        _ => Err(failure),
    })
}

/// Prints diagnostics as text or JSON lines; `--quiet` leaves warnings out.
pub(super) fn print(
    global: &Global,
    found: &[Diagnostic],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for diagnostic in found
        .iter()
        .filter(|d| !global.quiet || d.severity == Severity::Error)
    {
        if global.json {
            writeln!(out, "{}", text::json(&json_line(diagnostic)))?;
        } else {
            writeln!(out, "{diagnostic}")?;
        }
    }
    Ok(())
}

/// Settings that could not be loaded, as a failure that shows every error.
pub(super) fn refused(found: &[Diagnostic]) -> Failure {
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    Failure::findings(Exit::Config, &text)
}

fn count(found: &[Diagnostic], severity: Severity) -> usize {
    found
        .iter()
        .filter(|diagnostic| diagnostic.severity == severity)
        .count()
}

fn json_line(diagnostic: &Diagnostic) -> serde_json::Value {
    json!({
        "schema": "sekimori.check/1",
        "severity": diagnostic.severity.as_str(),
        "id": diagnostic.id,
        "file": diagnostic.file.display().to_string(),
        "line": diagnostic.line,
        "col": diagnostic.col,
        "message": diagnostic.message,
        "help": diagnostic.help,
    })
}
