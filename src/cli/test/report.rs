//! Outcomes as text for a person and as JSON lines.

use std::io::{Result, Write};

use serde_json::json;

use super::outcome::Outcome;
use crate::cli::text;

pub(super) fn json_lines(outcomes: &[Outcome], out: &mut dyn Write) -> Result<()> {
    outcomes.iter().try_for_each(|outcome| {
        let differences = outcome.differences.iter().map(
            |difference| json!({"what": difference.what, "expected": difference.expected, "got": difference.got}),
        );
        let value = json!({
            "schema": "sekimori.test/1",
            "name": outcome.name,
            "file": outcome.file.display().to_string(),
            "line": outcome.line,
            "passed": outcome.passed(),
            "differences": differences.collect::<Vec<_>>(),
        });
        writeln!(out, "{}", text::json(&value))
    })
}

/// `quiet` leaves out what passed.
pub(super) fn text(quiet: bool, outcomes: &[Outcome], out: &mut dyn Write) -> Result<()> {
    for outcome in outcomes {
        let name = text::clean(&outcome.name);
        if outcome.passed() {
            if !quiet {
                writeln!(out, "ok      {name}")?;
            }
            continue;
        }
        let file = text::clean(&outcome.file.display().to_string());
        writeln!(out, "FAILED  {name} ({file}:{})", outcome.line)?;
        for complaint in outcome.complaints() {
            writeln!(out, "        {complaint}")?;
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    if !quiet || failed > 0 {
        writeln!(out, "{} passed, {failed} failed", outcomes.len() - failed)?;
    }
    Ok(())
}
