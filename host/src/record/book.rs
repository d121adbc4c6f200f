//! What is written into the ledger of what is decided: all of it, but for decisions that a guest or a loop can cause
//! without end. Pure.
//!
//! ```text
//!   first of its kind ---> written at once
//!   more of it within a minute ---> counted ---> one entry for all, when the minute is over or the host stops
//! ```
//!
//! A kind is an action, by whom, about one worker; for children that a template makes, about its supervisor. What an
//! operator or a file decides is written at once as often as people do such things, [`bounds::LEDGER_AT_ONCE`] times in a
//! minute. Entries about upgrades and rollbacks are never gathered: they are intents, and stand before their effects. The
//! count of the last minute is lost with a host that is killed.

use std::collections::BTreeMap;

use super::ledger::{Action, By, Head, LedgerEntry, NewLedgerEntry};
use crate::base::{Name, Timestamp, bounds};

/// The end of the ledger, and what is still to be written into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Book {
    pub head: Head,
    gathered: BTreeMap<Kind, Gathered>,
}

type Kind = (Name, Action, By);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Gathered {
    since: Timestamp,
    /// Those that are written.
    written: u64,
    /// After those.
    more: u64,
    /// Of those.
    last: Option<NewLedgerEntry>,
}

impl Book {
    pub fn new(head: Head) -> Book {
        Book { head, gathered: BTreeMap::new() }
    }

    /// The entries to write now for `new`, in order.
    pub fn take(&mut self, new: &NewLedgerEntry) -> Vec<LedgerEntry> {
        let mut entries = if new.action == Action::HostStopped { self.close(new.at) } else { self.due(new.at) };
        let Some(kind) = kind(new) else {
            entries.push(self.head.append(new));
            return entries;
        };
        if let Some(gathered) = self.gathered.get_mut(&kind) {
            if gathered.written < at_once(new.by) {
                gathered.written += 1;
                entries.push(self.head.append(new));
                return entries;
            }
            gathered.more += 1;
            gathered.last = Some(new.clone());
            return entries;
        }
        if self.gathered.len() >= bounds::LEDGER_KINDS_MAX {
            let oldest = self.gathered.iter().min_by_key(|(_, gathered)| gathered.since).map(|(kind, _)| kind.clone());
            entries.extend(oldest.and_then(|kind| self.conclude(&kind, new.at)));
        }
        self.gathered.insert(kind, Gathered { since: new.at, written: 1, more: 0, last: None });
        entries.push(self.head.append(new));
        entries
    }

    /// The entries of minutes that are over.
    pub fn due(&mut self, now: Timestamp) -> Vec<LedgerEntry> {
        let minute = bounds::LEDGER_GATHER.as_millis();
        // One that began in the future is of a clock that was set back.
        let is_over = |since: Timestamp| now < since || u128::from(now.0 - since.0) >= minute;
        self.conclude_all(now, is_over)
    }

    /// All, whether or not their minutes are over.
    fn close(&mut self, now: Timestamp) -> Vec<LedgerEntry> {
        self.conclude_all(now, |_| true)
    }

    /// Whether anything waits for its minute to be over.
    pub fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    fn conclude_all(&mut self, now: Timestamp, which: impl Fn(Timestamp) -> bool) -> Vec<LedgerEntry> {
        let over = self.gathered.iter().filter(|(_, gathered)| which(gathered.since));
        let over: Vec<Kind> = over.map(|(kind, _)| kind.clone()).collect();
        over.iter().filter_map(|kind| self.conclude(kind, now)).collect()
    }

    fn conclude(&mut self, kind: &Kind, now: Timestamp) -> Option<LedgerEntry> {
        let Gathered { more, last, .. } = self.gathered.remove(kind)?;
        let last = last?;
        let (worker, action, by) = kind.clone();
        let of = if last.worker == worker { String::new() } else { format!("{}: ", last.worker.leaf()) };
        let detail = format!("{more} more within a minute, the last: {of}{}", last.detail);
        Some(self.head.append(&NewLedgerEntry { at: now, worker, action, hash: last.hash, by, detail }))
    }
}

/// How many of a kind are written one by one, before the rest of a minute is counted.
fn at_once(by: By) -> u64 {
    match by {
        By::Operator | By::Directory => bounds::LEDGER_AT_ONCE,
        By::Host => 1,
    }
}

/// `None`: it is written by itself, whatever came before.
fn kind(new: &NewLedgerEntry) -> Option<Kind> {
    let about = match (new.action, new.by) {
        // The child of a template: whoever can name a key makes one.
        (Action::Deployed, By::Host) => new.worker.parent().unwrap_or_else(Name::root),
        (Action::SettingsChanged | Action::Removed | Action::StateImported, _)
        | (Action::Started | Action::Stopped | Action::Restarted | Action::Isolated | Action::GaveUp, _)
        | (Action::LetterResent | Action::LettersDropped, _) => new.worker.clone(),
        (
            Action::Deployed
            | Action::UpgradeRequested
            | Action::UpgradeRehearsed
            | Action::UpgradeSwitching
            | Action::UpgradeSwitched
            | Action::UpgradeCalledOff
            | Action::UpgradeCommitted
            | Action::RollbackStarted
            | Action::RolledBack
            | Action::Rejected
            | Action::Recovered
            | Action::HostStarted
            | Action::HostStopped
            | Action::LedgerTrimmed,
            _,
        ) => return None,
    };
    Some((about, new.action, new.by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ledger::verify;

    fn entry(at: u64, worker: &str, action: Action, by: By) -> NewLedgerEntry {
        let worker = if worker.is_empty() { Name::root() } else { Name::parse(worker).unwrap() };
        NewLedgerEntry { at: Timestamp(at), worker, action, hash: None, by, detail: format!("at {at}") }
    }

    #[test]
    fn what_a_loop_decides_is_one_entry_and_a_count_for_each_minute() {
        let mut book = Book::new(Head::EMPTY);
        let mut written = Vec::new();
        for second in 0..150 {
            written.extend(book.take(&entry(second * 1_000, "a", Action::SettingsChanged, By::Host)));
        }
        let details: Vec<&str> = written.iter().map(|entry| entry.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "at 0",
                "59 more within a minute, the last: at 59000",
                "at 60000",
                "59 more within a minute, the last: at 119000",
                "at 120000"
            ]
        );
        written.extend(book.take(&entry(151_000, "", Action::HostStopped, By::Host)));
        assert_eq!(written[5].detail, "29 more within a minute, the last: at 149000");
        assert!(!book.has_gathered());
        assert_eq!(verify(&written), Ok(7), "the chain is whole");
    }

    #[test]
    fn children_of_a_template_are_counted_under_its_supervisor() {
        let mut book = Book::new(Head::EMPTY);
        let mut written = Vec::new();
        for key in 0..1_000 {
            written.extend(book.take(&entry(key, &format!("keys/k{key}"), Action::Deployed, By::Host)));
        }
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].worker.as_str(), "keys/k0");
        let due = book.due(Timestamp(60_000));
        assert_eq!((due[0].worker.as_str(), due[0].at), ("keys", Timestamp(60_000)));
        assert_eq!(due[0].detail, "999 more within a minute, the last: k999: at 999");
        assert!(book.due(Timestamp(60_001)).is_empty());
    }

    #[test]
    fn intents_are_written_one_by_one_and_workers_apart() {
        let mut book = Book::new(Head::EMPTY);
        for n in 0..3 {
            assert_eq!(book.take(&entry(n, "a", Action::UpgradeRequested, By::Directory)).len(), 1);
        }
        assert_eq!(book.take(&entry(4, "a", Action::Removed, By::Operator)).len(), 1);
        assert_eq!(book.take(&entry(4, "b", Action::Removed, By::Operator)).len(), 1);
        assert_eq!(book.take(&entry(4, "a", Action::Removed, By::Directory)).len(), 1);
        assert_eq!(book.take(&entry(5, "a", Action::Removed, By::Host)).len(), 1);
        assert_eq!(book.take(&entry(5, "a", Action::Removed, By::Host)).len(), 0);
    }

    #[test]
    fn what_people_decide_is_written_at_once_until_it_is_a_loop() {
        for by in [By::Operator, By::Directory] {
            let mut book = Book::new(Head::EMPTY);
            for n in 0..bounds::LEDGER_AT_ONCE {
                assert_eq!(book.take(&entry(n, "a", Action::StateImported, by))[0].detail, format!("at {n}"));
            }
            assert!(book.take(&entry(100, "a", Action::StateImported, by)).is_empty());
            assert_eq!(book.due(Timestamp(60_000))[0].detail, "1 more within a minute, the last: at 100");
            assert_eq!(book.take(&entry(60_001, "a", Action::StateImported, by)).len(), 1);
        }
    }

    #[test]
    fn kinds_are_bounded_and_none_is_lost() {
        let mut book = Book::new(Head::EMPTY);
        let kinds = bounds::LEDGER_KINDS_MAX as u64 + 1;
        let mut written = Vec::new();
        for (at, n) in (0..kinds).chain(0..kinds).enumerate() {
            written.extend(book.take(&entry(at as u64 / 10, &format!("w{n}"), Action::Removed, By::Operator)));
            assert!(book.gathered.len() <= bounds::LEDGER_KINDS_MAX);
        }
        written.extend(book.close(Timestamp(1)));
        let counted: u64 = written
            .iter()
            .map(|entry| {
                let more = entry.detail.split_once(" more within").and_then(|(more, _)| more.parse().ok());
                more.unwrap_or(1)
            })
            .sum();
        assert_eq!(counted, 2 * kinds);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut book = Book::new(Head::EMPTY);
        book.take(&entry(1_000_000, "a", Action::Removed, By::Host));
        book.take(&entry(1_000_001, "a", Action::Removed, By::Host));
        assert_eq!(book.take(&entry(5, "a", Action::Removed, By::Host)).len(), 2);
    }
}
