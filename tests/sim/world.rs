//! The real runtime under a plan: one thread, no clock but the one that is moved here, no randomness
//! but the seed's.
//!
//! Time stands still while anybody has something to do. Tokio's clock and the host's move together,
//! by one grain, and only when the runtime was about to park its thread: that is what *quiet* means
//! here. Tokio's own way to skip idle time is never reached, because this task is woken instead.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use paguro::base::{Account, Clock, ComponentHash, Held, Holding, Name, Payload, Random, RevisionNumber};
use paguro::record::{Database, Recorder};
use paguro::runtime::supervision::ChildState;
use paguro::runtime::{
    Launch, NotMade, Page, Residents, Services, Shared, Standing, Started, Template, Tree, TreeError,
};
use paguro::sandbox::{Component, Sandbox};

use crate::faults::Faults;
use crate::script::{Action, LONGEST_WAIT, Plan, Then, Worker};
use crate::settings;
use crate::stream::{Entry, Fact, Look, Reached, Request, Sent, State, Stream, SupervisorState, name};

/// What all runs of a process share, because it is slow to make and has no memory.
pub struct Shelf {
    sandbox: Sandbox,
    component: Component,
}

impl Shelf {
    pub fn new(component: &[u8]) -> Shelf {
        let sandbox = Sandbox::deterministic(None).expect("an engine");
        let component = sandbox.load(component).expect("a component");
        Shelf { sandbox, component }
    }
}

/// Carries out a plan. What is wrong with the host's end is said in the second part: everything else
/// is for the checkers to find.
pub fn play(plan: &Plan, shelf: &Shelf, faults: Option<&Arc<Faults>>) -> (Vec<Entry>, Vec<String>) {
    let quiet = Arc::new(Quiet::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park({
            let quiet = quiet.clone();
            move || quiet.reached()
        })
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(plan, shelf, quiet, faults.cloned());
        world.live(plan).await;
        let wrong = world.end().await;
        (world.into_entries(), wrong)
    })
}

/// Tells the one task that waits for it when nobody else has anything to do.
#[derive(Default)]
struct Quiet(Mutex<Option<Waker>>);

impl Quiet {
    fn reached(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        let mut asked = false;
        poll_fn(|cx| {
            let mut waker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Woken: `reached` has taken the waker out.
            if asked && waker.is_none() {
                return Poll::Ready(());
            }
            asked = true;
            *waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Milliseconds after the last step in which everything comes to rest: many messages that each wait as
/// long as they may.
const REST: u64 = 60_000;
/// More than there ever are: no worker of the simulation can sleep to make room for another.
const INSTANCES_MAX: usize = 100;
/// How long the tree may take to stop.
const STOP: u64 = 60_000;

struct World {
    faults: Option<Arc<Faults>>,
    clock: Clock,
    quiet: Arc<Quiet>,
    grain: u64,
    services: Option<Arc<Services>>,
    tree: Option<Arc<Tree>>,
    component: Component,
    stream: Arc<Mutex<Stream>>,
    /// Calls and requests that have no answer yet.
    open: Arc<AtomicUsize>,
    next_message: u64,
    next_ask: u64,
    /// What of the account is taken from the beginning.
    _taken: Option<Held>,
}

/// Bytes of the host's account. What it holds back for instances is more than they ever use.
const ACCOUNT: u64 = 1 << 40;

/// Leaves so many bytes of it for what is no instance.
fn fill(account: &Arc<Account>, left: u64) -> Held {
    let mut held = account.take_anyway(Holding::Probation, 0);
    let mut step = ACCOUNT;
    while step > 0 {
        while held.grow(step) {}
        step /= 2;
    }
    held.shrink_to(held.bytes() - left);
    held
}

impl World {
    fn new(plan: &Plan, shelf: &Shelf, quiet: Arc<Quiet>, faults: Option<Arc<Faults>>) -> World {
        let clock = Clock::manual();
        let recorder = Recorder::new(clock.clone());
        let stream = Arc::new(Mutex::new(Stream::new(&recorder)));
        let services = Services::new(
            clock.clone(),
            Random::seeded(plan.seed),
            recorder,
            Database::nowhere().expect("a database"),
            shelf.sandbox.clone(),
            Residents::new(INSTANCES_MAX),
            Account::of_host(ACCOUNT),
        );
        if let Some(faults) = &faults {
            services.fuses.set(faults.clone());
        }
        let taken = plan.account.map(|left| fill(&services.account, left));
        World {
            faults,
            _taken: taken,
            clock,
            quiet,
            grain: plan.grain,
            services: Some(services),
            tree: None,
            component: shelf.component.clone(),
            stream,
            open: Arc::default(),
            next_message: 1,
            next_ask: 1,
        }
    }

    async fn live(&mut self, plan: &Plan) {
        let root = settings::supervisor(&plan.supervisors[0]);
        self.tree = Some(Arc::new(Tree::new(self.services(), root)));
        self.push(Fact::Asked { ask: 0, request: Request::Configure(plan.supervisors[0].clone()) });
        self.push(Fact::Replied { ask: 0, reply: Ok(Reached::Done), child: None });
        self.look().await;
        for supervisor in &plan.supervisors[1..] {
            self.ask(Request::AddSupervisor(supervisor.clone()));
            self.look().await;
        }
        for worker in &plan.workers {
            self.ask(Request::AddWorker(worker.clone()));
            self.look().await;
        }
        // What is asked before is what the tree is made of.
        self.arm(true);
        self.ask(Request::StartTree);
        for step in &plan.steps {
            self.act(&step.action).await;
            match step.then {
                Then::Go => {}
                Then::Settle => drop(self.look().await),
                Then::Pass(ms) => {
                    self.pass(ms).await;
                    self.look().await;
                }
            }
        }
    }

    /// Until nothing is under way: no start, no restart, no stop, no call and no request.
    async fn rest(&mut self, wrong: &mut Vec<String>) {
        let end = self.stream().now() + REST;
        while !self.look().await {
            if self.stream().now() >= end {
                return wrong.push(format!("something is still under way {REST} ms after the last step"));
            }
            self.pass(LONGEST_WAIT).await;
        }
    }

    /// Lets everything come to rest, stops the tree, takes it apart, and says what is left of it.
    async fn end(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        // What is busy does not show it: it has no longer than this.
        self.pass(LONGEST_WAIT).await;
        self.rest(&mut wrong).await;
        self.ask(Request::StopTree);
        self.until_answered(STOP, &mut wrong).await;
        // What is taken apart is asked for once.
        self.arm(false);
        self.look().await;
        let mut supervisors = self.tree().supervisor_names();
        supervisors.retain(|name| !name.is_root());
        let workers = self.services().registry.all();
        // What is deepest goes first: a supervisor is taken out when nothing is below it.
        supervisors.sort_by_key(|name| std::cmp::Reverse(name.as_str().split('/').count()));
        let names = workers.iter().map(|worker| worker.name().clone()).chain(supervisors);
        for name in names.collect::<Vec<Name>>() {
            self.ask(Request::Remove(name));
            self.until_answered(STOP, &mut wrong).await;
        }
        for worker in &workers {
            let left = state(worker);
            if left.instances > 0 || left.waiting > 0 {
                wrong.push(format!("{:?} was removed and has {left:?}", worker.name()));
            }
        }
        let known: Vec<Name> = self.services().registry.all().iter().map(|worker| worker.name().clone()).collect();
        if !known.is_empty() {
            wrong.push(format!("still in the registry: {known:?}"));
        }
        drop(workers);
        self.stream().drain();
        (self.tree, self.services) = (None, None);
        self.quiet.wait().await;
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        // The root's own, the one that writes dead letters, and the one that lets go of workers when the runtime
        // ends: they leave with the process.
        if tasks > 3 {
            wrong.push(format!("{} tasks are left when everything was removed", tasks - 3));
        }
        wrong
    }

    fn into_entries(self) -> Vec<Entry> {
        std::mem::take(&mut self.stream().entries)
    }

    async fn act(&mut self, action: &Action) {
        match action {
            Action::Cast { to, operation } => self.send(to, operation, None),
            Action::Call { to, operation, deadline } => self.send(to, operation, Some(*deadline)),
            Action::Flood { to, casts, calls } => {
                for at in 0..*casts.max(calls) {
                    if at < *casts {
                        self.send(to, "count", None);
                    }
                    if at < *calls {
                        self.send(to, "count", Some(LONGEST_WAIT));
                    }
                }
            }
            Action::Start(child) => self.ask(Request::Start(name(child))),
            Action::Stop(child) => self.ask(Request::Stop(name(child))),
            Action::Restart(child) => self.ask(Request::Restart(name(child))),
            Action::Isolate(child) => self.ask(Request::Isolate(name(child))),
            Action::Delete(child) => self.ask(Request::Delete(name(child))),
            Action::Remove(child) => self.ask(Request::Remove(name(child))),
            Action::AddWorker(worker) => self.alone(Request::AddWorker(worker.clone())).await,
            Action::AddSupervisor(supervisor) => self.alone(Request::AddSupervisor(supervisor.clone())).await,
            Action::Configure(supervisor) => self.alone(Request::Configure(supervisor.clone())).await,
            Action::ConfigureWorker(worker) => self.alone(Request::ConfigureWorker(worker.clone())).await,
            Action::Nothing => {}
        }
    }

    /// A change of what is in the tree takes place while nobody does anything else, so that the
    /// checkers know from when on it holds.
    async fn alone(&mut self, request: Request) {
        self.look().await;
        self.ask(request);
        self.look().await;
    }

    /// Puts a message into a mailbox, as a client outside the tree.
    fn send(&mut self, to: &str, operation: &str, time: Option<u64>) {
        let (id, inner) = (self.next_message, self.next_message + 1);
        self.next_message += 2;
        let operation = operation.replace(" ID ", &format!(" {inner} "));
        let message = Payload::from(format!("{id} {operation}"));
        let to = name(to);
        let services = self.services().clone();
        let worker = paguro::runtime::find(&services, to.as_str());
        let receiver = worker.as_deref().ok().map(state);
        let deadline = time.map(|time| self.stream().now() + time);
        let ends = self.clock.now().after(Duration::from_millis(time.unwrap_or_default()));
        let sent = match (&worker, time) {
            (Err(error), _) => Err(error.clone()),
            (Ok(worker), None) => services.cast(worker, None, message).map(|()| None),
            (Ok(worker), Some(_)) => services.send_call(worker, None, message, ends).map(Some),
        };
        let refused = sent.as_ref().err().cloned();
        self.push(Fact::Sent(Sent { id, to, operation, deadline, refused, receiver }));
        if let Ok(Some(answer)) = sent {
            let (stream, open) = (self.stream.clone(), self.opened());
            tokio::spawn(async move {
                let outcome = services.wait(answer, ends).await;
                lock(&stream).push(Fact::Answered { id, outcome });
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// Asks the tree, and does not wait for the answer.
    fn ask(&mut self, request: Request) {
        let ask = self.next_ask;
        self.next_ask += 1;
        self.push(Fact::Asked { ask, request: request.clone() });
        let (stream, open) = (self.stream.clone(), self.opened());
        let (tree, services) = (self.tree().clone(), self.services().clone());
        let component = self.component.clone();
        tokio::spawn(async move {
            let subject = request.subject();
            let reply = carry_out(&tree, &services, component, request).await;
            let child = services.registry.get(&subject).as_deref().map(state);
            lock(&stream).push(Fact::Replied { ask, reply, child });
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn opened(&self) -> Arc<AtomicUsize> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.open.clone()
    }

    async fn settle(&mut self) {
        self.quiet.wait().await;
        self.stream().drain();
    }

    /// Lets time pass, grain by grain, and nobody miss any of it.
    async fn pass(&mut self, ms: u64) {
        let mut left = ms;
        self.settle().await;
        while left > 0 {
            let grain = Duration::from_millis(left.min(self.grain));
            left -= left.min(self.grain);
            self.clock.advance(grain);
            tokio::time::advance(grain).await;
            self.settle().await;
        }
    }

    async fn until_answered(&mut self, patience: u64, wrong: &mut Vec<String>) {
        let end = self.stream().now() + patience;
        self.settle().await;
        while self.open.load(Ordering::Relaxed) > 0 {
            if self.stream().now() >= end {
                wrong.push(format!("no answer after {patience} ms"));
                return;
            }
            self.pass(self.grain).await;
        }
    }

    /// Notes how everything stands, once nobody has anything to do. Whether all is at rest: nothing is
    /// under way, and nothing waits for its time.
    async fn look(&mut self) -> bool {
        self.settle().await;
        let tree = self.tree().clone();
        let looking = tokio::spawn(async move {
            let mut supervisors = Vec::new();
            for name in tree.supervisor_names() {
                let page = Page { after: None, limit: usize::MAX };
                if let Some(view) = tree.look(&name, page).await {
                    let rests = |state| matches!(state, ChildState::Down | ChildState::Running | ChildState::Isolated);
                    let settled = view.round.is_none() && view.children.iter().all(|child| rests(child.state));
                    let children = view.children.into_iter().map(|child| child.spec.name).collect();
                    supervisors.push((name, SupervisorState { running: view.running, settled, children }));
                }
            }
            supervisors
        });
        self.settle().await;
        assert!(looking.is_finished(), "a supervisor does not answer");
        let supervisors = looking.await.expect("it has ended");
        let all = self.services().registry.all();
        let workers: Vec<(Name, State)> = all.iter().map(|worker| (worker.name().clone(), state(worker))).collect();
        let rests = |state: &State| match state.standing {
            Standing::Running => state.waiting == 0,
            Standing::Down | Standing::Isolated(_) => true,
            _ => false,
        };
        let at_rest = self.open.load(Ordering::Relaxed) == 0
            && workers.iter().all(|(_, state)| rests(state))
            && supervisors.iter().all(|(_, state)| state.settled);
        self.push(Fact::Looked(Look { supervisors, workers }));
        at_rest
    }

    fn arm(&self, is_armed: bool) {
        self.faults.iter().for_each(|faults| faults.arm(is_armed));
    }

    fn push(&self, fact: Fact) {
        self.stream().push(fact);
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        lock(&self.stream)
    }

    fn tree(&self) -> &Arc<Tree> {
        self.tree.as_ref().expect("until the end there is a tree")
    }

    fn services(&self) -> &Arc<Services> {
        self.services.as_ref().expect("until the end there are services")
    }
}

async fn carry_out(
    tree: &Tree,
    services: &Services,
    component: Component,
    request: Request,
) -> Result<Reached, TreeError> {
    let done = |()| Reached::Done;
    let reached = |started| match started {
        Started::Runs => Reached::Runs,
        Started::Ignored => Reached::Ignored,
    };
    match request {
        Request::StartTree => tree.start().await.map(done),
        Request::StopTree => {
            tree.ask_to_stop().await;
            tree.stopped().await;
            Ok(Reached::Done)
        }
        Request::Start(name) => tree.start_child(&name, None).await.map(reached),
        Request::Stop(name) => tree.stop_child(&name).await.map(done),
        Request::Restart(name) => tree.restart_child(&name).await.map(reached),
        Request::Isolate(name) => tree.isolate_child(&name).await.map(done),
        Request::Delete(name) => tree.delete_child(&name).await.map(done),
        Request::Remove(name) => tree.remove(&name).await.map(done),
        Request::AddWorker(worker) => {
            let launch = launch(name(&worker.name), &worker, component);
            tree.add_worker(launch).await.map(|_| Reached::Done)
        }
        Request::AddSupervisor(supervisor) => {
            let (name, settings) = (name(&supervisor.name), settings::supervisor(&supervisor));
            tree.add_supervisor(name.clone(), settings).await?;
            if let Some(plan) = &supervisor.template {
                let template = Keyed { plan: (**plan).clone(), component, on_demand: supervisor.on_demand };
                services.templates.set(name, Arc::new(template));
            }
            Ok(Reached::Done)
        }
        Request::Configure(supervisor) => {
            tree.configure_supervisor(&name(&supervisor.name), settings::supervisor(&supervisor)).await.map(done)
        }
        Request::ConfigureWorker(worker) => match services.registry.get(&name(&worker.name)) {
            Some(shared) => tree.configure_worker(&shared, settings::worker(&worker).into()).await.map(done),
            None => Err(TreeError::NotFound(name(&worker.name))),
        },
    }
}

fn launch(name: Name, plan: &Worker, component: Component) -> Launch {
    Launch {
        name,
        component,
        revision: RevisionNumber(1),
        settings: settings::worker(plan).into(),
        saved: None,
        breaker: None,
    }
}

/// Makes children by key.
struct Keyed {
    plan: Worker,
    component: Component,
    on_demand: bool,
}

impl Template for Keyed {
    fn launch(&self, name: &Name, _: Option<&str>) -> Result<Launch, NotMade> {
        Ok(launch(name.clone(), &self.plan, self.component.clone()))
    }

    fn component(&self) -> ComponentHash {
        self.component.hash()
    }

    fn payload_max(&self) -> u64 {
        settings::worker(&self.plan).limits.payload
    }

    fn is_on_demand(&self) -> bool {
        self.on_demand
    }
}

fn state(worker: &Shared) -> State {
    State {
        standing: worker.status().standing,
        instances: worker.instances.load(Ordering::Relaxed).into(),
        waiting: worker.waiting(),
    }
}

fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}
