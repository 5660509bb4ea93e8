//! Rule tests: mails, the mailbox that gets them, and what must become of them (`sekimori test`).
//!
//! Read like every settings file: strictly, and all mistakes in one run.

mod raw;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use self::raw::{RawCase, RawExpect, RawNotified, RawTests, RawVerdict};
use super::error::Diagnostic;
use super::field::{At, Field};
use super::source::{Place, Report};
use super::text::{Mail, Text};
use super::{compile, location, patterns, read, read_file};
use crate::mail::{Address, ReversePath};
use crate::policy::{Stage, Verdict};

/// One file of cases.
#[derive(Debug, Clone)]
pub struct RuleTests {
    /// The file.
    pub path: PathBuf,
    /// In the order written; at least one.
    pub cases: Vec<RuleCase>,
}

/// One case.
#[derive(Debug, Clone)]
pub struct RuleCase {
    /// What it is about; no other case of the file has the same.
    pub name: String,
    /// Where it begins.
    pub line: u32,
    /// Whose settings: the recipient.
    pub mailbox: Given<Address>,
    /// The mail.
    pub mail: CaseMail,
    /// The reverse path; `None`: the mail says.
    pub sender: Option<ReversePath>,
    /// When the mail comes in, Unix seconds; `None`: now, moved into the period of the mailbox's
    /// auto-reply.
    pub at: Option<i64>,
    /// It comes from a trusted client.
    pub trusted_client: bool,
    /// Its header From is DMARC-aligned and passing.
    pub dmarc_pass: bool,
    /// What the spam scanner says; `None`: what a trusted upstream header says.
    pub spam: Option<bool>,
    /// The virus that the scanner finds; `None`: what a trusted upstream header says.
    pub virus: Option<String>,
    /// What must come of it.
    pub expect: Expectation,
}

/// A value and the line where it stands.
#[derive(Debug, Clone)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// From 1.
    pub line: u32,
}

/// The mail of a case.
#[derive(Debug, Clone)]
pub enum CaseMail {
    /// A file; a relative path is joined to the folder of the test file.
    File(Given<PathBuf>),
    /// Header fields, a blank line, a body.
    Text(Vec<u8>),
}

/// What must come of a mail; at least one is set, and only what is set is compared.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Option<Verdict>,
    /// The stage that decided.
    pub stage: Option<Stage>,
    /// The entry that decided.
    pub entry: Option<String>,
    /// Its place, `taro.yaml:14`.
    pub origin: Option<String>,
    /// The forwarding rule that applies.
    pub rule: Option<String>,
    /// The targets, in any order; empty: it is not forwarded.
    pub forwarded_to: Option<Vec<Address>>,
    /// A forward leaves a copy in the mailbox.
    pub keep_copy: Option<bool>,
    /// Who gets a notice.
    pub notified: Option<Notified>,
    /// Whether the sender gets a reply.
    pub auto_reply: Option<bool>,
    /// The mark on the Subject of the local copy; empty: none.
    pub mark: Option<String>,
}

/// Who gets a notice.
#[derive(Debug, Clone)]
pub enum Notified {
    /// So many addresses.
    Count(u64),
    /// These, in any order.
    To(Vec<Address>),
}

/// Reads one file.
///
/// # Errors
/// All mistakes.
pub fn rule_tests(path: &Path) -> Result<RuleTests, Vec<Diagnostic>> {
    let bytes = read_file(path)?;
    let mut report = Report::default();
    let tests = patterns::add_text(&mut report, path, bytes)
        .and_then(|file| Some((file, read::settings::<RawTests>(&mut report, file)?)))
        .map(|(file, raw)| compile_tests(&mut report, file, path, &raw));
    let errors = report.has_errors();
    tests.filter(|_| !errors).ok_or_else(|| report.finish())
}

/// The rule tests below a folder: the `*.yaml` files in it and in its folders that have `cases` at
/// their top, in the order of their names.
pub fn rule_tests_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = location::files_below(folder);
    files.retain(|path| is_one(path));
    files
}

/// Whether a file holds rule tests: it has `cases` at its top.
pub(crate) fn is_one(path: &Path) -> bool {
    super::has_key(path, &["cases"])
}

fn compile_tests(report: &mut Report, file: u16, path: &Path, raw: &RawTests) -> RuleTests {
    compile::version(report, &raw.version, file);
    let written = raw.cases.or_default();
    if written.is_empty() && raw.cases.value.is_some() || !raw.cases.is_given() {
        let at = raw.cases.at.map_or(Place::top(file), |at| at.key);
        report.error_help("missing", at, "there is no case", "add one below `cases:`");
    }
    let mut compile = Compile {
        report,
        mailbox: &raw.mailbox,
        names: HashSet::new(),
    };
    let cases = written.iter().filter_map(|case| compile.case(case));
    RuleTests {
        path: path.to_owned(),
        cases: cases.collect(),
    }
}

struct Compile<'a> {
    report: &'a mut Report,
    /// The file's own, for cases without one.
    mailbox: &'a Field<Text<Mail>>,
    names: HashSet<String>,
}

impl Compile<'_> {
    /// `None` when something is wrong with it; the report says what.
    fn case(&mut self, field: &Field<RawCase>) -> Option<RuleCase> {
        let (raw, at) = (field.get()?, field.place());
        let name = self.name(&raw.name, at);
        let mailbox = self.mailbox(&raw.mailbox, at);
        let mail = self.mail(raw, at);
        let sender = self.sender(&raw.sender);
        let moment = self.moment(&raw.at);
        let expect = self.expect(&raw.expect, at);
        let scan = raw.scan.or_default();
        Some(RuleCase {
            name: name?,
            line: at.line,
            mailbox: mailbox?,
            mail: mail?,
            sender,
            at: moment,
            trusted_client: raw.trusted_client.value.unwrap_or(true),
            dmarc_pass: raw.dmarc_pass.or_default(),
            spam: scan.spam.value,
            virus: scan.virus.value,
            expect: expect?,
        })
    }

    fn name(&mut self, raw: &Field<String>, case: Place) -> Option<String> {
        if !raw.is_given() {
            let help = "add `name: WHAT IT IS ABOUT`";
            self.missing(case, "`name` is missing", help);
        }
        let name = raw.get()?.trim().to_owned();
        if name.is_empty() {
            self.report
                .error("empty", raw.place(), "a name without a letter");
        } else if !self.names.insert(name.clone()) {
            let help = "a report could not tell them apart";
            let message = "another case has this name already";
            self.report
                .error_help("duplicate", raw.place(), message, help);
        }
        Some(name)
    }

    fn mailbox(&mut self, raw: &Field<Text<Mail>>, case: Place) -> Option<Given<Address>> {
        let written = if raw.is_given() { raw } else { self.mailbox };
        if !written.is_given() {
            let help = "add `mailbox: ADDRESS`, here or above `cases`";
            self.missing(case, "whose mail is it? `mailbox` is missing", help);
        }
        let Text(Mail(address)) = written.get()?;
        Some(Given {
            value: address.clone(),
            line: written.place().line,
        })
    }

    fn mail(&mut self, raw: &RawCase, case: Place) -> Option<CaseMail> {
        let fields = [&raw.headers, &raw.body];
        if let Some(field) = fields
            .into_iter()
            .find(|f| f.is_given() && raw.message.is_given())
        {
            let at = field.key().later(raw.message.key());
            let message = "`message` and `headers` or `body` exclude each other";
            self.report
                .error_help("conflict", at, message, "keep the file, or the text");
            return None;
        }
        if raw.message.is_given() {
            let file = raw.message.get()?;
            let value = self.report.folder(raw.message.place()).join(file);
            let line = raw.message.place().line;
            return Some(CaseMail::File(Given { value, line }));
        }
        if !raw.headers.is_given() {
            let help = "add `message: FILE`, or `headers: |` and perhaps `body: |`";
            self.missing(case, "there is no mail", help);
        }
        let headers = raw.headers.get()?.trim_end_matches('\n');
        if headers.lines().any(|line| line.trim().is_empty()) {
            let message = "a blank line: the header fields would end there";
            let help = "remove it; the text of the mail is `body`";
            self.report
                .error_help("value", raw.headers.place(), message, help);
            return None;
        }
        let body = raw.body.or_default();
        Some(CaseMail::Text(format!("{headers}\n\n{body}").into_bytes()))
    }

    fn sender(&mut self, raw: &Field<String>) -> Option<ReversePath> {
        let written = raw.get()?.trim();
        if matches!(written, "" | "<>") {
            return Some(ReversePath::Null);
        }
        match Address::parse(written) {
            Ok(address) => Some(ReversePath::Address(address)),
            Err(error) => {
                let message = format!("{written:?}: {error}");
                let help = "an address, or `<>` for the null path";
                self.report.error_help("value", raw.place(), message, help);
                None
            }
        }
    }

    fn moment(&mut self, raw: &Field<String>) -> Option<i64> {
        let written = raw.get()?.trim();
        match written.parse::<jiff::Timestamp>() {
            Ok(moment) => Some(moment.as_second()),
            Err(_) => {
                let message = format!("{written:?} is no point in time");
                let help = "`2026-12-29T10:00:00+09:00`";
                self.report.error_help("value", raw.place(), message, help);
                None
            }
        }
    }

    fn expect(&mut self, field: &Field<RawExpect>, case: Place) -> Option<Expectation> {
        if !field.is_given() {
            let help = "add `expect: {verdict: deliver}`";
            self.missing(case, "`expect` is missing", help);
        }
        let raw = field.get()?;
        let given: [Option<At>; 10] = [
            raw.verdict.at,
            raw.stage.at,
            raw.entry.at,
            raw.origin.at,
            raw.rule.at,
            raw.forwarded_to.at,
            raw.keep_copy.at,
            raw.notified.at,
            raw.auto_reply.at,
            raw.mark.at,
        ];
        if given.iter().all(Option::is_none) {
            let message = "nothing is expected: the case could not fail";
            self.report
                .error_help("empty", field.place(), message, "add `verdict: deliver`");
        }
        self.contradiction(raw);
        self.rule(&raw.rule);
        let addresses = |list: &[Field<Text<Mail>>]| -> Vec<Address> {
            let read = list.iter().filter_map(Field::get);
            read.map(|Text(Mail(address))| address.clone()).collect()
        };
        Some(Expectation {
            verdict: raw.verdict.value.map(Verdict::from),
            stage: raw.stage.value.map(Stage::from),
            entry: raw.entry.value.clone(),
            origin: raw.origin.value.clone(),
            rule: raw.rule.value.clone(),
            forwarded_to: raw.forwarded_to.get().map(|list| addresses(list)),
            keep_copy: raw.keep_copy.value,
            notified: raw.notified.get().map(|notified| match notified {
                RawNotified::Count(count) => Notified::Count(*count),
                RawNotified::To(list) => Notified::To(addresses(list)),
            }),
            auto_reply: raw.auto_reply.value,
            mark: raw.mark.value.clone(),
        })
    }

    /// Only a mail that is held or replaced has a stage and an entry that decided.
    fn contradiction(&mut self, raw: &RawExpect) {
        let Some(RawVerdict::Deliver | RawVerdict::Forward) = raw.verdict.value else {
            return;
        };
        for (at, key) in [
            (raw.stage.at, "stage"),
            (raw.entry.at, "entry"),
            (raw.origin.at, "origin"),
        ] {
            if let Some(at) = at {
                let message = format!("no mail that passes has a `{key}` that decided");
                let help = "it goes with `verdict: quarantine` or `replace`";
                self.report.error_help("conflict", at.key, message, help);
            }
        }
    }

    fn rule(&mut self, raw: &Field<String>) {
        let Some(written) = raw.get() else { return };
        let number = written
            .strip_prefix("forwarding.rules[")
            .and_then(|rest| rest.strip_suffix(']'));
        let is_number = number.is_some_and(|n| n.parse::<usize>().is_ok());
        if !is_number && written != "forwarding.all" {
            let message = format!("{written:?} is no forwarding rule");
            let help = "`forwarding.rules[0]` is the first one, `forwarding.all` the plain forward; \
                        not forwarded at all: `forwarded_to: []`";
            self.report.error_help("value", raw.place(), message, help);
        }
    }

    fn missing(&mut self, at: Place, message: &str, help: &str) {
        self.report.error_help("missing", at, message, help);
    }
}
