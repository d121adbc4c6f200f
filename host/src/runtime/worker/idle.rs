//! How a child of an on-demand template ends that had nothing to do for long and exports no `state`: it cannot
//! hibernate, and would hold its place for good. Its supervisor sees that it idles (`supervisor/idle.rs`) and asks it
//! to end; whether it may is decided here, at a message boundary.
//!
//! ```text
//!    Running -- EndIdle --> terminate, instance gone --+-- nothing came --> out of the tree, `Retired` is reported
//!       ^                                              |
//!       +------------ a fresh instance ----------------+-- something came meanwhile
//! ```
//!
//! Nothing that was accepted is lost: while it ends, messages wait in its mailbox, and a fresh instance takes them. It
//! leaves the tree under the lock under which keys are made, in these steps:
//!
//! 1. Its name is free. Whoever looks for it now wants to make the key anew, and waits for the lock.
//! 2. Its mailbox is closed, if nothing is in it; else it takes its name back. Whoever still had it and comes too late
//!    is handed its message back, and looks for the name ([`crate::runtime::services`]).
//! 3. Its supervisor is told, in whose queue this lies before the request to add the next child of that name can.

use std::sync::PoisonError;
use std::time::Duration;

use super::desk::HAS_TIMERS;
use super::door::carry_out;
use super::driver::{Driver, Live};
use super::ending::Asked;
use super::rescue::{Ending, InHand};
use super::shared::Standing;
use super::start::NotUp;
use crate::base::{ExitReason, bounds};
use crate::record::{Event, Origin};
use crate::runtime::supervisor::Report;
use crate::sandbox::Kind;

/// What became of a request to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Idled {
    GoesOn,
    /// It is out of the tree: its task ends.
    Left,
}

impl Driver {
    /// `idle`: for how long it had nothing to do.
    pub(super) async fn end_idle(&mut self, idle: Duration) -> Idled {
        if !self.may_end_idle() {
            return Idled::GoesOn;
        }
        let worker = self.shared.name().clone();
        self.services.recorder.emit(Event::StoppedIdle { worker, idle });
        self.shared.stand(Standing::Stopping, self.services.clock.now());
        // How `terminate` went is of no account: nobody would be told.
        let _ = self.wind_down(&ExitReason::Normal, bounds::TERMINATE_TIME).await;
        self.drop_live();
        let ending = Ending { reason: ExitReason::Normal, asked: Some(Asked::No), is_told: false };
        let mut ending = InHand::new(ending);
        self.ended_for_others(&mut ending).await;
        drop(ending.take());
        if self.leave().await {
            return Idled::Left;
        }
        self.begin_anew().await;
        Idled::GoesOn
    }

    /// Timers and open calls are work that waits; groups and monitors are not.
    fn may_end_idle(&self) -> bool {
        let is_alone = self.trial.is_none() && self.pending_stop.is_none() && self.replay.is_empty();
        let cannot_sleep = self.shared.is_key() && !self.component.exports().state;
        let runs = matches!(self.live, Some(Live::Worker(_))) && self.component.kind() == Kind::Worker;
        is_alone
            && cannot_sleep
            && runs
            && self.shared.waiting() == 0
            && !self.shared.desk_has(HAS_TIMERS)
            && !self.shared.desk().has_open_calls()
    }

    /// Leaves the tree, if nothing waits.
    async fn leave(&mut self) -> bool {
        // Room for the report first: under the lock nothing is waited for.
        let Ok(room) = self.reports.room().await else { return false };
        let (services, shared) = (&self.services, &self.shared);
        let _making = services.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !services.registry.remove(shared) {
            return false;
        }
        if !shared.mailbox.close_if_empty() {
            shared.stay();
            services.registry.insert(shared.clone());
            return false;
        }
        shared.desk().release_charges();
        let name = shared.name();
        services.tell_watchers(name);
        services.recorder.metrics().forget(name);
        services.accounts.keep_configuration(name, None);
        services.budgets().release(name);
        services.let_go_of_key(shared);
        services.key_left(name);
        shared.stand(Standing::Down, services.clock.now());
        room.send(Report::Retired { child: name.clone() });
        true
    }

    /// Something came while it ended. No supervisor knows that it did: it is no restart, and not counted.
    async fn begin_anew(&mut self) {
        let begun = self.services.clock.now();
        let shared = self.shared.clone();
        self.memory_tries = 0;
        let brought_up = loop {
            let (residents, lodger) = (&self.services.residents, self.shared.lodger());
            // It had one a moment ago.
            let place = residents.try_place(lodger.clone()).unwrap_or_else(|| residents.place_anyway(lodger));
            let mark = InHand::new(self.shared.desk().mark());
            let brought_up = tokio::select! {
                biased;
                live = self.bring_up(None, place) => live,
                () = shared.kill.notified() => Err(NotUp::Ended(ExitReason::Killed)),
            };
            let mark = mark.take();
            if !matches!(&brought_up, Err(NotUp::NoMemory(_))) || !self.may_wait(begun) {
                break brought_up;
            }
            // As of a start: others took the memory that it had a moment ago, and that is no failure of its own.
            let change = self.shared.desk().put_back(mark, &[]);
            carry_out(change, self.shared.name(), &self.services);
            let pause = self.pause_for_memory();
            tokio::select! {
                biased;
                () = shared.kill.notified() => break Err(NotUp::Ended(ExitReason::Killed)),
                () = tokio::time::sleep(pause) => {}
            }
        };
        match brought_up {
            Ok(live) => {
                self.live = Some(live);
                let now = self.services.clock.now();
                self.shared.stand(Standing::Running, now);
                self.shared.update(|status| status.up_since = now);
                self.count_instances();
                let (incarnation, component, took) = (self.incarnation, self.hash(), now.since(begun));
                let worker = self.shared.name().clone();
                let event = Event::WorkerStarted { worker, incarnation, component, from: Origin::Fresh, took };
                self.services.recorder.emit(event);
                let stop = self.shared.desk().stop.take();
                if let Some(reason) = stop {
                    self.stopped_itself(reason).await;
                }
            }
            Err(not_up) => self.ended(not_up.reason()).await,
        }
    }
}
