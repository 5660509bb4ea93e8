//! Where the second parser itself cannot read the mail: data (`exceptions.txt`), a line a mail.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::second::Opinion;

/// Kind of finding, what it means.
const KINDS: &[(&str, &str)] = &[
    (
        "header-ends",
        "Python ends the header at a line without a colon that stands before the Subject",
    ),
    (
        "undecodable",
        "Python's decode_header raises: unknown charset, or octets that are not of it",
    ),
    (
        "undecoded",
        "Python leaves the old Subject's encoded word as it is: no such octets in its charset. The \
         space that the mark brings inside its own encoded word then shows beside the raw one",
    ),
    (
        "spaced",
        "Python shows white space that stands at the edge of an encoded word, or not, by what is before it",
    ),
];

/// Every finding is an exception, every exception of a mail that was seen is a finding.
pub(crate) struct Report {
    excepted: HashMap<String, HashSet<String>>,
    met: HashSet<(String, String)>,
    seen: HashSet<String>,
    wrong: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        let mut excepted: HashMap<String, HashSet<String>> = HashMap::new();
        for line in include_str!("exceptions.txt").lines() {
            let (kind, path) = line.split_once(' ').unwrap();
            assert!(KINDS.iter().any(|known| known.0 == kind), "{line}");
            let new = excepted
                .entry(path.to_owned())
                .or_default()
                .insert(kind.to_owned());
            assert!(new, "twice: {line}");
        }
        Self {
            excepted,
            met: HashSet::new(),
            seen: HashSet::new(),
            wrong: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, opinion: &Opinion) {
        self.seen.insert(opinion.name.clone());
        for (kind, text) in &opinion.findings {
            let excepted = self.excepted.get(&opinion.name);
            if excepted.is_some_and(|kinds| kinds.contains(kind)) {
                self.met.insert((opinion.name.clone(), kind.clone()));
            } else {
                self.wrong.push(format!(
                    "{kind} {}  [{}] {text}",
                    opinion.name, opinion.mark
                ));
            }
        }
    }

    /// Panics with everything that is wrong; prints how many mails each exception excuses.
    pub(crate) fn end(mut self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (path, kinds) in &self.excepted {
            for kind in kinds {
                *counts.entry(kind).or_default() += usize::from(self.seen.contains(path));
                if self.seen.contains(path) && !self.met.contains(&(path.clone(), kind.clone())) {
                    self.wrong
                        .push(format!("{kind} {path}: excepted, but all is well"));
                }
            }
        }
        for (kind, reason) in KINDS {
            eprintln!("{} mails: {kind}: {reason}", counts.get(kind).unwrap_or(&0));
        }
        let count = self.wrong.len();
        assert!(self.wrong.is_empty(), "{count}:\n{}", self.wrong.join("\n"));
    }
}
