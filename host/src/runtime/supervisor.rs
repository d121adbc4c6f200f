//! The supervisor's task: waits, hands what happened to the pure policy, carries out what it says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::services::Services;
use super::spec::{Restart, Shutdown, SupervisorSettings};
use super::supervision::{Action, Answer, ChildState, Input, Supervision};
use super::worker::{Shared, Standing, System};
use crate::base::{ExitReason, Incarnation, Name, Tick, bounds};
use crate::record::Event;

/// What a child tells its supervisor.
#[derive(Debug)]
pub enum Report {
    Started {
        child: Name,
    },
    StartFailed {
        child: Name,
        reason: ExitReason,
    },
    /// It ended by itself.
    Exited {
        child: Name,
        reason: ExitReason,
    },
    /// It ended because it was told to.
    Stopped {
        child: Name,
    },
}

/// What others ask of a supervisor.
pub enum Ask {
    Start,
    Stop,
    Add {
        name: Name,
        restart: Restart,
        shutdown: Shutdown,
        handle: ChildHandle,
        done: oneshot::Sender<Answer>,
    },
    Change {
        name: Name,
        restart: Restart,
        shutdown: Shutdown,
    },
    Configure {
        settings: Box<SupervisorSettings>,
    },
    /// Answered when the child is out of the tree.
    Remove {
        name: Name,
        done: oneshot::Sender<Answer>,
    },
    StartChild {
        name: Name,
        done: oneshot::Sender<Answer>,
    },
    /// Answered when the child has stopped.
    StopChild {
        name: Name,
        done: oneshot::Sender<Answer>,
    },
    RestartChild {
        name: Name,
        done: oneshot::Sender<Answer>,
    },
    Look {
        done: oneshot::Sender<View>,
    },
    /// The supervisor leaves the tree; it must have stopped.
    Quit,
}

/// How a supervisor reaches a child.
#[derive(Clone)]
pub enum ChildHandle {
    Worker(Arc<Shared>),
    Supervisor(SupervisorHandle),
}

/// A supervisor as others see it.
#[derive(Clone, Debug)]
pub struct View {
    pub settings: SupervisorSettings,
    pub running: bool,
    /// Restarts within the period.
    pub restarts: u32,
    /// In start order.
    pub children: Vec<Name>,
}

#[derive(Clone)]
pub struct SupervisorHandle {
    asks: mpsc::Sender<Ask>,
    reports: mpsc::Sender<Report>,
}

impl SupervisorHandle {
    /// An error means that the supervisor has left the tree.
    pub async fn ask(&self, ask: Ask) -> Result<(), Gone> {
        self.asks.send(ask).await.map_err(|_| Gone)
    }

    /// Asks, and waits for the answer.
    pub async fn ask_for<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Gone> {
        let (done, answer) = oneshot::channel();
        self.ask(ask(done)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Where this supervisor's children report.
    pub fn reports(&self) -> mpsc::Sender<Report> {
        self.reports.clone()
    }
}

/// The supervisor has left the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor has left the tree")]
pub struct Gone;

/// Starts a supervisor's task; it starts no child until it is asked to. `parent`: where it reports;
/// for the root, the host.
pub fn launch(
    name: Name,
    settings: SupervisorSettings,
    services: &Arc<Services>,
    parent: mpsc::Sender<Report>,
) -> SupervisorHandle {
    let (asks, asked) = mpsc::channel(bounds::SUPERVISOR_QUEUE_MAX);
    let (reports, reported) = mpsc::channel(bounds::SUPERVISOR_QUEUE_MAX);
    let driver = Driver {
        policy: Supervision::new(name.clone(), settings),
        name,
        services: services.clone(),
        parent,
        children: HashMap::new(),
        wake_at: None,
    };
    tokio::spawn(driver.run(asked, reported));
    SupervisorHandle { asks, reports }
}

struct Driver {
    name: Name,
    policy: Supervision,
    services: Arc<Services>,
    parent: mpsc::Sender<Report>,
    children: HashMap<Name, Entry>,
    wake_at: Option<Tick>,
}

struct Entry {
    handle: ChildHandle,
    /// Kills the child when its shutdown time is over.
    killer: Option<JoinHandle<()>>,
    /// Who waits until it has stopped or left.
    waiting: Vec<oneshot::Sender<Answer>>,
}

impl Driver {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>, mut reported: mpsc::Receiver<Report>) {
        loop {
            let sleep = self.wake_at.map(|at| at.since(self.services.clock.now()));
            tokio::select! {
                biased;
                Some(report) = reported.recv() => self.report(report).await,
                ask = asked.recv() => match ask {
                    None | Some(Ask::Quit) => return,
                    Some(ask) => self.ask(ask).await,
                },
                () = sleep_or_never(sleep) => {
                    self.wake_at = None;
                    self.feed(Input::Due).await;
                }
            }
        }
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Started { child } => self.feed(Input::Started(child)).await,
            Report::StartFailed { child, reason } => self.feed(Input::StartFailed(child, reason)).await,
            Report::Exited { child, reason } => self.feed(Input::Exited(child, reason)).await,
            Report::Stopped { child } => {
                if let Some(entry) = self.children.get_mut(&child) {
                    entry.killer.take().iter().for_each(JoinHandle::abort);
                    for done in entry.waiting.drain(..) {
                        let _ = done.send(Answer::Ok);
                    }
                }
                self.feed(Input::Stopped(child)).await
            }
        };
    }

    async fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Start => {
                self.feed(Input::Start).await;
            }
            Ask::Stop => {
                self.feed(Input::Stop).await;
            }
            Ask::Add { name, restart, shutdown, handle, done } => {
                if self.children.contains_key(&name) {
                    let _ = done.send(Answer::AlreadyStarted);
                    return;
                }
                self.children.insert(name.clone(), Entry { handle, killer: None, waiting: Vec::new() });
                let answer = self.feed(Input::Add { name, restart, shutdown }).await;
                let _ = done.send(answer);
            }
            Ask::Change { name, restart, shutdown } => {
                self.feed(Input::Change { name, restart, shutdown }).await;
            }
            Ask::Configure { settings } => {
                self.feed(Input::Configure(settings)).await;
                self.services.recorder.emit(Event::PolicyChanged { supervisor: self.name.clone() });
            }
            Ask::Remove { name, done } => self.stop_and_wait(name.clone(), Input::Remove(name), done).await,
            Ask::StopChild { name, done } => self.stop_and_wait(name.clone(), Input::StopChild(name), done).await,
            Ask::StartChild { name, done } => {
                let _ = done.send(self.feed(Input::StartChild(name)).await);
            }
            Ask::RestartChild { name, done } => {
                let _ = done.send(self.feed(Input::RestartChild(name)).await);
            }
            Ask::Look { done } => {
                let now = self.services.clock.now();
                let view = View {
                    restarts: self.policy.restarts_used(now),
                    settings: self.policy.settings().clone(),
                    running: self.policy.is_running(),
                    children: self.policy.children().iter().map(|child| child.name.clone()).collect(),
                };
                let _ = done.send(view);
            }
            Ask::Quit => {}
        }
    }

    async fn stop_and_wait(&mut self, name: Name, input: Input, done: oneshot::Sender<Answer>) {
        match self.children.get_mut(&name) {
            Some(entry) => entry.waiting.push(done),
            None => return drop(done.send(Answer::NotFound)),
        }
        self.feed(input).await;
    }

    /// Hands an input to the policy and does what it says.
    async fn feed(&mut self, input: Input) -> Answer {
        let now = self.services.clock.now();
        let ended = match &input {
            Input::Exited(name, _) | Input::StartFailed(name, _) => Some(name.clone()),
            _ => None,
        };
        let random = fastrand::u32(0..100);
        let (answer, actions) = self.policy.on(now, random, input);
        for action in actions {
            self.act(now, action).await;
        }
        self.show_decided(ended.as_ref(), now);
        answer
    }

    async fn act(&mut self, now: Tick, action: Action) {
        match action {
            Action::StartChild { name, incarnation } => self.start_child(&name, incarnation).await,
            Action::StopChild { name, reason, shutdown } => self.stop_child(&name, reason, shutdown).await,
            Action::Restarting { name, delay, restarts } => {
                self.stand(&name, Standing::Restarting, now);
                self.emit(Event::RestartScheduled { worker: name, delay, restarts });
            }
            Action::Isolate { name, why } => {
                self.stand(&name, Standing::Isolated(why.clone()), now);
                self.emit(Event::WorkerIsolated { worker: name, why });
            }
            Action::Forget(name) => {
                self.children.remove(&name);
            }
            Action::WakeAt(at) => self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at))),
            Action::GaveUp { restarts, last } => {
                let period = self.policy.settings().period;
                self.emit(Event::SupervisorGaveUp { supervisor: self.name.clone(), restarts, period, last });
            }
            Action::SelfStarted => {
                self.emit(Event::SupervisorStarted { supervisor: self.name.clone() });
                self.tell_parent(Report::Started { child: self.name.clone() }).await;
            }
            Action::SelfEnded(reason) => {
                self.emit(Event::SupervisorStopped { supervisor: self.name.clone() });
                let child = self.name.clone();
                let report = match reason {
                    Some(reason) => Report::Exited { child, reason },
                    None => Report::Stopped { child },
                };
                self.tell_parent(report).await;
            }
        }
    }

    async fn start_child(&mut self, name: &Name, incarnation: Incarnation) {
        let Some(entry) = self.children.get(name) else { return };
        match &entry.handle {
            ChildHandle::Worker(worker) => worker.mailbox.push_supervision(System::Start { incarnation }),
            // A supervisor that is gone was removed: its parent is about to hear of it.
            ChildHandle::Supervisor(supervisor) => {
                let _ = supervisor.ask(Ask::Start).await;
            }
        }
    }

    async fn stop_child(&mut self, name: &Name, reason: ExitReason, shutdown: Shutdown) {
        let Some(entry) = self.children.get_mut(name) else { return };
        let worker = match &entry.handle {
            ChildHandle::Worker(worker) => worker.clone(),
            ChildHandle::Supervisor(supervisor) => {
                let _ = supervisor.ask(Ask::Stop).await;
                return;
            }
        };
        worker.mailbox.push_supervision(System::Stop { reason, shutdown });
        // The stop waits for the message that is being handled; the killer ends that wait.
        match shutdown {
            Shutdown::Kill => worker.kill(),
            Shutdown::Time(time) => {
                entry.killer = Some(tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    worker.kill();
                }));
            }
            Shutdown::Infinity => {}
        }
    }

    /// A worker that ended stands as restarting until the policy has decided otherwise.
    fn show_decided(&self, child: Option<&Name>, now: Tick) {
        let Some(name) = child else { return };
        let decided = self.policy.children().iter().find(|child| child.name == *name);
        if decided.is_some_and(|child| child.state == ChildState::Down) {
            self.stand(name, Standing::Down, now);
        }
    }

    fn stand(&self, name: &Name, standing: Standing, now: Tick) {
        if let Some(Entry { handle: ChildHandle::Worker(worker), .. }) = self.children.get(name) {
            worker.stand(standing, now);
        }
    }

    fn emit(&self, event: Event) {
        self.services.recorder.emit(event);
    }

    async fn tell_parent(&self, report: Report) {
        // An error means that the host is ending and nobody listens any more.
        let _ = self.parent.send(report).await;
    }
}

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
