//! The command line: one definition of every command, one file a command.
//!
//! A command writes its result to the given output and returns; only `main.rs` owns the process's
//! streams and its exit code.

mod admin;
mod allow;
mod auto_reply;
mod change;
mod check;
mod client;
mod config;
mod decision;
mod demo;
mod dry_run;
mod editor;
mod explain;
mod facts;
mod forward;
mod history;
mod mailbox;
mod manual;
mod notify;
mod reject;
mod replay;
mod run;
mod scan_words;
mod sieve;
mod store;
mod test;
mod text;
mod words;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, Loaded};

/// The exit codes of sysexits.h that we use (CONTRACT section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// A case of `test` failed, or warnings under `--deny-warnings`.
    Failed = 1,
    /// `EX_USAGE`.
    Usage = 64,
    /// `EX_DATAERR`.
    Data = 65,
    /// `EX_NOINPUT`: no such file or id.
    NoInput = 66,
    /// `EX_NOUSER`: no such mailbox.
    NoUser = 67,
    /// `EX_UNAVAILABLE`: the daemon does not run.
    Unavailable = 69,
    /// `EX_SOFTWARE`: a bug of ours.
    Software = 70,
    /// `EX_IOERR`.
    Io = 74,
    /// `EX_TEMPFAIL`.
    TempFail = 75,
    /// `EX_NOPERM`.
    Permission = 77,
    /// `EX_CONFIG`.
    Config = 78,
}

/// Why a command ended badly. An empty message means that all was said already. Displays without
/// what could repaint a terminal.
#[derive(Debug, thiserror::Error)]
#[error("{}", text::clean_lines(.message))]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// For stderr.
    pub message: String,
    /// The message begins with the place of a mistake (`FILE:LINE:COL:`), as an editor reads it: the
    /// name of the program does not stand before it.
    pub has_place: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            has_place: false,
        }
    }

    /// Findings, each with its place.
    pub(crate) fn findings(exit: Exit, found: &[String]) -> Self {
        Self {
            has_place: true,
            ..Self::new(exit, found.join("\n"))
        }
    }

    /// An I/O error on something named, with the exit code that its kind calls for.
    pub(crate) fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NoInput,
            std::io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::Io,
        };
        Self::new(exit, format!("{what}: {error}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // The reader (`head`, a pager) has seen enough.
            return Self::new(Exit::Ok, "");
        }
        Self::io("output", &error)
    }
}

/// Result of a command.
pub(crate) type Done = Result<(), Failure>;

/// Mail filtering daemon between an MTA and the mailbox.
#[derive(Debug, Parser)]
#[command(name = "sekimori", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The daemon file
    #[arg(
        long,
        global = true,
        env = "SEKIMORI_CONFIG",
        default_value = "/etc/sekimori/sekimori.yaml"
    )]
    pub(crate) config: PathBuf,
    /// One JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only errors
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Colours on a terminal
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(crate) color: Color,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon, in the foreground
    Run,
    /// A daemon in a fresh folder that hands itself sample mails and shows what became of each
    Demo(demo::Options),
    /// Every error and warning of the settings files
    Check(check::Options),
    /// What the settings of a mailbox would do with a mail, and why
    Explain(explain::Options),
    /// Rule tests: mails, and what must become of them
    Test(test::Options),
    /// What became of each mail, oldest first
    History(history::History),
    /// The why-record of a mail: what decided and what was done
    Why(history::Why),
    /// What draft settings of a mailbox would have done with its mail of the last days
    Replay(replay::Options),
    /// Mail that is held
    #[command(subcommand)]
    Quarantine(admin::Quarantine),
    /// Outgoing forwards, notices, replies, releases
    #[command(subcommand)]
    Queue(admin::Queue),
    /// Which mailboxes have settings; one of them shown, changed, edited
    #[command(subcommand)]
    Mailbox(mailbox::Mailbox),
    /// Mail that a mailbox does not want: by sender, Subject, missing header
    #[command(subcommand)]
    Reject(reject::Reject),
    /// Senders whose mail skips a mailbox's spam stage
    #[command(subcommand)]
    Allow(allow::Allow),
    /// Where a mailbox's mail is sent on to
    #[command(subcommand)]
    Forward(forward::Forward),
    /// Who is told of a mailbox's new mail
    #[command(subcommand)]
    Notify(notify::Notify),
    /// What a mailbox answers by itself
    #[command(subcommand)]
    AutoReply(auto_reply::AutoReply),
    /// The settings that count, an example of them, and their schema
    #[command(subcommand)]
    Config(config::Command),
    /// Settings as Sieve (RFC 5228), and Sieve as settings
    #[command(subcommand)]
    Sieve(sieve::Command),
    /// What the daemon is doing
    Status,
    /// Reads the settings again; a bad file keeps the old ones
    Reload {
        /// Return when the new settings count
        #[arg(long)]
        wait: bool,
    },
    /// What becomes of each mail from now on, until it is interrupted
    Tail(history::Filter),
    /// The store's files and index
    #[command(subcommand)]
    Store(store::Command),
    /// What a shell needs to complete commands and options
    Completions {
        /// Whose
        shell: manual::Shell,
    },
    /// The manual page of the program or of a command (`man quarantine list`)
    Man {
        /// Which command
        command: Vec<String>,
    },
}

/// Runs one command.
///
/// # Errors
/// [`Failure`] with the exit code and what to print on stderr.
pub fn execute(cli: &Cli, out: &mut dyn Write) -> Done {
    let global = &cli.global;
    match &cli.command {
        Command::Run => run::run(global),
        Command::Demo(options) => demo::demo(global, options, out),
        Command::Check(options) => check::check(global, options, out),
        Command::Explain(options) => explain::explain(global, options, out),
        Command::Test(options) => test::test(global, options, out),
        Command::History(options) => history::history(global, options, out),
        Command::Why(options) => history::why(global, options, out),
        Command::Replay(options) => replay::replay(global, options, out),
        Command::Quarantine(command) => admin::quarantine(global, command, out),
        Command::Queue(command) => admin::queue(global, command, out),
        Command::Mailbox(command) => mailbox::mailbox(global, command, out),
        Command::Reject(command) => reject::reject(global, command, out),
        Command::Allow(command) => allow::allow(global, command, out),
        Command::Forward(command) => forward::forward(global, command, out),
        Command::Notify(command) => notify::notify(global, command, out),
        Command::AutoReply(command) => auto_reply::auto_reply(global, command, out),
        Command::Config(command) => config::config(global, command, out),
        Command::Sieve(command) => sieve::sieve(global, command, out),
        Command::Status => admin::status(global, out),
        Command::Reload { wait } => admin::reload(global, *wait, out),
        Command::Tail(filter) => history::tail(global, filter, out),
        Command::Store(command) => store::store(global, command, out),
        Command::Completions { shell } => manual::completions(*shell, out),
        Command::Man { command } => manual::man(command, out),
    }
}

/// The settings of the daemon file that `--config` names.
pub(crate) fn config_of(global: &Global) -> Result<Config, Failure> {
    load(global).map(|loaded| loaded.config)
}

/// The daemon file that `--config` names; one that is not there is no error of settings.
pub(crate) fn load(global: &Global) -> Result<Loaded, Failure> {
    let path = &global.config;
    std::fs::metadata(path).map_err(|error| no_daemon_file(path, &error))?;
    crate::config::load(path).map_err(|errors| check::refused(&errors))
}

fn no_daemon_file(path: &Path, error: &std::io::Error) -> Failure {
    let mut failure = Failure::io(path.display(), error);
    if failure.exit == Exit::NoInput {
        failure.message += "; name the daemon file by --config or $SEKIMORI_CONFIG";
    }
    failure
}
