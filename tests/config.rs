//! Settings from outside: text in, located findings or compiled settings out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sekimori::config::{
    self, Config, Delivery, Diagnostic, Directory, Lookup, Mailbox, SpamNotice,
};
use sekimori::mail::Address;
use sekimori::mail::fold::{fold, fold_address};
use sekimori::policy::Forwarding;

fn places(found: &[Diagnostic]) -> Vec<String> {
    found
        .iter()
        .map(|d| format!("{}:{}", d.line, d.id))
        .collect()
}

fn daemon(text: &str) -> Vec<String> {
    match Config::parse(text, Path::new("/etc/sekimori")) {
        Ok(loaded) => places(&loaded.warnings),
        Err(found) => places(&found),
    }
}

fn built_in() -> Config {
    Config::parse("version: 1\n", Path::new("/etc/sekimori"))
        .unwrap()
        .config
}

fn parse(text: &str) -> Result<Mailbox, Vec<Diagnostic>> {
    built_in().parse_mailbox(text, Path::new("/draft/taro.yaml"))
}

fn head(text: &str) -> String {
    format!("version: 1\nmailbox: taro@east.example.jp\n{text}")
}

/// Findings of a mailbox file whose first two lines are right.
fn mailbox(text: &str) -> Vec<String> {
    parse(&head(text))
        .err()
        .map(|found| places(&found))
        .unwrap_or_default()
}

#[track_caller]
fn table(check: fn(&str) -> Vec<String>, rows: &[(&str, &[&str])]) {
    let mut wrong = String::new();
    for (text, expected) in rows {
        let found = check(text);
        if found != *expected {
            wrong += &format!("{text:?}\n  expected {expected:?}\n  found    {found:?}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_no_settings_file_needs_is_refused_with_its_line() {
    table(
        daemon,
        &[
            ("version: 1\n", &[]),
            ("\u{feff}version: 1\r\nstore:\r\n  path: x\r\n", &[]),
            ("---\nversion: 1\n", &[]),
            ("", &["1:version"]),
            ("# nothing\n", &["1:version"]),
            ("store: {path: x}\n", &["1:version"]),
            ("version: 2\n", &["1:version"]),
            ("version: '1'\n", &["1:type"]),
            ("version: 01\n", &["1:type"]),
            ("version:\n", &["1:null"]),
            ("- version\n", &["1:type"]),
            ("version\n", &["1:type"]),
            ("version: 1\nstore: &a {path: x}\n", &["2:anchor"]),
            (
                "version: 1\nstore: {path: &a x}\nquarantine: *a\n",
                &["2:anchor", "3:alias"],
            ),
            ("version: 1\nstore: {path: !!str x}\n", &["2:tag"]),
            (
                "version: 1\nstore: {path: x}\n---\nversion: 1\n",
                &["3:documents"],
            ),
            ("version: 1\nversion: 1\n", &["2:duplicate-key"]),
            (
                "version: 1\nstore: {path: a, path: b, path: c}\n",
                &["2:duplicate-key", "2:duplicate-key"],
            ),
            ("version: 1\nstore:\n", &["2:null"]),
            ("version: 1\nstore: ~\n", &["2:null"]),
            ("version: 1\nstore: {path: null}\n", &["2:null"]),
            ("version: 1\nstoer: {path: x}\n", &["2:unknown-key"]),
            ("version: 1\n'': x\n", &["2:unknown-key"]),
            ("version: 1\n? [a]\n: b\n", &["2:key", "2:unknown-key"]),
            ("version: 1\n<<: {}\n", &["2:unknown-key"]),
            ("version: 1\nstore: {path: x\n", &["3:syntax"]),
            ("version: 1\n\tstore: x\n", &["2:syntax"]),
            ("version: 1\n# \u{81}\n", &["2:control"]),
            ("version: 1\n# \u{ffff}\n", &["2:control"]),
            ("version: 1\nstore:\n\tpath: x\n", &["3:syntax"]),
            ("version: 1\nstore: a: b\n", &["2:syntax"]),
            (
                "version: 1\nstoer: x\nmailboxes: {watch: yes}\nstore: a: b\n",
                &["2:unknown-key", "3:type", "4:syntax"],
            ),
            ("version: 1\n\0stoer: x\n", &["2:control"]),
            ("version: 1\nstore: {path: \"a\x7fb\"}\n", &["2:control"]),
        ],
    );
}

#[test]
fn all_errors_of_a_file_come_in_one_run() {
    let text = "\
version: 1
server:
  hostnam: mx
  limits: {message_size: 50, recipients: 0, memory: 1TiB}
  timeouts: {command: 5, data_block: 3 m, final_reply: 0s}
mailboxes: {writable: yes, unknown: maybe, watch: 'true'}
relay: {port: 70000, retry: {factor: 0.5}}
control: {mode: '0999'}
";
    table(
        daemon,
        &[(
            text,
            &[
                "3:unknown-key",
                "4:value",
                "4:value",
                "4:value",
                "5:value",
                "5:value",
                "5:value",
                "6:type",
                "6:type",
                "6:type",
                "7:value",
                "7:value",
                "8:value",
            ],
        )],
    );
}

#[test]
fn daemon_file() {
    table(
        daemon,
        &[
            ("version: 1\nmailboxes: {writable: True}\n", &["2:type"]),
            ("version: 1\nmailboxes: {writable: on}\n", &["2:type"]),
            ("version: 1\ncontrol: {mode: 0660}\n", &[]),
            ("version: 1\nserver: {listeners: []}\n", &["2:empty"]),
            (
                "version: 1\nserver:\n  listeners:\n    - {listen: 127.0.0.1:1}\n    - {listen: 127.0.0.1:2}\n",
                &["5:duplicate"],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {name: a, listen: \"[::1]:24\"}\n    - {name: b, listen: \"[::1]:24\"}\n",
                &["5:duplicate"],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {listen: nowhere:99999}\n",
                &["4:value"],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {listen: run/lmtp.sock, protocol: smtp}\n",
                &[],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {listen: \"systemd:lmtp\"}\n",
                &[],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {clients: [10.0.0.1/8]}\n",
                &["4:value"],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {clients: [0.0.0.0/0]}\n",
                &["4:open"],
            ),
            (
                "version: 1\nserver:\n  listeners:\n    - {listen: 127.0.0.1:25}\n",
                &["4:lmtp-port"],
            ),
            ("version: 1\nserver: {timeouts: {final_reply: 8m}}\n", &[]),
            (
                "version: 1\nserver:\n  timeouts:\n    final_reply: 9m\n",
                &["4:final-reply"],
            ),
            ("version: 1\nmailboxes: {domains: []}\n", &[]),
            (
                "version: 1\nmailboxes: {domains: [a.jp, A.JP, \"b c\"]}\n",
                &["2:duplicate", "2:value"],
            ),
            (
                "version: 1\nmailboxes: {address_extension: \"++\"}\n",
                &["2:value"],
            ),
            ("version: 1\nmailboxes: {address_extension: \"\"}\n", &[]),
            (
                "version: 1\nmailboxes:\n  defaults:\n    mailbox: a@b.jp\n",
                &["4:unknown-key"],
            ),
            (
                "version: 1\nmailboxes:\n  defaults:\n    notify:\n      to: [a@b.jp, a@c.jp, a@d.jp, a@e.jp]\n",
                &["5:too-many"],
            ),
            ("version: 1\nannouncement_senders: |\n  @a.jp\n", &[]),
            ("version: 1\nannouncement_senders: []\n", &[]),
            (
                "version: 1\ndelivery: {maildir: {path: \"%{user}\"}}\n",
                &["2:value"],
            ),
            (
                "version: 1\ndelivery: {maildir: {path: \"x/%{localpart}\"}}\n",
                &["2:shared-maildir"],
            ),
            (
                "version: 1\ndelivery: {method: smtp, smtp: {address: \"[::1]:25\"}}\n",
                &[],
            ),
            (
                "version: 1\nrelay: {auth: {mechanism: plain, username: a}}\n",
                &["2:missing"],
            ),
            (
                "version: 1\nrelay: {host: mx.example.net, auth: {mechanism: login, username: a, password_file: p}}\n",
                &["2:clear-password"],
            ),
            (
                "version: 1\nrelay: {tls: starttls, host: mx.example.net, auth: {mechanism: xoauth2, username: a, password_file: \"credential:p\"}}\n",
                &[],
            ),
            ("version: 1\nrelay: {from: \"nobody\"}\n", &["2:value"]),
            (
                "version: 1\nquarantine: {notice: {daily_at: \"25:00\", timezone: Asia/Tokio}}\n",
                &["2:value", "2:value"],
            ),
            (
                "version: 1\nlimits: {subject_chars: {min: 9, max: 8}}\n",
                &["2:value"],
            ),
            (
                "version: 1\nlogging: {level: trace, redact: addresses}\n",
                &[],
            ),
            (
                "version: 1\nlogging: {target: journald, format: json}\n",
                &["2:conflict"],
            ),
            ("version: 1\nserver: {default_domain: a..b}\n", &["2:value"]),
            (
                "version: 1\ndelivery: {lmtp: {address: 2424}, smtp: {address: localhost}}\n",
                &["2:value", "2:value"],
            ),
        ],
    );
}

#[test]
fn a_bad_engine_hides_no_other_mistake() {
    let text = "version: 1
scanners:
  virus: {engine: clamd, address: 7}
  spam:
    engine: rspamd
    address: 127.0.0.1:11333
    learn: {address: nowhere}
quarantine:
  notice: {timezone: Mars/Olympus}
";
    assert_eq!(daemon(text), ["3:value", "6:value", "7:value", "9:value"]);
}

#[test]
fn what_is_not_built_is_refused_and_says_so() {
    for text in [
        "trust: {srs: {enabled: true, domain: s.jp, secret_file: s}}",
        "trust: {sign: {enabled: true}}",
        "trust: {verify: upstream}",
        "trust: {verify: dns}",
        "metrics: {listen: 127.0.0.1:9424}",
    ] {
        let found = Config::parse(&format!("version: 1\n{text}\n"), Path::new("/")).unwrap_err();
        assert_eq!(places(&found), ["2:not-built"], "{text}");
        assert!(found[0].message.contains("not built yet"), "{text}");
    }
}

/// A certificate for `mx.example.jp` and its key, PEM.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["mx.example.jp".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_certificate_is_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (certificate, key) = certificate();
    write("mx.pem", &certificate, 0o644);
    write("mx.key", &key, 0o640);
    write("both.pem", &format!("{certificate}{key}"), 0o600);
    write("open.key", &key, 0o644);
    write("other.key", &self::certificate().1, 0o600);
    write("empty.pem", "", 0o600);
    write("broken.pem", &certificate.replace("MII", "!!!"), 0o600);
    write(
        "hollow.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        0o600,
    );
    let starttls = "listeners: [{tls: starttls}]";
    let rows: &[(&str, &str, &[&str])] = &[
        (starttls, "certificate_file: mx.pem, key_file: mx.key", &[]),
        (
            "listeners: [{tls: implicit}]",
            "certificate_file: both.pem, key_file: both.pem",
            &[],
        ),
        (
            "listeners: [{tls: none}]",
            "certificate_file: \"\", key_file: \"\"",
            &[],
        ),
        (
            starttls,
            "certificate_file: mx.pem, key_file: \"credential:key\"",
            &[],
        ),
        (
            starttls,
            "certificate_file: mx.pem, key_file: open.key",
            &["4:open-secret"],
        ),
        (
            starttls,
            "certificate_file: \"\", key_file: \"\"",
            &["3:missing"],
        ),
        (starttls, "certificate_file: mx.pem", &["4:missing"]),
        (starttls, "key_file: mx.key", &["4:missing"]),
        (
            starttls,
            "certificate_file: none.pem, key_file: mx.key",
            &["4:unreadable"],
        ),
        (
            starttls,
            "certificate_file: mx.pem, key_file: none.key",
            &["4:unreadable"],
        ),
        (
            starttls,
            "certificate_file: ., key_file: mx.key",
            &["4:unreadable"],
        ),
        (
            starttls,
            "certificate_file: empty.pem, key_file: mx.key",
            &["4:certificate"],
        ),
        (
            starttls,
            "certificate_file: mx.key, key_file: mx.key",
            &["4:certificate"],
        ),
        (
            starttls,
            "certificate_file: broken.pem, key_file: mx.key",
            &["4:certificate"],
        ),
        (
            starttls,
            "certificate_file: hollow.pem, key_file: mx.key",
            &["4:certificate"],
        ),
        (
            starttls,
            "certificate_file: mx.pem, key_file: mx.pem",
            &["4:open-secret", "4:certificate"],
        ),
        (
            starttls,
            "certificate_file: mx.pem, key_file: other.key",
            &["4:certificate"],
        ),
        (
            starttls,
            "certificate_file: mx.pem, key_file: \"credential:\"",
            &["4:value"],
        ),
        (
            "listeners: [{listen: a.sock, tls: starttls}]",
            "certificate_file: mx.pem, key_file: mx.key",
            &["3:conflict"],
        ),
    ];
    for (listeners, tls, expected) in rows {
        let text = format!("version: 1\nserver:\n  {listeners}\n  tls: {{{tls}}}\n");
        let found = match Config::parse(&text, folder.path()) {
            Ok(loaded) => loaded.warnings,
            Err(found) => found,
        };
        assert_eq!(places(&found), *expected, "{text}{found:?}");
    }
    let found = Config::parse(
        "version: 1\nserver: {listeners: [{tls: implicit}]}\n",
        folder.path(),
    );
    assert_eq!(places(&found.unwrap_err()), ["2:missing"]);
}

#[test]
fn an_empty_pattern_would_hold_every_mail() {
    table(
        mailbox,
        &[
            (
                "reject:\n  subject_contains:\n    - good\n    - #1 offer\n    - !important\n    -\n    - ''\n    - ' '\n",
                &[
                    "6:empty-pattern",
                    "7:tag",
                    "8:empty-pattern",
                    "9:empty-pattern",
                    "10:empty-pattern",
                ],
            ),
            (
                "reject:\n  subject_contains: |\n    good\n\n    \u{200b}\u{feff}\n    #1 offer\n    !important\n",
                &["7:empty-pattern"],
            ),
            (
                "reject:\n  from_suffixes: [a.jp, ~, null, \"\\u200b\"]\n",
                &["4:empty-pattern", "4:empty-pattern", "4:empty-pattern"],
            ),
            ("reject:\n  from_suffixes:\n", &["4:null"]),
            ("reject:\n  from_suffixes: \"\"\n", &["4:empty"]),
            ("reject:\n  from_suffixes: |\n\n", &["4:empty"]),
            ("reject:\n  from_suffixes: []\n", &[]),
        ],
    );
}

#[test]
fn lists_take_strings_only() {
    table(
        mailbox,
        &[
            (
                "reject:\n  subject_contains: [2026, true, 1.5, 0x1f, .inf, -7, yes, 2026-01-01, 1.2.3, \"99\"]\n",
                &["4:type", "4:type", "4:type", "4:type", "4:type", "4:type"],
            ),
            ("reject:\n  subject_contains: 2026\n", &["4:type"]),
            ("reject:\n  subject_contains: free money\n", &[]),
            ("reject:\n  subject_contains: {a: b}\n", &["4:type"]),
            (
                "reject:\n  subject_contains:\n    - [a]\n    - ok then\n",
                &["5:type"],
            ),
            (
                "reject:\n  headers: [from_missing, from_mising, from_missing]\n",
                &["4:type", "4:duplicate"],
            ),
            ("reject:\n  headers: from_missing\n", &["4:type"]),
        ],
    );
}

#[test]
fn limits_of_the_manual() {
    let long = "あ".repeat(321);
    let fits = "あ".repeat(320);
    let rules = |n: usize| {
        let rule = "    - {attachment: true, to: [a@b.jp]}\n".repeat(n);
        format!("forwarding:\n  mode: rules\n  rules:\n{rule}")
    };
    let pattern_list = |n: usize| {
        let entries = (0..n)
            .map(|i| format!("          {i:09}\n"))
            .collect::<String>();
        format!(
            "forwarding:\n  mode: rules\n  rules:\n    - to: [a@b.jp]\n      subject_contains: |\n{entries}"
        )
    };
    let targets = |n: usize| {
        let to: String = (0..n).map(|i| format!("      - t{i}@b.jp\n")).collect();
        format!("forwarding:\n  mode: all\n  all:\n    to:\n{to}")
    };
    let reply = |n: usize| {
        format!(
            "auto_reply:\n  enabled: true\n  message: {}\n",
            "x".repeat(n)
        )
    };
    let rows: Vec<(String, &[&str])> = vec![
        (
            format!("reject:\n  from_suffixes: |\n    {fits}\n    {long}\n"),
            &["6:too-long"],
        ),
        (
            format!("reject:\n  subject_contains: |\n    {fits}\n    x\n    {long}\n    広告\n"),
            &["6:too-short", "7:too-long"],
        ),
        (
            "reject:\n  from_suffixes: |\n    a\n    B.example\n    b.EXAMPLE\n".into(),
            &["7:duplicate"],
        ),
        (
            "reject:\n  subject_contains: |\n    アダルト\n    x y\n    ｱﾀﾞﾙﾄ\n    x\u{3000} y\n"
                .into(),
            &["7:duplicate", "8:duplicate"],
        ),
        (rules(10), &[]),
        (rules(12), &["16:too-many"]),
        (targets(10), &[]),
        (targets(11), &["17:too-many"]),
        (pattern_list(10_240), &[]),
        (pattern_list(10_241), &["7:too-big"]),
        ("notify: {to: [a@b.jp, b@b.jp, c@b.jp]}\n".into(), &[]),
        (
            "notify:\n  to:\n    - a@b.jp\n    - b@b.jp\n    - c@b.jp\n    - d@b.jp\n".into(),
            &["8:too-many"],
        ),
        (
            "notify:\n  to:\n    - a@b.jp\n    - A@B.jp\n".into(),
            &["6:duplicate"],
        ),
        (reply(65_536), &[]),
        (reply(65_537), &["5:too-big"]),
    ];
    for (text, expected) in &rows {
        assert_eq!(mailbox(text), *expected, "{:.300}", text);
    }
    let total = Config::parse("version: 1\nlimits: {entries_total: 2}\n", Path::new("/e")).unwrap();
    let text = head("reject:\n  from_suffixes: |\n    a.jp\n\n    b.jp\n    c.jp\n    d.jp\n");
    let found = total
        .config
        .parse_mailbox(&text, Path::new("/d/x.yaml"))
        .unwrap_err();
    assert_eq!(places(&found), ["8:too-many"]);
}

#[test]
fn mailbox_file() {
    table(
        mailbox,
        &[
            ("mailbox: b@c.jp\n", &["3:duplicate-key"]),
            ("aliases: [not-an-address]\n", &["3:value"]),
            ("language: jp\n", &["3:type"]),
            ("timezone: Mars/Olympus\n", &["3:value"]),
            (
                "spam: {scan: true, mark_subject: \"a\\nb\"}\n",
                &["3:value"],
            ),
            ("spam: {mark_subject: \"\"}\n", &[]),
            ("forwarding: {mode: all}\n", &["3:missing"]),
            ("forwarding: {mode: rules}\n", &["3:missing"]),
            ("forwarding:\n  mode: rules\n  rules: [abc]\n", &["5:type"]),
            (
                "forwarding:\n  mode: rules\n  all: {to: [a@b.jp]}\n  rules: [{attachment: true, to: [a@b.jp]}]\n",
                &["6:conflict"],
            ),
            (
                "forwarding:\n  mode: rules\n  rules:\n    - attachment: true\n",
                &["6:missing"],
            ),
            (
                "forwarding:\n  mode: rules\n  rules:\n    - attachment: true\n      to: []\n",
                &["7:missing"],
            ),
            (
                "forwarding:\n  mode: rules\n  rules:\n    - {size: {at_least: 1KiB, at_most: 2KiB}, to: [a@b.jp]}\n",
                &["6:conflict"],
            ),
            (
                "forwarding:\n  mode: rules\n  rules:\n    - {size: {}, to: [a@b.jp]}\n",
                &["6:missing"],
            ),
            (
                "forwarding:\n  mode: all\n  all: {to: [TARO@east.example.jp]}\n",
                &["5:own-address"],
            ),
            (
                "aliases: [t@b.jp]\nforwarding:\n  mode: all\n  all: {to: [t@b.jp]}\n",
                &["6:own-address"],
            ),
            ("notify: {to: [a@b.jp], fields: []}\n", &["3:empty"]),
            ("spam: {notice_includes: []}\n", &["3:empty"]),
            ("spam: {notice_includes: [user_rule, virus]}\n", &["3:type"]),
            (
                "spam: {notice_includes: [user_rule, user_rule]}\n",
                &["3:duplicate"],
            ),
            (
                "notify: {to: [a@b.jp], fields: [from, from]}\n",
                &["3:duplicate"],
            ),
            ("auto_reply: {enabled: true}\n", &["3:missing"]),
            ("auto_reply: {enabled: false}\n", &[]),
            ("auto_reply: {start: tomorrow}\n", &["3:value"]),
            // The last line has no end.
            ("auto_reply:\n  message: |\n    bye", &[]),
            (
                "auto_reply:\n  start: 2027-01-04T00:00:00+09:00\n  end: 2026-12-28T00:00:00+09:00\n",
                &["5:range"],
            ),
            (
                "auto_reply:\n  start: 2026-12-28T00:00:00\n  end: 2026-12-28T00:00:00\n",
                &[],
            ),
            (
                "auto_reply:\n  per_sender:\n    - {message: x}\n    - {senders: \"@a.jp\"}\n",
                &["5:missing", "6:missing"],
            ),
            (
                "reject: {from_suffixes: a.jp, from_suffixes_file: /nowhere}\n",
                &["3:conflict", "3:unreadable"],
            ),
            ("reject:\n  subject_contains: \"a\u{2028}b\"\n", &[]),
            (
                "reject:\n  subject_contains: |\n    c d\n    a\u{2028}b\n",
                &["6:dialect"],
            ),
            ("reject:\n  subject_contains:\n    - @a.jp\n", &["5:syntax"]),
        ],
    );
    let bare = parse("version: 1\n").unwrap_err();
    assert_eq!(places(&bare)[0], "1:missing");
}

#[test]
fn warnings_do_not_keep_a_file_from_counting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("draft.yaml");
    let text = head(
        "reject: {from_suffixes: .example}\nallow:\n  senders: |\n    a@shop.example\n    b@c.jp\n\
         forwarding:\n  mode: rules\n  rules:\n    - {to: [x@y.jp]}\nnotify: {to: [taro@east.example.jp]}\n",
    );
    fs::write(&file, text).unwrap();
    let found = config::check(Path::new("/nowhere"), std::slice::from_ref(&file));
    assert_eq!(
        places(&found),
        ["6:shadowed-allow", "11:no-condition", "12:own-address"]
    );
    assert!(found.iter().all(|d| !d.is_error()));
}

#[test]
fn a_finding_shows_line_caret_and_help() {
    let found = Config::parse("version: 1\nstoer: {path: x}\n", Path::new("/e")).unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "/e/sekimori.yaml:2:1: error[unknown-key]: unknown key `stoer`\n \
         2 | stoer: {path: x}\n   | ^\n   help: did you mean `store`?"
    );
    let found = parse(&head("language: 日本\n")).unwrap_err();
    assert!(
        found[0]
            .to_string()
            .contains("\n 3 | language: 日本\n   |           ^\n"),
        "{}",
        found[0]
    );
}

#[test]
fn each_pattern_knows_its_line() {
    let text = head(
        "reject:\n  subject_contains: |\n\n    one one\n\n    two two\n    #3 three\n  from_suffixes: >\n    @a\n    .example\n\n    b.example\n",
    );
    let policy = parse(&text).unwrap().policy;
    for (subject, entry, origin) in [
        ("x one one", "one one", "taro.yaml:6"),
        ("two two", "two two", "taro.yaml:8"),
        ("#3 three", "#3 three", "taro.yaml:9"),
    ] {
        let hit = policy.subject_contains.find(&fold(subject)).unwrap();
        assert_eq!(
            (hit.entry.as_str(), hit.origin.unwrap().to_string().as_str()),
            (entry, origin)
        );
    }
    let hit = policy
        .from_suffixes
        .find(&fold_address("x@b.example"))
        .unwrap();
    assert_eq!(hit.origin.unwrap().to_string(), "taro.yaml:14");
}

#[test]
fn the_example_counts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let found = config::check(&root.join("sekimori.yaml"), &[]);
    assert!(found.is_empty(), "{found:#?}");
    let loaded = config::load(&root.join("sekimori.yaml")).unwrap().config;
    assert!(
        matches!(&loaded.delivery, Delivery::Maildir { path, fsync: true } if path.ends_with("config/mail/%{domain}/%{localpart}"))
    );
    assert_eq!(loaded.relay.from.name, "Mail filter");
    assert_eq!(loaded.control.mode, 0o660);
    assert_eq!(loaded.server.timeouts.final_reply, Duration::from_secs(240));
    let taro = config::load_mailbox(&loaded, &root.join("mailboxes/example.jp/taro.yaml")).unwrap();
    let Forwarding::Rules(rules) = &taro.policy.forwarding else {
        panic!()
    };
    assert_eq!(rules.len(), 1);
    let reply = taro.policy.auto_reply.clone().unwrap();
    assert_eq!((reply.start, reply.interval), (Some(1_798_383_600), 86_400));
    assert_eq!(taro.spam_notice, SpamNotice::Daily);
    assert!(taro.policy.spam.is_none(), "no engine, no spam stage");
}

#[test]
fn a_notice_tells_of_what_it_includes() {
    use sekimori::policy::Class::{Spam, UserRule};
    let config = |engine| {
        let text = format!("version: 1\nscanners: {{spam: {{engine: {engine}}}}}\n");
        Config::parse(&text, Path::new("/etc/sekimori"))
            .unwrap()
            .config
    };
    let spam = "scan: true, quarantine: true";
    for (engine, settings, includes, each_spam, each_rule) in [
        ("upstream", "notice: each", vec![Spam], Some(true), false),
        ("upstream", "notice: daily", vec![Spam], Some(false), false),
        (
            "upstream",
            "notice: each, notice_includes: [user_rule]",
            vec![UserRule],
            Some(false),
            true,
        ),
        (
            "off",
            "notice: each, notice_includes: [user_rule, spam]",
            vec![UserRule, Spam],
            None,
            true,
        ),
        (
            "off",
            "notice: daily, notice_includes: [user_rule]",
            vec![UserRule],
            None,
            false,
        ),
        (
            "upstream",
            "notice: off, notice_includes: [spam, user_rule]",
            vec![Spam, UserRule],
            Some(false),
            false,
        ),
    ] {
        let text = head(&format!("spam: {{{spam}, {settings}}}\n"));
        let mailbox = config(engine)
            .parse_mailbox(&text, Path::new("/draft/taro.yaml"))
            .unwrap();
        let policy = &mailbox.policy;
        let made = (
            mailbox.notice_includes,
            policy.spam.as_ref().map(|spam| spam.notice_each),
            policy.notice_user_rule,
        );
        assert_eq!(made, (includes, each_spam, each_rule), "{settings}");
    }
}

#[test]
fn leaf_by_leaf_the_upper_one_counts() {
    let daemon = "version: 1
scanners: {spam: {engine: upstream}, virus: {engine: upstream}}
mailboxes:
  defaults:
    language: en
    spam: {scan: true, quarantine: true, notice: daily, mark_subject: \"[x]\"}
    virus: {scan: true}
    reject: {from_suffixes: a.example, subject_contains: lower}
";
    let config = Config::parse(daemon, Path::new("/etc/sekimori"))
        .unwrap()
        .config;
    let text = head(
        "spam: {quarantine: false}\nreject: {subject_contains: [upper]}\nannouncements: false\n",
    );
    let mailbox = config
        .parse_mailbox(&text, Path::new("/draft/taro.yaml"))
        .unwrap();
    let policy = &mailbox.policy;
    let spam = policy.spam.as_ref().unwrap();
    assert_eq!(
        (
            spam.quarantine,
            spam.mark_subject.as_str(),
            spam.notice_each
        ),
        (false, "[x]", false)
    );
    assert_eq!(mailbox.spam_notice, SpamNotice::Daily);
    assert!(policy.virus && policy.announcements.is_none());
    assert!(policy.subject_contains.find(&fold("lower")).is_none());
    assert!(policy.subject_contains.find(&fold("upper")).is_some());
    let hit = policy
        .from_suffixes
        .find(&fold_address("x@a.example"))
        .unwrap();
    assert_eq!(hit.origin.unwrap().to_string(), "sekimori.yaml:8");
}

#[test]
fn a_list_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("long.txt"),
        "\u{feff}one.example\r\n\r\n two.example \r\n",
    )
    .unwrap();
    fs::write(
        dir.path().join("bad.txt"),
        "one.example\n\u{200b}\nONE.example\n",
    )
    .unwrap();
    fs::write(dir.path().join("latin1.txt"), b"one.example\nf\xfcr\n").unwrap();
    let file = dir.path().join("taro.yaml");
    let write = |name: &str| {
        fs::write(
            &file,
            head(&format!("reject: {{from_suffixes_file: {name}}}\n")),
        )
    };
    write("long.txt").unwrap();
    let mailbox = config::load_mailbox(&built_in(), &file).unwrap();
    let hit = mailbox
        .policy
        .from_suffixes
        .find(&fold_address("a@two.example"))
        .unwrap();
    assert_eq!(
        (hit.entry.as_str(), hit.origin.unwrap().to_string()),
        ("two.example", "long.txt:3".into())
    );
    for (name, expected) in [
        ("bad.txt", vec!["2:empty-pattern", "3:duplicate"]),
        ("latin1.txt", vec!["2:encoding"]),
        ("none.txt", vec!["3:unreadable"]),
    ] {
        write(name).unwrap();
        assert_eq!(
            places(&config::load_mailbox(&built_in(), &file).unwrap_err()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn hostile_texts_end_soon() {
    let wide = |unit: &str| unit.repeat(400_000);
    let started = Instant::now();
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        format!("version: 1\nx: {}", "[".repeat(100_000)),
        wide("- &a b\n"),
        wide("a: b\n"),
        wide("- !x y\n"),
        format!("version: 1\naliases: [{}]", wide("&a x,")),
        format!("version: 1\naliases: [{}]", wide("!x y,")),
        format!(
            "version: 1\nreject: {{subject_contains: [\"{}\", {}]}}",
            wide("xxxxxxxx"),
            "1,".repeat(2000)
        ),
        format!("version: 1\nreject: {{subject_contains: [{}]}}", wide("a,")),
        format!(
            "version: 1\nreject: {{subject_contains: \"{}\"}}",
            wide("ab\\n")
        ),
        format!(
            "version: 1\nreject:\n  subject_contains: >\n{}",
            wide("    x y\n\n")
        ),
        format!(
            "a: &a {}\nb: [{}]",
            "x".repeat(100_000),
            "*a,".repeat(20_000)
        ),
    ] {
        let found = parse(&text).unwrap_err();
        assert!(!found.is_empty() && found.len() <= 1001);
        assert!(found.iter().all(|d| d.to_string().len() < 2000));
    }
    // Generous: a quadratic step here takes minutes.
    assert!(
        started.elapsed() < Duration::from_secs(120),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn many_warnings_hide_no_error() {
    let allow = "    a@b.example\n".repeat(3000);
    let notify = "notify: {to: [a@x.jp, b@x.jp, c@x.jp, d@x.jp]}\n";
    let found = parse(&head(&format!("allow:\n  senders: |\n{allow}{notify}"))).unwrap_err();
    let errors: Vec<u32> = found
        .iter()
        .filter(|d| d.is_error())
        .map(|d| d.line)
        .collect();
    assert_eq!(errors, [3005]);
    let mut warnings = found.iter().filter(|d| !d.is_error());
    let last = warnings
        .next_back()
        .map(|d| (d.line, d.id, d.message.as_str()));
    let words = "2979 more of `duplicate` in this file are not listed";
    assert_eq!(last, Some((26, "more", words)));
}

#[test]
fn every_place_lies_in_the_text() {
    for text in [
        "{path: x",
        "version: 1\nstore: {path: x",
        "version: 1\nstore: [\n\n",
        "\"",
        "a:\n  - b\n c",
    ] {
        for found in Config::parse(text, Path::new("/x")).unwrap_err() {
            let line = text.split('\n').nth(found.line as usize - 1);
            let width = line.map(|line| line.chars().count() + 1);
            assert!(
                width.is_some_and(|width| found.col as usize <= width),
                "{text:?}: {found}"
            );
        }
    }
}

#[test]
fn a_million_entries_load() {
    let entries: String = (0..1_000_000).map(|n| format!("    s{n}.ex\n")).collect();
    let mailbox = parse(&head(&format!("reject:\n  from_suffixes: |\n{entries}"))).unwrap();
    let hit = mailbox
        .policy
        .from_suffixes
        .find(&fold_address("a@s999999.ex"))
        .unwrap();
    assert_eq!(hit.origin.unwrap().line, 1_000_004);
}

/// A folder with a daemon file and mailbox files.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(files: &[(&str, &str)]) -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            site.write(name, text);
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn directory(&self, mailboxes: &str) -> Directory {
        let text = format!("version: 1\nmailboxes: {{domains: [], {mailboxes}}}\n");
        Directory::new(Arc::new(
            Config::parse(&text, self.dir.path()).unwrap().config,
        ))
    }
}

fn look(directory: &Directory, address: &str) -> String {
    match directory.lookup(&Address::parse(address).unwrap()) {
        Lookup::Found(mailbox) => {
            let language = format!("{:?}", mailbox.policy.language);
            let file = if mailbox.path.is_some() {
                "file"
            } else {
                "defaults"
            };
            format!("{} {language} {file}", mailbox.policy.mailbox)
        }
        other => format!("{other:?}"),
    }
}

const TARO: &str = "version: 1\naliases: [t.yamada@a.jp]\nlanguage: en\n";

#[test]
fn a_recipient_finds_its_mailbox() {
    let site = Site::new(&[
        ("mailboxes/a.jp/taro.yaml", TARO),
        ("mailboxes/a.jp/taro+own.yaml", "version: 1\n"),
        ("mailboxes/a.jp/%2E.yaml", "version: 1\n"),
        (
            "mailboxes/例え.jp/jiro.yaml",
            TARO.replace("t.yamada", "j").as_str(),
        ),
        (
            "mailboxes/xn--r8jz45g.com/jiro.yaml",
            "version: 1\nlanguage: en\n",
        ),
        ("a.jp/evil.yaml", "version: 1\nlanguage: en\n"),
    ]);
    let directory = site.directory("unknown: reject");
    directory.index_now();
    for (address, expected) in [
        ("taro@a.jp", "taro@a.jp En file"),
        ("TARO@A.JP", "taro@a.jp En file"),
        ("taro+news@a.jp", "taro@a.jp En file"),
        ("taro+own@a.jp", "taro+own@a.jp Ja file"),
        ("t.yamada@a.jp", "taro@a.jp En file"),
        ("t.yamada+x@a.jp", "taro@a.jp En file"),
        ("jiro@例え.jp", "jiro@例え.jp En file"),
        ("jiro@例え.com", "jiro@例え.com En file"),
        ("hanako@a.jp", "UnknownMailbox"),
        ("../a.jp/evil@a.jp", "UnknownMailbox"),
        ("evil@..", "UnknownMailbox"),
        ("a/b@a.jp", "UnknownMailbox"),
    ] {
        if Address::parse(address).is_ok() {
            assert_eq!(look(&directory, address), expected, "{address}");
        }
    }
    let directory = site.directory("unknown: accept");
    assert_eq!(look(&directory, "hanako+x@a.jp"), "hanako@a.jp Ja defaults");
    let text = "version: 1\nmailboxes: {domains: [A.jp]}\n";
    let directory = Directory::new(Arc::new(
        Config::parse(text, site.dir.path()).unwrap().config,
    ));
    assert_eq!(look(&directory, "x@b.jp"), "UnknownDomain");
    assert_eq!(look(&directory, "taro@a.jp"), "taro@a.jp En file");
}

#[test]
fn a_mailbox_is_named_the_same_by_its_alias() {
    let site = Site::new(&[("mailboxes/xn--r8jz45g.jp/taro.yaml", TARO)]);
    for first in ["t.yamada@a.jp", "taro@例え.jp", "Taro@xn--r8jz45g.jp"] {
        let directory = site.directory("unknown: reject");
        directory.index_now();
        assert_eq!(look(&directory, first), "taro@例え.jp En file", "{first}");
    }
}

#[test]
fn a_changed_file_counts_at_once_and_a_bad_one_keeps_the_old() {
    let site = Site::new(&[
        ("mailboxes/a.jp/taro.yaml", TARO),
        ("mailboxes/a.jp/bad.yaml", "nonsense"),
    ]);
    let directory = site.directory("watch: true");
    assert_eq!(look(&directory, "taro@a.jp"), "taro@a.jp En file");
    for n in 0..50 {
        let (text, expected) = match n % 2 {
            0 => ("version: 1\nlanguage: ja\n", "taro@a.jp Ja file"),
            _ => ("version: 1\nlanguage: en\n", "taro@a.jp En file"),
        };
        site.write("mailboxes/a.jp/taro.yaml", text);
        assert_eq!(look(&directory, "taro@a.jp"), expected);
    }
    site.write("mailboxes/a.jp/taro.yaml", "version: 1\nlanguage: xx\n");
    assert_eq!(look(&directory, "taro@a.jp"), "taro@a.jp En file");
    assert_eq!(look(&directory, "bad@a.jp"), "bad@a.jp Ja defaults");
    fs::remove_file(site.path("mailboxes/a.jp/taro.yaml")).unwrap();
    assert_eq!(look(&directory, "taro@a.jp"), "taro@a.jp Ja defaults");
    // A list in a file of its own counts, too.
    site.write("mailboxes/a.jp/list.txt", "x.example\n");
    site.write(
        "mailboxes/a.jp/taro.yaml",
        "version: 1\nlanguage: en\nreject: {from_suffixes_file: list.txt}\n",
    );
    let rejects = |sender: &str| {
        let Lookup::Found(mailbox) = directory.lookup(&Address::parse("taro@a.jp").unwrap()) else {
            panic!()
        };
        mailbox
            .policy
            .from_suffixes
            .find(&fold_address(sender))
            .is_some()
    };
    assert!(rejects("a@x.example") && !rejects("a@y.example"));
    site.write("mailboxes/a.jp/list.txt", "y.example\n");
    assert!(rejects("a@y.example") && !rejects("a@x.example"));
    site.write("mailboxes/a.jp/list.txt", "\u{200b}\n");
    assert!(rejects("a@y.example"), "a bad list keeps the old settings");
    site.write("mailboxes/a.jp/list.txt", "x.example\n");
    assert!(rejects("a@x.example"), "a mended list counts");
}

#[test]
fn a_reload_keeps_what_a_bad_file_falls_back_to() {
    let site = Site::new(&[
        ("mailboxes/a.jp/taro.yaml", TARO),
        ("mailboxes/a.jp/jiro.yaml", TARO),
    ]);
    let old = site.directory("watch: false");
    assert_eq!(look(&old, "taro@a.jp"), "taro@a.jp En file");
    assert_eq!(look(&old, "jiro@a.jp"), "jiro@a.jp En file");
    site.write("mailboxes/a.jp/taro.yaml", "version: 1\nlanguage: xx\n");
    site.write("mailboxes/a.jp/jiro.yaml", "version: 1\nlanguage: ja\n");
    let new = Directory::reloaded(Arc::clone(old.config()), &old);
    assert_eq!(look(&new, "taro@a.jp"), "taro@a.jp En file");
    assert_eq!(look(&new, "jiro@a.jp"), "jiro@a.jp Ja file");
}

#[test]
fn without_watch_what_was_read_stays() {
    let site = Site::new(&[("mailboxes/a.jp/taro.yaml", TARO)]);
    let directory = site.directory("watch: false");
    assert_eq!(look(&directory, "taro@a.jp"), "taro@a.jp En file");
    site.write("mailboxes/a.jp/taro.yaml", "version: 1\n");
    assert_eq!(look(&directory, "taro@a.jp"), "taro@a.jp En file");
    assert_eq!(directory.stats().files_read, 1);
}

#[test]
fn aliases_are_watched() {
    let site = Site::new(&[("mailboxes/a.jp/taro.yaml", TARO)]);
    let directory = site.directory("watch: true");
    directory.start_indexing();
    assert_eq!(look(&directory, "t.yamada@a.jp"), "taro@a.jp En file");
    let until = |address: &str, expected: &str| becomes(&directory, address, expected);
    site.write(
        "mailboxes/a.jp/taro.yaml",
        "version: 1\nlanguage: en\naliases: [new@a.jp]\n",
    );
    until("new@a.jp", "taro@a.jp En file");
    assert_eq!(
        look(&directory, "t.yamada@a.jp"),
        "t.yamada@a.jp Ja defaults"
    );
    site.write(
        "mailboxes/b.jp/jiro.yaml",
        "version: 1\nlanguage: en\naliases: [other@a.jp]\n",
    );
    until("other@a.jp", "jiro@b.jp En file");
    fs::remove_file(site.path("mailboxes/a.jp/taro.yaml")).unwrap();
    until("new@a.jp", "new@a.jp Ja defaults");
}

#[test]
fn aliases_are_watched_over_a_reload() {
    let site = Site::new(&[("mailboxes/a.jp/taro.yaml", TARO)]);
    let mut directory = site.directory("watch: true");
    directory.start_indexing();
    for n in 0..3 {
        assert_eq!(look(&directory, "t.yamada@a.jp"), "taro@a.jp En file");
        let reloaded = Directory::reloaded(Arc::clone(directory.config()), &directory);
        reloaded.start_indexing();
        directory = reloaded;
        let name = format!("new{n}");
        let text = format!("version: 1\nlanguage: en\naliases: [{name}@a.jp]\n");
        site.write(&format!("mailboxes/b.jp/{name}.yaml"), &text);
        let expected = format!("{name}@b.jp En file");
        becomes(&directory, &format!("{name}@a.jp"), &expected);
    }
    // Another folder has other aliases.
    let text = "version: 1\nmailboxes: {domains: [], dir: elsewhere, unknown: reject}\n";
    let config = Config::parse(text, site.dir.path()).unwrap().config;
    let moved = Directory::reloaded(Arc::new(config), &directory);
    moved.start_indexing();
    assert_eq!(look(&moved, "t.yamada@a.jp"), "UnknownMailbox");
}

#[test]
fn a_hundred_thousand_mailboxes_cost_nothing_at_start() {
    let site = Site::new(&[]);
    for folder in 0..10 {
        let folder = site.path(&format!("mailboxes/d{folder}.jp"));
        fs::create_dir_all(&folder).unwrap();
        for n in 0..10_000 {
            fs::write(
                folder.join(format!("u{n}.yaml")),
                "version: 1\nlanguage: en\n",
            )
            .unwrap();
        }
    }
    let directory = site.directory("cache: 1MiB");
    assert_eq!(directory.stats().files_read, 0);
    for n in 0..1000 {
        assert!(look(&directory, &format!("u{n}@d3.jp")).ends_with("En file"));
    }
    let stats = directory.stats();
    assert_eq!(stats.files_read, 1000, "one file a mailbox that had mail");
    assert!(
        stats.cached_bytes <= 1 << 20 && stats.cached > 10,
        "{stats:?}"
    );
}

#[test]
fn the_cache_forgets_the_longest_unused() {
    let files: Vec<String> = (0..300)
        .map(|n| format!("mailboxes/a.jp/u{n}.yaml"))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|f| (f.as_str(), "version: 1\n")).collect();
    let site = Site::new(&files);
    let directory = site.directory("cache: 1MiB, watch: false");
    for n in 0..300 {
        look(&directory, &format!("u{n}@a.jp"));
        look(&directory, "u0@a.jp");
    }
    let before = directory.stats().files_read;
    look(&directory, "u0@a.jp");
    assert_eq!(directory.stats().files_read, before, "the one in use stays");
    look(&directory, "u1@a.jp");
    assert_eq!(directory.stats().files_read, before + 1, "the unused went");
}

#[test]
fn check_shows_each_finding_once_with_its_line() {
    let site = Site::new(&[
        (
            "sekimori.yaml",
            "version: 1\nmailboxes:\n  defaults: {allow: {senders: [a@b.jp, A@b.jp]}}\n",
        ),
        ("mailboxes/a.jp/a.yaml", "version: 1\naliases: [x@a.jp]\n"),
        (
            "mailboxes/a.jp/b.yaml",
            "version: 1\naliases: [y@a.jp, x@a.jp]\n",
        ),
        (
            "drafts/b.yaml",
            "version: 1\nreject: {subject_contains: b}\n",
        ),
    ]);
    let found = config::check(&site.path("sekimori.yaml"), &[]);
    assert_eq!(places(&found), ["3:duplicate", "2:duplicate"]);
    let alias = found[1].to_string();
    assert!(
        alias.contains("\n 2 | aliases: [y@a.jp, x@a.jp]\n"),
        "{alias}"
    );
    // What a file is, is seen from its keys, in a folder too.
    let found = config::check(&site.path("sekimori.yaml"), &[site.path("drafts")]);
    assert_eq!(places(&found), ["1:missing", "2:too-short"]);
    let found = config::check(&site.path("none.yaml"), &[site.path("")]);
    assert_eq!(places(&found), ["1:missing", "2:too-short", "3:duplicate"]);
}

#[test]
fn check_looks_at_all_mailbox_files() {
    let site = Site::new(&[
        ("sekimori.yaml", "version: 1\n"),
        (
            "mailboxes/a.jp/a.yaml",
            "version: 1\nmailbox: a@a.jp\naliases: [x@a.jp]\n",
        ),
        (
            "mailboxes/a.jp/b.yaml",
            "version: 1\nmailbox: c@a.jp\naliases: [y@a.jp]\n",
        ),
        (
            "mailboxes/a.jp/d.yaml",
            "version: 1\naliases: [z@a.jp, x@a.jp]\n",
        ),
        (
            "mailboxes/a.jp/e.yaml",
            "version: 1\nlangage: ja\nnotify: {to: [x]}\n",
        ),
    ]);
    let found = config::check(&site.path("sekimori.yaml"), &[]);
    let name = |d: &Diagnostic| d.file.file_name().unwrap().to_string_lossy().into_owned();
    let listed: Vec<String> = found
        .iter()
        .map(|d| format!("{}:{}:{}", name(d), d.line, d.id))
        .collect();
    assert_eq!(
        listed,
        [
            "b.yaml:2:mailbox-path",
            "d.yaml:2:duplicate",
            "e.yaml:2:unknown-key",
            "e.yaml:3:value"
        ]
    );
    let one = config::check(
        &site.path("sekimori.yaml"),
        &[site.path("mailboxes/a.jp/a.yaml")],
    );
    assert!(one.is_empty(), "{one:?}");
    assert_eq!(
        places(&config::check(&site.path("none.yaml"), &[])),
        ["1:unreadable"]
    );
    site.write("sekimori.yaml", "version: 1\nstoer: x\n");
    let all = config::check(&site.path("sekimori.yaml"), &[]);
    assert_eq!(
        places(&all)[..2],
        ["2:unknown-key", "2:mailbox-path"],
        "a bad daemon file hides nothing"
    );
    site.write("sekimori.yaml", "version: 1\n");
    let one = config::check(
        &site.path("sekimori.yaml"),
        &[site.path("mailboxes/none.yaml")],
    );
    assert_eq!(places(&one), ["1:unreadable"]);
}

fn yaml_soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "version: 1\n",
        "mailbox: a@b.jp\n",
        "reject:",
        "allow:",
        "forwarding:",
        "from_suffixes:",
        "subject_contains:",
        "rules:",
        "to:",
        "senders:",
        "\n",
        "\n  ",
        "\n    ",
        "\n      - ",
        " |\n",
        " >\n",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ": ",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "!t ",
        "~",
        "null",
        "あ",
        "\u{200b}",
        "\u{feff}",
        "\u{2028}",
        "\u{85}",
        "\r",
        "\r\n",
        "\t",
        "a",
        "@x.jp",
        "true",
        "1",
        "%",
        "---\n",
        "...\n",
        "? ",
        "\\",
        "\0",
        "|",
        ">-\n",
        "all",
        "mode: ",
        "size: {at_least: 1KiB}",
    ]);
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_settings_or_located_findings(text in yaml_soup(), headed in any::<bool>()) {
        let text = if headed { head(&text) } else { text };
        let lines = text.split(['\n', '\r']).count() as u32;
        let located = |found: &[Diagnostic]| found.iter().all(|d| d.line >= 1 && d.line <= lines + 1 && d.col >= 1);
        match parse(&text) {
            Ok(_) => {}
            Err(found) => prop_assert!(found.iter().any(Diagnostic::is_error) && located(&found), "{text:?} {found:?}"),
        }
        if let Err(found) = Config::parse(&text, Path::new("/e")) {
            prop_assert!(found.iter().any(Diagnostic::is_error) && located(&found), "{text:?} {found:?}");
        }
    }

    #[test]
    fn block_lines_are_exact(
        entries in prop::collection::vec(prop::option::weighted(0.7, 0u32..1_000_000), 1..20),
        style in prop::sample::select(vec!["|", "|-", "|+", "|2", "|  # note"]),
        newline in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let mut text = head(&format!("reject:\n  subject_contains: {style}\n")).replace('\n', newline);
        let mut expected = std::collections::BTreeMap::new();
        for (n, entry) in entries.iter().enumerate() {
            if let Some(entry) = entry {
                text += &format!("    #e{entry:07}");
                expected.entry(*entry).or_insert(n + 5);
            }
            text += newline;
        }
        prop_assume!(expected.len() == entries.iter().flatten().count() && !expected.is_empty());
        let policy = parse(&text).map_err(|f| TestCaseError::fail(format!("{text:?} {f:?}")))?.policy;
        for (entry, line) in expected {
            let hit = policy.subject_contains.find(&fold(&format!("#e{entry:07}")));
            let origin = hit.and_then(|hit| hit.origin).map(|o| o.line as usize);
            prop_assert_eq!(origin, Some(line), "{:?}", text);
        }
    }
}

/// Waits until a look-up gives what is expected.
fn becomes(directory: &Directory, address: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while look(directory, address) != expected {
        assert!(Instant::now() < deadline, "{address} is not {expected}");
        std::thread::yield_now();
    }
}

#[test]
fn aliases_are_watched_in_a_folder_that_is_made_or_replaced_later() {
    let site = Site::new(&[]);
    let directory = site.directory("watch: true");
    directory.start_indexing();
    assert_eq!(
        look(&directory, "t.yamada@a.jp"),
        "t.yamada@a.jp Ja defaults"
    );
    site.write("mailboxes/a.jp/taro.yaml", TARO);
    becomes(&directory, "t.yamada@a.jp", "taro@a.jp En file");
    fs::rename(site.path("mailboxes"), site.path("old")).unwrap();
    site.write(
        "mailboxes/a.jp/jiro.yaml",
        "version: 1\nlanguage: en\naliases: [new@a.jp]\n",
    );
    becomes(&directory, "new@a.jp", "jiro@a.jp En file");
    becomes(&directory, "t.yamada@a.jp", "t.yamada@a.jp Ja defaults");
}

#[test]
fn a_finding_is_one_line_whatever_it_quotes() {
    for key in ["a\\nb", "a\\rb", "\\e[31mred", "\\x7f"] {
        let text = format!("version: 1\nserver: {{\"{key}\": 1}}\n");
        let found = Config::parse(&text, Path::new("/etc/sekimori")).unwrap_err();
        assert_eq!(places(&found), ["2:unknown-key"], "{key}");
        assert!(!found[0].message.contains(char::is_control), "{key}");
    }
}

#[test]
fn many_aliases_on_one_line_are_read_in_linear_time() {
    let aliases: Vec<String> = (0..40_000).map(|at| format!("a{at}@b.jp")).collect();
    let text = format!(
        "version: 1\nmailbox: a@b.jp\naliases: [{}]\n",
        aliases.join(",")
    );
    let mailbox = built_in()
        .parse_mailbox(&text, Path::new("/x.yaml"))
        .unwrap();
    assert_eq!(mailbox.policy.aliases.len(), 40_000);
}
