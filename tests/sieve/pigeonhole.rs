//! Runs scripts with Debian's `sieve-test` and reads what it did.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What became of a mail, in the words of both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Outcome {
    /// Folders that it was stored in.
    pub(crate) stored: BTreeSet<String>,
    /// Where it was forwarded to.
    pub(crate) forwards: BTreeSet<String>,
    /// Who was told of it.
    pub(crate) notices: BTreeSet<String>,
    /// Which text its sender got.
    pub(crate) reply: Option<String>,
}

/// A folder with Dovecot's settings: the extensions that a plain installation has.
pub(crate) struct Site {
    folder: tempfile::TempDir,
}

/// What a run said.
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        assert!(
            Path::new("/usr/bin/sieve-test").exists(),
            "no sieve-test: apt-get install dovecot-sieve"
        );
        let folder = tempfile::Builder::new()
            .prefix("sekimori-sieve-")
            .tempdir()
            .unwrap();
        let home = folder.path().display();
        let mut text = format!(
            "mail_location = maildir:{home}/mail\nmail_home = {home}\nssl = no\nmail_fsync = never\n\
             log_path = /dev/stderr\nnamespace inbox {{\n  inbox = yes\n  \
             separator = /\n}}\nplugin {{\n  sieve_max_redirects = 10\n}}\n"
        );
        if rustix::process::geteuid().is_root() {
            // Dovecot reads no mail as root.
            text.push_str("mail_uid = 65534\nmail_gid = 65534\n");
        }
        fs::write(folder.path().join("dovecot.conf"), text).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a script and compiles it.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        let run = self.run("sievec", &[], &[&path]);
        assert!(
            path.with_extension("svbin").exists(),
            "{}{}\n{text}",
            run.stdout,
            run.stderr
        );
        path
    }

    pub(crate) fn mail(&self, name: &str, raw: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, raw).unwrap();
        path
    }

    pub(crate) fn run(&self, program: &str, options: &[&str], files: &[&Path]) -> Run {
        let output = Command::new(format!("/usr/bin/{program}"))
            .arg("-c")
            .arg(self.path("dovecot.conf"))
            .args(options)
            .args(files)
            .output()
            .unwrap();
        Run {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Carries a script out on a mail; nothing is really sent.
    pub(crate) fn execute(&self, script: &Path, mail: &Path, sender: &str, owner: &str) -> Run {
        let options = ["-e", "-f", sender, "-r", owner, "-a", owner];
        self.run("sieve-test", &options, &[script, mail])
    }
}

impl Run {
    /// The actions on the mail. `texts` are the marks of the replies' texts.
    pub(crate) fn outcome(&self, texts: &[String]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ended = false;
        for line in self.stderr.lines() {
            ended |= line.contains("final result: success");
            let Some(line) = line.strip_prefix("info: ") else {
                assert!(!line.starts_with("error: "), "{}", self.stderr);
                continue;
            };
            let bracketed = |words: &str| {
                let (_, rest) = line.split_once(words)?;
                Some(
                    rest.trim_end_matches('.')
                        .trim_matches(['<', '>', '\''])
                        .to_owned(),
                )
            };
            outcome
                .stored
                .extend(bracketed("stored mail into mailbox '"));
            outcome
                .forwards
                .extend(bracketed("redirect action: forwarded to "));
            outcome
                .notices
                .extend(bracketed("notify action: sent mail notification to "));
            if bracketed("vacation action: sent vacation response to ").is_some() {
                let text = texts.iter().find(|text| self.stdout.contains(*text));
                outcome.reply = Some(text.expect(&self.stdout).clone());
            }
        }
        assert!(ended, "{}\n{}", self.stdout, self.stderr);
        outcome
    }

    /// What `vacation` wrote to the log when it sent nothing.
    pub(crate) fn no_vacation(&self) -> Option<&str> {
        let mut lines = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("info: "));
        let line = lines.find(|line| {
            line.contains("vacation") && line.contains("ing vacation")
                || line.contains("discarded vacation")
        })?;
        line.split_once("vacation action: ")
            .map(|(_, reason)| reason)
    }
}
