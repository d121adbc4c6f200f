use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{ErrorCode, ffi};

use crate::base::{HostFault, Name, bounds};

/// Why a request of the database failed. Cloning shares the source: one failed transaction answers
/// many requests.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No room, or the disk does not take what is written. Nothing was changed, and requests that
    /// need less room may still succeed.
    #[error("{} cannot be written: the disk is full or failing, or the size bound of the database is reached", path.display())]
    DiskFull { path: PathBuf, source: Arc<rusqlite::Error> },
    #[error("{} was written by a newer Paguro (its schema is {found}, this one knows {known}); run that version, or start with another state directory", path.display())]
    Newer { found: u32, known: u32, path: PathBuf },
    #[error("{} is not a Paguro database or is corrupted: {why}", path.display())]
    Corrupt { path: PathBuf, why: String },
    /// A change named a worker that has no record.
    #[error("the database has no worker {0}")]
    NoWorker(Name),
    #[error("the database is closed")]
    Closed,
    #[error("{max} requests wait for the database", max = bounds::DATABASE_QUEUE_MAX)]
    QueueFull,
    #[error("{}", path.display())]
    Io { path: PathBuf, source: Arc<io::Error> },
    /// The host's own code panicked over it. Nothing was changed.
    #[error("a fault of the host while the database was written: {fault}")]
    HostFault { fault: Arc<HostFault> },
    #[error("cannot {doing}")]
    Sqlite { doing: &'static str, source: Arc<rusqlite::Error> },
}

impl DatabaseError {
    pub(super) fn io(path: &Path, source: io::Error) -> DatabaseError {
        DatabaseError::Io { path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// What SQLite said, sorted by what one can do about it.
    pub(super) fn sqlite(doing: &'static str, path: &Path, error: rusqlite::Error) -> DatabaseError {
        use rusqlite::Error;
        let path = path.to_path_buf();
        match &error {
            Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..) => {
                DatabaseError::Corrupt { path, why: error.to_string() }
            }
            Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => {
                    DatabaseError::Corrupt { path, why: error.to_string() }
                }
                ErrorCode::DiskFull => DatabaseError::DiskFull { path, source: Arc::new(error) },
                _ if is_failed_write(failure.extended_code) => {
                    DatabaseError::DiskFull { path, source: Arc::new(error) }
                }
                _ => DatabaseError::Sqlite { doing, source: Arc::new(error) },
            },
            _ => DatabaseError::Sqlite { doing, source: Arc::new(error) },
        }
    }

    /// Whether `error` is a reference to a row that is not there.
    pub(super) fn is_missing_reference(error: &rusqlite::Error) -> bool {
        error.sqlite_error().is_some_and(|failure| failure.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
    }
}

/// The I/O errors that a full disk or a used-up quota comes as, beside `SQLITE_FULL`.
fn is_failed_write(extended_code: i32) -> bool {
    matches!(
        extended_code,
        ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_SHMSIZE
            | ffi::SQLITE_IOERR_SHMMAP
    )
}
