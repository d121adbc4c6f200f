//! The one thread that changes the database.
//!
//! It takes what waits, up to a bound, and carries it out in one transaction; where nobody waits for the first,
//! it lingers a moment for more. Should a request fail, all is undone and done again, each request in a savepoint
//! of its own:
//!
//! ```text
//! waiting --> gathered --> all at once ------------------------------------------> committed --> answered
//!                             | one failed                                             ^
//!                             +--> each request: applied | refused (undone alone) -----+
//!                                    ^                       |
//!                                    +---- SQLite undid all: again, without the request that failed
//! ```
//!
//! Some failures, a full disk above all, make SQLite undo the whole transaction and not only the
//! savepoint. The group is then begun anew without the request that failed, so that one request
//! never undoes another's. If the commit itself fails, the whole group is told so.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Savepoint, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::changes::{apply, needs_worker};
use super::error::DatabaseError;
use super::records::Change;
use crate::base::{Clock, bounds, panics};
use crate::record::book::Book;
use crate::record::ledger::Head;

/// What the writer takes in.
pub(super) enum Request {
    Commit { changes: Vec<Change>, answer: Answer },
    Close(oneshot::Sender<()>),
}

impl Request {
    /// Whether nobody waits for the outcome.
    fn is_for_nobody(&self) -> bool {
        matches!(self, Request::Commit { answer, .. } if answer.is_closed())
    }

    /// Answers as if it was carried out.
    pub(super) fn let_go(self) {
        // An error means that nobody waits.
        match self {
            Request::Commit { answer, .. } => drop(answer.send(Ok(()))),
            Request::Close(done) => drop(done.send(())),
        }
    }
}

/// Where the outcome of one request goes, and the room that its contents take in the queue until then.
pub(super) struct Answer {
    to: oneshot::Sender<Result<(), DatabaseError>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Answer {
    pub fn new(to: oneshot::Sender<Result<(), DatabaseError>>, room: Option<OwnedSemaphorePermit>) -> Answer {
        Answer { to, room }
    }

    fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// An error means that nobody waits.
    fn send(self, outcome: Result<(), DatabaseError>) -> Result<(), Result<(), DatabaseError>> {
        // Before anybody goes on who may look for room.
        drop(self.room);
        self.to.send(outcome)
    }
}

/// Requests of one transaction, in the order in which they were queued.
type Group = Vec<(Vec<Change>, Answer)>;

/// Bytes of snapshots after which a group takes no more requests: the first must not wait until
/// gigabytes are written for the last. One request may be larger.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// What the writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions. Requests divided by groups says how well one sync of the disk is shared.
    pub groups: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that were answered with an error.
    pub failed: u64,
    /// The longest time that one group took.
    pub group_time_max: Duration,
    /// The time that all of them took.
    pub group_time_total: Duration,
}

pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    /// The end of the ledger as it is on disk.
    book: Book,
    /// Whether something waits to be written into it.
    gathers: Arc<AtomicBool>,
    clock: Clock,
    stats: Arc<Mutex<Stats>>,
}

/// How one turn over a group ended.
enum Turn {
    Committed(Book),
    /// SQLite undid the whole transaction; one more request is refused.
    Undone,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        path: &Path,
        head: Head,
        clock: Clock,
        stats: Arc<Mutex<Stats>>,
        gathers: Arc<AtomicBool>,
    ) -> Writer {
        Writer { connection, path: path.to_path_buf(), book: Book::new(head), gathers, clock, stats }
    }

    fn turn_to(&mut self, book: Book) {
        self.gathers.store(book.has_gathered(), Ordering::Relaxed);
        self.book = book;
    }

    /// Runs until it is told to close or the last handle is gone and the queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut close = None;
        while close.is_none() {
            let Some(first) = queue.blocking_recv() else { break };
            if first.is_for_nobody() && queue.len() < bounds::DATABASE_GROUP_MAX {
                // Who comes while it lingers, and waits, unparks it.
                std::thread::park_timeout(bounds::DATABASE_LINGER);
            }
            let group;
            (group, close) = gather(first, &mut queue);
            if !group.is_empty() {
                self.commit_group(group);
            }
        }
        // So that the database is one file that can be copied. Nothing is lost without it.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint (TRUNCATE)", [], |_| Ok(()));
        drop(self.connection);
        if let Some(done) = close {
            // Nobody may wait any more.
            let _ = done.send(());
        }
    }

    fn commit_group(&mut self, group: Group) {
        let begun = self.clock.now();
        let (requests, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = self.carry_out_or_tell(&requests);
        self.count(&outcomes, self.clock.now().since(begun));
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever dropped its `Pending` does not want to know.
            let _ = answer.send(outcome);
        }
    }

    /// A panic ends the group that it is over and not the writer: without it nothing would be written any more. What
    /// unwinds undoes the transaction.
    fn carry_out_or_tell(&mut self, requests: &[Vec<Change>]) -> Vec<Result<(), DatabaseError>> {
        panics::catch(|| self.carry_out(requests)).unwrap_or_else(|fault| {
            let fault = Arc::new(fault);
            vec![Err(DatabaseError::HostFault { fault }); requests.len()]
        })
    }

    /// The outcome of each request. Those that are `Ok` are on disk.
    pub(super) fn carry_out(&mut self, requests: &[Vec<Change>]) -> Vec<Result<(), DatabaseError>> {
        let mut outcomes = vec![Ok(()); requests.len()];
        if let Ok(book) = self.at_once(requests) {
            self.turn_to(book);
            return outcomes;
        }
        // Every turn but the last refuses one more request.
        for _ in 0..=requests.len() {
            match self.turn(requests, &mut outcomes) {
                Ok(Turn::Committed(book)) => {
                    self.turn_to(book);
                    return outcomes;
                }
                Ok(Turn::Undone) => {}
                Err(error) => {
                    let error = DatabaseError::sqlite("commit to the database", &self.path, error);
                    for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                        *outcome = Err(error.clone());
                    }
                    return outcomes;
                }
            }
        }
        unreachable!("a turn over requests that are all refused changes nothing, so nothing undoes it")
    }

    /// Without savepoints, which cost as much as a small change. After an error nothing is done.
    fn at_once(&mut self, requests: &[Vec<Change>]) -> rusqlite::Result<Book> {
        let mut book = self.book.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in requests.iter().flatten() {
            apply(&transaction, change, &mut book)?;
        }
        #[cfg(test)]
        super::tests::panic_if_asked(&self.path);
        transaction.commit()?;
        Ok(book)
    }

    fn turn(&mut self, requests: &[Vec<Change>], outcomes: &mut [Result<(), DatabaseError>]) -> rusqlite::Result<Turn> {
        let mut book = self.book.clone();
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (changes, outcome) in requests.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            let before = book.clone();
            *outcome = apply_all(transaction.savepoint()?, changes, &mut book, &self.path);
            if outcome.is_err() {
                book = before;
                if transaction.is_autocommit() {
                    return Ok(Turn::Undone);
                }
            }
        }
        transaction.commit()?;
        Ok(Turn::Committed(book))
    }

    fn count(&self, outcomes: &[Result<(), DatabaseError>], time: Duration) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.groups += 1;
        stats.requests += outcomes.len() as u64;
        stats.failed += outcomes.iter().filter(|outcome| outcome.is_err()).count() as u64;
        stats.group_time_max = stats.group_time_max.max(time);
        stats.group_time_total += time;
    }
}

/// `first` and what waits behind it, and the request to close if it came to that.
pub(super) fn gather(first: Request, queue: &mut mpsc::Receiver<Request>) -> (Group, Option<oneshot::Sender<()>>) {
    let mut group = Group::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Close(done) => return (group, Some(done)),
            Request::Commit { changes, answer } => {
                bytes += changes.iter().map(Change::payload_bytes).sum::<usize>();
                group.push((changes, answer));
            }
        }
        let has_room = group.len() < bounds::DATABASE_GROUP_MAX && bytes < GROUP_BYTES_MAX;
        next = if has_room { queue.try_recv().ok() } else { None };
    }
    (group, None)
}

/// All of `changes`, or none: a savepoint that is dropped is undone.
fn apply_all(savepoint: Savepoint<'_>, changes: &[Change], book: &mut Book, path: &Path) -> Result<(), DatabaseError> {
    for change in changes {
        apply(&savepoint, change, book).map_err(|error| match needs_worker(change) {
            Some(name) if DatabaseError::is_missing_reference(&error) => DatabaseError::NoWorker(name.clone()),
            _ => DatabaseError::sqlite("write to the database", path, error),
        })?;
    }
    savepoint.commit().map_err(|error| DatabaseError::sqlite("write to the database", path, error))
}
