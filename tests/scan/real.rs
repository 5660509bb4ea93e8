//! What the real engines say. `cargo test --test scan -- --ignored`; `tests/run` installs them.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use sekimori::scan::{Clamd, Controller, Learned, Mail, Rspamd, ScanError, Settings, Spamd};

use crate::engines::{clamd, rspamd, spamd};
use crate::peer::{far, mail, octets};

/// In two halves each: this file is neither a virus nor spam.
const EICAR: &[u8] = concat!(
    r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-",
    "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
)
.as_bytes();
const GTUBE: &str = concat!(
    "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-",
    "STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
);
const RECEIVED: &[u8] =
    b"Received: from mx.example ([192.0.2.1]) by us.example with LMTP; Sun, 22 Nov 2026 10:00:00 +0000\r\n";
const HEAD: &str = "From: a@b.example\r\nTo: c@d.example\r\nSubject: lunch\r\nMessage-ID: <1@b.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n";

fn eicar_part() -> String {
    use base64::Engine as _;
    let part = base64::engine::general_purpose::STANDARD.encode(EICAR);
    format!(
        "Content-Type: application/octet-stream; name=\"e.com\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{part}\r\n"
    )
}

fn pieces(rest: impl AsRef<[u8]>) -> Vec<Bytes> {
    vec![
        Bytes::from_static(RECEIVED),
        Bytes::copy_from_slice(rest.as_ref()),
    ]
}

#[tokio::test]
#[ignore = "needs clamd"]
async fn clamd_finds_what_is_in_a_mail() {
    let (_engine, unix, tcp) = clamd();
    let nested = format!(
        "{HEAD}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n{HEAD}{}\r\n--b--\r\n",
        eicar_part()
    );
    let odd = format!("X: 1\r\n{}", eicar_part());
    let rows: Vec<(Vec<Bytes>, Option<&str>)> = vec![
        (pieces(format!("{HEAD}\r\nhello\r\n")), None),
        (
            pieces(format!("{HEAD}{}", eicar_part())),
            Some("Eicar-Test-Signature.UNOFFICIAL"),
        ),
        (pieces(nested), Some("Eicar-Test-Signature.UNOFFICIAL")),
        (
            pieces(format!("{HEAD}\r\nSEKIMORI-TEST-VIRUS\r\n")),
            Some("Sekimori.Test.UNOFFICIAL"),
        ),
        // What begins with fields that clamd does not know is looked into only behind our own.
        (pieces(&odd), Some("Eicar-Test-Signature.UNOFFICIAL")),
        (vec![Bytes::from(odd)], None),
        // Larger than a socket buffer and a chunk, in many pieces.
        (
            [
                pieces(format!("{HEAD}\r\n")),
                vec![Bytes::from(vec![b'x'; 999]); 900],
                vec![Bytes::new(), Bytes::from_static(b"SEKIMORI-TEST-VIRUS")],
            ]
            .concat(),
            Some("Sekimori.Test.UNOFFICIAL"),
        ),
    ];
    for settings in [unix, tcp] {
        let clamd = Clamd::new(settings);
        for (pieces, virus) in &rows {
            let finding = clamd.scan(&mail(&octets(pieces)), far()).await.unwrap();
            assert_eq!(
                finding.virus.as_deref(),
                *virus,
                "{:?}",
                pieces[1..].first()
            );
            assert!(finding.version.starts_with("ClamAV "), "{finding:?}");
        }
        let large = vec![Bytes::from(vec![b'x'; 100_000]); 80];
        let error = clamd.scan(&mail(&octets(&large)), far()).await.unwrap_err();
        assert!(
            matches!(
                error,
                ScanError::TooLarge {
                    setting: "StreamMaxLength",
                    size: 8_000_000,
                    ..
                }
            ),
            "{error}"
        );
        let finding = clamd.scan(&mail(&octets(&rows[0].0)), far()).await.unwrap();
        assert_eq!(finding.virus, None);
    }
}

#[tokio::test]
#[ignore = "needs clamd"]
async fn clamd_is_killed_between_mails_and_comes_again() {
    let (mut engine, unix, _) = clamd();
    let clamd = Clamd::new(unix);
    let pieces = pieces(format!("{HEAD}\r\nhello\r\n"));
    clamd.scan(&mail(&octets(&pieces)), far()).await.unwrap();
    engine.kill();
    let error = clamd
        .scan(&mail(&octets(&pieces)), far())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ScanError::Unreachable {
                step: "connecting",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs clamd"]
async fn clamd_is_slow_beyond_its_time() {
    let (engine, unix, _) = clamd();
    let clamd = Clamd::new(Settings {
        timeout: Duration::from_millis(300),
        ..unix
    });
    let pieces = pieces(format!("{HEAD}\r\nhello\r\n"));
    engine.signal(Signal::STOP);
    for _ in 0..3 {
        let error = clamd
            .scan(&mail(&octets(&pieces)), far())
            .await
            .unwrap_err();
        assert!(
            matches!(error, ScanError::Late { full: true, .. }),
            "{error}"
        );
    }
    let error = clamd
        .scan(&mail(&octets(&pieces)), far())
        .await
        .unwrap_err();
    assert!(matches!(error, ScanError::Resting { .. }), "{error}");
    engine.signal(Signal::CONT);
}

/// Each stands still with a mail in its hands, then it is killed.
#[tokio::test]
#[ignore = "needs clamd, rspamd and spamd"]
async fn killed_in_mid_mail() {
    let (clamd, _, at_clamd) = clamd();
    let (rspamd, at_rspamd, _) = rspamd();
    let (spamd, at_spamd) = spamd(&[]);
    let large = vec![Bytes::from(vec![b'x'; 100_000]); 9];
    let settings = [at_clamd, at_rspamd, at_spamd];
    for (of, mut engine) in [clamd, rspamd, spamd].into_iter().enumerate() {
        let scanner = &crate::faults::engines(&settings[of])[of];
        engine.signal(Signal::STOP);
        let large = octets(&large);
        let mail = mail(&large);
        let scan = scanner.scan(&mail, far());
        let kill = async {
            tokio::task::yield_now().await;
            engine.kill();
        };
        let (result, ()) = tokio::join!(scan, kill);
        let error = result.unwrap_err();
        assert!(matches!(error, ScanError::Unreachable { .. }), "{error}");
    }
}

fn spam() -> Vec<Bytes> {
    pieces(format!("{HEAD}\r\n{GTUBE}\r\n"))
}

fn ham() -> Vec<Bytes> {
    pieces(format!(
        "{HEAD}\r\nHow are you? Lunch tomorrow at the usual place, bring the papers about the garden.\r\n"
    ))
}

#[tokio::test]
#[ignore = "needs rspamd"]
async fn rspamd_tells_spam_from_ham_and_learns() {
    let (_engine, worker, controller) = rspamd();
    let rspamd = Rspamd::new(worker);
    let recipients = vec!["c@d.example".to_owned(); 150];
    let (spam, ham) = (octets(&spam()), octets(&ham()));
    let mail = |pieces| Mail {
        pieces,
        sender: "a@b.example",
        recipients: &recipients,
        client_ip: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        helo: "mx.example\r\nX: y",
        id: "q1",
    };
    let finding = rspamd.scan(&mail(&spam), far()).await.unwrap();
    assert!(finding.spam && finding.score >= 15.0, "{finding:?}");
    assert_eq!(finding.action.as_deref(), Some("reject"));
    assert!(finding.version.unwrap().starts_with("rspamd/"));
    assert!(finding.symbols.iter().any(|symbol| symbol.name == "GTUBE"));
    let finding = rspamd.scan(&mail(&ham), far()).await.unwrap();
    assert!(
        finding.score < 15.0 && finding.required == 15.0,
        "{finding:?}"
    );
    let symbol = |name: &str| finding.symbols.iter().any(|symbol| symbol.name == name);
    assert!(symbol("FROM_EQ_ENVFROM"), "{finding:?}");
    assert!(
        symbol("RCPT_COUNT_ONE") && !symbol("RCVD_COUNT_ZERO"),
        "{finding:?}"
    );
    let null = Mail {
        sender: "",
        ..mail(&ham)
    };
    assert!(rspamd.scan(&null, far()).await.is_ok());
    let large = octets(&vec![Bytes::from(vec![b'x'; 100_000]); 80]);
    let error = rspamd.scan(&mail(&large), far()).await.unwrap_err();
    // 3.4 only resets the connection.
    let shown = error.to_string();
    assert!(
        shown.contains("with its 8000000 octets, over its max_message"),
        "{shown}"
    );

    let password = |password: &str| Some(password.to_owned());
    let right = Controller::new(controller.clone(), password("sekimori-change"));
    assert_eq!(right.learn_ham(&mail(&ham), far()).await, Ok(Learned::New));
    assert_eq!(
        right.learn_ham(&mail(&ham), far()).await,
        Ok(Learned::Already)
    );
    for wrong in [None, password("wrong"), password("日\r\n本")] {
        let error = Controller::new(controller.clone(), wrong)
            .learn_ham(&mail(&ham), far())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("401: Unauthorized"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs spamd"]
async fn spamd_tells_spam_from_ham_and_learns() {
    let (_engine, settings) = spamd(&["--allow-tell"]);
    let spamd = Spamd::new(settings);
    let (spam, ham) = (spam(), ham());
    let finding = spamd.scan(&mail(&octets(&spam)), far()).await.unwrap();
    assert!(finding.spam && finding.score >= 1000.0, "{finding:?}");
    assert!(finding.symbols.iter().any(|symbol| symbol.name == "GTUBE"));
    let finding = spamd.scan(&mail(&octets(&ham)), far()).await.unwrap();
    assert!(!finding.spam && finding.required == 5.0, "{finding:?}");
    assert_eq!(
        spamd.learn_ham(&mail(&octets(&ham)), far()).await,
        Ok(Learned::New)
    );
    assert_eq!(
        spamd.learn_ham(&mail(&octets(&ham)), far()).await,
        Ok(Learned::Already)
    );
}

#[tokio::test]
#[ignore = "needs spamd"]
async fn spamd_learns_only_where_it_may() {
    let (_engine, settings) = spamd(&[]);
    let spamd = Spamd::new(settings);
    let error = spamd
        .learn_ham(&mail(&octets(&ham())), far())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--allow-tell"), "{error}");
}
