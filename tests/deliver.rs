//! Next hops against scripted servers on loopback, and Maildirs on a real file system.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sekimori::deliver::{
    Auth, Content, Delivery, Endpoint, HopSettings, Maildir, MaildirSettings, Mechanism, NextHop,
    Outcome, Pool, Protocol, Recipient, Tls,
};
use sekimori::mail::{Address, Bounds, Message, ReversePath, edit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, rustls};

const KEY: &str = "00112233445566778899aabbccddeeff";
const MAIL: &[u8] = b"Subject: x\r\nFrom: a@b.example\r\n\r\n.dot\r\nbody\r\n";
const OFFERS: &str = "250-hop\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn delivery(recipients: &[&str]) -> Delivery {
    let body_start = MAIL.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    Delivery {
        sender: ReversePath::Address(address("s@x.example")),
        recipients: recipients
            .iter()
            .map(|text| Recipient {
                address: address(text),
                mailbox: address(text),
                key: KEY.to_owned(),
                maybe_there: true,
            })
            .collect(),
        content: Content::new(
            b"Received: here\r\n".to_vec(),
            Bytes::from_static(MAIL),
            body_start,
        ),
        smtputf8: false,
        eight_bit: false,
        deadline: None,
        under_way: None,
    }
}

fn content(header: &str, body: &str) -> Content {
    let message = [header, body].concat().into_bytes();
    Content::new(b"Received: here\r\n".to_vec(), message, header.len())
}

/// What a scripted server does next.
#[derive(Clone, Copy)]
enum Do {
    Say(&'static str),
    /// Reads one line, which must begin so.
    Hear(&'static str),
    /// Reads the data up to its end.
    Data,
    Close,
    Hang,
}
use Do::{Close, Data, Hang, Hear, Say};

/// Serves one connection a script; gives what was read in each `Data`.
async fn serve(scripts: Vec<Vec<Do>>) -> (Endpoint, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut read = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            for step in script {
                match step {
                    Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                    Hear(expected) => {
                        let line = until(&mut stream, "\r\n").await;
                        assert!(line.starts_with(expected), "{line:?}, not {expected:?}");
                    }
                    Data => read.push(until(&mut stream, "\r\n.\r\n").await),
                    Close => break,
                    Hang => std::future::pending().await,
                }
            }
        }
        read
    });
    let host = "127.0.0.1".to_owned();
    (Endpoint::Tcp { host, port }, server)
}

async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let Ok(octet) = stream.read_u8().await else {
            break;
        };
        text.push(octet);
    }
    String::from_utf8(text).unwrap()
}

fn hop(protocol: Protocol, endpoint: Endpoint) -> HopSettings {
    HopSettings {
        protocol,
        endpoint,
        hostname: "mx.example.jp".to_owned(),
        tls: Tls::None,
        auth: None,
        timeout: Duration::from_millis(300),
        max_connections: 1,
    }
}

fn next_hop(protocol: Protocol, endpoint: Endpoint) -> NextHop {
    let pool = Pool::new(hop(protocol, endpoint));
    match protocol {
        Protocol::Lmtp => NextHop::Lmtp(pool),
        Protocol::Smtp => NextHop::Smtp(pool),
    }
}

fn codes(outcomes: &[Outcome]) -> Vec<(u16, bool)> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(accepted) => (accepted.reply.as_ref().map_or(250, |r| r.code), false),
            Err(error) => (error.reply.code, error.ambiguous),
        })
        .collect()
}

const HELLO: [Do; 3] = [Say("220 hop\r\n"), Hear("LHLO mx.example.jp"), Say(OFFERS)];

fn script(rest: &[Do]) -> Vec<Do> {
    [&HELLO[..], rest].concat()
}

#[tokio::test]
async fn each_recipient_has_its_own_reply() {
    let ends: &[(&str, &[Do], &[(u16, bool)])] = &[
        (
            "mixed",
            &[Say("250 2.0.0 a\r\n452 4.2.2 full\r\n550 5.2.1 off\r\n")],
            &[(250, false), (452, false), (550, false)],
        ),
        (
            "hang up after one",
            &[Say("250 2.0.0 a\r\n"), Close],
            &[(250, false), (451, true), (451, true)],
        ),
        (
            "silence after two",
            &[Say("250 a\r\n550 b\r\n"), Hang],
            &[(250, false), (550, false), (451, true)],
        ),
        (
            "no reply",
            &[Close],
            &[(451, true), (451, true), (451, true)],
        ),
        (
            "one too many, mixed",
            &[Say("250 a\r\n550 b\r\n250 c\r\n250 d\r\n"), Hang],
            &[(451, true), (451, true), (451, true)],
        ),
        (
            "one too many, all positive",
            &[Say("250 a\r\n250 b\r\n250 c\r\n250 d\r\n"), Hang],
            &[(250, false), (250, false), (250, false)],
        ),
        (
            "no reply of SMTP",
            &[Say("250 a\r\nHTTP/1.1 200 OK\r\n"), Hang],
            &[(250, false), (451, true), (451, true)],
        ),
        (
            "421 then gone",
            &[Say("250 a\r\n421 4.3.2 bye\r\n"), Close],
            &[(250, false), (421, false), (451, true)],
        ),
    ];
    for (name, end, expected) in ends {
        let begin = [
            Hear("MAIL FROM:<s@x.example> SIZE="),
            Hear("RCPT TO:<a@y.example>"),
            Hear("RCPT TO:<b@y.example>"),
            Hear("RCPT TO:<c@y.example>"),
            Say("250 2.1.0 ok\r\n250 2.1.5 a\r\n250 2.1.5 b\r\n250 2.1.5 c\r\n"),
            Hear("DATA"),
            Say("354 go\r\n"),
            Data,
        ];
        let (endpoint, _server) = serve(vec![script(&[&begin[..], end].concat())]).await;
        let hop = next_hop(Protocol::Lmtp, endpoint);
        let outcomes = hop
            .deliver(&delivery(&["a@y.example", "b@y.example", "c@y.example"]))
            .await;
        assert_eq!(codes(&outcomes), *expected, "{name}");
    }
}

#[tokio::test]
async fn a_broken_step_is_temporary_and_not_ambiguous() {
    let rows: &[(&str, Vec<Do>)] = &[
        ("silent greeting", vec![Hang]),
        ("refusing greeting", vec![Say("554 no\r\n"), Hang]),
        ("gone", vec![Close]),
        ("no hello", vec![Say("220 hop\r\n"), Hear("LHLO"), Hang]),
        (
            "hello refused",
            vec![Say("220 hop\r\n"), Hear("LHLO"), Say("500 what\r\n"), Hang],
        ),
        ("MAIL hangs", script(&[Hear("MAIL"), Hang])),
        (
            "RCPT gone",
            script(&[Hear("MAIL"), Hear("RCPT"), Say("250 ok\r\n"), Close]),
        ),
        (
            "DATA answered by another's reply",
            script(&[
                Hear("MAIL"),
                Hear("RCPT"),
                Say("250 ok\r\n250 ok\r\n"),
                Hear("DATA"),
                Say("250 late\r\n"),
                Hang,
            ]),
        ),
    ];
    for (name, steps) in rows {
        let (endpoint, _server) = serve(vec![steps.clone()]).await;
        let outcomes = next_hop(Protocol::Lmtp, endpoint)
            .deliver(&delivery(&["a@y.example"]))
            .await;
        assert_eq!(codes(&outcomes), [(451, false)], "{name}");
    }
}

#[tokio::test]
async fn refusals_are_passed_on() {
    let rows: &[(&str, Vec<Do>, &[(u16, bool)])] = &[
        (
            "MAIL",
            script(&[
                Hear("MAIL"),
                Hear("RCPT"),
                Hear("RCPT"),
                Say("552 5.3.4 big\r\n503 no\r\n503 no\r\n"),
                Hear("DATA"),
                Say("503 no\r\n"),
                Hang,
            ]),
            &[(552, false), (552, false)],
        ),
        (
            "all RCPT",
            script(&[
                Hear("MAIL"),
                Hear("RCPT"),
                Hear("RCPT"),
                Say("250 ok\r\n550 5.1.1 who\r\n450 4.2.1 later\r\n"),
                Hear("DATA"),
                Say("503 no\r\n"),
                Hang,
            ]),
            &[(550, false), (450, false)],
        ),
        (
            "DATA",
            script(&[
                Hear("MAIL"),
                Hear("RCPT"),
                Hear("RCPT"),
                Say("250 ok\r\n250 ok\r\n550 5.1.1 who\r\n"),
                Hear("DATA"),
                Say("451 4.3.0 not now\r\n"),
                Hang,
            ]),
            &[(451, false), (550, false)],
        ),
    ];
    for (name, steps, expected) in rows {
        let (endpoint, _server) = serve(vec![steps.clone()]).await;
        let outcomes = next_hop(Protocol::Lmtp, endpoint)
            .deliver(&delivery(&["a@y.example", "b@y.example"]))
            .await;
        assert_eq!(codes(&outcomes), *expected, "{name}");
    }
}

#[tokio::test]
async fn smtp_answers_once_without_pipelining() {
    let (endpoint, server) = serve(vec![vec![
        Say("220 hop\r\n"),
        Hear("EHLO mx.example.jp"),
        Say("250 hop\r\n"),
        Hear("MAIL FROM:<s@x.example>\r\n"),
        Say("250 ok\r\n"),
        Hear("RCPT TO:<a@y.example>\r\n"),
        Say("250 ok\r\n"),
        Hear("RCPT TO:<b@y.example>\r\n"),
        Say("550 5.1.1 who\r\n"),
        Hear("DATA\r\n"),
        Say("354 go\r\n"),
        Data,
        Say("250 2.0.0 queued\r\n"),
    ]])
    .await;
    let outcomes = next_hop(Protocol::Smtp, endpoint)
        .deliver(&delivery(&["a@y.example", "b@y.example"]))
        .await;
    assert_eq!(codes(&outcomes), [(250, false), (550, false)]);
    let expected =
        "Received: here\r\nSubject: x\r\nFrom: a@b.example\r\n\r\n..dot\r\nbody\r\n.\r\n";
    assert_eq!(server.await.unwrap(), [expected]);
}

#[tokio::test]
async fn a_connection_is_used_again_only_in_step() {
    let one = [
        Hear("MAIL"),
        Hear("RCPT"),
        Say("250 ok\r\n250 ok\r\n"),
        Hear("DATA"),
        Say("354 go\r\n"),
        Data,
    ];
    let first = [&HELLO[..], &one, &[Say("250 a\r\n")]].concat();
    let second = [&one[..], &[Say("250 b\r\n250 surplus\r\n")]].concat();
    let third = [&HELLO[..], &one, &[Say("250 c\r\n")]].concat();
    let (endpoint, server) = serve(vec![[first, second].concat(), third]).await;
    let hop = next_hop(Protocol::Lmtp, endpoint);
    for _ in 0..3 {
        let outcomes = hop.deliver(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(250, false)]);
    }
    assert_eq!(server.await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_a_refused_mail_leaves_is_reset() {
    let (endpoint, server) = serve(vec![script(&[
        Hear("MAIL"),
        Hear("RCPT"),
        Hear("DATA"),
        Say("250 ok\r\n550 5.1.1 who\r\n503 no\r\n"),
        Hear("RSET"),
        Say("250 ok\r\n"),
        Hear("MAIL"),
        Hear("RCPT"),
        Hear("DATA"),
        Say("250 ok\r\n250 ok\r\n354 go\r\n"),
        Data,
        Say("250 a\r\n"),
    ])])
    .await;
    let hop = next_hop(Protocol::Lmtp, endpoint);
    for code in [550, 250] {
        let outcomes = hop.deliver(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(code, false)]);
    }
    assert_eq!(server.await.unwrap().len(), 1);
}

/// It hangs up as the next mail comes: nothing was said of that one, so a new connection carries it.
#[tokio::test]
async fn a_connection_that_is_lost_between_two_mails_costs_neither() {
    let mail = |last: &'static str| {
        [
            Hear("MAIL"),
            Hear("RCPT"),
            Hear("DATA"),
            Say("250 ok\r\n250 ok\r\n354 go\r\n"),
            Data,
            Say(last),
        ]
    };
    let ways: [&[Do]; 3] = [
        &[Hear("MAIL"), Close],
        &[Hear("MAIL"), Hear("RCPT"), Hear("DATA"), Close],
        &[
            Hear("MAIL"),
            Hear("RCPT"),
            Hear("DATA"),
            Say("421 bye\r\n"),
            Close,
        ],
    ];
    for way in ways {
        let first = script(&[&mail("250 a\r\n"), way].concat());
        let second = script(&mail("250 b\r\n"));
        let (endpoint, server) = serve(vec![first, second]).await;
        let hop = next_hop(Protocol::Lmtp, endpoint);
        for _ in 0..2 {
            let outcomes = hop.deliver(&delivery(&["a@y.example"])).await;
            assert_eq!(codes(&outcomes), [(250, false)]);
        }
        assert_eq!(server.await.unwrap().len(), 2);
    }
}

/// It took `DATA` though it refused all recipients: the connection is not used again.
#[tokio::test]
async fn a_next_hop_that_waits_for_a_mail_without_recipients_is_left() {
    let refused = script(&[
        Hear("MAIL"),
        Hear("RCPT"),
        Hear("DATA"),
        Say("250 ok\r\n550 5.1.1 who\r\n354 go\r\n"),
    ]);
    let taken = script(&[
        Hear("MAIL"),
        Hear("RCPT"),
        Hear("DATA"),
        Say("250 ok\r\n250 ok\r\n354 go\r\n"),
        Data,
        Say("250 a\r\n"),
    ]);
    let (endpoint, server) = serve(vec![refused, taken]).await;
    let hop = next_hop(Protocol::Lmtp, endpoint);
    for code in [550, 250] {
        let outcomes = hop.deliver(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(code, false)]);
    }
    assert_eq!(server.await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_deadline_ends_a_transaction() {
    let (endpoint, _server) = serve(vec![vec![Hang]]).await;
    let settings = HopSettings {
        timeout: Duration::from_secs(60),
        ..hop(Protocol::Lmtp, endpoint)
    };
    let mut delivery = delivery(&["a@y.example"]);
    delivery.deadline = Some(Instant::now() + Duration::from_millis(100));
    let outcomes = Pool::new(settings).send(&delivery).await;
    let error = outcomes[0].as_ref().unwrap_err();
    assert_eq!(
        error.reply.to_string(),
        "451 4.4.5 the next hop took too long"
    );
}

#[tokio::test]
async fn a_closed_port_is_4_4_1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let host = "127.0.0.1".to_owned();
    let outcomes = next_hop(Protocol::Smtp, Endpoint::Tcp { host, port })
        .deliver(&delivery(&["a@y.example", "b@y.example"]))
        .await;
    for outcome in outcomes {
        let reply = outcome.unwrap_err().reply.to_string();
        assert!(reply.starts_with("451 4.4.1 "), "{reply}");
    }
}

#[tokio::test]
async fn what_needs_smtputf8_is_not_sent_without() {
    let (endpoint, _server) = serve(vec![vec![
        Say("220 hop\r\n"),
        Hear("LHLO"),
        Say("250 hop\r\n"),
        Hear("MAIL FROM:<s@x.example>\r\n"),
        Say("250 ok\r\n"),
        Hear("RCPT TO:<a@xn--wgv71a.example>\r\n"),
        Say("550 5.1.1 who\r\n"),
        Hang,
    ]])
    .await;
    let outcomes = next_hop(Protocol::Lmtp, endpoint)
        .deliver(&delivery(&["山田@y.example", "a@日本.example"]))
        .await;
    assert_eq!(codes(&outcomes), [(553, false), (550, false)]);
}

#[tokio::test]
async fn logs_in() {
    let rows: &[(Mechanism, Vec<Do>)] = &[
        (
            Mechanism::Plain,
            vec![Hear("AUTH PLAIN AHUAcA==\r\n"), Say("235 ok\r\n")],
        ),
        (
            Mechanism::Login,
            vec![
                Hear("AUTH LOGIN\r\n"),
                Say("334 VXNlcm5hbWU6\r\n"),
                Hear("dQ==\r\n"),
                Say("334 UGFzc3dvcmQ6\r\n"),
                Hear("cA==\r\n"),
                Say("235 ok\r\n"),
            ],
        ),
        (
            Mechanism::Xoauth2,
            vec![
                Hear("AUTH XOAUTH2 dXNlcj11AWF1dGg9QmVhcmVyIHABAQ==\r\n"),
                Say("235 ok\r\n"),
            ],
        ),
    ];
    for (mechanism, steps) in rows {
        let begin = [
            Say("220 hop\r\n"),
            Hear("EHLO"),
            Say("250-hop\r\n250 AUTH PLAIN LOGIN XOAUTH2\r\n"),
        ];
        let end = [
            Hear("MAIL"),
            Say("250 ok\r\n"),
            Hear("RCPT"),
            Say("550 5.1.1 who\r\n"),
            Hang,
        ];
        let (endpoint, _server) = serve(vec![[&begin[..], steps, &end].concat()]).await;
        let settings = HopSettings {
            auth: Some(Auth {
                mechanism: *mechanism,
                username: "u".to_owned(),
                password: "p".to_owned(),
            }),
            ..hop(Protocol::Smtp, endpoint)
        };
        let outcomes = Pool::new(settings).send(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(550, false)], "{mechanism:?}");
    }
}

#[tokio::test]
async fn starttls_is_asked_for_and_never_given_up() {
    for offers in ["250 hop\r\n", "250-hop\r\n250 STARTTLS\r\n"] {
        let (endpoint, _server) = serve(vec![vec![
            Say("220 hop\r\n"),
            Hear("EHLO"),
            Say(offers),
            Hear("STARTTLS"),
            Say("454 4.7.0 not now\r\n"),
            Hang,
        ]])
        .await;
        let settings = HopSettings {
            tls: Tls::Starttls,
            timeout: Duration::from_secs(2),
            ..hop(Protocol::Smtp, endpoint)
        };
        let outcomes = Pool::new(settings).send(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(451, false)]);
    }
}

fn acceptor() -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// What comes in clear text that must not count inside TLS.
#[derive(Clone, Copy, Default)]
struct Injected {
    behind_ehlo: &'static str,
    with_go: &'static str,
    behind_go: &'static str,
}

/// A server with TLS.
async fn tls_server(implicit: bool, injected: Injected) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        if !implicit {
            stream.write_all(b"220 hop\r\n").await.unwrap();
            until(&mut stream, "\r\n").await;
            let offers = format!("250-hop\r\n250 STARTTLS\r\n{}", injected.behind_ehlo);
            stream.write_all(offers.as_bytes()).await.unwrap();
            until(&mut stream, "\r\n").await;
            let go = format!("220 go\r\n{}", injected.with_go);
            stream.write_all(go.as_bytes()).await.unwrap();
            stream
                .write_all(injected.behind_go.as_bytes())
                .await
                .unwrap();
        }
        let Ok(mut stream) = acceptor().accept(stream).await else {
            return;
        };
        if implicit {
            stream.write_all(b"220 hop\r\n").await.unwrap();
        }
        until(&mut stream, "\r\n").await;
        stream.write_all(b"250 hop\r\n").await.unwrap();
        until(&mut stream, "\r\n").await;
        stream.write_all(b"550 5.7.1 seen\r\n").await.unwrap();
        until(&mut stream, "\r\n").await;
    });
    let host = "127.0.0.1".to_owned();
    Endpoint::Tcp { host, port }
}

#[tokio::test]
async fn tls_looks_at_the_certificate_unless_opportunistic() {
    for (tls, code) in [
        (Tls::Opportunistic, 550),
        (Tls::Starttls, 451),
        (Tls::Implicit, 451),
    ] {
        let endpoint = tls_server(tls == Tls::Implicit, Injected::default()).await;
        let settings = HopSettings {
            tls,
            timeout: Duration::from_secs(2),
            ..hop(Protocol::Smtp, endpoint)
        };
        let outcomes = Pool::new(settings).send(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(code, false)], "{tls:?} {outcomes:?}");
    }
}

/// The client's side of CVE-2011-0411: replies that whoever stands between put in, wherever they
/// come, are never taken for replies inside TLS.
#[tokio::test]
async fn clear_text_behind_starttls_does_not_count() {
    let lies = "250 hop\r\n554 5.0.0 no\r\n";
    let nothing = Injected::default();
    for injected in [
        Injected {
            with_go: lies,
            ..nothing
        },
        Injected {
            behind_go: lies,
            ..nothing
        },
        Injected {
            with_go: "250 h",
            behind_go: "op\r\n",
            ..nothing
        },
        Injected {
            behind_ehlo: "220 go\r\n250 hop\r\n554 5.0.0 no\r\n",
            ..nothing
        },
    ] {
        let endpoint = tls_server(false, injected).await;
        let settings = HopSettings {
            tls: Tls::Opportunistic,
            timeout: Duration::from_secs(2),
            ..hop(Protocol::Smtp, endpoint)
        };
        let outcomes = Pool::new(settings).send(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(451, false)], "{outcomes:?}");
    }
}

/// Clear text only where TLS is not offered or refused, never after a handshake that failed.
#[tokio::test]
async fn opportunistic_falls_back_on_a_refusal_only() {
    let offered = "250-hop\r\n250 STARTTLS\r\n";
    let clear = [Hear("MAIL"), Say("550 5.7.1 seen\r\n"), Hang];
    let asks = |reply| vec![Say(offered), Hear("STARTTLS"), Say(reply)];
    let rows: Vec<(Vec<Do>, u16)> = vec![
        ([&[Say("250 hop\r\n")], &clear[..]].concat(), 550),
        ([&asks("454 4.7.0 later\r\n"), &clear[..]].concat(), 550),
        ([&asks("502 5.5.1 what\r\n"), &clear[..]].concat(), 550),
        ([&asks("250 2.0.0 ok\r\n")[..], &[Hang]].concat(), 451),
        ([&asks("220 go\r\n")[..], &[Close]].concat(), 451),
        ([&asks("220 go\r\n")[..], &[Hang]].concat(), 451),
    ];
    for (steps, code) in rows {
        let script = [&[Say("220 hop\r\n"), Hear("EHLO")], &steps[..]].concat();
        let (endpoint, _server) = serve(vec![script]).await;
        let settings = HopSettings {
            tls: Tls::Opportunistic,
            timeout: Duration::from_secs(2),
            ..hop(Protocol::Smtp, endpoint)
        };
        let outcomes = Pool::new(settings).send(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(code, false)], "{outcomes:?}");
    }
}

#[tokio::test]
async fn no_password_in_the_clear_where_tls_is_wanted() {
    let offers = "250-hop\r\n250 AUTH PLAIN\r\n";
    for tls in [Tls::Opportunistic, Tls::Starttls] {
        let script = vec![
            Say("220 hop\r\n"),
            Hear("EHLO"),
            Say(offers),
            Hear("STARTTLS"),
            Close,
        ];
        let (endpoint, server) = serve(vec![script]).await;
        let settings = HopSettings {
            tls,
            auth: Some(Auth {
                mechanism: Mechanism::Plain,
                username: "u".to_owned(),
                password: "p".to_owned(),
            }),
            ..hop(Protocol::Smtp, endpoint)
        };
        let outcomes = Pool::new(settings).send(&delivery(&["a@y.example"])).await;
        assert_eq!(codes(&outcomes), [(451, false)], "{tls:?} {outcomes:?}");
        // With `opportunistic` nothing but the end follows: the script saw no `AUTH` either.
        let heard = server.await;
        assert_eq!(heard.is_ok(), tls == Tls::Starttls, "{heard:?}");
    }
}

#[tokio::test]
async fn lmtp_over_a_unix_socket() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lmtp");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (answer, end) in [
            ("220 hop\r\n", "\r\n"),
            ("250 hop\r\n", "\r\n"),
            ("250 ok\r\n", "\r\n"),
            ("250 ok\r\n", "\r\n"),
            ("354 go\r\n", "\r\n.\r\n"),
        ] {
            stream.write_all(answer.as_bytes()).await.unwrap();
            until(&mut stream, end).await;
        }
        stream.write_all(b"250 2.0.0 kept\r\n").await.unwrap();
    });
    let outcomes = next_hop(Protocol::Lmtp, Endpoint::Unix(path.clone()))
        .deliver(&delivery(&["a@y.example"]))
        .await;
    let accepted = outcomes[0].as_ref().unwrap();
    assert_eq!(accepted.place, format!("lmtp:{}", path.display()));
    server.await.unwrap();
}

fn maildir(root: &Path) -> Maildir {
    Maildir::new(MaildirSettings {
        path: root.join("mail/%{domain}/%{localpart}"),
        fsync: true,
    })
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_maildir_gets_one_file_with_lf() {
    let root = tempfile::tempdir().unwrap();
    let mut delivery = delivery(&["Taro@Y.Example"]);
    delivery.content = content(
        "Return-Path: <old@z.example>\r\n\tfolded\r\nSubject: y\r\nReturn-Pathology: 1\r\n\r\n",
        ".dot\r\nbody\r\n",
    );
    let outcomes = maildir(root.path()).deliver(&delivery).await;
    let accepted = outcomes[0].as_ref().unwrap();
    assert!(!accepted.repeated);
    let home = root.path().join("mail/y.example/taro");
    assert_eq!(files(&home), ["cur", "new", "tmp"]);
    assert_eq!(files(&home.join("tmp")), Vec::<String>::new());
    assert_eq!(
        Path::new(&accepted.place).parent().unwrap(),
        home.join("new")
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home), mode(&home.join("new"))), (0o700, 0o700));
    assert_eq!(mode(Path::new(&accepted.place)), 0o600);
    assert_eq!(
        std::fs::read_to_string(&accepted.place).unwrap(),
        "Return-Path: <s@x.example>\nDelivered-To: Taro@Y.Example\nReceived: here\n\
         Subject: y\nReturn-Pathology: 1\n\n.dot\nbody\n"
    );
}

/// The mark stands where it belongs, whichever fields around it are taken out.
#[tokio::test]
async fn a_maildir_gets_the_mark_and_one_return_path() {
    let rows = [
        (
            "Return-Path: <old@z>\r\nSubject:  y\r\nReturn-Path: <older@z>\r\n\r\n",
            "Subject: [spam] y\n\nbody\n",
        ),
        (
            "A: b\r\nReturn-Path: <old@z>\r\n\r\n",
            "A: b\nSubject: [spam]\n\nbody\n",
        ),
        ("Return-Path: <old@z>\r\n", "Subject: [spam]\n"),
        ("A: b\r\n", "A: b\nSubject: [spam]\n"),
        ("\r\n", "Subject: [spam]\n\nbody\n"),
        ("", "Subject: [spam]\n"),
    ];
    for (header, expected) in rows {
        let root = tempfile::tempdir().unwrap();
        let mut delivery = delivery(&["taro@y.example"]);
        let body = if header.ends_with("\r\n\r\n") || header == "\r\n" {
            "body\r\n"
        } else {
            ""
        };
        delivery.content = content(header, body);
        let raw = delivery.content.message.head().clone();
        let message = Message::parse(&raw, &Bounds::default());
        delivery.content.edit = Some(edit::mark_subject(&raw, &message, "[spam]"));
        let outcomes = maildir(root.path()).deliver(&delivery).await;
        let stored = std::fs::read_to_string(&outcomes[0].as_ref().unwrap().place).unwrap();
        let ours = "Return-Path: <s@x.example>\nDelivered-To: taro@y.example\nReceived: here\n";
        assert_eq!(stored, format!("{ours}{expected}"), "{header:?}");
    }
}

#[tokio::test]
async fn a_repeated_hand_off_makes_no_second_file() {
    let root = tempfile::tempdir().unwrap();
    let maildir = maildir(root.path());
    let delivery = delivery(&["taro@y.example"]);
    let first = maildir.deliver(&delivery).await[0].clone().unwrap();
    let second = maildir.deliver(&delivery).await[0].clone().unwrap();
    assert_eq!((second.repeated, &second.place), (true, &first.place));

    let read = first.place.replace("/new/", "/cur/") + ":2,S";
    std::fs::rename(&first.place, &read).unwrap();
    let third = maildir.deliver(&delivery).await[0].clone().unwrap();
    assert_eq!((third.repeated, third.place), (true, read));
    assert_eq!(
        files(&root.path().join("mail/y.example/taro/new")),
        Vec::<String>::new()
    );

    let mut other = delivery.clone();
    other.recipients[0].key = KEY.replace('0', "1");
    assert!(!maildir.deliver(&other).await[0].as_ref().unwrap().repeated);
}

#[tokio::test]
async fn a_planted_symlink_is_not_followed() {
    for planted in [
        "y.example",
        "y.example/taro",
        "y.example/taro/tmp",
        "y.example/taro/new",
    ] {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let link = root.path().join("mail").join(planted);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&target, &link).unwrap();
        let outcomes = maildir(root.path())
            .deliver(&delivery(&["taro@y.example"]))
            .await;
        assert_eq!(codes(&outcomes), [(451, false)], "{planted}");
        assert_eq!(files(&target), Vec::<String>::new(), "{planted}");
    }
}

#[tokio::test]
async fn no_mailbox_leaves_its_folder() {
    let rows = [
        ("../../x@y.example", "y.example/%2E.%2F..%2Fx"),
        ("..@y.example", "y.example/%2E."),
        ("a%b@y.example", "y.example/a%25b"),
        ("\"a b\"@y.example", "y.example/%22a%20b%22"),
        ("user..name.@docomo.ne.jp", "docomo.ne.jp/user..name."),
        ("a+b@y.example", "y.example/a+b"),
    ];
    for (mailbox, expected) in rows {
        let root = tempfile::tempdir().unwrap();
        let maildir = maildir(root.path());
        let folder = root.path().join("mail").join(expected);
        assert_eq!(maildir.folder(&address(mailbox)), folder, "{mailbox}");
        let outcomes = maildir.deliver(&delivery(&[mailbox])).await;
        assert_eq!(
            files(&folder.join("new")).len(),
            1,
            "{mailbox} {outcomes:?}"
        );
    }
}

#[tokio::test]
async fn trouble_on_disk_touches_its_recipient_only() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("mail/y.example")).unwrap();
    std::fs::write(root.path().join("mail/y.example/b"), "a file").unwrap();
    let outcomes = maildir(root.path())
        .deliver(&delivery(&["a@y.example", "b@y.example", "c@y.example"]))
        .await;
    assert_eq!(codes(&outcomes), [(250, false), (451, false), (250, false)]);
}
