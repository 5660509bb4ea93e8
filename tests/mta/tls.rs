//! TLS with real peers: Postfix and OpenSSL hand mail over; Postfix takes what is forwarded.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::Daemon;
use crate::harness::{eventually, free_port, open_folder, require, run};
use crate::mails::english;
use crate::postfix::Postfix;
use crate::{ALICE, TARO};

/// A certificate for 127.0.0.1 and its key in `folder`, by OpenSSL, which is another's work than
/// the tests' usual one.
fn certificate(folder: &Path, key: &[&str]) {
    require("/usr/bin/openssl");
    let openssl = |arguments: &[&str]| {
        run(Command::new("/usr/bin/openssl")
            .args(arguments)
            .current_dir(folder));
    };
    openssl(&[key, &["-out", "mx.key"]].concat());
    openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "mx.key",
        "-out",
        "mx.pem",
        "-days",
        "2",
        "-subj",
        "/CN=mx.example.jp",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
}

const EC: &[&str] = &[
    "genpkey",
    "-algorithm",
    "EC",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
];

/// Kept mail goes to a Maildir, the listener has `tls`, the relay is `relay_lines`.
fn settings(folder: &Path, tls: &str, relay_lines: &str) -> impl Fn(String) -> String {
    let (folder, tls, relay) = (
        folder.display().to_string(),
        tls.to_owned(),
        relay_lines.to_owned(),
    );
    move |text: String| {
        text.replace("      protocol: lmtp\n", &format!("      protocol: lmtp\n      tls: {tls}\n"))
            .replace(
                "mailboxes:\n",
                &format!("  tls: {{certificate_file: {folder}/mx.pem, key_file: {folder}/mx.key}}\nmailboxes:\n"),
            )
            .replace("method: lmtp", "method: maildir")
            .replace("\n  tls: none\n", &format!("\n{relay}"))
    }
}

fn trace_of(daemon: &Daemon, count: usize) -> Vec<String> {
    let folder = daemon.folder().join("mail/east.example.jp/taro/new");
    let files = eventually("the mail is in the Maildir", || {
        let files: Vec<_> = fs::read_dir(&folder).ok()?.flatten().collect();
        (files.len() == count).then_some(files)
    });
    let trace = |file: &fs::DirEntry| {
        let text = String::from_utf8_lossy(&fs::read(file.path()).unwrap()).replace("\n ", " ");
        let line = text.lines().find(|line| line.contains("(sekimori)"));
        line.unwrap_or_default().to_owned()
    };
    files.iter().map(trace).collect()
}

#[test]
fn postfix_hands_over_by_starttls() {
    let folder = open_folder();
    certificate(folder.path(), EC);
    let edit = settings(folder.path(), "starttls", "");
    let sekimori = Daemon::start_with(folder.path(), 9, 9, &edit, &[]);
    let more = "lmtp_tls_security_level = encrypt\nlmtp_tls_loglevel = 1\n";
    let postfix = Postfix::start_with(free_port(), folder.path(), sekimori.port, more);
    let id = postfix.send(ALICE, TARO, &english(TARO, "over TLS"));
    let reply = postfix.reply_of(&id, TARO);
    assert!(reply.contains("verdict=deliver"), "{reply}");
    let log = postfix.log();
    assert!(
        log.contains("TLS connection established to 127.0.0.1"),
        "{log}"
    );
    let trace = trace_of(&sekimori, 1);
    assert!(trace[0].contains(" with LMTPS "), "{trace:?}");
}

#[test]
fn openssl_is_served_with_every_kind_of_key() {
    let folder = open_folder();
    let rsa: &[&str] = &["genrsa", "-traditional"];
    let sec1: &[&str] = &["ecparam", "-name", "prime256v1", "-genkey", "-noout"];
    for (number, key) in [EC, rsa, sec1].into_iter().enumerate() {
        certificate(folder.path(), key);
        let edit = settings(folder.path(), "starttls", "");
        let sekimori = Daemon::start_with(folder.path(), 9, 9, &edit, &[]);
        let server = format!("127.0.0.1:{}", sekimori.port);
        for (version, served) in [("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
            let done = Command::new("/usr/bin/openssl")
                .args([
                    "s_client",
                    "-brief",
                    "-starttls",
                    "lmtp",
                    "-connect",
                    &server,
                ])
                .args([version, "-cipher", "DEFAULT@SECLEVEL=0"])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(
                said.contains("CONNECTION ESTABLISHED"),
                served,
                "{version} {said}"
            );
        }
        hand_over_by_openssl(&server, number);
        let trace = trace_of(&sekimori, number + 1);
        assert!(
            trace.iter().all(|line| line.contains(" with LMTPS ")),
            "{trace:?}"
        );
    }
}

fn hand_over_by_openssl(server: &str, number: usize) {
    let mut client = Command::new("/usr/bin/openssl")
        .args(["s_client", "-quiet", "-crlf", "-starttls", "lmtp"])
        .args(["-connect", server])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let talk = format!(
        "LHLO client.example.net\nMAIL FROM:<{ALICE}>\nRCPT TO:<{TARO}>\nDATA\nSubject: mail {number}\n\nHello.\n.\nQUIT\n"
    );
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(talk.as_bytes())
        .unwrap();
    let done = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("verdict=deliver"), "{said}");
}

/// A forward leaves by our own client, a notice by lettre; both only to a server that proves its name.
#[test]
fn postfix_takes_forwards_and_notices_over_verified_tls() {
    let folder = open_folder();
    certificate(folder.path(), EC);
    let pem = folder.path().join("mx.pem");
    let key = folder.path().join("mx.key");
    let more = format!(
        "smtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\nsmtpd_tls_security_level = encrypt\n\
         smtpd_tls_loglevel = 1\ndefault_transport = discard:\n",
        pem.display(),
        key.display()
    );
    let postfix = Postfix::start_with(free_port(), folder.path(), 9, &more);
    let edit = settings(folder.path(), "none", "  tls: starttls\n");
    let start = |roots: &Path| {
        let roots = [("SSL_CERT_FILE", roots.display().to_string())];
        Daemon::start_with(folder.path(), 9, postfix.port(), &edit, &roots)
    };
    let give = |sekimori: &Daemon, subject: &str| {
        sekimori.set_mailbox(
            TARO,
            "forwarding:\n  mode: all\n  all: {to: [bob@away.example.net], keep_copy: true}\nnotify: {to: [mobile@away.example.net]}\n",
        );
        sekimori.command(&["reload", "--wait"]);
        let to = [TARO.to_owned()];
        crate::lmtp::hand_over(sekimori.port, ALICE, &to, &english(TARO, subject));
    };

    // Nobody has told that this certificate is to be believed.
    certificate_of_nobody(folder.path());
    let stranger = start(&folder.path().join("nobody.pem"));
    give(&stranger, "to a stranger");
    eventually("both are put off", || {
        let queue = stranger.json(&["queue", "list"]);
        let tried = queue.iter().filter(|item| {
            item["attempts"].as_u64() > Some(0) && item["last_reply"].to_string().contains("451 4.")
        });
        (tried.count() == 2).then_some(())
    });
    assert!(
        !postfix.log().contains("away.example.net"),
        "{}",
        postfix.log()
    );
    drop(stranger);

    let sekimori = start(&pem);
    eventually("both have left", || {
        sekimori.json(&["queue", "list"]).is_empty().then_some(())
    });
    eventually("Postfix has both", || {
        let log = postfix.log();
        let has = |to: &str| log.contains(&format!("to=<{to}@away.example.net>"));
        (has("bob") && has("mobile")).then_some(())
    });
    let log = postfix.log();
    assert!(
        log.matches("TLS connection established from").count() >= 2,
        "{log}"
    );
}

fn certificate_of_nobody(folder: &Path) {
    run(Command::new("/usr/bin/openssl").current_dir(folder).args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "nobody.key",
        "-out",
        "nobody.pem",
        "-days",
        "2",
        "-subj",
        "/CN=nobody",
    ]));
}
