//! One connection to a next hop: SMTP (RFC 5321) and LMTP (RFC 2033) from the client's side.
//!
//! Contract: a recipient is accepted only when a reply says so that can be nobody else's. Replies
//! too few or too many, a reply out of place, a time-out: what is unknown is `451`, and the
//! connection is not used again ([`Connection::is_in_step`]). From the last octet of the data
//! until its reply an error is [`ambiguous`](DeliverError::ambiguous).
//!
//! 8-bit mail goes to a next hop without 8BITMIME as it is; mail that needs SMTPUTF8 (a header or
//! local part beyond ASCII) is refused with `5.6.7` where the next hop lacks it.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{Accepted, Content, DeliverError, Delivery, Outcome, tls};
use crate::mail::Address;
use crate::smtp::{EnhancedCode, Reply, ReplyParser, ServerReply, StrayLineEnd, Writer};

/// Octets of data written at once, each within the step time-out.
const CHUNK: usize = 64 * 1024;
/// Commands sent before their replies are read: both directions fit into socket buffers
/// (RFC 2920 3.1).
const PIPELINED: usize = 50;
/// How long a reply is waited for after a write has failed: it says why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which protocol the next hop speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 2033: one reply a recipient.
    Lmtp,
    /// RFC 5321: one reply a mail.
    Smtp,
}

/// Where the next hop listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or address, and a port.
    Tcp {
        /// DNS name or IP address; also the name that a certificate must have.
        host: String,
        /// 1-65535.
        port: u16,
    },
    /// A socket file.
    Unix(PathBuf),
}

/// TLS towards a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Never.
    #[default]
    None,
    /// `STARTTLS` where it is offered; the certificate is not looked at (RFC 7435).
    Opportunistic,
    /// `STARTTLS` or nothing; the certificate must be good.
    Starttls,
    /// TLS from the first octet; the certificate must be good.
    Implicit,
}

/// SASL mechanisms that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The old `LOGIN`.
    Login,
    /// An OAuth 2 bearer token in place of the password.
    Xoauth2,
}

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// Mechanism.
    pub mechanism: Mechanism,
    /// User name.
    pub username: String,
    /// Password or token, without a line end. Never shown by `Debug`.
    pub password: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// One next hop.
#[derive(Debug, Clone)]
pub struct HopSettings {
    /// LMTP or SMTP.
    pub protocol: Protocol,
    /// Where.
    pub endpoint: Endpoint,
    /// Our name in `LHLO` or `EHLO` (`server.hostname`).
    pub hostname: String,
    /// TLS.
    pub tls: Tls,
    /// Log in; `None` = no.
    pub auth: Option<Auth>,
    /// Longest wait for each step: connecting, a reply, 64 KiB written.
    pub timeout: Duration,
    /// Connections at once, at least 1.
    pub max_connections: usize,
}

impl HopSettings {
    /// `lmtp:ADDRESS` or `smtp:ADDRESS`, for records and logs.
    pub fn place(&self) -> String {
        match self.protocol {
            Protocol::Lmtp => format!("lmtp:{}", self.endpoint),
            Protocol::Smtp => format!("smtp:{}", self.endpoint),
        }
    }
}

/// How long to wait: for one step, and for all of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For each step.
    pub(super) step: Duration,
    /// For the whole.
    pub(super) until: Option<Instant>,
}

impl Patience {
    /// Waits for one step. `what` names it in the error.
    pub(super) async fn wait<T>(
        self,
        what: &str,
        step: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DeliverError> {
        let by_step = Instant::now() + self.step;
        let until = self.until.map_or(by_step, |until| until.min(by_step));
        match tokio::time::timeout_at(until.into(), step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(DeliverError::new(
                Reply::new(451, 4, 2, "the connection to the next hop broke"),
                format!("{what}: {error}"),
            )),
            Err(_) if until < by_step => Err(DeliverError::new(
                Reply::new(451, 4, 5, "the next hop took too long"),
                format!("{what}: the deadline passed"),
            )),
            Err(_) => Err(DeliverError::new(
                Reply::new(451, 4, 2, "the next hop does not answer"),
                format!("{what}: no answer within {:?}", self.step),
            )),
        }
    }
}

/// What a connection runs over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What the next hop offered in its last `LHLO` or `EHLO`.
#[derive(Debug, Clone, Default)]
struct Offers {
    pipelining: bool,
    size: bool,
    eight_bit: bool,
    smtputf8: bool,
    starttls: bool,
    auth: Vec<String>,
}

/// One open connection, greeted and logged in.
pub(super) struct Connection {
    stream: Box<dyn Wire>,
    parser: ReplyParser,
    offers: Offers,
    settings: Arc<HopSettings>,
    in_step: bool,
    /// The next hop has said `421`: it hangs up (RFC 5321 3.8).
    closing: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("place", &self.settings.place())
            .field("in_step", &self.in_step)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, greets, changes to TLS and logs in, as configured.
    ///
    /// # Errors
    /// Always temporary: the trouble is the next hop's or its settings', not the mail's.
    pub(super) async fn open(
        settings: Arc<HopSettings>,
        patience: Patience,
    ) -> Result<Self, DeliverError> {
        let stream = patience
            .wait("connecting", connect(&settings))
            .await
            .map_err(|error| DeliverError {
                reply: Reply::new(451, 4, 1, "the next hop cannot be reached"),
                ..error
            })?;
        let mut connection = Self {
            stream,
            parser: ReplyParser::new(),
            offers: Offers::default(),
            settings,
            in_step: true,
            closing: false,
        };
        connection.greet(patience).await?;
        connection.log_in(patience).await?;
        Ok(connection)
    }

    /// Nothing is open or left over: the connection may carry another mail.
    pub(super) fn is_in_step(&self) -> bool {
        self.in_step && !self.closing && self.parser.is_at_rest()
    }

    /// Makes a connection that lay idle ready again (`RSET`). False: it must be dropped.
    pub(super) async fn revive(&mut self, patience: Patience) -> bool {
        self.is_in_step()
            && self.waiting().await == Waiting::Nothing
            && matches!(self.command("RSET", patience).await, Ok(reply) if reply.is_positive())
            && self.is_in_step()
    }

    /// Says `QUIT` and does not wait for the answer.
    pub(super) async fn quit(mut self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.stream.write_all(b"QUIT\r\n")).await;
    }

    /// One mail. One result for each recipient, in their order.
    pub(super) async fn transact(
        &mut self,
        delivery: &Delivery,
        patience: Patience,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; delivery.recipients.len()];
        self.in_step = false;
        match self.attempt(delivery, patience, &mut outcomes).await {
            Ok(()) => self.in_step = true,
            Err(error) => settle(&mut outcomes, &Err(error)),
        }
        let missed = out_of_step("a recipient was left without a reply");
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Err(missed.clone())))
            .collect()
    }

    /// Fills in `outcomes`. `Ok`: every command had its reply. An error is that of all recipients
    /// which have no result yet.
    async fn attempt(
        &mut self,
        delivery: &Delivery,
        patience: Patience,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), DeliverError> {
        let (mail, recipients) = match self.commands(delivery, outcomes) {
            Ok(commands) => commands,
            Err(error) => {
                settle(outcomes, &Err(error));
                return Ok(());
            }
        };
        let accepted = self.envelope(mail, recipients, patience, outcomes).await?;
        if accepted.is_empty() {
            return Ok(());
        }
        let reply = self.command("DATA", patience).await?;
        if reply.is_positive() {
            outcomes.fill(None);
            return Err(out_of_step("DATA was answered with 2yz"));
        }
        if reply.code != 354 {
            settle(outcomes, &Err(refused(reply, "DATA")));
            return Ok(());
        }
        self.data(&delivery.content, patience).await?;
        match self.settings.protocol {
            Protocol::Lmtp => self.replies_of_each(&accepted, patience, outcomes).await,
            Protocol::Smtp => {
                let reply = self.reply("the data", patience).await.map_err(ambiguous)?;
                settle(outcomes, &self.outcome(reply));
                Ok(())
            }
        }
    }

    /// `MAIL` and each recipient's `RCPT`; a recipient that cannot be named has its result.
    fn commands(
        &self,
        delivery: &Delivery,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(String, Vec<(usize, String)>), DeliverError> {
        let content = &delivery.content;
        let header_utf8 = !content.head.is_ascii() || !content.header().is_ascii();
        if delivery.smtputf8 && header_utf8 && !self.offers.smtputf8 {
            return Err(no_smtputf8(554));
        }
        let mut needs_utf8 = delivery.smtputf8 && header_utf8;
        let sender = match delivery.sender.address() {
            None => String::new(),
            Some(address) => self.path(address, &mut needs_utf8)?,
        };
        let mut recipients = Vec::with_capacity(delivery.recipients.len());
        for (index, recipient) in delivery.recipients.iter().enumerate() {
            match self.path(&recipient.address, &mut needs_utf8) {
                Ok(path) => recipients.push((index, format!("RCPT TO:<{path}>"))),
                Err(error) => fill(outcomes, index, Err(error)),
            }
        }
        let mut mail = format!("MAIL FROM:<{sender}>");
        if self.offers.size {
            let _ = write!(mail, " SIZE={}", content.size());
        }
        if self.offers.eight_bit
            && (delivery.eight_bit || header_utf8 || !content.body().is_ascii())
        {
            mail.push_str(" BODY=8BITMIME");
        }
        if self.offers.smtputf8 && (needs_utf8 || delivery.smtputf8) {
            mail.push_str(" SMTPUTF8");
        }
        Ok((mail, recipients))
    }

    /// An address as a path says it: a domain beyond ASCII as A-labels where SMTPUTF8 is lacking.
    fn path(&self, address: &Address, needs_utf8: &mut bool) -> Result<String, DeliverError> {
        let text = address.to_string();
        if text
            .chars()
            .any(|c| c.is_control() || matches!(c, '<' | '>'))
        {
            return Err(DeliverError::new(
                Reply::new(553, 1, 3, "the address cannot be written in a path"),
                "an address with a control character or an angle bracket",
            ));
        }
        if text.is_ascii() {
            return Ok(text);
        }
        if self.offers.smtputf8 {
            *needs_utf8 = true;
            return Ok(text);
        }
        match idna::domain_to_ascii(address.domain()) {
            Ok(domain) if address.local().is_ascii() => Ok(format!("{}@{domain}", address.local())),
            _ => Err(no_smtputf8(553)),
        }
    }

    /// Sends the envelope and returns the recipients that were accepted.
    async fn envelope(
        &mut self,
        mail: String,
        recipients: Vec<(usize, String)>,
        patience: Patience,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<Vec<usize>, DeliverError> {
        let mut accepted = Vec::with_capacity(recipients.len());
        if recipients.is_empty() {
            return Ok(accepted);
        }
        let commands: Vec<_> = std::iter::once((None, mail))
            .chain(
                recipients
                    .into_iter()
                    .map(|(index, rcpt)| (Some(index), rcpt)),
            )
            .collect();
        let batch = if self.offers.pipelining { PIPELINED } else { 1 };
        for commands in commands.chunks(batch) {
            let mut wire = String::new();
            for (_, command) in commands {
                wire.push_str(command);
                wire.push_str("\r\n");
            }
            self.write("the envelope", wire.as_bytes(), patience)
                .await?;
            let mut refusal = None;
            for (index, _) in commands {
                let reply = self.reply("the envelope", patience).await?;
                match index {
                    None if reply.is_positive() => {}
                    None => refusal = Some(refused(reply, "MAIL")),
                    Some(index) if reply.is_positive() => accepted.push(*index),
                    Some(index) => fill(outcomes, *index, Err(refused(reply, "RCPT"))),
                }
            }
            if let Some(refusal) = refusal {
                outcomes.fill(None);
                settle(outcomes, &Err(refusal));
                return Ok(Vec::new());
            }
        }
        Ok(accepted)
    }

    /// Sends the message and its end.
    async fn data(&mut self, content: &Content, patience: Patience) -> Result<(), DeliverError> {
        let mut writer = Writer::new();
        let mut wire = Vec::with_capacity(CHUNK + CHUNK / 8);
        for piece in content.pieces() {
            for chunk in piece.chunks(CHUNK / 2) {
                writer.push(chunk, &mut wire).map_err(stray)?;
                if wire.len() >= CHUNK / 2 {
                    if let Err(error) = self.write("the data", &wire, patience).await {
                        return Err(self.last_words().await.unwrap_or(error));
                    }
                    wire.clear();
                }
            }
        }
        writer.finish(&mut wire).map_err(stray)?;
        match self.write("the end of the data", &wire, patience).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.last_words().await.unwrap_or(ambiguous(error))),
        }
    }

    /// A next hop that hangs up in the middle of the data has often said why.
    async fn last_words(&mut self) -> Option<DeliverError> {
        let patience = Patience {
            step: LAST_WORDS,
            until: None,
        };
        let reply = self.reply("the data", patience).await.ok()?;
        (reply.code >= 400).then(|| refused(reply, "the data"))
    }

    /// The replies after the data, one for each accepted recipient (RFC 2033 4.2).
    async fn replies_of_each(
        &mut self,
        accepted: &[usize],
        patience: Patience,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), DeliverError> {
        let mut all_positive = true;
        for &index in accepted {
            let reply = self.reply("the data", patience).await.map_err(ambiguous)?;
            all_positive &= reply.is_positive();
            let outcome = self.outcome(reply);
            fill(outcomes, index, outcome);
        }
        let waiting = self.waiting().await;
        self.closing |= waiting == Waiting::End;
        if self.parser.is_at_rest() && waiting != Waiting::Octets {
            return Ok(());
        }
        if !all_positive {
            for &index in accepted {
                let error = ambiguous(out_of_step("more replies than recipients"));
                fill(outcomes, index, Err(error));
            }
        }
        Err(out_of_step("more replies than recipients"))
    }

    fn outcome(&self, reply: ServerReply) -> Outcome {
        if !reply.is_positive() {
            return Err(refused(reply, "the data"));
        }
        Ok(Accepted {
            place: self.settings.place(),
            reply: Some(reply.into()),
            repeated: false,
        })
    }

    async fn greet(&mut self, patience: Patience) -> Result<(), DeliverError> {
        if self.settings.tls == Tls::Implicit {
            self.start_tls(true, patience).await?;
        }
        let greeting = self.reply("the greeting", patience).await?;
        expect(&greeting, 220, "the greeting")?;
        self.hello(patience).await?;
        let verify = match self.settings.tls {
            Tls::None | Tls::Implicit => return Ok(()),
            Tls::Opportunistic if !self.offers.starttls => return Ok(()),
            Tls::Opportunistic => false,
            Tls::Starttls => true,
        };
        let reply = self.command("STARTTLS", patience).await?;
        if reply.code != 220 && !verify {
            return Ok(());
        }
        expect(&reply, 220, "STARTTLS")?;
        self.start_tls(verify, patience).await?;
        self.hello(patience).await
    }

    /// Whatever came in before the handshake is forgotten (RFC 3207 4.2).
    async fn start_tls(&mut self, verify: bool, patience: Patience) -> Result<(), DeliverError> {
        let host = match &self.settings.endpoint {
            Endpoint::Tcp { host, .. } => host.clone(),
            Endpoint::Unix(_) => self.settings.hostname.clone(),
        };
        let plain: Box<dyn Wire> = Box::new(tokio::io::empty());
        let plain = std::mem::replace(&mut self.stream, plain);
        self.stream = patience
            .wait("TLS", tls::wrap(plain, &host, verify))
            .await
            .map_err(|error| DeliverError {
                reply: Reply::new(451, 7, 5, "TLS with the next hop fails"),
                ..error
            })?;
        self.parser = ReplyParser::new();
        self.offers = Offers::default();
        Ok(())
    }

    async fn hello(&mut self, patience: Patience) -> Result<(), DeliverError> {
        let verb = match self.settings.protocol {
            Protocol::Lmtp => "LHLO",
            Protocol::Smtp => "EHLO",
        };
        let command = format!("{verb} {}", self.settings.hostname);
        let reply = self.command(&command, patience).await?;
        expect(&reply, 250, verb)?;
        self.offers = Offers::read(&reply);
        Ok(())
    }

    async fn log_in(&mut self, patience: Patience) -> Result<(), DeliverError> {
        let Some(auth) = self.settings.auth.clone() else {
            return Ok(());
        };
        let (name, first, then) = auth.exchange();
        if !self.offers.auth.iter().any(|offered| offered == name) {
            return Err(DeliverError::new(
                Reply::new(451, 7, 0, "the next hop lets nobody log in this way"),
                format!("AUTH {name} is not offered"),
            ));
        }
        let mut reply = self
            .command(&format!("AUTH {name}{first}"), patience)
            .await?;
        for answer in then {
            if reply.code == 334 {
                reply = self.command(&answer, patience).await?;
            }
        }
        expect(&reply, 235, "AUTH")
    }

    async fn command(
        &mut self,
        command: &str,
        patience: Patience,
    ) -> Result<ServerReply, DeliverError> {
        let verb = command.split(' ').next().unwrap_or(command);
        let verb = if verb.len() > 8 { "AUTH" } else { verb };
        self.write(verb, format!("{command}\r\n").as_bytes(), patience)
            .await?;
        self.reply(verb, patience).await
    }

    async fn write(
        &mut self,
        what: &str,
        octets: &[u8],
        patience: Patience,
    ) -> Result<(), DeliverError> {
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(octets).await?;
            stream.flush().await
        };
        patience.wait(what, write).await
    }

    /// The next reply.
    async fn reply(&mut self, what: &str, patience: Patience) -> Result<ServerReply, DeliverError> {
        let (parser, stream) = (&mut self.parser, &mut self.stream);
        let read = async {
            let mut octets = [0; 4096];
            loop {
                if let Some(reply) = parser.next_reply().map_err(io::Error::other)? {
                    return Ok(reply);
                }
                match stream.read(&mut octets).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => parser.feed(octets.get(..count).unwrap_or_default()),
                }
            }
        };
        let reply = patience.wait(what, read).await?;
        self.closing |= reply.code == 421;
        Ok(reply)
    }

    /// What waits to be read right now.
    async fn waiting(&mut self) -> Waiting {
        let mut octet = [0; 1];
        let mut buffer = ReadBuf::new(&mut octet);
        let read = poll_fn(|context| {
            Poll::Ready(Pin::new(&mut self.stream).poll_read(context, &mut buffer))
        })
        .await;
        match read {
            Poll::Pending => Waiting::Nothing,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Waiting::Octets,
            Poll::Ready(_) => Waiting::End,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Waiting {
    Nothing,
    Octets,
    /// The end of the stream, or its failure.
    End,
}

impl Offers {
    /// The lines behind the first (RFC 5321 4.1.1.1); keywords in any case.
    fn read(reply: &ServerReply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']);
            match words.next().unwrap_or_default() {
                "PIPELINING" => offers.pipelining = true,
                "SIZE" => offers.size = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "STARTTLS" => offers.starttls = true,
                "AUTH" => offers.auth.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        offers
    }
}

impl Auth {
    /// The mechanism's name, the initial response with its space, and what answers each `334`.
    fn exchange(&self) -> (&'static str, String, Vec<String>) {
        let (user, password) = (&self.username, &self.password);
        match self.mechanism {
            Mechanism::Plain => {
                let response = BASE64.encode(format!("\0{user}\0{password}"));
                ("PLAIN", format!(" {response}"), Vec::new())
            }
            Mechanism::Login => {
                let answers = vec![BASE64.encode(user), BASE64.encode(password)];
                ("LOGIN", String::new(), answers)
            }
            Mechanism::Xoauth2 => {
                let text = format!("user={user}\x01auth=Bearer {password}\x01\x01");
                let response = BASE64.encode(text);
                ("XOAUTH2", format!(" {response}"), vec![String::new()])
            }
        }
    }
}

async fn connect(settings: &HopSettings) -> io::Result<Box<dyn Wire>> {
    match &settings.endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

fn fill(outcomes: &mut [Option<Outcome>], index: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(index) {
        *slot = Some(outcome);
    }
}

/// The result of all that have none yet.
fn settle(outcomes: &mut [Option<Outcome>], outcome: &Outcome) {
    for slot in outcomes.iter_mut().filter(|slot| slot.is_none()) {
        *slot = Some(outcome.clone());
    }
}

/// A reply of 4yz or 5yz as the recipient's error; any other is out of place.
fn refused(reply: ServerReply, what: &str) -> DeliverError {
    if reply.code < 400 {
        return out_of_step(what);
    }
    let class = (reply.code / 100) as u8;
    let mut reply = Reply::from(reply);
    reply.enhanced.get_or_insert(EnhancedCode(class, 0, 0));
    DeliverError::new(reply, format!("{what} was refused"))
}

/// Before any mail is named, every refusal is the next hop's own trouble.
fn expect(reply: &ServerReply, code: u16, what: &str) -> Result<(), DeliverError> {
    if reply.code == code {
        return Ok(());
    }
    let words = Reply::from(reply.clone());
    Err(DeliverError::new(
        Reply::new(451, 4, 1, "the next hop does not take our connection"),
        format!("{what} was answered with {words}"),
    ))
}

fn out_of_step(what: &str) -> DeliverError {
    DeliverError::new(
        Reply::new(451, 4, 2, "the next hop's replies are out of step"),
        what,
    )
}

fn no_smtputf8(code: u16) -> DeliverError {
    DeliverError::new(
        Reply::new(code, 6, 7, "the next hop does not offer SMTPUTF8"),
        "SMTPUTF8 is needed and not offered",
    )
}

fn stray(error: StrayLineEnd) -> DeliverError {
    DeliverError::new(
        Reply::new(550, 6, 11, "a CR or LF stands alone in the mail"),
        error.to_string(),
    )
}

fn ambiguous(error: DeliverError) -> DeliverError {
    DeliverError {
        ambiguous: true,
        ..error
    }
}
