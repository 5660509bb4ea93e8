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
    /// The `q=` of the reply, `q=ID`, or a line of a log that has one in it
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

/// Every id that stands behind `q=`; the whole text where there is none.
fn ids(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    let named = text.match_indices("q=").filter_map(|(at, mark)| {
        let begins = !text.get(..at)?.ends_with(is_part);
        let rest = text.get(at + mark.len()..)?;
        let id = rest.split(|c| !is_part(c)).next()?;
        (begins && id.parse::<Id>().is_ok()).then_some(id)
    });
    let found: Vec<&str> = named.collect();
    match found.is_empty() {
        true => vec![text.trim().trim_start_matches("q=")],
        false => found,
    }
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
            (format!("seq={a}"), vec![format!("seq={a}").leak()]),
            ("q=short".to_owned(), vec!["short"]),
            ("nothing".to_owned(), vec!["nothing"]),
        ];
        for (text, expected) in rows {
            assert_eq!(ids(&text), expected, "{text}");
        }
    }
}
