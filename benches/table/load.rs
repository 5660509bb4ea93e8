//! Sends one mail over and over, by LMTP or SMTP, over many connections, and measures how long each
//! takes from `MAIL` to the last reply. Prints one line of JSON.
//!
//! Closed loop: each connection sends the next mail when the last is answered. Open loop (`--rate`):
//! mails are due at fixed times, and one that had to wait for a free connection is measured from
//! when it was due.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::LocalSet;

use crate::Options;
use crate::histogram::Histogram;

/// Sixteen of it in the mail are replaced by a number of its own, that no two mails are equal.
const TOKEN: &[u8] = b"XXXXXXXXXXXXXXXX";
const DOMAIN: &str = "test.example";
/// Trouble that is told, where `--told` says nothing else.
const TOLD: u64 = 5;
/// Trouble after which it gives up.
const TOO_MUCH: u64 = 1000;

struct Settings {
    port: u16,
    lmtp: bool,
    users: u64,
    first_user: u64,
    recipients: u64,
    mails: u64,
    /// Mails a second; 0 = as they are answered.
    rate: f64,
    ends: Instant,
    began: Instant,
    seed: u64,
    told: u64,
    pieces: Vec<Piece>,
}

enum Piece {
    Octets(Vec<u8>),
    Token,
}

struct Counts {
    begun: u64,
    ok: u64,
    temporary: u64,
    permanent: u64,
    broken: u64,
    times: Histogram,
    last_ok: Option<Instant>,
    first_ok: Option<Instant>,
    longest_gap: Duration,
    /// A word in a final reply and how often it came.
    word: String,
    with_word: u64,
}

type Shared = Rc<(Settings, RefCell<Counts>)>;

pub(crate) fn run(options: &Options) {
    let began = Instant::now();
    let seconds: f64 = options.number("seconds", 1e6);
    let mail = std::fs::read(options.text("mail").unwrap()).unwrap();
    let settings = Settings {
        port: options.number("port", 0),
        lmtp: options.text("protocol") != Some("SMTP"),
        users: options.number("users", 100),
        first_user: options.number("first", 0),
        recipients: options.number("recipients", 1),
        mails: options.number("mails", u64::MAX),
        rate: options.number("rate", 0.0),
        ends: began + Duration::from_secs_f64(seconds),
        began,
        seed: options.number("seed", u64::from(std::process::id()) << 32),
        told: options.number("told", TOLD),
        pieces: pieces(&mail),
    };
    let counts = Counts {
        begun: 0,
        ok: 0,
        temporary: 0,
        permanent: 0,
        broken: 0,
        times: Histogram::new(),
        last_ok: None,
        first_ok: None,
        longest_gap: Duration::ZERO,
        word: options
            .text("word")
            .unwrap_or("verdict=quarantine")
            .to_owned(),
        with_word: 0,
    };
    let shared: Shared = Rc::new((settings, RefCell::new(counts)));
    let connections: usize = options.number("connections", 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let local = LocalSet::new();
    local.block_on(&runtime.unwrap(), async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| tokio::task::spawn_local(connection(shared.clone())))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    println!("{}", told(&shared.1.borrow(), began.elapsed()));
}

fn told(counts: &Counts, elapsed: Duration) -> serde_json::Value {
    // From the first answer to the last: neither the connecting nor the silence after the end.
    let answering = match (counts.first_ok, counts.last_ok) {
        (Some(first), Some(last)) if counts.ok > 1 => last - first,
        _ => elapsed,
    };
    let quantile = |part| counts.times.quantile_ms(part);
    json!({
        "ok": counts.ok, "temporary": counts.temporary, "permanent": counts.permanent,
        "broken": counts.broken, "with_word": counts.with_word,
        "elapsed": elapsed.as_secs_f64(),
        "rate": counts.ok.saturating_sub(1) as f64 / answering.as_secs_f64().max(1e-9),
        "p50_ms": quantile(0.5), "p90_ms": quantile(0.9), "p99_ms": quantile(0.99),
        "p999_ms": quantile(0.999), "longest_ms": counts.times.longest_ms(),
        "longest_gap_ms": counts.longest_gap.as_secs_f64() * 1000.0,
    })
}

/// CRLF line ends, dots doubled, the end of the data; cut at the tokens.
fn pieces(mail: &[u8]) -> Vec<Piece> {
    let mut wire = Vec::with_capacity(mail.len() + mail.len() / 32);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        wire.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    let mut pieces = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(&wire, TOKEN) {
        pieces.push(Piece::Octets(wire[from..at].to_vec()));
        pieces.push(Piece::Token);
        from = at + TOKEN.len();
    }
    pieces.push(Piece::Octets(wire[from..].to_vec()));
    pieces
}

async fn connection(shared: Shared) {
    while shared.1.borrow().broken < TOO_MUCH {
        match talk(&shared).await {
            Ok(()) => return,
            Err(error) => {
                let mut counts = shared.1.borrow_mut();
                counts.broken += 1;
                if counts.broken <= TOLD {
                    eprintln!("load: {error}");
                }
            }
        }
        if Instant::now() >= shared.0.ends {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn talk(shared: &Shared) -> io::Result<()> {
    let (settings, counts) = (&shared.0, &shared.1);
    let stream = TcpStream::connect(("127.0.0.1", settings.port)).await?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let mut wire = Wire {
        reader: BufReader::new(reader),
        writer,
        line: String::new(),
        pipelining: false,
    };
    wire.reply().await?;
    let hello = if settings.lmtp { "LHLO" } else { "EHLO" };
    wire.say(format!("{hello} load.example\r\n")).await?;
    if wire.reply().await? / 100 != 2 {
        return Err(io::Error::other("the greeting was refused"));
    }
    loop {
        let (number, began) = match next(settings, counts).await {
            Some(next) => next,
            None => break wire.say("QUIT\r\n".to_owned()).await,
        };
        let worst = wire.mail(settings, number, counts).await?;
        let now = Instant::now();
        let counts = &mut *counts.borrow_mut();
        match worst {
            2 => {
                counts.ok += 1;
                counts.times.add(now - began);
                if let Some(last) = counts.last_ok.replace(now) {
                    counts.longest_gap = counts.longest_gap.max(now - last);
                }
                counts.first_ok.get_or_insert(now);
            }
            4 => counts.temporary += 1,
            _ => counts.permanent += 1,
        }
        if worst != 2 && counts.temporary + counts.permanent <= settings.told {
            eprintln!("load: {}", wire.line.trim_end());
        }
    }
}

/// The number of the next mail and since when it counts; `None` when all is sent.
async fn next(settings: &Settings, counts: &RefCell<Counts>) -> Option<(u64, Instant)> {
    let number = {
        let mut counts = counts.borrow_mut();
        if counts.begun >= settings.mails || Instant::now() >= settings.ends {
            return None;
        }
        counts.begun += 1;
        counts.begun - 1
    };
    if settings.rate <= 0.0 {
        return Some((number, Instant::now()));
    }
    let due = settings.began + Duration::from_secs_f64(number as f64 / settings.rate);
    if due >= settings.ends {
        return None;
    }
    if due <= Instant::now() {
        return Some((number, due));
    }
    tokio::time::sleep_until(due.into()).await;
    // The timer is late by up to a millisecond, which is not the server's.
    Some((number, Instant::now()))
}

struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: String,
    pipelining: bool,
}

impl Wire {
    async fn say(&mut self, text: String) -> io::Result<()> {
        self.writer.write_all(text.as_bytes()).await
    }

    /// The code of a reply; its last line stays in `line`.
    async fn reply(&mut self) -> io::Result<u16> {
        loop {
            self.line.clear();
            if self.reader.read_line(&mut self.line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.pipelining |= self.line.get(4..14) == Some("PIPELINING");
            if self.line.as_bytes().get(3) != Some(&b'-') {
                let code = self.line.get(..3).and_then(|code| code.parse().ok());
                return code.ok_or_else(|| io::Error::other(self.line.clone()));
            }
        }
    }

    /// The worst class of a mail's replies: 2, 4 or 5.
    async fn mail(
        &mut self,
        settings: &Settings,
        number: u64,
        counts: &RefCell<Counts>,
    ) -> io::Result<u16> {
        let token = format!("{:016x}", settings.seed.wrapping_add(number));
        let mut commands = vec![format!("MAIL FROM:<s-{token}@mail.sender.example>\r\n")];
        for at in 0..settings.recipients {
            let user = settings.first_user + (number * settings.recipients + at) % settings.users;
            commands.push(format!("RCPT TO:<user{user}@{DOMAIN}>\r\n"));
        }
        commands.push("DATA\r\n".to_owned());
        let mut worst = 2;
        if self.pipelining {
            self.say(commands.concat()).await?;
        }
        let last = commands.len() - 1;
        for (at, command) in commands.into_iter().enumerate() {
            if !self.pipelining {
                self.say(command).await?;
            }
            let class = self.reply().await? / 100;
            let fine = if at == last { 3 } else { 2 };
            if class != fine {
                worst = worst.max(class);
                if !self.pipelining || at == last {
                    self.say("RSET\r\n".to_owned()).await?;
                    self.reply().await?;
                    return Ok(worst);
                }
            }
        }
        self.data(settings, token.as_bytes()).await?;
        let replies = if settings.lmtp {
            settings.recipients
        } else {
            1
        };
        for _ in 0..replies {
            worst = worst.max(self.reply().await? / 100);
            let mut counts = counts.borrow_mut();
            counts.with_word += u64::from(self.line.contains(&counts.word));
        }
        Ok(worst)
    }

    async fn data(&mut self, settings: &Settings, token: &[u8]) -> io::Result<()> {
        let mut held = Vec::new();
        for piece in &settings.pieces {
            match piece {
                Piece::Token => held.extend_from_slice(token),
                Piece::Octets(octets) if octets.len() <= 64 * 1024 => {
                    held.extend_from_slice(octets)
                }
                Piece::Octets(octets) => {
                    self.writer.write_all(&held).await?;
                    held.clear();
                    self.writer.write_all(octets).await?;
                }
            }
        }
        self.writer.write_all(&held).await
    }
}
