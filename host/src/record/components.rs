//! Component files by hash: the host's own copies, so that a rollback never depends on a file that
//! someone may have replaced.
//!
//! A file is called `<hash>.wasm` and is whole from the moment it has that name: it is written
//! under another name, synced, and renamed. What is read is checked against the hash each time.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::base::{ComponentHash, bounds, units};

/// The directory of component files. Calls block on the disk. Clones are one.
#[derive(Clone, Debug)]
pub struct ComponentFiles {
    dir: PathBuf,
    elsewhere: Arc<Mutex<Elsewhere>>,
}

/// Where the same bytes lie, when the host's own copy is lost.
#[derive(Debug, Default)]
struct Elsewhere {
    files: HashMap<ComponentHash, PathBuf>,
    /// Copies that were made anew from there.
    mended: Vec<(ComponentHash, PathBuf)>,
}

/// Why a component file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ComponentFileError {
    #[error("there is no component {} ({})", hash.short(), path.display())]
    Missing { hash: ComponentHash, path: PathBuf },
    #[error("{} is corrupted: its content is not what its name says", path.display())]
    Corrupted { hash: ComponentHash, path: PathBuf },
    #[error("the component has {}; {} are allowed", units::show_size(*bytes), units::show_size(bounds::COMPONENT_BYTES_MAX))]
    Large { bytes: u64 },
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl ComponentFiles {
    /// `dir` must exist and be private to the host.
    pub fn new(dir: impl Into<PathBuf>) -> ComponentFiles {
        ComponentFiles { dir: dir.into(), elsewhere: Arc::default() }
    }

    /// Files whose bytes were seen to have these hashes. A copy that is lost or corrupted is made anew from there: what is
    /// read is checked against the hash, wherever it lies.
    pub fn lie_elsewhere(&self, files: HashMap<ComponentHash, PathBuf>) {
        self.elsewhere().files = files;
    }

    /// The copies that were made anew since this was asked, and from where.
    pub fn mended(&self) -> Vec<(ComponentHash, PathBuf)> {
        std::mem::take(&mut self.elsewhere().mended)
    }

    fn elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `bytes`. They are on disk when this returns. One that is there already is left alone,
    /// unless it is corrupted: then it is replaced.
    pub fn put(&self, bytes: &[u8]) -> Result<ComponentHash, ComponentFileError> {
        if bytes.len() as u64 > bounds::COMPONENT_BYTES_MAX {
            return Err(ComponentFileError::Large { bytes: bytes.len() as u64 });
        }
        let hash = ComponentHash::of(bytes);
        // Whatever is wrong with the one that is there.
        if self.own(&hash).is_err() {
            self.write(hash, bytes)?;
        }
        Ok(hash)
    }

    fn write(&self, hash: ComponentHash, bytes: &[u8]) -> Result<(), ComponentFileError> {
        let unfinished = self.unfinished_path(&hash);
        let written = write_synced(&unfinished, bytes).and_then(|()| {
            let path = self.path(&hash);
            std::fs::rename(&unfinished, &path).map_err(io_error("rename to", &path))
        });
        if let Err(error) = written {
            // What is left of it takes room that may be why it failed.
            let _ = std::fs::remove_file(&unfinished);
            return Err(error);
        }
        self.sync_dir()
    }

    /// The component's bytes, which are those the hash was made of. Where the host's own copy is not, they are taken from
    /// wherever they were seen last, and the copy is made anew.
    pub fn get(&self, hash: &ComponentHash) -> Result<Vec<u8>, ComponentFileError> {
        let lost = match self.own(hash) {
            Ok(bytes) => return Ok(bytes),
            Err(lost) => lost,
        };
        let Some(path) = self.elsewhere().files.get(hash).cloned() else { return Err(lost) };
        let Ok(bytes) = read(&path, hash, OFlags::empty()) else { return Err(lost) };
        // Where it cannot be written it is taken from there the next time as well.
        if self.write(*hash, &bytes).is_ok() {
            self.elsewhere().mended.push((*hash, path));
        }
        Ok(bytes)
    }

    /// From the host's own copy.
    fn own(&self, hash: &ComponentHash) -> Result<Vec<u8>, ComponentFileError> {
        // The directory is the host's alone: what is a link there was put by hand.
        read(&self.path(hash), hash, OFlags::NOFOLLOW)
    }

    /// Bytes of its file. Does not read it: it may be corrupted.
    pub fn size(&self, hash: &ComponentHash) -> Result<u64, ComponentFileError> {
        let own = self.path(hash);
        let path = if own.is_file() { own } else { self.elsewhere().files.get(hash).cloned().unwrap_or(own) };
        match std::fs::metadata(&path) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ComponentFileError::Missing { hash: *hash, path })
            }
            Err(error) => Err(io_error("look at", &path)(error)),
        }
    }

    /// Whether there is a file for it. Does not read it: it may be corrupted.
    pub fn has(&self, hash: &ComponentHash) -> bool {
        self.path(hash).is_file()
    }

    /// Removes it; one that is not there is no error.
    pub fn remove(&self, hash: &ComponentHash) -> Result<(), ComponentFileError> {
        remove_if_there(&self.path(hash))?;
        self.sync_dir()
    }

    /// Removes every component that is not in `keep` and everything a host that was killed left
    /// half-written. Gives what was removed. For the host's start: a component that another thread
    /// puts meanwhile would be removed, too. Files with other names are left alone.
    pub fn retain(&self, keep: &BTreeSet<ComponentHash>) -> Result<Vec<ComponentHash>, ComponentFileError> {
        let mut removed = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let path = entry.map_err(io_error("list", &self.dir))?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            match (extension, ComponentHash::from_hex(stem)) {
                (Some("unfinished"), _) => remove_if_there(&path)?,
                (Some("wasm"), Some(hash)) if !keep.contains(&hash) => {
                    remove_if_there(&path)?;
                    removed.push(hash);
                }
                _ => {}
            }
        }
        self.sync_dir()?;
        removed.sort();
        Ok(removed)
    }

    fn path(&self, hash: &ComponentHash) -> PathBuf {
        self.dir.join(format!("{hash}.wasm"))
    }

    /// A name of its own for each write, so that two threads that put the same component do not
    /// write into one file.
    fn unfinished_path(&self, hash: &ComponentHash) -> PathBuf {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{}-{}-{write}.unfinished", hash.short(), std::process::id()))
    }

    /// A new name is only durable once its directory is.
    fn sync_dir(&self) -> Result<(), ComponentFileError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", &self.dir))
    }
}

/// The file with just these bytes. What is no file is not waited for.
fn read(path: &Path, hash: &ComponentHash, more: OFlags) -> Result<Vec<u8>, ComponentFileError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let file = match rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(io::Error::from) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ComponentFileError::Missing { hash: *hash, path: path.to_path_buf() });
        }
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let mut bytes = Vec::new();
    // One byte more than any component has is enough to see that it is none of ours.
    file.take(bounds::COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if ComponentHash::of(&bytes) == *hash {
        Ok(bytes)
    } else {
        Err(ComponentFileError::Corrupted { hash: *hash, path: path.to_path_buf() })
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), ComponentFileError> {
    // A file of that name can only be what a killed host with our pid left behind.
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(io_error("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

fn remove_if_there(path: &Path) -> Result<(), ComponentFileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ComponentFileError {
    move |source| ComponentFileError::Io { doing, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, ComponentFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = ComponentFiles::new(dir.path());
        (dir, files)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<_> =
            dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_put_is_got_and_nothing_else_lies_about() {
        let (dir, files) = files();
        let hash = files.put(b"component").unwrap();
        assert_eq!(files.put(b"component").unwrap(), hash, "twice is once");
        assert_eq!(files.get(&hash).unwrap(), b"component");
        assert!(files.has(&hash));
        assert_eq!(names(&dir), [format!("{hash}.wasm")]);
        files.remove(&hash).unwrap();
        files.remove(&hash).unwrap();
        assert!(matches!(files.get(&hash), Err(ComponentFileError::Missing { .. })));
        assert!(!files.has(&hash));
    }

    #[test]
    fn a_corrupted_file_is_named_and_healed_by_the_next_put() {
        let (dir, files) = files();
        let hash = files.put(b"component").unwrap();
        std::fs::write(dir.path().join(format!("{hash}.wasm")), b"componenT").unwrap();
        let error = files.get(&hash).unwrap_err();
        assert!(error.to_string().contains(&hash.hex()), "{error}");
        files.put(b"component").unwrap();
        assert_eq!(files.get(&hash).unwrap(), b"component");
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error_that_names_it() {
        let files = ComponentFiles::new("/nowhere/at/all");
        let error = files.put(b"component").unwrap_err();
        assert!(error.to_string().contains("cannot create /nowhere/at/all/"), "{error}");
    }

    #[test]
    fn retain_removes_the_unused_and_the_unfinished_and_nothing_else() {
        let (dir, files) = files();
        let (used, unused) = (files.put(b"used").unwrap(), files.put(b"unused").unwrap());
        std::fs::write(dir.path().join("abc-1-0.unfinished"), b"half").unwrap();
        std::fs::write(dir.path().join("README"), b"mine").unwrap();
        assert_eq!(files.retain(&BTreeSet::from([used])).unwrap(), [unused]);
        assert_eq!(names(&dir).len(), 2);
        assert!(files.has(&used) && dir.path().join("README").exists());
    }

    #[test]
    fn two_threads_may_put_the_same() {
        let (_dir, files) = files();
        let bytes = vec![7; 1 << 20];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| files.put(&bytes).unwrap());
            }
        });
        assert_eq!(files.get(&ComponentHash::of(&bytes)).unwrap(), bytes);
    }
}
