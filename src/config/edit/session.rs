//! One edit of one mailbox's settings: read under the lock, changed, found good as a whole, written.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::entries::List;
use super::file::{self, Lock};
use super::value::Value;
use super::{Change, EditError, Step, path, text_list, yaml};
use crate::config::error::{Diagnostic, Severity};
use crate::config::lines::{self, Line};
use crate::config::mailbox::RawMailbox;
use crate::config::setting::Setting as _;
use crate::config::source::{Place, Report};
use crate::config::{
    Config, MOST_FILE_BYTES, Mailbox, location, patterns, read, read_mailbox_text,
};
use crate::mail::{Address, Folded};
use crate::policy::Origin;

/// A `<list>_file` is edited up to this, octets.
const MOST_LIST_BYTES: u64 = 64 << 20;

/// What an edit may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Look only: no lock, nothing is written.
    Look,
    /// Change a good file.
    Change,
    /// Replace any file, also a bad one.
    Replace,
}

/// An edit under way. Dropped without [`Session::save`] it has done nothing.
#[derive(Debug)]
pub struct Session<'a> {
    config: &'a Config,
    mailbox: Address,
    path: PathBuf,
    lock: Option<Lock>,
    yaml: Draft,
    /// Text files of lists that are changed.
    lists: Vec<Draft>,
}

/// A file and what becomes of it.
#[derive(Debug, Clone)]
struct Draft {
    path: PathBuf,
    /// `None`: there is no file yet.
    old: Option<String>,
    /// What the text was before the first change.
    begun: String,
    text: String,
}

/// What an edit came to.
#[derive(Debug)]
pub struct Saved {
    /// The files that were, or would be, written: the mailbox's, text files of its lists.
    pub files: Vec<Written>,
    /// Warnings that the change brings.
    pub warnings: Vec<Diagnostic>,
}

/// A changed file.
#[derive(Debug)]
pub struct Written {
    /// Where it lies.
    pub path: PathBuf,
    /// Its text before; empty when it is new.
    pub old: String,
    /// Its text now.
    pub new: String,
}

/// What became of entries.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entries {
    /// In the list since now, or out of it.
    pub changed: Vec<String>,
    /// Nothing to do: there already, or not there.
    pub unchanged: Vec<String>,
    /// Entries that `mailboxes.defaults` gave and that the mailbox's own list took over: a list
    /// replaces the one below it.
    pub copied: usize,
}

/// One entry that counts, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As written.
    pub entry: String,
    /// File and line.
    pub origin: Origin,
}

impl<'a> Session<'a> {
    /// Reads the mailbox's own file, waiting for another edit to end. A mailbox without one gets it
    /// with the first change.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn open(config: &'a Config, mailbox: &Address, access: Access) -> Result<Self, EditError> {
        let dir = &config.mailboxes.dir;
        let candidates = location::candidates(dir, mailbox);
        let there = candidates.iter().find(|path| path.exists());
        let path = there.or(candidates.first()).cloned();
        let path = path.ok_or_else(|| EditError::NoFileName(mailbox.to_string()))?;
        if access != Access::Look && !config.mailboxes.writable {
            return Err(EditError::ReadOnly);
        }
        let lock = match access {
            Access::Look => None,
            Access::Change | Access::Replace => Some(Lock::take(dir)?),
        };
        let real = file::resolved(dir, &path)?;
        let bytes = file::read(&real, MOST_FILE_BYTES)?;
        let mut session = Self {
            config,
            mailbox: mailbox.clone(),
            path,
            lock,
            yaml: Draft::new(real, None),
            lists: Vec::new(),
        };
        if let Some(bytes) = bytes {
            if access != Access::Replace {
                session.read(bytes.clone()).map_err(EditError::BadFile)?;
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            session.yaml = Draft::new(session.yaml.path, Some(text));
        } else {
            let name = Value::Text(mailbox.to_string()).inline();
            session.yaml.begun = format!("version: 1\nmailbox: {name}\n");
            session.yaml.text = session.yaml.begun.clone();
        }
        Ok(session)
    }

    /// Whose settings.
    pub fn mailbox(&self) -> &Address {
        &self.mailbox
    }

    /// Where the mailbox's file lies, or will lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of the mailbox's file as it stands now.
    pub fn text(&self) -> &str {
        &self.yaml.text
    }

    fn read(&self, bytes: Vec<u8>) -> Result<(Mailbox, Vec<Diagnostic>), Vec<Diagnostic>> {
        let attempt = read_mailbox_text(self.config, &self.path, bytes, Some(&self.mailbox));
        match attempt.mailbox {
            Some(mailbox) => Ok((mailbox, attempt.found)),
            None => Err(attempt.found),
        }
    }

    /// The settings with the changes so far.
    ///
    /// # Errors
    /// [`EditError::BadValue`].
    pub fn compiled(&self) -> Result<Mailbox, EditError> {
        let read = self.read(self.yaml.text.clone().into_bytes());
        read.map(|(mailbox, _)| mailbox)
            .map_err(EditError::BadValue)
    }

    /// What the file itself says with the changes so far, for its places in the report.
    fn raw(&self) -> (Report, RawMailbox) {
        let mut report = Report::beside(&self.config.path);
        let bytes = self.yaml.text.clone().into_bytes();
        let file = patterns::add_text(&mut report, &self.path, bytes);
        let raw = file.and_then(|file| read::settings(&mut report, file));
        (report, raw.unwrap_or_default())
    }

    /// The file over the defaults, with the changes so far.
    pub(super) fn merged(&self) -> (Report, RawMailbox) {
        let (report, raw) = self.raw();
        (report, raw.over(&self.config.mailboxes.defaults))
    }

    /// The entries of a list that count.
    pub fn listed(&self, list: List) -> Vec<Listed> {
        let (mut report, merged) = self.merged();
        let lines = list.lines(&mut report, &merged);
        let listed = |line: Line| Listed {
            origin: report.origin(line.place),
            entry: line.text,
        };
        lines.into_iter().map(listed).collect()
    }

    /// Adds entries to a list; those that fold to one that is there are left out.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn add(&mut self, list: List, entries: &[String]) -> Result<Entries, EditError> {
        let before = self.entries(list)?;
        let mut seen: HashSet<Folded> = before.lines.iter().map(|l| list.fold(&l.text)).collect();
        let (new, unchanged): (Vec<String>, Vec<String>) = entries
            .iter()
            .cloned()
            .partition(|entry| seen.insert(list.fold(entry)));
        if !new.is_empty() {
            match &before.from {
                From::Own => self.change(&Change::Add(list.path(), new.clone()))?,
                From::Defaults => {
                    let old = before.lines.iter().map(|line| line.text.clone());
                    self.replace(list, old.chain(new.iter().cloned()).collect())?;
                }
                From::File(draft) => {
                    let text = text_list::add(&draft.text, &new);
                    self.change_list(list, draft, text)?;
                }
            }
        }
        let copied = match before.from {
            From::Defaults if !new.is_empty() => before.lines.len(),
            _ => 0,
        };
        Ok(Entries {
            changed: new,
            unchanged,
            copied,
        })
    }

    /// Removes the entries that fold as the given ones do.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn remove(&mut self, list: List, entries: &[String]) -> Result<Entries, EditError> {
        let before = self.entries(list)?;
        let there: HashSet<Folded> = before.lines.iter().map(|l| list.fold(&l.text)).collect();
        let gone: HashSet<Folded> = entries.iter().map(|entry| list.fold(entry)).collect();
        let is_gone = |line: &Line| gone.contains(&list.fold(&line.text));
        let (old, kept): (Vec<Line>, Vec<Line>) = before.lines.iter().cloned().partition(is_gone);
        let unchanged = entries
            .iter()
            .filter(|entry| !there.contains(&list.fold(entry)))
            .cloned()
            .collect();
        let mut copied = 0;
        if !old.is_empty() {
            match &before.from {
                From::File(draft) => {
                    let lines = old.iter().map(|line| line.place.line).collect();
                    let text = text_list::without(&draft.text, &lines);
                    self.change_list(list, draft, text)?;
                }
                From::Own if !kept.is_empty() => {
                    let lines = before.lines.iter().enumerate();
                    let indexes: BTreeSet<usize> = lines
                        .filter(|(_, line)| is_gone(line))
                        .map(|(index, _)| index)
                        .collect();
                    self.change(&Change::Take(list.path(), indexes))?;
                }
                From::Own => self.empty(list)?,
                From::Defaults => {
                    copied = kept.len();
                    self.replace(list, kept.into_iter().map(|line| line.text).collect())?;
                }
            }
        }
        Ok(Entries {
            changed: old.into_iter().map(|line| line.text).collect(),
            unchanged,
            copied,
        })
    }

    /// Removes all entries of a list.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn clear(&mut self, list: List) -> Result<Entries, EditError> {
        let before = self.entries(list)?;
        if before.lines.is_empty() {
            return Ok(Entries::default());
        }
        match before.from {
            From::File(draft) => {
                let lines = before.lines.iter().map(|line| line.place.line).collect();
                let text = text_list::without(&draft.text, &lines);
                self.change_list(list, &draft, text)?;
            }
            From::Own | From::Defaults => self.empty(list)?,
        }
        Ok(Entries {
            changed: before.lines.into_iter().map(|line| line.text).collect(),
            ..Entries::default()
        })
    }

    /// Makes a list exactly these entries.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn replace(&mut self, list: List, entries: Vec<String>) -> Result<(), EditError> {
        let text = |entry: &String| Value::Text(entry.clone());
        let value = match list {
            List::RejectHeaders | List::NotifyTo | List::ForwardTo => {
                Value::List(entries.iter().map(text).collect())
            }
            _ => Value::Lines(entries),
        };
        self.change(&Change::Set(list.path(), value))
    }

    /// A list without an entry: no list at all, unless that would bring back that of the defaults.
    fn empty(&mut self, list: List) -> Result<(), EditError> {
        if list.is_given(&self.config.mailboxes.defaults) {
            return self.replace(list, Vec::new());
        }
        self.change(&Change::Remove(list.path()))
    }

    /// One change to the mailbox's file.
    ///
    /// # Errors
    /// [`EditError::ByHand`].
    pub fn change(&mut self, change: &Change) -> Result<(), EditError> {
        let new = yaml::apply(&self.yaml.text, change);
        self.yaml.text = new.map_err(|at| EditError::ByHand {
            file: self.path.display().to_string(),
            line: at.line,
            col: at.col,
            what: change.in_words(),
        })?;
        Ok(())
    }

    /// Whether the file itself, without the defaults, has something at the dotted path.
    pub fn has(&self, dotted: &str) -> bool {
        path(dotted).is_some_and(|steps| yaml::has(&self.yaml.text, &steps))
    }

    /// Sets one value; the dotted path is one of the file's keys.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn set(&mut self, dotted: &str, value: Value) -> Result<(), EditError> {
        self.change(&Change::Set(steps(dotted)?, value))
    }

    /// Sets one value that is written as a word where the key takes one (`true`), else as text.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn set_scalar(&mut self, dotted: &str, text: &str) -> Result<(), EditError> {
        let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if bare {
            let before = self.yaml.text.clone();
            // `null` is no word that can be written and read back.
            let written = self.set(dotted, Value::Word(text.to_owned())).is_ok();
            if written && !self.raw().0.has_errors() {
                return Ok(());
            }
            self.yaml.text = before;
        }
        self.set(dotted, Value::Text(text.to_owned()))
    }

    /// Removes what stands at the dotted path, if anything does.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn unset(&mut self, dotted: &str) -> Result<bool, EditError> {
        let there = self.has(dotted);
        if there {
            self.change(&Change::Remove(steps(dotted)?))?;
        }
        Ok(there)
    }

    /// Puts another text in the place of the whole file, which must still be `before`.
    ///
    /// # Errors
    /// [`EditError::Changed`].
    pub fn replace_text(&mut self, before: Option<&str>, text: String) -> Result<(), EditError> {
        if self.yaml.old.as_deref() != before {
            return Err(EditError::Changed(self.path.display().to_string()));
        }
        self.yaml.text = text;
        Ok(())
    }

    /// The text of the file on the disk; `None` when there is none.
    pub fn on_disk(&self) -> Option<&str> {
        self.yaml.old.as_deref()
    }

    /// Writes what has changed, when the whole is good. With [`Access::Look`] it only says what
    /// would be written.
    ///
    /// # Errors
    /// [`EditError`]; the files are as they were then. Of several files the first are written when
    /// the disk fails at a later one.
    pub fn save(self) -> Result<Saved, EditError> {
        let mut warnings = Vec::new();
        if self.yaml.is_changed() {
            let new = self.read(self.yaml.text.clone().into_bytes());
            let (_, found) = new.map_err(EditError::BadValue)?;
            warnings = self.news(found);
        }
        let lists = self.lists.iter().map(|draft| (draft, &draft.path));
        let drafts = std::iter::once((&self.yaml, &self.path)).chain(lists);
        let changed: Vec<_> = drafts.filter(|(draft, _)| draft.is_changed()).collect();
        if self.lock.is_some() {
            for (draft, _) in &changed {
                draft.compare()?;
            }
            for (draft, _) in &changed {
                file::write(&draft.path, draft.text.as_bytes())?;
            }
        }
        let written = |(draft, path): (&Draft, &PathBuf)| Written {
            path: path.clone(),
            old: draft.old.clone().unwrap_or_default(),
            new: draft.text.clone(),
        };
        Ok(Saved {
            files: changed.into_iter().map(written).collect(),
            warnings,
        })
    }

    /// The warnings that the file had not before.
    fn news(&self, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let old = self.yaml.old.clone().map(String::into_bytes);
        let old = old.and_then(|bytes| self.read(bytes).ok());
        let known: HashSet<(&str, String)> = old
            .iter()
            .flat_map(|(_, found)| found)
            .map(|d| (d.id, d.message.clone()))
            .collect();
        let is_new = |d: &Diagnostic| {
            d.severity == Severity::Warning && !known.contains(&(d.id, d.message.clone()))
        };
        found.into_iter().filter(is_new).collect()
    }

    /// The entries of a list and what holds them.
    fn entries(&self, list: List) -> Result<Before, EditError> {
        let (mut report, raw) = self.raw();
        if let Some(file) = list.file(&report, &raw) {
            return self.list_file(&file);
        }
        let defaults = &self.config.mailboxes.defaults;
        let own = list.is_given(&raw) || !list.is_given(defaults);
        if !own && let Some(file) = list.file(&report, defaults) {
            return Err(EditError::Defaults {
                list: list.name(),
                file: Some(file.display().to_string()),
            });
        }
        let settings = if own { &raw } else { defaults };
        Ok(Before {
            lines: list.lines(&mut report, settings),
            from: if own { From::Own } else { From::Defaults },
        })
    }

    fn list_file(&self, named: &Path) -> Result<Before, EditError> {
        let path = file::resolved(&self.config.mailboxes.dir, named)?;
        // What this session has changed already.
        let known = self.lists.iter().find(|draft| draft.path == path);
        let draft = match known {
            Some(draft) => draft.clone(),
            None => {
                let bytes = file::read(&path, MOST_LIST_BYTES)?;
                let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                Draft::new(path, text)
            }
        };
        let mut report = Report::default();
        let bytes = draft.text.clone().into_bytes();
        let file = patterns::add_text(&mut report, named, bytes);
        let lines = file.map(|file| lines::of_file(&mut report, file));
        Ok(Before {
            lines: lines.unwrap_or_default().split(),
            from: From::File(draft),
        })
    }

    /// Takes the new text of a list's file, when it is within the limits.
    fn change_list(&mut self, list: List, draft: &Draft, text: String) -> Result<(), EditError> {
        let mut report = Report::default();
        if text.len() as u64 > MOST_LIST_BYTES {
            let file = report.add(&draft.path, String::new());
            report.error("file-size", Place::top(file), "over 64 MiB");
        } else if let Some(file) =
            patterns::add_text(&mut report, &draft.path, text.clone().into_bytes())
        {
            let lines = lines::of_file(&mut report, file);
            let most = self.config.limits.entries_total;
            patterns::check_total(&mut report, list.name(), &lines, most);
        }
        if report.has_errors() {
            return Err(EditError::BadValue(report.finish()));
        }
        self.lists.retain(|known| known.path != draft.path);
        self.lists.push(Draft {
            text,
            ..draft.clone()
        });
        Ok(())
    }
}

fn steps(dotted: &str) -> Result<Vec<Step>, EditError> {
    path(dotted).ok_or_else(|| EditError::NoKey(dotted.to_owned()))
}

impl Draft {
    fn new(path: PathBuf, old: Option<String>) -> Self {
        let text = old.clone().unwrap_or_default();
        Self {
            path,
            old,
            begun: text.clone(),
            text,
        }
    }

    fn is_changed(&self) -> bool {
        self.text != self.begun
    }

    /// Whether the file is still what was read: a person's editor takes no lock.
    fn compare(&self) -> Result<(), EditError> {
        let now = file::read(&self.path, MOST_LIST_BYTES)?;
        let now = now.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match now == self.old {
            true => Ok(()),
            false => Err(EditError::Changed(self.path.display().to_string())),
        }
    }
}

/// The entries that counted before an edit.
struct Before {
    lines: Vec<Line>,
    from: From,
}

enum From {
    /// The mailbox's file, or nothing.
    Own,
    /// `mailboxes.defaults`.
    Defaults,
    /// The text file that the mailbox's file names.
    File(Draft),
}
