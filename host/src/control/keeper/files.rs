//! What the keeper saw in the directory last, for those who do not look themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{ComponentHash, Name};
use crate::control::directory::WorkerEntry;

/// Shared by the keeper and by whoever answers requests.
#[derive(Clone, Default)]
pub(in crate::control) struct Files(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    components: BTreeMap<Name, ComponentHash>,
    deleted: BTreeSet<Name>,
}

impl Files {
    /// `deleted`: the names that a host before this one deleted.
    pub fn new(deleted: impl Iterator<Item = Name>) -> Files {
        Files(Arc::new(Mutex::new(Seen { deleted: deleted.collect(), ..Seen::default() })))
    }

    /// The component that the file of this name held at the last look that was certain of it.
    pub fn component(&self, name: &Name) -> Option<ComponentHash> {
        self.seen().components.get(name).copied()
    }

    /// The template's file of a simple-one-for-one supervisor, which has no other, likewise.
    pub fn template(&self, supervisor: &Name) -> Option<(Name, ComponentHash)> {
        let seen = self.seen();
        let mut after = seen.components.range(supervisor.clone()..).map(|(name, hash)| (name.clone(), *hash));
        after.find(|(name, _)| name != supervisor).filter(|(name, _)| name.is_below(supervisor))
    }

    /// Whether an operator deleted this worker, and its file was not seen to go since.
    pub fn is_deleted(&self, name: &Name) -> bool {
        self.seen().deleted.contains(name)
    }

    pub fn delete(&self, name: Name) {
        self.seen().deleted.insert(name);
    }

    pub(super) fn deleted(&self) -> BTreeSet<Name> {
        self.seen().deleted.clone()
    }

    pub(super) fn gone(&self, names: &[Name]) {
        self.seen().deleted.retain(|name| !names.contains(name));
    }

    /// `is_held`: of which the look is not certain; what was seen there stays.
    pub(super) fn note(&self, workers: &BTreeMap<Name, WorkerEntry>, is_held: impl Fn(&Name) -> bool) {
        let mut seen = self.seen();
        // Mostly nothing has changed since the last look.
        let is_same = seen.components.iter().eq(workers.iter().map(|(name, entry)| (name, &entry.hash)));
        if !is_same {
            seen.components.retain(|name, _| is_held(name));
            seen.components.extend(workers.iter().map(|(name, entry)| (name.clone(), entry.hash)));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
