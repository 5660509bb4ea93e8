//! Forwarding rules that never apply: an earlier one takes every mail, or no mail can match.
//!
//! A rule is read as its conditions; one condition implies another when each mail of the first is
//! one of the second. Rules that are paused, broken or without conditions take no part.

use super::super::field::Field;
use super::super::mailbox::{RawForwarding, RawMatch, RawMode, RawRule};
use super::super::patterns::NamedList;
use super::super::source::{Place, Report};
use super::super::text::{Size, Text};
use super::lists::{self, Entry};
use super::{Scope, entries};
use crate::mail::fold::{fold, fold_address};
use crate::policy::{SubstringSet, SuffixSet};

/// Each rule is compared with those before it: so many are looked at.
const MOST_RULES: usize = 100;

/// One condition, as its entries and as the set that matches them.
enum Condition {
    Subject(Vec<Entry>, SubstringSet),
    From(Vec<Entry>, SuffixSet),
    Attachment(bool),
    /// Octets, both included.
    Size(u64, u64),
}

struct Rule {
    name: String,
    at: Place,
    any: bool,
    conditions: Vec<Condition>,
}

/// What the rules that count do to each other.
pub(super) fn rules(report: &mut Report, scope: Scope<'_>, raw: &RawForwarding) {
    let active = raw.mode.value == Some(RawMode::Rules);
    if !active || !scope.is_here(&raw.rules) {
        return;
    }
    let most = scope.config.server.limits.message_size;
    let mut earlier: Vec<Rule> = Vec::new();
    for item in raw.rules.get().into_iter().flatten().take(MOST_RULES) {
        let Some(rule) = rule(report, item) else {
            continue;
        };
        if rule.is_impossible(most) {
            let message = format!("no mail can match: `message_size` is {most} bytes");
            let help = "lower the bound, or remove the rule";
            report.warning("never-matches", rule.at, message, help);
            continue;
        }
        if let Some(other) = earlier.iter().find(|other| rule.implies(other, most)) {
            let message = format!(
                "never reached: {} (line {}) comes first and takes every such mail",
                other.name, other.at.line
            );
            let help = "put the narrower rule first, or remove this one";
            report.warning("unreachable-rule", rule.at, message, help);
        }
        earlier.push(rule);
    }
}

fn rule(report: &Report, item: &Field<RawRule>) -> Option<Rule> {
    let raw = item.get()?;
    let list = |name, here, file| NamedList { name, here, file };
    let subject = list("", &raw.subject_contains, &raw.subject_contains_file);
    let from = list("", &raw.from_suffixes, &raw.from_suffixes_file);
    let mut conditions = Vec::new();
    if subject.is_given() {
        let entries = Some(entries(report, subject, fold)).filter(|found| !found.is_empty())?;
        let set = SubstringSet::build(lists::patterns(report, &entries));
        conditions.push(Condition::Subject(entries, set));
    }
    if from.is_given() {
        let entries = Some(entries(report, from, fold_address)).filter(|e| !e.is_empty())?;
        let set = SuffixSet::build(lists::patterns(report, &entries));
        conditions.push(Condition::From(entries, set));
    }
    if raw.attachment.is_given() {
        conditions.push(Condition::Attachment(raw.attachment.value?));
    }
    if raw.size.is_given() {
        let (least, most) = size(raw)?;
        conditions.push(Condition::Size(least, most));
    }
    let paused = raw.paused.value != Some(false);
    let name = raw.name.get().map(|name| format!("the rule `{name}`"));
    (!paused && !conditions.is_empty()).then(|| Rule {
        name: name.unwrap_or_else(|| "the rule".to_owned()),
        at: item.place(),
        any: raw.r#match.or_default() == RawMatch::Any,
        conditions,
    })
}

/// The bounds of a rule's size condition, octets; `None` when it is not sound.
pub(super) fn size(raw: &RawRule) -> Option<(u64, u64)> {
    let size = raw.size.get()?;
    match (&size.at_least.value, &size.at_most.value) {
        (Some(Text(Size(least))), None) => Some((*least, u64::MAX)),
        (None, Some(Text(Size(most)))) => Some((0, *most)),
        _ => None,
    }
}

impl Rule {
    /// No mail up to `most` octets matches.
    fn is_impossible(&self, most: u64) -> bool {
        let impossible = |condition: &Condition| match condition {
            Condition::Size(least, upper) => *least > most || *upper == 0,
            _ => false,
        };
        if self.any {
            self.conditions.iter().all(impossible)
        } else {
            self.conditions.iter().any(impossible)
        }
    }

    /// Every mail that matches `self` matches `other`.
    fn implies(&self, other: &Self, most: u64) -> bool {
        // Each way to match `self`: all conditions at once, or any one alone.
        let ways: Vec<&[Condition]> = if self.any {
            self.conditions.chunks(1).collect()
        } else {
            vec![&self.conditions]
        };
        ways.iter().all(|way| {
            let holds =
                |wide: &Condition| way.iter().any(|c| c.implies(wide)) || wide.is_always(most);
            if other.any {
                other.conditions.iter().any(holds)
            } else {
                other.conditions.iter().all(holds)
            }
        })
    }
}

impl Condition {
    /// Every mail up to `most` octets matches.
    fn is_always(&self, most: u64) -> bool {
        matches!(self, Self::Size(0..=1, upper) if *upper >= most)
    }

    fn implies(&self, wide: &Self) -> bool {
        match (self, wide) {
            (Self::Subject(narrow, _), Self::Subject(_, set)) => {
                narrow.iter().all(|(_, text)| set.find(text).is_some())
            }
            (Self::From(narrow, _), Self::From(_, set)) => {
                narrow.iter().all(|(_, text)| set.find(text).is_some())
            }
            (Self::Attachment(narrow), Self::Attachment(wide)) => narrow == wide,
            (Self::Size(least, most), Self::Size(wide_least, wide_most)) => {
                least >= wide_least && most <= wide_most
            }
            _ => false,
        }
    }
}
