//! An infected mail carried out: what its owners find in their mailboxes, for all that a cure may
//! have come to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders as _};
use sekimori::agent::decide;
use sekimori::config::{Config, Mailbox};
use sekimori::deliver::{Endpoint, HopSettings, Maildir, MaildirSettings, NextHop, Protocol, Tls};
use sekimori::execute::{Executor, Mail, Scanned, Task};
use sekimori::mail::{Address, Bounds, Client, Envelope, Infected, Message, ReversePath};
use sekimori::policy::{AuthReport, ScanReport, SpamScan, VirusScan};
use sekimori::relay::{Courier, Hops, Relay, RelaySettings, Retry};
use sekimori::scan::{Cure, Remains};
use sekimori::store::{HandoffKey, Id, MailDigest, Settings, Store};
use tokio::sync::Notify;

const NOW: i64 = 1_790_000_000_000;
const RAW: &str = "From: Sender <a@b.example>\r\nSubject: secret\r\n\r\nEVIL\r\n";
const CONFIG: &str = r#"version: 1
server:
  hostname: mx.example.jp
  listeners: [{name: lmtp, protocol: lmtp, listen: "127.0.0.1:0", clients: [127.0.0.0/8]}]
  limits: {message_size: 64KiB}
mailboxes: {dir: mailboxes}
delivery: {method: maildir, maildir: {path: mail}}
relay: {host: 127.0.0.1, from: "Mail filter <mailer-daemon@example.jp>"}
scanners: {virus: {engine: upstream, upstream: {header: X-Virus, infected: "Yes"}}}
"#;

fn clock() -> i64 {
    NOW
}

fn hops(root: &Path) -> Arc<ArcSwap<Hops>> {
    let hop = HopSettings {
        protocol: Protocol::Smtp,
        endpoint: Endpoint::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 9,
        },
        hostname: "mx.example.jp".to_owned(),
        tls: Tls::None,
        auth: None,
        timeout: Duration::from_secs(5),
        max_connections: 2,
    };
    let relay = Relay::new(RelaySettings {
        hop,
        min_interval: Duration::ZERO,
        per_minute: 0,
        retry: Retry {
            first: Duration::from_secs(60),
            factor: 2.0,
            longest: Duration::from_secs(600),
            give_up: Duration::from_secs(1),
        },
    });
    let next_hop = NextHop::Maildir(Maildir::new(MaildirSettings {
        path: root.join("mail/%{localpart}"),
        fsync: false,
    }));
    Arc::new(ArcSwap::from_pointee(Hops {
        next_hop,
        relay: relay.unwrap(),
    }))
}

fn task(mail: &Mail, mailbox: Mailbox, scanned: &Arc<Scanned>) -> Task {
    let recipient = mailbox.policy.mailbox.clone();
    let arrival = mail.arrival(&recipient, false);
    let plan = decide(&mailbox, &mail.message, &arrival, &scanned.report);
    let key = HandoffKey::new(&recipient.key(), "", &mail.digest);
    Task {
        id: Id::new(NOW),
        recipient,
        mailbox: Arc::new(mailbox),
        scanned: scanned.clone(),
        plan,
        looping: false,
        key,
    }
}

/// The mail that each of these mailboxes, by turns Japanese and English, finds for `RAW`.
fn reports(cure: Option<Cure>, count: usize) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let root = tempfile::tempdir().unwrap();
        let config = Config::parse(CONFIG, root.path()).unwrap().config;
        let settings = Settings {
            path: root.path().join("state"),
            quarantine_max_bytes: u64::MAX,
            history_retention_ms: i64::MAX,
        };
        let store = Store::open(settings, NOW).unwrap();
        let hops = hops(root.path());
        let wake = Arc::new(Notify::new());
        let executor = Executor::new(store.clone(), hops.clone(), wake.clone(), [7; 32]);
        let address = |at| Address::parse(&format!("user{at}@y.example")).unwrap();
        let mail = Arc::new(Mail {
            envelope: Envelope {
                sender: ReversePath::Null,
                recipients: (0..count).map(address).collect(),
                smtputf8: false,
                eight_bit: true,
                protocol: sekimori::mail::Protocol::Lmtp,
                client: Client {
                    ip: None,
                    helo: "mta".to_owned(),
                    tls: false,
                    trusted: true,
                    origin_ip: None,
                    origin_name: None,
                },
            },
            message: Message::parse(RAW.as_bytes(), &Bounds::default()),
            raw: Bytes::from_static(RAW.as_bytes()).into(),
            received_at: NOW,
            auth: AuthReport::default(),
            deadline: Instant::now() + Duration::from_secs(60),
            late: Instant::now() + Duration::from_secs(90),
            digest: MailDigest::of(RAW.as_bytes()),
            unread: false,
            under_way: Arc::default(),
            config: Arc::new(config),
        });
        let scanned = Arc::new(Scanned {
            report: ScanReport {
                virus: VirusScan::Infected("Eicar".to_owned()),
                spam: SpamScan::NotScanned,
            },
            cure,
            ..Scanned::default()
        });
        let tasks: Vec<Task> = (0..count)
            .map(|at| {
                let language = ["ja", "en"][at % 2];
                let text = format!(
                    "version: 1\nmailbox: user{at}@y.example\nlanguage: {language}\nvirus: {{scan: true}}\n"
                );
                let path = format!("mailboxes/y.example/user{at}.yaml");
                let path = root.path().join(path);
                task(
                    &mail,
                    mail.config.parse_mailbox(&text, &path).unwrap(),
                    &scanned,
                )
            })
            .collect();
        for result in executor.execute(&mail, &tasks.into()).await {
            assert_eq!(result, Ok(()));
        }
        let courier = Courier::new(store.clone(), hops, wake, [7; 32], clock);
        for item in store.outgoing_due(NOW, 1000).unwrap() {
            courier.send_now(item.id).await.unwrap();
        }
        assert_eq!(store.outgoing_count(), 0);
        let of = |at: usize| {
            let folder = root.path().join(format!("mail/user{at}/new"));
            let mut mails = fs::read_dir(folder).unwrap();
            let mail = mails.next().unwrap().unwrap();
            assert!(mails.next().is_none(), "one report");
            fs::read(mail.path()).unwrap()
        };
        (0..count).map(of).collect()
    })
}

fn found(name: &str) -> Infected {
    Infected {
        path: "2".to_owned(),
        name: name.to_owned(),
        media_type: "application/zip".to_owned(),
        virus: "Eicar-Test".to_owned(),
    }
}

/// The text of a report, and type and octets of what is attached.
fn read(report: &[u8]) -> (String, Option<(String, Vec<u8>)>) {
    let parsed = MessageParser::default().parse(report).unwrap();
    let text = parsed.body_text(0).unwrap().into_owned();
    let attached = parsed.parts.get(2).map(|part| {
        let place = part.raw_body_offset() as usize..part.raw_end_offset() as usize;
        let subtype = part.content_type().unwrap().subtype().unwrap();
        (subtype.to_owned(), report[place].to_vec())
    });
    (text, attached)
}

#[test]
fn each_owner_gets_one_report_with_what_remains() {
    let pieces: [&[u8]; 3] = [
        b"From: Sender <a@b.example>\r\nSubject: =?x?\r\n\r\n",
        b"note\r\n",
        b"\xE6\x9C\xAC \x82\xA0\x00\r\n.\r\n",
    ];
    let cure = Cure {
        parts: vec![found("請求書.zip")],
        remains: Remains::Mail(pieces.map(Bytes::from_static).to_vec()),
    };
    // A Maildir has LF alone.
    let lf = |octets: Vec<u8>| octets.into_iter().filter(|octet| *octet != b'\r').collect();
    let expected: Vec<u8> = lf(pieces.concat());
    for (at, report) in reports(Some(cure), 5).iter().enumerate() {
        let (text, attached) = read(report);
        for word in [
            "Eicar-Test",
            "請求書.zip",
            "secret",
            ["ヘッダー", "header"][at % 2],
        ] {
            let is_there = !["ヘッダー", "header"].contains(&word);
            assert_eq!(text.contains(word), is_there, "{word}: {text}");
        }
        assert_eq!(attached, Some(("rfc822".to_owned(), expected.clone())));
        let whole = report.windows(4).any(|octets| octets == b"EVIL");
        assert!(!whole, "{}", String::from_utf8_lossy(report));
    }
}

#[test]
fn what_may_not_be_shown_is_not() {
    let cure = |remains, name: &str| {
        Some(Cure {
            parts: vec![found(name)],
            remains,
        })
    };
    let header = Some("rfc822-headers");
    let large = Remains::Mail(vec![Bytes::from(vec![b'x'; 65 << 10])]);
    let rows = [
        (None, header, ["only the header", "secret", ""]),
        (
            cure(Remains::Header, "a.zip"),
            header,
            ["only the header", "secret", "a.zip"],
        ),
        (
            cure(large, "a.zip"),
            header,
            ["too large", "secret", "a.zip"],
        ),
        (
            cure(Remains::Nothing, ""),
            None,
            ["nothing is attached", "Eicar-Test", ""],
        ),
    ];
    for (cure, expected, words) in rows {
        let report = &reports(cure, 2)[1];
        let (text, attached) = read(report);
        let (kind, octets) = attached.unzip();
        assert_eq!(kind.as_deref(), expected, "{text}");
        if let Some(octets) = octets {
            let octets = String::from_utf8(octets).unwrap();
            assert_eq!(
                octets.trim_end(),
                "From: Sender <a@b.example>\nSubject: secret"
            );
        } else {
            let report = String::from_utf8_lossy(report);
            assert!(
                !text.contains("secret") && !report.contains("secret"),
                "{text}"
            );
        }
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!String::from_utf8_lossy(report).contains("EVIL"), "{text}");
    }
}
