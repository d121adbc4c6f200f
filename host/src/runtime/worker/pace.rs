//! A worker's share of the processor, as its instances see it; and the count of all they used.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::base::Clock;
use crate::sandbox::{Charged, Pace};

/// One for each instance; all of a worker's run on its one share.
pub struct WorkerPace {
    pub worker: Arc<Shared>,
    pub clock: Clock,
}

impl Pace for WorkerPace {
    fn is_bounded(&self) -> bool {
        self.worker.cpu.is_bounded()
    }

    fn charge(&self, fuel: u64) {
        if self.is_bounded() {
            let now = self.clock.now();
            self.worker.cpu.each(|bucket| bucket.charge(now, fuel));
        }
    }

    fn wait(&self) -> Option<Duration> {
        let ready = self.worker.cpu.ready_at(&self.clock)?;
        Some(ready.since(self.clock.now()))
    }

    fn used(&self, fuel: u64, charged: Charged) {
        self.worker.counters.used(fuel);
        if !self.is_bounded() {
            return;
        }
        let now = self.clock.now();
        self.worker.cpu.each(|bucket| match charged {
            Charged::BySlices(slices) if slices > fuel => bucket.give_back(now, slices - fuel),
            Charged::BySlices(slices) => bucket.charge(now, fuel - slices),
            Charged::NotYet => bucket.charge_unspread(now, fuel),
            Charged::Never => {}
        });
    }
}
