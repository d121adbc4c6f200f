//! The account of the host's memory: one sum over everything that a guest, a client or a file can make the host
//! keep. Each bound per worker has this bound of the sum.
//!
//! Whoever keeps bytes takes them from the account first, and holds a [`Held`] for as long as it keeps them. A `Held`
//! gives its bytes back when it is dropped, so no path can forget to. A request that does not fit is refused: the
//! account never waits.
//!
//! Each supervisor has an account below its parent's, and the root's lies below the host's. What is taken from one
//! is taken from all above it, or from none:
//!
//! ```text
//!    host (its memory) <-- / <-- tenants (its budget, its share) <-- what the children of `tenants` make the host keep
//! ```
//!
//! Parts are held back. Half of each account is for instances: whatever waits in mailboxes, a worker that is to
//! handle it can wake, and one that crashed comes back. An eighth of the host's is for workers that have files:
//! children of templates and the bodies of clients cannot take it, because anybody can make more of them. States in
//! memory take a quarter at the most.
//!
//! What must not be lost (a state that could not be written, what a rollback puts back) goes beyond the bound: it is
//! counted, and until as much is given back everything else is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, OnceLock};

use super::units::show_size;
use super::{Limit, Name, bounds};

/// What bytes are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Messages that wait in mailboxes, and those that are being handled.
    Mailboxes,
    /// Messages of timers that are set.
    Timers,
    /// Configurations of workers and of a template's children.
    Configurations,
    /// Bodies of requests that clients are sending, and of calls they wait for.
    Bodies,
    /// States of workers, held in memory.
    Sleepers,
    /// What probation keeps for a rollback.
    Probation,
    /// The engine's own memory for instances, and their linear memory.
    Instances,
    /// Groups, monitors and open calls of workers.
    Desks,
    /// The host's own records of children of templates, and of workers that wait for an instance.
    Workers,
}

impl Holding {
    pub const ALL: [Holding; 9] = [
        Holding::Mailboxes,
        Holding::Timers,
        Holding::Configurations,
        Holding::Bodies,
        Holding::Sleepers,
        Holding::Probation,
        Holding::Instances,
        Holding::Desks,
        Holding::Workers,
    ];

    /// Its name in metrics and events.
    pub fn word(self) -> &'static str {
        match self {
            Holding::Mailboxes => "mailboxes",
            Holding::Timers => "timers",
            Holding::Configurations => "configurations",
            Holding::Bodies => "bodies",
            Holding::Sleepers => "sleepers",
            Holding::Probation => "probation",
            Holding::Instances => "instances",
            Holding::Desks => "desks",
            Holding::Workers => "workers",
        }
    }
}

/// A request did not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} more for {} do not fit into the {max} that {whose} may take", .holding.word(),
    asked = show_size(*asked), max = show_size(*max), whose = whose(owner.as_ref()))]
pub struct Full {
    /// Whose account it is; `None` is the host's.
    pub owner: Option<Name>,
    pub holding: Holding,
    /// Bytes that were asked for.
    pub asked: u64,
    /// Bytes of that account that such requests may fill, those held back taken off.
    pub max: u64,
}

impl Full {
    /// As the limit that a guest ran against.
    pub fn limit(&self) -> Limit {
        match self.owner {
            None => Limit::HostMemory(self.max),
            Some(_) => Limit::BudgetMemory(self.max),
        }
    }
}

fn whose(owner: Option<&Name>) -> String {
    owner.map_or_else(|| "the host".to_string(), |name| format!("all below {name:?}"))
}

/// Told of each request that does not fit.
pub type Teller = Box<dyn Fn(&Full) + Send + Sync>;

/// The account of one host, or of all below one supervisor.
pub struct Account {
    owner: Option<Name>,
    above: Option<Arc<Account>>,
    bytes_max: AtomicU64,
    /// What is taken here leaves alone what is held back for workers that have files.
    keyed: AtomicBool,
    /// Parts of it are held back.
    holds_back: bool,
    used: AtomicU64,
    by: [AtomicU64; Holding::ALL.len()],
    refused: AtomicU64,
    teller: OnceLock<Teller>,
}

impl Account {
    /// `bytes_max`: bytes that may be kept at one time, by whomever.
    pub fn new(bytes_max: u64) -> Arc<Account> {
        Arc::new(Account::made(None, None, bytes_max, false))
    }

    /// A host's: parts of it are held back.
    pub fn of_host(bytes_max: u64) -> Arc<Account> {
        Arc::new(Account::made(None, None, bytes_max, true))
    }

    /// One of all below a supervisor, which takes from `above` too.
    pub fn below(above: &Arc<Account>, owner: Name) -> Arc<Account> {
        Arc::new(Account::made(Some(owner), Some(above.clone()), u64::MAX, true))
    }

    fn made(owner: Option<Name>, above: Option<Arc<Account>>, bytes_max: u64, holds_back: bool) -> Account {
        Account {
            owner,
            above,
            bytes_max: AtomicU64::new(bytes_max),
            keyed: AtomicBool::new(false),
            holds_back,
            used: AtomicU64::new(0),
            by: Default::default(),
            refused: AtomicU64::new(0),
            teller: OnceLock::new(),
        }
    }

    /// What holds from now on. What is held beyond it stays held. `keyed`: those below it are children of a template.
    pub fn configure(&self, bytes_max: u64, keyed: bool) {
        self.bytes_max.store(bytes_max, Relaxed);
        self.keyed.store(keyed, Relaxed);
    }

    /// Told of each refusal, here and below. The first one counts; for the account at the top.
    pub fn tell(&self, teller: Teller) {
        drop(self.teller.set(teller));
    }

    /// Bytes from the account, or `None` if they do not fit. Nothing is taken then.
    pub fn take(self: &Arc<Self>, holding: Holding, bytes: u64) -> Option<Held> {
        self.try_take(holding, bytes).ok()
    }

    /// The same; the error says whose account was full.
    ///
    /// # Errors
    /// Nothing is taken then.
    pub fn try_take(self: &Arc<Self>, holding: Holding, bytes: u64) -> Result<Held, Full> {
        self.add(holding, bytes)?;
        Ok(Held { account: self.clone(), holding, bytes })
    }

    /// Whether so many bytes would fit just now. Nothing is taken, and nobody is told.
    pub fn has_room(&self, holding: Holding, bytes: u64) -> bool {
        let mut keyed = false;
        self.chain().all(|account| {
            keyed |= account.keyed.load(Relaxed);
            let fits = account.used().saturating_add(bytes) <= account.max_for(holding, keyed);
            fits && account.full_part(holding, keyed, bytes).is_none()
        })
    }

    /// Bytes whether they fit or not, for what must not be lost.
    pub fn take_anyway(self: &Arc<Self>, holding: Holding, bytes: u64) -> Held {
        self.add_anyway(holding, bytes);
        Held { account: self.clone(), holding, bytes }
    }

    pub fn owner(&self) -> Option<&Name> {
        self.owner.as_ref()
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Relaxed)
    }

    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub fn used_by(&self, holding: Holding) -> u64 {
        self.by[holding as usize].load(Relaxed)
    }

    /// For what most of it is used, and how many bytes.
    pub fn used_most_by(&self) -> (Holding, u64) {
        let by = Holding::ALL.map(|holding| (holding, self.used_by(holding)));
        by.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or((Holding::Mailboxes, 0))
    }

    /// Requests that did not fit, since the start: here, and for those above it.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Bytes of all that such a request may fill. `keyed`: it is for children of a template.
    fn max_for(&self, holding: Holding, keyed: bool) -> u64 {
        let max = self.bytes_max();
        let is_for_anybody = self.above.is_none() && (keyed || holding == Holding::Bodies);
        if self.holds_back && is_for_anybody { max - max / bounds::ACCOUNT_FILES_PART } else { max }
    }

    /// The part that was full, if what is no instance has taken all that it may, or states all of theirs. Two who ask
    /// at the same moment may both find room: the sum of all is exact, the parts are so but for that.
    fn full_part(&self, holding: Holding, keyed: bool, more: u64) -> Option<u64> {
        if !self.holds_back || holding == Holding::Instances {
            return None;
        }
        let max = self.bytes_max();
        let held_back = max / bounds::ACCOUNT_INSTANCES_PART;
        let part = self.max_for(holding, keyed) - held_back;
        // Looked at before and after the sum: what instances take or give back meanwhile is nobody else's.
        let before = self.used_by(Holding::Instances);
        let used = self.used.load(Acquire);
        let others = used.saturating_sub(before.max(self.used_by(Holding::Instances)));
        if others.saturating_add(more) > part {
            return Some(part);
        }
        let states = max / bounds::ACCOUNT_STATES_PART;
        let is_state = holding == Holding::Sleepers;
        (is_state && self.used_by(holding).saturating_add(more) > states).then_some(states)
    }

    /// From the account itself up to the top.
    fn chain(&self) -> impl Iterator<Item = &Account> {
        std::iter::successors(Some(self), |account| account.above.as_deref())
    }

    fn add(&self, holding: Holding, bytes: u64) -> Result<(), Full> {
        let mut keyed = false;
        for (below, account) in self.chain().enumerate() {
            keyed |= account.keyed.load(Relaxed);
            let part = account.full_part(holding, keyed, bytes);
            let max = part.unwrap_or_else(|| account.max_for(holding, keyed));
            let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= max);
            // Before the sum and off after it: what of instances is in the sum is in here, and counts as nothing else.
            let by = &account.by[holding as usize];
            let is_first = holding == Holding::Instances;
            if is_first {
                by.fetch_add(bytes, Relaxed);
            }
            if part.is_some() || account.used.fetch_update(Release, Relaxed, fits).is_err() {
                if is_first {
                    by.fetch_sub(bytes, Relaxed);
                }
                self.chain().take(below).for_each(|account| account.give_back_here(holding, bytes));
                return Err(self.is_full(Full { owner: account.owner.clone(), holding, asked: bytes, max }));
            }
            if !is_first {
                by.fetch_add(bytes, Relaxed);
            }
        }
        Ok(())
    }

    fn is_full(&self, full: Full) -> Full {
        for account in self.chain() {
            account.refused.fetch_add(1, Relaxed);
            if let Some(teller) = account.teller.get() {
                teller(&full);
            }
        }
        full
    }

    fn add_anyway(&self, holding: Holding, bytes: u64) {
        for account in self.chain() {
            account.by[holding as usize].fetch_add(bytes, Relaxed);
            account.used.fetch_add(bytes, Release);
        }
    }

    fn give_back(&self, holding: Holding, bytes: u64) {
        if bytes > 0 {
            self.chain().for_each(|account| account.give_back_here(holding, bytes));
        }
    }

    fn give_back_here(&self, holding: Holding, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
        self.by[holding as usize].fetch_sub(bytes, Release);
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.used(), self.bytes_max())
    }
}

/// Bytes taken from an account. Dropped, they are given back.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    holding: Holding,
    bytes: u64,
}

impl Held {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more. False if it does not fit: then it holds what it held.
    pub fn grow(&mut self, by: u64) -> bool {
        self.try_grow(by).is_ok()
    }

    /// The same; the error says whose account was full.
    ///
    /// # Errors
    /// It holds what it held then.
    pub fn try_grow(&mut self, by: u64) -> Result<(), Full> {
        self.account.add(self.holding, by)?;
        self.bytes += by;
        Ok(())
    }

    /// Gives back all but `to` bytes; does nothing if it holds no more than that.
    pub fn shrink_to(&mut self, to: u64) {
        let back = self.bytes.saturating_sub(to);
        self.bytes -= back;
        self.account.give_back(self.holding, back);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.give_back(self.holding, self.bytes);
    }
}

/// Bytes that change often, and are taken from an account in steps of [`bounds::ACCOUNT_STEP_BYTES`]: most changes
/// touch nothing that others share.
#[derive(Debug)]
pub struct Charge {
    holding: Holding,
    held: Option<Held>,
}

impl Charge {
    pub const fn new(holding: Holding) -> Charge {
        Charge { holding, held: None }
    }

    /// Has it hold at least `bytes`. What is held from another account than `account` names moves to that one.
    ///
    /// # Errors
    /// It holds what it held then.
    pub fn cover(&mut self, bytes: u64, account: impl FnOnce() -> Arc<Account>) -> Result<(), Full> {
        let held = self.bytes();
        if bytes <= held {
            return Ok(());
        }
        let (account, wanted) = (account(), in_steps(bytes));
        match self.held.as_mut().filter(|held| Arc::ptr_eq(&held.account, &account)) {
            Some(before) => before.try_grow(wanted - held),
            None => {
                self.held = Some(account.try_take(self.holding, wanted)?);
                Ok(())
            }
        }
    }

    /// The same whether it fits or not, for what must not be lost.
    pub fn cover_anyway(&mut self, bytes: u64, account: impl FnOnce() -> Arc<Account>) {
        let held = self.bytes();
        if bytes <= held {
            return;
        }
        let (account, wanted) = (account(), in_steps(bytes));
        match self.held.as_mut().filter(|held| Arc::ptr_eq(&held.account, &account)) {
            Some(before) => {
                account.add_anyway(self.holding, wanted - held);
                before.bytes = wanted;
            }
            None => self.held = Some(account.take_anyway(self.holding, wanted)),
        }
    }

    /// As [`Charge::cover_anyway`], from the account that it was taken from before; nothing, if none was.
    pub fn cover_as_before(&mut self, bytes: u64) {
        if let Some(account) = self.held.as_ref().map(|held| held.account.clone()) {
            self.cover_anyway(bytes, || account);
        }
    }

    /// No more than `bytes` are needed any more. One step more is kept, or one where nothing is needed: what comes and
    /// goes one by one takes from the account once.
    pub fn ease(&mut self, bytes: u64) {
        let keeps = in_steps(bytes) + bounds::ACCOUNT_STEP_BYTES;
        if let Some(held) = self.held.as_mut().filter(|held| held.bytes > keeps) {
            held.shrink_to(keeps);
        }
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        self.held = None;
    }

    pub fn bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, Held::bytes)
    }
}

fn in_steps(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(bounds::ACCOUNT_STEP_BYTES).unwrap_or(bytes)
}

#[cfg(test)]
mod tests;
