//! Keeps the tree as the directory says: looks, plans, and takes the steps one after another.
//! Upgrades run beside, so that one worker's rehearsal does not hold up another's start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::directory::{
    CurrentTree, CurrentWorker, DesiredTree, Directory, Problem, Step, Watcher, plan, read_component,
};
use super::grants_check;
use super::settings::one_line;
use crate::base::{ComponentHash, ExitReason, Name, Tick};
use crate::change::{self, ChangeError, Changes, UpgradeRequest};
use crate::record::{Action, By, Change, Event, NewLedgerEntry, RejectedRecord, Why, WorkerRecord};
use crate::runtime::spec::{SettingsChange, SupervisorSettings, WorkerSettings};
use crate::runtime::worker::Blame;
use crate::runtime::{Services, Shared, Standing, Tree};

/// Looks at the most before the host starts with what is whole by then.
const FIRST_LOOKS_MAX: usize = 20;

pub(super) struct Keeper {
    root: PathBuf,
    state: PathBuf,
    directory: Option<Directory>,
    watcher: Watcher,
    services: Arc<Services>,
    tree: Arc<Tree>,
    changes: Changes,
    policies: BTreeMap<Name, SupervisorSettings>,
    problems: Problems,
    /// Problems that were reported and still hold.
    reported: BTreeSet<Problem>,
    /// Grants that were refused, and why.
    bad_grants: BTreeMap<Name, String>,
    /// Whose component is being compiled.
    loading: Option<Name>,
    /// Files that could not be deployed, until they change.
    refused: BTreeMap<Name, (ComponentHash, WorkerSettings, String)>,
    /// Tries of one file, and when the next one may be.
    tries: BTreeMap<Name, Tries>,
}

impl Keeper {
    /// What in the directory cannot be used now, as path and message.
    pub fn problems(&self) -> Problems {
        self.problems.clone()
    }

    pub fn new(root: &Path, state: &Path, services: &Arc<Services>, tree: &Arc<Tree>, changes: &Changes) -> Keeper {
        Keeper {
            root: root.to_path_buf(),
            state: state.to_path_buf(),
            directory: Some(Directory::new(root)),
            watcher: Watcher::new(root),
            services: services.clone(),
            tree: tree.clone(),
            changes: changes.clone(),
            policies: BTreeMap::from([(Name::root(), SupervisorSettings::default())]),
            problems: Problems::default(),
            reported: BTreeSet::new(),
            bad_grants: BTreeMap::new(),
            loading: None,
            refused: BTreeMap::new(),
            tries: BTreeMap::new(),
        }
    }

    /// Takes what is there before anything starts, so that the tree starts in order.
    pub async fn first_look(&mut self) {
        for _ in 0..FIRST_LOOKS_MAX {
            match self.look(Begin::NotYet).await {
                Some(again) => tokio::time::sleep(again).await,
                None => return,
            }
        }
    }

    pub async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let mut again = Some(Duration::ZERO);
        let mut under_way = self.changes.watch();
        loop {
            tokio::select! {
                biased;
                // An error means that the host is gone: the same.
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.watcher.changed() => {}
                // A change has ended: a file that came meanwhile has its turn.
                Ok(()) = under_way.changed() => {}
                () = sleep_or_never(again) => {}
            }
            again = self.look(Begin::Now).await;
        }
    }

    /// One look and what follows from it. Says when to look again, if files are still changing.
    async fn look(&mut self, begin: Begin) -> Option<Duration> {
        let mut directory = self.directory.take()?;
        let now = self.services.clock.now();
        let looked = tokio::task::spawn_blocking(move || {
            let look = directory.look(now);
            (directory, look)
        });
        // The task is not cancelled and looking does not panic; were it so, there is nothing to keep.
        let Ok((directory, look)) = looked.await else { return None };
        self.directory = Some(directory);
        self.report(&look.tree);
        let current = match self.current() {
            Ok(current) => current,
            Err(error) => {
                self.database_failed("read what runs", error.to_string());
                return Some(Duration::from_secs(1));
            }
        };
        for step in plan(&current, &look.tree) {
            self.take(step, begin).await;
        }
        look.again
    }

    fn current(&self) -> Result<CurrentTree, crate::record::DatabaseError> {
        let mut tree = CurrentTree { supervisors: self.policies.clone(), ..CurrentTree::default() };
        for worker in self.services.registry.all() {
            let name = worker.name();
            let Some(record) = self.services.database.worker(name)? else { continue };
            let rejected = self.services.database.rejections(name)?;
            tree.workers.insert(
                name.clone(),
                CurrentWorker {
                    component: record.component,
                    file: record.file,
                    overridden: record.overridden,
                    rejected: rejected.into_iter().map(|rejected| rejected.component).collect(),
                    settings: (*worker.settings()).clone(),
                    upgrading: self.changes.is_under_way(name),
                },
            );
        }
        Ok(tree)
    }

    /// Reports each problem once, for as long as it holds.
    fn report(&mut self, desired: &DesiredTree) {
        let mut problems: BTreeSet<Problem> = desired.problems.iter().cloned().collect();
        problems.extend(self.watcher.problem().cloned());
        for problem in problems.difference(&self.reported) {
            self.emit_problem(problem);
        }
        self.reported = problems;
        self.publish();
    }

    /// Shows what holds now to whoever asks: `paguro doctor`, and who asks for a worker in vain.
    fn publish(&self) {
        let looked =
            self.reported.iter().map(|problem| (one_line(&problem.path.to_string_lossy()), problem.message.clone()));
        let refused = self.refused.iter().map(|(name, (.., why))| (format!("{name}.wasm"), why.clone()));
        let grants = self.bad_grants.iter().map(|(name, why)| (format!("{name}.toml"), why.clone()));
        let loading = self.loading.iter().map(|name| {
            (format!("{name}.wasm"), "it is being read, checked and compiled; try again in a moment".to_string())
        });
        let all = loading.chain(looked).chain(refused).chain(grants).collect();
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    fn emit_problem(&self, problem: &Problem) {
        let shown = one_line(&problem.path.to_string_lossy());
        let path = match problem.place {
            Some((line, column)) => format!("{shown}:{line}:{column}"),
            None => shown,
        };
        let event = Event::DirectoryProblem { path, message: problem.message.clone(), help: problem.help.clone() };
        self.services.recorder.emit(event);
    }

    async fn take(&mut self, step: Step, begin: Begin) {
        match step {
            Step::AddSupervisor { name, settings } => {
                let added = self.tree.add_supervisor(name.clone(), settings.clone()).await;
                let added = added.map(|()| drop(self.policies.insert(name.clone(), settings)));
                self.tell(&name, added);
            }
            Step::ChangePolicy { name, settings } => {
                let changed = self.tree.configure_supervisor(&name, settings.clone()).await;
                let changed = changed.map(|()| drop(self.policies.insert(name.clone(), settings)));
                self.tell(&name, changed);
            }
            Step::RemoveSupervisor { name } => {
                let removed = self.tree.remove(&name).await;
                let removed = removed.map(|()| drop(self.policies.remove(&name)));
                self.tell(&name, removed);
            }
            Step::AddWorker { name, path, hash, settings } => self.add(name, &path, hash, settings).await,
            Step::ChangeSettings { name, settings } => self.configure(&name, settings).await,
            Step::SameAgain { name, hash } => drop(self.acted_upon(&name, hash).await),
            Step::RemoveWorker { name } => self.remove(&name).await,
            Step::Upgrade { name, path, hash } if begin == Begin::Now => self.upgrade(name, &path, hash).await,
            // Upgrades need a worker that runs: the next look, after the start, plans them again.
            Step::Upgrade { .. } => {}
        }
    }

    async fn add(&mut self, name: Name, path: &Path, hash: ComponentHash, settings: WorkerSettings) {
        let asked = settings.clone();
        let refused = self.refused.get(&name);
        if refused.is_some_and(|(file, settings, _)| *file == hash && *settings == asked)
            || self.refuses_grants(&name, &settings)
        {
            return;
        }
        let known = match self.services.database.worker(&name) {
            Ok(known) => known,
            Err(error) => return self.database_failed("read a worker", error.to_string()),
        };
        let bytes = std::fs::metadata(path).map(|file| file.len()).unwrap_or_default();
        self.services.recorder.emit(Event::WorkerLoading { worker: name.clone(), bytes });
        self.loading = Some(name.clone());
        self.publish();
        let launch = match known {
            Some(record) => change::resume(&self.changes, &record, settings).await,
            None => match read_component(path) {
                Ok((bytes, _)) => change::deploy(&self.changes, name.clone(), bytes.into_vec(), settings).await,
                // It changed under our hands: the next look sees what it is now.
                Err(problem) => return self.emit_problem(&problem),
            },
        };
        self.loading = None;
        self.publish();
        match launch {
            Ok(launch) => {
                self.refused.remove(&name);
                let added = self.tree.add_worker(launch).await;
                self.tell(&name, added.map(drop));
            }
            Err(error) => {
                // What a full disk or the like is to blame for is tried again.
                if matches!(error, ChangeError::Component(_)) {
                    self.refused.insert(name, (hash, asked, change_message(&error)));
                    self.publish();
                } else if self.is_too_soon(&name, hash) {
                    return;
                }
                self.problem(path, &error);
            }
        }
    }

    async fn remove(&mut self, name: &Name) {
        let removed = self.tree.remove(name).await;
        if let Ok(Some(record)) = self.services.database.worker(name) {
            let changes = vec![
                Change::PutWorker(WorkerRecord { removed: true, ..record.clone() }),
                Change::ClearBreaker(name.clone()),
                self.entry(name, Action::Removed, record.component, "its file is gone; state and history are kept"),
            ];
            if let Err(error) = self.services.database.commit(changes).await {
                self.database_failed("write that a worker was removed", error.to_string());
            }
        }
        self.tell(name, removed);
    }

    async fn configure(&mut self, name: &Name, settings: WorkerSettings) {
        let Some(worker) = self.services.registry.get(name) else { return };
        let change = SettingsChange::between(&worker.settings(), &settings);
        if change.is_empty() {
            return;
        }
        if self.refuses_grants(name, &settings) {
            return;
        }
        let configured = self.tree.configure_worker(&worker, settings).await;
        let done = configured.is_ok();
        self.tell(name, configured);
        if !done {
            return;
        }
        let detail = format!("in place: {}; by a restart: {}", change.in_place.join(", "), change.restart.join(", "));
        let entry = self.entry(name, Action::SettingsChanged, worker.status().component, &detail);
        if let Err(error) = self.services.database.commit(vec![entry]).await {
            self.database_failed("write that settings changed", error.to_string());
        }
        let status = worker.status();
        // One that failed may be well with its new settings; one that was stopped stays so.
        let failed = matches!(status.standing, Standing::Down | Standing::Isolated(_))
            && matches!(status.last_exit, Some(ExitReason::Failed(_)));
        let restart = (!change.restart.is_empty() && worker.lives()) || failed;
        let (in_place, restarted) = (change.in_place, change.restart);
        self.services.recorder.emit(Event::SettingsChanged { name: name.clone(), in_place, restarted });
        if restart {
            let restarted = self.tree.restart_child(name).await;
            self.tell(name, restarted.map(drop));
        }
    }

    /// Notes the file as acted upon; a file that changed ends an override.
    async fn acted_upon(&self, name: &Name, hash: ComponentHash) -> bool {
        let record = match self.services.database.worker(name) {
            Ok(Some(record)) => record,
            Ok(None) => return false,
            Err(error) => {
                self.database_failed("read a worker", error.to_string());
                return false;
            }
        };
        if record.file == Some(hash) && !record.overridden {
            return true;
        }
        let mut changes = vec![Change::PutWorker(WorkerRecord { file: Some(hash), overridden: false, ..record })];
        changes.push(Change::ClearRejections(name.clone()));
        match self.services.database.commit(changes).await {
            Ok(()) => true,
            Err(error) => {
                self.database_failed("note a changed file", error.to_string());
                false
            }
        }
    }

    async fn upgrade(&mut self, name: Name, path: &Path, hash: ComponentHash) {
        let Some(worker) = self.services.registry.get(&name) else { return };
        if self.is_too_soon(&name, hash) {
            return;
        }
        let bytes = match read_component(path) {
            Ok((bytes, read)) if read == hash => bytes.into_vec(),
            // It changed again: the next look sees to it.
            Ok(_) => return,
            Err(problem) => return self.emit_problem(&problem),
        };
        if !self.acted_upon(&name, hash).await {
            return;
        }
        let upgrading = Upgrading {
            worker,
            path: path.display().to_string(),
            hash,
            services: self.services.clone(),
            tree: self.tree.clone(),
            changes: self.changes.clone(),
        };
        tokio::spawn(upgrading.run(bytes));
    }

    /// Whether this file was tried a moment ago, and it is not time to try again. Counts the try if
    /// it is.
    fn is_too_soon(&mut self, name: &Name, hash: ComponentHash) -> bool {
        let now = self.services.clock.now();
        let tries = self.tries.entry(name.clone()).or_insert(Tries { hash, count: 0, next: now });
        if tries.hash != hash {
            *tries = Tries { hash, count: 0, next: now };
        }
        if now < tries.next {
            return true;
        }
        tries.count = (tries.count + 1).min(TRIES_COUNTED);
        tries.next = now.after(TRY_AGAIN.saturating_mul(1 << tries.count));
        false
    }

    /// Reports grants that cannot be given, once for as long as they are asked for.
    fn refuses_grants(&mut self, name: &Name, settings: &WorkerSettings) -> bool {
        let Some((message, help)) = grants_check::refused(&settings.grants, &self.root, &self.state) else {
            self.bad_grants.remove(name);
            return false;
        };
        if self.bad_grants.insert(name.clone(), message.clone()).as_ref() != Some(&message) {
            let path = self.root.join(format!("{}.toml", name.as_str())).display().to_string();
            self.services.recorder.emit(Event::DirectoryProblem { path, message, help: help.to_string() });
        }
        true
    }

    fn problem(&self, path: &Path, error: &ChangeError) {
        let message = change_message(error);
        let event = Event::DirectoryProblem { path: path.display().to_string(), message, help: String::new() };
        self.services.recorder.emit(event);
    }

    fn tell(&self, name: &Name, done: Result<(), crate::runtime::TreeError>) {
        if let Err(error) = done {
            let event =
                Event::DirectoryProblem { path: name.to_string(), message: error.to_string(), help: String::new() };
            self.services.recorder.emit(event);
        }
    }

    fn entry(&self, name: &Name, action: Action, component: ComponentHash, detail: &str) -> Change {
        Change::Ledger(NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: name.clone(),
            action,
            hash: Some(component),
            by: By::Directory,
            detail: detail.to_string(),
        })
    }

    fn database_failed(&self, what: &'static str, error: String) {
        self.services.recorder.emit(Event::DatabaseFailed { what, error });
    }
}

/// What holds now, as path and message.
pub(super) type Problems = Arc<Mutex<Vec<(String, String)>>>;

fn change_message(error: &ChangeError) -> String {
    match error {
        ChangeError::Component(error) => error.to_string(),
        other => other.to_string(),
    }
}

struct Tries {
    hash: ComponentHash,
    count: u32,
    next: Tick,
}

/// Before the second try of a file; doubled each time, up to 64 times.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRIES_COUNTED: u32 = 6;

/// Whether upgrades may begin yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    NotYet,
    Now,
}

/// An upgrade by the directory, in a task of its own.
struct Upgrading {
    worker: Arc<Shared>,
    path: String,
    hash: ComponentHash,
    services: Arc<Services>,
    tree: Arc<Tree>,
    changes: Changes,
}

impl Upgrading {
    async fn run(self, bytes: Vec<u8>) {
        let worker = self.worker.clone();
        let request = UpgradeRequest { worker, bytes, by: By::Directory, why: Why::Upgrade, probation: None };
        match self.changes.upgrade(request).await {
            Ok(_) => {
                // One that an operator stopped, or that ended as it should, stays so.
                if matches!(self.worker.status().standing, Standing::Isolated(_) | Standing::Restarting) {
                    // That it runs already is no error here.
                    let _ = self.tree.start_child(self.worker.name(), None).await;
                }
            }
            // Its turn comes when the other has ended.
            Err(ChangeError::UnderWay { .. } | ChangeError::SameComponent { .. }) => {}
            // The file cannot become this worker: it is not tried again until it changes.
            Err(error @ (ChangeError::Component(_) | ChangeError::CalledOff { blame: Blame::Component, .. })) => {
                self.reject(&error).await
            }
            // Tried again, after a while.
            Err(ChangeError::CalledOff { .. } | ChangeError::Stopping) => {}
            Err(error) => self.problem(error.to_string()),
        }
    }

    async fn reject(&self, error: &ChangeError) {
        let why = match error {
            ChangeError::CalledOff { phase, reason, .. } => format!("called off while it was {phase}: {reason}"),
            ChangeError::Component(error) => error.to_string(),
            other => other.to_string(),
        };
        let record = RejectedRecord { component: self.hash, at: self.services.clock.timestamp(), why: why.clone() };
        let rejected = vec![Change::Reject(self.worker.name().clone(), record)];
        if let Err(error) = self.services.database.commit(rejected).await {
            self.services
                .recorder
                .emit(Event::DatabaseFailed { what: "remember a rejection", error: error.to_string() });
        }
        // One that was called off after it was verified has told so itself.
        if !matches!(error, ChangeError::CalledOff { revision, .. } if revision.0 > 0) {
            self.problem(why);
        }
    }

    fn problem(&self, message: String) {
        let help = "what ran before goes on; the file is not tried again until it changes".to_string();
        self.services.recorder.emit(Event::DirectoryProblem { path: self.path.clone(), message, help });
    }
}

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
