//! Messages and where their answers go.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::handoff;
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

/// A call without its request.
pub struct CallHead {
    pub id: CallId,
    pub from: Option<Name>,
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

    /// Bytes of payload, or of what it tells.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Call(call) => call.request.len(),
            Message::Cast { message, .. } | Message::Fact(Fact::Timer(_, message)) => message.len(),
            Message::Fact(Fact::Down(_, name, reason)) => name.len() + reason.heap_bytes(),
        }
    }
}

/// What a caller gets.
pub type Outcome = Result<Payload, CallError>;

/// The place where one answer goes. The first one counts; later ones find nobody waiting. When the last
/// clone is dropped without an answer, the caller is told that there will be none.
///
/// `None` while the caller runs the worker on his own thread ([`super::handoff`]): then the answer lies there.
pub struct ReplyTo(Option<Arc<Slot>>);

/// Where one answer comes: resolves to it, or to `Err` when nobody is left who could answer.
pub struct Awaited(Arc<Slot>);

/// Nobody is left who could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// What the two sides share.
struct Slot {
    answer: Mutex<Answer>,
    /// It is waiting for an answer. Written under the lock, so that most who ask need none.
    waits: AtomicBool,
    /// Clones of [`ReplyTo`].
    senders: AtomicUsize,
    pass: Option<Arc<Pass>>,
}

#[derive(Default)]
struct Answer {
    phase: Phase,
    /// Waits for the answer.
    caller: Option<Waker>,
    /// Wants to know when the caller has gone.
    worker: Option<Waker>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Waiting,
    Answered(Outcome),
    /// The caller has its answer.
    Taken,
    /// The caller went before there was one.
    Abandoned,
    Lost,
}

impl Awaited {
    /// What the caller is told in the end.
    pub fn told(&self, outcome: &Outcome) {
        tell(&self.0.pass, outcome);
    }

    /// The answer, if it is there.
    pub fn try_take(&mut self) -> Option<Result<Outcome, Lost>> {
        let mut answer = self.0.answer();
        match std::mem::replace(&mut answer.phase, Phase::Taken) {
            Phase::Answered(outcome) => Some(Ok(outcome)),
            Phase::Waiting => {
                answer.phase = Phase::Waiting;
                None
            }
            Phase::Taken | Phase::Abandoned | Phase::Lost => Some(Err(Lost)),
        }
    }
}

impl Future for Awaited {
    type Output = Result<Outcome, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(taken) = self.try_take() {
            return Poll::Ready(taken);
        }
        let mut answer = self.0.answer();
        if !matches!(answer.phase, Phase::Waiting) {
            // It came between the two locks.
            drop(answer);
            return self.try_take().map_or(Poll::Pending, Poll::Ready);
        }
        match &mut answer.caller {
            Some(caller) => caller.clone_from(context.waker()),
            caller => *caller = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if !self.0.waits() {
            return;
        }
        let mut answer = self.0.answer();
        if matches!(answer.phase, Phase::Waiting) {
            answer.phase = Phase::Abandoned;
            self.0.waits.store(false, Ordering::Release);
            let worker = answer.worker.take();
            drop(answer);
            worker.into_iter().for_each(Waker::wake);
        }
    }
}

impl ReplyTo {
    /// `pass`: is told of the first outcome, by whichever side sees it.
    pub fn new(pass: Option<Arc<Pass>>) -> (ReplyTo, Awaited) {
        let (waits, senders) = (AtomicBool::new(true), AtomicUsize::new(1));
        let slot = Arc::new(Slot { answer: Mutex::default(), waits, senders, pass });
        (ReplyTo(Some(slot.clone())), Awaited(slot))
    }

    /// Of a caller that runs the worker on this thread.
    pub fn at_hand() -> ReplyTo {
        ReplyTo(None)
    }

    pub fn is_at_hand(&self) -> bool {
        self.0.is_none()
    }

    /// False if it was answered before, or its caller has gone.
    pub fn answer(&self, outcome: Outcome) -> bool {
        let Some(slot) = &self.0 else { return handoff::answer(outcome) };
        // Before the caller knows: what it does next meets a breaker that knows too.
        tell(&slot.pass, &outcome);
        slot.end(Phase::Answered(outcome))
    }

    pub fn is_waiting(&self) -> bool {
        self.0.as_ref().is_none_or(|slot| slot.waits())
    }

    /// Whether its caller went away before there was an answer. False once it was answered: then the
    /// caller has what it wanted.
    pub fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| !slot.waits() && matches!(slot.answer().phase, Phase::Abandoned))
    }

    /// Resolves when [`ReplyTo::is_abandoned`] comes true, which may be never. For one task at a time,
    /// the worker's own: of several, only the last that asked is woken.
    pub async fn abandoned(&self) {
        poll_fn(|context| {
            // Whoever waits for this has it given a place first.
            let Some(slot) = &self.0 else { return Poll::Pending };
            let mut answer = slot.answer();
            if matches!(answer.phase, Phase::Abandoned) {
                return Poll::Ready(());
            }
            match &mut answer.worker {
                Some(worker) => worker.clone_from(context.waker()),
                worker => *worker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}

impl Clone for ReplyTo {
    fn clone(&self) -> ReplyTo {
        if let Some(slot) = &self.0 {
            slot.senders.fetch_add(1, Ordering::Relaxed);
        }
        ReplyTo(self.0.clone())
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        let Some(slot) = &self.0 else { return };
        // The last one there is can be cloned by nobody else: then there is nothing to count.
        let is_last = slot.senders.load(Ordering::Acquire) == 1 || slot.senders.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && slot.waits() {
            slot.end(Phase::Lost);
        }
    }
}

impl Slot {
    fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    fn end(&self, phase: Phase) -> bool {
        let mut answer = self.answer();
        if !matches!(answer.phase, Phase::Waiting) {
            return false;
        }
        answer.phase = phase;
        self.waits.store(false, Ordering::Release);
        let caller = answer.caller.take();
        drop(answer);
        caller.into_iter().for_each(Waker::wake);
        true
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn the_first_answer_counts_and_a_place_that_nobody_can_answer_says_so() {
        let (reply, mut answer) = ReplyTo::new(None);
        assert!(answer.try_take().is_none());
        assert!(reply.answer(Ok(Payload::from("1"))) && !reply.answer(Ok(Payload::from("2"))));
        assert_eq!(answer.await, Ok(Ok(Payload::from("1"))));
        let (reply, answer) = ReplyTo::new(None);
        let waiting = tokio::spawn(answer);
        tokio::task::yield_now().await;
        drop((reply.clone(), reply));
        assert_eq!(waiting.await.unwrap(), Err(Lost));
    }
}
