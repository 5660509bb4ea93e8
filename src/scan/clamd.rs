//! clamd: `zINSTREAM` inside an `IDSESSION`, over a Unix socket or TCP (clamd(8)).
//!
//! Each mail is two requests, sent at once: `VERSION`, so that its record has the database that it
//! was looked at with, and `INSTREAM`. Replies carry the number of their request. A session is
//! kept for the next mail for less time than clamd does; one whose replies did not come, or not in
//! order, is not used again.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use super::error::name;
use super::gate::{Gate, Patience};
use super::wire::{self, Fault, Idle, Source, Wire};
use super::{Mail, ScanError, Settings, State, VirusFinding};
use crate::mail::Octets;

/// clamd may close a session that is silent for its `CommandReadTimeout`, 30 s (1.4 does not).
const IDLE: Duration = Duration::from_secs(25);
/// Octets of a chunk.
const CHUNK: usize = 64 * 1024;
/// Both replies together are no longer.
const MAX_REPLY: usize = 4096;
/// A session carries no request with a higher number.
const LAST_NUMBER: u32 = 1_000_000;

/// A clamd, with its idle sessions.
#[derive(Debug)]
pub struct Clamd {
    gate: Gate,
    idle: Idle<Session>,
}

impl Clamd {
    /// Connects nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            gate: Gate::new("clamd", settings),
            idle: Idle::new(IDLE),
        }
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.gate.state()
    }

    /// Has one mail looked at, before `deadline` and within its own timeout.
    ///
    /// # Errors
    /// Those of [`ScanError`]; [`ScanError::TooLarge`] beyond clamd's `StreamMaxLength`.
    pub async fn scan(
        &self,
        mail: &Mail<'_>,
        deadline: Instant,
    ) -> Result<VirusFinding, ScanError> {
        self.gate
            .pass(deadline, |patience| self.ask(mail, patience))
            .await
    }

    async fn ask(
        &self,
        mail: &Mail<'_>,
        patience: Patience<'_>,
    ) -> Result<VirusFinding, ScanError> {
        while let Some(mut session) = self.idle.take() {
            if !session.is_quiet().await {
                continue;
            }
            match session.scan(mail, patience).await {
                Err(ScanError::Unreachable { .. }) if session.said.is_empty() => break,
                result => return self.done(session, result),
            }
        }
        let mut session = Session::open(patience).await?;
        let result = session.scan(mail, patience).await;
        self.done(session, result)
    }

    fn done(
        &self,
        session: Session,
        result: Result<VirusFinding, ScanError>,
    ) -> Result<VirusFinding, ScanError> {
        if session.in_step && session.next < LAST_NUMBER {
            self.idle.put(session);
        }
        result
    }
}

/// One connection in an `IDSESSION`.
struct Session {
    reader: ReadHalf<Box<dyn Wire>>,
    writer: WriteHalf<Box<dyn Wire>>,
    /// The number of the next request.
    next: u32,
    /// What was said about the last mail.
    said: Vec<u8>,
    /// All requests were answered, and nothing else was said.
    in_step: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("next", &self.next)
            .field("in_step", &self.in_step)
            .finish_non_exhaustive()
    }
}

impl Session {
    async fn open(patience: Patience<'_>) -> Result<Self, ScanError> {
        let (reader, writer) = tokio::io::split(wire::connect(patience).await?);
        Ok(Self {
            reader,
            writer,
            next: 1,
            said: Vec::new(),
            in_step: true,
        })
    }

    /// Nothing was said since the last mail, and the connection was not closed.
    async fn is_quiet(&mut self) -> bool {
        let mut octet = [0];
        poll_fn(|context| {
            let mut room = ReadBuf::new(&mut octet);
            Poll::Ready(
                Pin::new(&mut self.reader)
                    .poll_read(context, &mut room)
                    .is_pending(),
            )
        })
        .await
    }

    async fn scan(
        &mut self,
        mail: &Mail<'_>,
        patience: Patience<'_>,
    ) -> Result<VirusFinding, ScanError> {
        let first = self.next;
        self.next += 2;
        self.said.clear();
        self.in_step = false;
        let writing = send(&mut self.writer, first, mail.pieces);
        let parse = |said: &[u8]| replies(said, first);
        let reading = wire::listen(&mut self.reader, &mut self.said, MAX_REPLY, parse);
        let heard = wire::converse(patience, writing, reading).await?;
        let finding = heard
            .answer
            .map_err(|fault| fault.into_error(patience, &self.said, mail.size()))?;
        self.in_step = heard.in_step;
        Ok(finding)
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    first: u32,
    pieces: &[Octets],
) -> io::Result<()> {
    if first == 1 {
        writer.write_all(b"zIDSESSION\0").await?;
    }
    writer.write_all(b"zVERSION\0zINSTREAM\0").await?;
    let mut source = Source::new(pieces);
    while let Some(octets) = source.next().await? {
        for chunk in octets.chunks(CHUNK) {
            let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
            let length = length.to_be_bytes();
            writer.write_all_buf(&mut length.chain(chunk)).await?;
        }
    }
    writer.write_all(&[0; 4]).await?;
    writer.flush().await
}

/// Reads the replies to the requests `first` (`VERSION`) and `first + 1` (`INSTREAM`), in either
/// order; `None` = they are not whole yet.
///
/// # Errors
/// What clamd says instead of a verdict, or that this is no reply to them.
pub(super) fn replies(said: &[u8], first: u32) -> Result<Option<VirusFinding>, Fault> {
    let (mut version, mut verdict) = (None, None);
    let mut rest = said;
    while let Some(end) = memchr::memchr(0, rest) {
        let (reply, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        let (number, text) = numbered(reply).unwrap_or((0, reply));
        if let Some(fault) = refusal(text) {
            return Err(fault);
        }
        if number == first && version.is_none() {
            version = Some(name(text)).filter(|version| !version.is_empty());
        } else if Some(number) == first.checked_add(1) && verdict.is_none() {
            verdict = Some(virus(text).ok_or(Fault::Nonsense("it is no verdict"))?);
        } else {
            return Err(Fault::Nonsense("it answers what was not asked"));
        }
    }
    match (version, verdict) {
        (Some(_), Some(_)) if !rest.is_empty() => Err(Fault::Nonsense("it goes on behind its end")),
        (Some(version), Some(virus)) => Ok(Some(VirusFinding { version, virus })),
        _ => Ok(None),
    }
}

/// `NUMBER: TEXT`
fn numbered(reply: &[u8]) -> Option<(u32, &[u8])> {
    let colon = memchr::memchr(b':', reply.get(..12).unwrap_or(reply))?;
    let (number, rest) = reply.split_at_checked(colon)?;
    let text = rest.strip_prefix(b": ")?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((number, text))
}

/// Words of clamd's for a command that it does not carry out; the session ends with them.
fn refusal(text: &[u8]) -> Option<Fault> {
    if text.starts_with(b"INSTREAM size limit exceeded") {
        return Some(Fault::TooLarge("StreamMaxLength"));
    }
    let refused = text.ends_with(b" ERROR")
        || text.starts_with(b"UNKNOWN COMMAND")
        || text.starts_with(b"COMMAND READ TIMED OUT");
    refused.then(|| Fault::Refused(text.to_vec()))
}

/// The virus of `stream: NAME FOUND`; inner `None` = `stream: OK`.
fn virus(text: &[u8]) -> Option<Option<String>> {
    let verdict = text.strip_prefix(b"stream: ")?;
    if verdict == b"OK" {
        return Some(None);
    }
    let virus = name(verdict.strip_suffix(b" FOUND")?);
    (!virus.is_empty()).then_some(Some(virus))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(version: &str, virus: Option<&str>) -> Result<Option<VirusFinding>, Fault> {
        Ok(Some(VirusFinding {
            version: version.to_owned(),
            virus: virus.map(str::to_owned),
        }))
    }

    #[test]
    fn what_clamd_says() {
        let refused = |text: &str| Err(Fault::Refused(text.into()));
        let nonsense = |why| Err(Fault::Nonsense(why));
        let rows: &[(&[u8], Result<Option<VirusFinding>, Fault>)] = &[
            (b"", Ok(None)),
            (
                b"7: ClamAV 1.4.6/27000/Mon Jan  5 08:00:00 2026\0",
                Ok(None),
            ),
            (b"7: ClamAV 1.4.6\08: stream: O", Ok(None)),
            (
                b"7: ClamAV 1.4.6/27000/Mon Jan  5 08:00:00 2026\08: stream: OK\0",
                found("ClamAV 1.4.6/27000/Mon Jan  5 08:00:00 2026", None),
            ),
            (
                b"7: ClamAV 1.4.6\08: stream: Eicar-Test-Signature.UNOFFICIAL FOUND\0",
                found("ClamAV 1.4.6", Some("Eicar-Test-Signature.UNOFFICIAL")),
            ),
            (
                b"8: stream: a FOUND FOUND\x007: v\0",
                found("v", Some("a FOUND")),
            ),
            (
                b"7: v\08: stream: \x1b[2Jx\xff FOUND\0",
                found("v", Some("\u{FFFD}[2Jx\u{FFFD}")),
            ),
            (b"8: stream: OK\0", Ok(None)),
            (
                b"7: v\08: INSTREAM size limit exceeded. ERROR\0",
                Err(Fault::TooLarge("StreamMaxLength")),
            ),
            (
                b"INSTREAM size limit exceeded. ERROR\0",
                Err(Fault::TooLarge("StreamMaxLength")),
            ),
            (
                b"7: v\08: stream: Can't allocate memory ERROR\0",
                refused("stream: Can't allocate memory ERROR"),
            ),
            (b"UNKNOWN COMMAND\0", refused("UNKNOWN COMMAND")),
            (
                b"7: COMMAND READ TIMED OUT\0",
                refused("COMMAND READ TIMED OUT"),
            ),
            (b"7: v\08: stream:  FOUND\0", nonsense("it is no verdict")),
            (b"7: v\08: stream: OK \0", nonsense("it is no verdict")),
            (b"7: v\08: PONG\0", nonsense("it is no verdict")),
            (b"7: v\x007: v\0", nonsense("it answers what was not asked")),
            (b"5: v\0", nonsense("it answers what was not asked")),
            (b"+7: v\0", nonsense("it answers what was not asked")),
            (
                b"4294967303: v\0",
                nonsense("it answers what was not asked"),
            ),
            (
                b"220 mx ESMTP\r\n\0",
                nonsense("it answers what was not asked"),
            ),
            (b"\0", nonsense("it answers what was not asked")),
            (
                b"7: v\08: stream: OK\09",
                nonsense("it goes on behind its end"),
            ),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Ok(None)),
        ];
        for (said, expected) in rows {
            assert_eq!(&replies(said, 7), expected, "{:?}", said.escape_ascii());
        }
    }

    #[test]
    fn names_are_cut() {
        let said = format!("1: v\x002: stream: {} FOUND\0", "é".repeat(1000));
        let finding = replies(said.as_bytes(), 1).unwrap().unwrap();
        assert_eq!(finding.virus, Some("é".repeat(200)));
    }

    proptest! {
        #[test]
        fn any_octets(said in any::<Vec<u8>>(), first in any::<u32>()) {
            let _ = replies(&said, first);
        }

        #[test]
        fn a_reply_is_read_back(
            number in 1u32..LAST_NUMBER,
            version in "[!-~]([ -~]{0,60}[!-~])?",
            virus in proptest::option::of("[!-~]{1,60}"),
            swap in any::<bool>(),
        ) {
            prop_assume!(refusal(version.as_bytes()).is_none());
            let verdict = virus.as_ref().map_or("OK".to_owned(), |virus| format!("{virus} FOUND"));
            let mut replies_said = [
                format!("{number}: {version}\0"),
                format!("{}: stream: {verdict}\0", number + 1),
            ];
            if swap {
                replies_said.reverse();
            }
            let said = replies_said.concat();
            for cut in 0..said.len() {
                prop_assert_eq!(replies(&said.as_bytes()[..cut], number), Ok(None));
            }
            prop_assert_eq!(replies(said.as_bytes(), number), found(&version, virus.as_deref()));
        }
    }
}
