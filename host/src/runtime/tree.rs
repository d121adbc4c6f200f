//! The tree: all supervisors of a host by name, and the operations that change it. The directory and
//! the API come in here; each operation is carried out by the supervisor it concerns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::services::Services;
use super::spec::{Restart, Shutdown, SupervisorSettings, WorkerSettings};
use super::supervision::Answer;
use super::supervisor::{self, Ask, ChildHandle, Gone, Report, SupervisorHandle, View};
use super::worker::{self, Launch, Shared, System, restart_type};
use crate::base::Name;
use crate::record::Event;

/// Why the tree cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("there is no {0:?}")]
    NotFound(Name),
    #[error("there is no supervisor {0:?}")]
    NoSupervisor(Name),
    #[error("{0:?} is in the tree already")]
    AlreadyThere(Name),
    #[error("{0:?} runs already")]
    Running(Name),
    #[error("the host is stopping")]
    Stopping,
}

pub struct Tree {
    services: Arc<Services>,
    supervisors: Mutex<BTreeMap<Name, SupervisorHandle>>,
    root_reports: tokio::sync::Mutex<mpsc::Receiver<Report>>,
    root: SupervisorHandle,
}

impl Tree {
    /// A tree with nothing but its root, which is not started yet.
    pub fn new(services: &Arc<Services>, root: SupervisorSettings) -> Tree {
        let (reports, root_reports) = mpsc::channel(8);
        let root = supervisor::launch(Name::root(), root, services, reports);
        let supervisors = BTreeMap::from([(Name::root(), root.clone())]);
        Tree {
            services: services.clone(),
            supervisors: Mutex::new(supervisors),
            root_reports: tokio::sync::Mutex::new(root_reports),
            root,
        }
    }

    /// Starts everything, in order; returns when each child was started or tried.
    pub async fn start(&self) -> Result<(), TreeError> {
        self.root.ask(Ask::Start).await.map_err(stopping)?;
        let mut reports = self.root_reports.lock().await;
        while let Some(report) = reports.recv().await {
            if matches!(report, Report::Started { .. }) {
                break;
            }
        }
        Ok(())
    }

    /// Begins to stop everything, in reverse order, states saved.
    pub async fn ask_to_stop(&self) {
        // An error means that the root has ended already.
        let _ = self.root.ask(Ask::Stop).await;
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
        if self.supervisors().contains_key(&name) {
            return Err(TreeError::AlreadyThere(name));
        }
        let handle = supervisor::launch(name.clone(), settings, &self.services, parent.reports());
        self.supervisors().insert(name.clone(), handle.clone());
        // OTP.md, *Shutdown*: for a supervisor, infinity is the only right value.
        let child = ChildHandle::Supervisor(handle);
        self.add(&parent, name, Restart::Permanent, Shutdown::Infinity, child).await
    }

    pub async fn add_worker(&self, launch: Launch) -> Result<Arc<Shared>, TreeError> {
        let name = launch.name.clone();
        let parent = self.parent_of(&name)?;
        if self.services.registry.get(&name).is_some() {
            return Err(TreeError::AlreadyThere(name));
        }
        let restart = restart_type(&launch.settings, launch.component.kind());
        let shutdown = launch.settings.shutdown;
        let worker = worker::launch(launch, &self.services, parent.reports());
        let child = ChildHandle::Worker(worker.clone());
        self.add(&parent, name, restart, shutdown, child).await?;
        Ok(worker)
    }

    /// Stops a child, or a supervisor with all below it, and takes it out.
    pub async fn remove(&self, name: &Name) -> Result<(), TreeError> {
        let parent = self.parent_of(name)?;
        let removed = parent.ask_for(|done| Ask::Remove { name: name.clone(), done }).await.map_err(stopping)?;
        if removed == Answer::NotFound {
            return Err(TreeError::NotFound(name.clone()));
        }
        if let Some(worker) = self.services.registry.get(name) {
            self.quit(&worker).await;
        }
        let gone = self.supervisors().remove(name);
        if let Some(supervisor) = gone {
            let _ = supervisor.ask(Ask::Quit).await;
        }
        self.services.recorder.emit(Event::ChildRemoved { name: name.clone() });
        Ok(())
    }

    /// Ends the task of a worker that has stopped; what waits for it is answered or becomes a dead
    /// letter.
    pub async fn quit(&self, worker: &Shared) {
        let (done, quit) = oneshot::channel();
        worker.mailbox.push_supervision(System::Quit { done });
        // An error means that it has left already.
        let _ = quit.await;
    }

    pub async fn configure_supervisor(&self, name: &Name, settings: SupervisorSettings) -> Result<(), TreeError> {
        let supervisor = self.supervisor(name).ok_or_else(|| TreeError::NoSupervisor(name.clone()))?;
        supervisor.ask(Ask::Configure { settings: Box::new(settings) }).await.map_err(stopping)
    }

    /// New settings hold for the worker from its next message boundary on.
    pub async fn configure_worker(&self, worker: &Shared, settings: WorkerSettings) -> Result<(), TreeError> {
        let parent = self.parent_of(worker.name())?;
        let restart = restart_type(&settings, worker.status().kind);
        let shutdown = settings.shutdown;
        worker.configure(settings.clone());
        worker.mailbox.push_supervision(System::Configure { settings: Box::new(settings) });
        let name = worker.name().clone();
        parent.ask(Ask::Change { name, restart, shutdown }).await.map_err(stopping)
    }

    pub async fn start_child(&self, name: &Name) -> Result<(), TreeError> {
        self.operate(name, |done| Ask::StartChild { name: name.clone(), done }).await
    }

    /// Returns when the child has stopped.
    pub async fn stop_child(&self, name: &Name) -> Result<(), TreeError> {
        self.operate(name, |done| Ask::StopChild { name: name.clone(), done }).await
    }

    pub async fn restart_child(&self, name: &Name) -> Result<(), TreeError> {
        self.operate(name, |done| Ask::RestartChild { name: name.clone(), done }).await
    }

    pub async fn look(&self, name: &Name) -> Option<View> {
        self.supervisor(name)?.ask_for(|done| Ask::Look { done }).await.ok()
    }

    /// Names of all supervisors, the root first.
    pub fn supervisor_names(&self) -> Vec<Name> {
        self.supervisors().keys().cloned().collect()
    }

    async fn operate(&self, name: &Name, ask: impl FnOnce(oneshot::Sender<Answer>) -> Ask) -> Result<(), TreeError> {
        let parent = self.parent_of(name)?;
        match parent.ask_for(ask).await.map_err(stopping)? {
            Answer::Ok => Ok(()),
            Answer::NotFound => Err(TreeError::NotFound(name.clone())),
            Answer::AlreadyStarted => Err(TreeError::Running(name.clone())),
        }
    }

    async fn add(
        &self,
        parent: &SupervisorHandle,
        name: Name,
        restart: Restart,
        shutdown: Shutdown,
        handle: ChildHandle,
    ) -> Result<(), TreeError> {
        let ask = |done| Ask::Add { name: name.clone(), restart, shutdown, handle, done };
        match parent.ask_for(ask).await.map_err(stopping)? {
            Answer::AlreadyStarted => Err(TreeError::AlreadyThere(name)),
            Answer::Ok | Answer::NotFound => {
                self.services.recorder.emit(Event::ChildAdded { name });
                Ok(())
            }
        }
    }

    fn parent_of(&self, name: &Name) -> Result<SupervisorHandle, TreeError> {
        let parent = name.parent().ok_or_else(|| TreeError::NotFound(name.clone()))?;
        self.supervisor(&parent).ok_or(TreeError::NoSupervisor(parent))
    }

    fn supervisor(&self, name: &Name) -> Option<SupervisorHandle> {
        self.supervisors().get(name).cloned()
    }

    fn supervisors(&self) -> MutexGuard<'_, BTreeMap<Name, SupervisorHandle>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopping(_: Gone) -> TreeError {
    TreeError::Stopping
}
