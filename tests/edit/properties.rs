//! Random mailbox files in every style, random changes: what the new text says is the old with the
//! change, told by another YAML reader than the editor's; no comment elsewhere is lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use sekimori::config::Config;
use sekimori::config::edit::{Access, Change, List, Session, Step, Value, apply, path};
use sekimori::mail::Address;
use serde_yaml::Value as Yaml;

/// Numbers from a seed (xorshift); the seed is what proptest shrinks and remembers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % n
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn some(&mut self, of: &[&str], least: usize, most: usize) -> Vec<String> {
        let count = least + self.below(most - least + 1);
        let mut left: Vec<&str> = of.to_vec();
        (0..count)
            .map(|_| {
                let at = self.below(left.len());
                left.remove(at).to_owned()
            })
            .collect()
    }
}

const ENTRIES: [&str; 16] = [
    "@spam.example",
    ".bulk.example",
    "未承諾広告",
    "[広告]",
    "#1 offer",
    "a: b",
    "it's",
    "\"quoted\"",
    "- dash",
    "! bang",
    "*star*",
    "{x}",
    "a, b # c",
    "back\\slash",
    "true",
    "１２３",
];
const NEW: [&str; 6] = [
    "@new.example",
    "新しい",
    "#2: [x]",
    "null",
    "x'y\"z",
    "| > -",
];
const ADDRESSES: [&str; 5] = ["a@x.jp", "b@x.jp", "c+d@x.jp", "e@x.jp", "f@x.jp"];
const TEXTS: [&str; 6] = [
    "one line",
    "two\nlines\n",
    "# first\n\n  deeper\nlast\n\n",
    "",
    "no: end\n- x",
    " leading\nblank\n",
];

struct File {
    text: String,
    dice: Dice,
    comments: usize,
}

impl File {
    fn of(seed: u64) -> Self {
        let mut file = Self {
            text: String::new(),
            dice: Dice(seed | 1),
            comments: 0,
        };
        file.all();
        if file.dice.chance(30) {
            file.text = file.text.replace('\n', "\r\n");
        }
        if file.dice.chance(20) {
            file.text.insert(0, '\u{feff}');
        }
        file
    }

    fn all(&mut self) {
        let mut sections = vec![0, 1, 2, 3, 4, 5];
        self.line(0, "version: 1");
        while !sections.is_empty() {
            let at = self.dice.below(sections.len());
            match sections.remove(at) {
                0 => self.reject(),
                1 => self.spam(),
                2 => self.notify(),
                3 => self.forwarding(),
                4 => self.auto_reply(),
                _ => self.allow(),
            }
        }
        if self.dice.chance(30) {
            self.comment(0);
        }
        // Without its end the text of a message would be another one.
        if self.dice.chance(25) && !self.text.ends_with("\n\n") {
            self.line(0, "language: ja");
            self.text.pop();
        }
    }

    fn comment(&mut self, indent: usize) {
        self.comments += 1;
        let number = self.comments;
        let _ = writeln!(self.text, "{}# c{number}.", " ".repeat(indent));
    }

    fn line(&mut self, indent: usize, text: &str) {
        while self.dice.chance(20) {
            match self.dice.chance(60) {
                true => self.comment(indent),
                false => self.text.push('\n'),
            }
        }
        let _ = write!(self.text, "{}{text}", " ".repeat(indent));
        if self.dice.chance(15) && !text.contains('#') {
            self.text.push_str("   # behind");
        }
        self.text.push('\n');
    }

    fn quoted(&mut self, text: &str) -> String {
        let safe = text.chars().all(|c| c.is_alphabetic()) && text != "true" && text != "null";
        match self.dice.below(3) {
            0 if safe => text.to_owned(),
            1 => format!("'{}'", text.replace('\'', "''")),
            _ => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }

    fn brackets(&mut self, items: &[String]) -> String {
        let items: Vec<String> = items.iter().map(|item| self.quoted(item)).collect();
        let comma = self.dice.pick(&[", ", ",", " , "]);
        let last = if self.dice.chance(20) && !items.is_empty() {
            ","
        } else {
            ""
        };
        format!("[{}{last}]", items.join(comma))
    }

    /// A list in one of its styles.
    fn list(&mut self, indent: usize, key: &str, items: &[String], patterns: bool) {
        let deep = indent + 1 + self.dice.below(4);
        match self.dice.below(if patterns { 8 } else { 4 }) {
            0 => {
                let items = self.brackets(items);
                self.line(indent, &format!("{key}: {items}"));
            }
            1 => {
                self.line(indent, &format!("{key}: ["));
                for (index, item) in items.iter().enumerate() {
                    let item = self.quoted(item);
                    let last = index + 1 == items.len() && self.dice.chance(50);
                    self.line(deep, &format!("{item}{}", if last { "" } else { "," }));
                }
                self.line(deep, "]");
            }
            2 | 3 => {
                self.line(indent, &format!("{key}:"));
                let dash = if self.dice.chance(40) { indent } else { deep };
                for item in items {
                    let item = self.quoted(item);
                    self.line(dash, &format!("- {item}"));
                }
            }
            4 => {
                self.line(indent, &format!("{key}: >"));
                let lines: Vec<String> = items.iter().map(|i| " ".repeat(deep) + i).collect();
                let _ = writeln!(self.text, "{}", lines.join("\n\n"));
            }
            5 => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| item.replace('\\', "\\\\").replace('"', "\\\""))
                    .collect();
                self.line(indent, &format!("{key}: \"{}\"", items.join("\\n")));
            }
            _ => {
                let mark = self.dice.pick(&["|", "|-", "|+"]);
                self.line(indent, &format!("{key}: {mark}"));
                for item in items {
                    if self.dice.chance(15) {
                        self.text.push('\n');
                    }
                    let _ = writeln!(self.text, "{}{item}", " ".repeat(deep));
                }
            }
        }
    }

    fn reject(&mut self) {
        self.line(0, "reject:");
        let indent = 1 + self.dice.below(4);
        let from = self.dice.some(&ENTRIES, 1, 5);
        self.list(indent, "from_suffixes", &from, true);
        if self.dice.chance(60) {
            let subjects = self.dice.some(&ENTRIES, 1, 5);
            self.list(indent, "subject_contains", &subjects, true);
        }
        if self.dice.chance(50) {
            let words = self
                .dice
                .some(&["from_missing", "from_empty", "subject_empty"], 1, 3);
            self.list(indent, "headers", &words, false);
        }
    }

    fn allow(&mut self) {
        let senders = self.dice.some(&ENTRIES, 1, 4);
        if self.dice.chance(40) {
            let senders = self.brackets(&senders);
            return self.line(
                0,
                &format!("allow: {{senders: {senders}, before_reject: true}}"),
            );
        }
        self.line(0, "allow:");
        self.list(2, "senders", &senders, true);
    }

    fn spam(&mut self) {
        if self.dice.chance(50) {
            return self.line(
                0,
                "spam: {scan: true, mark_subject: \"[x] # y\" , notice: 'daily'}",
            );
        }
        self.line(0, "spam:");
        self.line(2, "scan: false");
        self.line(2, "mark_subject: '[it''s]'");
        self.line(2, "notice: each");
    }

    fn notify(&mut self) {
        let to = self.dice.some(&ADDRESSES, 1, 3);
        if self.dice.chance(40) {
            let to = self.brackets(&to);
            return self.line(0, &format!("notify: {{to: {to} }}"));
        }
        self.line(0, "notify:");
        self.list(3, "to", &to, false);
    }

    fn forwarding(&mut self) {
        self.line(0, "forwarding:");
        self.line(2, "mode: off");
        self.line(2, "rules:");
        let dash = 2 * self.dice.below(3);
        let dash = dash.max(2);
        for number in 0..=self.dice.below(3) {
            if self.dice.chance(30) {
                self.line(dash, &format!("- {{name: r{number}, to: [a@x.jp]}}"));
                continue;
            }
            self.line(dash, &format!("- name: r{number}"));
            let subjects = self.dice.some(&ENTRIES, 1, 3);
            self.list(dash + 2, "subject_contains", &subjects, true);
            self.line(dash + 2, "to: [a@x.jp]");
        }
    }

    fn auto_reply(&mut self) {
        self.line(0, "auto_reply:");
        match self.dice.below(3) {
            0 => self.line(2, "message: away"),
            1 => {
                self.line(2, "message: |");
                self.text.push_str("    text\n\n      # more\n");
            }
            _ => {
                self.line(2, "message: >-");
                self.text.push_str("    folded\n    text\n");
            }
        }
        self.line(2, "subject: \"自動返信: %{subject}\"");
    }
}

fn at(dotted: &str) -> Vec<Step> {
    path(dotted).unwrap()
}

fn rule() -> Value {
    Value::Map(vec![
        ("name".to_owned(), Value::Text("new: rule".to_owned())),
        (
            "from_suffixes".to_owned(),
            Value::Lines(vec!["@n.example".to_owned(), "#".to_owned()]),
        ),
        (
            "to".to_owned(),
            Value::List(vec![Value::Text("k@x.jp".to_owned())]),
        ),
    ])
}

const LISTS: [&str; 5] = [
    "reject.from_suffixes",
    "reject.subject_contains",
    "allow.senders",
    "notify.to",
    "forwarding.rules[0].subject_contains",
];

/// A change that makes sense for the file.
fn change(dice: &mut Dice, says: &Yaml) -> Change {
    let list = dice.pick(&LISTS);
    let there = find(says, &at(list))
        .and_then(Yaml::as_sequence)
        .map_or(0, Vec::len);
    let rules = find(says, &at("forwarding.rules")).and_then(Yaml::as_sequence);
    let rules = rules.map_or(0, Vec::len);
    let words = if list == "notify.to" {
        ["g@x.jp", "h@x.jp"].as_slice()
    } else {
        &NEW
    };
    match dice.below(7) {
        0 | 1 => Change::Add(at(list), dice.some(words, 1, 2)),
        2 if there > 0 => {
            let count = 1 + dice.below(there);
            let indexes: BTreeSet<usize> = (0..count).map(|_| dice.below(there)).collect();
            Change::Take(at(list), indexes)
        }
        3 => {
            let key = dice.pick(&[
                "spam.mark_subject",
                "auto_reply.message",
                "auto_reply.start",
            ]);
            Change::Set(at(key), Value::Text(dice.pick(&TEXTS).to_owned()))
        }
        4 => {
            let keys = [
                "spam.scan",
                "spam.quarantine",
                "announcements",
                "virus.scan",
            ];
            Change::Set(at(dice.pick(&keys)), Value::Word("true".to_owned()))
        }
        5 => {
            let keys = [
                "reject.from_suffixes",
                "spam.notice",
                "notify.to",
                "auto_reply.message",
            ];
            Change::Remove(at(dice.pick(&keys)))
        }
        6 if dice.chance(50) => {
            Change::Move(at("forwarding.rules"), dice.below(rules), dice.below(rules))
        }
        _ => Change::Insert(at("forwarding.rules"), dice.below(rules + 1), rule()),
    }
}

/// What a text says, lists of patterns as lists whatever their style.
fn says(text: &str) -> Yaml {
    let text = text.trim_start_matches('\u{feff}');
    let mut value: Yaml = serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    normalize(&mut value);
    value
}

fn normalize(value: &mut Yaml) {
    match value {
        Yaml::Mapping(pairs) => {
            for (key, value) in pairs.iter_mut() {
                let lists = ["from_suffixes", "subject_contains", "senders"];
                if lists.contains(&key.as_str().unwrap()) {
                    *value = Yaml::Sequence(entries(value));
                }
                normalize(value);
            }
            let mut all: Vec<(Yaml, Yaml)> = std::mem::take(pairs).into_iter().collect();
            all.sort_by_key(|(key, _)| key.as_str().unwrap().to_owned());
            pairs.extend(all);
        }
        Yaml::Sequence(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

fn entries(value: &Yaml) -> Vec<Yaml> {
    let texts: Vec<&str> = match value {
        Yaml::String(text) => text.split('\n').collect(),
        Yaml::Sequence(items) => items.iter().map(|item| item.as_str().unwrap()).collect(),
        other => panic!("{other:?}"),
    };
    let texts = texts
        .into_iter()
        .map(str::trim)
        .filter(|text| !text.is_empty());
    texts.map(|text| Yaml::String(text.to_owned())).collect()
}

fn find<'a>(value: &'a Yaml, path: &[Step]) -> Option<&'a Yaml> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key.as_str()),
        Step::Item(index) => value.get(*index),
    })
}

fn place<'a>(value: &'a mut Yaml, path: &[Step]) -> &'a mut Yaml {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => {
            let pairs = value.as_mapping_mut().unwrap();
            let new = || Yaml::Mapping(serde_yaml::Mapping::new());
            pairs.entry(Yaml::String(key.clone())).or_insert_with(new)
        }
        Step::Item(index) => value.get_mut(*index).unwrap(),
    })
}

fn remove(value: &mut Yaml, path: &[Step]) {
    let (Step::Key(key), above) = path.split_last().unwrap() else {
        panic!("an item");
    };
    let section = place(value, above).as_mapping_mut().unwrap();
    section.remove(key.as_str());
    if section.is_empty() && !above.is_empty() {
        remove(value, above);
    }
}

fn list<'a>(value: &'a mut Yaml, path: &[Step]) -> &'a mut Vec<Yaml> {
    let place = place(value, path);
    if !place.is_sequence() {
        *place = Yaml::Sequence(Vec::new());
    }
    place.as_sequence_mut().unwrap()
}

fn yaml_of(value: &Value) -> Yaml {
    match value {
        Value::Word(word) => Yaml::Bool(word == "true"),
        Value::Text(text) => Yaml::String(text.clone()),
        Value::Lines(texts) => texts.iter().cloned().map(Yaml::String).collect(),
        Value::List(items) => items.iter().map(yaml_of).collect(),
        Value::Map(pairs) => {
            let pair = |(key, value): &(String, Value)| (Yaml::from(key.as_str()), yaml_of(value));
            Yaml::Mapping(pairs.iter().map(pair).collect())
        }
    }
}

/// The change, done to the meaning.
fn after(mut says: Yaml, change: &Change) -> Yaml {
    match change {
        Change::Set(path, value) => *place(&mut says, path) = yaml_of(value),
        Change::Remove(path) => remove(&mut says, path),
        Change::Add(path, texts) => {
            let new = texts.iter().cloned().map(Yaml::String);
            list(&mut says, path).extend(new);
        }
        Change::Take(path, indexes) => {
            let items = list(&mut says, path);
            for index in indexes.iter().rev() {
                items.remove(*index);
            }
            if items.is_empty() {
                remove(&mut says, path);
            }
        }
        Change::Insert(path, index, value) => list(&mut says, path).insert(*index, yaml_of(value)),
        Change::Move(path, from, to) => {
            let items = list(&mut says, path);
            let item = items.remove(*from);
            items.insert(*to, item);
        }
    }
    normalize(&mut says);
    says
}

/// The lines that are comments as a whole, where no comment is part of a removed item.
fn comments(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| line.starts_with("# c")).collect()
}

fn removes_a_whole_value(change: &Change, before: &Yaml) -> bool {
    match change {
        Change::Remove(_) => true,
        Change::Take(path, indexes) => {
            find(before, path)
                .and_then(Yaml::as_sequence)
                .unwrap()
                .len()
                == indexes.len()
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_new_text_says_the_old_with_the_change(seed in any::<u64>()) {
        let mut file = File::of(seed);
        let before = says(&file.text);
        let change = change(&mut file.dice, &before);
        let known = match &change {
            Change::Remove(path) => find(&before, path).is_some(),
            _ => true,
        };
        prop_assume!(known);
        let new = apply(&file.text, &change);
        let new = new.unwrap_or_else(|at| panic!("{at:?} {change:?}\n{}", file.text));
        let wanted = after(before.clone(), &change);
        prop_assert_eq!(&says(&new), &wanted, "{:?}\n{}\n---\n{}", change, file.text, new);
        if !removes_a_whole_value(&change, &before) {
            prop_assert_eq!(comments(&file.text), comments(&new), "{:?}\n{}\n---\n{}", change, file.text, new);
        }
        prop_assert_eq!(file.text.starts_with('\u{feff}'), new.starts_with('\u{feff}'));
        if file.text.contains('\r') {
            prop_assert_eq!(new.matches('\n').count(), new.matches("\r\n").count(), "{:?}", new);
        }
    }

    /// Any text: a defined result, and never one that says something else.
    #[test]
    fn any_text_is_changed_rightly_or_not_at_all(soup in "[ \\-\\[\\]{}:,#|>'\"a-c\r\n]{0,60}") {
        let text = format!("a: x\n{soup}");
        for change in [
            Change::Set(at("a"), Value::Text("y".to_owned())),
            Change::Set(at("b.c"), Value::Text("y".to_owned())),
            Change::Remove(at("b")),
            Change::Add(at("c"), vec!["z".to_owned()]),
        ] {
            let Ok(new) = apply(&text, &change) else { continue };
            prop_assert!(new != text || matches!(change, Change::Set(..)), "{:?}", text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_second_identical_add_changes_nothing(entries in prop::collection::vec("[a-zA-Z0-9ｱ-ﾝア-ン@.]{2,8}", 1..8)) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse("version: 1\nmailboxes: {dir: .}\n", folder.path()).unwrap().config;
        let mailbox = Address::parse("taro@y.jp").unwrap();
        let add = || {
            let mut session = Session::open(&config, &mailbox, Access::Change).unwrap();
            let added = session.add(List::RejectSubject, &entries).unwrap();
            (added, session.save().unwrap().files.len())
        };
        let (first, written) = add();
        prop_assert_eq!(first.changed.len() + first.unchanged.len(), entries.len());
        prop_assert_eq!(written, 1);
        let (second, written) = add();
        prop_assert_eq!(second.unchanged, entries.clone());
        prop_assert_eq!((second.changed.len(), written), (0, 0));
        // What one may remove, in any of its forms, is gone.
        let mut session = Session::open(&config, &mailbox, Access::Change).unwrap();
        session.remove(List::RejectSubject, &entries).unwrap();
        prop_assert!(session.listed(List::RejectSubject).is_empty());
    }
}
