//! Connections to engines: how one is made, how a mail goes out while the answer may already
//! come in, and where idle ones wait for the next mail.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::error::shown;
use super::gate::Patience;
use super::{Endpoint, ScanError};
use crate::mail::Octets;

/// How long an answer is waited for after the write has failed: it says why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The steps of an exchange, as errors name them.
pub(super) const CONNECTING: &str = "connecting";
pub(super) const SENDING: &str = "sending the mail";
pub(super) const ANSWER: &str = "waiting for the answer";

/// What a connection runs over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects to the engine.
pub(super) async fn connect(patience: Patience<'_>) -> Result<Box<dyn Wire>, ScanError> {
    let connecting = async {
        let stream: Box<dyn Wire> = match patience.address {
            Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(stream)
    };
    patience.wait(CONNECTING, connecting).await
}

/// The octets of a mail, read as they are sent.
pub(super) struct Source<'a> {
    left: &'a [Octets],
    /// Octets of the first one that were read.
    at: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(pieces: &'a [Octets]) -> Self {
        Self {
            left: pieces,
            at: 0,
        }
    }

    /// The next ones; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some((first, left)) = self.left.split_first() {
            if self.at < first.size() {
                let octets = first.fetch(self.at).await?;
                self.at = self.at.saturating_add(octets.len() as u64);
                return Ok(Some(octets));
            }
            (self.left, self.at) = (left, 0);
        }
        Ok(None)
    }
}

/// What a request came to.
pub(super) struct Heard<T> {
    pub(super) answer: T,
    /// All of the request was taken before the answer was there.
    pub(super) in_step: bool,
}

/// Writes and reads at the same time. An engine may answer and close while it is still being
/// written to: what it said counts, not the broken pipe.
pub(super) async fn converse<T>(
    patience: Patience<'_>,
    writing: impl Future<Output = io::Result<()>>,
    reading: impl Future<Output = io::Result<T>>,
) -> Result<Heard<T>, ScanError> {
    let mut reading = pin!(reading);
    let written = patience
        .within(SENDING, async {
            tokio::select! {
                biased;
                answer = &mut reading => Err(answer),
                written = writing => Ok(written),
            }
        })
        .await?;
    match written {
        Err(answer) => Ok(Heard {
            answer: answer.map_err(|error| patience.broken(SENDING, &error))?,
            in_step: false,
        }),
        Ok(Ok(())) => Ok(Heard {
            answer: patience.wait(ANSWER, reading).await?,
            in_step: true,
        }),
        Ok(Err(error)) => {
            let answer = tokio::time::timeout(patience.left(LAST_WORDS), reading).await;
            match answer {
                Ok(Ok(answer)) => Ok(Heard {
                    answer,
                    in_step: false,
                }),
                _ => Err(patience.broken(SENDING, &error)),
            }
        }
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is none; why.
    Nonsense(&'static str),
    /// The engine's own words for why it does not do it.
    Refused(Vec<u8>),
    /// The mail is larger than this setting of the engine allows.
    TooLarge(&'static str),
}

impl Fault {
    pub(super) fn into_error(self, patience: Patience<'_>, said: &[u8], size: u64) -> ScanError {
        match self {
            Self::Nonsense(why) => patience.nonsense(why, said),
            Self::Refused(words) => patience.refused(&words),
            Self::TooLarge(setting) => patience.too_large(setting, size),
        }
    }
}

/// Reads until `parse` finds an answer in all that was said (`None`: not yet); at most `most`
/// octets.
pub(super) async fn listen<T>(
    reader: &mut (impl AsyncRead + Unpin),
    said: &mut Vec<u8>,
    most: usize,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Fault>,
) -> io::Result<Result<T, Fault>> {
    let mut room = [0; 2048];
    loop {
        let got = reader.read(&mut room).await?;
        if got == 0 {
            let reason = if said.is_empty() {
                "it closed the connection without an answer".to_owned()
            } else {
                format!("it closed the connection behind \"{}\"", shown(said))
            };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        said.extend_from_slice(room.get(..got).unwrap_or_default());
        match parse(said) {
            Ok(Some(answer)) => return Ok(Ok(answer)),
            Err(fault) => return Ok(Err(fault)),
            Ok(None) if said.len() >= most => return Ok(Err(Fault::Nonsense("it is too long"))),
            Ok(None) => {}
        }
    }
}

/// Connections that wait for the next mail, the latest last.
#[derive(Debug)]
pub(super) struct Idle<C> {
    keep: Duration,
    waiting: Mutex<Vec<(C, Instant)>>,
}

impl<C> Idle<C> {
    /// Keeps a connection for so long.
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            keep,
            waiting: Mutex::default(),
        }
    }

    /// The one that was used last; those that waited too long are closed.
    pub(super) fn take(&self) -> Option<C> {
        let mut waiting = self.waiting();
        let fresh = waiting.partition_point(|(_, since)| since.elapsed() >= self.keep);
        waiting.drain(..fresh);
        waiting.pop().map(|(connection, _)| connection)
    }

    pub(super) fn put(&self, connection: C) {
        self.waiting().push((connection, Instant::now()));
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(C, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
