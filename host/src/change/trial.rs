//! The owner of a probation: one task that listens to the worker, to operators and to the clock,
//! asks the pure policy what it means, writes that down, and has the worker do it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::probation::{Order, Seen, Verdict, verdict};
use super::under_way::{Changes, Claim, Ordered};
use crate::base::panics::{self, Survivor};
use crate::base::{ComponentHash, ExitReason, HostFault, Snapshot, Tick};
use crate::record::{Action, By, Change, Event, RevisionRecord};
use crate::runtime::Shared;
use crate::runtime::spec::WorkerSettings;
use crate::runtime::worker::{AskError, Blame, NoState, System, TrialEvent};

/// How a probation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed {
        why: String,
    },
    /// `blame`: whether the component would have failed in the place of any other key too.
    RolledBack {
        why: String,
        replayed: usize,
        blame: Blame,
    },
}

pub(super) struct Trial {
    pub changes: Changes,
    pub claim: Claim,
    pub worker: Arc<Shared>,
    pub settings: Arc<WorkerSettings>,
    pub record: RevisionRecord,
    pub from: ComponentHash,
    pub until: Tick,
    /// There is a probation at all.
    pub has_time: bool,
    pub events: mpsc::Receiver<TrialEvent>,
    pub orders: mpsc::Receiver<Ordered>,
    /// Who hears of the outcome.
    pub tell: Vec<oneshot::Sender<Outcome>>,
    /// It was written down that the new revision stays, with this state and for this reason.
    pub decided: Option<(Option<Snapshot>, String)>,
}

/// Times that a worker is asked for what must be done, which panics over it.
const ASKED_MAX: usize = 3;

/// A sign, and who asked for it or what came with it.
struct Sign {
    seen: Seen,
    asked: Option<oneshot::Sender<Outcome>>,
    /// The state it stopped with.
    stopped: Option<Option<Snapshot>>,
}

impl Trial {
    /// To its verdict. After a fault of the host's it is the verdict that was written down, if there is one; else the old
    /// revision comes back.
    pub async fn own(self) {
        let recorder = self.changes.services.recorder.clone();
        let survivor = Survivor::new(Box::new(self));
        let Some(mut held) = survivor.hold() else { return };
        let owned = panics::guarded(async move {
            if held.begin().await {
                held.watch().await;
            }
        });
        let (Err(fault), Some(mut trial)) = (owned.await, survivor.take()) else { return };
        let part = format!("the owner of the trial of {:?}", trial.claim.worker);
        recorder.emit(Event::HostFault { part: part.clone(), fault: fault.clone() });
        // Should that fail as well, the worker goes back by itself: nobody owns its trial.
        recorder.watched(&part, async move { trial.after_fault(fault).await }).await;
    }

    /// The claim goes first: whoever hears of the outcome may begin the next change.
    fn tell(&mut self, outcome: &Outcome) {
        self.claim.release();
        for tell in self.tell.drain(..) {
            let _ = tell.send(outcome.clone());
        }
    }

    /// It is about to wait for something: a test may have it panic here.
    #[track_caller]
    fn at(&self) {
        self.changes.services.fuses.at(&self.claim.worker);
    }

    async fn after_fault(&mut self, fault: HostFault) {
        let outcome = match self.decided.clone() {
            Some((state, why)) => Some(self.settle(state, why).await),
            None => self.roll_back(format!("a fault of the host: {fault}"), Blame::Nobody).await,
        };
        if let Some(outcome) = outcome {
            self.tell(&outcome);
        }
    }

    /// Until there is a verdict.
    async fn watch(&mut self) {
        let mut health_at = self.changes.services.clock.now().after(self.settings.upgrade.health_interval);
        loop {
            self.at();
            let Some(sign) = self.next(&mut health_at).await else { continue };
            // Skip the host's orders about another component, or about an operator's own upgrade. Dropping `asked` answers
            // "not in probation".
            if let Seen::Operator(Order::Withdraw(of) | Order::Supersede(of)) = sign.seen
                && (of != self.record.component || self.record.by == By::Operator)
            {
                continue;
            }
            // Whoever gave an order hears what came of it, even where something else came first.
            self.tell.extend(sign.asked);
            let outcome = match verdict(&sign.seen) {
                Verdict::GoOn => continue,
                Verdict::Commit { why } => self.commit(why, sign.stopped).await,
                Verdict::RollBack { why } => {
                    // A guest's own faults are failures; it is only ever killed by others. Nor is a fault of the
                    // host's the component's.
                    let blameless = match &sign.seen {
                        Seen::Failed(reason) => *reason == ExitReason::Killed || reason.is_host_fault(),
                        Seen::Operator(order) => matches!(order, Order::Supersede(_)),
                        _ => false,
                    };
                    // A want of room may be that of others: it is no reason to take the component from all keys.
                    let of_others = matches!(&sign.seen, Seen::Failed(reason) if !reason.is_of_the_component());
                    let blame = if blameless { Blame::Nobody } else { Blame::Component };
                    let outcome = self.roll_back(why, blame).await;
                    match outcome {
                        Some(Outcome::RolledBack { why, replayed, .. }) if of_others => {
                            Some(Outcome::RolledBack { why, replayed, blame: Blame::Nobody })
                        }
                        outcome => outcome,
                    }
                }
            };
            let Some(outcome) = outcome else { continue };
            return self.tell(&outcome);
        }
    }

    /// Writes down that it serves on trial. Where that cannot be written it cannot be on trial.
    async fn begin(&mut self) -> bool {
        self.at();
        let name = self.claim.worker.clone();
        let how = if self.has_time { "in probation" } else { "without probation" };
        let detail = format!("revision {} serves, {how}", self.record.number);
        let entry =
            self.changes.entry(&name, Action::UpgradeSwitched, Some(self.record.component), self.record.by, detail);
        let changes = vec![Change::PutRevision(name, self.record.clone()), entry];
        let Err(error) = self.changes.services.database.commit(changes).await else { return true };
        let outcome = self.roll_back(format!("the switch could not be written down: {error}"), Blame::Nobody).await;
        if let Some(outcome) = outcome {
            self.tell(&outcome);
        }
        false
    }

    async fn next(&mut self, health_at: &mut Tick) -> Option<Sign> {
        let now = self.changes.services.clock.now();
        let sign = |seen| Some(Sign { seen, asked: None, stopped: None });
        let asks_health = self.worker.status().exports.health;
        let next_health = if asks_health { *health_at } else { self.until };
        tokio::select! {
            biased;
            event = self.events.recv() => match event {
                Some(TrialEvent::Failed(reason)) => sign(Seen::Failed(reason)),
                Some(TrialEvent::Full { bound, value }) => sign(Seen::Full { bound, value }),
                Some(TrialEvent::Enough) => sign(Seen::Enough),
                Some(TrialEvent::Stopped { state }) => {
                    Some(Sign { seen: Seen::Stopped, asked: None, stopped: Some(state) })
                }
                // The worker's task is gone without a word.
                None => sign(Seen::Failed(ExitReason::Killed)),
            },
            Some((order, done)) = self.orders.recv() => {
                Some(Sign { seen: Seen::Operator(order), asked: Some(done), stopped: None })
            }
            () = tokio::time::sleep(self.until.since(now)) => sign(if self.has_time { Seen::TimeUp } else { Seen::NoTime }),
            () = tokio::time::sleep(next_health.since(now)), if asks_health => {
                *health_at = self.changes.services.clock.now().after(self.settings.upgrade.health_interval);
                self.health().await
            }
        }
    }

    async fn health(&mut self) -> Option<Sign> {
        // `None`, or an error: the instance ended over it, and its event follows.
        let health = self.worker.ask_as_owner(|done| System::Health { done }).await.ok().flatten()?;
        Some(Sign { seen: Seen::Health(health), asked: None, stopped: None })
    }

    /// The state and the decision are written in one transaction; then the old instance goes. `None`:
    /// the new one ended over it, and the trial goes on to that.
    async fn commit(&mut self, why: String, stopped: Option<Option<Snapshot>>) -> Option<Outcome> {
        self.at();
        let state = match &stopped {
            Some(state) => state.clone(),
            None if self.worker.is_durable() => match self.worker.ask_as_owner(|done| System::Save { done }).await {
                Ok(Ok(snapshot)) => Some(snapshot),
                // It ended over it, and its event follows.
                Ok(Err(NoState::Died(_) | NoState::Nothing)) => return None,
                // Without its state it cannot be kept.
                Ok(Err(error)) => {
                    return self.roll_back(format!("it could not be committed: {error}"), Blame::Component).await;
                }
                Err(error) => {
                    return self.roll_back(format!("it could not be committed: {error}"), Blame::Nobody).await;
                }
            },
            None => {
                // A message boundary: what has failed by then is known.
                let _ = self.worker.ask_as_owner(|done| System::Health { done }).await;
                None
            }
        };
        if stopped.is_none() && !self.events.is_empty() {
            return None;
        }
        self.at();
        let decided = (why.as_str(), by_whom(&why));
        let written = match self.changes.committed(&self.worker, &self.record, self.from, state.clone(), decided) {
            Ok(changes) => self.changes.services.database.commit(changes).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            return self
                .roll_back(format!("the decision to commit could not be written down: {error}"), Blame::Nobody)
                .await;
        }
        self.decided = Some((state.clone(), why.clone()));
        Some(self.settle(state, why).await)
    }

    /// What was written down is so. If it stopped or failed this moment, the decision stands all the same: the worker
    /// sees to it.
    async fn settle(&mut self, state: Option<Snapshot>, why: String) -> Outcome {
        self.at();
        for _ in 0..ASKED_MAX {
            let settled = self.worker.ask_as_owner(|done| System::Settle { state: state.clone(), done }).await;
            // Else it has left, or has done so.
            if settled != Err(AskError::Ended) {
                break;
            }
        }
        let (worker, revision) = (self.claim.worker.clone(), self.record.number);
        self.changes.services.recorder.emit(Event::UpgradeCommitted { worker, revision, why: why.clone() });
        Outcome::Committed { why }
    }

    async fn roll_back(&mut self, why: String, blame: Blame) -> Option<Outcome> {
        self.at();
        let name = self.claim.worker.clone();
        let database = &self.changes.services.database;
        let (hash, number) = (self.record.component, self.record.number);
        let by = by_whom(&why);
        let detail = format!("revision {number}: {why}");
        let intent = self.changes.entry(&name, Action::RollbackStarted, Some(hash), by, detail.clone());
        // Remembered with the intent: should this revision take the host down, it is not tried again. The history says so
        // before the old revision answers anybody.
        let record =
            RevisionRecord { verdict: crate::record::Verdict::RolledBack, note: why.clone(), ..self.record.clone() };
        let mut changes = vec![Change::PutRevision(name.clone(), record.clone()), intent];
        if blame == Blame::Component {
            changes.push(self.changes.rejection(&name, hash, format!("rolled back: {why}")));
        }
        if let Err(error) = database.commit(changes).await {
            self.database_failed("write that a rollback began", error.to_string());
        }
        self.at();
        let how = self.settings.upgrade.on_rollback;
        // An error means that the worker has left the tree: there is nothing to put back.
        let mut reverted = self.worker.ask_as_owner(|done| System::Revert { how, done }).await;
        for _ in 1..ASKED_MAX {
            if !matches!(reverted, Err(AskError::Ended)) {
                break;
            }
            reverted = self.worker.ask_as_owner(|done| System::Revert { how, done }).await;
        }
        let replayed = reverted.ok().and_then(Result::ok).map_or(0, |reverted| reverted.replayed);
        self.at();
        let detail = format!("{detail}; {replayed} messages handed over");
        let entry = self.changes.entry(&name, Action::RolledBack, Some(self.from), by, detail);
        // The record again, where it could not be written before.
        let mut changes = vec![Change::PutRevision(name.clone(), record), entry];
        if by == By::Operator
            && let Ok(Some(worker)) = database.worker(&name)
            && worker.file == Some(hash)
        {
            // By command, and against the file: an override of it.
            changes.push(Change::Overridden(name.clone()));
        }
        if let Err(error) = database.commit(changes).await {
            self.database_failed("write that a revision was rolled back", error.to_string());
        }
        let event = Event::RolledBack { worker: name, revision: number, to: self.from, replayed, reason: why.clone() };
        self.changes.services.recorder.emit(event);
        Some(Outcome::RolledBack { why, replayed, blame })
    }

    fn database_failed(&self, what: &'static str, error: String) {
        self.changes.services.recorder.emit(Event::DatabaseFailed { what, error });
    }
}

/// An operator's word, or probation's verdict.
fn by_whom(why: &str) -> By {
    if why == super::probation::BY_OPERATOR { By::Operator } else { By::Host }
}
