//! Generated settings: deterministic by their number, made of the mails' own words so that things
//! match.

use std::path::Path;
use std::sync::Arc;

use sekimori::config::Config;
use sekimori::mail::fold::{fold, fold_address};
use sekimori::mail::{Address, FromField};
use sekimori::policy::Policy;
use sekimori::sieve::export::Finding;
use serde_json::{Value, json};

use crate::corpus::Mail;

pub(crate) const OWNER: &str = "taro@east.example.jp";

/// Fields that scanners of the corpus' senders wrote.
const FINDINGS: [(&str, &str); 3] = [
    ("X-Spam-Flag", "YES"),
    ("X-Spam-Status", "Yes"),
    ("X-Spam-Status", "No"),
];

/// One generated mailbox.
pub(crate) struct Settings {
    pub(crate) value: Value,
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) virus: (&'static str, &'static str),
    pub(crate) spam: (&'static str, &'static str),
}

impl Settings {
    /// Reads settings as a person's file would be.
    pub(crate) fn of(value: Value, virus: usize, spam: usize) -> Self {
        let (virus, spam) = (FINDINGS[virus % 3], FINDINGS[spam % 3]);
        let daemon = json!({
            "version": 1,
            "scanners": {
                "virus": {"engine": "upstream", "upstream": {"header": virus.0, "infected": virus.1}},
                "spam": {"engine": "upstream", "upstream": {"header": spam.0, "spam": spam.1}},
            },
        });
        let shown = |found: Vec<sekimori::config::Diagnostic>| -> Config {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            panic!("{}", found.join("\n"));
        };
        let folder = Path::new("/nonexistent");
        let config =
            Config::parse(&daemon.to_string(), folder).map_or_else(shown, |loaded| loaded.config);
        let mailbox = config.parse_mailbox(&value.to_string(), &folder.join("taro.yaml"));
        let policy = match mailbox {
            Ok(mailbox) => Arc::unwrap_or_clone(mailbox.policy),
            Err(found) => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                panic!("{}", found.join("\n"));
            }
        };
        Self {
            value,
            config,
            policy,
            virus,
            spam,
        }
    }

    pub(crate) fn finding(field: (&'static str, &'static str)) -> Finding<'static> {
        Finding {
            header: field.0,
            word: field.1,
        }
    }
}

/// Numbers that look drawn at random and are always the same (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % end.max(1)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Settings number `seed`; `now` in Unix seconds.
pub(crate) fn generate(mails: &[Mail], seed: u64, now: i64) -> Settings {
    let dice = &mut Dice::new(seed + 1);
    let mut value = json!({
        "version": 1,
        "mailbox": OWNER,
        "aliases": aliases(mails),
        "reject": {},
        "allow": {"before_reject": dice.chance(50)},
        "virus": {"scan": dice.chance(30)},
        "spam": {"scan": dice.chance(50), "mark_subject": "[spam]", "quarantine": dice.chance(50)},
    });
    if dice.chance(70) {
        value["reject"]["from_suffixes"] = json!(suffixes(dice, mails, 6));
    }
    if dice.chance(80) {
        value["reject"]["subject_contains"] = json!(subjects(dice, mails, 8));
    }
    let words = [
        "from_missing",
        "from_empty",
        "from_empty_address",
        "subject_missing",
        "subject_empty",
    ];
    let words: Vec<&str> = words.into_iter().filter(|_| dice.chance(30)).collect();
    if !words.is_empty() {
        value["reject"]["headers"] = json!(words);
    }
    if dice.chance(60) {
        value["allow"]["senders"] = json!(suffixes(dice, mails, 6));
    }
    match dice.below(4) {
        0 => {}
        1 => {
            let to = targets(dice);
            value["forwarding"] =
                json!({"mode": "all", "all": {"to": to, "keep_copy": dice.chance(50)}});
        }
        _ => value["forwarding"] = json!({"mode": "rules", "rules": rules(dice, mails)}),
    }
    if dice.chance(60) {
        let fields: &[&str] = if dice.chance(50) {
            &["from", "subject"]
        } else {
            &["from", "to", "attachment", "size"]
        };
        value["notify"] =
            json!({"to": ["mobile@else.example", "pc@else.example"], "fields": fields});
    }
    if dice.chance(80) {
        value["auto_reply"] = auto_reply(dice, mails, now);
    }
    let (virus, spam) = (dice.below(3), dice.below(3));
    Settings::of(value, virus, spam)
}

/// The corpus' mails were written to many people: the owner is some of them.
fn aliases(mails: &[Mail]) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::new();
    for mail in mails {
        for key in mail.message.header.address_keys("To") {
            if key.is_ascii() && Address::parse(&key).is_ok() {
                *counts.entry(key).or_insert(0) += 1;
            }
        }
    }
    let mut sorted: Vec<(String, usize)> = counts.into_iter().collect();
    sorted.sort_by_key(|(key, count)| (usize::MAX - count, key.clone()));
    sorted.into_iter().take(40).map(|(key, _)| key).collect()
}

fn targets(dice: &mut Dice) -> Vec<String> {
    (0..=dice.below(3))
        .map(|number| format!("target{number}@else.example"))
        .collect()
}

fn rules(dice: &mut Dice, mails: &[Mail]) -> Vec<Value> {
    let mut rules = Vec::new();
    for number in 0..=dice.below(4) {
        let mut rule = json!({
            "name": format!("rule {number}"),
            "match": if dice.chance(50) { "any" } else { "all" },
            "to": [format!("rule{number}@else.example")],
            "keep_copy": dice.chance(50),
            "paused": dice.chance(10),
        });
        let kind = dice.below(4);
        if kind == 0 || dice.chance(30) {
            rule["subject_contains"] = json!(subjects(dice, mails, 6));
        }
        if kind == 1 || dice.chance(30) {
            rule["from_suffixes"] = json!(suffixes(dice, mails, 6));
        }
        if kind == 2 || dice.chance(20) {
            rule["attachment"] = json!(dice.chance(60));
        }
        if kind == 3 || dice.chance(20) {
            let size = dice.pick(mails).raw.len();
            let bound = if dice.chance(50) {
                "at_least"
            } else {
                "at_most"
            };
            rule["size"] = json!({bound: format!("{size}B")});
        }
        rules.push(rule);
    }
    rules
}

fn auto_reply(dice: &mut Dice, mails: &[Mail], now: i64) -> Value {
    let mut value = json!({
        "enabled": true,
        "subject": "Away ${1}: %{subject}",
        "message": "text-common \"quoted\" \\ ${subject}\n.dot\n",
    });
    let day = |days: i64| {
        let at = jiff::Timestamp::from_second(now + days * 86_400).unwrap();
        json!(at.to_string())
    };
    match dice.below(6) {
        0 => value["start"] = day(-1),
        1 => value["end"] = day(1),
        2 => {
            value["start"] = day(-1);
            value["end"] = day(1);
        }
        3 if dice.chance(30) => value["start"] = day(1),
        4 if dice.chance(30) => value["end"] = day(-1),
        _ => {}
    }
    if dice.chance(50) {
        value["per_sender"] = json!([
            {"senders": suffixes(dice, mails, 4), "message": "text-first"},
            {"senders": suffixes(dice, mails, 4), "message": "text-second"},
        ]);
    }
    value
}

/// The mark that each text of [`auto_reply`] has.
pub(crate) fn texts() -> Vec<String> {
    ["text-common", "text-first", "text-second"]
        .map(str::to_owned)
        .to_vec()
}

fn subjects(dice: &mut Dice, mails: &[Mail], count: usize) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut entries = Vec::new();
    for _ in 0..count * 20 {
        let subject: Vec<char> = dice.pick(mails).message.subject_text().chars().collect();
        let start = dice.below(subject.len());
        let length = 3 + dice.below(6);
        let piece: String = subject.iter().skip(start).take(length).collect();
        let piece = varied(dice, piece.trim());
        let sound = piece.chars().count() >= 2 && piece.chars().all(|c| !c.is_control());
        let folded = fold(&piece).as_str().to_owned();
        if sound && !folded.is_empty() && entries.len() < count && seen.insert(folded) {
            entries.push(piece);
        }
    }
    entries
}

/// Sometimes in another spelling, as an owner would write it.
fn varied(dice: &mut Dice, text: &str) -> String {
    match dice.below(6) {
        0 => text.to_uppercase(),
        1 => {
            let wide = |c: char| match c {
                '!'..='~' => char::from_u32(u32::from(c) + 0xFEE0).unwrap(),
                _ => c,
            };
            text.chars().map(wide).collect()
        }
        2 => fold(text).as_str().to_owned(),
        _ => text.to_owned(),
    }
}

fn suffixes(dice: &mut Dice, mails: &[Mail], count: usize) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut entries = Vec::new();
    for _ in 0..count * 20 {
        let FromField::Addresses(found) = &dice.pick(mails).message.from else {
            continue;
        };
        let address = dice.pick(found).text.clone();
        let domain = address.rsplit_once('@').unwrap().1.to_owned();
        let entry = match dice.below(6) {
            0 => address,
            1 => domain,
            2 => match domain.split_once('.') {
                Some((_, parent)) if parent.contains('.') => format!(".{parent}"),
                _ => continue,
            },
            3 => format!("@{}", domain.to_uppercase()),
            _ => format!("@{domain}"),
        };
        let sound = entry.chars().all(|c| !c.is_control() && !c.is_whitespace());
        let folded = fold_address(&entry).as_str().to_owned();
        if sound && !folded.is_empty() && entries.len() < count && seen.insert(folded) {
            entries.push(entry);
        }
    }
    entries
}
