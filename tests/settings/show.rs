//! `config show`: what counts and where it came from, and that it reads as the same settings again.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sekimori::config::{self, Kind, Leaf, example};
use sekimori::mail::Address;

use crate::{daemon, yaml};

const DAEMON: &str = "version: 1
mailboxes:
  defaults:
    language: en
    spam: {scan: true, mark_subject: '[x]'}
    reject: {from_suffixes_file: lists/endings}
server:
  listeners:
    - listen: lmtp.sock
    - {protocol: smtp, listen: 127.0.0.1:25}
";

const TARO: &str = "version: 1
spam:
  mark_subject: \"\"
forwarding:
  mode: rules
  rules:
    - to: [a@b.jp]
      subject_contains: |
        one

        two
";

fn site() -> (tempfile::TempDir, config::Settings, config::Settings) {
    let folder = tempfile::tempdir().unwrap();
    let shown = daemon(folder.path(), DAEMON);
    let taro = folder.path().join("mailboxes/east.example.jp/taro.yaml");
    fs::create_dir_all(taro.parent().unwrap()).unwrap();
    fs::write(&taro, TARO).unwrap();
    let loaded = config::load(&folder.path().join("sekimori.yaml"))
        .unwrap()
        .config;
    let address = Address::parse("taro@east.example.jp").unwrap();
    let mailbox = config::show_mailbox(&loaded, Some(&taro), &address).unwrap();
    (folder, shown, mailbox)
}

/// No file has both kinds of forwarding, but the defaults may have the other one.
#[test]
fn of_two_kinds_of_forwarding_the_one_that_counts_is_shown() {
    const RULES: &str = "rules: [{attachment: true, to: [z@y.jp]}]";
    const ALL: &str = "all: {to: [q@y.jp]}";
    for (defaults, own, shown, hidden) in [
        (
            format!("mode: rules, {RULES}"),
            format!("mode: all, {ALL}"),
            "all",
            "rules",
        ),
        (
            format!("mode: all, {ALL}"),
            format!("mode: rules, {RULES}"),
            "rules",
            "all",
        ),
        (
            format!("mode: rules, {RULES}"),
            ALL.to_owned(),
            "rules",
            "all",
        ),
        (RULES.to_owned(), ALL.to_owned(), "all", "rules"),
        (ALL.to_owned(), RULES.to_owned(), "rules", "all"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("version: 1\nmailboxes: {{defaults: {{forwarding: {{{defaults}}}}}}}\n");
        let config = config::Config::parse(&text, folder.path()).unwrap().config;
        let path = folder.path().join("taro.yaml");
        fs::write(&path, format!("version: 1\nforwarding: {{{own}}}\n")).unwrap();
        let address = Address::parse("taro@east.example.jp").unwrap();
        let settings = config::show_mailbox(&config, Some(&path), &address).unwrap();
        let yaml = settings.yaml(false);
        assert!(
            yaml.contains(&format!("\n  {shown}:")),
            "{own} over {defaults}:\n{yaml}"
        );
        assert!(
            !yaml.contains(&format!("\n  {hidden}:")),
            "{own} over {defaults}:\n{yaml}"
        );
        let again = config.parse_mailbox(&yaml, Path::new("/draft/taro.yaml"));
        assert!(again.is_ok(), "{again:?}\n{yaml}");
    }
}

fn leaf<'a>(leaves: &'a [Leaf], key: &str) -> &'a Leaf {
    let found = leaves.iter().find(|leaf| leaf.key == key);
    found.unwrap_or_else(|| panic!("{key} is not there: {leaves:#?}"))
}

#[test]
fn each_value_tells_where_it_came_from() {
    let (folder, shown, mailbox) = site();
    let (daemon, mailbox) = (shown.leaves(), mailbox.leaves());
    let base = folder.path().display();
    for (leaves, key, value, origin) in [
        (&daemon, "version", "1", "sekimori.yaml:1"),
        (&daemon, "server.hostname", "mx.example.jp", "built-in"),
        (
            &daemon,
            "mailboxes.defaults.language",
            "en",
            "sekimori.yaml:4",
        ),
        (
            &daemon,
            "mailboxes.defaults.spam.notice",
            "'off'",
            "built-in",
        ),
        (
            &daemon,
            "server.listeners[0].listen",
            &format!("{base}/lmtp.sock"),
            "sekimori.yaml:9",
        ),
        (
            &daemon,
            "server.listeners[0].bare_newline",
            "normalize",
            "built-in",
        ),
        (&daemon, "server.listeners[1].name", "smtp", "built-in"),
        (
            &daemon,
            "server.listeners[1].bare_newline",
            "reject",
            "built-in",
        ),
        (
            &daemon,
            "server.listeners[1].protocol",
            "smtp",
            "sekimori.yaml:10",
        ),
        (&daemon, "store.path", &format!("{base}/state"), "built-in"),
        (&mailbox, "version", "1", "taro.yaml:1"),
        (&mailbox, "mailbox", "taro@east.example.jp", "built-in"),
        (
            &mailbox,
            "language",
            "en",
            "mailboxes.defaults sekimori.yaml:4",
        ),
        (
            &mailbox,
            "spam.scan",
            "true",
            "mailboxes.defaults sekimori.yaml:5",
        ),
        (&mailbox, "spam.mark_subject", "''", "taro.yaml:3"),
        (&mailbox, "spam.quarantine", "false", "built-in"),
        (
            &mailbox,
            "forwarding.rules[0].keep_copy",
            "true",
            "built-in",
        ),
        (
            &mailbox,
            "forwarding.rules[0].to",
            "[a@b.jp]",
            "taro.yaml:7",
        ),
        (
            &mailbox,
            "forwarding.rules[0].subject_contains",
            "[one, two]",
            "taro.yaml:8",
        ),
        (
            &mailbox,
            "reject.from_suffixes_file",
            &format!("{base}/lists/endings"),
            "mailboxes.defaults sekimori.yaml:6",
        ),
    ] {
        let leaf = leaf(leaves, key);
        assert_eq!(
            (&leaf.value, leaf.origin.as_str()),
            (&yaml(value), origin),
            "{key}"
        );
    }
}

#[test]
fn the_text_has_an_origin_at_each_value() {
    let (_folder, shown, mailbox) = site();
    let text = mailbox.yaml(true);
    for line in [
        "language: en  # mailboxes.defaults sekimori.yaml:4\n",
        "  mark_subject: \"\"  # taro.yaml:3\n",
        "timezone: Asia/Tokyo  # built-in\n",
        "      subject_contains:  # taro.yaml:8\n        - one  # taro.yaml:9\n        - two  # taro.yaml:11\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    for settings in [shown, mailbox] {
        assert_eq!(yaml(&settings.yaml(true)), yaml(&settings.yaml(false)));
        // Only sections have none.
        for line in settings.yaml(true).lines() {
            assert!(line.contains("  # ") != line.ends_with(':'), "{line}");
        }
        assert!(!settings.yaml(false).contains("  # "));
    }
}

#[test]
fn a_mailbox_without_a_file_has_the_defaults() {
    let (folder, ..) = site();
    let loaded = config::load(&folder.path().join("sekimori.yaml"))
        .unwrap()
        .config;
    let address = Address::parse("jiro@east.example.jp").unwrap();
    let leaves = config::show_mailbox(&loaded, None, &address)
        .unwrap()
        .leaves();
    assert_eq!(leaf(&leaves, "mailbox").value, "jiro@east.example.jp");
    assert_eq!(
        leaf(&leaves, "language").origin,
        "mailboxes.defaults sekimori.yaml:4"
    );
    assert_eq!(leaf(&leaves, "virus.scan").origin, "built-in");
}

#[test]
fn all_errors_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekimori.yaml");
    fs::write(
        &path,
        "version: 1\nserver: {hostname: 'a b'}\nstore: {pat: x}\nrelay: {port: 0}\n",
    )
    .unwrap();
    let found = config::show(&path).unwrap_err();
    assert_eq!(found.iter().map(|d| d.line).collect::<Vec<_>>(), [2, 3, 4]);
}

/// What counts, without where it came from.
fn values(settings: &config::Settings) -> Vec<(String, serde_json::Value)> {
    let leaves = settings.leaves().into_iter();
    leaves.map(|leaf| (leaf.key, leaf.value)).collect()
}

/// Everything but the mailbox defaults and the announcers, whose lines are others: `values` has them.
fn compiled(path: &Path) -> String {
    let config = config::load(path).unwrap().config;
    format!(
        "{:?}",
        (
            (
                &config.server,
                &config.delivery,
                &config.relay,
                &config.scanners
            ),
            (
                &config.store,
                &config.quarantine,
                &config.history,
                &config.limits
            ),
            (
                &config.logging,
                &config.control,
                &config.mailboxes.dir,
                &config.mailboxes.domains
            ),
        )
    )
}

#[test]
fn what_is_shown_of_the_daemon_reads_as_the_same_settings() {
    for text in ["version: 1\n", DAEMON, &example(Kind::Daemon)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sekimori.yaml");
        let first = daemon(folder.path(), text);
        let second = daemon(folder.path(), &first.yaml(true));
        assert_eq!(values(&first), values(&second));
        let after = compiled(&path);
        fs::write(&path, text).unwrap();
        assert_eq!(compiled(&path), after);
    }
}

/// A text as people write it, and as nobody should.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z0-9 ]{1,6}",
        "[#:,\\-\\[\\]{}&*!|>%@`'\"~?=.<\\\\/]{1,4}",
        "[ｱ-ﾝあ-んア-ン日本語]{1,4}",
        Just("true".to_owned()),
        Just("07:00".to_owned()),
        Just("null".to_owned()),
        Just("1e5".to_owned()),
        Just(" # x".to_owned()),
        Just(": ".to_owned()),
        Just("\u{200b}\u{feff}\u{202e}".to_owned()),
        Just("😀".to_owned()),
    ];
    proptest::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_shown_of_a_mailbox_reads_as_the_same_settings(
        subjects in proptest::collection::vec(text(), 1..4),
        mark in text(),
        message in proptest::collection::vec(text(), 0..4),
        name in text(),
        sizes in (0u64..5_000_000, any::<bool>()),
        switches in any::<[bool; 4]>(),
    ) {
        let written = serde_json::json!({
            "version": 1,
            "mailbox": "taro@example.jp",
            "announcements": switches[0],
            "reject": {"subject_contains": subjects},
            "allow": {"before_reject": switches[1]},
            "spam": {"mark_subject": mark},
            "forwarding": {"mode": if switches[2] { "rules" } else { "off" }, "rules": [{
                "name": name,
                "size": {"at_least": format!("{}{}", sizes.0, if sizes.1 { "B" } else { "KiB" })},
                "to": ["a@b.jp"],
                "keep_copy": switches[3],
            }]},
            "auto_reply": {"message": message.join("\n")},
        });
        let folder = tempfile::tempdir().unwrap();
        daemon(folder.path(), "version: 1\nlimits: {subject_chars: {min: 1, max: 1000}}\n");
        let config = config::load(&folder.path().join("sekimori.yaml")).unwrap().config;
        let address = Address::parse("taro@example.jp").unwrap();
        let path = folder.path().join("taro.yaml");
        fs::write(&path, serde_yaml::to_string(&written).unwrap()).unwrap();
        let show = |path: &Path| config::show_mailbox(&config, Some(path), &address);
        // Empty and doubled entries are refused: nothing to show.
        let Ok(first) = show(&path) else { return Ok(()) };
        let before = config::load_mailbox(&config, &path).unwrap();
        for origin in [false, true] {
            fs::write(&path, first.yaml(origin)).unwrap();
            let second = show(&path).map_err(|found| TestCaseError::fail(format!("{found:#?}\n{}", first.yaml(origin))))?;
            prop_assert_eq!(values(&first), values(&second));
        }
        let after = config::load_mailbox(&config, &path).unwrap();
        prop_assert_eq!(format!("{:?}", before.policy.spam), format!("{:?}", after.policy.spam));
        prop_assert_eq!(
            format!("{:?}", before.policy.auto_reply),
            format!("{:?}", after.policy.auto_reply)
        );
        for subject in &subjects {
            let folded = sekimori::mail::fold::fold(subject);
            prop_assert_eq!(
                before.policy.subject_contains.find(&folded).is_some(),
                after.policy.subject_contains.find(&folded).is_some()
            );
        }
    }
}
