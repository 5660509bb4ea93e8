//! What the editing commands share: whose file, the session around a change, what is told of it.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Done, Exit, Failure, Global, config_of, dry_run, text};
use crate::config::edit::{Access, EditError, Entries, List, Saved, Session, Written};
use crate::config::{Config, Diagnostic, Directory};
use crate::mail::Address;

/// Whose settings, and whether they are really changed.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Whose settings; a name without @ gets server.default_domain
    #[arg(long)]
    pub(super) mailbox: String,
    /// Show the difference and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What a command has changed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Entries that are in the list now.
    pub(super) added: Vec<String>,
    /// Entries that are no longer in the list.
    pub(super) removed: Vec<String>,
    /// Entries that were there already.
    pub(super) duplicates: Vec<String>,
    /// Entries to be removed that were not there.
    pub(super) missing: Vec<String>,
    /// Keys and what they are now; `null`: not set any more.
    pub(super) set: serde_json::Map<String, Value>,
    /// What the person should know.
    pub(super) notes: Vec<String>,
}

impl Outcome {
    pub(super) fn added(list: List, entries: Entries) -> Self {
        Self {
            notes: copied(list, entries.copied),
            added: entries.changed,
            duplicates: entries.unchanged,
            ..Self::default()
        }
    }

    pub(super) fn removed(list: List, entries: Entries) -> Self {
        Self {
            notes: copied(list, entries.copied),
            removed: entries.changed,
            missing: entries.unchanged,
            ..Self::default()
        }
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.added.extend(other.added);
        self.removed.extend(other.removed);
        self.duplicates.extend(other.duplicates);
        self.missing.extend(other.missing);
        self.set.extend(other.set);
        self.notes.extend(other.notes);
        self
    }

    pub(super) fn note(&mut self, words: impl Into<String>) {
        self.notes.push(words.into());
    }

    fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (count, what) in [
            (self.added.len(), "added"),
            (self.removed.len(), "removed"),
            (self.duplicates.len(), "already there"),
            (self.missing.len(), "not there"),
        ] {
            if count > 0 {
                words.push(format!("{count} {what}"));
            }
        }
        let set = |(key, value): (&String, &Value)| match value {
            Value::Null => format!("{key} removed"),
            Value::String(text) if text.contains('\n') => format!("{key} set"),
            Value::String(text) => format!("{key}: {}", text::clean(text)),
            value => format!("{key}: {}", text::clean(&value.to_string())),
        };
        words.extend(self.set.iter().map(set));
        words
    }
}

fn copied(list: List, count: usize) -> Vec<String> {
    let words = match count {
        0 => return Vec::new(),
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    vec![format!(
        "{}: {words} of mailboxes.defaults copied into the mailbox's own list, which replaces that one",
        list.name()
    )]
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let exit = match &error {
            EditError::ReadOnly | EditError::Outside { .. } | EditError::Owner(_) => {
                Exit::Permission
            }
            EditError::BadFile(_) | EditError::ByHand { .. } | EditError::Defaults { .. } => {
                Exit::Config
            }
            EditError::BadValue(found) => return refused(found),
            EditError::NoKey(_) => Exit::Usage,
            EditError::NoFileName(_) => Exit::NoUser,
            EditError::Busy(_) | EditError::Changed(_) => Exit::TempFail,
            EditError::Io { file, source } => return Self::io(file, source),
        };
        Self::new(exit, error.to_string())
    }
}

/// Values that are no good: every one of them, and nothing is changed.
pub(super) fn refused(found: &[Diagnostic]) -> Failure {
    let errors = found.iter().filter(|d| d.is_error());
    let mut lines: Vec<String> = errors.map(ToString::to_string).collect();
    lines.push("nothing is changed".to_owned());
    Failure::findings(Exit::Data, &lines)
}

/// The mailbox whose settings mail to `text` has: the owner of an alias, without an extension.
pub(super) fn owner(config: &Arc<Config>, text: &str) -> Result<Address, Failure> {
    let recipient = dry_run::complete(text, config)
        .map_err(|error| Failure::new(Exit::Usage, format!("{text}: {error}")))?;
    let directory = Directory::new(config.clone());
    if directory.path_of(&recipient).is_none() {
        // Only an alias can need the other files.
        directory.index_now();
    }
    if let Some(owner) = directory.owner_of(&recipient) {
        return Ok(owner);
    }
    let settings = dry_run::settings(directory.lookup(&recipient), &recipient)?;
    Ok(settings.policy.mailbox.clone())
}

/// Adds what a person gave to a list.
pub(super) fn add(
    global: &Global,
    target: &Target,
    (list, given): (List, Given),
    out: &mut dyn Write,
) -> Done {
    change(global, target, out, |session, config| {
        let entries = checked(list, config, given)?;
        Ok(Outcome::added(list, session.add(list, &entries)?))
    })
}

/// Removes what a person gave from a list; it need not be a good entry.
pub(super) fn remove(
    global: &Global,
    target: &Target,
    (list, given): (List, Given),
    out: &mut dyn Write,
) -> Done {
    change(global, target, out, |session, _| {
        let entries = lines(given)?;
        Ok(Outcome::removed(list, session.remove(list, &entries)?))
    })
}

/// Changes a mailbox's settings and tells what came of it.
pub(super) fn change(
    global: &Global,
    target: &Target,
    out: &mut dyn Write,
    work: impl FnOnce(&mut Session<'_>, &Config) -> Result<Outcome, Failure>,
) -> Done {
    let config = Arc::new(config_of(global)?);
    let mailbox = owner(&config, &target.mailbox)?;
    let access = match target.dry_run {
        true => Access::Look,
        false => Access::Change,
    };
    let mut session = Session::open(&config, &mailbox, access)?;
    let outcome = work(&mut session, &config)?;
    let path = session.path().to_owned();
    let saved = session.save()?;
    let path = saved.files.first().map_or(path, |file| file.path.clone());
    let told = Told {
        mailbox: mailbox.to_string(),
        file: path.display().to_string(),
        dry_run: target.dry_run,
    };
    tell(global, &told, &outcome, &saved, out)
}

/// Looks at a mailbox's settings.
pub(super) fn look<T>(
    global: &Global,
    mailbox: &str,
    work: impl FnOnce(&Session<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = Arc::new(config_of(global)?);
    let mailbox = owner(&config, mailbox)?;
    work(&Session::open(&config, &mailbox, Access::Look)?)
}

/// Of which edit is told.
pub(super) struct Told {
    pub(super) mailbox: String,
    pub(super) file: String,
    pub(super) dry_run: bool,
}

pub(super) fn tell(
    global: &Global,
    told: &Told,
    outcome: &Outcome,
    saved: &Saved,
    out: &mut dyn Write,
) -> Done {
    let changed = !saved.files.is_empty();
    let diff = || saved.files.iter().map(diff).collect::<String>();
    let warnings: Vec<String> = saved.warnings.iter().map(ToString::to_string).collect();
    if global.json {
        let mut value = json!({
            "schema": "sekimori.edit/1",
            "mailbox": told.mailbox,
            "file": told.file,
            "changed": changed && !told.dry_run,
            "dry_run": told.dry_run,
            "added": outcome.added,
            "removed": outcome.removed,
            "duplicates": outcome.duplicates,
            "missing": outcome.missing,
            "set": outcome.set,
            "notes": outcome.notes,
            "warnings": warnings,
        });
        if told.dry_run {
            value["diff"] = json!(diff());
        }
        writeln!(out, "{}", text::json(&value))?;
        return Ok(());
    }
    if !global.quiet {
        let words = outcome.in_words();
        let words = match (changed, words.is_empty()) {
            (true, true) => "changed".to_owned(),
            (true, false) => words.join(", "),
            (false, true) => "nothing to change".to_owned(),
            (false, false) => format!("nothing to change: {}", words.join(", ")),
        };
        let dry = if told.dry_run { "dry run: " } else { "" };
        writeln!(out, "{}: {dry}{words}", text::clean(&told.file))?;
        for (what, entries) in [
            ("already there", &outcome.duplicates),
            ("not there", &outcome.missing),
        ] {
            for entry in entries {
                writeln!(out, "{what}: {}", text::clean(entry))?;
            }
        }
        for note in &outcome.notes {
            writeln!(out, "note: {}", text::clean(note))?;
        }
        for warning in &warnings {
            writeln!(out, "{warning}")?;
        }
    }
    if told.dry_run {
        for line in diff().split_inclusive('\n') {
            write!(out, "{}", text::clean_line(line))?;
        }
    }
    Ok(())
}

/// A unified diff.
fn diff(file: &Written) -> String {
    let path = file.path.display().to_string();
    similar::TextDiff::configure()
        .timeout(Duration::from_secs(5))
        .diff_lines(&file.old, &file.new)
        .unified_diff()
        .header(&path, &path)
        .to_string()
}

/// Where entries come from, for findings, and their text.
pub(super) type Given = (&'static str, Vec<u8>);

/// Entries as given: the arguments, or the lines of stdin when there are none or the only one is
/// `-`. The name is for messages.
pub(super) fn given(arguments: &[String]) -> Result<Given, Failure> {
    if !arguments.is_empty() && arguments != ["-"] {
        if arguments.iter().any(|entry| entry.trim().is_empty()) {
            let words = "an empty entry: it would match every mail";
            return Err(Failure::new(Exit::Data, words));
        }
        return Ok(("arguments", arguments.join("\n").into_bytes()));
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("stdin", &error))?;
    Ok(("stdin", bytes))
}

/// The entries, checked for their list.
pub(super) fn checked(list: List, config: &Config, given: Given) -> Result<Vec<String>, Failure> {
    let (source, bytes) = given;
    list.entries(&config.limits, source, bytes)
        .map_err(|found| refused(&found))
}

/// The entries as they are, to be removed: what is no entry is in no list.
fn lines(given: Given) -> Result<Vec<String>, Failure> {
    let (source, bytes) = given;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Data, format!("{source}: octets that are not UTF-8")))?;
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// What removes a whole list wants to hear it twice.
pub(super) fn confirmed(yes: bool) -> Done {
    match yes {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Usage,
            "clear removes every entry: say --yes",
        )),
    }
}

/// Prints the entries of lists that count, each with its place.
pub(super) fn list(global: &Global, mailbox: &str, lists: &[List], out: &mut dyn Write) -> Done {
    let (mailbox, found) = look(global, mailbox, |session| {
        let listed = |list: &List| (list.name(), session.listed(*list));
        let found: Vec<_> = lists.iter().map(listed).collect();
        Ok((session.mailbox().to_string(), found))
    })?;
    let all = found
        .iter()
        .flat_map(|(name, entries)| entries.iter().map(move |entry| (*name, entry)));
    for (name, listed) in all {
        let (entry, origin) = (&listed.entry, listed.origin.to_string());
        if global.json {
            let value = json!({
                "schema": "sekimori.entry/1",
                "mailbox": mailbox,
                "list": name,
                "entry": entry,
                "origin": origin,
            });
            writeln!(out, "{}", text::json(&value))?;
        } else if let [_] = lists {
            writeln!(out, "{}", text::clean(entry))?;
        } else {
            writeln!(out, "{name:24}  {}", text::clean(entry))?;
        }
    }
    Ok(())
}
