//! A folder with settings, the daemon that runs on it, and the commands that ask it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::session::{Answer, Session};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sekimori");

/// Long enough for a loaded machine; a passing test does not wait for it.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

pub(crate) const TARO: &str = "taro@east.example.jp";
pub(crate) const JIRO: &str = "jiro@east.example.jp";

/// Settings that do little; a test replaces the lines that it is about.
const SETTINGS: &str = r#"version: 1
server:
  hostname: mx.example.jp
  default_domain: east.example.jp
  listeners:
    - {name: lmtp, protocol: lmtp, listen: "127.0.0.1:0", clients: [127.0.0.0/8]}
    - {name: smtp, protocol: smtp, listen: "127.0.0.1:0", clients: [127.0.0.0/8]}
    - {name: local, protocol: lmtp, listen: lmtp.sock}
  limits: {message_size: 1MiB}
mailboxes:
  dir: mailboxes
  domains: [east.example.jp, west.example.jp]
  unknown: accept
delivery:
  method: maildir
  maildir: {path: "mail/%{domain}/%{localpart}", fsync: true}
relay:
  host: 127.0.0.1
  port: 9
  retry: {first: 1s, factor: 1, longest: 1s, give_up: 1h}
  from: "Mail filter <mailer-daemon@example.jp>"
  reply_to: postmaster@example.jp
scanners:
  virus:
    engine: upstream
    upstream: {header: X-Virus-Status, infected: Infected}
  spam:
    engine: upstream
    upstream: {header: X-Spam-Flag, spam: "YES"}
store: {path: state}
quarantine: {retention: 7d}
logging: {target: stderr, format: logfmt, level: info}
control: {socket: control.sock, mode: "0660"}
"#;

/// Asks `probe` until it answers; panics with `what` when it never does.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < give_up, "never happened: {what}");
        std::thread::sleep(POLL);
    }
}

/// Every line end as CRLF.
pub(crate) fn crlf(text: &str) -> Vec<u8> {
    text.replace("\r\n", "\n")
        .replace('\n', "\r\n")
        .into_bytes()
}

/// A short mail from `from` to taro; the subject is written as it is.
pub(crate) fn mail(from: &str, subject: &str) -> Vec<u8> {
    crlf(&format!(
        "Received: by mta.example.net id {}; Sun, 22 Nov 2026 09:00:00 +0900\n\
         From: {from}\nTo: {TARO}\nSubject: {subject}\nMessage-ID: <m1@sender.example>\n\nHello.\n",
        unique()
    ))
}

/// A number that no other call gives: no two mails of a test are the same hand-off by accident.
fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A folder with a daemon file and mailbox files, for commands that need no daemon.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    settings: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sekimori-test-")
            .tempdir()
            .unwrap();
        let site = Self {
            folder,
            settings: SETTINGS.to_owned(),
        };
        fs::create_dir(site.path("mailboxes")).unwrap();
        site.write("sekimori.yaml", &site.settings);
        site
    }

    /// The same with one piece of the daemon file replaced.
    pub(crate) fn with(mut self, from: &str, to: &str) -> Self {
        self.replace(from, to);
        self
    }

    /// The same with a relay on that port.
    pub(crate) fn with_relay(self, port: u16) -> Self {
        self.with("port: 9\n", &format!("port: {port}\n"))
    }

    /// The same with a mailbox file; `version: 1` is put before `settings`.
    pub(crate) fn with_mailbox(self, mailbox: &str, settings: &str) -> Self {
        self.set_mailbox(mailbox, settings);
        self
    }

    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        assert_eq!(self.settings.matches(from).count(), 1, "{from:?}");
        self.settings = self.settings.replace(from, to);
        self.write("sekimori.yaml", &self.settings);
    }

    /// Writes a mailbox file as an editor does: beside, then renamed.
    pub(crate) fn set_mailbox(&self, mailbox: &str, settings: &str) {
        let (local, domain) = mailbox.split_once('@').unwrap();
        let folder = self.path("mailboxes").join(domain);
        fs::create_dir_all(&folder).unwrap();
        let beside = folder.join(format!(".{local}.tmp"));
        fs::write(&beside, format!("version: 1\n{settings}")).unwrap();
        fs::rename(&beside, folder.join(format!("{local}.yaml"))).unwrap();
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs one command on these settings to its end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Done {
        self.cli_with_input(arguments, b"")
    }

    pub(crate) fn cli_with_input(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--config")
            .arg(self.path("sekimori.yaml"))
            .args(arguments);
        Done::of(command.current_dir(self.folder.path()), input)
    }

    /// Runs one command with `--json` that must succeed; an object for each line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        self.cli(&[arguments, &["--json"]].concat())
            .success()
            .json()
    }

    /// Runs one command with `--json` that must print one object.
    pub(crate) fn one(&self, arguments: &[&str]) -> Value {
        let mut values = self.json(arguments);
        assert_eq!(values.len(), 1, "{values:?}");
        values.remove(0)
    }

    /// Starts `run` and returns before it is ready.
    pub(crate) fn spawn(&self) -> Child {
        Command::new(PROGRAM)
            .arg("--config")
            .arg(self.path("sekimori.yaml"))
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("stderr.log")).unwrap())
            .spawn()
            .unwrap()
    }

    pub(crate) fn start(self) -> Daemon {
        let child = self.spawn();
        let mut daemon = Daemon { site: self, child };
        daemon.await_ready();
        daemon
    }

    /// The mails in the Maildir of a mailbox.
    pub(crate) fn mailbox(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let (local, domain) = mailbox.split_once('@').unwrap();
        let maildir = self.path("mail").join(domain).join(local);
        let mut files: Vec<PathBuf> = ["new", "cur"]
            .iter()
            .flat_map(|folder| files(&maildir.join(folder)))
            .collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// The only mail in the Maildir of a mailbox, once it is there.
    pub(crate) fn await_mail(&self, mailbox: &str) -> Vec<u8> {
        let mut mails = eventually(&format!("a mail in {mailbox}"), || {
            Some(self.mailbox(mailbox)).filter(|mails| !mails.is_empty())
        });
        assert_eq!(mails.len(), 1, "one mail in {mailbox}");
        mails.remove(0)
    }
}

/// All files directly in a folder; none where it does not exist.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).collect()
}

/// All files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = files(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        }
    }
    found
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(command: &mut Command, input: &[u8]) -> Self {
        let mut child = command
            .env_remove("SEKIMORI_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have closed its end.
        let _ = child.stdin.take().unwrap().write_all(input);
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        Self {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.exit(0)
    }

    #[track_caller]
    pub(crate) fn exit(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "{}\n{}",
            self.stderr,
            String::from_utf8_lossy(&self.stdout)
        );
        self
    }

    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let schema = value["schema"].as_str().unwrap_or_default();
            assert!(
                schema.starts_with("sekimori.") && schema.ends_with("/1"),
                "{line}"
            );
            value
        };
        self.text().lines().map(parse).collect()
    }
}

/// A running daemon; it is killed with the value.
pub(crate) struct Daemon {
    pub(crate) site: Site,
    child: Child,
}

impl std::ops::Deref for Daemon {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Daemon {
    fn await_ready(&mut self) {
        let log = self.site.path("stderr.log");
        eventually("the daemon says ready", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended: {status}\n{text}");
            }
            text.lines().any(|line| line == "ready").then_some(())
        });
    }

    /// The address where the listener of that name listens, from the log.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        let log = self.log();
        let port = log.lines().find_map(|line| {
            let (_, address) = line
                .contains(&format!("name={listener} "))
                .then(|| line.split_once("address=127.0.0.1:"))??;
            let digits = address.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        port.unwrap_or_else(|| panic!("no {listener} in:\n{log}"))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.site.path("stderr.log")).unwrap()
    }

    /// An LMTP session over TCP.
    pub(crate) fn lmtp(&self) -> Session {
        Session::tcp(self.port("lmtp"))
    }

    /// An SMTP session.
    pub(crate) fn smtp(&self) -> Session {
        Session::tcp(self.port("smtp"))
    }

    /// An LMTP session over the Unix socket.
    pub(crate) fn local(&self) -> Session {
        Session::unix(&self.site.path("lmtp.sock"))
    }

    /// Hands a mail over by LMTP; a reply for each recipient.
    pub(crate) fn hand_over(&self, sender: &str, recipients: &[&str], mail: &[u8]) -> Vec<Answer> {
        self.lmtp().hand_over(sender, recipients, mail)
    }

    /// Hands a mail over for one mailbox.
    pub(crate) fn give(&self, sender: &str, recipient: &str, mail: &[u8]) -> Answer {
        self.hand_over(sender, &[recipient], mail).remove(0)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
            .unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) fn await_end(&mut self) -> ExitStatus {
        eventually("the daemon ends", || self.child.try_wait().unwrap())
    }

    /// SIGKILL, as a crash would end it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same folder, after it has ended.
    pub(crate) fn start_again(&mut self) {
        self.child = self.site.spawn();
        self.await_ready();
    }

    /// The queue as `queue list --json` shows it.
    pub(crate) fn queue(&self) -> Vec<Value> {
        self.json(&["queue", "list"])
    }

    /// The quarantine as `quarantine list --json` shows it.
    pub(crate) fn quarantine(&self) -> Vec<Value> {
        self.json(&["quarantine", "list"])
    }

    /// Waits until nothing is left to be sent.
    pub(crate) fn await_empty_queue(&self) {
        eventually("the queue is empty", || {
            self.queue().is_empty().then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
