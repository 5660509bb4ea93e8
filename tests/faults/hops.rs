//! The next hop and the relay misbehave at each step of the protocol in each way. Whoever is not
//! served is told `4xx`; once the other side is well, the retry serves exactly those.
//!
//! A time-out of one second stands for the real ones. `tests/deliver.rs` and `tests/relay.rs` hold
//! the same for the client alone; here the whole daemon is asked, from the MTA's side.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Daemon, JIRO, Site, TARO, eventually, mail};
use crate::hop::{Hop, closed_port, field};
use crate::scenario::within;

/// What is sent twice shows in the row after.
const SETTLES: Duration = Duration::from_secs(30);

const SABURO: &str = "saburo@east.example.jp";
const LATER: &str = "451 4.3.2 later\r\n";
const NEVER: &str = "550 5.7.1 never\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Data,
    Dot,
}
use Step::{Data, Dot, Greeting, Hello, Mail, Rcpt};

const STEPS: [Step; 6] = [Greeting, Hello, Mail, Rcpt, Data, Dot];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Hang,
    /// An endless reply, an octet at a time.
    Trickle,
    /// A reset where octets are unread.
    Close,
    /// No reply of SMTP.
    Garbage,
    Later,
    Never,
    /// At the dot: fewer replies than recipients, then the end.
    TooFew,
    /// At the dot: more replies than recipients.
    TooMany,
    /// At the dot: the mail is taken, and the connection goes before the reply.
    Lost,
}
use Way::{Close, Garbage, Hang, Later, Lost, Never, TooFew, TooMany, Trickle};

const WAYS: [Way; 6] = [Hang, Trickle, Close, Garbage, Later, Never];

#[derive(Default)]
struct State {
    trouble: Option<(Step, Way)>,
    /// Connections of an earlier row are closed at their next command.
    row: usize,
    taken: Vec<String>,
}

/// A server that has trouble until it is told to be well.
struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn start(lmtp: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let row = state.lock().unwrap().row;
                    let input = BufReader::new(stream.try_clone().unwrap());
                    let talk = Talk {
                        input,
                        output: stream,
                        state,
                        row,
                        lmtp,
                    };
                    // The client hangs up, or trouble ends it.
                    let _ = talk.run();
                });
            }
        });
        Self { port, state }
    }

    fn has_trouble(&self, step: Step, way: Way) {
        let mut state = self.state.lock().unwrap();
        state.trouble = Some((step, way));
        state.row += 1;
        state.taken.clear();
    }

    fn is_well(&self) {
        let mut state = self.state.lock().unwrap();
        state.trouble = None;
        state.row += 1;
    }

    fn copies(&self, recipient: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.taken.iter().filter(|to| *to == recipient).count()
    }
}

/// One connection of the server.
struct Talk {
    input: BufReader<TcpStream>,
    output: TcpStream,
    state: Arc<Mutex<State>>,
    row: usize,
    lmtp: bool,
}

impl Talk {
    fn run(mut self) -> io::Result<()> {
        self.answer(Greeting, "220 hop.example.jp\r\n")?;
        let mut recipients = Vec::new();
        loop {
            let line = self.line()?;
            if self.state.lock().unwrap().row != self.row {
                return Ok(());
            }
            match line.get(..4).unwrap_or_default() {
                "LHLO" | "EHLO" => {
                    self.answer(Hello, "250-hop.example.jp\r\n250 PIPELINING\r\n")?
                }
                "MAIL" => {
                    recipients.clear();
                    self.answer(Mail, "250 2.1.0 ok\r\n")?;
                }
                "RCPT" => {
                    let to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    // The first recipient has the trouble.
                    let step = if recipients.is_empty() { Rcpt } else { Dot };
                    let refused = self.trouble(Rcpt).is_some() && step == Rcpt;
                    match step {
                        Rcpt if refused => self.answer(Rcpt, "250 2.1.5 ok\r\n")?,
                        _ => self.say("250 2.1.5 ok\r\n")?,
                    }
                    recipients.push((to, !refused));
                }
                "DATA" if !recipients.iter().any(|(_, taken)| *taken) => {
                    self.say("503 5.5.1 who\r\n")?
                }
                "DATA" => {
                    if matches!(self.trouble(Data), Some(Later | Never)) {
                        self.answer(Data, "")?;
                        continue;
                    }
                    self.answer(Data, "354 go\r\n")?;
                    while self.line()? != ".\r\n" {}
                    let taken = recipients.drain(..).filter(|(_, taken)| *taken);
                    let taken: Vec<String> = taken.map(|(to, _)| to).collect();
                    self.finish(&taken)?;
                }
                _ => self.say("250 2.0.0 ok\r\n")?,
            }
        }
    }

    /// The replies after the data; the trouble is the first recipient's, or everybody's by SMTP.
    fn finish(&mut self, recipients: &[String]) -> io::Result<()> {
        let ok = "250 2.0.0 taken\r\n";
        let take = |talk: &Self, taken: &[String]| {
            talk.state.lock().unwrap().taken.extend_from_slice(taken);
        };
        let (first, rest) = recipients.split_at(1);
        let more = if self.lmtp { rest.len() } else { 0 };
        match self.trouble(Dot) {
            None => {
                take(self, recipients);
                self.say(&ok.repeat(1 + more))
            }
            Some(TooMany) => {
                take(self, recipients);
                self.say(&ok.repeat(2 + more))
            }
            Some(TooFew) => {
                take(self, first);
                self.say(ok)?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Lost) => {
                take(self, recipients);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(Later | Never) => {
                self.answer(Dot, "")?;
                if self.lmtp {
                    take(self, rest);
                }
                self.say(&ok.repeat(more))
            }
            Some(_) => self.answer(Dot, ""),
        }
    }

    fn trouble(&self, step: Step) -> Option<Way> {
        let state = self.state.lock().unwrap();
        let (at, way) = state.trouble?;
        (at == step && state.row == self.row).then_some(way)
    }

    /// `ok`, or the trouble of this step.
    fn answer(&mut self, step: Step, ok: &str) -> io::Result<()> {
        match self.trouble(step) {
            None => self.say(ok),
            Some(Later) => self.say(LATER),
            Some(Never) => self.say(NEVER),
            Some(Garbage) => self.say("HTTP/1.1 200 OK\r\n"),
            Some(Hang) => loop {
                self.line()?;
            },
            Some(Trickle) => loop {
                for octet in b"250-slow\r\n" {
                    self.output.write_all(&[*octet])?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            },
            Some(Close | TooFew | TooMany | Lost) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(String::from_utf8_lossy(&line).into_owned()),
        }
    }
}

/// All ways of one step, and those that only the dot has.
fn rows(step: Step) -> Vec<Way> {
    let mut ways = WAYS.to_vec();
    if step == Dot {
        ways.extend([TooFew, TooMany, Lost]);
    }
    ways
}

/// What the MTA is told for the first recipient and for the second.
fn told(step: Step, way: Way) -> [&'static str; 2] {
    match (step, way) {
        (Mail | Data, Later) => ["451 4.3.2", "451 4.3.2"],
        (Mail | Data, Never) => ["550 5.7.1", "550 5.7.1"],
        (Rcpt | Dot, Later) => ["451 4.3.2", "250"],
        (Rcpt | Dot, Never) => ["550 5.7.1", "250"],
        (_, TooFew) => ["250", "451"],
        (_, TooMany) => ["250", "250"],
        _ => ["451", "451"],
    }
}

fn lmtp_site(port: u16, relay: u16) -> Site {
    Site::new()
        .with_relay(relay)
        .with(
            "method: maildir\n",
            &format!("method: lmtp\n  lmtp: {{address: \"127.0.0.1:{port}\", timeout: 1s}}\n"),
        )
        .with_mailbox(TARO, "notify: {to: [mobile@else.example]}\n")
}

#[test]
fn a_next_hop_in_trouble_at_any_step_costs_no_mail_and_doubles_none() {
    each_step(|step| {
        let (hop, relay) = (Server::start(true), Hop::smtp());
        let daemon = lmtp_site(hop.port, relay.port).start();
        let mut notices = 0;
        for way in rows(step) {
            let row = format!("{step:?} {way:?}");
            hop.has_trouble(step, way);
            let raw = mail("a@friend.example", &row);
            let first = daemon.hand_over("a@friend.example", &[TARO, JIRO], &raw);
            for (answer, start) in first.iter().zip(told(step, way)) {
                assert!(
                    answer.0.starts_with(start),
                    "{row}: {answer:?}, not {start}"
                );
            }
            hop.is_well();
            let open: Vec<&str> = [TARO, JIRO]
                .into_iter()
                .zip(&first)
                .filter_map(|(to, answer)| answer.0.starts_with('4').then_some(to))
                .collect();
            if !open.is_empty() {
                for answer in daemon.hand_over("a@friend.example", &open, &raw) {
                    assert_eq!(answer.verdict(), "deliver", "{row}");
                }
            }
            for (to, answer) in [TARO, JIRO].into_iter().zip(&first) {
                // The one gap that no protocol closes: taken, and the reply lost (RFC 1047).
                let copies = match way {
                    Lost => 2,
                    _ => usize::from(!answer.0.starts_with('5')),
                };
                assert_eq!(hop.copies(to), copies, "{row}: copies for {to}");
            }
            notices += usize::from(!first[0].0.starts_with('5'));
            daemon.await_empty_queue();
            assert_eq!(relay.mails().len(), notices, "{row}: notices");
        }
    });
}

/// Copies of the forward at the relay, of the forward in its owner's mailbox, of the notice.
fn sent(step: Step, way: Way) -> [usize; 3] {
    match (step, way) {
        (Mail | Rcpt | Data | Dot, Never) => [0, 1, 0],
        // The forward is sent again, the notice is not.
        (Dot, Lost) => [2, 0, 1],
        (Dot, Hang | Trickle | Close | Garbage) => [1, 0, 0],
        _ => [1, 0, 1],
    }
}

#[test]
fn a_relay_in_trouble_at_any_step_costs_no_forward_and_doubles_no_notice() {
    each_step(|step| {
        let relay = Server::start(false);
        let daemon = Site::new()
            .with_relay(relay.port)
            .with("  retry: {first: 1s", "  timeout: 1s\n  retry: {first: 1s")
            .with_mailbox(TARO, "notify: {to: [mobile@else.example]}\n")
            .with_mailbox(
                SABURO,
                "forwarding: {mode: all, all: {to: [home@else.example], keep_copy: false}}\n",
            )
            .start();
        let mut rescued = 0;
        let ways = rows(step).into_iter().filter(|way| *way != TooFew);
        for way in ways {
            let row = format!("{step:?} {way:?}");
            relay.has_trouble(step, way);
            let raw = mail("a@friend.example", &row);
            for answer in daemon.hand_over("a@friend.example", &[TARO, SABURO], &raw) {
                assert!(answer.0.starts_with("250"), "{row}: {answer:?}");
            }
            eventually("both were tried", || tried(&daemon).then_some(()));
            relay.is_well();
            let [forward, fallback, notice] = sent(step, way);
            rescued += fallback;
            let found = || {
                let [home, mobile] =
                    ["home", "mobile"].map(|at| relay.copies(&format!("{at}@else.example")));
                [home, daemon.mailbox(SABURO).len(), mobile]
            };
            let expected = [forward, rescued, notice];
            let reached = within(SETTLES, || found() == expected);
            assert!(
                reached,
                "{row}: {:?}, not {expected:?} (relay, mailbox, notices)",
                found()
            );
            let mails = daemon.mailbox(SABURO);
            let marked = |mail: &Vec<u8>| field(mail, "X-Sekimori-Forward-Failed").is_some();
            assert!(mails.iter().all(marked), "{row}");
        }
    });
}

/// Whatever is in the queue has failed once.
fn tried(daemon: &Daemon) -> bool {
    daemon
        .queue()
        .iter()
        .all(|item| !item["last_reply"].is_null())
}

#[test]
fn a_next_hop_that_refuses_the_connection_is_451_and_the_retry_arrives_once() {
    let (port, relay) = (closed_port(), Hop::smtp());
    let daemon = lmtp_site(port, relay.port).start();
    let raw = mail("a@friend.example", "x");
    for answer in daemon.hand_over("a@friend.example", &[TARO, JIRO], &raw) {
        assert!(answer.0.starts_with("451 4.4.1"), "{answer:?}");
    }
    assert!(relay.mails().is_empty() && daemon.queue().is_empty());
}

/// Each step with servers of its own, side by side.
fn each_step(test: impl Fn(Step) + Sync) {
    std::thread::scope(|scope| {
        for step in STEPS {
            let test = &test;
            scope.spawn(move || test(step));
        }
    });
}
