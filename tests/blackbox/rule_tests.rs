//! `test`: rule tests as text, JSON and JUnit, and every way in which they fail.

use serde_json::{Value, json};

use crate::harness::{Done, Site, TARO};

/// The contract's example: its tests, the mailbox they are about, and a mail that fits them.
fn example() -> Site {
    let site = Site::new();
    site.write("tests.yaml", include_str!("example/tests.yaml"));
    site.write(
        "mailboxes/east.example.jp/taro.yaml",
        include_str!("example/taro.yaml"),
    );
    site.write(
        "mails/invoice.eml",
        include_str!("../../src/cli/demo/mails/14-invoice.eml"),
    );
    site
}

/// A site whose taro has these settings, and one case about a mail to him.
fn site(settings: &str, case: &str) -> Site {
    let site = Site::new().with_mailbox(TARO, settings);
    let text = format!("version: 1\nmailbox: {TARO}\ncases:\n  - name: case\n{case}\n");
    site.write("tests.yaml", text);
    site
}

/// The differences of the only case: what, expected, got.
fn differences(done: &Done) -> Vec<[Value; 3]> {
    let cases = done.json();
    assert_eq!(cases.len(), 1, "{cases:?}");
    let differences = cases[0]["differences"].as_array().unwrap();
    assert_eq!(cases[0]["passed"], differences.is_empty());
    differences
        .iter()
        .map(|difference| ["what", "expected", "got"].map(|name| difference[name].clone()))
        .collect()
}

#[test]
fn the_example_passes_on_any_day() {
    let site = example();
    for arguments in [&["test"][..], &["test", "tests.yaml"], &["test", "."]] {
        let text = site.cli(arguments).success().text();
        assert!(
            text.contains("ok      invoice goes to accounting and stays\n")
                && text.ends_with("2 passed, 0 failed\n"),
            "{arguments:?}: {text}"
        );
    }
    assert_eq!(site.cli(&["test", "--quiet"]).success().text(), "");
    let cases = site.json(&["test"]);
    let case = |name: &str, line: u32| {
        json!({"schema": "sekimori.test/1", "name": name, "file": site.path("tests.yaml"),
               "line": line, "passed": true, "differences": []})
    };
    assert_eq!(
        cases,
        [
            case("invoice goes to accounting and stays", 5),
            case("unsolicited ad is held", 8)
        ]
    );
}

#[test]
fn the_rule_tests_that_are_shipped_pass() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sekimori.yaml");
    let text = Site::new()
        .cli(&["test", "--config", config])
        .success()
        .text();
    assert!(text.ends_with(" passed, 0 failed\n"), "{text}");
}

#[test]
fn what_is_expected_and_not_met_is_told() {
    let settings = "reject: {subject_contains: [広告]}\nspam: {scan: true, mark_subject: \"[s]\", quarantine: false}\n\
        forwarding: {mode: all, all: {to: [X@else.example, y@else.example], keep_copy: true}}\n\
        notify: {to: [n@else.example]}\nauto_reply: {enabled: true, message: away}\n";
    let ordinary = "    headers: |\n      From: a@b.example\n      To: taro@east.example.jp\n";
    let check = |mail: &str, expect: &str, expected: &[(&str, Value, Value)]| {
        let case = format!("{ordinary}{mail}    expect: {{{expect}}}");
        let found = site(settings, &case).cli(&["test", "--json"]);
        assert_eq!(found.code, i32::from(!expected.is_empty()), "{found:?}");
        let expected: Vec<[Value; 3]> = expected
            .iter()
            .map(|(what, expected, got)| [json!(what), expected.clone(), got.clone()])
            .collect();
        assert_eq!(differences(&found), expected, "{mail} {expect}");
    };
    let met = [
        "verdict: deliver",
        "rule: forwarding.all, keep_copy: true",
        "forwarded_to: [y@ELSE.example, x@else.example]",
        "notified: 1",
        "notified: [n@else.example]",
        "auto_reply: true, mark: \"\"",
    ];
    for expect in met {
        check("      Subject: x\n", expect, &[]);
    }
    check(
        "      Subject: x\n",
        "verdict: quarantine, stage: spam, entry: e, origin: taro.yaml:9",
        &[
            ("verdict", json!("quarantine"), json!("deliver")),
            ("stage", json!("spam"), Value::Null),
            ("entry", json!("e"), Value::Null),
            ("origin", json!("taro.yaml:9"), Value::Null),
        ],
    );
    check(
        "      Subject: x\n",
        "rule: \"forwarding.rules[0]\", forwarded_to: [], keep_copy: false, auto_reply: false, mark: m",
        &[
            (
                "rule",
                json!("forwarding.rules[0]"),
                json!("forwarding.all"),
            ),
            (
                "forwarded_to",
                json!([]),
                json!(["x@else.example", "y@else.example"]),
            ),
            ("keep_copy", json!(false), json!(true)),
            ("auto_reply", json!(false), json!(true)),
            ("mark", json!("m"), json!("")),
        ],
    );
    check(
        "      Subject: 広告\n",
        "verdict: quarantine, stage: reject.subject_contains, entry: 広告, origin: \"taro.yaml:2\", forwarded_to: [], notified: 0, auto_reply: false",
        &[],
    );
    check(
        "      Subject: 広告\n",
        "stage: reject.headers, keep_copy: true, notified: [n@else.example]",
        &[
            (
                "stage",
                json!("reject.headers"),
                json!("reject.subject_contains"),
            ),
            ("keep_copy", json!(true), Value::Null),
            ("notified", json!(["n@else.example"]), json!([])),
        ],
    );
    check(
        "      Subject: x\n    scan: {spam: true}\n",
        "mark: \"[s]\", auto_reply: false",
        &[],
    );
    check(
        "      Subject: x\n      X-Spam-Flag: YES\n    scan: {spam: false}\n",
        "mark: \"\", auto_reply: true",
        &[],
    );
}

#[test]
fn what_a_case_gives_counts() {
    let check = |settings: &str, given: &str, headers: &str, expect: &str| {
        let headers: String = headers
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        let case = format!("{given}    headers: |\n{headers}    expect: {{{expect}}}");
        site(settings, &case).cli(&["test"]).success();
    };
    let away = "auto_reply: {enabled: true, message: away, start: 2030-01-01T00:00:00+09:00, end: 2030-01-31T00:00:00+09:00}\n";
    let over = "auto_reply: {enabled: true, message: away, end: 2020-01-31T00:00:00+09:00}\n";
    let ordinary = "From: a@b.example\nTo: taro@east.example.jp\nSubject: x";
    check(away, "", ordinary, "auto_reply: true");
    check(over, "", ordinary, "auto_reply: true");
    let at = "    at: 2029-12-31T23:59:59+09:00\n";
    check(away, at, ordinary, "auto_reply: false");
    check(away, at, ordinary, "verdict: deliver");
    let at = "    at: 2030-01-31T00:00:00+09:00\n";
    check(away, at, ordinary, "auto_reply: true");
    check(away, "    sender: \"<>\"\n", ordinary, "auto_reply: false");
    check(
        away,
        "    sender: c@d.example\n",
        ordinary,
        "auto_reply: true",
    );
    let bounce = format!("Return-Path: <>\n{ordinary}");
    check(away, "", &bounce, "auto_reply: false");
    let robot = ordinary.replace("a@b.example", "noreply@b.example");
    check(away, "", &robot, "auto_reply: false");
    let spam = "spam: {scan: true, quarantine: true}\n";
    let flagged = format!("{ordinary}\nX-Spam-Flag: YES");
    check(spam, "", &flagged, "verdict: quarantine, entry: spam");
    let stranger = "    trusted_client: false\n";
    check(spam, stranger, &flagged, "verdict: deliver");
    let virus = "    scan: {virus: Eicar}\n";
    let scanned = "virus: {scan: true}\n";
    check(
        scanned,
        virus,
        ordinary,
        "verdict: replace, stage: virus, entry: Eicar",
    );
    let verified = format!("{spam}allow: {{verified_senders: [a@b.example]}}\n");
    check(&verified, "", &flagged, "verdict: quarantine");
    let proved = "    dmarc_pass: true\n";
    check(&verified, proved, &flagged, "verdict: deliver");
    let alias = format!("aliases: [t.yamada@east.example.jp]\n{away}");
    let other = "    mailbox: t.yamada@east.example.jp\n";
    let to_alias = ordinary.replace("taro@", "t.yamada@");
    check(&alias, other, &to_alias, "auto_reply: true");
    let bare = site(
        "",
        "    headers: \"Subject: x\"\n    body: |\n      hello\n    expect: {verdict: deliver}",
    );
    bare.cli(&["test"]).success();
}

/// A mistake a line; the file is read to its end.
const BAD: &str = "\
version: 2
mailbox: taro
colour: red
cases:
  - nme: typing
    message: a.eml
    headers: \"Subject: x\"
    expect: {verdict: quarantaine}
  - name: two
    headers: |
      Subject: x

      From: a@b.example
    expect: {}
  - name: two
    sender: not an address
    at: tomorrow
    expect: {stage: allow, notified: some, auto_reply: yes}
  - name: three
    message:
    expect: {verdict: deliver, stage: spam, rule: first, mark: a, mark: b}
  - name: four
    headers: \"Subject: x\"
    trusted_client: true
";

#[test]
fn every_mistake_of_a_file_in_one_run() {
    let site = Site::new();
    site.write("tests.yaml", BAD);
    let found = site.cli(&["test", "tests.yaml"]).exit(78);
    assert_eq!(found.text(), "");
    let places: Vec<String> = found
        .stderr
        .lines()
        .filter_map(|line| line.split_once(": error["))
        .map(|(place, rest)| {
            let id = rest.split(']').next().unwrap();
            format!("{} {id}", place.rsplit_once("tests.yaml:").unwrap().1)
        })
        .collect();
    assert_eq!(
        places,
        [
            "1:10 version",
            "2:10 value",
            "3:1 unknown-key",
            "5:5 unknown-key",
            "5:5 missing",
            "7:5 conflict",
            "8:23 type",
            "11:7 value",
            "14:13 empty",
            "15:5 missing",
            "15:11 duplicate",
            "16:13 value",
            "17:9 value",
            "18:21 type",
            "18:38 value",
            "18:56 type",
            "20:5 null",
            "21:32 conflict",
            "21:51 value",
            "21:67 duplicate-key",
            "22:5 missing",
        ],
        "{}",
        found.stderr
    );
    for words in [
        "help: did you mean `name`?",
        "help: did you mean `quarantine`?",
        "help: known here: reject.from_suffixes",
        "help: add `expect: {verdict: deliver}`",
    ] {
        assert!(found.stderr.contains(words), "{words} in {}", found.stderr);
    }
}

#[test]
fn mistakes_of_all_files_are_told() {
    let site = example();
    site.write("rules/a.yaml", "cases: []\n");
    site.write("rules/deep/b.yaml", "version: 1\ncases:\n  - 1\n");
    site.write("rules/c.yaml", "version: 1\n");
    let found = site.cli(&["test", "rules", "tests.yaml"]).exit(78);
    for place in [
        "rules/a.yaml:1:1: error[missing]",
        "rules/a.yaml:1:1: error[version]",
        "rules/deep/b.yaml:3:5: error[type]",
    ] {
        assert!(found.stderr.contains(place), "{place} in {}", found.stderr);
    }
    assert!(!found.stderr.contains("c.yaml"), "{}", found.stderr);
}

#[test]
fn how_it_ends() {
    let site = example();
    let no_mail = "version: 1\nmailbox: taro@east.example.jp\ncases:\n  - name: a\n    message: gone.eml\n    expect: {verdict: deliver}\n";
    site.write("no-mail.yaml", no_mail);
    let gone = site.cli(&["test", "no-mail.yaml"]).exit(66);
    assert!(
        gone.stderr.contains("no-mail.yaml:5: ") && gone.stderr.contains("gone.eml"),
        "{}",
        gone.stderr
    );
    let stranger = "version: 1\ncases:\n  - name: a\n    mailbox: a@elsewhere.example\n    headers: \"Subject: x\"\n    expect: {verdict: deliver}\n";
    site.write("stranger.yaml", stranger);
    let unknown = site.cli(&["test", "stranger.yaml"]).exit(67);
    assert!(
        unknown
            .stderr
            .contains("stranger.yaml:4: a@elsewhere.example"),
        "{}",
        unknown.stderr
    );
    site.cli(&["test", "no-such-file.yaml"]).exit(66);
    site.cli(&["test", "mails"]).exit(66);
    site.cli(&["test", "--format", "html"]).exit(64);
    site.cli(&["test", "--junit", "no/such/folder.xml"])
        .exit(66);
    let empty = Site::new();
    let which = empty.cli(&["test"]).exit(64);
    assert!(which.stderr.contains("tests.yaml"), "{}", which.stderr);
    empty
        .cli(&["test", "--config", "gone.yaml", "a.yaml"])
        .exit(66);
    let bad = example();
    bad.set_mailbox(TARO, "nonsense: 1\n");
    let refused = bad.cli(&["test"]).exit(78);
    assert!(
        refused.stderr.contains("taro.yaml:2:1: error[unknown-key]"),
        "{}",
        refused.stderr
    );
    // Two cases, one bad mailbox: its mistakes are shown once.
    assert_eq!(refused.stderr.matches("unknown-key").count(), 1);
}

#[test]
fn a_failure_shows_what_was_wanted_and_where() {
    let site = example();
    let wrong = include_str!("example/tests.yaml").replace("entry: 未承諾広告", "entry: 広告");
    site.write("tests.yaml", wrong);
    let text = site.cli(&["test", "tests.yaml"]).exit(1).text();
    assert_eq!(
        text,
        "ok      invoice goes to accounting and stays\n\
         FAILED  unsolicited ad is held (tests.yaml:8)\n        \
         entry: expected 広告, got 未承諾広告\n        \
         decided by reject.subject_contains: 未承諾広告 (taro.yaml:15)\n\
         1 passed, 1 failed\n"
    );
    let quiet = site.cli(&["test", "tests.yaml", "--quiet"]).exit(1).text();
    assert!(
        !quiet.contains("ok ") && quiet.contains("FAILED"),
        "{quiet}"
    );
}

#[test]
fn a_junit_report_names_every_case() {
    let site = example();
    let wrong = include_str!("example/tests.yaml")
        .replace("entry: 未承諾広告", "entry: \"<広告> & \\\"co\\\"\"")
        .replace("unsolicited ad is held", "ad <is> \"held\" & gone");
    site.write("tests.yaml", wrong);
    let printed = site
        .cli(&["test", "tests.yaml", "--format", "junit"])
        .exit(1)
        .text();
    let beside = site
        .cli(&["test", "tests.yaml", "--junit", "report.xml"])
        .exit(1);
    assert!(beside.text().contains("1 passed, 1 failed"));
    let written = std::fs::read_to_string(site.path("report.xml")).unwrap();
    assert_eq!(printed, written);
    let document = roxmltree::Document::parse(&printed).unwrap();
    let suite = document
        .descendants()
        .find(|node| node.has_tag_name("testsuite"))
        .unwrap();
    assert_eq!(suite.attribute("tests"), Some("2"));
    assert_eq!(suite.attribute("failures"), Some("1"));
    let cases: Vec<_> = suite
        .children()
        .filter(|node| node.has_tag_name("testcase"))
        .collect();
    assert_eq!(cases.len(), 2);
    assert_eq!(cases[1].attribute("name"), Some("ad <is> \"held\" & gone"));
    assert_eq!(cases[1].attribute("line"), Some("8"));
    let failure = cases[1].first_element_child().unwrap();
    assert!(
        failure
            .text()
            .unwrap()
            .starts_with("entry: expected <広告> & \"co\", got 未承諾広告\n"),
        "{failure:?}"
    );
}

#[test]
fn a_case_and_the_daemon_agree() {
    let site = example();
    let daemon = site.start();
    let invoice = std::fs::read_to_string(daemon.path("mails/invoice.eml")).unwrap();
    let wire = crate::harness::crlf(&invoice);
    let id = daemon.give("billing@supplier.example", TARO, &wire).id();
    let why = daemon.one(&["why", &id]);
    let case = format!(
        "version: 1\nmailbox: {TARO}\ncases:\n  - name: as the daemon\n    message: mails/invoice.eml\n    \
         at: {}\n    expect: {{verdict: {}, rule: \"{}\", forwarded_to: {}, notified: {}, auto_reply: {}}}\n",
        why["received_at"].as_str().unwrap(),
        why["verdict"].as_str().unwrap(),
        why["forward"]["rule"].as_str().unwrap(),
        why["forward"]["to"],
        why["notify"],
        why["auto_reply"]["would_send"],
    );
    daemon.write("as-the-daemon.yaml", case);
    daemon.cli(&["test", "as-the-daemon.yaml"]).success();
}

#[test]
fn hostile_words_do_not_reach_the_terminal() {
    let site = site(
        "reject: {subject_contains: [\"a\\e[2Jb\"]}\n",
        "    headers: |\n      Subject: x\n    expect: {entry: \"\\e]0;x\\a\\u202e\"}",
    );
    let text = site.cli(&["test"]).exit(1).text();
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
}

#[test]
fn check_knows_rule_tests() {
    let site = example();
    let places = |found: &Done| -> Vec<(String, u64)> {
        let errors = found
            .json()
            .into_iter()
            .filter(|d| d["severity"] == "error");
        let place = |d: Value| {
            let file = d["file"].as_str().unwrap().rsplit('/').next().unwrap();
            (file.to_owned(), d["line"].as_u64().unwrap())
        };
        errors.map(place).collect()
    };
    let good = site.cli(&["check", "--json", "tests.yaml", "."]);
    assert_eq!((good.code, places(&good)), (0, vec![]), "{good:?}");
    site.write("more.yaml", "version: 1\ncases:\n  - name: a\n");
    let bad = site.cli(&["check", "--json", "."]).exit(78);
    let at = ("more.yaml".to_owned(), 3);
    assert_eq!(places(&bad), [at.clone(), at.clone(), at]);
}
