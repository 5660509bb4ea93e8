//! What befalls the process as a whole: no file handles, a clock that is set, a stop under load,
//! the service manager's watchdog, an MTA that hands the same mail over a hundred times.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{JIRO, PROGRAM, Site, TARO, eventually, mail};
use crate::hop::Hop;
use crate::scenario::{await_ready, give, log, queue};
use crate::session::Session;
use crate::sweep::attach;

const EVERYTHING: &str =
    "notify: {to: [mobile@else.example]}\nauto_reply: {enabled: true, message: away}\n";

/// A daemon that was started in a way of its own; killed with the value.
pub(crate) struct Running<'a> {
    site: &'a Site,
    child: Child,
}

impl<'a> Running<'a> {
    pub(crate) fn start(site: &'a Site, command: &mut Command) -> Self {
        let stderr = fs::File::create(site.path("stderr.log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        let mut running = Self {
            site,
            child: child.unwrap(),
        };
        let ready = await_ready(site, &mut running.child);
        assert!(ready.is_ok(), "{ready:?} {}", log(site));
        running
    }

    fn await_end(&mut self) -> Option<i32> {
        eventually("it ends", || self.child.try_wait().unwrap()).code()
    }

    pub(crate) fn session(&self) -> Session {
        Session::unix(&self.site.path("lmtp.sock"))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", log(self.site));
        }
    }
}

pub(crate) fn run(site: &Site) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg("--config")
        .arg(site.path("sekimori.yaml"))
        .arg("run");
    command
}

/// The same below another program.
fn run_under(site: &Site, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(PROGRAM);
    command
        .arg("--config")
        .arg(site.path("sekimori.yaml"))
        .arg("run");
    command
}

#[test]
fn connections_never_take_the_file_handles_that_the_store_needs() {
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    let running = Running::start(&site, &mut run_under(&site, &["prlimit", "--nofile=64"]));
    let raw = |n: usize| mail("a@friend.example", &format!("offer {n}"));
    let mut first = running.session();
    let socket = site.path("lmtp.sock");
    let crowd: Vec<UnixStream> = (0..200)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    // The last of them has been looked at when it has been told something.
    let told: Vec<String> = crowd.iter().map(first_words).collect();
    let turned_away = told
        .iter()
        .filter(|words| words.starts_with("421 "))
        .count();
    assert!(turned_away >= 150, "{turned_away} of 200 were told 421");
    let answers = first.hand_over("a@friend.example", &[TARO, JIRO], &raw(0));
    assert_eq!(answers[0].verdict(), "quarantine/reject.subject_contains");
    assert_eq!(answers[1].verdict(), "deliver");
    drop(crowd);
    eventually("there is a place again", || {
        let stream = UnixStream::connect(&socket).unwrap();
        first_words(&stream).starts_with("220").then_some(())
    });
    let answers = running
        .session()
        .hand_over("a@friend.example", &[TARO], &raw(1));
    assert_eq!(answers[0].verdict(), "quarantine/reject.subject_contains");
    let failed = log(&site).matches("cannot accept").count();
    assert_eq!(failed, 0, "accepts that failed");
    assert_eq!(site.one(&["store", "verify"])["problems"], json!([]));
    assert_eq!(site.json(&["quarantine", "list"]).len(), 2);
}

fn first_words(mut stream: &UnixStream) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut octets = [0; 100];
    let length = stream.read(&mut octets).unwrap();
    String::from_utf8_lossy(&octets[..length]).into_owned()
}

/// Where libfaketime reads how far the clock is off; it is read anew at each look at the clock.
pub(crate) fn faketime(command: &mut Command, file: &Path) -> bool {
    let library = Path::new("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    library.exists()
}

#[test]
fn a_clock_that_is_set_purges_nothing_early_and_repeats_no_reply() {
    // How far it jumps, whether it is said, replies to the same sender at the end.
    let rows = [
        ("-1d", false, 1),
        ("-1h", false, 1),
        ("+23h", false, 1),
        ("+8d", true, 2),
        ("+3650d", true, 2),
    ];
    for (jump, said, replies) in rows {
        let relay = Hop::smtp();
        let site = Site::new()
            .with_relay(relay.port)
            .with_mailbox(TARO, "reject: {subject_contains: [offer]}\n")
            .with_mailbox(JIRO, "auto_reply: {enabled: true, message: away}\n");
        site.write("clock", "+0");
        let mut command = run(&site);
        if !faketime(&mut command, &site.path("clock")) {
            return;
        }
        let running = Running::start(&site, &mut command);
        let raw = |n: u32| {
            let raw = mail("a@friend.example", &format!("offer {n}"));
            String::from_utf8(raw)
                .unwrap()
                .replace(TARO, JIRO)
                .into_bytes()
        };
        let give = |n| {
            let answers = running
                .session()
                .hand_over("a@friend.example", &[TARO, JIRO], &raw(n));
            assert_eq!(answers[0].verdict(), "quarantine/reject.subject_contains");
            assert_eq!(answers[1].verdict(), "deliver");
        };
        give(1);
        relay.await_mail("a@friend.example");
        site.write("clock", jump);
        if said {
            eventually("the jump is noticed", || {
                log(&site).contains("jumped ahead").then_some(())
            });
        }
        give(2);
        eventually("the queue is empty", || {
            (queue(&site) == Some(0)).then_some(())
        });
        assert_eq!(relay.mails().len(), replies, "{jump}");
        assert_eq!(site.json(&["quarantine", "list"]).len(), 2, "{jump}");
        site.write("clock", "+0");
        give(3);
        assert_eq!(
            site.json(&["quarantine", "list"]).len(),
            3,
            "{jump} and back"
        );
        assert!(!log(&site).contains("panicked"), "{jump}");
    }
}

#[test]
fn the_hours_of_a_change_to_and_from_summer_time_are_like_any_other() {
    for moment in ["@2026-03-29 01:59:58", "@2026-10-25 02:59:58"] {
        let site = Site::new()
            .with(
                "quarantine: {retention: 7d}",
                "quarantine: {retention: 7d, notice: {daily_at: \"02:30\", timezone: Europe/Berlin}}",
            )
            .with_mailbox(TARO, "spam: {scan: true, quarantine: true, notice: daily}\n");
        site.write("clock", moment);
        let mut command = run(&site);
        command.env("TZ", "Europe/Berlin");
        if !faketime(&mut command, &site.path("clock")) {
            return;
        }
        let running = Running::start(&site, &mut command);
        for n in 0..3 {
            let text =
                format!("From: a@friend.example\r\nSubject: {n}\r\nX-Spam-Flag: YES\r\n\r\nx\r\n");
            let answers =
                running
                    .session()
                    .hand_over("a@friend.example", &[TARO, JIRO], text.as_bytes());
            assert_eq!(answers[0].verdict(), "quarantine/spam");
            assert_eq!(answers[1].verdict(), "deliver");
        }
        assert_eq!(site.json(&["quarantine", "list"]).len(), 3);
        assert!(!log(&site).contains("panicked"), "{moment}");
    }
}

#[test]
fn a_stop_under_load_loses_and_doubles_nothing() {
    let relay = Hop::smtp();
    let mut daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(
            TARO,
            "forwarding: {mode: all, all: {to: [home@else.example], keep_copy: true}}\n",
        )
        .with_mailbox(JIRO, "reject: {subject_contains: [offer]}\n")
        .start();
    let mails: Vec<Vec<u8>> = (0..80)
        .map(|n| mail("a@friend.example", &format!("offer {n}")))
        .collect();
    let to = [TARO.to_owned(), JIRO.to_owned()];
    let (next, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let socket = daemon.path("lmtp.sock");
    let mut open: Vec<(usize, String)> = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut open = Vec::new();
                    while let Some(raw) = mails.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let mut replies = vec![None; to.len()];
                        let _ = give(&socket, "a@friend.example", &to, raw, &mut replies);
                        let place = mails.iter().position(|mail| mail == raw).unwrap();
                        for (address, reply) in to.iter().zip(replies) {
                            match reply {
                                Some(reply) if reply.starts_with('2') => {
                                    taken.fetch_add(1, Ordering::SeqCst);
                                }
                                Some(reply) if !reply.starts_with('4') => panic!("{reply}"),
                                _ => open.push((place, address.clone())),
                            }
                        }
                    }
                    open
                })
            })
            .collect();
        eventually("some mail is in", || {
            (taken.load(Ordering::SeqCst) >= 20).then_some(())
        });
        daemon.signal(Signal::TERM);
        for client in clients {
            open.extend(client.join().unwrap());
        }
    });
    assert_eq!(daemon.await_end().code(), Some(0));
    assert!(!open.is_empty(), "the stop came too late to be seen");
    daemon.start_again();
    for (place, address) in open {
        let answer = daemon.give("a@friend.example", &address, &mails[place]);
        assert!(answer.0.starts_with("250"), "{answer:?}");
    }
    daemon.await_empty_queue();
    assert_eq!(daemon.mailbox(TARO).len(), mails.len());
    assert_eq!(daemon.quarantine().len(), mails.len());
    assert_eq!(relay.mails().len(), mails.len());
}

#[test]
fn a_stop_does_not_wait_for_a_next_hop_that_hangs_longer_than_its_grace() {
    let hop = Hop::lmtp();
    hop.hang_at_end(TARO);
    let mut daemon = Site::new()
        .with(
            "  limits: {message_size: 1MiB}",
            "  timeouts: {shutdown_grace: 1s}\n  limits: {message_size: 1MiB}",
        )
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\", timeout: 5m}}\n",
                hop.port
            ),
        )
        .start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.transaction("a@s.example", &[TARO]);
    let raw = mail("a@friend.example", "x");
    session.data(&raw);
    eventually("the hop has it", || (hop.connections() > 0).then_some(()));
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.await_end().code(), Some(0));
    hop.relent();
    daemon.start_again();
    assert_eq!(daemon.give("a@s.example", TARO, &raw).verdict(), "deliver");
    assert_eq!(hop.mails_to(TARO).len(), 1);
}

/// Regression: a thread of the reactor that waited for the disk had been woken by the events that it was the
/// only one to ask for, and the others slept on.
#[test]
fn a_disk_that_hangs_does_not_make_the_daemon_mute() {
    // A mailbox that is known is looked up on the reactor.
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    let daemon = site.start();
    daemon.give("a@s.example", TARO, &mail("a@friend.example", "before"));
    // Of a mail that is read the slot in `state/reading` is written first, on the reactor.
    let hanging = [
        "-e",
        "trace=pwrite64",
        "-e",
        "inject=pwrite64:delay_enter=60s",
    ];
    let mut tracer = attach(&daemon.site, daemon.pid(), &hanging);
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.transaction("a@s.example", &[TARO]);
    session.data(&mail("a@friend.example", "meanwhile"));
    let mut stopped = 0;
    eventually("a thread waits for the disk", || {
        stopped = if hangs(daemon.pid()) { stopped + 1 } else { 0 };
        (stopped == 10).then_some(())
    });
    assert!(daemon.lmtp().greeting.starts_with("220"));
    daemon.site.cli(&["status"]).success();
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    assert!(session.reply().starts_with("250"));
}

/// Whether a thread that takes mail is held by its tracer.
fn hangs(daemon: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
    tasks.flatten().any(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.contains("(tokio-rt-worker) t ")
    })
}

#[test]
fn the_watchdog_is_fed_until_the_store_has_failed() {
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    let manager = UnixDatagram::bind(site.path("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // From the twentieth on: the start has fewer.
    let mut command = run_under(
        &site,
        &[
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:error=EIO:when=20+",
        ],
    );
    command
        .env("NOTIFY_SOCKET", site.path("notify"))
        .env("WATCHDOG_USEC", "400000");
    let mut running = Running::start(&site, &mut command);
    let heard = || {
        let mut octets = [0; 200];
        let length = manager.recv(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..length]).trim().to_owned()
    };
    assert_eq!(heard(), "READY=1");
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    let mut put_off = None;
    for n in 0..30 {
        let raw = mail("a@friend.example", &format!("offer {n}"));
        let mut replies = [None];
        let to = [TARO.to_owned()];
        let _ = give(
            &site.path("lmtp.sock"),
            "a@friend.example",
            &to,
            &raw,
            &mut replies,
        );
        put_off = replies[0].take();
        if put_off.as_ref().is_none_or(|reply| reply.starts_with('4')) {
            break;
        }
    }
    let put_off = put_off.expect("an answer");
    assert!(put_off.starts_with("451 4.3.0"), "{put_off}");
    let mut word = heard();
    while word == "WATCHDOG=1" {
        word = heard();
    }
    assert_eq!(word, "STOPPING=1");
    assert_eq!(running.await_end(), Some(74));
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 200]).is_err(), "fed after its end");
}

#[test]
fn an_mta_that_hands_the_same_mail_over_a_hundred_times_is_served_once() {
    let relay = Hop::smtp();
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, EVERYTHING)
        .start();
    let raw = mail("a@friend.example", "x");
    let ids: HashSet<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|n| {
                let (daemon, raw) = (&daemon, &raw);
                scope.spawn(move || match n % 2 {
                    0 => daemon.give("a@friend.example", TARO, raw).id(),
                    _ => daemon.smtp().submit("a@friend.example", &[TARO], raw).id(),
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(ids.len(), 1);
    let mut session = daemon.lmtp();
    for _ in 0..100 {
        let answers = session.hand_over("a@friend.example", &[TARO], &raw);
        assert!(ids.contains(&answers[0].id()));
    }
    daemon.await_empty_queue();
    assert_eq!(daemon.mailbox(TARO).len(), 1);
    assert_eq!(relay.mails_to("mobile@else.example").len(), 1);
    assert_eq!(relay.mails_to("a@friend.example").len(), 1);
}
