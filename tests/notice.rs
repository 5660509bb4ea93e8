//! The quarantine notice, read back by other parsers: both forms say the same, and no value of a
//! mail breaks out of its place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;
use sekimori::mail::Address;
use sekimori::mail::compose::{Language, Letter, Mailbox};
use sekimori::mail::notice::{self, Count, Daily, HeldAs, HeldEntry, LISTED, Reason};

const LANGUAGES: [Language; 2] = [Language::Ja, Language::En];

/// A letter with that signature, put into words by `write`.
fn written(
    language: Language,
    signature: &str,
    write: impl FnOnce(&Letter<'_>) -> Vec<u8>,
) -> Vec<u8> {
    let address = |text| Address::parse(text).unwrap();
    let mailbox = address("taro@east.example.jp");
    write(&Letter {
        language,
        from: Mailbox {
            name: "Mail filter".to_owned(),
            address: address("mailer-daemon@example.jp"),
        },
        to: &mailbox,
        reply_to: None,
        mailbox: &mailbox,
        date: "Sun, 22 Nov 2026 12:00:00 +0900",
        message_id: "<q1@mx.example.jp>",
        signature,
    })
}

fn report(language: Language, daily: &Daily) -> Vec<u8> {
    written(language, "", |letter| notice::report(letter, daily))
}

fn entry(subject: &str) -> HeldEntry {
    HeldEntry {
        id: "0123456789ab".to_owned(),
        from: "a@b.example".to_owned(),
        subject: subject.to_owned(),
        received_at: "2026-11-22 12:00".to_owned(),
        expires_at: "2026-11-29 12:00".to_owned(),
        expiring: false,
        size: 999,
        reason: Reason::Spam,
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap()
}

/// All listed, and five more are held of each class.
fn daily(new: &[HeldEntry], expiring: &[HeldEntry]) -> Daily {
    let spam =
        |entries: &[HeldEntry]| number(entries.iter().filter(|e| e.reason == Reason::Spam).count());
    let rule = |entries: &[HeldEntry]| number(entries.len()) - spam(entries);
    let count = |held_as, new, old| Count {
        held_as,
        new,
        held: new + old + 5,
    };
    Daily {
        counts: vec![
            count(HeldAs::Spam, spam(new), spam(expiring)),
            count(HeldAs::UserRule, rule(new), rule(expiring)),
        ],
        new: new.to_vec(),
        expiring: expiring.to_vec(),
        expiring_count: number(expiring.len()),
    }
}

/// Subject, text part and HTML part; checks the octets on the way.
fn forms(mail: &[u8]) -> (String, String, String) {
    let raw = std::str::from_utf8(mail).unwrap();
    assert!(raw.is_ascii() && raw.ends_with("\r\n"));
    for line in raw.strip_suffix("\r\n").unwrap().split("\r\n") {
        assert!(line.len() <= 76, "{line}");
        // The operator may have a tab in his signature.
        let harmful = |c: char| c.is_control() && c != '\t';
        assert!(!line.chars().any(harmful), "{line:?}");
    }
    let parsed = MessageParser::default().parse(mail).unwrap();
    let names: Vec<&str> = parsed.headers().iter().map(|h| h.name.as_str()).collect();
    let expected = [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Precedence",
        "X-Auto-Response-Suppress",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
    ];
    assert_eq!(names, expected);
    let kinds: Vec<&str> = parsed
        .parts
        .iter()
        .map(|part| part.content_type().unwrap().subtype().unwrap())
        .collect();
    assert_eq!(kinds, ["alternative", "plain", "html"]);
    let part = |at: usize| {
        let text = parsed.parts[at].text_contents().unwrap();
        text.replace("\r\n", "\n")
    };
    let subject = parsed.subject().unwrap_or_default().to_owned();
    (subject, part(1), part(2))
}

/// What a browser shows of such HTML, piece by piece; panics at any tag that a notice has not.
fn shown(html: &str) -> Vec<String> {
    const TAGS: [&str; 24] = [
        "<!DOCTYPE html>",
        "<html lang=\"ja\">",
        "<html lang=\"en\">",
        "</html>",
        "<head>",
        "</head>",
        "<meta charset=\"utf-8\">",
        "<title>",
        "</title>",
        "<body>",
        "</body>",
        "<p>",
        "</p>",
        "<br>",
        "<h2>",
        "</h2>",
        "<table border=\"1\" cellpadding=\"4\" cellspacing=\"0\">",
        "</table>",
        "<tr>",
        "</tr>",
        "<th>",
        "</th>",
        "<td>",
        "</td>",
    ];
    let mut pieces = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        pieces.push(&rest[..at]);
        let end = at + rest[at..].find('>').unwrap() + 1;
        assert!(TAGS.contains(&&rest[at..end]), "{}", &rest[at..end]);
        rest = &rest[end..];
    }
    pieces.push(rest);
    let text = |piece: &&str| {
        assert!(!piece.contains(['>', '"', '\'']), "{piece}");
        let piece = piece.trim_matches('\n');
        let piece = piece.replace("&lt;", "<").replace("&gt;", ">");
        let piece = piece.replace("&quot;", "\"").replace("&#39;", "'");
        piece.replace("&amp;", "&")
    };
    let pieces = pieces.iter().map(text);
    pieces.filter(|piece| !piece.is_empty()).collect()
}

/// Every word of the HTML's body stands in the text, and every value of the text in the HTML.
fn say_the_same(text: &str, html: &str) {
    let (head, body) = html.split_once("<body>").unwrap();
    shown(head);
    let pieces = shown(body);
    for piece in &pieces {
        let piece = piece.trim_end();
        assert!(text.contains(piece), "{piece:?} in {text}");
    }
    for line in text.lines().filter(|line| line.starts_with("   ")) {
        let (label, value) = line.trim_start().split_once(": ").unwrap();
        assert!(pieces.iter().any(|piece| piece == label), "{label}");
        assert!(pieces.iter().any(|piece| piece == value), "{value:?}");
    }
}

#[test]
fn a_report_in_japanese() {
    let mut soon = entry("先週のメール");
    soon.expiring = true;
    soon.reason = Reason::SubjectContains("未承諾広告".to_owned());
    let mail = report(
        Language::Ja,
        &daily(&[entry("格安 <b>& \"お得\"")], &[soon]),
    );
    let (subject, text, html) = forms(&mail);
    assert_eq!(subject, "隔離レポート: 新着 1 通、期限間近 1 通");
    assert_eq!(
        text,
        "taro@east.example.jp 宛てのメールのうち、お届けせずに隔離しているものをお知らせします。\n\
         \n\
         迷惑メール: 新着 1 通, 隔離中 6 通\n\
         受信拒否の設定: 新着 0 通, 隔離中 6 通\n\
         \n\
         [前回のお知らせより後に隔離したメール]\n\
         \n\
         1. 件名: 格安 <b>& \"お得\"\n   差出人: a@b.example\n   受信日時: 2026-11-22 12:00\n   \
         保存期限: 2026-11-29 12:00\n   サイズ: 999 バイト\n   隔離の理由: 迷惑メールの判定\n   \
         ID: 0123456789ab\n\
         \n\
         [保存期限まで1日以内のメール (お知らせ済み)]\n\
         \n\
         2. 件名: 先週のメール\n   差出人: a@b.example\n   受信日時: 2026-11-22 12:00\n   \
         保存期限: 2026-11-29 12:00 (保存期限まで1日以内)\n   サイズ: 999 バイト\n   \
         隔離の理由: 受信拒否の設定 (件名の「未承諾広告」)\n   ID: 0123456789ab\n\
         \n\
         隔離したメールは、保存期限を過ぎると自動的に削除されます。\n\
         必要なメールは、保存期限までに「再配送」するとメールボックスに届きます。\n\
         今後も受け取りたい差出人は「受信許可」に登録してください。\n\
         受信拒否の設定で隔離したメールを今後受け取るには、その設定を外してください。\n\
         操作の方法がわからないときは、メールの ID を添えて管理者へお問い合わせください。\n"
    );
    say_the_same(&text, &html);
    assert!(html.contains("<td>格安 &lt;b&gt;&amp; &quot;お得&quot;</td>"));
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"ja\">\n"));
}

#[test]
fn a_report_in_english_is_plain() {
    let mut soon = entry("last week");
    soon.expiring = true;
    let mail = written(Language::En, "-- \nSample Cable", |letter| {
        notice::report(letter, &daily(&[entry("cheap")], &[soon]))
    });
    let (subject, text, html) = forms(&mail);
    assert_eq!(subject, "Quarantine report: 1 new, 1 expiring");
    for expected in [
        "Spam: new 1, held in all 7\nYour reject rules: new 0, held in all 5\n",
        "[Held since the last notice]\n\n1. Subject: cheap\n",
        "[Told of before, expires within a day]\n\n2. Subject: last week\n",
        "   Held until: 2026-11-29 12:00 (expires within a day)\n",
        "   Reason: taken for spam\n",
        "\n\n-- \nSample Cable",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    say_the_same(&text, &html);
    let raw = String::from_utf8(mail).unwrap();
    assert!(raw.contains("Auto-Submitted: auto-generated\r\n"), "{raw}");
    assert_eq!(raw.matches("Content-Transfer-Encoding: 7bit").count(), 2);
}

#[test]
fn each_held_mail_by_itself() {
    for (language, subject, words) in [
        (
            Language::Ja,
            "メール隔離のお知らせ",
            ["隔離しました", "再配送", "受信許可"],
        ),
        (
            Language::En,
            "A mail to you is held in quarantine",
            ["is held", "release it", "allow its sender"],
        ),
    ] {
        let mail = written(language, "", |letter| {
            notice::one_held(letter, &entry("offer"))
        });
        let (found, text, html) = forms(&mail);
        assert_eq!(found, subject);
        for word in words {
            assert!(text.contains(word), "{word}\n{text}");
        }
        assert!(!text.contains("受信拒否") && !text.contains("reject rule"));
        say_the_same(&text, &html);
        let raw = String::from_utf8(mail).unwrap();
        assert!(
            raw.contains("Auto-Submitted: auto-notified;\r\n owner-email=\"taro@"),
            "{raw}"
        );
    }
}

#[test]
fn the_rule_that_held_it_is_named() {
    let from = || Reason::FromSuffix("@spam.example".to_owned());
    let text_of = || Reason::SubjectContains("#1 offer".to_owned());
    let word = |word: &str| Reason::Header(word.to_owned());
    for (reason, ja, en) in [
        (
            from(),
            "受信拒否の設定 (差出人の末尾「@spam.example」)",
            "your reject rule (sender ends with \"@spam.example\")",
        ),
        (
            text_of(),
            "受信拒否の設定 (件名の「#1 offer」)",
            "your reject rule (subject contains \"#1 offer\")",
        ),
        (
            word("from_missing"),
            "受信拒否の設定 (差出人欄がない)",
            "your reject rule (no From)",
        ),
        (
            word("subject_empty"),
            "受信拒否の設定 (件名が空)",
            "your reject rule (empty Subject)",
        ),
        (Reason::Spam, "迷惑メールの判定", "taken for spam"),
        (
            Reason::NotScanned,
            "迷惑メールの検査ができなかったため",
            "could not be checked for spam",
        ),
    ] {
        for (language, expected) in [(Language::Ja, ja), (Language::En, en)] {
            let held = HeldEntry {
                reason: reason.clone(),
                ..entry("x")
            };
            let mail = written(language, "", |letter| notice::one_held(letter, &held));
            let (_, text, html) = forms(&mail);
            assert!(text.contains(&format!(": {expected}\n")), "{text}");
            say_the_same(&text, &html);
            let rules = ["その設定を外して", "remove the rule"];
            let explained = rules.iter().any(|words| text.contains(words));
            let by_a_rule = !matches!(reason, Reason::Spam | Reason::NotScanned);
            assert_eq!(explained, by_a_rule, "{text}");
        }
    }
}

#[test]
fn what_is_not_listed_is_counted() {
    let entries = |count: usize, name: &str| -> Vec<HeldEntry> {
        (0..count).map(|n| entry(&format!("{name}{n}."))).collect()
    };
    for (new, expiring, expiring_count, last, rest) in [
        (1, 0, 0, "1. 件名: n0.", None),
        (0, 1, 1, "1. 件名: x0.", None),
        (LISTED, 0, 0, "200. 件名: n199.", None),
        (LISTED + 3, 7, 7, "200. 件名: n199.", Some("ほか 10 通")),
        (150, 60, 60, "200. 件名: x49.", Some("ほか 10 通")),
        // The caller need not hand over what is not listed.
        (150, 50, 300, "200. 件名: x49.", Some("ほか 250 通")),
    ] {
        let mut told = daily(&entries(new, "n"), &entries(expiring, "x"));
        told.expiring_count = expiring_count;
        let (_, text, html) = forms(&report(Language::Ja, &told));
        say_the_same(&text, &html);
        assert!(text.contains(last), "{new} {expiring}: {text}");
        let listed = text.matches("件名: ").count();
        assert_eq!(listed, (new + expiring).min(LISTED), "{new} {expiring}");
        assert_eq!(html.matches("<td>0123456789ab</td>").count(), listed);
        match rest {
            Some(rest) => assert!(text.contains(rest), "{new} {expiring}: {text}"),
            None => assert!(!text.contains("ほか"), "{new} {expiring}: {text}"),
        }
    }
}

#[test]
fn the_largest_report_is_bounded() {
    let huge = "\"".repeat(100_000);
    let mut held = entry(&huge);
    held.from.clone_from(&huge);
    held.reason = Reason::SubjectContains(huge);
    let all = vec![held; LISTED + 1];
    let mail = report(Language::En, &daily(&all, &all));
    assert!(mail.len() < 2 << 20, "{}", mail.len());
}

/// Python's `email` and `html.parser` read the same.
#[test]
fn another_parser_reads_both_forms() {
    const PROGRAM: &str = r#"
import email, email.policy, html.parser, json, sys
class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(); self.cells = []; self.tags = set(); self.open = False
    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.open = tag == "td"
        if self.open: self.cells.append("")
    def handle_endtag(self, tag):
        self.open = False
    def handle_data(self, data):
        if self.open: self.cells[-1] += data
mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
reader = Reader()
reader.feed(mail.get_body(("html",)).get_content())
json.dump({
    "defects": [str(d) for part in mail.walk() for d in part.defects],
    "parts": [part.get_content_type() for part in mail.walk()],
    "charsets": [part.get_content_charset() for part in mail.iter_parts()],
    "subject": mail["subject"], "tags": sorted(reader.tags), "cells": reader.cells,
    "text": mail.get_body(("plain",)).get_content(),
}, sys.stdout)
"#;
    let hostile =
        "=?UTF-8?B?PGI+?= </td><script>alert(1)</script>&lt;\u{202e}\r\nBcc: x@y\u{2028}z";
    for language in LANGUAGES {
        let mut held = entry(hostile);
        held.from = "\"件名\" <a@b.example>".to_owned();
        let mail = report(language, &daily(&[held], &[]));
        let started = Command::new("python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut python) = started else {
            eprintln!("not run: there is no python3");
            return;
        };
        python.stdin.take().unwrap().write_all(&mail).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(read["defects"], serde_json::json!([]));
        let parts = ["multipart/alternative", "text/plain", "text/html"];
        assert_eq!(read["parts"], serde_json::json!(parts));
        assert_eq!(read["charsets"], serde_json::json!(["utf-8", "utf-8"]));
        let tags = [
            "body", "br", "h2", "head", "html", "meta", "p", "table", "td", "th", "title", "tr",
        ];
        assert_eq!(read["tags"], serde_json::json!(tags));
        let cells: Vec<&str> = read["cells"].as_array().unwrap()[6..14]
            .iter()
            .map(|cell| cell.as_str().unwrap())
            .collect();
        let subject = "=?UTF-8?B?PGI+?= </td><script>alert(1)</script>&lt; Bcc: x@y z";
        assert_eq!(cells[1..3], [subject, "\"件名\" <a@b.example>"]);
        let text = read["text"].as_str().unwrap();
        for cell in &cells {
            assert!(text.contains(cell), "{cell:?} in {text}");
        }
        let beginning = match language {
            Language::Ja => "隔離レポート",
            Language::En => "Quarantine report",
        };
        assert!(read["subject"].as_str().unwrap().starts_with(beginning));
    }
}

const BIDI: [char; 3] = ['\u{202e}', '\u{2066}', '\u{200f}'];

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z \\r\\n\\t:<>@\"'&;\\\\=?]{0,80}",
        "(<script>|</td>|<a href=\"http://x\">|&lt;|&#60;|件名|\\r\\nBcc: x@y|--=_sekimori_report|\u{202e}|\u{2066}| ){0,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_out(
        id in hostile(), from in hostile(), subject in hostile(), rule in hostile(),
        at in hostile(), signature in hostile(), en: bool, header: bool,
    ) {
        let reason = if header { Reason::Header(rule) } else { Reason::FromSuffix(rule) };
        let held = HeldEntry {
            // No id is empty.
            id: format!("01{id}"),
            from,
            subject,
            received_at: at.clone(),
            expires_at: at,
            expiring: true,
            size: 1,
            reason,
        };
        let language = LANGUAGES[usize::from(en)];
        for mail in [
            written(language, &signature, |letter| notice::one_held(letter, &held)),
            written(language, &signature, |letter| {
                notice::report(letter, &daily(std::slice::from_ref(&held), std::slice::from_ref(&held)))
            }),
        ] {
            let (_, text, html) = forms(&mail);
            shown(&html);
            for form in [&text, &html] {
                prop_assert!(!form.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
                prop_assert!(!form.contains(BIDI));
            }
            if signature.is_empty() {
                say_the_same(&text, &html);
            }
        }
    }
}
