//! What all workers of a host share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::accounts::Accounts;
use super::budgets::Budgets;
use super::dead_letters::DeadLetters;
use super::faults::Fuses;
use super::handoff::Calling;
use super::mailbox::Refused;
use super::message::{Awaited, Call, Message, Outcome, ReplyTo};
use super::new_keys::NewKeys;
use super::registry::{Groups, Monitors, Registry};
use super::residents::Residents;
use super::share::CpuBudgets;
use super::spec::{Strategy, SupervisorSettings, Tier};
use super::storm::{self, Storm, Weather};
use super::supervisor::SupervisorHandle;
use super::templates::Templates;
use super::worker::{Shared, Undertaker};
use crate::base::{Account, CallId, Clock, Name, Payload, Random, Tick, TimerId};
use crate::record::{Change, Database, DatabaseError, Event, Recorder};
use crate::sandbox::{CallError, Fact, Sandbox};

/// Deadline of a call that names none (DESIGN section 6).
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The longest deadline a call may ask for: an open call holds memory on both sides.
pub const CALL_DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Workers keep ids in their states, and a late answer must not reach a stranger: ids of a run begin after those
/// of all earlier ones, which used fewer than 4,096 in a millisecond. Below 2^53 until the year 2039, so that
/// a JSON number holds them.
const IDS_PER_MS_BITS: u32 = 12;

/// Ids of calls that a worker takes at once.
const CALLS_PER_BLOCK: u64 = 64;

/// Of a worker that has had no call: its first block is to come.
pub(super) const NO_CALL: u64 = CALLS_PER_BLOCK - 1;

pub struct Services {
    pub clock: Clock,
    pub random: Random,
    pub recorder: Recorder,
    pub database: Database,
    pub sandbox: Sandbox,
    pub registry: Registry,
    pub groups: Groups,
    pub monitors: Monitors,
    pub templates: Templates,
    supervisors: Mutex<BTreeMap<Name, SupervisorHandle>>,
    budgets: Mutex<Budgets>,
    /// Held while a child of a template is made.
    pub(super) making: Mutex<()>,
    /// Of all restarts in the tree.
    pub storm: Mutex<Storm>,
    pub dead_letters: DeadLetters,
    cpu: CpuBudgets,
    /// Places for live instances.
    pub residents: Arc<Residents>,
    /// Memory of the host that guests, clients and files make it keep.
    pub account: Arc<Account>,
    /// Where a simulation has the runtime panic.
    pub fuses: Fuses,
    /// Why the host cannot go on, once that is so.
    pub(super) broken: watch::Sender<Option<Arc<str>>>,
    /// The account of each supervisor.
    pub accounts: Arc<Accounts>,
    new_keys: Mutex<NewKeys>,
    /// The second in which it was said last that a key could not be taken up, and that a caller asked for too many.
    said_not_started: AtomicU64,
    said_new_keys: AtomicU64,
    /// When this run began, by the calendar, in milliseconds.
    began: u64,
    /// The next block of ids for calls.
    next_calls: AtomicU64,
}

impl Services {
    /// Within a runtime: it starts the task that writes dead letters, and one that ends with the runtime.
    pub fn new(
        clock: Clock,
        random: Random,
        recorder: Recorder,
        database: Database,
        sandbox: Sandbox,
        residents: Arc<Residents>,
        account: Arc<Account>,
    ) -> Arc<Services> {
        let dead_letters = DeadLetters::new(database.clone(), recorder.clone());
        let began = clock.timestamp().0;
        let accounts = Arc::new(Accounts::new(account.clone()));
        tell_when_full(&accounts, &account, &recorder);
        let services = Arc::new(Services {
            clock,
            random,
            recorder,
            database,
            sandbox,
            registry: Registry::default(),
            groups: Groups::default(),
            monitors: Monitors::default(),
            templates: Templates::default(),
            supervisors: Mutex::default(),
            budgets: Mutex::default(),
            making: Mutex::default(),
            storm: Mutex::default(),
            dead_letters,
            cpu: CpuBudgets::default(),
            residents,
            account,
            fuses: Fuses::default(),
            broken: watch::Sender::new(None),
            accounts,
            new_keys: Mutex::default(),
            said_not_started: AtomicU64::new(u64::MAX),
            said_new_keys: AtomicU64::new(u64::MAX),
            began,
            next_calls: AtomicU64::new(began << IDS_PER_MS_BITS),
        });
        let ends = Undertaker(Arc::downgrade(&services));
        tokio::spawn(async move {
            let _ends = ends;
            std::future::pending::<()>().await;
        });
        services
    }

    /// The host cannot go on: whoever runs it is to stop it in order.
    pub fn broke(&self, why: &str) {
        let is_first = self.broken.send_if_modified(|broken| {
            let is_first = broken.is_none();
            broken.get_or_insert_with(|| Arc::from(why));
            is_first
        });
        if is_first {
            self.recorder.emit(Event::HostBroken { why: why.to_string() });
        }
    }

    /// Resolves when the host cannot go on, to why; never otherwise.
    pub async fn broken(&self) -> Arc<str> {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()) {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }

    /// Whether a name is a key of a template that has no child yet.
    pub fn is_new_key(&self, name: &Name) -> bool {
        super::keyed::is_new(self, name)
    }

    /// Said once a second: who sends to keys in a loop must not drive everything else off the record.
    pub(super) fn not_started_on_demand(&self, name: Name, why: String) {
        self.not_made(Event::NotStartedOnDemand { name, why });
    }

    /// As above.
    pub(super) fn not_made(&self, event: Event) {
        let second = self.clock.now().time().as_secs();
        if self.said_not_started.swap(second, Ordering::Relaxed) != second {
            self.recorder.emit(event);
        }
    }

    /// Said once a second.
    pub(super) fn new_keys_refused(&self, supervisor: Name, caller: Option<Name>, per_second: u32) {
        let second = self.clock.now().time().as_secs();
        if self.said_new_keys.swap(second, Ordering::Relaxed) != second {
            self.recorder.emit(Event::NewKeysRefused { supervisor, caller, per_second });
        }
    }

    pub(super) fn new_keys(&self) -> MutexGuard<'_, NewKeys> {
        self.new_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has left the registry: what is charged for it by number is given back.
    pub(super) fn key_left(&self, name: &Name) {
        let Some(supervisor) = name.parent() else { return };
        self.accounts.keys_left(&supervisor, || self.registry.key_counts(&supervisor).0);
    }

    /// Writes that a key was let go of: the next start of the host does not bring it back by itself. State and history
    /// stay under its name. Queued behind what was written of it before.
    pub(super) fn let_go_of_key(self: &Arc<Self>, gone: &Arc<Shared>) {
        let name = gone.name();
        let changes = vec![Change::WorkerRemoved(name.clone()), Change::ClearBreaker(name.clone())];
        if self.database.submit(changes.clone()).is_ok() {
            return;
        }
        let (services, recorder, gone) = (self.clone(), self.recorder.clone(), gone.clone());
        // Too much waits just now: behind it.
        tokio::spawn(async move {
            let what = "write that a child of a template was let go of";
            let write = async {
                loop {
                    match services.submit_gone(&gone, &changes) {
                        Some(Err(DatabaseError::QueueFull)) => tokio::time::sleep(Duration::from_millis(20)).await,
                        Some(Err(error)) => return Some(error),
                        Some(Ok(())) | None => return None,
                    }
                }
            };
            if let Some(Some(error)) = recorder.watched(what, write).await {
                recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
            }
        });
    }

    /// `None` if there is another of that name by now: what is written of that one must not be taken back. No key is
    /// made meanwhile.
    fn submit_gone(&self, gone: &Arc<Shared>, changes: &[Change]) -> Option<Result<(), DatabaseError>> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let other = self.registry.get(gone.name()).filter(|other| !Arc::ptr_eq(other, gone));
        other.is_none().then(|| self.database.submit(changes.to_vec()).map(drop))
    }

    /// Returns when no child is being made of a template that was in force before.
    pub fn making_is_done(&self) {
        drop(self.making.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells whoever still watches a worker that leaves the tree. Those who ended with it were told why.
    pub(super) fn tell_watchers(&self, name: &Name) {
        for (watcher, monitor) in self.monitors.take(name) {
            if let Some(watcher) = self.registry.get(&watcher) {
                let fact = Fact::Down(monitor, name.to_string(), crate::base::ExitReason::Shutdown);
                // One whose mailbox is full of facts is told of nothing more.
                let account = || self.accounts.of(watcher.name());
                let _ = watcher.mailbox.push_fact(Message::Fact(fact), account);
            }
        }
    }

    /// A worker that leaves the tree is in no group any more.
    pub(super) fn leave_groups(&self, worker: &Shared) {
        let change = worker.desk().clear();
        super::worker::carry_out(change, worker.name(), self);
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

    /// Where the ids of the timers and monitors of a worker that enters the tree begin: after all that one of
    /// the same name had before ([`IDS_PER_MS_BITS`]), whatever becomes of the calendar in this run.
    pub fn first_id(&self) -> u64 {
        let passed = u64::try_from(self.clock.now().time().as_millis()).unwrap_or(u64::MAX);
        self.began.saturating_add(passed) << IDS_PER_MS_BITS
    }

    /// An id for a call, which no other call has, to whomever. A worker takes them by blocks: two that are
    /// called on two cores do not meet over each.
    fn next_call(&self, to: &Shared) -> CallId {
        let mut last = to.last_call.load(Ordering::Relaxed);
        loop {
            // The last of a block is followed by the first of another.
            let is_spent = last % CALLS_PER_BLOCK == CALLS_PER_BLOCK - 1;
            let next = if is_spent { self.next_calls.fetch_add(CALLS_PER_BLOCK, Ordering::Relaxed) } else { last + 1 };
            match to.last_call.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return CallId(next),
                // A block that was taken in vain is left out.
                Err(other) => last = other,
            }
        }
    }

    /// Bytes that all below a supervisor may make the host keep, and whether they are children of a template.
    pub fn set_account(&self, supervisor: &Name, settings: &SupervisorSettings) {
        let keyed = settings.strategy == Strategy::SimpleOneForOne;
        self.accounts.set(supervisor, settings.budget.memory, keyed);
    }

    /// Fuel per second for all workers below a supervisor together; `None`: no bound of its own.
    pub fn set_cpu_budget(&self, supervisor: &Name, per_second: Option<u64>) {
        if self.cpu.set(supervisor, per_second, self.clock.now()) {
            for worker in self.registry.all().iter().filter(|worker| worker.name().is_below(supervisor)) {
                self.cpu.link(worker.name(), &worker.cpu);
            }
        }
    }

    /// Gives a worker that is in the registry its share: its own bound, in fuel per second, and those
    /// of the supervisors above it.
    pub(super) fn share_cpu(&self, worker: &Shared, own: Option<u64>) {
        worker.cpu.set_own(own, self.clock.now());
        self.cpu.link(worker.name(), &worker.cpu);
    }

    /// Sends a request from outside the tree and waits for its answer.
    pub async fn call(self: &Arc<Services>, to: &Arc<Shared>, request: Payload, time: Duration) -> Outcome {
        let deadline = self.clock.now().after(time.min(CALL_DEADLINE_MAX));
        let sent = self.hand_or_put(to, None, request, deadline);
        let outcome = match sent.map_err(|error| down_if_it_failed(to, error))? {
            Calling::Ended(outcome) => outcome,
            Calling::Waits(answer) => self.wait(answer, deadline).await,
        };
        // Who calls without pause, and has each answer at once, gives way now and then all the same.
        if !tokio::task::coop::has_budget_remaining() {
            // Without a word to other threads of the runtime, which the budget's own way would wake.
            tokio::task::yield_now().await;
        }
        tokio::task::coop::consume_budget().await;
        outcome
    }

    /// Hands a call to a worker that idles, which runs on this thread then; else puts it into the mailbox.
    pub(super) fn hand_or_put(
        self: &Arc<Services>,
        to: &Arc<Shared>,
        from: Option<Name>,
        request: Payload,
        deadline: Tick,
    ) -> Result<Calling, CallError> {
        let pass = to.admits_from(request.len(), from.as_ref())?;
        let id = self.next_call(to);
        let call = Call { id, from, request, deadline, reply: ReplyTo::at_hand() };
        // An outcome that a breaker counts goes the way on which everybody sees it.
        let handed = if pass.is_none() { to.hand(call) } else { Err(call) };
        let call = match handed {
            Ok(calling) => return Ok(calling),
            Err(call) => call,
        };
        let (reply, mut answer) = ReplyTo::new(pass);
        let account = || self.accounts.of(to.name());
        let waits = match to.mailbox.push_quietly(Message::Call(Call { reply, ..call }), account) {
            Ok(waits) => waits,
            Err(refused) => {
                let (other, call) = self.other_for(to, refused)?;
                return match call {
                    Message::Call(call) => self.hand_or_put(&other, call.from, call.request, deadline),
                    _ => Err(CallError::NotFound),
                };
            }
        };
        if to.refuses() {
            to.turn_calls_away();
        }
        if waits {
            to.lend();
            if let Some(Ok(outcome)) = answer.try_take() {
                answer.told(&outcome);
                return Ok(Calling::Ended(outcome));
            }
        }
        Ok(Calling::Waits(answer))
    }

    /// Puts a call into a mailbox; the answer arrives at the receiver.
    pub fn send_call(
        self: &Arc<Services>,
        to: &Arc<Shared>,
        from: Option<Name>,
        request: Payload,
        deadline: Tick,
    ) -> Result<Awaited, CallError> {
        let pass = to.admits_from(request.len(), from.as_ref())?;
        let (reply, answer) = ReplyTo::new(pass);
        let id = self.next_call(to);
        let account = || self.accounts.of(to.name());
        match to.mailbox.push(Message::Call(Call { id, from, request, deadline, reply }), account) {
            Ok(()) => {
                if to.refuses() {
                    to.turn_calls_away();
                }
                Ok(answer)
            }
            Err(refused) => match self.other_for(to, refused)? {
                (other, Message::Call(call)) => self.send_call(&other, call.from, call.request, deadline),
                _ => Err(CallError::NotFound),
            },
        }
    }

    /// Puts a cast into a mailbox. `Ok` means that it is there. `from` is `None` for a client outside
    /// the tree.
    pub fn cast(self: &Arc<Services>, to: &Shared, from: Option<Name>, message: Payload) -> Result<(), CallError> {
        let pass = to.admits_from(message.len(), from.as_ref())?;
        let account = || self.accounts.of(to.name());
        match to.mailbox.push(Message::Cast { from, message, pass }, account) {
            Ok(()) => Ok(()),
            Err(refused) => match self.other_for(to, refused)? {
                (other, Message::Cast { from, message, .. }) => self.cast(&other, from, message),
                _ => Err(CallError::NotFound),
            },
        }
    }

    /// Who takes a message that came when its receiver had just left the tree: a child of an on-demand template that
    /// ended idle, for which another is made.
    fn other_for(self: &Arc<Services>, to: &Shared, refused: Refused) -> Result<(Arc<Shared>, Message), CallError> {
        let message = match refused {
            Refused::Full => {
                to.counters.failures().refused.fetch_add(1, Ordering::Relaxed);
                return Err(CallError::Overloaded);
            }
            Refused::Closed(message) => *message,
        };
        let from = match &message {
            Message::Call(Call { from, .. }) | Message::Cast { from, .. } => from.as_ref(),
            Message::Fact(_) => None,
        };
        let other = super::keyed::find_for(self, to.name().as_str(), from)?;
        if std::ptr::eq(Arc::as_ptr(&other), to) { Err(CallError::NotFound) } else { Ok((other, message)) }
    }

    /// Has a timer fire that fired before and was not handled.
    pub fn fire_again(&self, to: &Shared, timer: TimerId, message: Payload) -> Result<(), CallError> {
        to.admits(message.len())?;
        let account = || self.accounts.of(to.name());
        let fired = to.mailbox.push_fact(Message::Fact(Fact::Timer(timer, message)), account);
        if fired { Ok(()) } else { Err(CallError::Overloaded) }
    }

    pub async fn wait(&self, mut awaited: Awaited, deadline: Tick) -> Outcome {
        if let Some(Ok(outcome)) = awaited.try_take() {
            awaited.told(&outcome);
            return outcome;
        }
        let left = deadline.since(self.clock.now());
        let outcome = match tokio::time::timeout(left, &mut awaited).await {
            Ok(Ok(outcome)) => outcome,
            // The worker was removed with the call in its hands; its driver says why where it can.
            Ok(Err(_)) => Err(CallError::Down(crate::base::ExitReason::Shutdown)),
            Err(_) => Err(CallError::Timeout),
        };
        awaited.told(&outcome);
        outcome
    }

    /// How long a restart that is due has to wait for its place among those of the whole tree. Asked
    /// once for each restart: the place is then taken. Within a runtime.
    pub fn restart_delay(self: &Arc<Services>, tier: Tier) -> Duration {
        let place = self.storm().restart(self.clock.now(), tier);
        if let Some(restarts) = place.begins {
            self.recorder.emit(Event::RestartStorm { restarts, period: storm::PERIOD });
            let (recorder, over) = (self.recorder.clone(), see_off(Arc::downgrade(self)));
            tokio::spawn(async move { recorder.watched("the end of a restart storm", over).await });
        }
        place.delay
    }

    fn storm(&self) -> MutexGuard<'_, Storm> {
        self.storm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the account is full, once a second at most: it is refused in loops.
fn tell_when_full(accounts: &Arc<Accounts>, account: &Account, recorder: &Recorder) {
    let (accounts, recorder) = (Arc::downgrade(accounts), recorder.clone());
    let said = AtomicU64::new(u64::MAX);
    account.tell(Box::new(move |full| {
        let second = recorder.clock().now().time().as_secs();
        let Some(accounts) = accounts.upgrade().filter(|_| said.swap(second, Ordering::Relaxed) != second) else {
            return;
        };
        let own = full.owner.as_ref().map_or_else(|| accounts.host().clone(), |owner| accounts.at(owner));
        let ((most, most_bytes), (holder, holder_bytes)) = (own.used_most_by(), accounts.largest());
        recorder.emit(Event::AccountFull {
            supervisor: full.owner.clone(),
            holding: full.holding.word(),
            asked: full.asked,
            max: full.max,
            most: most.word(),
            most_bytes,
            holder,
            holder_bytes,
        });
    }));
}

/// Waits until a storm is over, and says so. One task for each storm.
async fn see_off(services: Weak<Services>) {
    loop {
        let Some(services) = services.upgrade() else { return };
        let now = services.clock.now();
        let weather = services.storm().look(now);
        let left = match weather {
            Weather::Storm(until) => until.since(now),
            Weather::Over => return services.recorder.emit(Event::RestartStormOver),
            Weather::Calm => return,
        };
        drop(services);
        tokio::time::sleep(left).await;
    }
}

/// What a client is told that found a worker by its name a moment ago: a key whose child could not be started was
/// let go of meanwhile.
fn down_if_it_failed(to: &Shared, error: CallError) -> CallError {
    match (error, to.status().last_exit) {
        (CallError::NotFound, Some(reason)) if !reason.is_orderly() => CallError::Down(reason),
        (error, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::bounds::RESTARTS_PER_SECOND_MAX;

    #[tokio::test]
    async fn a_restart_storm_is_told_once_and_its_end_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let database = Database::open(&dir.path().join("paguro.db"), clock.clone()).unwrap();
        let (recorder, sandbox) = (Recorder::new(clock.clone()), Sandbox::new(None).unwrap());
        let (residents, account) = (Residents::new(8), Account::new(u64::MAX));
        let services = Services::new(clock, Random::seeded(1), recorder, database, sandbox, residents, account);
        let delays: Vec<_> = (0..RESTARTS_PER_SECOND_MAX + 5).map(|_| services.restart_delay(Tier::Normal)).collect();
        assert!(delays.is_sorted());
        let told = |kind| services.recorder.events().after(0).iter().filter(|event| event.item.kind() == kind).count();
        assert_eq!((told("restart-storm"), told("restart-storm-over")), (1, 0));
        assert!(services.restart_delay(Tier::ErrorKernel).is_zero());
        let over = async {
            while told("restart-storm-over") == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), over).await.unwrap();
        assert_eq!((told("restart-storm"), told("restart-storm-over")), (1, 1));
    }
}
