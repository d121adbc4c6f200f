//! When a file is whole enough to be looked into. Pure: takes `now`.
//!
//! ```text
//!            first seen, or looks other than before
//!   unknown ---------------------------------------> changing
//!      ^                                               |  the same for SETTLE
//!      | gone for SETTLE                               v
//!      +------------------------------------------- settled
//! ```
//!
//! The file system tells nobody when a writer is done, so a file is taken when it has stopped
//! changing. The same holds for a file that is gone: many tools replace a file by removing it
//! first, and that must not stop a worker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::Fingerprint;
use crate::base::Tick;

/// How long a file must stay as it is before it is taken. Longer than the clock of any common file
/// system is coarse (10 ms) and than pauses between the writes of a copy or a linker; short enough
/// not to be felt by who saves a file and looks up.
pub const SETTLE: Duration = Duration::from_millis(100);

/// Whether what is there can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    Settled,
    /// Look again after this time.
    Wait(Duration),
}

/// What was seen of each file, and since when it is so.
#[derive(Debug, Default)]
pub struct Settling {
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// `None`: it is gone.
    state: Option<Fingerprint>,
    since: Tick,
    settled: bool,
}

impl Settling {
    /// Notes what `path` looks like at `now`; `None` when there is no such file. One that was never
    /// there is settled at once.
    pub fn observe(&mut self, now: Tick, path: &Path, state: Option<Fingerprint>) -> Settle {
        match self.seen.get_mut(path) {
            None if state.is_none() => return Settle::Settled,
            None => {
                self.seen.insert(path.to_path_buf(), Seen { state, since: now, settled: false });
                return Settle::Wait(SETTLE);
            }
            Some(seen) if seen.state != state => {
                *seen = Seen { state, since: now, settled: false };
                return Settle::Wait(SETTLE);
            }
            Some(seen) => {
                let stood = now.since(seen.since);
                if !seen.settled && stood < SETTLE {
                    return Settle::Wait(SETTLE - stood);
                }
                seen.settled = true;
            }
        }
        if state.is_none() {
            self.seen.remove(path);
        }
        Settle::Settled
    }

    /// Starts the wait for `path` anew: it changed while it was read.
    pub fn disturb(&mut self, path: &Path) {
        self.seen.remove(path);
    }

    /// Files that are known and for which `present` is false.
    pub fn missing(&self, present: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        self.seen.keys().filter(|path| !present(path)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64) -> Option<Fingerprint> {
        Some(Fingerprint { len, modified_ns: 0, changed_ns: 0, inode: 1 })
    }

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    fn wait(ms: u64) -> Settle {
        Settle::Wait(Duration::from_millis(ms))
    }

    #[test]
    fn a_file_is_taken_when_it_stopped_changing() {
        let mut settling = Settling::default();
        let path = Path::new("a.wasm");
        let table = [
            (0, file(1), wait(100)),
            (60, file(1), wait(40)),
            (90, file(2), wait(100)),
            (189, file(2), wait(1)),
            (190, file(2), Settle::Settled),
            (191, file(2), Settle::Settled),
            (500, file(3), wait(100)),
        ];
        for (ms, state, expected) in table {
            assert_eq!(settling.observe(at(ms), path, state), expected, "at {ms} ms");
        }
    }

    #[test]
    fn a_file_is_gone_when_it_stays_away() {
        let mut settling = Settling::default();
        let path = Path::new("a.wasm");
        assert_eq!(settling.observe(at(0), path, None), Settle::Settled, "it was never there");
        settling.observe(at(0), path, file(1));
        settling.observe(at(100), path, file(1));
        assert_eq!(settling.observe(at(200), path, None), wait(100));
        assert_eq!(settling.observe(at(250), path, file(2)), wait(100), "removed and written anew");
        assert_eq!(settling.observe(at(350), path, file(2)), Settle::Settled);
        assert_eq!(settling.observe(at(400), path, None), wait(100));
        assert_eq!(settling.observe(at(500), path, None), Settle::Settled);
        assert!(settling.missing(|_| false).is_empty(), "it is forgotten");
    }
}
