//! Whether the state directory is still the one that this host opened. One that was removed or replaced is written to in
//! vain: nothing that is acknowledged then outlives the host.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::beside::Beside;
use crate::base::bounds;
use crate::record::{Database, marker};
use crate::runtime::Services;

/// Said where a file of the state is not there any more.
pub(super) const STATE_GONE: &str = "was removed or replaced: nothing that this host saves would be found again";

/// Between two looks: what is said is said within a second.
const PAUSE: Duration = Duration::from_millis(400);

/// Between two notes of how far the ledger has come.
const MARK_PAUSE: Duration = Duration::from_secs(30);

/// A file that must stay where it is.
#[derive(Clone, PartialEq, Eq)]
struct Kept {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Kept {
    fn at(path: PathBuf) -> Option<Kept> {
        let found = fs::symlink_metadata(&path).ok()?;
        Some(Kept { path, device: found.dev(), inode: found.ino() })
    }

    /// Whether it is certain that it is not there any more. That it cannot be looked at just now says nothing.
    fn is_gone(&self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) != (self.device, self.inode),
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }
}

pub(super) struct StateWatch {
    state: PathBuf,
    kept: Vec<Kept>,
    looking: Beside,
}

impl StateWatch {
    /// Of a state directory that this host has just opened.
    pub fn new(state: &Path, database: &Path) -> StateWatch {
        let files = [state.to_path_buf(), state.join("lock"), database.to_path_buf()];
        let kept = files.into_iter().filter_map(Kept::at).collect();
        StateWatch { state: state.to_path_buf(), kept, looking: Beside::default() }
    }

    /// Until the host is broken, which it says where one of its files is gone.
    pub async fn watch(mut self, services: Arc<Services>) {
        let mut marked = services.clock.now();
        loop {
            tokio::time::sleep(PAUSE).await;
            let kept = self.kept.clone();
            let gone = move || kept.into_iter().find(Kept::is_gone);
            // A file system that does not answer is not gone, and the database says so when it is written.
            if let Some(Some(gone)) = self.looking.run(bounds::LOOK_TIME, gone).await {
                let path = gone.path.display();
                let why = format!("{path} {STATE_GONE}");
                return services.broke(&why);
            }
            if services.clock.now().since(marked) >= MARK_PAUSE {
                marked = services.clock.now();
                mark(&self.state, &services.database).await;
            }
        }
    }
}

/// Notes how far the ledger has come.
pub(super) async fn mark(state: &Path, database: &Database) {
    let (state, database) = (state.to_path_buf(), database.clone());
    // What cannot be noted is only missed.
    let _ = crate::record::blocking(move || marker::write(&state, &database)).await;
}
