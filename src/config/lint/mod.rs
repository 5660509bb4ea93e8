//! What is perhaps not meant: settings that count, and do something else than their owner thinks.
//!
//! Only `check` looks for it; the daemon reads mailbox files without. A lint warns, and it is right
//! rather than complete: what cannot be proved from the settings is not said. What one file shows
//! is found here ([`mailbox`], [`daemon`]); what only several show is in [`circles`] and [`folder`].

pub(super) mod circles;
mod daemon;
pub(super) mod folder;
mod history;
mod lists;
mod mailbox;
mod rules;
mod scanners;

pub(super) use daemon::{daemon, warn_of_open};
pub(super) use mailbox::{Guard, Seen, Target, mailbox, targets};

use std::collections::HashSet;

use super::check::Lately;
use super::field::Field;
use super::lines::Line;
use super::patterns::{self, NamedList};
use super::settings::Config;
use super::source::Report;
use crate::mail::Folded;

/// What a lint of one file needs to know.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) config: &'a Config,
    pub(super) ours: &'a Ours,
    /// Unix seconds, for times that are over.
    pub(super) now: i64,
    /// What mail there was.
    pub(super) lately: &'a Lately<'a>,
    /// The file that is looked at. What stands elsewhere (the defaults) was said of that file.
    pub(super) home: u16,
}

impl Scope<'_> {
    fn is_here<T>(self, field: &Field<T>) -> bool {
        field.is_given() && field.key().file == self.home
    }

    /// The entries of a list that this file has, each with its folded text; none of another file's.
    fn entries(
        self,
        report: &Report,
        list: NamedList<'_>,
        fold: fn(&str) -> Folded,
    ) -> Vec<(Line, Folded)> {
        if !self.is_here(list.here) && !self.is_here(list.file) {
            return Vec::new();
        }
        entries(report, list, fold)
    }
}

/// The entries of a list, wherever it stands.
fn entries(report: &Report, list: NamedList<'_>, fold: fn(&str) -> Folded) -> Vec<(Line, Folded)> {
    let lines = patterns::again(report, list).split();
    let folded = |line: Line| {
        let folded = fold(&line.text);
        (line, folded)
    };
    lines.into_iter().map(folded).collect()
}

/// The domains of this server, for quick questions.
pub(super) struct Ours {
    domains: HashSet<String>,
    /// `@domain` read from its end, sorted.
    reversed: Vec<String>,
}

impl Ours {
    pub(super) fn new(config: &Config) -> Self {
        let domains = &config.mailboxes.domains;
        let reverse = |domain: &String| domain.chars().rev().chain(['@']).collect();
        let mut reversed: Vec<String> = domains.iter().map(reverse).collect();
        reversed.sort();
        Self {
            domains: domains.iter().cloned().collect(),
            reversed,
        }
    }

    /// Mail to this address (a key) comes here.
    pub(super) fn serves(&self, key: &str) -> bool {
        let domain = key.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.domains.is_empty() || self.domains.contains(domain)
    }

    /// One of the domains all of whose addresses end so.
    fn covered_by(&self, ending: &str) -> Option<String> {
        let wanted: String = ending.chars().rev().collect();
        let at = self.reversed.partition_point(|domain| *domain < wanted);
        let found = self.reversed.get(at)?.strip_prefix(&wanted).is_some();
        found.then(|| {
            self.reversed
                .get(at)
                .into_iter()
                .flat_map(|d| d.chars().rev())
                .skip(1)
                .collect()
        })
    }
}
