//! Hostile and odd clients and mails: a defined reply, no growth, no loss.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Done, JIRO, PROGRAM, Site, TARO, crlf, eventually, files_below, mail};
use crate::hop::Hop;

#[test]
fn a_client_that_leaves_in_the_middle_of_the_data_leaves_nothing() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.transaction("a@s.example", &[TARO]);
    session.send(b"From: a@friend.example\r\nSubject: x\r\n\r\nhalf");
    drop(session);
    assert_eq!(
        daemon
            .give("a@s.example", JIRO, &mail("a@friend.example", "x"))
            .verdict(),
        "deliver"
    );
    assert!(daemon.mailbox(TARO).is_empty());
    assert!(daemon.quarantine().is_empty());
}

#[test]
fn memory_is_managed_as_malloc_c_says() {
    let settings = include_str!("../../src/malloc.c");
    let text: String = settings.split('"').skip(1).step_by(2).collect();
    let mut program = Command::new(PROGRAM);
    let program = program
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true");
    let told = Done::of(program, b"").success().stderr;
    for (name, value) in text.split(',').map(|one| one.split_once(':').unwrap()) {
        // It is told as what it makes.
        let (name, value) = match name {
            "lg_tcache_max" => (
                "tcache_max",
                (1 << value.parse::<u32>().unwrap()).to_string(),
            ),
            name => (name, value.to_owned()),
        };
        let line = format!("opt.{name}: {value}");
        assert!(
            told.lines()
                .any(|told| told.trim().split(" (").next() == Some(&line)),
            "{line}: {told}"
        );
    }
}

#[test]
fn a_thousand_recipients_in_one_mail() {
    let daemon = Site::new().start();
    let names: Vec<String> = (0..1000)
        .map(|n| format!("user{n}@east.example.jp"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answers = daemon.hand_over("a@s.example", &names, &mail("a@friend.example", "x"));
    for (answer, name) in answers.iter().zip(&names) {
        assert!(
            answer.0.starts_with(&format!("250 2.0.0 <{name}> q=")),
            "{}",
            answer.0
        );
    }
    assert_eq!(daemon.mailbox(names[999]).len(), 1);
}

#[test]
fn a_long_subject_is_held_for_a_thousand_recipients() {
    let daemon = Site::new()
        .with(
            "  unknown: accept",
            "  unknown: accept\n  defaults: {reject: {subject_contains: [offer]}}",
        )
        .start();
    let names: Vec<String> = (0..1000)
        .map(|n| format!("user{n}@east.example.jp"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let subject = "offer".to_owned() + &"\n long words".repeat(1000);
    let raw = mail("a@friend.example", &subject);
    let answers = daemon.hand_over("a@s.example", &names, &raw);
    assert_eq!(answers.len(), names.len());
    for answer in &answers {
        assert_eq!(answer.verdict(), "quarantine/reject.subject_contains");
    }
    let held = daemon.quarantine();
    assert_eq!(held.len(), names.len());
    let [first, last] = [0, 999].map(|at| held[at]["id"].as_str().unwrap());
    let bodies = [first, last].map(|id| daemon.cli(&["quarantine", "export", id]).success().stdout);
    assert_eq!(bodies, [raw.clone(), raw]);
}

#[test]
fn each_limit_has_its_reply() {
    let daemon = Site::new()
        .with(
            "limits: {message_size: 1MiB}",
            "limits: {message_size: 64KiB, memory: 32KiB, recipients: 2, errors: 3}",
        )
        .start();
    let warned = daemon.cli(&["check"]).success();
    assert!(warned.text().contains("warning[memory]"), "{warned:?}");
    daemon.cli(&["check", "--deny-warnings"]).exit(1);

    let of_kib =
        |kib: usize| [mail("a@friend.example", "x"), crlf("y\n").repeat(kib * 342)].concat();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example> SIZE=65537", "552 5.3.4");
    session.expect("MAIL FROM:<a@s.example> SIZE=32769", "452 4.3.1");
    for (kib, reply) in [(70, "452 4.3.1"), (40, "452 4.3.1"), (20, "250 2.0.0")] {
        session.expect("MAIL FROM:<a@s.example>", "250");
        session.expect(&format!("RCPT TO:<{TARO}>"), "250");
        session.expect(&format!("RCPT TO:<{JIRO}>"), "250");
        session.expect("RCPT TO:<third@east.example.jp>", "452 4.5.3");
        session.expect("DATA", "354");
        session.data(&of_kib(kib));
        for _ in 0..2 {
            let said = session.reply();
            assert!(said.starts_with(reply), "{kib} KiB: {said}");
        }
    }
    for _ in 0..2 {
        session.expect("XYZZY", "500 5.5.");
    }
    session.expect("XYZZY", "500 5.5.");
    assert!(session.reply().starts_with("421 4.7.0"));

    let mut session = daemon.smtp();
    for _ in 0..100 {
        session.expect("NOOP", "250");
    }
    assert!(session.reply().starts_with("421 4.7.0"));
    assert_eq!(daemon.mailbox(TARO).len(), 1);
}

#[test]
fn any_octets_are_a_mail() {
    let daemon = Site::new()
        .with_mailbox(TARO, "reject: {subject_contains: [offer], from_suffixes: [\"@spam.example\"]}\nforwarding:\n  mode: rules\n  rules:\n    - {attachment: true, to: [x@else.example], keep_copy: true}\n")
        .start();
    let nested = "(".repeat(200_000);
    let groups = "a:".repeat(100_000);
    let addresses = "a@b.example, ".repeat(60_000);
    for raw in [
        Vec::new(),
        b"\r\n".to_vec(),
        b"\0\0\0\r\n".to_vec(),
        b"no header at all\r\n".to_vec(),
        b": \r\n: \r\n\r\n".to_vec(),
        b" folded first\r\nSubject: x\r\n\r\n".to_vec(),
        format!("From: {nested}\r\n\r\n").into_bytes(),
        format!("From: {groups}\r\nSubject: x\r\n\r\n").into_bytes(),
        format!("From: {addresses}\r\nSubject: x\r\n\r\n").into_bytes(),
        format!("Subject: {}\r\n\r\n", "=?UTF-8?B?5pyq?= ".repeat(50_000)).into_bytes(),
        format!("X: y\r\n{}\r\n", "A: b\r\n".repeat(150_000)).into_bytes(),
        format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
            "--b\r\n\r\n".repeat(100_000)
        )
        .into_bytes(),
        format!(
            "Content-Type: text/plain{}\r\n\r\n",
            "; a=b".repeat(180_000)
        )
        .into_bytes(),
        [b"Subject: ".as_slice(), &[0xff; 900_000], b"\r\n\r\n"].concat(),
    ] {
        let begun = Instant::now();
        let answer = daemon.give("a@s.example", TARO, &raw);
        let shown = String::from_utf8_lossy(&raw[..raw.len().min(40)]).into_owned();
        assert!(
            answer.0.starts_with("250 2.0.0 "),
            "{shown:?}: {}",
            answer.0
        );
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{shown:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn no_more_connections_than_the_limit() {
    let daemon = Site::new()
        .with(
            "{name: lmtp, protocol: lmtp, listen: \"127.0.0.1:0\", clients: [127.0.0.0/8]}",
            "{name: lmtp, protocol: lmtp, listen: \"127.0.0.1:0\", clients: [127.0.0.0/8], max_connections: 2}",
        )
        .start();
    let mut first = daemon.lmtp();
    let second = daemon.lmtp();
    let mut others = Vec::new();
    // The next ones are put off or wait; they do not get a session.
    let port = daemon.port("lmtp");
    for _ in 0..3 {
        others.push(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    first.expect("LHLO mta.example.net", "250");
    drop((second, others));
    eventually("a place is free again", || {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).ok()?;
        line.starts_with("220").then_some(())
    });
}

#[test]
fn long_lines_are_refused_as_commands_and_carried_as_data() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    let reply = session.command(&format!("NOOP {}", "x".repeat(20_000)));
    assert!(reply.starts_with("500 5.5."), "{reply}");
    session.expect("LHLO mta.example.net", "250");
    session.transaction("a@s.example", &[TARO]);
    let raw = crlf(&format!(
        "From: a@friend.example\nSubject: x\n\n{}\n",
        "y".repeat(500_000)
    ));
    session.data(&raw);
    assert!(session.reply().starts_with("250 2.0.0"));
    assert!(
        daemon
            .await_mail(TARO)
            .ends_with(&[b"y".repeat(500_000), b"\n".to_vec()].concat())
    );
}

#[test]
fn many_sessions_at_once() {
    let daemon = Site::new().start();
    std::thread::scope(|scope| {
        for worker in 0..20 {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut session = daemon.lmtp();
                for n in 0..5 {
                    let raw = mail("a@friend.example", &format!("{worker}.{n}"));
                    let answers = session.hand_over("a@s.example", &[TARO], &raw);
                    assert_eq!(answers[0].verdict(), "deliver");
                }
            });
        }
    });
    assert_eq!(daemon.mailbox(TARO).len(), 100);
    assert!(files_below(&daemon.path("mail/east.example.jp/taro/tmp")).is_empty());
}

#[test]
fn smtp_never_answers_250_for_a_mail_that_a_recipient_did_not_get() {
    let hop = Hop::lmtp();
    hop.at_rcpt(JIRO, "550 5.1.1 no such user");
    let daemon = Site::new()
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\"}}\n",
                hop.port
            ),
        )
        .start();
    let answer = daemon
        .smtp()
        .submit("a@s.example", &[TARO, JIRO], &mail("a@friend.example", "x"));
    let held = daemon.quarantine();
    let lost = answer.0.starts_with('2') && held.is_empty() && daemon.queue().is_empty();
    assert!(!lost, "{}", answer.0);
}
