//! Answers that are sent while they are read: one object a line, little of it in memory, and no
//! thread held by a client that does not read.

use std::pin::Pin;
use std::sync::Arc;
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

/// What is on its way; an error breaks the connection off, so that a part is not taken for all.
pub(super) struct Lines(Receiver<Result<Bytes, StoreError>>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let next = self.0.poll_recv(context);
        next.map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

/// Where lines go.
pub(super) struct Outlet {
    sender: Sender<Result<Bytes, StoreError>>,
    shared: Arc<Shared>,
}

/// The client went away, or the daemon stops.
pub(super) struct Gone;

/// An answer, and where its lines are to be put.
pub(super) fn open(shared: &Arc<Shared>) -> (Outlet, Response) {
    let (sender, receiver) = channel(1);
    let body = Body::new(Lines(receiver));
    let outlet = Outlet {
        sender,
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

    /// Until the client goes away or the daemon stops.
    pub(super) async fn closed(&self) {
        tokio::select! {
            () = self.sender.closed() => {}
            () = self.shared.stopping() => {}
        }
    }
}

/// Sends the items of an iterator that reads the store, one a line.
pub(super) fn all<T: Send + 'static>(
    shared: &Arc<Shared>,
    items: impl Iterator<Item = Result<T, StoreError>> + Send + 'static,
    line: impl Fn(&T) -> String + Send + 'static,
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
            let last = !matches!(&chunk, Ok(bytes) if !bytes.is_empty());
            // After an error too the client is told; an empty chunk is the end.
            if outlet.put(chunk).await.is_err() || last {
                return;
            }
        }
    });
    response
}

/// The next lines; empty at the end. A record that cannot be read is a line that says so.
fn chunk<T>(
    items: &mut impl Iterator<Item = Result<T, StoreError>>,
    line: &impl Fn(&T) -> String,
) -> Result<Bytes, StoreError> {
    let mut text = String::new();
    while text.len() < CHUNK {
        match items.next() {
            None => break,
            Some(Ok(item)) => text.push_str(&line(&item)),
            Some(Err(StoreError::Damaged(what))) => text.push_str(&unreadable(&what)),
            Some(Err(error)) => return Err(error),
        }
        text.push('\n');
    }
    Ok(text.into())
}

/// The line in the place of a record that cannot be read.
pub(super) fn unreadable(what: &str) -> String {
    json!({"schema": "sekimori.unreadable/1", "error": what}).to_string()
}
