//! Children of a template, by key: made when an operator or a guest asks, or by the first message.

use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::budgets::Needs;
use super::services::Services;
use super::supervisor::{self, Ask, ChildHandle, Reply, SupervisorHandle};
use super::templates::{NotMade, Template};
use super::tree::{Started, TreeError, started};
use super::worker::{self, Of, Shared, Standing};
use crate::base::units::show_size;
use crate::base::{Held, Name, Tick, bounds};
use crate::record::Event;
use crate::sandbox::CallError;

/// Before a key that could not be taken up is tried again.
const BUSY_TIME: std::time::Duration = std::time::Duration::from_millis(2);

/// Whether a name is a key of a template that has no child yet.
pub fn is_new(services: &Services, name: &Name) -> bool {
    let has_template = name.parent().is_some_and(|parent| services.templates.get(&parent).is_some());
    has_template && services.registry.get(name).is_none()
}

/// Who has a key taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// The host itself: what ran before comes back.
    Host,
    Client,
    Worker(&'a Name),
}

impl<'a> By<'a> {
    fn of(sender: Option<&'a Name>) -> By<'a> {
        sender.map_or(By::Client, By::Worker)
    }
}

/// Starts the child of a key that has none. Returns when it runs, or failed to and is forgotten.
pub async fn start(
    services: &Arc<Services>,
    name: &Name,
    config: Option<&str>,
    by: By<'_>,
) -> Result<Started, TreeError> {
    let size = config.map_or(0, str::len);
    if size > bounds::CONFIGURATION_BYTES_MAX {
        let bound = Event::BoundReached { worker: name.clone(), bound: "configuration-bytes", value: size as u64 };
        services.not_made(bound);
        let (size, max) = (show_size(size as u64), show_size(bounds::CONFIGURATION_BYTES_MAX as u64));
        let why = format!("its configuration has {size} where {max} are accepted");
        return Err(TreeError::NotMade { name: name.clone(), why });
    }
    takes_one_more(services, name, by)?;
    let made = loop {
        match make(services, name, config) {
            // Waits until what is queued is written, which makes room.
            Err(TreeError::Busy(_)) => {
                services.database.commit(Vec::new()).await.map_err(|_| TreeError::Stopping)?;
                tokio::time::sleep(BUSY_TIME).await;
            }
            made => break made?,
        }
    };
    let (done, reply) = oneshot::channel();
    let supervisor = made.supervisor.clone();
    // Before what follows from it, which may be on this thread.
    services.recorder.emit(Event::ChildAdded { name: name.clone() });
    if let Some(room) = supervisor.room() {
        supervisor.ask_at_once(room, made.ask(done));
    } else {
        let (supervisor, undo) = (supervisor.clone(), ChildHandle::Worker(made.worker.clone()));
        let (services, name) = (services.clone(), name.clone());
        // In a task of its own: who asks may go away, and what is made must not be left half way.
        tokio::spawn(async move {
            let asked = services.recorder.watched("the start of a key", supervisor.ask(made.ask(done))).await;
            if !matches!(asked, Some(Ok(()))) {
                supervisor::dismiss(&undo, &name, &services);
            }
        });
    }
    started(name, reply.await.map_err(|_| TreeError::Stopping)?)
}

/// Bytes of a message to this name that are accepted: by the worker that is there, or by the child that it would start.
/// `None`: nobody would take it.
pub fn payload_max(services: &Services, name: &str) -> Option<(Name, u64)> {
    if let Some(worker) = services.registry.find(name) {
        return Some((worker.name().clone(), worker.settings().limits.payload));
    }
    let name = Name::parse(name).ok()?;
    let template = services.templates.get(&name.parent()?).filter(|template| template.is_on_demand())?;
    Some((name, template.payload_max()))
}

/// The worker a message is for: one that is there, or the child of a key whose template starts it on
/// demand. Messages wait in its mailbox while it starts, so that their order is kept.
///
/// # Errors
/// [`CallError::NotFound`], and [`CallError::Overloaded`] where the key could not be taken up just now.
///
/// For a client; [`find_for`] for any sender.
pub fn find(services: &Arc<Services>, name: &str) -> Result<Arc<Shared>, CallError> {
    find_for(services, name, None)
}

/// As [`find`], for this sender; `None` is a client.
///
/// # Errors
/// As of [`find`].
pub(super) fn find_for(services: &Arc<Services>, name: &str, sender: Option<&Name>) -> Result<Arc<Shared>, CallError> {
    if let Some(worker) = services.registry.find(name) {
        return Ok(worker);
    }
    take_up(services, name, sender, true).map_err(|missing| match missing {
        Missing::Busy => CallError::Overloaded,
        Missing::Refused(error) => error,
    })
}

/// Why there is no child of a key.
enum Missing {
    /// It could not be taken up just now, and may be in a moment.
    Busy,
    Refused(CallError),
}

/// `counts`: against the rate of new keys. Who tries again has been counted.
fn take_up(services: &Arc<Services>, name: &str, sender: Option<&Name>, counts: bool) -> Result<Arc<Shared>, Missing> {
    let refused = |error| Err(Missing::Refused(error));
    let Ok(name) = Name::parse(name) else { return refused(CallError::NotFound) };
    let template = name.parent().and_then(|parent| services.templates.get(&parent));
    if !template.is_some_and(|template| template.is_on_demand()) {
        return refused(CallError::NotFound);
    }
    if counts && takes_one_more(services, &name, By::of(sender)).is_err() {
        return refused(CallError::Overloaded);
    }
    let made = match make(services, &name, None) {
        Ok(made) => made,
        // Another made it meanwhile.
        Err(TreeError::Running(_)) => {
            return services.registry.get(&name).ok_or(Missing::Refused(CallError::NotFound));
        }
        Err(TreeError::Busy(_)) => return Err(Missing::Busy),
        Err(error @ TreeError::TooMany { .. }) => {
            services.not_started_on_demand(name, error.to_string());
            return refused(CallError::Overloaded);
        }
        Err(error) => {
            let why = error.to_string();
            services.not_started_on_demand(name, why);
            return refused(CallError::NotFound);
        }
    };
    let (done, _) = oneshot::channel();
    let worker = made.worker.clone();
    let (supervisor, undo) = (made.supervisor.clone(), ChildHandle::Worker(worker.clone()));
    if supervisor.try_ask(made.ask(done)).is_err() {
        supervisor::dismiss(&undo, &name, services);
        let why = "its supervisor has too much to do".to_string();
        services.not_started_on_demand(name, why);
        return Err(Missing::Busy);
    }
    services.recorder.emit(Event::ChildAdded { name });
    Ok(worker)
}

/// As [`find`], for one who waits for an answer anyway: a key that cannot be taken up just now is tried again
/// until the deadline. What it goes on with may have to be loaded first.
///
/// # Errors
/// As of [`find`].
pub async fn find_in_time(
    services: &Arc<Services>,
    name: &str,
    sender: Option<&Name>,
    deadline: Tick,
) -> Result<Arc<Shared>, CallError> {
    let mut counts = true;
    loop {
        if let Some(worker) = services.registry.find(name) {
            return Ok(worker);
        }
        match take_up(services, name, sender, std::mem::take(&mut counts)) {
            Ok(worker) => return Ok(worker),
            // What it may not have at all it is not tried for again.
            Err(Missing::Refused(error)) => return Err(error),
            Err(Missing::Busy) if services.clock.now() < deadline => tokio::time::sleep(BUSY_TIME).await,
            Err(Missing::Busy) => return Err(CallError::Overloaded),
        }
    }
}

/// Whether this caller may have one more key taken up just now. Each that is asked for counts, also one that cannot
/// be made.
fn takes_one_more(services: &Services, name: &Name, by: By<'_>) -> Result<(), TreeError> {
    let caller = match by {
        By::Host => return Ok(()),
        By::Client => None,
        By::Worker(worker) => Some(caller_of(services, worker)),
    };
    let Some(supervisor) = name.parent() else { return Ok(()) };
    let Some(template) = services.templates.get(&supervisor) else { return Ok(()) };
    if by == By::Client && !template.is_on_demand() {
        // An operator names each key.
        return Ok(());
    }
    let per_second = template.new_keys();
    let now = services.clock.now();
    if services.new_keys().take(&supervisor, caller.clone(), per_second, now) {
        return Ok(());
    }
    services.new_keys_refused(supervisor, caller, per_second);
    Err(TreeError::TooMany { name: name.clone(), why: format!("more than {per_second} new keys in a second") })
}

/// A key counts as its template: it could make up others that each ask for as many.
fn caller_of(services: &Services, worker: &Name) -> Name {
    let template = worker.parent().filter(|parent| services.templates.get(parent).is_some());
    template.unwrap_or_else(|| worker.clone())
}

/// Asks for a child of a template to be stopped; false if the supervisor is gone. Who asks may be the
/// child itself, or in its way: nobody waits until it has stopped.
pub async fn stop(services: &Services, supervisor: &Name, name: Name) -> bool {
    let Some(supervisor) = services.supervisors().get(supervisor).cloned() else { return false };
    let (done, _) = oneshot::channel();
    supervisor.ask(Ask::StopChild { name, done }).await.is_ok()
}

/// A worker that its supervisor does not know yet.
struct Made {
    worker: Arc<Shared>,
    supervisor: SupervisorHandle,
    spec: super::supervision::ChildSpec,
}

impl Made {
    fn ask(self, done: oneshot::Sender<Reply>) -> Ask {
        Ask::Add { spec: Box::new(self.spec), handle: ChildHandle::Worker(self.worker), done }
    }
}

fn make(services: &Arc<Services>, name: &Name, config: Option<&str>) -> Result<Made, TreeError> {
    let parent = name.parent().ok_or_else(|| TreeError::NotFound(name.clone()))?;
    // One key is made once: two who ask at the same time find the same child.
    // And the template is the one that is in force when the child can be seen.
    let _making = services.making.lock().unwrap_or_else(PoisonError::into_inner);
    let template = services.templates.get(&parent).ok_or_else(|| TreeError::NotFound(name.clone()))?;
    let supervisor = services.supervisors().get(&parent).cloned();
    let supervisor = supervisor.ok_or_else(|| TreeError::NoSupervisor(parent.clone()))?;
    if services.registry.get(name).is_some() {
        return Err(TreeError::Running(name.clone()));
    }
    has_share(services, &parent, name)?;
    let (before, _) = services.registry.key_counts(&parent);
    let charged = services.accounts.keys_are(&parent, before + 1);
    charged.map_err(|full| TreeError::TooMany { name: name.clone(), why: full.to_string() })?;
    let made = make_charged(services, name, config, &template, supervisor);
    if made.is_err() {
        services.key_left(name);
    }
    made
}

fn make_charged(
    services: &Arc<Services>,
    name: &Name,
    config: Option<&str>,
    template: &Arc<dyn Template>,
    supervisor: SupervisorHandle,
) -> Result<Made, TreeError> {
    // Charged before anything is written of it.
    let own_config = config.map(|config| room_for_configuration(services, name, config)).transpose()?;
    let launch = template.launch(name, config).map_err(|error| not_made(name, error))?;
    // It may have had one of its own before. What it shares with its template, the template holds too.
    let has_its_own = Arc::strong_count(&launch.settings) == 1;
    let config = match own_config {
        None if has_its_own => Some(room_for_configuration(services, name, &launch.settings.config)?),
        held => held,
    };
    let needs = Needs { memory: launch.settings.limits.memory, cpu: launch.settings.limits.cpu };
    let taken = services.budgets().take(name, needs);
    taken.map_err(|no_room| TreeError::NoRoom { name: name.clone(), no_room })?;
    let spec = supervisor::worker_spec(name.clone(), &launch.settings, launch.component.kind(), false);
    services.accounts.keep_configuration(name, config);
    let worker = worker::launch(launch, Of::Template, services, supervisor.reports());
    // What comes before it runs waits.
    worker.stand(Standing::Starting, services.clock.now());
    Ok(Made { worker, supervisor, spec })
}

/// Whether there is room for one more worker, and for one more of this template.
fn has_share(services: &Services, supervisor: &Name, name: &Name) -> Result<(), TreeError> {
    let (of_it, of_all) = services.registry.key_counts(supervisor);
    let too_many = |why: String| Err(TreeError::TooMany { name: name.clone(), why });
    if of_it >= bounds::KEYS_PER_TEMPLATE_MAX {
        return too_many(format!("there are {of_it} children of its template"));
    }
    if of_all >= bounds::WORKERS_MAX - bounds::WORKERS_FOR_FILES || services.registry.count() >= bounds::WORKERS_MAX {
        return too_many(format!("there are {of_all} children of templates"));
    }
    Ok(())
}

fn room_for_configuration(services: &Services, name: &Name, config: &str) -> Result<Held, TreeError> {
    services.accounts.room_for_configuration(name, config.len()).ok_or_else(|| TreeError::TooMany {
        name: name.clone(),
        why: "there is no memory for its configuration".to_string(),
    })
}

fn not_made(name: &Name, error: NotMade) -> TreeError {
    let name = name.clone();
    match error {
        NotMade::Busy => TreeError::Busy(name),
        NotMade::Failed(why) => TreeError::NotMade { name, why },
    }
}
