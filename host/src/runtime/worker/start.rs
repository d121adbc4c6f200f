//! How a worker's instance comes to life: afresh, or from its last snapshot.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::FutureExt;

use super::desk::Holdings;
use super::door::carry_out;
use super::driver::{Driver, Live};
use super::rescue::{Ending, InHand};
use super::runner::as_a_worker;
use super::shared::Standing;
use super::{door, log};
use crate::base::panics::{self, Careful};
use crate::base::{ExitReason, Failure, Incarnation, Limit, Snapshot, Tick};
use crate::record::{Event, Origin};
use crate::runtime::residents::Place;
use crate::runtime::supervisor::Report;
use crate::sandbox::{Component, Context, Fault, Instance, InstanceError, Kind};

/// Why there is no instance.
pub(super) enum NotUp {
    /// The system has no room for it.
    NoRoom(String),
    /// The account has no memory for it.
    NoMemory(Limit),
    Ended(ExitReason),
}

impl NotUp {
    pub fn reason(self) -> ExitReason {
        match self {
            NotUp::NoRoom(why) => {
                ExitReason::Failed(Failure::NotStartable(format!("the system has no room for its instance: {why}")))
            }
            NotUp::NoMemory(limit) => ExitReason::Failed(Failure::Limit(limit)),
            NotUp::Ended(reason) => reason,
        }
    }
}

/// Times that one start waits for a place because the system had no room. A wake waits as long as its callers.
const REFUSALS_MAX: u8 = 3;

impl Driver {
    /// A start was asked for, at `begun`.
    pub fn starting(&mut self, incarnation: Incarnation, begun: Tick) {
        // A kill that came after the last instance had ended is not for this one.
        let _ = self.shared.kill.notified().now_or_never();
        self.shared.desk().said.clear();
        self.incarnation = incarnation;
        self.shared.stand(Standing::Starting, begun);
        self.shared.update(|status| status.incarnation = incarnation);
        if incarnation > Incarnation::default() {
            self.shared.counters.failures().restarts.fetch_add(1, Relaxed);
        }
    }

    /// There is a place for its instance. Answers the supervisor with `Started` or `StartFailed`.
    pub async fn start(&mut self, begun: Tick, place: Place) {
        let mark = InHand::new(self.shared.desk().mark());
        self.at();
        if let Err(reason) = self.recall().await {
            return self.not_started(mark.take(), reason).await;
        }
        let from = if self.durable() { self.saved.as_deref().cloned() } else { None };
        let origin = if from.is_some() { Origin::Snapshot } else { Origin::Fresh };
        let shared = self.shared.clone();
        self.at();
        let brought_up = tokio::select! {
            biased;
            live = self.bring_up(from, place) => live,
            () = shared.kill.notified() => Err(NotUp::Ended(ExitReason::Killed)),
        };
        match brought_up {
            Ok(live) => {
                self.live = Some(live);
                // `control.stop` in its start: it does not want to run (OTP's "ignore").
                let stop = self.shared.desk().stop.take();
                let mark = mark.take();
                match stop {
                    None => self.started(origin, begun).await,
                    Some(reason) if reason.is_orderly() => self.ignored().await,
                    Some(reason) => {
                        self.drop_live();
                        self.not_started(mark, reason).await;
                    }
                }
            }
            // Not for ever: what asks for more than others do must not make the bound small for all.
            Err(NotUp::NoRoom(_)) if self.refusals < REFUSALS_MAX => {
                self.refusals += 1;
                let change = self.shared.desk().put_back(mark.take(), &[]);
                carry_out(change, self.shared.name(), &self.services);
                self.line_up_to_start(begun);
            }
            Err(NotUp::NoMemory(_)) if self.may_wait(begun) => {
                let change = self.shared.desk().put_back(mark.take(), &[]);
                carry_out(change, self.shared.name(), &self.services);
                self.wait_for_memory(Some(begun));
            }
            Err(not_up) => self.not_started(mark.take(), not_up.reason()).await,
        }
    }

    /// The system had no room for its instance, and the bound follows. `None` where nothing else lives, so that
    /// nobody can make room.
    fn no_room(&self, place: Arc<Place>) -> Option<()> {
        let residents = &self.services.residents;
        let before = residents.max();
        residents.refused(place).then(|| {
            let value = residents.max() as u64;
            if before as u64 != value {
                let worker = self.shared.name().clone();
                self.services.recorder.emit(Event::BoundReached { worker, bound: "live-instances", value });
            }
        })
    }

    async fn not_started(&mut self, mark: Holdings, reason: ExitReason) {
        // Timers and groups of an instance that never was are nobody's.
        let change = self.shared.desk().put_back(mark, &[]);
        carry_out(change, self.shared.name(), &self.services);
        self.shared.desk().stop = None;
        self.start_failed(reason).await;
    }

    pub async fn start_failed(&mut self, reason: ExitReason) {
        self.tell_end(Ending { reason, asked: None, is_told: false }).await;
    }

    async fn ignored(&mut self) {
        self.drop_live();
        let change = self.shared.desk().clear();
        carry_out(change, self.shared.name(), &self.services);
        self.shared.stand(Standing::Down, self.services.clock.now());
        self.services.recorder.emit(Event::StartIgnored { worker: self.shared.name().clone() });
        self.report(Report::Ignored { child: self.shared.name().clone() }).await;
    }

    async fn started(&mut self, from: Origin, begun: Tick) {
        let now = self.services.clock.now();
        self.shared.stand(Standing::Running, now);
        self.ask_health_anew(now);
        self.shared.update(|status| status.up_since = now);
        self.count_instances();
        self.offer();
        self.services.recorder.emit(Event::WorkerStarted {
            worker: self.shared.name().clone(),
            incarnation: self.incarnation,
            component: self.hash(),
            from,
            took: now.since(begun),
        });
        self.report(Report::Started { child: self.shared.name().clone() }).await;
    }

    /// A new instance of the current component, initialised or restored.
    pub async fn bring_up(&mut self, from: Option<Snapshot>, place: Place) -> Result<Live, NotUp> {
        let component = self.component.clone();
        self.bring_up_on(&component, from, place).await
    }

    /// The same of another component.
    pub async fn bring_up_on(
        &mut self,
        component: &Component,
        from: Option<Snapshot>,
        place: Place,
    ) -> Result<Live, NotUp> {
        let limits = self.settings.limits.clone();
        let place = Arc::new(place);
        let door = door(&self.shared, &self.services, place.clone());
        let log = log(&self.shared, &self.services, limits.log_lines);
        self.at();
        let made = Instance::create(component, &limits, &self.settings.grants, door, log).await;
        let made = made.map_err(|error| match error {
            InstanceError::NoRoom(why) => match self.no_room(place) {
                Some(()) => NotUp::NoRoom(why),
                None => NotUp::Ended(NotUp::NoRoom(why).reason()),
            },
            InstanceError::Failed(Failure::Limit(limit @ (Limit::HostMemory(_) | Limit::BudgetMemory(_)))) => {
                NotUp::NoMemory(limit)
            }
            InstanceError::Failed(failure) => NotUp::Ended(ExitReason::Failed(failure)),
            InstanceError::Component(error) => {
                NotUp::Ended(ExitReason::Failed(Failure::NotStartable(error.to_string())))
            }
        })?;
        let mut instance = Careful::new(made);
        self.services.residents.made();
        if component.kind() == Kind::Command {
            // Its end is this task's own affair: it is told as any other.
            let mut instance = instance.take();
            let running = async move { as_a_worker(instance.run()).await };
            self.shared.runner.has_done_something();
            let running = async move { panics::guarded(running).await.unwrap_or_else(ExitReason::host_fault) };
            return Ok(Live::Command(tokio::spawn(running)));
        }
        let context = Context { component: component.hash(), ..self.context() };
        self.at();
        let (called, export) = match &from {
            Some(snapshot) => (instance.restore(snapshot, &context).await, "restore-state"),
            None => (instance.init(&context).await, "init"),
        };
        called.map_err(|fault: Fault| match fault.into_failure(export) {
            Failure::Limit(limit @ (Limit::HostMemory(_) | Limit::BudgetMemory(_))) => NotUp::NoMemory(limit),
            failure => NotUp::Ended(ExitReason::Failed(failure)),
        })?;
        self.shared.counters.memory.store(instance.memory(), Relaxed);
        self.shared.runner.has_done_something();
        Ok(Live::Worker(Box::new(instance.take())))
    }

    pub fn context(&self) -> Context {
        Context {
            name: self.shared.name().clone(),
            incarnation: self.incarnation,
            component: self.hash(),
            config: self.settings.config.clone(),
        }
    }

    /// Replaces the state: a second instance takes the snapshot first, so that one which cannot be
    /// taken changes nothing.
    pub async fn import(&mut self, snapshot: Snapshot) -> Result<(), String> {
        if !self.component.exports().state {
            return Err("its component exports no `state`".to_string());
        }
        if self.trial.is_some() {
            return Err("it is in probation; commit or roll back first".to_string());
        }
        let mark = InHand::new(self.shared.desk().mark());
        let begun = self.services.clock.now();
        self.at();
        // An operator's request, one at a time: it does not wait in line.
        let place = self.services.residents.place_anyway(self.shared.lodger());
        let live = self.bring_up(Some(snapshot.clone()), place).await;
        let mark = mark.take();
        let serves = self.live.is_some() || self.asleep.is_some();
        if live.is_err() || !serves {
            let change = self.shared.desk().put_back(mark, &[]);
            carry_out(change, self.shared.name(), &self.services);
        }
        let live = live.map_err(|not_up| not_up.reason().to_string())?;
        if serves {
            self.live = Some(live);
        }
        if self.asleep.take().is_some() {
            self.in_line = None;
            self.awake(begun);
        }
        self.keep_durably(snapshot).await;
        Ok(())
    }
}
