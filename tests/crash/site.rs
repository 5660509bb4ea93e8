//! The folder that the daemon works on, the daemon itself, and who asks it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::letter::{DOMAIN, mailboxes};

/// Long enough for a loaded machine; a passing test does not wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
/// While it is waited for the moment of a death.
pub(crate) const MOMENT: Duration = Duration::from_micros(300);

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

/// Where kept mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Maildir,
    /// To the LMTP server on that port.
    Lmtp(u16),
}

/// Settings and data of a daemon. Settings and sockets lie in `folder`, all that must last in `disk`.
#[derive(Debug)]
pub(crate) struct Site {
    folder: tempfile::TempDir,
    disk: PathBuf,
}

impl Site {
    /// All in one folder.
    pub(crate) fn new(method: Method, relay: u16, retention: &str) -> Self {
        let folder = temporary();
        let disk = folder.path().to_owned();
        Self::on(folder, disk, method, relay, retention)
    }

    /// What must last lies in `disk`.
    pub(crate) fn on(
        folder: tempfile::TempDir,
        disk: PathBuf,
        method: Method,
        relay: u16,
        retention: &str,
    ) -> Self {
        let (name, port) = match method {
            Method::Maildir => ("maildir", 9),
            Method::Lmtp(port) => ("lmtp", port),
        };
        let at = disk.display();
        let settings = format!(
            r#"version: 1
server:
  hostname: mx.example.jp
  default_domain: {DOMAIN}
  listeners:
    - {{name: lmtp, protocol: lmtp, listen: lmtp.sock}}
mailboxes: {{dir: mailboxes, domains: [{DOMAIN}], unknown: accept, defaults: {{language: en}}}}
delivery:
  method: {name}
  maildir: {{path: "{at}/mail/%{{localpart}}", fsync: true}}
  lmtp: {{address: "127.0.0.1:{port}"}}
relay:
  host: 127.0.0.1
  port: {relay}
  max_connections: 8
  per_minute: 0
  retry: {{first: 1s, factor: 1, longest: 1s, give_up: 1h}}
  from: "Mail filter <mailer-daemon@example.jp>"
store: {{path: "{at}/state"}}
quarantine: {{retention: {retention}}}
logging: {{target: stderr, format: logfmt, level: warn}}
control: {{socket: control.sock, mode: "0600"}}
"#
        );
        let boxes = folder.path().join("mailboxes").join(DOMAIN);
        fs::create_dir_all(&boxes).unwrap();
        fs::write(folder.path().join("sekimori.yaml"), settings).unwrap();
        for (local, settings) in mailboxes() {
            let file = boxes.join(format!("{local}.yaml"));
            fs::write(file, format!("version: 1\n{settings}")).unwrap();
        }
        Self { folder, disk }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.disk.join("state")
    }

    /// The mails in the Maildir of a mailbox.
    pub(crate) fn maildir(&self, local: &str) -> Vec<Vec<u8>> {
        let maildir = self.disk.join("mail").join(local);
        let folders = ["new", "cur"].map(|folder| files_below(&maildir.join(folder)));
        let files = folders.iter().flatten();
        files.map(|file| fs::read(file).unwrap()).collect()
    }

    /// Starts the daemon, which dies at `aim` (`NAME:N`) by itself.
    pub(crate) fn start(&self, aim: Option<&str>) -> Daemon {
        let log = self.path("stderr.log");
        let mut command = self.command();
        if let Some(aim) = aim {
            command.env("SEKIMORI_KILL_AT", aim);
        }
        let child = command
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon {
            child,
            log,
            killed: None,
        }
    }

    /// Runs one command with `--json`; whether it succeeded, and its one object.
    pub(crate) fn json(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self
            .command()
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {arguments:?}: {output:?}"));
        (output.status.success(), value)
    }

    /// Status and body of one request to the control socket.
    pub(crate) fn http(&self, method: &str, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = UnixStream::connect(self.path("control.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.ok_or_else(cut)? + 4);
        let head = String::from_utf8_lossy(head);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or_else(cut)?, body.to_vec()))
    }

    /// The objects of a 200 of the running daemon.
    pub(crate) fn get(&self, path: &str) -> Vec<Value> {
        let (status, body) = self.http("GET", path).unwrap();
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until nothing is left to be sent.
    pub(crate) fn await_empty_queue(&self) {
        eventually("the queue is empty", || {
            self.get("/v1/queue").is_empty().then_some(())
        });
    }

    fn command(&self) -> Command {
        let program = std::env::var_os("SEKIMORI_CRASH_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_sekimori").into());
        let mut command = Command::new(program);
        command
            .env_remove("SEKIMORI_CONFIG")
            .env_remove("SEKIMORI_KILL_AT")
            .current_dir(self.folder.path())
            .arg("--config")
            .arg(self.path("sekimori.yaml"));
        command
    }
}

pub(crate) fn temporary() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("sekimori-crash-").tempdir().unwrap()
}

/// All files below a folder; none where it does not exist.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// A daemon; it is killed with the value.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    killed: Option<Instant>,
}

impl Daemon {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn await_ready(&mut self) {
        eventually("the daemon says ready", || {
            let log = self.log();
            if let Some(status) = self.ended() {
                panic!("the daemon ended: {status}\n{log}");
            }
            log.lines().any(|line| line == "ready").then_some(())
        });
    }

    /// Waits until the clients have had enough of it.
    pub(crate) fn await_taken(&mut self, enough: impl Fn() -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !enough() {
            let status = self.ended();
            assert!(status.is_none(), "{status:?}\n{}", self.log());
            assert!(Instant::now() < give_up, "no mail is taken\n{}", self.log());
            std::thread::sleep(MOMENT);
        }
    }

    /// When it was killed; now, if it did that itself.
    pub(crate) fn killed(&self) -> Instant {
        self.killed.unwrap_or_else(Instant::now)
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL. A daemon that ended by itself before is a failure, unless it was told to.
    pub(crate) fn kill(&mut self) {
        if let Some(status) = self.ended() {
            panic!("the daemon ended by itself: {status}\n{}", self.log());
        }
        self.end();
    }

    /// SIGKILL, whether it is alive or not.
    pub(crate) fn end(&mut self) {
        self.killed.get_or_insert_with(Instant::now);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = eventually("the daemon ends", || self.ended());
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
