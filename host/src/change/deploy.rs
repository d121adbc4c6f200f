//! A worker's first revision, and how one that is known comes back.

use super::error::ChangeError;
use super::load::Source;
use super::under_way::Changes;
use super::upgrade::fits;
use crate::base::{ComponentHash, Incarnation, Name, RevisionNumber};
use crate::record::{Action, By, Change, Event, RevisionRecord, Verdict, Why, WorkerRecord};
use crate::runtime::Launch;
use crate::runtime::spec::WorkerSettings;
use crate::sandbox::Component;

/// Checks and compiles a component for a worker that the host has never had, and keeps a copy of its
/// file. Takes seconds for a large one. Decides nothing: [`deploy`] does.
pub async fn prepare<E>(changes: &Changes, source: Source<E>, settings: &WorkerSettings) -> Result<Component, E>
where
    E: From<ChangeError> + Send + 'static,
{
    let (component, bytes) = changes.load(source, By::Directory).await?;
    fits(&component, settings, &changes.services.account).await?;
    let hash = component.hash();
    let files = changes.files.clone();
    let kept = crate::record::blocking(move || files.put(&bytes)).await;
    let kept = kept.map_err(|error| error.to_string()).and_then(|kept| kept.map_err(|error| error.to_string()));
    kept.map_err(|why| ChangeError::ComponentFile { component: hash, why, is_lost: false })?;
    Ok(component)
}

/// Compiles what a worker that the host knows ran last, from the host's own copy; from the cache of
/// compiled code where it is there. Decides nothing: [`resume`] does.
pub async fn prepare_known(
    changes: &Changes,
    component: ComponentHash,
    settings: &WorkerSettings,
) -> Result<Component, ChangeError> {
    let (component, _) = changes.load(changes.kept(component)?, By::Directory).await?;
    fits(&component, settings, &changes.services.account).await?;
    Ok(component)
}

/// Makes a component that was prepared the first revision of a worker that the host has never had.
/// The decision is durable when this returns; the worker does not run yet.
pub async fn deploy(
    changes: &Changes,
    name: Name,
    component: Component,
    settings: WorkerSettings,
) -> Result<Launch, ChangeError> {
    let hash = component.hash();
    let revision = RevisionNumber(1);
    let worker = WorkerRecord {
        name: name.clone(),
        component: hash,
        revision,
        file: Some(hash),
        overridden: false,
        removed: false,
        incarnation: Incarnation::default(),
        config: None,
        keyed: false,
    };
    let record = RevisionRecord {
        number: revision,
        component: hash,
        at: changes.services.clock.timestamp(),
        why: Why::Deployed,
        by: By::Directory,
        verdict: Verdict::Committed,
        note: String::new(),
    };
    let entry = changes.entry(&name, Action::Deployed, Some(hash), By::Directory, format!("revision {revision}"));
    let writes = vec![Change::PutWorker(worker), Change::PutRevision(name.clone(), record), entry];
    changes.services.database.commit(writes).await?;
    Ok(Launch { name, component, revision, settings: settings.into(), saved: None, breaker: None })
}

/// A worker that the host knows comes back: its committed revision, whose component was prepared,
/// and its last state.
pub async fn resume(
    changes: &Changes,
    record: &WorkerRecord,
    component: Component,
    settings: WorkerSettings,
) -> Result<Launch, ChangeError> {
    let database = &changes.services.database;
    let saved = database.snapshot(&record.name)?;
    if let Some(other) = saved.as_ref().filter(|saved| saved.component != record.component) {
        let note = format!(
            "its saved state is of component {}, not of {}: it starts afresh",
            other.component.short(),
            record.component.short()
        );
        changes.services.recorder.emit(Event::Recovered { worker: record.name.clone(), note });
    }
    let saved = saved.filter(|saved| saved.component == record.component);
    let mut breaker = database.breaker(&record.name)?;
    if record.removed {
        // It was closed when the worker was removed, unless an outcome came later than that.
        breaker = None;
        let known = Change::PutWorker(WorkerRecord { removed: false, keyed: false, ..record.clone() });
        database.commit(vec![known, Change::ClearBreaker(record.name.clone())]).await?;
    }
    if let Some(breaker) = breaker {
        let note = format!("its circuit breaker opened at {} and is still to be tried", breaker.opened_at);
        changes.services.recorder.emit(Event::Recovered { worker: record.name.clone(), note });
    }
    Ok(Launch {
        name: record.name.clone(),
        component,
        revision: record.revision,
        settings: settings.into(),
        saved: saved.map(|saved| saved.snapshot),
        breaker,
    })
}

/// What the last run left undecided: a host that died before a commit comes back on the old
/// revision, and says so.
pub async fn take_up(changes: &Changes) -> Result<(), ChangeError> {
    let database = &changes.services.database;
    for worker in database.workers_unsettled()? {
        let open = database.revisions(&worker.name)?.into_iter().filter(|revision| !revision.verdict.is_settled());
        for revision in open {
            let what = if revision.verdict == Verdict::Probation { "probation" } else { "rehearsal" };
            let note = format!(
                "the host ended during the {what} of revision {}: {:?} is back on revision {}",
                revision.number, worker.name, worker.revision
            );
            let record = RevisionRecord { verdict: Verdict::Interrupted, note: note.clone(), ..revision };
            let entry = changes.entry(&worker.name, Action::Recovered, Some(worker.component), By::Host, note.clone());
            database.commit(vec![Change::PutRevision(worker.name.clone(), record), entry]).await?;
            changes.services.recorder.emit(Event::Recovered { worker: worker.name.clone(), note });
        }
    }
    Ok(())
}
