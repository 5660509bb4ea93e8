//! The stream under a connection of lettre's that is made in the clear.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Octets that a next hop may say in a connection, which carries one letter. lettre bounds a reply by
/// its lines, and reads a line whole however long it is.
const MOST_OCTETS: usize = 1 << 20;

/// Reads as little as `at_once` says, and not without end.
///
/// lettre reads through a buffer that it keeps across `STARTTLS`, so that replies sent in the clear
/// behind the `220` would count inside TLS (the client's side of CVE-2011-0411). At one octet a read
/// its buffer is empty then, and such replies break the handshake.
#[derive(Debug)]
pub(super) struct Unbuffered {
    stream: TcpStream,
    at_once: usize,
    left: usize,
}

impl Unbuffered {
    pub(super) fn new(stream: TcpStream, at_once: usize) -> Self {
        Self {
            stream,
            at_once,
            left: MOST_OCTETS,
        }
    }
}

impl AsyncRead for Unbuffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the next hop says too much")));
        }
        let most = self.at_once.min(self.left).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        self.left -= count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Unbuffered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Unbuffered {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
