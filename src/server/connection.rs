//! One connection: octets between a stream and a session, with the clock, the memory budget, TLS and
//! the hand-off.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{io, mem};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::arrival::{Arrival, Room};
use super::listener::Load;
use super::{Handoff, ListenerSettings};
use crate::mail::{Client, Envelope};
use crate::smtp::{Answer, DataFault, Event, Reply, Session, SessionSettings};

/// Octets of data read at a time.
const DATA_PIECE: usize = 128 * 1024;
/// Octets of commands read at a time: what is kept of a client that does not wait for answers.
const COMMAND_PIECE: usize = 8 * 1024;
/// A mail must come at 500 octets a second at least, after its first `data_block`.
const TIME_PER_OCTET: Duration = Duration::from_millis(2);
/// Where nearly all connections are taken, a silent client has this part of `timeouts.command`.
const HASTE: u32 = 10;
/// After our last word: what the client still sends is read so that it can read our reply.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    /// What was read, until the session has it: a connection that sends nothing needs no room.
    static PIECE: RefCell<Vec<u8>> = RefCell::new(vec![0; DATA_PIECE]);
}

/// What the connections of all listeners share.
#[derive(Debug)]
pub(super) struct Shared<H> {
    pub(super) handoff: Arc<H>,
    pub(super) room: Room,
    /// A place for each connection, whatever its listener.
    pub(super) handles: Arc<Semaphore>,
    /// `true` once the server stops.
    pub(super) stop: watch::Receiver<bool>,
}

impl<H> Clone for Shared<H> {
    fn clone(&self) -> Self {
        Self {
            handoff: self.handoff.clone(),
            room: self.room.clone(),
            handles: self.handles.clone(),
            stop: self.stop.clone(),
        }
    }
}

/// What a connection runs over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Serves one client until it or we have had enough. One whose [`Client::tls`] is set shakes hands
/// first.
pub(super) async fn serve<H: Handoff>(
    stream: Box<dyn Wire>,
    client: Client,
    settings: Arc<ListenerSettings>,
    load: Load,
    shared: Shared<H>,
) {
    let (peer, implicit_tls) = (client.ip, client.tls);
    let session = Session::new(SessionSettings {
        protocol: settings.protocol,
        hostname: settings.hostname.clone(),
        default_domain: settings.default_domain.clone(),
        bare_newline: settings.bare_newline,
        starttls: settings.tls.as_ref().is_some_and(|tls| !tls.implicit),
        limits: settings.limits,
        client,
    });
    let mut connection = Connection {
        stream,
        peer,
        session,
        load,
        room: shared.room,
        handoff: shared.handoff,
        stop: shared.stop,
        progress: Instant::now(),
        data: None,
        settings,
    };
    let served = async {
        if implicit_tls {
            connection.shake_hands().await?;
        }
        connection.run().await
    };
    if let Err(error) = served.await {
        tracing::debug!(listener = connection.settings.name, %error, "connection lost");
    }
}

struct Connection<H> {
    stream: Box<dyn Wire>,
    /// For the log.
    peer: Option<IpAddr>,
    session: Session,
    settings: Arc<ListenerSettings>,
    handoff: Arc<H>,
    load: Load,
    room: Room,
    stop: watch::Receiver<bool>,
    /// When the last reply went out.
    progress: Instant,
    /// The mail that is being read.
    data: Option<Data>,
}

struct Data {
    /// Moved on by the time that we made the client wait.
    began: Instant,
    /// As they came.
    octets: u64,
    /// `None` once the mail is refused.
    arrival: Option<Arrival>,
}

enum Read {
    /// The session has them.
    Octets,
    End,
    Late,
    Stopping,
}

impl<H: Handoff> Connection<H> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            while let Some(event) = self.session.next_event() {
                if event == Event::Close {
                    return self.say_goodbye().await;
                }
                self.act(event).await?;
            }
            self.flush().await?;
            self.keep_data().await;
            let stopping = *self.stop.borrow_and_update();
            if stopping && self.session.is_idle() {
                self.session.close(&Reply::new(421, 3, 2, "shutting down"));
                continue;
            }
            match self.read(stopping).await? {
                Read::Octets | Read::Stopping => {}
                Read::End => return Ok(()),
                Read::Late => self.session.close(&Reply::new(421, 4, 2, "timeout")),
            }
        }
    }

    async fn act(&mut self, event: Event) -> io::Result<()> {
        let handoff = self.handoff.clone();
        let outcome = match event {
            Event::Mail {
                sender,
                declared_size,
            } => {
                self.data = None;
                if declared_size.is_some_and(|size| !self.room.budget.fits(size)) {
                    Some(Err(DataFault::NoRoom.into()))
                } else {
                    guarded(async move { handoff.mail(&sender, declared_size).await }).await
                }
            }
            Event::Recipient(address) => {
                guarded(async move { handoff.recipient(&address).await }).await
            }
            Event::Message { envelope, raw } => return self.hand_over(*envelope, raw).await,
            Event::StartTls => {
                self.flush().await?;
                self.shake_hands().await?;
                self.session.tls_is_on();
                return Ok(());
            }
            Event::Close => return Ok(()),
        };
        match outcome.unwrap_or_else(|| Err(broken())) {
            Ok(()) => self.session.accept(),
            Err(reply) => self.session.refuse(reply),
        }
        Ok(())
    }

    /// Changes to TLS, within the time that a command has now. When that fails nothing is left to
    /// talk over.
    async fn shake_hands(&mut self) -> io::Result<()> {
        let Some(tls) = &self.settings.tls else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let clear = mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let handshake = TlsAcceptor::from(tls.config.clone()).accept(clear);
        let deadline = self.deadline(Instant::now());
        let shaken = tokio::select! {
            shaken = timeout_at(deadline, handshake) => {
                shaken.unwrap_or_else(|late| Err(late.into()))
            }
            _ = self.stop.wait_for(|stop| *stop) => Err(io::Error::other("shutting down")),
        };
        match shaken {
            Ok(stream) => self.stream = Box::new(stream),
            Err(error) => {
                let client = self.peer.map(tracing::field::display);
                tracing::info!(listener = self.settings.name, client, %error, "TLS handshake failed");
                return Err(error);
            }
        }
        self.progress = Instant::now();
        Ok(())
    }

    async fn hand_over(&mut self, envelope: Envelope, rest: Vec<u8>) -> io::Result<()> {
        self.flush().await?;
        let arrival = self.data.take().and_then(|data| data.arrival);
        let arrival = arrival.unwrap_or_else(|| Arrival::new(&self.room));
        let (answers, otherwise) = match arrival.whole(rest).await {
            Ok(raw) => {
                let handoff = self.handoff.clone();
                let work = guarded(async move { handoff.message(envelope, raw).await });
                let patience = self.settings.timeouts.final_reply + self.handoff.overtime();
                match timeout(patience, work).await {
                    Ok(answers) => (answers.unwrap_or_default(), broken()),
                    Err(_) => (Vec::new(), Reply::new(451, 4, 5, "this took too long")),
                }
            }
            Err(error) => (Vec::new(), self.not_kept(&error).into()),
        };
        for answer in answers {
            self.session.answer(answer);
        }
        while self.session.unanswered() > 0 {
            self.session.answer(Answer::Refused(otherwise.clone()));
        }
        self.flush().await
    }

    /// Puts the data that has come where it does not grow; the client waits meanwhile.
    async fn keep_data(&mut self) {
        if !self.session.is_in_data() {
            self.data = None;
            return;
        }
        let now = Instant::now();
        let data = self.data.get_or_insert_with(|| Data {
            began: now,
            octets: 0,
            arrival: Some(Arrival::new(&self.room)),
        });
        let (Some(held), Some(arrival)) = (self.session.held_data(), &mut data.arrival) else {
            data.arrival = None;
            return;
        };
        if arrival.may_stay(held) {
            return;
        }
        let octets = self.session.take_data().unwrap_or_default();
        let kept = arrival.keep(octets).await;
        data.began += now.elapsed();
        if let Err(error) = kept {
            data.arrival = None;
            let why = self.not_kept(&error);
            self.session.abandon_data(why);
        }
    }

    fn not_kept(&self, error: &io::Error) -> DataFault {
        tracing::warn!(listener = self.settings.name, %error, "a mail cannot be kept");
        match error.kind() {
            io::ErrorKind::OutOfMemory
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded => DataFault::NoRoom,
            _ => DataFault::NotKept,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let output = self.session.take_output();
        if output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        timeout(self.settings.timeouts.command, write).await??;
        self.progress = Instant::now();
        Ok(())
    }

    async fn read(&mut self, stopping: bool) -> io::Result<Read> {
        let begun = Instant::now();
        let most = match self.data {
            Some(_) => DATA_PIECE,
            None => COMMAND_PIECE,
        };
        loop {
            let deadline = self.deadline(begun);
            // The load may change while the client is silent.
            let look = Instant::now() + self.settings.timeouts.command / HASTE;
            let fed = feed(&mut self.stream, &mut self.session, most);
            let read = timeout_at(deadline.min(look), fed);
            return tokio::select! {
                read = read => match read {
                    Err(_) if Instant::now() < self.deadline(begun) => continue,
                    Err(_) => Ok(Read::Late),
                    Ok(Ok(0)) => Ok(Read::End),
                    Ok(Ok(count)) => {
                        if let Some(data) = &mut self.data {
                            data.octets += count as u64;
                        }
                        Ok(Read::Octets)
                    }
                    Ok(Err(error)) => Err(error),
                },
                _ = self.stop.changed(), if !stopping => Ok(Read::Stopping),
            };
        }
    }

    /// When the octets must be here that are waited for since `begun`.
    fn deadline(&self, begun: Instant) -> Instant {
        let timeouts = self.settings.timeouts;
        match &self.data {
            None if self.load.is_high() => self.progress + timeouts.command / HASTE,
            None => self.progress + timeouts.command,
            Some(data) => {
                let left = data_left(begun - data.began, data.octets, timeouts.data_block);
                begun + timeouts.data_block.min(left)
            }
        }
    }

    async fn say_goodbye(&mut self) -> io::Result<()> {
        self.flush().await?;
        let mut rest = [0; 1024];
        // The end of TLS is a message too, and waits for a client that does not read.
        let leave = async {
            self.stream.shutdown().await?;
            while self.stream.read(&mut rest).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        let _ = timeout(LINGER, leave).await;
        Ok(())
    }
}

/// Reads what is there once something is, at most that many octets, and feeds the session. How many
/// they were.
async fn feed(stream: &mut Box<dyn Wire>, session: &mut Session, most: usize) -> io::Result<usize> {
    poll_fn(|context| {
        PIECE.with_borrow_mut(|piece| {
            let mut read = ReadBuf::new(piece.get_mut(..most).unwrap_or_default());
            ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
            session.feed(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    })
    .await
}

/// How long a mail may still take that has taken `elapsed` for `octets`.
fn data_left(elapsed: Duration, octets: u64, data_block: Duration) -> Duration {
    let paid = TIME_PER_OCTET.saturating_mul(u32::try_from(octets).unwrap_or(u32::MAX));
    data_block.saturating_add(paid).saturating_sub(elapsed)
}

/// The work's outcome; `None` when it panicked. It lies in a box: a connection that waits for its next
/// command is small, and nothing moves the work.
fn guarded<'a, T: 'a>(
    work: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = Option<T>> + Send + 'a {
    let mut work: Pin<Box<dyn Future<Output = T> + Send + 'a>> = Box::pin(work);
    async move {
        let poll = |context: &mut Context<'_>| {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
            polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
        };
        let outcome = poll_fn(poll).await;
        if outcome.is_none() {
            tracing::error!("the hand-off failed");
        }
        outcome
    }
}

fn broken() -> Reply {
    Reply::new(451, 3, 0, "internal error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_that_trickles_is_cut() {
        let rows = [
            (0, 0, 180),
            (179, 0, 1),
            (180, 0, 0),
            (180, 36, 0),
            (181, 500, 0),
            (181, 1000, 1),
            (3600, 50 << 20, 101_437),
            (0, u64::MAX, 8_590_114),
        ];
        for (elapsed, octets, left) in rows {
            let found = data_left(
                Duration::from_secs(elapsed),
                octets,
                Duration::from_secs(180),
            );
            assert_eq!(found.as_secs(), left, "{elapsed} s, {octets} octets");
        }
    }
}
