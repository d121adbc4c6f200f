//! The directory in which a host keeps what must outlive it: `DIR/.paguro`, or beside a link that names DIR.
//!
//! It belongs to one user and to one running host. Compiled code in `cache/` is trusted when it is
//! loaded, so whoever can write here can run native code as the host: every directory is 0700, and
//! one that is a link or another user's is refused. One host at a time: two writers would each
//! continue the ledger from the same entry.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Tries to take the lock before it counts as held, [`LOCK_PAUSE`] apart. [`StateDir::holder`]
/// takes it for some microseconds to look; a host that starts just then must not be refused.
const LOCK_TRIES_MAX: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of the lock file that are read: a pid has 10 digits at most.
const LOCK_FILE_BYTES_MAX: u64 = 32;

const PRIVATE_DIR: u32 = 0o700;

/// A state directory that this process holds. The lock ends with the value, or with the process
/// however that dies.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

/// Where the state of a directory of workers lies where nothing else is said: in it, as `.paguro`. A directory that is
/// named by a symbolic link may be another one tomorrow, so then it lies beside the link: that of `current` in
/// `.paguro-current`.
pub fn default_state(directory: &Path) -> PathBuf {
    state_beside(directory).unwrap_or_else(|| directory.join(".paguro"))
}

/// Where the state of a host that runs is to be found: one in the directory that a link leads to is its own, where none
/// lies beside the link.
pub fn found_state(directory: &Path) -> PathBuf {
    state_behind_a_link(directory).map_or_else(|| default_state(directory), |(inside, _)| inside)
}

/// A state that lies in the directory which a link leads to, where none lies beside the link: the next directory would not
/// have it. Where it should lie comes second.
pub fn state_behind_a_link(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let beside = state_beside(directory)?;
    let inside = directory.canonicalize().ok()?.join(".paguro");
    (inside.join("paguro.db").exists() && !beside.exists()).then_some((inside, beside))
}

/// Where the state of a directory lies that is named by a symbolic link; `None` for any other.
fn state_beside(directory: &Path) -> Option<PathBuf> {
    // A trailing slash would make the look below follow the link.
    let directory: PathBuf = directory.components().collect();
    directory.symlink_metadata().ok().filter(std::fs::Metadata::is_symlink)?;
    let mut name = std::ffi::OsString::from(".paguro-");
    name.push(directory.file_name()?);
    Some(directory.with_file_name(name))
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("{} is in use by {}", path.display(), show_holder(*pid))]
    Locked { path: PathBuf, pid: Option<i32> },
    #[error("{} is a symbolic link; a state directory must be a directory itself", .0.display())]
    Link(PathBuf),
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} belongs to user {owner}, this is user {us}; others could change the code that is run", path.display())]
    NotOurs { path: PathBuf, owner: u32, us: u32 },
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

fn show_holder(pid: Option<i32>) -> String {
    pid.map_or_else(|| "another process".to_string(), |pid| format!("process {pid}"))
}

impl StateDir {
    /// Creates `path` with its parents if need be, makes it private, and takes its lock.
    ///
    /// A directory of ours that others may read is made private. Everything else that is not ours
    /// alone is refused and left as it is. Waits some tens of milliseconds at most.
    pub fn open(path: &Path) -> Result<StateDir, StateDirError> {
        // A trailing slash would make every check below follow a link.
        let path: PathBuf = path.components().collect();
        make_private_dir(&path)?;
        let lock = take_lock(&path)?;
        // The subdirectories only after the lock: a second host leaves no trace.
        let dir = StateDir { path, lock };
        make_private_dir(&dir.components())?;
        make_private_dir(&dir.cache())?;
        Ok(dir)
    }

    /// The process that holds the directory; `None` when no host runs on it, or when it took the
    /// lock a moment ago and has not yet said who it is. Changes nothing.
    pub fn holder(path: &Path) -> Option<i32> {
        let mut file = File::open(path.join("lock")).ok()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => read_pid(&mut file),
            _ => None,
        }
    }

    /// Whether this is still what lies at its path.
    pub fn is_ours(&self) -> bool {
        let held = rustix::fs::fstat(&self.lock).map(|found| (found.st_dev, found.st_ino));
        let there = rustix::fs::lstat(self.path.join("lock")).map(|found| (found.st_dev, found.st_ino));
        held.is_ok_and(|held| there == Ok(held))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database_path(&self) -> PathBuf {
        self.path.join("paguro.db")
    }

    /// Component files by hash.
    pub fn components(&self) -> PathBuf {
        self.path.join("components")
    }

    /// Compiled code.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    pub fn socket_path(&self) -> PathBuf {
        self.path.join("paguro.sock")
    }
}

impl Drop for StateDir {
    /// Takes our pid out of the lock file while the lock is still ours. The file stays: removing
    /// it would let two hosts hold locks on two files of the same name.
    fn drop(&mut self) {
        let _ = self.lock.set_len(0);
    }
}

fn make_private_dir(path: &Path) -> Result<(), StateDirError> {
    let io = |doing, source: io::Error| StateDirError::Io { doing, path: path.to_path_buf(), source };
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => return Err(StateDirError::Link(path.to_path_buf())),
        Ok(found) if !found.is_dir() => return Err(StateDirError::NotADirectory(path.to_path_buf())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_DIR)
            .create(path)
            .map_err(|error| io("cannot create", error))?,
        Err(error) => return Err(io("cannot look at", error)),
    }
    // From here on by descriptor: what was looked at is what is changed.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => dir,
        // Ours or not, it cannot be opened: the owner says more than "permission denied".
        Err(error) => return Err(refuse_foreign(path).err().unwrap_or_else(|| io("cannot open", error.into()))),
    };
    let found = rustix::fs::fstat(&dir).map_err(|error| io("cannot look at", error.into()))?;
    refuse_owner(path, found.st_uid)?;
    if found.st_mode & 0o777 != PRIVATE_DIR {
        rustix::fs::fchmod(&dir, Mode::RWXU).map_err(|error| io("cannot make private", error.into()))?;
    }
    Ok(())
}

fn refuse_foreign(path: &Path) -> Result<(), StateDirError> {
    match rustix::fs::lstat(path) {
        Ok(found) => refuse_owner(path, found.st_uid),
        Err(_) => Ok(()),
    }
}

fn refuse_owner(path: &Path, owner: u32) -> Result<(), StateDirError> {
    let us = rustix::process::geteuid().as_raw();
    if owner == us { Ok(()) } else { Err(StateDirError::NotOurs { path: path.to_path_buf(), owner, us }) }
}

fn take_lock(dir: &Path) -> Result<File, StateDirError> {
    let path = dir.join("lock");
    let io = |doing, source: io::Error| StateDirError::Io { doing, path: path.clone(), source };
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| io("cannot open", error.into()))?;
    let mut file = File::from(file);
    let mut tries = 1;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if tries < LOCK_TRIES_MAX => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(StateDirError::Locked { path: dir.to_path_buf(), pid: read_pid(&mut file) });
            }
            Err(error) => return Err(io("cannot lock", error.into())),
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| io("cannot write", error))?;
    Ok(file)
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.take(LOCK_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everything_in_it_is_private() {
        let tree = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&tree.path().join("workers/.paguro")).unwrap();
        for path in [dir.path(), &dir.components(), &dir.cache()] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        assert_eq!(mode(&dir.path().join("lock")) & 0o077, 0);
    }

    #[test]
    fn one_of_ours_that_others_may_read_is_made_private() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("state");
        for sub in ["", "cache"] {
            std::fs::create_dir(path.join(sub)).unwrap();
            std::fs::set_permissions(path.join(sub), PermissionsExt::from_mode(0o777)).unwrap();
        }
        let dir = StateDir::open(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.cache())), (0o700, 0o700));
    }

    #[test]
    fn links_and_files_are_refused() {
        let tree = tempfile::tempdir().unwrap();
        let (real, link, file) = (tree.path().join("real"), tree.path().join("link"), tree.path().join("file"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        std::fs::write(&file, "").unwrap();
        assert!(matches!(StateDir::open(&link), Err(StateDirError::Link(_))));
        assert!(matches!(StateDir::open(&link.join("")), Err(StateDirError::Link(_))), "with a trailing slash");
        assert!(matches!(StateDir::open(&file), Err(StateDirError::NotADirectory(_))));
        symlink(&file, real.join("cache")).unwrap();
        assert!(matches!(StateDir::open(&real), Err(StateDirError::Link(_))), "a link in place of the cache");
    }

    #[test]
    fn another_users_is_refused() {
        let tree = tempfile::tempdir().unwrap();
        let us = rustix::process::geteuid().as_raw();
        let error = refuse_owner(tree.path(), us + 1).unwrap_err();
        assert!(error.to_string().contains(&format!("belongs to user {}", us + 1)), "{error}");
    }

    #[test]
    fn the_state_of_a_link_lies_beside_it_and_one_behind_it_is_found() {
        let tree = tempfile::tempdir().unwrap();
        let (real, link) = (tree.path().join("real"), tree.path().join("current"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let beside = tree.path().join(".paguro-current");
        assert_eq!(default_state(&real), real.join(".paguro"));
        for path in [link.clone(), link.join("")] {
            assert_eq!((default_state(&path), state_behind_a_link(&path)), (beside.clone(), None));
        }
        std::fs::create_dir(real.join(".paguro")).unwrap();
        std::fs::write(real.join(".paguro/paguro.db"), "").unwrap();
        let inside = real.canonicalize().unwrap().join(".paguro");
        assert_eq!(state_behind_a_link(&link), Some((inside, beside.clone())), "a host ran there before");
        assert_eq!(state_behind_a_link(&real), None);
        std::fs::create_dir(&beside).unwrap();
        assert_eq!(state_behind_a_link(&link), None);
        assert_eq!(default_state(Path::new("none")), Path::new("none/.paguro"));
    }

    #[test]
    fn a_second_host_is_told_who_holds_it() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("state");
        assert_eq!(StateDir::holder(&path), None);
        let us = i32::try_from(std::process::id()).unwrap();
        let first = StateDir::open(&path).unwrap();
        assert_eq!(StateDir::holder(&path), Some(us));
        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(error, StateDirError::Locked { pid: Some(pid), .. } if pid == us));
        assert!(error.to_string().ends_with(&format!("is in use by process {us}")), "{error}");
        drop(first);
        assert_eq!(StateDir::holder(&path), None);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_pid_that_a_killed_host_left_holds_nothing() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("state");
        drop(StateDir::open(&path).unwrap());
        std::fs::write(path.join("lock"), "1\n").unwrap();
        assert_eq!(StateDir::holder(&path), None);
        let _dir = StateDir::open(&path).unwrap();
        assert_eq!(StateDir::holder(&path), Some(i32::try_from(std::process::id()).unwrap()));
    }
}
