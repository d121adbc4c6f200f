//! What all workers of a host share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::budgets::Budgets;
use super::dead_letters::DeadLetters;
use super::mailbox::Refused;
use super::message::{Call, Message, Outcome, ReplyTo};
use super::registry::{Groups, Monitors, Registry, Waits};
use super::supervisor::SupervisorHandle;
use super::templates::Templates;
use super::worker::Shared;
use crate::base::{CallId, Clock, Name, Payload, Tick, TimerId};
use crate::record::{Database, Recorder};
use crate::sandbox::{CallError, Fact, Sandbox};

/// Deadline of a call that names none (DESIGN section 6).
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The longest deadline a call may ask for: an open call holds memory on both sides.
pub const CALL_DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

pub struct Services {
    pub clock: Clock,
    pub recorder: Recorder,
    pub database: Database,
    pub sandbox: Sandbox,
    pub registry: Registry,
    pub groups: Groups,
    pub monitors: Monitors,
    pub waits: Waits,
    pub templates: Templates,
    supervisors: Mutex<BTreeMap<Name, SupervisorHandle>>,
    budgets: Mutex<Budgets>,
    /// Held while a child of a template is made.
    pub(super) making: Mutex<()>,
    pub dead_letters: DeadLetters,
    first_id: u64,
    next_call: AtomicU64,
}

impl Services {
    /// Within a runtime: it starts the task that writes dead letters.
    pub fn new(clock: Clock, recorder: Recorder, database: Database, sandbox: Sandbox) -> Arc<Services> {
        // Workers keep ids in their states, and a late answer must not reach a stranger: ids of this
        // run begin after those of all earlier ones, which gave out less than a million a second.
        // Below 2^53, so that a JSON number holds them.
        let first_id = (clock.timestamp().0 / 1_000) << 20;
        let dead_letters = DeadLetters::new(database.clone(), recorder.clone());
        Arc::new(Services {
            clock,
            recorder,
            database,
            sandbox,
            registry: Registry::default(),
            groups: Groups::default(),
            monitors: Monitors::default(),
            waits: Waits::default(),
            templates: Templates::default(),
            supervisors: Mutex::default(),
            budgets: Mutex::default(),
            making: Mutex::default(),
            dead_letters,
            first_id,
            next_call: AtomicU64::new(first_id),
        })
    }

    /// Whether a name is a key of a template that has no child yet.
    pub fn is_new_key(&self, name: &Name) -> bool {
        super::keyed::is_new(self, name)
    }

    /// All supervisors of the tree by name.
    pub(super) fn supervisors(&self) -> MutexGuard<'_, BTreeMap<Name, SupervisorHandle>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of memory and fuel per second that are taken from a supervisor's budget, if it has one.
    pub fn budget_used(&self, supervisor: &Name) -> Option<(u64, u64)> {
        self.budgets().used(supervisor)
    }

    /// How long a restart waits because too many are under way in the tree.
    pub(super) fn restart_delay(&self, _tier: super::spec::Tier) -> Duration {
        Duration::ZERO
    }

    pub(super) fn open_breaker(&self, _worker: &Shared, _restarts: u32) {}

    /// Where ids of this run of the host begin.
    pub fn first_id(&self) -> u64 {
        self.first_id
    }

    /// Sends a request from outside the tree and waits for its answer.
    pub async fn call(&self, to: &Shared, request: Payload, time: Duration) -> Outcome {
        let deadline = self.clock.now().after(time.min(CALL_DEADLINE_MAX));
        let answer = self.send_call(to, None, request, deadline)?;
        self.wait(answer, deadline).await
    }

    /// Puts a call into a mailbox; the answer arrives at the receiver.
    pub fn send_call(
        &self,
        to: &Shared,
        from: Option<Name>,
        request: Payload,
        deadline: Tick,
    ) -> Result<oneshot::Receiver<Outcome>, CallError> {
        to.admits(request.len())?;
        let (reply, answer) = ReplyTo::new();
        let id = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        accepted(to, Message::Call(Call { id, from, request, deadline, reply }))?;
        Ok(answer)
    }

    /// Puts a cast into a mailbox. `Ok` means that it is there.
    pub fn cast(&self, to: &Shared, from: Option<Name>, message: Payload) -> Result<(), CallError> {
        to.admits(message.len())?;
        accepted(to, Message::Cast { from, message })
    }

    /// Has a timer fire that fired before and was not handled.
    pub fn fire_again(&self, to: &Shared, timer: TimerId, message: Payload) -> Result<(), CallError> {
        to.admits(message.len())?;
        let fired = to.mailbox.push_fact(Message::Fact(Fact::Timer(timer, message)));
        if fired { Ok(()) } else { Err(CallError::Overloaded) }
    }

    pub async fn wait(&self, answer: oneshot::Receiver<Outcome>, deadline: Tick) -> Outcome {
        let left = deadline.since(self.clock.now());
        match tokio::time::timeout(left, answer).await {
            Ok(Ok(outcome)) => outcome,
            // The worker was removed with the call in its hands; its driver says why where it can.
            Ok(Err(_)) => Err(CallError::Down(crate::base::ExitReason::Shutdown)),
            Err(_) => Err(CallError::Timeout),
        }
    }
}

fn accepted(to: &Shared, message: Message) -> Result<(), CallError> {
    to.mailbox.push(message).map_err(|refused| match refused {
        Refused::Full => {
            to.counters.refused.fetch_add(1, Ordering::Relaxed);
            CallError::Overloaded
        }
        Refused::Closed => CallError::NotFound,
    })
}
