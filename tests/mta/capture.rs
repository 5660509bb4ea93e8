//! The relay that sekimori sends forwards, notices and replies to: an SMTP server that keeps what it takes.
//! It takes everything but recipients whose address begins with `refused`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::{eventually, free_port};

/// One mail as it came over the wire, dot stuffing undone.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: Vec<u8>,
}

impl Captured {
    /// The value of the first header field of that name, unfolded.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.data).into_owned();
        let head = head
            .split("\r\n\r\n")
            .next()?
            .replace("\r\n ", " ")
            .replace("\r\n\t", " ");
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

/// A listening capture; its threads end with the test process.
pub(crate) struct Capture {
    pub(crate) port: u16,
    mails: Arc<Mutex<Vec<Captured>>>,
}

impl Capture {
    pub(crate) fn start() -> Self {
        Self::start_on(free_port())
    }

    pub(crate) fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&mails);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that breaks off leaves no mail behind.
                std::thread::spawn(move || converse(stream, &kept));
            }
        });
        Self { port, mails }
    }

    /// Everything taken so far.
    pub(crate) fn mails(&self) -> Vec<Captured> {
        self.mails.lock().unwrap().clone()
    }

    /// What was taken for `recipient` so far.
    pub(crate) fn mails_to(&self, recipient: &str) -> Vec<Captured> {
        self.mails()
            .into_iter()
            .filter(|mail| mail.recipients.iter().any(|to| to == recipient))
            .collect()
    }

    /// Waits until `count` mails or more for `recipient` were taken.
    pub(crate) fn await_to(&self, recipient: &str, count: usize) -> Vec<Captured> {
        eventually(
            &format!("{count} mails for {recipient} at the relay"),
            || Some(self.mails_to(recipient)).filter(|mails| mails.len() >= count),
        )
    }
}

fn converse(stream: TcpStream, kept: &Mutex<Vec<Captured>>) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    output.write_all(b"220 relay.example.jp ESMTP\r\n")?;
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    while let Some(line) = read_line(&mut input)? {
        let command = String::from_utf8_lossy(&line).trim_end().to_owned();
        let reply = match command
            .get(..4)
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "EHLO" => "250-relay.example.jp\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
            "MAIL" => {
                sender = path(&command);
                recipients.clear();
                "250 2.1.0 ok\r\n"
            }
            "RCPT" if path(&command).starts_with("refused") => "550 5.1.1 no such mailbox\r\n",
            "RCPT" => {
                recipients.push(path(&command));
                "250 2.1.5 ok\r\n"
            }
            "DATA" if recipients.is_empty() => "503 5.5.1 no recipient\r\n",
            "DATA" => {
                output.write_all(b"354 go on\r\n")?;
                let Some(data) = read_data(&mut input)? else {
                    return Ok(());
                };
                let mail = Captured {
                    sender: sender.clone(),
                    recipients: std::mem::take(&mut recipients),
                    data,
                };
                kept.lock().unwrap().push(mail);
                "250 2.0.0 taken\r\n"
            }
            "QUIT" => {
                output.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            "RSET" | "NOOP" | "HELO" => "250 2.0.0 ok\r\n",
            _ => "500 5.5.2 what\r\n",
        };
        output.write_all(reply.as_bytes())?;
    }
    Ok(())
}

fn read_data(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut data = Vec::new();
    while let Some(line) = read_line(input)? {
        if line == b".\r\n" {
            return Ok(Some(data));
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
