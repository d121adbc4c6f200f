//! Who is called what, who is in which group, and who watches whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::worker::Shared;
use crate::base::{MonitorId, Name, bounds};

/// Names of workers. One lookup is one read lock and one hash.
#[derive(Default)]
pub struct Registry {
    workers: RwLock<HashMap<Name, Arc<Shared>>>,
}

impl Registry {
    pub fn get(&self, name: &Name) -> Option<Arc<Shared>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A name as a guest or a client writes it. One that is no name is one that nobody has.
    pub fn find(&self, name: &str) -> Option<Arc<Shared>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn insert(&self, worker: Arc<Shared>) {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = workers.insert(worker.name().clone(), worker) {
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
        }
        is_its_own
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All workers by name.
    pub fn all(&self) -> Vec<Arc<Shared>> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = workers.values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// The first `limit` workers after a name, in order of name.
    pub fn page(&self, after: Option<&Name>, limit: usize) -> Vec<Arc<Shared>> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let later = workers.values().filter(|worker| after.is_none_or(|after| worker.name() > after));
        let mut page: Vec<_> = later.collect();
        if page.len() > limit {
            // Only the page itself is put in order.
            page.select_nth_unstable_by(limit, |a, b| a.name().cmp(b.name()));
            page.truncate(limit);
        }
        page.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        page.into_iter().cloned().collect()
    }

    /// The names most like this one, best first: what somebody may have meant.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        if name.len() > bounds::NAME_BYTES_MAX {
            return Vec::new();
        }
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let scored = workers.keys().map(|known| {
            let whole = strsim::jaro_winkler(name, known.as_str());
            let leaf = strsim::jaro_winkler(name, known.leaf());
            (whole.max(leaf), known.to_string())
        });
        let mut near: Vec<(f64, String)> = scored.filter(|(score, _)| *score > 0.7).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.into_iter().take(bounds::SUGGESTIONS_MAX).map(|(_, name)| name).collect()
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
        self.watchers().remove(target).unwrap_or_default()
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
