//! One live wasm store of a worker, and the calls into it.
//!
//! Every call has a wall-clock time and runs on fuel: it gives way to others after each slice, so
//! it never holds a thread, and ends in a [`Fault`] when time or fuel run out. After
//! [`Fault::Dead`] the instance must be dropped; a call into it again is refused. A call that is
//! dropped before its end (its time passed, the worker was killed) leaves the instance dead too.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime::{AsContextMut, ResourceLimiter, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::exports::paguro::worker as exports;
use super::bindings::paguro::worker::types;
use super::component::{Component, Entry};
use super::deadline::{Passed, within};
use super::engine::{self, ComponentError, one_line};
use super::fault::{Fault, InForce, cut, failure, is_no_room};
use super::files::OpenFiles;
use super::outside::{Fact, LogSink, Outside};
use super::pace::{Charged, Pace, paced};
use super::preopens::{self, Preopens};
use super::stacks::Lent;
use super::{Grants, Limits, wasi};
use crate::base::panics::Careful;
use crate::base::{
    Account, CallId, ComponentHash, ExitReason, Failure, Held, Holding, Incarnation, Limit, Name, Payload, Snapshot,
    bounds,
};

/// What a guest learns of itself when it starts.
#[derive(Clone, Debug)]
pub struct Context {
    pub name: Name,
    pub incarnation: Incarnation,
    pub component: ComponentHash,
    /// A JSON object.
    pub config: String,
}

/// What `handle-call` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Now(Payload),
    /// It will answer with `messaging.reply`.
    Later,
}

/// What `health.check` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Degraded(String),
    Critical(String),
}

impl Health {
    /// Without its reason.
    pub fn word(&self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Degraded(_) => "degraded",
            Health::Critical(_) => "critical",
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Health::Healthy => f.write_str(self.word()),
            Health::Degraded(why) | Health::Critical(why) => write!(f, "{}: {why}", self.word()),
        }
    }
}

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// The component does not fit the contract: it never will.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// It failed while it was made: a limit, a trap in its start function.
    #[error("{0}")]
    Failed(Failure),
    /// The system had no memory for it, or no maps of memory.
    #[error("the system has no room for it: {0}")]
    NoRoom(String),
}

/// Everything that belongs to one store.
pub(super) struct State {
    /// Made when the guest asks for anything of it for the first time, if nothing is granted: few do, and it takes
    /// a kilobyte.
    wasi: Option<Box<WasiCtx>>,
    /// Directories that are granted.
    pub(super) preopens: Preopens,
    component: ComponentHash,
    pub(super) table: ResourceTable,
    pub(super) meter: Meter,
    pub(super) outside: Box<dyn Outside>,
    pub(super) log: Arc<dyn LogSink>,
    /// Why the guest said that it fails, with `control.stop`, during this call.
    pub(super) stated: Option<Box<str>>,
    /// After the table, which has the other handles: who is dropped last closes.
    pub(super) files: OpenFiles,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let State { wasi, table, component, log, outside, .. } = self;
        let ctx = wasi.get_or_insert_with(|| Box::new(wasi::bare(&component.short(), log.clone(), outside.clock())));
        WasiCtxView { ctx, table }
    }
}

/// Counts memory and table elements over the whole store, and charges them to an account.
pub(super) struct Meter {
    memory: u64,
    memory_max: u64,
    elements: u64,
    elements_max: u64,
    /// Bytes of the growth of a memory that was let through last.
    grown: u64,
    /// Bytes of the engine's own memory for the store, which count against the limit of memory.
    overhead: u64,
    /// The most that files have cost, which is part of `overhead`.
    files: u64,
    /// `None`: nobody counts.
    held: Option<Held>,
    denied: Option<Limit>,
}

impl Meter {
    /// # Errors
    /// The account has no room for the engine's own memory for the store.
    fn new(limits: &Limits, overhead: u64, account: Option<Arc<Account>>) -> Result<Meter, Limit> {
        let held = account.map(|account| account.try_take(Holding::Instances, overhead)).transpose();
        let held = held.map_err(|full| full.limit())?;
        if overhead > limits.memory {
            return Err(Limit::Memory(limits.memory));
        }
        Ok(Meter {
            memory: 0,
            memory_max: limits.memory,
            elements: 0,
            elements_max: limits.table_elements,
            grown: 0,
            overhead,
            files: 0,
            held,
            denied: None,
        })
    }

    /// Charges so many bytes for files that are open together, unless more were before. False: they do not fit, which the
    /// guest is told.
    pub(super) fn covers_files(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.files);
        let total = self.memory.saturating_add(self.overhead).saturating_add(more);
        let fits = total <= self.memory_max && self.held.as_mut().is_none_or(|held| held.try_grow(more).is_ok());
        if fits {
            self.files += more;
            self.overhead += more;
        }
        fits
    }

    /// Whether so many bytes more fit into the account.
    fn charge(&mut self, more: u64) -> bool {
        let full = self.held.as_mut().and_then(|held| held.try_grow(more).err());
        if let Some(full) = &full {
            self.denied = Some(full.limit());
        }
        full.is_none()
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        if max.is_some_and(|max| desired > max) {
            // The engine refuses it next, and what it refuses is not counted.
            return Ok(false);
        }
        // Saturating: a guest may ask for as much as there are numbers.
        let total = self.memory.saturating_sub(current as u64).saturating_add(desired as u64);
        if total.saturating_add(self.overhead) > self.memory_max {
            self.denied = Some(Limit::Memory(self.memory_max));
            return Ok(false);
        }
        let more = total.saturating_sub(self.memory);
        if !self.charge(more) {
            return Ok(false);
        }
        (self.memory, self.grown) = (total, more);
        Ok(true)
    }

    /// The engine says so also of what it has not asked for here. Nothing is given back for that, or a guest could make
    /// its memory smaller in the account than it is: only for what the system or the memory's own bound refused.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let text = error.to_string();
        let was_let_through = text.contains("(os error ") || text == "Memory maximum size exceeded";
        if was_let_through {
            let back = std::mem::take(&mut self.grown);
            self.memory -= back;
            if let Some(held) = &mut self.held {
                held.shrink_to(held.bytes() - back);
            }
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let total = self.elements.saturating_sub(current as u64).saturating_add(desired as u64);
        if total > self.elements_max {
            self.denied = Some(Limit::Table(self.elements_max));
            return Ok(false);
        }
        if !self.charge(total.saturating_sub(self.elements).saturating_mul(bounds::TABLE_ELEMENT_BYTES)) {
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        bounds::CORE_INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        bounds::MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        bounds::TABLES_MAX
    }
}

/// One live store of a component.
pub struct Instance {
    store: Store<State>,
    guest: Guest,
    component: Component,
    limits: Limits,
    pace: Option<Arc<dyn Pace>>,
    alive: bool,
    /// What its guest runs on.
    stack: Lent,
    /// The epoch of its last message, if it had one.
    used_at: Option<u32>,
}

/// How a call's fuel is accounted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// It is held up while the worker has used more than its share.
    AtItsPace,
    /// It is not held up, and charged afterwards.
    AtOnce,
    /// It is not charged.
    Start,
}

enum Guest {
    Worker(Box<Worker>),
    Command(Command),
}

struct Worker {
    handler: exports::handler::Guest,
    lifecycle: Option<exports::lifecycle::Guest>,
    state: Option<exports::state::Guest>,
    health: Option<exports::health::Guest>,
    batch: Option<exports::batch::Guest>,
}

impl Instance {
    /// Makes an instance; no export has been called yet. Takes at most the limits' start time.
    pub async fn create(
        component: &Component,
        limits: &Limits,
        grants: &Grants,
        outside: Box<dyn Outside>,
        log: Arc<dyn LogSink>,
    ) -> Result<Instance, InstanceError> {
        let inner = &component.0;
        let not_startable = |why| InstanceError::Failed(Failure::NotStartable(why));
        let with_grants = || Box::new(wasi::context(grants, &inner.hash.short(), log.clone(), outside.clock()));
        let wasi = (!wasi::is_bare(grants)).then(with_grants);
        let preopens = preopens::preopens(grants).map_err(not_startable)?;
        let pace = outside.pace();
        // Charged before the engine makes anything of it: what nested instances take is known beforehand.
        let overhead = inner.instance_bytes.max(bounds::INSTANCE_OVERHEAD_BYTES);
        let meter = Meter::new(limits, overhead, outside.account());
        let meter = meter.map_err(|limit| InstanceError::Failed(Failure::Limit(limit)))?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(bounds::RESOURCES_MAX);
        let state = State {
            wasi,
            preopens,
            component: inner.hash,
            table,
            meter,
            outside,
            log,
            stated: None,
            files: OpenFiles::default(),
        };
        // Code of others runs before it is an instance's, and may panic.
        let mut store = Careful::new(Store::new(inner.pre.engine(), state));
        store.limiter(|state| &mut state.meter);
        let prepared =
            store.set_fuel(u64::MAX).and_then(|()| store.fuel_async_yield_interval(Some(bounds::FUEL_SLICE)));
        prepared.map_err(|error| not_startable(one_line(&error)))?;
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(copies_max(limits.payload));

        let mut stack = Lent::default();
        let made = {
            let mut making = pin!(inner.pre.instantiate_async(&mut *store));
            let making = poll_fn(|context| stack.note(|| making.as_mut().poll(context)));
            within(limits.start, pin!(making)).await
        };
        let instance = match made {
            Err(Passed) => return Err(InstanceError::Failed(Failure::Limit(Limit::Start(ms(limits.start))))),
            Ok(Err(error)) if is_no_room(&error) => return Err(InstanceError::NoRoom(one_line(&error))),
            Ok(Err(error)) => {
                let denied = store.data_mut().meter.denied.take();
                let failed = denied.map(Failure::Limit).unwrap_or_else(|| {
                    failure(&error, &InForce { fuel: u64::MAX, copies: limits.payload, denied: None })
                });
                return Err(InstanceError::Failed(failed));
            }
            Ok(Ok(instance)) => instance,
        };
        let guest = load(&mut store, &instance, &inner.entry)?;
        Ok(Instance {
            store: store.take(),
            guest,
            component: component.clone(),
            limits: limits.clone(),
            pace,
            alive: true,
            stack,
            used_at: None,
        })
    }

    /// New limits hold from the next call on. Memory that is in use already is not taken away.
    pub fn set_limits(&mut self, limits: &Limits) {
        let meter = &mut self.store.data_mut().meter;
        meter.memory_max = limits.memory;
        meter.elements_max = limits.table_elements;
        self.limits = limits.clone();
    }

    /// Bytes of linear memory in use.
    pub fn memory(&self) -> u64 {
        self.store.data().meter.memory
    }

    /// Fuel that the last call used.
    pub fn fuel_used(&self, of: u64) -> u64 {
        of.saturating_sub(self.store.get_fuel().unwrap_or(0))
    }

    /// First call into a fresh instance; nothing where `lifecycle` is not exported.
    pub async fn init(&mut self, context: &Context) -> Result<(), Fault> {
        let context = context_out(context);
        self.starting(async |guest, store| match &guest.lifecycle {
            Some(lifecycle) => lifecycle.call_init(store, &context).await,
            None => Ok(Ok(())),
        })
        .await
    }

    /// Hands a snapshot of its own schema to a fresh instance, then `resume`.
    pub async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Fault> {
        let snapshot = snapshot_out(snapshot);
        self.starting(async |guest, store| match &guest.state {
            Some(state) => state.call_restore_state(store, &snapshot).await,
            None => Ok(Err("the component exports no `state`".to_string())),
        })
        .await?;
        let context = context_out(context);
        self.starting(async |guest, store| match &guest.lifecycle {
            Some(lifecycle) => lifecycle.call_resume(store, &context).await,
            None => Ok(Ok(())),
        })
        .await
    }

    /// Last call into an instance that stops in order, within `time`.
    pub async fn terminate(&mut self, reason: &ExitReason, time: Duration) -> Result<(), Fault> {
        let reason = types::ExitReason::from(reason);
        self.call(Run::AtOnce, time, self.limits.payload, async |guest, store| match &guest.lifecycle {
            Some(lifecycle) => lifecycle.call_terminate(store, &reason).await.map(Ok),
            None => Ok(Ok(())),
        })
        .await
    }

    pub async fn handle_call(&mut self, call: CallId, request: &Payload) -> Result<Answer, Fault> {
        let limit = self.limits.payload;
        let answer = self
            .call(Run::AtItsPace, self.limits.deadline, limit, async |guest, store| {
                guest.handler.call_handle_call(store, call.0, request.as_vec()).await
            })
            .await;
        let answer = match answer {
            // All that a handler hands over is one payload: a reply, or a message to another.
            Err(Fault::Dead(Failure::Limit(Limit::HostCopies(_)))) => {
                return Err(Fault::Dead(Failure::Limit(Limit::Payload(limit))));
            }
            answer => answer?,
        };
        let Some(bytes) = answer else { return Ok(Answer::Later) };
        if bytes.len() as u64 > limit {
            return Err(self.dead(Failure::Limit(Limit::Payload(limit))));
        }
        Ok(Answer::Now(Payload::from(bytes)))
    }

    pub async fn handle_cast(&mut self, message: &Payload) -> Result<(), Fault> {
        self.call(Run::AtItsPace, self.limits.deadline, self.limits.payload, async |guest, store| {
            guest.handler.call_handle_cast(store, message.as_vec()).await
        })
        .await
    }

    /// Hands over several casts at once; the index and reason of each that failed. Only for a
    /// component that exports `batch`.
    pub async fn handle_casts(&mut self, messages: &[Payload]) -> Result<Vec<(u32, String)>, Fault> {
        let messages: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec()).collect();
        // As much time and fuel as the messages have singly.
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let (time, fuel) = (self.limits.deadline * count, self.limits.fuel.saturating_mul(count.into()));
        let own = std::mem::replace(&mut self.limits.fuel, fuel);
        let handled = self
            .call(Run::AtItsPace, time, self.limits.payload, async |guest, store| match &guest.batch {
                Some(batch) => {
                    let failed = batch.call_handle_casts(store, &messages).await?;
                    // No more than there were messages, and of each reason what the host keeps.
                    let failed = failed.into_iter().take(messages.len());
                    Ok(Ok(failed.map(|(index, why)| (index, cut(&why).to_string())).collect()))
                }
                None => Ok(Err("the component exports no `batch`".to_string())),
            })
            .await;
        self.limits.fuel = own;
        handled
    }

    pub async fn handle_info(&mut self, fact: &Fact) -> Result<(), Fault> {
        let info = match fact {
            Fact::Timer(timer, message) => exports::handler::Info::Timer((timer.0, message.to_vec())),
            Fact::Down(monitor, name, reason) => exports::handler::Info::Down((monitor.0, name.clone(), reason.into())),
        };
        self.call(Run::AtItsPace, self.limits.deadline, self.limits.payload, async |guest, store| {
            guest.handler.call_handle_info(store, &info).await
        })
        .await
    }

    pub async fn save(&mut self) -> Result<Snapshot, Fault> {
        let limit = self.limits.state;
        let snapshot = self
            .call(Run::AtOnce, self.limits.deadline, limit, async |guest, store| match &guest.state {
                Some(state) => state.call_save_state(store).await,
                None => Ok(Err("the component exports no `state`".to_string())),
            })
            .await;
        self.snapshot_in(snapshot, limit)
    }

    /// Turns another component's snapshot into one of this component's schema, within `time`.
    pub async fn upgrade_state(&mut self, old: &Snapshot, time: Duration) -> Result<Snapshot, Fault> {
        let limit = self.limits.state;
        let old = snapshot_out(old);
        let snapshot = self
            .call(Run::AtOnce, time, limit, async |guest, store| match &guest.state {
                Some(state) => state.call_upgrade_state(store, &old).await,
                None => Ok(Err("the component exports no `state`".to_string())),
            })
            .await;
        self.snapshot_in(snapshot, limit)
    }

    /// The worker's own opinion; healthy where `health` is not exported.
    pub async fn health(&mut self) -> Result<Health, Fault> {
        self.call(Run::AtItsPace, self.limits.deadline, self.limits.payload, async |guest, store| {
            let Some(health) = &guest.health else { return Ok(Ok(Health::Healthy)) };
            health.call_check(store).await.map(|status| {
                Ok(match status {
                    exports::health::Status::Healthy => Health::Healthy,
                    exports::health::Status::Degraded(why) => Health::Degraded(cut(&why).to_string()),
                    exports::health::Status::Critical(why) => Health::Critical(cut(&why).to_string()),
                })
            })
        })
        .await
    }

    /// Runs a command to its end. It has no deadline and no fuel limit: running is its message.
    pub async fn run(&mut self) -> ExitReason {
        let Guest::Command(command) = &self.guest else {
            return ExitReason::Failed(Failure::NotStartable("the component is not a command".to_string()));
        };
        self.alive = false;
        let in_force = InForce { fuel: u64::MAX, copies: copies_max(self.limits.payload) as u64, denied: None };
        let charged = AtomicU64::new(0);
        let result = {
            let mut running = pin!(command.wasi_cli_run().call_run(&mut self.store));
            let running = poll_fn(|context| self.stack.note(|| running.as_mut().poll(context)));
            match self.pace.as_deref() {
                // A bound may come while it runs.
                Some(pace) => paced(pace, &charged, running).await,
                None => running.await,
            }
        };
        self.account(Run::AtItsPace, u64::MAX, charged.into_inner());
        let denied = self.store.data_mut().meter.denied.take();
        match result {
            Ok(Ok(())) => ExitReason::Normal,
            Ok(Err(())) => ExitReason::Failed(Failure::ExitCode(1)),
            Err(error) => match failure(&error, &InForce { denied, ..in_force }) {
                Failure::ExitCode(0) => ExitReason::Normal,
                other => ExitReason::Failed(other),
            },
        }
    }

    /// A call during the start: its time is the start time, and fuel is not counted.
    async fn starting(
        &mut self,
        call: impl AsyncFnOnce(&Worker, &mut Store<State>) -> wasmtime::Result<Result<(), String>>,
    ) -> Result<(), Fault> {
        let fuel = std::mem::replace(&mut self.limits.fuel, u64::MAX);
        let time = self.limits.start;
        let result = self.call(Run::Start, time, self.limits.payload, call).await;
        self.limits.fuel = fuel;
        match result {
            Err(Fault::Dead(Failure::Limit(Limit::Deadline(ms)))) => Err(Fault::Dead(Failure::Limit(Limit::Start(ms)))),
            other => other,
        }
    }

    /// Every call into a worker goes through here: limits before it, faults after it.
    async fn call<T>(
        &mut self,
        run: Run,
        time: Duration,
        copies: u64,
        call: impl AsyncFnOnce(&Worker, &mut Store<State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, Fault> {
        let Guest::Worker(worker) = &self.guest else {
            return Err(Fault::Refused("a command takes no messages".to_string()));
        };
        if !self.alive {
            return Err(Fault::Dead(Failure::NotStartable("the instance has ended".to_string())));
        }
        let fuel = self.limits.fuel;
        // One that was idle for longer would give way at its first step.
        self.store.set_epoch_deadline(1);
        if let Err(error) = self.store.set_fuel(fuel) {
            return Err(Fault::Dead(Failure::NotStartable(one_line(&error))));
        }
        self.store.set_hostcall_fuel(copies_max(copies));
        // Dead until the call has ended well: a future that is dropped half way leaves it so.
        self.alive = false;
        let charged = AtomicU64::new(0);
        let ended = {
            // One that needed no code to be made has no stack before.
            let mut calling = pin!(call(worker, &mut self.store));
            let calling = poll_fn(|context| self.stack.note(|| calling.as_mut().poll(context)));
            match self.pace.as_deref().filter(|pace| run == Run::AtItsPace && pace.is_bounded()) {
                // Boxed: every live worker has room for the larger of the two.
                Some(pace) => within(time, Box::pin(paced(pace, &charged, calling)).as_mut()).await,
                None => within(time, pin!(calling)).await,
            }
        };
        self.account(run, fuel, charged.into_inner());
        match ended {
            Ok(Ok(result)) => {
                self.alive = true;
                if run == Run::AtItsPace {
                    self.release_stack_if_seldom_used();
                }
                let state = self.store.data_mut();
                state.meter.denied = None;
                state.stated = None;
                result.map_err(|why| Fault::Refused(cut(&why).to_string()))
            }
            Ok(Err(error)) => {
                let state = self.store.data_mut();
                let (denied, stated) = (state.meter.denied.take(), state.stated.take());
                let failed = failure(&error, &InForce { fuel, copies: copies_max(copies) as u64, denied });
                Err(Fault::Dead(as_stated(failed, stated)))
            }
            Err(Passed) => Err(Fault::Dead(Failure::Limit(Limit::Deadline(ms(time))))),
        }
    }

    /// One that has a message now and then gives back what its stack takes; one that has many does not spend time on
    /// that.
    fn release_stack_if_seldom_used(&mut self) {
        let now = engine::epoch();
        let before = self.used_at.replace(now);
        if before.is_some_and(|before| now.wrapping_sub(before) < SELDOM_EPOCHS) {
            return;
        }
        // SAFETY: it is this store's stack, noted while this store alone was polled. A call that has ended well has left
        // it, no other can begin while this has the instance, and the engine writes what it reads of a stack that it uses
        // again.
        #[allow(unsafe_code)]
        unsafe {
            self.stack.release();
        }
    }

    /// What a call used of the fuel it was given is counted, and charged as far as it was not yet.
    fn account(&self, run: Run, given: u64, charged: u64) {
        let Some(pace) = &self.pace else { return };
        let charged = match run {
            Run::AtItsPace => Charged::BySlices(charged),
            Run::AtOnce => Charged::NotYet,
            Run::Start => Charged::Never,
        };
        pace.used(self.fuel_used(given), charged);
    }

    fn dead(&mut self, failure: Failure) -> Fault {
        self.alive = false;
        Fault::Dead(failure)
    }

    fn snapshot_in(&mut self, snapshot: Result<types::Snapshot, Fault>, limit: u64) -> Result<Snapshot, Fault> {
        match snapshot {
            Ok(snapshot) if snapshot.data.len() as u64 > limit => Err(self.dead(Failure::Limit(Limit::State(limit)))),
            Ok(snapshot) if snapshot.media_type.len() > bounds::MEDIA_TYPE_BYTES_MAX => {
                Err(self.dead(Failure::Limit(Limit::MediaType(bounds::MEDIA_TYPE_BYTES_MAX as u64))))
            }
            Ok(snapshot) => Ok(Snapshot {
                schema: snapshot.schema,
                media_type: self.component.0.shared_media_type(&snapshot.media_type),
                data: Payload::from(snapshot.data),
            }),
            Err(Fault::Dead(Failure::Limit(Limit::HostCopies(_)))) => {
                Err(Fault::Dead(Failure::Limit(Limit::State(limit))))
            }
            Err(fault) => Err(fault),
        }
    }
}

/// Finds the exports in an instance, which is where wasmtime compares their types.
fn load(
    store: &mut Store<State>,
    instance: &wasmtime::component::Instance,
    entry: &Entry,
) -> Result<Guest, ComponentError> {
    let wrong = |interface| move |error| ComponentError::WrongTypes { interface, why: one_line(&error) };
    let mut store = store.as_context_mut();
    match entry {
        Entry::Worker(entry) => {
            let lifecycle = entry.lifecycle.as_ref().map(|i| i.load(&mut store, instance).map_err(wrong("lifecycle")));
            let state = entry.state.as_ref().map(|i| i.load(&mut store, instance).map_err(wrong("state")));
            let health = entry.health.as_ref().map(|i| i.load(&mut store, instance).map_err(wrong("health")));
            let batch = entry.batch.as_ref().map(|i| i.load(&mut store, instance).map_err(wrong("batch")));
            Ok(Guest::Worker(Box::new(Worker {
                handler: entry.handler.load(&mut store, instance).map_err(wrong("handler"))?,
                lifecycle: lifecycle.transpose()?,
                state: state.transpose()?,
                health: health.transpose()?,
                batch: batch.transpose()?,
            })))
        }
        Entry::Command(indices) => {
            Ok(Guest::Command(indices.load(&mut store, instance).map_err(wrong("wasi:cli/run"))?))
        }
    }
}

/// Epochs without a message after which one is seldom used: about a second, as its stack is worth a microsecond.
const SELDOM_EPOCHS: u32 = (1_000 / bounds::EPOCH.as_millis()) as u32;

/// What the host may copy out of the guest in one call: the payload, and a little for what is
/// around it.
fn copies_max(payload: u64) -> usize {
    usize::try_from(payload).unwrap_or(usize::MAX).saturating_add(bounds::HOST_COPY_SLACK_BYTES)
}

/// A guest that says why it fails and traps then, as a language's runtime does with what nobody caught, knows more than the
/// trap.
fn as_stated(failure: Failure, stated: Option<Box<str>>) -> Failure {
    match (failure, stated) {
        (Failure::Trap { backtrace, .. }, Some(stated)) => Failure::Trap { message: stated.into(), backtrace },
        (failure, _) => failure,
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn context_out(context: &Context) -> exports::lifecycle::Context {
    exports::lifecycle::Context {
        name: context.name.to_string(),
        incarnation: context.incarnation.0,
        component: context.component.hex(),
        config: context.config.clone(),
    }
}

fn snapshot_out(snapshot: &Snapshot) -> types::Snapshot {
    types::Snapshot {
        schema: snapshot.schema,
        media_type: snapshot.media_type.to_string(),
        data: snapshot.data.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_that_the_system_refuses_is_given_back_and_nothing_else_is() {
        let account = Account::new(1 << 30);
        let mut meter = Meter::new(&Limits::default(), 100, Some(account.clone())).unwrap();
        assert!(meter.memory_growing(0, 65_536, None).unwrap());
        assert!(meter.memory_growing(65_536, 3 * 65_536, None).unwrap());
        let failed = wasmtime::Error::msg("memory growth exceeds memory type's limits");
        meter.memory_grow_failed(failed).unwrap();
        assert_eq!((meter.memory, account.used()), (3 * 65_536, 3 * 65_536 + 100));
        for _ in 0..2 {
            let failed = wasmtime::Error::from(std::io::Error::from_raw_os_error(12));
            meter.memory_grow_failed(failed).unwrap();
            assert_eq!((meter.memory, account.used()), (65_536, 65_536 + 100));
        }
    }
}
