//! An upgrade of one worker, phase by phase. Each phase is a type that only the one before can make,
//! and consumes it: what must have happened is in the types.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::error::{ChangeError, no_file};
use super::history::rollback_target;
use super::load::{Source, hash_of};
use super::probation::{BY_OPERATOR, Order};
use super::rehearsal::{Nobody, Rehearsal, rehearse};
use super::trial::{Outcome, Trial};
use super::under_way::{Changes, Claim, SWITCHING, Switched};
use crate::base::{Account, ComponentHash, ExitReason, Failure, Limit, Name, RevisionNumber, Snapshot, bounds, panics};
use crate::record::{
    Action, By, Change, ComponentFileError, Event, NewLedgerEntry, RejectedRecord, RevisionRecord, SnapshotRecord,
    Verdict, Why, WorkerRecord,
};
use crate::runtime::spec::WorkerSettings;
use crate::runtime::worker::{self, Adopted, Blame, NoState, Replace, Standing, System, TRIAL_EVENTS_MAX, TrialTerms};
use crate::runtime::{Place, Shared};
use crate::sandbox::{Component, ComponentError, Context, Instance, InstanceError, Kind, Limits};

/// What is to be done, by whom, and why.
pub struct UpgradeRequest {
    pub worker: Arc<Shared>,
    /// The new component's bytes.
    pub bytes: Bytes,
    pub by: By,
    pub why: Why,
    /// Instead of the worker's own setting. Zero commits at once.
    pub probation: Option<Duration>,
    /// An operator lets go of `lifecycle`, `health` and `batch`, which the running component exports and this one does not.
    /// Never of `state`: that would be lost.
    pub fewer_exports: bool,
}

/// Why a component is not tried on a worker again by itself.
pub(super) struct Rejection {
    pub why: String,
    /// Somebody wants it so: no failure.
    pub is_operators: bool,
}

/// *verified*: it is a worker, it has what the running one has, and its file is kept.
struct Verified {
    claim: Claim,
    worker: Arc<Shared>,
    settings: Arc<WorkerSettings>,
    component: Component,
    from: ComponentHash,
    by: By,
    why: Why,
    probation: Duration,
}

/// *rehearsed*: on a copy of the state it did what it must.
struct Rehearsed {
    verified: Verified,
    revision: RevisionNumber,
    rehearsal: Rehearsal,
}

impl Changes {
    /// Everything up to *switched*. On an error the worker goes on as it was. Goes on to its end even
    /// where whoever asked for it goes away.
    pub async fn upgrade(&self, request: UpgradeRequest) -> Result<Switched, ChangeError> {
        let (changes, worker) = (self.clone(), request.worker.name().clone());
        let work = tokio::spawn(async move { panics::guarded(changes.carry_out(request)).await });
        let fault = match work.await {
            Ok(Ok(done)) => return done,
            Ok(Err(fault)) => fault,
            // The task is never cancelled, but by the end of the runtime.
            Err(_) => return Err(ChangeError::Gone(worker)),
        };
        // The claim is free, and a worker that had switched goes back by itself: nobody owns its trial.
        let (part, reason) = (format!("the upgrade of {worker:?}"), format!("a fault of the host: {fault}"));
        self.services.recorder.emit(Event::HostFault { part, fault });
        let (phase, revision, blame) = ("under way", RevisionNumber(0), Blame::Nobody);
        Err(ChangeError::CalledOff { worker, phase, reason, revision, blame })
    }

    async fn carry_out(&self, request: UpgradeRequest) -> Result<Switched, ChangeError> {
        let name = request.worker.name().clone();
        self.services.fuses.at(&name);
        let asked = (request.worker.clone(), request.by, request.why, hash_of(&request.bytes).await?);
        let (verified, bytes) = match self.verify(request).await {
            Ok(verified) => verified,
            Err(error) => {
                let (worker, by, why, hash) = asked;
                return Err(self.refused(&worker, by, why, hash, error).await);
            }
        };
        self.services.fuses.at(&name);
        self.keep_file(&verified, bytes).await?;
        let rehearsed = self.rehearsed(verified).await?;
        if self.is_stopping() {
            let reason = "the host is stopping".to_string();
            return Err(self
                .call_off(&rehearsed.verified, rehearsed.revision, "rehearsed", reason, Blame::Nobody)
                .await);
        }
        self.services.fuses.at(&name);
        match self.steady(&rehearsed.verified.worker).await {
            Standing::Running | Standing::Hibernated => self.switch(rehearsed).await,
            _ => self.adopt(rehearsed).await,
        }
    }

    /// How the worker stands, when it is not just about to stand otherwise.
    async fn steady(&self, worker: &Shared) -> Standing {
        let until = self.services.clock.now().after(worker.settings().limits.start.saturating_mul(2));
        loop {
            let standing = worker.status().standing;
            let passing = matches!(standing, Standing::Starting | Standing::Stopping | Standing::RollingBack);
            if !passing || self.services.clock.now() >= until {
                return standing;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Verified and rehearsed, and nothing more. Leaves no trace but an event.
    pub async fn dry_run(&self, request: UpgradeRequest) -> Result<(ComponentHash, Rehearsal), ChangeError> {
        let trace = self.trace_of(hash_of(&request.bytes).await?);
        let (verified, _) = self.verify(request).await.inspect_err(|_| self.wipe(trace))?;
        let rehearsal = self.rehearse(&verified).await;
        self.wipe(trace);
        let rehearsal = rehearsal.map_err(|(reason, blame)| ChangeError::CalledOff {
            worker: verified.claim.worker.clone(),
            phase: "rehearsed",
            reason,
            revision: RevisionNumber(0),
            blame,
        })?;
        Ok((verified.component.hash(), rehearsal))
    }

    /// In probation: ends it. Else an upgrade to an earlier revision's component, which takes the
    /// state through its own `upgrade-state`.
    pub async fn rollback(
        &self,
        worker: &Arc<Shared>,
        to: Option<RevisionNumber>,
        fewer_exports: bool,
    ) -> Result<Result<Outcome, Switched>, ChangeError> {
        if to.is_none() && self.is_under_way(worker.name()) {
            return self.order(worker.name(), Order::RollBack).await.map(Ok);
        }
        let target = self.rollback_target(worker, to)?;
        let bytes = self.bytes_of(target.component)?;
        let request = UpgradeRequest {
            worker: worker.clone(),
            bytes: bytes.into(),
            by: By::Operator,
            why: Why::Rollback,
            probation: None,
            fewer_exports,
        };
        self.upgrade(request).await.map(Err)
    }

    /// The revision that a rollback goes to.
    pub fn rollback_target(&self, worker: &Shared, to: Option<RevisionNumber>) -> Result<RevisionRecord, ChangeError> {
        let (database, name) = (&self.services.database, worker.name());
        let mut refused: Vec<ComponentHash> =
            database.rejections(name)?.into_iter().map(|rejected| rejected.component).collect();
        // What its template was rolled back from for all keys may have been committed by this one.
        let template = name.parent().and_then(|supervisor| self.services.templates.get(&supervisor));
        refused.extend(template.filter(|template| template.target() != template.component()).map(|it| it.component()));
        rollback_target(name, &database.revisions(name)?, worker.status().component, &refused, to)
    }

    /// Whether this component was called off or rolled back for this worker, so that nothing tries it again by itself.
    /// What cannot be read is not known.
    pub fn is_rejected(&self, worker: &Name, component: ComponentHash) -> bool {
        self.rejection_of(worker, component).is_some()
    }

    pub(super) fn rejection_of(&self, worker: &Name, component: ComponentHash) -> Option<Rejection> {
        let rejected = self.services.database.rejections(worker).unwrap_or_default();
        let found = rejected.into_iter().find(|rejected| rejected.component == component)?;
        Some(Rejection { is_operators: found.why == format!("rolled back: {BY_OPERATOR}"), why: found.why })
    }

    /// The host's own copy of a component. Blocks on the disk.
    pub fn bytes_of(&self, component: ComponentHash) -> Result<Vec<u8>, ChangeError> {
        self.files.get(&component).map_err(|error| no_file(component, &error))
    }

    /// The host's own copy of a component, to be read when its turn to be compiled has come.
    pub(super) fn kept(&self, component: ComponentHash) -> Result<Source<ChangeError>, ChangeError> {
        let cannot = |error: ComponentFileError| no_file(component, &error);
        let size = self.files.size(&component).map_err(cannot)?;
        let changes = self.clone();
        Ok(Source::new(component, size, move || changes.bytes_of(component).map(Bytes::from)))
    }

    /// What a look at a component may leave on disk, so that [`Changes::wipe`] takes it away: compiled code of one that
    /// the host does not have. `None`: it has it.
    pub fn trace_of(&self, hash: ComponentHash) -> Option<ComponentHash> {
        (!self.services.sandbox.is_cached(hash)).then_some(hash)
    }

    /// Takes compiled code away, unless its component was deployed meanwhile.
    pub fn wipe(&self, trace: Option<ComponentHash>) {
        if let Some(hash) = trace.filter(|hash| !self.files.has(hash)) {
            self.services.sandbox.uncache(hash);
        }
    }

    /// Keeps the host's own copy of a component that a worker is to run.
    async fn keep_file(&self, verified: &Verified, bytes: Bytes) -> Result<(), ChangeError> {
        let files = self.files.clone();
        let kept = crate::record::blocking(move || files.put(&bytes)).await;
        let kept = kept.map_err(|error| error.to_string()).and_then(|kept| kept.map_err(|error| error.to_string()));
        kept.map(drop).map_err(|why| ChangeError::ComponentFile {
            component: verified.component.hash(),
            why,
            is_lost: false,
        })
    }

    async fn verify(&self, request: UpgradeRequest) -> Result<(Verified, Bytes), ChangeError> {
        let UpgradeRequest { worker, bytes, by, why, probation, fewer_exports } = request;
        let name = worker.name().clone();
        let hash = hash_of(&bytes).await?;
        let claim = self.claim(&name, hash, by)?;
        let status = worker.status();
        if hash == status.component {
            return Err(ChangeError::SameComponent { worker: name, component: hash });
        }
        let (component, bytes) = self.load(Source::bytes(hash, bytes), by).await?;
        let settings = worker.settings();
        fits(&component, &settings, &self.services.account).await?;
        let mut missing = status.exports.missing_in(component.exports());
        let may_go = (by == By::Operator || why == Why::Rollback) && !missing.contains(&"state");
        // One that does not run and has no state on record has nothing that could be lost.
        let has_nothing = !status.standing.is_up() && self.services.database.snapshot(&name)?.is_none();
        if has_nothing || may_go && fewer_exports {
            missing.clear();
        }
        if component.kind() != status.kind || !missing.is_empty() {
            let what = match component.kind() {
                kind if kind == status.kind => {
                    let how = match may_go {
                        true => "; `--allow-fewer-exports` goes on without",
                        false => "",
                    };
                    format!("it exports no `{}`, which the running one does{how}", missing.join("`, `"))
                }
                Kind::Command => "it is a command, and the running one is a worker".to_string(),
                Kind::Worker => "it is a worker, and the running one is a command".to_string(),
            };
            let revision = RevisionNumber(0);
            let blame = Blame::Component;
            return Err(ChangeError::CalledOff { worker: name, phase: "verified", reason: what, revision, blame });
        }
        let probation = probation.unwrap_or(settings.upgrade.probation).min(bounds::PROBATION_MAX);
        Ok((Verified { claim, worker, settings, component, from: status.component, by, why, probation }, bytes))
    }

    async fn rehearsed(&self, verified: Verified) -> Result<Rehearsed, ChangeError> {
        let name = verified.claim.worker.clone();
        let (from, to) = (verified.from, verified.component.hash());
        // A key's first revision may still be on its way to the disk: this one is numbered after it.
        self.services.database.commit(Vec::new()).await?;
        let revision = self.next_revision(&name)?;
        let record = verified.record(revision, Verdict::Rehearsing, String::new(), self);
        let detail = format!("revision {revision}: from {} to {}", from.short(), to.short());
        let intent = self.entry(&name, Action::UpgradeRequested, Some(to), verified.by, detail);
        self.services.database.commit(vec![Change::PutRevision(name.clone(), record), intent]).await?;
        self.services.recorder.emit(Event::UpgradeRequested { worker: name.clone(), from, to });
        verified.claim.phase("rehearsed");
        match self.rehearse(&verified).await {
            Ok(rehearsal) => {
                let state = rehearsal.before.as_ref().map_or(0, |state| state.len() as u64);
                self.services.recorder.emit(Event::UpgradeRehearsed { worker: name, to, took: rehearsal.took, state });
                Ok(Rehearsed { verified, revision, rehearsal })
            }
            Err((reason, blame)) => Err(self.call_off(&verified, revision, "rehearsed", reason, blame).await),
        }
    }

    /// The worker keeps serving: it is asked for its state once, at a message boundary.
    async fn rehearse(&self, verified: &Verified) -> Result<Rehearsal, (String, Blame)> {
        let worker = &verified.worker;
        let before = if worker.status().exports.state {
            let saved =
                tokio::time::timeout(self.boundary_time(&verified.settings), worker.ask(|done| System::Save { done }));
            match saved.await {
                Ok(Ok(Ok(snapshot))) => Some(snapshot),
                Ok(Ok(Err(NoState::Nothing))) => None,
                Ok(Ok(Err(error))) => return Err((error.to_string(), verified.blame_of_what_runs())),
                Ok(Err(error)) => return Err((error.to_string(), Blame::Nobody)),
                Err(_) => return Err(("it came to no message boundary in time".to_string(), Blame::Nobody)),
            }
        } else {
            None
        };
        if verified.component.kind() == Kind::Command {
            return Ok(Rehearsal::of_command());
        }
        let context = verified.context();
        let _place = self.place(worker, &verified.settings.limits).await.map_err(|why| (why, Blame::Nobody))?;
        let rehearsed = rehearse(
            &verified.component,
            before,
            &context,
            &verified.settings,
            &self.services.clock,
            // Not the budget's, of which a worker is counted once.
            &self.services.account,
        )
        .await;
        rehearsed.map_err(|failure| (failure.to_string(), Blame::of(&failure)))
    }

    /// *quiesced*, *migrated*, *switched*: the worker's own task does it at its next boundary.
    async fn switch(&self, rehearsed: Rehearsed) -> Result<Switched, ChangeError> {
        let Rehearsed { verified, revision, rehearsal } = rehearsed;
        let (name, worker) = (verified.claim.worker.clone(), verified.worker.clone());
        let (from, to) = (verified.from, verified.component.hash());
        let instance = match self.new_instance(&verified).await {
            Ok(instance) => instance,
            Err(reason) => return Err(self.call_off(&verified, revision, "quiesced", reason, Blame::Nobody).await),
        };
        let detail = format!("revision {revision} is about to take over");
        let intent = self.entry(&name, Action::UpgradeSwitching, Some(to), verified.by, detail);
        // The history has the new revision before it answers anybody.
        let record =
            Change::PutRevision(name.clone(), verified.record(revision, Verdict::Probation, String::new(), self));
        if let Err(error) = self.services.database.commit(vec![record, intent]).await {
            return Err(self.call_off(&verified, revision, "quiesced", error.to_string(), Blame::Nobody).await);
        }
        verified.claim.phase(SWITCHING);
        let upgrade = &verified.settings.upgrade;
        let (owner, events) = mpsc::channel(TRIAL_EVENTS_MAX);
        let terms = TrialTerms {
            keep_messages: upgrade.keep_messages,
            keep_bytes: upgrade.keep_bytes,
            messages: upgrade.probation_messages,
            owner,
        };
        let (component, migrate) = (verified.component.clone(), upgrade.migrate);
        let replace = |done| System::Replace(Box::new(Replace { instance, component, revision, migrate, terms, done }));
        // When this time is over the answer's receiver goes, and the worker skips the replacement.
        let time = self.boundary_time(&verified.settings).saturating_add(migrate);
        let replaced = match tokio::time::timeout(time, worker.ask(replace)).await {
            Ok(Ok(replaced)) => replaced,
            Ok(Err(error)) => {
                return Err(self.call_off(&verified, revision, "quiesced", error.to_string(), Blame::Nobody).await);
            }
            Err(_) => {
                let reason =
                    format!("it came to no message boundary within {}", crate::base::units::show_duration(time));
                return Err(self.call_off(&verified, revision, "quiesced", reason, Blame::Nobody).await);
            }
        };
        let pause = match replaced {
            Ok(replaced) => replaced.pause,
            Err(called_off) => {
                let is_running = called_off.blame == Blame::Running;
                let blame = if is_running { verified.blame_of_what_runs() } else { called_off.blame };
                return Err(self.call_off(&verified, revision, called_off.phase, called_off.reason, blame).await);
            }
        };
        self.services.fuses.at(&name);
        self.services.recorder.emit(Event::UpgradeSwitched { worker: name.clone(), revision, to, pause });
        let until = self.services.clock.now().after(verified.probation);
        let orders = verified.claim.in_probation(until);
        let (tell, outcome) = oneshot::channel();
        let probation = verified.probation;
        let trial = Trial {
            changes: self.clone(),
            record: verified.record(revision, Verdict::Probation, String::new(), self),
            worker,
            settings: verified.settings.clone(),
            from,
            until,
            has_time: !probation.is_zero(),
            events,
            orders,
            tell: vec![tell],
            decided: None,
            claim: verified.claim,
        };
        tokio::spawn(trial.own());
        Ok(Switched { revision, from, to, rehearsal, pause: Some(pause), probation, outcome })
    }

    /// For a worker that does not run: the state that was saved last moves on, and its next start is
    /// on the new revision. There is no old instance to come back, so there is no probation.
    async fn adopt(&self, rehearsed: Rehearsed) -> Result<Switched, ChangeError> {
        let Rehearsed { verified, revision, rehearsal } = rehearsed;
        let name = verified.claim.worker.clone();
        let (from, to) = (verified.from, verified.component.hash());
        let state = rehearsal.after.clone();
        let next = Adopted { component: verified.component.clone(), revision, saved: state.clone() };
        let before = rehearsal.before.clone();
        let adopted = verified.worker.ask(|done| System::Adopt { from: before, to: next, done }).await;
        let old = match adopted.map_err(|error| error.to_string()).and_then(|adopted| adopted) {
            Ok(old) => old,
            Err(reason) => return Err(self.call_off(&verified, revision, "quiesced", reason, Blame::Nobody).await),
        };
        let record = verified.record(revision, Verdict::Committed, "it did not run".to_string(), self);
        let written =
            match self.committed(&verified.worker, &record, from, state.clone(), ("it did not run", verified.by)) {
                Ok(changes) => self.services.database.commit(changes).await.map_err(ChangeError::from),
                Err(error) => Err(error),
            };
        if let Err(error) = written {
            // It has not started since: what it was is put back.
            let _ = verified.worker.ask_as_owner(|done| System::Adopt { from: state, to: old, done }).await;
            return Err(self.call_off(&verified, revision, "quiesced", error.to_string(), Blame::Nobody).await);
        }
        let why = "it did not run".to_string();
        self.services.recorder.emit(Event::UpgradeCommitted { worker: name, revision, why: why.clone() });
        let (tell, outcome) = oneshot::channel();
        let _ = tell.send(Outcome::Committed { why });
        Ok(Switched { revision, from, to, rehearsal, pause: None, probation: Duration::ZERO, outcome })
    }

    async fn new_instance(&self, verified: &Verified) -> Result<Option<Instance>, String> {
        if verified.component.kind() == Kind::Command {
            return Ok(None);
        }
        let limits = &verified.settings.limits;
        let place = self.place(&verified.worker, limits).await?;
        let door = worker::door(&verified.worker, &self.services, place.into());
        let log = worker::log(&verified.worker, &self.services, limits.log_lines);
        let made = Instance::create(&verified.component, limits, &verified.settings.grants, door, log).await;
        made.map(Some).map_err(|error| error.to_string())
    }

    /// A place for a second instance. The worker serves on while this waits.
    async fn place(&self, worker: &Shared, limits: &Limits) -> Result<Place, String> {
        let residents = &self.services.residents;
        let placed = tokio::time::timeout(limits.start, residents.queue(worker.lodger())).await;
        placed.map_err(|_| format!("no room for one more live instance: {} are live", residents.live()))
    }

    /// How long a worker may take to come to a message boundary: the message it is handling may use
    /// its deadline.
    fn boundary_time(&self, settings: &WorkerSettings) -> Duration {
        settings.limits.deadline.saturating_add(bounds::QUIESCE_SLACK)
    }

    pub(super) fn next_revision(&self, worker: &Name) -> Result<RevisionNumber, ChangeError> {
        let revisions = self.services.database.revisions(worker)?;
        Ok(revisions.last().map(|last| last.number).unwrap_or_default().next())
    }

    /// Writes down a component that was refused before its rehearsal, if the fault is its own. The history then has every
    /// change that somebody asked for.
    async fn refused(&self, worker: &Shared, by: By, why: Why, to: ComponentHash, error: ChangeError) -> ChangeError {
        // Bytes that are no worker at all are no change of one.
        let ChangeError::CalledOff { reason, .. } = &error else { return error };
        let reason = reason.clone();
        let name = worker.name().clone();
        // Another change may have begun meanwhile: its revision is the next one then.
        let Ok(_claim) = self.claim(&name, to, by) else { return error };
        let note = format!("while verified: {reason}");
        let Ok(revisions) = self.services.database.revisions(&name) else { return error };
        let last = revisions.last();
        let is_known = last.is_some_and(|last| {
            last.verdict == Verdict::CalledOff && last.component == to && last.note == note && last.by == by
        });
        if is_known {
            // The same request in a loop must not push older revisions out of the history.
            self.services.recorder.emit(Event::UpgradeCalledOff { worker: name, to, phase: "verified", reason });
            return error;
        }
        let number = last.map(|last| last.number).unwrap_or_default().next();
        let record = RevisionRecord {
            number,
            component: to,
            at: self.services.clock.timestamp(),
            why,
            by,
            verdict: Verdict::CalledOff,
            note: note.clone(),
        };
        let entry = self.entry(&name, Action::UpgradeCalledOff, Some(to), by, note);
        if let Err(error) = self.services.database.commit(vec![Change::PutRevision(name.clone(), record), entry]).await
        {
            let what = "write that an upgrade was called off";
            self.services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
        }
        self.services.recorder.emit(Event::UpgradeCalledOff { worker: name, to, phase: "verified", reason });
        error
    }

    /// Writes down that nothing came of it. The worker goes on as it was.
    async fn call_off(
        &self,
        verified: &Verified,
        revision: RevisionNumber,
        phase: &'static str,
        reason: String,
        blame: Blame,
    ) -> ChangeError {
        let (name, to) = (verified.claim.worker.clone(), verified.component.hash());
        let record = verified.record(revision, Verdict::CalledOff, format!("while {phase}: {reason}"), self);
        let mut changes = vec![
            Change::PutRevision(name.clone(), record),
            self.entry(&name, Action::UpgradeCalledOff, Some(to), verified.by, format!("while {phase}: {reason}")),
        ];
        // What is wrong with what runs says nothing of this component.
        if blame == Blame::Component {
            changes.push(self.rejection(&name, to, format!("called off while {phase}: {reason}")));
        }
        if let Err(error) = self.services.database.commit(changes).await {
            self.services
                .recorder
                .emit(Event::DatabaseFailed { what: "write that an upgrade was called off", error: error.to_string() });
        }
        let event = Event::UpgradeCalledOff { worker: name.clone(), to, phase, reason: reason.clone() };
        self.services.recorder.emit(event);
        ChangeError::CalledOff { worker: name, phase, reason, revision, blame }
    }

    /// What is written when a revision becomes the worker's for good; why, and who decided it.
    pub(super) fn committed(
        &self,
        worker: &Shared,
        revision: &RevisionRecord,
        from: ComponentHash,
        state: Option<Snapshot>,
        (why, by): (&str, By),
    ) -> Result<Vec<Change>, ChangeError> {
        let name = worker.name().clone();
        let mut changes = Vec::new();
        let before = self.services.database.worker(&name)?;
        let keyed = before.as_ref().is_some_and(|record| record.keyed);
        // A key has no file of its own: what the template's last said to it, which an operator's word overrides.
        let template = name.parent().and_then(|supervisor| self.services.templates.get(&supervisor));
        let file = match (keyed && revision.by != By::Operator, template.filter(|_| keyed)) {
            (true, _) => Some(revision.component),
            (false, Some(template)) => Some(template.target()),
            (false, None) => before.as_ref().and_then(|record| record.file),
        };
        let incarnation = worker.status().incarnation;
        if let Some(record) = &before {
            let old = self.services.database.revisions(&name)?.into_iter().find(|old| old.number == record.revision);
            if let Some(old) = old.filter(|old| old.component == from && old.number != revision.number) {
                changes.push(Change::PutRevision(name.clone(), RevisionRecord { verdict: Verdict::Superseded, ..old }));
            }
        }
        changes.push(Change::PutWorker(WorkerRecord {
            name: name.clone(),
            component: revision.component,
            revision: revision.number,
            file,
            overridden: revision.by == By::Operator && file != Some(revision.component),
            removed: false,
            keyed,
            incarnation,
            config: before.and_then(|record| record.config),
        }));
        changes.push(Change::PutRevision(
            name.clone(),
            RevisionRecord { verdict: Verdict::Committed, note: why.to_string(), ..revision.clone() },
        ));
        match state {
            Some(snapshot) => changes.push(Change::PutSnapshot(
                name.clone(),
                SnapshotRecord {
                    component: revision.component,
                    revision: revision.number,
                    snapshot,
                    at: self.services.clock.timestamp(),
                    messages: worker.counters.handled.load(std::sync::atomic::Ordering::Relaxed),
                },
            )),
            None => changes.push(Change::DropSnapshot(name.clone())),
        }
        let detail = format!("revision {}: {why}", revision.number);
        changes.push(self.entry(&name, Action::UpgradeCommitted, Some(revision.component), by, detail));
        Ok(changes)
    }

    pub(super) fn entry(
        &self,
        worker: &Name,
        action: Action,
        hash: Option<ComponentHash>,
        by: By,
        detail: String,
    ) -> Change {
        Change::Ledger(NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: worker.clone(),
            action,
            hash,
            by,
            detail,
        })
    }

    pub(super) fn rejection(&self, worker: &Name, component: ComponentHash, why: String) -> Change {
        Change::Reject(worker.clone(), RejectedRecord { component, at: self.services.clock.timestamp(), why })
    }
}

impl Verified {
    /// Where what runs cannot save its state, trying again would end it again: not until the file changes. But the way back
    /// is away from just that, and goes on from what was saved last once it has ended.
    fn blame_of_what_runs(&self) -> Blame {
        if self.why == Why::Rollback && self.by == By::Host { Blame::Nobody } else { Blame::Running }
    }

    fn record(&self, number: RevisionNumber, verdict: Verdict, note: String, changes: &Changes) -> RevisionRecord {
        RevisionRecord {
            number,
            component: self.component.hash(),
            at: changes.services.clock.timestamp(),
            why: self.why,
            by: self.by,
            verdict,
            note,
        }
    }

    fn context(&self) -> Context {
        Context {
            name: self.claim.worker.clone(),
            incarnation: self.worker.status().incarnation,
            component: self.component.hash(),
            config: self.settings.config.clone(),
        }
    }
}

/// Whether it can be instantiated at all, with the contract's types.
pub async fn fits(component: &Component, settings: &WorkerSettings, account: &Arc<Account>) -> Result<(), ChangeError> {
    let (outside, log) = (Nobody { account: Some(account.clone()) }, Nobody::default());
    let grants = settings.grants.for_rehearsal();
    let tried = component.try_out(&settings.limits, &grants, Box::new(outside), Arc::new(log)).await;
    tried.map_err(|error| match error {
        InstanceError::Component(error) => ChangeError::Component(error),
        InstanceError::NoRoom(why) => ChangeError::NoRoom(why),
        InstanceError::Failed(Failure::Limit(limit @ (Limit::HostMemory(_) | Limit::BudgetMemory(_)))) => {
            ChangeError::NoRoom(limit.to_string())
        }
        InstanceError::Failed(failure) => ChangeError::Component(ComponentError::Invalid(format!(
            "it cannot be instantiated: {}",
            ExitReason::Failed(failure)
        ))),
    })
}
