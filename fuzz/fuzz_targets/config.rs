//! Any text as a daemon file and as a mailbox file: findings or settings, never a panic, each
//! finding with a place in the text.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sekimori::config::{Config, Diagnostic};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let lines = text.split(['\n', '\r']).count() as u32;
    let placed = |found: &[Diagnostic]| {
        for one in found {
            assert!(one.line >= 1 && one.line <= lines + 1 && one.col >= 1, "{one}");
        }
    };
    match Config::parse(&text, Path::new("/nowhere")) {
        Ok(loaded) => placed(&loaded.warnings),
        Err(found) => {
            assert!(found.iter().any(Diagnostic::is_error));
            placed(&found);
        }
    }
    let Ok(loaded) = Config::parse("version: 1", Path::new("/nowhere")) else { return };
    if let Err(found) = loaded.config.parse_mailbox(&text, Path::new("/nowhere/draft.yaml")) {
        assert!(found.iter().any(Diagnostic::is_error));
        placed(&found);
    }
});
