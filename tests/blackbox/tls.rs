//! STARTTLS and implicit TLS of the listeners, and TLS towards the relay.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Daemon, Site, TARO, eventually, mail};
use crate::hop::field;
use crate::session::Session;

const NAME: &str = "mx.example.jp";
const PATIENCE: Duration = Duration::from_secs(30);

/// A new certificate and its key, PEM.
struct Pem {
    certificate: String,
    key: String,
}

impl Pem {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn write(&self, site: &Site) {
        site.write("mx.pem", &self.certificate);
        site.write("mx.key", &self.key);
    }

    /// Believes this certificate and no other.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The LMTP listener offers STARTTLS, the SMTP listener too, `secure` is LMTP with implicit TLS.
fn site(pem: &Pem) -> Site {
    let site = Site::new()
        .with(
            "{name: lmtp, protocol: lmtp, ",
            "{name: secure, protocol: lmtp, tls: implicit, listen: \"127.0.0.1:0\"}\n    - {name: lmtp, protocol: lmtp, tls: starttls, ",
        )
        .with(
            "{name: smtp, protocol: smtp, ",
            "{name: smtp, protocol: smtp, tls: starttls, ",
        )
        .with(
            "  limits: {message_size: 1MiB}\n",
            "  limits: {message_size: 1MiB}\n  tls: {certificate_file: mx.pem, key_file: mx.key}\n",
        );
    pem.write(&site);
    site
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The lines of one reply in the clear, without reading a single octet more.
fn reply(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let begin = text.len();
        while !text[begin..].ends_with("\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            text.push(char::from(octet[0]));
        }
        if text.as_bytes().get(begin + 3) != Some(&b'-') {
            return text;
        }
    }
}

fn tell(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).unwrap();
    reply(stream)
}

/// A connection that may shake hands now.
fn asked_for_tls(port: u16, hello: &str) -> TcpStream {
    let mut stream = connect(port);
    assert!(reply(&mut stream).starts_with("220 "));
    let offers = tell(&mut stream, &format!("{hello} mta.example.net\r\n"));
    assert!(offers.contains("STARTTLS\r\n"), "{offers}");
    assert_eq!(
        tell(&mut stream, "STARTTLS\r\n"),
        "220 2.0.0 ready for TLS\r\n"
    );
    stream
}

fn shake_hands(
    mut stream: TcpStream,
    client: Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut tls = ClientConnection::new(client, name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(tls, stream))
}

/// An LMTP session behind STARTTLS.
fn secure(daemon: &Daemon, pem: &Pem) -> Session {
    let stream = asked_for_tls(daemon.port("lmtp"), "LHLO");
    Session::over(Box::new(shake_hands(stream, pem.client()).unwrap()))
}

/// Everything up to the end of the stream, however it comes.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

#[test]
fn mail_comes_over_tls_and_says_so() {
    let pem = Pem::new();
    let daemon = site(&pem).start();
    let trace = |mailbox: &str| field(&daemon.await_mail(mailbox), "Received").unwrap();

    let mut session = secure(&daemon, &pem);
    let offers = session.command("LHLO mta.example.net");
    assert!(!offers.contains("STARTTLS"), "{offers}");
    session.expect("STARTTLS", "503 5.5.1");
    let answers = session.hand_over("a@s.example", &["a@east.example.jp"], &mail("a@s", "x"));
    assert_eq!(answers[0].verdict(), "deliver");
    session.expect("QUIT", "221");
    assert!(trace("a@east.example.jp").contains(" with LMTPS id "));

    let stream = asked_for_tls(daemon.port("smtp"), "EHLO");
    let mut session = Session::over(Box::new(shake_hands(stream, pem.client()).unwrap()));
    let answer = session.submit("a@s.example", &["b@east.example.jp"], &mail("a@s", "x"));
    assert_eq!(answer.verdict(), "deliver");
    assert!(trace("b@east.example.jp").contains(" with ESMTPS id "));

    let stream = shake_hands(connect(daemon.port("secure")), pem.client()).unwrap();
    let mut session = Session::over(Box::new(stream));
    assert!(session.reply().starts_with("220 mx.example.jp LMTP"));
    let offers = session.command("LHLO mta.example.net");
    assert!(!offers.contains("STARTTLS"), "{offers}");
    session.expect("MAIL FROM:<a@s.example> SMTPUTF8", "250");
    session.expect("RCPT TO:<c@east.example.jp>", "250");
    session.expect("DATA", "354");
    session.data(&mail("a@s", "x"));
    assert!(session.reply().starts_with("250 2.0.0 "));
    assert!(trace("c@east.example.jp").contains(" with UTF8LMTPS id "));

    // Offered is not required (RFC 3207 4).
    let answer = daemon.give("a@s.example", "d@east.example.jp", &mail("a@s", "x"));
    assert_eq!(answer.verdict(), "deliver");
    assert!(trace("d@east.example.jp").contains(" with LMTP id "));
    let mut local = daemon.local();
    let offers = local.command("LHLO mta.example.net");
    assert!(!offers.contains("STARTTLS"), "{offers}");
}

/// CVE-2011-0411, CVE-2021-33515 and their kin: in one segment, and in two, cut anywhere.
#[test]
fn clear_text_behind_starttls_is_never_a_command() {
    let pem = Pem::new();
    let daemon = site(&pem).start();
    let talk = format!(
        "STARTTLS\r\nLHLO evil.example\r\nMAIL FROM:<evil@s.example>\r\nRCPT TO:<{TARO}>\r\n"
    );
    let begin = "STARTTLS\r\n".len();
    let cuts = (0..begin + 4).chain([talk.len() - 1, talk.len()]);
    for cut in cuts {
        let mut stream = connect(daemon.port("lmtp"));
        reply(&mut stream);
        tell(&mut stream, "LHLO mta.example.net\r\n");
        let (head, tail) = talk.split_at(cut);
        stream.write_all(head.as_bytes()).unwrap();
        // Where the head alone was a whole command, it may be answered and more.
        let mut heard = if cut >= begin {
            reply(&mut stream)
        } else {
            String::new()
        };
        let _ = stream.write_all(tail.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        heard.push_str(&String::from_utf8_lossy(&rest(&mut stream)));
        let answer = heard.lines().next().unwrap_or_default();
        assert!(
            answer == "220 2.0.0 ready for TLS"
                || answer == "554 5.5.0 nothing may follow STARTTLS",
            "{cut}: {heard}"
        );
        assert!(!heard.contains("250"), "{cut}: {heard}");
    }
    // What was said before the handshake is no part of the session after it.
    let mut session = secure(&daemon, &pem);
    session.expect("MAIL FROM:<a@s.example>", "503 5.5.1 say hello first");
    assert!(daemon.mailbox(TARO).is_empty());
}

#[test]
fn a_handshake_that_fails_ends_the_connection_and_is_told() {
    let pem = Pem::new();
    let daemon = site(&pem).start();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 300],
        &[0x16, 3, 1, 0xff, 0xff],
        b"",
    ] {
        let mut stream = asked_for_tls(daemon.port("lmtp"), "LHLO");
        stream.write_all(garbage).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let heard = rest(&mut stream);
        assert!(!heard.windows(3).any(|piece| piece == b"250"), "{heard:?}");
    }
    // A client that does not believe the certificate.
    let stream = asked_for_tls(daemon.port("lmtp"), "LHLO");
    shake_hands(stream, Pem::new().client()).unwrap_err();
    eventually("the log tells of each", || {
        let log = daemon.log();
        let told = log.lines().filter(|line| {
            line.contains("TLS handshake failed")
                && line.contains("level=info")
                && line.contains("client=127.0.0.1")
        });
        (told.count() == 5).then_some(())
    });
    let answers = secure(&daemon, &pem).hand_over("a@s.example", &[TARO], &mail("a@s", "x"));
    assert_eq!(answers[0].verdict(), "deliver");
}

#[test]
fn a_handshake_that_hangs_holds_no_place_for_ever() {
    let pem = Pem::new();
    let daemon = site(&pem)
        .with(
            "  limits: {message_size: 1MiB}\n",
            "  limits: {message_size: 1MiB}\n  timeouts: {command: 1s}\n",
        )
        .with("tls: implicit, ", "tls: implicit, max_connections: 1, ")
        .start();
    let mut silent = connect(daemon.port("secure"));
    let mut half = asked_for_tls(daemon.port("lmtp"), "LHLO");
    half.write_all(&[0x16, 3, 1]).unwrap();
    assert_eq!(rest(&mut silent), b"");
    assert_eq!(rest(&mut half), b"");
    let session = eventually("the place is free", || {
        shake_hands(connect(daemon.port("secure")), pem.client()).ok()
    });
    assert!(Session::over(Box::new(session)).reply().starts_with("220 "));
}

/// A truncation attack looks like this: the stream ends without `close_notify`.
#[test]
fn a_mail_that_is_cut_off_is_not_taken() {
    let pem = Pem::new();
    let daemon = site(&pem).start();
    let whole = [&mail("a@s.example", "cut")[..], b".\r\n"].concat();
    for cut in [0, 1, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
        let stream = asked_for_tls(daemon.port("lmtp"), "LHLO");
        let socket = stream.try_clone().unwrap();
        let mut session = Session::over(Box::new(shake_hands(stream, pem.client()).unwrap()));
        session.expect("LHLO mta.example.net", "250");
        session.transaction("a@s.example", &[TARO]);
        session.send(&whole[..cut]);
        socket.shutdown(Shutdown::Write).unwrap();
        rest(&mut { socket });
    }
    let mut session = secure(&daemon, &pem);
    let answers = session.hand_over("a@s.example", &[TARO], &mail("a@s", "whole"));
    assert_eq!(answers[0].verdict(), "deliver");
    assert!(String::from_utf8_lossy(&daemon.await_mail(TARO)).contains("Subject: whole"));
}

#[test]
fn a_hundred_connections_at_once() {
    let pem = Pem::new();
    let daemon = site(&pem).start();
    let mut sessions: Vec<Session> = (0..100).map(|_| secure(&daemon, &pem)).collect();
    for session in &mut sessions {
        session.expect("LHLO mta.example.net", "250");
        session.transaction("a@s.example", &[TARO]);
    }
    for session in &mut sessions {
        session.data(&mail("a@s.example", "one of many"));
    }
    for session in &mut sessions {
        assert!(session.reply().starts_with("250 2.0.0 "));
    }
    assert_eq!(daemon.mailbox(TARO).len(), 100);
}

/// The grace of a stop is a minute, longer than a test waits.
#[test]
fn a_stop_does_not_wait_for_a_handshake() {
    let pem = Pem::new();
    let mut daemon = site(&pem).start();
    let mut waiting = [
        connect(daemon.port("secure")),
        asked_for_tls(daemon.port("lmtp"), "LHLO"),
    ];
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.await_end().code(), Some(0));
    for stream in &mut waiting {
        assert_eq!(rest(stream), b"");
    }
}

#[test]
fn a_reload_takes_a_new_certificate_and_refuses_a_bad_one() {
    let (old, new) = (Pem::new(), Pem::new());
    let daemon = site(&old).start();
    let mut open = secure(&daemon, &old);

    daemon.write("mx.pem", &new.certificate);
    let refused = daemon.cli(&["reload", "--wait"]).exit(78);
    assert!(
        refused.stderr.contains("error[certificate]") && refused.stderr.contains("sekimori.yaml:"),
        "{}",
        refused.stderr
    );
    daemon.signal(rustix::process::Signal::HUP);
    eventually("the log tells", || {
        let told = "reload refused, old settings stay";
        daemon.log().contains(told).then_some(())
    });
    secure(&daemon, &old).expect("LHLO mta.example.net", "250");

    daemon.write("mx.key", &new.key);
    daemon.cli(&["reload", "--wait"]).success();
    secure(&daemon, &new).expect("LHLO mta.example.net", "250");
    let stream = asked_for_tls(daemon.port("lmtp"), "LHLO");
    shake_hands(stream, old.client()).unwrap_err();
    open.expect("LHLO mta.example.net", "250");
}
