//! How a worker's health is asked, and what is remembered of it: on a schedule by its own task, in
//! probation by the owner of the trial.

use super::driver::{Driver, Live};
use super::handle::exit_reason;
use crate::base::Tick;
use crate::record::Event;
use crate::sandbox::{Fault, Health};

impl Driver {
    /// When it is asked next by itself. Not on trial: then its owner asks.
    pub(super) fn health_due(&self) -> Option<Tick> {
        let asks = self.component.exports().health && self.trial.is_none();
        // In debt it would wait inside the call, with its deadline running.
        let pays = self.shared.cpu.ready_at(&self.services.clock).is_none();
        (asks && matches!(self.live, Some(Live::Worker(_))) && pays).then_some(self.health_at)
    }

    /// Another instance serves from now on. What the one before said last holds until it is asked: at
    /// once if that was bad.
    pub(super) fn ask_health_anew(&mut self, now: Tick) {
        let was_well = self.shared.status().health.is_none_or(|(health, _)| health == Health::Healthy);
        self.health_at = if was_well { now.after(self.settings.health_interval) } else { now };
    }

    /// Asks `health.check`, and says so where the answer is another word than the last time. No
    /// message: nothing is counted. `None` where nothing runs, or it ended over it, as over a message.
    pub(super) async fn health(&mut self) -> Option<Health> {
        if self.asleep.is_some() {
            // Nothing happened to it since it was asked the last time, if it ever was.
            return Some(self.shared.status().health.map_or(Health::Healthy, |(health, _)| health));
        }
        self.at();
        let Some(Live::Worker(instance)) = &mut self.live else { return None };
        let result = tokio::select! {
            biased;
            result = instance.health() => result.map_err(Some),
            () = self.shared.kill.notified() => Err(None),
        };
        let health = match result {
            Ok(health) => health,
            Err(Some(Fault::Refused(_))) => Health::Healthy,
            Err(dead) => {
                self.ended(exit_reason(dead)).await;
                return None;
            }
        };
        self.remember(&health);
        let stop = self.shared.desk().stop.take();
        if let Some(reason) = stop {
            self.stopped_itself(reason).await;
        }
        Some(health)
    }

    fn remember(&self, health: &Health) {
        let at = self.services.clock.timestamp();
        let mut before = None;
        self.shared.update(|status| before = status.health.replace(Box::new((health.clone(), at))));
        let was = before.as_deref().map_or(Health::Healthy.word(), |(health, _)| health.word());
        if was != health.word() {
            let (worker, status) = (self.shared.name().clone(), health.to_string());
            self.services.recorder.emit(Event::HealthChanged { worker, status });
        }
    }
}
