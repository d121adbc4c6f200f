//! What a panic leaves of a worker: what it knows, and what it had in hand.
//!
//! A panic unwinds the future of the worker's task, or is followed by its end. Either way all that the future holds is
//! dropped, on the thread that catches the panic. Two kinds of things are not lost then, but left beside that thread
//! for whoever catches: the [`Driver`], in [`Kept`], and what was moved out of it to be done, in [`InHand`]. A future
//! that is dropped otherwise, because the runtime ends, leaves nothing.
//!
//! 1. A thread that unwinds runs nothing but drops, and catches before it polls anything else. So what is left there
//!    is of the one task that was caught, the innermost.
//! 2. A drop may panic. What unwinds already would then end the process; so nothing that a worker's future holds
//!    while it waits may do more in its drop than let go of memory and wake others. Instances, whose drops run much
//!    code of others, are the driver's, and are let go of where a second panic is caught.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;

use super::desk::Holdings;
use super::driver::Driver;
use super::ending::Asked;
use super::guard::Pass;
use super::trial::Kept as KeptMessage;
use crate::base::{ExitReason, HostFault, Name, Payload, panics};
use crate::runtime::dead_letters::{Cause, Letter};
use crate::runtime::message::Message;
use crate::sandbox::Fact;

/// What a worker was about.
pub(super) enum Hand {
    /// A call or a fact.
    Letter(Letter),
    /// Casts that were handed over together.
    Casts(Vec<Message>),
    /// It starts or wakes: what was on the desk before.
    Mark(Box<Holdings>),
    /// Its supervisor asked it to start.
    Start,
    /// Its supervisor asked it to stop.
    Stop(Asked),
    /// An instance has ended, and others are told.
    Ending(Ending),
    /// It leaves the tree.
    Quit(Cause<'static>),
    /// A message that a rollback handed back, and that has not been taken yet.
    Replay(KeptMessage),
    /// It recovers from a fault.
    Recovery(Box<Fault>),
}

/// An end that others are being told of.
#[derive(Clone)]
pub(super) struct Ending {
    pub reason: ExitReason,
    /// `None`: it did not start.
    pub asked: Option<Asked>,
    /// It is on the record.
    pub is_told: bool,
}

/// A fault, and what it left.
pub(super) struct Fault {
    pub fault: HostFault,
    pub hands: Vec<Hand>,
    /// Faults in a row, this one included: a recovery may fail too.
    pub row: u8,
}

/// Faults in a row after which nothing more is tried than to tell the supervisor.
pub(super) const FAULTS_IN_A_ROW_MAX: u8 = 3;

thread_local! {
    /// A future that was caught is let go of.
    static LETS_GO: Cell<bool> = const { Cell::new(false) };
    static LEFT: RefCell<Left> = const { RefCell::new(Left { driver: None, hands: Vec::new() }) };
}

/// What is left on this thread.
pub(super) struct Left {
    pub driver: Option<Box<Driver>>,
    /// In the order in which they were dropped: the innermost first.
    hands: Vec<Hand>,
}

#[inline]
fn is_caught() -> bool {
    std::thread::panicking() || LETS_GO.get()
}

/// Lets go of a future that panicked, or of one that is not to be polled any more, and takes what it leaves. What else
/// panicked meanwhile is told second.
pub(super) fn take<T: ?Sized>(future: Pin<Box<T>>, fault: HostFault) -> (Option<Box<Driver>>, Box<Fault>) {
    LETS_GO.set(true);
    // The first fault is the one that counts.
    let _ = panics::let_go(future);
    LETS_GO.set(false);
    let left = LEFT.with_borrow_mut(|left| Left { driver: left.driver.take(), hands: std::mem::take(&mut left.hands) });
    let (mut hands, mut row) = (Vec::new(), 1);
    for hand in left.hands {
        match hand {
            // What the recovery had not come to is still to be done, after what it had in hand.
            Hand::Recovery(before) => {
                row = before.row.saturating_add(1);
                hands.extend(before.hands);
            }
            hand => hands.push(hand),
        }
    }
    (left.driver, Box::new(Fault { fault, hands, row }))
}

/// What a worker knows, for as long as its task runs.
pub(super) struct Kept {
    driver: Option<Box<Driver>>,
    /// What it is to recover from first.
    pub fault: Option<Box<Fault>>,
}

impl Kept {
    pub fn new(driver: Box<Driver>, fault: Option<Box<Fault>>) -> Kept {
        Kept { driver: Some(driver), fault }
    }

    pub fn driver(&mut self) -> Option<&mut Driver> {
        self.driver.as_deref_mut()
    }

    pub fn take(mut self) -> Option<Box<Driver>> {
        self.driver.take()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.driver.is_none() || !is_caught() {
            return;
        }
        LEFT.with_borrow_mut(|left| {
            left.driver = self.driver.take();
            left.hands.extend(self.fault.take().map(Hand::Recovery));
        });
    }
}

/// Something that was moved out of what a worker knows, until it is done. Costs a look at a counter and at a flag.
pub(super) struct InHand<T: Leaves>(Option<T>);

/// What can be in hand.
pub(super) trait Leaves {
    fn left(self) -> Hand;
}

impl<T: Leaves> InHand<T> {
    pub fn new(what: T) -> InHand<T> {
        InHand(Some(what))
    }

    /// It is done, or somebody else's from now on.
    pub fn take(mut self) -> T {
        self.0.take().expect(IS_THERE)
    }
}

const IS_THERE: &str = "what is in hand is taken by value alone";

impl<T: Leaves> Deref for InHand<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect(IS_THERE)
    }
}

impl<T: Leaves> DerefMut for InHand<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(IS_THERE)
    }
}

impl<T: Leaves> Drop for InHand<T> {
    fn drop(&mut self) {
        if is_caught()
            && let Some(what) = self.0.take()
        {
            LEFT.with_borrow_mut(|left| left.hands.push(what.left()));
        }
    }
}

impl Leaves for Hand {
    fn left(self) -> Hand {
        self
    }
}

/// What a call asks. As small as can be: each call has one in hand.
pub(super) struct Request(pub Payload);

impl Leaves for Request {
    fn left(self) -> Hand {
        // Who sent it is on the desk.
        Hand::Letter(Letter::call(None, self.0))
    }
}

impl Leaves for Fact {
    fn left(self) -> Hand {
        Hand::Letter(Letter::fact(self))
    }
}

impl Leaves for KeptMessage {
    fn left(self) -> Hand {
        Hand::Replay(self)
    }
}

impl Leaves for Holdings {
    fn left(self) -> Hand {
        Hand::Mark(Box::new(self))
    }
}

impl Leaves for Ending {
    fn left(self) -> Hand {
        Hand::Ending(self)
    }
}

impl Leaves for Box<Fault> {
    fn left(self) -> Hand {
        Hand::Recovery(self)
    }
}

/// Casts that are handed over together: what each is, who sent it, and who is told how it went.
pub(super) struct Casts {
    pub batch: Vec<Payload>,
    pub from: Vec<Option<Name>>,
    pub passes: Vec<Option<Arc<Pass>>>,
}

impl Casts {
    /// As they were in the mailbox.
    pub fn into_messages(self) -> impl Iterator<Item = Message> {
        let casts = self.from.into_iter().zip(self.batch).zip(self.passes);
        casts.map(|((from, message), pass)| Message::Cast { from, message, pass })
    }
}

impl Leaves for Casts {
    fn left(self) -> Hand {
        Hand::Casts(self.into_messages().collect())
    }
}
