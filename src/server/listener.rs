//! Sockets: opening them, who may come in, how many at a time.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{Shared, Wire, serve};
use super::{Handoff, ListenerSettings};
use crate::mail::Client;
use crate::smtp::{ListenAddress, Reply};

/// After a failed accept (no file handles left): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted; the system may cap it (`net.core.somaxconn`). Beyond it a
/// burst of clients would wait for a greeting that never comes: the runtime's own 128 are too few.
const BACKLOG: u32 = 4096;
/// Owner and group (the MTA) may connect.
const SOCKET_MODE: u32 = 0o660;

/// An open listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// A socket of ours in the file system; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// How many more connections a listener takes.
#[derive(Debug, Clone)]
pub(super) struct Load {
    free: Arc<Semaphore>,
    few: usize,
}

impl Load {
    fn new(max_connections: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            few: max_connections / 5,
        }
    }

    /// More than four of five are taken.
    pub(super) fn is_high(&self) -> bool {
        self.free.available_permits() < self.few
    }
}

enum Stream {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

impl Stream {
    fn into_wire(self) -> Box<dyn Wire> {
        match self {
            Self::Tcp(stream, _) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }
}

impl Listener {
    /// Opens what the address names: one socket, or all that the service manager passed under
    /// that name.
    pub(super) async fn open(settings: &ListenerSettings) -> io::Result<Vec<Self>> {
        let sockets = match &settings.address {
            ListenAddress::Tcp { host, port } => vec![Self::Tcp(bind_tcp(host, *port).await?)],
            ListenAddress::Unix(path) => vec![bind_unix(Path::new(path))?],
            ListenAddress::Systemd(name) => from_manager(name)?,
        };
        let clear = |socket: &Self| matches!(socket, Self::Unix { .. });
        if settings.tls.is_some() && sockets.iter().any(clear) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "TLS is for TCP sockets",
            ));
        }
        Ok(sockets)
    }

    /// The bound address of a TCP socket.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Accepts until the server stops; gives back the connections that are still open.
    pub(super) async fn run<H: Handoff>(
        self,
        settings: Arc<ListenerSettings>,
        shared: Shared<H>,
    ) -> JoinSet<()> {
        let load = Load::new(settings.max_connections);
        let mut open = JoinSet::new();
        let mut stop = shared.stop.clone();
        while !*stop.borrow_and_update() {
            let accepted = tokio::select! {
                changed = stop.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                Some(_) = open.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(listener = settings.name, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(client) = admitted(&stream, &settings) else {
                turn_away(&stream, &Reply::plain(554, "no service for this client"));
                continue;
            };
            let slot = load.free.clone().try_acquire_owned();
            let (Ok(slot), Ok(handle)) = (slot, shared.handles.clone().try_acquire_owned()) else {
                turn_away(&stream, &Reply::new(421, 3, 2, "too many connections"));
                continue;
            };
            let (settings, load, shared) = (settings.clone(), load.clone(), shared.clone());
            open.spawn(async move {
                serve(stream.into_wire(), client, settings, load, shared).await;
                drop((slot, handle));
            });
        }
        open
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream, peer.ip().to_canonical()))
            }
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// The client, if it may connect. Everyone who may is trusted (CONTRACT section 1).
fn admitted(stream: &Stream, settings: &ListenerSettings) -> Option<Client> {
    let ip = match stream {
        Stream::Tcp(_, ip) => Some(*ip),
        Stream::Unix(_) => None,
    };
    let may = |ip: IpAddr| settings.clients.iter().any(|network| network.contains(ip));
    if let Some(ip) = ip.filter(|ip| !may(*ip)) {
        tracing::warn!(listener = settings.name, client = %ip, "client is not in `clients`");
        return None;
    }
    Some(Client {
        ip,
        helo: String::new(),
        tls: settings.tls.as_ref().is_some_and(|tls| tls.implicit),
        trusted: true,
        origin_ip: None,
        origin_name: None,
    })
}

/// One line into the empty send buffer of a new connection: never waits.
fn turn_away(stream: &Stream, reply: &Reply) {
    let mut line = Vec::new();
    reply.write(&mut line);
    let _ = match stream {
        Stream::Tcp(stream, _) => stream.try_write(&line),
        Stream::Unix(stream) => stream.try_write(&line),
    };
}

/// The first address of the name that can be listened on.
async fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let bound = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match bound() {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Binds beside the path and renames, so that the socket never has another mode and replaces
/// what a crash left; refuses to take the place of a living server or of another kind of file.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        let free = found.file_type().is_socket()
            && std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !free {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let file = SocketFile(PathBuf::from(beside));
    let _ = fs::remove_file(&file.0);
    let listener = UnixListener::bind(&file.0)?;
    fs::set_permissions(&file.0, fs::Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(&file.0, path)?;
    Ok(Listener::Unix {
        listener,
        _file: Some(SocketFile(path.to_owned())),
    })
}

/// The sockets of the service manager (`sd_listen_fds(3)`) that bear the name.
fn from_manager(name: &str) -> io::Result<Vec<Listener>> {
    let passed = sd_notify::listen_fds_with_names()?;
    let named = passed.filter(|(_, passed)| passed == name);
    let listeners = named
        .map(|(number, _)| passed_socket(number))
        .collect::<io::Result<Vec<_>>>()?;
    if listeners.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no socket of that name was passed",
        ));
    }
    Ok(listeners)
}

fn passed_socket(number: i32) -> io::Result<Listener> {
    let socket = std::net::TcpListener::from(duplicate(number)?);
    socket.set_nonblocking(true)?;
    if socket.local_addr().is_ok() {
        return Ok(Listener::Tcp(TcpListener::from_std(socket)?));
    }
    let socket = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
    Ok(Listener::Unix {
        listener: UnixListener::from_std(socket)?,
        _file: None,
    })
}

/// An owned copy of a file handle that is known by its number only. A unit that filters system
/// calls must allow `pidfd_getfd`, which is not in `@system-service`.
fn duplicate(number: i32) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this_process = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(this_process, number, PidfdGetfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_passed_socket_is_the_same_socket() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let copy = std::net::TcpListener::from(duplicate(socket.as_raw_fd()).unwrap());
        assert_eq!(copy.local_addr().unwrap(), socket.local_addr().unwrap());
        assert_ne!(copy.as_raw_fd(), socket.as_raw_fd());
        assert!(duplicate(-1).is_err());
    }
}
