//! `check`: every error with its place, in one run.

use crate::harness::{Site, TARO, eventually, mail};

#[test]
fn good_files() {
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    site.cli(&["check"]).success();
    site.cli(&["check", "--deny-warnings"]).success();
    let json = site.cli(&["check", "--json"]).success();
    assert!(json.json().iter().all(|line| line["severity"] != "error"));
}

#[test]
fn all_errors_of_all_files_in_one_run() {
    let site = Site::new()
        .with("unknown: accept", "unknown: perhaps")
        .with("message_size: 1MiB", "message_size: 1000")
        .with_mailbox(TARO, "nonsense: 1\nreject:\n  subject_contains:\n    - ok entry\n    - \"\"\n    - #1 offer\n    - x\n  headers: [from_missing, subject_gone]\nspam: {scan: yes}\n")
        .with_mailbox("jiro@east.example.jp", "auto_reply: {start: tomorrow}\nlanguage: fr\n");
    let found = site.cli(&["check"]).exit(78);
    let text = found.text();
    for place in [
        "sekimori.yaml:",
        "taro.yaml:2:1: error[",
        "taro.yaml:6:",
        "taro.yaml:7:",
        "taro.yaml:8:",
        "taro.yaml:9:",
        "taro.yaml:10:",
        "jiro.yaml:2:",
        "jiro.yaml:3:",
    ] {
        let hit = text
            .lines()
            .any(|line| line.contains(place) && line.contains(": error["));
        assert!(hit, "{place} in:\n{text}");
    }
    assert!(
        text.lines()
            .filter(|line| line.contains("sekimori.yaml:") && line.contains(": error["))
            .count()
            >= 2,
        "{text}"
    );
    assert!(
        text.contains("    - #1 offer") || text.contains("- #1 offer"),
        "the source line is shown:\n{text}"
    );
    let json = site.cli(&["check", "--json"]).exit(78).json();
    let errors = text
        .lines()
        .filter(|line| line.contains(": error["))
        .count();
    assert_eq!(
        json.iter()
            .filter(|line| line["severity"] == "error")
            .count(),
        errors
    );
    for line in json {
        assert_eq!(line["schema"], "sekimori.check/1");
        assert!(
            line["line"].is_number() && line["col"].is_number() && line["file"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn an_error_has_file_line_column_id_source_and_suggestion() {
    let site = Site::new().with_mailbox(TARO, "reject:\n  subject_contain: [offer]\n");
    let text = site.cli(&["check"]).exit(78).text();
    let line = text
        .lines()
        .find(|line| line.contains("taro.yaml:3:3: error["))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("subject_contain"), "{line}");
    assert!(
        text.contains("subject_contain: [offer]"),
        "the source line: {text}"
    );
    assert!(text.contains("subject_contains"), "a suggestion: {text}");
}

#[test]
fn where_duplicates_and_surplus_are() {
    let check = |settings: &str, place: &str| {
        let site = Site::new().with_mailbox(TARO, settings);
        let text = site.cli(&["check"]).exit(78).text();
        assert!(
            text.contains(&format!("taro.yaml:{place}")),
            "{place} in:\n{text}"
        );
    };
    check("language: ja\nspam: {scan: true}\nlanguage: en\n", "4:");
    check(
        "reject:\n  from_suffixes: |\n    @a.example\n    @b.example\n    @A.example\n",
        "6:",
    );
    check(
        "notify:\n  to:\n    - a@x.example\n    - b@x.example\n    - c@x.example\n    - d@x.example\n",
        "7:",
    );
    let big: String = (0..10_500)
        .map(|n| format!("          pattern-{n:05}\n"))
        .collect();
    check(
        &format!(
            "forwarding:\n  mode: rules\n  rules:\n    - to: [a@x.example]\n      subject_contains: |\n{big}"
        ),
        "6:",
    );
    let rules = "    - {to: [a@x.example], subject_contains: [abc]}\n".repeat(11);
    check(
        &format!("forwarding:\n  mode: rules\n  rules:\n{rules}"),
        "15:",
    );
}

#[test]
fn yaml_traps() {
    for settings in [
        "reject: &a {subject_contains: [offer]}\n",
        "reject: !tag {subject_contains: [offer]}\n",
        "language:\n",
        "language: null\n",
        "spam: {scan: yes}\n",
        "spam: {scan: \"true\"}\n",
        "reject: {subject_contains: [1234]}\n",
        "reject: {subject_contains: [true]}\n",
        "reject: {subject_contains: [- ]}\n",
        "reject:\n  subject_contains:\n    - !important\n",
        "reject:\n  subject_contains:\n    -\n",
        "reject: {subject_contains: [x]}\n",
        "version: 1\n",
        "\tlanguage: ja\n",
        "language: [ja\n",
        "a: \u{1}\n",
    ] {
        let site = Site::new().with_mailbox(TARO, settings);
        let found = site.cli(&["check"]);
        assert_eq!(found.code, 78, "{settings:?}: {}", found.text());
        assert!(
            found.text().contains("taro.yaml:"),
            "{settings:?}: {}",
            found.text()
        );
    }
}

#[test]
fn versions() {
    let site = Site::new();
    for text in [
        "language: ja\n",
        "version: 2\n",
        "version: \"1\"\n",
        "",
        "# nothing\n",
    ] {
        site.write("mailboxes/east.example.jp/taro.yaml", text);
        let found = site.cli(&["check"]);
        assert_eq!(found.code, 78, "{text:?}: {}", found.text());
    }
    site.write(
        "mailboxes/east.example.jp/taro.yaml",
        "\u{feff}version: 1\r\nlanguage: en\r\n",
    );
    site.cli(&["check"]).success();
}

#[test]
fn lists_of_patterns_in_their_forms() {
    for list in [
        "|\n    one\n\n    two\n",
        "one pattern\n",
        "[one, \"two\"]\n",
        "\n    - one\n    - \"#1 offer\"\n",
    ] {
        let site = Site::new().with_mailbox(TARO, &format!("reject:\n  subject_contains: {list}"));
        let found = site.cli(&["check"]);
        assert_eq!(found.code, 0, "{list:?}: {}", found.text());
    }
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains_file: words.txt}\n");
    site.cli(&["check"]).exit(78);
    site.write(
        "mailboxes/east.example.jp/words.txt",
        "未承諾広告\n#1 offer\n\n",
    );
    site.cli(&["check"]).success();
    let arguments = ["explain", "--mailbox", TARO, "-", "--json"];
    let found = site
        .cli_with_input(
            &arguments,
            "From: a@b.example\nSubject: #1 offer\n\n".as_bytes(),
        )
        .success();
    assert_eq!(found.json()[0]["origin"], "words.txt:2");
}

#[test]
fn what_is_not_built_yet_is_refused() {
    for (from, to) in [
        (
            "store: {path: state}",
            "trust: {verify: dns}\nstore: {path: state}",
        ),
        (
            "store: {path: state}",
            "trust:\n  srs: {enabled: true, domain: srs.example.jp, secret_file: srs.secret}\nstore: {path: state}",
        ),
        (
            "store: {path: state}",
            "metrics: {listen: \"127.0.0.1:9424\"}\nstore: {path: state}",
        ),
    ] {
        let site = Site::new().with(from, to);
        let text = site.cli(&["check"]).exit(78).text();
        assert!(text.contains("not built yet"), "{to}: {text}");
        let mut child = site.spawn();
        assert_eq!(child.wait().unwrap().code(), Some(78), "{to}");
    }
}

#[test]
fn warnings_fail_only_when_they_are_denied() {
    // An allow entry that a reject entry covers.
    let site = Site::new().with_mailbox(TARO, "reject: {from_suffixes: [\"@example.com\"]}\nallow: {senders: [\"partner@example.com\"]}\n");
    let found = site.cli(&["check"]).exit(0);
    assert!(found.text().contains("warning["), "{}", found.text());
    site.cli(&["check", "--deny-warnings"]).exit(1);
    let json = site.cli(&["check", "--json"]).success().json();
    assert!(json.iter().any(|line| line["severity"] == "warning"));
}

#[test]
fn paths_choose_what_is_checked() {
    let site = Site::new()
        .with_mailbox(TARO, "nonsense: 1\n")
        .with_mailbox("jiro@east.example.jp", "language: ja\n");
    site.cli(&["check", "mailboxes/east.example.jp/jiro.yaml"])
        .success();
    site.cli(&["check", "mailboxes/east.example.jp/taro.yaml"])
        .exit(78);
    site.cli(&[
        "check",
        "mailboxes/east.example.jp/jiro.yaml",
        "mailboxes/east.example.jp/taro.yaml",
    ])
    .exit(78);
    site.cli(&["check", "no-such-file.yaml"]).exit(66);
}

#[test]
fn run_refuses_what_check_refuses() {
    let site = Site::new().with("unknown: accept", "unknown: perhaps");
    let mut child = site.spawn();
    assert_eq!(child.wait().unwrap().code(), Some(78));
    let told = std::fs::read_to_string(site.path("stderr.log")).unwrap();
    assert!(
        told.contains("sekimori.yaml:") && told.contains("error["),
        "{told}"
    );
}

#[test]
fn every_key_of_a_mailbox_file_counts() {
    let site = Site::new().with_mailbox(
        TARO,
        "\
mailbox: taro@east.example.jp
aliases: [t.yamada@east.example.jp]
language: ja
timezone: Asia/Tokyo
announcements: true
reject:
  from_suffixes: |
    @spam.example
  subject_contains: |
    未承諾広告
    #1 offer
  headers: [from_missing, from_empty, from_empty_address, subject_missing, subject_empty]
allow:
  before_reject: false
  senders: |
    partner@example.com
  verified_senders: |
    bank@example.net
virus: {scan: true}
spam: {scan: true, mark_subject: \"[spam]\", quarantine: true, notice: daily}
forwarding:
  mode: rules
  rules:
    - name: invoices
      match: all
      paused: false
      subject_contains: |
        請求書
      from_suffixes: |
        @supplier.example
      attachment: true
      size: {at_least: 10KiB}
      to: [keiri@example.jp]
      keep_copy: true
notify:
  to: [taro.mobile@example.net]
  fields: [from, to, subject, attachment, size]
auto_reply:
  enabled: true
  start: 2026-12-28T00:00:00+09:00
  end: 2027-01-04T23:59:59+09:00
  subject: \"自動返信: %{subject}\"
  message: |
    休み
  per_sender:
    - senders: |
        @supplier.example
      message: |
        電話
",
    );
    let found = site.cli(&["check"]);
    assert_eq!(found.code, 0, "{}", found.text());
}

#[test]
fn limits_of_the_manual() {
    let suffix = |length: usize| {
        format!(
            "reject: {{from_suffixes: [\"@{}\"]}}\n",
            "a".repeat(length - 1)
        )
    };
    let subject = |length: usize| {
        format!(
            "reject: {{subject_contains: [\"{}\"]}}\n",
            "あ".repeat(length)
        )
    };
    for (settings, code) in [
        (suffix(320), 0),
        (suffix(321), 78),
        (subject(1), 78),
        (subject(2), 0),
        (subject(320), 0),
        (subject(321), 78),
        (
            "notify: {to: [a@x.example, b@x.example, c@x.example]}\n".to_owned(),
            0,
        ),
        (
            "notify: {to: [a@x.example, b@x.example, c@x.example, d@x.example]}\n".to_owned(),
            78,
        ),
        (
            format!(
                "auto_reply: {{enabled: true, message: \"{}\"}}\n",
                "x".repeat(65_536)
            ),
            0,
        ),
        (
            format!(
                "auto_reply: {{enabled: true, message: \"{}\"}}\n",
                "x".repeat(65_537)
            ),
            78,
        ),
    ] {
        let site = Site::new().with_mailbox(TARO, &settings);
        let found = site.cli(&["check"]);
        let shown: String = settings.chars().take(60).collect();
        assert_eq!(
            found.code,
            code,
            "{shown}: {}",
            found.text().chars().take(300).collect::<String>()
        );
    }
}

#[test]
fn a_list_of_a_forwarding_rule_holds_102_400_octets() {
    let list = |octets: usize| {
        // Nine octets and one for the line each.
        let mut lines: Vec<String> = (0..octets / 10 - 1).map(|n| format!("p{n:08}")).collect();
        lines.push("q".repeat(9 + octets % 10));
        let text: String = lines
            .iter()
            .map(|line| format!("        {line}\n"))
            .collect();
        format!(
            "forwarding:\n  mode: rules\n  rules:\n    - to: [a@x.example]\n      subject_contains: |\n{text}"
        )
    };
    let code = |octets| {
        Site::new()
            .with_mailbox(TARO, &list(octets))
            .cli(&["check"])
            .code
    };
    assert_eq!(code(102_400), 0);
    assert_eq!(code(102_401), 78);
}

#[test]
fn a_short_subject_entry_is_held_against_the_mail_that_there_was() {
    let short = "reject:\n  subject_contains: |\n    Re\n    fy\n    zz\n";
    let site = Site::new().with_mailbox(TARO, "language: ja\n");
    let daemon = site.start();
    for n in 0..30 {
        // `re` in a fifth of them, `fy` in three (10 % is not more than 10 %), all in a long text.
        let word = match n {
            0..6 => "ＲＥ: about",
            6..9 => "satisfy",
            _ => "about",
        };
        daemon.give(
            "a@b.example",
            TARO,
            &mail("a@b.example", &format!("{word} {n}")),
        );
    }
    eventually("the facts of all", || {
        let known = daemon.site.cli(&["history", "--mailbox", TARO, "--json"]);
        (known.json().len() == 30).then_some(())
    });
    daemon.site.set_mailbox(TARO, short);
    let found = daemon.site.cli(&["check", "--json"]).success().json();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["id"], "broad-subject");
    assert_eq!(found[0]["line"], 4);
    let words = found[0]["message"].as_str().unwrap();
    assert!(
        words.contains("6 of the mailbox's last 30 mails"),
        "{words}"
    );

    // Without a daemon nothing is known, and nothing is said.
    let site = Site::new().with_mailbox(TARO, short);
    assert!(site.cli(&["check", "--json"]).success().json().is_empty());
}
