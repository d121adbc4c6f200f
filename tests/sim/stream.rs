//! The one stream that the checkers and the text are made of: what the host recorded, what guests
//! logged, and what the simulation's own clients and operators asked and were told.

use std::collections::{BTreeMap, VecDeque};

use paguro::base::{Clock, Name};
use paguro::record::{Event, Follower, LogLine, Recorded, Recorder};
use paguro::runtime::{Outcome, Standing, TreeError};
use paguro::sandbox::CallError;

use crate::script::{Supervisor, Worker};

pub struct Entry {
    /// Milliseconds since the start.
    pub at: u64,
    pub fact: Fact,
}

pub enum Fact {
    Event(Event),
    /// A guest's log.
    Said {
        worker: Name,
        text: String,
    },
    /// A client put a message into a mailbox, or was refused.
    Sent(Sent),
    /// A client's call ended.
    Answered {
        id: u64,
        outcome: Outcome,
    },
    /// An operator, or the directory, asked.
    Asked {
        ask: u64,
        request: Request,
    },
    Replied {
        ask: u64,
        reply: Result<Reached, TreeError>,
        child: Option<State>,
    },
    /// Nobody had anything to do, and this is how everything stood.
    Looked(Look),
}

pub struct Sent {
    pub id: u64,
    pub to: Name,
    pub operation: String,
    /// When a call is over; a cast has none.
    pub deadline: Option<u64>,
    pub refused: Option<CallError>,
    /// How the receiver was just then.
    pub receiver: Option<State>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    StartTree,
    StopTree,
    Start(Name),
    Stop(Name),
    Restart(Name),
    Isolate(Name),
    Delete(Name),
    Remove(Name),
    AddWorker(Worker),
    AddSupervisor(Supervisor),
    Configure(Supervisor),
    ConfigureWorker(Worker),
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Done,
    Runs,
    /// It stopped itself in its start.
    Ignored,
}

/// How a worker stands.
#[derive(Clone, Debug)]
pub struct State {
    pub standing: Standing,
    pub instances: usize,
    pub waiting: usize,
}

pub struct Look {
    pub supervisors: Vec<(Name, SupervisorState)>,
    pub workers: Vec<(Name, State)>,
}

pub struct SupervisorState {
    /// It runs or starts.
    pub running: bool,
    /// No child starts, stops, or waits for its time.
    pub settled: bool,
    /// In start order.
    pub children: Vec<Name>,
}

impl Request {
    /// Whom it is about.
    pub fn subject(&self) -> Name {
        match self {
            Request::StartTree | Request::StopTree => Name::root(),
            Request::Start(name)
            | Request::Stop(name)
            | Request::Restart(name)
            | Request::Isolate(name)
            | Request::Delete(name)
            | Request::Remove(name) => name.clone(),
            Request::AddWorker(worker) | Request::ConfigureWorker(worker) => name(&worker.name),
            Request::AddSupervisor(supervisor) | Request::Configure(supervisor) => name(&supervisor.name),
        }
    }
}

pub fn name(text: &str) -> Name {
    if text.is_empty() { Name::root() } else { Name::parse(text).expect("the script names nothing else") }
}

/// The supervisor above a child.
pub fn parent(child: &Name) -> Name {
    child.parent().unwrap_or_else(Name::root)
}

/// Gathers the stream while the simulation runs.
pub struct Stream {
    clock: Clock,
    epoch: u64,
    events: Follower<Event>,
    logs: Follower<LogLine>,
    live: BTreeMap<Name, u64>,
    pub entries: Vec<Entry>,
}

impl Stream {
    pub fn new(recorder: &Recorder) -> Stream {
        let clock = recorder.clock().clone();
        let epoch = clock.timestamp().0;
        let (events, logs) = (recorder.events().follow(0), recorder.logs().follow(0));
        Stream { clock, epoch, events, logs, live: BTreeMap::new(), entries: Vec::new() }
    }

    pub fn now(&self) -> u64 {
        self.clock.timestamp().0 - self.epoch
    }

    /// What one of the simulation's own did or was told.
    pub fn push(&mut self, fact: Fact) {
        self.drain();
        let at = self.now();
        self.entries.push(Entry { at, fact });
    }

    /// Takes in what the host recorded and the guests logged meanwhile.
    ///
    /// Two tapes become one: a guest's line, which begins with its incarnation, belongs between the
    /// start and the end of that instance. Each tape is in order, so the next line is taken as soon as
    /// its instance lives, and an event only when it does not: then no line comes after its
    /// instance's end.
    pub fn drain(&mut self) {
        let mut lines = VecDeque::new();
        while let Some(line) = next(&mut self.logs) {
            lines.push_back(line);
        }
        loop {
            while let Some(line) =
                lines.pop_front_if(|line| self.live.get(&line.item.worker) == incarnation(line).as_ref())
            {
                self.said(line);
            }
            let Some(event) = next(&mut self.events) else { break };
            match &event.item {
                Event::WorkerStarted { worker, incarnation, .. } => {
                    self.live.insert(worker.clone(), incarnation.0);
                }
                Event::WorkerExited { worker, .. } => {
                    self.live.remove(worker);
                }
                _ => {}
            }
            self.entries.push(Entry { at: event.at.0 - self.epoch, fact: Fact::Event(event.item) });
        }
        lines.into_iter().for_each(|line| self.said(line));
    }

    fn said(&mut self, line: Recorded<LogLine>) {
        let fact = Fact::Said { worker: line.item.worker, text: line.item.text };
        self.entries.push(Entry { at: line.at.0 - self.epoch, fact });
    }
}

fn incarnation(line: &Recorded<LogLine>) -> Option<u64> {
    line.item.text.split(' ').next()?.parse().ok()
}

fn next<T: Clone>(tape: &mut Follower<T>) -> Option<Recorded<T>> {
    let next = tape.try_next()?;
    Some(Recorded::clone(&*next.unwrap_or_else(|missed| panic!("the stream misses {} entries", missed.0))))
}
