//! The mail that we write, read back by another parser, with hostile text in every place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use base64::Engine as _;
use mail_parser::{HeaderName, MessageParser, MimeHeaders};
use proptest::prelude::*;
use sekimori::mail::compose::{
    Fact, Infection, Kept, Language, Letter, Mailbox, Original, Rest, auto_reply, receipt_notice,
    virus_report,
};
use sekimori::mail::{Address, Infected};

const FACTS: [Fact; 5] = [
    Fact::From,
    Fact::To,
    Fact::Subject,
    Fact::Attachment,
    Fact::Size,
];
const KEPT: Kept<'_> = Kept {
    id: "01m81qffha7p",
    until: "2026-11-29 12:00",
};
const SIGNATURE: &str = "-- \nサンプルケーブル メールサービス";

struct Parts {
    language: Language,
    name: String,
    from: Address,
    to: Address,
    reply_to: Address,
    mailbox: Address,
    signature: String,
}

impl Parts {
    fn new(language: Language, name: &str) -> Self {
        let address = |text| Address::parse(text).unwrap();
        Self {
            language,
            name: name.to_owned(),
            from: address("mailer-daemon@example.jp"),
            to: address("user.@ezweb.ne.jp"),
            reply_to: address("postmaster@example.jp"),
            mailbox: address("taro@east.example.jp"),
            signature: SIGNATURE.to_owned(),
        }
    }

    fn letter(&self) -> Letter<'_> {
        Letter {
            language: self.language,
            from: Mailbox {
                name: self.name.clone(),
                address: self.from.clone(),
            },
            to: &self.to,
            reply_to: Some(&self.reply_to),
            mailbox: &self.mailbox,
            date: "Sun, 22 Nov 2026 12:00:00 +0900",
            message_id: "<q1@mx.example.jp>",
            signature: &self.signature,
        }
    }
}

fn original(from: &str, subject: &str) -> Original {
    Original {
        from: from.to_owned(),
        subject: subject.to_owned(),
        size: 1_234_567,
        attachment: true,
        received_at: "2026-11-22 12:00".to_owned(),
        message_id: Some("<m@x.example>".to_owned()),
        references: "<a@x.example> <b@x.example>".to_owned(),
    }
}

/// A report's octets; those of a mail in it stand where they belong.
fn report(parts: &Parts, infection: &Infection<'_>, original: &Original) -> Vec<u8> {
    let report = virus_report(&parts.letter(), infection, original);
    let enclosed = match infection.rest {
        Rest::Mail(pieces) => pieces.concat(),
        _ => Vec::new(),
    };
    [report.head, enclosed, report.tail].concat()
}

fn infected(name: &str, virus: &str) -> Infected {
    Infected {
        path: "2.1".to_owned(),
        name: name.to_owned(),
        media_type: "application/zip".to_owned(),
        virus: virus.to_owned(),
    }
}

/// Header names in order; checks the octets on the way.
fn names(mail: &[u8], longest: usize) -> Vec<String> {
    let text = std::str::from_utf8(mail).unwrap();
    assert!(text.is_ascii());
    assert!(text.ends_with("\r\n"));
    for line in text.strip_suffix("\r\n").unwrap().split("\r\n") {
        assert!(line.len() <= longest, "{line}");
        assert!(!line.contains(['\r', '\n', '\0', '\x1b']), "{line:?}");
    }
    let header = text.split("\r\n\r\n").next().unwrap();
    let mut names = Vec::new();
    for line in header.split("\r\n") {
        assert!(!line.trim().is_empty());
        if !line.starts_with(' ') {
            names.push(line.split(':').next().unwrap().to_owned());
        }
    }
    names
}

fn expected(own: &[&str], end: &[&str]) -> Vec<String> {
    let begin = [
        "From",
        "To",
        "Reply-To",
        "Subject",
        "Date",
        "Message-ID",
        "Precedence",
        "X-Auto-Response-Suppress",
    ];
    [&begin[..], own, &["MIME-Version", "Content-Type"], end]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

const SINGLE: &[&str] = &["Content-Transfer-Encoding"];

fn subject_and_text(mail: &[u8]) -> (String, String) {
    let parsed = MessageParser::default().parse(mail).unwrap();
    (
        parsed.subject().unwrap_or_default().to_owned(),
        parsed.body_text(0).unwrap().into_owned(),
    )
}

#[test]
fn a_receipt_notice_tells_what_was_asked_for() {
    let parts = Parts::new(Language::Ja, "メール フィルター");
    let mail = receipt_notice(
        &parts.letter(),
        &FACTS,
        &original("山田 <y@x.example>", "請求書"),
    );
    assert_eq!(names(&mail, 76), expected(&["Auto-Submitted"], SINGLE));
    let raw = String::from_utf8(mail.clone()).unwrap();
    assert!(
        raw.contains("Auto-Submitted: auto-notified;\r\n owner-email=\"taro@east.example.jp\"\r\n")
    );
    assert!(raw.contains("To: \"user.\"@ezweb.ne.jp\r\n"));
    let (subject, text) = subject_and_text(&mail);
    assert_eq!(subject, "メール受信のお知らせ");
    assert_eq!(
        text.replace("\r\n", "\n"),
        "taro@east.example.jp 宛てにメールが届きました。\n\n差出人: 山田 <y@x.example>\n\
         宛先: taro@east.example.jp\n件名: 請求書\n添付ファイル: あり\nサイズ: 1,234,567 バイト\n\n\
         -- \nサンプルケーブル メールサービス\n"
    );
    let few = receipt_notice(&parts.letter(), &[Fact::Size], &original("山田", "請求書"));
    assert!(!subject_and_text(&few).1.contains("山田"));
}

#[test]
fn an_english_notice_is_plain() {
    let mut parts = Parts::new(Language::En, "Mail filter");
    parts.signature = "-- \nSample Cable".to_owned();
    let mail = receipt_notice(&parts.letter(), &FACTS, &original("", "hi"));
    let raw = String::from_utf8(mail).unwrap();
    assert!(
        raw.contains("Content-Transfer-Encoding: 7bit\r\n\r\nA mail for taro@"),
        "{raw}"
    );
    assert!(
        raw.contains("From: \"Mail filter\"\r\n <mailer-daemon@example.jp>\r\n"),
        "{raw}"
    );
    assert!(
        raw.ends_with(
            "From: (none)\r\nTo: taro@east.example.jp\r\nSubject: hi\r\n\
        Attachment: yes\r\nSize: 1,234,567 bytes\r\n\r\n-- \r\nSample Cable\r\n"
        ),
        "{raw}"
    );
}

#[test]
fn a_reply_belongs_to_its_thread() {
    let rows = [
        ("自動返信: %{subject}", "請求書", "自動返信: 請求書"),
        ("", "hello", "Auto: hello"),
        ("away", "hello", "away"),
        (
            "%{subject}/%{subject}",
            "%{subject}",
            "%{subject}/%{subject}",
        ),
    ];
    for (template, subject, expected_subject) in rows {
        let parts = Parts::new(Language::Ja, "");
        let mail = auto_reply(
            &parts.letter(),
            template,
            "不在です。\n",
            &original("", subject),
        );
        let own = ["In-Reply-To", "References", "Auto-Submitted"];
        assert_eq!(names(&mail, 76), expected(&own, SINGLE));
        let (found, text) = subject_and_text(&mail);
        assert_eq!(found, expected_subject);
        assert!(text.starts_with("不在です。"));
        let raw = String::from_utf8(mail).unwrap();
        assert!(raw.contains("Auto-Submitted: auto-replied (vacation)\r\n"));
        assert!(raw.contains("In-Reply-To: <m@x.example>\r\n"));
        assert!(raw.contains("References: <a@x.example>\r\n <b@x.example>\r\n <m@x.example>\r\n"));
    }
    let parts = Parts::new(Language::Ja, "");
    let odd = Original {
        message_id: Some("<m@x>\r\nBcc: y".to_owned()),
        ..original("", "x")
    };
    let mail = auto_reply(&parts.letter(), "", "x", &odd);
    assert_eq!(names(&mail, 76), expected(&["Auto-Submitted"], SINGLE));
}

#[test]
fn a_virus_report_carries_the_header() {
    let rows: &[(&[u8], &str)] = &[
        (b"Subject: x\r\nFrom: a\r\n\r\n", "7bit"),
        (b"Subject: x", "7bit"),
        (b"Subject: \x82\xa0\r\n\r\n", "base64"),
        (b"Subject: \xe3\x81\x82\r\n\r\n", "base64"),
        (b"Subject: a\rb\r\n\r\n", "base64"),
        (b"X: \r\n--=_sekimori_report--\r\n", "base64"),
    ];
    for (block, encoding) in rows {
        let parts = Parts::new(Language::Ja, "フィルター");
        let infection = Infection {
            virus: "Eicar",
            parts: &[],
            rest: Rest::Header(block),
            kept: Some(KEPT),
        };
        let mail = report(&parts, &infection, &original("", "x"));
        assert_eq!(names(&mail, 998), expected(&["Auto-Submitted"], &[]));
        let parsed = MessageParser::default().parse(&mail).unwrap();
        assert_eq!(parsed.parts.len(), 3, "{encoding}");
        let part = &parsed.parts[2];
        assert_eq!(
            part.content_type().unwrap().subtype(),
            Some("rfc822-headers")
        );
        assert_eq!(part.content_transfer_encoding().unwrap(), *encoding);
        if *encoding == "base64" {
            let encoded = String::from_utf8(
                mail[part.raw_body_offset() as usize..part.raw_end_offset() as usize].to_vec(),
            );
            let encoded: String = encoded.unwrap().split_whitespace().collect();
            assert_eq!(
                base64::engine::general_purpose::STANDARD
                    .decode(encoded)
                    .unwrap(),
                *block
            );
        }
        let text = parsed.body_text(0).unwrap();
        assert!(
            text.contains("ウイルス名: Eicar")
                && text.contains("隔離しています（ID: 01m81qffha7p、保存期限: 2026-11-29 12:00）"),
            "{text}"
        );
    }
}

#[test]
fn a_virus_report_encloses_what_remains_octet_for_octet() {
    let long = "x".repeat(3000);
    let rows: &[(&[&str], &str)] = &[
        (&["Subject: x\r\n\r\n", "hello\r\n"], "7bit"),
        (&["Subject: x\r\n\r\nno line end"], "7bit"),
        (&["Subject: 件名\r\n\r\n本文\r\n"], "8bit"),
        (&["A: b\r\n\r\n", "é", "\r\n"], "8bit"),
        (&["A: b\r\n\r\n", &long, "\r\n"], "7bit"),
        (&["A: b\r\n\r\n--=_sekimori_report--\r\n"], "7bit"),
        // Across the end of a piece; a second try is needed.
        (
            &[
                "A: b\r\n\r\n--=_sekimori_rep",
                "ort_q1mxexamplejp--\r\nBcc: x@y\r\n",
            ],
            "7bit",
        ),
        (
            &["Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nunclosed"],
            "7bit",
        ),
        (&[], "7bit"),
    ];
    for language in [Language::Ja, Language::En] {
        for (pieces, encoding) in rows {
            let parts = Parts::new(language, "フィルター");
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let infection = Infection {
                virus: "Eicar",
                parts: &[infected("請求書.zip", "Eicar")],
                rest: Rest::Mail(&pieces),
                kept: Some(KEPT),
            };
            let mail = report(&parts, &infection, &original("a@b", "x"));
            let parsed = MessageParser::default().parse(&mail).unwrap();
            let [root, text, enclosed] = &parsed.parts[..] else {
                panic!("{} parts", parsed.parts.len());
            };
            assert_eq!(
                enclosed.content_type().unwrap().subtype(),
                Some("rfc822"),
                "{pieces:?}"
            );
            assert_eq!(enclosed.content_transfer_encoding(), Some(*encoding));
            let whole = root.content_transfer_encoding().unwrap_or("7bit");
            assert_eq!(whole, *encoding);
            // Where the enclosed mail is not closed, the other parser reads over our delimiter.
            let start = enclosed.raw_body_offset() as usize;
            let content = pieces.concat();
            assert!(mail[start..].starts_with(&content), "{pieces:?}");
            let tail = String::from_utf8(mail[start + content.len()..].to_vec()).unwrap();
            let boundary = root.content_type().unwrap().attribute("boundary").unwrap();
            assert_eq!(tail, format!("\r\n--{boundary}--\r\n"));
            let text = text.text_contents().unwrap();
            for word in ["Eicar", "請求書.zip", "2.1 application/zip", "a@b"] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}

#[test]
fn a_virus_report_says_what_it_shows_and_what_it_does_not() {
    let header: &[u8] = b"Subject: x\r\n\r\n";
    let rows = [
        (
            Rest::Mail(&[]),
            [
                "取り除いたメールを",
                "without the infected parts is attached",
            ],
            3,
        ),
        (
            Rest::TooLarge(header),
            ["大きすぎる", "too large to be attached"],
            3,
        ),
        (
            Rest::Header(header),
            ["ヘッダーだけを", "only the header"],
            3,
        ),
        (
            Rest::Nothing,
            ["表示していません", "nothing is attached"],
            1,
        ),
    ];
    for (rest, words, count) in rows {
        for (language, word) in [Language::Ja, Language::En].into_iter().zip(words) {
            let infected: Vec<Infected> =
                (0..53).map(|n| infected("", &format!("V{n}."))).collect();
            let infection = Infection {
                virus: "Eicar",
                parts: &infected,
                rest,
                kept: None,
            };
            let parts = Parts::new(language, "");
            let mail = report(&parts, &infection, &original("Sender <a@b>", "Secret"));
            let parsed = MessageParser::default().parse(&mail).unwrap();
            assert_eq!(parsed.parts.len(), count);
            let text = parsed.body_text(0).unwrap();
            assert!(text.contains(word), "{word}: {text}");
            let more = ["ほか 3 件", "and 3 more"]
                .iter()
                .any(|more| text.contains(more));
            assert!(
                more && text.contains("V49.") && !text.contains("V50."),
                "{text}"
            );
            let is_quoted = text.contains("Secret") && text.contains("a@b");
            assert_eq!(is_quoted, count == 3, "{text}");
        }
    }
}

#[test]
fn an_address_beyond_ascii_stands_as_a_group() {
    let mut parts = Parts::new(Language::Ja, "");
    parts.to = Address::parse("山田太郎山田太郎山田太郎@日本.example").unwrap();
    let mail = receipt_notice(&parts.letter(), &FACTS, &original("", ""));
    assert_eq!(names(&mail, 76), expected(&["Auto-Submitted"], SINGLE));
    assert!(String::from_utf8(mail).unwrap().contains("?=\r\n :;\r\n"));
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z \\r\\n\\t:<>@\"\\\\=?]{0,80}",
        "([a-z]{1,90} ?|件名|\\r\\nBcc: x@y|=\\?utf-8\\?B\\?AA==\\?=|\u{202e}){0,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_injected(
        name in hostile(), from in hostile(), subject in hostile(), template in hostile(),
        message in hostile(), references in hostile(), id in hostile(),
        block in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut parts = Parts::new(Language::Ja, &name);
        parts.signature = message.clone();
        let mut original = original(&from, &subject);
        original.references = references;
        let own = ["In-Reply-To", "References", "Auto-Submitted"];
        let reply = auto_reply(&parts.letter(), &template, &message, &original);
        prop_assert_eq!(names(&reply, 998), expected(&own, SINGLE));
        original.message_id = Some(id);
        let notice = receipt_notice(&parts.letter(), &FACTS, &original);
        prop_assert_eq!(names(&notice, 76), expected(&["Auto-Submitted"], SINGLE));
        let found = [infected(&from, &subject), infected(&subject, &from)];
        let infection = Infection { virus: &subject, parts: &found, rest: Rest::Header(&block), kept: None };
        let headed = report(&parts, &infection, &original);
        prop_assert_eq!(names(&headed, 998), expected(&["Auto-Submitted"], &[]));
        prop_assert_eq!(MessageParser::default().parse(&headed).unwrap().parts.len(), 3);
        let infection = Infection { rest: Rest::Nothing, ..infection };
        let bare = report(&parts, &infection, &original);
        prop_assert_eq!(names(&bare, 76), expected(&["Auto-Submitted"], SINGLE));
        let enclosed = [b"A: b\r\n\r\n".as_slice(), &block];
        let infection = Infection { rest: Rest::Mail(&enclosed), ..infection };
        let whole = report(&parts, &infection, &original);
        prop_assert!(whole.ends_with(b"--\r\n"));
        let parsed = MessageParser::default().parse(&whole).unwrap();
        prop_assert_eq!(parsed.parts.len(), 3);
        let part = &parsed.parts[2];
        prop_assert_eq!(
            &whole[part.raw_body_offset() as usize..part.raw_end_offset() as usize],
            enclosed.concat()
        );
        for mail in [&reply, &notice, &headed, &bare, &whole] {
            let parsed = MessageParser::default().parse(mail).unwrap();
            prop_assert!(parsed.header(HeaderName::Bcc).is_none());
        }
    }

    #[test]
    fn a_subject_reads_back(subject in "[ -~あ-ん漢字😀]{1,200}") {
        let clean = subject.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
        prop_assume!(!clean.is_empty());
        let parts = Parts::new(Language::En, "");
        let mail = auto_reply(&parts.letter(), "%{subject}", "x", &original("", &subject));
        prop_assert_eq!(names(&mail, 76).len(), 14);
        prop_assert_eq!(subject_and_text(&mail).0, clean);
    }
}
