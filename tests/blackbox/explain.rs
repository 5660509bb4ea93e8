//! `explain`: the dry run, in JSON and as text.

use serde_json::json;

use crate::harness::{Site, TARO, crlf};

/// A mailbox file whose line 14 (with its `version: 1`) is the pattern of the tests.
const SETTINGS: &str = "\
mailbox: taro@east.example.jp
aliases: [t.yamada@east.example.jp]
language: ja
timezone: Asia/Tokyo
announcements: true

reject:
  from_suffixes: |
    @spam.example
    .bulk.example
    noreply@shop.example
  subject_contains: |
    未承諾広告
    [広告]
    #1 offer
  headers:
    - from_missing
    - subject_empty

allow:
  senders: |
    partner@example.com

virus: {scan: true}

spam:
  scan: true
  mark_subject: \"[spam]\"
  quarantine: false

forwarding:
  mode: rules
  rules:
    - name: unused
      subject_contains: [zzzz]
      to: [z@else.example]
      keep_copy: true
    - name: invoices
      subject_contains: [請求書]
      to: [keiri@else.example]
      keep_copy: false

notify:
  to: [mobile@else.example]

auto_reply:
  enabled: true
  message: |
    Away.
";

fn site() -> Site {
    Site::new().with_mailbox(TARO, SETTINGS)
}

fn explain(site: &Site, sender: &str, raw: &str) -> serde_json::Value {
    let arguments = [
        "explain",
        "--mailbox",
        TARO,
        "--sender",
        sender,
        "-",
        "--json",
    ];
    let mut values = site
        .cli_with_input(&arguments, raw.as_bytes())
        .success()
        .json();
    assert_eq!(values.len(), 1);
    values.remove(0)
}

#[test]
fn a_quarantined_mail_is_the_object_of_the_contract() {
    let found = explain(
        &site(),
        "a@friend.example",
        "From: a@friend.example\nSubject: 未承諾広告\n\nx\n",
    );
    let members: Vec<&str> = found
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        members,
        [
            "schema",
            "mailbox",
            "verdict",
            "stage",
            "entry",
            "origin",
            "mark",
            "forward",
            "notify",
            "auto_reply",
            "steps"
        ]
    );
    assert_eq!(found["schema"], "sekimori.explain/1");
    assert_eq!(found["mailbox"], TARO);
    assert_eq!(found["verdict"], "quarantine");
    assert_eq!(found["stage"], "reject.subject_contains");
    assert_eq!(found["entry"], "未承諾広告");
    assert_eq!(found["origin"], "taro.yaml:14");
    assert_eq!(found["mark"], json!(null));
    assert_eq!(
        found["forward"],
        json!({"rule": null, "to": [], "keep": true})
    );
    assert_eq!(found["notify"], json!([]));
    assert_eq!(
        found["auto_reply"],
        json!({"would_send": false, "reason": "quarantined"})
    );
    let steps = found["steps"].as_array().unwrap();
    assert_eq!(
        steps[0],
        json!({"stage": "reject.from_suffixes", "outcome": "pass"})
    );
    assert_eq!(
        steps[1],
        json!({"stage": "reject.subject_contains", "outcome": "match", "entry": "未承諾広告", "origin": "taro.yaml:14"})
    );
}

#[test]
fn a_delivered_mail_names_what_would_be_done() {
    let found = explain(
        &site(),
        "a@friend.example",
        "From: a@friend.example\nTo: taro@east.example.jp\nSubject: 請求書\n\nx\n",
    );
    assert_eq!(found["verdict"], "forward");
    for null in ["stage", "entry", "origin", "mark"] {
        assert_eq!(found[null], json!(null), "{null}");
    }
    assert_eq!(
        found["forward"],
        json!({"rule": "forwarding.rules[1]", "to": ["keiri@else.example"], "keep": false})
    );
    assert_eq!(found["notify"], json!(["mobile@else.example"]));
    assert_eq!(
        found["auto_reply"],
        json!({"would_send": true, "reason": null})
    );
    let stages: Vec<&str> = found["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        stages,
        [
            "reject.from_suffixes",
            "reject.subject_contains",
            "reject.headers",
            "allow",
            "virus",
            "spam",
            "forwarding",
            "notify",
            "auto_reply"
        ]
    );
    for step in found["steps"].as_array().unwrap() {
        assert!(
            ["match", "pass", "off", "skipped"].contains(&step["outcome"].as_str().unwrap()),
            "{step}"
        );
    }
}

#[test]
fn the_first_of_several_entries_in_the_file_is_named() {
    let found = explain(
        &site(),
        "",
        "From: x@a.bulk.example, noreply@shop.example\nSubject: #1 offer [広告]\n\nx\n",
    );
    assert_eq!(found["stage"], "reject.from_suffixes");
    assert_eq!(
        (&found["entry"], &found["origin"]),
        (&json!(".bulk.example"), &json!("taro.yaml:11"))
    );
    let found = explain(
        &site(),
        "",
        "From: a@b.example\nSubject: #1 offer [広告]\n\nx\n",
    );
    assert_eq!(
        (&found["entry"], &found["origin"]),
        (&json!("[広告]"), &json!("taro.yaml:15"))
    );
}

#[test]
fn header_states_are_named_by_their_word() {
    let found = explain(&site(), "", "Subject: x\n\nx\n");
    assert_eq!(found["stage"], "reject.headers");
    assert_eq!(found["entry"], "from_missing");
    assert_eq!(found["origin"], "taro.yaml:18");
}

#[test]
fn spam_that_is_marked_shows_its_mark() {
    let found = explain(
        &site(),
        "a@b.example",
        "From: a@b.example\nTo: taro@east.example.jp\nSubject: x\nX-Spam-Flag: YES\n\nx\n",
    );
    assert_eq!(found["verdict"], "deliver");
    assert_eq!(found["mark"], "[spam]");
    assert_eq!(found["auto_reply"]["would_send"], false);
}

#[test]
fn an_allowed_sender_skips_the_spam_stage() {
    let found = explain(
        &site(),
        "a@b.example",
        "From: partner@example.com\nTo: taro@east.example.jp\nSubject: x\nX-Spam-Flag: YES\n\nx\n",
    );
    let outcome = |stage: &str| {
        let steps = found["steps"].as_array().unwrap();
        steps.iter().find(|step| step["stage"] == stage).unwrap()["outcome"].clone()
    };
    assert_eq!(outcome("allow"), "match");
    assert_eq!(outcome("spam"), "skipped");
    assert_eq!(found["mark"], json!(null));
}

#[test]
fn forwarding_all_is_named() {
    let site = Site::new().with_mailbox(
        TARO,
        "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\n",
    );
    let found = explain(&site, "", "From: a@b.example\nSubject: x\n\nx\n");
    assert_eq!(
        found["forward"],
        json!({"rule": "forwarding.all", "to": ["home@else.example"], "keep": true})
    );
    assert_eq!(found["verdict"], "deliver");
}

#[test]
fn a_mailbox_without_a_file_has_the_defaults() {
    let found = explain(&Site::new(), "", "From: a@b.example\nSubject: x\n\nx\n");
    assert_eq!(found["verdict"], "deliver");
    assert_eq!(found["notify"], json!([]));
}

#[test]
fn the_sender_is_given_or_the_return_path_or_null() {
    let site = site();
    let reason = |extra: &[&str], raw: &str| {
        let arguments = [&["explain", "--mailbox", TARO, "-", "--json"], extra].concat();
        let found = site
            .cli_with_input(&arguments, raw.as_bytes())
            .success()
            .json()
            .remove(0);
        found["auto_reply"].clone()
    };
    let raw = "From: a@b.example\nTo: taro@east.example.jp\nSubject: x\n\nx\n";
    let with_path = format!("Return-Path: <p@b.example>\nReturn-Path: <>\n{raw}");
    assert_eq!(
        reason(&[], raw)["would_send"],
        false,
        "no Return-Path is <>"
    );
    assert_eq!(reason(&[], &with_path)["would_send"], true);
    assert_eq!(reason(&["--sender", "<>"], &with_path)["would_send"], false);
    assert_eq!(reason(&["--sender", ""], &with_path)["would_send"], false);
    assert_eq!(
        reason(&["--sender", "s@b.example"], raw)["would_send"],
        true
    );
    assert_eq!(
        reason(&["--sender", "<s@b.example>"], raw)["would_send"],
        true
    );
}

#[test]
fn line_ends_count_as_crlf() {
    let site = Site::new().with_mailbox(
        TARO,
        "forwarding:\n  mode: rules\n  rules:\n    - size: {at_least: 1KiB}\n      to: [z@else.example]\n      keep_copy: true\n",
    );
    let head = "From: a@b.example\nSubject: x\n\n";
    // 1,024 octets with CRLF, fewer with LF.
    let wire = crlf(head).len();
    let body = format!("{}\n", "y".repeat(1024 - wire - 2));
    let found = explain(&site, "", &format!("{head}{body}"));
    assert_eq!(found["forward"]["rule"], "forwarding.rules[0]");
    let found = explain(&site, "", &format!("{head}{}", &body[1..]));
    assert_eq!(found["forward"]["rule"], json!(null));
}

#[test]
fn files_and_text() {
    let site = site();
    site.write("mail.eml", "From: a@spam.example\nSubject: x\n\nx\n");
    let text = site
        .cli(&["explain", "--mailbox", "taro", "mail.eml"])
        .success()
        .text();
    for word in [
        "quarantine",
        "reject.from_suffixes",
        "@spam.example",
        "taro.yaml:10",
        "reject.headers",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let alias = site
        .cli(&[
            "explain",
            "--mailbox",
            "t.yamada@east.example.jp",
            "mail.eml",
            "--json",
        ])
        .success();
    assert_eq!(alias.json()[0]["mailbox"], TARO);
    let before = site
        .cli(&["--json", "explain", "--mailbox", TARO, "mail.eml"])
        .success();
    assert_eq!(before.json().len(), 1, "--json before the command");
}

#[test]
fn how_it_fails() {
    let site = site();
    site.cli(&["explain", "--mailbox", TARO, "no-such-file.eml"])
        .exit(66);
    site.cli(&["explain", "--mailbox", "x@elsewhere.example", "-"])
        .exit(67);
    site.cli(&["explain", "--mailbox", TARO]).exit(64);
    site.cli(&["explain", "-"]).exit(64);
    site.cli(&["explain", "--mailbox", "not an address@", "-"])
        .exit(64);
    site.cli(&[
        "explain",
        "--mailbox",
        TARO,
        "--sender",
        "not an address",
        "-",
    ])
    .exit(64);
    let strict = Site::new().with("unknown: accept", "unknown: reject");
    strict.cli(&["explain", "--mailbox", TARO, "-"]).exit(67);
    let broken = Site::new().with_mailbox(TARO, "nonsense: 1\n");
    let refused = broken.cli(&["explain", "--mailbox", TARO, "-"]);
    assert_eq!(refused.code, 78, "{refused:?}");
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let site = Site::new().with_mailbox(TARO, "reject: {from_suffixes: [\"@spam.example\"]}\n");
    let raw = "From: \"\u{1b}[2J\" <\u{1b}]0;x\u{7}@spam.example>\nSubject: \u{1b}[31mred\nMessage-ID: <\u{1b}[1m>\n\nx\n";
    let text = site
        .cli_with_input(&["explain", "--mailbox", TARO, "-"], raw.as_bytes())
        .success()
        .text();
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "{text:?}"
    );
}

#[test]
fn any_octets_are_explained() {
    let site = site();
    for raw in [
        &b""[..],
        b"\0\0\0",
        b"\r\n",
        b"\n\n\n",
        b"From",
        &[0xff; 4096],
        b"Subject: =?ISO-2022-JP?B?GyRC?=\n\n",
    ] {
        site.cli_with_input(&["explain", "--mailbox", TARO, "-"], raw)
            .success();
    }
}

#[test]
fn a_virus_is_a_replacement() {
    let found = explain(
        &site(),
        "a@b.example",
        "From: a@b.example\nTo: taro@east.example.jp\nSubject: 請求書\nX-Virus-Status: Infected (Eicar)\n\nx\n",
    );
    assert_eq!(
        (&found["verdict"], &found["stage"]),
        (&json!("replace"), &json!("virus"))
    );
    assert!(
        found["entry"].is_string() && found["origin"].is_null(),
        "{found}"
    );
    assert_eq!(found["auto_reply"]["would_send"], false);
}

#[test]
fn the_daemon_and_explain_agree() {
    let daemon = site().start();
    for raw in [
        "From: a@spam.example\nSubject: x\n\nx\n",
        "From: a@b.example\nSubject: [広告]\n\nx\n",
        "From: a@b.example\nSubject:\n\nx\n",
        "From: a@b.example\nSubject: 請求書\n\nx\n",
        "From: a@b.example\nSubject: x\nX-Virus-Status: Infected\n\nx\n",
        "From: a@b.example\nSubject: x\n\nx\n",
    ] {
        let planned = explain(&daemon, "a@b.example", raw);
        let id = daemon.give("a@b.example", TARO, &crlf(raw)).id();
        let why = daemon.one(&["why", &id]);
        for member in [
            "mailbox",
            "verdict",
            "stage",
            "entry",
            "origin",
            "mark",
            "forward",
            "notify",
            "auto_reply",
            "steps",
        ] {
            assert_eq!(planned[member], why[member], "{member} of {raw}");
        }
    }
}

/// The object of `--all-stages` for a mail.
fn all_stages(site: &Site, raw: &str) -> serde_json::Value {
    let arguments = ["explain", "--mailbox", TARO, "-", "--json", "--all-stages"];
    let mut values = site
        .cli_with_input(&arguments, raw.as_bytes())
        .success()
        .json();
    values.remove(0)
}

#[test]
fn all_stages_adds_one_member() {
    let raw = "From: x@a.bulk.example, y@spam.example\nTo: taro@east.example.jp\n\
        Subject: #1 offer [広告] 請求書\nReturn-Path: <p@b.example>\nX-Spam-Flag: YES\n\nx\n";
    let found = all_stages(&site(), raw);
    let mut rest = found.as_object().unwrap().clone();
    let stages = rest.remove("all_stages").unwrap();
    assert_eq!(
        explain(&site(), "p@b.example", raw).as_object().unwrap(),
        &rest
    );
    let entry =
        |entry: &str, line: u32| json!({"entry": entry, "origin": format!("taro.yaml:{line}")});
    assert_eq!(
        stages,
        json!([
            {"stage": "reject.from_suffixes", "outcome": "match", "entry": "@spam.example",
             "origin": "taro.yaml:10", "verdict": "quarantine",
             "entries": [entry("@spam.example", 10), entry(".bulk.example", 11)]},
            {"stage": "reject.subject_contains", "outcome": "match", "entry": "[広告]",
             "origin": "taro.yaml:15", "verdict": "quarantine",
             "entries": [entry("[広告]", 15), entry("#1 offer", 16)]},
            {"stage": "reject.headers", "outcome": "pass"},
            {"stage": "allow", "outcome": "pass"},
            {"stage": "virus", "outcome": "pass"},
            {"stage": "spam", "outcome": "match", "entry": "spam", "origin": null, "mark": "[spam]"},
            {"stage": "forwarding", "outcome": "match", "entry": "請求書", "origin": "taro.yaml:40",
             "forward": {"rule": "forwarding.rules[1]", "to": ["keiri@else.example"], "keep": false}},
            {"stage": "notify", "outcome": "match", "notify": ["mobile@else.example"]},
            {"stage": "auto_reply", "outcome": "match", "auto_reply": {"would_send": true, "reason": null}},
        ])
    );
}

/// The text for a mail, in a language that is asked for or in that of the locale.
fn told(site: &Site, options: &[&str], raw: &str) -> String {
    let arguments = [&["explain", "--mailbox", TARO, "-"], options].concat();
    site.cli_with_input(&arguments, raw.as_bytes())
        .success()
        .text()
}

#[test]
fn an_owner_reads_what_would_hold_it_next() {
    let two = "From: a@spam.example\nSubject: [広告] #1 offer\n\nx\n";
    let one = "From: a@spam.example\nSubject: x\n\nx\n";
    let spam = "From: a@spam.example\nSubject: x\nX-Spam-Flag: YES\n\nx\n";
    let english = ["--all-stages", "--language", "en"];
    let japanese = ["--all-stages", "--language", "ja"];
    let text = told(&site(), &english, two);
    assert!(
        text.ends_with(
            "\nWithout this entry the mail would still be stopped by:\n  \
             Subject reject list (reject.subject_contains) \"[広告]\" (taro.yaml:15)\n  \
             Subject reject list (reject.subject_contains) \"#1 offer\" (taro.yaml:16)\n"
        ),
        "{text}"
    );
    let text = told(&site(), &japanese, two);
    assert!(
        text.ends_with(
            "\nこの登録を外しても、次のものがこのメールを止めます:\n  \
             Subject受信拒否 (reject.subject_contains) 「[広告]」 (taro.yaml:15)\n  \
             Subject受信拒否 (reject.subject_contains) 「#1 offer」 (taro.yaml:16)\n"
        ),
        "{text}"
    );
    let nothing = "Without this entry nothing would stop the mail.\n";
    let text = told(&site(), &english, one);
    assert!(text.ends_with(nothing), "{text}");
    // Spam is marked here, not held.
    let text = told(&site(), &english, spam);
    assert!(text.ends_with(nothing), "{text}");
    let holding =
        "reject: {from_suffixes: [\"@spam.example\"]}\nspam: {scan: true, quarantine: true}\n";
    let text = told(&Site::new().with_mailbox(TARO, holding), &english, spam);
    assert!(
        text.ends_with("stopped by:\n  spam scan (spam) \"spam\"\n"),
        "{text}"
    );
    let allowed = format!("{holding}allow: {{senders: [\"@spam.example\"]}}\n");
    let text = told(&Site::new().with_mailbox(TARO, &allowed), &english, spam);
    assert!(text.ends_with(nothing), "{text}");
    let text = told(&site(), &["--language", "en"], two);
    assert!(!text.contains("Without this entry"), "{text}");
}

#[test]
fn the_text_is_in_the_language_of_the_owner() {
    let check = |variables: &[(&str, &str)], options: &[&str], japanese: bool| {
        let site = site();
        let mut command = std::process::Command::new(crate::harness::PROGRAM);
        command
            .arg("--config")
            .arg(site.path("sekimori.yaml"))
            .args(["explain", "--mailbox", TARO, "-"])
            .args(options)
            .envs(["LC_ALL", "LC_MESSAGES", "LANG"].map(|name| (name, "")))
            .envs(variables.iter().copied());
        let done = crate::harness::Done::of(&mut command, b"From: a@spam.example\n\nx\n").success();
        let expected = if japanese {
            "このメールは隔離されます。 [verdict: quarantine]\n  \
             決め手: From受信拒否 (reject.from_suffixes) 「@spam.example」 (taro.yaml:10)\n"
        } else {
            "This mail would be held in quarantine. [verdict: quarantine]\n  \
             Decided by: From reject list (reject.from_suffixes) \"@spam.example\" (taro.yaml:10)\n"
        };
        let text = done.text();
        assert!(
            text.starts_with(expected),
            "{variables:?} {options:?}: {text}"
        );
    };
    check(&[], &[], false);
    check(&[("LANG", "ja_JP.UTF-8")], &[], true);
    check(
        &[("LANG", "ja_JP.UTF-8"), ("LC_ALL", "C.UTF-8")],
        &[],
        false,
    );
    check(
        &[("LANG", "de_DE.UTF-8"), ("LC_MESSAGES", "ja_JP")],
        &[],
        true,
    );
    check(&[("LC_MESSAGES", "C"), ("LC_ALL", "ja")], &[], true);
    check(&[("LANG", "ja_JP.UTF-8")], &["--language", "en"], false);
    check(&[("LANG", "C")], &["--language", "ja"], true);
}

#[test]
fn why_tells_what_was_done() {
    let daemon = site().start();
    let raw = crlf("From: a@b.example\nTo: taro@east.example.jp\nSubject: x\n\nx\n");
    let id = daemon.give("a@b.example", TARO, &raw).id();
    let told = |language: &str| {
        let arguments = ["why", &id, "--language", language];
        daemon.cli(&arguments).success().text()
    };
    let (english, japanese) = (told("en"), told("ja"));
    for words in [
        "This mail was delivered to the mailbox. [verdict: deliver]\n",
        "\nsender: a@b.example\n",
        "  8 receipt notice (notify): match\n",
        "\nreceipt notice: to mobile@else.example\n",
        "\nwhat was sent and kept:\n  receipt notice to mobile@else.example: ",
        "\n  auto-reply to a@b.example: ",
    ] {
        assert!(english.contains(words), "{words:?} in {english}");
    }
    let held = crlf("From: a@b.example\nSubject: =?utf-8?B?5pyq5om/6Ku+5bqD5ZGK4oC7?=\n\nx\n");
    let held = daemon.give("a@b.example", TARO, &held).id();
    let text = daemon
        .cli(&["why", &held, "--language", "ja"])
        .success()
        .text();
    let begin = "このメールは隔離されました。 [verdict: quarantine]\n  \
        決め手: Subject受信拒否 (reject.subject_contains) 「未承諾広告」 (taro.yaml:14)\n  \
        メールの該当箇所: 「未承諾広告」\n";
    assert!(text.starts_with(begin), "{text}");
    assert!(text.contains("\n件名: 未承諾広告※\n"), "{text}");
    assert!(
        text.ends_with("  隔離: taro@east.example.jp 宛て: 隔離中\n"),
        "{text}"
    );
    for words in [
        "このメールはメールボックスに届きました。 [verdict: deliver]\n",
        "\n差出人: a@b.example\n",
        "  8 受信通知 (notify): 一致\n",
        "\n受信通知: mobile@else.example へ\n",
        "\n送信と保存の状況:\n  受信通知: mobile@else.example 宛て: ",
        "\n  自動返信: a@b.example 宛て: ",
    ] {
        assert!(japanese.contains(words), "{words:?} in {japanese}");
    }
}
