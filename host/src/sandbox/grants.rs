//! What a worker may reach outside itself. Nothing, until `[grants]` says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime_wasi::filesystem::{Dir, FsPerms, OpenMode};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Directories of the host, each under a name the guest knows. A guest cannot leave them, not
    /// by `..` and not by a symbolic link (wasmtime-wasi opens everything relative to a directory
    /// handle, through cap-std).
    pub directories: Vec<DirectoryGrant>,
    /// Environment variables, as `name, value`. The host's own environment is never passed on.
    pub environment: Vec<(String, String)>,
    /// Command line arguments after the first, for commands.
    pub arguments: Vec<String>,
    /// Socket addresses (`ip:port`) that the guest may connect to. Names are never resolved.
    pub connect: Vec<std::net::SocketAddr>,
    /// Whether it may start and stop children of templates that are its siblings or below them
    /// (`children.start`).
    pub children: bool,
}

impl Grants {
    /// For a rehearsal, in which nothing may be at stake: what can be read, and nothing that can be
    /// changed or reached.
    pub fn for_rehearsal(&self) -> Grants {
        let read_only = |grant: &DirectoryGrant| DirectoryGrant { access: Access::Read, ..grant.clone() };
        Grants {
            directories: self.directories.iter().map(read_only).collect(),
            connect: Vec::new(),
            children: false,
            ..self.clone()
        }
    }
}

/// A directory of the host as the settings write it, and as it was opened.
#[derive(Clone, Debug)]
pub struct DirectoryGrant {
    /// Where it is on the host.
    pub host: PathBuf,
    /// What the guest calls it, such as `/data`.
    pub guest: String,
    pub access: Access,
    /// The directory itself. Every instance of the worker gets this one, whatever the path leads to by then.
    /// `None`: nobody has opened and checked it, and no instance is made.
    pub opened: Option<Arc<OpenedDirectory>>,
}

/// What is written counts. Two settings that say the same are the same, opened or not.
impl PartialEq for DirectoryGrant {
    fn eq(&self, other: &DirectoryGrant) -> bool {
        let DirectoryGrant { host, guest, access, opened: _ } = self;
        *host == other.host && *guest == other.guest && *access == other.access
    }
}

impl Eq for DirectoryGrant {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// One directory, held open. It stays the same directory when it is renamed, when a link or another directory takes
/// its place, and when it is removed.
pub struct OpenedDirectory {
    /// As the engine has it. Blocking calls go to threads of their own: a slow disk must not hold up other workers.
    dir: Dir,
    identity: Identity,
}

/// Device and inode: what a directory is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
}

impl OpenedDirectory {
    /// # Errors
    /// It is not a directory, or cannot be asked.
    pub fn new(file: File) -> io::Result<OpenedDirectory> {
        let found = file.metadata()?;
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let identity = Identity { device: found.dev(), inode: found.ino() };
        Ok(OpenedDirectory { dir: Dir::new(file, FsPerms::ReadOnly, OpenMode::READ, false), identity })
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn file(&self) -> &File {
        &self.dir.dir
    }

    /// All instances share one descriptor. The engine opens `.` anew to read entries, so nobody shares a position.
    pub(super) fn as_dir(&self, access: Access) -> Dir {
        let mut dir = self.dir.clone();
        if access == Access::ReadWrite {
            (dir.perms, dir.open_mode) = (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE);
        }
        dir
    }
}

impl std::fmt::Debug for OpenedDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenedDirectory").field(&self.identity).finish()
    }
}
