//! A request's body of a mail's pieces: they are read as they are sent, the length is known.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::mail::{Fetching, Octets};

pub(super) struct Pieces {
    left: VecDeque<Octets>,
    /// Octets of the first one that were sent.
    at: u64,
    /// Those behind them.
    next: Option<Fetching<'static>>,
}

impl Pieces {
    pub(super) fn new(pieces: &[Octets]) -> Self {
        Self {
            left: pieces
                .iter()
                .filter(|piece| piece.size() > 0)
                .cloned()
                .collect(),
            at: 0,
            next: None,
        }
    }

    fn fetch(&self) -> Option<Fetching<'static>> {
        let (first, at) = (self.left.front()?.clone(), self.at);
        Some(Box::pin(async move { first.fetch(at).await }))
    }

    fn sent(&mut self, octets: usize) {
        self.at = self.at.saturating_add(octets as u64);
        if self
            .left
            .front()
            .is_some_and(|first| self.at >= first.size())
        {
            self.left.pop_front();
            self.at = 0;
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(mut next) = self.next.take().or_else(|| self.fetch()) else {
            return Poll::Ready(None);
        };
        let Poll::Ready(octets) = next.as_mut().poll(context) else {
            self.next = Some(next);
            return Poll::Pending;
        };
        Poll::Ready(Some(octets.map(|octets| {
            self.sent(octets.len());
            Frame::data(octets)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let octets: u64 = self.left.iter().map(Octets::size).sum();
        SizeHint::with_exact(octets.saturating_sub(self.at))
    }
}
