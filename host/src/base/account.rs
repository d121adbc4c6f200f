//! The account of the host's memory: one sum over everything that a guest, a client or a file can make the host
//! keep. Each bound per worker has this bound of the sum.
//!
//! Whoever keeps bytes takes them from the account first, and holds a [`Held`] for as long as it keeps them. A `Held`
//! gives its bytes back when it is dropped, so no path can forget to. A request that does not fit is refused: the
//! account never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What bytes are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Messages that wait in mailboxes.
    Mailboxes,
    /// Messages of timers that are set.
    Timers,
    /// Configurations of workers and of a template's children.
    Configurations,
    /// Bodies of requests that clients are sending, and of calls they wait for.
    Bodies,
    /// States of workers that hibernate, held in memory.
    Sleepers,
    /// What probation keeps for a rollback.
    Probation,
    /// The engine's own memory for instances, and their linear memory.
    Instances,
}

impl Holding {
    pub const ALL: [Holding; 7] = [
        Holding::Mailboxes,
        Holding::Timers,
        Holding::Configurations,
        Holding::Bodies,
        Holding::Sleepers,
        Holding::Probation,
        Holding::Instances,
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
        }
    }
}

/// The account of one host.
#[derive(Debug)]
pub struct Account {
    bytes_max: u64,
    used: AtomicU64,
    by: [AtomicU64; Holding::ALL.len()],
    refused: AtomicU64,
}

impl Account {
    /// `bytes_max`: bytes that may be kept at one time.
    pub fn new(bytes_max: u64) -> Arc<Account> {
        let (used, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Account { bytes_max, used, by: Default::default(), refused })
    }

    /// Bytes from the account, or `None` if they do not fit. Nothing is taken then.
    pub fn take(self: &Arc<Self>, holding: Holding, bytes: u64) -> Option<Held> {
        self.add(holding, bytes).then(|| Held { account: self.clone(), holding, bytes })
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub fn used_by(&self, holding: Holding) -> u64 {
        self.by[holding as usize].load(Relaxed)
    }

    /// Requests that did not fit, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn add(&self, holding: Holding, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let fits = self.used.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if fits {
            self.by[holding as usize].fetch_add(bytes, Relaxed);
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
        fits
    }

    fn give_back(&self, holding: Holding, bytes: u64) {
        self.by[holding as usize].fetch_sub(bytes, Relaxed);
        self.used.fetch_sub(bytes, Relaxed);
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
        let fits = self.account.add(self.holding, by);
        self.bytes += if fits { by } else { 0 };
        fits
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_never_exceeds_the_account_and_is_given_back() {
        let account = Account::new(100);
        let mut bodies = account.take(Holding::Bodies, 60).unwrap();
        assert!(account.take(Holding::Timers, 41).is_none());
        assert!(account.take(Holding::Timers, u64::MAX).is_none());
        assert!(!bodies.grow(41) && bodies.grow(40));
        assert_eq!((account.used(), account.used_by(Holding::Bodies), account.refused()), (100, 100, 3));
        bodies.shrink_to(10);
        assert_eq!(account.used(), 10);
        drop(bodies);
        assert_eq!((account.used(), account.used_by(Holding::Bodies)), (0, 0));
    }
}
