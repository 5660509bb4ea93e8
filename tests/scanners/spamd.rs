//! spamd with SpamAssassin's own rules, which know GTUBE, and one of ours; Bayes in a file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::engine::{Engine, ask, is_root};
use crate::mails::{SEVEN, SEVEN_POINTS};
use crate::servers::{free_port, open_folder};

/// The plugins that Debian loads.
const PLUGINS: &str = "/etc/spamassassin";

/// A running spamd with two children.
pub(crate) struct Spamd {
    pub(crate) engine: Engine,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

impl Spamd {
    pub(crate) fn start() -> Self {
        Self::start_on(free_port())
    }

    fn start_on(port: u16) -> Self {
        let folder = open_folder();
        let path = |name: &str| folder.path().join(name);
        for name in ["rules", "state"] {
            fs::create_dir(path(name)).unwrap();
        }
        // As root it works for `nobody`.
        fs::set_permissions(path("state"), Permissions::from_mode(0o777)).unwrap();
        for entry in fs::read_dir(PLUGINS).unwrap() {
            let entry = entry.unwrap();
            if entry
                .path()
                .extension()
                .is_some_and(|ending| ending == "pre")
            {
                fs::copy(entry.path(), path("rules").join(entry.file_name())).unwrap();
            }
        }
        let rules = format!(
            "required_score 5.0\nuse_bayes 1\nbayes_path {}\nbayes_file_mode 0777\nbayes_auto_learn 0\n\
             body TEST_SEVEN /{SEVEN}/\nscore TEST_SEVEN {SEVEN_POINTS}\n",
            path("state/bayes").display()
        );
        fs::write(path("rules/local.cf"), rules).unwrap();
        let mut command = Command::new("/usr/sbin/spamd");
        command
            .args(["--local", "--allow-tell", "--nouser-config"])
            .args(["--max-children=2", "--min-children=2"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--siteconfigpath={}", path("rules").display()))
            .arg(format!("--helper-home-dir={}", path("state").display()))
            .arg(format!("--syslog={}", path("spamd.log").display()));
        if is_root() {
            command.arg("--username=nobody");
        }
        let engine = Engine::start("spamd", &mut command, &path("spamd.log"), || {
            ask(port, b"PING SPAMC/1.5\r\n\r\n").is_some_and(|said| said.ends_with(b"PONG\r\n"))
        });
        Self {
            engine,
            port,
            folder,
        }
    }

    /// Starts another one on the same port, after it was killed.
    pub(crate) fn start_again(self) -> Self {
        let port = self.port;
        drop(self);
        Self::start_on(port)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it says of a mail, in its own words.
    pub(crate) fn symbols(&self, mail: &[u8]) -> String {
        self.ask("SYMBOLS", "", mail)
    }

    pub(crate) fn ask(&self, command: &str, fields: &str, mail: &[u8]) -> String {
        let head = format!(
            "{command} SPAMC/1.5\r\nContent-length: {}\r\n{fields}\r\n",
            mail.len()
        );
        let said = ask(self.port, &[head.as_bytes(), mail].concat()).unwrap();
        String::from_utf8(said).unwrap()
    }

    /// Mails that it has scanned, by its own log.
    pub(crate) fn scans(&self) -> usize {
        self.lines("checking message")
    }

    /// Mails that it has learned from, by its own log.
    pub(crate) fn learned(&self) -> usize {
        self.lines("Tell: Setting local")
    }

    /// Whether its file of learned words is there.
    pub(crate) fn has_learned_words(&self) -> bool {
        self.folder.path().join("state/bayes_toks").exists()
    }

    fn lines(&self, words: &str) -> usize {
        let log = self.engine.log();
        log.lines().filter(|line| line.contains(words)).count()
    }
}
