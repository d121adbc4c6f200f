//! Where the state of a worker that hibernates is kept: in memory while there is room for it, beyond that
//! in the database alone.
//!
//! What goes away is on disk already, so nothing is written for it. Whatever wakes the worker's task
//! brings the state back first: nobody but this file knows that it was away.

use super::driver::Driver;
use crate::base::{ExitReason, Failure, Payload, Snapshot};

impl Driver {
    /// Sees to where the state of one that sleeps is kept, after each thing that was done.
    pub(super) fn put_away(&mut self) {
        let Some(asleep) = &self.asleep else {
            self.room = None;
            return;
        };
        if self.room.is_some() || self.away {
            return;
        }
        self.room = self.services.residents.keep(asleep.len() as u64);
        // In this order: how a write ended is noted before it is seen to have ended.
        let is_written = self.writing.as_ref().is_none_or(|writing| writing.is_finished());
        let is_on_disk = is_written && self.durable() && !self.is_dirty() && self.saved.as_deref() == Some(asleep);
        if self.room.is_none() && is_on_disk {
            let stand_in = Snapshot { data: Payload::default(), ..asleep.clone() };
            self.saved = Some(Box::new(stand_in.clone()));
            self.asleep = Some(stand_in);
            self.away = true;
        }
    }

    /// Brings its state back. What it cannot be read for ends it like a fault, and the next start tries
    /// again: it never goes on without it.
    pub(super) async fn recall(&mut self) -> Result<(), ExitReason> {
        if !self.away {
            return Ok(());
        }
        let (database, name) = (self.services.database.clone(), self.shared.name().clone());
        self.at();
        let read = tokio::task::spawn_blocking(move || database.snapshot(&name)).await;
        let why = match read {
            Ok(Ok(Some(record))) => {
                if self.asleep.is_some() {
                    self.asleep = Some(record.snapshot.clone());
                }
                self.saved = Some(Box::new(record.snapshot));
                self.away = false;
                return Ok(());
            }
            Ok(Ok(None)) => "it is not in the database".to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(ExitReason::Failed(Failure::NotStartable(format!("its state could not be read back: {why}"))))
    }
}
