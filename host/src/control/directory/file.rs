//! One file: whether it changed, what is in it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::{NotRead, Problem};
use crate::base::units::show_size;
use crate::base::{ComponentHash, Payload, bounds};
use crate::control::settings::Places;
use crate::runtime::spec::{SupervisorSettings, WorkerSettings};

/// What the file system says of a file without reading it. Two equal fingerprints of one path,
/// taken longer apart than the file system's clock is coarse, mean that the file was not written
/// between them. The time of the last change of the inode is part of it, so that a copy that keeps
/// modification times does not hide a replacement in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// In bytes.
    pub len: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Last change of the inode, in nanoseconds since 1970.
    pub changed_ns: i128,
    pub inode: u64,
}

impl Fingerprint {
    pub fn of(metadata: &Metadata) -> Fingerprint {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Fingerprint {
            len: metadata.len(),
            modified_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// Contents by path, as long as the fingerprint stays. Mistakes are not kept: they are found again
/// at once, and an error of the disk may pass.
#[derive(Default)]
pub(super) struct FileCache {
    pub components: HashMap<PathBuf, (Fingerprint, ComponentHash)>,
    pub workers: HashMap<PathBuf, (Fingerprint, WorkerSettings)>,
    pub supervisors: HashMap<PathBuf, (Fingerprint, SupervisorSettings)>,
    /// Of the settings files above.
    pub places: HashMap<PathBuf, Arc<Places>>,
    /// What those say.
    pub texts: HashMap<PathBuf, Arc<str>>,
}

impl FileCache {
    pub fn keep_only(&mut self, paths: &HashSet<PathBuf>) {
        self.components.retain(|path, _| paths.contains(path));
        self.workers.retain(|path, _| paths.contains(path));
        self.supervisors.retain(|path, _| paths.contains(path));
        self.places.retain(|path, _| paths.contains(path));
        self.texts.retain(|path, _| paths.contains(path));
    }
}

/// Opens a file for reading, and asks what was opened: between a look at a path and its opening anything can take the
/// place of a file. Waits for nobody: a FIFO without a writer would hold the thread for ever.
fn open(path: &Path) -> Result<(File, Metadata), Problem> {
    let unreadable = |error: io::Error| Problem::unreadable(path, &error);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let file = File::from(file);
    let found = file.metadata().map_err(unreadable)?;
    if found.is_file() { Ok((file, found)) } else { Err(Problem::at(path, "is not a file")) }
}

/// The file that was seen, and no other that took its place.
fn open_seen(path: &Path, seen: Fingerprint) -> Result<File, NotRead> {
    let (file, found) = open(path).map_err(NotRead::Problem)?;
    if Fingerprint::of(&found) == seen { Ok(file) } else { Err(NotRead::Waiting) }
}

/// Reads a component file for deployment and hashes what was read, so that what runs is what is
/// recorded. Blocks.
///
/// # Errors
/// It cannot be read, is too large, or is clearly no component.
pub fn read_component(path: &Path) -> Result<(Payload, ComponentHash), Problem> {
    let (file, found) = open(path)?;
    let bytes = read_bounded(path, file, found.len(), bounds::COMPONENT_BYTES_MAX)?;
    sniff(&bytes).map_err(|(message, help)| Problem::at(path, message).help(help))?;
    let hash = ComponentHash::of(&bytes);
    Ok((Payload::from(bytes), hash))
}

/// The text of the settings file that was seen.
pub(super) fn read_text(path: &Path, seen: Fingerprint) -> Result<String, NotRead> {
    let file = open_seen(path, seen)?;
    let bytes = read_bounded(path, file, seen.len, bounds::SETTINGS_BYTES_MAX).map_err(NotRead::Problem)?;
    String::from_utf8(bytes).map_err(|_| NotRead::Problem(Problem::at(path, "is not text in UTF-8")))
}

/// The size is known from metadata before anything is read; the reading is bounded all the same,
/// because the file may grow meanwhile.
fn read_bounded(path: &Path, file: File, len: u64, bytes_max: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(usize::try_from(len.min(bytes_max)).unwrap_or_default());
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| Problem::unreadable(path, &error))?;
    let len = len.max(bytes.len() as u64);
    if len > bytes_max { Err(too_large(path, len, bytes_max)) } else { Ok(bytes) }
}

/// Hashes the component file that was seen piece by piece, without keeping it in memory.
pub(super) fn hash_component(path: &Path, seen: Fingerprint) -> Result<ComponentHash, NotRead> {
    hash_file(path, open_seen(path, seen)?).map_err(NotRead::Problem)
}

fn hash_file(path: &Path, file: File) -> Result<ComponentHash, Problem> {
    let unreadable = |error: io::Error| Problem::unreadable(path, &error);
    let mut file = file.take(bounds::COMPONENT_BYTES_MAX + 1);
    let mut head = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
    sniff(&head).map_err(|(message, help)| Problem::at(path, message).help(help))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head);
    hasher.update_reader(file).map_err(unreadable)?;
    match hasher.count() {
        len if len > bounds::COMPONENT_BYTES_MAX => Err(too_large(path, len, bounds::COMPONENT_BYTES_MAX)),
        _ => Ok(ComponentHash(*hasher.finalize().as_bytes())),
    }
}

pub(super) fn too_large(path: &Path, len: u64, bytes_max: u64) -> Problem {
    Problem::at(path, format!("is too large: {}", show_size(len))).help(format!("{} are allowed", show_size(bytes_max)))
}

/// `\0asm`, then version and layer, two bytes each.
const HEADER_BYTES: usize = 8;
const MAGIC: &[u8] = b"\0asm";
const LAYER_MODULE: [u8; 2] = [0, 0];

/// What the first bytes give away. Whether the rest is a valid component is the sandbox's check.
fn sniff(head: &[u8]) -> Result<(), (&'static str, &'static str)> {
    const WRITING: &str = "if it is still being written, it is looked at again when it changes";
    if head.is_empty() {
        return Err(("is empty", WRITING));
    }
    let head = &head[..head.len().min(HEADER_BYTES)];
    if head.iter().all(|byte| *byte == 0) {
        return Err(("is not WebAssembly: it begins with zeros", WRITING));
    }
    if !head.starts_with(MAGIC) {
        return Err(if MAGIC.starts_with(head) {
            ("is not WebAssembly: it ends within the header", WRITING)
        } else {
            ("is not WebAssembly", "a component begins with `\\0asm`")
        });
    }
    match head {
        [_, _, _, _, _, _, layer @ ..] if layer.len() == 2 => {
            if layer == LAYER_MODULE {
                Err((
                    "is a core module, not a component",
                    "make it one with `wasm-tools component new`, or build for the target `wasm32-wasip2`",
                ))
            } else {
                Ok(())
            }
        }
        _ => Err(("is not WebAssembly: it ends within the header", WRITING)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_file_is_not() {
        let said = |bytes: &[u8]| sniff(bytes).err().map(|(message, _)| message);
        assert_eq!(said(b"\0asm\x0d\0\x01\0rest"), None);
        assert_eq!(said(b"\0asm\x01\0\0\0rest"), Some("is a core module, not a component"));
        assert_eq!(said(b""), Some("is empty"));
        assert_eq!(said(b"\0\0\0\0\0\0\0\0\0"), Some("is not WebAssembly: it begins with zeros"));
        assert_eq!(said(b"\0as"), Some("is not WebAssembly: it ends within the header"));
        assert_eq!(said(b"\0asm\x0d\0"), Some("is not WebAssembly: it ends within the header"));
        assert_eq!(said(b"#!/bin/sh"), Some("is not WebAssembly"));
    }

    #[test]
    fn both_ways_of_hashing_agree() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wasm");
        let bytes = [b"\0asm\x0d\0\x01\0".as_slice(), &[7; 200_000]].concat();
        std::fs::write(&path, &bytes).unwrap();
        let (read, hash) = read_component(&path).unwrap();
        assert_eq!((read.as_ref(), hash), (bytes.as_slice(), ComponentHash::of(&bytes)));
        let seen = Fingerprint::of(&path.metadata().unwrap());
        assert_eq!(hash_component(&path, seen), Ok(hash));
        assert_eq!(hash_component(&path, Fingerprint { inode: 0, ..seen }), Err(NotRead::Waiting), "another file");
        assert!(read_component(&directory.path().join("b.wasm")).unwrap_err().message.starts_with("cannot be read"));
    }

    #[test]
    fn what_took_the_place_of_a_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wasm");
        std::fs::write(&path, b"\0asm\x0d\0\x01\0").unwrap();
        let seen = Fingerprint::of(&path.metadata().unwrap());
        std::fs::remove_file(&path).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // On a thread: were it to wait, the test would fail and not hang.
        let (done, ended) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let hashed = hash_component(&path, seen).map_err(|error| error == NotRead::Waiting);
            let problem = |read: Result<(), NotRead>| match read {
                Err(NotRead::Problem(problem)) => problem.message,
                _ => String::new(),
            };
            let texts = problem(read_text(&path, seen).map(drop));
            let component = read_component(&path).map(drop).unwrap_err().message;
            done.send((hashed.is_err(), texts, component)).unwrap();
        });
        let told = ended.recv_timeout(std::time::Duration::from_secs(20)).expect("nothing is waited for");
        assert_eq!(told, (true, "is not a file".to_string(), "is not a file".to_string()));
    }
}
