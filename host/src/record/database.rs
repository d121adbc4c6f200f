//! The database: what a host must know after it was killed. Workers, their revisions, the last
//! snapshot of each, what was rejected, the messages that nobody handled, and the ledger.
//!
//! SQLite in WAL mode behind one thread that writes, so that requests from many tasks share one
//! sync of the disk:
//!
//! ```text
//! commit, submit --> bounded queue --> writer: gather -> one transaction -> answer each request
//! workers, ledger, ... --------------> a second, read-only connection
//! ```
//!
//! A request is all or nothing, and durable when its future resolves: it survives `kill -9` and a
//! loss of power, as far as the disk keeps what it has synced. Requests are carried out in the
//! order in which they were queued. Reads see every request whose future has resolved.

mod changes;
mod error;
mod reader;
mod records;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{JoinHandle, Thread};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::reader::Reader;
use self::writer::{Answer, Request, Writer};
use super::ledger::{Head, LedgerBroken, LedgerEntry};
use crate::base::{Clock, ComponentHash, Name, Payload, RevisionNumber, Timestamp, bounds};

pub use self::error::DatabaseError;
pub use self::records::{
    AcceptedSettings, BreakerRecord, Change, DeadLetterRecord, DeadLetterTotals, GrantedRecord, LetterSort, LetterWhy,
    RejectedRecord, RevisionRecord, SettingsOf, SnapshotRecord, TemplateRecord, Verdict, Why, WorkerRecord,
};
pub use self::schema::Options;
pub use self::writer::Stats;

/// A handle on the open database; clones share it. When the last one is dropped, what is queued is
/// still written, and the drop waits for that.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    reader: Reader,
    stats: Arc<Mutex<Stats>>,
    last_dead_letter: AtomicU64,
    /// Whether decisions were counted and are not in the ledger yet.
    gathers: Arc<AtomicBool>,
    // Dropped in this order: the thread ends once there is no sender left. `None`: requests are let go of.
    requests: Option<mpsc::Sender<Request>>,
    /// What the contents of requests in the queue may take, in [`ROOM_UNIT`] bytes.
    room: Arc<Semaphore>,
    /// The writer's thread, for who does not want to wait while it lingers.
    writer: Option<Thread>,
    thread: WriterThread,
}

/// A queued request. It is carried out whether or not this is awaited or dropped; awaiting it
/// tells the outcome.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<(), DatabaseError>>);

impl Database {
    /// Opens the database, creates it (mode 0600) or brings it to the newest schema. The caller
    /// must hold the state directory: a second writer would fork the ledger. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::Newer`] for a database that a newer Paguro wrote, which is left as it is;
    /// [`DatabaseError::Corrupt`] for a file that is none.
    pub fn open(path: &Path, clock: Clock) -> Result<Database, DatabaseError> {
        Database::open_with(path, clock, Options::default())
    }

    /// [`Database::open`] with settings.
    pub fn open_with(path: &Path, clock: Clock, options: Options) -> Result<Database, DatabaseError> {
        let connection = schema::open_for_writing(path, options)?;
        let reader = Reader::new(path)?;
        let head = match reader.ledger_last()? {
            Some(entry) => Head { seq: entry.seq, digest: entry.digest },
            None => Head::EMPTY,
        };
        let last_dead_letter = AtomicU64::new(reader.dead_letter_last()?);
        let stats = Arc::new(Mutex::new(Stats::default()));
        let (requests, queue) = mpsc::channel(bounds::DATABASE_QUEUE_MAX);
        let gathers = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(connection, path, head, clock, stats.clone(), gathers.clone());
        let thread = std::thread::Builder::new()
            .name("paguro-database".to_string())
            .spawn(move || writer.run(queue))
            .map_err(|error| DatabaseError::io(path, error))?;
        let writer = Some(thread.thread().clone());
        let thread = WriterThread(Mutex::new(Some(thread)));
        let path = path.to_path_buf();
        let requests = Some(requests);
        let room = Arc::new(Semaphore::new(ROOM_UNITS));
        let shared = Shared { path, reader, stats, last_dead_letter, gathers, requests, room, writer, thread };
        Ok(Database { shared: Arc::new(shared) })
    }

    /// A database that keeps nothing: what is asked of it is done at once, and reads find nothing. For
    /// simulations: it has no thread and no disk, whose pace is nobody's decision.
    pub fn nowhere() -> Result<Database, DatabaseError> {
        let shared = Shared {
            path: PathBuf::from(":memory:"),
            reader: Reader::of_nothing()?,
            stats: Arc::default(),
            last_dead_letter: AtomicU64::new(0),
            gathers: Arc::default(),
            requests: None,
            room: Arc::new(Semaphore::new(ROOM_UNITS)),
            writer: None,
            thread: WriterThread(Mutex::new(None)),
        };
        Ok(Database { shared: Arc::new(shared) })
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Carries out all of `changes` or none, and resolves when they are durable. Waits for room in
    /// the queue. Dropped while it waits for room, nothing is done; later, the changes are carried
    /// out all the same. Without changes it waits for everything that was queued before.
    ///
    /// # Errors
    ///
    /// After an error nothing of `changes` is there. One exception: if the disk failed while the
    /// changes were synced and the power then fails, they may be there after all.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), DatabaseError> {
        let room = match room_units(&changes) {
            0 => None,
            units => self.shared.room.clone().acquire_many_owned(units).await.ok(),
        };
        let (request, pending) = commit_request(changes, room);
        match &self.shared.requests {
            Some(requests) => requests.send(request).await.map_err(|_| DatabaseError::Closed)?,
            None => request.let_go(),
        }
        self.hurry();
        pending.await
    }

    /// Somebody waits: the writer does not linger.
    fn hurry(&self) {
        if let Some(writer) = &self.shared.writer {
            writer.unpark();
        }
    }

    /// Queues `changes` at once, behind everything queued before. For callers that need the order
    /// and not, or not yet, the outcome. Where nobody waits for it, they are durable
    /// [`bounds::DATABASE_LINGER`] later than they could be, together with others of the same kind.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::QueueFull`] when [`bounds::DATABASE_QUEUE_MAX`] requests wait, or their contents take
    /// [`bounds::DATABASE_QUEUE_BYTES_MAX`]: then nothing was queued.
    pub fn submit(&self, changes: Vec<Change>) -> Result<Pending, DatabaseError> {
        let room = match room_units(&changes) {
            0 => None,
            units => {
                Some(self.shared.room.clone().try_acquire_many_owned(units).map_err(|_| DatabaseError::QueueFull)?)
            }
        };
        let (request, pending) = commit_request(changes, room);
        let Some(requests) = &self.shared.requests else {
            request.let_go();
            return Ok(pending);
        };
        match requests.try_send(request) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => Err(DatabaseError::QueueFull),
            Err(TrySendError::Closed(_)) => Err(DatabaseError::Closed),
        }
    }

    /// Carries out what was queued before and ends the writer. Later requests, through any handle,
    /// fail with [`DatabaseError::Closed`]; reads still work. Closing twice is no error.
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        let Some(requests) = &self.shared.requests else { return };
        if requests.send(Request::Close(done)).await.is_ok() {
            self.hurry();
            // An error means that the writer ended before it came to this: closed is closed.
            let _ = ended.await;
        }
        self.shared.thread.join();
    }

    /// Writes into the ledger what was gathered for it and is due, where there is any. What cannot be queued now is due
    /// still.
    pub fn ledger_due(&self, now: Timestamp) {
        if self.shared.gathers.load(Ordering::Relaxed) {
            let _ = self.submit(vec![Change::LedgerDue(now)]);
        }
    }

    /// A number for a new dead letter. One that is not used leaves a gap.
    pub fn next_dead_letter(&self) -> u64 {
        self.shared.last_dead_letter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What the writer has done since the database was opened.
    pub fn stats(&self) -> Stats {
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads. Each blocks for as long as the disk takes, and on other reads.
impl Database {
    /// Every worker there ever was, by name, those that were removed included.
    pub fn workers(&self) -> Result<Vec<WorkerRecord>, DatabaseError> {
        self.shared.reader.workers()
    }

    /// Those with a revision that is not settled, by name.
    pub fn workers_unsettled(&self) -> Result<Vec<WorkerRecord>, DatabaseError> {
        self.shared.reader.workers_unsettled()
    }

    /// Those that an operator deleted and whose file was not seen to go since, by name.
    pub fn workers_deleted(&self) -> Result<Vec<WorkerRecord>, DatabaseError> {
        self.shared.reader.workers_deleted()
    }

    /// The workers below a supervisor that were not removed, by name.
    pub fn workers_below(&self, supervisor: &Name) -> Result<Vec<WorkerRecord>, DatabaseError> {
        self.shared.reader.workers_below(supervisor)
    }

    pub fn worker(&self, name: &Name) -> Result<Option<WorkerRecord>, DatabaseError> {
        self.shared.reader.worker(name)
    }

    /// A worker's history, oldest first; at most [`bounds::REVISIONS_MAX`] and those not settled.
    pub fn revisions(&self, name: &Name) -> Result<Vec<RevisionRecord>, DatabaseError> {
        self.shared.reader.revisions(name)
    }

    pub fn snapshot(&self, name: &Name) -> Result<Option<SnapshotRecord>, DatabaseError> {
        self.shared.reader.snapshot(name)
    }

    /// The components that are not to be tried again for this worker, oldest first.
    pub fn rejections(&self, name: &Name) -> Result<Vec<RejectedRecord>, DatabaseError> {
        self.shared.reader.rejections(name)
    }

    /// The worker's circuit breaker as it was last written; `None` for one that is closed.
    pub fn breaker(&self, name: &Name) -> Result<Option<BreakerRecord>, DatabaseError> {
        self.shared.reader.breaker(name)
    }

    /// Directories that were given to workers for writing, at any time; at most `limit`.
    pub fn granted(&self, limit: usize) -> Result<Vec<GrantedRecord>, DatabaseError> {
        self.shared.reader.granted(limit)
    }

    /// Which component a template is on, by the name of its file.
    pub fn template(&self, name: &Name) -> Result<Option<TemplateRecord>, DatabaseError> {
        self.shared.reader.template(name)
    }

    /// Whether a key below this supervisor is on this component, or has a state that it saved.
    pub fn is_used_below(&self, supervisor: &Name, component: ComponentHash) -> Result<bool, DatabaseError> {
        self.shared.reader.is_used_below(supervisor, component)
    }

    /// Settings files as they were accepted last, by whose they are.
    pub fn accepted(&self) -> Result<Vec<(Name, AcceptedSettings)>, DatabaseError> {
        self.shared.reader.accepted()
    }

    /// The first `limit` entries after `after_seq`, oldest first; from the start with 0.
    pub fn ledger(&self, after_seq: u64, limit: usize) -> Result<Vec<LedgerEntry>, DatabaseError> {
        self.shared.reader.ledger(after_seq, limit)
    }

    /// The last `limit` entries about `name` itself, oldest first.
    pub fn ledger_for(&self, name: &Name, limit: usize) -> Result<Vec<LedgerEntry>, DatabaseError> {
        self.shared.reader.ledger_for(name, limit)
    }

    /// The number of the last entry that was trimmed; 0 where none was.
    pub fn ledger_trimmed(&self) -> Result<u64, DatabaseError> {
        Ok(self.shared.reader.ledger_start()?.seq)
    }

    pub fn ledger_last(&self) -> Result<Option<LedgerEntry>, DatabaseError> {
        self.shared.reader.ledger_last()
    }

    /// Checks the whole ledger, from where it was trimmed, and gives the number of entries. An entry that cannot be read is a
    /// broken one. Takes about a second per million entries; other reads go on in between.
    pub fn verify_ledger(&self) -> Result<u64, LedgerBroken> {
        self.shared.reader.verify_ledger()
    }

    /// The newest `limit` dead letters before number `before`, newest first, without their bodies; of
    /// one worker or of all.
    pub fn dead_letters(
        &self,
        worker: Option<&Name>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, DatabaseError> {
        self.shared.reader.dead_letters(worker, before, limit)
    }

    /// One dead letter, with what was kept of its body.
    pub fn dead_letter(&self, id: u64) -> Result<Option<(DeadLetterRecord, Payload)>, DatabaseError> {
        self.shared.reader.dead_letter(id)
    }

    /// Whether a letter of the same worker and content was quarantined at this revision.
    pub fn is_poison(
        &self,
        letter: &DeadLetterRecord,
        body: &Payload,
        revision: RevisionNumber,
    ) -> Result<bool, DatabaseError> {
        self.shared.reader.is_poison(letter, body, revision)
    }

    /// Dead letters of one worker.
    pub fn dead_letter_count(&self, worker: &Name) -> Result<u64, DatabaseError> {
        self.shared.reader.dead_letter_count(worker)
    }

    pub fn dead_letter_totals(&self) -> Result<DeadLetterTotals, DatabaseError> {
        self.shared.reader.dead_letter_totals()
    }

    /// Every component that a worker, a revision or a snapshot names: the files that must be kept.
    /// Rejections do not count, a rejected component is never run.
    pub fn components_in_use(&self) -> Result<BTreeSet<ComponentHash>, DatabaseError> {
        self.shared.reader.components_in_use()
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.shared.path).finish()
    }
}

impl Future for Pending {
    type Output = Result<(), DatabaseError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A request that is dropped unanswered came after a close.
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(DatabaseError::Closed)))
    }
}

fn commit_request(changes: Vec<Change>, room: Option<OwnedSemaphorePermit>) -> (Request, Pending) {
    let (answer, outcome) = oneshot::channel();
    (Request::Commit { changes, answer: Answer::new(answer, room) }, Pending(outcome))
}

/// Room in the queue is counted in pages: a permit has 32 bits.
const ROOM_UNIT: usize = 4_096;
const ROOM_UNITS: usize = bounds::DATABASE_QUEUE_BYTES_MAX / ROOM_UNIT;

/// What the contents of a request take. None takes more than there is: one that is larger is alone in the queue.
fn room_units(changes: &[Change]) -> u32 {
    let bytes: usize = changes.iter().map(Change::payload_bytes).sum();
    u32::try_from((bytes / ROOM_UNIT).min(ROOM_UNITS)).unwrap_or(u32::MAX)
}

/// The writer's thread; dropping this waits for its end.
struct WriterThread(Mutex<Option<JoinHandle<()>>>);

impl WriterThread {
    fn join(&self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // An answer may wake a task that the writer's own thread then drops, and with it the
            // last handle: a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                // A panic there has been printed, and every request has been told.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.join();
    }
}
