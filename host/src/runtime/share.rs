//! Shares of the processor: a worker's own bound and those of the supervisors above it, as a chain of
//! accounts. It may run while none of them is in debt, and what it runs is charged to all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cpu::CpuBucket;
use crate::base::{Clock, Name, Tick};

type Account = Arc<Mutex<CpuBucket>>;

/// The accounts of supervisors that bound what all below them may use together.
#[derive(Default)]
pub struct CpuBudgets(Mutex<HashMap<Name, Account>>);

/// One worker's accounts. Where nobody bounds it, all this costs one load for each message.
#[derive(Default)]
pub struct CpuShare {
    bounded: AtomicBool,
    /// `None`: nobody bounds it.
    chain: Mutex<Option<Box<Chain>>>,
}

#[derive(Default)]
struct Chain {
    own: Option<Account>,
    /// From the nearest supervisor up to the root; only those that have a budget.
    above: Vec<Account>,
}

impl CpuBudgets {
    /// Fuel per second for all below a supervisor; `None`: no bound. True if chains have to be made
    /// anew: an account came or went.
    pub fn set(&self, supervisor: &Name, per_second: Option<u64>, now: Tick) -> bool {
        let mut accounts = self.accounts();
        let Some(rate) = per_second else { return accounts.remove(supervisor).is_some() };
        if let Some(account) = accounts.get(supervisor) {
            lock(account).set_rate(now, rate);
            return false;
        }
        accounts.insert(supervisor.clone(), Arc::new(Mutex::new(CpuBucket::new(rate, now))));
        true
    }

    /// Makes a worker's chain anew from the accounts that there are above it.
    pub fn link(&self, name: &Name, share: &CpuShare) {
        // Held until the chain is there: of two that link the same worker the later has the newer.
        let accounts = self.accounts();
        let above = std::iter::successors(name.parent(), Name::parent);
        let above = above.filter_map(|name| accounts.get(&name).cloned()).collect();
        share.change(|chain| chain.above = above);
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<Name, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CpuShare {
    pub fn is_bounded(&self) -> bool {
        self.bounded.load(Ordering::Relaxed)
    }

    /// Its own bound, in fuel per second.
    pub fn set_own(&self, per_second: Option<u64>, now: Tick) {
        self.change(|chain| match (&chain.own, per_second) {
            (Some(account), Some(rate)) => lock(account).set_rate(now, rate),
            (None, Some(rate)) => chain.own = Some(Arc::new(Mutex::new(CpuBucket::new(rate, now)))),
            (_, None) => chain.own = None,
        });
    }

    /// When none of its accounts is in debt any more; `None`: it may run. The clock is read only
    /// where it is bounded.
    pub fn ready_at(&self, clock: &Clock) -> Option<Tick> {
        if !self.is_bounded() {
            return None;
        }
        let now = clock.now();
        self.chain().iter().flat_map(|chain| chain.accounts()).filter_map(|account| lock(account).ready_at(now)).max()
    }

    /// Does one thing to each of its accounts.
    pub fn each(&self, change: impl Fn(&mut CpuBucket)) {
        self.chain().iter().flat_map(|chain| chain.accounts()).for_each(|account| change(&mut lock(account)));
    }

    fn change(&self, change: impl FnOnce(&mut Chain)) {
        let mut chain = self.chain();
        change(chain.get_or_insert_default());
        chain.take_if(|chain| chain.accounts().next().is_none());
        self.bounded.store(chain.is_some(), Ordering::Relaxed);
    }

    fn chain(&self) -> MutexGuard<'_, Option<Box<Chain>>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chain {
    fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.own.iter().chain(&self.above)
    }
}

fn lock(account: &Account) -> MutexGuard<'_, CpuBucket> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_worker_waits_for_the_slowest_account_above_it_and_for_nobody_elses() {
        let clock = Clock::manual();
        let (budgets, now) = (CpuBudgets::default(), clock.now());
        let name = |text| Name::parse(text).unwrap();
        let (a, b, other) = (CpuShare::default(), CpuShare::default(), CpuShare::default());
        let link = || {
            budgets.link(&name("team/inner/a"), &a);
            budgets.link(&name("team/b"), &b);
            budgets.link(&name("teammate"), &other);
        };
        assert!(!budgets.set(&name("team"), None, now));
        link();
        assert!(!a.is_bounded() && a.ready_at(&clock).is_none());

        assert!(budgets.set(&name("team"), Some(1_000_000), now));
        assert!(!budgets.set(&name("team"), Some(2_000_000), now), "the account is the same");
        link();
        a.set_own(Some(10_000_000), now);
        assert!(a.is_bounded() && b.is_bounded() && !other.is_bounded());
        a.each(|bucket| bucket.charge(now, 3_000_000));
        assert_eq!(a.ready_at(&clock), Some(Tick::at(Duration::from_secs(1))), "for the supervisor's");
        assert_eq!(b.ready_at(&clock), a.ready_at(&clock), "they share one");
        assert_eq!(other.ready_at(&clock), None);

        assert!(budgets.set(&name("team"), None, now));
        link();
        assert!(a.is_bounded() && !b.is_bounded());
        assert_eq!(a.ready_at(&clock), None, "its own is not in debt");
        a.set_own(None, now);
        assert!(!a.is_bounded());
    }
}
