//! What a why-record costs, and how long a replay of 100,000 of them takes. It runs the built
//! program: mails over LMTP into Maildirs, then a store of as many decisions as a busy mailbox makes
//! in a week, copied from theirs.
//!
//! `cargo bench --bench history` prints a table; nothing is compared and nothing fails by time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is not shipped"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sekimori::store::{
    Answer, Batch, FactsRecord, Handoff, HandoffKey, HistoryFilter, Id, MailDigest, Settings,
    Store, WhyRecord,
};

const TARO: &str = "taro@east.example.jp";
/// Mails over LMTP.
const MAILS: u32 = 3000;
/// Decisions of one mailbox in the store that is replayed.
const DECISIONS: u32 = 100_000;
/// Of others beside them.
const OTHERS: u32 = 20_000;
const BODY_LINES: usize = 60;

const SETTINGS: &str = r#"version: 1
server:
  default_domain: east.example.jp
  listeners:
    - {name: lmtp, protocol: lmtp, listen: "127.0.0.1:0", clients: [127.0.0.0/8]}
mailboxes: {dir: mailboxes, unknown: accept}
delivery:
  method: maildir
  maildir: {path: "mail/%{domain}/%{localpart}", fsync: false}
relay: {host: 127.0.0.1, port: 9, from: mailer-daemon@example.jp}
scanners:
  virus: {engine: upstream, upstream: {header: X-Virus-Status, infected: Infected}}
  spam: {engine: upstream, upstream: {header: X-Spam-Flag, spam: "YES"}}
store: {path: state}
logging: {target: stderr, format: logfmt, level: warn}
control: {socket: control.sock}
"#;

fn main() {
    let site = tempfile::tempdir().unwrap();
    let site = site.path();
    fs::create_dir_all(site.join("mailboxes/east.example.jp")).unwrap();
    let rules = "version: 1\nreject: {subject_contains: [未承諾広告, \"[spam]\"]}\n";
    fs::write(site.join("mailboxes/east.example.jp/taro.yaml"), rules).unwrap();
    let settings = SETTINGS.replace("level: warn", "level: info");
    fs::write(site.join("sekimori.yaml"), settings).unwrap();
    let (whys, facts) = hand_over(site);
    sizes(&whys[0], &facts[0]);
    fs::remove_dir_all(site.join("state")).unwrap();
    fill(site, &whys, &facts);
    fs::write(site.join("sekimori.yaml"), SETTINGS).unwrap();
    replay(site);
}

/// Mails through the daemon; what it recorded of them.
fn hand_over(site: &Path) -> (Vec<WhyRecord>, Vec<FactsRecord>) {
    let (daemon, log) = start(site);
    let port = log
        .lines()
        .find_map(|line| line.split("address=127.0.0.1:").nth(1));
    let port: u16 = port.unwrap().trim().parse().unwrap();
    let mut lmtp = Lmtp::connect(port);
    let before = daemon.cpu();
    let begun = Instant::now();
    for number in 0..MAILS {
        lmtp.give(&mail(number));
    }
    let (wall, cpu) = (begun.elapsed(), daemon.cpu() - before);
    let each = cpu.as_secs_f64() * 1e6 / f64::from(MAILS);
    println!(
        "a mail of {} octets over LMTP into a Maildir:",
        mail(0).len()
    );
    println!(
        "  {:.0} mails/s, {each:.0} µs of processor time each",
        f64::from(MAILS) / wall.as_secs_f64()
    );
    drop(daemon);
    let store = open(site);
    let whys: Vec<WhyRecord> = store
        .history_list(HistoryFilter::default())
        .map(Result::unwrap)
        .collect();
    let facts: Vec<FactsRecord> = store.facts_list(TARO, None).map(Result::unwrap).collect();
    assert_eq!((whys.len(), facts.len()), (MAILS as usize, MAILS as usize));
    (whys, facts)
}

/// Octets of one mail's values and keys in the index.
fn sizes(why: &WhyRecord, facts: &FactsRecord) {
    const SEAL: usize = 5;
    let octets = |json: Vec<u8>, key: usize| json.len() + SEAL + key;
    let rows = [
        ("why-record", octets(serde_json::to_vec(why).unwrap(), 27)),
        ("facts", octets(serde_json::to_vec(facts).unwrap(), 43)),
        (
            "hand-off",
            octets(serde_json::to_vec(&handoff(why.id)).unwrap(), 41),
        ),
    ];
    println!("octets of one kept mail in the index:");
    for (name, octets) in rows {
        println!("  {name:24} {octets}");
    }
    println!(
        "  {:24} {}",
        "together",
        rows.iter().map(|row| row.1).sum::<usize>()
    );
}

/// A store with a busy week, written as the daemon writes it; with why-records and facts, and once
/// without, to see what they cost.
fn fill(site: &Path, whys: &[WhyRecord], facts: &[FactsRecord]) {
    let mut cost = [Duration::ZERO; 2];
    let mut disk = [0; 2];
    for (round, with) in [false, true].into_iter().enumerate() {
        let _ = fs::remove_dir_all(site.join("state"));
        let store = open(site);
        let before = cpu_of("self");
        for number in 0..DECISIONS + OTHERS {
            let at = number as usize % whys.len();
            let now = jiff::Timestamp::now().as_millisecond() - 3_600_000 + i64::from(number);
            let id = Id::new(now);
            let mailbox = match number < DECISIONS {
                true => TARO.to_owned(),
                false => format!("m{number}@east.example.jp"),
            };
            let mut batch = Batch::new();
            let digest = MailDigest::of(&number.to_be_bytes());
            batch.put_handoff(&HandoffKey::new(&mailbox, "", &digest), &handoff(id));
            if with {
                let mut body = whys[at].body.clone();
                body["id"] = id.as_str().into();
                let why = WhyRecord {
                    id,
                    mailbox,
                    received_at: now,
                    body,
                };
                let facts = FactsRecord {
                    id,
                    ..facts[at].clone()
                };
                batch.put_decision(&why, &facts);
            }
            // Waited for now and then, as nothing may be left out.
            match number % 256 {
                0 => store.commit_blocking(batch).unwrap(),
                _ => store.submit(batch),
            }
        }
        drop(store);
        cost[round] = cpu_of("self") - before;
        disk[round] = octets_below(&site.join("state/index"));
    }
    let count = f64::from(DECISIONS + OTHERS);
    let each = |at: usize| cost[at].as_secs_f64() * 1e6 / count;
    println!("writing to the index, processor time and disk for each mail:");
    println!(
        "  hand-off alone           {:.0} µs, {} octets",
        each(0),
        disk[0] as f64 / count
    );
    println!(
        "  with why-record, facts   {:.0} µs, {} octets",
        each(1),
        disk[1] as f64 / count
    );
}

/// `replay` of 100,000 decisions, as a user calls it.
fn replay(site: &Path) {
    let begun = Instant::now();
    let (daemon, _) = start(site);
    println!(
        "start on {} decisions: {:.2} s",
        DECISIONS + OTHERS,
        begun.elapsed().as_secs_f64()
    );
    let entries: String = (0..1000).map(|n| format!("    word{n} never\n")).collect();
    let draft = format!("version: 1\nreject:\n  subject_contains: |\n{entries}    請求書 7\n");
    fs::write(site.join("draft.yaml"), draft).unwrap();
    for (name, json) in [("text", false), ("--json", true)] {
        let mut best = (Duration::MAX, Duration::ZERO);
        let mut lines = 0;
        for _ in 0..5 {
            let before = daemon.cpu();
            let begun = Instant::now();
            let mut command = program(site);
            command
                .args(["replay", "--mailbox", TARO, "--draft"])
                .arg(site.join("draft.yaml"));
            command
                .args(json.then_some("--json"))
                .stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            lines = 0;
            while out.read_line(&mut line).unwrap() > 0 {
                lines += 1;
                if lines == 1 && !json {
                    assert!(line.ends_with(&format!(" {DECISIONS}\n")), "{line}");
                }
                line.clear();
            }
            assert!(child.wait().unwrap().success());
            best = best.min((begun.elapsed(), daemon.cpu() - before));
        }
        println!(
            "replay of {DECISIONS} decisions, {name}: {:.2} s at best of 5 ({:.2} s of it the daemon's processor time), {lines} lines",
            best.0.as_secs_f64(),
            best.1.as_secs_f64()
        );
    }
}

fn handoff(id: Id) -> Handoff {
    Handoff {
        answer: Answer {
            id,
            verdict: "deliver".to_owned(),
            stage: None,
        },
        outgoing: Vec::new(),
        quarantine: None,
        created_at: id.millis(),
    }
}

/// Every tenth is an advertisement that is held.
fn mail(number: u32) -> Vec<u8> {
    let subject = match number % 10 {
        0 => "=?UTF-8?B?5pyq5om/6Kv+5bqD5ZGK?= special price".to_owned(),
        _ => format!("=?UTF-8?B?6KuL5rGC5pu4?= {number} for your order of last week"),
    };
    let header = format!(
        "Received: by mta.example.net id {number}; Sun, 22 Nov 2026 09:00:00 +0900\r\n\
         From: =?UTF-8?B?5bGx55Sw5aSq6YOO?= <sales{number}@shop.example>\r\nTo: {TARO}\r\n\
         Subject: {subject}\r\nMessage-ID: <{number}.1700000000@mail.shop.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    let line = "The quick brown fox jumps over the lazy dog, and again over the dog.\r\n";
    format!("{header}{}", line.repeat(BODY_LINES)).into_bytes()
}

struct Lmtp(BufReader<TcpStream>);

impl Lmtp {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut lmtp = Self(BufReader::new(stream));
        lmtp.reply("220");
        lmtp.say("LHLO bench.example\r\n");
        lmtp.reply("250");
        lmtp
    }

    fn give(&mut self, mail: &[u8]) {
        self.say(&format!(
            "MAIL FROM:<sales@shop.example>\r\nRCPT TO:<{TARO}>\r\nDATA\r\n"
        ));
        for code in ["250", "250", "354"] {
            self.reply(code);
        }
        self.0.get_mut().write_all(mail).unwrap();
        self.say(".\r\n");
        self.reply("250");
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn reply(&mut self, code: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            assert!(line.starts_with(code), "{line}");
            if !line[3..].starts_with('-') {
                return;
            }
        }
    }
}

/// A running daemon; it is ended with the value.
struct Daemon(Child);

impl Daemon {
    fn cpu(&self) -> Duration {
        cpu_of(&self.0.id().to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        self.0.wait().unwrap();
    }
}

fn program(site: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekimori"));
    command.arg("--config").arg(site.join("sekimori.yaml"));
    command
}

fn start(site: &Path) -> (Daemon, String) {
    let path: PathBuf = site.join("stderr.log");
    let log = fs::File::create(&path).unwrap();
    let child = program(site).arg("run").stderr(log).spawn().unwrap();
    let mut daemon = Daemon(child);
    loop {
        let text = fs::read_to_string(&path).unwrap();
        if text.lines().any(|line| line == "ready") {
            return (daemon, text);
        }
        assert!(daemon.0.try_wait().unwrap().is_none(), "{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open(site: &Path) -> Store {
    let settings = Settings {
        path: site.join("state"),
        quarantine_max_bytes: 1 << 30,
        history_retention_ms: 7 * 86_400_000,
    };
    Store::open(settings, jiff::Timestamp::now().as_millisecond()).unwrap()
}

/// Processor time of a process so far, user and system.
fn cpu_of(pid: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let ticks = rest.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|number| number.parse::<u64>().unwrap()).sum();
    // Linux has 100 in a second, whatever its clock.
    Duration::from_millis(ticks * 10)
}

fn octets_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let octets = entries.map(|entry| match entry.path().is_dir() {
        true => octets_below(&entry.path()),
        false => entry.metadata().unwrap().len(),
    });
    octets.sum()
}
