//! The accounts of memory of a host's supervisors, each below its parent's and all below the host's
//! ([`Account`]). What a worker makes the host keep is taken from its supervisor's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::base::{Account, Charge, Full, Held, Holding, Name, bounds, give_back_room};

pub struct Accounts {
    host: Arc<Account>,
    of: RwLock<HashMap<Name, Arc<Account>>>,
    /// Configurations of workers that share theirs with nobody.
    configurations: Mutex<HashMap<Name, Held>>,
    /// Children of each template, as many as there are.
    keys: Mutex<HashMap<Name, Charge>>,
}

impl Accounts {
    pub fn new(host: Arc<Account>) -> Accounts {
        Accounts { host, of: RwLock::default(), configurations: Mutex::default(), keys: Mutex::default() }
    }

    pub fn host(&self) -> &Arc<Account> {
        &self.host
    }

    /// A supervisor's account from now on. `budget`: bytes that all below it may keep together. `keyed`: its children
    /// are of a template, which may fill a part of what the host has.
    pub fn set(&self, supervisor: &Name, budget: Option<u64>, keyed: bool) {
        let share = if keyed { self.host.bytes_max() / bounds::ACCOUNT_TEMPLATE_PART } else { u64::MAX };
        let above = supervisor.parent().map_or_else(|| self.host.clone(), |parent| self.at(&parent));
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        let account = of.entry(supervisor.clone()).or_insert_with(|| Account::below(&above, supervisor.clone()));
        account.configure(budget.unwrap_or(u64::MAX).min(share), keyed);
    }

    /// A supervisor has left the tree. What is held still is given back to those above it when it is let go of.
    pub fn forget(&self, supervisor: &Name) {
        self.of.write().unwrap_or_else(PoisonError::into_inner).remove(supervisor);
        self.keys().remove(supervisor);
    }

    /// From which a worker takes: its supervisor's, or of the nearest above that is known.
    pub fn of(&self, worker: &Name) -> Arc<Account> {
        let mut text = worker.as_str();
        let of = self.accounts();
        loop {
            text = text.rsplit_once('/').map_or("", |(parent, _)| parent);
            if let Some(account) = of.get(text) {
                return account.clone();
            }
            if text.is_empty() {
                return self.host.clone();
            }
        }
    }

    /// A supervisor's own, or of the nearest above that is known.
    pub fn at(&self, supervisor: &Name) -> Arc<Account> {
        let known = self.accounts().get(supervisor).cloned();
        known.unwrap_or_else(|| if supervisor.is_root() { self.host.clone() } else { self.of(supervisor) })
    }

    /// The supervisor below which most is kept: the deepest, where several keep the same. And how much.
    pub fn largest(&self) -> (Name, u64) {
        let of = self.accounts();
        let depth = |name: &Name| name.as_str().split('/').count() - usize::from(name.is_root());
        let below = of.iter().filter(|(name, account)| !name.is_root() && account.used() > 0);
        let largest = below.max_by_key(|(name, account)| (account.used(), depth(name), std::cmp::Reverse(*name)));
        largest.map_or_else(|| (Name::root(), self.host.used()), |(name, account)| (name.clone(), account.used()))
    }

    /// A template has so many children now. One that is asleep costs the host some hundred bytes beside its state.
    ///
    /// # Errors
    /// There is no memory for more of them than before.
    pub fn keys_are(&self, supervisor: &Name, count: usize) -> Result<(), Full> {
        let mut keys = self.keys();
        let charge = keys.entry(supervisor.clone()).or_insert_with(|| Charge::new(Holding::Workers));
        charge.cover(count as u64 * bounds::KEY_BYTES, || self.at(supervisor))
    }

    /// Some have left: `count` says how many there are, under the lock, so that who comes late says nothing old.
    pub fn keys_left(&self, supervisor: &Name, count: impl FnOnce() -> usize) {
        let mut keys = self.keys();
        let Some(charge) = keys.get_mut(supervisor) else { return };
        match count() {
            0 => drop(keys.remove(supervisor)),
            count => charge.ease(count as u64 * bounds::KEY_BYTES),
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Name, Charge>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a worker's own configuration takes, in the place of the one before.
    pub fn keep_configuration(&self, worker: &Name, held: Option<Held>) {
        let before = match held {
            Some(held) => self.configurations().insert(worker.clone(), held),
            None => {
                let mut all = self.configurations();
                let before = all.remove(worker);
                give_back_room(&mut all);
                before
            }
        };
        drop(before);
    }

    /// Keeps what the configuration of a worker that has a file takes: an operator wrote it, and whatever others keep,
    /// a new file starts.
    pub fn keep_files_configuration(&self, worker: &Name, bytes: usize) {
        let bytes = bytes as u64 + bounds::SETTINGS_BYTES;
        self.keep_configuration(worker, Some(self.of(worker).take_anyway(Holding::Configurations, bytes)));
    }

    /// Bytes for the configuration of a key, if they fit.
    pub fn room_for_configuration(&self, worker: &Name, bytes: usize) -> Option<Held> {
        self.of(worker).take(Holding::Configurations, bytes as u64 + bounds::SETTINGS_BYTES)
    }

    fn accounts(&self) -> RwLockReadGuard<'_, HashMap<Name, Arc<Account>>> {
        self.of.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn configurations(&self) -> MutexGuard<'_, HashMap<Name, Held>> {
        self.configurations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_worker_takes_from_its_supervisors_budget_and_from_those_above() {
        let host = Account::new(1_000);
        let accounts = Accounts::new(host.clone());
        assert!(Arc::ptr_eq(&accounts.of(&name("x/y")), &host), "without supervisors there is the host's");
        accounts.set(&Name::root(), None, false);
        accounts.set(&name("a"), Some(160), false);
        accounts.set(&name("a/b"), None, false);
        let held = accounts.of(&name("a/b/w")).take(Holding::Timers, 80).unwrap();
        assert!(accounts.of(&name("a/w")).take(Holding::Timers, 9).is_none());
        assert!(accounts.of(&name("w")).take(Holding::Timers, 800).is_some());
        assert_eq!((accounts.largest(), host.used()), ((name("a/b"), 80), 80));
        // A budget that comes later finds what is used already.
        accounts.set(&name("a/b"), Some(60), false);
        assert!(accounts.of(&name("a/b/w")).take(Holding::Timers, 1).is_none());
        accounts.forget(&name("a/b"));
        assert!(Arc::ptr_eq(&accounts.of(&name("a/b/w")), &accounts.at(&name("a"))));
        drop(held);
        assert_eq!((host.used(), accounts.at(&name("a")).used()), (0, 0));
    }

    #[test]
    fn children_of_a_template_are_charged_by_their_number() {
        let host = Account::new(1 << 20);
        let accounts = Accounts::new(host.clone());
        accounts.set(&Name::root(), None, false);
        accounts.set(&name("t"), None, true);
        let fit = (1..).take_while(|count| accounts.keys_are(&name("t"), *count).is_ok()).count();
        assert!((200..=512).contains(&fit), "{fit} fit into its part");
        assert_eq!(host.used_by(Holding::Workers), accounts.at(&name("t")).used());
        accounts.keys_left(&name("t"), || 8);
        assert!(host.used() <= 8 * bounds::KEY_BYTES + 2 * bounds::ACCOUNT_STEP_BYTES);
        accounts.keys_left(&name("t"), || 0);
        assert_eq!(host.used(), 0);
    }

    #[test]
    fn a_template_fills_its_part_and_no_more() {
        let host = Account::new(1_000);
        let accounts = Accounts::new(host.clone());
        accounts.set(&Name::root(), None, false);
        accounts.set(&name("t"), None, true);
        let account = accounts.of(&name("t/k"));
        assert!(account.take(Holding::Instances, 501).is_none() && account.take(Holding::Instances, 500).is_some());
    }
}
