//! A worker's first revision, and how one that is known comes back.

use super::error::ChangeError;
use super::under_way::Changes;
use super::upgrade::fits;
use crate::base::{Incarnation, Name, RevisionNumber};
use crate::record::{Action, By, Change, Event, RevisionRecord, Verdict, Why, WorkerRecord};
use crate::runtime::Launch;
use crate::runtime::spec::WorkerSettings;

/// Checks a component and makes it the first revision of a worker that the host has never had. The
/// decision is durable when this returns; the worker does not run yet.
pub async fn deploy(
    changes: &Changes,
    name: Name,
    bytes: Vec<u8>,
    settings: WorkerSettings,
) -> Result<Launch, ChangeError> {
    let (component, bytes) = changes.load(bytes).await?;
    fits(&component, &settings).await?;
    let hash = component.hash();
    let files = changes.files.clone();
    let kept = tokio::task::spawn_blocking(move || files.put(&bytes)).await;
    let kept = kept.map_err(|error| error.to_string()).and_then(|kept| kept.map_err(|error| error.to_string()));
    kept.map_err(|why| ChangeError::ComponentFile { component: hash, why })?;
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
    Ok(Launch { name, component, revision, settings, saved: None, breaker: None })
}

/// A worker that the host knows: its committed revision, from the host's own copy, and its last
/// state.
pub async fn resume(changes: &Changes, record: &WorkerRecord, settings: WorkerSettings) -> Result<Launch, ChangeError> {
    let database = &changes.services.database;
    let bytes = changes.bytes_of(record.component)?;
    let (component, _) = changes.load(bytes).await?;
    fits(&component, &settings).await?;
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
        let known = Change::PutWorker(WorkerRecord { removed: false, ..record.clone() });
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
        settings,
        saved: saved.map(|saved| saved.snapshot),
        breaker,
    })
}

/// What the last run left undecided: a host that died before a commit comes back on the old
/// revision, and says so.
pub async fn take_up(changes: &Changes) -> Result<(), ChangeError> {
    let database = &changes.services.database;
    for worker in database.workers()? {
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
