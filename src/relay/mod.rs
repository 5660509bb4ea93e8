//! Sending what leaves us for elsewhere, all of it through the operator's own MTA: forwards with
//! our own client, mail that we composed with lettre. When and how often is in [`backoff`].
//!
//! lettre lets a bare LF through (RELIABILITY F5), so it gets nothing but our own mail, and of
//! that only what [`wire_data`] has proved clean. Its connection is used step by step, one a
//! mail: a time-out is then a closed socket, and whether the mail may have arrived is known.

pub mod backoff;
pub mod courier;
mod results;
mod unbuffered;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lettre::transport::smtp::Error as LettreError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism as LettreMechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::deliver::{
    Accepted, DeliverError, Delivery, Endpoint, HopSettings, Mechanism, Outcome, Pool, Tls,
};
use crate::mail::{Address, ReversePath};
use crate::smtp::{Reply, ReplyParser, wire_data};

use unbuffered::Unbuffered;

pub use backoff::{Fate, RateLimit, Retry};
pub use courier::{Courier, FAILED_FIELD, Hops};

/// `relay` of the daemon file, compiled.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// Host, port, TLS, log-in, time-out, mails at once; the protocol is SMTP over TCP.
    pub hop: HopSettings,
    /// Pause between two mails.
    pub min_interval: Duration,
    /// Mails in any 60 seconds; 0 = no limit.
    pub per_minute: u32,
    /// When to try again.
    pub retry: Retry,
}

/// The way out. One for the daemon; shared by all senders.
pub struct Relay {
    settings: RelaySettings,
    /// For originals.
    pool: Pool,
    /// Mails at once, of both kinds.
    permits: Semaphore,
    /// Shared with the relay that a reload replaced and that may still be sending.
    limit: Arc<Mutex<RateLimit>>,
    tls: Option<TlsParameters>,
}

impl Relay {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// When TLS is asked for and cannot be set up (a host that is no name, no certificate store),
    /// or when the next hop is no TCP one.
    pub fn new(settings: RelaySettings) -> Result<Self, DeliverError> {
        let tls = tls_parameters(&settings.hop)?;
        let at_once = settings
            .hop
            .max_connections
            .clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            pool: Pool::new(settings.hop.clone()),
            permits: Semaphore::new(at_once),
            limit: Arc::new(Mutex::new(RateLimit::new(
                settings.min_interval,
                settings.per_minute,
            ))),
            tls,
            settings,
        })
    }

    /// Takes the place of `earlier`: what that sent counts for the limits of this one.
    pub fn succeed(&mut self, earlier: &Self) {
        let (pause, per_minute) = (self.settings.min_interval, self.settings.per_minute);
        self.limit = earlier.limit.clone();
        self.limit().set(pause, per_minute);
    }

    fn limit(&self) -> MutexGuard<'_, RateLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The retry schedule.
    pub fn retry(&self) -> &Retry {
        &self.settings.retry
    }

    /// Sends mail that [`compose`](crate::mail::compose) made, each recipient in a transaction of
    /// its own; one result each, in their order. Waits for the rate limit. `before_data` is awaited
    /// when all is ready for the data and none of it has left; its error ends the try.
    pub async fn send_composed<F, Fut>(
        &self,
        sender: &ReversePath,
        recipients: &[Address],
        bytes: &[u8],
        before_data: F,
    ) -> Vec<Outcome>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), DeliverError>>,
    {
        let mut outcomes = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let _permit = self.turn().await;
            outcomes.push(match wire_data(&[bytes]) {
                Ok(_) => self.letter(sender, recipient, bytes, &before_data).await,
                Err(error) => Err(DeliverError::new(
                    Reply::new(550, 6, 11, "a CR or LF stands alone in the mail"),
                    error.to_string(),
                )),
            });
        }
        outcomes
    }

    /// Sends original octets (forwards, releases by relay), all recipients in one transaction.
    /// Waits for the rate limit.
    pub async fn send_original(&self, delivery: &Delivery) -> Vec<Outcome> {
        let _permit = self.turn().await;
        self.pool.send(delivery).await
    }

    /// A free place, at a moment that the rate limit allows.
    async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let permit = self.permits.acquire().await.ok();
        let moment = self.limit().book(Instant::now());
        tokio::time::sleep_until(moment.into()).await;
        permit
    }

    async fn letter<F, Fut>(
        &self,
        sender: &ReversePath,
        recipient: &Address,
        bytes: &[u8],
        before_data: F,
    ) -> Outcome
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), DeliverError>>,
    {
        let (from, to) = (
            sender.address().map(lettre_address),
            lettre_address(recipient),
        );
        let mut connection = self.connect().await?;
        let mut options = Vec::new();
        if !to.to_string().is_ascii() || from.as_ref().is_some_and(|a| !a.to_string().is_ascii()) {
            if !connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Err(DeliverError::new(
                    Reply::new(553, 6, 7, "the next hop does not offer SMTPUTF8"),
                    "SMTPUTF8 is needed and not offered",
                ));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        self.step("MAIL", false, connection.command(Mail::new(from, options)))
            .await?;
        self.step("RCPT", false, connection.command(Rcpt::new(to, Vec::new())))
            .await?;
        let go = self.step("DATA", false, connection.command(Data)).await?;
        if !go.has_code(354) {
            return Err(unreachable("DATA was not answered with 354"));
        }
        before_data().await?;
        // lettre itself ends the last line.
        let text = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
        let response = self
            .step("the data", true, connection.message(text))
            .await?;
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.quit()).await;
        let text: Vec<_> = response.message().collect();
        Ok(Accepted {
            place: self.settings.hop.place(),
            reply: Some(reply(250, &text.join(" "))),
            repeated: false,
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, DeliverError> {
        let hop = &self.settings.hop;
        let mut connection = self.open().await?;
        let starttls = match hop.tls {
            Tls::None | Tls::Implicit => false,
            Tls::Opportunistic => connection.can_starttls(),
            Tls::Starttls => true,
        };
        if let Some(tls) = self.tls.clone().filter(|_| starttls)
            && !self.upgrade(&mut connection, tls).await?
        {
            // lettre hangs up on a refusal.
            connection = self.open().await?;
        }
        if let Some(auth) = &hop.auth {
            if hop.tls == Tls::Opportunistic && !connection.is_encrypted() {
                return Err(unreachable("no log-in: TLS is not to be had"));
            }
            let mechanism = match auth.mechanism {
                Mechanism::Plain => LettreMechanism::Plain,
                Mechanism::Login => LettreMechanism::Login,
                Mechanism::Xoauth2 => LettreMechanism::Xoauth2,
            };
            let credentials = Credentials::new(auth.username.clone(), auth.password.clone());
            let mechanisms = [mechanism];
            let log_in = connection.auth(&mechanisms, &credentials);
            self.step("AUTH", false, log_in)
                .await
                .map_err(not_the_mail)?;
        }
        Ok(connection)
    }

    /// Connects and greets, in the clear unless TLS is implicit.
    async fn open(&self) -> Result<AsyncSmtpConnection, DeliverError> {
        let hop = &self.settings.hop;
        let Endpoint::Tcp { host, port } = &hop.endpoint else {
            return Err(unreachable("the relay is no TCP host"));
        };
        let hello = ClientId::Domain(hop.hostname.clone());
        let server = (host.as_str(), *port);
        let opened = if hop.tls == Tls::Implicit {
            let (timeout, tls) = (Some(hop.timeout), self.tls.clone());
            let open = AsyncSmtpConnection::connect_tokio1(server, timeout, &hello, tls, None);
            self.step("connecting", false, open).await
        } else {
            let stream = tokio::time::timeout(hop.timeout, TcpStream::connect(server)).await;
            let stream = stream
                .unwrap_or_else(|late| Err(late.into()))
                .map_err(|error| unreachable(format!("connecting: {error}")))?;
            let at_once = if hop.tls == Tls::None { usize::MAX } else { 1 };
            let stream = Box::new(Unbuffered::new(stream, at_once));
            let open = AsyncSmtpConnection::connect_with_transport(stream, &hello);
            self.step("connecting", false, open).await
        };
        opened.map_err(not_the_mail)
    }

    /// Changes to TLS. False: the next hop refuses it, and it is only opportunistic.
    async fn upgrade(
        &self,
        connection: &mut AsyncSmtpConnection,
        tls: TlsParameters,
    ) -> Result<bool, DeliverError> {
        let hop = &self.settings.hop;
        let hello = ClientId::Domain(hop.hostname.clone());
        let upgrade = async {
            let done = connection.starttls(tls, &hello).await;
            match done {
                Err(error)
                    if hop.tls == Tls::Opportunistic
                        && error.status().is_some()
                        && !connection.is_encrypted() =>
                {
                    Ok(false)
                }
                done => done.map(|()| true),
            }
        };
        let upgraded = self.step("STARTTLS", false, upgrade).await;
        upgraded.map_err(not_the_mail)
    }

    /// One step of lettre's, within the time-out. `in_doubt`: without a reply the mail may have
    /// arrived.
    async fn step<T>(
        &self,
        what: &str,
        in_doubt: bool,
        step: impl Future<Output = Result<T, LettreError>>,
    ) -> Result<T, DeliverError> {
        let timeout = self.settings.hop.timeout;
        match tokio::time::timeout(timeout, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(match refusal(&error) {
                Some(reply) => DeliverError::new(reply, format!("{what} was refused")),
                None => DeliverError {
                    ambiguous: in_doubt,
                    ..unreachable(format!("{what}: {error}"))
                },
            }),
            Err(_) => Err(DeliverError {
                reply: Reply::new(451, 4, 2, "the next hop does not answer"),
                ambiguous: in_doubt,
                detail: format!("{what}: no answer within {timeout:?}"),
            }),
        }
    }
}

/// Without verification for opportunistic TLS (RFC 7435).
fn tls_parameters(hop: &HopSettings) -> Result<Option<TlsParameters>, DeliverError> {
    let Endpoint::Tcp { host, .. } = &hop.endpoint else {
        return Err(unreachable("the relay is no TCP host"));
    };
    if hop.tls == Tls::None {
        return Ok(None);
    }
    TlsParameters::builder(host.clone())
        .dangerous_accept_invalid_certs(hop.tls == Tls::Opportunistic)
        .build_rustls()
        .map(Some)
        .map_err(|error| unreachable(format!("TLS settings: {error}")))
}

/// `Address` has checked it already, and more liberally: carriers' addresses with dots in odd
/// places exist.
fn lettre_address(address: &Address) -> lettre::Address {
    lettre::Address::new_dangerous(address.local(), address.domain())
}

/// The next hop's own 4yz or 5yz.
fn refusal(error: &LettreError) -> Option<Reply> {
    let code = error.status()?.to_string().parse().ok()?;
    let words = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
    Some(reply(code, &words))
}

/// The next hop's words as a reply, its enhanced code read out of them.
fn reply(code: u16, words: &str) -> Reply {
    let mut parser = ReplyParser::new();
    parser.feed(format!("{code} {}\r\n", words.replace(['\r', '\n'], " ")).as_bytes());
    match parser.next_reply() {
        Ok(Some(server)) => server.into(),
        _ => Reply::new(code, 0, 0, words),
    }
}

/// A refusal before any mail is named says nothing about the mail.
fn not_the_mail(DeliverError { reply, detail, .. }: DeliverError) -> DeliverError {
    unreachable(format!("{detail}: {reply}"))
}

fn unreachable(detail: impl Into<String>) -> DeliverError {
    let reply = Reply::new(451, 4, 1, "the next hop cannot be reached");
    DeliverError::new(reply, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Protocol;

    fn relay(min_interval: Duration) -> Relay {
        Relay::new(RelaySettings {
            hop: HopSettings {
                protocol: Protocol::Smtp,
                endpoint: Endpoint::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: 9,
                },
                hostname: "mx.example.jp".to_owned(),
                tls: Tls::None,
                auth: None,
                timeout: Duration::from_secs(1),
                max_connections: 1,
            },
            min_interval,
            per_minute: 0,
            retry: Retry {
                first: Duration::ZERO,
                factor: 1.0,
                longest: Duration::ZERO,
                give_up: Duration::ZERO,
            },
        })
        .unwrap()
    }

    #[test]
    fn a_relay_that_a_reload_brings_counts_what_the_one_before_sends() {
        let hour = Duration::from_secs(3600);
        let (earlier, mut later) = (relay(Duration::ZERO), relay(hour));
        let now = Instant::now();
        earlier.limit().book(now);
        later.succeed(&earlier);
        assert_eq!(later.limit().book(now), now + hour);
        assert_eq!(earlier.limit().book(now), now + 2 * hour);
    }
}
