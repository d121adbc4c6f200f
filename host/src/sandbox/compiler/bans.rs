//! Components whose compiler died, by hash: they are not compiled again until an operator says so.
//!
//! Without this, a component that the compiler dies of would be compiled at every start of the host, for as long as its
//! file is there. Two kinds of small files beside the compiled code keep it:
//!
//! ```text
//!   HASH.compiling   is being compiled. Found at a start: the host died meanwhile, and may have died of it.
//!   HASH.banned      its compiler died, or used more than it may. The text says which.
//! ```
//!
//! They lie in the directory of one version of the engine: another version compiles anew.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::base::{ComponentHash, bounds};

const COMPILING: &str = "compiling";
const BANNED: &str = "banned";

pub struct Bans {
    dir: PathBuf,
    why: Mutex<BTreeMap<ComponentHash, String>>,
}

/// Components that are being compiled in this process, of all its hosts.
static COMPILING_NOW: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// A component is being compiled. Dropped, it was compiled to its end, or given up.
pub struct Compiling(PathBuf);

impl Drop for Compiling {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        COMPILING_NOW.send_modify(|now| *now -= 1);
    }
}

/// Waits until no component is being compiled, or for `time`. A process that ends earlier leaves the mark of one that died
/// over it.
pub async fn compilers_ended(time: Duration) {
    let mut now = COMPILING_NOW.subscribe();
    // An error would mean that the sender is gone, which is never dropped.
    let _ = tokio::time::timeout(time, now.wait_for(|now| *now == 0)).await;
}

impl Bans {
    /// Reads what the last run left. At most [`bounds::BANS_MAX`] are kept in mind.
    pub fn open(dir: &Path) -> io::Result<Bans> {
        let bans = Bans { dir: dir.to_path_buf(), why: Mutex::default() };
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let hash = path.file_stem().and_then(|stem| stem.to_str()).and_then(ComponentHash::from_hex);
            let (Some(hash), Some(kind)) = (hash, path.extension()) else { continue };
            if kind == COMPILING {
                bans.ban(hash, "the host ended while it was compiled");
                let _ = fs::remove_file(&path);
            } else if kind == BANNED {
                let why = fs::read_to_string(&path).unwrap_or_default();
                bans.remember(hash, why);
            }
        }
        Ok(bans)
    }

    /// Why this component is not compiled, if that is so.
    pub fn why(&self, hash: ComponentHash) -> Option<String> {
        self.lock().get(&hash).cloned()
    }

    pub fn all(&self) -> Vec<(ComponentHash, String)> {
        self.lock().iter().map(|(hash, why)| (*hash, why.clone())).collect()
    }

    /// Notes that a component is being compiled.
    pub fn begin(&self, hash: ComponentHash) -> Compiling {
        let path = self.file(hash, COMPILING);
        // Where it cannot be noted (a full disk), a host that dies of it tries again.
        let _ = fs::write(&path, []);
        COMPILING_NOW.send_modify(|now| *now += 1);
        Compiling(path)
    }

    pub fn ban(&self, hash: ComponentHash, why: &str) {
        let _ = fs::write(self.file(hash, BANNED), why);
        self.remember(hash, why.to_string());
    }

    pub fn lift(&self, hash: ComponentHash) {
        self.lock().remove(&hash);
        let _ = fs::remove_file(self.file(hash, BANNED));
    }

    fn remember(&self, hash: ComponentHash, why: String) {
        let mut known = self.lock();
        // Beyond the bound one of the others is tried again.
        while known.len() >= bounds::BANS_MAX && !known.contains_key(&hash) {
            let Some((other, _)) = known.pop_first() else { break };
            let _ = fs::remove_file(self.file(other, BANNED));
        }
        known.insert(hash, why);
    }

    fn file(&self, hash: ComponentHash, kind: &str) -> PathBuf {
        self.dir.join(format!("{hash}.{kind}"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ComponentHash, String>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_one_of_the_others_is_tried_again_and_its_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let bans = Bans::open(dir.path()).unwrap();
        let hash = |number: usize| ComponentHash::of(&number.to_le_bytes());
        for number in 0..bounds::BANS_MAX + 3 {
            bans.ban(hash(number), "it took too long");
            assert!(bans.why(hash(number)).is_some(), "{number}");
        }
        assert_eq!(bans.all().len(), bounds::BANS_MAX);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), bounds::BANS_MAX);
    }

    #[test]
    fn a_component_that_was_compiled_when_the_host_died_is_banned_until_it_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, three) = (ComponentHash([1; 32]), ComponentHash([2; 32]), ComponentHash([3; 32]));
        let bans = Bans::open(dir.path()).unwrap();
        drop(bans.begin(one));
        bans.ban(three, "it took too long");
        // The host dies here: nothing is dropped.
        let _running = std::mem::ManuallyDrop::new(bans.begin(two));
        for _ in 0..2 {
            let bans = Bans::open(dir.path()).unwrap();
            assert_eq!(bans.why(one), None);
            assert_eq!(bans.why(two).as_deref(), Some("the host ended while it was compiled"));
            assert_eq!(bans.why(three).as_deref(), Some("it took too long"));
        }
        let bans = Bans::open(dir.path()).unwrap();
        bans.lift(two);
        assert_eq!((bans.why(two), bans.all().len()), (None, 1));
        assert_eq!(Bans::open(dir.path()).unwrap().all().len(), 1);
    }
}
