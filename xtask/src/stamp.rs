//! Whether something must be built again: a hash over all it is made of, kept beside the result.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;

/// The inputs of one build: files and whole directories.
#[derive(Default)]
pub struct Inputs(blake3::Hasher);

impl Inputs {
    /// Adds a file, or every file below a directory. What is not there counts as not there.
    pub fn add(mut self, path: &Path) -> Result<Self> {
        self.walk(path)?;
        Ok(self)
    }

    /// Adds a text, such as a command line.
    pub fn text(mut self, text: &str) -> Self {
        self.0.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        self
    }

    /// The hash, in hex.
    pub fn hash(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }

    fn walk(&mut self, path: &Path) -> Result<()> {
        // What tools leave among the sources.
        const IGNORED: [&str; 3] = ["target", "node_modules", "__pycache__"];
        if path.file_name().is_some_and(|name| IGNORED.iter().any(|ignored| name == *ignored)) {
            return Ok(());
        }
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut children: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
            children.sort();
            return children.iter().try_for_each(|child| self.walk(child));
        }
        if path.exists() {
            let name = path.strip_prefix(paths::root()).unwrap_or(path).to_string_lossy();
            let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.0.update(name.as_bytes()).update(&(content.len() as u64).to_le_bytes());
            self.0.update(&content);
        }
        Ok(())
    }
}

/// Whether `result` exists and was made of inputs with this hash.
pub fn is_fresh(result: &Path, hash: &str) -> bool {
    result.exists() && fs::read_to_string(file(result)).is_ok_and(|stamped| stamped == hash)
}

/// Remembers that `result` was made of inputs with this hash.
pub fn set(result: &Path, hash: &str) -> Result<()> {
    let file = file(result);
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&file, hash).with_context(|| format!("cannot write {}", file.display()))
}

/// Stamps of components are kept apart from them, because `target/guests` is itself a list that tests
/// and people read.
fn file(result: &Path) -> PathBuf {
    let name = result.file_name().unwrap_or_default().to_string_lossy();
    paths::root().join("target/stamps").join(format!("{name}.blake3"))
}
