//! Between the core's types and columns. Names and words are text, hashes are blobs of 32 bytes,
//! truth is 0 or 1, moments are milliseconds since 1970. This is the only place that knows.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

use super::records::{
    AcceptedSettings, BreakerRecord, DeadLetterRecord, DeadLetterTotals, GrantedRecord, LetterSort, LetterWhy,
    RejectedRecord, RevisionRecord, SettingsOf, SnapshotRecord, TemplateRecord, Verdict, Why, WorkerRecord,
};
use crate::base::{ComponentHash, Incarnation, Name, Payload, RevisionNumber, Snapshot, TimerId, Timestamp};
use crate::record::ledger::{Action, By, LedgerEntry};

/// A core type as a column.
pub(super) struct Column<T>(pub T);

/// A column that holds what Paguro never writes.
#[derive(Debug)]
struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

fn unreadable(what: impl Into<String>) -> FromSqlError {
    FromSqlError::Other(Box::new(Unreadable(what.into())))
}

impl ToSql for Column<&Name> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for Column<Name> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "" => Ok(Column(Name::root())),
            text => Name::parse(text).map(Column).map_err(|error| FromSqlError::Other(Box::new(error))),
        }
    }
}

impl ToSql for Column<ComponentHash> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.0.as_slice().into())
    }
}

impl FromSql for Column<ComponentHash> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(|bytes| Column(ComponentHash(bytes)))
    }
}

/// SQLite's integers are signed. The bits are kept, so every value comes back as it was; values
/// from 2^63 on would sort first, and no counter gets there.
impl ToSql for Column<u64> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.cast_signed().into())
    }
}

impl FromSql for Column<u64> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|number| Column(number.cast_unsigned()))
    }
}

/// A type that is a number inside.
macro_rules! number_column {
    ($($name:ident)*) => {$(
        impl ToSql for Column<$name> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.0.cast_signed().into())
            }
        }

        impl FromSql for Column<$name> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <Column<u64>>::column_result(value).map(|number| Column($name(number.0)))
            }
        }
    )*};
}
number_column!(Timestamp RevisionNumber Incarnation TimerId);

/// A type that is a word.
macro_rules! word_column {
    ($($name:ident)*) => {$(
        impl ToSql for Column<$name> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.as_str().into())
            }
        }

        impl FromSql for Column<$name> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                let unknown = || unreadable(format!(concat!("`{}` is no ", stringify!($name)), word.escape_debug()));
                $name::parse(word).map(Column).ok_or_else(unknown)
            }
        }
    )*};
}
word_column!(Action By Why Verdict LetterSort LetterWhy SettingsOf);

/// The core type in the column called `name`.
pub(super) fn get<T>(row: &Row<'_>, name: &str) -> rusqlite::Result<T>
where
    Column<T>: FromSql,
{
    row.get::<_, Column<T>>(name).map(|column| column.0)
}

fn get_if_any<T>(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<T>>
where
    Column<T>: FromSql,
{
    Ok(row.get::<_, Option<Column<T>>>(name)?.map(|column| column.0))
}

pub(super) fn worker(row: &Row<'_>) -> rusqlite::Result<WorkerRecord> {
    Ok(WorkerRecord {
        name: get(row, "name")?,
        component: get(row, "component")?,
        revision: get(row, "revision")?,
        file: get_if_any(row, "file")?,
        overridden: row.get("overridden")?,
        removed: row.get("removed")?,
        incarnation: get(row, "incarnation")?,
        config: row.get("config")?,
        keyed: row.get("keyed")?,
    })
}

pub(super) fn revision(row: &Row<'_>) -> rusqlite::Result<RevisionRecord> {
    Ok(RevisionRecord {
        number: get(row, "number")?,
        component: get(row, "component")?,
        at: get(row, "at")?,
        why: get(row, "why")?,
        by: get(row, "by")?,
        verdict: get(row, "verdict")?,
        note: row.get("note")?,
    })
}

pub(super) fn snapshot(row: &Row<'_>) -> rusqlite::Result<SnapshotRecord> {
    Ok(SnapshotRecord {
        component: get(row, "component")?,
        revision: get(row, "revision")?,
        snapshot: Snapshot {
            schema: row.get("schema")?,
            media_type: row.get("media_type")?,
            data: row.get::<_, Vec<u8>>("data")?.into(),
        },
        at: get(row, "at")?,
        messages: get(row, "messages")?,
    })
}

pub(super) fn rejection(row: &Row<'_>) -> rusqlite::Result<RejectedRecord> {
    Ok(RejectedRecord { component: get(row, "component")?, at: get(row, "at")?, why: row.get("why")? })
}

pub(super) fn breaker(row: &Row<'_>) -> rusqlite::Result<BreakerRecord> {
    Ok(BreakerRecord { opened_at: get(row, "opened_at")?, until: get(row, "until")?, failures: row.get("failures")? })
}

pub(super) fn ledger_entry(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    Ok(LedgerEntry {
        seq: get(row, "seq")?,
        at: get(row, "at")?,
        worker: get(row, "worker")?,
        action: get(row, "action")?,
        hash: get_if_any(row, "component")?,
        by: get(row, "by")?,
        detail: row.get("detail")?,
        previous: row.get("previous")?,
        digest: row.get("digest")?,
    })
}

pub(super) fn granted(row: &Row<'_>) -> rusqlite::Result<GrantedRecord> {
    Ok(GrantedRecord { path: row.get("path")?, device: get(row, "device")?, inode: get(row, "inode")? })
}

pub(super) fn template(row: &Row<'_>) -> rusqlite::Result<TemplateRecord> {
    Ok(TemplateRecord {
        serving: get(row, "serving")?,
        refused: get_if_any(row, "refused")?,
        before: get_if_any(row, "before")?,
    })
}

pub(super) fn accepted(row: &Row<'_>) -> rusqlite::Result<(Name, AcceptedSettings)> {
    let text: String = row.get("text")?;
    Ok((get(row, "name")?, AcceptedSettings { of: get(row, "kind")?, text: text.into() }))
}

/// Without its body.
pub(super) fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetterRecord> {
    Ok(DeadLetterRecord {
        id: get(row, "id")?,
        at: get(row, "at")?,
        worker: get(row, "worker")?,
        sort: get(row, "sort")?,
        from: get_if_any(row, "sender")?,
        timer: get_if_any(row, "timer")?,
        why: get(row, "why")?,
        reason: row.get("reason")?,
        exit: row.get("exit")?,
        revision: get(row, "revision")?,
        bytes: get(row, "bytes")?,
    })
}

pub(super) fn dead_letter_and_body(row: &Row<'_>) -> rusqlite::Result<(DeadLetterRecord, Payload)> {
    Ok((dead_letter(row)?, row.get::<_, Vec<u8>>("body")?.into()))
}

pub(super) fn dead_letter_totals(row: &Row<'_>) -> rusqlite::Result<DeadLetterTotals> {
    Ok(DeadLetterTotals { letters: get(row, "letters")?, bytes: get(row, "bytes")?, let_go: get(row, "let_go")? })
}
