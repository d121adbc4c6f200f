//! What lies in a granted directory, read a piece at a time. The engine's own reads all of it at once into the host's
//! memory: a guest can make a million names, and list them as often as it holds listings.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::Dir;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};
use wasmtime_wasi::runtime::spawn_blocking;

use super::opening::{told, within_share};

/// Bytes of entries that are read at one time: forty short names, or three of the longest.
const PIECE_BYTES: usize = 1_024;

type Entry = Result<DirectoryEntry, ErrorCode>;

pub(super) struct Listing {
    /// Where the next piece begins is the system's to know, with this descriptor.
    directory: Arc<OwnedFd>,
    read: VecDeque<Entry>,
    ended: bool,
    _counted: Arc<()>,
}

impl Listing {
    /// From the first entry on, whoever else lists the directory.
    pub async fn of(directory: &Dir, counted: Arc<()>) -> Result<Listing, ErrorCode> {
        let directory = directory.dir.clone();
        let opened = spawn_blocking(move || {
            let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            within_share(rustix::fs::openat(&directory, ".", how, Mode::empty()).map_err(told)?)
        });
        Ok(Listing { directory: Arc::new(opened.await?), read: VecDeque::new(), ended: false, _counted: counted })
    }

    /// `None`: there was no more.
    pub async fn next(&mut self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        while self.read.is_empty() && !self.ended {
            let directory = self.directory.clone();
            (self.read, self.ended) = spawn_blocking(move || piece(&directory)).await?;
        }
        self.read.pop_front().transpose()
    }
}

/// Some entries, none of which may be one of the guest's; and whether there are no more.
fn piece(directory: &OwnedFd) -> Result<(VecDeque<Entry>, bool), ErrorCode> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); PIECE_BYTES];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut read = VecDeque::new();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // The directory was removed: there is nothing in it.
            Err(Errno::NOENT) => break,
            entry => entry.map_err(told)?,
        };
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            read.push_back(shown(directory, entry.file_name(), entry.file_type()));
        }
        if entries.is_buffer_empty() {
            return Ok((read, false));
        }
    }
    Ok((read, true))
}

fn shown(directory: &OwnedFd, name: &CStr, found: FileType) -> Entry {
    let kind = match found {
        // Some file systems do not say.
        FileType::Unknown => {
            let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(told)?;
            FileType::from_raw_mode(found.st_mode)
        }
        known => known,
    };
    let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
    Ok(DirectoryEntry { type_: descriptor_type(kind), name })
}

fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::Unknown => DescriptorType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wasmtime_wasi::filesystem::{FsPerms, OpenMode};

    use super::*;

    #[tokio::test]
    async fn a_directory_is_listed_a_piece_at_a_time_and_each_name_once() {
        let directory = tempfile::tempdir().unwrap();
        let names: BTreeSet<String> = (0..1_000).map(|number| format!("{number:0200}")).collect();
        for name in &names {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let opened = std::fs::File::open(directory.path()).unwrap();
        let dir = Dir::new(opened, FsPerms::ReadOnly, OpenMode::READ, false);
        let mut listing = Listing::of(&dir, Arc::default()).await.unwrap();
        let mut told = BTreeSet::new();
        while let Some(entry) = listing.next().await.unwrap() {
            assert!(listing.read.len() <= PIECE_BYTES / 200, "{} are kept", listing.read.len());
            assert!(matches!(entry.type_, DescriptorType::RegularFile));
            assert!(told.insert(entry.name));
        }
        assert_eq!(told, names);
        assert!(listing.next().await.unwrap().is_none());
    }
}
