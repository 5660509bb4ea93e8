//! rspamd: `POST /checkv2` of a scanning worker, `POST /learnham` of its controller, HTTP/1.1.
//!
//! The engine's own word is its action; `is_skipped` says nothing about it (a GTUBE mail is
//! skipped and rejected). Connections are kept where rspamd keeps them (3.4 closes each).

mod answer;
mod pieces;

use std::error::Error as _;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SERVER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::error::name;
use super::gate::{Gate, Patience};
use super::wire::{self, ANSWER, CONNECTING, Fault, Idle};
use super::{Endpoint, Learned, Mail, ScanError, Settings, SpamFinding, State};
use pieces::Pieces;

pub(super) use answer::{error, finding};

/// Of more recipients rspamd is told the first; it counts them only.
const MAX_RECIPIENTS: usize = 100;
/// Octets of a header value; a path is at most 256 long (RFC 5321 4.5.3.1.3), more in UTF-8.
const MAX_VALUE: usize = 1000;
/// Octets of an answer; a thousand symbols with their descriptions are a quarter of that.
const MAX_BODY: usize = 1 << 20;
/// Octets of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long a connection is kept for the next mail.
const IDLE: Duration = Duration::from_secs(10);
/// How long a kept connection may take to be rid of its last mail. Where rspamd answered without
/// reading all of it, it never is.
const READY: Duration = Duration::from_millis(100);

/// A scanning worker of rspamd (or a proxy that scans), with its idle connections.
#[derive(Debug)]
pub struct Rspamd {
    http: Http,
}

impl Rspamd {
    /// Connects nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            http: Http::new(settings),
        }
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.http.gate.state()
    }

    /// Has one mail looked at, before `deadline` and within its own timeout.
    ///
    /// # Errors
    /// Those of [`ScanError`]; [`ScanError::TooLarge`] beyond rspamd's `max_message`.
    pub async fn scan(&self, mail: &Mail<'_>, deadline: Instant) -> Result<SpamFinding, ScanError> {
        let headers = envelope(mail);
        let read = |answer: &Answer| match answer.status {
            StatusCode::OK => finding(&answer.body, answer.server.as_deref()),
            StatusCode::PAYLOAD_TOO_LARGE => Err(Fault::TooLarge("max_message")),
            status => Err(error(status, &answer.body)),
        };
        self.http
            .post("/checkv2", headers, mail, deadline, read)
            .await
    }
}

/// The controller of an rspamd, which learns.
pub struct Controller {
    http: Http,
    password: Option<String>,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Connects nothing yet. `password` is the controller's `enable_password`, or its `password`
    /// where that is the only one; none is needed from an address in its `secure_ip`.
    pub fn new(settings: Settings, password: Option<String>) -> Self {
        Self {
            http: Http::new(settings),
            password,
        }
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.http.gate.state()
    }

    /// Tells it that this mail is no spam.
    ///
    /// # Errors
    /// Those of [`ScanError`]; [`ScanError::Refused`] with rspamd's words when it does not learn.
    pub async fn learn_ham(
        &self,
        mail: &Mail<'_>,
        deadline: Instant,
    ) -> Result<Learned, ScanError> {
        let mut headers = HeaderMap::new();
        if let Some(password) = &self.password {
            let mut value = value(password);
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("password"), value);
        }
        let read = |answer: &Answer| answer::learned(answer.status, &answer.body);
        self.http
            .post("/learnham", headers, mail, deadline, read)
            .await
    }
}

/// What rspamd is told beside the mail itself.
fn envelope(mail: &Mail<'_>) -> HeaderMap {
    let path = |address: &str| value(&format!("<{address}>"));
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("from"), path(mail.sender));
    for recipient in mail.recipients.iter().take(MAX_RECIPIENTS) {
        headers.append(HeaderName::from_static("rcpt"), path(recipient));
    }
    if let Some(address) = mail.client_ip {
        headers.insert(HeaderName::from_static("ip"), value(&address.to_string()));
    }
    for (field, text) in [("helo", mail.helo), ("queue-id", mail.id)] {
        if !text.is_empty() {
            headers.insert(HeaderName::from_static(field), value(text));
        }
    }
    headers
}

/// A header value without what cannot stand in one.
fn value(text: &str) -> HeaderValue {
    let harmless = text.chars().filter(|c| !c.is_control());
    let mut clean = String::with_capacity(text.len().min(MAX_VALUE));
    for c in harmless {
        if clean.len() + c.len_utf8() > MAX_VALUE {
            break;
        }
        clean.push(c);
    }
    HeaderValue::from_str(clean.trim()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// One HTTP server.
#[derive(Debug)]
struct Http {
    gate: Gate,
    idle: Idle<Connection>,
    host: HeaderValue,
}

/// An open connection, and what moves its octets; it is closed when this is dropped.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Pieces>,
    _driver: JoinSet<()>,
}

/// An answer that was read whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    server: Option<String>,
    body: Bytes,
}

impl Http {
    fn new(settings: Settings) -> Self {
        let host = match &settings.address {
            Endpoint::Tcp { .. } => value(&settings.address.to_string()),
            Endpoint::Unix(_) => HeaderValue::from_static("localhost"),
        };
        Self {
            gate: Gate::new("rspamd", settings),
            idle: Idle::new(IDLE),
            host,
        }
    }

    async fn post<T>(
        &self,
        path: &'static str,
        mut headers: HeaderMap,
        mail: &Mail<'_>,
        deadline: Instant,
        read: impl Fn(&Answer) -> Result<T, Fault>,
    ) -> Result<T, ScanError> {
        headers.insert(HOST, self.host.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        let request = || {
            let mut request = Request::new(Pieces::new(mail.pieces));
            *request.method_mut() = hyper::Method::POST;
            *request.uri_mut() = hyper::Uri::from_static(path);
            *request.headers_mut() = headers.clone();
            request
        };
        self.gate
            .pass(deadline, |patience| async move {
                let answer = self
                    .ask(&request, patience)
                    .await
                    .map_err(|error| perhaps_too_large(error, mail.size()))?;
                read(&answer).map_err(|fault| fault.into_error(patience, &answer.body, mail.size()))
            })
            .await
    }

    async fn ask(
        &self,
        request: &impl Fn() -> Request<Pieces>,
        patience: Patience<'_>,
    ) -> Result<Answer, ScanError> {
        while let Some(mut connection) = self.idle.take() {
            let ready = connection.sender.ready();
            let ready = tokio::time::timeout(patience.left(READY), ready).await;
            if !matches!(ready, Ok(Ok(()))) {
                continue;
            }
            match connection.send(request(), patience).await {
                Err(Failure::Stale) => break,
                Err(Failure::Scan(error)) => return Err(error),
                Ok(response) => return self.whole(connection, response, patience).await,
            }
        }
        let mut connection = Connection::open(patience).await?;
        match connection.send(request(), patience).await {
            Err(Failure::Stale) => Err(patience.broken(
                ANSWER,
                &std::io::Error::other("it closed the connection without an answer"),
            )),
            Err(Failure::Scan(error)) => Err(error),
            Ok(response) => self.whole(connection, response, patience).await,
        }
    }

    /// Reads the body; the connection is kept when rspamd keeps it.
    async fn whole(
        &self,
        connection: Connection,
        response: Response<Incoming>,
        patience: Patience<'_>,
    ) -> Result<Answer, ScanError> {
        let (head, body) = response.into_parts();
        let too_long = || patience.nonsense("it is too long", b"");
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(too_long());
        }
        let reading = Limited::new(body, MAX_BODY).collect();
        let body = patience
            .within(ANSWER, reading)
            .await?
            .map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => failed(patience, ANSWER, &error),
                Err(_) => too_long(),
            })?
            .to_bytes();
        let closes = head
            .headers
            .get(CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        if !closes && !connection.sender.is_closed() {
            self.idle.put(connection);
        }
        Ok(Answer {
            status: head.status,
            server: head.headers.get(SERVER).map(|value| name(value.as_bytes())),
            body,
        })
    }
}

/// Why there is no response.
enum Failure {
    /// The connection was closed before one began.
    Stale,
    Scan(ScanError),
}

impl Connection {
    async fn open(patience: Patience<'_>) -> Result<Self, ScanError> {
        let stream = wire::connect(patience).await?;
        let shaking = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = patience
            .within(CONNECTING, shaking)
            .await?
            .map_err(|error| failed(patience, CONNECTING, &error))?;
        let mut driver = JoinSet::new();
        // Its errors are told to whoever waits for the response.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }

    async fn send(
        &mut self,
        request: Request<Pieces>,
        patience: Patience<'_>,
    ) -> Result<Response<Incoming>, Failure> {
        let sending = self.sender.send_request(request);
        let sent = patience.within(ANSWER, sending).await;
        match sent.map_err(Failure::Scan)? {
            Ok(response) => Ok(response),
            Err(error) if error.is_canceled() || error.is_incomplete_message() => {
                Err(Failure::Stale)
            }
            Err(error) => Err(Failure::Scan(failed(patience, ANSWER, &error))),
        }
    }
}

/// rspamd 3.4 resets the connection of a mail over its `max_message` and says nothing.
fn perhaps_too_large(mut error: ScanError, size: u64) -> ScanError {
    if let ScanError::Unreachable { step, reason, .. } = &mut error
        && *step != CONNECTING
    {
        reason.push_str(&format!(
            " (it does so too when a mail is, with its {size} octets, over its max_message)"
        ));
    }
    error
}

/// hyper's errors, with the cause that they hide.
fn failed(patience: Patience<'_>, step: &'static str, error: &hyper::Error) -> ScanError {
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if error.is_parse() {
        return patience.nonsense("it is no HTTP", text.as_bytes());
    }
    patience.broken(step, &std::io::Error::other(text))
}
