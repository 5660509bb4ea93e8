//! `sekimori check`: every error and warning of the settings files in one run.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Done, Exit, Failure, Global, text};
use crate::config::{self, Diagnostic, Severity};

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
    config::check_each(&global.config, &options.paths, &mut |found| {
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
    Failure::new(Exit::Config, text.join("\n"))
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
