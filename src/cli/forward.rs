//! `sekimori forward`: where a mailbox's mail is sent on to, all of it or by rules.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};

use super::change::{self, Outcome, Target};
use super::{Done, Exit, Failure, Global, text};
use crate::config::edit::{Change, EditError, ForwardView, List, RuleView, Session, Value, path};

const RULES: &str = "forwarding.rules";

#[derive(Debug, Subcommand)]
pub(super) enum Forward {
    /// Where mail is sent on to
    Show {
        /// Whose settings; a name without @ gets server.default_domain
        #[arg(long)]
        mailbox: String,
    },
    /// Sends nothing on; targets and rules stay for later
    Off {
        #[command(flatten)]
        target: Target,
    },
    /// Sends all mail on; without --to to the targets that are there
    All {
        #[command(flatten)]
        target: Target,
        /// Where to; several times for several
        #[arg(long)]
        to: Vec<String>,
        /// Keep a copy in the mailbox
        #[arg(long, value_name = "true|false")]
        keep_copy: Option<bool>,
        /// Really: the rules that are there are removed
        #[arg(long)]
        yes: bool,
    },
    /// Adds a rule; forwarding of all mail ends
    Add(Box<Rule>),
    /// Removes a rule
    Remove {
        #[command(flatten)]
        target: Target,
        /// Its number or its name
        rule: String,
    },
    /// Leaves a rule out until it is resumed
    Pause {
        #[command(flatten)]
        target: Target,
        /// Its number or its name
        rule: String,
    },
    /// Takes a paused rule up again; without one, all rules after `off`
    Resume {
        #[command(flatten)]
        target: Target,
        /// Its number or its name
        rule: Option<String>,
    },
    /// Moves a rule: the first that matches counts
    Move {
        #[command(flatten)]
        target: Target,
        /// Its number or its name
        rule: String,
        /// The number that it has then
        to: usize,
    },
}

/// A new rule.
#[derive(Debug, Args)]
pub(super) struct Rule {
    #[command(flatten)]
    target: Target,
    /// For you
    #[arg(long)]
    name: Option<String>,
    /// Its number; without it the last
    #[arg(long)]
    at: Option<usize>,
    /// Whether all of its conditions must hold, or any
    #[arg(long = "match", value_enum)]
    matching: Option<Match>,
    /// The Subject contains it; several times for several
    #[arg(long)]
    subject: Vec<String>,
    /// The From address ends with it; several times for several
    #[arg(long)]
    from: Vec<String>,
    /// Has an attachment, or has none
    #[arg(long, value_name = "true|false")]
    attachment: Option<bool>,
    /// So large or larger, such as 5MiB
    #[arg(long, conflicts_with = "at_most")]
    at_least: Option<String>,
    /// So large or smaller
    #[arg(long)]
    at_most: Option<String>,
    /// Where to; several times for several
    #[arg(long, required = true)]
    to: Vec<String>,
    /// Keep a copy in the mailbox
    #[arg(long, value_name = "true|false")]
    keep_copy: Option<bool>,
    /// Add it paused
    #[arg(long)]
    paused: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Match {
    All,
    Any,
}

pub(super) fn forward(global: &Global, command: &Forward, out: &mut dyn Write) -> Done {
    match command {
        Forward::Show { mailbox } => show(global, mailbox, out),
        Forward::Off { target } => change::change(global, target, out, |session, _| {
            let mut outcome = Outcome::default();
            if session.forwarding().mode != "off" {
                mode(session, "off", &mut outcome)?;
            }
            Ok(outcome)
        }),
        Forward::All {
            target,
            to,
            keep_copy,
            yes,
        } => change::change(global, target, out, |session, config| {
            let given = ("--to", to.join("\n").into_bytes());
            let to = change::checked(List::ForwardTo, config, given)?;
            all(session, to, *keep_copy, *yes)
        }),
        Forward::Add(rule) => {
            change::change(global, &rule.target, out, |session, _| add(session, rule))
        }
        Forward::Remove { target, rule } => change::change(global, target, out, |session, _| {
            let rule = find(session, rule)?;
            own_rules(session)?;
            let mut outcome = Outcome::default();
            outcome.removed.push(title(&rule));
            if session.forwarding().rules.len() > 1 {
                let index = [rule.number - 1].into();
                session.change(&Change::Take(rules(), index))?;
                return Ok(outcome);
            }
            session.unset(RULES)?;
            if session.forwarding().mode == "rules" {
                mode(session, "off", &mut outcome)?;
                outcome.note("that was the last rule: nothing is sent on now");
            }
            Ok(outcome)
        }),
        Forward::Pause { target, rule } => {
            change::change(global, target, out, |session, _| pause(session, rule, true))
        }
        Forward::Resume { target, rule } => {
            change::change(global, target, out, |session, _| match rule {
                Some(rule) => pause(session, rule, false),
                None => resume(session),
            })
        }
        Forward::Move { target, rule, to } => {
            change::change(global, target, out, |session, _| shift(session, rule, *to))
        }
    }
}

fn rules() -> Vec<crate::config::edit::Step> {
    path(RULES).unwrap_or_default()
}

fn word(word: &str) -> Value {
    Value::Word(word.to_owned())
}

fn flag(on: bool) -> Value {
    Value::Word(on.to_string())
}

fn mode(session: &mut Session<'_>, mode: &str, outcome: &mut Outcome) -> Result<(), EditError> {
    outcome.set.insert("forwarding.mode".into(), json!(mode));
    session.set("forwarding.mode", word(mode))
}

fn all(
    session: &mut Session<'_>,
    to: Vec<String>,
    keep_copy: Option<bool>,
    yes: bool,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let before = session.forwarding();
    if to.is_empty() && before.to.is_empty() {
        return Err(Failure::new(Exit::Usage, "say where to: --to ADDRESS"));
    }
    if session.has(RULES) {
        if !yes {
            let words = format!(
                "{} rules would be removed, since rules and forwarding of all mail exclude each other: say --yes",
                before.rules.len()
            );
            return Err(Failure::new(Exit::Usage, words));
        }
        session.unset(RULES)?;
        outcome.removed.extend(before.rules.iter().map(title));
    }
    if let Some(keep) = keep_copy {
        session.set("forwarding.all.keep_copy", flag(keep))?;
        outcome
            .set
            .insert("forwarding.all.keep_copy".into(), json!(keep));
    }
    if !to.is_empty() {
        outcome.set.insert("forwarding.all.to".into(), json!(to));
        session.replace(List::ForwardTo, to)?;
    }
    mode(session, "all", &mut outcome)?;
    Ok(outcome)
}

/// Rules count: forwarding of all mail ends (MANUAL A03, A04).
fn rules_on(session: &mut Session<'_>, outcome: &mut Outcome) -> Result<(), EditError> {
    let before = session.forwarding();
    if session.unset("forwarding.all")? {
        outcome.note(format!(
            "forwarding of all mail to {} is removed: rules and it exclude each other",
            before.to.join(", ")
        ));
        outcome.removed.extend(before.to);
    }
    if before.mode != "rules" {
        mode(session, "rules", outcome)?;
    }
    Ok(())
}

fn add(session: &mut Session<'_>, rule: &Rule) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let there = session.forwarding().rules.len();
    if there > 0 {
        own_rules(session)?;
    }
    let index = match rule.at {
        Some(0) => return Err(Failure::new(Exit::Usage, "--at counts from 1")),
        Some(number) => number - 1,
        None => there,
    };
    session.change(&Change::Insert(rules(), index.min(there), value(rule)))?;
    if let Some(rule) = session.forwarding().rules.get(index.min(there)) {
        outcome.added.push(title(rule));
    }
    rules_on(session, &mut outcome)?;
    Ok(outcome)
}

fn value(rule: &Rule) -> Value {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    let mut put = |key: &str, value: Option<Value>| {
        pairs.extend(value.map(|value| (key.to_owned(), value)));
    };
    let lines = |lines: &[String]| (!lines.is_empty()).then(|| Value::patterns(lines));
    let text = |text: &Option<String>| text.clone().map(Value::Text);
    let bound = |key: &str, size: &Option<String>| {
        let size = Value::Text(size.clone()?);
        Some(Value::Map(vec![(key.to_owned(), size)]))
    };
    put("name", text(&rule.name));
    put("paused", rule.paused.then(|| flag(true)));
    put(
        "match",
        rule.matching.map(|matching| match matching {
            Match::All => word("all"),
            Match::Any => word("any"),
        }),
    );
    put("subject_contains", lines(&rule.subject));
    put("from_suffixes", lines(&rule.from));
    put("attachment", rule.attachment.map(flag));
    let size = bound("at_least", &rule.at_least);
    put("size", size.or_else(|| bound("at_most", &rule.at_most)));
    let to = rule.to.iter().cloned().map(Value::Text).collect();
    put("to", Some(Value::List(to)));
    put("keep_copy", rule.keep_copy.map(flag));
    Value::Map(pairs)
}

fn pause(session: &mut Session<'_>, rule: &str, paused: bool) -> Result<Outcome, Failure> {
    let rule = find(session, rule)?;
    own_rules(session)?;
    let mut outcome = Outcome::default();
    if rule.paused != paused {
        let key = format!("{RULES}[{}].paused", rule.number - 1);
        session.set(&key, flag(paused))?;
        outcome.set.insert(key, json!(paused));
    }
    Ok(outcome)
}

fn resume(session: &mut Session<'_>) -> Result<Outcome, Failure> {
    if session.forwarding().rules.is_empty() {
        return Err(Failure::new(Exit::NoInput, "there are no rules"));
    }
    let mut outcome = Outcome::default();
    rules_on(session, &mut outcome)?;
    Ok(outcome)
}

fn shift(session: &mut Session<'_>, rule: &str, to: usize) -> Result<Outcome, Failure> {
    let rule = find(session, rule)?;
    own_rules(session)?;
    let count = session.forwarding().rules.len();
    if to == 0 || to > count {
        let words = format!("a rule has a number from 1 to {count}");
        return Err(Failure::new(Exit::Usage, words));
    }
    let mut outcome = Outcome::default();
    if rule.number != to {
        session.change(&Change::Move(rules(), rule.number - 1, to - 1))?;
        outcome.set.insert(title(&rule), json!(to));
    }
    Ok(outcome)
}

/// The rule of that number or name.
fn find(session: &Session<'_>, wanted: &str) -> Result<RuleView, Failure> {
    let number = wanted.parse::<usize>().ok();
    let rules = session.forwarding().rules;
    let count = rules.len();
    let is = |rule: &RuleView| match number {
        Some(number) => rule.number == number,
        None => rule.name.as_deref() == Some(wanted),
    };
    let mut found = rules.into_iter().filter(is);
    match (found.next(), found.next()) {
        (Some(rule), None) => Ok(rule),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Usage,
            format!("several rules are called {wanted}: say the number"),
        )),
        (None, _) => Err(Failure::new(
            Exit::NoInput,
            format!("no such rule: {wanted} (there are {count})"),
        )),
    }
}

/// Rules of the defaults cannot be changed one by one: a list replaces the one below it.
fn own_rules(session: &Session<'_>) -> Result<(), EditError> {
    match session.has(RULES) {
        true => Ok(()),
        false => Err(EditError::Defaults {
            list: RULES,
            file: None,
        }),
    }
}

fn title(rule: &RuleView) -> String {
    match &rule.name {
        Some(name) => format!("rule {} ({name})", rule.number),
        None => format!("rule {}", rule.number),
    }
}

fn show(global: &Global, mailbox: &str, out: &mut dyn Write) -> Done {
    let (mailbox, view) = change::look(global, mailbox, |session| {
        Ok((session.mailbox().to_string(), session.forwarding()))
    })?;
    if global.json {
        let mut value = json!({"schema": "sekimori.forward/1", "mailbox": mailbox});
        let view = serde_json::to_value(&view).unwrap_or_default();
        if let (Json::Object(value), Json::Object(view)) = (&mut value, view) {
            value.extend(view);
        }
        writeln!(out, "{}", text::json(&value))?;
        return Ok(());
    }
    print(&view, out)
}

fn print(view: &ForwardView, out: &mut dyn Write) -> Done {
    writeln!(out, "mode: {}", view.mode)?;
    if !view.to.is_empty() {
        let to = text::clean(&view.to.join(", "));
        writeln!(out, "all:  to {to}, {}", copy(view.keep_copy))?;
    }
    for rule in &view.rules {
        let paused = if rule.paused { ", paused" } else { "" };
        let to = rule.to.join(", ");
        let name = rule.name.as_deref().unwrap_or("-");
        let line = format!(
            "{}. {name}: to {to}, {}{paused}",
            rule.number,
            copy(rule.keep_copy)
        );
        writeln!(out, "{}", text::clean(&line))?;
        for condition in conditions(rule) {
            writeln!(out, "   {}", text::clean(&condition))?;
        }
    }
    Ok(())
}

fn copy(keep: bool) -> &'static str {
    match keep {
        true => "a copy is kept",
        false => "no copy is kept",
    }
}

fn conditions(rule: &RuleView) -> Vec<String> {
    let mut found = Vec::new();
    for (what, entries) in [
        ("Subject contains", &rule.subject_contains),
        ("From ends with", &rule.from_suffixes),
    ] {
        let shown: Vec<&str> = entries.iter().take(5).map(String::as_str).collect();
        let more = match entries.len().saturating_sub(shown.len()) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        if !shown.is_empty() {
            found.push(format!("{what} {}{more}", shown.join(" | ")));
        }
    }
    found.extend(rule.attachment.map(|has| match has {
        true => "has an attachment".to_owned(),
        false => "has no attachment".to_owned(),
    }));
    found.extend(
        rule.size
            .map(|(bound, size)| format!("size {} {size} octets", bound.replace('_', " "))),
    );
    match (found.len(), rule.matching) {
        (0, _) => vec!["every mail".to_owned()],
        (2.., "any") => found.iter().map(|one| format!("or {one}")).collect(),
        (2.., _) => found.iter().map(|one| format!("and {one}")).collect(),
        _ => found,
    }
}
