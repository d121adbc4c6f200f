//! Compiled code goes with the component that it was made of.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::Cache;
use crate::base::ComponentHash;

impl Cache {
    /// Removes compiled code of every component that is not in `kept`, of this engine and of those before it, and what
    /// a host that was killed left half-written. For the host's start: what is written meanwhile could be removed, which
    /// costs a compilation. Files with other names are left alone.
    pub fn retain(&self, kept: &BTreeSet<ComponentHash>) {
        let engines = self.dir.parent().map(entries).unwrap_or_default();
        for engine in engines.iter().filter(|path| path.is_dir() && !path.is_symlink()) {
            for file in entries(engine) {
                // Bans of another engine say nothing of this one.
                let is_others = *engine != self.dir && file.extension().is_some_and(|kind| kind == "banned");
                if is_others || !is_kept(&file, kept) {
                    removed(fs::remove_file(&file), &file);
                }
            }
            if *engine != self.dir {
                // One that still has something in it stays.
                let _ = fs::remove_dir(engine);
            }
        }
    }

    /// Whether there is compiled code of it.
    pub fn has(&self, hash: ComponentHash) -> bool {
        self.file(hash).is_file()
    }

    pub fn remove(&self, hash: ComponentHash) {
        let file = self.file(hash);
        removed(fs::remove_file(&file), &file);
    }
}

/// `HASH.cwasm` and `HASH.PROCESS-NUMBER.part` are ours.
fn is_kept(file: &Path, kept: &BTreeSet<ComponentHash>) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((stem, rest)) = name.split_once('.') else { return true };
    let Some(hash) = ComponentHash::from_hex(stem) else { return true };
    match rest.rsplit('.').next() {
        Some("part") => false,
        Some("cwasm") => kept.contains(&hash),
        _ => true,
    }
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir).map(|found| found.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// What cannot be removed takes room and does no harm.
fn removed(removed: io::Result<()>, file: &Path) {
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "compiled code cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::compiler::Bans;

    #[test]
    fn code_of_components_that_are_gone_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (this, before) = (dir.path().join("00ff"), dir.path().join("00aa"));
        let (used, gone) = (ComponentHash::of(b"used"), ComponentHash::of(b"gone"));
        for engine in [&this, &before] {
            fs::create_dir(engine).unwrap();
            for hash in [used, gone] {
                fs::write(engine.join(format!("{hash}.cwasm")), "code").unwrap();
            }
        }
        fs::write(this.join(format!("{used}.17-0.part")), "half").unwrap();
        fs::write(this.join("README"), "mine").unwrap();
        let cache = Cache { dir: this.clone(), bans: Bans::open(&this).unwrap() };
        cache.retain(&BTreeSet::from([used]));
        assert!(cache.has(used) && !cache.has(gone) && this.join("README").exists());
        assert_eq!(entries(&this).len(), 2);
        assert_eq!(entries(&before), [before.join(format!("{used}.cwasm"))]);
        cache.retain(&BTreeSet::new());
        assert!(!before.exists(), "an older engine's directory goes with the last of it");
        cache.remove(used);
    }
}
