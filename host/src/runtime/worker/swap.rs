//! The switch of an upgrade inside the worker: replace, then settle or revert. Each either happens
//! whole or leaves the worker as it was.

use super::desk::{Holdings, SendTape};
use super::door::carry_out;
use super::driver::{Driver, Live};
use super::ending::{Asked, PendingStop};
use super::guard::Sign;
use super::rescue::InHand;
use super::saving::Due;
use super::shared::Standing;
use super::start::NotUp;
use super::system::{Blame, CalledOff, NoState, NoTrial, Replace, Reverted, Switched};
use super::trial::{Before, Kept, Trial};
use crate::base::panics::Careful;
use crate::base::{ExitReason, Failure, Limit, Snapshot};
use crate::runtime::dead_letters::{Cause, Letter};
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
        if self.asleep.is_some() && !self.replay.is_empty() {
            self.in_line = None;
            self.wake(self.services.residents.place_anyway(self.shared.lodger())).await;
        }
        if (self.live.is_none() && self.asleep.is_none()) || self.trial.is_some() {
            let reason = "it does not run, or is in probation".to_string();
            let _ = done.send(Err(CalledOff { phase: "quiesced", reason, blame: Blame::Nobody }));
            return;
        }
        // What a rollback handed back, or a batch left, came before.
        while let Some(kept) = self.replay.pop_front() {
            self.again(kept).await;
            if self.live.is_none() {
                let reason = "it ended over a message that came before".to_string();
                let _ = done.send(Err(CalledOff { phase: "quiesced", reason, blame: Blame::Nobody }));
                return;
            }
        }
        let begun = self.services.clock.now();
        let mark = InHand::new(self.shared.desk().mark());
        self.at();
        let moved = match instance {
            Some(instance) => self.move_state(instance, &component, migrate).await,
            None => self.change_command(&component).await,
        };
        let (live, before) = match moved {
            Ok(moved) => moved,
            Err(called_off) => {
                let mark = mark.take();
                if self.live.is_some() || self.asleep.is_some() {
                    self.put_back(mark, &[]);
                }
                let _ = done.send(Err(called_off));
                return;
            }
        };
        let mut mark = mark.take();
        if before.is_some() {
            mark.saved();
        }
        let slept = self.asleep.take().is_some();
        self.in_line = None;
        let old = match self.live.replace(live) {
            Some(Live::Worker(instance)) => Some(*instance),
            Some(Live::Command(running)) => {
                running.abort();
                None
            }
            None => None,
        };
        if let Some(state) = &before
            && !(slept && self.saved.as_deref() == Some(state) && !self.is_dirty())
        {
            // What a crash of the old revision would continue from, should it come back.
            self.keep(state.clone(), Due::ByTime).await;
        }
        let before_switch = Before {
            instance: old,
            component: self.component.clone(),
            revision: self.revision,
            state: before.clone(),
            desk: mark,
            poison: std::mem::take(&mut self.poison),
        };
        self.become_revision(component, revision);
        let account = self.services.accounts.of(self.shared.name());
        self.trial = Some(Box::new(Trial::new(before_switch, terms, account)));
        self.shared.new_revision();
        let now = self.services.clock.now();
        self.shared.stand(Standing::Probation, now);
        self.count_instances();
        if done.send(Ok(Switched { pause: now.since(begun), before })).is_err() {
            // It took too long after all, and was called off: as if it had never been.
            self.revert(OnRollback::Replay).await;
        }
    }

    /// The new instance takes over the old one's state; where the old one has none it starts afresh.
    async fn move_state(
        &mut self,
        new: Instance,
        component: &Component,
        migrate: std::time::Duration,
    ) -> Result<(Live, Option<Snapshot>), CalledOff> {
        let mut new = Careful::new(new);
        let before = if self.component.exports().state {
            self.at();
            match self.save_state().await {
                Ok(snapshot) => Some(snapshot),
                Err(error) => {
                    let called_off = CalledOff { phase: "quiesced", reason: error.to_string(), blame: Blame::Running };
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
        self.at();
        let work = take_over(&mut new, before.as_ref(), &context, migrate);
        let taken = tokio::time::timeout(migrate, work).await;
        let taken = taken.unwrap_or_else(|_| Err(too_slow(migrate)));
        taken.map_err(|failure| CalledOff {
            phase: "migrated",
            reason: failure.to_string(),
            blame: Blame::of(&failure),
        })?;
        Ok((Live::Worker(Box::new(new.take())), before))
    }

    /// A command has no boundary and no state: the running one ends, the new one begins.
    async fn change_command(&mut self, component: &Component) -> Result<(Live, Option<Snapshot>), CalledOff> {
        let place = self.services.residents.place_anyway(self.shared.lodger());
        let live = self.bring_up_on(component, None, place).await;
        live.map(|live| (live, None)).map_err(|not_up| CalledOff {
            phase: "migrated",
            reason: not_up.reason().to_string(),
            blame: Blame::Component,
        })
    }

    /// The trial ended well, and that is written down: the old instance goes.
    pub async fn settle(&mut self, state: Option<Snapshot>) -> Result<(), NoTrial> {
        self.at();
        let Some(trial) = self.trial.take().map(Careful::new) else { return Err(NoTrial) };
        self.saved = state.map(Box::new);
        self.away = false;
        if self.live.is_some() {
            self.shared.stand(Standing::Running, self.services.clock.now());
            self.count_instances();
            self.offer();
            return Ok(());
        }
        // It ended between the decision and this. The decision stands.
        if let Some(reason) = trial.failed.clone() {
            self.let_go(*trial.take(), &reason).await;
            if self.pending_stop.is_none() {
                self.pending_stop = Some(Box::new(PendingStop { end: reason, state: None, asked: Asked::No }));
            }
        }
        let pending = self.pending_stop.take();
        let Some(stop) = pending else {
            self.ended(ExitReason::Killed).await;
            return Ok(());
        };
        // It may have handed over a newer state when it stopped than the one that was decided upon.
        if let Some(newer) = stop.state
            && self.saved.as_deref() != Some(&newer)
        {
            self.keep_durably(newer).await;
        }
        if self.saved.is_some() {
            // The state knows of the calls that are open.
            self.shared.desk().saved();
        }
        self.finish_stop(stop.end, stop.asked).await;
        Ok(())
    }

    /// What the new instance took and did not come to answer, in a trial that was decided for it:
    /// whoever waits is told, and what ended it is a dead letter.
    pub(super) async fn let_go(&mut self, trial: Trial, reason: &ExitReason) {
        let at_hand = trial.is_at_hand();
        let (_, mut kept) = trial.into_parts();
        let last = if at_hand { kept.pop_back() } else { None };
        for kept in kept {
            if let Message::Call(call) = kept.message
                && !self.shared.desk().is_open(call.id)
            {
                call.reply.answer(Err(CallError::Down(reason.clone())));
            }
        }
        if let Some(Kept { message, .. }) = last {
            if let Message::Call(call) = &message {
                call.reply.answer(Err(CallError::Down(reason.clone())));
            }
            if let Message::Cast { pass: Some(pass), .. } = &message {
                pass.settle(Sign::Bad);
            }
            self.ended_by(Letter::of(message), reason).await;
        }
    }

    /// The old instance comes back with its state from before the switch, and gets every message
    /// the new one took. If the worker was stopped meanwhile, that is so at its next start.
    pub async fn revert(&mut self, how: OnRollback) -> Reverted {
        let Some(trial) = &self.trial else { return Reverted { replayed: 0 } };
        let old = trial.before.component.clone();
        let downgrades = how == OnRollback::Downgrade && self.pending_stop.is_none();
        self.at();
        // The trial is kept until nothing of the new revision is run any more: should that panic, it goes on.
        let newer = if downgrades { self.save_state().await.ok() } else { None };
        self.drop_live();
        self.shared.desk().tape = SendTape::Off;
        let migrate = self.settings.upgrade.migrate;
        let downgraded = match newer {
            Some(newer) => self.downgrade(&old, newer, migrate).await,
            None => None,
        };
        let Some(trial) = self.trial.take() else { return Reverted { replayed: 0 } };
        let end = trial.failed.clone();
        let spent = trial.spent();
        let (before, mut kept) = trial.into_parts();
        let slept = before.slept();
        self.become_revision(before.component, before.revision);
        self.poison = before.poison;
        // What the new one did is no sign of how the old one does.
        self.shared.new_revision();
        if before.state.is_some() {
            self.saved = before.state.clone().map(Box::new);
            self.away = false;
        }
        let is_downgraded = downgraded.is_some();
        if is_downgraded {
            // The newer state has them all.
            kept.clear();
        } else {
            // Facts of what the new revision set are not the old one's.
            kept.retain(|kept| before.desk.knows(&kept.message));
            self.shared.mailbox.retain(|message| before.desk.knows(message));
            self.put_back(before.desk, &spent);
        }
        let taken = kept.len();
        // What an earlier rollback or a batch left comes after it.
        kept.append(&mut self.replay.take());
        self.replay = kept.into();
        self.live = downgraded.or_else(|| before.instance.map(|instance| Live::Worker(Box::new(instance))));
        let replayed = if how == OnRollback::Drop { 0 } else { taken };
        for _ in replayed..taken {
            if let Some(dropped) = self.replay.pop_front() {
                self.drop_message(dropped.message, end.clone()).await;
            }
        }
        // The old revision never asked to stop: only what the supervisor asked for still holds.
        if let Some(stop) = self.pending_stop.take().filter(|stop| stop.asked != Asked::No) {
            self.drop_live();
            self.finish_stop(stop.end, stop.asked).await;
            return Reverted { replayed };
        }
        if !is_downgraded
            && slept
            && let Some(state) = before.state
        {
            // As it was. What is handed over again wakes it.
            self.asleep = Some(state);
            self.shared.stand(Standing::Hibernated, self.services.clock.now());
            return Reverted { replayed };
        }
        match self.old_instance(before.state).await {
            Ok(()) => {
                let now = self.services.clock.now();
                self.shared.stand(Standing::Running, now);
                self.ask_health_anew(now);
                self.count_instances();
                self.offer();
            }
            // Nothing is left that runs: the supervisor starts the old revision from its snapshot,
            // and the messages wait for it.
            Err(reason) => self.ended(reason).await,
        }
        Reverted { replayed }
    }

    /// By the worker's settings, a message since the switch is let go. `end`: how the newer revision ended, if it did.
    async fn drop_message(&mut self, message: Message, end: Option<ExitReason>) {
        match message {
            Message::Call(call) => {
                let rolled_back =
                    || Failure::Own("its revision was rolled back, and `on-rollback` is `drop`".to_string());
                let end = end.filter(|end| !end.is_orderly()).unwrap_or_else(|| ExitReason::Failed(rolled_back()));
                call.reply.answer(Err(CallError::Down(end)));
            }
            other => self.dead_letter(Letter::of(other), Cause::Dropped).await,
        }
    }

    /// One that was kept is there already.
    async fn old_instance(&mut self, state: Option<Snapshot>) -> Result<(), ExitReason> {
        if self.live.is_none() {
            self.at();
            // It is the way back: it does not wait in line.
            let place = self.services.residents.place_anyway(self.shared.lodger());
            self.live = Some(self.bring_up(state, place).await.map_err(NotUp::reason)?);
        }
        Ok(())
    }

    /// A fresh instance of the old component that took the newer state, if it can.
    async fn downgrade(&mut self, old: &Component, newer: Snapshot, migrate: std::time::Duration) -> Option<Live> {
        let limits = self.settings.limits.clone();
        let place = self.services.residents.place_anyway(self.shared.lodger()).into();
        let door = super::door(&self.shared, &self.services, place);
        let log = super::log(&self.shared, &self.services, limits.log_lines);
        self.at();
        let made = Instance::create(old, &limits, &self.settings.grants, door, log).await;
        let mut instance = Careful::new(made.ok()?);
        let context = Context { component: old.hash(), ..self.context() };
        self.at();
        let taken = tokio::time::timeout(migrate, take_over(&mut instance, Some(&newer), &context, migrate)).await;
        matches!(taken, Ok(Ok(()))).then(|| Live::Worker(Box::new(instance.take())))
    }

    fn put_back(&mut self, mark: Holdings, spent: &[super::desk::Spent]) {
        let change = self.shared.desk().put_back(mark, spent);
        carry_out(change, self.shared.name(), &self.services);
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
