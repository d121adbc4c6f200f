//! Which workers have a change under way: at most one each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::error::ChangeError;
use super::lanes::Lanes;
use super::load::Loading;
use super::probation::Order;
use super::reconcile::ChangeView;
use super::rehearsal::Rehearsal;
use super::trial::Outcome;
use crate::base::{ComponentHash, Name, RevisionNumber, Tick};
use crate::record::{By, ComponentFiles};
use crate::runtime::Services;

/// The changes of one host. Cheap to clone.
#[derive(Clone)]
pub struct Changes {
    pub(super) services: Arc<Services>,
    pub(super) files: ComponentFiles,
    under_way: Arc<Mutex<HashMap<Name, UnderWay>>>,
    count: watch::Sender<usize>,
    pub(super) compiling: Lanes,
    pub(super) loading: Loading,
    stopping: watch::Sender<bool>,
}

struct UnderWay {
    phase: &'static str,
    to: ComponentHash,
    by: By,
    probation: Option<Probation>,
}

struct Probation {
    orders: mpsc::Sender<Ordered>,
    until: Tick,
}

/// An operator's order, and where its outcome is told.
pub(super) type Ordered = (Order, oneshot::Sender<Outcome>);

/// The phase in which nobody can say yet whether there will be a probation.
pub(super) const SWITCHING: &str = "quiesced";

/// Orders that wait for the owner of a trial. More are refused.
const ORDERS_MAX: usize = 8;

/// An upgrade that switched: the new revision serves.
pub struct Switched {
    pub revision: RevisionNumber,
    pub from: ComponentHash,
    pub to: ComponentHash,
    pub rehearsal: Rehearsal,
    /// `None` where the worker did not run.
    pub pause: Option<Duration>,
    /// How long probation lasts at the most; zero when it is over already.
    pub probation: Duration,
    /// Resolves with the verdict.
    pub outcome: oneshot::Receiver<Outcome>,
}

impl Changes {
    /// The host's own copies of components.
    pub fn component_files(&self) -> &ComponentFiles {
        &self.files
    }

    pub fn new(services: &Arc<Services>, files: ComponentFiles, compiling: Lanes) -> Changes {
        Changes {
            services: services.clone(),
            files,
            under_way: Arc::default(),
            count: watch::Sender::new(0),
            compiling,
            loading: Loading::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// Whether a change of this worker is under way, probation included.
    pub fn is_under_way(&self, worker: &Name) -> bool {
        self.lock().contains_key(worker)
    }

    /// Whether this component is what a change of this worker is about, probation included.
    pub fn is_under_way_to(&self, worker: &Name, component: ComponentHash) -> bool {
        self.under_way(worker).is_some_and(|change| change.to == component)
    }

    /// Which change of this worker is under way, probation included.
    pub(crate) fn under_way(&self, worker: &Name) -> Option<ChangeView> {
        self.lock().get(worker).map(|change| ChangeView { to: change.to, by: change.by })
    }

    /// How long this worker's probation still lasts, if it is in one.
    pub fn probation_left(&self, worker: &Name) -> Option<Duration> {
        let until = self.lock().get(worker)?.probation.as_ref()?.until;
        Some(until.since(self.services.clock.now()))
    }

    /// From now on no change begins, and one that has not switched yet is called off.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when the host stops.
    pub(super) async fn stopped(&self) {
        // An error would mean that `self.stopping` is gone, which `self` keeps.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Ends this worker's probation now, one way or the other.
    pub async fn order(&self, worker: &Name, order: Order) -> Result<Outcome, ChangeError> {
        let not_in_probation = || ChangeError::NotInProbation(worker.clone());
        // One that is about to switch takes orders in a moment.
        let mut count = self.count.subscribe();
        let is_switching = || self.lock().get(worker).is_some_and(|change| change.phase == SWITCHING);
        while is_switching() {
            // An error would mean that `self.count` is gone, which `self` keeps.
            let _ = count.changed().await;
        }
        let orders = {
            let under_way = self.lock();
            let probation = under_way.get(worker).and_then(|change| change.probation.as_ref());
            probation.map(|probation| probation.orders.clone()).ok_or_else(not_in_probation)?
        };
        let (done, outcome) = oneshot::channel();
        // An error in either means that probation ended a moment ago.
        orders.try_send((order, done)).map_err(|_| not_in_probation())?;
        outcome.await.map_err(|_| not_in_probation())
    }

    pub async fn commit(&self, worker: &Name) -> Result<Outcome, ChangeError> {
        self.order(worker, Order::Commit).await
    }

    /// Resolves when no change is under way. After the tree has stopped none can begin.
    pub async fn all_ended(&self) {
        let mut count = self.count.subscribe();
        // An error would mean that `self.count` is gone, which `self` keeps.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// Something else has changed that whoever watches may want to act upon.
    pub fn nudge(&self) {
        self.count.send_modify(|_| {});
    }

    /// Resolves whenever the number of changes under way falls.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    pub(super) fn claim(&self, worker: &Name, to: ComponentHash, by: By) -> Result<Claim, ChangeError> {
        if self.is_stopping() {
            return Err(ChangeError::Stopping);
        }
        let mut under_way = self.lock();
        if let Some(change) = under_way.get(worker) {
            return Err(ChangeError::UnderWay { worker: worker.clone(), phase: change.phase });
        }
        under_way.insert(worker.clone(), UnderWay { phase: "verified", to, by, probation: None });
        self.count.send_replace(under_way.len());
        Ok(Claim { changes: self.clone(), worker: worker.clone(), is_released: false })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change one worker; dropped when the change has ended, whichever way.
pub(super) struct Claim {
    changes: Changes,
    pub worker: Name,
    is_released: bool,
}

impl Claim {
    /// Another change may begin from now on.
    pub fn release(&mut self) {
        if std::mem::replace(&mut self.is_released, true) {
            return;
        }
        let mut under_way = self.changes.lock();
        under_way.remove(&self.worker);
        self.changes.count.send_replace(under_way.len());
    }

    pub fn phase(&self, phase: &'static str) {
        if let Some(change) = self.changes.lock().get_mut(&self.worker) {
            change.phase = phase;
        }
    }

    /// From now on operators can end the probation; their orders arrive at the receiver.
    pub fn in_probation(&self, until: Tick) -> mpsc::Receiver<Ordered> {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        if let Some(change) = self.changes.lock().get_mut(&self.worker) {
            change.phase = "in probation";
            change.probation = Some(Probation { orders, until });
        }
        // Whoever has an order for it waits for this.
        self.changes.nudge();
        ordered
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}
