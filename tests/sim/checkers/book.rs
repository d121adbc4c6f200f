//! What the stream says so far of the tree: who is in it, with which settings, what runs, and what is
//! asked and not yet answered.

use std::collections::{BTreeMap, BTreeSet};

use paguro::base::{ExitReason, Name};
use paguro::record::Event;
use paguro::runtime::TreeError;

use crate::script::{Plan, Restart, Shutdown, Strategy, Supervisor, Worker};
use crate::stream::{Entry, Fact, Look, Request, parent};

pub struct Book {
    pub grain: u64,
    /// Which entry is looked at.
    pub at: usize,
    pub supervisors: BTreeMap<Name, Supervisor>,
    pub workers: BTreeMap<Name, Worker>,
    /// Supervisors whose children are keys, those that were removed included.
    templates: BTreeSet<Name>,
    /// In start order.
    children: BTreeMap<Name, Vec<Name>>,
    /// Asked and not answered.
    asks: BTreeMap<u64, Request>,
    /// Supervisors whose children were all started, and that have not ended.
    up: BTreeSet<Name>,
    /// Supervisors that neither ran nor started when they were last looked at.
    down: BTreeSet<Name>,
    /// Supervisors that are about to end by themselves.
    ending: BTreeMap<Name, Ending>,
    /// Supervisors that start, and a child of which did not.
    unstarted: BTreeSet<Name>,
    /// Children that stop and start together, because one of them failed.
    rounds: BTreeMap<Name, BTreeSet<Name>>,
    /// Children that were added while their supervisor ran or started, and that have not run yet: what
    /// fails of them is their own affair.
    late: BTreeSet<Name>,
    /// Workers that were started, or tried to be.
    tried: BTreeSet<Name>,
    /// Workers with an instance, and its incarnation.
    pub live: BTreeMap<Name, u64>,
    /// How many times a worker of that name was added.
    lives: BTreeMap<Name, usize>,
    /// Supervisors that have started, and not ended since.
    ran: BTreeSet<Name>,
    /// Supervisors that have ended, and of which nothing has started since.
    ended: BTreeSet<Name>,
    /// Which asks end well: known beforehand, because the stream is whole.
    well: BTreeSet<u64>,
    /// Which are refused, so that nothing follows from them.
    refused: BTreeSet<u64>,
    /// The order of a supervisor's children after an ask that may change it, likewise.
    orders: BTreeMap<u64, Vec<Name>>,
    /// Entries at which an instance ended because it was told to.
    told: BTreeSet<usize>,
    /// The account of memory may refuse a message at any time.
    pub is_short_of_memory: bool,
}

/// Why a supervisor ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    GaveUp,
    AutoShutdown,
    /// A child did not start, and it was starting too.
    StartFailed,
}

impl Book {
    pub fn new(plan: &Plan, entries: &[Entry]) -> Book {
        let well = entries.iter().filter_map(|entry| match &entry.fact {
            Fact::Replied { ask, reply: Ok(_), .. } => Some(*ask),
            _ => None,
        });
        let refused = entries.iter().filter_map(|entry| match &entry.fact {
            Fact::Replied { ask, reply: Err(TreeError::Running(_) | TreeError::Restarting(_)), .. } => Some(*ask),
            _ => None,
        });
        Book {
            grain: plan.grain,
            at: 0,
            supervisors: BTreeMap::new(),
            workers: BTreeMap::new(),
            templates: BTreeSet::new(),
            children: BTreeMap::from([(Name::root(), Vec::new())]),
            asks: BTreeMap::new(),
            up: BTreeSet::new(),
            down: BTreeSet::new(),
            ending: BTreeMap::new(),
            unstarted: BTreeSet::new(),
            rounds: BTreeMap::new(),
            late: BTreeSet::new(),
            tried: BTreeSet::new(),
            live: BTreeMap::new(),
            lives: BTreeMap::new(),
            ran: BTreeSet::new(),
            ended: BTreeSet::new(),
            well: well.collect(),
            refused: refused.collect(),
            orders: orders(entries),
            told: told(entries),
            is_short_of_memory: plan.account.is_some(),
        }
    }

    pub fn take(&mut self, entry: &Entry) {
        match &entry.fact {
            Fact::Asked { ask, request } => {
                self.asks.insert(*ask, request.clone());
                if self.well.contains(ask) {
                    self.granted(*ask, request);
                }
            }
            Fact::Replied { ask, .. } => {
                self.asks.remove(ask);
            }
            Fact::Event(event) => self.event(event),
            Fact::Looked(look) => self.looked(look),
            Fact::Said { .. } | Fact::Sent(_) | Fact::Answered { .. } => {}
        }
    }

    fn granted(&mut self, ask: u64, request: &Request) {
        let subject = request.subject();
        let supervisor = request.orders();
        match request {
            Request::AddWorker(worker) => self.add_worker(&subject, worker.clone()),
            Request::AddSupervisor(supervisor) => {
                self.supervisors.insert(subject.clone(), supervisor.clone());
                if supervisor.template.is_some() {
                    self.templates.insert(subject.clone());
                }
                self.children.insert(subject.clone(), Vec::new());
                self.children.entry(parent(&subject)).or_default().push(subject);
            }
            Request::Configure(supervisor) => {
                self.supervisors.insert(subject, supervisor.clone());
            }
            Request::ConfigureWorker(worker) => {
                self.workers.insert(subject, worker.clone());
            }
            _ => {}
        }
        if let Request::AddWorker(_) | Request::AddSupervisor(_) = request
            && !self.down.contains(&parent(&request.subject()))
        {
            self.late.insert(request.subject());
        }
        // A change is made while nobody does anything else: it holds at once.
        if let (Some(supervisor), Some(order)) = (supervisor, self.orders.get(&ask)) {
            self.children.insert(supervisor, order.clone());
        }
    }

    fn add_worker(&mut self, name: &Name, worker: Worker) {
        self.workers.insert(name.clone(), worker);
        *self.lives.entry(name.clone()).or_default() += 1;
        self.children.entry(parent(name)).or_default().push(name.clone());
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::SupervisorStarted { supervisor } => {
                self.up.insert(supervisor.clone());
                self.ran.insert(supervisor.clone());
                self.ending.remove(supervisor);
                self.unstarted.remove(supervisor);
                self.lives_again(supervisor);
            }
            Event::SupervisorGaveUp { supervisor, .. } => self.ends_by_itself(supervisor, Ending::GaveUp),
            Event::AutoShutdown { supervisor, .. } => self.ends_by_itself(supervisor, Ending::AutoShutdown),
            Event::SupervisorStopped { supervisor, .. } => {
                let ending = self.ended_by_itself(supervisor);
                self.ending.remove(supervisor);
                self.unstarted.remove(supervisor);
                self.up.remove(supervisor);
                self.rounds.remove(supervisor);
                self.ended.insert(supervisor.clone());
                self.late.retain(|child| parent(child) != *supervisor);
                // Ended by itself before it had started, it did not start.
                if !self.ran.remove(supervisor) && ending.is_some() {
                    self.start_failed(supervisor);
                }
            }
            Event::RestartTogether { supervisor, failed, .. } => {
                let with: Vec<Name> =
                    self.children(supervisor).iter().filter(|child| self.goes_with(child, failed)).cloned().collect();
                self.rounds.entry(supervisor.clone()).or_default().extend(with);
                self.goes_on(supervisor);
            }
            Event::RestartScheduled { worker, .. } => self.goes_on(&parent(worker)),
            Event::WorkerStarted { worker, incarnation, .. } => {
                self.tried.insert(worker.clone());
                self.live.insert(worker.clone(), incarnation.0);
                self.lives_again(worker);
            }
            Event::StartIgnored { worker } => {
                self.tried.insert(worker.clone());
            }
            Event::WorkerStartFailed { worker, .. } => {
                self.tried.insert(worker.clone());
                self.start_failed(worker);
                let late = self.late.contains(worker);
                self.lives_again(worker);
                if late {
                    self.late.insert(worker.clone());
                }
            }
            Event::WorkerExited { worker, .. } => {
                self.live.remove(worker);
            }
            // A key of a template: it was not asked for by this name.
            Event::ChildAdded { name } if !self.is_known(name) => {
                let template = self.supervisors.get(&parent(name)).and_then(|supervisor| supervisor.template.clone());
                if let Some(template) = template {
                    self.add_worker(name, *template);
                }
            }
            Event::ChildRemoved { name } => self.forget(name),
            _ => {}
        }
    }

    /// Something was started: those above it are.
    fn lives_again(&mut self, child: &Name) {
        self.late.remove(child);
        self.ended.retain(|supervisor| supervisor != child && !child.is_below(supervisor));
    }

    fn ends_by_itself(&mut self, supervisor: &Name, why: Ending) {
        self.up.remove(supervisor);
        self.ending.insert(supervisor.clone(), why);
    }

    /// What did not start was not its supervisor's failure: it was on its way into a round.
    fn goes_on(&mut self, supervisor: &Name) {
        if self.ending(supervisor) == Some(Ending::StartFailed) {
            self.ending.remove(supervisor);
        }
    }

    /// A child that does not start while its supervisor starts is that one's failure to start, but at
    /// the root.
    fn start_failed(&mut self, child: &Name) {
        let supervisor = parent(child);
        let first = !self.up.contains(&supervisor) && !self.late.contains(child);
        let asked = self.asks.iter().any(|(ask, request)| match request {
            Request::Start(name) | Request::Restart(name) => name == child && !self.refused.contains(ask),
            _ => false,
        });
        if !supervisor.is_root() && first && !asked {
            self.unstarted.insert(supervisor.clone());
            self.ending.entry(supervisor).or_insert(Ending::StartFailed);
        }
    }

    fn forget(&mut self, name: &Name) {
        self.workers.retain(|worker, _| worker != name && !worker.is_below(name));
        self.supervisors.retain(|supervisor, _| supervisor != name && !supervisor.is_below(name));
        self.children.retain(|supervisor, _| supervisor != name && !supervisor.is_below(name));
        self.tried.retain(|worker| worker != name && !worker.is_below(name));
        if let Some(siblings) = self.children.get_mut(&parent(name)) {
            siblings.retain(|sibling| sibling != name);
        }
    }

    /// What the supervisors themselves say of the order holds: `order` compares it with the rule.
    fn looked(&mut self, look: &Look) {
        self.down = look.supervisors.iter().filter(|(_, state)| !state.running).map(|(name, _)| name.clone()).collect();
        for (supervisor, state) in &look.supervisors {
            self.children.insert(supervisor.clone(), state.children.clone());
            if state.settled {
                self.rounds.remove(supervisor);
            }
        }
        // A key whose supervisor did not take it leaves no trace.
        let there: BTreeSet<&Name> = look.workers.iter().map(|(name, _)| name).collect();
        let gone: Vec<Name> =
            self.workers.keys().filter(|name| self.is_keyed(name) && !there.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
    }

    /// In start order.
    pub fn children(&self, supervisor: &Name) -> &[Name] {
        self.children.get(supervisor).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn place(&self, child: &Name) -> usize {
        let siblings = self.children(&parent(child));
        siblings.iter().position(|sibling| sibling == child).unwrap_or(siblings.len())
    }

    pub fn strategy(&self, supervisor: &Name) -> Strategy {
        self.supervisors.get(supervisor).map_or(Strategy::OneForOne, |supervisor| supervisor.strategy)
    }

    pub fn is_known(&self, child: &Name) -> bool {
        self.workers.contains_key(child) || self.supervisors.contains_key(child)
    }

    /// Whether it is a child of a template.
    pub fn is_keyed(&self, worker: &Name) -> bool {
        self.templates.contains(&parent(worker))
    }

    /// Whether a message to it starts it.
    pub fn is_on_demand(&self, worker: &Name) -> bool {
        self.is_keyed(worker) && self.supervisors.get(&parent(worker)).is_some_and(|supervisor| supervisor.on_demand)
    }

    pub fn restart(&self, child: &Name) -> Option<Restart> {
        let worker = self.workers.get(child).map(|worker| worker.restart);
        worker.or_else(|| self.supervisors.get(child).map(|supervisor| supervisor.restart))
    }

    /// Siblings by which a child is preceded in a start, by the last part of their names.
    pub fn after(&self, child: &Name) -> &[String] {
        let worker = self.workers.get(child).map(|worker| &worker.after);
        let after = worker.or_else(|| self.supervisors.get(child).map(|supervisor| &supervisor.after));
        after.map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether all its children were started, and it neither stops nor gives up.
    pub fn is_up(&self, supervisor: &Name) -> bool {
        self.up.contains(supervisor)
    }

    /// Whether it has started, and not ended since.
    pub fn has_run(&self, supervisor: &Name) -> bool {
        self.ran.contains(supervisor)
    }

    /// Whether it has ended, and nothing below it was started since: one that is told to stop again says
    /// so again.
    pub fn has_ended(&self, supervisor: &Name) -> bool {
        self.ended.contains(supervisor)
    }

    /// Whether it neither ran nor started when it was last looked at.
    pub fn was_down(&self, supervisor: &Name) -> bool {
        self.down.contains(supervisor)
    }

    pub fn ending(&self, supervisor: &Name) -> Option<Ending> {
        self.ending.get(supervisor).copied()
    }

    /// Of a supervisor that has ended: whether it did by itself.
    pub fn ended_by_itself(&self, supervisor: &Name) -> Option<Ending> {
        let told = self.is_in_round(supervisor) || self.is_disturbed(supervisor) || self.ends(supervisor);
        let unstarted = self.unstarted.contains(supervisor) && !told;
        self.ending(supervisor).or(unstarted.then_some(Ending::StartFailed))
    }

    /// Whether a supervisor above this child ends by itself, so that the child ends with it.
    pub fn ends(&self, child: &Name) -> bool {
        self.ending.keys().any(|supervisor| child.is_below(supervisor))
    }

    /// Whether children of this supervisor stop and start together just now.
    pub fn has_round(&self, supervisor: &Name) -> bool {
        self.rounds.contains_key(supervisor)
    }

    /// Whether this child is one of those.
    pub fn is_in_round(&self, child: &Name) -> bool {
        self.rounds.get(&parent(child)).is_some_and(|round| round.contains(child))
    }

    /// Whether a child goes with a sibling that fails.
    pub fn goes_with(&self, child: &Name, failed: &Name) -> bool {
        match self.strategy(&parent(child)) {
            Strategy::OneForAll => true,
            Strategy::RestForOne => self.place(child) >= self.place(failed),
            Strategy::OneForOne | Strategy::SimpleOneForOne => child == failed,
        }
    }

    /// Which worker of that name it is: names are used again.
    pub fn life(&self, worker: &Name) -> usize {
        self.lives.get(worker).copied().unwrap_or_default()
    }

    /// Whether it was started before, or tried to be.
    pub fn was_tried(&self, worker: &Name) -> bool {
        self.tried.contains(worker)
    }

    /// Whether somebody is about to start or stop this child itself.
    pub fn is_handled(&self, child: &Name) -> bool {
        self.asks.values().any(|request| request.moves() && request.subject() == *child)
    }

    /// Whether somebody is about to start or stop this child, or a supervisor above it.
    pub fn is_disturbed(&self, child: &Name) -> bool {
        let concerns = |request: &Request| {
            let subject = request.subject();
            request.moves() && *request != Request::StartTree && (subject == *child || child.is_below(&subject))
        };
        let about = self.asks.values().any(concerns);
        // A round of a supervisor above takes it along.
        about || self.rounds.keys().any(|supervisor| child.is_below(supervisor) && parent(child) != *supervisor)
    }

    /// Whether the time it has to stop may run out, so that all below it is killed at once.
    pub fn may_be_killed(&self, supervisor: &Name) -> bool {
        let timed = |(name, plan): (&Name, &Supervisor)| {
            (name == supervisor || supervisor.is_below(name)) && plan.shutdown != Shutdown::Infinity
        };
        self.supervisors.iter().any(timed)
    }

    /// Whether its children are all started, and nothing is about to stop it.
    pub fn is_steady(&self, supervisor: &Name) -> bool {
        let goes = self.ending.contains_key(supervisor) || self.ends(supervisor) || self.is_disturbed(supervisor);
        let taken_along = self.rounds.contains_key(&parent(supervisor)) && !supervisor.is_root();
        self.up.contains(supervisor) && !goes && !taken_along
    }

    /// Whether the instance whose end is looked at was told to end.
    pub fn was_told(&self) -> bool {
        self.told.contains(&self.at)
    }

    pub fn request(&self, ask: u64) -> Option<&Request> {
        self.asks.get(&ask)
    }
}

/// Whether a child that ended so is to be restarted, by its type.
pub fn demands_restart(book: &Book, child: &Name, reason: &ExitReason) -> bool {
    match book.restart(child) {
        None | Some(Restart::Permanent) => true,
        Some(Restart::Transient) => !reason.is_orderly(),
        Some(Restart::Temporary) => false,
    }
}

impl Request {
    /// Whether it starts or stops its subject.
    pub fn moves(&self) -> bool {
        !matches!(self, Request::Configure(_) | Request::ConfigureWorker(_))
    }

    /// The supervisor whose children it may put into another order.
    fn orders(&self) -> Option<Name> {
        match self {
            Request::AddWorker(_) | Request::AddSupervisor(_) | Request::ConfigureWorker(_) => {
                Some(parent(&self.subject()))
            }
            Request::Configure(_) => Some(self.subject()),
            _ => None,
        }
    }

    pub fn stops(&self) -> bool {
        matches!(
            self,
            Request::Stop(_)
                | Request::Isolate(_)
                | Request::Delete(_)
                | Request::Remove(_)
                | Request::Restart(_)
                | Request::StopTree
        )
    }
}

/// Who comes after whom once an ask is carried out: as it was looked at next.
fn orders(entries: &[Entry]) -> BTreeMap<u64, Vec<Name>> {
    let mut orders = BTreeMap::new();
    let mut asked: Vec<(u64, Name)> = Vec::new();
    for entry in entries {
        match &entry.fact {
            Fact::Asked { ask, request } => asked.extend(request.orders().map(|supervisor| (*ask, supervisor))),
            Fact::Looked(look) => {
                for (ask, supervisor) in asked.drain(..) {
                    let state = look.supervisors.iter().find(|(name, _)| *name == supervisor);
                    orders.extend(state.map(|(_, state)| (ask, state.children.clone())));
                }
            }
            _ => {}
        }
    }
    orders
}

/// An instance that was told to end says so right after its end, with nothing between the two.
fn told(entries: &[Entry]) -> BTreeSet<usize> {
    let mut told = BTreeSet::new();
    let mut before: Option<(usize, &Name)> = None;
    for (at, entry) in entries.iter().enumerate() {
        match &entry.fact {
            Fact::Event(Event::WorkerExited { worker, .. }) => before = Some((at, worker)),
            Fact::Event(Event::WorkerStopped { worker }) => {
                if let Some((ended, name)) = before
                    && name == worker
                {
                    told.insert(ended);
                }
            }
            Fact::Event(_) => before = None,
            _ => {}
        }
    }
    told
}
