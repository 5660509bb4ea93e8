//! `check`: every error and warning of all files in one run, file by file as they are read.
//!
//! A mailbox file is read by one of a few threads and forgotten at once; what stays is what files
//! can clash with: aliases, and whom they forward to. So a hundred thousand files take the memory
//! of their addresses.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Diagnostic, Severity};
use super::lint::circles::Graph;
use super::lint::folder;
use super::lint::{self, Ours, Scope, Seen, Target};
use super::source::{Place, Report};
use super::{
    Attempt, Config, MOST_FILE_BYTES, attempt_config_and, is_mailbox_file, location, patterns,
    read_file, read_mailbox_and, ruletests,
};
use crate::mail::{Address, Folded};

/// Files that one thread reads before the findings are told.
const TURN: usize = 64;
/// More threads wait for each other and the disk.
const MOST_THREADS: usize = 8;

/// Tells of the mail that a mailbox had lately: calls for each one with its Subjects, folded. Does
/// nothing where that is not known.
pub type Lately<'a> = dyn Fn(&Address, &mut dyn FnMut(&[&Folded])) + Sync + 'a;

/// Every error and warning of the files, for `check`, in the order of files and lines: without
/// `paths` the daemon file and all mailbox files below its `mailboxes.dir`, else those files. A
/// folder stands for the files in it. A file is a mailbox file when it lies below `mailboxes.dir` or
/// has a key of a mailbox file at its top; one with `cases` there holds rule tests; else it is a daemon
/// file.
pub fn check(config: &Path, paths: &[PathBuf]) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    // Keeping a finding cannot fail.
    let _ = check_each(config, paths, &|_, _| (), &mut |found| {
        all.extend(found);
        Ok(())
    });
    all
}

/// As [`check`], with what `lately` knows, telling the findings of each file once it was read; last come those that only all
/// mailbox files together show.
///
/// # Errors
/// That of `tell`, which ends it.
pub fn check_each(
    config: &Path,
    paths: &[PathBuf],
    lately: &Lately<'_>,
    tell: &mut dyn FnMut(Vec<Diagnostic>) -> io::Result<()>,
) -> io::Result<()> {
    let now = jiff::Timestamp::now().as_second();
    let (daemon, mut found) = match read_file(config) {
        Ok(bytes) => lint_config(config, bytes, now),
        Err(found) => (None, found),
    };
    let said = found.clone();
    if !paths.is_empty() {
        found.retain(|d| paths.contains(&d.file));
    }
    tell(found)?;
    // Without a daemon file the built-in limits count.
    let built_in = || lint_config(config, b"version: 1".to_vec(), now).0;
    let daemon = match daemon {
        None if !paths.is_empty() => built_in(),
        daemon => daemon,
    };
    let Some(daemon) = daemon else {
        return Ok(());
    };
    let run = Run {
        ours: Ours::new(&daemon),
        config: &daemon,
        said: &said,
        now,
        lately,
    };
    if paths.is_empty() {
        return run.folder(tell);
    }
    let mut files = Vec::new();
    let mut seen = HashSet::from([location::absolute(config)]);
    for path in paths {
        let listed = if path.is_dir() {
            location::files_below(path)
        } else {
            vec![path.clone()]
        };
        files.extend(
            listed
                .into_iter()
                .filter(|file| seen.insert(location::absolute(file))),
        );
    }
    run.files(&files, &mut |_, _| (), tell)
}

impl Config {
    /// Every error and warning of the text of a mailbox file as if it lay at `path`, the lints of
    /// one file among them. `now` is Unix seconds.
    pub fn check_mailbox(&self, text: &str, path: &Path, now: i64) -> Vec<Diagnostic> {
        let run = Run {
            ours: Ours::new(self),
            config: self,
            said: &[],
            now,
            lately: &|_, _| (),
        };
        run.mailbox_text(path, text.as_bytes().to_vec()).0.found
    }
}

/// As `attempt_config`, with lints.
fn lint_config(path: &Path, bytes: Vec<u8>, now: i64) -> (Option<Config>, Vec<Diagnostic>) {
    attempt_config_and(path, bytes, |report, raw, config| {
        let scope = Scope {
            config,
            ours: &Ours::new(config),
            now,
            lately: &|_, _| (),
            home: 0,
        };
        lint::daemon(report, scope, raw);
    })
}

/// One run over the files of one daemon file.
struct Run<'a> {
    config: &'a Config,
    ours: Ours,
    /// What was found in the daemon file.
    said: &'a [Diagnostic],
    now: i64,
    lately: &'a Lately<'a>,
}

/// What came of one file.
struct Read {
    found: Vec<Diagnostic>,
    seen: Seen,
    /// The text files that its lists come from.
    lists: Vec<PathBuf>,
}

impl Run<'_> {
    /// All mailbox files, then what only all of them show.
    fn folder(&self, tell: &mut dyn FnMut(Vec<Diagnostic>) -> io::Result<()>) -> io::Result<()> {
        let dir = &self.config.mailboxes.dir;
        let files = location::files_below(dir);
        let mut graph = Graph::default();
        for file in &files {
            // A file whose name is no mailbox's keeps its number, and nobody finds it.
            let address = location::address_of(file);
            graph.add(address.map(|address| address.key()).unwrap_or_default());
        }
        let mut lists = HashSet::new();
        let mut keep = |number: usize, read: &mut Read| {
            let aliases: Vec<String> = read.seen.aliases.iter().map(|(a, _)| a.key()).collect();
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            graph.set(number, &aliases, std::mem::take(&mut read.seen.targets));
            lists.extend(std::mem::take(&mut read.lists));
        };
        self.files(&files, &mut keep, tell)?;
        let strays = folder::strays(dir, &lists);
        let defaults = self.defaults();
        let mut remarks = graph.remarks(self.config, &self.ours, &defaults);
        remarks.sort_by_key(|remark| (remark.mailbox, remark.at.line, remark.at.col));
        let mut found = Vec::new();
        for of_one in remarks.chunk_by(|a, b| a.mailbox == b.mailbox) {
            // The daemon file for what its defaults say, also of a mailbox without a file.
            let number = of_one.first().map_or(0, |remark| remark.mailbox as usize);
            let path = files.get(number).unwrap_or(&self.config.path);
            for home in [0, 1] {
                let of_file = of_one.iter().filter(|remark| remark.at.file == home);
                let path = if home == 0 { &self.config.path } else { path };
                found.extend(shown(
                    path,
                    &mut of_file.map(|remark| {
                        (
                            Severity::Warning,
                            remark.id,
                            remark.at,
                            remark.message.clone(),
                            remark.help,
                        )
                    }),
                ));
            }
        }
        found.extend(strays);
        tell(found)
    }

    /// Whom a mailbox without a file writes to.
    fn defaults(&self) -> Vec<Target> {
        lint::targets(&self.config.mailboxes.defaults, |key| self.ours.serves(key))
    }

    /// Reads the files by several threads, a turn at a time, and tells of them in their order.
    /// `keep` gets the number of each and what came of it.
    fn files(
        &self,
        files: &[PathBuf],
        keep: &mut dyn FnMut(usize, &mut Read),
        tell: &mut dyn FnMut(Vec<Diagnostic>) -> io::Result<()>,
    ) -> io::Result<()> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MOST_THREADS);
        let mut claims = Claims::default();
        for (turn, some) in files.chunks(TURN * threads).enumerate() {
            let reads = self.turn(some, threads);
            for (index, (path, mut read)) in some.iter().zip(reads).enumerate() {
                let number = turn * TURN * threads + index;
                let clashes = claims.add(files, number, &read.seen);
                read.found.extend(shown(path, &mut clashes.into_iter()));
                read.found.sort_by(|a, b| {
                    let rank = |d: &Diagnostic| (d.file != self.config.path, d.file != *path);
                    (rank(a), a.line, a.col).cmp(&(rank(b), b.line, b.col))
                });
                keep(number, &mut read);
                tell(read.found)?;
            }
        }
        Ok(())
    }

    fn turn(&self, files: &[PathBuf], threads: usize) -> Vec<Read> {
        let share = files.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let shares = files.chunks(share);
            let read = |files| move || -> Vec<Read> { self.share(files) };
            let threads: Vec<_> = shares.map(|files| scope.spawn(read(files))).collect();
            let ends = threads.into_iter().map(|thread| match thread.join() {
                Ok(reads) => reads,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ends.flatten().collect()
        })
    }

    fn share(&self, files: &[PathBuf]) -> Vec<Read> {
        files.iter().map(|path| self.file(path)).collect()
    }

    fn file(&self, path: &Path) -> Read {
        let below = location::is_below(&self.config.mailboxes.dir, path);
        if !below && ruletests::is_one(path) {
            return Read {
                found: ruletests::rule_tests(path).err().unwrap_or_default(),
                seen: Seen::default(),
                lists: Vec::new(),
            };
        }
        if !below && !is_mailbox_file(path) {
            let found = match read_file(path) {
                Ok(bytes) => lint_config(path, bytes, self.now).1,
                Err(found) => found,
            };
            let (seen, lists) = (Seen::default(), Vec::new());
            return Read { found, seen, lists };
        }
        let (attempt, seen) = match read_file(path) {
            Ok(bytes) => self.mailbox_text(path, bytes),
            Err(found) => {
                let attempt = Attempt {
                    found,
                    ..Attempt::default()
                };
                (attempt, Seen::default())
            }
        };
        let mut found = attempt.found;
        // What is wrong with the defaults was said of the daemon file.
        let same = |a: &Diagnostic, b: &Diagnostic| {
            (&a.file, a.line, a.col, &a.message) == (&b.file, b.line, b.col, &b.message)
        };
        found.retain(|d| d.file != self.config.path || !self.said.iter().any(|s| same(s, d)));
        let told = |d: &Diagnostic| matches!(d.id, "mailbox-path" | "unreadable");
        let told = found.iter().any(|d| d.file == *path && told(d));
        let address = location::address_of(path).filter(|_| below && !told);
        let dir = &self.config.mailboxes.dir;
        found.extend(address.and_then(|address| folder::other_place(dir, path, &address)));
        let lists = attempt.files.into_iter().skip(1).collect();
        Read { found, seen, lists }
    }

    fn mailbox_text(&self, path: &Path, bytes: Vec<u8>) -> (Attempt, Seen) {
        let mut seen = Seen::default();
        let attempt = read_mailbox_and(self.config, path, bytes, None, |report, raw, mailbox| {
            let scope = Scope {
                config: self.config,
                ours: &self.ours,
                now: self.now,
                lately: self.lately,
                home: 1,
            };
            seen = lint::mailbox(report, scope, raw, mailbox);
        });
        (attempt, seen)
    }
}

/// A finding without its piece of the source.
type Clash = (Severity, &'static str, Place, String, &'static str);

/// Findings in file 0 or 1 of the report at `path`, which is read once more to show them.
fn shown(path: &Path, clashes: &mut dyn Iterator<Item = Clash>) -> Vec<Diagnostic> {
    let mut clashes = clashes.peekable();
    if clashes.peek().is_none() {
        return Vec::new();
    }
    let mut report = Report::default();
    let bytes = patterns::read_text(path, MOST_FILE_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    report.add(
        path,
        text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(),
    );
    for (severity, id, at, message, help) in clashes {
        let at = Place { file: 0, ..at };
        report.push(severity, id, at, message, Some(help.to_owned()));
    }
    report.finish()
}

/// Aliases of the files that were read, each with the number of its file.
#[derive(Default)]
struct Claims(HashMap<String, usize>);

impl Claims {
    /// Adds a mailbox; an error for each alias that another one, or this, has already.
    fn add(&mut self, files: &[PathBuf], number: usize, seen: &Seen) -> Vec<Clash> {
        let mut found = Vec::new();
        for (alias, at) in &seen.aliases {
            let Some(first) = self.0.insert(alias.key(), number) else {
                continue;
            };
            let other = files.get(first).map(|path| {
                let address = location::address_of(path);
                address.map_or_else(|| path.display().to_string(), |address| address.to_string())
            });
            let other = other.unwrap_or_default();
            let message = format!("{alias} is an alias of {other} already");
            let help = "an alias belongs to one mailbox";
            found.push((Severity::Error, "duplicate", *at, message, help));
        }
        found
    }
}
