//! One list of keys makes the parser, the schema, the example, the files in `config/` and what
//! `config show` prints. Here each is held against the others from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used
)]

mod keys;
mod schema;
mod show;

use std::fs;
use std::path::Path;

use sekimori::config::{self, Config, Diagnostic, Kind, Settings};
use serde_json::Value;

const KINDS: [Kind; 2] = [Kind::Daemon, Kind::Mailbox];

/// What `check` would say of the text as a file of its own.
fn found(kind: Kind, text: &str) -> Vec<Diagnostic> {
    let errors = match kind {
        Kind::Daemon => Config::parse(text, Path::new("/etc/sekimori")).err(),
        Kind::Mailbox => {
            let config = Config::parse("version: 1", Path::new("/etc/sekimori")).unwrap();
            let path = Path::new("/draft/taro.yaml");
            config.config.parse_mailbox(text, path).err()
        }
    };
    errors.unwrap_or_default()
}

fn is_good(kind: Kind, text: &str) -> bool {
    found(kind, text).iter().all(|d| !d.is_error())
}

/// What counts with this daemon file in the folder, beside a list in a file of its own.
fn daemon(folder: &Path, text: &str) -> Settings {
    fs::create_dir_all(folder.join("lists")).unwrap();
    fs::write(folder.join("lists/endings"), "a.example\n").unwrap();
    let path = folder.join("sekimori.yaml");
    fs::write(&path, text).unwrap();
    config::show(&path).unwrap_or_else(|found| panic!("{found:#?}\n{text}"))
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
