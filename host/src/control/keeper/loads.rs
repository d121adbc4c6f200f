//! Components that are read, checked and compiled for workers that do not run yet, beside the
//! keeper's own task. Nothing is decided here: a load changes neither the tree nor the database.
//!
//! ```text
//!   begin ---> waits for its turn ---> loading ---> loaded ---> taken by the keeper
//!                       |                 |            |
//!                       +-----------------+------------+------> abandoned
//! ```
//!
//! One load for a name: another `begin` abandons what was begun. The compiler of an abandoned load is ended, where it
//! has a process of its own; otherwise it runs to its end, and keeps its turn so long. When this is dropped, all are
//! abandoned.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::base::{ComponentHash, Name, bounds};
use crate::change::{self, ChangeError, Changes, Source};
use crate::control::beside::SharedBeside;
use crate::control::directory::{Problem, Wanted, read_component};
use crate::record::Event;
use crate::runtime::Services;
use crate::sandbox::Component;

pub(super) struct Loads {
    services: Arc<Services>,
    changes: Changes,
    tasks: JoinSet<Result<Component, LoadError>>,
    loads: BTreeMap<Name, Load>,
    /// Reads, by name: while one hangs no second thread is sent after it.
    reading: BTreeMap<Name, SharedBeside>,
}

struct Load {
    wanted: Wanted,
    task: AbortHandle,
    /// `None`: it is under way.
    result: Option<Result<Component, LoadError>>,
}

/// What a load led to.
pub(super) struct Loaded {
    pub wanted: Wanted,
    pub component: Result<Component, LoadError>,
}

pub(super) enum LoadError {
    /// The file is not any more what the directory said.
    Changed,
    Unreadable(Problem),
    /// `instead`: what serves in its place ([`Known::Otherwise`]).
    Refused {
        error: ChangeError,
        instead: Option<Box<Component>>,
    },
}

impl From<ChangeError> for LoadError {
    fn from(error: ChangeError) -> LoadError {
        LoadError::Refused { error, instead: None }
    }
}

/// What the host has had of that name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    Nothing,
    /// It comes back on that, whatever its file is now.
    ComesBackOn(ComponentHash),
    /// That serves where the file is refused.
    Otherwise(ComponentHash),
}

impl Loads {
    pub fn new(services: &Arc<Services>, changes: &Changes) -> Loads {
        Loads {
            services: services.clone(),
            changes: changes.clone(),
            tasks: JoinSet::new(),
            loads: BTreeMap::new(),
            reading: BTreeMap::new(),
        }
    }

    pub fn begin(&mut self, name: Name, wanted: Wanted, known: Known) {
        self.abandon(&name);
        let Loads { loads, reading, .. } = self;
        reading.retain(|name, reading| loads.contains_key(name) || reading.is_busy());
        let loading = Loading {
            reading: reading.entry(name.clone()).or_default().clone(),
            services: self.services.clone(),
            changes: self.changes.clone(),
            name: name.clone(),
            wanted: wanted.clone(),
        };
        let task = self.tasks.spawn(loading.run(known));
        self.loads.insert(name, Load { wanted, task, result: None });
    }

    /// Reads that hang do not hold up those from another directory.
    pub fn forget_reads(&mut self) {
        self.reading.clear();
    }

    /// Whatever it leads to is thrown away.
    pub fn abandon(&mut self, name: &Name) {
        if let Some(load) = self.loads.remove(name) {
            load.task.abort();
        }
    }

    /// Names that are under way.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.loads.iter().filter(|(_, load)| load.result.is_none()).map(|(name, _)| name)
    }

    pub fn has(&self, name: &Name) -> bool {
        self.loads.contains_key(name)
    }

    /// What the directory wanted when each was begun.
    pub fn wanted(&self) -> BTreeMap<Name, Wanted> {
        self.loads.iter().map(|(name, load)| (name.clone(), load.wanted.clone())).collect()
    }

    /// Names whose load has ended.
    pub fn loaded(&self) -> Vec<Name> {
        let ended = self.loads.iter().filter(|(_, load)| load.result.is_some());
        ended.map(|(name, _)| name.clone()).collect()
    }

    /// `None`: there is none, or it is under way still.
    pub fn take(&mut self, name: &Name) -> Option<Loaded> {
        let component = self.loads.get_mut(name)?.result.take()?;
        let load = self.loads.remove(name)?;
        Some(Loaded { wanted: load.wanted, component })
    }

    /// Waits until one or more have ended; for ever where none is under way. Dropping the future loses
    /// nothing.
    pub async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.note(ended),
            None => std::future::pending().await,
        }
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.note(ended);
        }
    }

    /// How many have not ended.
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// An abandoned one is not known any more.
    fn note(&mut self, ended: Result<(Id, Result<Component, LoadError>), JoinError>) {
        let (task, result) = ended.unwrap_or_else(|error| {
            // A fault of the host: nothing is known of the component.
            let why = ChangeError::NoCompiler(format!("it could not be loaded: {error}"));
            (error.id(), Err(why.into()))
        });
        if let Some(load) = self.loads.values_mut().find(|load| load.task.id() == task) {
            load.result = Some(result);
        }
    }
}

/// One load, in a task of its own.
struct Loading {
    services: Arc<Services>,
    changes: Changes,
    name: Name,
    wanted: Wanted,
    reading: SharedBeside,
}

impl Loading {
    async fn run(self, known: Known) -> Result<Component, LoadError> {
        let Loading { services, changes, name, wanted: Wanted { path, hash, settings }, reading } = self;
        // A file that is gone is found out when it is read.
        let late = |path: &std::path::Path| LoadError::Unreadable(Problem::late(path));
        let of = path.clone();
        let size = move || std::fs::metadata(of).map(|file| file.len()).unwrap_or_default();
        let size = reading.run(bounds::LOOK_TIME, size).await.ok_or_else(|| late(&path))?;
        if let Known::ComesBackOn(component) = known {
            return Ok(change::prepare_known(&changes, component, &settings).await?);
        }
        let source = Source::new(hash, size, move || {
            services.recorder.emit(Event::WorkerLoading { worker: name.clone(), bytes: size });
            let of = path.clone();
            // Where it does not answer, the turn is another's. It is tried again after a while.
            let read = reading.run_blocking(bounds::LOOK_TIME, move || read_component(&of));
            let (bytes, read) = read.ok_or_else(|| late(&path))?.map_err(LoadError::Unreadable)?;
            if read == hash { Ok(Bytes::from(bytes.into_vec())) } else { Err(LoadError::Changed) }
        });
        match (change::prepare(&changes, source, &settings).await, known) {
            (Err(LoadError::Refused { error, .. }), Known::Otherwise(component)) => {
                let instead = change::prepare_known(&changes, component, &settings).await.ok().map(Box::new);
                Err(LoadError::Refused { error, instead })
            }
            (loaded, _) => loaded,
        }
    }
}
