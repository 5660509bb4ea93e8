//! The keys: of the parser, of the schema, of the example and of the files in `config/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sekimori::config::{Kind, example, schema};
use serde_json::Value;

use crate::{KINDS, daemon, found, yaml};

/// Every key of the schema by its path (`server.listeners[].name`), with its schema.
pub(crate) fn keys(kind: Kind) -> BTreeMap<String, Value> {
    fn walk(schema: &Value, path: &str, keys: &mut BTreeMap<String, Value>) {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = match path {
                "" => name.clone(),
                above => format!("{above}.{name}"),
            };
            keys.insert(path.clone(), inner.clone());
            walk(inner, &path, keys);
            walk(&inner["items"], &format!("{path}[]"), keys);
        }
    }
    let mut keys = BTreeMap::new();
    walk(&schema(kind), "", &mut keys);
    keys
}

/// A file with one value at the path.
pub(crate) fn file(path: &str, value: &str) -> String {
    let mut text = value.to_owned();
    let (top, below) = path.split_once('.').unwrap_or((path, ""));
    for name in below.rsplit('.').filter(|name| !name.is_empty()) {
        text = match name.strip_suffix("[]") {
            Some(name) => format!("{{{name}: [{text}]}}"),
            None => format!("{{{name}: {text}}}"),
        };
    }
    if let Some(top) = top.strip_suffix("[]") {
        return format!("version: 1\n{top}: [{text}]\n");
    }
    format!("version: 1\n{top}: {text}\n")
}

/// The reader answers an unknown key with those it knows there.
#[test]
fn the_schema_has_the_keys_that_the_parser_knows() {
    for kind in KINDS {
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in keys(kind).keys() {
            let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
            sections
                .entry(section.to_owned())
                .or_default()
                .push(name.to_owned());
        }
        assert!(sections.len() > 10, "{sections:?}");
        for (section, mut listed) in sections {
            let probe = match section.as_str() {
                "" => "version: 1\nzzzzzzzzzzzz: 1\n".to_owned(),
                section => file(section, "{zzzzzzzzzzzz: 1}"),
            };
            let found = found(kind, &probe);
            let told = found.iter().find(|d| d.id == "unknown-key").unwrap();
            let told = told
                .help
                .as_deref()
                .unwrap()
                .strip_prefix("known here: ")
                .unwrap();
            let mut known: Vec<&str> = told.split(", ").collect();
            if section == "mailboxes.defaults" {
                known.retain(|key| !["version", "mailbox", "aliases"].contains(key));
            }
            known.sort_unstable();
            listed.sort_unstable();
            assert_eq!(listed, known, "{kind:?} {section}");
        }
    }
}

/// A key of the example, as a comment or not, and the comment behind it.
fn shown(text: &str) -> BTreeMap<String, String> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut shown = BTreeMap::new();
    for line in text.lines() {
        let bare = line.replacen("# ", "", usize::from(line.trim_start().starts_with("# ")));
        let item = bare.trim_start().starts_with("- ");
        let bare = bare.replacen("- ", "  ", usize::from(item));
        let Some((key, rest)) = bare.trim_start().split_once(':') else {
            continue;
        };
        let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !is_key || !(rest.is_empty() || rest.starts_with(' ')) {
            continue;
        }
        let indent = bare.len() - bare.trim_start().len();
        open.retain(|(above, _)| *above < indent);
        if item
            && let Some((_, list)) = open.last_mut()
            && !list.ends_with("[]")
        {
            list.push_str("[]");
        }
        let above: Vec<&str> = open.iter().map(|(_, name)| name.as_str()).collect();
        let path = [above.as_slice(), &[key]].concat().join(".");
        let comment = rest.rsplit_once("  # ").map_or("", |(_, comment)| comment);
        shown.entry(path).or_insert_with(|| comment.to_owned());
        open.push((indent, key.to_owned()));
    }
    shown
}

#[test]
fn the_example_shows_each_key_with_its_meaning() {
    for kind in KINDS {
        let shown = shown(&example(kind));
        let mut known = keys(kind);
        // Below `mailboxes.defaults` stand the keys of a mailbox file.
        known.retain(|path, _| !path.starts_with("mailboxes.defaults."));
        for (path, schema) in &known {
            let comment = shown
                .get(path)
                .unwrap_or_else(|| panic!("{path} is not shown"));
            let doc = schema["description"].as_str().unwrap();
            assert!(
                doc.len() > 3 && comment.contains(doc),
                "{path}: {doc:?}, {comment:?}"
            );
            for word in schema["enum"].as_array().into_iter().flatten() {
                assert!(comment.contains(word.as_str().unwrap()), "{path}: {word}");
            }
        }
        let unknown =
            |path: &&String| !known.contains_key(*path) && !path.starts_with("mailboxes.defaults.");
        assert_eq!(shown.keys().find(unknown), None);
    }
}

#[test]
fn the_files_in_config_are_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (kind, name, file) in [
        (Kind::Daemon, "daemon", "sekimori.yaml"),
        (Kind::Mailbox, "mailbox", "mailboxes/example.jp/taro.yaml"),
    ] {
        let there = fs::read_to_string(root.join(file)).unwrap();
        let help = format!("`sekimori config example {name} >config/{file}` writes it anew");
        assert_eq!(there, example(kind), "{help}");
    }
}

/// The first column is what an operator was told; a change of it is a change for every site.
#[test]
fn an_empty_file_has_the_documented_values() {
    let folder = tempfile::tempdir().unwrap();
    let shown = daemon(folder.path(), "version: 1\n").yaml(false);
    let shown = shown.replace(&folder.path().display().to_string(), "BASE");
    assert_eq!(shown, include_str!("built-in.yaml"));
}

/// A value in the example is the built-in one, or its comment names that.
#[test]
fn the_example_states_what_is_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let empty = daemon(folder.path(), "version: 1\n").leaves();
    let origins = daemon(folder.path(), &example(Kind::Daemon)).leaves();
    let built_in = |key: &str| {
        empty
            .iter()
            .find(|leaf| leaf.key == key)
            .map(|leaf| &leaf.value)
    };
    let mut compared = 0;
    for leaf in origins
        .iter()
        .filter(|leaf| !leaf.key.starts_with("mailboxes.defaults"))
    {
        compared += 1;
        if built_in(&leaf.key) != Some(&leaf.value) && leaf.key != "version" {
            told(&example(Kind::Daemon), &leaf.key, built_in(&leaf.key));
        }
    }
    assert!(compared > 80, "{compared}");
    let own = yaml(&example(Kind::Mailbox));
    for (key, schema) in keys(Kind::Mailbox)
        .iter()
        .filter(|(key, _)| !key.contains("[]"))
    {
        let pointer = format!("/{}", key.replace('.', "/"));
        let Some(value) = own.pointer(&pointer).filter(|_| schema["type"] != "object") else {
            continue;
        };
        let below = built_in(&format!("mailboxes.defaults.{key}"));
        if let Some(below) = below.filter(|below| *below != value) {
            told(&example(Kind::Mailbox), key, Some(below));
        }
    }
}

fn told(example: &str, key: &str, built_in: Option<&Value>) {
    let comments = shown(example);
    let comment = &comments[key];
    let (_, told) = comment
        .rsplit_once("(built in: ")
        .unwrap_or_else(|| panic!("{key}: {comment}"));
    let told = yaml(told.strip_suffix(')').unwrap());
    assert_eq!(Some(&told), built_in, "{key}");
}

/// Keys that the documents name, as in `server.limits.memory`.
#[test]
fn the_documents_name_keys_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known: BTreeSet<String> = KINDS
        .into_iter()
        .flat_map(keys)
        .map(|(key, _)| key)
        .collect();
    known = known.iter().map(|key| key.replace("[]", "")).collect();
    let tops: BTreeSet<&str> = known
        .iter()
        .filter_map(|key| key.split('.').next())
        .collect();
    let mut named = 0;
    let mut files: Vec<_> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.push(root.join("README.md"));
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "md"))
    {
        let text = fs::read_to_string(file).unwrap();
        for span in text.split('`').skip(1).step_by(2) {
            let path = span.split(':').next().unwrap_or_default().replace("[]", "");
            let (top, rest) = path.split_once('.').unwrap_or((&path, ""));
            let is_path = path
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"._".contains(&b));
            let is_file = ["rs", "md", "yaml", "json"].contains(&rest);
            if is_path && !rest.is_empty() && !is_file && tops.contains(top) {
                named += 1;
                assert!(known.contains(&path), "{}: `{span}`", file.display());
            }
        }
    }
    assert!(named > 30, "{named}");
}

/// The files that the documents show.
#[test]
fn the_files_in_the_readme_count() {
    let text = include_str!("../../README.md");
    let blocks: Vec<&str> = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|b| b.split("```").next())
        .collect();
    let whole: Vec<&&str> = blocks
        .iter()
        .filter(|block| block.starts_with("version: 1\n"))
        .collect();
    assert!(whole.len() >= 2, "{blocks:?}");
    for block in whole {
        let kind = if block.contains("mailbox: ") {
            Kind::Mailbox
        } else {
            Kind::Daemon
        };
        assert_eq!(found(kind, block), []);
    }
}

#[test]
fn the_example_counts_as_it_stands() {
    for kind in KINDS {
        let found = found(kind, &example(kind));
        assert!(found.is_empty(), "{found:#?}");
    }
}
