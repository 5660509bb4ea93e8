//! The daemon under test: the built program with its files in the test's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{eventually, free_port, run, show_log, terminate};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sekimori");

/// A running `sekimori run`; it ends with the value, its store stays in the folder.
pub(crate) struct Daemon {
    folder: PathBuf,
    pub(crate) port: u16,
    child: Child,
}

impl Daemon {
    /// Writes the daemon file into `folder`/sekimori and starts: kept mail goes by LMTP to `next_hop`, the rest to `relay`.
    pub(crate) fn start(folder: &Path, next_hop: u16, relay: u16) -> Self {
        Self::start_with(folder, next_hop, relay, &|text| text, &[])
    }

    /// The same with an edited daemon file and more in the environment.
    pub(crate) fn start_with(
        folder: &Path,
        next_hop: u16,
        relay: u16,
        edit: &dyn Fn(String) -> String,
        environment: &[(&str, String)],
    ) -> Self {
        let folder = folder.join("sekimori");
        let port = free_port();
        fs::create_dir_all(folder.join("mailboxes")).unwrap();
        fs::write(
            folder.join("sekimori.yaml"),
            edit(settings(port, next_hop, relay)),
        )
        .unwrap();
        let child = start(&folder, environment);
        Self {
            folder,
            port,
            child,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the settings of one mailbox; they count from the next reload or start.
    pub(crate) fn set_mailbox(&self, mailbox: &str, settings: &str) {
        let (local, domain) = mailbox.split_once('@').unwrap();
        let folder = self.folder.join("mailboxes").join(domain);
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join(format!("{local}.yaml")),
            format!("version: 1\n{settings}"),
        )
        .unwrap();
    }

    /// Ends the daemon in order and starts it on the same store; `offset` moves its clock (faketime syntax, as `+25h`).
    pub(crate) fn restart_at(&mut self, offset: &str) {
        terminate(&mut self.child);
        self.child = start(&self.folder, &moved_clock(offset));
    }

    /// SIGKILL, as a crash would end it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same store.
    pub(crate) fn start_again(&mut self) {
        self.child = start(&self.folder, &[]);
    }

    /// Runs one command, as an operator would; what it prints.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = run(Command::new(PROGRAM)
            .arg("--config")
            .arg(self.folder.join("sekimori.yaml"))
            .args(arguments));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one command with `--json`; an object for each line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.command(&[arguments, &["--json"]].concat());
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        terminate(&mut self.child);
        if std::thread::panicking() {
            show_log(&self.folder.join("stderr.log"));
        }
    }
}

fn start(folder: &Path, environment: &[(&str, String)]) -> Child {
    let log = folder.join("stderr.log");
    let mut child = Command::new(PROGRAM)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .arg("--config")
        .arg(folder.join("sekimori.yaml"))
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    eventually("sekimori says ready", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = child.try_wait().unwrap() {
            panic!("sekimori ended: {status}\n{text}");
        }
        text.lines()
            .any(|line| line.trim() == "ready")
            .then_some(())
    });
    child
}

/// What the `faketime` wrapper sets. The wrapper itself would stand between the daemon and our signals, and
/// it fails where an earlier process of the same number was killed with its semaphore.
fn moved_clock(offset: &str) -> Vec<(&'static str, String)> {
    let mut folders = fs::read_dir("/usr/lib").unwrap();
    let library = folders.find_map(|folder| {
        let library = folder.unwrap().path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    let library =
        library.expect("faketime is not installed: tests/run installs what the tests need");
    let library = library.into_os_string().into_string().unwrap();
    vec![
        ("LD_PRELOAD", library),
        ("FAKETIME", offset.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
}

fn settings(port: u16, next_hop: u16, relay: u16) -> String {
    format!(
        "version: 1
server:
  hostname: filter.east.example.jp
  default_domain: east.example.jp
  listeners:
    - name: lmtp
      protocol: lmtp
      listen: 127.0.0.1:{port}
      clients: [127.0.0.0/8]
mailboxes:
  dir: mailboxes
  domains: [east.example.jp]
  unknown: accept
delivery:
  method: lmtp
  lmtp: {{address: \"127.0.0.1:{next_hop}\", timeout: 30s}}
relay:
  host: 127.0.0.1
  port: {relay}
  tls: none
  retry: {{first: 1s, factor: 2, longest: 5s, give_up: 1h}}
store:
  path: state
control: {{socket: control.sock}}
logging: {{target: stderr, format: logfmt, level: info}}
"
    )
}
