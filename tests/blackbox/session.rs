//! The MTA's side of a session: LMTP and SMTP over TCP or a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a reply may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection after the greeting.
pub(crate) struct Session {
    stream: BufReader<Box<dyn Stream>>,
    pub(crate) greeting: String,
}

/// The reply for one recipient after the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) String);

impl Session {
    pub(crate) fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // What a test sends in two pieces comes in two segments.
        stream.set_nodelay(true).unwrap();
        Self::new(Box::new(stream))
    }

    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::new(Box::new(stream))
    }

    fn new(stream: Box<dyn Stream>) -> Self {
        let mut session = Self::over(stream);
        session.greeting = session.reply();
        session
    }

    /// A session whose greeting has been read before.
    pub(crate) fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream: BufReader::new(stream),
            greeting: String::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
        self.stream.get_mut().flush().unwrap();
    }

    /// The lines of one reply, joined by line feeds.
    pub(crate) fn reply(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            assert!(
                line.ends_with("\r\n"),
                "a reply ends with CRLF: {line:?} after {lines:?}"
            );
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.trim_end().to_owned());
            if last {
                return lines.join("\n");
            }
        }
    }

    /// Sends a line and reads its reply.
    pub(crate) fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a line whose reply must begin with `code`.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str, code: &str) -> String {
        let reply = self.command(line);
        assert!(reply.starts_with(code), "{line}: {reply}, not {code}");
        reply
    }

    /// Everything up to the final dot.
    pub(crate) fn data(&mut self, mail: &[u8]) {
        let mut wire = Vec::with_capacity(mail.len() + 16);
        for line in mail.split_inclusive(|&byte| byte == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        if !wire.ends_with(b"\r\n") && !wire.is_empty() {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
        self.send(&wire);
    }

    /// One LMTP transaction that takes every recipient; a reply for each.
    #[track_caller]
    pub(crate) fn hand_over(
        &mut self,
        sender: &str,
        recipients: &[&str],
        mail: &[u8],
    ) -> Vec<Answer> {
        self.expect("LHLO mta.example.net", "250");
        self.transaction(sender, recipients);
        self.data(mail);
        recipients.iter().map(|_| Answer(self.reply())).collect()
    }

    /// One SMTP transaction; its one reply.
    #[track_caller]
    pub(crate) fn submit(&mut self, sender: &str, recipients: &[&str], mail: &[u8]) -> Answer {
        self.expect("EHLO mta.example.net", "250");
        self.transaction(sender, recipients);
        self.data(mail);
        Answer(self.reply())
    }

    /// MAIL, RCPT and DATA.
    #[track_caller]
    pub(crate) fn transaction(&mut self, sender: &str, recipients: &[&str]) {
        self.expect(&format!("MAIL FROM:<{sender}>"), "250 2.1.0");
        for recipient in recipients {
            self.expect(&format!("RCPT TO:<{recipient}>"), "250 2.1.5");
        }
        self.expect("DATA", "354");
    }
}

impl Answer {
    /// The `q=` of a mail that was taken.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.word("q")
            .unwrap_or_else(|| panic!("no q= in {}", self.0))
    }

    /// `verdict` or `verdict/stage`; the whole reply when it is not 250.
    pub(crate) fn verdict(&self) -> String {
        match (self.word("verdict"), self.word("stage")) {
            (Some(verdict), Some(stage)) => format!("{verdict}/{stage}"),
            (Some(verdict), None) => verdict,
            (None, _) => self.0.clone(),
        }
    }

    fn word(&self, name: &str) -> Option<String> {
        let words = self
            .0
            .split(' ')
            .filter(|_| self.0.starts_with("250 2.0.0 "));
        let mut values = words.filter_map(|word| word.strip_prefix(&format!("{name}=")));
        values.next().map(str::to_owned)
    }
}
