//! From core types to what the wire says. Pure, but for the looks it takes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::cbor;
use super::dead_letters::is_resendable;
use super::host::{Checked, Host, RequestError};
use super::supervision::{breaker, child_word, health, is_each_key, strategy};
use super::wire::{
    CheckInfo, ChildInfo, DeadLetterInfo, EventInfo, HostInfo, LedgerInfo, LogInfo, RehearsalInfo, RevisionInfo,
    StateInfo, SupervisorInfo, UpgradeInfo, WorkerInfo,
};
use crate::base::{ComponentHash, Name, Payload, RevisionNumber, Snapshot, bounds};
use crate::change::{Outcome, Rehearsal, Switched};
use crate::record::{DatabaseError, DeadLetterRecord, Event, LedgerEntry, Level, LogLine, Recorded, RevisionRecord};
use crate::runtime::{Page, Shared, Standing};
use crate::sandbox::Kind;

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Children of one supervisor that the tree shows; `paguro sup` pages through the others.
const TREE_CHILDREN_MAX: usize = 100;

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Worker => "worker",
        Kind::Command => "command",
    }
    .to_string()
}

impl Host {
    pub fn info(&self) -> HostInfo {
        HostInfo {
            version: env!("CARGO_PKG_VERSION").to_string(),
            directory: self.directory().display().to_string(),
            state: self.state_path.display().to_string(),
            pid: std::process::id(),
            started_at: self.started_at.to_string(),
            workers: self.services.registry.count(),
            supervisors: self.tree.supervisor_names().len(),
            starting: self.starting.info(),
        }
    }

    pub fn worker_info(&self, worker: &Shared) -> Result<WorkerInfo, DatabaseError> {
        let status = worker.status();
        let settings = worker.settings();
        let now = self.services.clock.now();
        let counters = &worker.counters;
        let runs = status.standing.is_up();
        let reason = match &status.standing {
            Standing::Isolated(why) => Some(why.to_string()),
            _ => None,
        };
        Ok(WorkerInfo {
            name: worker.name().to_string(),
            kind: kind(status.kind),
            state: status.standing.word().to_string(),
            reason,
            revision: status.revision.0,
            component: status.component.hex(),
            version: status.version.clone(),
            file: self.file_of(worker.name(), status.component)?,
            exports: status.exports.names().into_iter().map(str::to_string).collect(),
            incarnation: status.incarnation.0,
            uptime_ms: runs.then(|| ms(now.since(status.up_since))),
            restarts: counters.seen(|of| &of.restarts),
            mailbox: worker.waiting(),
            mailbox_max: settings.limits.mailbox,
            memory_bytes: counters.memory.load(Relaxed),
            memory_max_bytes: settings.limits.memory,
            fuel: counters.fuel.load(Relaxed),
            handled: counters.handled.load(Relaxed),
            rejected: counters.seen(|of| &of.rejected),
            expired: counters.seen(|of| &of.expired),
            cancelled: counters.seen(|of| &of.cancelled),
            refused: counters.seen(|of| &of.refused),
            last_exit: status.last_exit.as_ref().map(ToString::to_string),
            health_at: status.health.as_ref().map(|(_, at)| at.to_string()),
            probation_left_ms: self.changes.probation_left(worker.name()).map(ms),
            breaker: breaker(worker),
            health: health(worker),
        })
    }

    /// How what runs relates to the file in the directory.
    fn file_of(&self, name: &Name, running: ComponentHash) -> Result<String, DatabaseError> {
        let record = self.services.database.worker(name)?;
        if let Some(supervisor) = name.parent()
            && let Some(template) = self.services.templates.get(&supervisor)
        {
            let file = template.component();
            let other = self.files.template(&supervisor).filter(|(_, seen)| *seen != file);
            let word = match other {
                Some((_, seen)) if seen == running => "same",
                // It is not what new keys are made of, or not yet.
                Some((of, _)) if self.is_file_refused(&of) => "rejected",
                Some(_) => "newer",
                None if file == running => "same",
                None if record.is_some_and(|record| record.overrides_any_of(&[file, template.target()])) => "override",
                // For all keys, or for this one.
                None if template.target() != file || self.changes.is_rejected(name, file) => "rejected",
                None => "newer",
            };
            return Ok(word.to_string());
        }
        let Some(record) = record else { return Ok("none".to_string()) };
        let word = match self.files.component(name).or(record.file) {
            None => "none",
            Some(file) if file == running => "same",
            // What it says was not acted upon yet.
            Some(file) if record.file != Some(file) => "newer",
            Some(_) if record.overridden => "override",
            Some(_) if self.changes.under_way(name).is_some_and(|change| change.by == crate::record::By::Operator) => {
                "override"
            }
            Some(file) if self.changes.is_rejected(name, file) => "rejected",
            // The upgrade to it has just begun, or was interrupted.
            Some(_) => "newer",
        };
        Ok(word.to_string())
    }

    /// Workers in the order of the tree: by name.
    pub fn worker_infos(&self) -> Result<Vec<WorkerInfo>, DatabaseError> {
        self.workers().iter().map(|worker| self.worker_info(worker)).collect()
    }

    /// The whole tree, from the root.
    pub async fn tree_info(&self) -> Result<SupervisorInfo, DatabaseError> {
        let supervisors: BTreeSet<Name> = self.tree.supervisor_names().into_iter().collect();
        self.supervisor_info(Name::root(), "", &supervisors).await
    }

    /// `state`: as its parent has it.
    async fn supervisor_info(
        &self,
        name: Name,
        state: &str,
        supervisors: &BTreeSet<Name>,
    ) -> Result<SupervisorInfo, DatabaseError> {
        let page = Page { after: None, limit: TREE_CHILDREN_MAX };
        let view = self.tree.look(&name, page).await;
        let mut info = SupervisorInfo {
            name: name.to_string(),
            strategy: String::new(),
            running: false,
            state: state.to_string(),
            intensity: 0,
            each_key: false,
            period_ms: 0,
            restarts: 0,
            children: Vec::new(),
            more: 0,
        };
        // `None`: it left the tree while this was put together.
        let Some(view) = view else { return Ok(info) };
        info.strategy = strategy(view.settings.strategy).to_string();
        info.more = (view.counts.workers + view.counts.supervisors).saturating_sub(view.children.len()) as u64;
        info.running = view.running;
        if info.running {
            info.state.clear();
        }
        info.intensity = view.settings.intensity;
        info.each_key = is_each_key(&view.settings);
        info.period_ms = ms(view.settings.period);
        info.restarts = u32::try_from(view.restarts.len()).unwrap_or(u32::MAX);
        for child in view.children {
            let (state, child) = (child_word(&child), child.spec.name);
            if supervisors.contains(&child) {
                let below = Box::pin(self.supervisor_info(child, state, supervisors)).await?;
                info.children.push(ChildInfo::Supervisor(below));
            } else if let Some(worker) = self.services.registry.get(&child) {
                info.children.push(ChildInfo::Worker(Box::new(self.worker_info(&worker)?)));
                if info.children.len().is_multiple_of(bounds::INFOS_AT_A_LOOK) {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(info)
    }

    /// A page of workers after a name, in order of name. Each takes looks into the database: others have their turn
    /// in between.
    pub async fn worker_page(&self, after: Option<&Name>, limit: usize) -> Result<Vec<WorkerInfo>, DatabaseError> {
        let page = self.services.registry.page(after, limit);
        let mut infos = Vec::with_capacity(page.len());
        for some in page.chunks(bounds::INFOS_AT_A_LOOK) {
            for worker in some {
                infos.push(self.worker_info(worker)?);
            }
            tokio::task::yield_now().await;
        }
        Ok(infos)
    }

    /// Revisions of a worker, oldest first; of one that was stopped, deleted or removed too.
    pub fn history(&self, name: &str) -> Result<Vec<RevisionInfo>, RequestError> {
        let (name, current) = match self.worker(name) {
            Ok(worker) => (worker.name().clone(), Some(worker.status().revision)),
            Err(error) => match Name::parse(name) {
                Ok(name) if self.services.database.worker(&name)?.is_some() => (name, None),
                _ => return Err(error),
            },
        };
        let revisions = self.services.database.revisions(&name)?;
        Ok(revisions.into_iter().map(|revision| revision_info(revision, current)).collect())
    }
}

/// `current`: the one that serves; `None` where none does.
fn revision_info(revision: RevisionRecord, current: Option<RevisionNumber>) -> RevisionInfo {
    RevisionInfo {
        number: revision.number.0,
        component: revision.component.hex(),
        at: revision.at.to_string(),
        why: revision.why.to_string(),
        by: revision.by.to_string(),
        verdict: revision.verdict.to_string(),
        note: revision.note,
        current: current == Some(revision.number),
    }
}

pub fn rehearsal_info(rehearsal: &Rehearsal) -> RehearsalInfo {
    let bytes = |state: &Option<Snapshot>| state.as_ref().map_or(0, |state| state.len() as u64);
    RehearsalInfo {
        took_us: us(rehearsal.took),
        fuel: rehearsal.fuel,
        memory_bytes: rehearsal.memory,
        state_before_bytes: bytes(&rehearsal.before),
        state_after_bytes: bytes(&rehearsal.after),
        schema_before: rehearsal.before.as_ref().map(|state| state.schema),
        schema_after: rehearsal.after.as_ref().map(|state| state.schema),
        health: rehearsal.health.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// An upgrade that switched; with its verdict, if that is known.
pub fn upgrade_info(worker: &Shared, switched: &Switched, outcome: Option<Outcome>) -> UpgradeInfo {
    let info = UpgradeInfo {
        worker: worker.name().to_string(),
        outcome: "probation".to_string(),
        revision: switched.revision.0,
        from: switched.from.hex(),
        to: switched.to.hex(),
        rehearsal: switched.rehearsal.has_run.then(|| rehearsal_info(&switched.rehearsal)),
        pause_us: switched.pause.map(us),
        runs: Some(worker.status().standing.is_up()),
        probation_ms: Some(ms(switched.probation)),
        reason: None,
        replayed: None,
        rollback_to: None,
    };
    with_outcome(info, outcome)
}

pub fn with_outcome(info: UpgradeInfo, outcome: Option<Outcome>) -> UpgradeInfo {
    match outcome {
        None => info,
        Some(Outcome::Committed { why }) => UpgradeInfo { outcome: "committed".to_string(), reason: Some(why), ..info },
        Some(Outcome::RolledBack { why, replayed, .. }) => UpgradeInfo {
            outcome: "rolled-back".to_string(),
            reason: Some(why),
            replayed: Some(replayed as u64),
            ..info
        },
    }
}

/// What an operator's end of a probation left.
pub fn ended_info(worker: &Shared, before: ComponentHash, outcome: Outcome) -> UpgradeInfo {
    let status = worker.status();
    let info = UpgradeInfo {
        worker: worker.name().to_string(),
        outcome: String::new(),
        revision: status.revision.0,
        from: before.hex(),
        to: status.component.hex(),
        rehearsal: None,
        pause_us: None,
        runs: Some(status.standing.is_up()),
        probation_ms: None,
        reason: None,
        replayed: None,
        rollback_to: None,
    };
    with_outcome(info, Some(outcome))
}

pub fn check_info(checked: &Checked, against: Option<&str>) -> CheckInfo {
    let component = &checked.component;
    let fits = checked.against.as_ref();
    CheckInfo {
        component: component.hash().hex(),
        bytes: component.size(),
        kind: kind(component.kind()),
        name: component.metadata().name.clone(),
        version: component.metadata().version.clone(),
        exports: component.exports().names().into_iter().map(str::to_string).collect(),
        compile_ms: ms(checked.compile),
        fits: fits.map(Result::is_ok),
        against: against.map(str::to_string),
        why_not: fits.and_then(|fits| fits.as_ref().err()).map(|error| {
            let (message, cause) = super::errors::change_text(error);
            if cause.is_empty() { message } else { format!("{message}: {cause}") }
        }),
        rehearsal: fits.and_then(|fits| fits.as_ref().ok()).map(rehearsal_info),
    }
}

/// Whether a media type is JSON: then the state can be shown.
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence.ends_with("+json")
}

/// A [`StateInfo`] as JSON. The state itself is put in as it is written: taken apart, a state of small numbers takes
/// thirty times its size.
pub fn state_json(state: &Snapshot) -> Vec<u8> {
    let info = StateInfo {
        schema: state.schema,
        media_type: state.media_type.to_string(),
        bytes: state.len() as u64,
        json: None,
        cbor: cbor::is_cbor(&state.media_type).then(|| cbor::diagnostic(&state.data)).flatten(),
    };
    // These types always are JSON.
    let mut json = serde_json::to_vec(&info).unwrap_or_default();
    if is_json(&state.media_type) && serde_json::from_slice::<serde::de::IgnoredAny>(&state.data).is_ok() {
        json.reserve_exact(state.len() + 16);
        json.truncate(json.len().saturating_sub(1));
        json.extend_from_slice(b",\"json\":");
        json.extend_from_slice(&state.data);
        json.push(b'}');
    }
    json
}

pub fn ledger_info(entry: &LedgerEntry) -> LedgerInfo {
    LedgerInfo {
        seq: entry.seq,
        at: entry.at.to_string(),
        worker: entry.worker.to_string(),
        action: entry.action.to_string(),
        component: entry.hash.map(|hash| hash.hex()),
        by: entry.by.to_string(),
        detail: entry.detail.clone(),
        digest: ComponentHash(entry.digest).hex(),
    }
}

pub fn dead_letter_info(letter: &DeadLetterRecord) -> DeadLetterInfo {
    DeadLetterInfo {
        id: letter.id,
        at: letter.at.to_string(),
        worker: letter.worker.to_string(),
        sort: letter.sort.to_string(),
        from: letter.from.as_ref().map(ToString::to_string),
        why: letter.why.to_string(),
        reason: letter.reason.clone(),
        exit: letter.exit.clone(),
        revision: letter.revision.0,
        bytes: letter.bytes,
        cut: letter.is_cut(),
        resendable: is_resendable(letter),
        text: None,
        base64: None,
    }
}

/// With its body: as text where it is UTF-8, else as base64.
pub fn dead_letter_with_body(letter: &DeadLetterRecord, body: Payload) -> DeadLetterInfo {
    let info = dead_letter_info(letter);
    match String::from_utf8(body.into_vec()) {
        Ok(text) => DeadLetterInfo { text: Some(text), ..info },
        Err(bytes) => DeadLetterInfo { base64: Some(BASE64.encode(bytes.as_bytes())), ..info },
    }
}

pub fn event_info(recorded: &Recorded<Event>) -> EventInfo {
    EventInfo {
        seq: recorded.seq,
        at: recorded.at.to_string(),
        kind: recorded.item.kind().to_string(),
        level: match recorded.item.level() {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
        .to_string(),
        subject: recorded.item.subject().map(ToString::to_string),
        text: recorded.item.to_string(),
    }
}

pub fn log_info(recorded: &Recorded<LogLine>) -> LogInfo {
    LogInfo {
        seq: recorded.seq,
        at: recorded.at.to_string(),
        worker: recorded.item.worker.to_string(),
        level: recorded.item.level.to_string(),
        text: recorded.item.text.clone(),
    }
}
