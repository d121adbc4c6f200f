//! Compiled code on disk, so that a component is compiled once.
//!
//! Compiled code is machine code that is trusted when it is loaded. So the directory is private
//! (mode 0700, made by `record::state_dir`), lies under the engine's compatibility hash, and each
//! file carries a digest over the component's hash, what an instance costs, and the code: a torn write, or the file of
//! another component, is seen and compiled anew. What this does not defend against is a process of the same user that
//! writes there on purpose: such a process could as well write into the host itself.

mod prune;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiler::{self, Artifact, Bans};
use crate::base::ComponentHash;

/// The end of a file: what an instance costs, then the digest.
const COST_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;

const COMPILED: &str = "cwasm";

/// Numbers what is written: two hosts of one process do not write into one file.
static WRITES: AtomicU64 = AtomicU64::new(0);

pub(super) struct Cache {
    dir: PathBuf,
    pub bans: Bans,
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
        let bans = Bans::open(&dir)?;
        Ok(Cache { dir, bans })
    }

    fn file(&self, hash: ComponentHash) -> PathBuf {
        self.dir.join(format!("{hash}.{COMPILED}"))
    }

    /// The compiled component, what an instance of it costs, and what it takes while it is loaded, or `None` where there is none that can be used.
    pub fn get(&self, engine: &Engine, hash: ComponentHash) -> Option<(Component, u64, u64)> {
        let file = self.file(hash);
        let bytes = fs::read(&file).ok()?;
        let Some((code, cost)) = whole(&bytes, hash) else {
            let _ = fs::remove_file(&file);
            return None;
        };
        // SAFETY: the file's digest shows that it is, byte for byte, what `put` wrote for this component, which the
        // compiler made; it stands in a directory named by the engine's compatibility hash, which `open` found to be
        // ours alone; and wasmtime itself refuses code of another version or other settings.
        #[allow(unsafe_code)]
        let component = unsafe { compiler::load(engine, code) };
        let unpacked = compiler::unpacked_bytes(code);
        component.ok().map(|component| (component, cost, unpacked))
    }

    /// Keeps what the compiler made. A failure costs a compilation next time and nothing else.
    pub fn put(&self, hash: ComponentHash, artifact: &Artifact) {
        let cost = artifact.instance_bytes.to_le_bytes();
        let digest = digest(hash, cost, &artifact.code);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        let part = self.dir.join(format!("{hash}.{}-{write}.part", std::process::id()));
        let written = fs::File::create(&part).and_then(|mut file| {
            use io::Write;
            file.write_all(&artifact.code)?;
            file.write_all(&cost)?;
            file.write_all(digest.as_bytes())?;
            fs::rename(&part, self.file(hash))
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            tracing::warn!(%error, component = %hash.short(), "compiled code cannot be cached");
        }
    }
}

/// Code and cost, if the file is what was written for this component.
fn whole(bytes: &[u8], hash: ComponentHash) -> Option<(&[u8], u64)> {
    let (rest, said) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    let (code, cost) = rest.split_at_checked(rest.len().checked_sub(COST_BYTES)?)?;
    let cost: [u8; COST_BYTES] = cost.try_into().ok()?;
    (digest(hash, cost, code).as_bytes() == said).then(|| (code, u64::from_le_bytes(cost)))
}

fn digest(hash: ComponentHash, cost: [u8; COST_BYTES], code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&hash.0).update(&cost).update(code);
    hasher.finalize()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_for_its_own_component_alone_and_whole() {
        let (one, two) = (ComponentHash([1; 32]), ComponentHash([2; 32]));
        let cost = 7_u64.to_le_bytes();
        let mut file = b"code".to_vec();
        file.extend(cost);
        file.extend(digest(one, cost, b"code").as_bytes());
        assert_eq!(whole(&file, one), Some((&b"code"[..], 7)));
        assert_eq!(whole(&file, two), None, "the code of another component");
        for at in 0..file.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert_eq!(whole(&other, one), None, "byte {at}");
            assert_eq!(whole(&file[..at], one), None, "cut at {at}");
        }
    }
}
