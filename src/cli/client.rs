//! The CLI's side of the control socket: one HTTP/1.1 request over a Unix socket.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Done, Exit, Failure};

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
    runtime()?.block_on(async {
        let response = send(socket, method, path, body).await?;
        whole(response).await
    })
}

/// Asks for lines, and gives each without its end to `each` as it comes; ends at the first error of
/// `each`. The answer of a request that was refused, else `None`.
///
/// # Errors
/// As [`call`], and those of `each`.
pub(super) fn lines(
    socket: &Path,
    path: &str,
    each: &mut dyn FnMut(&[u8]) -> Done,
) -> Result<Option<Answer>, Failure> {
    runtime()?.block_on(async {
        let response = send(socket, Method::GET, path, None).await?;
        if !response.status().is_success() {
            return whole(response).await.map(Some);
        }
        let mut body = response.into_body();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            let mut pieces = bytes.split_inclusive(|byte| *byte == b'\n');
            pieces.try_for_each(|piece| {
                let Some(end) = piece.strip_suffix(b"\n") else {
                    rest.extend_from_slice(piece);
                    return Ok(());
                };
                if rest.is_empty() {
                    return each(end);
                }
                rest.extend_from_slice(end);
                each(&std::mem::take(&mut rest))
            })?;
        }
        Ok(None)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("runtime", &error))
}

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Result<Response<Incoming>, Failure> {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, &error))?;
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
    sender.send_request(request).await.map_err(broken)
}

async fn whole(response: Response<Incoming>) -> Result<Answer, Failure> {
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?;
    Ok(Answer {
        status,
        body: body.to_bytes(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: hyper::Error) -> Failure {
    Failure::new(Exit::Io, format!("control socket: {error}"))
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
