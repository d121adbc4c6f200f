//! A small file beside the database that says how far its ledger has come: so a database that was lost, emptied, or
//! replaced by an older copy is noticed.
//!
//! It is written after what it says is durable, and so never ahead of its own database.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::database::{Database, DatabaseError};
use super::ledger::LedgerEntry;
use super::state_dir::StateDir;
use crate::base::ComponentHash;

/// Bytes of it that are read: it has one line.
const BYTES_MAX: u64 = 256;

/// How far a ledger has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    seq: u64,
    digest: ComponentHash,
}

/// Why a database is not taken for the one that was there.
#[derive(Debug, thiserror::Error)]
pub enum OtherDatabase {
    #[error("the database {} is gone or empty, and was in use: {why}", path.display())]
    Lost { path: PathBuf, why: String },
    #[error("the database {} is not the one that was there last: {why}", path.display())]
    Other { path: PathBuf, why: String },
    #[error(transparent)]
    Unreadable(#[from] DatabaseError),
}

/// Before the database is opened, which would make one: whether there should be one.
///
/// # Errors
/// There should, and it is not there or has nothing in it.
pub fn before_opening(state: &StateDir) -> Result<(), OtherDatabase> {
    let path = state.database_path();
    if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let why = if let Some(mark) = read(state) {
        format!("its ledger had {} entries", mark.seq)
    } else if has_components(&state.components()) {
        "the copies of components that it names are there".to_string()
    } else {
        return Ok(());
    };
    Err(OtherDatabase::Lost { path, why })
}

/// Whether the database that was opened has all that the one had which was there last.
pub fn after_opening(state: &StateDir, database: &Database) -> Result<(), OtherDatabase> {
    let Some(mark) = read(state) else { return Ok(()) };
    let other = |why| OtherDatabase::Other { path: state.database_path(), why };
    if database.ledger_trimmed()? >= mark.seq {
        return Ok(());
    }
    match database.ledger(mark.seq - 1, 1)?.first() {
        Some(entry) if entry.seq == mark.seq && entry.digest == mark.digest.0 => Ok(()),
        Some(entry) if entry.seq == mark.seq => Err(other(format!("entry {} of its ledger is another one", mark.seq))),
        _ => Err(other(format!("its ledger does not reach entry {}, which was written", mark.seq))),
    }
}

/// Notes how far the ledger has come.
pub fn write(state: &Path, database: &Database) -> Result<(), OtherDatabase> {
    let Some(last) = database.ledger_last()? else { return Ok(()) };
    let LedgerEntry { seq, digest, .. } = last;
    // A disk that is full now is so for the database too, which says so.
    let _ = put(state, Mark { seq, digest: ComponentHash(digest) });
    Ok(())
}

fn put(state: &Path, mark: Mark) -> io::Result<()> {
    let mut file = tempfile(state)?;
    writeln!(file.1, "ledger {} {}", mark.seq, mark.digest.hex())?;
    file.1.sync_all()?;
    std::fs::rename(file.0, state.join("marker"))
}

fn tempfile(state: &Path) -> io::Result<(PathBuf, std::fs::File)> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = state.join("marker.unfinished");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    Ok((path, file))
}

/// `None` also for one that is damaged: it can only be missed, and it is no proof.
fn read(state: &StateDir) -> Option<Mark> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(state.path().join("marker")).ok()?;
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    let mut words = text.split_whitespace();
    let (Some("ledger"), Some(seq), Some(digest)) = (words.next(), words.next(), words.next()) else { return None };
    let seq = seq.parse().ok().filter(|seq| *seq > 0)?;
    Some(Mark { seq, digest: ComponentHash::from_hex(digest)? })
}

fn has_components(components: &Path) -> bool {
    let entries = std::fs::read_dir(components).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}
