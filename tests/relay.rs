//! Composed mail by lettre against scripted servers on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sekimori::deliver::{Endpoint, HopSettings, Outcome, Protocol, Tls};
use sekimori::mail::{Address, ReversePath};
use sekimori::relay::{Relay, RelaySettings, Retry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, rustls};

const MAIL: &[u8] = b"Subject: x\r\n\r\n.dot\r\nend\r\n";

/// One connection a row: what is said first and after each line; `""` hangs, `"-"` hangs up.
async fn serve(rows: Vec<Vec<&'static str>>) -> (u16, JoinHandle<Vec<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut heard = Vec::new();
        for row in rows {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut lines = Vec::new();
            for (at, answer) in row.iter().enumerate() {
                if at > 0 {
                    let in_data = row[at - 1].starts_with("354");
                    let end: &[u8] = if in_data { b"\r\n.\r\n" } else { b"\r\n" };
                    let mut text = Vec::new();
                    while !text.ends_with(end) {
                        text.push(stream.read_u8().await.unwrap());
                    }
                    lines.push(String::from_utf8(text).unwrap());
                }
                match *answer {
                    "" => std::future::pending().await,
                    "-" => break,
                    _ => stream.write_all(answer.as_bytes()).await.unwrap(),
                }
            }
            heard.push(lines);
        }
        heard
    });
    (port, server)
}

fn relay(port: u16, min_interval: Duration, tls: Tls) -> Relay {
    Relay::new(settings(port, min_interval, tls)).unwrap()
}

fn settings(port: u16, min_interval: Duration, tls: Tls) -> RelaySettings {
    RelaySettings {
        hop: HopSettings {
            protocol: Protocol::Smtp,
            endpoint: Endpoint::Tcp {
                host: "127.0.0.1".to_owned(),
                port,
            },
            hostname: "mx.example.jp".to_owned(),
            tls,
            auth: None,
            timeout: Duration::from_secs(2),
            max_connections: 2,
        },
        min_interval,
        per_minute: 600,
        retry: Retry {
            first: Duration::from_secs(1),
            factor: 2.0,
            longest: Duration::from_secs(9),
            give_up: Duration::from_secs(99),
        },
    }
}

async fn send(relay: &Relay, to: &[&str]) -> Vec<Outcome> {
    let to: Vec<_> = to
        .iter()
        .map(|text| Address::parse(text).unwrap())
        .collect();
    relay
        .send_composed(&ReversePath::Null, &to, MAIL, async || Ok(()))
        .await
}

#[tokio::test]
async fn what_stands_on_the_wire() {
    let row = vec![
        "220 hop\r\n",
        "250 hop\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "250 2.0.0 queued\r\n",
        "221 bye\r\n",
    ];
    let (port, server) = serve(vec![row]).await;
    let outcomes = send(
        &relay(port, Duration::ZERO, Tls::None),
        &["user.@ezweb.ne.jp"],
    )
    .await;
    assert_eq!(
        outcomes[0].as_ref().unwrap().reply.as_ref().unwrap().code,
        250
    );
    assert_eq!(
        server.await.unwrap()[0],
        [
            "EHLO mx.example.jp\r\n",
            "MAIL FROM:<>\r\n",
            "RCPT TO:<user.@ezweb.ne.jp>\r\n",
            "DATA\r\n",
            "Subject: x\r\n\r\n..dot\r\nend\r\n.\r\n",
            "QUIT\r\n"
        ]
    );
}

#[tokio::test]
async fn every_failure_says_what_it_means() {
    let ok = "250 ok\r\n";
    let rows: &[(Vec<&'static str>, u16, bool)] = &[
        (vec!["-"], 451, false),
        (vec![""], 451, false),
        (vec!["554 go away\r\n"], 451, false),
        (vec!["220 hop\r\n", ok, "550 5.7.1 no\r\n"], 550, false),
        (
            vec!["220 hop\r\n", ok, ok, "450 4.2.0 later\r\n"],
            450,
            false,
        ),
        (vec!["220 hop\r\n", ok, ok, ok, ok, "-"], 451, false),
        (
            vec!["220 hop\r\n", ok, ok, ok, "354 go\r\n", "552 5.3.4 big\r\n"],
            552,
            false,
        ),
        (
            vec!["220 hop\r\n", ok, ok, ok, "354 go\r\n", "-"],
            451,
            true,
        ),
        (vec!["220 hop\r\n", ok, ok, ok, "354 go\r\n", ""], 451, true),
    ];
    for (row, code, ambiguous) in rows {
        let (port, _server) = serve(vec![row.clone()]).await;
        let outcomes = send(&relay(port, Duration::ZERO, Tls::None), &["a@y.example"]).await;
        let error = outcomes[0].as_ref().unwrap_err();
        assert_eq!(
            (error.reply.code, error.ambiguous),
            (*code, *ambiguous),
            "{row:?} {error}"
        );
    }
}

#[tokio::test]
async fn starttls_is_never_given_up() {
    let (port, _server) = serve(vec![vec!["220 hop\r\n", "250 hop\r\n", "250 no\r\n"]]).await;
    let outcomes = send(
        &relay(port, Duration::ZERO, Tls::Starttls),
        &["a@y.example"],
    )
    .await;
    assert!(outcomes[0].as_ref().unwrap_err().is_temporary());
}

#[tokio::test]
async fn opportunistic_falls_back_on_a_refusal_only() {
    let offered = "250-hop\r\n250 STARTTLS\r\n";
    let clear = [
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "250 2.0.0 queued\r\n",
        "221 bye\r\n",
    ];
    let plain = [&["220 hop\r\n", "250 hop\r\n"], &clear[..]].concat();
    let again = [&["220 hop\r\n", offered], &clear[..]].concat();
    let asks = |reply| vec!["220 hop\r\n", offered, reply, "221 bye\r\n"];
    let rows = [
        (vec![plain], true),
        (vec![asks("454 4.7.0 later\r\n"), again.clone()], true),
        (vec![asks("502 5.5.1 what\r\n"), again.clone()], true),
        (
            vec![vec!["220 hop\r\n", offered, "220 go\r\n", "-"], again],
            false,
        ),
    ];
    for (script, taken) in rows {
        let (port, _server) = serve(script).await;
        let relay = relay(port, Duration::ZERO, Tls::Opportunistic);
        let outcomes = send(&relay, &["a@y.example"]).await;
        assert_eq!(outcomes[0].is_ok(), taken, "{outcomes:?}");
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

/// Whoever stands between says in the clear that the mail was taken; it was not. Behind the
/// handshake the server refuses everything.
#[tokio::test]
async fn clear_text_behind_starttls_does_not_count() {
    const LIES: &str = "250 hop\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 taken\r\n221 bye\r\n";
    for (with_go, behind_go, code) in [("", "", 550), (LIES, "", 451), ("", LIES, 451)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let begin = ["220 hop\r\n", "250-hop\r\n250 STARTTLS\r\n", "220 go\r\n"];
            for (at, answer) in begin.iter().enumerate() {
                while at > 0 && stream.read_u8().await.unwrap() != b'\n' {}
                let with_go = if at == 2 { with_go } else { "" };
                let answer = format!("{answer}{with_go}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            stream.write_all(behind_go.as_bytes()).await.unwrap();
            let Ok(mut stream) = acceptor().accept(stream).await else {
                return;
            };
            for answer in ["250 hop\r\n", "550 5.7.1 seen\r\n", "221 bye\r\n"] {
                while stream.read_u8().await.unwrap() != b'\n' {}
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let relay = relay(port, Duration::ZERO, Tls::Opportunistic);
        let outcomes = send(&relay, &["a@y.example"]).await;
        let found = outcomes[0].as_ref().map_err(|error| error.reply.code);
        assert_eq!(found.unwrap_err(), code, "{outcomes:?}");
    }
}

/// What it says would be kept until the time-out else, as fast as it comes.
#[tokio::test]
async fn a_reply_without_end_is_given_up() {
    for tls in [Tls::None, Tls::Opportunistic] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = 0;
            while stream.write_all(&[b'2'; 16 << 10]).await.is_ok() {
                said += 16 << 10;
            }
            said
        });
        let mut settings = settings(port, Duration::ZERO, tls);
        settings.hop.timeout = Duration::from_secs(60);
        let outcomes = send(&Relay::new(settings).unwrap(), &["a@b.example"]).await;
        let error = outcomes[0].as_ref().unwrap_err();
        assert!(error.is_temporary() && !error.ambiguous, "{error}");
        assert!(error.detail.contains("too much"), "{error}");
        let said: usize = server.await.unwrap();
        assert!(said < 16 << 20, "{said} octets");
    }
}

#[tokio::test]
async fn one_transaction_a_recipient_and_a_pause_between() {
    let row = |rcpt| {
        vec![
            "220 hop\r\n",
            "250 hop\r\n",
            "250 ok\r\n",
            rcpt,
            "354 go\r\n",
            "250 ok\r\n",
            "221 bye\r\n",
        ]
    };
    let refused = vec![
        "220 hop\r\n",
        "250 hop\r\n",
        "250 ok\r\n",
        "550 5.1.1 who\r\n",
    ];
    let (port, _server) = serve(vec![refused, row("250 ok\r\n")]).await;
    let begin = Instant::now();
    let relay = relay(port, Duration::from_millis(200), Tls::None);
    let outcomes = send(&relay, &["a@y.example", "b@y.example"]).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().reply.code, 550);
    assert!(outcomes[1].is_ok());
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_stray_line_end_does_not_leave() {
    let (port, _server) = serve(Vec::new()).await;
    let to = [Address::parse("a@y.example").unwrap()];
    let outcomes = relay(port, Duration::ZERO, Tls::None)
        .send_composed(
            &ReversePath::Null,
            &to,
            b"x\n.\r\nMAIL FROM:<evil@x>\r\n",
            async || Ok(()),
        )
        .await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().reply.code, 550);
}
