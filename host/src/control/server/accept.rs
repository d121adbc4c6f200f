//! Takes connections in and serves them, each in a task of its own.
//!
//! What a connection may take is bounded before it is taken: by its place (`connections.rs`), by its time
//! (`patience.rs`), by its buffer. Descriptors may run out all the same, for guests and the host itself take some.
//! Then the loop waits until one is free. The socket has a few of its own, which it lets go of first: its owner gets
//! in whatever else is open.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use super::connections::{Connections, Peer};
use super::failed::Failed;
use super::front::{Front, Shared};
use super::line::{Counted, Line};
use crate::base::{Name, bounds};

/// Takes connections until the host stops.
pub async fn accept<L: Listens>(mut listener: L, shared: Arc<Shared>, connections: Arc<Connections>) {
    let mut stop = shared.api.stop.clone();
    let mut spare = Spare::default();
    if L::KEEPS_SPARE {
        spare.refill();
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that nobody is left to say so: the same.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                shared.api.host.services.fuses.at(&Name::root());
                serve(stream, peer, &shared, &connections);
                // Only now: taken back before, the descriptor that was given up would be missing again.
                if L::KEEPS_SPARE {
                    spare.refill();
                }
            }
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                if is_want(&error) {
                    let value = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
                    shared.api.refusals.reached("descriptors", value.unwrap_or(u64::MAX), "any client");
                }
                if !spare.give_up_one() {
                    // It waits in the listener's queue, and this loop for a connection that ends, not in a spin.
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, connections.one_ended()).await;
                }
            }
        }
    }
}

/// Before connections are taken again after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connection ended before it was taken.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// The system or the process has no descriptor left.
fn is_want(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn serve<S: Stream>(stream: S, peer: Peer, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    let line = Arc::new(Line::default());
    if shared.token.is_none() {
        line.know();
    }
    let permit = match connections.admit(peer, &line, shared.api.host.recorder().clock().now()) {
        Ok(permit) => permit,
        Err((bound, value)) => {
            shared.api.refusals.reached(bound, value, peer);
            return turn_away(&stream, bound, value);
        }
    };
    let (id, stop) = (permit.id(), shared.api.stop.clone());
    let front = Front::new(shared.clone(), line.clone());
    let task = tokio::spawn(async move {
        let _permit = permit;
        converse(Counted { stream, line }, front, stop).await;
    });
    connections.serve(id, task.abort_handle());
}

/// Serves one connection to its end. When the host stops, the request under way is its last.
async fn converse<S: Stream>(stream: Counted<S>, front: Front, mut stop: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    // Looks know the times; hyper's own timer would be set and let go of for each request.
    builder.header_read_timeout(None).max_buf_size(bounds::CONNECTION_BUFFER_BYTES_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), front));
    tokio::select! {
        biased;
        // What goes wrong is the client's affair, and is told to it where it can be.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Says why, as far as that goes without waiting, and closes.
fn turn_away(stream: &impl Stream, bound: &str, value: u64) {
    let message = "the host has too many connections";
    let cause = format!("`{bound}` is {value}, and all are at work");
    let failed = Failed::new("overloaded", message, cause, "close some, or try again in a moment");
    let body = serde_json::to_string(&failed.0).unwrap_or_default();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close";
    let _ = stream.try_write(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
}

/// Descriptors that are open for nothing but to be closed when there is need.
#[derive(Default)]
struct Spare(Vec<File>);

impl Spare {
    fn refill(&mut self) {
        while self.0.len() < bounds::SPARE_DESCRIPTORS {
            let Ok(file) = File::open("/dev/null") else { return };
            self.0.push(file);
        }
    }

    fn give_up_one(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

/// A stream of bytes to a client.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Stream for TcpStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }
}

impl Stream for UnixStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        UnixStream::try_write(self, bytes)
    }
}

/// Where clients come in.
pub trait Listens: Send + 'static {
    type Stream: Stream;
    /// It keeps descriptors back for its clients.
    const KEEPS_SPARE: bool;

    /// Dropping the future loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listens for TcpListener {
    type Stream = TcpStream;
    const KEEPS_SPARE: bool = false;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address): (_, SocketAddr) = TcpListener::accept(self).await?;
        // Best effort: a client that went away without a word would follow, or wait for its answer, for good.
        let _ = ask_whether_it_lives(&stream);
        Ok((stream, Peer::of(address.ip())))
    }
}

fn ask_whether_it_lives(stream: &TcpStream) -> Result<(), Errno> {
    use rustix::net::sockopt;
    sockopt::set_tcp_keepidle(stream, bounds::CLIENT_SILENT_TIME)?;
    sockopt::set_tcp_keepintvl(stream, bounds::CLIENT_SILENT_TIME / 4)?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    sockopt::set_socket_keepalive(stream, true)
}
