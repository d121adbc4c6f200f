//! How others reach a supervisor: what they ask of it, what its children report, what its parent says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::base::{ExitReason, Name};
use crate::runtime::lent::LentTask;
use crate::runtime::spec::SupervisorSettings;
use crate::runtime::supervision::{Answer, ChildSpec, ChildState, Counts};
use crate::runtime::worker::Shared;

/// What a child tells its supervisor.
#[derive(Debug)]
pub enum Report {
    Started {
        child: Name,
    },
    /// It answered its start with "ignore": no error, and it does not run.
    Ignored {
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
    /// A child of a template ended because it idled, and is out of the tree.
    Retired {
        child: Name,
    },
}

/// What others ask of a supervisor.
pub enum Ask {
    Add {
        spec: Box<ChildSpec>,
        handle: ChildHandle,
        done: oneshot::Sender<Reply>,
    },
    Change {
        spec: Box<ChildSpec>,
    },
    Configure {
        settings: Box<SupervisorSettings>,
    },
    /// Answered when the child is out of the tree.
    Remove {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    /// What it failed over may be mended: it does not sit out its pause. Answered as a start.
    RetryChild {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    /// Answered when the child runs, or failed to.
    StartChild {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    /// Answered when the child has stopped.
    StopChild {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    /// Answered when the child runs again, or failed to.
    RestartChild {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    /// Answered when the child has stopped.
    IsolateChild {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    DeleteChild {
        name: Name,
        done: oneshot::Sender<Reply>,
    },
    Look {
        page: Page,
        done: oneshot::Sender<View>,
    },
    /// The supervisor leaves the tree, with all below it; it must have stopped.
    Quit,
}

/// How a request to a supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    /// It answered its start with "ignore": it is known, and does not run.
    Ignored,
    Failed(ExitReason),
    /// Nothing was done, because of how the child or the supervisor stands.
    Refused(Answer),
}

/// Children to look at: those after a name in the order of the tree, so many at the most.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub after: Option<Name>,
    pub limit: usize,
}

/// How a supervisor reaches a child.
#[derive(Clone)]
pub enum ChildHandle {
    Worker(Arc<Shared>),
    Supervisor(Box<SupervisorHandle>),
}

/// A supervisor as others see it.
#[derive(Clone, Debug)]
pub struct View {
    pub settings: SupervisorSettings,
    pub running: bool,
    /// Why it does not run, where it ended by itself: it gave up, or a child of it did not start.
    pub fell: Option<ExitReason>,
    /// Restarts within the period, oldest first: how long ago, and of whom.
    pub restarts: Vec<(Duration, Name)>,
    pub counts: Counts,
    /// Whose failure stops and starts others just now.
    pub round: Option<Name>,
    /// In start order.
    pub children: Vec<ChildView>,
    /// There are more after these.
    pub more: bool,
}

#[derive(Clone, Debug)]
pub struct ChildView {
    pub spec: ChildSpec,
    pub state: ChildState,
    /// It failed, and has not come up since.
    pub restarting: bool,
    /// Restarts of this child alone within the period.
    pub restarts: u32,
}

#[derive(Clone)]
pub struct SupervisorHandle {
    asks: mpsc::Sender<Ask>,
    orders: mpsc::Sender<Order>,
    reports: Reports,
    runs: Arc<AtomicBool>,
}

/// Where the children of one supervisor report. One word, which each of them keeps.
#[derive(Clone)]
pub struct Reports(Arc<Line>);

struct Line {
    reports: mpsc::Sender<Report>,
    supervisor: Weak<LentTask>,
}

impl Reports {
    /// Those of the root, which the host hears.
    pub fn to_host(reports: mpsc::Sender<Report>) -> Reports {
        Reports(Arc::new(Line { reports, supervisor: Weak::new() }))
    }

    /// An error means that nobody is left who listens.
    pub async fn send(&self, report: Report) -> Result<(), Gone> {
        self.0.reports.send(report).await.map_err(|_| Gone::Left)
    }

    /// Sends where there is room.
    pub(super) fn offer(&self, report: Report) {
        let _ = self.0.reports.try_send(report);
    }

    /// A place in the queue. An error means that nobody is left who listens.
    pub async fn room(&self) -> Result<mpsc::Permit<'_, Report>, Gone> {
        self.0.reports.reserve().await.map_err(|_| Gone::Left)
    }

    /// Whoever lent a thread to what reported runs the supervisor next.
    pub fn are_heard_next(&self) {
        LentTask::run_later(&self.0.supervisor);
    }
}

/// What only the parent says. It waits for the answer before it says the next, but for a stop that
/// overtakes a start, and a kill that overtakes a stop: the queue never fills, and a parent and a child
/// never wait for room in each other's.
pub(super) enum Order {
    Start,
    Stop {
        /// It will be started again, with all below it.
        comes_back: bool,
    },
    /// It stopped to be started again, and will not be: what waits below it is told.
    Rest,
    /// It is down and will be started: what comes for those below it waits.
    Rise,
    /// The time to stop is over.
    Kill,
}

pub(super) const ORDERS_MAX: usize = 16;

/// Room that is left for orders that must not be lost.
const ORDERS_LEFT: usize = 8;

impl SupervisorHandle {
    pub(super) fn new(
        asks: mpsc::Sender<Ask>,
        orders: mpsc::Sender<Order>,
        reports: mpsc::Sender<Report>,
        task: &Arc<LentTask>,
        runs: Arc<AtomicBool>,
    ) -> SupervisorHandle {
        let line = Line { reports, supervisor: Arc::downgrade(task) };
        SupervisorHandle { asks, orders, reports: Reports(Arc::new(line)), runs }
    }

    /// Whether it is started, and does not stop, as far as it has decided.
    pub fn runs(&self) -> bool {
        self.runs.load(Ordering::Relaxed)
    }

    /// An error means that the supervisor has left the tree.
    pub async fn ask(&self, ask: Ask) -> Result<(), Gone> {
        let room = match self.room() {
            Some(room) => room,
            None => self.asks.reserve().await.map_err(|_| Gone::Left)?,
        };
        self.ask_at_once(room, ask);
        Ok(())
    }

    /// Asks where there is room. The supervisor is run on this thread if it waits, and may have answered when this
    /// returns.
    pub fn ask_at_once(&self, room: mpsc::Permit<'_, Ask>, ask: Ask) {
        match self.reports.0.supervisor.upgrade() {
            Some(task) => task.give(|| room.send(ask)),
            None => room.send(ask),
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask_for<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Gone> {
        let (done, answer) = oneshot::channel();
        self.ask(ask(done)).await?;
        answer.await.map_err(|_| if self.asks.is_closed() { Gone::Left } else { Gone::Fell })
    }

    /// A place in the queue, if there is one at once.
    pub fn room(&self) -> Option<mpsc::Permit<'_, Ask>> {
        self.asks.try_reserve().ok()
    }

    /// Asks without waiting, not even for room.
    pub fn try_ask(&self, ask: Ask) -> Result<(), Gone> {
        self.asks.try_send(ask).map_err(|_| Gone::Left)
    }

    /// Where this supervisor's children report.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// For the parent, or the host at the root.
    pub fn start(&self) {
        // A supervisor that is gone was removed: its parent is about to hear of it.
        let _ = self.orders.try_send(Order::Start);
    }

    /// `comes_back`: it will be started again, and what waits for those below goes on waiting.
    pub fn stop(&self, comes_back: bool) {
        let _ = self.orders.try_send(Order::Stop { comes_back });
    }

    pub(super) fn rest(&self) {
        self.tell(Order::Rest);
    }

    pub(super) fn rise(&self) {
        self.tell(Order::Rise);
    }

    /// An order that says how those below stand. A supervisor that has not come to take eight of them loses the next one.
    fn tell(&self, order: Order) {
        if self.orders.capacity() > ORDERS_LEFT {
            let _ = self.orders.try_send(order);
        }
    }

    pub(super) fn kill(&self) {
        let _ = self.orders.try_send(Order::Kill);
    }
}

/// A supervisor has not answered, and will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    #[error("the supervisor has left the tree")]
    Left,
    /// The host's own code panicked over it.
    #[error("the supervisor failed over this request in a fault of the host's")]
    Fell,
}
