//! `sekimori mailbox`: which mailboxes have settings, what they are, and any key of them changed.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::change::{self, Outcome, Target};
use super::{Done, Exit, Failure, Global, config_of, editor, text};
use crate::config::edit::{
    ForwardCounts, Overview, ReplySwitches, Session, Value, overview_of_file,
};
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

/// The rows of `mailbox show`.
fn members(overview: &Overview) -> [(&'static str, String); 12] {
    let Overview {
        reject,
        allow,
        spam,
        notify,
        auto_reply,
        ..
    } = overview;
    let is_on = |name: &str| overview.on.contains(&name);
    let file = overview.file.as_deref();
    let rejects = format!(
        "{} from, {} subject, {} header",
        reject.from_suffixes,
        reject.subject_contains,
        reject.headers.len()
    );
    let before = if allow.before_reject {
        ", before reject"
    } else {
        ""
    };
    let allows = format!(
        "{} senders, {} verified senders{before}",
        allow.senders, allow.verified_senders
    );
    let held = if spam.quarantine { "held" } else { "marked" };
    let includes = match spam.notice {
        "off" => String::new(),
        _ => format!(" of {}", spam.notice_includes.join(", ")),
    };
    let spam_words = format!("{held}, notice {}{includes}", spam.notice);
    let replies = times_and_texts(auto_reply);
    [
        ("mailbox", overview.mailbox.clone()),
        (
            "file",
            file.unwrap_or("none: the defaults count").to_owned(),
        ),
        ("language", overview.language.to_owned()),
        ("timezone", overview.timezone.clone()),
        ("announcements", state(overview.announcements, "")),
        ("reject", state(is_on("reject"), &rejects)),
        ("allow", state(is_on("allow"), &allows)),
        ("virus", state(overview.virus_scan, "")),
        ("spam", state(spam.scan, &spam_words)),
        ("forwarding", forwards(&overview.forwarding)),
        ("notify", state(is_on("notify"), &notify.to.join(", "))),
        ("auto_reply", state(auto_reply.enabled, &replies)),
    ]
}

fn state(on: bool, more: &str) -> String {
    match (on, more) {
        (false, _) => "off".to_owned(),
        (true, "") => "on".to_owned(),
        (true, more) => format!("on, {more}"),
    }
}

fn times_and_texts(reply: &ReplySwitches) -> String {
    let time = |name: &str, time: &Option<String>| Some(format!("{name} {}", time.as_ref()?));
    let times = [time("from", &reply.start), time("to", &reply.end)];
    let texts = format!("{} texts for some senders", reply.per_sender);
    let words: Vec<String> = times.into_iter().flatten().chain([texts]).collect();
    words.join(", ")
}

fn forwards(counts: &ForwardCounts) -> String {
    let ForwardCounts {
        mode,
        targets,
        rules,
    } = counts;
    match *mode {
        "off" => format!("off ({rules} rules)"),
        "all" => format!("all, {targets} targets"),
        mode => format!("{mode}, {rules} rules, {targets} targets"),
    }
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
