//! A scanner that we play: a listener, and what it does with each connection.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sekimori::mail::Octets;
use sekimori::scan::{Endpoint, Mail, Settings};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
pub type Wire = Box<dyn Stream>;

pub struct Peer {
    pub endpoint: Endpoint,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    _folder: Option<TempDir>,
}

impl Peer {
    /// Plays `role` on each connection (numbered from 1), over TCP.
    pub async fn tcp<F>(role: impl Fn(usize, Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(role(number, Box::new(stream)));
            }
        });
        Self {
            endpoint: Endpoint::Tcp {
                host: address.ip().to_string(),
                port: address.port(),
            },
            accepted,
            task,
            _folder: None,
        }
    }

    /// The same over a Unix socket.
    pub async fn unix<F>(role: impl Fn(usize, Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(role(number, Box::new(stream)));
            }
        });
        Self {
            endpoint: Endpoint::Unix(path),
            accepted,
            task,
            _folder: Some(folder),
        }
    }

    pub fn settings(&self, timeout: Duration) -> Settings {
        Settings {
            address: self.endpoint.clone(),
            timeout,
        }
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads until `end` has come.
pub async fn until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    while !heard.ends_with(end) {
        match stream.read_u8().await {
            Ok(octet) => heard.push(octet),
            Err(_) => break,
        }
    }
    heard
}

/// A deadline that no test reaches.
pub fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// A timeout that no test reaches.
pub const LONG: Duration = Duration::from_secs(60);

/// `pieces` with an envelope.
pub fn mail(pieces: &[Octets]) -> Mail<'_> {
    Mail {
        pieces,
        sender: "a@b.example",
        recipients: &[],
        client_ip: None,
        helo: "mx.example",
        id: "q1",
    }
}

/// In memory.
pub fn octets(pieces: &[Bytes]) -> Vec<Octets> {
    pieces.iter().cloned().map(Octets::from).collect()
}

/// A mail of two pieces.
pub fn plain() -> Vec<Bytes> {
    vec![
        Bytes::from_static(b"Received: from mx.example by us\r\n"),
        Bytes::from_static(b"From: a@b.example\r\nSubject: x\r\n\r\nbody\r\n"),
    ]
}
