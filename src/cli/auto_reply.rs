//! `sekimori auto-reply`: what a mailbox answers by itself, when, and to whom.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::change::{self, Outcome, Target};
use super::{Done, Exit, Failure, Global, text};
use crate::config::edit::{Change, EditError, ReplyView, Session, Step, Value, path};
use crate::mail::fold::fold_address;

const TEXTS: &str = "auto_reply.per_sender";

#[derive(Debug, Subcommand)]
pub(super) enum AutoReply {
    /// Answers, within start and end where they are set
    On {
        #[command(flatten)]
        target: Target,
    },
    /// Answers nobody; the texts stay for later
    Off {
        #[command(flatten)]
        target: Target,
    },
    /// Texts and times
    Show {
        /// Whose settings; a name without @ gets server.default_domain
        #[arg(long)]
        mailbox: String,
    },
    /// Sets texts and times, and leaves it on or off as it is
    Set(Box<Set>),
    /// Removes the text of its own that senders have
    Unset {
        #[command(flatten)]
        target: Target,
        /// The sender as in the list; several times for several
        #[arg(long, required = true)]
        sender: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[group(id = "texts")]
pub(super) struct Set {
    #[command(flatten)]
    target: Target,
    /// The text, from a file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "message")]
    message_file: Option<PathBuf>,
    /// The text
    #[arg(long)]
    message: Option<String>,
    /// The text is for these senders only: addresses, or ends of addresses; several times for several
    #[arg(long, conflicts_with_all = ["start", "end", "subject", "no_start", "no_end"])]
    sender: Vec<String>,
    /// Its Subject; %{subject} stands for that of the mail
    #[arg(long)]
    subject: Option<String>,
    /// Not before, such as 2026-12-28T00:00:00+09:00
    #[arg(long, conflicts_with = "no_start")]
    start: Option<String>,
    /// Not after
    #[arg(long, conflicts_with = "no_end")]
    end: Option<String>,
    /// At once
    #[arg(long)]
    no_start: bool,
    /// Until it is switched off
    #[arg(long)]
    no_end: bool,
}

pub(super) fn auto_reply(global: &Global, command: &AutoReply, out: &mut dyn Write) -> Done {
    match command {
        AutoReply::On { target } => {
            change::change(global, target, out, |session, _| switch(session, true))
        }
        AutoReply::Off { target } => {
            change::change(global, target, out, |session, _| switch(session, false))
        }
        AutoReply::Show { mailbox } => show(global, mailbox, out),
        AutoReply::Set(set) => {
            let message = match (&set.message_file, &set.message) {
                (Some(path), _) => Some(read(path)?),
                (None, message) => message.clone(),
            };
            change::change(global, &set.target, out, |session, _| {
                match (&set.sender[..], message) {
                    ([], message) => common(session, set, message.as_ref()),
                    (senders, Some(message)) => for_senders(session, senders, message),
                    (_, None) => Err(Failure::new(
                        Exit::Usage,
                        "say the text for them: --message-file FILE or --message TEXT",
                    )),
                }
            })
        }
        AutoReply::Unset { target, sender } => {
            change::change(global, target, out, |session, _| forget(session, sender))
        }
    }
}

fn switch(session: &mut Session<'_>, on: bool) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let reply = session.auto_reply();
    if reply.enabled == on {
        return Ok(outcome);
    }
    if on && reply.message.trim().is_empty() {
        let words = "there is no text to answer with: `auto-reply set --message-file FILE` first";
        return Err(Failure::new(Exit::Data, words));
    }
    session.set("auto_reply.enabled", Value::Word(on.to_string()))?;
    outcome.set.insert("auto_reply.enabled".into(), json!(on));
    Ok(outcome)
}

fn common(
    session: &mut Session<'_>,
    set: &Set,
    message: Option<&String>,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for (key, value, remove) in [
        ("auto_reply.message", message, false),
        ("auto_reply.subject", set.subject.as_ref(), false),
        ("auto_reply.end", set.end.as_ref(), set.no_end),
        ("auto_reply.start", set.start.as_ref(), set.no_start),
    ] {
        if let Some(text) = value {
            session.set(key, Value::Text(text.clone()))?;
            outcome.set.insert(key.into(), json!(text));
        } else if remove && session.unset(key)? {
            outcome.set.insert(key.into(), Json::Null);
        }
    }
    let asked = set.no_start || set.no_end;
    if outcome.set.is_empty() && !asked {
        let words = "say what to set: --message-file, --message, --subject, --start, --end";
        return Err(Failure::new(Exit::Usage, words));
    }
    Ok(outcome)
}

fn for_senders(
    session: &mut Session<'_>,
    senders: &[String],
    message: String,
) -> Result<Outcome, Failure> {
    let reply = session.auto_reply();
    own_texts(session, &reply)?;
    let same = |a: &str, b: &str| fold_address(a) == fold_address(b);
    let is_given = |known: &String| senders.iter().any(|sender| same(sender, known));
    let mut outcome = Outcome::default();
    outcome.set.insert(TEXTS.into(), json!(senders));
    for (index, item) in reply.per_sender.iter().enumerate() {
        let Some(known) = item.senders.iter().find(|known| is_given(known)) else {
            continue;
        };
        let all = item.senders.len() == senders.len() && item.senders.iter().all(is_given);
        if !all {
            let words = format!(
                "{known} has a text together with others (number {}): `auto-reply unset --sender {known}` first",
                index + 1
            );
            return Err(Failure::new(Exit::Data, words));
        }
        session.set(&format!("{TEXTS}[{index}].message"), Value::Text(message))?;
        return Ok(outcome);
    }
    let item = Value::Map(vec![
        ("senders".to_owned(), Value::patterns(senders)),
        ("message".to_owned(), Value::Text(message)),
    ]);
    let last = reply.per_sender.len();
    session.change(&Change::Insert(texts(), last, item))?;
    Ok(outcome)
}

fn forget(session: &mut Session<'_>, senders: &[String]) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for sender in senders {
        let reply = session.auto_reply();
        let same = |known: &String| fold_address(known) == fold_address(sender);
        let found = reply
            .per_sender
            .iter()
            .enumerate()
            .find_map(|(index, item)| {
                let at = item.senders.iter().position(same)?;
                Some((index, at, item.senders.len()))
            });
        let Some((index, at, count)) = found else {
            outcome.missing.push(sender.clone());
            continue;
        };
        own_texts(session, &reply)?;
        let change = if count > 1 {
            let list = path(&format!("{TEXTS}[{index}].senders"));
            Change::Take(list.unwrap_or_default(), [at].into())
        } else {
            Change::Take(texts(), [index].into())
        };
        session.change(&change)?;
        outcome.removed.push(sender.clone());
    }
    Ok(outcome)
}

fn texts() -> Vec<Step> {
    path(TEXTS).unwrap_or_default()
}

/// Texts of the defaults cannot be changed one by one: a list replaces the one below it.
fn own_texts(session: &Session<'_>, reply: &ReplyView) -> Result<(), EditError> {
    match session.has(TEXTS) || reply.per_sender.is_empty() {
        true => Ok(()),
        false => Err(EditError::Defaults {
            list: TEXTS,
            file: None,
        }),
    }
}

/// A text with LF line ends, one at its end.
fn read(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let name = path.display();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::io("stdin", &error))?;
    } else {
        bytes = std::fs::read(path).map_err(|error| Failure::io(name, &error))?;
    }
    let name = path.display();
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Data, format!("{name}: octets that are not UTF-8")))?;
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    if text.trim().is_empty() {
        return Err(Failure::new(Exit::Data, format!("{name}: no text")));
    }
    Ok(format!("{}\n", text.trim_end()))
}

fn show(global: &Global, mailbox: &str, out: &mut dyn Write) -> Done {
    let (mailbox, view) = change::look(global, mailbox, |session| {
        Ok((session.mailbox().to_string(), session.auto_reply()))
    })?;
    if global.json {
        let mut value = json!({"schema": "sekimori.auto_reply/1", "mailbox": mailbox});
        let view = serde_json::to_value(&view).unwrap_or_default();
        if let (Json::Object(value), Json::Object(view)) = (&mut value, view) {
            value.extend(view);
        }
        writeln!(out, "{}", text::json(&value))?;
        return Ok(());
    }
    writeln!(
        out,
        "auto-reply: {}",
        if view.enabled { "on" } else { "off" }
    )?;
    for (name, value) in [
        ("start", &view.start),
        ("end", &view.end),
        ("subject", &view.subject),
    ] {
        if let Some(value) = value {
            writeln!(out, "{:11} {}", format!("{name}:"), text::clean(value))?;
        }
    }
    print(&view.message, out)?;
    for item in &view.per_sender {
        writeln!(out, "to {}:", text::clean(&item.senders.join(", ")))?;
        print(&item.message, out)?;
    }
    Ok(())
}

fn print(message: &str, out: &mut dyn Write) -> Done {
    for line in message.lines() {
        writeln!(out, "  {}", text::clean(line))?;
    }
    Ok(())
}
