//! `check` as a linter: folders with mistakes, tables of settings, and the list of all ids in
//! `docs/check.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod circles;
mod folder;
mod ids;
mod lints;
mod site;

use std::fs;
use std::path::{Path, PathBuf};

use site::{Site, data};

/// `FILE:LINE id` of each finding, in order of the text.
fn found(site: &Site) -> (Vec<String>, Vec<serde_json::Value>) {
    let (_, found) = site.check(&[]);
    let mut listed: Vec<String> = found
        .iter()
        .map(|one| {
            let file = Path::new(one["file"].as_str().unwrap());
            let file = file.strip_prefix(site.path("")).unwrap_or(file);
            format!(
                "{}:{} {}",
                file.display(),
                one["line"],
                one["id"].as_str().unwrap()
            )
        })
        .collect();
    listed.sort();
    (listed, found)
}

#[test]
fn the_27_mistakes_are_found_in_one_run_and_nothing_else() {
    let site = Site::copy(&data("mistakes"));
    site.chmod("password", 0o644);
    let (code, _) = site.check(&[]);
    let (listed, found) = found(&site);
    let expected = fs::read_to_string(site.path("expected.txt")).unwrap();
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!((code, expected.len()), (78, 27));
    for one in &found {
        let help = one["help"].as_str().unwrap_or_default();
        assert!(!help.is_empty(), "what is to be done? {one}");
    }
}

/// What of the shared example is not built yet is an error; a line goes when it is built.
#[test]
fn the_shared_example_has_no_mistake() {
    let site = Site::copy(&data("example"));
    site.write("srs.secret", "of the test\n");
    site.chmod("srs.secret", 0o640);
    let (_, found) = site.check(&[]);
    let other: Vec<_> = found
        .iter()
        // Its auto-reply ends in January 2027.
        .filter(|one| one["id"] != "not-built" && one["id"] != "ended")
        .collect();
    assert!(other.is_empty(), "{other:#?}");
}

/// The examples that are shipped.
#[test]
fn the_own_example_has_no_mistake() {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let site = Site::copy(&root);
    let (code, found) = site.check(&[]);
    let other: Vec<_> = found
        .iter()
        .filter(|one| one["id"] != "not-built" && one["id"] != "ended")
        .collect();
    assert!(other.is_empty() && code == 0, "{other:#?}");
}
