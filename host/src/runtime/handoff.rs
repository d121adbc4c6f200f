//! A call to an idle worker by who runs it on his own thread: the request and the answer lie on that thread, and
//! neither goes through the mailbox or needs a place for the answer that two threads could share.
//!
//! ```text
//! caller: frame with the call --> polls the worker's task --> takes the frame back
//! worker:                          takes the call, runs the guest, puts the answer there
//! ```
//!
//! A worker that is run for its caller may run another in the same way: frames lie on a stack, and each worker
//! looks at the uppermost alone, and only if that is its own. What is not answered when the poll returns gets a
//! place for its answer ([`super::message::ReplyTo`]) before any other thread can run the worker.

use std::cell::RefCell;
use std::sync::Arc;

use super::message::{Awaited, Call, Outcome};
use super::worker::Shared;

struct Frame {
    /// The worker that it is for, by address.
    worker: *const Shared,
    call: Option<Call>,
    answer: Option<Outcome>,
    /// The call was given a place for its answer while the worker ran.
    awaited: Option<Awaited>,
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// What became of a call that was sent.
pub enum Calling {
    Ended(Outcome),
    /// The answer will come here.
    Waits(Awaited),
}

/// Runs `poll`, which polls the task of `worker`, with a call for it at hand. A worker that took it and has not
/// answered is given a place for that by `place`. The error is the call, which it did not take.
pub fn hand(
    worker: &Arc<Shared>,
    call: Call,
    poll: impl FnOnce(),
    place: impl FnOnce() -> Awaited,
) -> Result<Calling, Call> {
    let frame = Frame { worker: Arc::as_ptr(worker), call: Some(call), answer: None, awaited: None };
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
    poll();
    // Whoever pushed one on top of it has taken that away: a poll that panics is caught within `poll`.
    match FRAMES.with_borrow_mut(Vec::pop) {
        Some(Frame { call: Some(call), .. }) => Err(call),
        Some(Frame { answer: Some(outcome), .. }) => Ok(Calling::Ended(outcome)),
        Some(Frame { awaited: Some(awaited), .. }) => Ok(Calling::Waits(awaited)),
        _ => Ok(Calling::Waits(place())),
    }
}

/// The call that whoever runs this worker has for it.
pub fn take(worker: &Arc<Shared>) -> Option<Call> {
    of(worker, |frame| frame.call.take())?
}

/// The answer to a call that was handed over on this thread, by the worker that runs now.
pub fn answer(outcome: Outcome) -> bool {
    FRAMES.with_borrow_mut(|frames| {
        let Some(frame) = frames.last_mut().filter(|frame| frame.answer.is_none() && frame.awaited.is_none()) else {
            return false;
        };
        frame.answer = Some(outcome);
        true
    })
}

/// The answer to the call that this worker took and has not come to answer, if whoever runs it handed one over.
pub fn answer_for(worker: &Arc<Shared>, outcome: Outcome) {
    of(worker, |frame| {
        if frame.call.is_none() && frame.answer.is_none() && frame.awaited.is_none() {
            frame.answer = Some(outcome);
        }
    });
}

/// The call was given a place for its answer: it stays open, or the worker must know when its caller goes away.
pub fn has_place(worker: &Arc<Shared>, awaited: Awaited) {
    of(worker, |frame| frame.awaited = Some(awaited));
}

fn of<T>(worker: &Arc<Shared>, look: impl FnOnce(&mut Frame) -> T) -> Option<T> {
    FRAMES.with_borrow_mut(|frames| {
        let frame = frames.last_mut().filter(|frame| frame.worker == Arc::as_ptr(worker))?;
        Some(look(frame))
    })
}
