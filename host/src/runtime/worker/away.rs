//! Where the state of a worker that hibernates is kept: in memory while there is room for it, beyond that
//! in the database alone.
//!
//! What goes away is on disk already, so nothing is written for it. Whatever wakes the worker's task
//! brings the state back first: nobody but this file knows that it was away.

use super::driver::Driver;
use crate::base::{ExitReason, Failure, Payload, Snapshot, bounds};
use crate::runtime::residents::AsleepBytes;

impl Driver {
    /// Sees to where the state of one that sleeps is kept, after each thing that was done.
    pub(super) fn put_away(&mut self) {
        let Some(asleep) = &self.asleep else { return self.count_saved() };
        if self.room.is_some() || self.away {
            return;
        }
        let account = self.services.accounts.of(self.shared.name());
        self.room = self.services.residents.keep(asleep.len() as u64, &account);
        // In this order: how a write ended is noted before it is seen to have ended.
        let is_written = self.writing.as_ref().is_none_or(|writing| writing.is_finished());
        let is_on_disk = is_written && self.durable() && !self.is_dirty() && self.saved.as_deref() == Some(asleep);
        if self.room.is_none() && is_on_disk {
            let stand_in = Snapshot { data: Payload::default(), ..asleep.clone() };
            self.saved = Some(Box::new(stand_in.clone()));
            self.asleep = Some(stand_in);
            self.away = true;
        } else if self.room.is_none() && is_written {
            // It did not get to the disk, and must not be lost.
            self.room = Some(AsleepBytes::anyway(&account, asleep.len() as u64));
        }
    }

    /// The snapshot that one which is awake, or down, would continue from. It is there anyway: an instance of that size
    /// was charged when it was taken. What is small is not counted.
    fn count_saved(&mut self) {
        let saved = self.saved.as_ref().filter(|_| !self.away).map_or(0, |saved| saved.len() as u64);
        let counts = if saved > bounds::ACCOUNT_STEP_BYTES { saved } else { 0 };
        let counted = self.room.as_ref().map(AsleepBytes::of_awake);
        if counted.unwrap_or(Some(0)) != Some(counts) {
            let account = self.services.accounts.of(self.shared.name());
            self.room = (counts > 0).then(|| AsleepBytes::anyway(&account, counts));
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
        let read = crate::record::blocking(move || database.snapshot(&name)).await;
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
