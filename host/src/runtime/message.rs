//! Messages and where their answers go.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;

use super::worker::{Pass, Sign};
use crate::base::{CallId, Name, Payload, Tick};
use crate::sandbox::{CallError, Fact};

/// What waits in a mailbox. Cloning shares payloads and the place where the answer goes, so that a
/// message which is kept for a rollback can be handed over again.
#[derive(Clone, Debug)]
pub enum Message {
    Call(Call),
    Cast {
        /// `None` for a client outside the tree.
        from: Option<Name>,
        message: Payload,
        /// Told how it went, where that matters.
        pass: Option<Arc<Pass>>,
    },
    Fact(Fact),
}

#[derive(Clone, Debug)]
pub struct Call {
    pub id: CallId,
    /// `None` for a client outside the tree.
    pub from: Option<Name>,
    pub request: Payload,
    /// After this nobody waits any more, and the work is not begun.
    pub deadline: Tick,
    pub reply: ReplyTo,
}

impl Message {
    /// One word for events.
    pub fn sort(&self) -> &'static str {
        match self {
            Message::Call(_) => "call",
            Message::Cast { .. } => "cast",
            Message::Fact(Fact::Timer(..)) => "timer",
            Message::Fact(Fact::Down(..)) => "down",
        }
    }

    /// Bytes of payload.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Call(call) => call.request.len(),
            Message::Cast { message, .. } | Message::Fact(Fact::Timer(_, message)) => message.len(),
            Message::Fact(Fact::Down(..)) => 0,
        }
    }
}

/// What a caller gets.
pub type Outcome = Result<Payload, CallError>;

/// The place where one answer goes. The first one counts; later ones find nobody waiting.
#[derive(Clone)]
pub struct ReplyTo {
    sender: Arc<Mutex<Option<oneshot::Sender<Outcome>>>>,
    pass: Option<Arc<Pass>>,
}

/// Where one answer comes.
pub struct Awaited {
    pub answer: oneshot::Receiver<Outcome>,
    pass: Option<Arc<Pass>>,
}

impl Awaited {
    /// What the caller is told in the end.
    pub fn told(&self, outcome: &Outcome) {
        tell(&self.pass, outcome);
    }
}

impl ReplyTo {
    /// `pass`: is told of the first outcome, by whichever side sees it.
    pub fn new(pass: Option<Arc<Pass>>) -> (ReplyTo, Awaited) {
        let (sender, answer) = oneshot::channel();
        (ReplyTo { sender: Arc::new(Mutex::new(Some(sender))), pass: pass.clone() }, Awaited { answer, pass })
    }

    /// False if it was answered before, or its caller has gone.
    pub fn answer(&self, outcome: Outcome) -> bool {
        // Before the caller knows: what it does next meets a breaker that knows too.
        tell(&self.pass, &outcome);
        let sender = self.sender().take();
        sender.is_some_and(|sender| sender.send(outcome).is_ok())
    }

    pub fn is_waiting(&self) -> bool {
        self.sender().as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// Whether its caller went away before there was an answer. False once it was answered: then the
    /// caller has what it wanted.
    pub fn is_abandoned(&self) -> bool {
        self.sender().as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Resolves when [`ReplyTo::is_abandoned`] comes true, which may be never. For one task at a time,
    /// the worker's own: of several, only the last that asked is woken.
    pub async fn abandoned(&self) {
        poll_fn(|cx| match self.sender().as_mut() {
            Some(sender) => sender.poll_closed(cx),
            None => Poll::Pending,
        })
        .await;
    }

    fn sender(&self) -> MutexGuard<'_, Option<oneshot::Sender<Outcome>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(pass: &Option<Arc<Pass>>, outcome: &Outcome) {
    if let (Some(pass), Some(sign)) = (pass, Sign::of(outcome)) {
        pass.settle(sign);
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_waiting() { "waiting" } else { "answered" })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_place_for_an_answer_is_abandoned_when_its_caller_goes_before_there_is_one() {
        let (reply, answer) = ReplyTo::new(None);
        assert!(!reply.is_abandoned() && reply.abandoned().now_or_never().is_none());
        let waiting = tokio::spawn({
            let reply = reply.clone();
            async move { reply.abandoned().await }
        });
        tokio::task::yield_now().await;
        drop(answer);
        waiting.await.unwrap();
        assert!(reply.is_abandoned() && !reply.is_waiting());
    }

    #[tokio::test]
    async fn a_caller_that_has_its_answer_has_abandoned_nothing() {
        let (reply, answer) = ReplyTo::new(None);
        assert!(reply.answer(Ok(Payload::default())));
        drop(answer);
        assert!(!reply.is_abandoned() && reply.abandoned().now_or_never().is_none());
    }
}
