//! A folder of settings, and the real program that checks it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A daemon file that says little; `{}` is where a test's own lines go.
pub(crate) const DAEMON: &str = "version: 1\nmailboxes: {domains: [east.example.jp]}\n";

pub(crate) struct Site(TempDir);

/// A folder of this test's data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/check")
        .join(name)
}

impl Site {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let site = Self(
            tempfile::Builder::new()
                .prefix("sekimori-test-")
                .tempdir()
                .unwrap(),
        );
        for (name, text) in files {
            site.write(name, text);
        }
        site
    }

    /// The files below `folder`, for their owner and group only.
    pub(crate) fn copy(folder: &Path) -> Self {
        let site = Self::new(&[]);
        let mut folders = vec![folder.to_owned()];
        while let Some(from) = folders.pop() {
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let path = entry.path();
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                site.write(&name, &fs::read_to_string(&path).unwrap());
                site.chmod(&name, 0o640);
            }
        }
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Exit code and findings of `check --json`, in its folder.
    pub(crate) fn check(&self, paths: &[&str]) -> (i32, Vec<Value>) {
        self.run("sekimori.yaml", paths)
    }

    fn run(&self, config: &str, paths: &[&str]) -> (i32, Vec<Value>) {
        let run = Command::new(env!("CARGO_BIN_EXE_sekimori"))
            .current_dir(self.0.path())
            .args(["--config", config, "check", "--json"])
            .args(paths)
            .output()
            .unwrap();
        let text = String::from_utf8(run.stdout).unwrap();
        let found = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (run.status.code().unwrap(), found.collect())
    }

    /// `FILE:LINE:COL id` of each finding, files without the folder of the mailbox files.
    pub(crate) fn places(&self, paths: &[&str]) -> Vec<String> {
        Self::said(self.check(paths).1)
    }

    /// The same with a daemon file in another place below its folder.
    pub(crate) fn places_of(&self, config: &str) -> Vec<String> {
        Self::said(self.run(config, &[]).1)
    }

    fn said(found: Vec<Value>) -> Vec<String> {
        let place = |one: Value| {
            let file = one["file"].as_str().unwrap();
            let file = file.trim_start_matches("mailboxes/");
            let file = file
                .strip_prefix("east.example.jp/")
                .unwrap_or(file)
                .to_owned();
            format!(
                "{file}:{}:{} {}",
                one["line"],
                one["col"],
                one["id"].as_str().unwrap()
            )
        };
        found.into_iter().map(place).collect()
    }
}

/// Compares what is found in each text with what is expected, all rows before it fails.
#[track_caller]
pub(crate) fn table(rows: &[(&str, &[&str])], find: impl Fn(&str) -> Vec<String>) {
    let mut wrong = String::new();
    for (text, expected) in rows {
        let found = find(text);
        if found != *expected {
            wrong += &format!("{text}\n  expected {expected:?}\n  found    {found:?}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
