//! Memory: the peak of the real daemon (`VmHWM`) under many large and many slow mails.
//!
//! `limits.memory` and [`BESIDES`] bound it, whatever clients do. The short form runs with all
//! tests; a long one is named by `SEKIMORI_BOUNDS="CONNECTIONS MAIL_MIB MEMORY_MIB"`:
//!
//! ```text
//! SEKIMORI_BOUNDS="1000 50 256" cargo test --release --test bounds -- --nocapture --test-threads 1
//! ```
//!
//! `SEKIMORI_BOUNDS_CGROUP` names a cgroup (a folder with `cgroup.procs`) for the daemon to be put
//! into. While large mail comes in it lies on the disk: CONNECTIONS times MAIL_MIB at most.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking; not all of the harness is needed here"
)]

#[path = "../blackbox/harness.rs"]
mod harness;
#[path = "../blackbox/session.rs"]
mod session;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use harness::{Daemon, Site, TARO, mail};

/// What the process needs beside `limits.memory`, in MiB: itself, its threads, the index, buffers.
const BESIDES: u64 = 64;
/// Longer than a mail may wait for memory and be sent on.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Sizes {
    connections: usize,
    mail_mib: usize,
    memory_mib: u64,
}

impl Sizes {
    fn new() -> Self {
        let Ok(text) = std::env::var("SEKIMORI_BOUNDS") else {
            return Self {
                connections: 60,
                mail_mib: 4,
                memory_mib: 16,
            };
        };
        let numbers: Vec<usize> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        Self {
            connections: numbers[0],
            mail_mib: numbers[1],
            memory_mib: numbers[2] as u64,
        }
    }

    fn site(self) -> Site {
        let limits = format!(
            "limits: {{message_size: 64MiB, memory: {}MiB}}",
            self.memory_mib
        );
        let listener =
            "{name: lmtp, protocol: lmtp, listen: \"127.0.0.1:0\", clients: [127.0.0.0/8]";
        let places = self.connections + 10;
        Site::new()
            .with("limits: {message_size: 1MiB}", &limits)
            .with(
                &format!("{listener}}}"),
                &format!("{listener}, max_connections: {places}}}"),
            )
    }

    /// A daemon that hands all its mail to a hop which throws it away.
    fn start(self, hop: u16) -> Daemon {
        let to = format!("method: lmtp\n  lmtp: {{address: \"127.0.0.1:{hop}\"}}\n");
        into_cgroup(self.site().with("method: maildir\n", &to).start())
    }

    #[track_caller]
    fn check(self, what: &str, daemon: &Daemon) {
        let (peak, now) = (kib(daemon, "VmHWM:") / 1024, kib(daemon, "VmRSS:") / 1024);
        eprintln!("{what}: peak {peak} MiB, now {now} MiB; {self:?}");
        assert!(
            peak <= self.memory_mib + BESIDES,
            "{what}: {peak} MiB, {self:?}"
        );
    }
}

/// A line of the daemon's `status`.
fn kib(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn into_cgroup(daemon: Daemon) -> Daemon {
    if let Ok(group) = std::env::var("SEKIMORI_BOUNDS_CGROUP") {
        std::fs::write(format!("{group}/cgroup.procs"), daemon.pid().to_string()).unwrap();
    }
    daemon
}

/// An LMTP server for any number of clients that takes all mail and keeps none.
async fn hop() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_all(stream));
        }
    });
    port
}

async fn take_all(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    stream.write_all(b"220 hop\r\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let reply: &[u8] = match line.as_bytes() {
            b"DATA\r\n" => {
                stream.write_all(b"354 go\r\n").await?;
                throw_away_data(&mut stream).await?;
                b"250 2.0.0 gone\r\n"
            }
            _ => b"250 2.0.0 ok\r\n",
        };
        stream.write_all(reply).await?;
        line.clear();
    }
    Ok(())
}

async fn throw_away_data(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let mut end = Vec::new();
    while !end.ends_with(b"\r\n.\r\n") {
        let piece = stream.fill_buf().await?;
        let count = piece.len();
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        end.extend_from_slice(&piece[count.saturating_sub(5)..]);
        end.drain(..end.len().saturating_sub(5));
        stream.consume(count);
    }
    Ok(())
}

/// A client up to the `354`, and one octet of a header field.
async fn in_data(port: u16) -> BufReader<TcpStream> {
    let mut stream = greeted(port).await;
    let words = format!("LHLO a\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<{TARO}>\r\nDATA\r\n");
    stream.write_all(words.as_bytes()).await.unwrap();
    while !reply(&mut stream).await.starts_with("354") {}
    stream.write_all(b"X").await.unwrap();
    stream
}

async fn greeted(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = BufReader::with_capacity(512, stream);
    reply(&mut stream).await;
    stream
}

async fn reply(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    timeout(PATIENCE, stream.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    line
}

fn more_file_handles() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, all);
}

#[tokio::test]
async fn many_large_mails_at_once() {
    let sizes = Sizes::new();
    more_file_handles();
    let daemon = sizes.start(hop().await);
    let port = daemon.port("lmtp");
    let mut clients = JoinSet::new();
    for number in 0..sizes.connections {
        clients.spawn(async move {
            let mut stream = in_data(port).await;
            let start = format!("-Number: {number}\r\n\r\n");
            stream.write_all(start.as_bytes()).await.unwrap();
            let piece = format!("{}\r\n", "x".repeat(998)).repeat(64);
            for _ in 0..sizes.mail_mib * 1024 * 1024 / piece.len() {
                stream.write_all(piece.as_bytes()).await.unwrap();
            }
            stream.write_all(b".\r\n").await.unwrap();
            reply(&mut stream).await
        });
    }
    let mut replies: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(line) = clients.join_next().await {
        let line = line.unwrap();
        let word = line.get(..9).unwrap_or_default().to_owned();
        *replies.entry(word).or_default() += 1;
    }
    eprintln!("replies: {replies:?}");
    let served = replies.remove("250 2.0.0").unwrap_or_default();
    let put_off = replies.remove("452 4.3.1").unwrap_or_default();
    assert!(served > 0 && served + put_off == sizes.connections);
    sizes.check("large mails", &daemon);
}

/// Nobody waits for clients that say next to nothing, and they hold next to nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_clients() {
    let sizes = Sizes::new();
    more_file_handles();
    let daemon = sizes.start(hop().await);
    let port = daemon.port("lmtp");
    let mut streams = Vec::new();
    for number in 0..sizes.connections {
        streams.push(match number % 3 {
            0 => greeted(port).await,
            1 => in_data(port).await,
            _ => {
                let mut stream = in_data(port).await;
                stream.write_all(&vec![b'x'; 300 * 1024]).await.unwrap();
                stream
            }
        });
    }
    for _ in 0..20 {
        for stream in &mut streams {
            stream.write_all(b"N").await.unwrap();
        }
    }
    sizes.check("slow clients", &daemon);
    let served = tokio::task::spawn_blocking(move || {
        let answer = daemon.give("a@s.example", TARO, &mail("a@friend.example", "x"));
        assert_eq!(answer.verdict(), "deliver");
        daemon
    });
    let daemon = served.await.unwrap();
    for stream in &mut streams {
        let mut nothing = [0; 1];
        let said = timeout(Duration::ZERO, stream.read(&mut nothing)).await;
        assert!(said.is_err(), "nobody was cut off: {said:?}");
    }
    sizes.check("slow clients and a mail", &daemon);
}

/// A mail that lies in its file is read in pieces by whoever needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_of_50_mib_costs_at_most_8() {
    let sizes = Sizes {
        connections: 1,
        mail_mib: 50,
        memory_mib: 128,
    };
    let held =
        format!("version: 1\nmailbox: {TARO}\nreject: {{from_suffixes: [\"@friend.example\"]}}\n");
    let daemons = [
        ("a Maildir", sizes.site().start()),
        ("LMTP", sizes.start(hop().await)),
        ("quarantine", sizes.site().with_mailbox(TARO, &held).start()),
    ];
    let head = b"From: a@friend.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    let part = b"\r\n--b\r\nContent-Type: image/png\r\n\r\n".as_slice();
    let body = [part, &b"0123456789abcdef\r\n".repeat(1 << 18)].concat();
    let large = [head.as_slice(), &body.repeat(11), b"--b--\r\n"].concat();
    assert!(large.len() > 49 << 20);
    for (what, daemon) in daemons {
        let (what, large) = (what.to_owned(), large.clone());
        let given = tokio::task::spawn_blocking(move || {
            let small = mail("a@friend.example", "x");
            daemon.give("a@s.example", TARO, &small);
            let before = kib(&daemon, "VmHWM:");
            let answer = daemon.give("a@s.example", TARO, &large);
            assert!(answer.0.starts_with("250 2.0.0 "), "{what}: {}", answer.0);
            let grown = kib(&daemon, "VmHWM:") - before;
            eprintln!("{what}: {grown} KiB");
            assert!(grown <= 8 << 10, "{what}: {grown} KiB");
        });
        given.await.unwrap();
    }
}

/// One mail to many mailboxes is written by many at once, from the same octets.
#[test]
fn a_large_mail_to_many_mailboxes() {
    let sizes = Sizes::new();
    let daemon = into_cgroup(sizes.site().start());
    let names: Vec<String> = (0..20)
        .map(|n| format!("user{n}@east.example.jp"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let field = format!("X-Long: {}\r\n", "y ".repeat(490));
    let mut raw = mail("a@friend.example", "x");
    raw.splice(..0, field.repeat(4096).into_bytes());
    for answer in daemon.hand_over("a@s.example", &names, &raw) {
        assert_eq!(answer.verdict(), "deliver");
    }
    assert_eq!(daemon.mailbox(names[19]).len(), 1);
    sizes.check("many mailboxes", &daemon);
}
