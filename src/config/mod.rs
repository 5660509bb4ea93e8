//! Settings: the daemon file and the mailbox files, read, checked and compiled.
//!
//! Two kinds of types: what a person wrote (`raw`, `mailbox`; serde) and what the program needs
//! ([`Config`], [`Mailbox`]). Every mistake of a file is reported in one run, each with its place
//! ([`Diagnostic`]). Any text is a defined result: no panic, no growth, linear time.
//!
//! The way of a text: `patterns` reads it, `tree` refuses what no settings file needs, `read` makes
//! the structs as written, `compile` and `compile_mailbox` what is used. [`Directory`] finds the
//! settings of a recipient.

mod aliases;
mod check;
mod compile;
mod compile_mailbox;
pub mod directory;
pub mod edit;
pub mod error;
mod example;
mod field;
mod lines;
mod lint;
mod location;
pub(crate) mod mailbox;
mod number;
mod patterns;
mod raw;
mod read;
pub mod ruletests;
mod schema;
mod setting;
pub mod settings;
mod show;
mod source;
mod text;
mod tls;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use check::{Lately, check, check_each};
pub use directory::{Directory, DirectoryStats, Lookup};
pub use error::{Diagnostic, Severity, Snippet};
pub use example::example;
pub use schema::{Kind, schema};
pub use settings::*;
pub use show::{Leaf, Settings, show, show_mailbox};
pub use tls::Certificate;

use self::mailbox::RawMailbox;
use self::raw::RawConfig;
use self::setting::{Setting as _, Shape};
use self::source::{Place, Report};
use self::text::{Mail, Text};
use crate::mail::Address;
use crate::policy::{Class, Policy};

/// A settings file is read up to this, octets.
const MOST_FILE_BYTES: u64 = 16 << 20;

/// A daemon file that counts.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is perhaps not meant.
    pub warnings: Vec<Diagnostic>,
}

/// One mailbox's settings, compiled: the file over `mailboxes.defaults` over the built-in.
#[derive(Debug, Clone)]
pub struct Mailbox {
    /// What to do with its mail.
    pub policy: Arc<Policy>,
    /// The [`Address::key`] of `policy.mailbox`: asked of each mail.
    pub key: String,
    /// For times in notices and for `auto_reply.start` and `end` without an offset.
    pub timezone: jiff::tz::TimeZone,
    /// `spam.notice`.
    pub spam_notice: SpamNotice,
    /// `spam.notice_includes`: the held mail that it tells of.
    pub notice_includes: Vec<Class>,
    /// Its file; `None` when it has none and the defaults alone count.
    pub path: Option<PathBuf>,
    /// Names the contents of the daemon file, the mailbox file and the files of their lists: the same
    /// for the same settings, whenever and by whom they were read. 16 hexadecimal digits.
    pub generation: String,
}

/// `spam.notice`: when the owner is told of held mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpamNotice {
    /// Never.
    Off,
    /// At once, one by one.
    Each,
    /// At `quarantine.notice.daily_at`.
    Daily,
}

impl Config {
    /// Reads the text of a daemon file as if it lay in `base_dir` (the demo's embedded one), under
    /// the name `sekimori.yaml`.
    ///
    /// # Errors
    /// All errors and warnings when there is an error.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Loaded, Vec<Diagnostic>> {
        read_config(&base_dir.join("sekimori.yaml"), text.as_bytes().to_vec())
    }

    /// Reads the text of a mailbox file as if it lay at `path`, over the defaults of `self`.
    ///
    /// # Errors
    /// All errors and warnings when there is an error.
    pub fn parse_mailbox(&self, text: &str, path: &Path) -> Result<Mailbox, Vec<Diagnostic>> {
        read_mailbox_text(self, path, text.as_bytes().to_vec(), None).result()
    }
}

/// Reads the daemon file.
///
/// # Errors
/// All errors and warnings when there is an error; also when the file cannot be read
/// (id `unreadable`).
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let bytes = read_file(path)?;
    read_config(path, bytes)
}

/// Reads one mailbox file over the defaults of `config`. The mailbox is the one that `mailbox:`
/// names; below `mailboxes.dir` the path must agree, and says it where the key is left out.
///
/// # Errors
/// All errors and warnings when there is an error.
pub fn load_mailbox(config: &Config, path: &Path) -> Result<Mailbox, Vec<Diagnostic>> {
    read_mailbox(config, path, None).result()
}

/// The mailbox files below `mailboxes.dir`, sorted; those of one domain when it is named.
pub fn mailbox_files(config: &Config, domain: Option<&str>) -> Vec<PathBuf> {
    let key = |domain: &str| {
        let address = Address::parse(&format!("a@{domain}")).ok()?;
        Some(address.key().rsplit_once('@')?.1.to_owned())
    };
    let wanted = domain.map(key);
    let mut files = location::files_below(&config.mailboxes.dir);
    files.retain(|path| match &wanted {
        None => true,
        Some(wanted) => {
            let owner = location::address_of(path);
            wanted.is_some() && owner.and_then(|owner| key(owner.domain())) == *wanted
        }
    });
    files
}

/// Reads a mailbox file as the draft of settings for a mailbox, wherever it lies. Its `mailbox:` may
/// be left out, and must not name another one.
///
/// # Errors
/// All errors and warnings when there is an error.
pub fn load_draft(
    config: &Config,
    path: &Path,
    mailbox: &Address,
) -> Result<Mailbox, Vec<Diagnostic>> {
    read_mailbox(config, path, Some(mailbox)).result()
}

/// Whether the file has a mailbox file's key at its top. One that cannot be read has not.
fn is_mailbox_file(path: &Path) -> bool {
    let Shape::Section(section) = RawMailbox::shape() else {
        return false;
    };
    let names = section.keys.iter().map(|key| key.name);
    let own: Vec<&str> = names.filter(|name| *name != "version").collect();
    has_key(path, &own)
}

/// Whether one of the keys stands at the top of a file, by its lines.
fn has_key(path: &Path, keys: &[&str]) -> bool {
    let bytes = patterns::read_text(path, MOST_FILE_BYTES).unwrap_or_default();
    let is_key = |line: &[u8]| {
        let key = line.split(|b| *b == b':').next().unwrap_or_default();
        key.len() < line.len() && keys.iter().any(|known| known.as_bytes() == key)
    };
    bytes.split(|b| *b == b'\n').any(is_key)
}

fn read_config(path: &Path, bytes: Vec<u8>) -> Result<Loaded, Vec<Diagnostic>> {
    match attempt_config(path, bytes) {
        (Some(config), found) if found.iter().all(|d| !d.is_error()) => Ok(Loaded {
            config,
            warnings: found,
        }),
        (_, found) => Err(found),
    }
}

/// What could be made of a daemon file, and the findings: with an error among them it is fit for
/// finding the mailbox files only.
fn attempt_config(path: &Path, bytes: Vec<u8>) -> (Option<Config>, Vec<Diagnostic>) {
    attempt_config_and(path, bytes, |_, _, _| ())
}

/// As [`attempt_config`]; `then` looks on at what was written and what was made of it.
fn attempt_config_and(
    path: &Path,
    bytes: Vec<u8>,
    then: impl FnOnce(&mut Report, &RawConfig, &Config),
) -> (Option<Config>, Vec<Diagnostic>) {
    let mut report = Report::default();
    let raw = patterns::add_text(&mut report, path, bytes).and_then(|_| compile::read(&mut report));
    let config = raw
        .as_ref()
        .and_then(|raw| compile::config(&mut report, path, raw));
    if let (Some(raw), Some(config)) = (&raw, &config) {
        then(&mut report, raw, config);
    }
    (config, report.finish())
}

/// What came of reading a mailbox file.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// `None` when there is an error among the found.
    pub(crate) mailbox: Option<Mailbox>,
    pub(crate) found: Vec<Diagnostic>,
    /// The files it depends on: itself, then the files of its lists.
    pub(crate) files: Vec<PathBuf>,
    /// Names their contents.
    pub(crate) texts: String,
    /// Octets of those files, for the cache.
    pub(crate) octets: usize,
}

impl Attempt {
    fn result(self) -> Result<Mailbox, Vec<Diagnostic>> {
        self.mailbox.ok_or(self.found)
    }
}

/// Reads the file at `path` as the mailbox `address`; without one, as that which the file or its
/// path names.
pub(crate) fn read_mailbox(config: &Config, path: &Path, address: Option<&Address>) -> Attempt {
    match read_file(path) {
        Ok(bytes) => read_mailbox_text(config, path, bytes, address),
        Err(found) => Attempt {
            found,
            files: vec![path.to_owned()],
            ..Attempt::default()
        },
    }
}

fn read_mailbox_text(
    config: &Config,
    path: &Path,
    bytes: Vec<u8>,
    address: Option<&Address>,
) -> Attempt {
    read_mailbox_and(config, path, bytes, address, |_, _, _| ())
}

/// As [`read_mailbox_text`]; `then` looks on at what was written, over the defaults, and what was
/// made of it.
fn read_mailbox_and(
    config: &Config,
    path: &Path,
    bytes: Vec<u8>,
    address: Option<&Address>,
    then: impl FnOnce(&mut Report, &RawMailbox, &Mailbox),
) -> Attempt {
    let mut attempt = Attempt {
        files: vec![path.to_owned()],
        ..Attempt::default()
    };
    let mut report = Report::beside(&config.path);
    let made = mailbox_of(&mut report, config, path, bytes, address, &mut attempt);
    let good = !report.has_errors();
    if let Some((merged, mailbox)) = &made {
        then(&mut report, merged, mailbox);
    }
    attempt.texts = report.generation();
    attempt.mailbox = made.filter(|_| good).map(|(_, mailbox)| Mailbox {
        generation: generation(config, &attempt.texts),
        ..mailbox
    });
    attempt.octets = report.octets();
    attempt.found = report.finish();
    attempt
}

fn mailbox_of(
    report: &mut Report,
    config: &Config,
    path: &Path,
    bytes: Vec<u8>,
    address: Option<&Address>,
    attempt: &mut Attempt,
) -> Option<(RawMailbox, Mailbox)> {
    let (merged, address) = merged(report, config, path, bytes, address)?;
    let mailbox = compile_mailbox::compile(report, config, &merged, &address, &mut attempt.files);
    let path = Some(path.to_owned());
    Some((merged, Mailbox { path, ..mailbox }))
}

/// The text of a mailbox file over the defaults, and whose it is. `None` when there is too little to
/// look at.
fn merged(
    report: &mut Report,
    config: &Config,
    path: &Path,
    bytes: Vec<u8>,
    address: Option<&Address>,
) -> Option<(RawMailbox, Address)> {
    let file = patterns::add_text(report, path, bytes)?;
    let raw: RawMailbox = read::settings(report, file)?;
    compile::version(report, &raw.version, file);
    let below = location::is_below(&config.mailboxes.dir, path);
    if below {
        compile_mailbox::check_path(report, &config.mailboxes.dir, path, &raw);
    }
    let named = raw.mailbox.value.clone().map(|Text(Mail(address))| address);
    let by_path = || location::address_of(path).filter(|_| below);
    if let (Some(asked), Some(named)) = (address, &named)
        && asked.key() != named.key()
        // Of a file in its own place it is said already.
        && by_path().is_none_or(|owner| owner.key() != asked.key())
    {
        let message = format!("these are the settings of {named}, not of {asked}");
        let help = format!("write `mailbox: {asked}`, or leave the key out");
        report.error_help("mailbox-other", raw.mailbox.place(), message, help);
    }
    let address = address.cloned().or(named).or_else(by_path);
    if address.is_none() {
        let at = Place::top(file);
        report.error_help(
            "missing",
            at,
            "`mailbox` is missing",
            "add `mailbox: ADDRESS`",
        );
    }
    // Whosever the mailbox is, the rest of the file is looked at.
    let address = address.or_else(|| Address::parse("nobody@localhost").ok())?;
    Some((raw.over(&config.mailboxes.defaults), address))
}

/// [`Mailbox::generation`] of a file whose own and whose lists' texts have this name.
pub(crate) fn generation(config: &Config, texts: &str) -> String {
    source::name([config.generation.as_str(), texts])
}

/// The mailbox of an address without a file.
pub(crate) fn default_mailbox(config: &Config, address: &Address) -> Mailbox {
    let mut report = Report::beside(&config.path);
    let defaults = &config.mailboxes.defaults;
    compile_mailbox::compile(&mut report, config, defaults, address, &mut Vec::new())
}

fn read_file(path: &Path) -> Result<Vec<u8>, Vec<Diagnostic>> {
    patterns::read_text(path, MOST_FILE_BYTES).map_err(|error| {
        let too_big = error.kind() == std::io::ErrorKind::FileTooLarge;
        vec![Diagnostic {
            severity: Severity::Error,
            id: if too_big { "file-size" } else { "unreadable" },
            file: path.to_owned(),
            line: 1,
            col: 1,
            message: error.to_string(),
            snippet: None,
            help: too_big.then(|| "put long lists into files of their own (`_file`)".to_owned()),
        }]
    })
}
