//! Something else than the engine answers in its place: another engine, or nobody that it knows.

use crate::clamd::Clamd;
use crate::harness::TARO;
use crate::mails;
use crate::rspamd::Rspamd;
use crate::scene::{Between, Manner, Plan, clamd, rspamd, spamd};
use crate::spamd::Spamd;

/// A daemon of its own asks what is there on that port: `451`, and nothing else happens.
fn refused(name: &str, engine: &str, port: u16) {
    eprintln!("{name} for {engine}");
    let more = "on_error: tempfail";
    let settings = match engine {
        "clamd" => clamd(port, more),
        "rspamd" => rspamd(port, more),
        _ => spamd(port, more),
    }
    .replace("timeout: 20s", "timeout: 2s");
    let plan = match engine {
        "clamd" => Plan::new().virus(&settings),
        _ => Plan::new().spam(&settings),
    };
    let scene = plan.start();
    for raw in [mails::ham(), mails::infected(), mails::spam()] {
        let answer = scene.taro(&raw);
        assert!(
            answer.0.starts_with("451 4.3.0 "),
            "{name} for {engine}: {}",
            answer.0
        );
    }
    assert!(scene.mailbox(TARO).is_empty());
    assert!(scene.quarantine().is_empty());
}

#[test]
fn another_engine_answers() {
    let clamd = Clamd::start();
    let rspamd = Rspamd::start();
    let spamd = Spamd::start();
    let ports = [
        ("clamd", clamd.port),
        ("rspamd", rspamd.port),
        ("rspamd's controller", rspamd.controller),
        ("spamd", spamd.port),
    ];
    for engine in ["clamd", "rspamd", "spamd"] {
        for (name, port) in ports {
            // rspamd speaks spamd's protocol too: that is an answer.
            let understood = name == engine || (name == "rspamd" && engine == "spamd");
            if !understood {
                refused(name, engine, port);
            }
        }
    }
}

#[test]
fn garbage_answers() {
    let http = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
            body.len()
        )
    };
    let rows: Vec<(&str, &str, Vec<u8>)> = vec![
        ("clamd", "nothing", Vec::new()),
        ("clamd", "zeros", vec![0; 64]),
        ("clamd", "a long line", vec![b'A'; 1 << 20]),
        ("clamd", "half an answer", b"stream: O".to_vec()),
        ("clamd", "no name", b"stream:  FOUND\0".to_vec()),
        ("clamd", "other words", b"stream: MAYBE\0".to_vec()),
        (
            "clamd",
            "an error",
            b"INSTREAM: Can't allocate ERROR\0".to_vec(),
        ),
        ("rspamd", "nothing", Vec::new()),
        ("rspamd", "a long line", vec![b'A'; 1 << 20]),
        ("rspamd", "no JSON", http("<html>").into()),
        ("rspamd", "null", http("null").into()),
        (
            "rspamd",
            "no score",
            http("{\"action\":\"no action\"}").into(),
        ),
        (
            "rspamd",
            "a score beyond numbers",
            http("{\"action\":\"no action\",\"score\":1e999,\"required_score\":15}").into(),
        ),
        (
            "rspamd",
            "a score in words",
            http("{\"action\":\"no action\",\"score\":\"low\",\"required_score\":15}").into(),
        ),
        ("rspamd", "deep", http(&"[".repeat(200_000)).into()),
        (
            "rspamd",
            "less than announced",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        ),
        (
            "rspamd",
            "its own error",
            b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        ("spamd", "nothing", Vec::new()),
        ("spamd", "a long line", vec![b'A'; 1 << 20]),
        (
            "spamd",
            "an error",
            b"SPAMD/1.1 76 Bad header line\r\n\r\n".to_vec(),
        ),
        ("spamd", "no verdict", b"SPAMD/1.1 0 EX_OK\r\n\r\n".to_vec()),
        (
            "spamd",
            "neither yes nor no",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: Maybe ; 1.0 / 5.0\r\n\r\n".to_vec(),
        ),
        (
            "spamd",
            "no number",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; NaN / 5.0\r\n\r\n".to_vec(),
        ),
    ];
    for (engine, name, answer) in rows {
        let between = Between::start(Manner::Says(answer));
        refused(name, engine, between.port);
        assert!(between.connections() > 0, "{name}: {engine} was asked");
    }
}
