//! A connection as looks see it: what came and went, counted where it is read and written.
//!
//! One task reads, writes and serves a connection; looks only read. So each number is stored without a locked
//! instruction, and a look may find one a moment old.
//!
//! An answer is done with when the system has taken the last byte of it, not when hyper has: hyper lets go of a body as
//! soon as its last part lies in the buffer, and a client may take minutes to read that.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::patience::Glance;
use crate::base::Held;

#[derive(Debug, Default)]
pub struct Line {
    is_known: AtomicBool,
    requests: AtomicU64,
    /// Answers that are made to their end, and those of them that are written.
    answers: AtomicU64,
    sent: AtomicU64,
    /// What the answers hold that are made and not written. Most hold nothing: the lock is left alone then.
    has_held: AtomicBool,
    held: Mutex<Vec<Held>>,
    read: AtomicU64,
    /// Bytes that were read when the last answer was made.
    read_before: AtomicU64,
    written: AtomicU64,
    is_blocked: AtomicBool,
}

impl Line {
    /// Its client has shown the token, or needs none.
    pub fn know(&self) {
        self.is_known.store(true, Relaxed);
    }

    pub fn begin(&self) {
        add(&self.requests, 1);
    }

    /// An answer is made. What it holds is given back when it is written, or with the connection.
    pub fn end(&self, held: Option<Held>) {
        self.read_before.store(self.read.load(Relaxed), Relaxed);
        if let Some(held) = held {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
            self.has_held.store(true, Relaxed);
        }
        add(&self.answers, 1);
    }

    /// All that was there to be written is.
    fn flushed(&self) {
        let answers = self.answers.load(Relaxed);
        if answers != self.sent.load(Relaxed) {
            self.sent.store(answers, Relaxed);
            if self.has_held.load(Relaxed) {
                self.has_held.store(false, Relaxed);
                self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        }
    }

    pub fn glance(&self) -> Glance {
        Glance {
            is_known: self.is_known.load(Relaxed),
            requests: self.requests.load(Relaxed),
            is_under_way: self.sent.load(Relaxed) != self.requests.load(Relaxed),
            has_begun: self.read.load(Relaxed) > self.read_before.load(Relaxed),
            is_blocked: self.is_blocked.load(Relaxed),
            written: self.written.load(Relaxed),
        }
    }

    fn wrote<T>(&self, poll: Poll<io::Result<T>>, bytes: impl FnOnce(&T) -> usize) -> Poll<io::Result<T>> {
        self.is_blocked.store(poll.is_pending(), Relaxed);
        if let Poll::Ready(Ok(done)) = &poll {
            add(&self.written, bytes(done));
        }
        poll
    }
}

/// By the one task that writes it.
fn add(number: &AtomicU64, by: usize) {
    number.store(number.load(Relaxed).wrapping_add(by as u64), Relaxed);
}

/// A stream whose reads and writes are counted.
pub struct Counted<S> {
    pub stream: S,
    pub line: Arc<Line>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        add(&self.line.read, buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.line.wrote(poll, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.line.wrote(poll, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when its buffer is empty, and not before.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.line.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_look_sees_what_came_and_whether_the_client_reads() {
        let (mut client, stream) = tokio::io::duplex(8);
        let line = Arc::new(Line::default());
        let mut counted = Counted { stream, line: line.clone() };
        assert!(line.glance().is_idle() && line.glance().is_worthless());
        client.write_all(b"GET").await.unwrap();
        counted.read_exact(&mut [0; 3]).await.unwrap();
        assert!(line.glance().has_begun);
        line.know();
        line.begin();
        counted.write_all(b"12345678").await.unwrap();
        assert!(futures::poll!(std::pin::pin!(counted.write_all(b"9"))).is_pending());
        assert!(line.glance().is_blocked && line.glance().written == 8);
        client.read_exact(&mut [0; 8]).await.unwrap();
        counted.write_all(b"9").await.unwrap();
        line.end(None);
        assert!(!line.glance().is_idle(), "made, and not written");
        counted.flush().await.unwrap();
        assert!(line.glance().is_idle() && !line.glance().is_worthless());
    }
}
