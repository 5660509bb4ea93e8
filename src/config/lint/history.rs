//! Short Subject entries against the mail that there was: a word of two letters is in many Subjects.

use super::super::source::Report;
use super::Scope;
use super::lists::{self, Entry};
use crate::mail::{Address, Folded};
use crate::policy::SubstringSet;

/// Entries up to this are looked at, code points as written.
const SHORT: usize = 3;
/// An entry in more of the mail than this is told, percent.
const SHARE: usize = 10;
/// Of fewer mails nothing is concluded.
const FEWEST: usize = 20;
/// So many short entries of a list are counted.
const MOST_ENTRIES: usize = 100;

/// Warns of each short entry that is in the Subject of more than 10 % of the mailbox's mail.
pub(super) fn subjects(
    report: &mut Report,
    scope: Scope<'_>,
    mailbox: &Address,
    entries: &[Entry],
) {
    let short = entries
        .iter()
        .filter(|(line, _)| line.text.chars().count() <= SHORT);
    let mut counted: Vec<(&Entry, SubstringSet, usize)> = short
        .take(MOST_ENTRIES)
        .map(|entry| {
            let pattern = lists::patterns(report, std::slice::from_ref(entry));
            (entry, SubstringSet::build(pattern), 0)
        })
        .collect();
    if counted.is_empty() {
        return;
    }
    let mut all = 0;
    (scope.lately)(mailbox, &mut |subjects: &[&Folded]| {
        all += 1;
        for (_, set, count) in &mut counted {
            *count += usize::from(set.find_any(subjects.iter().copied()).is_some());
        }
    });
    for ((line, _), _, count) in counted {
        if all >= FEWEST && count * 100 > all * SHARE {
            let entry = &line.text;
            let message =
                format!("`{entry}` is in the Subject of {count} of the mailbox's last {all} mails");
            let help =
                "write more of the text that you mean; `replay` shows what a draft would hold";
            report.warning("broad-subject", line.place, message, help);
        }
    }
}
