//! The tree: all supervisors of a host by name, and the operations that change it. The directory and
//! the API come in here; each operation is carried out by the supervisor it concerns.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::budgets::{Needs, NoRoom};
use super::dead_letters::Cause;
use super::keyed::{self, By};
use super::services::Services;
use super::spec::{SupervisorSettings, WorkerSettings};
use super::supervision::{Answer, ChildSpec};
use super::supervisor::{self, Ask, ChildHandle, Gone, Page, Reply, Report, Reports, SupervisorHandle, View};
use super::worker::{self, Launch, Of, Shared, System};
use crate::base::{ExitReason, Held, Name, bounds};

/// Why the tree cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("there is no {0:?}")]
    NotFound(Name),
    #[error("there is no supervisor {0:?}")]
    NoSupervisor(Name),
    #[error("{0:?} is in the tree already")]
    AlreadyThere(Name),
    /// `already-started`, or `running`: OTP's answers to a start and to a delete.
    #[error("{0:?} runs already")]
    Running(Name),
    /// `already-present`.
    #[error("{0:?} is known, and does not run")]
    AlreadyPresent(Name),
    #[error("{0:?} is in its restart loop")]
    Restarting(Name),
    #[error("the supervisor of {0:?} does not run")]
    SupervisorDown(Name),
    #[error("{name:?} did not start: {reason}")]
    NotStarted { name: Name, reason: ExitReason },
    /// Too much waits for the database to take up one more key.
    #[error("{0:?} cannot be made just now: too much waits for the disk")]
    Busy(Name),
    /// As many keys as there may be, or as one caller may have taken up in a second.
    #[error("{name:?} is not taken up: {why}")]
    TooMany { name: Name, why: String },
    /// A template made nothing of this key.
    #[error("{name:?} cannot be made: {why}")]
    NotMade { name: Name, why: String },
    #[error("there is no room for {name:?}: {no_room}")]
    NoRoom { name: Name, no_room: NoRoom },
    #[error("the host is stopping")]
    Stopping,
    #[error("its supervisor failed over this request in a fault of the host's: `paguro events` says which")]
    SupervisorFell,
}

/// How a start that succeeded ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    Runs,
    /// It answered its start with "ignore".
    Ignored,
}

pub struct Tree {
    services: Arc<Services>,
    root_reports: tokio::sync::Mutex<mpsc::Receiver<Report>>,
    root: SupervisorHandle,
}

impl Tree {
    /// A tree with nothing but its root, which is not started yet.
    pub fn new(services: &Arc<Services>, root: SupervisorSettings) -> Tree {
        let (reports, root_reports) = mpsc::channel(8);
        services.set_cpu_budget(&Name::root(), root.budget.cpu);
        services.set_account(&Name::root(), &root);
        let root = supervisor::launch(Name::root(), root, services, Reports::to_host(reports));
        services.supervisors().insert(Name::root(), root.clone());
        Tree { services: services.clone(), root_reports: tokio::sync::Mutex::new(root_reports), root }
    }

    /// Starts everything, in order; returns when each child was started or tried, or
    /// [`bounds::ROOT_START_TIME`] has passed: then the rest goes on beside.
    pub async fn start(&self) -> Result<(), TreeError> {
        self.begin_to_start().await;
        self.started().await;
        Ok(())
    }

    /// Returns when the root has heard it: children start from then on.
    pub async fn begin_to_start(&self) {
        self.root.start();
        // What it is ordered comes before what it is asked.
        let _ = self.look(&Name::root(), Page { after: None, limit: 0 }).await;
    }

    /// Returns when all children were started, or tried.
    pub async fn started(&self) {
        let mut reports = self.root_reports.lock().await;
        let started = async {
            while let Some(report) = reports.recv().await {
                if matches!(report, Report::Started { .. }) {
                    break;
                }
            }
        };
        // A child that waits for one in its restart loop must not keep the host from its own work.
        let _ = tokio::time::timeout(bounds::ROOT_START_TIME, started).await;
    }

    /// Begins to stop everything, in reverse order, states saved.
    pub async fn ask_to_stop(&self) {
        self.root.stop(false);
    }

    /// Resolves when everything has stopped. Dropped half way, it can be called again.
    pub async fn stopped(&self) {
        let mut reports = self.root_reports.lock().await;
        while let Some(report) = reports.recv().await {
            if matches!(report, Report::Stopped { .. } | Report::Exited { .. }) {
                break;
            }
        }
    }

    pub async fn add_supervisor(&self, name: Name, settings: SupervisorSettings) -> Result<(), TreeError> {
        let parent = self.parent_of(&name)?;
        if self.services.supervisors().contains_key(&name) {
            return Err(TreeError::AlreadyThere(name));
        }
        self.budget(&name, &settings)?;
        self.services.set_cpu_budget(&name, settings.budget.cpu);
        self.services.set_account(&name, &settings);
        let spec = supervisor::supervisor_spec(name.clone(), &settings);
        let handle = supervisor::launch(name.clone(), settings, &self.services, parent.reports());
        self.services.supervisors().insert(name, handle.clone());
        self.add(&parent, spec, ChildHandle::Supervisor(handle.into())).await
    }

    pub async fn add_worker(&self, launch: Launch) -> Result<Arc<Shared>, TreeError> {
        let name = launch.name.clone();
        let parent = self.parent_of(&name)?;
        if self.services.registry.get(&name).is_some() {
            return Err(TreeError::AlreadyThere(name));
        }
        self.take_room(&name, &launch.settings)?;
        self.services.accounts.keep_files_configuration(&name, launch.settings.config.len());
        let spec = supervisor::worker_spec(name, &launch.settings, launch.component.kind(), true);
        let worker = worker::launch(launch, Of::File, &self.services, parent.reports());
        self.add(&parent, spec, ChildHandle::Worker(worker.clone())).await?;
        Ok(worker)
    }

    /// Stops a child, or a supervisor with all below it, and takes it out.
    pub async fn remove(&self, name: &Name) -> Result<(), TreeError> {
        let parent = self.parent_of(name)?;
        let removed = parent.ask_for(|done| Ask::Remove { name: name.clone(), done }).await.map_err(stopping)?;
        self.services.budgets().forget(name);
        match removed {
            Reply::Refused(Answer::SupervisorDown) | Reply::Failed(_) => Err(TreeError::SupervisorFell),
            Reply::Refused(_) => Err(TreeError::NotFound(name.clone())),
            Reply::Done | Reply::Ignored => Ok(()),
        }
    }

    /// Ends the task of a worker that has stopped; what waits for it is answered or becomes a dead
    /// letter, with `why` as its cause.
    pub async fn quit(&self, worker: &Shared, why: Cause<'static>) {
        let (done, quit) = oneshot::channel();
        worker.mailbox.push_supervision(System::Quit { why, done });
        // An error means that it has left already.
        let _ = quit.await;
    }

    /// Whatever is refused changes nothing.
    pub async fn configure_supervisor(&self, name: &Name, settings: SupervisorSettings) -> Result<(), TreeError> {
        let supervisor = self.supervisor(name).ok_or_else(|| TreeError::NoSupervisor(name.clone()))?;
        self.budget(name, &settings)?;
        self.services.set_cpu_budget(name, settings.budget.cpu);
        self.services.set_account(name, &settings);
        if let Ok(parent) = self.parent_of(name) {
            let spec = Box::new(supervisor::supervisor_spec(name.clone(), &settings));
            parent.ask(Ask::Change { spec }).await.map_err(stopping)?;
        }
        supervisor.ask(Ask::Configure { settings: Box::new(settings) }).await.map_err(stopping)
    }

    /// New settings hold for the worker from its next message boundary on. Whatever is refused changes
    /// nothing.
    pub async fn configure_worker(&self, worker: &Shared, settings: Arc<WorkerSettings>) -> Result<(), TreeError> {
        let name = worker.name().clone();
        let parent = self.parent_of(&name)?;
        // Settings that a template's children share, others hold too.
        let is_its_own = worker.is_key() && Arc::strong_count(&settings) == 1;
        let held = is_its_own.then(|| self.room_for_configuration(&name, &settings)).transpose()?;
        let needs = Needs { memory: settings.limits.memory, cpu: settings.limits.cpu };
        let changed = self.services.budgets().change(&name, needs);
        changed.map_err(|no_room| TreeError::NoRoom { name: name.clone(), no_room })?;
        let declared = name.parent().is_none_or(|parent| self.services.templates.get(&parent).is_none());
        let spec = Box::new(supervisor::worker_spec(name.clone(), &settings, worker.status().kind, declared));
        if worker.is_key() {
            self.services.accounts.keep_configuration(&name, held);
        } else {
            self.services.accounts.keep_files_configuration(&name, settings.config.len());
        }
        worker.configure(&self.services, settings.clone());
        worker.mailbox.push_supervision(System::Configure { settings });
        parent.ask(Ask::Change { spec }).await.map_err(stopping)
    }

    /// Starts a child that is known, or a key of a template; returns when it runs. `config`: a JSON
    /// object for a key that is new, in the place of its template's.
    pub async fn start_child(&self, name: &Name, config: Option<&str>) -> Result<Started, TreeError> {
        if keyed::is_new(&self.services, name) {
            return keyed::start(&self.services, name, config, By::Client).await;
        }
        self.operate(name, |done| Ask::StartChild { name: name.clone(), done }).await
    }

    /// What a child failed over may be mended: one that waits for its restart starts now, and one that is isolated is let
    /// back in. One that is down stays so.
    pub async fn retry_child(&self, name: &Name) -> Result<Started, TreeError> {
        self.operate(name, |done| Ask::RetryChild { name: name.clone(), done }).await
    }

    /// Whether a supervisor is started; `None`: there is none of that name.
    pub fn runs(&self, supervisor: &Name) -> Option<bool> {
        Some(self.services.supervisors().get(supervisor)?.runs())
    }

    /// Starts a key that ran when the host ended: no bound on new keys holds for it.
    pub async fn resume_child(&self, name: &Name) -> Result<Started, TreeError> {
        keyed::start(&self.services, name, None, By::Host).await
    }

    /// Returns when the child has stopped.
    pub async fn stop_child(&self, name: &Name) -> Result<(), TreeError> {
        self.operate(name, |done| Ask::StopChild { name: name.clone(), done }).await.map(drop)
    }

    pub async fn restart_child(&self, name: &Name) -> Result<Started, TreeError> {
        self.operate(name, |done| Ask::RestartChild { name: name.clone(), done }).await
    }

    /// Stops the child; it stays isolated until it is started.
    pub async fn isolate_child(&self, name: &Name) -> Result<(), TreeError> {
        self.operate(name, |done| Ask::IsolateChild { name: name.clone(), done }).await.map(drop)
    }

    /// Drops a child that is down.
    pub async fn delete_child(&self, name: &Name) -> Result<(), TreeError> {
        self.operate(name, |done| Ask::DeleteChild { name: name.clone(), done }).await.map(drop)
    }

    pub async fn look(&self, name: &Name, page: Page) -> Option<View> {
        self.supervisor(name)?.ask_for(|done| Ask::Look { page, done }).await.ok()
    }

    /// Names of all supervisors, the root first.
    pub fn supervisor_names(&self) -> Vec<Name> {
        self.services.supervisors().keys().cloned().collect()
    }

    async fn operate(
        &self,
        name: &Name,
        ask: impl FnOnce(oneshot::Sender<Reply>) -> Ask,
    ) -> Result<Started, TreeError> {
        let parent = self.parent_of(name)?;
        started(name, parent.ask_for(ask).await.map_err(stopping)?)
    }

    async fn add(&self, parent: &SupervisorHandle, spec: ChildSpec, handle: ChildHandle) -> Result<(), TreeError> {
        let name = spec.name.clone();
        let ask = |done| Ask::Add { spec: Box::new(spec), handle, done };
        match parent.ask_for(ask).await.map_err(stopping)? {
            Reply::Refused(_) => Err(TreeError::AlreadyThere(name)),
            _ => Ok(()),
        }
    }

    fn budget(&self, name: &Name, settings: &SupervisorSettings) -> Result<(), TreeError> {
        let set = self.services.budgets().set(name, settings.budget);
        set.map_err(|no_room| TreeError::NoRoom { name: name.clone(), no_room })
    }

    fn take_room(&self, name: &Name, settings: &WorkerSettings) -> Result<(), TreeError> {
        let needs = Needs { memory: settings.limits.memory, cpu: settings.limits.cpu };
        let taken = self.services.budgets().take(name, needs);
        taken.map_err(|no_room| TreeError::NoRoom { name: name.clone(), no_room })
    }

    fn room_for_configuration(&self, name: &Name, settings: &WorkerSettings) -> Result<Held, TreeError> {
        let held = self.services.accounts.room_for_configuration(name, settings.config.len());
        let no_memory =
            || TreeError::TooMany { name: name.clone(), why: "there is no memory for its configuration".to_string() };
        held.ok_or_else(no_memory)
    }

    fn parent_of(&self, name: &Name) -> Result<SupervisorHandle, TreeError> {
        let parent = name.parent().ok_or_else(|| TreeError::NotFound(name.clone()))?;
        self.supervisor(&parent).ok_or(TreeError::NoSupervisor(parent))
    }

    fn supervisor(&self, name: &Name) -> Option<SupervisorHandle> {
        self.services.supervisors().get(name).cloned()
    }
}

/// What a supervisor's reply to an operator means.
pub(super) fn started(name: &Name, reply: Reply) -> Result<Started, TreeError> {
    let name = name.clone();
    match reply {
        Reply::Done => Ok(Started::Runs),
        Reply::Ignored => Ok(Started::Ignored),
        Reply::Failed(reason) => Err(TreeError::NotStarted { name, reason }),
        Reply::Refused(Answer::AlreadyStarted) => Err(TreeError::Running(name)),
        Reply::Refused(Answer::AlreadyPresent) => Err(TreeError::AlreadyPresent(name)),
        Reply::Refused(Answer::Restarting) => Err(TreeError::Restarting(name)),
        Reply::Refused(Answer::SupervisorDown) => Err(TreeError::SupervisorDown(name)),
        Reply::Refused(Answer::NotFound | Answer::Ok) => Err(TreeError::NotFound(name)),
    }
}

pub(super) fn stopping(gone: Gone) -> TreeError {
    match gone {
        Gone::Left => TreeError::Stopping,
        Gone::Fell => TreeError::SupervisorFell,
    }
}
