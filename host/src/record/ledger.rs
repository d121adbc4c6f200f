//! The record of decisions: what was deployed, upgraded, rolled back, by whom and why.
//!
//! Each entry holds the digest of the one before it, so an entry that was changed, removed, added
//! or moved breaks the chain at that place and [`verify`] names it. What the chain does not show:
//! that the newest entries were cut off, or that someone who can write the database made the whole
//! chain anew. Who must rule that out keeps a copy of the last digest elsewhere.

use crate::base::{ComponentHash, Name, Timestamp, bounds};

/// Defines an enum whose variants each have one word, the same in the database, in JSON and on the
/// screen.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// The variant with this word.
            pub fn parse(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(super) use words;

words! {
    /// What was decided. A word is never used for something else later: old ledgers hold it.
    pub enum Action {
        /// A new worker got its first component.
        Deployed = "deployed",
        /// Settings or policy were changed.
        SettingsChanged = "settings-changed",
        /// A worker was taken out of the tree.
        Removed = "removed",
        /// An operator started a worker that was stopped.
        Started = "started",
        UpgradeRequested = "upgrade-requested",
        UpgradeRehearsed = "upgrade-rehearsed",
        /// Written before the switch: a host that dies between the two finds what it meant to do.
        UpgradeSwitching = "upgrade-switching",
        UpgradeSwitched = "upgrade-switched",
        UpgradeCalledOff = "upgrade-called-off",
        UpgradeCommitted = "upgrade-committed",
        RollbackStarted = "rollback-started",
        RolledBack = "rolled-back",
        /// A component is remembered as not to be tried again.
        Rejected = "rejected",
        /// An operator replaced a worker's state.
        StateImported = "state-imported",
        Isolated = "isolated",
        /// A supervisor needed more restarts than it may.
        GaveUp = "gave-up",
        LetterResent = "letter-resent",
        LettersDropped = "letters-dropped",
        Stopped = "stopped",
        Restarted = "restarted",
        /// Found after the host had died, and brought back.
        Recovered = "recovered",
        HostStarted = "host-started",
        HostStopped = "host-stopped",
        /// An operator exported the oldest entries and removed them. Its detail has the digest of the last one.
        LedgerTrimmed = "ledger-trimmed",
    }
}

words! {
    /// Who decided.
    pub enum By {
        /// A person or program, through the API.
        Operator = "operator",
        /// A file in the directory of workers.
        Directory = "directory",
        /// The host itself, such as probation's verdict.
        Host = "host",
    }
}

/// A blake3 digest.
pub type Digest = [u8; 32];

/// What the first entry has as the digest before it.
pub const GENESIS: Digest = [0; 32];

/// Says what the digest is of, and in which layout: an entry of another layout never has the same.
const DIGEST_CONTEXT: &str = "paguro ledger entry, layout 1";

/// An entry before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLedgerEntry {
    pub at: Timestamp,
    /// The worker or supervisor it is about; the root for what concerns the host.
    pub worker: Name,
    pub action: Action,
    /// The component it is about.
    pub hash: Option<ComponentHash>,
    pub by: By,
    /// A sentence for people.
    pub detail: String,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub worker: Name,
    pub action: Action,
    pub hash: Option<ComponentHash>,
    pub by: By,
    pub detail: String,
    /// Digest of the entry before, [`GENESIS`] for the first.
    pub previous: Digest,
    /// Of everything above.
    pub digest: Digest,
}

/// Where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is broken at entry {seq}: {why}")]
pub struct LedgerBroken {
    pub seq: u64,
    pub why: String,
}

/// The end of a chain: what the next entry continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last entry, 0 when there is none.
    pub seq: u64,
    pub digest: Digest,
}

impl Head {
    /// Of a ledger without entries.
    pub const EMPTY: Head = Head { seq: 0, digest: GENESIS };

    /// Gives `new` its place after this head, and moves the head to it.
    pub fn append(&mut self, new: &NewLedgerEntry) -> LedgerEntry {
        let NewLedgerEntry { at, worker, action, hash, by, detail } = new.clone();
        let detail = cut(detail, &worker, action, by);
        let (seq, previous) = (self.seq + 1, self.digest);
        let mut entry = LedgerEntry { seq, at, worker, action, hash, by, detail, previous, digest: GENESIS };
        entry.digest = entry.computed_digest();
        *self = Head { seq, digest: entry.digest };
        entry
    }

    /// Moves the head to `entry` if it is the one that comes next and is as it was written.
    pub fn follow(&mut self, entry: &LedgerEntry) -> Result<(), LedgerBroken> {
        let expected = self.seq + 1;
        let broken = |why: String| Err(LedgerBroken { seq: expected, why });
        if entry.seq != expected {
            return broken(format!("it is missing, entry {} follows", entry.seq));
        }
        if entry.previous != self.digest {
            return broken("it does not continue the entry before it".to_string());
        }
        if entry.digest != entry.computed_digest() {
            return broken("its content does not match its digest".to_string());
        }
        *self = Head { seq: entry.seq, digest: entry.digest };
        Ok(())
    }
}

impl LedgerEntry {
    /// The digest these fields have. Each is preceded by its length, so no two entries are encoded
    /// alike.
    pub fn computed_digest(&self) -> Digest {
        let fields: [&[u8]; 8] = [
            &self.seq.to_le_bytes(),
            &self.at.0.to_le_bytes(),
            self.worker.as_str().as_bytes(),
            self.action.as_str().as_bytes(),
            self.hash.as_ref().map_or(&[], |hash| &hash.0),
            self.by.as_str().as_bytes(),
            self.detail.as_bytes(),
            &self.previous,
        ];
        let mut hasher = blake3::Hasher::new_derive_key(DIGEST_CONTEXT);
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        *hasher.finalize().as_bytes()
    }
}

/// Bytes of an entry that do not depend on what was decided: number, moment, component and two digests.
const FIXED_BYTES: usize = 8 + 8 + 32 + 32 + 32;

/// Ends a detail that was cut.
const CUT: &str = " [cut]";

fn cut(mut detail: String, worker: &Name, action: Action, by: By) -> String {
    let others = FIXED_BYTES + worker.as_str().len() + action.as_str().len() + by.as_str().len();
    let room = bounds::LEDGER_ENTRY_BYTES_MAX.saturating_sub(others);
    if detail.len() <= room {
        return detail;
    }
    let Some(kept) = room.checked_sub(CUT.len()) else { return String::new() };
    detail.truncate(detail.floor_char_boundary(kept));
    detail + CUT
}

/// What the entry of a trim says of the last entry that is gone.
pub(super) fn trimmed_detail(seq: u64, digest: &Digest) -> String {
    let digest = ComponentHash(*digest).hex();
    format!("entries up to {seq} were exported and removed; digest of the last: {digest}")
}

/// Checks a whole ledger from its first entry on, and gives the number of entries. The error names
/// the first place that does not hold.
#[cfg(test)]
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a LedgerEntry>) -> Result<u64, LedgerBroken> {
    let mut head = Head::EMPTY;
    for entry in entries {
        head.follow(entry)?;
    }
    Ok(head.seq)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(length: u8) -> Vec<LedgerEntry> {
        let mut head = Head::EMPTY;
        (0..length)
            .map(|n| {
                head.append(&NewLedgerEntry {
                    at: Timestamp(1000 + u64::from(n)),
                    worker: Name::parse("billing/invoices").unwrap(),
                    action: Action::ALL[usize::from(n) % Action::ALL.len()],
                    hash: n.is_multiple_of(2).then(|| ComponentHash::of(&[n])),
                    by: By::Operator,
                    detail: format!("decision {n}"),
                })
            })
            .collect()
    }

    /// A change to an entry, with its name.
    type Tamper = (&'static str, fn(&mut LedgerEntry));

    const TAMPERS: &[Tamper] = &[
        ("seq", |entry| entry.seq += 1),
        ("at", |entry| entry.at.0 ^= 1),
        ("worker", |entry| entry.worker = Name::parse("billing/invoice").unwrap()),
        ("action", |entry| {
            entry.action = if entry.action == Action::Removed { Action::Stopped } else { Action::Removed }
        }),
        ("hash", |entry| entry.hash = if entry.hash.is_some() { None } else { Some(ComponentHash([0; 32])) }),
        ("by", |entry| entry.by = By::Host),
        ("detail", |entry| entry.detail.push('.')),
        ("previous", |entry| entry.previous[31] ^= 1),
        ("digest", |entry| entry.digest[0] ^= 0x80),
    ];

    #[test]
    fn a_chain_as_written_holds() {
        assert_eq!(verify(&[]), Ok(0));
        assert_eq!(verify(&chain(25)), Ok(25));
    }

    #[test]
    fn every_field_counts() {
        for (field, tamper) in TAMPERS {
            let mut entries = chain(3);
            tamper(&mut entries[1]);
            assert_eq!(verify(&entries).map_err(|broken| broken.seq), Err(2), "{field}");
        }
    }

    #[test]
    fn a_field_does_not_flow_into_the_next() {
        let mut entry = chain(1).remove(0);
        entry.worker = Name::parse("ab").unwrap();
        entry.detail = "c".into();
        let digest = entry.computed_digest();
        entry.worker = Name::parse("a").unwrap();
        entry.detail = "bc".into();
        assert_ne!(entry.computed_digest(), digest);
    }

    /// If this fails, ledgers that were written before can no longer be verified.
    #[test]
    fn the_layout_is_fixed() {
        let hex = blake3::Hash::from_bytes(chain(1)[0].digest).to_hex().to_string();
        assert_eq!(hex, "a692b52e88297317a0d9f3acacd031b4d005f6f84df4327c0812512d82f73b0a");
    }

    #[test]
    fn an_entry_is_bounded() {
        for (name, detail) in [(1, 10_000), (40, 10_000), (128, 10_000), (150, 300), (40, 10)] {
            let new = NewLedgerEntry {
                at: Timestamp(1),
                worker: Name::parse(&"n".repeat(name)).unwrap(),
                action: Action::UpgradeCalledOff,
                hash: Some(ComponentHash([7; 32])),
                by: By::Directory,
                detail: "ü".repeat(detail),
            };
            let mut head = Head::EMPTY;
            let entry = head.append(&new);
            let texts = entry.worker.as_str().len() + entry.action.as_str().len() + entry.by.as_str().len();
            let bytes = 8 + 8 + texts + 32 + entry.detail.len() + 32 + 32;
            assert!(bytes <= bounds::LEDGER_ENTRY_BYTES_MAX, "{name}, {detail}: {bytes}");
            assert_eq!(entry.detail.ends_with(CUT), detail > 100, "{name}: {}", entry.detail);
            assert_eq!(verify(&[entry]), Ok(1));
        }
        let trimmed = trimmed_detail(u64::MAX, &[0xff; 32]);
        assert_eq!(cut(trimmed.clone(), &Name::root(), Action::LedgerTrimmed, By::Operator), trimmed, "it is whole");
    }

    #[test]
    fn words_are_read_back() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(*action));
        }
        assert_eq!(By::parse("Operator"), None);
        assert_eq!(format!("{:>9}|", By::Host), "     host|");
    }

    proptest! {
        #[test]
        fn removing_or_swapping_or_changing_is_found(length in 2u8..20, at in 0usize..18, how in 0usize..TAMPERS.len() + 2) {
            let mut entries = chain(length);
            let at = at % (entries.len() - 1);
            match how.checked_sub(TAMPERS.len()) {
                None => TAMPERS[how].1(&mut entries[at]),
                Some(0) => drop(entries.remove(at)),
                Some(_) => entries.swap(at, at + 1),
            }
            prop_assert_eq!(verify(&entries).map_err(|broken| broken.seq), Err(at as u64 + 1));
        }
    }
}
