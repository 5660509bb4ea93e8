//! rspamd's HTTP: what is asked, and over which connection.

use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sekimori::scan::{Controller, Learned, Mail, Rspamd, ScanError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{LONG, Peer, Wire, far, mail, octets, plain, until};

const HAM: &str =
    r#"{"score":0.5,"required_score":15,"action":"no action","symbols":{"A":{"score":0.5}}}"#;

/// A request: head and body. `None` = the other side has hung up.
async fn request(wire: &mut Wire) -> Option<(String, Vec<u8>)> {
    let head = until(wire, b"\r\n\r\n").await;
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().unwrap()];
    wire.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

async fn answer(wire: &mut Wire, status: &str, body: &str) {
    let said = format!(
        "HTTP/1.1 {status}\r\nServer: rspamd/3.4\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = wire.write_all(said.as_bytes()).await;
}

#[tokio::test]
async fn what_it_is_told() {
    let heard: Arc<Mutex<Vec<(String, Vec<u8>)>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let peer = Peer::tcp(move |_, mut wire| {
        let kept = Arc::clone(&kept);
        async move {
            while let Some(request) = request(&mut wire).await {
                kept.lock().unwrap().push(request);
                answer(&mut wire, "200 OK", HAM).await;
            }
        }
    })
    .await;
    let rspamd = Rspamd::new(peer.settings(LONG));
    let pieces = plain();
    let recipients: Vec<String> = (0..150).map(|n| format!("r{n}@y.example")).collect();
    let long = "x".repeat(5000);
    let mails = [
        Mail {
            pieces: &octets(&pieces),
            sender: "a@b.example",
            recipients: &recipients,
            client_ip: Some(Ipv6Addr::LOCALHOST.into()),
            helo: "mx.example",
            id: "q1",
        },
        Mail {
            pieces: &octets(&pieces[1..]),
            sender: "",
            recipients: &[
                "a\r\nPass: all\r\n\r\n@y\u{0}.example".to_owned(),
                "日本@例え".to_owned(),
            ],
            client_ip: None,
            helo: "",
            id: &long,
        },
    ];
    for mail in &mails {
        let finding = rspamd.scan(mail, far()).await.unwrap();
        assert_eq!(finding.version.as_deref(), Some("rspamd/3.4"));
        assert_eq!(
            (finding.score, finding.required, finding.spam),
            (0.5, 15.0, false)
        );
    }
    assert_eq!(peer.accepted(), 1);
    let heard = heard.lock().unwrap();
    let (head, body) = &heard[0];
    assert!(head.starts_with("POST /checkv2 HTTP/1.1\r\n"), "{head}");
    for line in [
        "from: <a@b.example>",
        "ip: ::1",
        "helo: mx.example",
        "queue-id: q1",
        "rcpt: <r0@y.example>",
        "rcpt: <r99@y.example>",
    ] {
        assert_eq!(
            head.lines().filter(|other| *other == line).count(),
            1,
            "{line}\n{head}"
        );
    }
    assert_eq!(
        head.lines()
            .filter(|line| line.starts_with("rcpt:"))
            .count(),
        100
    );
    assert!(head.contains(&format!("host: {}\r\n", peer.endpoint)));
    assert_eq!(*body, pieces.concat());
    let (head, body) = &heard[1];
    for line in [
        "from: <>",
        "rcpt: <aPass: all@y.example>",
        "rcpt: <日本@例え>",
    ] {
        assert_eq!(
            head.lines().filter(|other| *other == line).count(),
            1,
            "{line}\n{head}"
        );
    }
    assert!(!head.contains("\r\nPass") && !head.contains("helo") && !head.contains("ip:"));
    assert!(head.lines().all(|line| line.len() < 1020) && *body == pieces[1]);
}

#[tokio::test]
async fn a_connection_is_kept_as_long_as_it_keeps_it() {
    // Says that it closes; closes without a word; closes over the next mail.
    for kind in 0..3 {
        let peer = Peer::unix(move |_, mut wire| async move {
            if request(&mut wire).await.is_none() {
                return;
            }
            if kind == 0 {
                let said = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{HAM}",
                    HAM.len()
                );
                let _ = wire.write_all(said.as_bytes()).await;
            } else {
                answer(&mut wire, "200 OK", HAM).await;
            }
            if kind == 2 {
                let _ = request(&mut wire).await;
            }
        })
        .await;
        let rspamd = Rspamd::new(peer.settings(LONG));
        for number in 1..6 {
            rspamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
            assert_eq!(peer.accepted(), number);
        }
    }
}

#[tokio::test]
async fn a_fresh_connection_that_closes_over_a_mail_is_an_error() {
    let peer = Peer::unix(|_, mut wire| async move {
        let _ = request(&mut wire).await;
    })
    .await;
    let rspamd = Rspamd::new(peer.settings(LONG));
    let error = rspamd
        .scan(&mail(&octets(&plain())), far())
        .await
        .unwrap_err();
    assert!(matches!(error, ScanError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("without an answer"), "{error}");
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn an_answer_before_all_was_read_counts() {
    let peer = Peer::tcp(|_, mut wire| async move {
        let _ = until(&mut wire, b"\r\n\r\n").await;
        answer(&mut wire, "413 Too large", r#"{"error":"x"}"#).await;
        let _ = tokio::io::copy(&mut wire, &mut tokio::io::sink()).await;
    })
    .await;
    let large = vec![Bytes::from(vec![b'x'; 1 << 20]); 32];
    let rspamd = Rspamd::new(peer.settings(LONG));
    let error = rspamd
        .scan(&mail(&octets(&large)), far())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ScanError::TooLarge {
                setting: "max_message",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_did_not_take_all_of_a_mail_is_not_used_again() {
    let peer = Peer::tcp(|number, mut wire| async move {
        if number == 1 {
            let _ = until(&mut wire, b"\r\n\r\n").await;
            answer(&mut wire, "200 OK", HAM).await;
            std::future::pending::<()>().await;
        }
        while request(&mut wire).await.is_some() {
            answer(&mut wire, "200 OK", HAM).await;
        }
    })
    .await;
    let large = vec![Bytes::from(vec![b'x'; 1 << 20]); 32];
    let rspamd = Rspamd::new(peer.settings(LONG));
    rspamd.scan(&mail(&octets(&large)), far()).await.unwrap();
    for _ in 0..2 {
        rspamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
        assert_eq!(peer.accepted(), 2);
    }
}

#[tokio::test]
async fn lessons() {
    let rows = [
        ("200 OK", r#"{"success":true}"#, Some(Learned::New)),
        ("208 x", r#"{"error":"already"}"#, Some(Learned::Already)),
        (
            "404 x",
            r#"{"error":"<1@b> has been already learned as ham, ignore it"}"#,
            Some(Learned::Already),
        ),
        ("401 x", r#"{"error":"Unauthorized"}"#, None),
    ];
    for (status, body, expected) in rows {
        let heard: Arc<Mutex<String>> = Arc::default();
        let kept = Arc::clone(&heard);
        let peer = Peer::tcp(move |_, mut wire| {
            let kept = Arc::clone(&kept);
            async move {
                if let Some((head, _)) = request(&mut wire).await {
                    *kept.lock().unwrap() = head;
                    answer(&mut wire, status, body).await;
                }
            }
        })
        .await;
        let controller = Controller::new(peer.settings(LONG), Some("se cret".to_owned()));
        assert!(!format!("{controller:?}").contains("cret"));
        let learned = controller.learn_ham(&mail(&octets(&plain())), far()).await;
        let head = heard.lock().unwrap().clone();
        assert!(head.starts_with("POST /learnham HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains("password: se cret\r\n") && !head.contains("rcpt"),
            "{head}"
        );
        match expected {
            Some(expected) => assert_eq!(learned, Ok(expected)),
            None => {
                let error = learned.unwrap_err().to_string();
                assert!(error.ends_with(r#"answers "401: Unauthorized""#), "{error}");
            }
        }
    }
}
