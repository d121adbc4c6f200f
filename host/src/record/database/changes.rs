//! Carries out changes inside the transaction of a group.

use rusqlite::{Connection, params};

use super::records::{
    AcceptedSettings, BreakerRecord, Change, DeadLetterRecord, GrantedRecord, RejectedRecord, RevisionRecord,
    SnapshotRecord, TemplateRecord, WorkerRecord,
};
use super::rows::Column;
use crate::base::{Name, Timestamp, bounds};
use crate::record::book::Book;
use crate::record::ledger::{Action, By, Digest, LedgerEntry, NewLedgerEntry, trimmed_detail};

/// Carries out `change`. `book` is moved along when it is an entry of the ledger.
pub(super) fn apply(connection: &Connection, change: &Change, book: &mut Book) -> rusqlite::Result<()> {
    match change {
        Change::PutWorker(record) => put_worker(connection, record),
        Change::WorkerRemoved(worker) => update(connection, "UPDATE worker SET removed = 1 WHERE name = ?1", worker),
        Change::WorkerDeleted(worker, file) => {
            let sql = "UPDATE worker SET removed = 1, overridden = 1, file = COALESCE(?2, file) WHERE name = ?1";
            connection.prepare_cached(sql)?.execute(params![Column(worker), file.map(Column)])?;
            Ok(())
        }
        Change::WorkerNotDeleted { worker, removed, overridden, file } => {
            let sql = "UPDATE worker SET removed = ?2, overridden = ?3, file = ?4 WHERE name = ?1";
            connection.prepare_cached(sql)?.execute(params![Column(worker), removed, overridden, file.map(Column)])?;
            Ok(())
        }
        Change::FileNoted(worker, file) => {
            let sql = "UPDATE worker SET file = ?2, overridden = 0 WHERE name = ?1 AND removed = 0";
            connection.prepare_cached(sql)?.execute(params![Column(worker), Column(*file)])?;
            Ok(())
        }
        Change::FileGone(worker) => {
            let sql = "UPDATE worker SET file = NULL, overridden = 0 WHERE name = ?1 AND removed = 1";
            update(connection, sql, worker)
        }
        Change::Overridden(worker) => update(connection, "UPDATE worker SET overridden = 1 WHERE name = ?1", worker),
        Change::PutRevision(worker, record) => {
            put_revision(connection, worker, record)?;
            trim_revisions(connection, worker, record)
        }
        Change::PutSnapshot(worker, record) => put_snapshot(connection, worker, record),
        Change::DropSnapshot(worker) => update(connection, "DELETE FROM snapshot WHERE worker = ?1", worker),
        Change::Reject(worker, record) => put_rejection(connection, worker, record),
        Change::ClearRejections(worker) => update(connection, "DELETE FROM rejection WHERE worker = ?1", worker),
        Change::ClearRejectionsBelow(supervisor, component) => {
            // `0` is the character after `/`.
            let sql = "DELETE FROM rejection WHERE worker > ?1 || '/' AND worker < ?1 || '0' AND component = ?2";
            connection.prepare_cached(sql)?.execute((Column(supervisor), Column(*component)))?;
            Ok(())
        }
        Change::PutBreaker(worker, record) => put_breaker(connection, worker, record),
        Change::ClearBreaker(worker) => update(connection, "DELETE FROM breaker WHERE worker = ?1", worker),
        Change::PutDeadLetter(record, body) => {
            put_dead_letter(connection, record, body)?;
            trim_dead_letters(connection)
        }
        Change::DropDeadLetter(id) => {
            connection.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([Column(*id)])?;
            Ok(())
        }
        Change::DropDeadLetters(worker) => update(connection, "DELETE FROM dead_letter WHERE worker = ?1", worker),
        Change::Granted(record) => put_granted(connection, record),
        Change::PutTemplate(name, record) => put_template(connection, name, record),
        Change::DropTemplate(name) => update(connection, "DELETE FROM template WHERE name = ?1", name),
        Change::Accepted(name, settings) => put_accepted(connection, name, settings),
        Change::AcceptedGone(name) => update(connection, "DELETE FROM accepted WHERE name = ?1", name),
        Change::Ledger(new) => put_ledger_entries(connection, &book.take(new)),
        Change::LedgerDue(now) => put_ledger_entries(connection, &book.due(*now)),
        Change::TrimLedger { through, digest, at } => trim_ledger(connection, book, *through, digest, *at),
    }
}

/// The worker that must have a record for `change` to be possible.
pub(super) fn needs_worker(change: &Change) -> Option<&Name> {
    match change {
        Change::PutRevision(name, _)
        | Change::PutSnapshot(name, _)
        | Change::Reject(name, _)
        | Change::PutBreaker(name, _) => Some(name),
        Change::PutWorker(_)
        | Change::WorkerRemoved(_)
        | Change::WorkerDeleted(..)
        | Change::WorkerNotDeleted { .. }
        | Change::FileNoted(..)
        | Change::FileGone(_)
        | Change::Overridden(_)
        | Change::DropSnapshot(_)
        | Change::ClearRejections(_)
        | Change::ClearRejectionsBelow(..)
        | Change::ClearBreaker(_)
        | Change::PutDeadLetter(..)
        | Change::DropDeadLetter(_)
        | Change::DropDeadLetters(_)
        | Change::Granted(_)
        | Change::PutTemplate(..)
        | Change::DropTemplate(_)
        | Change::Accepted(..)
        | Change::AcceptedGone(_)
        | Change::LedgerDue(_)
        | Change::TrimLedger { .. }
        | Change::Ledger(_) => None,
    }
}

fn put_worker(connection: &Connection, record: &WorkerRecord) -> rusqlite::Result<()> {
    // Not INSERT OR REPLACE: that deletes first, and revisions refer to the row.
    let mut statement = connection.prepare_cached(
        "INSERT INTO worker (name, component, revision, file, overridden, removed, incarnation, config, keyed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (name) DO UPDATE SET component = ?2, revision = ?3, file = ?4, overridden = ?5, removed = ?6,
             incarnation = ?7, config = ?8, keyed = ?9",
    )?;
    statement.execute(params![
        Column(&record.name),
        Column(record.component),
        Column(record.revision),
        record.file.map(Column),
        record.overridden,
        record.removed,
        Column(record.incarnation),
        record.config,
        record.keyed,
    ])?;
    Ok(())
}

fn put_revision(connection: &Connection, worker: &Name, record: &RevisionRecord) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO revision (worker, number, component, at, why, by, verdict, note)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (worker, number) DO UPDATE SET component = ?3, at = ?4, why = ?5, by = ?6, verdict = ?7, note = ?8",
    )?;
    statement.execute(params![
        Column(worker),
        Column(record.number),
        Column(record.component),
        Column(record.at),
        Column(record.why),
        Column(record.by),
        Column(record.verdict),
        record.note,
    ])?;
    Ok(())
}

fn trim_revisions(connection: &Connection, worker: &Name, kept: &RevisionRecord) -> rusqlite::Result<()> {
    let max = bounds::REVISIONS_MAX as u64;
    if kept.number.0 <= max {
        // They are numbered from one: there are not so many yet.
        return Ok(());
    }
    // `is_settled`, in SQL: a test holds the two together.
    let mut statement = connection.prepare_cached(
        "DELETE FROM revision WHERE worker = ?1 AND number IN (
             SELECT number FROM revision
             WHERE worker = ?1 AND verdict NOT IN ('rehearsing', 'probation') AND number <> ?2
                 AND number <> (SELECT revision FROM worker WHERE name = ?1)
             ORDER BY number
             LIMIT max(0, (SELECT count(*) FROM revision WHERE worker = ?1) - ?3))",
    )?;
    statement.execute(params![Column(worker), Column(kept.number), Column(max)])?;
    Ok(())
}

fn put_snapshot(connection: &Connection, worker: &Name, record: &SnapshotRecord) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO snapshot (worker, component, revision, at, messages, schema, media_type, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (worker) DO UPDATE SET component = ?2, revision = ?3, at = ?4, messages = ?5, schema = ?6,
             media_type = ?7, data = ?8",
    )?;
    statement.execute(params![
        Column(worker),
        Column(record.component),
        Column(record.revision),
        Column(record.at),
        Column(record.messages),
        record.snapshot.schema,
        record.snapshot.media_type,
        &record.snapshot.data[..],
    ])?;
    Ok(())
}

fn put_rejection(connection: &Connection, worker: &Name, record: &RejectedRecord) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO rejection (worker, component, at, why) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (worker, component) DO UPDATE SET at = ?3, why = ?4",
    )?;
    statement.execute(params![Column(worker), Column(record.component), Column(record.at), record.why])?;
    Ok(())
}

fn put_breaker(connection: &Connection, worker: &Name, record: &BreakerRecord) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO breaker (worker, opened_at, until, failures) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (worker) DO UPDATE SET opened_at = ?2, until = ?3, failures = ?4",
    )?;
    statement.execute(params![Column(worker), Column(record.opened_at), Column(record.until), record.failures,])?;
    Ok(())
}

fn put_dead_letter(connection: &Connection, record: &DeadLetterRecord, body: &[u8]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO dead_letter (id, at, worker, sort, sender, timer, why, reason, exit, revision, bytes, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    statement.execute(params![
        Column(record.id),
        Column(record.at),
        Column(&record.worker),
        Column(record.sort),
        record.from.as_ref().map(Column),
        record.timer.map(Column),
        Column(record.why),
        record.reason,
        record.exit,
        Column(record.revision),
        Column(record.bytes),
        body,
    ])?;
    Ok(())
}

/// Each turn takes the oldest letter out, until both bounds hold.
fn trim_dead_letters(connection: &Connection) -> rusqlite::Result<()> {
    let mut over = connection.prepare_cached("SELECT letters > ?1 OR bytes > ?2 FROM dead_letter_total")?;
    let (letters, bytes) = (bounds::DEAD_LETTERS_MAX as u64, bounds::DEAD_LETTERS_BYTES_MAX);
    while over.query_row([Column(letters), Column(bytes)], |row| row.get(0))? {
        let oldest = "DELETE FROM dead_letter WHERE id = (SELECT min(id) FROM dead_letter)";
        connection.prepare_cached(oldest)?.execute([])?;
        connection.prepare_cached("UPDATE dead_letter_total SET let_go = let_go + 1")?.execute([])?;
    }
    Ok(())
}

fn put_granted(connection: &Connection, record: &GrantedRecord) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO granted (path, device, inode) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![record.path, Column(record.device), Column(record.inode)])?;
    Ok(())
}

fn put_template(connection: &Connection, name: &Name, record: &TemplateRecord) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO template (name, serving, refused, before) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![
        Column(name),
        Column(record.serving),
        record.refused.map(Column),
        record.before.map(Column)
    ])?;
    Ok(())
}

fn put_accepted(connection: &Connection, name: &Name, settings: &AcceptedSettings) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO accepted (name, kind, text) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![Column(name), Column(settings.of), &*settings.text])?;
    Ok(())
}

fn put_ledger_entries(connection: &Connection, entries: &[LedgerEntry]) -> rusqlite::Result<()> {
    entries.iter().try_for_each(|entry| put_ledger_entry(connection, entry))
}

/// Triggers hold that the entry is there with its digest, and that nothing else is ever removed.
fn trim_ledger(
    connection: &Connection,
    book: &mut Book,
    through: u64,
    digest: &Digest,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO ledger_trim (seq, digest) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![Column(through), &digest[..]])?;
    connection.prepare_cached("DELETE FROM ledger WHERE seq <= ?1")?.execute([Column(through)])?;
    let (worker, action, by) = (Name::root(), Action::LedgerTrimmed, By::Operator);
    let detail = trimmed_detail(through, digest);
    put_ledger_entries(connection, &book.take(&NewLedgerEntry { at, worker, action, hash: None, by, detail }))
}

fn put_ledger_entry(connection: &Connection, entry: &LedgerEntry) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO ledger (seq, at, worker, action, component, by, detail, previous, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    statement.execute(params![
        Column(entry.seq),
        Column(entry.at),
        Column(&entry.worker),
        Column(entry.action),
        entry.hash.map(Column),
        Column(entry.by),
        entry.detail,
        &entry.previous[..],
        &entry.digest[..],
    ])?;
    Ok(())
}

fn update(connection: &Connection, sql: &str, worker: &Name) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([Column(worker)])?;
    Ok(())
}
