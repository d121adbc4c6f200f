//! Reads, through a connection of their own: in WAL mode they neither wait for the writer nor hold
//! it up, and see what is committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::error::DatabaseError;
use super::records::{
    AcceptedSettings, BreakerRecord, DeadLetterRecord, DeadLetterTotals, GrantedRecord, LetterSort, LetterWhy,
    RejectedRecord, RevisionRecord, SnapshotRecord, TemplateRecord, WorkerRecord,
};
use super::rows::{self, Column};
use super::schema;
use crate::base::{ComponentHash, Name, Payload, RevisionNumber, bounds};
use crate::record::ledger::{Action, Head, LedgerBroken, LedgerEntry, trimmed_detail};

pub(super) struct Reader {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(path: &Path) -> Result<Reader, DatabaseError> {
        Ok(Reader { connection: Mutex::new(schema::open_for_reading(path)?), path: path.to_path_buf() })
    }

    /// Of a database that has its tables, and nothing in them.
    pub(super) fn of_nothing() -> Result<Reader, DatabaseError> {
        let (connection, path) = (Mutex::new(schema::open_nowhere()?), PathBuf::from(":memory:"));
        Ok(Reader { connection, path })
    }

    pub(super) fn workers(&self) -> Result<Vec<WorkerRecord>, DatabaseError> {
        self.all("SELECT * FROM worker ORDER BY name", [], rows::worker)
    }

    pub(super) fn worker(&self, name: &Name) -> Result<Option<WorkerRecord>, DatabaseError> {
        self.one("SELECT * FROM worker WHERE name = ?1", [Column(name)], rows::worker)
    }

    pub(super) fn workers_unsettled(&self) -> Result<Vec<WorkerRecord>, DatabaseError> {
        // `is_settled`, in SQL.
        let sql = "SELECT * FROM worker WHERE name IN (
                       SELECT worker FROM revision WHERE verdict IN ('rehearsing', 'probation')) ORDER BY name";
        self.all(sql, [], rows::worker)
    }

    pub(super) fn workers_deleted(&self) -> Result<Vec<WorkerRecord>, DatabaseError> {
        let sql = "SELECT * FROM worker WHERE removed = 1 AND overridden = 1 AND file IS NOT NULL ORDER BY name";
        self.all(sql, [], rows::worker)
    }

    pub(super) fn workers_below(&self, supervisor: &Name) -> Result<Vec<WorkerRecord>, DatabaseError> {
        // `0` is the character after `/`.
        let sql = "SELECT * FROM worker WHERE name > ?1 || '/' AND name < ?1 || '0' AND removed = 0 ORDER BY name";
        self.all(sql, [Column(supervisor)], rows::worker)
    }

    pub(super) fn revisions(&self, name: &Name) -> Result<Vec<RevisionRecord>, DatabaseError> {
        self.all("SELECT * FROM revision WHERE worker = ?1 ORDER BY number", [Column(name)], rows::revision)
    }

    pub(super) fn snapshot(&self, name: &Name) -> Result<Option<SnapshotRecord>, DatabaseError> {
        self.one("SELECT * FROM snapshot WHERE worker = ?1", [Column(name)], rows::snapshot)
    }

    pub(super) fn rejections(&self, name: &Name) -> Result<Vec<RejectedRecord>, DatabaseError> {
        let sql = "SELECT * FROM rejection WHERE worker = ?1 ORDER BY at, component";
        self.all(sql, [Column(name)], rows::rejection)
    }

    pub(super) fn breaker(&self, name: &Name) -> Result<Option<BreakerRecord>, DatabaseError> {
        self.one("SELECT * FROM breaker WHERE worker = ?1", [Column(name)], rows::breaker)
    }

    pub(super) fn granted(&self, limit: usize) -> Result<Vec<GrantedRecord>, DatabaseError> {
        let sql = "SELECT * FROM granted ORDER BY path, device, inode LIMIT ?1";
        self.all(sql, [Column(row_limit(limit))], rows::granted)
    }

    pub(super) fn template(&self, name: &Name) -> Result<Option<TemplateRecord>, DatabaseError> {
        self.one("SELECT * FROM template WHERE name = ?1", [Column(name)], rows::template)
    }

    /// Whether a key below this supervisor is on this component, or has a state that it saved.
    pub(super) fn is_used_below(&self, supervisor: &Name, component: ComponentHash) -> Result<bool, DatabaseError> {
        let below = "> ?1 || '/'";
        let sql = format!(
            "SELECT component FROM snapshot WHERE worker {below} AND worker < ?1 || '0' AND component = ?2
             UNION ALL SELECT component FROM worker
                 WHERE name {below} AND name < ?1 || '0' AND component = ?2 AND keyed = 1 AND removed = 0
             LIMIT 1"
        );
        let found: Option<ComponentHash> =
            self.one(&sql, (Column(supervisor), Column(component)), |row| rows::get(row, "component"))?;
        Ok(found.is_some())
    }

    pub(super) fn accepted(&self) -> Result<Vec<(Name, AcceptedSettings)>, DatabaseError> {
        self.all("SELECT * FROM accepted ORDER BY name", [], rows::accepted)
    }

    pub(super) fn ledger(&self, after_seq: u64, limit: usize) -> Result<Vec<LedgerEntry>, DatabaseError> {
        let sql = "SELECT * FROM ledger WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        // More than can be counted: nothing comes after it.
        let after = after_seq.min(i64::MAX as u64);
        self.all(sql, (Column(after), Column(row_limit(limit))), rows::ledger_entry)
    }

    pub(super) fn ledger_for(&self, name: &Name, limit: usize) -> Result<Vec<LedgerEntry>, DatabaseError> {
        let sql = "SELECT * FROM (SELECT * FROM ledger WHERE worker = ?1 ORDER BY seq DESC LIMIT ?2) ORDER BY seq";
        self.all(sql, (Column(name), Column(row_limit(limit))), rows::ledger_entry)
    }

    pub(super) fn ledger_last(&self) -> Result<Option<LedgerEntry>, DatabaseError> {
        self.one("SELECT * FROM ledger ORDER BY seq DESC LIMIT 1", [], rows::ledger_entry)
    }

    /// What the first entry continues.
    pub(super) fn ledger_start(&self) -> Result<Head, DatabaseError> {
        let sql = "SELECT seq, digest FROM ledger_trim ORDER BY seq DESC LIMIT 1";
        let head = |row: &Row<'_>| Ok(Head { seq: rows::get(row, "seq")?, digest: row.get("digest")? });
        Ok(self.one(sql, [], head)?.unwrap_or(Head::EMPTY))
    }

    /// Whether an entry of the chain says what it was trimmed to.
    fn trim_is_told(&self, start: Head) -> Result<bool, DatabaseError> {
        if start == Head::EMPTY {
            return Ok(true);
        }
        let sql = "SELECT count(*) AS told FROM ledger WHERE action = ?1 AND detail = ?2";
        let told = (Column(Action::LedgerTrimmed), trimmed_detail(start.seq, &start.digest));
        let told = self.one(sql, told, |row| rows::get::<u64>(row, "told"))?;
        Ok(told.is_some_and(|told| told > 0))
    }

    pub(super) fn verify_ledger(&self) -> Result<u64, LedgerBroken> {
        loop {
            let begun = self.ledger_start();
            match self.verify_once() {
                // It was trimmed meanwhile, which an operator seldom does.
                Err(_) if matches!((begun, self.ledger_start()), (Ok(begun), Ok(now)) if begun != now) => {}
                verified => return verified,
            }
        }
    }

    fn verify_once(&self) -> Result<u64, LedgerBroken> {
        let start = self.ledger_start().and_then(|start| Ok((start, self.trim_is_told(start)?)));
        let (start, is_told) = start
            .map_err(|error| LedgerBroken { seq: 1, why: format!("where it was trimmed cannot be read: {error}") })?;
        if !is_told {
            let why = "the entries before it are gone, and no entry says so".to_string();
            return Err(LedgerBroken { seq: start.seq + 1, why });
        }
        let mut head = start;
        loop {
            // By pages, so that a long ledger is neither held in memory nor in the way of others.
            let page = self.ledger(head.seq, bounds::PAGE_ROWS_MAX).map_err(|error| LedgerBroken {
                seq: head.seq + 1,
                why: format!("it, or one soon after, cannot be read: {error}"),
            })?;
            if page.is_empty() {
                return Ok(head.seq - start.seq);
            }
            for entry in &page {
                head.follow(entry)?;
            }
        }
    }

    pub(super) fn components_in_use(&self) -> Result<BTreeSet<ComponentHash>, DatabaseError> {
        let sql = "SELECT component FROM worker UNION SELECT component FROM revision
                   UNION SELECT component FROM snapshot UNION SELECT serving FROM template
                   UNION SELECT before FROM template WHERE before IS NOT NULL";
        Ok(self.all(sql, [], |row| rows::get(row, "component"))?.into_iter().collect())
    }

    pub(super) fn dead_letters(
        &self,
        worker: Option<&Name>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, DatabaseError> {
        // The bodies stay on disk. More than can be counted: everything comes before it.
        let before = Column(before.unwrap_or(u64::MAX).min(i64::MAX as u64));
        let limit = Column(row_limit(limit));
        let columns = "id, at, worker, sort, sender, timer, why, reason, exit, revision, bytes";
        match worker {
            Some(worker) => {
                let sql = format!(
                    "SELECT {columns} FROM dead_letter WHERE worker = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
                );
                self.all(&sql, (Column(worker), before, limit), rows::dead_letter)
            }
            None => {
                let sql = format!("SELECT {columns} FROM dead_letter WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
                self.all(&sql, (before, limit), rows::dead_letter)
            }
        }
    }

    pub(super) fn dead_letter(&self, id: u64) -> Result<Option<(DeadLetterRecord, Payload)>, DatabaseError> {
        self.one("SELECT * FROM dead_letter WHERE id = ?1", [Column(id)], rows::dead_letter_and_body)
    }

    pub(super) fn is_poison(
        &self,
        letter: &DeadLetterRecord,
        body: &Payload,
        revision: RevisionNumber,
    ) -> Result<bool, DatabaseError> {
        // What a call brought and what a cast brought is the same content; a timer's is another.
        let sql = "SELECT 1 AS found FROM dead_letter WHERE worker = ?1 AND why = ?2 AND revision = ?3
                   AND sort <> ?4 AND (sort = ?5) = (?6 = ?5) AND body = ?7 LIMIT 1";
        let params = (
            Column(&letter.worker),
            Column(LetterWhy::Poison),
            Column(revision),
            Column(LetterSort::Down),
            Column(LetterSort::Timer),
            Column(letter.sort),
            &body[..],
        );
        Ok(self.one(sql, params, |row| rows::get::<u64>(row, "found"))?.is_some())
    }

    pub(super) fn dead_letter_count(&self, worker: &Name) -> Result<u64, DatabaseError> {
        let sql = "SELECT count(*) AS letters FROM dead_letter WHERE worker = ?1";
        Ok(self.one(sql, [Column(worker)], |row| rows::get(row, "letters"))?.unwrap_or(0))
    }

    pub(super) fn dead_letter_totals(&self) -> Result<DeadLetterTotals, DatabaseError> {
        Ok(self.one("SELECT * FROM dead_letter_total", [], rows::dead_letter_totals)?.unwrap_or_default())
    }

    /// The number of the newest letter that there ever was.
    pub(super) fn dead_letter_last(&self) -> Result<u64, DatabaseError> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'dead_letter'";
        Ok(self.one(sql, [], |row| rows::get(row, "seq"))?.unwrap_or(0))
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, DatabaseError> {
        self.read(|connection| connection.prepare_cached(sql)?.query_map(params, row)?.collect())
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, DatabaseError> {
        self.read(|connection| connection.prepare_cached(sql)?.query_row(params, row).optional())
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DatabaseError> {
        // A panic while it was held left the connection as it was: reads change nothing.
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        read(&connection).map_err(|error| DatabaseError::sqlite("read from the database", &self.path, error))
    }
}

/// A negative limit would be none.
fn row_limit(limit: usize) -> u64 {
    (limit as u64).min(i64::MAX as u64)
}
