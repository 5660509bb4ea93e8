//! `replay --draft`: what other settings would have done with the mail that came.

use serde_json::{Value, json};

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, eventually, mail};
use crate::hop::Hop;

const RULES: &str = "reject: {subject_contains: [offer]}\nforwarding:\n  mode: rules\n  rules:\n    - subject_contains: [invoice]\n      to: [keiri@else.example]\n      keep_copy: true\n";

struct Week {
    daemon: Daemon,
    _relay: Hop,
}

/// Mails to taro with these Subjects, one of them to an address with an extension, and one to jiro.
fn week() -> Week {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with(
            "unknown: accept",
            "unknown: reject\n  address_extension: \"+\"",
        )
        .with_relay(relay.port)
        .with_mailbox(TARO, RULES)
        .with_mailbox(JIRO, RULES)
        .start();
    let give = |to: &str, subject: &str| {
        let answer = daemon.give("a@s.example", to, &mail("a@friend.example", subject));
        assert!(answer.0.starts_with("250"), "{answer:?}");
    };
    give(TARO, "special offer");
    give("taro+list@east.example.jp", "hello");
    give(TARO, "your invoice");
    give(TARO, "=?UTF-8?B?5pyq5om/6Ku+5bqD5ZGK?=");
    give(JIRO, "hello jiro");
    eventually("all are recorded", || {
        (daemon.json(&["history"]).len() == 5).then_some(())
    });
    Week {
        daemon,
        _relay: relay,
    }
}

impl Week {
    fn replay(&self, draft: &str) -> Vec<Value> {
        self.daemon
            .write("draft.yaml", format!("version: 1\n{draft}"));
        self.daemon
            .json(&["replay", "--mailbox", TARO, "--draft", "draft.yaml"])
    }

    /// Change and Subject of each line.
    fn changes(&self, draft: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = self.replay(draft);
        let pairs = lines.iter();
        pairs
            .map(|line| (text(&line["change"]), text(&line["subject"])))
            .collect()
    }
}

#[test]
fn a_draft_is_compared_with_what_was_done() {
    let week = week();
    let check = |draft: &str, expected: &[(&str, &str)]| {
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|(change, subject)| ((*change).to_owned(), (*subject).to_owned()))
            .collect();
        assert_eq!(week.changes(draft), expected, "{draft}");
    };
    check(RULES, &[]);
    check(&format!("mailbox: {TARO}\n{RULES}"), &[]);
    check(
        "mailbox: taro@EAST.example.jp\n",
        &[("newly_passed", "special offer")],
    );
    check(
        "reject: {subject_contains: [HELLO, 未承諾]}\n",
        &[
            ("newly_passed", "special offer"),
            ("newly_held", "hello"),
            ("newly_held", "未承諾広告"),
        ],
    );
    // The first mail passes and is sent on; a target that had it already is not new.
    check(
        "forwarding:\n  mode: all\n  all: {to: [keiri@else.example], keep_copy: true}\n",
        &[
            ("newly_passed", "special offer"),
            ("newly_forwarded", "special offer"),
            ("newly_forwarded", "hello"),
            ("newly_forwarded", "未承諾広告"),
        ],
    );
    // Nor is one that is only written in another way.
    check(
        &RULES.replace("keiri@else.example", "Keiri@ELSE.example"),
        &[],
    );
    check(
        &RULES.replace("keiri@else.example", "keiri@else.example, new@else.example"),
        &[("newly_forwarded", "your invoice")],
    );
}

#[test]
fn a_line_has_what_the_contract_names() {
    let week = week();
    week.daemon.write("words.txt", "nothing\nhello\n");
    let lines = week.replay("reject: {subject_contains_file: words.txt}\n");
    let history = week.daemon.json(&["history", "--mailbox", TARO]);
    assert_eq!(lines.len(), 2);
    let (passed, held) = (&lines[0], &lines[1]);
    for (member, expected) in [
        ("schema", json!("sekimori.replay/1")),
        ("change", json!("newly_held")),
        ("id", history[1]["id"].clone()),
        ("sender", json!("a@s.example")),
        ("subject", json!("hello")),
        ("stage", json!("reject.subject_contains")),
        ("entry", json!("hello")),
        ("origin", json!("words.txt:2")),
        ("received_at", history[1]["received_at"].clone()),
    ] {
        assert_eq!(held[member], expected, "{member} of {held}");
    }
    assert_eq!(passed["change"], "newly_passed");
    assert_eq!(passed["stage"], "reject.subject_contains");
    assert_eq!(passed["entry"], "offer");
}

#[test]
fn text_has_the_counts_first() {
    let week = week();
    week.daemon.write(
        "draft.yaml",
        "version: 1\nreject: {subject_contains: [hello]}\n",
    );
    let ask = |more: &[&str]| {
        let command = [
            &["replay", "--mailbox", "taro", "--draft", "draft.yaml"],
            more,
        ]
        .concat();
        week.daemon.cli(&command).success().text()
    };
    let text = ask(&[]);
    let counts: Vec<&str> = text.lines().take(7).collect();
    assert_eq!(
        counts,
        [
            "mails:                4",
            "newly held:           1",
            "newly passed:         1",
            "newly forwarded:      0",
            "no longer forwarded:  1",
            "unchanged:            1",
            "not certain:          0",
        ],
        "{text}"
    );
    assert!(
        text.contains("hello  reject.subject_contains: hello (draft.yaml:2)"),
        "{text}"
    );
    assert!(
        text.contains("special offer  reject.subject_contains: offer"),
        "{text}"
    );
    let none = ask(&["--since", "2999-01-01T00:00:00Z"]);
    assert!(none.starts_with("mails:                0\n"), "{none}");
}

#[test]
fn what_cannot_be_replayed_and_why() {
    let mut week = week();
    let daemon = &week.daemon;
    let draft = |text: &str| daemon.write("draft.yaml", text);
    let replay = |mailbox: &str, file: &str| {
        daemon.cli(&["replay", "--mailbox", mailbox, "--draft", file, "--json"])
    };
    draft("version: 1\nreject: {subject_contains: [\"\", x], oops: 1}\nnotify: {to: [none]}\n");
    let done = replay(TARO, "draft.yaml").exit(78);
    for place in ["draft.yaml:2:", "draft.yaml:3:", "oops"] {
        assert!(done.stderr.contains(place), "{place} in {}", done.stderr);
    }
    // As an editor's parser of findings wants it: the place comes first.
    assert!(done.stderr.starts_with("draft.yaml:2:"), "{}", done.stderr);
    assert!(done.stdout.is_empty());
    draft("version: 1\nreject: {subject_contains_file: gone.txt}\n");
    assert!(
        replay(TARO, "draft.yaml")
            .exit(78)
            .stderr
            .contains("gone.txt")
    );
    draft(&format!("version: 1\nmailbox: {JIRO}\n"));
    let other = replay(TARO, "draft.yaml").exit(78).stderr;
    assert!(
        other.contains("draft.yaml:2:10") && other.contains(TARO),
        "{other}"
    );
    draft("version: 1\n");
    replay(TARO, "not-there.yaml").exit(66);
    replay("nobody@east.example.jp", "draft.yaml").exit(67);
    replay("taro@elsewhere.example", "draft.yaml").exit(67);
    replay("no address@", "draft.yaml").exit(64);
    daemon.cli(&["replay", "--mailbox", TARO]).exit(64);
    week.daemon.kill();
    week.daemon
        .cli(&["replay", "--mailbox", TARO, "--draft", "draft.yaml"])
        .exit(69);
}

#[test]
fn facts_outlive_a_restart_and_a_retry_adds_none() {
    let mut week = week();
    let raw = mail("a@friend.example", "offer twice");
    let ids = [(); 2].map(|()| week.daemon.give("a@s.example", TARO, &raw).id());
    assert_eq!(ids[0], ids[1]);
    let before = week.replay("");
    assert_eq!(before.len(), 2, "{before:?}");
    week.daemon.signal(rustix::process::Signal::TERM);
    week.daemon.await_end();
    week.daemon.start_again();
    assert_eq!(week.replay(""), before);
}

#[test]
fn a_mail_whose_facts_did_not_fit_is_not_certain() {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let raw = crlf(&format!(
        "From: a@friend.example\nSubject: {}\n\nx\n",
        "offer ".repeat(2000)
    ));
    daemon.give("a@s.example", TARO, &raw);
    daemon.write("draft.yaml", "version: 1\n");
    let text = eventually("its facts", || {
        let done = daemon.cli(&["replay", "--mailbox", TARO, "--draft", "draft.yaml"]);
        let text = done.success().text();
        text.starts_with("mails:                1").then_some(text)
    });
    assert!(text.contains("not certain:          1"), "{text}");
    assert!(text.contains("newly passed:         0"), "{text}");
}
