//! What one file shows: settings text, and FILE:LINE:COL with the id of each finding.

use crate::site::{DAEMON, Site, table};

/// Findings of taro's file; the first line is `version: 1`.
fn mailbox(text: &str) -> Vec<String> {
    Site::new(&[
        ("sekimori.yaml", DAEMON),
        (
            "mailboxes/east.example.jp/taro.yaml",
            &format!("version: 1\n{text}"),
        ),
    ])
    .places(&[])
}

/// Findings of a daemon file; the first line is `version: 1`.
fn daemon(text: &str) -> Vec<String> {
    Site::new(&[("sekimori.yaml", &format!("version: 1\n{text}"))]).places(&[])
}

fn reject(entry: &str) -> Vec<String> {
    mailbox(&format!("reject: {{from_suffixes: [\"{entry}\"]}}\n"))
}

#[test]
fn endings() {
    let broad: &[&str] = &["taro.yaml:2:26 broad-suffix"];
    let none: &[&str] = &["taro.yaml:2:26 no-address"];
    let own: &[&str] = &["taro.yaml:2:26 own-domain"];
    let loose: &[&str] = &["taro.yaml:2:26 unanchored-suffix"];
    table(
        &[
            ("@spam.example", &[]),
            (".bulk.example", &[]),
            ("noreply@shop.example", &[]),
            ("spam.example", &[]),
            ("user..name.@docomo.ne.jp", &[]),
            ("@docomo.ne.jp", &[]),
            ("github.io", &[]),
            ("jp", broad),
            (".jp", broad),
            (".co.jp", broad),
            ("COM", broad),
            ("．ｊｐ", broad),
            (".みんな", broad),
            (".xn--q9jyb4c", broad),
            ("@jp", none),
            ("*.spam.example", none),
            ("*@spam.example", none),
            ("a@b.example, c@d.example", none),
            ("Taro <a@b.example>", none),
            ("newsletter", none),
            ("@east.example.jp", own),
            ("taro@east.example.jp", own),
            ("east.example.jp", own),
            (".example.jp", own),
            ("example.jp", own),
            ("hanako@east.example.jp", &[]),
            ("x.com", loose),
            ("qq.com", loose),
            ("@x.com", &[]),
            ("ibm.com", &[]),
        ],
        reject,
    );
}

#[test]
fn endings_of_the_other_lists() {
    table(
        &[
            (
                "allow: {senders: [.jp]}\n",
                &["taro.yaml:2:19 broad-suffix"],
            ),
            ("allow: {senders: [\"@east.example.jp\"]}\n", &[]),
            (
                "allow:\n  senders:\n    - '*@a.example'\n    - x.com\n",
                &[
                    "taro.yaml:4:7 no-address",
                    "taro.yaml:5:7 unanchored-suffix",
                ],
            ),
            (
                "forwarding:\n  mode: rules\n  rules:\n    - {from_suffixes: [.jp, spam], to: [a@b.example]}\n",
                &["taro.yaml:5:29 no-address"],
            ),
            (
                "auto_reply:\n  per_sender:\n    - {senders: [.jp, x.com], message: a}\n",
                &["taro.yaml:4:23 unanchored-suffix"],
            ),
        ],
        mailbox,
    );
    table(
        &[
            (
                "announcement_senders: [.jp]\n",
                &["sekimori.yaml:2:24 broad-suffix"],
            ),
            (
                "announcement_senders: |\n  @a.example\n  @A.example\n  news@a.example\n",
                &[
                    "sekimori.yaml:4:3 duplicate",
                    "sekimori.yaml:5:3 covered-entry",
                ],
            ),
            (
                "mailboxes: {domains: [a.example], defaults: {reject: {from_suffixes: [\"@a.example\", .jp]}}}\n",
                &[
                    "sekimori.yaml:2:71 own-domain",
                    "sekimori.yaml:2:85 broad-suffix",
                ],
            ),
        ],
        daemon,
    );
}

#[test]
fn entries_that_others_cover() {
    table(
        &[
            (
                "reject:\n  from_suffixes: |\n    a@bulk.example\n    @bulk.example\n    .bulk.example\n    @x.bulk.example\n    bulk.example\n",
                &[
                    "taro.yaml:4:5 covered-entry",
                    "taro.yaml:5:5 covered-entry",
                    "taro.yaml:6:5 covered-entry",
                    "taro.yaml:7:5 covered-entry",
                ],
            ),
            // In a reject list a whole address is an ending, in an allow list it is not.
            (
                "reject: {from_suffixes: [aa@bulk.example, a@bulk.example]}\n",
                &["taro.yaml:2:26 covered-entry"],
            ),
            ("allow: {senders: [aa@bulk.example, a@bulk.example]}\n", &[]),
            (
                "allow: {senders: [a@bulk.example, bulk.example]}\n",
                &["taro.yaml:2:19 covered-entry"],
            ),
            (
                "reject:\n  subject_contains: |\n    ＦＲＥＥ gift\n    free\n    carefree\n    fre e\n",
                &["taro.yaml:4:5 covered-entry", "taro.yaml:6:5 covered-entry"],
            ),
            (
                "forwarding:\n  mode: rules\n  rules:\n    - {subject_contains: [invoice, invoices], to: [a@bulk.example]}\n",
                &["taro.yaml:5:36 covered-entry"],
            ),
            (
                "auto_reply:\n  per_sender:\n    - {senders: [\"@bulk.example\"], message: a}\n    - {senders: [a@bulk.example, a@c.example], message: b}\n",
                &["taro.yaml:5:18 unreachable-reply"],
            ),
            (
                "auto_reply:\n  per_sender:\n    - {senders: [a@bulk.example], message: a}\n    - {senders: [\"@bulk.example\"], message: b}\n",
                &[],
            ),
            (
                "allow:\n  senders: [\"@bulk.example\"]\n  verified_senders: [a@bulk.example]\n",
                &["taro.yaml:4:21 not-built", "taro.yaml:4:22 covered-entry"],
            ),
        ],
        mailbox,
    );
}

#[test]
fn reject_against_allow() {
    table(
        &[
            (
                "reject: {from_suffixes: [a@b.example, \"@c.example\"]}\nallow: {before_reject: true, senders: [\"@b.example\", a@c.example]}\n",
                &["taro.yaml:2:26 moot-reject"],
            ),
            // `ja@b.example` ends so too, and is not allowed.
            (
                "reject: {from_suffixes: [a@b.example]}\nallow: {before_reject: true, senders: [a@b.example]}\n",
                &[],
            ),
            (
                "reject: {from_suffixes: [\"@c.example\"]}\nallow: {senders: [a@c.example]}\n",
                &["taro.yaml:3:19 shadowed-allow"],
            ),
        ],
        mailbox,
    );
    // The owner's list against the operator's: said where the owner can change it.
    let site = Site::new(&[
        (
            "sekimori.yaml",
            "version: 1\nmailboxes: {defaults: {allow: {before_reject: true, senders: [\"@b.example\"]}}}\n",
        ),
        (
            "mailboxes/a.jp/taro.yaml",
            "version: 1\nreject: {from_suffixes: [a@b.example]}\n",
        ),
    ]);
    assert_eq!(site.places(&[]), ["a.jp/taro.yaml:2:26 moot-reject"]);
}

/// Two rules, and whether the second is never reached.
#[test]
fn rules_that_are_never_reached() {
    let rule = |text: &str| format!("    - {{{text}, to: [a@b.example]}}\n");
    let find = |pair: &str| {
        let (first, second) = pair.split_once(" | ").unwrap();
        let rules = rule(first) + &rule(second);
        mailbox(&format!("forwarding:\n  mode: rules\n  rules:\n{rules}"))
    };
    let never: &[&str] = &["taro.yaml:6:7 unreachable-rule"];
    table(
        &[
            ("attachment: true | attachment: true", never),
            ("attachment: true | attachment: false", &[]),
            ("size: {at_least: 1MiB} | size: {at_least: 2MiB}", never),
            ("size: {at_least: 2MiB} | size: {at_least: 1MiB}", &[]),
            ("size: {at_most: 2MiB} | size: {at_most: 1MiB}", never),
            ("size: {at_most: 1MiB} | size: {at_least: 2MiB}", &[]),
            // Every mail: as large as the largest that is taken, or larger than nothing.
            ("size: {at_least: 0B} | attachment: true", never),
            ("size: {at_most: 50MiB} | attachment: true", never),
            ("size: {at_most: 49MiB} | attachment: true", &[]),
            (
                "subject_contains: [offer] | subject_contains: [offers, my offer]",
                never,
            ),
            (
                "subject_contains: [offer] | subject_contains: [offers, bill]",
                &[],
            ),
            (
                "subject_contains: [offers] | subject_contains: [offer]",
                &[],
            ),
            (
                "subject_contains: [ＯＦＦＥＲ] | subject_contains: [offer]",
                never,
            ),
            (
                "from_suffixes: [\".b.example\"] | from_suffixes: [\"@b.example\"]",
                &[],
            ),
            (
                "from_suffixes: [bulk.example] | from_suffixes: [\"@a.bulk.example\", \"@bulk.example\"]",
                never,
            ),
            // More conditions are narrower, with `any` they are wider.
            (
                "attachment: true | attachment: true, subject_contains: [offer]",
                never,
            ),
            (
                "attachment: true, subject_contains: [offer] | attachment: true",
                &[],
            ),
            (
                "match: any, attachment: true, subject_contains: [offer] | attachment: true",
                never,
            ),
            (
                "attachment: true | match: any, attachment: true, subject_contains: [offer]",
                &[],
            ),
            (
                "match: any, attachment: true, subject_contains: [offer] | match: any, attachment: true, subject_contains: [offers]",
                never,
            ),
            ("subject_contains: [offer] | attachment: true", &[]),
            ("paused: true, attachment: true | attachment: true", &[]),
            (
                "paused: false, attachment: true | paused: true, attachment: true",
                &[],
            ),
        ],
        find,
    );
    let never: &[&str] = &["taro.yaml:5:7 never-matches"];
    table(
        &[
            ("size: {at_least: 51MiB} | attachment: true", never),
            (
                "size: {at_least: 51MiB}, attachment: true | attachment: true",
                never,
            ),
            (
                "match: any, size: {at_least: 51MiB}, attachment: true | attachment: false",
                &[],
            ),
            ("size: {at_least: 50MiB} | attachment: true", &[]),
        ],
        find,
    );
}

#[test]
fn rules_that_do_not_count_are_not_looked_at() {
    let rules = "  rules:\n    - {attachment: true, to: [a@b.example]}\n    - {attachment: true, to: [c@b.example]}\n";
    assert!(mailbox(&format!("forwarding:\n  mode: off\n{rules}")).is_empty());
}

#[test]
fn auto_reply_and_spam() {
    table(
        &[
            (
                "auto_reply: {enabled: true, message: a, end: \"2026-01-01T00:00:00+09:00\"}\n",
                &["taro.yaml:2:46 ended"],
            ),
            (
                "auto_reply: {enabled: false, message: a, end: \"2026-01-01T00:00:00+09:00\"}\n",
                &[],
            ),
            (
                "auto_reply: {enabled: true, message: a, end: \"2026-01-01T00:00:00\"}\n",
                &["taro.yaml:2:46 ended"],
            ),
            (
                "auto_reply: {message: a, end: \"2026-01-01T00:00:00+09:00\", start: \"2026-02-01T00:00:00+09:00\"}\n",
                &["taro.yaml:2:31 range"],
            ),
            (
                "auto_reply: {subject: \"Re: %{subject}\", message: 100%}\n",
                &[],
            ),
            (
                "auto_reply: {subject: \"Re: %{Subject}\", message: \"%{subject}\"}\n",
                &["taro.yaml:2:23 placeholder", "taro.yaml:2:41 placeholder"],
            ),
            (
                "auto_reply:\n  per_sender:\n    - {senders: [a@b.example], message: \"%{name}\"}\n",
                &["taro.yaml:4:32 placeholder"],
            ),
            (
                "spam: {scan: true, mark_subject: \"\"}\n",
                &["taro.yaml:2:34 no-effect"],
            ),
            (
                "spam: {scan: true, mark_subject: \"\", quarantine: true}\n",
                &[],
            ),
            ("notify: {fields: [from]}\n", &["taro.yaml:2:10 no-effect"]),
            (
                "spam: {scan: true, quarantine: true, notice_includes: [user_rule]}\n",
                &["taro.yaml:2:38 no-effect"],
            ),
            (
                "spam: {scan: true, notice: daily}\n",
                &["taro.yaml:2:28 no-effect"],
            ),
            (
                "spam: {notice: each, notice_includes: [spam]}\n",
                &["taro.yaml:2:16 no-effect"],
            ),
            (
                "spam: {notice: each, notice_includes: [spam, user_rule]}\n",
                &[],
            ),
            ("spam: {scan: true, quarantine: true, notice: daily}\n", &[]),
            ("spam: {notice: off}\n", &[]),
        ],
        mailbox,
    );
}

#[test]
fn addresses_of_a_mailbox() {
    table(
        &[
            ("aliases: [t@east.example.jp]\n", &[]),
            (
                "aliases: [Taro@east.example.jp]\n",
                &["taro.yaml:2:11 needless-alias"],
            ),
            (
                "aliases: [t@west.example.jp]\n",
                &["taro.yaml:2:11 foreign-domain"],
            ),
            (
                "aliases: [t@east.example.jp, t@east.example.jp]\n",
                &["taro.yaml:2:30 duplicate"],
            ),
        ],
        mailbox,
    );
    let site = Site::new(&[
        ("sekimori.yaml", DAEMON),
        ("mailboxes/west.example.jp/a.yaml", "version: 1\n"),
        (
            "mailboxes/west.example.jp/b.yaml",
            "version: 1\nmailbox: b@west.example.jp\n",
        ),
    ]);
    assert_eq!(
        site.places(&[]),
        [
            "west.example.jp/a.yaml:1:1 foreign-domain",
            "west.example.jp/b.yaml:2:10 foreign-domain"
        ]
    );
}

#[test]
fn ports_and_places_of_the_daemon_file() {
    table(
        &[
            ("relay: {port: 465}\n", &["sekimori.yaml:2:15 tls-port"]),
            (
                "relay: {port: 465, tls: starttls}\n",
                &["sekimori.yaml:2:15 tls-port"],
            ),
            ("relay: {port: 465, tls: implicit}\n", &[]),
            (
                "relay: {port: 587, tls: implicit}\n",
                &["sekimori.yaml:2:15 tls-port"],
            ),
            ("relay: {tls: implicit}\n", &["sekimori.yaml:2:14 tls-port"]),
            (
                "relay: {host: mx.example.net, port: 587}\n",
                &["sekimori.yaml:2:37 tls-port"],
            ),
            ("relay: {port: 587}\n", &[]),
            ("relay: {port: 587, tls: starttls}\n", &[]),
            (
                "server: {listeners: [{protocol: smtp, listen: \"0.0.0.0:465\"}]}\n",
                &["sekimori.yaml:2:47 tls-port"],
            ),
            (
                "server: {listeners: [{listen: \"0.0.0.0:24\"}]}\nrelay: {host: localhost, port: 24}\n",
                &["sekimori.yaml:3:32 own-listener"],
            ),
            (
                "server: {listeners: [{listen: lmtp.sock}]}\ndelivery: {method: lmtp, lmtp: {address: lmtp.sock}}\n",
                &["sekimori.yaml:3:42 own-listener"],
            ),
            (
                "server: {listeners: [{listen: lmtp.sock}]}\ndelivery: {method: maildir, lmtp: {address: lmtp.sock}}\n",
                &[],
            ),
            (
                "relay: {retry: {first: 1h, give_up: 30m}}\n",
                &["sekimori.yaml:2:37 no-retry"],
            ),
            (
                "quarantine: {max_size: 10MiB}\n",
                &["sekimori.yaml:2:24 quarantine-size"],
            ),
            (
                "control: {mode: \"0777\"}\n",
                &["sekimori.yaml:2:17 open-control"],
            ),
            (
                "server: {default_domain: a.example}\nmailboxes: {domains: [b.example]}\n",
                &["sekimori.yaml:2:26 foreign-domain"],
            ),
        ],
        daemon,
    );
}

#[test]
fn secrets() {
    let auth = |file: &str| {
        format!(
            "version: 1\nrelay: {{auth: {{mechanism: plain, username: u, password_file: {file}}}}}\n"
        )
    };
    let site = Site::new(&[("sekimori.yaml", &auth("password"))]);
    assert_eq!(site.places(&[]), ["sekimori.yaml:2:62 unreadable"]);
    site.write("password", "\n");
    site.chmod("password", 0o640);
    assert_eq!(site.places(&[]), ["sekimori.yaml:2:62 empty-secret"]);
    site.write("password", "x\n");
    assert!(site.places(&[]).is_empty());
    site.chmod("password", 0o644);
    assert_eq!(site.places(&[]), ["sekimori.yaml:2:62 open-secret"]);
    // A credential is there while the service runs.
    site.write("sekimori.yaml", &auth("credential:relay"));
    assert!(site.places(&[]).is_empty());
}

#[test]
fn the_secret_of_learning_is_looked_for_where_the_daemon_does() {
    let learn = |keys: &str| {
        format!("version: 1\nscanners: {{spam: {{engine: rspamd, learn: {{{keys}}}}}}}\n")
    };
    let whole = learn("address: \"http://127.0.0.1:11334\", password_file: password");
    let site = Site::new(&[("etc/sekimori.yaml", &whole)]);
    let places = || site.places_of("etc/sekimori.yaml");
    assert_eq!(places(), ["etc/sekimori.yaml:2:93 unreadable"]);
    site.write("etc/password", "x\n");
    site.chmod("etc/password", 0o640);
    assert!(places().is_empty());
    site.write("etc/sekimori.yaml", &learn("password_file: password"));
    assert_eq!(places(), ["etc/sekimori.yaml:2:43 no-effect"]);
}

#[test]
fn an_address_of_rspamd_is_shown_with_the_port_that_is_meant() {
    for (keys, port) in [
        ("address: '127.0.0.1:1'", ":11333`"),
        ("learn: {address: '127.0.0.1:1'}", ":11334`"),
    ] {
        let text = format!("version: 1\nscanners: {{spam: {{engine: rspamd, {keys}}}}}\n");
        let (code, found) = Site::new(&[("sekimori.yaml", &text)]).check(&[]);
        assert_eq!((code, found.len()), (78, 1), "{found:?}");
        assert!(
            found[0]["help"].as_str().unwrap().ends_with(port),
            "{found:?}"
        );
    }
}

#[test]
fn a_certificate_says_when_it_ends() {
    let text = "version: 1\nserver: {tls: {certificate_file: a.crt, key_file: a.key}}\n";
    let site = Site::new(&[("sekimori.yaml", text)]);
    let year = |now: i16| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["mx.example.jp".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(now.into(), 1, 1);
        params.not_after = rcgen::date_time_ymd(i32::from(now) + 1, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        site.write("a.crt", &certificate.pem());
        site.write("a.key", &key.serialize_pem());
        site.chmod("a.key", 0o640);
        site.places(&[])
    };
    let now = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .year();
    let told = ["sekimori.yaml:2:34 certificate-date"];
    assert_eq!(year(now - 2), told, "ended");
    assert_eq!(year(now + 2), told, "not begun");
    let key = rcgen::generate_simple_self_signed(vec!["mx.example.jp".to_owned()]).unwrap();
    site.write("a.crt", &key.cert.pem());
    site.write("a.key", &key.signing_key.serialize_pem());
    assert!(site.places(&[]).is_empty());
}

#[test]
fn of_one_kind_the_first_are_listed_and_the_rest_is_counted() {
    let entries: String = (0..150)
        .map(|n| format!("    - 'x{n}@b.example'\n"))
        .collect();
    let twice = entries.clone() + &entries;
    let found = mailbox(&format!(
        "reject:\n  from_suffixes:\n    - b.example\n{twice}"
    ));
    let count = |id: &str| found.iter().filter(|one| one.ends_with(id)).count();
    assert_eq!(
        (count(" duplicate"), count(" covered-entry"), count(" more")),
        (100, 20, 2)
    );
}
