//! The CLI's side of the control socket: one HTTP/1.1 request over a Unix socket.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Exit, Failure};

/// What the daemon answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Sends one request to the daemon that listens on `socket`.
///
/// # Errors
/// [`Exit::Unavailable`] when nothing listens there, [`Exit::Permission`] when this user may not
/// connect, [`Exit::Io`] when the connection breaks.
pub(super) fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("runtime", &error))?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket)
            .await
            .map_err(|error| unreachable(socket, &error))?;
        let broken =
            |error: hyper::Error| Failure::new(Exit::Io, format!("control socket: {error}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let payload = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sekimori")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(payload)))
            .map_err(|error| Failure::new(Exit::Software, format!("control request: {error}")))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(broken)?
            .to_bytes();
        Ok(Answer { status, body })
    })
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Failure::new(
            Exit::Permission,
            format!("{}: this user may not connect: {error}", socket.display()),
        ),
        _ => Failure::new(
            Exit::Unavailable,
            format!(
                "the daemon does not run: nothing listens on {} ({error})",
                socket.display()
            ),
        ),
    }
}

/// Percent-encodes a query value.
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs
        .iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}
