//! The lists of a mailbox file that are changed entry by entry, and what may be an entry.

use std::path::{Path, PathBuf};

use super::{Step, path};
use crate::config::error::Diagnostic;
use crate::config::field::Field;
use crate::config::lines::{self, Line, Lines};
use crate::config::mailbox::{RawHeader, RawMailbox};
use crate::config::patterns::{self, NamedList};
use crate::config::settings::Limits;
use crate::config::source::{Place, Report};
use crate::config::text::{FilePath, Mail, Text};
use crate::mail::fold::{fold, fold_address};
use crate::mail::{Address, Folded};

/// A list of a mailbox file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `reject.from_suffixes`.
    RejectFrom,
    /// `reject.subject_contains`.
    RejectSubject,
    /// `reject.headers`.
    RejectHeaders,
    /// `allow.senders`.
    AllowSenders,
    /// `allow.verified_senders`.
    AllowVerified,
    /// `notify.to`.
    NotifyTo,
    /// `forwarding.all.to`.
    ForwardTo,
}

/// The words of `reject.headers`.
pub const HEADER_WORDS: [&str; 5] = [
    RawHeader::FromMissing.word(),
    RawHeader::FromEmpty.word(),
    RawHeader::FromEmptyAddress.word(),
    RawHeader::SubjectMissing.word(),
    RawHeader::SubjectEmpty.word(),
];

/// Longest list that is read from a person, octets.
const MOST_BYTES: usize = 64 << 20;

impl List {
    /// Its path in the file, dotted.
    pub fn name(self) -> &'static str {
        match self {
            Self::RejectFrom => "reject.from_suffixes",
            Self::RejectSubject => "reject.subject_contains",
            Self::RejectHeaders => "reject.headers",
            Self::AllowSenders => "allow.senders",
            Self::AllowVerified => "allow.verified_senders",
            Self::NotifyTo => "notify.to",
            Self::ForwardTo => "forwarding.all.to",
        }
    }

    pub(super) fn path(self) -> Vec<Step> {
        path(self.name()).unwrap_or_default()
    }

    /// Two entries with the same folded form are one.
    pub(super) fn fold(self, entry: &str) -> Folded {
        match self {
            Self::RejectSubject => fold(entry),
            Self::RejectFrom | Self::AllowSenders | Self::AllowVerified => fold_address(entry),
            Self::NotifyTo | Self::ForwardTo => {
                fold(&Address::parse(entry).map_or_else(|_| entry.to_owned(), |a| a.key()))
            }
            Self::RejectHeaders => fold(entry),
        }
    }

    /// The patterns of a list of patterns, or of the text file in its place.
    fn patterns(self, raw: &RawMailbox) -> Option<(Field<Lines>, Field<FilePath>)> {
        let (reject, allow) = (raw.reject.or_default(), raw.allow.or_default());
        match self {
            Self::RejectFrom => Some((reject.from_suffixes, reject.from_suffixes_file)),
            Self::RejectSubject => Some((reject.subject_contains, reject.subject_contains_file)),
            Self::AllowSenders => Some((allow.senders, allow.senders_file)),
            Self::AllowVerified => Some((allow.verified_senders, allow.verified_senders_file)),
            Self::RejectHeaders | Self::NotifyTo | Self::ForwardTo => None,
        }
    }

    fn addresses(self, raw: &RawMailbox) -> Field<Vec<Field<Text<Mail>>>> {
        match self {
            Self::NotifyTo => raw.notify.or_default().to,
            _ => raw.forwarding.or_default().all.or_default().to,
        }
    }

    /// Whether the settings have the list, here or in a text file.
    pub(super) fn is_given(self, raw: &RawMailbox) -> bool {
        match self.patterns(raw) {
            Some((here, file)) => here.is_given() || file.is_given(),
            None if self == Self::RejectHeaders => raw.reject.or_default().headers.is_given(),
            None => self.addresses(raw).is_given(),
        }
    }

    /// The text file that the settings name in place of the list, as a path.
    pub(super) fn file(self, report: &Report, raw: &RawMailbox) -> Option<PathBuf> {
        let (_, file) = self.patterns(raw)?;
        let FilePath(written) = file.get()?;
        Some(report.folder(file.place()).join(written))
    }

    /// The entries that count, each with its place.
    pub(super) fn lines(self, report: &mut Report, raw: &RawMailbox) -> Vec<Line> {
        if let Some((here, file)) = self.patterns(raw) {
            let list = NamedList {
                name: self.name(),
                here: &here,
                file: &file,
            };
            return patterns::load(report, list, &mut Vec::new()).split();
        }
        if self == Self::RejectHeaders {
            let items = raw.reject.or_default().headers.or_default();
            let word = |item: &Field<RawHeader>| Some((item.place(), item.value?.word()));
            return items
                .iter()
                .filter_map(word)
                .map(|(place, word)| line(place, word))
                .collect();
        }
        let items = self.addresses(raw).or_default();
        let address = |item: &Field<Text<Mail>>| {
            let Text(Mail(address)) = item.get()?;
            Some(line(item.place(), &address.to_string()))
        };
        items.iter().filter_map(address).collect()
    }

    /// Entries as a person gives them, one a line, from the source of that name; blank lines do not
    /// count.
    ///
    /// # Errors
    /// Every line that is no entry of this list.
    pub fn entries(
        self,
        limits: &Limits,
        source: &str,
        text: Vec<u8>,
    ) -> Result<Vec<String>, Vec<Diagnostic>> {
        let mut report = Report::default();
        if text.len() > MOST_BYTES {
            let file = report.add(Path::new(source), String::new());
            report.error("too-big", Place::top(file), "over 64 MiB");
            return Err(report.finish());
        }
        let found = patterns::add_text(&mut report, Path::new(source), text)
            .map(|file| self.check(&mut report, limits, file));
        match found.filter(|_| !report.has_errors()) {
            Some(lines) => Ok(lines.iter().map(|(_, text)| text.to_owned()).collect()),
            None => Err(report.finish()),
        }
    }

    fn check(self, report: &mut Report, limits: &Limits, file: u16) -> Lines {
        let lines = lines::of_file(report, file);
        for (place, text) in lines.iter() {
            if text.contains(is_line_end) {
                let message = "a control character, or one that ends a line";
                report.error("control", place, message);
            }
            match self {
                Self::RejectHeaders if !HEADER_WORDS.contains(&text) => {
                    let help = format!("one of {}", HEADER_WORDS.join(", "));
                    let message = "no kind of header that can be rejected";
                    report.error_help("value", place, message, help);
                }
                Self::NotifyTo | Self::ForwardTo => {
                    if let Err(error) = Address::parse(text) {
                        report.error("value", place, error.to_string());
                    }
                }
                _ => {}
            }
        }
        match self {
            Self::RejectFrom => patterns::check_length(report, &lines, limits.from_suffix_chars),
            Self::RejectSubject => patterns::check_length(report, &lines, limits.subject_chars),
            _ => {}
        }
        lines
    }
}

fn is_line_end(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn line(place: Place, text: &str) -> Line {
    Line {
        place,
        text: text.to_owned(),
    }
}
