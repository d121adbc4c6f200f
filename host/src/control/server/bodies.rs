//! Bodies of requests and of answers: read within a bound and a time, and counted over all connections.
//!
//! What is small is not counted: the bound on connections is a bound on it. All else is taken from the host's account
//! as it comes, and given back when the request, or the answer, is done with. Bodies have a share of the account, so
//! that clients who send or read slowly do not take the room of what workers keep.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};

use super::failed::{Failed, Refusals};
use super::line::Line;
use super::patience::Patience;
use crate::base::units::{show_duration, show_size};
use crate::base::{Account, Clock, Held, Holding, HostFault, bounds, panics};
use crate::record::{Event, Recorder};

pub struct Bodies {
    account: Arc<Account>,
    bytes_max: u64,
    clock: Clock,
    patience: Patience,
    refusals: Arc<Refusals>,
}

/// A whole body. What it takes is given back with `held`.
pub struct Received {
    pub bytes: Vec<u8>,
    pub held: Option<Held>,
}

/// What a body is for: how large it may be, and what is said where it is larger.
pub struct Limit<'a> {
    pub bytes: u64,
    pub too_large: &'a (dyn Fn(u64) -> Failed + Sync),
}

impl Bodies {
    pub fn new(account: &Arc<Account>, clock: &Clock, patience: &Patience, refusals: &Arc<Refusals>) -> Bodies {
        // A component fits, if the account has room for one at all.
        let share = account.bytes_max() / bounds::BODIES_SHARE;
        let bytes_max = share.max(bounds::COMPONENT_BYTES_MAX).min(account.bytes_max());
        let (account, clock) = (account.clone(), clock.clone());
        Bodies { account, bytes_max, clock, patience: patience.clone(), refusals: refusals.clone() }
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes of all bodies that are held now.
    pub fn bytes(&self) -> u64 {
        self.account.used_by(Holding::Bodies)
    }

    /// Reads a body to its end. Refuses before it reads where the length says enough.
    pub async fn read(
        &self,
        mut body: impl HttpBody<Data = Bytes, Error: std::fmt::Display> + Unpin,
        limit: Limit<'_>,
    ) -> Result<Received, Failed> {
        let length = body.size_hint().exact();
        if let Some(length) = length {
            if length > limit.bytes {
                return Err((limit.too_large)(length));
            }
            // As much as this may come while others send too: what does not fit now is refused now.
            if length > bounds::BODY_BYTES_UNCOUNTED && self.bytes().saturating_add(length) > self.bytes_max {
                return Err(self.no_room(length));
            }
        }
        let mut received = Received { bytes: Vec::new(), held: None };
        self.reserve(&mut received.bytes, length.unwrap_or(0).min(bounds::BODY_BYTES_AHEAD))?;
        let begun = self.clock.now();
        loop {
            let time = self.patience.for_body(received.bytes.len() as u64);
            let left = time.saturating_sub(self.clock.now().since(begun));
            let Ok(frame) = tokio::time::timeout(left, body.frame()).await else {
                self.refusals.reached(
                    "client-body-time",
                    u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                    "a body",
                );
                return Err(too_slow(&received, time));
            };
            let Some(frame) = frame else { return Ok(received) };
            let frame = frame.map_err(|error| broke_off(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            let size = (received.bytes.len() + data.len()) as u64;
            if size > limit.bytes {
                return Err((limit.too_large)(size));
            }
            self.count(&mut received, data.len(), length)?;
            received.bytes.extend_from_slice(&data);
        }
    }

    /// Takes so many bytes for an answer from the account.
    pub fn answer(&self, bytes: u64) -> Result<Option<Held>, Failed> {
        if bytes <= bounds::BODY_BYTES_UNCOUNTED {
            return Ok(None);
        }
        self.take(bytes).map(Some).map_err(|mut failed| {
            failed.0.message = "the host has no room for the answer".to_string();
            failed.0.help =
                "the request was carried out, its answer is lost; ask for less, or when others are done".to_string();
            failed
        })
    }

    /// Before so many more bytes are put behind those that came.
    fn count(&self, received: &mut Received, more: usize, length: Option<u64>) -> Result<(), Failed> {
        let bytes = &mut received.bytes;
        if bytes.capacity() - bytes.len() < more {
            // Once, where the length is known: memory that nothing was written to takes no room. By doubling, where not.
            let come = bytes.len() as u64;
            self.reserve(bytes, length.map_or(come, |length| length - come).max(more as u64))?;
        }
        let wanted = (bytes.len() + more) as u64;
        if wanted <= bounds::BODY_BYTES_UNCOUNTED {
            return Ok(());
        }
        match &mut received.held {
            None => received.held = Some(self.take(wanted)?),
            Some(held) => {
                let by = wanted - held.bytes();
                if !held.grow(by) || self.bytes() > self.bytes_max {
                    return Err(self.no_room(by));
                }
            }
        }
        Ok(())
    }

    /// A system that has no more memory to give is no reason to end.
    fn reserve(&self, buffer: &mut Vec<u8>, more: u64) -> Result<(), Failed> {
        let reserved = usize::try_from(more).map(|more| buffer.try_reserve_exact(more));
        if matches!(reserved, Ok(Ok(()))) { Ok(()) } else { Err(self.no_room(more)) }
    }

    fn take(&self, bytes: u64) -> Result<Held, Failed> {
        let held = self.account.take(Holding::Bodies, bytes);
        // Taken first and looked at then: two who ask at once may both be refused, never both let in beyond.
        held.filter(|_| self.bytes() <= self.bytes_max).ok_or_else(|| self.no_room(bytes))
    }

    fn no_room(&self, bytes: u64) -> Failed {
        self.refusals.reached("bodies", self.bytes_max, "a request");
        let cause = format!(
            "{} more were asked for; all together may take {}, within what the host may keep (`paguro health`)",
            show_size(bytes),
            show_size(self.bytes_max)
        );
        Failed::new("too-many", "the host has no room for more bodies", cause, "try again when others are done")
    }
}

fn too_slow(received: &Received, time: std::time::Duration) -> Failed {
    let came = show_size(received.bytes.len() as u64);
    let cause = format!("{came} came in {}", show_duration(time));
    Failed::new("request-timeout", "the body of the request did not come in time", cause, "send it faster, or in parts")
}

/// Most often nobody is there any more to read this.
fn broke_off(why: &dyn std::fmt::Display) -> Failed {
    let help = "send as many bytes as `content-length` says";
    Failed::new("usage", "the body of the request broke off", why.to_string(), help)
}

/// The body of a request. One that is dropped before its end is read on for a moment, and thrown away: a client that
/// is still sending when its connection is closed would not see why it was refused.
pub struct Inbound {
    /// `None` when it came to its end.
    body: Option<Incoming>,
    /// A part that was looked at.
    first: Option<Bytes>,
    /// It sends nothing until it is asked to.
    waits: bool,
}

impl Inbound {
    pub fn new(body: Incoming, waits: bool) -> Inbound {
        Inbound { body: Some(body), first: None, waits }
    }

    /// The body, if it is there already and in one piece. Waits for nothing.
    pub async fn whole(&mut self) -> Result<Option<Bytes>, Failed> {
        let Some(length) = self.size_hint().exact() else { return Ok(None) };
        if length == 0 {
            return Ok(Some(Bytes::new()));
        }
        let looked = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_frame(cx))).await;
        match looked {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.len() as u64 == length => return Ok(Some(data)),
                Ok(data) => self.first = Some(data),
                Err(_) => {}
            },
            Poll::Ready(Some(Err(error))) => return Err(broke_off(&error)),
            Poll::Ready(None) => return Err(broke_off(&"it has ended")),
            Poll::Pending => {}
        }
        Ok(None)
    }
}

impl HttpBody for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let poll = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = poll {
            self.body = None;
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint);
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        rest.exact().map_or(rest, |rest| SizeHint::with_exact(rest + first))
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream() && !self.waits) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(bounds::CLIENT_LINGER_TIME, throw_away(body)));
        }
    }
}

async fn throw_away(mut body: Incoming) {
    let mut left = bounds::CLIENT_LINGER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > left {
            return;
        }
        left -= bytes;
    }
}

/// The body of an answer. Its connection counts as at work, and what it takes is held, until all of it is written.
pub struct Outgoing {
    body: Body,
    line: Arc<Line>,
    held: Option<Held>,
    /// Of a body whose parts are made as they are written: the host's code runs then, and may panic.
    recorder: Option<Recorder>,
}

impl Outgoing {
    pub fn new(body: Body, line: Arc<Line>, held: Option<Held>, recorder: Option<Recorder>) -> Outgoing {
        Outgoing { body, line, held, recorder }
    }

    /// The answer breaks off: one that ended in order would look whole.
    fn fell(&mut self, fault: HostFault) -> axum::Error {
        let what = std::mem::replace(&mut self.body, Body::empty());
        // What it held may panic too: the first fault is the one that is told.
        let _ = panics::let_go(what);
        if let Some(recorder) = self.recorder.take() {
            recorder.emit(Event::HostFault { part: "an answer that is made in parts".to_string(), fault });
        }
        axum::Error::new("the answer broke off: a fault of the host's own code")
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.recorder.is_none() {
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        match panics::catch(|| Pin::new(&mut self.body).poll_frame(cx)) {
            Ok(poll) => poll,
            Err(fault) => Poll::Ready(Some(Err(self.fell(fault)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.line.end(self.held.take());
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_panics_half_way_breaks_off_and_is_told() {
        let recorder = Recorder::new(Clock::manual());
        let parts = futures::stream::iter(0..3).map(|part| {
            assert_eq!(part, 0, "half way");
            Ok::<_, std::convert::Infallible>("part")
        });
        let line = Arc::new(Line::default());
        let mut answer = Outgoing::new(Body::from_stream(parts), line, None, Some(recorder.clone()));
        assert!(answer.frame().await.unwrap().is_ok());
        assert!(answer.frame().await.unwrap().is_err());
        assert!(answer.frame().await.is_none());
        let events = recorder.events().after(0);
        let [fell] = &events[..] else { panic!("{events:?}") };
        assert!(matches!(&fell.item, Event::HostFault { fault, .. } if fault.message.contains("half way")));
    }
}
