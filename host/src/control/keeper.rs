//! Keeps the tree as the directory says: looks, plans, and takes the steps one after another.
//! Loads and upgrades run beside, so that neither a large component nor a rehearsal holds up the
//! rest; what a load led to is decided here, by what the directory said last.
//!
//! ```text
//!   first look ---> components are loaded ---> added in the plan's order ---> the tree starts
//!                                                                                   |
//!   +--> look ---> plan ---> steps, loads begun ---+                                |
//!   |                                              +---> what is loaded is added <--+
//!   +---- a notice, a poll, the end of a load <----+
//! ```

mod accepted;
mod files;
mod findings;
mod granting;
mod loads;
mod templates;
mod upgrading;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use self::accepted::Accepted;
pub(super) use self::accepted::root_policy;
pub(super) use self::files::Files;
use self::findings::Waiting;
use self::granting::Granting;
use self::loads::{Known, LoadError, Loaded, Loads};
use self::templates::Held;
use self::upgrading::Upgrading;
use super::beside::Beside;
use super::directory::{
    CurrentTree, CurrentWorker, DesiredTree, Directory, Look, POLL, Problem, Running, Step, Wanted, Watcher, admit,
    plan, read_component,
};
use super::finding::{Finding, FindingKind};
use super::following::Place;
use super::settings::one_line;
use super::starting::Starting;
use crate::base::panics::{self, Survivor};
use crate::base::{ComponentHash, ExitReason, HostFault, Name, Tick, bounds};
use crate::change::{self, ChangeError, Changes};
use crate::record::{Action, By, Change, Event, NewLedgerEntry};
use crate::runtime::spec::{SettingsChange, Strategy, SupervisorSettings, WorkerSettings};
use crate::runtime::{Services, Standing, Tree, TreeError};
use crate::sandbox::{ComponentError, Grants};

/// Looks at the most before the host starts with what is whole by then.
const FIRST_LOOKS_MAX: usize = 20;

pub(super) struct Keeper {
    /// The directory of workers, and where it is told that it is another.
    root: PathBuf,
    leads_to: watch::Receiver<PathBuf>,
    directory: Option<Directory>,
    looking: Beside,
    /// Reads of files for upgrades: one of a hanging file system holds up its own worker alone.
    reading: BTreeMap<Name, Beside>,
    /// A look that is late, and since when it is under way.
    late: Option<(oneshot::Receiver<Looked>, Tick)>,
    /// What the last look found, and where it looked.
    said: DesiredTree,
    said_of: PathBuf,
    watcher: Watcher,
    services: Arc<Services>,
    tree: Arc<Tree>,
    changes: Changes,
    policies: BTreeMap<Name, SupervisorSettings>,
    problems: Problems,
    /// Problems that were reported and still hold.
    reported: BTreeSet<Problem>,
    granting: Granting,
    accepted: Accepted,
    loads: Loads,
    /// By the name of their file.
    templates: BTreeMap<Name, Held>,
    /// Supervisors whose children of the last run are to come back once the tree runs.
    to_resume: Vec<Name>,
    /// Files that could not be deployed, until they change.
    refused: BTreeMap<Name, Refusal>,
    files: Files,
    /// Newer files of workers that are being changed: what of each waits.
    waiting: BTreeMap<Name, Waiting>,
    starting: Arc<Starting>,
    /// Workers whose files were tried and are not run.
    rejected: BTreeSet<Name>,
    /// Tries of one file, and when the next one may be.
    tries: BTreeMap<Name, Tries>,
}

impl Keeper {
    /// What in the directory is not as it was meant to be, now.
    pub fn problems(&self) -> Problems {
        self.problems.clone()
    }

    pub fn new(
        place: &Place,
        state: &Path,
        services: &Arc<Services>,
        tree: &Arc<Tree>,
        changes: &Changes,
        files: &Files,
        starting: &Arc<Starting>,
    ) -> Keeper {
        let accepted = Accepted::of(&services.database);
        let mut leads_to = place.watch();
        let root = leads_to.borrow_and_update().clone();
        Keeper {
            root: root.clone(),
            leads_to,
            directory: Some(Directory::new(&root)),
            looking: Beside::default(),
            reading: BTreeMap::new(),
            late: None,
            said: DesiredTree::default(),
            said_of: root.clone(),
            watcher: Watcher::new(&root),
            services: services.clone(),
            tree: tree.clone(),
            changes: changes.clone(),
            policies: BTreeMap::from([(Name::root(), accepted.root().unwrap_or_default())]),
            problems: Problems::default(),
            reported: BTreeSet::new(),
            granting: Granting::new(root, place.named().to_path_buf(), state.to_path_buf()),
            accepted,
            loads: Loads::new(services, changes),
            templates: BTreeMap::new(),
            to_resume: Vec::new(),
            refused: BTreeMap::new(),
            files: files.clone(),
            waiting: BTreeMap::new(),
            starting: starting.clone(),
            rejected: BTreeSet::new(),
            tries: BTreeMap::new(),
        }
    }

    /// Takes what is there before anything starts, so that the tree starts in order. Components are
    /// loaded side by side; those that take longer than `time` are not waited for.
    pub async fn first_look(&mut self, time: Duration) {
        let begun = self.services.clock.now();
        for _ in 0..FIRST_LOOKS_MAX {
            let again = self.see().await;
            self.begin_first_loads().await;
            match again {
                // It is taken up when it ends; the host does not wait for that.
                _ if self.late.is_some() => break,
                Some(again) => tokio::time::sleep(again).await,
                None => break,
            }
        }
        let passed = self.services.clock.now().since(begun);
        // Running out of time is as good: what is not ready by then comes later.
        let (loads, starting, wanted) = (&mut self.loads, &self.starting, self.said.workers.len());
        let all_ended = async {
            loop {
                let under_way = loads.under_way();
                starting.progress(wanted, wanted.saturating_sub(under_way));
                if under_way == 0 {
                    return;
                }
                loads.ended().await;
            }
        };
        let _ = tokio::time::timeout(time.saturating_sub(passed), all_ended).await;
        // Whatever is being loaded has its place in the order.
        let nothing = CurrentTree { supervisors: self.policies.clone(), ..CurrentTree::default() };
        for step in plan(&nothing, &self.said) {
            match step {
                Step::Load { name, .. } | Step::LoadTemplate { name, .. } => self.add_first(name, begun).await,
                step => self.take(step).await,
            }
        }
        self.keep_accepted().await;
        self.publish();
    }

    async fn begin_first_loads(&mut self) {
        let current =
            CurrentTree { supervisors: self.policies.clone(), loading: self.loads.wanted(), ..CurrentTree::default() };
        for step in plan(&current, &self.said) {
            match step {
                Step::Load { name, wanted } => self.load(name, wanted).await,
                Step::LoadTemplate { name, wanted } => self.load_template(name, wanted).await,
                Step::Abandon { name } => self.loads.abandon(&name),
                // Their turn comes when all is loaded.
                _ => {}
            }
        }
        self.publish();
    }

    async fn add_first(&mut self, name: Name, begun: Tick) {
        if let Some(loaded) = self.loads.take(&name) {
            self.add(name, loaded).await;
        } else if self.loads.has(&name) {
            let waited = self.services.clock.now().since(begun);
            self.services.recorder.emit(Event::WorkerLate { worker: name, waited });
        }
    }

    /// Until the host stops, whatever panics meanwhile: without the keeper no file is taken any more. What it knows is
    /// kept; it looks at the directory anew, after a pause that grows for as long as each look panics.
    pub async fn keep_always(self, mut stop: watch::Receiver<bool>) {
        let (services, problems) = (self.services.clone(), self.problems.clone());
        let (survivor, mut pause) = (Survivor::new(Box::new(self)), FAULT_PAUSE_MIN);
        while let Some(mut keeper) = survivor.hold() {
            let begun = services.clock.now();
            let keeping = panics::guarded(async { keeper.keep(&mut stop).await });
            let Err(fault) = keeping.await else { return };
            let text = format!("it is not looked at just now, after a fault of the host: {fault}");
            services.recorder.emit(Event::HostFault { part: "the keeper of the directory".to_string(), fault });
            let finding = Finding {
                path: ".".to_string(),
                kind: FindingKind::Unseen,
                message: text,
                help: "`paguro events` shows the fault with its backtrace: please report it".to_string(),
            };
            problems.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
            // It may have been away at that moment.
            keeper.directory = Some(Directory::new(&keeper.root));
            if services.clock.now().since(begun) > FAULT_PAUSE_MAX {
                pause = FAULT_PAUSE_MIN;
            }
            if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(FAULT_PAUSE_MAX);
        }
    }

    async fn keep(&mut self, stop: &mut watch::Receiver<bool>) {
        let mut look_at = Some(self.services.clock.now());
        let mut under_way = self.changes.watch();
        loop {
            self.resume_children();
            self.services.fuses.at(&Name::root());
            let again = look_at.map(|at| at.since(self.services.clock.now()));
            let due = tokio::select! {
                biased;
                // An error means that the host is gone: the same. What is being loaded is abandoned.
                _ = stop.wait_for(|stop| *stop) => return,
                Ok(()) = self.leads_to.changed() => Due::Move,
                () = self.loads.ended() => Due::Admit,
                () = self.watcher.changed() => Due::Look,
                // A change has ended: a file that came meanwhile has its turn.
                Ok(()) = under_way.changed() => Due::Look,
                () = sleep_or_never(again) => Due::Look,
            };
            match due {
                Due::Admit => self.admit().await,
                Due::Move => {
                    self.go_where_it_leads();
                    look_at = Some(self.services.clock.now());
                }
                Due::Look => {
                    let again = self.look().await;
                    look_at = again.map(|again| self.services.clock.now().after(again));
                }
            }
        }
    }

    /// The path that names the directory leads to another one by now. What runs goes on until a look at that is certain.
    fn go_where_it_leads(&mut self) {
        self.root = self.leads_to.borrow_and_update().clone();
        self.directory = Some(Directory::new(&self.root));
        // What hangs where it led before holds up nothing here.
        self.looking = Beside::default();
        self.late = None;
        self.reading.clear();
        self.loads.forget_reads();
        self.watcher = Watcher::new(&self.root);
        self.granting.move_to(self.root.clone());
    }

    /// One look and what follows from it. Says when to look again, if files are still changing.
    async fn look(&mut self) -> Option<Duration> {
        let again = self.see().await;
        if self.said_of != self.root {
            // The directory is another, and nothing is known of it yet.
            return again;
        }
        let current = match self.current() {
            Ok(current) => current,
            Err(error) => {
                self.database_failed("read what runs", error.to_string());
                return Some(Duration::from_secs(1));
            }
        };
        self.note_what_waits(&current);
        self.settle_stand_ins();
        for step in plan(&current, &self.said) {
            self.take(step).await;
        }
        self.recheck_grants().await;
        self.services.database.ledger_due(self.services.clock.timestamp());
        // What was held while its load ended may be certain now.
        self.admit().await;
        self.keep_accepted().await;
        again
    }

    /// Looks at the directory.
    async fn see(&mut self) -> Option<Duration> {
        let (directory, look) = match self.looked().await {
            Ok(looked) => looked,
            Err(again) => return Some(again),
        };
        self.directory = Some(directory);
        self.said_of = self.root.clone();
        self.said = look.tree;
        self.tell_where_components_lie();
        self.files.note(&self.said.workers, |name| self.said.is_held(name));
        self.refuse_what_guests_may_write().await;
        self.go_on_with_accepted();
        self.go_on_where_refused(Keeper::refuse_what_cannot_be);
        let said = &self.said;
        let accepted = &self.accepted;
        let is_there =
            |name: &Name| said.workers.contains_key(name) || said.is_held(name) || accepted.is_uncertain(name);
        let banned: BTreeSet<ComponentHash> =
            self.services.sandbox.banned().into_iter().map(|(hash, _)| hash).collect();
        self.refused.retain(|name, refusal| is_there(name) && (!refusal.by_ban || banned.contains(&refusal.hash)));
        self.granting.retain(is_there);
        self.reading.retain(|_, reading| reading.is_busy());
        let gone: Vec<Name> = self.files.deleted().into_iter().filter(|name| !is_there(name)).collect();
        self.files_of_deleted_are_gone(gone).await;
        self.forget_what_ended();
        self.report();
        look.again
    }

    /// For copies of the host's own that are lost: the same bytes may lie in the directory.
    fn tell_where_components_lie(&self) {
        let files = self.changes.component_files();
        files.lie_elsewhere(self.said.workers.values().map(|entry| (entry.hash, entry.path.clone())).collect());
        for (component, path) in files.mended() {
            let path = path.display().to_string();
            self.services.recorder.emit(Event::ComponentMended { component, path });
        }
    }

    /// A look that was begun now or before, if it ends within [`bounds::LOOK_TIME`] of its begin.
    async fn looked(&mut self) -> Result<(Directory, Look), Duration> {
        let now = self.services.clock.now();
        let was_late = self.late.is_some();
        let (mut looking, begun) = match self.late.take() {
            Some(late) => late,
            None => {
                // Where it is not there a look panicked: it is looked at anew, as if for the first time.
                let mut directory = self.directory.take().unwrap_or_else(|| Directory::new(&self.root));
                let begun = self.looking.begin(move || {
                    let look = panics::catch(|| directory.look(now))?;
                    Ok((directory, look))
                });
                (begun.ok_or(POLL)?, now)
            }
        };
        let time = bounds::LOOK_TIME.saturating_sub(now.since(begun));
        match tokio::time::timeout(time, &mut looking).await {
            Ok(Ok(Ok(looked))) => {
                if was_late {
                    let took = self.services.clock.now().since(begun);
                    self.services.recorder.emit(Event::LookEnded { took });
                }
                Ok(looked)
            }
            Ok(Ok(Err(fault))) => {
                let part = "the look at the directory".to_string();
                self.services.recorder.emit(Event::HostFault { part, fault });
                Err(FAULT_PAUSE_MIN)
            }
            // Its thread is gone without a word.
            Ok(Err(_)) => Err(FAULT_PAUSE_MIN),
            Err(_) => {
                self.late = Some((looking, begun));
                // Before it is told: whoever hears of it may ask.
                self.publish();
                if !was_late {
                    let path = self.root.display().to_string();
                    self.services.recorder.emit(Event::LookLate { path, after: bounds::LOOK_TIME });
                }
                Err(POLL)
            }
        }
    }

    /// Policies that cannot be carried out, and what else the directory asks for in vain.
    fn refuse_what_cannot_be(&mut self) {
        let templates = self.wanted_templates().into_iter();
        let mut workers: BTreeMap<Name, Arc<WorkerSettings>> =
            templates.map(|(name, template)| (name, Arc::new(template.settings))).collect();
        let mut before: BTreeSet<Name> = self.loads.wanted().into_keys().collect();
        let was = self.accepted.workers().filter(|name| !workers.contains_key(*name));
        before.extend(was.cloned());
        for name in self.said.workers.keys().chain(&self.said.held) {
            if let Some(worker) = self.services.registry.get(name) {
                workers.insert(name.clone(), worker.settings());
            } else if let Ok(Some(record)) = self.services.database.worker(name)
                && !record.removed
            {
                before.insert(name.clone());
            }
        }
        let running = Running { supervisors: &self.policies, workers: &workers, before: &before };
        admit(&self.root, running, &mut self.said);
    }

    fn current(&self) -> Result<CurrentTree, crate::record::DatabaseError> {
        let (supervisors, loading) = (self.policies.clone(), self.loads.wanted());
        let templates = self.wanted_templates();
        let simple: BTreeSet<Name> = templates.keys().filter_map(Name::parent).collect();
        let mut tree = CurrentTree { supervisors, workers: BTreeMap::new(), templates, loading };
        for worker in self.services.registry.all() {
            let name = worker.name();
            // Children of templates are not the directory's.
            if name.parent().is_some_and(|parent| simple.contains(&parent)) {
                continue;
            }
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
    fn report(&mut self) {
        let mut problems: BTreeSet<Problem> = self.said.problems.iter().cloned().collect();
        problems.extend(self.watcher.problem().cloned());
        // A warning is about what is in force; a file that is refused says something else by now.
        let is_error = |problem: &&Problem| !problem.is_warning;
        let refused: BTreeSet<PathBuf> = problems.iter().filter(is_error).map(|problem| problem.path.clone()).collect();
        problems.retain(|problem| !problem.is_warning || !refused.contains(&problem.path));
        for problem in problems.difference(&self.reported) {
            self.emit_problem(problem);
        }
        self.reported = problems;
        self.publish();
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

    async fn take(&mut self, step: Step) {
        match step {
            Step::AddSupervisor { name, settings } => {
                let added = self.tree.add_supervisor(name.clone(), settings.clone()).await;
                let added = added.map(|()| drop(self.policies.insert(name.clone(), settings)));
                self.tell(&name, added);
            }
            Step::ChangePolicy { name, settings } => {
                let changed = self.tree.configure_supervisor(&name, settings.clone()).await;
                let done = changed.is_ok();
                let changed = changed.map(|()| drop(self.policies.insert(name.clone(), settings)));
                self.refresh_template(&name);
                self.tell(&name, changed);
                if done {
                    self.policy_is_changed(name).await;
                }
            }
            Step::RemoveSupervisor { name } => {
                match in_time(self.tree.remove(&name)).await {
                    // One that is gone already is as good.
                    Some(Ok(()) | Err(TreeError::NotFound(_))) => drop(self.policies.remove(&name)),
                    Some(Err(error)) => self.tell(&name, Err(error)),
                    // It goes on stopping; the next look asks again.
                    None => {}
                }
            }
            Step::Load { name, wanted } => self.load(name, wanted).await,
            Step::LoadTemplate { name, wanted } => self.load_template(name, wanted).await,
            Step::ChangeTemplate { name, wanted } => self.change_template(name, wanted).await,
            Step::RemoveTemplate { name } => self.template_is_gone(&name).await,
            Step::Abandon { name } => self.loads.abandon(&name),
            Step::ChangeSettings { name, settings } => self.configure(&name, settings).await,
            Step::SameAgain { name, hash } => drop(self.acted_upon(&name, hash).await),
            Step::RemoveWorker { name } => self.remove(&name).await,
            Step::Upgrade { name, path, hash } => self.upgrade(name, &path, hash).await,
        }
    }

    async fn policy_is_changed(&self, supervisor: Name) {
        let file = self.root.join(supervisor.as_str()).join("supervisor.toml");
        let entry = NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: supervisor,
            action: Action::SettingsChanged,
            hash: None,
            by: By::Directory,
            detail: format!("as {} says", one_line(&file.to_string_lossy())),
        };
        if let Err(error) = self.services.database.commit(vec![Change::Ledger(entry)]).await {
            self.database_failed("write that a policy changed", error.to_string());
        }
    }

    /// Begins to load a worker's component, unless it is known that nothing would come of it.
    async fn load(&mut self, name: Name, mut wanted: Wanted) {
        self.loads.abandon(&name);
        if self.comes_to_nothing(&name, &wanted) || !self.grant(&name, &mut wanted.settings, &Grants::default()).await {
            return;
        }
        match self.services.database.worker(&name) {
            // An operator deleted it, and that holds until its file changes.
            Ok(Some(known)) if known.removed && known.overridden && known.file == Some(wanted.hash) => {}
            Ok(known) => {
                let known = known.map_or(Known::Nothing, |record| Known::ComesBackOn(record.component));
                self.loads.begin(name, wanted, known);
            }
            Err(error) => self.database_failed("read a worker", error.to_string()),
        }
    }

    /// A file that is removed and put back has changed, whatever is in it.
    async fn files_of_deleted_are_gone(&self, names: Vec<Name>) {
        if names.is_empty() {
            return;
        }
        match self.services.database.commit(names.iter().cloned().map(Change::FileGone).collect()).await {
            Ok(()) => self.files.gone(&names),
            Err(error) => self.database_failed("write that a file is gone", error.to_string()),
        }
    }

    async fn load_template(&mut self, name: Name, mut wanted: Wanted) {
        self.loads.abandon(&name);
        let kept = self.templates.get(&name).map(|held| held.wanted.settings.grants.clone()).unwrap_or_default();
        if self.comes_to_nothing(&name, &wanted) || !self.grant(&name, &mut wanted.settings, &kept).await {
            return;
        }
        // A file that cannot be taken leaves the keys what they had, after a restart of the host too.
        let known = match self.serving_before(&name) {
            Some(serving) if self.accepted.is_uncertain(&name) => Known::ComesBackOn(serving),
            Some(serving) if !self.templates.contains_key(&name) => Known::Otherwise(serving),
            _ => Known::Nothing,
        };
        self.loads.begin(name, wanted, known);
    }

    /// Whether it is known that a file cannot be loaded, or it is too soon to try again.
    fn comes_to_nothing(&self, name: &Name, wanted: &Wanted) -> bool {
        let refused = self.refused.get(name);
        refused.is_some_and(|refusal| refusal.is_of(wanted)) || self.is_too_soon(name, wanted.hash)
    }

    /// Whether a file is the template of its directory.
    fn is_template(&self, name: &Name) -> bool {
        let policy = name.parent().and_then(|parent| self.policies.get(&parent));
        policy.is_some_and(|policy| policy.strategy == Strategy::SimpleOneForOne)
    }

    /// Adds the workers that are loaded, unless the directory is not sure of them just now.
    async fn admit(&mut self) {
        // What was wanted of another directory is not wanted any more.
        let loaded = if self.said_of == self.root { self.loads.loaded() } else { Vec::new() };
        for name in loaded {
            // The plan has abandoned what is not wanted as it was loaded.
            let is_wanted = self.said.workers.get(&name).is_some_and(|entry| entry.settings.is_ok());
            if !is_wanted || self.said.is_held(&name) {
                continue;
            }
            if let Some(loaded) = self.loads.take(&name) {
                self.add(name, loaded).await;
            }
        }
        self.publish();
    }

    async fn add(&mut self, name: Name, loaded: Loaded) {
        let Loaded { wanted, component } = loaded;
        let launch = match component {
            Ok(component) if self.is_template(&name) => {
                self.refused.remove(&name);
                let stands_in = self.accepted.is_uncertain(&name);
                return self.set_template(name, wanted, component, stands_in);
            }
            Ok(component) => {
                let settings = wanted.settings.clone();
                match self.services.database.worker(&name) {
                    Ok(Some(record)) if record.component == component.hash() => {
                        change::resume(&self.changes, &record, component, settings).await
                    }
                    Ok(None) => change::deploy(&self.changes, name.clone(), component, settings).await,
                    // Not what was loaded: the next look plans it anew.
                    Ok(Some(_)) => return,
                    Err(error) => return self.database_failed("read a worker", error.to_string()),
                }
            }
            // The next look sees what it is now.
            Err(LoadError::Changed) => return,
            Err(LoadError::Unreadable(problem)) => {
                self.count_try(&name, wanted.hash, Some(problem.message.clone()));
                return self.emit_problem(&problem);
            }
            Err(LoadError::Refused { error, instead }) => {
                if let Some(component) = instead.filter(|_| self.is_template(&name)) {
                    let wanted = Wanted { hash: component.hash(), ..wanted.clone() };
                    self.set_template(name.clone(), wanted, *component, true);
                }
                Err(error)
            }
        };
        match launch {
            Ok(launch) => {
                self.refused.remove(&name);
                let added = self.tree.add_worker(launch).await;
                self.tell(&name, added.map(drop));
            }
            Err(error) => {
                self.problem(&wanted.path, &error);
                // What a full disk or the like is to blame for is tried again, after a while.
                if let ChangeError::Component(refused) = &error {
                    let by_ban = matches!(refused, ComponentError::Banned(_) | ComponentError::NotCompiled(_));
                    let (hash, why) = (wanted.hash, change_message(&error));
                    self.refused.insert(name, Refusal { hash, settings: wanted.settings, why, by_ban });
                } else {
                    self.count_try(&name, wanted.hash, Some(change_message(&error)));
                }
            }
        }
    }

    async fn remove(&mut self, name: &Name) {
        let Some(removed) = in_time(self.tree.remove(name)).await else { return };
        if let Ok(Some(record)) = self.services.database.worker(name) {
            let changes = vec![
                Change::WorkerRemoved(name.clone()),
                // An operator's word against it ends with it, and what is put back is new.
                Change::FileGone(name.clone()),
                Change::ClearBreaker(name.clone()),
                self.entry(name, Action::Removed, record.component, "its file is gone; state and history are kept"),
            ];
            if let Err(error) = self.services.database.commit(changes).await {
                self.database_failed("write that a worker was removed", error.to_string());
            }
        }
        self.tell(name, removed);
    }

    async fn configure(&mut self, name: &Name, mut settings: WorkerSettings) {
        let Some(worker) = self.services.registry.get(name) else { return };
        let change = SettingsChange::between(&worker.settings(), &settings);
        if change.is_empty() {
            return;
        }
        let kept = worker.settings().grants.clone();
        if !self.grant(name, &mut settings, &kept).await {
            return;
        }
        let configured = self.tree.configure_worker(&worker, settings.into()).await;
        let done = configured.is_ok();
        self.tell(name, configured);
        if !done {
            return;
        }
        let list = |keys: &[&str]| if keys.is_empty() { "nothing".to_string() } else { keys.join(", ") };
        let detail = format!("in place: {}; by a restart: {}", list(&change.in_place), list(&change.restart));
        let entry = self.entry(name, Action::SettingsChanged, worker.status().component, &detail);
        if let Err(error) = self.services.database.commit(vec![entry]).await {
            self.database_failed("write that settings changed", error.to_string());
        }
        let status = worker.status();
        // One that failed may be well with its new settings; one that was stopped stays so.
        let failed = matches!(status.standing, Standing::Down | Standing::Isolated(_))
            && matches!(status.last_exit, Some(ExitReason::Failed(_)))
            && !status.was_asked;
        let restart = (!change.restart.is_empty() && worker.lives()) || failed;
        let (in_place, restarted) = (change.in_place, change.restart);
        self.services.recorder.emit(Event::SettingsChanged { name: name.clone(), in_place, restarted });
        if restart && let Some(restarted) = in_time(self.tree.restart_child(name)).await {
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
        let changes = vec![Change::FileNoted(name.clone(), hash), Change::ClearRejections(name.clone())];
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
        self.count_try(&name, hash, None);
        let of = path.to_path_buf();
        let reading = self.reading.entry(name.clone()).or_default();
        if reading.is_busy() {
            return;
        }
        let bytes = match reading.run(bounds::LOOK_TIME, move || read_component(&of)).await {
            Some(Ok((bytes, read))) if read == hash => bytes.into_vec(),
            // It changed again: the next look sees to it.
            Some(Ok(_)) => return,
            None => return self.emit_problem(&Problem::late(path)),
            Some(Err(problem)) => return self.emit_problem(&problem),
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
        let (recorder, part) = (self.services.recorder.clone(), format!("the upgrade of {name:?} by its file"));
        tokio::spawn(async move { recorder.watched(&part, upgrading.run(bytes)).await });
    }

    /// Whether this file was tried a moment ago, and it is not time to try again.
    fn is_too_soon(&self, name: &Name, hash: ComponentHash) -> bool {
        let tries = self.tries.get(name).filter(|tries| tries.hash == hash);
        tries.is_some_and(|tries| self.services.clock.now() < tries.next)
    }

    /// `failed`: nothing runs for want of it.
    fn count_try(&mut self, name: &Name, hash: ComponentHash, failed: Option<String>) {
        let before = self.tries.get(name).filter(|tries| tries.hash == hash).map_or(0, |tries| tries.count);
        let count = (before + 1).min(TRIES_COUNTED);
        let next = self.services.clock.now().after(TRY_AGAIN.saturating_mul(1 << count));
        self.tries.insert(name.clone(), Tries { hash, count, next, failed });
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

/// Between a panic of the keeper and its next look; doubled each time.
const FAULT_PAUSE_MIN: Duration = Duration::from_secs(1);
const FAULT_PAUSE_MAX: Duration = Duration::from_secs(60);

/// `None`: it takes longer than the keeper waits, and goes on by itself.
async fn in_time<T>(request: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(bounds::KEEPER_WAITS, request).await.ok()
}

/// What holds now.
pub(super) type Problems = Arc<Mutex<Vec<Finding>>>;

fn change_message(error: &ChangeError) -> String {
    match error {
        ChangeError::Component(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A file that could not be deployed.
struct Refusal {
    hash: ComponentHash,
    settings: WorkerSettings,
    why: String,
    /// It is not compiled until an operator lifts the ban.
    by_ban: bool,
}

impl Refusal {
    fn is_of(&self, wanted: &Wanted) -> bool {
        self.hash == wanted.hash && self.settings == wanted.settings
    }
}
struct Tries {
    hash: ComponentHash,
    count: u32,
    next: Tick,
    failed: Option<String>,
}

/// Before the second try of a file; doubled each time, up to 64 times.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRIES_COUNTED: u32 = 6;

/// What a look led to, and the directory that looked. A panic in it is the error.
type Looked = Result<(Directory, Look), HostFault>;

/// What it is time for.
enum Due {
    /// Something is loaded.
    Admit,
    /// The directory is another.
    Move,
    Look,
}

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
