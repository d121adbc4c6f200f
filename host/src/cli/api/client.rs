//! One request over one connection, on the host's Unix socket or on TCP.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::body::Pieces;
use super::path::ApiPath;
use crate::cli::errors::{CliError, Exit};
use crate::cli::target::{Endpoint, Target};
use crate::control::wire::ErrorInfo;

/// How long a connection over TCP may take to open. A host answers at once; one behind a filter
/// that drops packets would keep the user waiting for minutes.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of an answer. More: refused. A worker's state is the largest there is, and it lives in a
/// 32-bit memory.
const ANSWER_BYTES_MAX: usize = 4 << 30;

/// Bytes of an error's text that are shown where it is not the API's own.
const FOREIGN_ERROR_CHARACTERS: usize = 200;

/// Talks to one host.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    token: Option<String>,
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: ApiPath,
    body: Vec<u8>,
    content_type: String,
    last_event_id: Option<u64>,
}

impl Request {
    pub fn get(path: ApiPath) -> Request {
        Request::new(Method::GET, path, Vec::new())
    }

    pub fn post(path: ApiPath, body: Vec<u8>) -> Request {
        Request::new(Method::POST, path, body)
    }

    pub fn delete(path: ApiPath) -> Request {
        Request::new(Method::DELETE, path, Vec::new())
    }

    pub fn put(path: ApiPath, body: Vec<u8>, content_type: &str) -> Request {
        Request { content_type: content_type.to_string(), ..Request::new(Method::PUT, path, body) }
    }

    /// Continues a stream after the event with this number.
    pub fn after_event(mut self, id: u64) -> Request {
        self.last_event_id = Some(id);
        self
    }

    fn new(method: Method, path: ApiPath, body: Vec<u8>) -> Request {
        let content_type = "application/octet-stream".to_string();
        Request { method, path, body, content_type, last_event_id: None }
    }
}

/// A whole answer that is no error.
#[derive(Clone, Debug)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The answer's JSON as a type of the wire.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        parse(&self.body)
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Reads a type of the wire; fails where the host speaks another version.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(json).map_err(|error| {
        CliError::failed("the host's answer cannot be understood")
            .cause(error.to_string())
            .help("`paguro --version`: the host must be of the same version")
    })
}

impl Client {
    pub fn new(target: Target, token: Option<String>) -> Client {
        Client { target, token }
    }

    /// A command to offer that reaches the same host.
    pub fn command(&self, rest: &str) -> String {
        self.target.command(rest)
    }

    /// Asks and takes the whole answer.
    pub async fn send(&self, request: Request) -> Result<Reply, CliError> {
        let response = self.open(request).await?;
        let (head, body) = response.into_parts();
        Ok(Reply { headers: head.headers, body: self.collect(body).await? })
    }

    /// Shorthand for [`Client::send`] with a GET.
    pub async fn get(&self, path: ApiPath) -> Result<Reply, CliError> {
        self.send(Request::get(path)).await
    }

    /// Asks and leaves the body of an answer that is no error to be read bit by bit.
    pub async fn open(&self, request: Request) -> Result<Response<Incoming>, CliError> {
        let request = self.to_http(request)?;
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|error| self.broke_off(&error))?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response.into_body()).await?;
        Err(match serde_json::from_slice::<ErrorInfo>(&body) {
            Ok(error) => error.into(),
            Err(_) => foreign_error(&status.to_string(), &body),
        })
    }

    /// The connection ended before the answer did.
    pub fn broke_off(&self, error: &(dyn std::error::Error + 'static)) -> CliError {
        let cause = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        CliError::new(Exit::Unreachable, "the host went away before it had answered")
            .cause(cause)
            .help(self.command("ps"))
    }

    fn to_http(&self, request: Request) -> Result<hyper::Request<Pieces>, CliError> {
        let host = match &self.target.endpoint {
            Endpoint::Tcp(address) => address.as_str(),
            Endpoint::Socket(_) => "localhost",
        };
        let mut http = hyper::Request::builder()
            .method(request.method)
            .uri(request.path.to_string())
            .header(HOST, host)
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, request.content_type)
            .header(CONTENT_LENGTH, request.body.len());
        if let Some(token) = &self.token {
            http = http.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        if let Some(id) = request.last_event_id {
            http = http.header("last-event-id", id);
        }
        // Paths are encoded; only a token or a media type can hold what HTTP does not allow.
        http.body(Pieces::new(request.body))
            .map_err(|error| CliError::usage("the request cannot be sent").cause(error.to_string()))
    }

    async fn connect(&self) -> Result<SendRequest<Pieces>, CliError> {
        let told = |error: io::Error| self.target.unreachable(&error);
        match &self.target.endpoint {
            Endpoint::Socket(path) => self.shake_hands(UnixStream::connect(path).await.map_err(told)?).await,
            Endpoint::Tcp(address) => {
                let opening = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(address));
                let opened = opening.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
                self.shake_hands(opened.map_err(told)?).await
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the connection ends with its sender and its body")]
    async fn shake_hands<S>(&self, stream: S) -> Result<SendRequest<Pieces>, CliError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| self.broke_off(&error))?;
        // What goes wrong in here reaches the sender or the body's reader.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, CliError> {
        let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        whole.map(|whole| whole.to_bytes()).map_err(|error| self.broke_off(&*error))
    }
}

/// An error that does not come from the API: something else listens there, or stands in between.
fn foreign_error(status: &str, body: &[u8]) -> CliError {
    let text: String = String::from_utf8_lossy(body).trim().chars().take(FOREIGN_ERROR_CHARACTERS).collect();
    CliError::failed(format!("the answer was {status}, not from Paguro's API")).cause(text)
}

#[cfg(test)]
mod tests;
