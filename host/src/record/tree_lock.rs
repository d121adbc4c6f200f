//! The directory of workers belongs to one running host, whatever its state directory is: two would run every worker
//! twice, and each would take the other's changes for an operator's.
//!
//! The lock is on the directory itself, so that nothing has to be written there: a directory that cannot be written, and
//! one that several containers of one machine see, is locked all the same. It ends with the process, however that dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Tries before it counts as held, [`LOCK_PAUSE`] apart: a host that has just ended may be a moment from letting go.
const LOCK_TRIES_MAX: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A directory of workers that this process holds.
#[derive(Debug)]
pub struct TreeLock {
    directory: File,
}

/// Why a directory of workers cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum TreeLockError {
    #[error("{} is in use by {}, which keeps its state elsewhere", path.display(), show_holder(*pid))]
    Locked { path: PathBuf, pid: Option<i32> },
    #[error("cannot open {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn show_holder(pid: Option<i32>) -> String {
    pid.map_or_else(|| "another host".to_string(), |pid| format!("process {pid}"))
}

impl TreeLock {
    /// Waits some tens of milliseconds at most. Where the file system has no locks (some network file systems), it
    /// is held without one, and the log says so.
    pub fn take(path: &Path) -> Result<TreeLock, TreeLockError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let directory =
            File::from(opened.map_err(|error| TreeLockError::Io { path: path.to_path_buf(), source: error.into() })?);
        for _ in 0..LOCK_TRIES_MAX {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(TreeLock { directory }),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, directory = %path.display(), "cannot be locked against a second host");
                    return Ok(TreeLock { directory });
                }
            }
        }
        Err(TreeLockError::Locked { path: path.to_path_buf(), pid: holder(&directory) })
    }

    /// Device and inode of the directory.
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.directory.metadata().ok().map(|found| (found.dev(), found.ino()))
    }
}

/// Who holds the lock, as far as this process can see: one in another container has another number here, or none.
fn holder(directory: &File) -> Option<i32> {
    let found = directory.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 708 08:02:661 0 EOF`, see proc_locks(5).
    let held =
        locks.lines().find(|line| line.contains(" FLOCK ") && line.split_whitespace().any(|word| word == file))?;
    held.split_whitespace().nth(4)?.parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_second_host_is_refused_by_any_path_until_the_first_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("workers");
        std::fs::create_dir(&tree).unwrap();
        symlink(&tree, place.path().join("link")).unwrap();
        let first = TreeLock::take(&tree).unwrap();
        for path in [&tree, &place.path().join("link")] {
            let error = TreeLock::take(path).unwrap_err();
            assert!(matches!(error, TreeLockError::Locked { .. }), "{error}");
            assert!(error.to_string().contains("is in use by "), "{error}");
        }
        drop(first);
        TreeLock::take(&tree).unwrap();
    }

    #[test]
    fn one_that_cannot_be_written_is_locked_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o500)).unwrap();
        let _first = TreeLock::take(place.path()).unwrap();
        assert!(TreeLock::take(place.path()).is_err());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing is written there");
    }
}
