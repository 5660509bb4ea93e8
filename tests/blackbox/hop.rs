//! The servers behind the daemon: a relay (SMTP) or a mail store (LMTP) that keeps what it takes and
//! answers as the test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tokio::net::TcpSocket;

use crate::harness::eventually;

/// One mail as it came over the wire, dot stuffing undone.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: Vec<u8>,
    /// The octets behind `DATA` as they came, end of data included.
    pub(crate) wire: Vec<u8>,
}

impl Captured {
    /// The value of the first header field of that name, unfolded.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.data, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

/// The value of the first header field of that name, unfolded; line ends may be LF or CRLF.
pub(crate) fn field(mail: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(mail).replace("\r\n", "\n");
    let head = text
        .split("\n\n")
        .next()?
        .replace("\n ", " ")
        .replace("\n\t", " ");
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

#[derive(Default)]
struct State {
    mails: Vec<Captured>,
    at_rcpt: HashMap<String, String>,
    at_end: HashMap<String, String>,
    connections: usize,
}

/// A listening server; its threads end with the test process.
pub(crate) struct Hop {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Hop {
    pub(crate) fn smtp() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), false)
    }

    pub(crate) fn lmtp() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), true)
    }

    /// An SMTP server on a port that was down before.
    pub(crate) fn smtp_on(port: u16) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), false)
    }

    fn on(listener: TcpListener, lmtp: bool) -> Self {
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let kept = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                kept.lock().unwrap().connections += 1;
                let kept = Arc::clone(&kept);
                // A client that breaks off leaves no mail behind.
                std::thread::spawn(move || converse(stream, &kept, lmtp));
            }
        });
        Self { port, state }
    }

    /// Answers `RCPT` for that recipient so from now on.
    pub(crate) fn at_rcpt(&self, recipient: &str, reply: &str) {
        let mut state = self.state.lock().unwrap();
        state.at_rcpt.insert(recipient.to_owned(), reply.to_owned());
    }

    /// Answers the data of a mail for that recipient so from now on.
    pub(crate) fn at_end(&self, recipient: &str, reply: &str) {
        let mut state = self.state.lock().unwrap();
        state.at_end.insert(recipient.to_owned(), reply.to_owned());
    }

    /// Never answers the data of a mail for that recipient from now on.
    pub(crate) fn hang_at_end(&self, recipient: &str) {
        self.at_end(recipient, HANG);
    }

    /// Takes everything from now on.
    pub(crate) fn relent(&self) {
        let mut state = self.state.lock().unwrap();
        state.at_rcpt.clear();
        state.at_end.clear();
    }

    /// Drops what it has taken so far.
    #[allow(dead_code, reason = "tests/faults uses one relay for many runs")]
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().mails.clear();
    }

    pub(crate) fn mails(&self) -> Vec<Captured> {
        self.state.lock().unwrap().mails.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// What was taken for `recipient` so far.
    pub(crate) fn mails_to(&self, recipient: &str) -> Vec<Captured> {
        let mails = self.mails().into_iter();
        mails
            .filter(|mail| mail.recipients.iter().any(|to| to == recipient))
            .collect()
    }

    /// The only mail for `recipient`, once it has come.
    #[track_caller]
    pub(crate) fn await_mail(&self, recipient: &str) -> Captured {
        let mut mails = eventually(&format!("a mail for {recipient} at the hop"), || {
            Some(self.mails_to(recipient)).filter(|mails| !mails.is_empty())
        });
        assert_eq!(mails.len(), 1, "one mail for {recipient}");
        mails.remove(0)
    }
}

/// In place of a reply.
const HANG: &str = "hang";

/// A port on which nothing listens before [`Hop::smtp_on`] does. It is held, or the kernel would give
/// it to a server of another test, which would then get the mail of this one.
pub(crate) fn closed_port() -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    // So that a server can still be bound to it.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::mem::forget(socket);
    port
}

fn converse(stream: TcpStream, state: &Mutex<State>, lmtp: bool) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    output.write_all(b"220 hop.example.jp ready\r\n")?;
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    while let Some(line) = read_line(&mut input)? {
        let command = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = command.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" | "LHLO" if (verb == "LHLO") == lmtp => {
                "250-hop.example.jp\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8".to_owned()
            }
            "MAIL" => {
                sender = path(&command);
                recipients.clear();
                "250 2.1.0 ok".to_owned()
            }
            "RCPT" => {
                let to = path(&command);
                let reply = state.lock().unwrap().at_rcpt.get(&to).cloned();
                let reply = reply.unwrap_or_else(|| "250 2.1.5 ok".to_owned());
                if reply.starts_with('2') {
                    recipients.push(to);
                }
                reply
            }
            "DATA" if recipients.is_empty() => "503 5.5.1 no recipient".to_owned(),
            "DATA" => {
                output.write_all(b"354 go on\r\n")?;
                let Some((data, wire)) = read_data(&mut input)? else {
                    return Ok(());
                };
                let mail = Captured {
                    sender: sender.clone(),
                    recipients: std::mem::take(&mut recipients),
                    data,
                    wire,
                };
                finish(state, lmtp, mail)
            }
            "QUIT" => {
                output.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            "RSET" | "NOOP" => "250 2.0.0 ok".to_owned(),
            _ => "500 5.5.2 what".to_owned(),
        };
        if reply.contains(HANG) {
            // Until the client gives up.
            while read_line(&mut input)?.is_some() {}
            return Ok(());
        }
        output.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

/// Keeps the mail for those who take it; the reply or replies to its final dot.
fn finish(state: &Mutex<State>, lmtp: bool, mail: Captured) -> String {
    let recipients = &mail.recipients;
    let mut state = state.lock().unwrap();
    let answer = |to: &String| {
        state
            .at_end
            .get(to)
            .cloned()
            .unwrap_or_else(|| "250 2.0.0 taken".to_owned())
    };
    let mut replies: Vec<String> = recipients.iter().map(answer).collect();
    if !lmtp {
        let worst = replies
            .iter()
            .find(|reply| !reply.starts_with('2'))
            .unwrap_or(&replies[0]);
        replies = vec![worst.clone(); recipients.len()];
    }
    let taken = recipients
        .iter()
        .zip(&replies)
        .filter(|(_, reply)| reply.starts_with('2'));
    let recipients: Vec<String> = taken.map(|(to, _)| to.clone()).collect();
    if !recipients.is_empty() {
        state.mails.push(Captured { recipients, ..mail });
    }
    replies.truncate(if lmtp { replies.len() } else { 1 });
    replies.join("\r\n")
}

/// A line ends with LF here, as at a hop that can be smuggled to.
fn read_data(input: &mut impl BufRead) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (mut data, mut wire) = (Vec::new(), Vec::new());
    while let Some(line) = read_line(input)? {
        wire.extend_from_slice(&line);
        if line == b".\r\n" || line == b".\n" {
            return Ok(Some((data, wire)));
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
    Ok(None)
}

fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    Ok((input.read_until(b'\n', &mut line)? > 0).then_some(line))
}

fn path(command: &str) -> String {
    let inside = command
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside
        .unwrap_or_else(|| panic!("no path: {command}"))
        .0
        .to_owned()
}
