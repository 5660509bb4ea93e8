//! The listeners: connections in, mail handed over to whoever implements [`Handoff`].

mod arrival;
mod budget;
mod connection;
mod listener;
pub mod settings;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use arrival::Room;
use connection::Shared;
use listener::Listener;

use crate::mail::{Address, Envelope, Octets, ReversePath};
use crate::smtp::{Answer, ListenAddress, Reply};

pub use settings::{ListenerSettings, Timeouts};
pub use tls::{CurrentCertificate, ListenerTls};

/// File handles that connections leave to the store, to next hops and to spilled mail; half of all
/// where there are fewer than twice as many.
const RESERVED_HANDLES: u64 = 384;

/// Takes the mail that the server receives. Calls of different connections run side by side; a
/// call that panics is answered `451 4.3.0`.
pub trait Handoff: Send + Sync + 'static {
    /// `MAIL FROM`: an `Err` is the reply (`452 4.3.1` when there is no room).
    fn mail(
        &self,
        sender: &ReversePath,
        declared_size: Option<u64>,
    ) -> impl Future<Output = Result<(), Reply>> + Send;

    /// `RCPT TO`: an `Err` is the reply (`550 5.1.1`, `550 5.1.2`).
    fn recipient(&self, address: &Address) -> impl Future<Output = Result<(), Reply>> + Send;

    /// One mail; one answer for each of the envelope's recipients, in order, repeated ones
    /// included. [`Answer::Taken`] says that the mail is durable. The future is dropped when it
    /// takes longer than `timeouts.final_reply` and [`Handoff::overtime`]; the client is then told
    /// `451 4.4.5`. The memory of `raw` counts as taken until its last clone is dropped; a copy of
    /// it counts nowhere.
    fn message(&self, envelope: Envelope, raw: Octets) -> impl Future<Output = Vec<Answer>> + Send;

    /// For an implementation that keeps `timeouts.final_reply` itself and must not be dropped in
    /// its last step.
    fn overtime(&self) -> Duration {
        Duration::ZERO
    }
}

/// The running listeners. Dropping it stops everything at once; [`Server::shutdown`] is the
/// orderly way.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<(String, SocketAddr)>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<JoinSet<()>>,
}

impl Server {
    /// Opens every listener, then serves them on the current runtime. `memory` bounds the octets
    /// of all mail in flight; what of it is still coming in and large lies in files without a
    /// name in the folder `spill`.
    ///
    /// # Errors
    /// [`ServerError`] of the first listener that cannot be opened; none is open then.
    pub async fn start<H: Handoff>(
        listeners: Vec<ListenerSettings>,
        memory: u64,
        spill: PathBuf,
        handoff: Arc<H>,
    ) -> Result<Self, ServerError> {
        let mut opened = Vec::new();
        for settings in listeners {
            match Listener::open(&settings).await {
                Ok(sockets) => opened.push((sockets, Arc::new(settings))),
                Err(source) => {
                    return Err(ServerError {
                        name: settings.name,
                        address: settings.address,
                        source,
                    });
                }
            }
        }
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            handoff,
            room: Room::new(memory, spill),
            handles: Arc::new(Semaphore::new(handles())),
            stop: stopped,
        };
        let mut server = Self {
            addresses: Vec::new(),
            stop,
            listeners: JoinSet::new(),
        };
        for (sockets, settings) in opened {
            for socket in sockets {
                let address = socket.tcp_address();
                server
                    .addresses
                    .extend(address.map(|address| (settings.name.clone(), address)));
                server
                    .listeners
                    .spawn(socket.run(settings.clone(), shared.clone()));
            }
        }
        Ok(server)
    }

    /// Name and bound address of each TCP listener.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Stops accepting, tells idle clients `421 4.3.2`, lets open mails finish for `grace` and
    /// then drops what is left. Returns when every connection is closed.
    pub async fn shutdown(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.stop.send_replace(true);
        while let Some(stopped) = self.listeners.join_next().await {
            let Ok(mut connections) = stopped else {
                continue;
            };
            let all = async { while connections.join_next().await.is_some() {} };
            if timeout_at(deadline, all).await.is_err() {
                tracing::warn!(
                    connections = connections.len(),
                    "grace is over, connections are cut"
                );
                connections.shutdown().await;
            }
        }
    }
}

/// Connections that the limit of file handles lets all listeners have together.
fn handles() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let left = limit.map_or(u64::MAX, |limit| limit - RESERVED_HANDLES.min(limit / 2));
    usize::try_from(left).map_or(Semaphore::MAX_PERMITS, |left| {
        left.min(Semaphore::MAX_PERMITS)
    })
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener {name} cannot listen on {address}: {source}")]
pub struct ServerError {
    /// `server.listeners[].name`.
    pub name: String,
    /// As configured.
    pub address: ListenAddress,
    /// `PermissionDenied` for exit code 77, `AddrInUse` when another process listens there.
    pub source: io::Error,
}
