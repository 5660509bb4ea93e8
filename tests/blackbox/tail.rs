//! `tail`: decisions as they are made.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Daemon, JIRO, PROGRAM, Site, TARO, eventually, mail};

const RULES: &str = "reject: {subject_contains: [offer]}\n";

/// A running `tail --json`; it is killed with the value.
struct Tail {
    child: Child,
    lines: Receiver<Value>,
}

impl Tail {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("--config")
            .arg(daemon.path("sekimori.yaml"))
            .args(["tail", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn give(daemon: &Daemon, to: &str, subject: &str) -> String {
    daemon
        .give("a@s.example", to, &mail("a@s.example", subject))
        .id()
}

#[test]
fn new_mail_is_seen_and_only_what_was_asked_for() {
    let mut daemon = Site::new()
        .with_mailbox(TARO, RULES)
        .with_mailbox(JIRO, RULES)
        .start();
    let before = give(&daemon, TARO, "offer before");
    let all = Tail::start(&daemon, &[]);
    let held = Tail::start(
        &daemon,
        &["--mailbox", TARO, "--stage", "reject.subject_contains"],
    );
    // Nobody says when a tail has begun: mail is given until both have seen one.
    let first = |tail: &Tail| {
        eventually("a first record", || {
            give(&daemon, TARO, "offer");
            tail.lines.recv_timeout(Duration::from_millis(50)).ok()
        })
    };
    let seen = [first(&all), first(&held)];
    assert!(seen.iter().all(|why| why["id"] != before.as_str()));
    give(&daemon, JIRO, "offer");
    let passed = give(&daemon, TARO, "hello");
    let last = give(&daemon, TARO, "offer last");
    let mut others = 0;
    loop {
        let why = held.next();
        assert_eq!(
            (&why["mailbox"], &why["verdict"]),
            (&TARO.into(), &"quarantine".into())
        );
        if why["id"] == last.as_str() {
            break;
        }
    }
    loop {
        let why = all.next();
        others += u32::from(why["mailbox"] == JIRO || why["id"] == passed.as_str());
        if why["id"] == last.as_str() {
            break;
        }
    }
    assert_eq!(others, 2);
    // A tail does not hold up a stop, and ends with it.
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.await_end().success());
    let mut all = all;
    let ended = eventually("tail ends", || all.child.try_wait().unwrap());
    assert!(matches!(ended.code(), Some(69 | 74)), "{ended}");
}

#[test]
fn what_comes_behind_the_head_of_the_answer_is_in_it() {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let mut stream = UnixStream::connect(daemon.path("control.sock")).unwrap();
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).unwrap();
    stream
        .write_all(b"GET /v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.is_empty()), "no head");
    let id = give(&daemon, TARO, "hello");
    assert!(lines.any(|line| line.contains(&id)));
}
