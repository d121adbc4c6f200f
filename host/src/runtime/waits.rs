//! Who waits for whom: so that a call which would wait for itself is refused at once.
//!
//! A worker waits for at most one other at a time, so the graph is a set of chains, and a new edge closes a
//! cycle exactly if the chain from its far end leads back. Each worker keeps its own edge: there is no lock
//! that all of them take. An edge is shown before the chain is walked, so of several calls that close a
//! cycle at the same moment at least one sees all the others; it may be that each does, and is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::Name;

/// One worker's edge.
#[derive(Default)]
pub struct WaitsFor {
    /// Shown beside the edge, in one order with those of all others; where it is seen, so is the edge.
    waits: AtomicBool,
    /// Made when it calls for the first time: most workers call nobody.
    edge: OnceLock<Box<Edge>>,
}

#[derive(Default)]
struct Edge {
    /// For whom; if it does not wait, for whom it did last.
    callee: Mutex<Option<Name>>,
    /// Where that one's name lies, so that who calls the same one again needs no lock. It is kept there, so no
    /// other name can come to lie in its place. Only the worker itself looks at this.
    place: AtomicUsize,
}

/// An edge; it ends when this is dropped.
pub struct Wait<'a>(&'a WaitsFor);

/// A chain is no longer than there are workers. One that is walked while it changes could be.
const STEPS_MAX: usize = 1_000;

impl WaitsFor {
    /// `caller`, whose edge this is, is about to wait for `callee`. `edge_of`: for whom another waits. The
    /// error names the workers along the cycle, the caller first and last.
    pub fn enter(
        &self,
        caller: &Name,
        callee: &Name,
        edge_of: impl Fn(&Name) -> Option<Name>,
    ) -> Result<Wait<'_>, Vec<String>> {
        let place = callee.as_str().as_ptr().addr();
        let edge = self.edge.get_or_init(Box::default);
        if edge.place.load(Relaxed) != place {
            *edge.callee() = Some(callee.clone());
            edge.place.store(place, Relaxed);
        }
        self.waits.store(true, SeqCst);
        let wait = Wait(self);
        // Edges may end and begin while the chain is walked, and what looks like a cycle was none at any
        // moment. One that is there, stays.
        match walk(caller, callee, &edge_of).and_then(|_| walk(caller, callee, &edge_of)) {
            Some(names) => Err(names),
            None => Ok(wait),
        }
    }

    /// For whom it waits just now.
    pub fn now(&self) -> Option<Name> {
        if self.waits.load(SeqCst) { self.edge.get()?.callee().clone() } else { None }
    }
}

impl Edge {
    fn callee(&self) -> MutexGuard<'_, Option<Name>> {
        self.callee.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names along the chain from `caller` over `callee` back to `caller`, if it leads there.
fn walk(caller: &Name, callee: &Name, edge_of: impl Fn(&Name) -> Option<Name>) -> Option<Vec<String>> {
    if callee == caller {
        return Some(vec![caller.to_string(); 2]);
    }
    // Most wait for one that waits for nobody: then there is nothing to remember.
    let mut next = edge_of(callee);
    let mut path = Vec::new();
    while let Some(at) = next.filter(|_| path.len() < STEPS_MAX) {
        if at == *caller {
            let names = [caller, callee].into_iter().chain(&path).chain([caller]);
            return Some(names.map(ToString::to_string).collect());
        }
        next = edge_of(&at);
        path.push(at);
    }
    None
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.waits.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_cycle_is_refused_and_named() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Name::parse(text).unwrap());
        let edges: BTreeMap<Name, WaitsFor> = [&a, &b, &c].map(|name| (name.clone(), WaitsFor::default())).into();
        let edge_of = |name: &Name| edges.get(name).and_then(WaitsFor::now);
        let enter = |caller: &Name, callee: &Name| edges[caller].enter(caller, callee, edge_of);
        let _ab = enter(&a, &b).unwrap();
        let bc = enter(&b, &c).unwrap();
        assert_eq!(enter(&c, &a).err().unwrap(), ["c", "a", "b", "c"]);
        assert_eq!(edge_of(&c), None, "what was refused is no edge");
        assert_eq!(enter(&c, &c).err().unwrap(), ["c", "c"]);
        drop(bc);
        assert!(enter(&c, &a).is_ok());
        assert!(enter(&a, &Name::parse("nobody").unwrap()).is_ok());
    }
}
