//! An upgrade tried on a copy of the state, with nothing at stake: in a scratch instance, whose
//! calls reach nobody.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Account, CallId, Clock, ExitReason, Failure, Limit, MonitorId, Payload, Snapshot, TimerId};
use crate::runtime::spec::WorkerSettings;
use crate::runtime::worker::too_slow;
use crate::sandbox::{
    CallError, Callee, Calling, Component, Context, Health, Instance, InstanceError, LogLevel, LogSink, Outside,
    StartChildError, Waiting,
};

/// What a rehearsal learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// From the call of `upgrade-state` to the answer of `health`.
    pub took: Duration,
    /// Fuel that `upgrade-state` used.
    pub fuel: u64,
    pub memory: u64,
    /// The state before and after; `None` where the worker has none.
    pub before: Option<Snapshot>,
    pub after: Option<Snapshot>,
    /// `None`: it does not say how it is.
    pub health: Option<Health>,
    /// A command is not rehearsed.
    pub has_run: bool,
}

impl Rehearsal {
    /// A command has no state and nothing to rehearse: it was instantiated when it was verified.
    pub fn of_command() -> Rehearsal {
        Rehearsal { took: Duration::ZERO, fuel: 0, memory: 0, before: None, after: None, health: None, has_run: false }
    }
}

/// Runs `upgrade-state`, `restore-state`, `resume` and `health` in a scratch instance with the
/// worker's limits; `init` in the place of the first three where there is no state.
pub async fn rehearse(
    component: &Component,
    before: Option<Snapshot>,
    context: &Context,
    settings: &WorkerSettings,
    clock: &Clock,
    account: &Arc<Account>,
) -> Result<Rehearsal, Failure> {
    let made = Instance::create(
        component,
        &settings.limits,
        &settings.grants.for_rehearsal(),
        Box::new(Nobody { account: Some(account.clone()) }),
        Arc::new(Nobody::default()),
    )
    .await;
    let mut instance = made.map_err(|error| match error {
        InstanceError::Failed(failure) => failure,
        InstanceError::Component(error) => Failure::NotStartable(error.to_string()),
        no_room @ InstanceError::NoRoom(_) => Failure::NotStartable(no_room.to_string()),
    })?;
    let migrate = settings.upgrade.migrate;
    let begun = clock.now();
    let work = async {
        let mut fuel = 0;
        let after = match &before {
            Some(old) => {
                let after = instance.upgrade_state(old, migrate).await;
                let after = after.map_err(|fault| fault.into_failure("upgrade-state"))?;
                fuel = instance.fuel_used(settings.limits.fuel);
                let restored = instance.restore(&after, context).await;
                restored.map_err(|fault| fault.into_failure("restore-state"))?;
                Some(after)
            }
            None => {
                instance.init(context).await.map_err(|fault| fault.into_failure("init"))?;
                None
            }
        };
        let health = instance.health().await.map_err(|fault| fault.into_failure("health"))?;
        if let Health::Critical(why) = &health {
            return Err(Failure::Refused { export: "health", message: format!("critical: {why}") });
        }
        Ok((after, fuel, health))
    };
    let done = tokio::time::timeout(migrate, work).await;
    let (after, fuel, health) = done.unwrap_or_else(|_| Err(too_slow(migrate)))?;
    let health = component.exports().health.then_some(health);
    Ok(Rehearsal {
        took: clock.now().since(begun),
        fuel,
        memory: instance.memory(),
        before,
        after,
        health,
        has_run: true,
    })
}

/// The outside of a rehearsal: whatever the guest sends is taken and goes nowhere, and calls find
/// nobody who answers.
#[derive(Default)]
pub struct Nobody {
    /// What the memory of the instance is charged to.
    pub account: Option<Arc<Account>>,
}

impl LogSink for Nobody {
    fn line(&self, _: LogLevel, _: &str) {}
}

impl Outside for Nobody {
    fn account(&self) -> Option<Arc<Account>> {
        self.account.clone()
    }

    fn sent_last_to(&self, _: &str) -> bool {
        false
    }

    fn call<'a>(&'a mut self, _: Callee<'a>, _: Payload, _: Option<Duration>) -> Calling<'a> {
        Calling::Ended(Err(CallError::Timeout))
    }

    fn cast(&mut self, _: &str, _: Payload) -> Result<(), CallError> {
        Ok(())
    }

    fn reply(&mut self, _: CallId, _: Result<Payload, String>) -> bool {
        true
    }

    fn caller(&mut self, _: CallId) -> Option<String> {
        None
    }

    fn send_after(&mut self, _: Duration, _: Payload) -> Result<TimerId, Limit> {
        Ok(TimerId(0))
    }

    fn cancel(&mut self, _: TimerId) -> bool {
        true
    }

    fn join(&mut self, _: &str) {}

    fn leave(&mut self, _: &str) {}

    fn members(&mut self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn broadcast(&mut self, _: &str, _: Payload) -> u32 {
        0
    }

    fn monitor(&mut self, _: &str) -> Result<MonitorId, Limit> {
        Ok(MonitorId(0))
    }

    fn demonitor(&mut self, _: MonitorId) {}

    fn start_child<'a>(
        &'a mut self,
        _: &'a str,
        _: &'a str,
        _: &'a str,
    ) -> Waiting<'a, Result<String, StartChildError>> {
        Box::pin(std::future::ready(Err(StartChildError::NotPermitted)))
    }

    fn stop_child<'a>(&'a mut self, _: &'a str) -> Waiting<'a, bool> {
        Box::pin(std::future::ready(false))
    }

    fn count(&mut self, _: &str, _: u64) {}

    fn gauge(&mut self, _: &str, _: f64) {}

    fn stop(&mut self, _: ExitReason) {}

    fn hibernate(&mut self) {}
}
