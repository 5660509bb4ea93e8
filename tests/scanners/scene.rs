//! The daemon in front of the engines, and a listener between the two that counts, hides or lies.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::clamd::Clamd;
use crate::harness::{Daemon, Site, TARO, eventually};
use crate::hop::Hop;
use crate::rspamd::Rspamd;
use crate::session::Answer;
use crate::spamd::Spamd;

const VIRUS: &str =
    "    engine: upstream\n    upstream: {header: X-Virus-Status, infected: Infected}\n";
const SPAM: &str = "    engine: upstream\n    upstream: {header: X-Spam-Flag, spam: \"YES\"}\n";
const OFF: &str = "engine: off\n";

pub(crate) const SENDER: &str = "alice@partner.example";

/// A daemon file of the tests: engines, defaults of the mailboxes.
pub(crate) struct Plan {
    virus: String,
    spam: String,
    defaults: String,
    mailboxes: Vec<(String, String)>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self {
            virus: OFF.to_owned(),
            spam: OFF.to_owned(),
            defaults:
                "{language: en, virus: {scan: true}, spam: {scan: true, quarantine: true, notice: off}}"
                    .to_owned(),
            mailboxes: Vec::new(),
        }
    }

    /// `scanners.virus`: lines of keys.
    pub(crate) fn virus(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.virus);
        self
    }

    /// `scanners.spam`: lines of keys.
    pub(crate) fn spam(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.spam);
        self
    }

    /// The settings of one mailbox; all others have the defaults.
    pub(crate) fn mailbox(mut self, mailbox: &str, settings: &str) -> Self {
        self.mailboxes
            .push((mailbox.to_owned(), settings.to_owned()));
        self
    }

    pub(crate) fn start(self) -> Scene {
        let relay = Hop::smtp();
        let indented = |lines: &str| {
            lines
                .lines()
                .map(|line| format!("    {line}\n"))
                .collect::<String>()
        };
        let defaults = format!("  unknown: accept\n  defaults: {}\n", self.defaults);
        let mut site = Site::new()
            .with_relay(relay.port)
            .with("  unknown: accept\n", &defaults)
            .with(VIRUS, &indented(&self.virus))
            .with(SPAM, &indented(&self.spam));
        for (mailbox, settings) in &self.mailboxes {
            site = site.with_mailbox(mailbox, settings);
        }
        // The daemon keeps to its settings' folder, which a password may lie in.
        site.write("controller.password", "of-the-test\n");
        Scene {
            daemon: site.start(),
            relay,
        }
    }
}

/// `scanners.virus` of a clamd on TCP.
pub(crate) fn clamd(port: u16, more: &str) -> String {
    format!("engine: clamd\naddress: 127.0.0.1:{port}\ntimeout: 20s\n{more}")
}

/// `scanners.spam` of an rspamd.
pub(crate) fn rspamd(port: u16, more: &str) -> String {
    format!("engine: rspamd\naddress: http://127.0.0.1:{port}\ntimeout: 20s\n{more}")
}

/// `scanners.spam` of a spamd.
pub(crate) fn spamd(port: u16, more: &str) -> String {
    format!("engine: spamd\naddress: 127.0.0.1:{port}\ntimeout: 20s\n{more}")
}

/// Either spam scanner.
pub(crate) enum SpamEngine {
    Rspamd(Rspamd),
    Spamd(Spamd),
}

impl SpamEngine {
    /// Both, one after the other.
    pub(crate) fn each(mut test: impl FnMut(&mut Self)) {
        for mut engine in [Self::Rspamd(Rspamd::start()), Self::Spamd(Spamd::start())] {
            eprintln!("{}", engine.name());
            test(&mut engine);
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rspamd(_) => "rspamd",
            Self::Spamd(_) => "spamd",
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Rspamd(engine) => engine.port,
            Self::Spamd(engine) => engine.port,
        }
    }

    /// `scanners.spam`, with the engine or something between on that port.
    pub(crate) fn settings(&self, port: u16, more: &str) -> String {
        match self {
            Self::Rspamd(_) => rspamd(port, more),
            Self::Spamd(_) => spamd(port, more),
        }
    }

    /// Mails that it has scanned.
    pub(crate) fn scans(&self) -> usize {
        match self {
            Self::Rspamd(engine) => usize::try_from(engine.count("scanned")).unwrap(),
            Self::Spamd(engine) => engine.scans(),
        }
    }
}

/// A running daemon and its relay.
pub(crate) struct Scene {
    pub(crate) daemon: Daemon,
    pub(crate) relay: Hop,
}

impl std::ops::Deref for Scene {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl Scene {
    /// Hands a mail over for taro.
    pub(crate) fn taro(&self, mail: &[u8]) -> Answer {
        self.give(SENDER, TARO, mail)
    }

    /// The why-record of a mail.
    pub(crate) fn why(&self, answer: &Answer) -> Value {
        self.one(&["why", &answer.id()])
    }

    /// Repeats a mail until the engine is asked again: a breaker lets it rest for a while.
    pub(crate) fn await_verdict(&self, mail: &[u8], verdict: &str) -> Answer {
        eventually(&format!("{verdict} again"), || {
            let answer = self.taro(mail);
            (answer.verdict() == verdict).then_some(answer)
        })
    }
}

/// What a listener does with each connection.
#[derive(Clone)]
pub(crate) enum Manner {
    /// On to this port.
    Through(u16),
    /// Takes everything and never says a word.
    Silent,
    /// Says this to whatever comes, and closes.
    Says(Vec<u8>),
}

/// A listener in an engine's place.
pub(crate) struct Between {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    manner: Manner,
    connections: usize,
    octets: usize,
}

impl Between {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen {
            manner,
            connections: 0,
            octets: 0,
        }));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                seen.lock().unwrap().connections += 1;
                // Whoever leaves ends its own thread only.
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { port, seen }
    }

    /// From the next connection on.
    pub(crate) fn change(&self, manner: Manner) {
        self.seen.lock().unwrap().manner = manner;
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Waits until so many octets have come from the daemon.
    pub(crate) fn await_octets(&self, count: usize) {
        eventually("the mail is with the engine", || {
            (self.seen.lock().unwrap().octets >= count).then_some(())
        });
    }
}

fn serve(mut stream: TcpStream, seen: &Arc<Mutex<Seen>>) -> std::io::Result<()> {
    let manner = seen.lock().unwrap().manner.clone();
    match manner {
        Manner::Through(port) => {
            let mut engine = TcpStream::connect(("127.0.0.1", port))?;
            let (mut back, mut client) = (engine.try_clone()?, stream.try_clone()?);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
            let copied = count(&mut stream, seen, |octets| engine.write_all(octets));
            let _ = engine.shutdown(Shutdown::Write);
            copied
        }
        Manner::Silent => count(&mut stream, seen, |_| Ok(())),
        Manner::Says(answer) => {
            stream.write_all(&answer)?;
            stream.shutdown(Shutdown::Write)?;
            count(&mut stream, seen, |_| Ok(()))
        }
    }
}

/// Reads to the end.
fn count(
    stream: &mut TcpStream,
    seen: &Mutex<Seen>,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        take(&buffer[..length])?;
        seen.lock().unwrap().octets += length;
    }
}

/// A clamd and a daemon that asks it over TCP.
pub(crate) fn with_clamd() -> (Clamd, Scene) {
    let engine = Clamd::start();
    let scene = Plan::new().virus(&clamd(engine.port, "")).start();
    (engine, scene)
}
