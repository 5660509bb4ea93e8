//! rspamd: GTUBE, which it knows by itself, and one symbol of ours; Bayes in a file.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::engine::{Engine, ask, is_root};
use crate::mails::{SEVEN, SEVEN_POINTS};
use crate::servers::{free_port, open_folder};

const PASSWORD: &str = "of-the-test";

/// A running rspamd with one scanner and one controller process.
pub(crate) struct Rspamd {
    pub(crate) engine: Engine,
    pub(crate) port: u16,
    pub(crate) controller: u16,
    _folder: tempfile::TempDir,
}

impl Rspamd {
    pub(crate) fn start() -> Self {
        Self::start_on(free_port(), free_port())
    }

    fn start_on(port: u16, controller: u16) -> Self {
        let folder = open_folder();
        let path = |name: &str| folder.path().join(name);
        let text = include_str!("rspamd.conf")
            .replace("@FOLDER@", folder.path().to_str().unwrap())
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER@", &controller.to_string())
            .replace("@PASSWORD@", PASSWORD);
        fs::write(path("rspamd.conf"), text).unwrap();
        let rules = include_str!("rspamd.lua")
            .replace("@WORD@", SEVEN)
            .replace("@POINTS@", SEVEN_POINTS);
        fs::write(path("rspamd.lua"), rules).unwrap();
        // All public suffixes take seconds to compile.
        fs::write(path("suffixes"), "example\njp\n").unwrap();
        let mut command = Command::new("/usr/bin/rspamd");
        command.arg("-f").arg("-c").arg(path("rspamd.conf"));
        if is_root() {
            command.args(["-i", "-u", "root", "-g", "root"]);
        }
        let pong = |port| {
            ask(port, b"GET /ping HTTP/1.0\r\n\r\n")
                .is_some_and(|said| said.starts_with(b"HTTP/1.") && said.ends_with(b"pong\r\n"))
        };
        let engine = Engine::start("rspamd", &mut command, &path("rspamd.log"), || {
            pong(port) && pong(controller)
        });
        Self {
            engine,
            port,
            controller,
            _folder: folder,
        }
    }

    /// Starts another one on the same ports, after it was killed.
    pub(crate) fn start_again(self) -> Self {
        let (port, controller) = (self.port, self.controller);
        drop(self);
        Self::start_on(port, controller)
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it says of a mail.
    pub(crate) fn check(&self, mail: &[u8]) -> Value {
        self.json(self.port, "POST", "/checkv2", mail)
    }

    /// A number of its own statistics.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let found = self.json(self.controller, "GET", "/stat", b"");
        found[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {found}"))
    }

    /// Teaches it a mail as `rspamc learn_ham` does.
    pub(crate) fn learn_ham(&self, mail: &[u8]) {
        let said = self.json(self.controller, "POST", "/learnham", mail);
        assert_eq!(said["success"], true, "{said}");
    }

    fn json(&self, port: u16, method: &str, path: &str, body: &[u8]) -> Value {
        let head = format!(
            "{method} {path} HTTP/1.0\r\nPassword: {PASSWORD}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let said = ask(port, &[head.as_bytes(), body].concat()).unwrap();
        let said = String::from_utf8(said).unwrap();
        let (_, json) = said.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}
