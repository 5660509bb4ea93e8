//! spamd's protocol: what is asked.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sekimori::scan::{Learned, ScanError, Spamd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{LONG, Peer, far, mail, octets, plain, until};

/// Keeps the request and says `said`; then closes.
async fn peer(said: &'static str) -> (Peer, Arc<Mutex<(String, Vec<u8>)>>) {
    let heard: Arc<Mutex<(String, Vec<u8>)>> = Arc::default();
    let kept = Arc::clone(&heard);
    let peer = Peer::unix(move |_, mut wire| {
        let kept = Arc::clone(&kept);
        async move {
            let head = until(&mut wire, b"\r\n\r\n").await;
            let head = String::from_utf8(head).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-length: "))
                .unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            wire.read_exact(&mut body).await.unwrap();
            *kept.lock().unwrap() = (head, body);
            let _ = wire.write_all(said.as_bytes()).await;
        }
    })
    .await;
    (peer, heard)
}

#[tokio::test]
async fn what_it_is_asked() {
    let (peer, heard) = peer(
        "SPAMD/1.1 0 EX_OK\r\nContent-length: 16\r\nSpam: True ; 7.2 / 5.0\r\n\r\nGTUBE,NO_RELAYS\n",
    )
    .await;
    let spamd = Spamd::new(peer.settings(LONG));
    for number in 1..3 {
        let finding = spamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
        assert_eq!(
            (finding.spam, finding.score, finding.required),
            (true, 7.2, 5.0)
        );
        let names: Vec<&str> = finding.symbols.iter().map(|symbol| &*symbol.name).collect();
        assert_eq!(names, ["GTUBE", "NO_RELAYS"]);
        assert_eq!(peer.accepted(), number);
    }
    let (head, body) = heard.lock().unwrap().clone();
    assert_eq!(
        head,
        format!(
            "SYMBOLS SPAMC/1.5\r\nContent-length: {}\r\n\r\n",
            body.len()
        )
    );
    assert_eq!(body, plain().concat());
}

#[tokio::test]
async fn lessons() {
    let rows = [
        (
            "SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n",
            Ok(Learned::New),
        ),
        ("SPAMD/1.1 0 EX_OK\r\n\r\n\r\n", Ok(Learned::Already)),
        (
            "SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled\r\n",
            Err("TELL commands are not enabled"),
        ),
    ];
    for (said, expected) in rows {
        let (peer, heard) = peer(said).await;
        let learned = Spamd::new(peer.settings(LONG))
            .learn_ham(&mail(&octets(&plain())), far())
            .await;
        match expected {
            Ok(expected) => assert_eq!(learned, Ok(expected)),
            Err(words) => assert!(learned.unwrap_err().to_string().contains(words)),
        }
        let (head, _) = heard.lock().unwrap().clone();
        assert!(
            head.starts_with(
                "TELL SPAMC/1.5\r\nMessage-class: ham\r\nSet: local\r\nContent-length: "
            ),
            "{head}"
        );
    }
}

#[tokio::test]
async fn an_answer_before_all_was_read_counts() {
    let peer = Peer::tcp(|_, mut wire| async move {
        let mut room = [0; 10_000];
        let _ = wire.read_exact(&mut room).await;
        let _ = wire.write_all(b"SPAMD/1.0 98 Message too big\r\n").await;
    })
    .await;
    let large = vec![Bytes::from(vec![b'x'; 1 << 20]); 32];
    let spamd = Spamd::new(peer.settings(LONG));
    let error = spamd.scan(&mail(&octets(&large)), far()).await.unwrap_err();
    assert!(matches!(error, ScanError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("98 Message too big"));
}
