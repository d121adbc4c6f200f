//! Standard output and standard error of a guest, line by line, into its log.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::outside::{LogLevel, LogSink};
use crate::base::bounds;

/// Bytes that a guest may write at once: a bound on what is copied for it.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One of a guest's two output streams. All its handles share the line that is being written.
#[derive(Clone)]
pub(super) struct Output {
    sink: Arc<dyn LogSink>,
    level: LogLevel,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    pub fn new(sink: Arc<dyn LogSink>, level: LogLevel) -> Output {
        Output { sink, level, line: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            // A line without end is handed over in pieces, so that it takes no more room than one.
            if byte == b'\n' || line.len() >= bounds::LOG_LINE_BYTES_MAX {
                self.sink.line(self.level, &String::from_utf8_lossy(&line));
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The last handle hands over a last line that had no end.
        if Arc::strong_count(&self.line) == 1 {
            let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            if !line.is_empty() {
                self.sink.line(self.level, &String::from_utf8_lossy(&line));
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    /// Takes lines where they are written. The adapter that stands here by default has a task for each
    /// stream, and each write of a guest, such as its last words in a panic, would wait for that task.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
