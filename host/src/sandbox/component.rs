//! A component that was compiled, and what it is: told apart by what it exports.

use std::sync::{Arc, OnceLock};

use wasmtime::component::{Component as Code, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandIndices;

use super::bindings::exports::paguro::worker as exports;
use super::engine::{ComponentError, one_line};
use super::instance::{Instance, InstanceError, State};
use super::metadata::Metadata;
use super::outside::{LogSink, Outside};
use super::{Grants, Limits};
use crate::base::{ComponentHash, Held};

/// Compiled code, ready to be instantiated. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Component(pub(super) Arc<Inner>);

/// What a component is to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Handles messages: exports `handler`.
    Worker,
    /// Exports `wasi:cli/run` and no handler: running is its message.
    Command,
}

/// Which of the optional interfaces a worker exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    pub lifecycle: bool,
    pub state: bool,
    pub health: bool,
    pub batch: bool,
}

impl Exports {
    /// Interfaces that `self` has and `other` lacks, by name.
    pub fn missing_in(self, other: Exports) -> Vec<&'static str> {
        let pairs = [
            ("lifecycle", self.lifecycle, other.lifecycle),
            ("state", self.state, other.state),
            ("health", self.health, other.health),
            ("batch", self.batch, other.batch),
        ];
        pairs.into_iter().filter(|(_, here, there)| *here && !there).map(|(name, ..)| name).collect()
    }

    /// The names of what is exported besides the handler.
    pub fn names(self) -> Vec<&'static str> {
        self.missing_in(Exports::default())
    }
}

pub(super) struct Inner {
    pub hash: ComponentHash,
    pub size: u64,
    pub metadata: Metadata,
    pub pre: InstancePre<State>,
    pub entry: Entry,
    /// Bytes of the engine's own memory that an instance takes.
    pub instance_bytes: u64,
    /// What it takes while it is loaded.
    _held: Option<Held>,
    /// What the first snapshot was said to be: most are the same, and share the text.
    media_type: OnceLock<Arc<str>>,
}

/// Where the exports are, looked up once for all instances.
pub(super) enum Entry {
    Worker(Box<WorkerEntry>),
    Command(CommandIndices),
}

pub(super) struct WorkerEntry {
    pub handler: exports::handler::GuestIndices,
    pub lifecycle: Option<exports::lifecycle::GuestIndices>,
    pub state: Option<exports::state::GuestIndices>,
    pub health: Option<exports::health::GuestIndices>,
    pub batch: Option<exports::batch::GuestIndices>,
}

impl Inner {
    pub fn new(
        linker: &Linker<State>,
        code: Code,
        hash: ComponentHash,
        size: u64,
        metadata: Metadata,
        instance_bytes: u64,
        held: Option<Held>,
    ) -> Result<Inner, ComponentError> {
        let has = |interface: &str| code.get_export_index(None, interface).is_some();
        let handler = has(HANDLER);
        let names = [LIFECYCLE, STATE, HEALTH, BATCH].map(has);
        let pre = linker.instantiate_pre(&code).map_err(|error| ComponentError::Imports(one_line(&error)))?;
        let entry = if handler {
            let wrong = |interface| move |error| ComponentError::WrongTypes { interface, why: one_line(&error) };
            let [lifecycle, state, health, batch] = names;
            let lifecycle = lifecycle.then(|| exports::lifecycle::GuestIndices::new(&pre).map_err(wrong("lifecycle")));
            let state = state.then(|| exports::state::GuestIndices::new(&pre).map_err(wrong("state")));
            let health = health.then(|| exports::health::GuestIndices::new(&pre).map_err(wrong("health")));
            let batch = batch.then(|| exports::batch::GuestIndices::new(&pre).map_err(wrong("batch")));
            Entry::Worker(Box::new(WorkerEntry {
                handler: exports::handler::GuestIndices::new(&pre).map_err(wrong("handler"))?,
                lifecycle: lifecycle.transpose()?,
                state: state.transpose()?,
                health: health.transpose()?,
                batch: batch.transpose()?,
            }))
        } else {
            Entry::Command(CommandIndices::new(&pre).map_err(|_| ComponentError::NotWorker)?)
        };
        Ok(Inner { hash, size, metadata, pre, entry, instance_bytes, _held: held, media_type: OnceLock::new() })
    }

    /// The same text, shared where it is what the first snapshot was said to be.
    pub fn shared_media_type(&self, said: &str) -> Arc<str> {
        let first = self.media_type.get_or_init(|| said.into());
        if **first == *said { first.clone() } else { said.into() }
    }
}

const HANDLER: &str = "paguro:worker/handler@0.1.0";
const LIFECYCLE: &str = "paguro:worker/lifecycle@0.1.0";
const STATE: &str = "paguro:worker/state@0.1.0";
const HEALTH: &str = "paguro:worker/health@0.1.0";
const BATCH: &str = "paguro:worker/batch@0.1.0";

impl Component {
    pub fn hash(&self) -> ComponentHash {
        self.0.hash
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Bytes of the engine's own memory that one instance takes besides its linear memory, over all core instances that
    /// are nested in it. Charged to `limits.memory`.
    pub fn instance_overhead_bytes(&self) -> u64 {
        self.0.instance_bytes
    }

    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    pub fn kind(&self) -> Kind {
        match self.0.entry {
            Entry::Worker(_) => Kind::Worker,
            Entry::Command(_) => Kind::Command,
        }
    }

    pub fn exports(&self) -> Exports {
        match &self.0.entry {
            Entry::Worker(entry) => Exports {
                lifecycle: entry.lifecycle.is_some(),
                state: entry.state.is_some(),
                health: entry.health.is_some(),
                batch: entry.batch.is_some(),
            },
            Entry::Command(_) => Exports::default(),
        }
    }

    /// Makes an instance and drops it again: finds exports whose types are not the contract's, and
    /// a component that cannot even be instantiated within its limits.
    pub async fn try_out(
        &self,
        limits: &Limits,
        grants: &Grants,
        outside: Box<dyn Outside>,
        log: Arc<dyn LogSink>,
    ) -> Result<(), InstanceError> {
        Instance::create(self, limits, grants, outside, log).await.map(drop)
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Component({})", self.0.hash.short())
    }
}
