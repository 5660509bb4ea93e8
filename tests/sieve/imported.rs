//! What was imported decides as the script does without the rules that were listed: both are held
//! against each other over mails that meet the samples' rules in each combination.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use sekimori::config::Config;
use sekimori::mail::{Bounds, Message};
use sekimori::policy::Policy;
use sekimori::sieve::import::{Kind, import};
use sekimori::sieve::parse;
use sekimori::sieve::script::{Argument, Node, Place};

use crate::commands::samples;
use crate::differential::decide;
use crate::pigeonhole::{Outcome, Site};
use crate::settings::OWNER;

const SUBJECTS: [Option<&str>; 11] = [
    None,
    Some(""),
    Some("hello"),
    Some("=?utf-8?B?5pyq5om/6Kut5bqD5ZGK?="),
    Some("[=?utf-8?B?5bqD5ZGK?=] today"),
    Some("=?utf-8?B?6KuL5rGC5pu4?= 7"),
    Some("INVOICE 8"),
    Some("a prize draw"),
    Some("again and again"),
    Some("a report behind it"),
    Some("an offer, SALE, abcd"),
];

const SENDERS: [Option<&str>; 8] = [
    None,
    Some("Shop <noreply@shop.example>"),
    Some("a@spam.example"),
    Some("\"B\" <b@mail.bulk.example>"),
    Some("c@supplier.example"),
    Some("boss@example.com"),
    Some("info@else.example"),
    Some("d@east.example.jp, newsletter@else.example"),
];

#[test]
fn imported_settings_decide_as_their_script_does() {
    let site = Site::new();
    let mut compared = 0;
    let mut kinds = BTreeSet::new();
    for sample in samples() {
        let name = sample.file_name().unwrap().to_str().unwrap();
        let text = this_week(&fs::read_to_string(&sample).unwrap());
        let (policy, config, pruned) = both(&text);
        let script = site.script(name, &pruned);
        let texts = texts(&policy);
        // Few are large: each is stored.
        let sizes = [1, 300, 1, 300, 1, 300, 1, 300, 1, 300, 150_000];
        let pairs = SUBJECTS
            .iter()
            .flat_map(|subject| SENDERS.iter().map(move |from| (subject, from)));
        for (number, (subject, from)) in pairs.enumerate() {
            let raw = mail(*subject, *from, sizes[number % sizes.len()]);
            let file = site.mail("mail.eml", &raw);
            let sender = ["c@supplier.example", "e@else.example"][number % 2];
            let theirs = held_alone(site.execute(&script, &file, sender, OWNER).outcome(&texts));
            let message = Message::parse(&raw, &Bounds::default());
            let now = jiff::Timestamp::now().as_second();
            let ours = decide(&policy, &config, &raw, &message, sender, now, &texts).outcome;
            assert_eq!(
                ours,
                theirs,
                "{name}: {subject:?} from {from:?}, {} octets\n{pruned}",
                raw.len()
            );
            compared += 1;
            kinds.insert((
                ours.stored.len(),
                ours.forwards.len(),
                ours.notices.len(),
                ours.reply.is_some(),
            ));
        }
    }
    eprintln!("{compared} decisions of imported settings are those of their scripts");
    assert!(kinds.len() >= 5, "{kinds:?}");
}

/// The samples' dates as dates around today.
fn this_week(text: &str) -> String {
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let day = |days: i64| {
        today
            .checked_add(jiff::Span::new().days(days))
            .unwrap()
            .to_string()
    };
    text.replace("2026-12-27", &day(-3))
        .replace("2026-12-28", &day(-2))
        .replace("2027-01-04", &day(2))
}

/// The settings that a script becomes, and the script without what was not taken.
fn both(text: &str) -> (Policy, Config, String) {
    let mut script = parse(text).unwrap();
    let owner = sekimori::mail::Address::parse(OWNER).unwrap();
    let imported = import(&script, Some(&owner));
    let folder = Path::new("/nonexistent");
    let config = Config::parse("version: 1", folder).unwrap().config;
    let mailbox = config
        .parse_mailbox(&imported.settings, &folder.join("a.yaml"))
        .unwrap();
    let notes = imported
        .notes
        .iter()
        .filter(|note| note.kind == Kind::NotTaken);
    for place in notes.map(|note| note.place) {
        prune(&mut script.commands, place);
    }
    let requires = script.commands.iter().filter(|node| node.name == "require");
    let mut required: Vec<String> = requires.flat_map(names).collect();
    required.push("mailbox".to_owned());
    script.commands.retain(|node| node.name != "require");
    script
        .commands
        .insert(0, Node::new("require").strings(required));
    create_folders(&mut script.commands);
    (
        Arc::unwrap_or_clone(mailbox.policy),
        config,
        script.to_string(),
    )
}

fn names(node: &Node) -> Vec<String> {
    let lists = node.arguments.iter().map(|argument| match argument {
        Argument::Strings(texts) => texts.clone(),
        _ => Vec::new(),
    });
    lists.flatten().collect()
}

/// Takes the flag of that place out, or else the whole rule around it.
fn prune(commands: &mut Vec<Node>, place: Place) {
    if remove_flag(commands, place) {
        return;
    }
    let at = commands
        .iter()
        .rposition(|node| node.place <= place)
        .unwrap();
    let removed = commands.remove(at);
    if removed.name == "if"
        && let Some(next) = commands.get_mut(at).filter(|next| next.name == "elsif")
    {
        next.name = "if".to_owned();
    }
}

fn remove_flag(commands: &mut Vec<Node>, place: Place) -> bool {
    let before = commands.len();
    commands.retain(|node| node.place != place || !node.name.ends_with("flag"));
    let inner = commands.iter_mut().filter_map(|node| node.block.as_mut());
    let found = inner
        .map(|block| remove_flag(block, place))
        .fold(false, |a, b| a | b);
    found || commands.len() < before
}

fn create_folders(commands: &mut [Node]) {
    for node in commands {
        if node.name == "fileinto" {
            node.arguments.insert(0, Argument::Tag("create".to_owned()));
        }
        create_folders(node.block.as_deref_mut().unwrap_or_default());
    }
}

/// The texts of the replies.
fn texts(policy: &Policy) -> Vec<String> {
    let reply = policy.auto_reply.iter();
    let texts = reply.flat_map(|reply| {
        reply
            .per_sender
            .iter()
            .map(|other| &other.message)
            .chain([&reply.message])
    });
    texts
        .map(|text| text.lines().next().unwrap().to_owned())
        .collect()
}

/// A folder of thrown-away mail, or none at all, is our quarantine, from which nothing is sent.
fn held_alone(theirs: Outcome) -> Outcome {
    let junk = ["Junk", "INBOX/Junk", "Spam", "Trash"]
        .iter()
        .any(|folder| theirs.stored.contains(*folder));
    let nowhere = theirs.stored.is_empty() && theirs.forwards.is_empty();
    if !junk && !nowhere {
        return theirs;
    }
    Outcome {
        stored: BTreeSet::from(["Quarantine".to_owned()]),
        ..Outcome::default()
    }
}

fn mail(subject: Option<&str>, from: Option<&str>, lines: usize) -> Vec<u8> {
    let mut text = format!("To: {OWNER}\r\n");
    if let Some(subject) = subject {
        text.push_str(&format!("Subject: {subject}\r\n"));
    }
    if let Some(from) = from {
        text.push_str(&format!("From: {from}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&"A line of text that is long enough.\r\n".repeat(lines));
    text.into_bytes()
}
