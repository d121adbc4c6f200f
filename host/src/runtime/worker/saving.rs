//! When a worker's state is saved, and how it gets to the disk.

use std::sync::atomic::Ordering::Relaxed;

use super::driver::{Driver, Live};
use super::system::NoState;
use crate::base::{ExitReason, Snapshot, panics};
use crate::record::{Change, Event, SnapshotRecord};
use crate::runtime::spec::Durability;
use crate::sandbox::Fault;

/// Why a snapshot is taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    ByCount,
    ByTime,
}

impl Driver {
    /// Whether something happened since the last snapshot that reached the disk.
    pub(super) fn is_dirty(&self) -> bool {
        self.unsaved > 0 || self.shared.unwritten.load(Relaxed)
    }

    /// Whether its state outlives an instance.
    pub(super) fn durable(&self) -> bool {
        let snapshots = self.settings.durability.unwrap_or(Durability::Snapshot) == Durability::Snapshot;
        snapshots && self.component.exports().state
    }

    /// Whether snapshots are taken by the way. Not on trial: what counts then is the old state and
    /// the kept messages.
    pub(super) fn saves(&self) -> bool {
        let serves = matches!(self.live, Some(Live::Worker(_))) || self.asleep.is_some();
        self.durable() && self.trial.is_none() && serves
    }

    pub(super) async fn save_if_due(&mut self, by_time: bool) {
        if !self.saves() || !(by_time || self.unsaved >= self.settings.snapshot.messages) {
            if !self.saves() {
                self.saved_at = self.services.clock.now();
            }
            return;
        }
        match self.save_state().await {
            Ok(snapshot) => self.keep(snapshot, if by_time { Due::ByTime } else { Due::ByCount }).await,
            Err(NoState::Died(reason)) => self.ended(reason).await,
            Err(error) => self.snapshot_failed(error.to_string()),
        }
    }

    pub(super) async fn save_now(&mut self) -> Result<Snapshot, NoState> {
        if !matches!(self.live, Some(Live::Worker(_))) {
            if self.trial.is_some() {
                // What was saved last is the old revision's; the new one left nothing.
                return Err(NoState::Nothing);
            }
            if self.away {
                return Err(NoState::Refused("its state could not be read back".to_string()));
            }
            return self.asleep.clone().or_else(|| self.saved.as_deref().cloned()).ok_or(NoState::Nothing);
        }
        let result = self.save_state().await;
        if let Err(NoState::Died(reason)) = &result {
            self.ended(reason.clone()).await;
        }
        result
    }

    /// Asks the live instance for its state; what is kept of one that hibernates. After `Died` the caller must end the instance.
    pub(super) async fn save_state(&mut self) -> Result<Snapshot, NoState> {
        if let Some(snapshot) = &self.asleep {
            self.saved_at = self.services.clock.now();
            return Ok(snapshot.clone());
        }
        let Some(Live::Worker(instance)) = &mut self.live else { return Err(NoState::Nothing) };
        if !self.component.exports().state {
            return Err(NoState::NotExported);
        }
        self.saved_at = self.services.clock.now();
        self.services.fuses.at(self.shared.name());
        match instance.save().await {
            Ok(snapshot) => Ok(snapshot),
            Err(Fault::Refused(why)) => Err(NoState::Refused(why)),
            Err(Fault::Dead(failure)) => Err(NoState::Died(ExitReason::Failed(failure))),
        }
    }

    /// Keeps a snapshot for the next instance, and hands it to the database without waiting for the
    /// disk. One at a time is on its way: when the next is due by the count of messages, it waits for
    /// the one before, so that a crash of the host loses no more than twice that many; when it is due
    /// by time, the next due time brings the newest.
    pub(super) async fn keep(&mut self, snapshot: Snapshot, due: Due) {
        let change = self.snapshot_change(&snapshot);
        self.away = false;
        self.saved = Some(Box::new(snapshot));
        self.shared.desk().saved();
        self.at();
        if let Some(writing) = self.writing.take_if(|writing| due == Due::ByCount || writing.is_finished()) {
            // A panic in it has been told.
            let _ = writing.await;
        }
        if self.writing.is_some() {
            return;
        }
        match self.services.database.submit(vec![change]) {
            Ok(pending) => {
                self.unsaved = 0;
                let (recorder, worker) = (self.services.recorder.clone(), self.shared.name().clone());
                let shared = self.shared.clone();
                self.writing = Some(tokio::spawn(async move {
                    let written = panics::guarded(pending).await;
                    let failed = match written {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(error.to_string()),
                        Err(fault) => Some(fault.to_string()),
                    };
                    shared.unwritten.store(failed.is_some(), Relaxed);
                    if let Some(error) = failed {
                        recorder.emit(Event::SnapshotFailed { worker, error });
                    }
                }));
            }
            Err(error) => self.snapshot_failed(error.to_string()),
        }
    }

    /// Keeps a snapshot, and waits until it is on disk.
    pub(super) async fn keep_durably(&mut self, snapshot: Snapshot) {
        let change = self.snapshot_change(&snapshot);
        self.away = false;
        self.saved = Some(Box::new(snapshot));
        self.shared.desk().saved();
        self.unsaved = 0;
        if let Some(writing) = self.writing.take() {
            self.at();
            // Its verdict must not come after ours.
            let _ = writing.await;
        }
        self.at();
        let written = self.services.database.commit(vec![change]).await;
        self.shared.unwritten.store(written.is_err(), Relaxed);
        if let Err(error) = written {
            self.snapshot_failed(error.to_string());
        }
    }

    pub(super) fn snapshot_change(&self, snapshot: &Snapshot) -> Change {
        let record = SnapshotRecord {
            component: self.component.hash(),
            revision: self.revision,
            snapshot: snapshot.clone(),
            at: self.services.clock.timestamp(),
            messages: self.shared.counters.handled.load(Relaxed),
        };
        Change::PutSnapshot(self.shared.name().clone(), record)
    }

    pub(super) fn snapshot_failed(&self, error: String) {
        self.services.recorder.emit(Event::SnapshotFailed { worker: self.shared.name().clone(), error });
    }
}
