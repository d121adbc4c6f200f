//! Who is called what, who is in which group, and who watches whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::names::Names;
use super::worker::Shared;
use crate::base::{MonitorId, Name, bounds, give_back_room, name_hasher};

/// Names of workers. One lookup is one read lock and one hash.
pub struct Registry {
    workers: RwLock<HashMap<Name, Arc<Shared>, ahash::RandomState>>,
    /// The same in order of name. A worker is put in here first and taken out last, so that one that is found above is
    /// here until it is removed.
    order: Names<Arc<Shared>>,
    /// How many of them are children of which template.
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    of: HashMap<Name, usize>,
    all: usize,
}

impl Keys {
    fn count(&mut self, worker: &Shared, comes: bool) {
        let Some(supervisor) = worker.name().parent().filter(|_| worker.is_key()) else { return };
        let of = self.of.entry(supervisor.clone()).or_default();
        let change = |count: &mut usize| *count = if comes { *count + 1 } else { count.saturating_sub(1) };
        change(of);
        if *of == 0 {
            self.of.remove(&supervisor);
        }
        change(&mut self.all);
    }
}

impl Default for Registry {
    fn default() -> Registry {
        let workers = RwLock::new(HashMap::with_hasher(name_hasher()));
        Registry { workers, order: Names::default(), keys: Mutex::default() }
    }
}

impl Registry {
    pub fn get(&self, name: &Name) -> Option<Arc<Shared>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A name as a guest or a client writes it. One that is no name is one that nobody has.
    pub fn find(&self, name: &str) -> Option<Arc<Shared>> {
        let found = self.workers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if found.is_some() || name.is_ascii() {
            return found;
        }
        // Spelt otherwise than it is kept.
        self.get(&Name::parse(name).ok()?)
    }

    pub fn insert(&self, worker: Arc<Shared>) {
        self.order.insert(worker.name().clone(), worker.clone());
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let mut keys = self.keys();
        keys.count(&worker, true);
        if let Some(before) = workers.insert(worker.name().clone(), worker) {
            keys.count(&before, false);
            before.leave();
        }
    }

    /// Frees the name of this worker. False if another has taken it meanwhile, which keeps it, or nobody has.
    pub fn remove(&self, worker: &Shared) -> bool {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let is_its_own = workers.get(worker.name()).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), worker));
        if is_its_own {
            worker.leave();
            workers.remove(worker.name());
            self.keys().count(worker, false);
            give_back_room(&mut workers);
        }
        drop(workers);
        if is_its_own {
            self.order.remove_if(worker.name(), |known| std::ptr::eq(Arc::as_ptr(known), worker));
        }
        is_its_own
    }

    /// How many are children of this supervisor's template, and of all templates.
    pub fn key_counts(&self, supervisor: &Name) -> (usize, usize) {
        let keys = self.keys();
        (keys.of.get(supervisor).copied().unwrap_or_default(), keys.all)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All workers by name. One that comes or goes meanwhile may be among them or not. For who cannot wait: others
    /// go through [`Registry::pages`].
    pub fn all(&self) -> Vec<Arc<Shared>> {
        let mut all: Vec<Arc<Shared>> = Vec::with_capacity(self.count());
        loop {
            let page = self.page(all.last().map(|last| last.name()), bounds::PAGE_ROWS_MAX);
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// The first `limit` workers after a name, in order of name.
    pub fn page(&self, after: Option<&Name>, limit: usize) -> Vec<Arc<Shared>> {
        self.order.page(after, limit)
    }

    /// All workers by name, some at a time: who reads them gives way in between.
    pub fn pages(&self) -> WorkerPages<'_> {
        WorkerPages { registry: self, after: None }
    }

    /// The names most like this one, best first: what somebody may have meant.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        self.order.nearest(name)
    }
}

/// Workers by name, some at a time.
pub struct WorkerPages<'a> {
    registry: &'a Registry,
    after: Option<Name>,
}

impl WorkerPages<'_> {
    /// The next ones; `None` after the last. Gives way to others first.
    pub async fn next(&mut self) -> Option<Vec<Arc<Shared>>> {
        if self.after.is_some() {
            tokio::task::yield_now().await;
        }
        let page = self.registry.page(self.after.as_ref(), bounds::WORKERS_AT_A_LOOK);
        self.after = Some(page.last()?.name().clone());
        Some(page)
    }
}

/// Named groups of workers.
#[derive(Default)]
pub struct Groups {
    groups: Mutex<BTreeMap<String, BTreeSet<Name>>>,
}

impl Groups {
    pub fn join(&self, group: &str, member: &Name) {
        self.groups().entry(group.to_string()).or_default().insert(member.clone());
    }

    pub fn leave(&self, group: &str, member: &Name) {
        let mut groups = self.groups();
        if let Some(members) = groups.get_mut(group) {
            members.remove(member);
            if members.is_empty() {
                groups.remove(group);
            }
        }
    }

    pub fn members(&self, group: &str) -> Vec<Name> {
        self.groups().get(group).map(|members| members.iter().cloned().collect()).unwrap_or_default()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<Name>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is to be told when a worker stops.
#[derive(Default)]
pub struct Monitors {
    watchers: Mutex<HashMap<Name, Vec<(Name, MonitorId)>>>,
}

impl Monitors {
    pub fn watch(&self, target: &Name, watcher: &Name, monitor: MonitorId) {
        self.watchers().entry(target.clone()).or_default().push((watcher.clone(), monitor));
    }

    /// False if it has fired, or never was.
    pub fn unwatch(&self, target: &Name, watcher: &Name, monitor: MonitorId) -> bool {
        let mut watchers = self.watchers();
        let Some(list) = watchers.get_mut(target) else { return false };
        let before = list.len();
        list.retain(|(name, id)| name != watcher || *id != monitor);
        let found = list.len() < before;
        if list.is_empty() {
            watchers.remove(target);
        }
        found
    }

    /// A monitor fires once: those who watched are taken out.
    pub fn take(&self, target: &Name) -> Vec<(Name, MonitorId)> {
        let mut watchers = self.watchers();
        let taken = watchers.remove(target).unwrap_or_default();
        give_back_room(&mut watchers);
        taken
    }

    fn watchers(&self) -> MutexGuard<'_, HashMap<Name, Vec<(Name, MonitorId)>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn groups_and_monitors_leave_nothing_behind() {
        let (groups, monitors) = (Groups::default(), Monitors::default());
        let (a, b) = (name("a"), name("b"));
        groups.join("g", &a);
        groups.join("g", &b);
        groups.leave("g", &a);
        assert_eq!(groups.members("g"), std::slice::from_ref(&b));
        groups.leave("g", &b);
        assert!(groups.groups().is_empty());
        monitors.watch(&a, &b, MonitorId(1));
        monitors.unwatch(&a, &b, MonitorId(1));
        assert!(monitors.watchers().is_empty());
        monitors.watch(&a, &b, MonitorId(2));
        assert_eq!(monitors.take(&a), [(b, MonitorId(2))]);
        assert!(monitors.take(&a).is_empty());
    }
}
