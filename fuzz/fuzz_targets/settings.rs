//! Any text as a daemon file and as a mailbox file: findings or settings, never a panic; each
//! finding has a place in the text, and shows it.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sekimori::config::{Config, Diagnostic};
use sekimori_fuzz::within;

/// Of each of some 70 ids 100 errors and 20 warnings are listed, the rest is counted.
const MOST_FINDINGS: usize = 70 * (100 + 20 + 2);

static USUAL: LazyLock<Config> = LazyLock::new(|| {
    let text = "version: 1\nmailboxes: {dir: mailboxes, domains: [example.jp]}\n";
    Config::parse(text, Path::new("/nowhere"))
        .expect("a good file")
        .config
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    LazyLock::force(&USUAL);
    within((4 << 20) + 512 * text.len(), || check(&text));
});

fn check(text: &str) {
    let daemon = Config::parse(text, Path::new("/nowhere"));
    let file = Path::new("/nowhere/sekimori.yaml");
    match &daemon {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|warning| !warning.is_error()));
            placed(text, file, &loaded.warnings);
        }
        Err(found) => refused(text, file, found),
    }
    let draft = Path::new("/nowhere/draft.yaml");
    let mailbox = USUAL.parse_mailbox(text, draft);
    if let Err(found) = &mailbox {
        refused(text, draft, found);
    }
    // The lints look at good and bad files alike.
    let linted = USUAL.check_mailbox(text, draft, 1_800_000_000);
    assert_eq!(mailbox.is_err(), linted.iter().any(Diagnostic::is_error));
    placed(text, draft, &linted);
    assert!(
        daemon.is_err() || mailbox.is_err(),
        "one text is both kinds of file"
    );
}

fn refused(text: &str, file: &Path, found: &[Diagnostic]) {
    assert!(found.iter().any(Diagnostic::is_error));
    placed(text, file, found);
}

fn placed(text: &str, file: &Path, found: &[Diagnostic]) {
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    assert!(found.len() <= MOST_FINDINGS);
    for one in found.iter().filter(|one| one.file == file) {
        let line = (one.line as usize)
            .checked_sub(1)
            .and_then(|at| lines.get(at));
        let line = line.unwrap_or_else(|| panic!("behind the text: {one}"));
        let length = line.chars().count();
        assert!(
            one.col >= 1 && one.col as usize <= length + 1,
            "behind its line: {one}"
        );
        assert!(
            !one.message.is_empty() && !one.message.contains(['\n', '\r']),
            "{one:?}"
        );
        let Some(snippet) = &one.snippet else {
            continue;
        };
        let cleaned = line.chars().map(|c| if c.is_control() { ' ' } else { c });
        assert!(
            snippet.caret < 120 && snippet.text.chars().count() <= 120,
            "{one:?}"
        );
        let from = one.col as usize - 1 - snippet.caret;
        let shown: String = cleaned
            .skip(from)
            .take(snippet.text.chars().count())
            .collect();
        assert_eq!(snippet.text, shown, "{one}");
    }
    for other in found.iter().filter(|one| one.file != file) {
        let below = other.file.starts_with("/nowhere") || other.id != "syntax";
        assert!(below && other.line >= 1 && other.col >= 1, "{other}");
    }
}
