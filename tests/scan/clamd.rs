//! clamd's sessions: what is said on the wire, and which connection it is said on.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sekimori::scan::{Clamd, ScanError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{LONG, Peer, Wire, far, mail, octets, plain, until};

/// One mail of a session as it came in: its chunks. `None` = the other side has hung up.
async fn request(wire: &mut Wire, first: bool) -> Option<Vec<Vec<u8>>> {
    let commands: &[u8] = if first {
        b"zIDSESSION\0zVERSION\0zINSTREAM\0"
    } else {
        b"zVERSION\0zINSTREAM\0"
    };
    let mut heard = vec![0; commands.len()];
    wire.read_exact(&mut heard).await.ok()?;
    assert_eq!(
        heard.escape_ascii().to_string(),
        commands.escape_ascii().to_string()
    );
    let mut chunks = Vec::new();
    loop {
        let length = wire.read_u32().await.ok()?;
        if length == 0 {
            return Some(chunks);
        }
        assert!(length <= 65536);
        let mut chunk = vec![0; length as usize];
        wire.read_exact(&mut chunk).await.ok()?;
        chunks.push(chunk);
    }
}

async fn reply(wire: &mut Wire, number: usize, verdict: &str) {
    let said = format!("{}: ClamAV 1\0{}: {verdict}\0", 2 * number - 1, 2 * number);
    let _ = wire.write_all(said.as_bytes()).await;
}

/// A good clamd; before the first answer of a session it does `first`.
pub async fn session<F: Future<Output = ()>>(mut wire: Wire, first: impl FnOnce() -> F) {
    if request(&mut wire, true).await.is_none() {
        return;
    }
    first().await;
    reply(&mut wire, 1, "stream: OK").await;
    for number in 2.. {
        if request(&mut wire, false).await.is_none() {
            return;
        }
        reply(&mut wire, number, "stream: OK").await;
    }
}

#[tokio::test]
async fn one_session_serves_mail_after_mail() {
    let heard: Arc<Mutex<Vec<Vec<Vec<u8>>>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let peer = Peer::unix(move |_, mut wire| {
        let kept = Arc::clone(&kept);
        async move {
            for number in 1.. {
                let Some(chunks) = request(&mut wire, number == 1).await else {
                    return;
                };
                kept.lock().unwrap().push(chunks);
                reply(&mut wire, number, &format!("stream: V{number} FOUND")).await;
            }
        }
    })
    .await;
    let clamd = Clamd::new(peer.settings(LONG));
    let mails = [
        plain(),
        vec![Bytes::new(), Bytes::from_static(b"x"), Bytes::new()],
        vec![Bytes::from(
            (0..200_000u32).map(|n| n as u8).collect::<Vec<_>>(),
        )],
        Vec::new(),
    ];
    for (number, pieces) in mails.iter().enumerate() {
        let finding = clamd.scan(&mail(&octets(pieces)), far()).await.unwrap();
        assert_eq!(finding.virus, Some(format!("V{}", number + 1)));
        assert_eq!(finding.version, "ClamAV 1");
    }
    assert_eq!(peer.accepted(), 1);
    let heard = heard.lock().unwrap();
    for (pieces, chunks) in mails.iter().zip(heard.iter()) {
        assert_eq!(pieces.concat(), chunks.concat());
    }
    let lengths: Vec<usize> = heard[2].iter().map(Vec::len).collect();
    assert_eq!(lengths, [65536, 65536, 65536, 3392]);
}

#[tokio::test]
async fn an_idle_session_that_was_closed_is_replaced() {
    let peer = Peer::tcp(|_, mut wire| async move {
        request(&mut wire, true).await;
        reply(&mut wire, 1, "stream: OK").await;
    })
    .await;
    let clamd = Clamd::new(peer.settings(LONG));
    for number in 1..10 {
        clamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
        assert_eq!(peer.accepted(), number);
    }
}

#[tokio::test]
async fn an_idle_session_that_closes_over_a_mail_is_replaced_once() {
    // The first session ends over its second mail, the second over its first.
    let peer = Peer::tcp(|number, mut wire| async move {
        if number == 2 {
            return drop(request(&mut wire, true).await);
        }
        request(&mut wire, true).await;
        reply(&mut wire, 1, "stream: OK").await;
        request(&mut wire, false).await;
    })
    .await;
    let clamd = Clamd::new(peer.settings(LONG));
    clamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
    let error = clamd
        .scan(&mail(&octets(&plain())), far())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it closed the connection without an answer"),
        "{error}"
    );
    assert_eq!(peer.accepted(), 2);
    clamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
    assert_eq!(peer.accepted(), 3);
}

#[tokio::test]
async fn a_session_that_answered_in_part_is_not_asked_again() {
    let peer = Peer::tcp(|_, mut wire| async move {
        request(&mut wire, true).await;
        reply(&mut wire, 1, "stream: OK").await;
        request(&mut wire, false).await;
        let _ = wire.write_all(b"3: ClamAV 1\0").await;
    })
    .await;
    let clamd = Clamd::new(peer.settings(LONG));
    clamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
    let error = clamd
        .scan(&mail(&octets(&plain())), far())
        .await
        .unwrap_err();
    assert!(matches!(error, ScanError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().ends_with(r#"behind "3: ClamAV 1\x00""#),
        "{error}"
    );
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn a_session_out_of_step_is_not_used_again() {
    // More is said than was asked; then the reply to the first mail comes too late.
    let peer = Peer::tcp(|number, mut wire| async move {
        request(&mut wire, true).await;
        if number == 2 {
            let mut rest = Vec::new();
            let _ = wire.read_to_end(&mut rest).await;
            return;
        }
        reply(&mut wire, 1, "stream: OK").await;
        if number == 1 {
            let _ = wire.write_all(b"0: COMMAND READ TIMED OUT\0").await;
        }
        let _ = until(&mut wire, b"never").await;
    })
    .await;
    let clamd = Clamd::new(peer.settings(LONG));
    let first = clamd.scan(&mail(&octets(&plain())), far()).await;
    assert!(
        matches!(first, Ok(_) | Err(ScanError::Refused { .. })),
        "{first:?}"
    );
    let soon = Instant::now() + Duration::from_millis(100);
    let late = clamd
        .scan(&mail(&octets(&plain())), soon)
        .await
        .unwrap_err();
    assert!(matches!(late, ScanError::Late { .. }), "{late}");
    clamd.scan(&mail(&octets(&plain())), far()).await.unwrap();
    assert_eq!(peer.accepted(), 3);
}

#[tokio::test]
async fn what_it_said_counts_more_than_that_it_closed() {
    let large = vec![Bytes::from(vec![b'x'; 1 << 20]); 32];
    let role = |_, mut wire: Wire| async move {
        let mut room = vec![0; 100_000];
        let _ = wire.read_exact(&mut room).await;
        let said = b"1: ClamAV 1\x002: INSTREAM size limit exceeded. ERROR\0";
        let _ = wire.write_all(said).await;
    };
    for peer in [Peer::tcp(role).await, Peer::unix(role).await] {
        let clamd = Clamd::new(peer.settings(LONG));
        for _ in 0..5 {
            let error = clamd.scan(&mail(&octets(&large)), far()).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    ScanError::TooLarge {
                        size: 33_554_432,
                        ..
                    }
                ),
                "{error}"
            );
            assert!(error.to_string().contains("raise its StreamMaxLength"));
        }
    }
}
