use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::schema::{MIGRATIONS, VERSION, VERSION_1, open_for_writing};
use super::*;
use crate::base::{Incarnation, RevisionNumber, Snapshot, TimerId, Timestamp};
use crate::record::ledger::{Action, By, Digest, NewLedgerEntry};

/// A directory with a database in it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("paguro.db")
    }

    fn open(&self) -> Database {
        Database::open(&self.path(), Clock::manual()).unwrap()
    }

    /// A writer without its thread: the test says what is in a group.
    fn writer(&self, options: Options) -> Writer {
        let connection = open_for_writing(&self.path(), options).unwrap();
        Writer::new(connection, &self.path(), Head::EMPTY, Clock::manual(), Arc::default(), Arc::default())
    }

    /// What someone with a database tool does.
    fn tamper(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn hash(text: &str) -> ComponentHash {
    ComponentHash::of(text.as_bytes())
}

fn worker(text: &str) -> WorkerRecord {
    WorkerRecord {
        name: name(text),
        component: hash("v1"),
        revision: RevisionNumber(1),
        file: None,
        overridden: false,
        removed: false,
        incarnation: Incarnation(0),
        config: None,
        keyed: false,
    }
}

fn revision(number: u64, verdict: Verdict) -> RevisionRecord {
    RevisionRecord {
        number: RevisionNumber(number),
        component: hash(&format!("v{number}")),
        at: Timestamp(number),
        why: Why::Upgrade,
        by: By::Directory,
        verdict,
        note: String::new(),
    }
}

fn snapshot(bytes: usize) -> SnapshotRecord {
    let snapshot = Snapshot { schema: 3, media_type: "application/json".into(), data: vec![b'1'; bytes].into() };
    SnapshotRecord { component: hash("v1"), revision: RevisionNumber(1), snapshot, at: Timestamp(5), messages: 9 }
}

fn decision(detail: impl Into<String>) -> Change {
    Change::Ledger(NewLedgerEntry {
        at: Timestamp(1),
        worker: Name::root(),
        action: Action::HostStarted,
        hash: None,
        by: By::Host,
        detail: detail.into(),
    })
}

fn details(database: &Database) -> Vec<String> {
    database.ledger(0, usize::MAX).unwrap().into_iter().map(|entry| entry.detail).collect()
}

#[tokio::test]
async fn everything_comes_back_as_it_was() {
    let place = Place::new();
    let greeter = WorkerRecord {
        file: Some(hash("file")),
        overridden: true,
        removed: true,
        incarnation: Incarnation(u64::MAX),
        config: Some("{\"a\":1}".into()),
        ..worker("billing/büro")
    };
    let mut revisions: Vec<_> = (1..).zip(Verdict::ALL).map(|(number, verdict)| revision(number, *verdict)).collect();
    for (record, why) in revisions.iter_mut().zip(Why::ALL) {
        record.why = *why;
        record.note = "it's \"said\"\n".into();
    }
    let rejected = RejectedRecord { component: hash("bad"), at: Timestamp(7), why: "trap: unreachable".into() };

    let database = place.open();
    let mut changes = vec![Change::PutWorker(worker("other")), Change::PutWorker(greeter.clone())];
    changes.extend(revisions.iter().map(|record| Change::PutRevision(greeter.name.clone(), record.clone())));
    changes.push(Change::PutSnapshot(greeter.name.clone(), snapshot(100_000)));
    changes.push(Change::Reject(greeter.name.clone(), rejected.clone()));
    let breaker = BreakerRecord { opened_at: Timestamp(8), until: Timestamp(9), failures: u32::MAX };
    changes.push(Change::PutBreaker(greeter.name.clone(), BreakerRecord { failures: 1, ..breaker }));
    changes.push(Change::PutBreaker(greeter.name.clone(), breaker));
    database.commit(changes).await.unwrap();
    database.close().await;
    drop(database);

    let database = place.open();
    assert_eq!(database.workers().unwrap(), [greeter.clone(), worker("other")]);
    assert_eq!(database.worker(&greeter.name).unwrap(), Some(greeter.clone()));
    assert_eq!(database.worker(&name("nobody")).unwrap(), None);
    assert_eq!(database.revisions(&greeter.name).unwrap(), revisions);
    assert_eq!(database.snapshot(&greeter.name).unwrap(), Some(snapshot(100_000)));
    assert_eq!(database.rejections(&greeter.name).unwrap(), [rejected]);
    assert_eq!(database.breaker(&greeter.name).unwrap(), Some(breaker));
    assert_eq!(database.breaker(&name("other")).unwrap(), None);
    let used = database.components_in_use().unwrap();
    assert_eq!(used, (1..=7).map(|number| hash(&format!("v{number}"))).collect());

    let (drop_snapshot, clear) =
        (Change::DropSnapshot(greeter.name.clone()), Change::ClearRejections(greeter.name.clone()));
    let close = Change::ClearBreaker(greeter.name.clone());
    database.commit(vec![drop_snapshot, clear, close]).await.unwrap();
    assert_eq!(database.breaker(&greeter.name).unwrap(), None);
    assert_eq!(database.snapshot(&greeter.name).unwrap(), None);
    assert_eq!(database.rejections(&greeter.name).unwrap(), []);
}

#[tokio::test]
async fn what_was_rejected_below_a_supervisor_is_forgotten_for_one_component() {
    let place = Place::new();
    let database = place.open();
    let rejected = |text| RejectedRecord { component: hash(text), at: Timestamp(7), why: "trap".into() };
    let mut changes = Vec::new();
    for key in ["t/1", "t/2", "t2/1", "t"] {
        changes.push(Change::PutWorker(worker(key)));
        changes.extend(["a", "b"].map(|text| Change::Reject(name(key), rejected(text))));
    }
    changes.push(Change::ClearRejectionsBelow(name("t"), hash("a")));
    database.commit(changes).await.unwrap();
    for (key, left) in [("t/1", 1), ("t/2", 1), ("t2/1", 2), ("t", 2)] {
        assert_eq!(database.rejections(&name(key)).unwrap().len(), left, "{key}");
    }
    assert_eq!(database.rejections(&name("t/1")).unwrap(), [rejected("b")]);
}

#[tokio::test]
async fn putting_again_replaces() {
    let place = Place::new();
    let database = place.open();
    let a = name("a");
    let changed = WorkerRecord { revision: RevisionNumber(2), ..worker("a") };
    database
        .commit(vec![Change::PutWorker(worker("a")), Change::PutRevision(a.clone(), revision(1, Verdict::Probation))])
        .await
        .unwrap();
    let changes = vec![
        Change::PutWorker(changed.clone()),
        Change::PutRevision(a.clone(), revision(1, Verdict::Committed)),
        Change::PutSnapshot(a.clone(), snapshot(10)),
        Change::PutSnapshot(a.clone(), snapshot(20)),
    ];
    database.commit(changes).await.unwrap();
    assert_eq!(database.workers().unwrap(), [changed]);
    assert_eq!(database.revisions(&a).unwrap(), [revision(1, Verdict::Committed)]);
    assert_eq!(database.snapshot(&a).unwrap(), Some(snapshot(20)));
}

/// The keeper of the directory notes a file between an operator's deletion and the next look: one that
/// was deleted stays deleted.
#[tokio::test]
async fn a_note_about_a_file_does_not_undo_a_deletion() {
    let place = Place::new();
    let database = place.open();
    let (a, file) = (name("a"), hash("file"));
    let known = || database.worker(&a).unwrap().unwrap();
    let put = WorkerRecord { file: Some(file), ..worker("a") };
    let deleted = WorkerRecord { removed: true, overridden: true, ..put.clone() };
    database.commit(vec![Change::PutWorker(put.clone())]).await.unwrap();
    database.commit(vec![Change::FileGone(a.clone())]).await.unwrap();
    assert_eq!(known(), put, "it is there, and so is its file");
    database.commit(vec![Change::WorkerDeleted(a.clone(), None)]).await.unwrap();
    assert_eq!(known(), deleted);
    assert_eq!(database.workers_deleted().unwrap(), std::slice::from_ref(&deleted));
    database.commit(vec![Change::FileNoted(a.clone(), hash("another"))]).await.unwrap();
    assert_eq!(known(), deleted);
    database.commit(vec![Change::FileGone(a.clone())]).await.unwrap();
    assert_eq!(known(), WorkerRecord { removed: true, file: None, overridden: false, ..put.clone() });
    assert_eq!(database.workers_deleted().unwrap(), []);
    database.commit(vec![Change::WorkerDeleted(a.clone(), Some(file))]).await.unwrap();
    assert_eq!(known(), deleted, "the file that was seen");
    database
        .commit(vec![Change::WorkerNotDeleted { worker: a.clone(), removed: false, overridden: false, file: None }])
        .await
        .unwrap();
    database.commit(vec![Change::Overridden(a.clone())]).await.unwrap();
    assert_eq!(known(), WorkerRecord { file: None, overridden: true, ..put.clone() });
    database.commit(vec![Change::FileNoted(a.clone(), file)]).await.unwrap();
    assert_eq!(known(), put);
}

/// The files of an open database are copied, as a kill would leave them.
#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    let (place, after) = (Place::new(), Place::new());
    let database = place.open();
    for n in 0..50 {
        database.commit(vec![decision(n.to_string()), Change::PutWorker(worker("a"))]).await.unwrap();
    }
    for file in ["paguro.db", "paguro.db-wal"] {
        std::fs::copy(place.0.path().join(file), after.0.path().join(file)).unwrap();
    }
    let reopened = after.open();
    assert_eq!(reopened.verify_ledger(), Ok(50));
    assert_eq!(reopened.worker(&name("a")).unwrap(), Some(worker("a")));
}

/// A power cut may tear the last transaction: what was committed before it stays, of itself nothing
/// does.
#[tokio::test]
async fn a_torn_transaction_leaves_nothing() {
    let (place, after) = (Place::new(), Place::new());
    let database = place.open();
    database.commit(vec![decision("whole")]).await.unwrap();
    let wal = place.0.path().join("paguro.db-wal");
    let whole = std::fs::metadata(&wal).unwrap().len() as usize;
    database
        .commit(vec![
            Change::PutWorker(worker("a")),
            Change::PutSnapshot(name("a"), snapshot(50_000)),
            decision("torn"),
        ])
        .await
        .unwrap();
    let bytes = std::fs::read(&wal).unwrap();
    for length in [whole + 1, whole + 10_000, bytes.len() - 1] {
        std::fs::copy(place.path(), after.path()).unwrap();
        std::fs::write(after.0.path().join("paguro.db-wal"), &bytes[..length]).unwrap();
        let reopened = after.open();
        assert_eq!(details(&reopened), ["whole"], "{length}");
        assert_eq!(reopened.workers().unwrap(), [], "{length}");
        drop(reopened);
    }
}

#[tokio::test]
async fn dropping_the_last_handle_writes_what_is_queued() {
    let place = Place::new();
    let database = place.open();
    for n in 0..300 {
        drop(database.submit(vec![decision(n.to_string())]).unwrap());
    }
    drop(database);
    assert_eq!(place.open().verify_ledger(), Ok(300));
}

#[tokio::test]
async fn order_is_kept_whoever_waits() {
    let place = Place::new();
    let database = place.open();
    let mut pending = Vec::new();
    for n in 0..400 {
        pending.push(database.submit(vec![decision(format!("{n}a")), decision(format!("{n}b"))]).unwrap());
    }
    database.commit(vec![]).await.unwrap();
    let expected: Vec<_> = (0..400).flat_map(|n| [format!("{n}a"), format!("{n}b")]).collect();
    assert_eq!(details(&database), expected, "an empty request waits for those before");
    for pending in pending {
        pending.await.unwrap();
    }
    let stats = database.stats();
    assert_eq!((stats.requests, stats.failed), (401, 0));
    assert!(stats.groups >= 2, "a group is bounded");
}

#[test]
fn a_group_takes_what_waits_up_to_its_bounds() {
    let (sender, mut queue) = mpsc::channel(1_000);
    let request = |changes| commit_request(changes, None).0;
    for _ in 0..bounds::DATABASE_GROUP_MAX + 1 {
        sender.try_send(request(vec![])).unwrap();
    }
    let (group, close) = writer::gather(request(vec![]), &mut queue);
    assert_eq!((group.len(), close.is_some()), (bounds::DATABASE_GROUP_MAX, false));
    let (group, _) = writer::gather(request(vec![Change::PutSnapshot(name("a"), snapshot(20 << 20))]), &mut queue);
    assert_eq!(group.len(), 1, "a large one goes alone");
    sender.try_send(Request::Close(oneshot::channel().0)).unwrap();
    sender.try_send(request(vec![])).unwrap();
    let (group, close) = writer::gather(request(vec![]), &mut queue);
    assert_eq!((group.len(), close.is_some()), (3, true), "nothing after the close");
}

#[test]
fn one_request_that_fails_undoes_nothing_of_the_others() {
    let place = Place::new();
    let mut writer = place.writer(Options::default());
    let outcomes = writer.carry_out(&[
        vec![Change::PutWorker(worker("a")), decision("first")],
        vec![Change::PutWorker(worker("b")), decision("undone"), Change::PutSnapshot(name("nobody"), snapshot(1))],
        vec![decision("second")],
    ]);
    assert!(matches!(&outcomes[1], Err(DatabaseError::NoWorker(who)) if *who == name("nobody")), "{outcomes:?}");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    drop(writer);
    let database = place.open();
    assert_eq!(database.workers().unwrap(), [worker("a")]);
    assert_eq!(details(&database), ["first", "second"]);
    assert_eq!(database.verify_ledger(), Ok(2), "the undone entry left no gap");
}

/// SQLite undoes the whole transaction when it runs out of room in some statements.
#[test]
fn a_request_without_room_undoes_nothing_of_the_others() {
    let place = Place::new();
    let mut writer = place.writer(Options { page_count_max: Some(64) });
    let large = || vec![decision("undone"), Change::PutSnapshot(name("a"), snapshot(1 << 20))];
    let outcomes = writer.carry_out(&[
        vec![Change::PutWorker(worker("a")), decision("first")],
        large(),
        vec![decision("second")],
        large(),
        vec![decision("third")],
    ]);
    let failed: Vec<_> =
        outcomes.iter().map(|outcome| matches!(outcome, Err(DatabaseError::DiskFull { .. }))).collect();
    assert_eq!(failed, [false, true, false, true, false], "{outcomes:?}");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok() && outcomes[4].is_ok(), "{outcomes:?}");
    drop(writer);
    let database = place.open();
    assert_eq!(details(&database), ["first", "second", "third"]);
    assert_eq!(database.verify_ledger(), Ok(3));
}

#[tokio::test]
async fn a_full_database_refuses_and_works_again_once_there_is_room() {
    let place = Place::new();
    let options = Options { page_count_max: Some(100) };
    let database = Database::open_with(&place.path(), Clock::manual(), options).unwrap();
    database.commit(vec![Change::PutWorker(worker("a")), Change::PutWorker(worker("b"))]).await.unwrap();
    database.commit(vec![Change::PutSnapshot(name("a"), snapshot(200_000))]).await.unwrap();
    let second = || vec![decision("kept b's state"), Change::PutSnapshot(name("b"), snapshot(200_000))];
    for _ in 0..3 {
        let error = database.commit(second()).await.unwrap_err();
        assert!(matches!(error, DatabaseError::DiskFull { .. }), "{error}");
    }
    assert_eq!(database.snapshot(&name("b")).unwrap(), None);
    assert_eq!(details(&database), [""; 0], "nothing half-written");
    database.commit(vec![decision("small")]).await.unwrap();
    database.commit(vec![Change::DropSnapshot(name("a"))]).await.unwrap();
    database.commit(second()).await.unwrap();
    assert_eq!(database.snapshot(&name("b")).unwrap(), Some(snapshot(200_000)));
    assert_eq!(database.verify_ledger(), Ok(2));
    assert_eq!((database.stats().requests, database.stats().failed), (8, 3));
}

#[tokio::test]
async fn a_full_queue_refuses_to_submit_and_loses_nothing() {
    let place = Place::new();
    let database = place.open();
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut pending = Vec::new();
    // The writer holds one group while it waits for the lock.
    let refused = (0..=bounds::DATABASE_QUEUE_MAX + bounds::DATABASE_GROUP_MAX)
        .find_map(|n| database.submit(vec![decision(n.to_string())]).map(|queued| pending.push(queued)).err());
    assert!(matches!(refused, Some(DatabaseError::QueueFull)), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    for pending in &mut pending {
        pending.await.unwrap();
    }
    assert_eq!(database.verify_ledger(), Ok(pending.len() as u64));
}

#[tokio::test]
async fn the_contents_of_what_is_queued_have_a_bound_and_what_is_small_goes_past() {
    assert_eq!(room_units(&[Change::PutSnapshot(name("a"), snapshot(64 << 20))]), 16_384);
    assert_eq!(room_units(&[Change::PutSnapshot(name("a"), snapshot(300 << 20))]) as usize, ROOM_UNITS);
    let place = Place::new();
    let database = place.open();
    database.commit(vec![Change::PutWorker(worker("a"))]).await.unwrap();
    // As if snapshots of so many bytes were queued.
    let queued = database.shared.room.clone().acquire_many_owned(ROOM_UNITS as u32 - 2).await.unwrap();
    let put = |bytes| vec![Change::PutSnapshot(name("a"), snapshot(bytes))];
    assert_eq!(database.submit(put(20_000)).unwrap_err().to_string(), DatabaseError::QueueFull.to_string());
    database.submit(put(5_000)).unwrap().await.unwrap();
    let mut waits = std::pin::pin!(database.commit(put(20_000)));
    assert!(futures::poll!(&mut waits).is_pending());
    drop(queued);
    waits.await.unwrap();
    assert_eq!(database.snapshot(&name("a")).unwrap(), Some(snapshot(20_000)));
    assert_eq!(database.shared.room.available_permits(), ROOM_UNITS);
}

#[tokio::test]
async fn the_ledger_goes_on_where_it_was() {
    let place = Place::new();
    for round in 1..=3 {
        let database = place.open();
        database.commit(vec![decision("x"), decision("y")]).await.unwrap();
        assert_eq!(database.verify_ledger(), Ok(round * 2));
        assert_eq!(database.ledger_last().unwrap().map(|entry| entry.seq), Some(round * 2));
        database.close().await;
    }
}

#[tokio::test]
async fn the_ledger_is_read_in_pages_and_by_worker() {
    let place = Place::new();
    let database = place.open();
    assert_eq!(database.ledger_last().unwrap(), None);
    let about = |worker: &str, detail: String| {
        Change::Ledger(NewLedgerEntry {
            at: Timestamp(u64::MAX),
            worker: name(worker),
            action: Action::RolledBack,
            hash: Some(hash("v1")),
            by: By::Operator,
            detail,
        })
    };
    let changes = (1..=1_500).map(|n| about(if n % 3 == 0 { "c" } else { "a/b" }, n.to_string()));
    database.commit(changes.collect()).await.unwrap();
    let seqs = |entries: Vec<LedgerEntry>| entries.iter().map(|entry| entry.seq).collect::<Vec<_>>();
    assert_eq!(seqs(database.ledger(7, 3).unwrap()), [8, 9, 10]);
    assert_eq!(seqs(database.ledger(1_499, 10).unwrap()), [1_500]);
    assert_eq!(seqs(database.ledger(u64::MAX, 10).unwrap()), [0; 0]);
    assert_eq!(seqs(database.ledger_for(&name("c"), 3).unwrap()), [1_494, 1_497, 1_500]);
    assert_eq!(seqs(database.ledger_for(&name("a"), 3).unwrap()), [0; 0]);
    assert_eq!(database.verify_ledger(), Ok(1_500), "over more than one page");
}

#[tokio::test]
async fn tampering_with_the_ledger_is_found() {
    let damages = [
        ("UPDATE ledger SET detail = 'decision 4!' WHERE seq = 4", "its content does not match its digest"),
        ("UPDATE ledger SET digest = zeroblob(32) WHERE seq = 4", "its content does not match its digest"),
        ("UPDATE ledger SET previous = zeroblob(32) WHERE seq = 4", "it does not continue the entry before it"),
        ("DELETE FROM ledger WHERE seq = 4", "it is missing, entry 5 follows"),
        ("UPDATE ledger SET action = 'promoted' WHERE seq = 4", "cannot be read"),
    ];
    for (sql, why) in damages {
        let place = Place::new();
        let database = place.open();
        database.commit((1..=6).map(|n| decision(format!("decision {n}"))).collect()).await.unwrap();
        let refused = Connection::open(place.path()).unwrap().execute_batch(sql).unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
        place.tamper("DROP TRIGGER ledger_keeps_entries; DROP TRIGGER ledger_keeps_content");
        place.tamper(sql);
        let broken = database.verify_ledger().unwrap_err();
        assert!(broken.why.contains(why), "{sql}: {broken}");
        assert!(broken.seq == 4 || why == "cannot be read", "{sql}: {broken}");
    }
}

#[tokio::test]
async fn a_flipped_byte_in_the_file_is_found() {
    let place = Place::new();
    let database = place.open();
    database.commit((1..=6).map(|n| decision(format!("decision {n}"))).collect()).await.unwrap();
    database.close().await;
    drop(database);
    let mut bytes = place.bytes();
    let at = bytes.windows(10).position(|window| window == b"decision 3").unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(place.path(), bytes).unwrap();
    assert_eq!(place.open().verify_ledger().map_err(|broken| broken.seq), Err(3));
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_as_it_is() {
    let place = Place::new();
    place.open().close().await;
    place.tamper(&format!("PRAGMA user_version = {}", VERSION + 1));
    let before = place.bytes();
    let error = Database::open(&place.path(), Clock::manual()).unwrap_err();
    assert!(matches!(error, DatabaseError::Newer { found, known, .. } if (found, known) == (VERSION + 1, VERSION)));
    assert!(error.to_string().contains("was written by a newer Paguro"), "{error}");
    assert_eq!(place.bytes(), before);
}

/// As the first version wrote it.
#[tokio::test]
async fn an_older_database_is_brought_up_to_date_with_all_that_is_in_it() {
    let place = Place::new();
    place.tamper(&format!("{VERSION_1}; PRAGMA user_version = 1;"));
    let hash = "x'0000000000000000000000000000000000000000000000000000000000000000'";
    place.tamper(&format!("INSERT INTO worker VALUES ('a', {hash}, 1, NULL, 0, 0, 7)"));
    let database = place.open();
    assert_eq!(database.worker(&name("a")).unwrap().map(|worker| worker.incarnation), Some(Incarnation(7)));
    let breaker = BreakerRecord { opened_at: Timestamp(1), until: Timestamp(2), failures: 3 };
    database.commit(vec![Change::PutBreaker(name("a"), breaker)]).await.unwrap();
    assert_eq!(database.breaker(&name("a")).unwrap(), Some(breaker));
}

/// The version may stand in a log that was not yet copied back: it must be neither missed nor moved.
#[test]
fn a_newer_database_that_was_killed_is_refused_and_left_as_it_is() {
    let (place, after) = (Place::new(), Place::new());
    let connection = open_for_writing(&place.path(), Options::default()).unwrap();
    connection.pragma_update(None, "user_version", VERSION + 5).unwrap();
    for file in ["paguro.db", "paguro.db-wal"] {
        std::fs::copy(place.0.path().join(file), after.0.path().join(file)).unwrap();
    }
    let wal = after.0.path().join("paguro.db-wal");
    let before = (after.bytes(), std::fs::read(&wal).unwrap());
    let error = Database::open(&after.path(), Clock::manual()).unwrap_err();
    assert!(matches!(error, DatabaseError::Newer { .. }), "{error}");
    assert_eq!((after.bytes(), std::fs::read(&wal).unwrap()), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let text = b"these are my notes, please do not write here\n".repeat(100);
    std::fs::write(place.path(), &text).unwrap();
    let error = Database::open(&place.path(), Clock::manual()).unwrap_err();
    assert!(matches!(error, DatabaseError::Corrupt { .. }), "{error}");
    assert_eq!(place.bytes(), text);
}

#[tokio::test]
async fn a_column_with_an_unknown_word_is_corruption_that_is_named() {
    let place = Place::new();
    let database = place.open();
    database
        .commit(vec![Change::PutWorker(worker("a")), Change::PutRevision(name("a"), revision(1, Verdict::Committed))])
        .await
        .unwrap();
    place.tamper("UPDATE revision SET verdict = 'great'");
    let error = database.revisions(&name("a")).unwrap_err();
    assert!(matches!(&error, DatabaseError::Corrupt { why, .. } if why.contains("`great` is no Verdict")), "{error}");
}

#[tokio::test]
async fn the_oldest_settled_revisions_go_and_the_committed_one_stays() {
    let place = Place::new();
    let database = place.open();
    let a = name("a");
    let max = bounds::REVISIONS_MAX as u64;
    let mut changes = vec![
        Change::PutWorker(WorkerRecord { revision: RevisionNumber(2), ..worker("a") }),
        Change::PutRevision(a.clone(), revision(1, Verdict::Probation)),
        Change::PutRevision(a.clone(), revision(2, Verdict::Committed)),
    ];
    changes.extend((3..=max + 2).map(|number| Change::PutRevision(a.clone(), revision(number, Verdict::CalledOff))));
    database.commit(changes).await.unwrap();
    let numbers: Vec<_> = database.revisions(&a).unwrap().iter().map(|record| record.number.0).collect();
    assert_eq!(numbers.len() as u64, max);
    assert_eq!((&numbers[..3], numbers[numbers.len() - 1]), (&[1, 2, 5][..], max + 2));
}

/// The words in the statements that trim and that look for what is open are those that `is_settled` knows.
#[tokio::test]
async fn every_settled_verdict_can_be_trimmed_and_no_other() {
    for verdict in Verdict::ALL {
        let place = Place::new();
        let database = place.open();
        let a = name("a");
        let max = bounds::REVISIONS_MAX as u64;
        let mut changes = vec![Change::PutWorker(WorkerRecord { revision: RevisionNumber(0), ..worker("a") })];
        changes.extend((1..=max + 1).map(|number| Change::PutRevision(a.clone(), revision(number, *verdict))));
        database.commit(changes).await.unwrap();
        let kept = if verdict.is_settled() { max } else { max + 1 };
        assert_eq!(database.revisions(&a).unwrap().len() as u64, kept, "{verdict}");
        assert_eq!(database.workers_unsettled().unwrap().is_empty(), verdict.is_settled(), "{verdict}");
    }
}

#[tokio::test]
async fn after_a_close_requests_fail_and_reads_work() {
    let place = Place::new();
    let database = place.open();
    let other = database.clone();
    let queued = database.submit(vec![decision("before")]).unwrap();
    database.close().await;
    queued.await.unwrap();
    assert!(matches!(other.commit(vec![decision("after")]).await, Err(DatabaseError::Closed)));
    assert!(matches!(other.submit(vec![decision("after")]), Err(DatabaseError::Closed)));
    assert_eq!(details(&other), ["before"]);
    other.close().await;
}

#[tokio::test]
async fn the_files_are_private_and_syncs_are_full() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let database = place.open();
    database.commit(vec![decision("x")]).await.unwrap();
    for file in place.0.path().read_dir().unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    drop(database);
    let connection = open_for_writing(&place.path(), Options::default()).unwrap();
    let value = |pragma: &str| -> String {
        connection
            .query_row(&format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((value("journal_mode").as_str(), value("synchronous").as_str()), ("wal", "2"));
    assert_eq!((value("foreign_keys").as_str(), value("user_version")), ("1", VERSION.to_string()));
}

#[tokio::test]
async fn the_time_a_group_takes_is_read_from_the_clock() {
    let place = Place::new();
    let database = place.open();
    database.commit(vec![]).await.unwrap();
    assert_eq!(database.stats().group_time_max, Duration::ZERO, "a clock that stands still");
    assert_eq!(database.stats().groups, 1);
}

fn letter(id: u64, worker: &str) -> DeadLetterRecord {
    DeadLetterRecord {
        id,
        at: Timestamp(id),
        worker: name(worker),
        sort: LetterSort::Cast,
        from: None,
        timer: None,
        why: LetterWhy::Removed,
        reason: "the worker was removed".into(),
        exit: None,
        revision: RevisionNumber(1),
        bytes: 1,
    }
}

fn put_letter(database: &Database, worker: &str, body: &[u8]) -> Change {
    let record = DeadLetterRecord { bytes: body.len() as u64, ..letter(database.next_dead_letter(), worker) };
    Change::PutDeadLetter(record, body.into())
}

fn ids(letters: &[DeadLetterRecord]) -> Vec<u64> {
    letters.iter().map(|letter| letter.id).collect()
}

#[tokio::test]
async fn a_letter_is_poison_where_one_of_its_content_was_quarantined_by_that_revision() {
    let place = Place::new();
    let database = place.open();
    let quarantined = DeadLetterRecord {
        sort: LetterSort::Call,
        why: LetterWhy::Poison,
        revision: RevisionNumber(2),
        ..letter(database.next_dead_letter(), "a")
    };
    database.commit(vec![Change::PutDeadLetter(quarantined, b"boom".as_slice().into())]).await.unwrap();
    let cast = letter(9, "a");
    let is_poison = |letter: &DeadLetterRecord, body: &[u8], revision| {
        database.is_poison(letter, &body.into(), RevisionNumber(revision)).unwrap()
    };
    assert!(is_poison(&cast, b"boom", 2), "whatever revision it ended itself");
    assert!(!is_poison(&cast, b"boom", 3));
    assert!(!is_poison(&cast, b"other", 2));
    assert!(!is_poison(&letter(9, "b"), b"boom", 2));
    let timer = DeadLetterRecord { sort: LetterSort::Timer, ..cast };
    assert!(!is_poison(&timer, b"boom", 2), "other code handles it");
}

#[tokio::test]
async fn dead_letters_come_back_as_they_were_newest_first() {
    let place = Place::new();
    let database = place.open();
    let whole = DeadLetterRecord {
        sort: LetterSort::Timer,
        from: Some(name("shop/orders")),
        timer: Some(TimerId(9)),
        why: LetterWhy::EndedWorker,
        exit: Some("trap".into()),
        bytes: 3 << 20,
        ..letter(database.next_dead_letter(), "nobody/knows")
    };
    database.commit(vec![Change::PutDeadLetter(whole.clone(), b"\xff\0body".as_slice().into())]).await.unwrap();
    let others = (0..4).map(|n| put_letter(&database, if n % 2 == 0 { "a" } else { "b" }, b"12345")).collect();
    database.commit(others).await.unwrap();
    drop(database);

    let database = place.open();
    assert_eq!(database.dead_letter(1).unwrap(), Some((whole.clone(), b"\xff\0body".as_slice().into())));
    assert!(whole.is_cut());
    assert_eq!(database.dead_letter(6).unwrap(), None);
    assert_eq!(ids(&database.dead_letters(None, None, 3).unwrap()), [5, 4, 3]);
    assert_eq!(ids(&database.dead_letters(None, Some(3), 3).unwrap()), [2, 1]);
    assert_eq!(ids(&database.dead_letters(Some(&name("a")), Some(u64::MAX), usize::MAX).unwrap()), [4, 2]);
    assert_eq!(database.dead_letters(None, Some(2), 9).unwrap(), [whole]);
    assert_eq!(database.dead_letter_count(&name("b")).unwrap(), 2);
    assert_eq!(database.dead_letter_totals().unwrap(), DeadLetterTotals { letters: 5, bytes: 26, let_go: 0 });

    let drops = vec![Change::DropDeadLetter(5), Change::DropDeadLetter(5), Change::DropDeadLetters(name("a"))];
    database.commit(drops).await.unwrap();
    assert_eq!(ids(&database.dead_letters(None, None, 9).unwrap()), [3, 1]);
    assert_eq!(database.dead_letter_totals().unwrap(), DeadLetterTotals { letters: 2, bytes: 11, let_go: 0 });
    drop(database);
    assert_eq!(place.open().next_dead_letter(), 6, "the number of one that was dropped is not used again");
}

#[tokio::test]
async fn dead_letters_are_bounded_in_number_and_in_bytes_and_the_oldest_go() {
    let place = Place::new();
    let database = place.open();
    let more = bounds::DEAD_LETTERS_MAX as u64 + 5;
    let letters = (0..more).map(|_| put_letter(&database, "a", b"x")).collect();
    database.commit(letters).await.unwrap();
    let totals = database.dead_letter_totals().unwrap();
    assert_eq!((totals.letters, totals.let_go), (bounds::DEAD_LETTERS_MAX as u64, 5));
    assert_eq!((database.dead_letter(5).unwrap(), database.dead_letter(6).unwrap().is_some()), (None, true));

    let large = vec![0; bounds::DEAD_LETTER_BODY_BYTES_MAX];
    let fit = bounds::DEAD_LETTERS_BYTES_MAX / large.len() as u64;
    for _ in 0..fit {
        database.commit(vec![put_letter(&database, "b", &large)]).await.unwrap();
    }
    let totals = database.dead_letter_totals().unwrap();
    assert_eq!((totals.letters, totals.bytes), (fit, bounds::DEAD_LETTERS_BYTES_MAX));
    assert_eq!(database.dead_letter_count(&name("a")).unwrap(), 0);
    database.commit(vec![put_letter(&database, "c", b"x")]).await.unwrap();
    assert_eq!(ids(&database.dead_letters(None, None, 1).unwrap()), [more + fit + 1]);
    assert_eq!(database.dead_letter_totals().unwrap().letters, fit);
}

#[tokio::test]
async fn a_database_of_version_1_becomes_the_newest_with_what_it_had() {
    let place = Place::new();
    place.tamper(&format!(
        "{}; PRAGMA user_version = 1; INSERT INTO worker VALUES ('a', zeroblob(32), 4, NULL, 0, 0, 7);",
        super::schema::VERSION_1
    ));
    let database = place.open();
    assert_eq!(database.worker(&name("a")).unwrap().map(|worker| worker.revision), Some(RevisionNumber(4)));
    assert_eq!(database.dead_letters(None, None, 9).unwrap(), []);
    database.commit(vec![put_letter(&database, "a", b"x")]).await.unwrap();
    assert_eq!(database.dead_letter_totals().unwrap().letters, 1);
}

/// The database over whose next group its writer panics.
static PANICS_OVER: Mutex<Option<PathBuf>> = Mutex::new(None);

pub(super) fn panic_if_asked(path: &Path) {
    let asked = PANICS_OVER.lock().unwrap().take_if(|asked| asked == path).is_some();
    assert!(!asked, "this is what the test is for");
}

#[tokio::test]
async fn a_panic_over_one_group_undoes_it_and_the_writer_goes_on() {
    let place = Place::new();
    let database = place.open();
    *PANICS_OVER.lock().unwrap() = Some(place.path());
    let error = database.commit(vec![Change::PutWorker(worker("lost"))]).await.unwrap_err();
    assert!(error.to_string().contains("this is what the test is for"), "{error}");
    database.commit(vec![Change::PutWorker(worker("kept"))]).await.unwrap();
    let names: Vec<Name> = database.workers().unwrap().into_iter().map(|record| record.name).collect();
    assert_eq!(names, [name("kept")]);
    database.close().await;
}

/// As every version since the fourth wrote it, with a ledger in it.
#[tokio::test]
async fn a_ledger_of_version_4_goes_on_and_can_be_trimmed() {
    let place = Place::new();
    let four: String = MIGRATIONS[..4].concat();
    place.tamper(&format!("{four}; PRAGMA user_version = 4;"));
    let mut head = Head::EMPTY;
    for n in 1..=5 {
        let Change::Ledger(new) = decision(format!("decision {n}")) else { unreachable!() };
        let entry = head.append(&new);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let component = entry.hash.map_or("NULL".to_string(), |hash| format!("x'{}'", hash.hex()));
        place.tamper(&format!(
            "INSERT INTO ledger VALUES ({}, {}, '{}', '{}', {component}, '{}', '{}', x'{}', x'{}')",
            entry.seq,
            entry.at.0,
            entry.worker.as_str(),
            entry.action,
            entry.by,
            entry.detail,
            hex(&entry.previous),
            hex(&entry.digest)
        ));
    }
    let database = place.open();
    assert_eq!(database.verify_ledger(), Ok(5));
    let digest = database.ledger(2, 1).unwrap()[0].digest;
    database.commit(vec![trim(3, digest)]).await.unwrap();
    database.commit(vec![decision("decision 7")]).await.unwrap();
    assert_eq!(database.verify_ledger(), Ok(4), "4, 5, the trim's and the one after it");
    assert_eq!(database.ledger_trimmed().unwrap(), 3);
    drop(database);
    assert_eq!(place.open().verify_ledger(), Ok(4));
}

fn trim(through: u64, digest: Digest) -> Change {
    Change::TrimLedger { through, digest, at: Timestamp(9) }
}

#[tokio::test]
async fn a_ledger_is_trimmed_by_who_knows_what_goes_and_by_nobody_else() {
    let place = Place::new();
    let database = place.open();
    database.commit((1..=6).map(|n| decision(format!("decision {n}"))).collect()).await.unwrap();
    let digest = |seq: u64| database.ledger(seq - 1, 1).unwrap()[0].digest;
    for bad in [trim(3, [7; 32]), trim(7, [7; 32]), trim(3, digest(4))] {
        database.commit(vec![bad]).await.unwrap_err();
        assert_eq!(database.verify_ledger(), Ok(6));
    }
    let (third, last) = (digest(3), digest(6));
    database.commit(vec![trim(3, third)]).await.unwrap();
    database.commit(vec![trim(3, third)]).await.unwrap_err();
    // By hand, beyond what was trimmed.
    for sql in [
        "DELETE FROM ledger WHERE seq = 4",
        "DELETE FROM ledger_trim",
        "UPDATE ledger_trim SET seq = 5",
        "INSERT INTO ledger_trim VALUES (5, zeroblob(32))",
    ] {
        Connection::open(place.path()).unwrap().execute_batch(sql).unwrap_err();
    }
    // Entries that are gone without a word are missed.
    place.tamper("DROP TRIGGER ledger_trim_goes_on");
    place.tamper(
        "INSERT INTO ledger_trim SELECT seq, digest FROM ledger WHERE seq = 5; DELETE FROM ledger WHERE seq <= 5",
    );
    let broken = database.verify_ledger().unwrap_err();
    assert_eq!((broken.seq, broken.why.contains("no entry says so")), (6, true), "{broken}");
    assert_ne!(third, last);
}

#[tokio::test]
async fn what_a_loop_decides_is_counted_and_written_when_its_minute_is_over() {
    let place = Place::new();
    let database = place.open();
    let removed = |n: u64| {
        Change::Ledger(NewLedgerEntry {
            at: Timestamp(n),
            worker: name("a"),
            action: Action::Removed,
            hash: None,
            by: By::Host,
            detail: format!("time {n}"),
        })
    };
    for n in 0..100 {
        database.commit(vec![removed(n)]).await.unwrap();
    }
    assert_eq!(database.ledger(0, 9).unwrap().len(), 1);
    database.ledger_due(Timestamp(59_999));
    database.commit(vec![]).await.unwrap();
    assert_eq!(database.ledger(0, 9).unwrap().len(), 1, "not yet");
    database.ledger_due(Timestamp(60_000));
    database.commit(vec![]).await.unwrap();
    let entries = database.ledger(0, 9).unwrap();
    assert_eq!(entries[1].detail, "99 more within a minute, the last: time 99");
    // A request that fails is not counted.
    database.commit(vec![removed(70_000)]).await.unwrap();
    let impossible = Change::PutSnapshot(name("nobody"), snapshot(1));
    database.commit(vec![removed(70_001), impossible]).await.unwrap_err();
    database.ledger_due(Timestamp(200_000));
    database.commit(vec![]).await.unwrap();
    assert_eq!(database.ledger(0, 9).unwrap().len(), 3);
    assert_eq!(database.verify_ledger(), Ok(3));
}

#[tokio::test]
async fn what_was_granted_is_remembered_once() {
    let place = Place::new();
    let database = place.open();
    let granted = |path: &str, inode| GrantedRecord { path: path.to_string(), device: u64::MAX, inode };
    for record in [granted("/b", 1), granted("/a", 2), granted("/b", 1), granted("/b", 3)] {
        database.commit(vec![Change::Granted(record)]).await.unwrap();
    }
    assert_eq!(database.granted(9).unwrap(), [granted("/a", 2), granted("/b", 1), granted("/b", 3)]);
    assert_eq!(database.granted(1).unwrap().len(), 1);
}
