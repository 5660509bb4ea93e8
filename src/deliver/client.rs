//! One connection to a next hop: SMTP (RFC 5321) and LMTP (RFC 2033) from the client's side, up to
//! the point where it may carry mail. What it carries is in [`super::transaction`].
//!
//! Contract: a connection that saw a time-out, a reply out of place or octets that no command
//! asked for is not used again ([`Connection::is_in_step`]).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::hop::{Endpoint, HopSettings, Protocol, Tls};
use super::{DeliverError, tls};
use crate::smtp::{EnhancedCode, Reply, ReplyParser, ServerReply};

/// How long a reply is waited for after a write has failed: it says why.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
/// Octets of replies read at once.
const PIECE: usize = 4096;
/// A next hop hardly hangs up so soon after a mail.
const MOMENT: Duration = Duration::from_secs(1);

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
pub(super) struct Offers {
    pub(super) pipelining: bool,
    pub(super) size: bool,
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
    starttls: bool,
    auth: Vec<String>,
}

/// One open connection, greeted and logged in.
pub(super) struct Connection {
    stream: Box<dyn Wire>,
    pub(super) parser: ReplyParser,
    /// Where replies are read into; in a future of its own it would be moved with it.
    octets: Box<[u8]>,
    pub(super) offers: Offers,
    pub(super) settings: Arc<HopSettings>,
    /// No transaction is open, and none was broken off.
    pub(super) in_step: bool,
    /// The last transaction went to its end: there is nothing that a `RSET` would take back.
    pub(super) is_reset: bool,
    /// It carried a mail before this one.
    is_used: bool,
    /// The next hop has answered something of this mail, other than `421`.
    heard: bool,
    /// The next hop has said `421`, so it hangs up (RFC 5321 3.8), or something out of place.
    pub(super) closing: bool,
    /// TLS is on.
    tls: bool,
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
        let mut connection = Self::over(stream, settings);
        connection.introduce(patience).await?;
        Ok(connection)
    }

    /// All that comes before the first mail.
    pub(super) async fn introduce(&mut self, patience: Patience) -> Result<(), DeliverError> {
        self.greet(patience).await?;
        self.log_in(patience).await
    }

    /// A connection that has said and heard nothing yet.
    pub(super) fn over(stream: Box<dyn Wire>, settings: impl Into<Arc<HopSettings>>) -> Self {
        Self {
            stream,
            parser: ReplyParser::new(),
            octets: vec![0; PIECE].into(),
            offers: Offers::default(),
            settings: settings.into(),
            in_step: true,
            is_reset: false,
            is_used: false,
            heard: false,
            closing: false,
            tls: false,
        }
    }

    /// Nothing is open or left over: the connection may carry another mail.
    pub(super) fn is_in_step(&self) -> bool {
        self.in_step && !self.closing && self.parser.is_at_rest()
    }

    /// Makes a connection that lay idle ready again. One that was in use a moment ago and has nothing to
    /// take back is; any other is asked by `RSET`. False: it must be dropped.
    pub(super) async fn revive(&mut self, since: Instant, patience: Patience) -> bool {
        if !self.is_in_step() || self.waiting().await != Waiting::Nothing {
            return false;
        }
        self.is_reset && since.elapsed() < MOMENT
            || matches!(self.command("RSET", "RSET", patience).await, Ok(reply) if reply.is_positive())
                && self.is_in_step()
    }

    /// A new mail begins.
    pub(super) fn begin(&mut self) {
        self.is_used |= self.is_reset;
        (self.in_step, self.is_reset, self.heard) = (false, false, false);
    }

    /// It was used again, and the next hop had hung up or said `421` before it heard of this mail: a new
    /// connection may carry it.
    pub(super) async fn was_left(&mut self) -> bool {
        let untouched = self.is_used && !self.heard && self.parser.is_at_rest();
        untouched && (self.closing || self.waiting().await == Waiting::End)
    }

    /// Says `QUIT` and does not wait for the answer.
    pub(super) async fn quit(mut self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.stream.write_all(b"QUIT\r\n")).await;
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
        let reply = self.command("STARTTLS", "STARTTLS", patience).await?;
        if reply.code >= 400 && !verify {
            return Ok(());
        }
        expect(&reply, 220, "STARTTLS")?;
        if !self.parser.is_at_rest() {
            return Err(out_of_step("something follows the reply to STARTTLS"));
        }
        self.start_tls(verify, patience).await?;
        self.hello(patience).await
    }

    /// What was offered before the handshake is forgotten (RFC 3207 4.2).
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
        self.tls = true;
        self.offers = Offers::default();
        Ok(())
    }

    async fn hello(&mut self, patience: Patience) -> Result<(), DeliverError> {
        let verb = match self.settings.protocol {
            Protocol::Lmtp => "LHLO",
            Protocol::Smtp => "EHLO",
        };
        let command = format!("{verb} {}", self.settings.hostname);
        let reply = self.command(verb, &command, patience).await?;
        expect(&reply, 250, verb)?;
        self.offers = Offers::read(&reply);
        Ok(())
    }

    async fn log_in(&mut self, patience: Patience) -> Result<(), DeliverError> {
        let Some(auth) = self.settings.auth.clone() else {
            return Ok(());
        };
        if self.settings.tls == Tls::Opportunistic && !self.tls {
            return Err(DeliverError::new(
                Reply::new(451, 7, 0, "the next hop lets nobody log in this way"),
                "no log-in: TLS is not to be had",
            ));
        }
        let (name, first, then) = auth.exchange();
        if !self.offers.auth.iter().any(|offered| offered == name) {
            return Err(DeliverError::new(
                Reply::new(451, 7, 0, "the next hop lets nobody log in this way"),
                format!("AUTH {name} is not offered"),
            ));
        }
        let mut reply = self
            .command("AUTH", &format!("AUTH {name}{first}"), patience)
            .await?;
        for answer in then {
            if reply.code == 334 {
                reply = self.command("AUTH", &answer, patience).await?;
            }
        }
        expect(&reply, 235, "AUTH")
    }

    /// Sends one line and reads its reply; `what` names it in errors.
    pub(super) async fn command(
        &mut self,
        what: &str,
        line: &str,
        patience: Patience,
    ) -> Result<ServerReply, DeliverError> {
        self.write(what, format!("{line}\r\n").as_bytes(), patience)
            .await?;
        self.reply(what, patience).await
    }

    pub(super) async fn write(
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
    pub(super) async fn reply(
        &mut self,
        what: &str,
        patience: Patience,
    ) -> Result<ServerReply, DeliverError> {
        let (parser, stream, octets) = (&mut self.parser, &mut self.stream, &mut self.octets);
        let here = parser.next_reply().ok().flatten();
        let read = async {
            loop {
                if let Some(reply) = parser.next_reply().map_err(io::Error::other)? {
                    return Ok(reply);
                }
                match stream.read(octets).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => parser.feed(octets.get(..count).unwrap_or_default()),
                }
            }
        };
        let reply = match here {
            Some(reply) => reply,
            None => patience.wait(what, read).await?,
        };
        self.closing |= reply.code == 421;
        self.heard |= reply.code != 421;
        Ok(reply)
    }

    /// A reply of 4yz or 5yz as the recipient's error; any other is out of place.
    pub(super) fn refused(&mut self, reply: ServerReply, what: &str) -> DeliverError {
        if reply.code < 400 {
            self.closing = true;
            return out_of_step(what);
        }
        let class = (reply.code / 100) as u8;
        let mut reply = Reply::from(reply);
        reply.enhanced.get_or_insert(EnhancedCode(class, 0, 0));
        DeliverError::new(reply, format!("{what} was refused"))
    }

    /// What waits to be read right now.
    pub(super) async fn waiting(&mut self) -> Waiting {
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

/// What [`Connection::waiting`] found.
#[derive(PartialEq, Eq)]
pub(super) enum Waiting {
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

pub(super) fn out_of_step(what: &str) -> DeliverError {
    DeliverError::new(
        Reply::new(451, 4, 2, "the next hop's replies are out of step"),
        what,
    )
}
