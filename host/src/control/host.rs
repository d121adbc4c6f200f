//! The host as a library: everything the API does, an embedding program can do with a [`Host`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::beside::Beside;
use super::dead_letters::NotResent;
use super::finding::{Finding, FindingKind};
use super::following::{Place, checked_directory, judged, steady, warn_of_a_second_state};
use super::grants::Refused;
use super::keeper::{Files, Keeper, Problems, root_policy};
use super::starting::Starting;
use super::state_watch::{self, StateWatch};
use crate::base::{
    Account, Clock, ComponentHash, Name, Payload, Random, RevisionNumber, Snapshot, Timestamp, bounds, panics,
};
use crate::change::{ChangeError, Changes, Lanes, Outcome, Rehearsal, Source, Switched, UpgradeRequest, hash_of};
use crate::record::{
    Action, By, Change, ComponentFiles, Database, DatabaseError, Event, LedgerEntry, NewLedgerEntry, Options,
    OtherDatabase, Recorder, StateDir, StateDirError, TreeLock, TreeLockError, Why, WorkerRecord, default_state,
    marker, state_behind_a_link,
};
use crate::runtime::worker::{AskError, NoState, System};
use crate::runtime::{
    Cause, Fuse, Outcome as Reply, Residents, Services, Shared, Standing, Started, Tree, TreeError,
    account_bytes_max_here, asleep_bytes_max_here, compilers_bytes_max_here, live_instances_max_here,
};
use crate::sandbox::{CallError, CompilerChoice, ComponentError, Sandbox, SandboxError, compilers_ended};

/// How long a reader waits for what is being written.
const WRITTEN_TIME: Duration = Duration::from_secs(2);

/// How to start a host.
#[derive(Clone)]
pub struct HostOptions {
    /// The directory that is the tree. Must exist.
    pub directory: PathBuf,
    /// Where state lives; by default `.paguro` in the directory, or beside it where that is named by a link
    /// ([`default_state`]).
    pub state: Option<PathBuf>,
    /// Takes what happens from the first moment on; whoever wants to see the start follows it before.
    pub recorder: Recorder,
    /// Bytes that the database may grow to; by default as large as the disk.
    pub database_bytes_max: Option<u64>,
    /// How long the start waits for components that are being loaded; by default
    /// [`FIRST_LOADS_TIME`](bounds::FIRST_LOADS_TIME).
    pub first_loads: Duration,
    /// Instances that may be live at one time, at least 1; by default as many as the machine carries
    /// ([`crate::runtime::live_instances_max`]). Beyond, idle workers that export `state` hibernate, and
    /// others wait.
    pub live_instances_max: Option<usize>,
    /// Bytes of states of workers that hibernate which are held in memory; by default a quarter of what the
    /// machine has available. Beyond, those that are durable are in the database alone.
    pub asleep_bytes_max: Option<u64>,
    /// Starts although the database is not the one that was there last, or is gone: what it lacks is lost.
    pub fresh: bool,
    /// Where a test has the host's own code panic; nowhere by default.
    pub fuse: Option<Arc<dyn Fuse>>,
    /// Bytes of memory that guests, clients and files may make the host keep together ([`Account`]); by default half
    /// of the memory of the cgroup or of the machine.
    pub account_bytes_max: Option<u64>,
    /// The program that compiles components, in processes that are held to time and memory. An embedding program that
    /// calls [`crate::sandbox::run_if_asked`] first thing in its `main` names `/proc/self/exe`; any `paguro` of the same
    /// version does too. By default components are compiled in this process, which is **not safe for hostile files**: a
    /// file of a megabyte can take gigabytes of memory and minutes.
    pub compiler: CompilerChoice,
    /// Bytes of memory that all compilers together may use; by default 2 GiB, or half of the memory of the cgroup or of
    /// the machine where that is less. Without [`HostOptions::compiler`] nothing holds them to it.
    pub compilers_bytes_max: Option<u64>,
}

impl HostOptions {
    pub fn new(directory: impl Into<PathBuf>) -> HostOptions {
        let recorder = Recorder::new(Clock::system());
        HostOptions {
            directory: directory.into(),
            state: None,
            recorder,
            database_bytes_max: None,
            first_loads: bounds::FIRST_LOADS_TIME,
            live_instances_max: None,
            asleep_bytes_max: None,
            fresh: false,
            fuse: None,
            account_bytes_max: None,
            compiler: CompilerChoice::InProcess,
            compilers_bytes_max: None,
        }
    }
}

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("there is no directory {}", .0.display())]
    NoDirectory(PathBuf),
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("the directory {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} {why}", path.display())]
    NotTrusted { path: PathBuf, why: String, help: String },
    #[error("{} is a symbolic link, and the state lies where it leads to: if it was moved, the state would stay behind", link.display())]
    StateBehindLink { link: PathBuf, inside: PathBuf, beside: PathBuf },
    #[error(transparent)]
    State(#[from] StateDirError),
    #[error(transparent)]
    InUse(#[from] TreeLockError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    OtherDatabase(#[from] OtherDatabase),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Why a request to a host failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    #[error("there is no worker `{name}`")]
    /// `problem`: what is wrong with its file, and what helps.
    NoWorker { name: String, nearest: Vec<String>, problem: Option<(String, String)> },
    #[error("there is no worker {0:?}")]
    NoKey(Name),
    #[error("{0:?} is no key of a template: its configuration is in its settings")]
    NoKeyToConfigure(Name),
    #[error("{0:?} was deleted")]
    Deleted(Name),
    /// `is_template`: its workers are keys.
    #[error("{name:?} is a supervisor and no worker")]
    IsSupervisor { name: Name, is_template: bool },
    #[error("{worker:?} did not answer")]
    Call { worker: Name, error: CallError },
    /// It did not run when the message came. `reason`: how it ended.
    #[error("{worker:?} does not run")]
    Down { worker: Name, reason: crate::base::ExitReason },
    #[error("{worker:?} is isolated: it does not run until it is started")]
    Isolated { worker: Name, why: String },
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("{worker:?} has no state to show")]
    NoState { worker: Name, why: NoState },
    #[error("the state of {worker:?} was not changed")]
    Import { worker: Name, why: String },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("{worker:?} cannot be asked: {error}")]
    Ask { worker: Name, error: AskError },
    #[error("{0:?} is a directory of workers")]
    IsDirectory(Name),
    #[error("{0:?} runs: stop it first")]
    RunsStill(Name),
    #[error("{worker:?} did not start")]
    NotStarted { worker: Name, why: String },
    #[error("the file is not a worker")]
    NotAWorker(ComponentError),
    #[error("there is no dead letter {0}")]
    NoDeadLetter(u64),
    #[error("the ledger was not trimmed")]
    NotTrimmed { why: String },
    #[error("dead letter {id} was not sent again")]
    NotResent { id: u64, refused: NotResent },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Ends with the host, or with its start that failed.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A running host. Dropping it does not stop it in order: call [`Host::stop`].
pub struct Host {
    pub(super) services: Arc<Services>,
    pub(super) tree: Arc<Tree>,
    pub(super) changes: Changes,
    pub(super) place: Place,
    /// Given back when the host has stopped, so that another can take them.
    pub(super) state: Mutex<Option<(StateDir, TreeLock)>>,
    pub(super) state_path: PathBuf,
    pub(super) socket_path: PathBuf,
    pub(super) started_at: Timestamp,
    stopping: watch::Sender<bool>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    pub(super) starting: Arc<Starting>,
    watching: Watching,
    problems: Problems,
    pub(super) files: Files,
    /// A look of the doctor at file systems.
    pub(super) examining: tokio::sync::Mutex<Beside>,
}

/// The rest of a host's start, once it can be asked how it is.
pub(super) struct Start {
    host: Arc<Host>,
    keeper: Keeper,
    first_loads: Duration,
    stop: watch::Receiver<bool>,
}

impl Start {
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Starts what the directory says. Returns when each worker was started or tried.
    pub async fn run(self) -> Result<(), HostError> {
        let Start { host, mut keeper, first_loads, stop } = self;
        keeper.first_look(first_loads).await;
        host.tree.begin_to_start().await;
        // What is there by now can be reached, however long others take to start.
        host.starting.open();
        host.tree.started().await;
        host.starting.end();
        let keeping = tokio::spawn(keeper.keep_always(stop));
        *host.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeping);
        Ok(())
    }
}

/// What a component is, and whether it would fit.
#[derive(Debug)]
pub struct Checked {
    pub component: crate::sandbox::Component,
    pub compile: Duration,
    /// Against a worker: what a rehearsal learnt, or why it does not fit.
    pub against: Option<Result<Rehearsal, ChangeError>>,
}

impl Host {
    /// Takes the state directory, takes up what the last run left, and starts what the directory
    /// says, in order. Returns when each worker was started or tried. Components are loaded side by
    /// side, and waited for no longer than [`HostOptions::first_loads`]:
    /// a worker whose component takes longer (a large one, on the first start) is added when it is
    /// ready, which [`Event::WorkerLate`] tells; until then it is among [`Host::problems`].
    pub async fn start(options: HostOptions) -> Result<Arc<Host>, HostError> {
        let start = Host::open(options).await?;
        let host = start.host().clone();
        start.run().await?;
        Ok(host)
    }

    /// Everything up to the first look at the directory: no worker runs yet, and the host can be asked how it is.
    pub(super) async fn open(options: HostOptions) -> Result<Start, HostError> {
        // What panics is told with its place and its backtrace from now on.
        panics::note_panics();
        let directory = checked_directory(&options.directory)?;
        let behind = options.state.is_none().then(|| state_behind_a_link(&options.directory)).flatten();
        let state_path = match (options.state, &behind) {
            (Some(state), _) => state,
            (None, Some((inside, _))) => inside.clone(),
            (None, None) => steady(default_state(&options.directory)),
        };
        let tree_lock = TreeLock::take(&directory).map_err(|error| match (error, StateDir::holder(&state_path)) {
            // Its state directory says who it is.
            (TreeLockError::Locked { .. }, Some(pid)) => {
                StateDirError::Locked { path: state_path.clone(), pid: Some(pid) }.into()
            }
            (error, _) => HostError::InUse(error),
        })?;
        if let Some((inside, beside)) = behind {
            return Err(HostError::StateBehindLink { link: options.directory, inside, beside });
        }
        warn_of_a_second_state(&directory, &state_path);
        let state = StateDir::open(&state_path)?;
        let recorder = options.recorder;
        let clock = recorder.clock().clone();
        let pages = options.database_bytes_max.map(|bytes| u32::try_from(bytes / 4096).unwrap_or(u32::MAX));
        let known = |known: Result<(), OtherDatabase>| if options.fresh { Ok(()) } else { known };
        known(marker::before_opening(&state))?;
        let database = Database::open_with(&state.database_path(), clock.clone(), Options { page_count_max: pages })?;
        known(marker::after_opening(&state, &database))?;
        let judged = judged(&options.directory, &directory, state.path(), &database).await;
        let path = options.directory.clone();
        judged.map_err(|Refused { message: why, help }| HostError::NotTrusted { path, why, help })?;
        let watch = StateWatch::new(state.path(), &state.database_path());
        let sandbox = Sandbox::with_compiler(Some(&state.cache()), options.compiler)?;
        let residents = Residents::bounded(
            options.live_instances_max.unwrap_or_else(live_instances_max_here),
            options.asleep_bytes_max.unwrap_or_else(asleep_bytes_max_here),
        );
        let account = Account::of_host(options.account_bytes_max.unwrap_or_else(account_bytes_max_here));
        sandbox.charge_to(&account);
        let random = Random::system();
        let services = Services::new(clock.clone(), random, recorder.clone(), database, sandbox, residents, account);
        options.fuse.into_iter().for_each(|fuse| services.fuses.set(fuse));
        let lanes = Lanes::new(options.compilers_bytes_max.unwrap_or_else(compilers_bytes_max_here));
        let changes = Changes::new(&services, ComponentFiles::new(state.components()), lanes);
        let watching = Watching(tokio::spawn(watch.watch(services.clone())));
        recorder.emit(Event::HostStarted { directory: directory.display().to_string() });
        services.database.commit(vec![host_entry(&services, Action::HostStarted)]).await?;
        state_watch::mark(state.path(), &services.database).await;
        crate::change::take_up(&changes).await?;
        // Files of components that nothing names any more.
        if let Ok(kept) = services.database.components_in_use() {
            let _ = ComponentFiles::new(state.components()).retain(&kept);
            services.sandbox.retain(&kept);
        }
        let tree = Arc::new(Tree::new(&services, root_policy(&services.database)));
        let (stopping, stop) = watch::channel(false);
        let started_at = clock.timestamp();
        let deleted = services.database.workers_deleted()?.into_iter().map(|record| record.name);
        let files = Files::new(deleted);
        let starting = Arc::new(Starting::new());
        let place = Place::new(&options.directory, &directory);
        let keeper = Keeper::new(&place, state.path(), &services, &tree, &changes, &files, &starting);
        let problems = keeper.problems();
        let host = Arc::new(Host {
            services,
            tree,
            changes,
            place,
            state_path: state.path().to_path_buf(),
            socket_path: state.socket_path(),
            state: Mutex::new(Some((state, tree_lock))),
            started_at,
            stopping,
            keeper: Mutex::default(),
            starting,
            watching,
            problems,
            files,
            examining: tokio::sync::Mutex::default(),
        });
        Ok(Start { host, keeper, first_loads: options.first_loads, stop })
    }

    /// Stops every worker in order, states saved, and closes the database. Once; dropped half way,
    /// [`Host::finish`] goes on.
    pub async fn stop(&self) {
        if self.stopping.send_replace(true) {
            return;
        }
        self.services.recorder.emit(Event::HostStopping);
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut keeper) = keeper {
            // It may be waiting for a worker's end. What is being loaded is abandoned: nobody needs it
            // any more. What was decided is in the database, and the next start takes it up.
            if tokio::time::timeout(KEEPER_TIME, &mut keeper).await.is_err() {
                keeper.abort();
            }
        }
        self.finish().await;
    }

    /// The rest of a stop, from wherever one that was dropped had come to.
    pub async fn finish(&self) {
        self.stopping.send_replace(true);
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
        self.changes.stop();
        // A root that has stopped already says so again.
        self.tree.ask_to_stop().await;
        self.tree.stopped().await;
        self.changes.all_ended().await;
        compilers_ended(bounds::COMPILERS_END_TIME).await;
        // What still waits is answered, or becomes a dead letter.
        for worker in self.workers() {
            self.tree.quit(&worker, Cause::HostStopped).await;
        }
        self.services.dead_letters.written().await;
        // What cannot be written now is written nowhere: the next start finds what was.
        let _ = self.services.database.commit(vec![host_entry(&self.services, Action::HostStopped)]).await;
        self.watching.0.abort();
        let is_ours = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.as_ref().is_some_and(|(state, _)| state.is_ours())
        };
        // One that took its place is not this host's to write to.
        if is_ours {
            state_watch::mark(&self.state_path, &self.services.database).await;
        }
        self.services.database.close().await;
        drop(self.state.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Resolves, to why, when the host cannot go on: stop it in order then, and start anew, best as a new process. Never
    /// otherwise. Workers that fail are no reason.
    pub async fn broken(&self) -> Arc<str> {
        self.services.broken().await
    }

    /// Whether a request about this name need not wait for the rest of the host's start: a message, or a look, where the
    /// worker is there; anything else, and a message for a key, where its supervisor runs.
    pub(super) fn is_there(&self, name: &Name, changes_nothing: bool) -> bool {
        let above_runs = || name.parent().and_then(|above| self.tree.runs(&above)) == Some(true);
        let is_known = self.services.registry.get(name).is_some() || self.tree.runs(name).is_some();
        let is_key = || name.parent().is_some_and(|above| self.services.templates.get(&above).is_some());
        is_known && changes_nothing || (is_known || is_key()) && above_runs()
    }

    /// Whether all that the directory says was started, or tried. False only while `paguro up` starts it.
    pub(super) fn has_started(&self) -> bool {
        self.starting.is_over()
    }

    /// Resolves when all that was decided by now can be read: starts of keys are written beside what they do.
    /// Where the disk does not answer for 2 s, what is there can be read all the same.
    pub async fn written(&self) {
        let _ = tokio::time::timeout(WRITTEN_TIME, self.services.database.commit(Vec::new())).await;
    }

    /// The account of memory that all below is charged to.
    pub fn account(&self) -> &Arc<Account> {
        &self.services.account
    }

    pub fn recorder(&self) -> &Recorder {
        &self.services.recorder
    }

    pub fn database(&self) -> &Database {
        &self.services.database
    }

    /// The directory of workers, links resolved.
    pub fn directory(&self) -> PathBuf {
        self.place.directory()
    }

    /// What in the directory is not as it was meant to be, now.
    pub fn problems(&self) -> Vec<Finding> {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problems.extend(self.place.not_followed());
        problems
    }

    /// The worker a message is for: as [`Host::worker`], and a key of a template that starts its children
    /// on demand.
    pub fn receiver(&self, name: &str) -> Result<Arc<Shared>, RequestError> {
        self.found(name, crate::runtime::find(&self.services, name))
    }

    fn found(&self, name: &str, found: Result<Arc<Shared>, CallError>) -> Result<Arc<Shared>, RequestError> {
        match found {
            Ok(worker) => Ok(worker),
            Err(CallError::Overloaded) => Err(match Name::parse(name) {
                Ok(worker) => RequestError::Call { worker, error: CallError::Overloaded },
                Err(_) => return self.worker(name),
            }),
            Err(_) => self.worker(name),
        }
    }

    /// All workers by name.
    pub fn workers(&self) -> Vec<Arc<Shared>> {
        self.services.registry.all()
    }

    /// The error offers the nearest names.
    pub fn worker(&self, name: &str) -> Result<Arc<Shared>, RequestError> {
        self.services.registry.find(name).ok_or_else(|| self.not_found(name))
    }

    fn not_found(&self, name: &str) -> RequestError {
        if let Ok(name) = Name::parse(name) {
            if self.tree.supervisor_names().contains(&name) {
                let is_template = self.services.templates.get(&name).is_some();
                return RequestError::IsSupervisor { name, is_template };
            }
            if self.files.is_deleted(&name) {
                return RequestError::Deleted(name);
            }
            if name.parent().is_some_and(|supervisor| self.services.templates.get(&supervisor).is_some()) {
                return RequestError::NoKey(name);
            }
        }
        RequestError::NoWorker {
            name: name.escape_debug().to_string(),
            nearest: self.services.registry.nearest(name),
            problem: self.problem_of(name),
        }
    }

    /// For whom a message to this name is, and how many bytes of it are accepted. Starts nobody.
    pub(super) fn payload_limit(&self, name: &str) -> Result<(Name, u64), RequestError> {
        match crate::runtime::payload_max(&self.services, name) {
            Some(limit) => Ok(limit),
            None => self.worker(name).map(|worker| (worker.name().clone(), worker.settings().limits.payload)),
        }
    }

    /// Whether there is something of this name to start.
    pub(super) fn startable(&self, name: &str) -> Result<Name, RequestError> {
        self.child_or_key(name)
    }

    /// Why the directory's file of this name does not run, if that is so.
    fn problem_of(&self, name: &str) -> Option<(String, String)> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let file = |path: &str| {
            let stem = path.strip_suffix(".wasm").or_else(|| path.strip_suffix(".toml"));
            stem.is_some_and(|stem| stem == name || stem.ends_with(&format!("/{name}")))
        };
        let found = problems.iter().find(|finding| {
            file(&finding.path) && !matches!(finding.kind, FindingKind::Warning | FindingKind::Waiting)
        });
        found.map(|finding| {
            let help = match finding.kind {
                FindingKind::Loading => "`paguro doctor` shows it until it is there".to_string(),
                _ if finding.help.is_empty() => "mend the file; `paguro doctor` lists all that is wrong".to_string(),
                _ => finding.help.clone(),
            };
            (format!("{}: {}", finding.path, finding.message), help)
        })
    }

    /// Whether the component of this name in the directory is refused.
    pub(super) fn is_file_refused(&self, name: &Name) -> bool {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let is_its = |path: &str| path.strip_suffix(".wasm") == Some(name.as_str());
        problems.iter().any(|finding| finding.kind == FindingKind::Refused && is_its(&finding.path))
    }

    /// Sends a request and waits for the answer, for `time` at the most.
    pub async fn call(&self, name: &str, request: Payload, time: Duration) -> Result<Payload, RequestError> {
        let found = match crate::runtime::find(&self.services, name) {
            Err(CallError::Overloaded) => {
                let deadline = self.services.clock.now().after(time);
                crate::runtime::find_in_time(&self.services, name, None, deadline).await
            }
            found => found,
        };
        let worker = self.found(name, found)?;
        if worker.refuses() && !worker.has_left() {
            return Err(self.not_taken(&worker, CallError::Down(worker.last_exit())));
        }
        let reply: Reply = self.services.call(&worker, request, time).await;
        reply.map_err(|error| match error {
            // Stopped with its supervisor, while the call waited.
            CallError::Down(reason) if reason.is_orderly() => self.not_taken(&worker, CallError::Down(reason)),
            error => call_error(&worker, error),
        })
    }

    /// Why a message did not get into the mailbox: a worker that does not run at all is told apart from one that ended, and
    /// from one whose supervisor is what does not run.
    pub(super) fn not_taken(&self, worker: &Shared, error: CallError) -> RequestError {
        match call_error(worker, error) {
            RequestError::Call { worker, error: CallError::Down(reason) } => match self.is_down_above(&worker) {
                true => TreeError::SupervisorDown(worker).into(),
                false => RequestError::Down { worker, reason },
            },
            error => error,
        }
    }

    /// `Ok` means that the message is in the mailbox.
    pub fn cast(&self, name: &str, message: Payload) -> Result<(), RequestError> {
        let worker = self.receiver(name)?;
        let cast = self.services.cast(&worker, None, message);
        cast.map_err(|error| self.not_taken(&worker, error))
    }

    /// The revision that [`Host::rollback`] would go to, outside a probation.
    pub fn rollback_to(&self, worker: &Shared) -> Option<RevisionNumber> {
        self.changes.rollback_target(worker, None).ok().map(|revision| revision.number)
    }

    /// Returns when the new revision serves.
    pub async fn upgrade(
        &self,
        name: &str,
        bytes: Vec<u8>,
        probation: Option<Duration>,
    ) -> Result<Switched, RequestError> {
        self.upgrade_with(name, bytes, probation, false).await
    }

    /// The same; see [`UpgradeRequest::fewer_exports`].
    pub async fn upgrade_with(
        &self,
        name: &str,
        bytes: Vec<u8>,
        probation: Option<Duration>,
        fewer_exports: bool,
    ) -> Result<Switched, RequestError> {
        let worker = self.worker(name)?;
        let request = UpgradeRequest {
            worker: worker.clone(),
            bytes: bytes.into(),
            by: By::Operator,
            why: Why::Upgrade,
            probation,
            fewer_exports,
        };
        let switched = self.changes.upgrade(request).await?;
        self.start_if_down(&worker).await;
        Ok(switched)
    }

    /// An upgrade that stops after its rehearsal.
    pub async fn dry_run(&self, name: &str, bytes: Vec<u8>) -> Result<(ComponentHash, Rehearsal), RequestError> {
        let worker = self.worker(name)?;
        let request = UpgradeRequest {
            worker,
            bytes: bytes.into(),
            by: By::Operator,
            why: Why::Upgrade,
            probation: None,
            fewer_exports: false,
        };
        Ok(self.changes.dry_run(request).await?)
    }

    /// `Ok(Ok)`: probation ended in a rollback. `Ok(Err)`: an earlier revision serves, as by an
    /// upgrade to it.
    pub async fn rollback(
        &self,
        name: &str,
        to: Option<RevisionNumber>,
    ) -> Result<Result<Outcome, Switched>, RequestError> {
        self.rollback_with(name, to, false).await
    }

    /// The same; see [`UpgradeRequest::fewer_exports`].
    pub async fn rollback_with(
        &self,
        name: &str,
        to: Option<RevisionNumber>,
        fewer_exports: bool,
    ) -> Result<Result<Outcome, Switched>, RequestError> {
        let worker = self.worker(name)?;
        let rolled_back = self.changes.rollback(&worker, to, fewer_exports).await?;
        self.start_if_down(&worker).await;
        Ok(rolled_back)
    }

    /// Ends probation now.
    pub async fn commit(&self, name: &str) -> Result<Outcome, RequestError> {
        let worker = self.worker(name)?;
        Ok(self.changes.commit(worker.name()).await?)
    }

    /// Starts a child that is known, or a new key of a template; returns when it runs, or failed to.
    pub async fn start_worker(&self, name: &str) -> Result<Started, RequestError> {
        self.start_with(name, None).await
    }

    /// The same; `config` is a JSON object for a new key, in the place of its template's.
    pub async fn start_with(&self, name: &str, config: Option<&str>) -> Result<Started, RequestError> {
        let child = self.child_or_key(name)?;
        if config.is_some() && child.parent().is_none_or(|above| self.services.templates.get(&above).is_none()) {
            return Err(RequestError::NoKeyToConfigure(child));
        }
        self.can_be_started(&child).await?;
        let detail = if config.is_some() { "with a configuration of its own" } else { "" };
        self.decided(&child, Action::Started, detail).await;
        self.in_time(&child, self.tree.start_child(&child, config)).await
    }

    /// Returns when it has stopped. It stays down until it is started; a child of a template is
    /// forgotten, with its state kept under its name.
    pub async fn stop_worker(&self, name: &str) -> Result<(), RequestError> {
        let child = self.child(name)?;
        self.decided(&child, Action::Stopped, "until it is started").await;
        Ok(self.tree.stop_child(&child).await?)
    }

    /// In order, states saved. Not counted against the supervisor's restarts.
    pub async fn restart_worker(&self, name: &str) -> Result<Started, RequestError> {
        let child = self.child(name)?;
        if self.is_down_above(&child) {
            return Err(TreeError::SupervisorDown(child).into());
        }
        self.decided(&child, Action::Restarted, "").await;
        self.in_time(&child, self.tree.restart_child(&child)).await
    }

    fn is_down_above(&self, child: &Name) -> bool {
        child.parent().and_then(|above| self.tree.runs(&above)) == Some(false)
    }

    /// A start of what runs is not written down as a decision.
    async fn can_be_started(&self, child: &Name) -> Result<(), RequestError> {
        if self.is_down_above(child) {
            return Err(TreeError::SupervisorDown(child.clone()).into());
        }
        // Keys may be many: there the supervisor alone is asked, by the start itself.
        let is_key = child.parent().is_some_and(|above| self.services.templates.get(&above).is_some());
        match is_key || self.state_of(child).await != "running" {
            true => Ok(()),
            false => Err(TreeError::Running(child.clone()).into()),
        }
    }

    /// Writes down what an operator asks for, before it has an effect: whoever sees that finds out why.
    async fn decided(&self, child: &Name, action: Action, detail: &str) {
        let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
        let detail = format!("asked for by command{detail}");
        // About its supervisor for a child of a template: a loop over keys is one kind of decision.
        let (about, detail) = match child.parent() {
            Some(parent) if self.services.templates.get(&parent).is_some() => {
                (parent, format!("{}: {detail}", child.leaf()))
            }
            _ => (child.clone(), detail),
        };
        let entry = NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: about,
            action,
            hash: self.services.registry.get(child).map(|worker| worker.status().component),
            by: By::Operator,
            detail,
        };
        if let Err(error) = self.services.database.commit(vec![Change::Ledger(entry)]).await {
            // It is carried out all the same: a worker that fills the disk must be stopped.
            let what = "write what an operator decided";
            self.services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
        }
    }

    /// Stops it in order; it stays isolated until it is started.
    pub async fn isolate_worker(&self, name: &str) -> Result<(), RequestError> {
        let child = self.child(name)?;
        self.decided(&child, Action::Isolated, "until it is started").await;
        Ok(self.tree.isolate_child(&child).await?)
    }

    /// Drops a child that is down. One of a template is forgotten; one that has a file comes back when the
    /// file changes. State and history stay under its name.
    pub async fn delete_worker(&self, name: &str) -> Result<(), RequestError> {
        let child = self.child(name)?;
        if self.tree.supervisor_names().contains(&child) {
            return Err(RequestError::IsDirectory(child));
        }
        let Some(record) = self.services.database.worker(&child)? else {
            return Ok(self.tree.delete_child(&child).await?);
        };
        // Written first: the directory's keeper must not find the worker gone and its file in force.
        // Removed and overridden: an operator's word holds over the file until that changes.
        let is_of_template = child.parent().is_some_and(|parent| self.services.templates.get(&parent).is_some());
        let deleted = if is_of_template {
            Change::WorkerRemoved(child.clone())
        } else {
            // Also where it was not acted upon yet: it is this file that is not to be taken.
            Change::WorkerDeleted(child.clone(), self.files.component(&child))
        };
        self.services.database.commit(vec![deleted]).await?;
        if let Err(error) = self.tree.delete_child(&child).await {
            // One that is gone was deleted by another at the same time.
            if !matches!(error, TreeError::NotFound(_)) {
                let WorkerRecord { removed, overridden, file, .. } = record;
                let undone = Change::WorkerNotDeleted { worker: child, removed, overridden, file };
                self.services.database.commit(vec![undone]).await?;
            }
            return Err(match error {
                // OTP's word for it.
                TreeError::Running(name) => RequestError::RunsStill(name),
                other => RequestError::Tree(other),
            });
        }
        if !is_of_template {
            self.files.delete(child.clone());
        }
        let entry = NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: child.clone(),
            action: Action::Removed,
            hash: Some(record.component),
            by: By::Operator,
            detail: "deleted; state and history are kept".to_string(),
        };
        Ok(self.services.database.commit(vec![Change::ClearBreaker(child), Change::Ledger(entry)]).await?)
    }

    /// A start that neither succeeds nor fails in its time (a dependency that does not come up) goes on,
    /// and is answered so.
    async fn in_time(
        &self,
        child: &Name,
        start: impl Future<Output = Result<Started, TreeError>>,
    ) -> Result<Started, RequestError> {
        let limit = self.services.registry.get(child).map(|worker| worker.settings().limits.start);
        let time = limit.unwrap_or(RESTART_TIME).saturating_mul(3);
        match tokio::time::timeout(time, start).await {
            Ok(Err(TreeError::NotStarted { name, reason })) => {
                Err(RequestError::NotStarted { worker: name, why: reason.to_string() })
            }
            Ok(started) => Ok(started?),
            Err(_) => {
                let why = "it is still waiting for its turn, or starting".to_string();
                Err(RequestError::NotStarted { worker: child.clone(), why })
            }
        }
    }

    /// The live state, or the last that was saved.
    pub async fn state(&self, name: &str) -> Result<Snapshot, RequestError> {
        let worker = self.worker(name)?;
        let saved = worker.ask(|done| System::Save { done }).await;
        let saved = saved.map_err(|error| RequestError::Ask { worker: worker.name().clone(), error })?;
        saved.map_err(|why| RequestError::NoState { worker: worker.name().clone(), why })
    }

    /// Replaces the state of a worker. One that it cannot take changes nothing.
    pub async fn import(&self, name: &str, snapshot: Snapshot) -> Result<(), RequestError> {
        let worker = self.worker(name)?;
        let size = snapshot.len();
        let imported = worker.ask(|done| System::Import { snapshot, done }).await;
        let imported = imported.map_err(|error| RequestError::Ask { worker: worker.name().clone(), error })?;
        imported.map_err(|why| RequestError::Import { worker: worker.name().clone(), why })?;
        let entry = NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: worker.name().clone(),
            action: Action::StateImported,
            hash: Some(worker.status().component),
            by: By::Operator,
            detail: format!("{size} bytes"),
        };
        Ok(self.services.database.commit(vec![Change::Ledger(entry)]).await?)
    }

    /// Whether bytes are a worker, and whether they would fit in the place of one.
    pub async fn check(&self, bytes: Vec<u8>, against: Option<&str>) -> Result<Checked, RequestError> {
        let worker = against.map(|name| self.worker(name)).transpose()?;
        let bytes = Bytes::from(bytes);
        let hash = hash_of(&bytes).await?;
        let trace = self.changes.trace_of(hash);
        let checked = self.look_into(hash, bytes, worker).await;
        // Who only asks leaves nothing behind.
        self.changes.wipe(trace);
        checked
    }

    async fn look_into(
        &self,
        hash: ComponentHash,
        bytes: Bytes,
        worker: Option<Arc<Shared>>,
    ) -> Result<Checked, RequestError> {
        let clock = &self.services.clock;
        let begun = clock.now();
        let (component, bytes) =
            self.changes.load(Source::bytes(hash, bytes), By::Operator).await.map_err(not_a_worker)?;
        // A file whose compiler died before may be waiting for this.
        self.changes.nudge();
        let compile = clock.now().since(begun);
        let settings = worker.as_ref().map(|worker| worker.settings()).unwrap_or_default();
        crate::change::fits(&component, &settings, &self.services.account).await.map_err(not_a_worker)?;
        let against = match worker {
            Some(worker) => {
                let request = UpgradeRequest {
                    worker,
                    bytes,
                    by: By::Operator,
                    why: Why::Upgrade,
                    probation: None,
                    fewer_exports: false,
                };
                Some(self.changes.dry_run(request).await.map(|(_, rehearsal)| rehearsal))
            }
            None => None,
        };
        Ok(Checked { component, compile, against })
    }

    /// Removes the entries of the ledger up to `through`, which were exported: whoever has them knows the digest of the
    /// last. An entry that says so, with that digest, takes their place in the chain, and is returned.
    pub async fn trim_ledger(&self, through: u64, digest: ComponentHash) -> Result<LedgerEntry, RequestError> {
        let database = &self.services.database;
        let last = database.ledger(through.saturating_sub(1), 1)?.pop().filter(|entry| entry.seq == through);
        let why = match last {
            None => Some(format!("there is no entry {through}")),
            Some(last) if last.digest != digest.0 => Some(format!("entry {through} has another digest")),
            Some(_) => None,
        };
        if let Some(why) = why {
            return Err(RequestError::NotTrimmed { why });
        }
        let at = self.services.clock.timestamp();
        database.commit(vec![Change::TrimLedger { through, digest: digest.0, at }]).await?;
        // Nothing that was written before it is younger.
        let told = database.ledger_for(&Name::root(), bounds::PAGE_ROWS_MAX)?;
        let told = told.into_iter().rev().find(|entry| entry.action == Action::LedgerTrimmed);
        told.ok_or_else(|| RequestError::NotTrimmed { why: "its entry is gone again".to_string() })
    }

    /// A worker or a supervisor below the root.
    fn child(&self, name: &str) -> Result<Name, RequestError> {
        let found = Name::parse(name)
            .ok()
            .filter(|name| self.services.registry.get(name).is_some() || self.tree.supervisor_names().contains(name));
        found.ok_or_else(|| self.not_found(name))
    }

    /// The same, or a key of a template that has no child yet.
    fn child_or_key(&self, name: &str) -> Result<Name, RequestError> {
        let parsed = Name::parse(name).ok();
        match parsed.filter(|name| self.services.is_new_key(name)) {
            Some(key) => Ok(key),
            None => self.child(name),
        }
    }

    async fn start_if_down(&self, worker: &Arc<Shared>) {
        // One that an operator stopped, or that ended as it should, stays so.
        if matches!(worker.status().standing, Standing::Isolated(_) | Standing::Restarting) {
            // That it runs already is no error here.
            let _ = self.tree.retry_child(worker.name()).await;
        }
    }
}

/// A worker that does not run at all is told apart from one that ended over this call.
pub(super) fn call_error(worker: &Shared, error: CallError) -> RequestError {
    let name = worker.name().clone();
    match (&error, worker.status().standing) {
        (CallError::Down(_), Standing::Isolated(why)) => RequestError::Isolated { worker: name, why: why.into() },
        // Whether or not it runs.
        (CallError::Down(_), _) if worker.status().kind == crate::sandbox::Kind::Command => {
            RequestError::Call { worker: name, error: CallError::Rejected(TAKES_NO_MESSAGES.to_string()) }
        }
        _ => RequestError::Call { worker: name, error },
    }
}

const TAKES_NO_MESSAGES: &str = "it is a command: it takes no messages";

fn not_a_worker(error: ChangeError) -> RequestError {
    match error {
        ChangeError::Component(error) => RequestError::NotAWorker(error),
        other => RequestError::Change(other),
    }
}

/// How long the directory's keeper may finish what it is doing when the host stops.
const KEEPER_TIME: Duration = Duration::from_secs(1);

/// How long a start of a supervisor, with all below it, is waited for; three times that at the most.
const RESTART_TIME: Duration = Duration::from_secs(60);

fn host_entry(services: &Services, action: Action) -> Change {
    let detail = format!("paguro {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let at = services.clock.timestamp();
    Change::Ledger(NewLedgerEntry { at, worker: Name::root(), action, hash: None, by: By::Host, detail })
}
