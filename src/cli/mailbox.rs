//! `sekimori mailbox`: which mailboxes have settings, what they are, and any key of them changed.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::change::{self, Outcome, Target};
use super::{Done, Exit, Failure, Global, config_of, editor, text};
use crate::config::edit::{Overview, Session, Value, overview_of_file};
use crate::config::{Config, Diagnostic, mailbox_files};

#[derive(Debug, Subcommand)]
pub(super) enum Mailbox {
    /// All mailboxes that have a file, and which of their functions are on
    List {
        /// Of this domain only
        #[arg(long)]
        domain: Option<String>,
    },
    /// The status of one mailbox
    Show {
        /// Its address; a name without @ gets server.default_domain
        mailbox: String,
    },
    /// Sets keys of a mailbox's file
    Set {
        /// Its address; a name without @ gets server.default_domain
        mailbox: String,
        /// Such as spam.mark_subject="[spam]"; a list: the same key several times
        #[arg(value_name = "KEY=VALUE", required_unless_present = "unset")]
        values: Vec<String>,
        /// Remove this key, so that the one of mailboxes.defaults counts, or the built-in one
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// Show the difference and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Opens a copy of a mailbox's file in $VISUAL or $EDITOR; it counts when it has no mistake
    Edit {
        /// Its address; a name without @ gets server.default_domain
        mailbox: String,
    },
}

pub(super) fn mailbox(global: &Global, command: &Mailbox, out: &mut dyn Write) -> Done {
    match command {
        Mailbox::List { domain } => list(global, domain.as_deref(), out),
        Mailbox::Show { mailbox } => show(global, mailbox, out),
        Mailbox::Set {
            mailbox,
            values,
            unset,
            dry_run,
        } => {
            let target = Target {
                mailbox: mailbox.clone(),
                dry_run: *dry_run,
            };
            change::change(global, &target, out, |session, _| {
                set(session, values, unset)
            })
        }
        Mailbox::Edit { mailbox } => editor::edit(global, mailbox, out),
    }
}

fn list(global: &Global, domain: Option<&str>, out: &mut dyn Write) -> Done {
    let config = config_of(global)?;
    let mut bad = 0;
    let files = mailbox_files(&config, domain);
    let read = files.chunks(BATCH).flat_map(|batch| {
        let found = overviews(&config, batch);
        batch.iter().zip(found)
    });
    for (path, found) in read {
        let file = path.display().to_string();
        match found {
            Ok(overview) if global.json => writeln!(out, "{}", json_line(&overview))?,
            Ok(Overview { mailbox, on, .. }) => {
                let on = match on.is_empty() {
                    true => "-".to_owned(),
                    false => on.join(","),
                };
                writeln!(
                    out,
                    "{}  {on}  {}",
                    text::clean(&mailbox),
                    text::clean(&file)
                )?;
            }
            Err(found) => {
                bad += 1;
                let errors = found.iter().filter(|d| d.is_error()).count();
                if global.json {
                    let value = json!({
                        "schema": "sekimori.mailbox/1",
                        "mailbox": null,
                        "file": file,
                        "errors": errors,
                    });
                    writeln!(out, "{}", text::json(&value))?;
                } else {
                    writeln!(out, "?  bad, {errors} errors  {}", text::clean(&file))?;
                }
            }
        }
    }
    match bad {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Config,
            format!("{bad} bad files: `sekimori check` names the mistakes"),
        )),
    }
}

/// Files that are read before the first of them is printed.
const BATCH: usize = 1024;

/// The mailboxes of the files, in their order, read by all processors.
fn overviews(config: &Config, batch: &[PathBuf]) -> Vec<Result<Overview, Vec<Diagnostic>>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let part = batch.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let read = |files: &[PathBuf]| -> Vec<_> {
            let overviews = files.iter().map(|path| overview_of_file(config, path));
            overviews.collect()
        };
        let threads: Vec<_> = batch
            .chunks(part)
            .map(|files| scope.spawn(move || read(files)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.flatten().collect()
    })
}

fn json_line(overview: &Overview) -> String {
    let mut value = json!({"schema": "sekimori.mailbox/1"});
    let members = serde_json::to_value(overview).unwrap_or_default();
    if let (Json::Object(value), Json::Object(members)) = (&mut value, members) {
        value.extend(members);
    }
    text::json(&value)
}

fn show(global: &Global, mailbox: &str, out: &mut dyn Write) -> Done {
    let overview = change::look(global, mailbox, |session| Ok(session.overview()?))?;
    if global.json {
        writeln!(out, "{}", json_line(&overview))?;
        return Ok(());
    }
    for (name, value) in members(&overview) {
        writeln!(out, "{:16} {}", format!("{name}:"), text::clean(&value))?;
    }
    Ok(())
}

fn members(overview: &Overview) -> Vec<(&'static str, String)> {
    let Overview {
        reject,
        allow,
        spam,
        forwarding,
        notify,
        auto_reply,
        ..
    } = overview;
    let state = |on: bool, more: String| match (on, more.is_empty()) {
        (false, _) => "off".to_owned(),
        (true, true) => "on".to_owned(),
        (true, false) => format!("on, {more}"),
    };
    let is_on = |name: &str| overview.on.contains(&name);
    let file = overview.file.as_deref();
    let before = if allow.before_reject {
        ", before reject"
    } else {
        ""
    };
    let held = if spam.quarantine { "held" } else { "marked" };
    let time = |name: &str, time: &Option<String>| {
        let time = time.as_ref()?;
        Some(format!("{name} {time}"))
    };
    let times = [time("from", &auto_reply.start), time("to", &auto_reply.end)];
    let reply: Vec<String> = times
        .into_iter()
        .flatten()
        .chain([format!("{} texts for some senders", auto_reply.per_sender)])
        .collect();
    vec![
        ("mailbox", overview.mailbox.clone()),
        (
            "file",
            file.unwrap_or("none: the defaults count").to_owned(),
        ),
        ("language", overview.language.to_owned()),
        ("timezone", overview.timezone.clone()),
        (
            "announcements",
            state(overview.announcements, String::new()),
        ),
        (
            "reject",
            state(
                is_on("reject"),
                format!(
                    "{} from, {} subject, {} header",
                    reject.from_suffixes,
                    reject.subject_contains,
                    reject.headers.len()
                ),
            ),
        ),
        (
            "allow",
            state(
                is_on("allow"),
                format!(
                    "{} senders, {} verified senders{before}",
                    allow.senders, allow.verified_senders
                ),
            ),
        ),
        ("virus", state(overview.virus_scan, String::new())),
        (
            "spam",
            state(spam.scan, format!("{held}, notice {}", spam.notice)),
        ),
        (
            "forwarding",
            match forwarding.mode {
                "off" => format!("off ({} rules)", forwarding.rules),
                "all" => format!("all, {} targets", forwarding.targets),
                mode => format!(
                    "{mode}, {} rules, {} targets",
                    forwarding.rules, forwarding.targets
                ),
            },
        ),
        ("notify", state(is_on("notify"), notify.to.join(", "))),
        ("auto_reply", state(auto_reply.enabled, reply.join(", "))),
    ]
}

/// Lists that are set as a whole.
const LISTS: [&str; 5] = [
    "aliases",
    "reject.headers",
    "notify.to",
    "notify.fields",
    "forwarding.all.to",
];

fn set(session: &mut Session<'_>, values: &[String], unset: &[String]) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut wanted: Vec<(&str, Vec<String>)> = Vec::new();
    for value in values {
        let (key, value) = value.split_once('=').ok_or_else(|| {
            let words = format!("{value}: written as KEY=VALUE, or --unset KEY");
            Failure::new(Exit::Usage, words)
        })?;
        match wanted.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value.to_owned()),
            None => wanted.push((key, vec![value.to_owned()])),
        }
    }
    for key in unset {
        if session.unset(key)? {
            outcome.set.insert(key.clone(), Json::Null);
        }
    }
    for (key, values) in wanted {
        if let Some(command) = own_command(key) {
            let words = format!("{key} is a list: `sekimori {command}`");
            return Err(Failure::new(Exit::Usage, words));
        }
        let told = match &values[..] {
            [value] if !is_list(key) => {
                session.set_scalar(key, value)?;
                json!(value)
            }
            _ if is_list(key) => {
                let items = values.iter().cloned().map(Value::Text).collect();
                session.set(key, Value::List(items))?;
                json!(values)
            }
            _ => {
                let words = format!("{key} is given twice, and is no list");
                return Err(Failure::new(Exit::Usage, words));
            }
        };
        outcome.set.insert(key.to_owned(), told);
    }
    Ok(outcome)
}

fn is_list(key: &str) -> bool {
    LISTS.contains(&key) || key.starts_with("forwarding.rules[") && key.ends_with(".to")
}

/// The command that changes a list entry by entry.
fn own_command(key: &str) -> Option<&'static str> {
    match key {
        "reject.from_suffixes" => Some("reject add --from"),
        "reject.subject_contains" => Some("reject add --subject"),
        "allow.senders" => Some("allow add"),
        "allow.verified_senders" => Some("allow add --verified"),
        "forwarding.rules" => Some("forward add"),
        "auto_reply.per_sender" => Some("auto-reply set --sender"),
        _ => {
            let last = key.rsplit('.').next().unwrap_or_default();
            let patterns = ["from_suffixes", "subject_contains", "senders"].contains(&last);
            patterns.then_some("mailbox edit")
        }
    }
}
