//! The commands that ask the running daemon: `quarantine`, `queue`, `status`, `reload`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{self, Answer};
use super::{Done, Exit, Failure, Global, config_of, text};

#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    /// Held mail, oldest first
    List(Filter),
    /// One entry
    Show {
        /// Its id, the `q=` of the reply
        id: String,
    },
    /// The stored octets of a mail, CRLF line ends
    Export {
        /// Its id
        id: String,
        /// Write to this file instead of stdout
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Puts held mail into its mailbox, unmarked; causes no forward, notice or reply
    Release {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
        /// Also adds the sender to the mailbox's allow list
        #[arg(long)]
        allow_sender: bool,
        /// Sends it to this address instead
        #[arg(long)]
        to: Option<String>,
        /// Also tells the spam engine that the mail is no spam (`scanners.spam.learn`)
        #[arg(long)]
        learn: bool,
    },
    /// Removes held mail for good
    Delete {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Removes all held mail that the filter names
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Needed when there is no filter
        #[arg(long)]
        all: bool,
        /// Really
        #[arg(long)]
        yes: bool,
    },
}

/// Which entries.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this mailbox
    #[arg(long)]
    mailbox: Option<String>,
    /// Held by this stage, such as reject.subject_contains
    #[arg(long)]
    stage: Option<String>,
    /// Received since: RFC 3339, a date, or a time span such as 12h or 2d
    #[arg(long)]
    since: Option<String>,
    /// With this reverse path
    #[arg(long)]
    sender: Option<String>,
}

impl Filter {
    fn query(&self) -> String {
        client::query(&[
            ("mailbox", self.mailbox.as_deref()),
            ("stage", self.stage.as_deref()),
            ("since", self.since.as_deref()),
            ("sender", self.sender.as_deref()),
        ])
    }

    fn is_empty(&self) -> bool {
        self.query().is_empty()
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// Outgoing mail, oldest first
    List,
    /// Tries now
    Retry {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Gives up for good
    Drop {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub(super) fn quarantine(global: &Global, command: &Quarantine, out: &mut dyn Write) -> Done {
    let daemon = Daemon::of(global)?;
    match command {
        Quarantine::List(filter) => {
            let entries =
                daemon.lines(Method::GET, &format!("/v1/quarantine{}", filter.query()))?;
            print_list(global, &entries, out, text::held)
        }
        Quarantine::Show { id } => {
            let entry = daemon.one(Method::GET, &item("quarantine", id)?, None)?;
            print_one(global, &entry, out)
        }
        Quarantine::Export { id, output } => export(&daemon, id, output.as_deref(), out),
        Quarantine::Release {
            ids,
            allow_sender,
            to,
            learn,
        } => {
            let body = json!({"allow_sender": allow_sender, "to": to, "learn": learn});
            each(ids, |id| {
                let path = format!("{}/release", item("quarantine", id)?);
                let done = daemon.one(Method::POST, &path, Some(&body))?;
                print_done(global, &done, out)?;
                match done["learn_error"].as_str() {
                    None => Ok(()),
                    Some(error) => {
                        let message = format!("{id} is released, but nothing was learned: {error}");
                        Err(Failure::new(Exit::TempFail, message))
                    }
                }
            })
        }
        Quarantine::Delete { ids } => each(ids, |id| {
            let done = daemon.one(Method::DELETE, &item("quarantine", id)?, None)?;
            print_done(global, &done, out)
        }),
        Quarantine::Purge { filter, all, yes } => {
            if filter.is_empty() && !all {
                return Err(Failure::new(
                    Exit::Usage,
                    "purge without a filter removes everything: say --all",
                ));
            }
            if !yes {
                return Err(Failure::new(
                    Exit::Usage,
                    "purge cannot be undone: say --yes",
                ));
            }
            let done = daemon.one(
                Method::DELETE,
                &format!("/v1/quarantine{}", filter.query()),
                None,
            )?;
            print_done(global, &done, out)
        }
    }
}

fn export(
    daemon: &Daemon,
    id: &str,
    output: Option<&std::path::Path>,
    out: &mut dyn Write,
) -> Done {
    let answer = daemon.call(
        Method::GET,
        &format!("{}/raw", item("quarantine", id)?),
        None,
    )?;
    match output {
        None => out.write_all(&answer.body)?,
        Some(path) => std::fs::write(path, &answer.body)
            .map_err(|error| Failure::io(path.display(), &error))?,
    }
    Ok(())
}

pub(super) fn queue(global: &Global, command: &Queue, out: &mut dyn Write) -> Done {
    let daemon = Daemon::of(global)?;
    match command {
        Queue::List => {
            let items = daemon.lines(Method::GET, "/v1/queue")?;
            print_list(global, &items, out, text::queued)
        }
        Queue::Retry { ids } => each(ids, |id| {
            let done = daemon.one(Method::POST, &format!("{}/retry", item("queue", id)?), None)?;
            print_done(global, &done, out)
        }),
        Queue::Drop { ids } => each(ids, |id| {
            let done = daemon.one(Method::DELETE, &item("queue", id)?, None)?;
            print_done(global, &done, out)
        }),
    }
}

pub(super) fn status(global: &Global, out: &mut dyn Write) -> Done {
    let status = Daemon::of(global)?.one(Method::GET, "/v1/status", None)?;
    print_one(global, &status, out)
}

pub(super) fn reload(global: &Global, wait: bool, out: &mut dyn Write) -> Done {
    // The answer comes when the new settings count, so that waiting is only a matter of telling.
    let done = Daemon::of(global)?.one(Method::POST, "/v1/reload", None)?;
    if global.json {
        writeln!(out, "{}", text::json(&done))?;
    } else if wait && !global.quiet {
        for warning in done["warnings"].as_array().into_iter().flatten() {
            writeln!(out, "{}", warning.as_str().unwrap_or_default())?;
        }
        for key in done["needs_restart"].as_array().into_iter().flatten() {
            writeln!(
                out,
                "{} changed: counts after a restart",
                key.as_str().unwrap_or_default()
            )?;
        }
        writeln!(out, "reloaded")?;
    }
    Ok(())
}

/// The daemon of the settings in force.
pub(super) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    pub(super) fn of(global: &Global) -> Result<Self, Failure> {
        Ok(Self {
            socket: config_of(global)?.control.socket,
        })
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let answer = client::call(&self.socket, method, path, body)?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(refused(&answer)),
        }
    }

    /// Gives each object of a list to `each` as it comes, as its JSON.
    pub(super) fn stream(&self, path: &str, each: &mut dyn FnMut(&[u8]) -> Done) -> Done {
        match client::lines(&self.socket, path, each)? {
            None => Ok(()),
            Some(answer) => Err(refused(&answer)),
        }
    }

    pub(super) fn one(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let answer = self.call(method, path, body)?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::new(Exit::Software, error.to_string()))
    }

    fn lines(&self, method: Method, path: &str) -> Result<Vec<Value>, Failure> {
        let answer = self.call(method, path, None)?;
        serde_json::Deserializer::from_slice(&answer.body)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(Exit::Software, error.to_string()))
    }
}

/// The failure that an answer stands for.
fn refused(answer: &Answer) -> Failure {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = problem["error"]
        .as_str()
        .unwrap_or("the daemon gave no reason");
    let exit = match answer.status {
        StatusCode::NOT_FOUND => Exit::NoInput,
        StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::FORBIDDEN => Exit::Permission,
        StatusCode::CONFLICT => Exit::TempFail,
        StatusCode::UNPROCESSABLE_ENTITY => Exit::Config,
        StatusCode::INSUFFICIENT_STORAGE => Exit::Io,
        _ => Exit::Software,
    };
    Failure::new(exit, message)
}

/// The path of one entry; an id is letters and digits, nothing that could be a path of its own.
pub(super) fn item(what: &str, id: &str) -> Result<String, Failure> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Failure::new(
            Exit::NoInput,
            format!("no such id: {}", id.escape_debug()),
        ));
    }
    Ok(format!("/v1/{what}/{id}"))
}

/// Does all, and fails at the end with the first failure.
fn each(ids: &[String], mut one: impl FnMut(&str) -> Done) -> Done {
    let failures: Vec<Failure> = ids.iter().filter_map(|id| one(id).err()).collect();
    let messages: Vec<&str> = failures
        .iter()
        .map(|failure| failure.message.as_str())
        .collect();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(first.exit, messages.join("\n"))),
    }
}

fn print_list(
    global: &Global,
    values: &[Value],
    out: &mut dyn Write,
    line: impl Fn(&Value) -> String,
) -> Done {
    for value in values {
        if global.json {
            writeln!(out, "{}", text::json(value))?;
        } else {
            writeln!(out, "{}", line(value))?;
        }
    }
    Ok(())
}

fn print_one(global: &Global, value: &Value, out: &mut dyn Write) -> Done {
    if global.json {
        writeln!(out, "{}", text::json(value))?;
    } else {
        text::members(value, out)?;
    }
    Ok(())
}

fn print_done(global: &Global, value: &Value, out: &mut dyn Write) -> Done {
    if global.json {
        writeln!(out, "{}", text::json(value))?;
    } else if !global.quiet {
        writeln!(out, "{}", text::done(value))?;
    }
    Ok(())
}
