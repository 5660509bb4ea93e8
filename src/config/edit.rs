//! The one change that the daemon makes to a mailbox file: an entry more in `allow.senders`.
//!
//! The text is edited line by line, so that comments and order stay. Whatever comes out is read
//! and must allow the sender, or nothing is written: a form of YAML that the edit does not know is
//! refused, never mangled. Written by temporary file, fsync, rename, fsync of the folder
//! (CONTRACT section 1).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Config, location};
use crate::mail::{Address, fold};
use crate::policy::AllowSet;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// `mailboxes.writable: false`.
    #[error(
        "mailboxes.writable is false: the operator keeps these files; add {0} to allow.senders there"
    )]
    ReadOnly(String),
    /// A form that is not edited by line.
    #[error(
        "{file}: allow.senders is written in a form that only a person should change; add {entry} there"
    )]
    ByHand {
        /// The file.
        file: String,
        /// The entry.
        entry: String,
    },
    /// The file system.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Adds `sender` to `allow.senders` of the mailbox's own file, which is made if there is none.
/// `false` when it is allowed already.
///
/// # Errors
/// [`EditError`]; the file is as it was then.
pub fn allow_sender(
    config: &Config,
    mailbox: &Address,
    sender: &Address,
) -> Result<bool, EditError> {
    let entry = sender.to_string();
    let candidates = location::candidates(&config.mailboxes.dir, mailbox);
    let there = candidates.iter().find(|path| path.exists());
    let Some(path) = there.or(candidates.first()) else {
        let file = mailbox.to_string();
        return Err(EditError::ByHand { file, entry });
    };
    let file = path.display().to_string();
    let io = |source| EditError::Io {
        file: file.clone(),
        source,
    };
    let old = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("version: 1\nmailbox: {mailbox}\n")
        }
        Err(error) => return Err(io(error)),
    };
    let senders = |text: &str| Some(config.parse_mailbox(text, path).ok()?.policy.allow.senders);
    let allows = |list: &AllowSet| list.find(&fold::fold_address(&entry)).is_some();
    let before = senders(&old).unwrap_or_default();
    if allows(&before) {
        return Ok(false);
    }
    if !config.mailboxes.writable {
        return Err(EditError::ReadOnly(entry));
    }
    // A first list of its own would replace the one that `mailboxes.defaults` gives.
    let edited = with_entry(&old, &entry, before.is_empty());
    match edited.filter(|new| senders(new).is_some_and(|list| allows(&list))) {
        Some(new) => replace(path, &new).map_err(io).map(|()| true),
        None => Err(EditError::ByHand { file, entry }),
    }
}

/// The text with one entry more, where its form is one of the usual ones.
fn with_entry(text: &str, entry: &str, may_begin: bool) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some(allow) = lines
        .iter()
        .position(|line| value_of(line, 0, "allow").is_some())
    else {
        if !may_begin {
            return None;
        }
        lines.push(format!("allow:\n  senders: |\n    {entry}"));
        return Some(joined(&lines));
    };
    if !value_of(lines.get(allow)?, 0, "allow")?.is_empty() {
        return None;
    }
    let end = end_of_block(&lines, allow, 0);
    let body = lines.get(allow + 1..end)?;
    let depth = body
        .iter()
        .find(|line| is_content(line))
        .map_or(2, |line| indent(line));
    let senders = body
        .iter()
        .position(|line| value_of(line, depth, "senders").is_some());
    let (pad, deeper) = (" ".repeat(depth), " ".repeat(depth + 2));
    let Some(senders) = senders.map(|at| at + allow + 1) else {
        if !may_begin {
            return None;
        }
        lines.insert(allow + 1, format!("{pad}senders: |\n{deeper}{entry}"));
        return Some(joined(&lines));
    };
    let value = value_of(lines.get(senders)?, depth, "senders")?;
    let is_block = value.starts_with('|');
    if !is_block && !value.is_empty() {
        return None;
    }
    let inner = end_of_block(&lines, senders, depth).max(list_end(&lines, senders, depth));
    let first = lines
        .get(senders + 1..inner)?
        .iter()
        .find(|line| is_content(line));
    let pad = first.map_or(deeper, |line| " ".repeat(indent(line)));
    let line = if is_block {
        format!("{pad}{entry}")
    } else {
        format!("{pad}- \"{entry}\"")
    };
    lines.insert(inner, line);
    Some(joined(&lines))
}

/// The text behind `key:` of a line that is indented so far, without a comment.
fn value_of<'a>(line: &'a str, depth: usize, key: &str) -> Option<&'a str> {
    let rest = line.get(depth..)?.strip_prefix(key)?.strip_prefix(':')?;
    (indent(line) == depth).then(|| rest.split(" #").next().unwrap_or_default().trim())
}

/// The line behind the last one that belongs to the key at `start`.
fn end_of_block(lines: &[String], start: usize, depth: usize) -> usize {
    end_where(lines, start, |line| indent(line) > depth)
}

/// The same for a list whose dashes stand as far left as their key.
fn list_end(lines: &[String], start: usize, depth: usize) -> usize {
    end_where(lines, start, |line| {
        indent(line) == depth && line.trim_start().starts_with("- ")
    })
}

fn end_where(lines: &[String], start: usize, belongs: impl Fn(&str) -> bool) -> usize {
    let body = lines.iter().enumerate().skip(start + 1);
    let inside = body.take_while(|(_, line)| !is_content(line) || belongs(line));
    inside
        .filter(|(_, line)| is_content(line))
        .last()
        .map_or(start + 1, |(at, _)| at + 1)
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let mode = fs::metadata(path).map_or(0o640, |old| {
        std::os::unix::fs::PermissionsExt::mode(&old.permissions())
    });
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let text = "version: 1\nmailboxes: {dir: .}\n";
        Config::parse(text, folder).unwrap().config
    }

    #[test]
    fn the_usual_forms_gain_a_line_and_nothing_else_changes() {
        let rows = [
            ("", "allow:\n  senders: |\n    n@x.jp\n"),
            (
                "language: en # why\n",
                "language: en # why\nallow:\n  senders: |\n    n@x.jp\n",
            ),
            (
                "allow:\n  before_reject: true\n",
                "allow:\n  senders: |\n    n@x.jp\n  before_reject: true\n",
            ),
            (
                "allow:\n  senders: |\n    a@x.jp\n    b@x.jp\n\nlanguage: en\n",
                "allow:\n  senders: |\n    a@x.jp\n    b@x.jp\n    n@x.jp\n\nlanguage: en\n",
            ),
            (
                "allow:\n    senders:          # friends\n    - a@x.jp\n    before_reject: false\n",
                "allow:\n    senders:          # friends\n    - a@x.jp\n    - \"n@x.jp\"\n    before_reject: false\n",
            ),
            (
                "allow:\n  senders:\n    - a@x.jp\nspam: {scan: true}\n",
                "allow:\n  senders:\n    - a@x.jp\n    - \"n@x.jp\"\nspam: {scan: true}\n",
            ),
        ];
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mailbox = Address::parse("taro@y.jp").unwrap();
        let sender = Address::parse("n@x.jp").unwrap();
        let path = folder.path().join("y.jp/taro.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for (before, after) in rows {
            fs::write(&path, format!("version: 1\n{before}")).unwrap();
            assert!(
                allow_sender(&config, &mailbox, &sender).unwrap(),
                "{before}"
            );
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("version: 1\n{after}")
            );
            assert!(
                !allow_sender(&config, &mailbox, &sender).unwrap(),
                "a second time"
            );
        }
    }

    #[test]
    fn a_first_list_does_not_push_out_the_one_of_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let text = "version: 1\nmailboxes: {dir: ., defaults: {allow: {senders: [\"@z.jp\"]}}}\n";
        let config = Config::parse(text, folder.path()).unwrap().config;
        let mailbox = Address::parse("taro@y.jp").unwrap();
        let sender = Address::parse("n@x.jp").unwrap();
        assert!(allow_sender(&config, &mailbox, &sender).is_err());
        assert!(!folder.path().join("y.jp").exists());
        let known = Address::parse("n@z.jp").unwrap();
        assert!(!allow_sender(&config, &mailbox, &known).unwrap());
    }

    #[test]
    fn what_is_not_understood_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mailbox = Address::parse("taro@y.jp").unwrap();
        let sender = Address::parse("n@x.jp").unwrap();
        let path = folder.path().join("y.jp/taro.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in [
            "version: 1\nallow: {senders: [a@x.jp]}\n",
            "version: 1\nallow:\n  senders: [a@x.jp]\n",
            "version: 1\nallow:\n  senders_file: friends.txt\n",
            "version: 1\nbroken: [\n",
        ] {
            fs::write(&path, text).unwrap();
            assert!(allow_sender(&config, &mailbox, &sender).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        assert!(
            allow_sender(&config, &mailbox, &sender).unwrap(),
            "a file is made"
        );
        assert!(
            config
                .parse_mailbox(&fs::read_to_string(&path).unwrap(), &path)
                .is_ok()
        );
    }
}
