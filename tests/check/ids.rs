//! Each id that the sources give stands in the table of `docs/check.md`, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Functions one of whose arguments is an id.
const TELLING: [&str; 7] = [
    "error",
    "error_help",
    "warning",
    "push",
    "finding",
    "fail",
    "list",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if entry.is_dir() {
            sources(&entry, found);
        } else {
            found.push(entry);
        }
    }
}

/// The ids in a source text: the first lone text among a telling function's arguments, what a
/// member or tuple member `id` is set to, and text behind a `Severity`.
fn ids(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let mut ids = BTreeSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '!';
    for (at, _) in source.match_indices('(') {
        let name = source[..at].rsplit(|c| !is_word(c)).next().unwrap();
        if TELLING.contains(&name) {
            ids.extend(arguments(&source[at + 1..]).into_iter().find_map(lone_text));
        }
        // Told later: `Some(("id", words))`.
        if source[..at].ends_with("Some") && source[at + 1..].starts_with("(\"") {
            ids.extend(
                arguments(&source[at + 2..])
                    .first()
                    .copied()
                    .and_then(lone_text),
            );
        }
        if source[at + 1..].starts_with("Severity::") {
            ids.extend(arguments(&source[at + 1..]).into_iter().find_map(lone_text));
        }
    }
    for (at, _) in source.match_indices(" id: ") {
        let value = arguments(&source[at + 5..]).into_iter().next().unwrap();
        ids.extend(value.split('"').skip(1).step_by(2).filter_map(word));
    }
    let constant = "const MORE: &str = \"";
    if let Some((_, rest)) = source.split_once(constant) {
        ids.extend(rest.split('"').next().and_then(word));
    }
    ids
}

/// The arguments up to the closing bracket.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut in_text, mut found) = (0, 0, false, Vec::new());
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '"' if before != '\\' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(&text[from..at]);
                return found;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        before = c;
    }
    found
}

fn lone_text(argument: &str) -> Option<String> {
    let inner = argument.trim().strip_prefix('"')?.strip_suffix('"')?;
    word(inner)
}

fn word(text: &str) -> Option<String> {
    let sound = !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    sound.then(|| text.to_owned())
}

fn documented() -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ");
        let id = cells.next()?.strip_suffix('`')?;
        Some((id.to_owned(), cells.map(str::to_owned).collect()))
    });
    rows.collect()
}

#[test]
fn every_id_has_its_row_and_every_row_its_id() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config"),
        &mut files,
    );
    let mut used = BTreeSet::new();
    for file in files {
        used.extend(ids(&fs::read_to_string(file).unwrap()));
    }
    let rows = documented();
    let listed: BTreeSet<String> = rows.iter().map(|(id, _)| id.clone()).collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&used).collect();
    assert!(missing.is_empty(), "not in docs/check.md: {missing:?}");
    assert!(
        stale.is_empty(),
        "in docs/check.md, but not given: {stale:?}"
    );
    assert!(used.len() > 60, "only {} ids were seen", used.len());
    assert_eq!(rows.len(), listed.len(), "a row stands there twice");
    for (id, cells) in rows {
        let [severity, meaning, remedy] = cells.as_slice() else {
            panic!("{id}: {cells:?}");
        };
        let known = ["error", "warning", "error, warning"].contains(&severity.as_str());
        assert!(
            known && !meaning.is_empty() && !remedy.is_empty(),
            "{id}: {cells:?}"
        );
    }
}

#[test]
fn ids_are_seen_in_their_forms() {
    for (source, expected) in [
        ("report.error(\"value\", at, words);", "value"),
        (
            "report\n .warning(\n \"open\", f(a, b), message, \"help me\");",
            "open",
        ),
        ("self.finding(\"tag\", at, m, \"quote\")", "tag"),
        (
            "self.push(Severity::Error, id, at, \"No id\".into(), None)",
            "",
        ),
        ("Diagnostic { severity, id: \"syntax\", file }", "syntax"),
        (
            "x { id: if big { \"file-size\" } else { \"unreadable\" }, y }",
            "file-size unreadable",
        ),
        (
            "found.push((Severity::Error, \"duplicate\", *at))",
            "duplicate",
        ),
        ("later = Some((\"key\", words))", "key"),
        ("tracing::error!(\"words\")", ""),
        ("#[cfg(test)] report.error(\"value\", at)", ""),
    ] {
        let found: Vec<String> = ids(source).into_iter().collect();
        assert_eq!(found.join(" "), expected, "{source}");
    }
}
