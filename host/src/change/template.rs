//! A template: the component that the children of a `simple-one-for-one` supervisor are made of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::rollout::Rollout;
use super::under_way::Changes;
use crate::base::{ComponentHash, Incarnation, Name, RevisionNumber, Tick};
use crate::record::{Action, By, Change, DatabaseError, Event, RevisionRecord, Verdict, Why, WorkerRecord};
use crate::runtime::spec::{SupervisorSettings, WorkerSettings};
use crate::runtime::{Launch, NotMade, Template};
use crate::sandbox::{Component, Kind};

/// The template of one supervisor. A new file or new settings make a new one.
pub struct ComponentTemplate {
    changes: Changes,
    component: Component,
    settings: Arc<WorkerSettings>,
    keys: Keys,
    rollout: Arc<Rollout>,
    /// Older components that children come back on, loaded beside.
    older: Arc<Mutex<HashMap<ComponentHash, Older>>>,
}

enum Older {
    Loading,
    Loaded(Component),
    /// Why, and until when it is not tried again.
    Failed(String, Tick),
}

/// How long an older component that could not be loaded is not tried again: its keys are asked for again and again.
const FAILED_TIME: Duration = Duration::from_secs(60);

/// What a supervisor's policy says of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    pub on_demand: bool,
    /// In a second, for one caller.
    pub new_keys: u32,
}

impl From<&SupervisorSettings> for Keys {
    fn from(settings: &SupervisorSettings) -> Keys {
        Keys { on_demand: settings.on_demand, new_keys: settings.new_keys }
    }
}

impl Default for Keys {
    fn default() -> Keys {
        Keys::from(&SupervisorSettings::default())
    }
}

impl ComponentTemplate {
    /// `component` was checked against `settings` and its file is kept. `before`: an older one that is loaded already.
    pub fn new(
        changes: &Changes,
        component: Component,
        settings: WorkerSettings,
        keys: Keys,
        rollout: Arc<Rollout>,
        before: Option<&Component>,
    ) -> ComponentTemplate {
        let older = before.filter(|before| before.hash() == rollout.serving());
        let older = older.map(|before| (before.hash(), Older::Loaded(before.clone())));
        let template = ComponentTemplate {
            rollout,
            changes: changes.clone(),
            component,
            settings: settings.into(),
            keys,
            older: Arc::new(Mutex::new(older.into_iter().collect())),
        };
        // What new keys start on is there when the first one comes; it is loaded beside if it is not.
        let _ = template.component_of(template.rollout.serving());
        template
    }

    fn first(&self, name: &Name, config: Option<&str>) -> Result<Launch, NotMade> {
        let hash = self.rollout.serving();
        let component = self.component_of(hash)?;
        let revision = RevisionNumber(1);
        let worker = WorkerRecord {
            name: name.clone(),
            component: hash,
            revision,
            file: Some(hash),
            overridden: false,
            removed: false,
            incarnation: Incarnation::default(),
            config: config.map(str::to_string),
            keyed: true,
        };
        self.note(worker, Why::Deployed, "from the template")?;
        self.begins(name, hash);
        Ok(self.launch_of(name, component, revision, config))
    }

    /// Makes the template's component the revision of a child, behind everything that was queued before.
    fn note(&self, worker: WorkerRecord, why: Why, detail: &str) -> Result<(), NotMade> {
        let (name, hash, number) = (worker.name.clone(), worker.component, worker.revision);
        let record = RevisionRecord {
            number,
            component: hash,
            at: self.changes.services.clock.timestamp(),
            why,
            by: By::Host,
            verdict: Verdict::Committed,
            note: String::new(),
        };
        let entry = self.changes.entry(&name, Action::Deployed, Some(hash), By::Host, detail.to_string());
        // A circuit breaker that is on record was of other code. Of a name that nobody had there is none.
        let clear = (number > RevisionNumber(1)).then(|| Change::ClearBreaker(name.clone()));
        let mut writes = vec![Change::PutWorker(worker), Change::PutRevision(name, record), entry];
        writes.extend(clear);
        self.changes.services.database.submit(writes).map(drop).map_err(not_noted)
    }

    fn launch_of(&self, name: &Name, component: Component, revision: RevisionNumber, config: Option<&str>) -> Launch {
        let mut settings = self.settings.clone();
        if let Some(config) = config {
            Arc::make_mut(&mut settings).config = config.to_string();
        }
        Launch { name: name.clone(), component, revision, settings, saved: None, breaker: None }
    }

    /// A worker with a file of its own had that name. It is not the key's: nothing of it is taken over but its history.
    fn anew(&self, former: WorkerRecord, config: Option<&str>) -> Result<Launch, NotMade> {
        let hash = self.rollout.serving();
        let component = self.component_of(hash)?;
        let revision = self.changes.next_revision(&former.name).map_err(failed)?;
        let (name, config) = (former.name, config.map(str::to_string));
        let record = WorkerRecord {
            name: name.clone(),
            component: hash,
            revision,
            file: Some(hash),
            overridden: false,
            removed: false,
            incarnation: Incarnation::default(),
            config: config.clone(),
            keyed: true,
        };
        let forget = vec![Change::DropSnapshot(name.clone())];
        self.changes.services.database.submit(forget).map(drop).map_err(not_noted)?;
        self.note(record, Why::Deployed, "from the template; the worker that had this name is no key of it")?;
        self.begins(&name, hash);
        Ok(self.launch_of(&name, component, revision, config.as_deref()))
    }

    /// A key begins that has nothing to go on from.
    fn begins(&self, name: &Name, on: ComponentHash) {
        if on == self.component.hash() {
            self.rollout.note_fresh(name);
        }
        if on != self.rollout.target() {
            self.rollout.expect(name, true);
        }
    }

    fn component_of(&self, hash: ComponentHash) -> Result<Component, NotMade> {
        if hash == self.component.hash() { Ok(self.component.clone()) } else { self.load(hash) }
    }

    /// A key that had a child before: it goes on from its state, with the component that saved it.
    fn again(&self, record: WorkerRecord, config: Option<&str>) -> Result<Launch, NotMade> {
        let database = &self.changes.services.database;
        let config = config.map(str::to_string).or(record.config.clone());
        let saved = database.snapshot(&record.name).map_err(failed)?;
        let saved = saved.filter(|saved| saved.component == record.component);
        let breaker = database.breaker(&record.name).map_err(failed)?;
        // One whose key was let go of begins with a closed one.
        let breaker = breaker.filter(|_| !record.removed);
        let (serving, target) = (self.rollout.serving(), self.rollout.target());
        // An operator's word holds until the file changes.
        let overrides = record.overrides_any_of(&[target, self.component.hash()]);
        let (name, revision) = (record.name.clone(), record.revision);
        let record = WorkerRecord { removed: false, config: config.clone(), ..record };
        if record.component != serving && saved.is_none() && !overrides {
            // No state to take over: it begins as a new key does.
            let (component, loaded) = (serving, self.component_of(serving)?);
            let revision = self.changes.next_revision(&name).map_err(failed)?;
            let record = WorkerRecord { component, revision, file: Some(component), overridden: false, ..record };
            self.note(record, Why::Upgrade, "from the template; there was no state to take over")?;
            self.begins(&name, component);
            return Ok(self.launch_of(&name, loaded, revision, config.as_deref()));
        }
        let component = record.component;
        let loaded = self.component_of(component)?;
        // Whether or not it seems to be so already: that it was removed may still be on its way there.
        database.submit(vec![Change::PutWorker(record)]).map_err(not_noted)?;
        let mut launch = self.launch_of(&name, loaded, revision, config.as_deref());
        // Nothing of its own could be at fault, nor an operator.
        let is_new = saved.is_none() && !overrides;
        launch.saved = saved.map(|saved| saved.snapshot);
        launch.breaker = breaker;
        if component != target {
            // Its state can only be read by what saved it: it starts on that, and is upgraded then.
            self.rollout.expect(&name, is_new);
        }
        Ok(launch)
    }

    /// Loaded beside, for it may have to be compiled: until then the child cannot be made.
    fn load(&self, component: ComponentHash) -> Result<Component, NotMade> {
        let services = &self.changes.services;
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        match older.get(&component) {
            Some(Older::Loaded(loaded)) => return Ok(loaded.clone()),
            Some(Older::Loading) => return Err(NotMade::Busy),
            Some(Older::Failed(why, until)) if services.clock.now() < *until => {
                return Err(NotMade::Failed(why.clone()));
            }
            Some(Older::Failed(..)) | None => older.insert(component, Older::Loading),
        };
        let (changes, loading, rollout) = (self.changes.clone(), self.older.clone(), self.rollout.clone());
        tokio::spawn(async move {
            let loaded = async {
                let source = changes.kept(component)?;
                changes.load(source, By::Host).await
            };
            let what = "load the component of a child of a template";
            let recorder = changes.services.recorder.clone();
            let loaded = match recorder.watched(what, loaded).await {
                Some(Ok((loaded, _))) => Older::Loaded(loaded),
                Some(Err(error)) => {
                    let is_lost = error.is_final();
                    let error = super::error::with_cause(&error);
                    if is_lost {
                        rollout.has_lost(component, &error);
                    }
                    recorder.emit(Event::DatabaseFailed { what, error: error.clone() });
                    Older::Failed(error, changes.services.clock.now().after(FAILED_TIME))
                }
                None => {
                    Older::Failed("a fault of the host".to_string(), changes.services.clock.now().after(FAILED_TIME))
                }
            };
            loading.lock().unwrap_or_else(PoisonError::into_inner).insert(component, loaded);
        });
        Err(NotMade::Busy)
    }
}

impl Template for ComponentTemplate {
    fn launch(&self, name: &Name, config: Option<&str>) -> Result<Launch, NotMade> {
        let known = self.changes.services.database.worker(name).map_err(failed)?;
        match known {
            Some(record) if !record.keyed => self.anew(record, config),
            Some(record) => self.again(record, config),
            None => self.first(name, config),
        }
    }

    fn component(&self) -> ComponentHash {
        self.component.hash()
    }

    fn target(&self) -> ComponentHash {
        self.rollout.target()
    }

    fn payload_max(&self) -> u64 {
        self.settings.limits.payload
    }

    fn is_on_demand(&self) -> bool {
        self.keys.on_demand
    }

    fn new_keys(&self) -> u32 {
        self.keys.new_keys
    }

    fn ends_idle(&self) -> bool {
        self.component.kind() == Kind::Worker && !self.component.exports().state
    }
}

fn failed(error: impl std::fmt::Display) -> NotMade {
    NotMade::Failed(error.to_string())
}

fn not_noted(error: DatabaseError) -> NotMade {
    match error {
        DatabaseError::QueueFull => NotMade::Busy,
        other => failed(other),
    }
}
