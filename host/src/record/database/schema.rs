//! How the database is laid out, how an older layout becomes the newest, and how connections are
//! set up.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::DatabaseError;

/// Each brings a database from the version that is its index to the next. Never change one that
/// was released; add one.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7];

/// The version this program writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

pub(super) const VERSION_1: &str = "
    CREATE TABLE worker (
        name        TEXT PRIMARY KEY NOT NULL,
        component   BLOB NOT NULL CHECK (length(component) = 32),
        revision    INTEGER NOT NULL,
        file        BLOB CHECK (length(file) = 32),
        overridden  INTEGER NOT NULL,
        removed     INTEGER NOT NULL,
        incarnation INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE revision (
        worker    TEXT NOT NULL REFERENCES worker (name),
        number    INTEGER NOT NULL,
        component BLOB NOT NULL CHECK (length(component) = 32),
        at        INTEGER NOT NULL,
        why       TEXT NOT NULL,
        by        TEXT NOT NULL,
        verdict   TEXT NOT NULL,
        note      TEXT NOT NULL,
        PRIMARY KEY (worker, number)
    ) STRICT, WITHOUT ROWID;

    -- With rowid: large rows do not belong into a B-tree of keys.
    CREATE TABLE snapshot (
        worker     TEXT PRIMARY KEY NOT NULL REFERENCES worker (name),
        component  BLOB NOT NULL CHECK (length(component) = 32),
        revision   INTEGER NOT NULL,
        at         INTEGER NOT NULL,
        messages   INTEGER NOT NULL,
        schema     INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        data       BLOB NOT NULL
    ) STRICT;

    CREATE TABLE rejection (
        worker    TEXT NOT NULL REFERENCES worker (name),
        component BLOB NOT NULL CHECK (length(component) = 32),
        at        INTEGER NOT NULL,
        why       TEXT NOT NULL,
        PRIMARY KEY (worker, component)
    ) STRICT, WITHOUT ROWID;

    -- No reference to worker: the ledger outlives what it is about.
    CREATE TABLE ledger (
        seq       INTEGER PRIMARY KEY NOT NULL,
        at        INTEGER NOT NULL,
        worker    TEXT NOT NULL,
        action    TEXT NOT NULL,
        component BLOB CHECK (length(component) = 32),
        by        TEXT NOT NULL,
        detail    TEXT NOT NULL,
        previous  BLOB NOT NULL CHECK (length(previous) = 32),
        digest    BLOB NOT NULL CHECK (length(digest) = 32)
    ) STRICT;
    CREATE INDEX ledger_by_worker ON ledger (worker, seq);
    CREATE TRIGGER ledger_keeps_entries BEFORE DELETE ON ledger
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER ledger_keeps_content BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
";

const VERSION_2: &str = "
    -- Of a child of a template that was started with a configuration of its own.
    ALTER TABLE worker ADD COLUMN config TEXT;
";

/// Circuit breakers that are not closed.
const VERSION_3: &str = "
    CREATE TABLE breaker (
        worker    TEXT PRIMARY KEY NOT NULL REFERENCES worker (name),
        opened_at INTEGER NOT NULL,
        until     INTEGER NOT NULL,
        failures  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

const VERSION_4: &str = "
    -- No reference to worker: a letter outlives the worker it was for. AUTOINCREMENT: a number is never
    -- used again, not even that of a newest letter that was dropped.
    CREATE TABLE dead_letter (
        id       INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
        at       INTEGER NOT NULL,
        worker   TEXT NOT NULL,
        sort     TEXT NOT NULL,
        sender   TEXT,
        timer    INTEGER,
        why      TEXT NOT NULL,
        reason   TEXT NOT NULL,
        exit     TEXT,
        revision INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,
        body     BLOB NOT NULL
    ) STRICT;
    CREATE INDEX dead_letter_by_worker ON dead_letter (worker, id);

    -- One row, kept by triggers: to count ten thousand letters for each new one would hold up the writer.
    CREATE TABLE dead_letter_total (
        letters INTEGER NOT NULL,
        bytes   INTEGER NOT NULL,
        let_go  INTEGER NOT NULL
    ) STRICT;
    INSERT INTO dead_letter_total VALUES (0, 0, 0);
    CREATE TRIGGER dead_letter_comes AFTER INSERT ON dead_letter BEGIN
        UPDATE dead_letter_total SET letters = letters + 1, bytes = bytes + length(NEW.body);
    END;
    CREATE TRIGGER dead_letter_goes AFTER DELETE ON dead_letter BEGIN
        UPDATE dead_letter_total SET letters = letters - 1, bytes = bytes - length(OLD.body);
    END;
";

const VERSION_5: &str = "
    -- Directories that were given to workers for writing, ever: a symbolic link in one may be a guest's.
    CREATE TABLE granted (
        path   TEXT NOT NULL,
        device INTEGER NOT NULL,
        inode  INTEGER NOT NULL,
        PRIMARY KEY (path, device, inode)
    ) STRICT, WITHOUT ROWID;

    -- Where an operator trimmed the ledger: the last entry that is gone, and its digest, which the next one continues.
    CREATE TABLE ledger_trim (
        seq    INTEGER PRIMARY KEY NOT NULL,
        digest BLOB NOT NULL CHECK (length(digest) = 32)
    ) STRICT;
    CREATE TRIGGER ledger_trim_goes_on BEFORE INSERT ON ledger_trim
        WHEN NEW.seq <= (SELECT coalesce(max(seq), 0) FROM ledger_trim)
            OR NOT EXISTS (SELECT 1 FROM ledger WHERE seq = NEW.seq AND digest = NEW.digest)
        BEGIN SELECT RAISE (ABORT, 'a trim names an entry that is there, with its digest'); END;
    CREATE TRIGGER ledger_trim_keeps_entries BEFORE DELETE ON ledger_trim
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER ledger_trim_keeps_content BEFORE UPDATE ON ledger_trim
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
    DROP TRIGGER ledger_keeps_entries;
    CREATE TRIGGER ledger_keeps_entries BEFORE DELETE ON ledger
        WHEN OLD.seq > (SELECT coalesce(max(seq), 0) FROM ledger_trim)
        BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
";

const VERSION_6: &str = "
    -- Settings files as they were accepted last: a restart goes on with them where a file cannot be. No reference to
    -- worker: supervisors have no row there.
    CREATE TABLE accepted (
        name TEXT PRIMARY KEY NOT NULL,
        kind TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

const VERSION_7: &str = "
    -- A key of a template, which has no file of its own. Of older ones who deployed them tells: the directory deploys files.
    ALTER TABLE worker ADD COLUMN keyed INTEGER NOT NULL DEFAULT 0;
    UPDATE worker SET keyed = 1 WHERE NOT EXISTS
        (SELECT 1 FROM revision WHERE worker = worker.name AND why = 'deployed' AND by = 'directory');

    -- Which component new keys of a template start on, one that was rolled back, and what was before while new keys are
    -- watched. No reference to worker: a template is none.
    CREATE TABLE template (
        name    TEXT PRIMARY KEY NOT NULL,
        serving BLOB NOT NULL CHECK (length(serving) = 32),
        refused BLOB CHECK (length(refused) = 32),
        before  BLOB CHECK (length(before) = 32)
    ) STRICT, WITHOUT ROWID;
";

/// Bytes of a page of the database file.
pub const PAGE_BYTES: u32 = 4_096;

/// How long a connection waits for a lock of another program, such as a backup. Then the request
/// fails.
const BUSY_TIME: Duration = Duration::from_secs(5);

/// Bytes that the write-ahead log keeps after a checkpoint. It grows beyond only while one large
/// group is written.
const WAL_BYTES_KEPT: u64 = 16 << 20;

/// Statements that a connection keeps prepared: more than there are.
const STATEMENTS_MAX: usize = 32;

/// Settings of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Size bound of the database file, in pages of [`PAGE_BYTES`]; `None` for SQLite's own, which
    /// is some terabytes. What does not fit fails with [`DatabaseError::DiskFull`]. A file that is
    /// larger already keeps its size. The write-ahead log beside it is not counted.
    pub page_count_max: Option<u32>,
}

pub(super) fn open_for_writing(path: &Path, options: Options) -> Result<Connection, DatabaseError> {
    refuse_newer(path)?;
    create_private(path).map_err(|error| DatabaseError::io(path, error))?;
    let failed = |error| DatabaseError::sqlite("open the database", path, error);
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    set_up_writing(&connection, options).map_err(failed)?;
    migrate(&mut connection).map_err(|error| DatabaseError::sqlite("bring the database up to date", path, error))?;
    Ok(connection)
}

/// The database must have been opened for writing before.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, DatabaseError> {
    let failed = |error| DatabaseError::sqlite("open the database for reading", path, error);
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    Ok(connection)
}

/// A database in memory, for this connection alone.
pub(super) fn open_nowhere() -> Result<Connection, DatabaseError> {
    let path = Path::new(":memory:");
    let failed = |error| DatabaseError::sqlite("make a database in memory", path, error);
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    migrate(&mut connection).map_err(failed)?;
    Ok(connection)
}

/// Looks at an existing database through a connection that cannot write, not even tidy up when it
/// is closed: the newer program may need the file just as it is.
fn refuse_newer(path: &Path) -> Result<(), DatabaseError> {
    if !path.exists() {
        return Ok(());
    }
    let found = open_for_reading(path)?
        .query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))
        .map_err(|error| DatabaseError::sqlite("read the database's version", path, error))?;
    if found > VERSION {
        return Err(DatabaseError::Newer { found, known: VERSION, path: path.to_path_buf() });
    }
    Ok(())
}

/// SQLite would create the file with the umask's mode, and gives its companions the mode it has.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Plans follow from the statements alone. Else some are made anew for each value that is bound, which took a
    // quarter of the writer's time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(BUSY_TIME)
}

fn set_up_writing(connection: &Connection, options: Options) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    // These answer with the value in force.
    let set = |pragma: String| connection.query_row(&pragma, [], |_| Ok(()));
    set("PRAGMA journal_mode = WAL".to_string())?;
    set(format!("PRAGMA journal_size_limit = {WAL_BYTES_KEPT}"))?;
    if let Some(pages) = options.page_count_max {
        set(format!("PRAGMA max_page_count = {pages}"))?;
    }
    // In WAL mode FULL syncs at each commit; NORMAL would lose the last ones with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// All or nothing: a host that is killed here finds the old layout.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(migration)?;
    }
    if found < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}
