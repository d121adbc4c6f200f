//! Dead letters on their way to the database: messages that were accepted and will not be handled.
//!
//! ```text
//! a worker's task: put --> bounded queue --> one task: one request each --> the database's writer
//! ```
//!
//! Whoever puts a letter never waits for the disk. Only when [`bounds::DEAD_LETTER_QUEUE_MAX`] letters
//! wait for it already does it wait for room, so that no letter is lost unseen; its mailbox then fills
//! and its senders are refused. Letters of one worker keep their order. One that the database does not
//! take is lost, and an event says so.

use futures::future::join_all;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use super::message::Message;
use super::poison::Content;
use crate::base::{ExitReason, Name, Payload, RevisionNumber, TimerId, bounds};
use crate::record::{Change, Database, DeadLetterRecord, DeadLetterTotals, Event, LetterSort, LetterWhy, Recorder};
use crate::sandbox::Fact;

/// A message that nobody will handle.
#[derive(Clone, Debug)]
pub struct Letter {
    pub sort: LetterSort,
    pub from: Option<Name>,
    pub timer: Option<TimerId>,
    pub body: Payload,
}

impl Letter {
    pub fn call(from: Option<Name>, body: Payload) -> Letter {
        Letter { sort: LetterSort::Call, from, timer: None, body }
    }

    pub fn cast(from: Option<Name>, body: Payload) -> Letter {
        Letter { sort: LetterSort::Cast, from, timer: None, body }
    }

    pub fn fact(fact: Fact) -> Letter {
        match fact {
            Fact::Timer(timer, body) => Letter { sort: LetterSort::Timer, from: None, timer: Some(timer), body },
            Fact::Down(_, name, reason) => Letter {
                sort: LetterSort::Down,
                from: Name::parse(&name).ok(),
                timer: None,
                body: Payload::from(reason.to_string()),
            },
        }
    }

    pub fn of(message: Message) -> Letter {
        match message {
            Message::Call(call) => Letter::call(call.from, call.request),
            Message::Cast { from, message, .. } => Letter::cast(from, message),
            Message::Fact(fact) => Letter::fact(fact),
        }
    }

    /// What poison is recognised by.
    pub fn content(&self) -> Option<Content> {
        Content::of(self.sort, &self.body)
    }
}

/// Why a message will not be handled.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    EndedWorker(&'a ExitReason),
    /// It is quarantined; with how the worker ended, if this one did it.
    Poison(Option<&'a ExitReason>),
    Removed,
    HostStopped,
    Command,
    Dropped,
    NoRoom,
}

impl Cause<'_> {
    fn why(&self) -> LetterWhy {
        match self {
            Cause::EndedWorker(_) => LetterWhy::EndedWorker,
            Cause::Poison(_) => LetterWhy::Poison,
            Cause::Removed => LetterWhy::Removed,
            Cause::HostStopped => LetterWhy::HostStopped,
            Cause::Command => LetterWhy::Command,
            Cause::Dropped => LetterWhy::Dropped,
            Cause::NoRoom => LetterWhy::NoRoom,
        }
    }

    fn exit(&self) -> Option<&ExitReason> {
        match self {
            Cause::EndedWorker(exit) => Some(exit),
            Cause::Poison(exit) => *exit,
            _ => None,
        }
    }

    fn reason(&self) -> String {
        let kills = bounds::POISON_KILLS;
        match self {
            Cause::EndedWorker(exit) => format!("it ended the worker: {exit}"),
            Cause::Poison(Some(exit)) => format!("it ended the worker {kills} times, and is quarantined: {exit}"),
            Cause::Poison(None) => format!("it is quarantined: its content ended the worker {kills} times"),
            Cause::Removed => "the worker was removed".to_string(),
            Cause::HostStopped => "the host stopped before it was handled".to_string(),
            Cause::Command => "the worker is a command: it takes no messages".to_string(),
            Cause::Dropped => "the revision that took it was rolled back, and `on-rollback` is `drop`".to_string(),
            Cause::NoRoom => "too many timers and news of other workers waited".to_string(),
        }
    }
}

pub struct DeadLetters {
    queue: mpsc::Sender<Queued>,
    database: Database,
    recorder: Recorder,
    /// Held by whoever sends letters again or throws them away, so that none is sent twice.
    turn: Mutex<()>,
}

enum Queued {
    Letter(DeadLetterRecord, Payload),
    /// Answered when what was put before is in the database, or lost.
    Written(oneshot::Sender<()>),
}

impl DeadLetters {
    /// Starts the task that writes. It ends when this is dropped.
    pub fn new(database: Database, recorder: Recorder) -> DeadLetters {
        let (queue, queued) = mpsc::channel(bounds::DEAD_LETTER_QUEUE_MAX);
        tokio::spawn(write_always(queued, database.clone(), recorder.clone()));
        DeadLetters { queue, database, recorder, turn: Mutex::default() }
    }

    /// Keeps a message of `worker` that its `revision` will not handle, and says so in an event.
    pub async fn put(&self, worker: &Name, revision: RevisionNumber, letter: Letter, cause: Cause<'_>) {
        let (sort, bytes, reason) = (letter.sort.as_str(), letter.body.len(), cause.reason());
        // An error means that the host is ending without order: then it is in the event alone.
        let id = match self.queue.reserve().await {
            Ok(room) => {
                let id = self.database.next_dead_letter();
                let record = DeadLetterRecord {
                    id,
                    at: self.recorder.clock().timestamp(),
                    worker: worker.clone(),
                    sort: letter.sort,
                    from: letter.from,
                    timer: letter.timer,
                    why: cause.why(),
                    reason: reason.clone(),
                    exit: cause.exit().map(|exit| exit.word().to_string()),
                    revision,
                    bytes: bytes as u64,
                };
                let body = if record.is_cut() {
                    Payload::from(&letter.body[..bounds::DEAD_LETTER_BODY_BYTES_MAX])
                } else {
                    letter.body
                };
                room.send(Queued::Letter(record, body));
                Some(id)
            }
            Err(_) => None,
        };
        self.recorder.emit(Event::DeadLetter { worker: worker.clone(), id, sort, bytes, reason });
    }

    /// Waits until every letter that was put before is in the database, or lost.
    pub async fn written(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Queued::Written(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// One at a time sends letters again or throws them away.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

/// Writes until nobody puts letters any more. What panics loses the letters that it had in hand, says so, and goes on:
/// without this task every letter would be lost.
async fn write_always(mut queue: mpsc::Receiver<Queued>, database: Database, recorder: Recorder) {
    let part = "the task that keeps dead letters: those that it had in hand are lost";
    while recorder.watched(part, write(&mut queue, &database, &recorder)).await.is_none() {}
}

async fn write(queue: &mut mpsc::Receiver<Queued>, database: &Database, recorder: &Recorder) {
    let mut gathered = Vec::new();
    let mut before = database.dead_letter_totals().unwrap_or_default();
    while queue.recv_many(&mut gathered, bounds::DEAD_LETTER_QUEUE_MAX).await > 0 {
        let (mut letters, mut waiting, mut last) = (Vec::new(), Vec::new(), None);
        for queued in gathered.drain(..) {
            match queued {
                Queued::Letter(record, body) => {
                    last = Some(record.worker.clone());
                    // A request each: one that does not fit on the disk costs the others nothing.
                    letters.push(database.commit(vec![Change::PutDeadLetter(record, body)]));
                }
                Queued::Written(done) => waiting.push(done),
            }
        }
        for outcome in join_all(letters).await {
            if let Err(error) = outcome {
                recorder.emit(Event::DatabaseFailed { what: "keep a dead letter", error: error.to_string() });
            }
        }
        if let (Some(worker), Ok(now)) = (last, database.dead_letter_totals()) {
            if now.let_go > before.let_go {
                recorder.emit(bound_reached(worker, now));
            }
            before = now;
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Old letters went for new ones, the last of them of `worker`.
fn bound_reached(worker: Name, now: DeadLetterTotals) -> Event {
    if now.letters >= bounds::DEAD_LETTERS_MAX as u64 {
        Event::BoundReached { worker, bound: "dead-letters", value: bounds::DEAD_LETTERS_MAX as u64 }
    } else {
        Event::BoundReached { worker, bound: "dead-letter-bytes", value: bounds::DEAD_LETTERS_BYTES_MAX }
    }
}
