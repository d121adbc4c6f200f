//! The switch of an upgrade inside the worker: replace, then settle or revert. Each either happens
//! whole or leaves the worker as it was.

use std::collections::VecDeque;

use super::desk::{Holdings, SendTape};
use super::door::carry_out;
use super::driver::{Driver, Live};
use super::shared::Standing;
use super::system::{CalledOff, NoState, NoTrial, Replace, Reverted, Switched};
use super::trial::{Before, Trial};
use crate::base::{ExitReason, Failure, Limit, Snapshot};
use crate::record::Event;
use crate::runtime::message::Message;
use crate::runtime::spec::OnRollback;
use crate::sandbox::{CallError, Component, Context, Fault, Instance};

impl Driver {
    /// At a message boundary: asks the old instance for its state, has the new one take it, and
    /// hands it the mailbox.
    pub async fn replace(&mut self, replace: Replace) {
        let Replace { instance, component, revision, migrate, terms, done } = replace;
        if done.is_closed() {
            // It took too long to come to this boundary: the upgrade was called off meanwhile.
            return;
        }
        let begun = self.services.clock.now();
        if self.live.is_none() || self.trial.is_some() {
            let reason = "it does not run, or is in probation".to_string();
            let _ = done.send(Err(CalledOff { phase: "quiesced", reason }));
            return;
        }
        let mark = self.shared.desk().mark();
        let moved = match instance {
            Some(instance) => self.move_state(instance, &component, migrate).await,
            None => self.change_command(&component).await,
        };
        let (live, before) = match moved {
            Ok(moved) => moved,
            Err(called_off) => {
                self.put_back(mark, &[]);
                let _ = done.send(Err(called_off));
                return;
            }
        };
        let old = match self.live.replace(live) {
            Some(Live::Worker(instance)) => Some(*instance),
            Some(Live::Command(running)) => {
                running.abort();
                None
            }
            None => None,
        };
        if let Some(state) = &before {
            // What a crash of the old revision would continue from, should it come back.
            self.keep(state.clone());
        }
        let before_switch = Before {
            instance: old,
            component: self.component.clone(),
            revision: self.revision,
            state: before.clone(),
            desk: mark,
        };
        self.become_revision(component, revision);
        self.trial = Some(Trial::new(before_switch, terms));
        let now = self.services.clock.now();
        self.shared.stand(Standing::Probation, now);
        self.count_instances();
        let _ = done.send(Ok(Switched { pause: now.since(begun), before }));
    }

    /// The new instance takes over the old one's state; where the old one has none it starts afresh.
    async fn move_state(
        &mut self,
        mut new: Instance,
        component: &Component,
        migrate: std::time::Duration,
    ) -> Result<(Live, Option<Snapshot>), CalledOff> {
        let before = if self.component.exports().state {
            match self.save_state().await {
                Ok(snapshot) => Some(snapshot),
                Err(error) => {
                    let called_off = CalledOff { phase: "quiesced", reason: error.to_string() };
                    if let NoState::Died(reason) = error {
                        self.ended(reason).await;
                    }
                    return Err(called_off);
                }
            }
        } else {
            None
        };
        let context = Context { component: component.hash(), ..self.context() };
        let work = take_over(&mut new, before.as_ref(), &context, migrate);
        let taken = tokio::time::timeout(migrate, work).await;
        let taken = taken.unwrap_or_else(|_| Err(too_slow(migrate)));
        taken.map_err(|failure| CalledOff { phase: "migrated", reason: failure.to_string() })?;
        Ok((Live::Worker(Box::new(new)), before))
    }

    /// A command has no boundary and no state: the running one ends, the new one begins.
    async fn change_command(&mut self, component: &Component) -> Result<(Live, Option<Snapshot>), CalledOff> {
        let old = std::mem::replace(&mut self.component, component.clone());
        let live = self.bring_up(None).await;
        self.component = old;
        live.map(|live| (live, None)).map_err(|reason| CalledOff { phase: "migrated", reason: reason.to_string() })
    }

    /// The trial ended well, and that is written down: the old instance goes.
    pub async fn settle(&mut self, state: Option<Snapshot>) -> Result<(), NoTrial> {
        let Some(trial) = self.trial.take() else { return Err(NoTrial) };
        self.saved = state;
        if self.live.is_some() {
            self.shared.stand(Standing::Running, self.services.clock.now());
            self.count_instances();
            return Ok(());
        }
        // It failed between the decision and this: a crash like any other. Whoever waits for an
        // answer that the next instance knows nothing of is told.
        let reason = trial.failed.clone().unwrap_or(ExitReason::Killed);
        let (_, kept) = trial.into_parts();
        for kept in kept {
            if let Message::Call(call) = kept.message
                && !self.shared.desk().is_open(call.id)
            {
                call.reply.answer(Err(CallError::Down(reason.clone())));
            }
        }
        self.ended(reason).await;
        Ok(())
    }

    /// The trial ends in a stop that left no state: the next start is on the old revision, with the
    /// old state and the messages since.
    pub fn abandon(&mut self, trial: Trial) {
        let spent = trial.spent();
        let (before, kept) = trial.into_parts();
        self.become_revision(before.component, before.revision);
        if before.state.is_some() {
            self.saved = before.state;
        }
        self.put_back(before.desk, &spent);
        self.replay = kept;
    }

    /// The old instance comes back with its state from before the switch, and gets every message
    /// the new one took.
    pub async fn revert(&mut self, how: OnRollback) -> Reverted {
        let Some(trial) = self.trial.take() else { return Reverted { replayed: 0 } };
        let newer = if how == OnRollback::Downgrade { self.save_state().await.ok() } else { None };
        self.drop_live();
        let spent = trial.spent();
        let (before, kept) = trial.into_parts();
        let migrate = self.settings.upgrade.migrate;
        self.become_revision(before.component, before.revision);
        self.shared.desk().tape = SendTape::Off;

        let downgraded = match newer {
            Some(newer) => self.downgrade(newer, migrate).await,
            None => None,
        };
        let (live, replay) = match (downgraded, how) {
            (Some(live), _) => (Ok(live), VecDeque::new()),
            (None, OnRollback::Drop) => {
                self.put_back(before.desk, &spent);
                self.let_go(kept.len());
                (self.old_instance(before.instance, before.state).await, VecDeque::new())
            }
            (None, OnRollback::Replay | OnRollback::Downgrade) => {
                self.put_back(before.desk, &spent);
                (self.old_instance(before.instance, before.state).await, kept)
            }
        };
        let replayed = replay.len();
        self.replay = replay;
        match live {
            Ok(live) => {
                self.live = Some(live);
                self.shared.stand(Standing::Running, self.services.clock.now());
                self.count_instances();
            }
            // Nothing is left that runs: the supervisor starts the old revision from its snapshot,
            // and the messages wait for it.
            Err(reason) => self.ended(reason).await,
        }
        Reverted { replayed }
    }

    async fn old_instance(&mut self, kept: Option<Instance>, state: Option<Snapshot>) -> Result<Live, ExitReason> {
        match kept {
            Some(instance) => Ok(Live::Worker(Box::new(instance))),
            None => self.bring_up(state).await,
        }
    }

    /// A fresh instance of the old component that took the newer state, if it can.
    async fn downgrade(&mut self, newer: Snapshot, migrate: std::time::Duration) -> Option<Live> {
        let limits = self.settings.limits.clone();
        let door = super::door(&self.shared, &self.services);
        let log = super::log(&self.shared, &self.services, limits.log_lines);
        let made = Instance::create(&self.component, &limits, &self.settings.grants, door, log).await;
        let mut instance = made.ok()?;
        let context = self.context();
        let taken = tokio::time::timeout(migrate, take_over(&mut instance, Some(&newer), &context, migrate)).await;
        matches!(taken, Ok(Ok(()))).then(|| Live::Worker(Box::new(instance)))
    }

    fn put_back(&mut self, mark: Holdings, spent: &[super::desk::Spent]) {
        let change = self.shared.desk().put_back(mark, spent);
        carry_out(change, self.shared.name(), &self.services);
    }

    fn let_go(&self, messages: usize) {
        let worker = self.shared.name().clone();
        self.services.recorder.emit(Event::BoundReached {
            worker,
            bound: "dropped-by-rollback",
            value: messages as u64,
        });
    }
}

/// `upgrade-state`, `restore-state`, `resume`; or `init` where there is no state to take over.
pub async fn take_over(
    new: &mut Instance,
    before: Option<&Snapshot>,
    context: &Context,
    migrate: std::time::Duration,
) -> Result<(), Failure> {
    let Some(before) = before else {
        return new.init(context).await.map_err(|fault| fault.into_failure("init"));
    };
    let snapshot = new.upgrade_state(before, migrate).await.map_err(|fault| fault.into_failure("upgrade-state"))?;
    new.restore(&snapshot, context).await.map_err(|fault: Fault| fault.into_failure("restore-state"))
}

/// The failure that names the migration's time.
pub fn too_slow(migrate: std::time::Duration) -> Failure {
    Failure::Limit(Limit::Deadline(u64::try_from(migrate.as_millis()).unwrap_or(u64::MAX)))
}
