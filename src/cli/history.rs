//! `sekimori history`, `tail`, `why`: what was decided, and what became of it.

use std::io::Write;

use clap::Args;
use clap::builder::PossibleValuesParser;
use hyper::Method;
use serde_json::Value;

use super::admin::{Daemon, item};
use super::{Done, Exit, Failure, Global, client, decision, text, words};
use crate::policy::{Stage, Verdict};
use crate::store::Id;

/// Which mails.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this mailbox
    #[arg(long)]
    mailbox: Option<String>,
    /// With this verdict
    #[arg(long, value_parser = PossibleValuesParser::new(Verdict::ALL.map(Verdict::as_str)))]
    verdict: Option<String>,
    /// Held or replaced by this stage
    #[arg(long, value_parser = PossibleValuesParser::new(Stage::ALL.map(Stage::as_str)))]
    stage: Option<String>,
}

impl Filter {
    fn query(&self, since: Option<&str>) -> String {
        client::query(&[
            ("mailbox", self.mailbox.as_deref()),
            ("verdict", self.verdict.as_deref()),
            ("stage", self.stage.as_deref()),
            ("since", since),
        ])
    }
}

#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    filter: Filter,
    /// Received since: RFC 3339, a date, or a time span such as 12h or 2d
    #[arg(long)]
    since: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Why {
    /// The `q=` of the reply, the id of an outgoing mail, or a line of the MTA's log or of ours
    #[arg(required = true)]
    id: Vec<String>,
    /// Of the text; without it the locale's
    #[arg(long, value_enum)]
    language: Option<words::Language>,
}

pub(super) fn history(global: &Global, options: &History, out: &mut dyn Write) -> Done {
    let query = options.filter.query(options.since.as_deref());
    let mut unreadable = 0_u64;
    let path = format!("/v1/history{query}");
    Daemon::of(global)?.stream(&path, &mut |line| {
        unreadable += u64::from(!print(global, line, out)?);
        Ok(())
    })?;
    match unreadable {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::Data,
            format!("{count} records cannot be read"),
        )),
    }
}

pub(super) fn tail(global: &Global, filter: &Filter, out: &mut dyn Write) -> Done {
    let path = format!("/v1/tail{}", filter.query(None));
    Daemon::of(global)?.stream(&path, &mut |line| {
        print(global, line, out)?;
        Ok(out.flush()?)
    })?;
    Err(Failure::new(Exit::Unavailable, "the daemon has stopped"))
}

pub(super) fn why(global: &Global, options: &Why, out: &mut dyn Write) -> Done {
    let daemon = Daemon::of(global)?;
    for id in ids(&options.id.join(" ")) {
        let record = daemon.one(Method::GET, &item("why", id)?, None)?;
        if global.json {
            writeln!(out, "{}", text::json(&record))?;
        } else {
            decision::write(&record, words::language(options.language), out)?;
        }
    }
    Ok(())
}

/// One record, or what stands in the place of one; false for one that cannot be read.
fn print(global: &Global, line: &[u8], out: &mut dyn Write) -> Result<bool, Failure> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| Failure::new(Exit::Software, error.to_string()))?;
    if global.json {
        writeln!(out, "{}", text::json(&value))?;
    } else if let Some(missed) = value["left_out"].as_u64().filter(|_| value["id"].is_null()) {
        writeln!(out, "{missed} mails were left out: this reader is too slow")?;
    } else if let Some(error) = value["error"].as_str() {
        writeln!(out, "a record cannot be read: {}", text::clean(error))?;
    } else {
        writeln!(out, "{}", text::record(&value))?;
    }
    Ok(value["schema"] != "sekimori.unreadable/1")
}

/// How our own log names an id, as logfmt and as JSON.
const LOGGED: [&str; 2] = ["id=", "\"id\":\""];

/// Every id that our own log names in the text, else every one behind `q=`; the whole text where there
/// is none. Ours come first, since a line of ours may have the next hop's `q=` in it.
fn ids(text: &str) -> Vec<&str> {
    let own = LOGGED.iter().flat_map(|mark| behind(mark, text));
    let own: Vec<&str> = own.collect();
    if !own.is_empty() {
        return own;
    }
    let replied: Vec<&str> = behind("q=", text).collect();
    match replied.is_empty() {
        true => vec![text.trim().trim_start_matches("q=")],
        false => replied,
    }
}

fn behind<'a>(mark: &'a str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.match_indices(mark).filter_map(move |(at, mark)| {
        let begins = !text.get(..at)?.ends_with(is_part);
        let rest = text.get(at + mark.len()..)?;
        let id = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        (begins && id.parse::<Id>().is_ok()).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn an_id_is_found_in_what_is_pasted() {
        let (a, b) = ("01arz3ndektsv4rrffq69g5fav", "01arz3ndektsv4rrffq69g5faw");
        let rows = [
            (a.to_owned(), vec![a]),
            (format!(" {a}\n"), vec![a]),
            (format!("q={a}"), vec![a]),
            (
                format!("250 2.0.0 <taro@east.example.jp> q={a} verdict=deliver"),
                vec![a],
            ),
            (
                format!(
                    "postfix/lmtp[7]: 4bQ: to=<t@e>, seq=1, status=sent (250 2.0.0 <t@e> q={a} verdict=quarantine stage=spam)"
                ),
                vec![a],
            ),
            (format!("250 2.0.0 q={a} q={b} verdict=mixed"), vec![a, b]),
            (format!("q={a},{b}"), vec![a]),
            (
                format!(
                    "level=info message=mail id={a} recipient=t@e message_id=<q={b}@x> reply=250"
                ),
                vec![a],
            ),
            (
                format!(
                    "message=sent id={a} kind=forward reply=\"250 2.0.0 <t@e> q={b} verdict=deliver\""
                ),
                vec![a],
            ),
            (
                format!("{{\"level\":\"INFO\",\"id\":\"{a}\",\"message_id\":\"{b}\"}}"),
                vec![a],
            ),
            (
                format!("cleanup[9]: message-id={b} q={a} verdict=deliver"),
                vec![a],
            ),
            (format!("seq={a}"), vec![format!("seq={a}").leak()]),
            ("q=short".to_owned(), vec!["short"]),
            ("nothing".to_owned(), vec!["nothing"]),
        ];
        for (text, expected) in rows {
            assert_eq!(ids(&text), expected, "{text}");
        }
    }
}
