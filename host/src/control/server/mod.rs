//! The API over HTTP: on a Unix socket that is its owner's alone, and by choice on TCP with a token.

mod front;
mod routes;
mod stream;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, ServiceExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use self::front::Front;
use super::host::Host;
use super::wire::ErrorInfo;

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
const TOKEN_CHARS_MIN: usize = 16;

/// A listener that is open: from now on requests wait.
pub struct Server {
    unix: UnixListener,
    tcp: Option<(TcpListener, Arc<str>)>,
    socket: PathBuf,
}

impl Server {
    /// The state directory's lock is held, so a socket file that is there was left behind.
    pub async fn open(socket: &Path, tcp: Option<(SocketAddr, Option<String>)>) -> Result<Server, ServeError> {
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(ServeError::LongPath(socket.to_path_buf()));
        }
        let failed = |source| ServeError::Socket { path: socket.to_path_buf(), source };
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let unix = UnixListener::bind(socket).map_err(failed)?;
        // The directory is 0700 already; this is for a state directory that somebody opens up.
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let tcp = match tcp {
            None => None,
            Some((address, token)) => {
                let token =
                    token.filter(|token| token.chars().count() >= TOKEN_CHARS_MIN).ok_or(ServeError::NoToken)?;
                let bound = TcpListener::bind(address).await;
                let listener = bound.map_err(|source| ServeError::Address { address, source })?;
                Some((listener, Arc::from(token)))
            }
        };
        Ok(Server { unix, tcp, socket: socket.to_path_buf() })
    }

    /// The TCP address that was bound, if any.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Serves until `stop` says so; requests under way are answered, streams end.
    pub async fn serve(self, host: Arc<Host>, stop: watch::Receiver<bool>) {
        let app = routes::App { host: host.clone(), stop: stop.clone() };
        let router = routes::router(host, stop.clone());
        let tcp = self.tcp.map(|(listener, token)| {
            let guarded = router.clone().layer(middleware::from_fn_with_state(token, guard));
            tokio::spawn(axum::serve(listener, guarded).with_graceful_shutdown(stopped(stop.clone())).into_future())
        });
        // An error is one of accepting; axum goes on accepting by itself.
        let front = ServiceExt::<Request>::into_make_service(Front { app, rest: router });
        let _ = axum::serve(self.unix, front).with_graceful_shutdown(stopped(stop)).await;
        if let Some(tcp) = tcp {
            let _ = tcp.await;
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is left to say so: the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Lets a request through that carries the token.
async fn guard(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let header = request.headers().get("authorization").map(|value| value.as_bytes());
    let given = header.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    // Hashes are compared, so that the time it takes tells nothing about the token.
    if blake3::hash(given) == blake3::hash(token.as_bytes()) {
        return next.run(request).await;
    }
    let error = ErrorInfo {
        code: "unauthorized".to_string(),
        message: "the token is missing or wrong".to_string(),
        cause: String::new(),
        help: "give the host's token with `--token` or PAGURO_TOKEN".to_string(),
    };
    (StatusCode::UNAUTHORIZED, axum::Json(error)).into_response()
}

/// A router without a listener, for tests.
pub fn router(host: Arc<Host>, stop: watch::Receiver<bool>) -> Router {
    routes::router(host, stop)
}
