//! The folder of mailbox files: what lies there and is never read, and what cannot be.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::super::error::{Diagnostic, Severity};
use super::super::location;
use crate::mail::Address;

/// Folders below `mailboxes.dir` that cannot be listed, and files in them that look like mailbox
/// files and are none; not those that a list is read from.
pub(in super::super) fn strays(dir: &Path, lists: &HashSet<PathBuf>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for entry in entries(dir, &mut found) {
        if entry.is_dir() {
            for file in entries(&entry, &mut found) {
                stray(&file, lists, &mut found);
            }
        } else {
            stray(&entry, lists, &mut found);
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

/// The place where the file of this mailbox is looked for first, when it is not `path`.
pub(in super::super) fn other_place(
    dir: &Path,
    path: &Path,
    address: &Address,
) -> Option<Diagnostic> {
    let candidates = location::candidates(&location::absolute(dir), address);
    let path_there = location::absolute(path);
    if !candidates.contains(&path_there) {
        let wanted = candidates.first()?.display();
        let message = "this file never counts: its name is not the mailbox's, as it is looked for";
        let help = format!("rename it: {wanted}");
        return Some(finding(
            Severity::Error,
            "mailbox-path",
            path,
            message.to_owned(),
            help,
        ));
    }
    let first = candidates.into_iter().find(|path| path.exists())?;
    let message = format!(
        "this file never counts: {} is the same mailbox's",
        first.display()
    );
    let help = "put the settings into one file, remove the other".to_owned();
    let second = first != path_there;
    second.then(|| finding(Severity::Error, "two-files", path, message, help))
}

fn stray(path: &Path, lists: &HashSet<PathBuf>, found: &mut Vec<Diagnostic>) {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let close = extension.eq_ignore_ascii_case("yml") || extension.eq_ignore_ascii_case("yaml");
    if close && extension != "yaml" && !lists.contains(path) && !path.is_dir() {
        let message = "this file is never read: a mailbox file ends in `.yaml`".to_owned();
        let help = format!("rename it: {}", path.with_extension("yaml").display());
        found.push(finding(
            Severity::Warning,
            "stray-file",
            path,
            message,
            help,
        ));
    }
}

/// What is in a folder and not hidden. A folder that is not there has nothing.
fn entries(dir: &Path, found: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let list = match std::fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let help = "the daemon's user must be able to list it".to_owned();
            let message = format!("the mailbox files here are not seen: {error}");
            found.push(finding(Severity::Error, "unreadable", dir, message, help));
            return Vec::new();
        }
    };
    let shown = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        !name.as_encoded_bytes().starts_with(b".")
    };
    list.filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(shown)
        .collect()
}

fn finding(
    severity: Severity,
    id: &'static str,
    file: &Path,
    message: String,
    help: String,
) -> Diagnostic {
    Diagnostic {
        severity,
        id,
        file: file.to_owned(),
        line: 1,
        col: 1,
        message,
        snippet: None,
        help: Some(help),
    }
}
