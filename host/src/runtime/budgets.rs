//! What all workers below a supervisor may use together: taken from it when a worker enters the tree,
//! given back when it leaves. Pure.
//!
//! A worker's `limits.memory` is what it may use at the most, and the engine holds it to that; so the
//! sum of what was taken bounds the instances of the subtree while it runs. What else it makes the host keep (messages,
//! timers, states) has no limit that could be summed up: that is counted as it is used, together with the memory of
//! instances, in the subtree's account ([`super::accounts`]), which has the same bound.

use std::collections::{BTreeMap, HashMap};

use super::spec::SubtreeBudget;
use crate::base::units::show_size;
use crate::base::{Name, give_back_room};

#[derive(Debug, Default)]
pub struct Budgets {
    pools: BTreeMap<Name, Pool>,
    taken: HashMap<Name, Needs>,
}

#[derive(Debug, Default)]
struct Pool {
    budget: SubtreeBudget,
    used: Sum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    memory: u64,
    cpu: u64,
}

/// What one worker takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes.
    pub memory: u64,
    /// Fuel per second; `None` shares what there is.
    pub cpu: Option<u64>,
}

/// A worker does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it needs {needs}, and of the {budget} that {supervisor:?} allows all below it {left} are left")]
pub struct NoRoom {
    pub supervisor: Name,
    pub needs: String,
    pub budget: String,
    pub left: String,
}

impl Budgets {
    /// A supervisor's budget from now on. The error says what is in use already, and nothing changes.
    pub fn set(&mut self, supervisor: &Name, budget: SubtreeBudget) -> Result<(), NoRoom> {
        if budget == SubtreeBudget::default() {
            self.pools.remove(supervisor);
            return Ok(());
        }
        let below = self.taken.iter().filter(|(name, _)| name.is_below(supervisor));
        let mut used = Sum::default();
        below.for_each(|(_, needs)| used.add(*needs));
        let pool = Pool { budget, used: Sum::default() };
        pool.fits(supervisor, Needs { memory: used.memory, cpu: Some(used.cpu) })?;
        self.pools.insert(supervisor.clone(), Pool { budget, used });
        Ok(())
    }

    pub fn forget(&mut self, supervisor: &Name) {
        self.pools.remove(supervisor);
    }

    /// Takes what `worker` needs from every budget above it, in place of what it took before; or
    /// nothing changes.
    pub fn take(&mut self, worker: &Name, needs: Needs) -> Result<(), NoRoom> {
        let before = self.release(worker);
        let mut at = worker.parent();
        while let Some(supervisor) = at {
            let fits = self.pools.get(&supervisor).map_or(Ok(()), |pool| pool.fits(&supervisor, needs));
            if let Err(no_room) = fits {
                if let Some(before) = before {
                    self.put(worker, before);
                }
                return Err(no_room);
            }
            at = supervisor.parent();
        }
        self.put(worker, needs);
        Ok(())
    }

    /// The same for one that has taken before: one that has left since takes nothing.
    pub fn change(&mut self, worker: &Name, needs: Needs) -> Result<(), NoRoom> {
        if self.taken.contains_key(worker) { self.take(worker, needs) } else { Ok(()) }
    }

    fn put(&mut self, worker: &Name, needs: Needs) {
        self.for_each_above(worker, |used| used.add(needs));
        self.taken.insert(worker.clone(), needs);
    }

    /// Gives back what `worker` took.
    pub fn release(&mut self, worker: &Name) -> Option<Needs> {
        let needs = self.taken.remove(worker)?;
        give_back_room(&mut self.taken);
        self.for_each_above(worker, |used| used.remove(needs));
        Some(needs)
    }

    /// Bytes and fuel per second that are taken from a supervisor's budget.
    pub fn used(&self, supervisor: &Name) -> Option<(u64, u64)> {
        self.pools.get(supervisor).map(|pool| (pool.used.memory, pool.used.cpu))
    }

    fn for_each_above(&mut self, worker: &Name, mut change: impl FnMut(&mut Sum)) {
        if self.pools.is_empty() {
            return;
        }
        let mut at = worker.parent();
        while let Some(supervisor) = at {
            if let Some(pool) = self.pools.get_mut(&supervisor) {
                change(&mut pool.used);
            }
            at = supervisor.parent();
        }
    }
}

impl Pool {
    fn fits(&self, supervisor: &Name, needs: Needs) -> Result<(), NoRoom> {
        if let Some(budget) = self.budget.memory {
            let left = budget.saturating_sub(self.used.memory);
            if needs.memory > left {
                let (needs, budget) = (show_size(needs.memory), format!("{} of memory", show_size(budget)));
                return Err(NoRoom { supervisor: supervisor.clone(), needs, budget, left: show_size(left) });
            }
        }
        if let (Some(budget), Some(cpu)) = (self.budget.cpu, needs.cpu) {
            let left = budget.saturating_sub(self.used.cpu);
            if cpu > left {
                let (needs, budget) = (format!("{cpu} units"), format!("{budget} units of fuel per second"));
                return Err(NoRoom { supervisor: supervisor.clone(), needs, budget, left: left.to_string() });
            }
        }
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, needs: Needs) {
        self.memory = self.memory.saturating_add(needs.memory);
        self.cpu = self.cpu.saturating_add(needs.cpu.unwrap_or_default());
    }

    fn remove(&mut self, needs: Needs) {
        self.memory = self.memory.saturating_sub(needs.memory);
        self.cpu = self.cpu.saturating_sub(needs.cpu.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn memory(bytes: u64) -> Needs {
        Needs { memory: bytes, cpu: None }
    }

    #[test]
    fn a_worker_takes_from_every_budget_above_it_or_from_none() {
        let mut budgets = Budgets::default();
        budgets.set(&Name::root(), SubtreeBudget { memory: Some(10), cpu: None }).unwrap();
        budgets.set(&name("a"), SubtreeBudget { memory: Some(6), cpu: Some(100) }).unwrap();
        budgets.take(&name("a/x"), memory(4)).unwrap();
        let refused = budgets.take(&name("a/y"), memory(3)).unwrap_err();
        assert_eq!(refused.supervisor, name("a"));
        assert_eq!(budgets.used(&Name::root()), Some((4, 0)), "a refusal takes nothing");
        budgets.take(&name("b"), memory(6)).unwrap();
        assert_eq!(budgets.take(&name("a/y"), memory(2)).unwrap_err().supervisor, Name::root());
        budgets.release(&name("b"));
        budgets.take(&name("a/y"), memory(2)).unwrap();
        assert_eq!((budgets.used(&Name::root()), budgets.used(&name("a"))), (Some((6, 0)), Some((6, 0))));
    }

    #[test]
    fn a_new_limit_replaces_the_old_or_changes_nothing() {
        let mut budgets = Budgets::default();
        budgets.set(&Name::root(), SubtreeBudget { memory: Some(10), cpu: Some(5) }).unwrap();
        budgets.take(&name("a"), Needs { memory: 6, cpu: Some(5) }).unwrap();
        budgets.take(&name("a"), memory(10)).unwrap();
        assert!(budgets.take(&name("a"), memory(11)).is_err());
        assert_eq!(budgets.used(&Name::root()), Some((10, 0)));
    }

    #[test]
    fn a_budget_below_what_is_taken_is_refused() {
        let mut budgets = Budgets::default();
        budgets.take(&name("a/x"), memory(8)).unwrap();
        assert!(budgets.set(&name("a"), SubtreeBudget { memory: Some(7), cpu: None }).is_err());
        assert_eq!(budgets.used(&name("a")), None);
        budgets.set(&name("a"), SubtreeBudget { memory: Some(8), cpu: None }).unwrap();
        assert_eq!(budgets.used(&name("a")), Some((8, 0)));
    }
}
