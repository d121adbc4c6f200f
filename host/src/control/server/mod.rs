//! The API over HTTP: on a Unix socket that is its owner's alone, and by choice on TCP with a token.

mod accept;
mod bodies;
mod connections;
mod failed;
mod front;
mod line;
mod patience;
mod routes;
mod socket;
mod stream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use self::connections::Connections;
use self::front::Shared;
use self::socket::OwnersSocket;
use super::host::Host;
use crate::base::Name;

pub use connections::Room;
pub use patience::Patience;
pub(super) use routes::Api;
pub use routes::ROUTES;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the socket {} cannot be opened: {source}", path.display())]
    Socket { path: PathBuf, source: std::io::Error },
    /// The bound is the operating system's: 107 bytes on Linux.
    #[error("the path of the socket is too long: {}", .0.display())]
    LongPath(PathBuf),
    #[error("the address {address} cannot be listened on: {source}")]
    Address { address: SocketAddr, source: std::io::Error },
    #[error("a TCP listener needs a token, of 16 characters or more")]
    NoToken,
}

/// Bytes of a Unix socket's path, from `sockaddr_un`.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Characters of a token: one that can be guessed is none.
pub const TOKEN_CHARS_MIN: usize = 16;

/// Whether a token is one.
pub fn is_long_enough(token: &str) -> bool {
    token.chars().count() >= TOKEN_CHARS_MIN
}

/// A listener that is open: from now on requests wait.
pub struct Server {
    unix: OwnersSocket,
    /// With the hash of its token.
    tcp: Option<(TcpListener, blake3::Hash)>,
    room: Room,
    patience: Patience,
}

impl Server {
    /// Whether it can be listened there at all, before anything else begins.
    pub fn check(tcp: Option<&(SocketAddr, Option<String>)>) -> Result<(), ServeError> {
        match tcp {
            Some((_, token)) if !token.as_deref().is_some_and(is_long_enough) => Err(ServeError::NoToken),
            _ => Ok(()),
        }
    }

    /// The state directory's lock is held.
    pub async fn open(socket: &Path, tcp: Option<(SocketAddr, Option<String>)>) -> Result<Server, ServeError> {
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(ServeError::LongPath(socket.to_path_buf()));
        }
        let failed = |source| ServeError::Socket { path: socket.to_path_buf(), source };
        let unix = OwnersSocket::open(socket).map_err(failed)?;
        let tcp = match tcp {
            None => None,
            Some((address, token)) => {
                let token = token.filter(|token| is_long_enough(token)).ok_or(ServeError::NoToken)?;
                let bound = TcpListener::bind(address).await;
                let listener = bound.map_err(|source| ServeError::Address { address, source })?;
                Some((listener, blake3::hash(token.as_bytes())))
            }
        };
        let (room, patience) = (Room::here(None), Patience::default());
        Ok(Server { unix, tcp, room, patience })
    }

    /// The TCP address that was bound, if any.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// With room for other numbers of connections than by default.
    pub fn with_room(self, room: Room) -> Server {
        Server { room, ..self }
    }

    /// With other times than by default.
    pub fn with_patience(self, patience: Patience) -> Server {
        Server { patience, ..self }
    }

    /// Serves until `stop` says so; requests under way are answered, streams end. Ends before that where connections
    /// over TCP are taken in no more, for whoever serves to say so.
    pub async fn serve(self, host: Arc<Host>, stop: watch::Receiver<bool>) {
        let Server { unix, tcp, room, patience } = self;
        let (socket, unix) = (unix.path().to_path_buf(), unix.told_to(host.recorder()));
        let connections = Connections::new(room, patience);
        let api = routes::Api::new(host, stop.clone(), connections.clone());
        let router = routes::router(api.clone());
        let shared = |token| Arc::new(Shared { api: api.clone(), router: router.clone(), token });
        let looking = tokio::spawn(look_always(api.clone()));
        let over_tcp = tcp.map(|(listener, token)| {
            let recorder = api.host.recorder().clone();
            let accepting = accept::accept(listener, shared(Some(token)), connections.clone());
            tokio::spawn(async move { recorder.watched("the API over TCP", accepting).await })
        });
        let over_tcp = async {
            let Some(over_tcp) = over_tcp else { return Ok(()) };
            over_tcp.await.ok().flatten().ok_or(Gone)
        };
        let over_socket = async {
            accept::accept(unix, shared(None), connections.clone()).await;
            Ok(())
        };
        if tokio::try_join!(over_socket, over_tcp).is_ok() {
            connections.all_ended().await;
        }
        looking.abort();
        let _ = std::fs::remove_file(&socket);
    }
}

/// Nobody takes connections in any more.
struct Gone;

/// Looks, whatever panics in it: without looks, no client would ever be cut again.
async fn look_always(api: Arc<routes::Api>) {
    loop {
        // It waits before it looks: a panic at each look is told no more often than it looks.
        let _ = api.host.recorder().watched("what looks at connections", look(&api)).await;
    }
}

/// Cuts clients that are waited for too long.
async fn look(api: &routes::Api) {
    let connections = &api.connections;
    loop {
        tokio::time::sleep(connections.patience().look).await;
        api.host.services.fuses.at(&Name::root());
        for (peer, (bound, value)) in connections.look(api.host.recorder().clock().now()) {
            api.refusals.reached(bound, value, peer);
        }
    }
}
