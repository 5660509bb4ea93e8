//! One LMTP or SMTP session without a socket: octets in, events and replies out.
//!
//! Contract: the same octets give the same events and replies however they are cut; while an
//! event is unanswered no further octet is looked at; nothing is answered 2yz on its own account
//! but greetings and commands that promise nothing; nothing that came in the clear counts once TLS
//! is on. Memory: one command line, one mail within its
//! limit, and the octets of the last [`Session::feed`].

use std::mem;

use super::answer::{self, Answer};
use super::command::{self, Command, Forwarded, Hello, MailParameters};
use super::data::{DataFault, DataReader};
use super::reply::escape;
use super::{BareNewline, Reply};
use crate::mail::{Address, Client, Envelope, Protocol, ReversePath};

/// `NOOP`, `RSET`, `VRFY` and `HELP` since the last mail that was taken; the last of them is
/// followed by `421 4.7.0` and the end. An MTA that probes addresses sends a few.
const IDLE_COMMANDS: usize = 100;

/// What a session is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one mail (`SIZE`, RFC 1870); more is `552 5.3.4`.
    pub message_size: u64,
    /// Accepted recipients of one mail, repeated ones counted; more is `452 4.5.3`. RFC 5321
    /// 4.5.3.1.8 asks for 100 at least.
    pub recipients: usize,
    /// Protocol errors since the last mail that was taken; the last of them is followed by
    /// `421 4.7.0` and the end.
    pub errors: usize,
}

/// How a session behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// LMTP or SMTP.
    pub protocol: Protocol,
    /// What the server calls itself.
    pub hostname: String,
    /// Completes a bare local part; without it such a path is refused.
    pub default_domain: Option<String>,
    /// What a CR or LF that stands alone in the data does.
    pub bare_newline: BareNewline,
    /// `STARTTLS` is offered until TLS is on (RFC 3207).
    pub starttls: bool,
    /// Bounds.
    pub limits: Limits,
    /// The peer; `helo` and the origin are filled in by the session.
    pub client: Client,
}

/// What the caller must act on, then answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `MAIL FROM`; answered by [`Session::accept`] or [`Session::refuse`].
    Mail {
        /// The reverse path, completed.
        sender: ReversePath,
        /// `SIZE=`, at most the limit.
        declared_size: Option<u64>,
    },
    /// `RCPT TO`, completed; answered by [`Session::accept`] or [`Session::refuse`].
    Recipient(Address),
    /// A whole mail; answered by one [`Session::answer`] for each recipient, in order.
    Message {
        /// The envelope; its recipients are those that were accepted.
        envelope: Box<Envelope>,
        /// The message: CRLF line ends, no stuffing dots; what [`Session::take_data`] gave
        /// already is not in it.
        raw: Vec<u8>,
    },
    /// `STARTTLS`: send the output, shake hands, then answer by [`Session::tls_is_on`]. No octet
    /// that came before the handshake may be fed after it.
    StartTls,
    /// The session is over: send the output and close. Nothing is read any more.
    Close,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    settings: SessionSettings,
    phase: Phase,
    greeted: bool,
    transaction: Option<Transaction>,
    errors: usize,
    /// Commands that bring no mail nearer, since the last mail that was taken.
    idle_commands: usize,
    input: Vec<u8>,
    /// Octets of `input` that were looked at.
    read: usize,
    line: Vec<u8>,
    output: Vec<u8>,
    event: Option<Event>,
}

#[derive(Debug)]
enum Phase {
    /// Reading a command line.
    Line,
    /// Throwing a line away up to its CRLF; whether the octet before was a CR.
    Skip {
        after_cr: bool,
    },
    Data(DataReader),
    AwaitMail(Transaction),
    AwaitRecipient(Address),
    AwaitAnswers(Vec<Answer>),
    AwaitTls,
    Closed,
}

#[derive(Debug)]
struct Transaction {
    sender: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Address>,
}

impl Session {
    /// A session at its beginning, its greeting waiting as output.
    pub fn new(settings: SessionSettings) -> Self {
        let kind = match settings.protocol {
            Protocol::Lmtp => "LMTP",
            Protocol::Smtp => "ESMTP",
        };
        let greeting = Reply::plain(220, format!("{} {kind} ready", settings.hostname));
        let mut session = Self {
            settings,
            phase: Phase::Line,
            greeted: false,
            transaction: None,
            errors: 0,
            idle_commands: 0,
            input: Vec::new(),
            read: 0,
            line: Vec::new(),
            output: Vec::new(),
            event: None,
        };
        session.reply(&greeting);
        session
    }

    /// Takes octets as they were read. Call it when [`Session::next_event`] gave `None` and no
    /// event is unanswered.
    pub fn feed(&mut self, octets: &[u8]) {
        let mut taken = 0;
        if self.input.is_empty() && matches!(self.phase, Phase::Data(_)) {
            taken = self.step(octets).unwrap_or_default();
        }
        if !matches!(self.phase, Phase::Closed) {
            let rest = octets.get(taken..).unwrap_or_default();
            self.input.extend_from_slice(rest);
        }
    }

    /// Works through what was fed up to the next event; `None` when more octets or an answer are
    /// needed.
    pub fn next_event(&mut self) -> Option<Event> {
        let input = mem::take(&mut self.input);
        while self.event.is_none() && self.read < input.len() {
            let Some(taken) = self.step(input.get(self.read..).unwrap_or_default()) else {
                break;
            };
            self.read += taken;
        }
        if self.read < input.len() {
            self.input = input;
        } else {
            self.read = 0;
        }
        self.event.take()
    }

    /// The replies since the last call, ready to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.output)
    }

    /// Positive answer to [`Event::Mail`] or [`Event::Recipient`].
    pub fn accept(&mut self) {
        match mem::replace(&mut self.phase, Phase::Line) {
            Phase::AwaitMail(transaction) => {
                self.transaction = Some(transaction);
                self.reply(&Reply::new(250, 1, 0, "ok"));
            }
            Phase::AwaitRecipient(address) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push(address);
                }
                self.reply(&Reply::new(250, 1, 5, "ok"));
            }
            other => self.phase = other,
        }
    }

    /// Negative answer to [`Event::Mail`] or [`Event::Recipient`]. A reply that is neither 4yz
    /// nor 5yz becomes `451 4.3.0`.
    pub fn refuse(&mut self, reply: Reply) {
        if matches!(self.phase, Phase::AwaitMail(_) | Phase::AwaitRecipient(_)) {
            self.phase = Phase::Line;
            self.reply(&answer::negative(reply));
        }
    }

    /// The next recipient's answer to [`Event::Message`]. LMTP sends it at once; SMTP sends one
    /// reply when all are there: the first 4yz if there is any, else the first 5yz, else 250.
    pub fn answer(&mut self, answer: Answer) {
        let Phase::AwaitAnswers(answers) = &mut self.phase else {
            return;
        };
        let recipients = self
            .transaction
            .as_ref()
            .map_or(&[][..], |open| &open.recipients);
        let reply = match (self.settings.protocol, recipients.get(answers.len())) {
            (Protocol::Lmtp, Some(recipient)) => Some(answer::reply_for(recipient, &answer)),
            _ => None,
        };
        answers.push(answer);
        let last = answers.len() >= recipients.len();
        let merged = (last && self.settings.protocol == Protocol::Smtp)
            .then(|| answer::merged_reply(recipients, answers));
        for reply in [reply, merged].iter().flatten() {
            if reply.is_positive() {
                (self.errors, self.idle_commands) = (0, 0);
            }
            self.reply(reply);
        }
        if last {
            self.end_transaction();
            self.phase = Phase::Line;
        }
    }

    /// Answer to [`Event::StartTls`], once the handshake is done: everything that was said before
    /// is forgotten but the errors (RFC 3207 4.2).
    pub fn tls_is_on(&mut self) {
        if matches!(self.phase, Phase::AwaitTls) {
            self.phase = Phase::Line;
            self.end_transaction();
            self.greeted = false;
            self.settings.client.helo = String::new();
            self.settings.client.tls = true;
        }
    }

    /// How many answers [`Event::Message`] still needs.
    pub fn unanswered(&self) -> usize {
        match (&self.phase, &self.transaction) {
            (Phase::AwaitAnswers(answers), Some(open)) => {
                open.recipients.len().saturating_sub(answers.len())
            }
            _ => 0,
        }
    }

    /// The octets of the mail that is being read, as far as they are here and were not taken
    /// yet; the caller keeps them. `None` when no mail is being read, or it is refused already.
    pub fn take_data(&mut self) -> Option<Vec<u8>> {
        match &mut self.phase {
            Phase::Data(reader) => reader.take(),
            _ => None,
        }
    }

    /// The mail that is being read cannot be kept: frees its memory, reads on to its end and
    /// then answers why.
    pub fn abandon_data(&mut self, why: DataFault) {
        if let Phase::Data(reader) = &mut self.phase {
            reader.abandon(why);
        }
    }

    /// Ends the session with a reply of the caller (`421`); [`Event::Close`] follows.
    pub fn close(&mut self, reply: &Reply) {
        if !matches!(self.phase, Phase::Closed) {
            self.reply(reply);
            self.end();
        }
    }

    /// Between `354` and the end of data.
    pub fn is_in_data(&self) -> bool {
        matches!(self.phase, Phase::Data(_))
    }

    /// No mail is open and no part of a command is here: a good moment to close.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Line)
            && self.transaction.is_none()
            && self.line.is_empty()
            && self.input.is_empty()
    }

    /// How many octets [`Session::take_data`] would give; `None` where it gives none.
    pub fn held_data(&self) -> Option<usize> {
        match &self.phase {
            Phase::Data(reader) => reader.held(),
            _ => None,
        }
    }

    /// How many octets were taken; `None` when an answer is needed first.
    fn step(&mut self, octets: &[u8]) -> Option<usize> {
        match &mut self.phase {
            Phase::Line => Some(self.read_line(octets)),
            Phase::Skip { after_cr } => {
                let end = memchr::memchr(b'\n', octets).map_or(octets.len(), |at| at + 1);
                let skipped = octets.get(..end).unwrap_or_default();
                let whole = skipped.ends_with(b"\r\n") || (*after_cr && skipped == b"\n");
                *after_cr = skipped.ends_with(b"\r");
                if whole {
                    self.phase = Phase::Line;
                }
                Some(end)
            }
            Phase::Data(reader) => {
                let taken = reader.feed(octets);
                if reader.is_done() {
                    self.end_of_data();
                }
                Some(taken)
            }
            Phase::AwaitMail(_)
            | Phase::AwaitRecipient(_)
            | Phase::AwaitAnswers(_)
            | Phase::AwaitTls => None,
            Phase::Closed => Some(octets.len()),
        }
    }

    fn read_line(&mut self, octets: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', octets).map_or(octets.len(), |at| at + 1);
        let piece = octets.get(..end).unwrap_or_default();
        if self.line.len() + piece.len() > command::LINE_OCTETS {
            let after_cr = self.line.ends_with(b"\r");
            self.skip_line(after_cr, "a command line is too long");
            return 0;
        }
        self.line.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            let line = mem::take(&mut self.line);
            match line.strip_suffix(b"\r\n") {
                Some(line) => self.command(line, end < octets.len()),
                None => self.skip_line(false, "a command line ends with CR LF"),
            }
        }
        end
    }

    fn skip_line(&mut self, after_cr: bool, why: &str) {
        self.line = Vec::new();
        self.phase = Phase::Skip { after_cr };
        self.error(&Reply::new(500, 5, 2, why));
    }

    /// `pipelined`: more came together with the line.
    fn command(&mut self, line: &[u8], pipelined: bool) {
        let command = match Command::parse(line, self.settings.default_domain.as_deref()) {
            Ok(command) => command,
            Err(reply) => return self.error(&reply),
        };
        match command {
            Command::Hello(hello, name) => self.hello(hello, name),
            Command::Noop => self.idle(&Reply::new(250, 0, 0, "ok")),
            Command::Help => self.idle(&Reply::new(214, 0, 0, "see RFC 5321 and RFC 2033")),
            Command::Vrfy => self.idle(&Reply::new(252, 0, 0, "send a mail and see")),
            Command::Rset => {
                self.end_transaction();
                self.idle(&Reply::new(250, 0, 0, "ok"));
            }
            Command::Quit => self.close(&Reply::new(221, 0, 0, "bye")),
            Command::NotOffered => self.error(&Reply::new(502, 5, 1, "command not offered")),
            Command::Bdat => self.close(&Reply::new(502, 5, 1, "BDAT is not offered")),
            Command::Foreign => self.close(&Reply::new(421, 7, 0, "this is no web server")),
            _ if !self.greeted => self.out_of_order("say hello first"),
            Command::StartTls => self.start_tls(pipelined),
            Command::Xforward(attributes) => self.xforward(attributes),
            Command::Mail(sender, parameters) => self.mail(sender, parameters),
            Command::Rcpt(address) => self.recipient(address),
            Command::Data => self.data(),
        }
    }

    fn hello(&mut self, hello: Hello, name: String) {
        match (self.settings.protocol, hello) {
            (Protocol::Lmtp, Hello::Helo | Hello::Ehlo) => {
                return self.error(&Reply::new(500, 5, 1, "this is LMTP: say LHLO"));
            }
            (Protocol::Smtp, Hello::Lhlo) => {
                return self.error(&Reply::new(500, 5, 1, "this is SMTP: say EHLO"));
            }
            _ => {}
        }
        self.end_transaction();
        self.greeted = true;
        self.settings.client.helo = name;
        let mut lines = vec![self.settings.hostname.clone()];
        if hello != Hello::Helo {
            lines.extend(self.extensions());
        }
        let last = lines.len() - 1;
        for (at, line) in lines.iter().enumerate() {
            let separator = if at < last { '-' } else { ' ' };
            let line = format!("250{separator}{}\r\n", escape(line));
            self.output.extend_from_slice(line.as_bytes());
        }
    }

    fn extensions(&self) -> Vec<String> {
        let mut extensions = vec![
            "PIPELINING".to_owned(),
            "8BITMIME".to_owned(),
            "SMTPUTF8".to_owned(),
            format!("SIZE {}", self.settings.limits.message_size),
            "ENHANCEDSTATUSCODES".to_owned(),
        ];
        if self.settings.starttls && !self.settings.client.tls {
            extensions.push("STARTTLS".to_owned());
        }
        if self.settings.client.trusted {
            extensions.push("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE".to_owned());
        }
        extensions
    }

    /// What comes in the clear behind `STARTTLS` was not said by a client that keeps to RFC 3207:
    /// the connection ends, rather than that anybody could think it was heard.
    fn start_tls(&mut self, pipelined: bool) {
        if self.settings.client.tls {
            return self.out_of_order("TLS is on already");
        }
        if !self.settings.starttls {
            return self.error(&Reply::new(502, 5, 1, "command not offered"));
        }
        if self.transaction.is_some() {
            return self.out_of_order("a mail is open");
        }
        if pipelined {
            return self.close(&Reply::new(554, 5, 0, "nothing may follow STARTTLS"));
        }
        self.reply(&Reply::new(220, 0, 0, "ready for TLS"));
        self.phase = Phase::AwaitTls;
        self.event = Some(Event::StartTls);
    }

    fn xforward(&mut self, attributes: Vec<Forwarded>) {
        if !self.settings.client.trusted {
            return self.error(&Reply::new(550, 7, 1, "XFORWARD is for trusted clients"));
        }
        if self.transaction.is_some() {
            return self.out_of_order("a mail is open");
        }
        for attribute in attributes {
            match attribute {
                Forwarded::Ip(ip) => self.settings.client.origin_ip = ip,
                Forwarded::Name(name) => self.settings.client.origin_name = name,
                Forwarded::Unused => {}
            }
        }
        self.reply(&Reply::new(250, 0, 0, "ok"));
    }

    fn mail(&mut self, sender: ReversePath, parameters: MailParameters) {
        if self.transaction.is_some() {
            return self.out_of_order("a mail is open already");
        }
        let declared_size = parameters.size;
        if declared_size.is_some_and(|size| size > self.settings.limits.message_size) {
            return self.reply(&DataFault::TooBig.into());
        }
        self.phase = Phase::AwaitMail(Transaction {
            sender: sender.clone(),
            parameters,
            recipients: Vec::new(),
        });
        self.event = Some(Event::Mail {
            sender,
            declared_size,
        });
    }

    fn recipient(&mut self, address: Address) {
        let Some(open) = &self.transaction else {
            return self.out_of_order("MAIL comes first");
        };
        if !open.parameters.smtputf8 && !command::is_ascii(&address) {
            return self.error(&command::not_ascii());
        }
        if open.recipients.len() >= self.settings.limits.recipients {
            return self.reply(&Reply::new(452, 5, 3, "too many recipients"));
        }
        self.phase = Phase::AwaitRecipient(address.clone());
        self.event = Some(Event::Recipient(address));
    }

    fn data(&mut self) {
        match &self.transaction {
            None => self.out_of_order("MAIL comes first"),
            Some(open) if open.recipients.is_empty() => self.out_of_order("no valid recipients"),
            Some(_) => {
                self.reply(&Reply::plain(354, "end with a dot on a line of its own"));
                self.phase = Phase::Data(DataReader::new(
                    self.settings.bare_newline,
                    self.settings.limits.message_size,
                ));
            }
        }
    }

    fn end_of_data(&mut self) {
        let Phase::Data(reader) = mem::replace(&mut self.phase, Phase::Line) else {
            return;
        };
        let Some(open) = &self.transaction else {
            return;
        };
        match reader.finish() {
            Ok(raw) => {
                let envelope = Box::new(Envelope {
                    sender: open.sender.clone(),
                    recipients: open.recipients.clone(),
                    smtputf8: open.parameters.smtputf8,
                    eight_bit: open.parameters.eight_bit,
                    protocol: self.settings.protocol,
                    client: self.settings.client.clone(),
                });
                self.phase = Phase::AwaitAnswers(Vec::new());
                self.event = Some(Event::Message { envelope, raw });
            }
            Err(fault) => {
                let replies = match self.settings.protocol {
                    Protocol::Lmtp => open.recipients.len(),
                    Protocol::Smtp => 1,
                };
                for _ in 0..replies {
                    self.reply(&fault.into());
                }
                self.end_transaction();
            }
        }
    }

    /// What `XFORWARD` said holds for one mail.
    fn end_transaction(&mut self) {
        self.transaction = None;
        self.settings.client.origin_ip = None;
        self.settings.client.origin_name = None;
    }

    fn out_of_order(&mut self, why: &str) {
        self.error(&Reply::new(503, 5, 1, why));
    }

    /// Answers a command that a client may repeat for ever without sending a mail.
    fn idle(&mut self, reply: &Reply) {
        self.reply(reply);
        self.idle_commands += 1;
        if self.idle_commands >= IDLE_COMMANDS {
            self.close(&Reply::new(421, 7, 0, "too many commands without a mail"));
        }
    }

    fn error(&mut self, reply: &Reply) {
        self.reply(reply);
        self.errors += 1;
        if self.errors >= self.settings.limits.errors {
            self.close(&Reply::new(421, 7, 0, "too many errors"));
        }
    }

    fn reply(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    fn end(&mut self) {
        self.phase = Phase::Closed;
        self.transaction = None;
        self.input = Vec::new();
        self.line = Vec::new();
        self.event = Some(Event::Close);
    }
}

impl From<DataFault> for Reply {
    fn from(fault: DataFault) -> Self {
        match fault {
            DataFault::BareNewline => Self::new(550, 6, 11, "a CR or LF stands alone in the mail"),
            DataFault::TooBig => Self::new(552, 3, 4, "the mail is too big"),
            DataFault::NoRoom => Self::new(452, 3, 1, "no room for the mail now"),
            DataFault::NotKept => Self::new(451, 3, 0, "the mail cannot be kept now"),
        }
    }
}

#[cfg(test)]
mod tests;
