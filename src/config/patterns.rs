//! Lists of patterns: from the file or from a text file of their own, within the limits.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::Severity;
use super::field::Field;
use super::lines::{self, Lines};
use super::settings::Range;
use super::source::{Place, Report};
use super::text::FilePath;
use crate::mail::Folded;
use crate::mail::fold::{fold, fold_address};
use crate::policy::{AllowSet, Pattern, SubstringSet, SuffixSet};

/// A `<list>_file` is read up to this, octets.
const MOST_LIST_BYTES: u64 = 64 << 20;

/// A list that stands in the file, or in a file of its own; never both.
#[derive(Clone, Copy)]
pub(crate) struct NamedList<'a> {
    pub(crate) name: &'static str,
    pub(crate) here: &'a Field<Lines>,
    pub(crate) file: &'a Field<FilePath>,
}

impl NamedList<'_> {
    pub(crate) fn is_given(&self) -> bool {
        self.here.is_given() || self.file.is_given()
    }

    /// Where its limits are reported.
    pub(crate) fn key(&self) -> Place {
        if self.here.is_given() {
            self.here.key()
        } else {
            self.file.key()
        }
    }
}

/// The entries. `files` gets the path of the text file, if there is one.
pub(crate) fn load(report: &mut Report, list: NamedList<'_>, files: &mut Vec<PathBuf>) -> Lines {
    if list.here.is_given() && list.file.is_given() {
        let at = list.here.key().later(list.file.key());
        let message = format!("`{0}` and `{0}_file` exclude each other", list.name);
        report.error_help("conflict", at, message, "keep one of them");
    }
    let Some(FilePath(written)) = list.file.get() else {
        return list.here.or_default();
    };
    let path = report.folder(list.file.place()).join(written);
    files.push(path.clone());
    match read_text(&path, MOST_LIST_BYTES) {
        Ok(bytes) => match add_text(report, &path, bytes) {
            Some(file) => lines::of_file(report, file),
            None => Lines::default(),
        },
        Err(why) => {
            let message = format!("{}: {why}", path.display());
            report.error("unreadable", list.file.place(), message);
            Lines::default()
        }
    }
}

/// The entries once more, for the lints: what is wrong with them has been said.
pub(crate) fn again(report: &Report, list: NamedList<'_>) -> Lines {
    let Some(FilePath(written)) = list.file.get() else {
        return list.here.or_default();
    };
    let path = report.folder(list.file.place()).join(written);
    let file = report.file_of(&path);
    file.map_or_else(Lines::default, |file| lines::in_file(report, file).0)
}

/// Reads a regular file of at most `most` octets.
///
/// # Errors
/// The system's words, or that it is too big.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<Vec<u8>, std::io::Error> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("is not a file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let words = format!("is over {} MiB", most >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, words));
    }
    Ok(bytes)
}

/// Adds the text of a file to the report, without its byte order mark. `None` when it is not UTF-8;
/// the report says where.
pub(crate) fn add_text(report: &mut Report, path: &Path, bytes: Vec<u8>) -> Option<u16> {
    let (text, good) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            (
                String::from_utf8_lossy(error.as_bytes()).into_owned(),
                Some(good),
            )
        }
    };
    let bom = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let place = good.map(|good| place_of(text.get(bom..good.max(bom)).unwrap_or_default()));
    let text = if bom > 0 {
        text.get(bom..).unwrap_or_default().to_owned()
    } else {
        text
    };
    let file = report.add(path, text);
    let Some(place) = place else {
        return Some(file);
    };
    let at = Place { file, ..place };
    report.error_help(
        "encoding",
        at,
        "octets that are not UTF-8",
        "save the file as UTF-8",
    );
    None
}

/// The place in file 0 where `before` ends.
pub(crate) fn place_of(before: &str) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = before.replace("\r\n", "\n").matches(['\n', '\r']).count() + 1;
    let last = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    Place {
        file: 0,
        line: number(line),
        col: number(last.chars().count() + 1),
    }
}

/// Code points of each entry, as written.
pub(crate) fn check_length(report: &mut Report, lines: &Lines, range: Range) {
    for (place, text) in lines.iter() {
        let chars = text.chars().count() as u64;
        if chars < range.min {
            let message = format!(
                "{chars} characters are too short for an entry, at least {} are wanted",
                range.min
            );
            report.error("too-short", place, message);
        } else if chars > range.max {
            let message = format!(
                "{chars} characters are too long for an entry, at most {} are allowed",
                range.max
            );
            report.error("too-long", place, message);
        }
    }
}

/// The number of entries; 0 = no limit. The first surplus one is named.
pub(crate) fn check_total(report: &mut Report, name: &str, lines: &Lines, most: u64) {
    let most_index = usize::try_from(most).unwrap_or(usize::MAX);
    if let (1.., Some((first, _))) = (most, lines.iter().nth(most_index)) {
        let message = format!(
            "{} entries in `{name}`, at most {most} are allowed",
            lines.len()
        );
        report.error("too-many", first, message);
    }
}

/// What a list is compiled to.
pub(crate) trait Set: Sized {
    /// How its entries are folded.
    const FOLD: fn(&str) -> Folded;

    fn of(patterns: impl Iterator<Item = Pattern>) -> Self;

    /// Entries that differ when folded.
    fn distinct(&self) -> usize;
}

/// Implements [`Set`] by the set's own methods.
macro_rules! sets {
    ($($set:ident by $fold:ident),+) => {
        $(impl Set for $set {
            const FOLD: fn(&str) -> Folded = $fold;

            fn of(patterns: impl Iterator<Item = Pattern>) -> Self {
                Self::build(patterns)
            }

            fn distinct(&self) -> usize {
                Self::distinct(self)
            }
        })+
    };
}
sets!(SuffixSet by fold_address, SubstringSet by fold, AllowSet by fold_address);

/// Compiles the entries. Two that fold to the same are reported; that there are some the set knows.
pub(crate) fn compile<S: Set>(report: &mut Report, lines: &Lines, severity: Severity) -> S {
    let set = S::of(lines.patterns(report));
    if set.distinct() < lines.len() {
        check_duplicates(report, lines, S::FOLD, severity);
    }
    set
}

/// Two entries that fold to the same; the second is named.
pub(crate) fn check_duplicates(
    report: &mut Report,
    lines: &Lines,
    fold: fn(&str) -> Folded,
    severity: Severity,
) {
    let mut seen: HashMap<Folded, u32> = HashMap::with_capacity(lines.len());
    for (place, text) in lines.iter() {
        if let Some(first) = seen.insert(fold(text), place.line) {
            let message = format!("the same entry as in line {first}");
            let help = "remove one; case, width and kana forms make no difference";
            report.push(severity, "duplicate", place, message, Some(help.to_owned()));
        }
    }
}

/// UTF-8 octets of the entries plus one each.
pub(crate) fn check_bytes(report: &mut Report, list: NamedList<'_>, lines: &Lines, most: u64) {
    let bytes: u64 = lines.iter().map(|(_, text)| text.len() as u64 + 1).sum();
    if bytes > most {
        let message = format!(
            "`{}` has {bytes} bytes, at most {most} are allowed",
            list.name
        );
        report.error("too-big", list.key(), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_two_equal_entries_is_named() {
        for (text, expected) in [
            ("@a.example\n@b.example\n", vec![]),
            ("@a.example\nb.example\n@A.example\n", vec![3]),
            // Folded as addresses these are empty: the set leaves them out.
            (".\n@a.example\n", vec![]),
            (".\n@a.example\n..\n", vec![3]),
        ] {
            let mut report = Report::default();
            let file = report.add(Path::new("list.txt"), text.to_owned());
            let lines = lines::of_file(&mut report, file);
            compile::<SuffixSet>(&mut report, &lines, Severity::Error);
            let found: Vec<u32> = report.finish().iter().map(|found| found.line).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
