//! What every engine may do wrong: it is silent, dies, says nonsense, says too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sekimori::scan::{Clamd, EXCHANGES, Mail, Rspamd, ScanError, Settings, Spamd, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

use crate::peer::{LONG, Peer, Wire, far, mail, octets, plain};

/// Each of them, asked alike; a finding is only shown.
#[derive(Debug)]
pub enum Engine {
    Clamd(Clamd),
    Rspamd(Rspamd),
    Spamd(Spamd),
}

impl Engine {
    pub async fn scan(&self, mail: &Mail<'_>, deadline: Instant) -> Result<String, ScanError> {
        match self {
            Self::Clamd(engine) => Ok(format!("{:?}", engine.scan(mail, deadline).await?)),
            Self::Rspamd(engine) => Ok(format!("{:?}", engine.scan(mail, deadline).await?)),
            Self::Spamd(engine) => Ok(format!("{:?}", engine.scan(mail, deadline).await?)),
        }
    }

    pub fn state(&self) -> State {
        match self {
            Self::Clamd(engine) => engine.state(),
            Self::Rspamd(engine) => engine.state(),
            Self::Spamd(engine) => engine.state(),
        }
    }
}

pub fn engines(settings: &Settings) -> [Engine; 3] {
    [
        Engine::Clamd(Clamd::new(settings.clone())),
        Engine::Rspamd(Rspamd::new(settings.clone())),
        Engine::Spamd(Spamd::new(settings.clone())),
    ]
}

/// A good answer of each, in the order of [`engines`].
pub const GOOD: [&[u8]; 3] = [
    b"1: ClamAV 1.4.6\x002: stream: OK\0",
    b"HTTP/1.1 200 OK\r\nContent-Length: 37\r\nConnection: close\r\n\r\n{\"score\":1,\"action\":\"no action\"     }",
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: False ; 0.0 / 5.0\r\n\r\nA",
];

fn kind(error: &ScanError) -> &'static str {
    match error {
        ScanError::Unreachable { .. } => "unreachable",
        ScanError::Late { full: true, .. } => "late",
        ScanError::Late { full: false, .. } => "deadline",
        ScanError::Nonsense { .. } => "nonsense",
        ScanError::Refused { .. } => "refused",
        ScanError::TooLarge { .. } => "too large",
        ScanError::Ours => "ours",
        ScanError::Resting { .. } => "resting",
    }
}

/// Says `said` `times` times as soon as something comes, then reads on until we hang up.
async fn saying(said: &'static [u8], times: usize) -> Peer {
    Peer::tcp(move |_, mut wire| async move {
        let _ = wire.read_u8().await;
        for _ in 0..times {
            if wire.write_all(said).await.is_err() {
                return;
            }
        }
        let _ = tokio::io::copy(&mut wire, &mut tokio::io::sink()).await;
    })
    .await
}

#[tokio::test]
async fn nobody_is_there() {
    let peer = Peer::tcp(|_, _| async {}).await;
    let settings = peer.settings(LONG);
    drop(peer);
    tokio::task::yield_now().await;
    let unix = Settings {
        address: sekimori::scan::Endpoint::Unix("/nowhere/engine.sock".into()),
        timeout: LONG,
    };
    for settings in [settings, unix] {
        for engine in engines(&settings) {
            let error = engine
                .scan(&mail(&octets(&plain())), far())
                .await
                .unwrap_err();
            assert_eq!(kind(&error), "unreachable");
            let place = format!(" at {} fails: connecting: ", settings.address);
            assert!(error.to_string().contains(&place), "{error}");
        }
    }
}

#[tokio::test]
async fn it_is_silent() {
    let peer = saying(b"", 0).await;
    let short = Duration::from_millis(50);
    for engine in engines(&peer.settings(short)) {
        let error = engine
            .scan(&mail(&octets(&plain())), far())
            .await
            .unwrap_err();
        assert_eq!(kind(&error), "late");
        assert!(
            error.to_string().contains("within its timeout of 0.1 s"),
            "{error}"
        );
    }
    for engine in engines(&peer.settings(LONG)) {
        for _ in 0..4 {
            let deadline = Instant::now() + short;
            let error = engine
                .scan(&mail(&octets(&plain())), deadline)
                .await
                .unwrap_err();
            assert_eq!(kind(&error), "deadline");
        }
        assert_eq!(engine.state(), State::Well);
    }
}

#[tokio::test]
async fn it_reads_no_more() {
    let peer = Peer::tcp(|_, wire| async move {
        std::future::pending::<()>().await;
        drop(wire);
    })
    .await;
    let large = vec![Bytes::from(vec![b'x'; 1 << 20]); 32];
    for engine in engines(&peer.settings(Duration::from_millis(50))) {
        let error = engine
            .scan(&mail(&octets(&large)), far())
            .await
            .unwrap_err();
        assert_eq!(kind(&error), "late");
    }
}

#[tokio::test]
async fn it_dies_in_mid_mail() {
    let peer = Peer::tcp(|_, mut wire| async move {
        let mut room = [0; 1000];
        let _ = wire.read_exact(&mut room).await;
    })
    .await;
    let large = vec![Bytes::from(vec![b'x'; 1 << 20]); 8];
    for engine in engines(&peer.settings(LONG)) {
        let error = engine
            .scan(&mail(&octets(&large)), far())
            .await
            .unwrap_err();
        assert_eq!(kind(&error), "unreachable", "{error}");
    }
}

#[tokio::test]
async fn it_dies_in_mid_answer() {
    for (of, good) in GOOD.into_iter().enumerate() {
        for cut in [1, good.len() / 2, good.len() - 1] {
            let peer = Peer::unix(move |_, mut wire| async move {
                let _ = wire.read_u8().await;
                let _ = wire.write_all(&good[..cut]).await;
            })
            .await;
            let engine = &engines(&peer.settings(LONG))[of];
            let error = engine
                .scan(&mail(&octets(&plain())), far())
                .await
                .unwrap_err();
            assert_eq!(kind(&error), "unreachable", "{engine:?}, {cut}: {error}");
        }
    }
}

#[tokio::test]
async fn it_says_nonsense() {
    // What is said, how often, and what clamd, rspamd and spamd take it for.
    let rows: &[(&'static [u8], usize, [&str; 3])] = &[
        (b"220 mx ESMTP\r\n\0\r\n", 1, ["nonsense"; 3]),
        (b"\0\0\0\0\r\n\r\n", 1, ["nonsense"; 3]),
        (
            b"1: \x1b[2J\x002: stream: no verdict\0\r\n\r\n",
            1,
            ["nonsense"; 3],
        ),
        (b"x", 10_000_000, ["nonsense"; 3]),
        (
            b"UNKNOWN COMMAND\0\r\n",
            1,
            ["refused", "nonsense", "nonsense"],
        ),
        (
            b"1: v\x002: stream: Can't allocate memory ERROR\0\r\n",
            1,
            ["refused", "nonsense", "nonsense"],
        ),
        (
            b"SPAMD/1.0 79 Timeout: (30 second timeout)\r\n\0",
            1,
            ["nonsense", "nonsense", "refused"],
        ),
        (
            b"HTTP/1.1 500 x\r\nContent-Length: 27\r\n\r\n{\"error\":\"invalid command\"}\0",
            1,
            ["nonsense", "refused", "nonsense"],
        ),
        (
            b"HTTP/1.1 502 x\r\nContent-Length: 4\r\n\r\noops\0",
            1,
            ["nonsense"; 3],
        ),
        (
            b"HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n\0",
            1,
            ["nonsense", "too large", "nonsense"],
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]\0",
            1,
            ["nonsense"; 3],
        ),
    ];
    for (said, times, expected) in rows {
        let peer = saying(said, *times).await;
        for (engine, expected) in engines(&peer.settings(LONG)).iter().zip(expected) {
            let error = engine
                .scan(&mail(&octets(&plain())), far())
                .await
                .unwrap_err();
            let shown = error.to_string();
            assert_eq!(kind(&error), *expected, "{}: {shown}", said.escape_ascii());
            assert!(
                shown.len() < 1200 && shown.bytes().all(|octet| (b' '..=b'~').contains(&octet))
            );
        }
    }
}

#[tokio::test]
async fn it_says_more_than_it_may() {
    let endless: [&'static [u8]; 3] = [
        b"1: v",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nContent-length: 99999\r\n",
    ];
    let more: [&'static [u8]; 3] = [b"v", b"5\r\nxxxxx\r\n", b"X: y\r\n"];
    for of in 0..3 {
        let peer = Peer::tcp(move |_, mut wire| async move {
            let _ = wire.read_u8().await;
            let _ = wire.write_all(endless[of]).await;
            while wire.write_all(&more[of].repeat(1000)).await.is_ok() {}
        })
        .await;
        let engine = &engines(&peer.settings(LONG))[of];
        let error = engine
            .scan(&mail(&octets(&plain())), far())
            .await
            .unwrap_err();
        assert_eq!(kind(&error), "nonsense", "{error}");
    }
    // It announces more than there is memory.
    let peer = saying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n{}",
        1,
    )
    .await;
    let engine = &engines(&peer.settings(LONG))[1];
    let error = engine
        .scan(&mail(&octets(&plain())), far())
        .await
        .unwrap_err();
    assert_eq!(kind(&error), "nonsense", "{error}");
}

#[tokio::test]
async fn it_speaks_in_single_octets() {
    for (of, good) in GOOD.into_iter().enumerate() {
        let peer = Peer::tcp(move |_, mut wire| async move {
            let _ = wire.read_u8().await;
            for octet in good {
                let _ = wire.write_all(&[*octet]).await;
                let _ = wire.flush().await;
                tokio::task::yield_now().await;
            }
            let _ = tokio::io::copy(&mut wire, &mut tokio::io::sink()).await;
        })
        .await;
        let engine = &engines(&peer.settings(LONG))[of];
        engine.scan(&mail(&octets(&plain())), far()).await.unwrap();
    }
}

#[tokio::test]
async fn three_failures_in_a_row_and_it_is_left_alone() {
    let peer = saying(b"nonsense\r\n\r\n\0", 1).await;
    for engine in engines(&peer.settings(LONG)) {
        let before = peer.accepted();
        for _ in 0..3 {
            assert_eq!(engine.state(), State::Well);
            let error = engine
                .scan(&mail(&octets(&plain())), far())
                .await
                .unwrap_err();
            assert_eq!(kind(&error), "nonsense");
        }
        let error = engine
            .scan(&mail(&octets(&plain())), far())
            .await
            .unwrap_err();
        assert_eq!(kind(&error), "resting");
        assert!(
            error.to_string().contains("is not asked for another ")
                && error.to_string().contains("gives no proper answer"),
            "{error}"
        );
        let State::Resting { last, since, until } = engine.state() else {
            panic!("{engine:?} is well");
        };
        assert_eq!(kind(&last), "nonsense");
        assert_eq!(until - since, Duration::from_secs(10));
        assert_eq!(peer.accepted() - before, 3);
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    let said: [&'static [u8]; 3] = [
        b"1: v\x002: stream: Can't open file or directory ERROR\0",
        b"HTTP/1.1 500 x\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"error\":\"x\"}",
        b"SPAMD/1.0 79 Timeout\r\n",
    ];
    for (of, said) in said.into_iter().enumerate() {
        let peer = saying(said, 1).await;
        let engine = &engines(&peer.settings(LONG))[of];
        for _ in 0..5 {
            let error = engine
                .scan(&mail(&octets(&plain())), far())
                .await
                .unwrap_err();
            assert_eq!(kind(&error), "refused");
        }
        assert_eq!(engine.state(), State::Well);
    }
}

#[tokio::test]
async fn a_scan_that_is_dropped_hangs_up() {
    let (begun, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun_there, closed_there) = (Arc::clone(&begun), Arc::clone(&closed));
    let peer = Peer::tcp(move |_, mut wire| {
        let (begun, closed) = (Arc::clone(&begun_there), Arc::clone(&closed_there));
        async move {
            let _ = wire.read_u8().await;
            begun.notify_one();
            let _ = tokio::io::copy(&mut wire, &mut tokio::io::sink()).await;
            closed.notify_one();
        }
    })
    .await;
    for engine in engines(&peer.settings(LONG)) {
        for _ in 0..40 {
            let pieces = octets(&plain());
            let mail = mail(&pieces);
            tokio::select! {
                result = engine.scan(&mail, far()) => panic!("{result:?}"),
                () = begun.notified() => {}
            }
            closed.notified().await;
        }
        assert_eq!(engine.state(), State::Well);
    }
}

#[tokio::test]
async fn so_many_at_once_and_no_more() {
    for (of, good) in GOOD.into_iter().enumerate() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let most_there = Arc::clone(&most);
        let full = Arc::new(Semaphore::new(0));
        let peer = Peer::tcp(move |number, wire| {
            let (now, most, full) = (Arc::clone(&now), Arc::clone(&most_there), Arc::clone(&full));
            async move {
                let first = move || async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Nobody is answered before all places are taken.
                    if number == EXCHANGES {
                        full.add_permits(Semaphore::MAX_PERMITS);
                    }
                    full.acquire().await.unwrap().forget();
                    now.fetch_sub(1, Ordering::SeqCst);
                };
                match of {
                    0 => crate::clamd::session(wire, first).await,
                    _ => once(wire, good, first).await,
                }
            }
        })
        .await;
        let engine = Arc::new(engines(&peer.settings(LONG)).into_iter().nth(of).unwrap());
        let scans: Vec<_> = (0..3 * EXCHANGES)
            .map(|_| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move { engine.scan(&mail(&octets(&plain())), far()).await })
            })
            .collect();
        for scan in scans {
            scan.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), EXCHANGES);
    }
}

async fn once<F: Future<Output = ()>>(mut wire: Wire, good: &[u8], first: impl FnOnce() -> F) {
    let _ = wire.read_u8().await;
    first().await;
    let _ = wire.write_all(good).await;
    let _ = tokio::io::copy(&mut wire, &mut tokio::io::sink()).await;
}
