//! Answers that are sent while they are read: one object a line, little of it in memory, and no
//! thread held by a client that does not read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame};
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use crate::daemon::Shared;
use crate::store::StoreError;

/// Octets that are read at once.
const CHUNK: usize = 64 * 1024;
/// Records that are looked at before somebody asks whether the client is still there.
const LOOKED_AT: usize = 4096;

/// What is on its way; an error, or an end that nobody named, breaks the connection off, so that a
/// part is not taken for all.
pub(super) struct Lines {
    receiver: Receiver<Result<Bytes, StoreError>>,
    whole: Arc<AtomicBool>,
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let next = self.receiver.poll_recv(context);
        next.map(|bytes| match bytes {
            Some(bytes) => Some(bytes.map(Frame::data)),
            None if self.whole.load(Ordering::SeqCst) => None,
            None => Some(Err(StoreError::Closed)),
        })
    }
}

/// Where lines go.
pub(super) struct Outlet {
    sender: Sender<Result<Bytes, StoreError>>,
    whole: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

/// The client went away, or the daemon stops.
pub(super) struct Gone;

/// An answer, and where its lines are to be put.
pub(super) fn open(shared: &Arc<Shared>) -> (Outlet, Response) {
    let (sender, receiver) = channel(1);
    let whole = Arc::new(AtomicBool::new(false));
    let body = Body::new(Lines {
        receiver,
        whole: whole.clone(),
    });
    let outlet = Outlet {
        sender,
        whole,
        shared: shared.clone(),
    };
    let response = ([(header::CONTENT_TYPE, "application/x-ndjson")], body);
    (outlet, response.into_response())
}

impl Outlet {
    /// Waits until the client has taken what was put before.
    pub(super) async fn put(&self, bytes: Result<Bytes, StoreError>) -> Result<(), Gone> {
        tokio::select! {
            sent = self.sender.send(bytes) => sent.map_err(|_| Gone),
            () = self.shared.stopping() => Err(Gone),
        }
    }

    /// All there is was put.
    pub(super) fn end(self) {
        self.whole.store(true, Ordering::SeqCst);
    }

    /// Until the client goes away or the daemon stops.
    pub(super) async fn closed(&self) {
        tokio::select! {
            () = self.sender.closed() => {}
            () = self.shared.stopping() => {}
        }
    }

    async fn is_closed(&self) -> bool {
        tokio::select! {
            biased;
            () = self.closed() => true,
            () = std::future::ready(()) => false,
        }
    }
}

/// Sends the items of an iterator that reads the store, one a line; those without a line are left
/// out.
pub(super) fn all<T: Send + 'static>(
    shared: &Arc<Shared>,
    items: impl Iterator<Item = Result<T, StoreError>> + Send + 'static,
    line: impl Fn(&T) -> Option<String> + Send + 'static,
) -> Response {
    let (outlet, response) = open(shared);
    tokio::spawn(async move {
        let mut reading = (items, line);
        loop {
            let read = spawn_blocking(move || {
                let chunk = chunk(&mut reading.0, &reading.1);
                (reading, chunk)
            });
            let Ok((rest, chunk)) = read.await else {
                let _ = outlet.put(Err(StoreError::Failed)).await;
                return;
            };
            reading = rest;
            // After an error too the client is told.
            let (text, last) = match chunk {
                Ok((text, last)) => (Ok(text), last),
                Err(error) => (Err(error), true),
            };
            let gone = match text {
                Ok(text) if text.is_empty() => outlet.is_closed().await,
                text => outlet.put(text.map(Bytes::from)).await.is_err(),
            };
            if gone {
                return;
            }
            if last {
                return outlet.end();
            }
        }
    });
    response
}

/// The next lines, and whether they are the last. A record that cannot be read is a line that says
/// so.
fn chunk<T>(
    items: &mut impl Iterator<Item = Result<T, StoreError>>,
    line: &impl Fn(&T) -> Option<String>,
) -> Result<(String, bool), StoreError> {
    let mut text = String::new();
    for _ in 0..LOOKED_AT {
        let line = match items.next() {
            None => return Ok((text, true)),
            Some(Ok(item)) => line(&item),
            Some(Err(StoreError::Damaged(what))) => Some(unreadable(&what)),
            Some(Err(error)) => return Err(error),
        };
        text.extend(line.map(|line| line + "\n"));
        if text.len() >= CHUNK {
            break;
        }
    }
    Ok((text, false))
}

/// The line in the place of a record that cannot be read.
pub(super) fn unreadable(what: &str) -> String {
    json!({"schema": "sekimori.unreadable/1", "error": what}).to_string()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn a_part_is_not_taken_for_all() {
        for (whole, expected) in [(true, Some("one\n")), (false, None)] {
            let (sender, receiver) = channel(1);
            let whole = Arc::new(AtomicBool::new(whole));
            let lines = Lines { receiver, whole };
            sender.try_send(Ok("one\n".into())).unwrap();
            drop(sender);
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let all = runtime.build().unwrap().block_on(lines.collect());
            let all = all.ok().map(|all| all.to_bytes());
            assert_eq!(all.as_deref(), expected.map(str::as_bytes));
        }
    }

    #[test]
    fn a_long_look_for_what_is_not_there_comes_up_for_air() {
        let mut items = (0..2 * LOOKED_AT + 1).map(|n| match n {
            5 => Err(StoreError::Damaged("x".to_owned())),
            n => Ok(n),
        });
        let line = |n: &usize| (*n == 2 * LOOKED_AT).then(|| "found".to_owned());
        let chunks = std::iter::from_fn(|| Some(chunk(&mut items, &line).unwrap()));
        let told: Vec<_> = chunks.take(3).collect();
        let unread = unreadable("x") + "\n";
        assert_eq!(told[0], (unread, false));
        assert_eq!(told[1], (String::new(), false));
        assert_eq!(told[2], ("found\n".to_owned(), true));
        let mut long = std::iter::repeat_with(|| Ok("x".repeat(CHUNK / 4)));
        let (text, last) = chunk(&mut long, &|text: &String| Some(text.clone())).unwrap();
        assert!(text.len() < 2 * CHUNK && !last);
    }
}
