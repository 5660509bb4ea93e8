//! `sekimori sieve`: settings as a Sieve script and back. The script or the mailbox file goes to the
//! output, the list of what does not convert to stderr.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::dry_run::DryRun;
use super::{Done, Exit, Failure, Global, config_of, text};
use crate::config::{Config, Engine};
use crate::mail::Address;
use crate::sieve::export::{Difference, Finding, Settings, export};
use crate::sieve::import::{Import, Note, import};
use crate::sieve::{SyntaxError, parse};

/// A script is read up to this, octets.
const MOST_SCRIPT_BYTES: u64 = 16 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// A script for Dovecot Pigeonhole that decides as the mailbox's settings do
    Export(ExportOptions),
    /// A mailbox file that decides as a webmail's script does
    Import(ImportOptions),
}

#[derive(Debug, Args)]
pub(super) struct ExportOptions {
    /// Whose settings
    #[arg(long)]
    mailbox: String,
}

#[derive(Debug, Args)]
pub(super) struct ImportOptions {
    /// Whose settings they become; written as `mailbox:`
    #[arg(long)]
    mailbox: Option<String>,
    /// The script; - is stdin
    file: PathBuf,
}

pub(super) fn sieve(global: &Global, command: &Command, out: &mut dyn Write) -> Done {
    match command {
        Command::Export(options) => write_script(global, options, out),
        Command::Import(options) => write_settings(global, options, out),
    }
}

fn write_script(global: &Global, options: &ExportOptions, out: &mut dyn Write) -> Done {
    let dry_run = DryRun::new(config_of(global)?);
    let (_, mailbox) = dry_run.named(&options.mailbox)?;
    let scanners = &dry_run.config.scanners;
    let result = export(&Settings {
        policy: &mailbox.policy,
        virus: finding(&scanners.virus.engine),
        spam: finding(&scanners.spam.engine),
    });
    write_text(
        global,
        "sekimori.sieve_script/1",
        &result.script.to_string(),
        out,
    )?;
    let file = match &mailbox.path {
        Some(path) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        None => "mailboxes.defaults".to_owned(),
    };
    tell(
        global,
        result.differences.iter().map(|difference| {
            let origin = difference
                .origin
                .as_ref()
                .map_or_else(|| file.clone(), ToString::to_string);
            let Difference {
                setting, reason, ..
            } = difference;
            let line = format!("{origin}: differs: {setting}: {reason}");
            let value = json!({
                "schema": "sekimori.sieve_export/1",
                "origin": origin,
                "setting": setting,
                "reason": reason,
            });
            (line, value)
        }),
    )
}

fn finding(engine: &Engine) -> Option<Finding<'_>> {
    match engine {
        Engine::Off | Engine::Clamd(_) | Engine::Rspamd(_) | Engine::Spamd(_) => None,
        Engine::Upstream { header, value } => Some(Finding {
            header,
            word: value,
        }),
    }
}

fn write_settings(global: &Global, options: &ImportOptions, out: &mut dyn Write) -> Done {
    let name = options.file.display().to_string();
    let mailbox = match &options.mailbox {
        Some(text) => Some(
            Address::parse(text)
                .map_err(|error| Failure::new(Exit::Usage, format!("--mailbox {text}: {error}")))?,
        ),
        None => None,
    };
    let text = read(&options.file)?;
    let script = parse(&text).map_err(|SyntaxError { place, message }| {
        let message = format!(
            "{name}:{}:{}: error[sieve]: {message}",
            place.line, place.col
        );
        Failure::new(Exit::Data, message)
    })?;
    let Import {
        settings,
        notes,
        took,
    } = import(&script, mailbox.as_ref());
    let nothing = !took && !script.commands.is_empty();
    if !nothing {
        verify(&settings)?;
        write_text(global, "sekimori.sieve_settings/1", &settings, out)?;
    }
    tell(
        global,
        notes.iter().map(|note| {
            let Note {
                place,
                kind,
                reason,
            } = note;
            let line = format!(
                "{name}:{}:{}: {}: {reason}",
                place.line,
                place.col,
                kind.as_str()
            );
            let value = json!({
                "schema": "sekimori.sieve_import/1",
                "kind": kind.id(),
                "file": name,
                "line": place.line,
                "col": place.col,
                "reason": reason,
            });
            (line, value)
        }),
    )?;
    if nothing {
        return Err(Failure::new(
            Exit::Data,
            format!("{name}: nothing of it was taken"),
        ));
    }
    Ok(())
}

/// What we wrote must be settings that count; else it is a bug of ours, and nothing is written.
fn verify(settings: &str) -> Done {
    let folder = Path::new("/nonexistent");
    let bug = |found: Vec<crate::config::Diagnostic>| {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        Failure::new(Exit::Software, found.join("\n"))
    };
    let built_in = Config::parse("version: 1", folder).map_err(bug)?.config;
    let named = format!("{settings}mailbox: nobody@localhost.invalid\n");
    let whole = if settings.contains("\nmailbox: ") {
        settings
    } else {
        &named
    };
    built_in
        .parse_mailbox(whole, &folder.join("imported.yaml"))
        .map_err(bug)?;
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let io = |error: &std::io::Error| Failure::io(path.display(), error);
    let mut octets = Vec::new();
    let mut limited: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock().take(MOST_SCRIPT_BYTES + 1))
    } else {
        let file = std::fs::File::open(path).map_err(|error| io(&error))?;
        Box::new(file.take(MOST_SCRIPT_BYTES + 1))
    };
    limited
        .read_to_end(&mut octets)
        .map_err(|error| io(&error))?;
    let wrong = |what: &str| {
        Failure::new(
            Exit::Data,
            format!("{}:1:1: error[sieve]: {what}", path.display()),
        )
    };
    if octets.len() as u64 > MOST_SCRIPT_BYTES {
        return Err(wrong("over 16 MiB"));
    }
    String::from_utf8(octets).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..good).unwrap_or_default();
        let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
        let start = before
            .iter()
            .rposition(|octet| *octet == b'\n')
            .map_or(0, |at| at + 1);
        let col = String::from_utf8_lossy(before.get(start..).unwrap_or_default())
            .chars()
            .count()
            + 1;
        Failure::new(
            Exit::Data,
            format!("{}:{line}:{col}: error[sieve]: not UTF-8", path.display()),
        )
    })
}

/// What was converted.
fn write_text(global: &Global, schema: &str, converted: &str, out: &mut dyn Write) -> Done {
    if global.json {
        let line = json!({"schema": schema, "text": converted});
        writeln!(out, "{}", text::json(&line))?;
    } else {
        write!(out, "{converted}")?;
    }
    Ok(())
}

/// The list of what does not convert.
fn tell(global: &Global, list: impl Iterator<Item = (String, Value)>) -> Done {
    if global.quiet {
        return Ok(());
    }
    let mut stderr = std::io::stderr().lock();
    for (line, value) in list {
        if global.json {
            writeln!(stderr, "{}", text::json(&value))?;
        } else {
            writeln!(stderr, "{}", text::clean(&line))?;
        }
    }
    Ok(())
}
