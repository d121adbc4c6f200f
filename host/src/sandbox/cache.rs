//! Compiled code on disk, so that a component is compiled once.
//!
//! Compiled code is machine code that is trusted when it is loaded. So the directory is private
//! (mode 0700, made by `record::state_dir`), lies under the engine's compatibility hash, and each
//! file carries the hash of its content: a torn write is seen and compiled anew. What this does
//! not defend against is a process of the same user that writes there on purpose: such a process
//! could as well write into the host itself.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::base::ComponentHash;

const DIGEST_BYTES: usize = 32;

/// Numbers what is written: two hosts of one process do not write into one file.
static WRITES: AtomicU64 = AtomicU64::new(0);

pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub fn open(path: &Path, engine: &Engine) -> io::Result<Cache> {
        // Other engine settings or another wasmtime make other code, and may not share it.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let dir = path.join(format!("{:016x}", hasher.finish()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        private(path)?;
        private(&dir)?;
        Ok(Cache { dir })
    }

    fn file(&self, hash: ComponentHash) -> PathBuf {
        self.dir.join(format!("{hash}.cwasm"))
    }

    /// The compiled component, or `None` where there is none that can be used.
    pub fn get(&self, engine: &Engine, hash: ComponentHash) -> Option<Component> {
        let file = self.file(hash);
        let bytes = fs::read(&file).ok()?;
        let (code, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if blake3::hash(code).as_bytes() != digest {
            let _ = fs::remove_file(&file);
            return None;
        }
        // SAFETY: `deserialize` demands code that `serialize` made with a compatible engine. The
        // file's digest shows that it is, byte for byte, what `put` wrote; it stands in a directory
        // named by the engine's compatibility hash, which `open` found to be ours alone; and
        // wasmtime itself refuses code of another version or other settings.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.ok()
    }

    /// Keeps compiled code. A failure costs a compilation next time and nothing else.
    pub fn put(&self, hash: ComponentHash, code: &Component) {
        let written = code.serialize().map_err(io::Error::other).and_then(|mut bytes| {
            let digest = blake3::hash(&bytes);
            bytes.extend_from_slice(digest.as_bytes());
            let write = WRITES.fetch_add(1, Ordering::Relaxed);
            let part = self.dir.join(format!("{hash}.{}-{write}.part", std::process::id()));
            fs::write(&part, &bytes)?;
            fs::rename(&part, self.file(hash))
        });
        if let Err(error) = written {
            tracing::warn!(%error, component = %hash.short(), "compiled code cannot be cached");
        }
    }
}

/// Refuses a directory that somebody else could write to.
fn private(dir: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(dir)?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && ours && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} must be a directory of this user with mode 0700", dir.display()),
    ))
}
