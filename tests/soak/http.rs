//! As much of HTTP as it takes to ask the API and to read its answer: no library stands between what a hand does
//! and what the host sees. Nothing here waits for ever.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};

/// How long one attempt to connect or one write may take.
const IO_TIME: Duration = Duration::from_secs(2);
/// How often a reader looks whether it should go on.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of an answer's head that are read.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer's body that are read.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A connection, either way.
pub enum Wire {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Wire {
    pub fn unix(socket: &Path) -> io::Result<Wire> {
        // The standard library's `connect` waits for ever where a listener's queue is full.
        let fd: OwnedFd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(IO_TIME))?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
        Wire::Unix(UnixStream::from(fd)).bounded()
    }

    pub fn tcp(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect_timeout(&address, IO_TIME)?;
        stream.set_nodelay(true)?;
        Wire::Tcp(stream).bounded()
    }

    fn bounded(self) -> io::Result<Wire> {
        match &self {
            Wire::Unix(stream) => {
                stream.set_read_timeout(Some(LOOK))?;
                stream.set_write_timeout(Some(IO_TIME))?;
            }
            Wire::Tcp(stream) => {
                stream.set_read_timeout(Some(LOOK))?;
                stream.set_write_timeout(Some(IO_TIME))?;
            }
        }
        Ok(self)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Unix(stream) => stream.read(buffer),
            Wire::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Unix(stream) => stream.write(bytes),
            Wire::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A request, and how long it may take.
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub token: Option<&'a str>,
    pub body: &'a [u8],
    pub time: Duration,
}

impl<'a> Request<'a> {
    pub fn get(target: &'a str) -> Request<'a> {
        Request { method: "GET", target, token: None, body: b"", time: Duration::from_secs(5) }
    }

    pub fn post(target: &'a str, body: &'a [u8]) -> Request<'a> {
        Request { method: "POST", body, ..Request::get(target) }
    }

    pub fn within(self, time: Duration) -> Request<'a> {
        Request { time, ..self }
    }

    /// Everything before the body.
    pub fn head(&self) -> String {
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let Request { method, target, body, .. } = self;
        format!("{method} {target} HTTP/1.1\r\nHost: paguro\r\n{token}Content-Length: {}\r\n\r\n", body.len())
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept, and what was read of it beyond the last answer.
pub struct Client {
    wire: Wire,
    read: Vec<u8>,
}

impl Client {
    pub fn new(wire: Wire) -> Client {
        Client { wire, read: Vec::new() }
    }

    /// Sends and waits for the answer, as long as `goes_on` says so.
    pub fn ask(&mut self, request: &Request<'_>, goes_on: &dyn Fn() -> bool) -> io::Result<Answer> {
        let ends = Instant::now() + request.time;
        self.wire.write_all(request.head().as_bytes())?;
        // A host may refuse a body before it has all of it, and close: its answer is there to be read.
        let sent = self.wire.write_all(request.body);
        let answer = self.answer(&|| goes_on() && Instant::now() < ends);
        if answer.is_err() { sent.and(answer) } else { answer }
    }

    fn answer(&mut self, goes_on: &dyn Fn() -> bool) -> io::Result<Answer> {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.read.drain(..at + 4).collect::<Vec<u8>>();
                break String::from_utf8_lossy(&head).to_ascii_lowercase();
            }
            if self.read.len() > HEAD_BYTES_MAX || self.fill(goes_on)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status: u16 = status.ok_or(io::ErrorKind::InvalidData)?;
        if status == 100 {
            return self.answer(goes_on);
        }
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = match (header("content-length:"), header("transfer-encoding:")) {
            (Some(length), _) => {
                let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
                self.take(length, goes_on)?
            }
            (None, Some("chunked")) => self.chunks(goes_on)?,
            _ => Vec::new(),
        };
        Ok(Answer { status, body })
    }

    fn chunks(&mut self, goes_on: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                    let line = self.read.drain(..at + 2).collect::<Vec<u8>>();
                    break String::from_utf8_lossy(&line).trim().to_string();
                }
                if self.fill(goes_on)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            let length = usize::from_str_radix(&line, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let chunk = self.take(length, goes_on)?;
            self.take(2, goes_on)?;
            if length == 0 {
                return Ok(body);
            }
            body.extend(chunk);
            if body.len() > BODY_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    fn take(&mut self, length: usize, goes_on: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while self.read.len() < length {
            if self.fill(goes_on)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.drain(..length).collect())
    }

    /// Reads some more. `TimedOut` once `goes_on` says no.
    fn fill(&mut self, goes_on: &dyn Fn() -> bool) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.wire.read(&mut buffer) {
                Ok(count) => {
                    self.read.extend_from_slice(&buffer[..count]);
                    return Ok(count);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if !goes_on() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What came of an attempt, in a word for a tally.
pub fn word(outcome: &io::Result<Answer>) -> String {
    match outcome {
        Ok(answer) => answer.status.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(bytes: &[u8]) -> io::Result<Answer> {
        let (mut here, there) = UnixStream::pair()?;
        here.write_all(bytes)?;
        drop(here);
        Client::new(Wire::Unix(there).bounded()?).answer(&|| true)
    }

    #[test]
    fn answers_are_read_however_their_length_is_said() {
        let read = |bytes: &str| answered(bytes.as_bytes()).map(|answer| (answer.status, answer.text()));
        let plain = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(plain.unwrap(), (200, "hi".to_string()));
        let chunked = read("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n");
        assert_eq!(chunked.unwrap(), (400, "hi!".to_string()));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, String::new()));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Le").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nobody_waits_longer_than_told() {
        let (_here, there) = UnixStream::pair().unwrap();
        let mut client = Client::new(Wire::Unix(there).bounded().unwrap());
        let request = Request::get("/v1/host").within(Duration::from_millis(1));
        assert_eq!(client.ask(&request, &|| true).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
