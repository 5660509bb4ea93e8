//! What the scanners said of a mail, as it is carried along, recorded and written into its header.

use serde_json::{Value, json};

use crate::mail::{Infected, edit};
use crate::policy::{Outcome, Plan, Policy, ScanReport, Score, SpamScan, Stage, Step, VirusScan};
use crate::scan::{Cure, Remains, SpamFinding, Symbol, VirusFinding};

/// Rules that a header line names.
const NAMED: usize = 20;

/// One question to a scanner of ours.
#[derive(Debug, Clone, Default)]
pub enum Asked<T> {
    /// It was not asked: off, not wanted, or one before us looked.
    #[default]
    No,
    /// The mail is larger than `max_size`.
    TooLarge,
    /// It did not answer, or nonsense; why, for the operator.
    Failed(String),
    /// It answered.
    Answered(T),
}

/// All that is known of one mail, for all its recipients.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    /// What decides.
    pub report: ScanReport,
    /// `scanners.virus`.
    pub virus: Asked<VirusFinding>,
    /// `scanners.spam`.
    pub spam: Asked<SpamFinding>,
    /// What of an infected mail may be shown, where a scanner of ours found the virus.
    pub cure: Option<Cure>,
}

impl Scanned {
    /// `scan` of the why-record of a mailbox with this policy.
    pub fn recorded(&self, policy: &Policy) -> Value {
        let virus = match (&self.virus, &self.report.virus) {
            (Asked::TooLarge, _) => "too_large",
            (Asked::Failed(_), _) | (_, VirusScan::Failed(_)) => "error",
            (_, VirusScan::NotScanned) => "not_scanned",
            (_, VirusScan::Clean) => "clean",
            (_, VirusScan::Infected(_)) => "infected",
        };
        let spam = match (&self.spam, self.report.spam) {
            (Asked::TooLarge, _) => "too_large",
            (Asked::Failed(_), _) | (_, SpamScan::Failed(_)) => "error",
            (_, SpamScan::NotScanned) => "not_scanned",
            (_, SpamScan::Judged { spam: true, .. }) => "spam",
            (_, SpamScan::Judged { spam: false, .. }) => "ham",
        };
        let mut value = json!({"virus": virus, "spam": spam});
        match &self.virus {
            Asked::No | Asked::TooLarge => {}
            Asked::Failed(error) => value["virus_error"] = json!(error),
            Asked::Answered(found) => {
                value["virus_engine"] = json!({"name": "clamd", "version": found.version});
                if let Some(name) = &found.virus {
                    value["virus_name"] = json!(name);
                    let parts = self.cure.iter().flat_map(|cure| &cure.parts).take(NAMED);
                    value["virus_parts"] = parts.map(part).collect();
                }
            }
        }
        match &self.spam {
            Asked::No | Asked::TooLarge => {}
            Asked::Failed(error) => value["spam_error"] = json!(error),
            Asked::Answered(found) => {
                value["spam_engine"] = json!({"name": found.engine, "version": found.version});
                value["spam_score"] = json!(points(found.score));
                value["spam_required"] = json!(points(found.required));
                value["spam_action"] = json!(found.action);
                if let Some(Score(thousandths)) = own_threshold(policy) {
                    value["spam_threshold"] = json!(thousandths as f64 / 1000.0);
                }
                value["spam_symbols"] = found.symbols.iter().take(NAMED).map(symbol).collect();
            }
        }
        value
    }

    /// What went wrong, for the operator.
    pub fn errors(&self) -> Vec<&str> {
        let virus = match &self.virus {
            Asked::Failed(error) => Some(error.as_str()),
            _ => None,
        };
        let spam = match &self.spam {
            Asked::Failed(error) => Some(error.as_str()),
            _ => None,
        };
        virus.into_iter().chain(spam).collect()
    }

    /// Not even the texts of the mail's header were found clean.
    pub(super) fn is_unspeakable(&self) -> bool {
        let remains = self.cure.as_ref().map(|cure| &cure.remains);
        matches!(remains, Some(Remains::Nothing))
    }

    /// The lines that a mail which passed gets, by what its mailbox asked for.
    pub(super) fn lines(&self, plan: &Plan, policy: &Policy) -> Vec<u8> {
        let outcome = |stage| {
            let step = plan.trail.iter().find(|step| step.stage == stage);
            step.map_or(Outcome::Off, |step| step.outcome)
        };
        let mut lines = Vec::new();
        let unscanned = |name, why| edit::field(name, &format!("Not scanned ({why})"));
        match (outcome(Stage::Virus), &self.virus) {
            (Outcome::Pass, Asked::Answered(found)) => {
                lines.extend(edit::field("X-Virus-Status", "Clean"));
                lines.extend(edit::field(
                    "X-Virus-Scanned",
                    &format!("clamd ({})", found.version),
                ));
            }
            (Outcome::Skipped, Asked::TooLarge) => {
                lines.extend(unscanned("X-Virus-Status", TOO_LARGE));
            }
            (Outcome::Skipped, Asked::Failed(_)) => {
                lines.extend(unscanned("X-Virus-Status", FAILED));
            }
            _ => {}
        }
        match (outcome(Stage::Spam), &self.spam) {
            (outcome @ (Outcome::Pass | Outcome::Match), Asked::Answered(found)) => {
                let own = own_threshold(policy);
                lines.extend(judged(found, outcome == Outcome::Match, own));
            }
            (Outcome::Skipped, Asked::TooLarge) if !exempt(plan) => {
                lines.extend(unscanned("X-Spam-Status", TOO_LARGE));
            }
            (Outcome::Skipped, Asked::Failed(_)) if !exempt(plan) => {
                lines.extend(unscanned("X-Spam-Status", FAILED));
            }
            _ => {}
        }
        lines
    }
}

const TOO_LARGE: &str = "larger than max_size";
const FAILED: &str = "scanner error";

/// The spam stage is skipped for a mail of the allow list, whatever the scanner would have said.
fn exempt(plan: &Plan) -> bool {
    let allowed = |step: &Step| step.stage == Stage::Allow && step.outcome == Outcome::Match;
    plan.trail.iter().any(allowed)
}

/// `spam.score` of the mailbox, where it is set.
fn own_threshold(policy: &Policy) -> Option<Score> {
    policy.spam.as_ref().and_then(|spam| spam.score)
}

/// Without `own` rspamd's action decides: its `required` is the score at which it would reject, and
/// most spam has less.
fn judged(found: &SpamFinding, spam: bool, own: Option<Score>) -> Vec<u8> {
    let (flag, word) = if spam { ("YES", "Yes") } else { ("NO", "No") };
    let score = Score::of(found.score);
    let names: Vec<&str> = found
        .symbols
        .iter()
        .take(NAMED)
        .map(|symbol| symbol.name.as_str())
        .collect();
    let tests = match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let by = match (own, &found.action) {
        (None, Some(action)) => format!("action=\"{action}\""),
        (own, _) => format!("required={}", own.unwrap_or(Score::of(found.required))),
    };
    let engine = found.engine;
    let status = format!("{word}, score={score} {by} engine={engine} tests={tests}");
    [
        edit::field("X-Spam-Flag", flag),
        edit::field("X-Spam-Score", &score.to_string()),
        edit::field("X-Spam-Status", &status),
    ]
    .concat()
}

fn part(part: &Infected) -> Value {
    json!({"part": part.path, "file": part.name, "type": part.media_type, "virus": part.virus})
}

fn symbol(symbol: &Symbol) -> Value {
    json!({"name": symbol.name, "score": symbol.score.map(points)})
}

/// Without the sign of a negative zero, which spamd says.
fn points(score: f64) -> f64 {
    score + 0.0
}
