//! Where one run takes place: a directory of workers, what lies beside it, and canaries that nobody may touch.
//!
//! ```text
//! workers/             the tree; workers/.paguro is the host's own
//! outside/             granted to nobody: the canaries
//! shared/ other/ ...   granted, by the kinds that grant
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::http::{Client, Wire};

/// The worker that is no part of it, and must not notice.
pub const NEIGHBOUR: &str = "neighbour";

pub struct Site {
    dir: tempfile::TempDir,
    pub canary: String,
    pub token: String,
    pub tcp: SocketAddr,
    outside: BTreeMap<PathBuf, Vec<u8>>,
}

impl Site {
    pub fn new(seed: u64) -> Site {
        let dir = tempfile::Builder::new().prefix("soak").tempdir().expect("a temporary directory");
        let path = dir.path();
        for below in ["workers", "outside/deeper", "shared", "other", "data"] {
            fs::create_dir_all(path.join(below)).expect("a directory");
        }
        let canary = format!("canary-{seed:016x}");
        for below in ["outside/secret.txt", "outside/deeper/key.pem"] {
            fs::write(path.join(below), format!("{canary} {below}\n")).expect("a file");
        }
        let outside = files_below(&path.join("outside"));
        // Free a moment ago, so very likely free in a moment.
        let tcp = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        Site { canary, token: format!("token-of-the-soak-{seed:x}"), tcp, outside, dir }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn workers(&self) -> PathBuf {
        self.path("workers")
    }

    pub fn state(&self) -> PathBuf {
        self.path("workers/.paguro")
    }

    /// A new connection to the owner's socket.
    pub fn connect(&self) -> std::io::Result<Client> {
        self.wire().map(Client::new)
    }

    pub fn wire(&self) -> std::io::Result<Wire> {
        Wire::unix(&self.state().join("paguro.sock"))
    }

    /// Puts a worker into the tree by renaming, as a careful user does.
    pub fn put(&self, name: &str, component: &[u8]) {
        self.try_put(name, component).expect("a file is put");
    }

    /// The same among hands that move folders about.
    pub fn try_put(&self, name: &str, component: &[u8]) -> std::io::Result<()> {
        let path = self.workers().join(format!("{name}.wasm"));
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let part = self.path(&format!("part-{}", name.replace('/', "-")));
        fs::write(&part, component)?;
        fs::rename(&part, &path)
    }

    /// Writes a file below the tree, such as `keys/supervisor.toml`.
    pub fn write(&self, below: &str, text: &str) {
        let path = self.workers().join(below);
        fs::create_dir_all(path.parent().unwrap_or(&path)).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// What was changed, added or removed where nobody is granted anything.
    pub fn disturbed(&self) -> Vec<String> {
        let now = files_below(&self.path("outside"));
        let all = self.outside.keys().chain(now.keys());
        let mut wrong: Vec<String> = all
            .filter(|path| self.outside.get(*path) != now.get(*path))
            .map(|path| format!("{} was written", path.display()))
            .collect();
        wrong.sort();
        wrong.dedup();
        wrong
    }
}

/// Every file below, by its path; directories and what is not a regular file have no content.
pub fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let content = if kind.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        if kind.is_dir() {
            found.extend(files_below(&path));
        }
        found.insert(path, content);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_outside_is_seen() {
        let site = Site::new(1);
        assert_eq!(site.disturbed(), Vec::<String>::new());
        fs::write(site.path("outside/deeper/new"), "x").unwrap();
        fs::write(site.path("outside/secret.txt"), "x").unwrap();
        let wrong = site.disturbed();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        fs::remove_file(site.path("outside/deeper/key.pem")).unwrap();
        assert_eq!(site.disturbed().len(), 3);
    }
}
