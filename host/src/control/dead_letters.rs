//! Dead letters as an operator has them: looked at, sent again, thrown away.

use super::host::{Host, RequestError};
use crate::base::units::plural;
use crate::base::{Name, Payload, bounds};
use crate::record::{Action, By, Change, DeadLetterRecord, Event, LetterSort, NewLedgerEntry};
use crate::runtime::Status;
use crate::sandbox::Kind;

/// Why a letter is not sent again, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotResent {
    pub why: String,
    pub help: String,
}

impl Host {
    /// Dead letters before number `before`, newest first, at most `limit` and
    /// [`bounds::PAGE_ROWS_MAX`]; of one worker, which may be gone, or of all. Letters whose event was
    /// emitted are among them.
    pub async fn dead_letters(
        &self,
        worker: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, RequestError> {
        let worker = worker.map(letters_of).transpose()?;
        self.services.dead_letters.written().await;
        let limit = limit.min(bounds::PAGE_ROWS_MAX);
        Ok(self.services.database.dead_letters(worker.as_ref(), before, limit)?)
    }

    /// One dead letter, with what was kept of its body.
    pub async fn dead_letter(&self, id: u64) -> Result<(DeadLetterRecord, Payload), RequestError> {
        self.services.dead_letters.written().await;
        self.services.database.dead_letter(id)?.ok_or(RequestError::NoDeadLetter(id))
    }

    /// Puts a cast, or a timer that fired, into its worker's mailbox again, behind what waits there,
    /// and takes the letter out. A host that dies between the two leaves the letter: then the message
    /// may be handled twice.
    ///
    /// # Errors
    ///
    /// [`RequestError::NotResent`] for what cannot be sent again; as for [`Host::cast`] where the
    /// worker does not take it. The letter stays.
    pub async fn resend_dead_letter(&self, id: u64) -> Result<DeadLetterRecord, RequestError> {
        let _turn = self.services.dead_letters.turn().await;
        let (letter, body) = self.dead_letter(id).await?;
        let worker = self.receiver(letter.worker.as_str())?;
        // It may have ended its worker before its like was quarantined.
        let status = worker.status();
        let is_poison = self.services.database.is_poison(&letter, &body, status.revision)?;
        if let Some(refused) = refusal(&letter, is_poison, &status, worker.is_durable()) {
            return Err(RequestError::NotResent { id, refused });
        }
        let sent = match letter.timer {
            Some(timer) => self.services.fire_again(&worker, timer, body),
            None => self.services.cast(&worker, letter.from.clone(), body),
        };
        sent.map_err(|error| self.not_taken(&worker, error))?;
        let entry = self.of_letters(&letter.worker, Action::LetterResent, format!("dead letter {id}"));
        self.services.database.commit(vec![Change::DropDeadLetter(id), entry]).await?;
        self.services.recorder.emit(Event::DeadLetterResent { worker: letter.worker.clone(), id });
        Ok(letter)
    }

    /// Throws one letter away.
    pub async fn drop_dead_letter(&self, id: u64) -> Result<(), RequestError> {
        let _turn = self.services.dead_letters.turn().await;
        let (letter, _) = self.dead_letter(id).await?;
        let entry = self.of_letters(&letter.worker, Action::LettersDropped, format!("dead letter {id}"));
        self.services.database.commit(vec![Change::DropDeadLetter(id), entry]).await?;
        self.services.recorder.emit(Event::DeadLettersDropped { worker: letter.worker, letters: 1 });
        Ok(())
    }

    /// Throws all letters of a worker away, which may be gone. How many there were.
    pub async fn drop_dead_letters(&self, worker: &str) -> Result<u64, RequestError> {
        let _turn = self.services.dead_letters.turn().await;
        let worker = letters_of(worker)?;
        self.services.dead_letters.written().await;
        let letters = self.services.database.dead_letter_count(&worker)?;
        if letters > 0 {
            let entry = self.of_letters(&worker, Action::LettersDropped, plural(letters, "dead letter"));
            self.services.database.commit(vec![Change::DropDeadLetters(worker.clone()), entry]).await?;
            self.services.recorder.emit(Event::DeadLettersDropped { worker, letters });
        }
        Ok(letters)
    }
}

impl Host {
    /// What an operator decided about letters.
    fn of_letters(&self, worker: &Name, action: Action, detail: String) -> Change {
        let (at, worker) = (self.services.clock.timestamp(), worker.clone());
        Change::Ledger(NewLedgerEntry { at, worker, action, hash: None, by: By::Operator, detail })
    }
}

/// A worker that was removed has letters still: only a text that is no name has none.
fn letters_of(name: &str) -> Result<Name, RequestError> {
    Name::parse(name).map_err(|_| {
        let name = name.escape_debug().to_string();
        RequestError::NoWorker { name, nearest: Vec::new(), problem: None }
    })
}

/// Whether a letter could be sent again to some worker. Pure.
pub fn is_resendable(letter: &DeadLetterRecord) -> bool {
    matches!(letter.sort, LetterSort::Cast | LetterSort::Timer) && !letter.is_cut()
}

/// Why a letter is not sent to the worker as it stands now. `is_poison`: it or its like was quarantined
/// by the revision that serves. Pure.
fn refusal(letter: &DeadLetterRecord, is_poison: bool, worker: &Status, durable: bool) -> Option<NotResent> {
    let (id, name) = (letter.id, &letter.worker);
    let drop = || format!("`paguro dead-letters show {id}` shows it, `paguro dead-letters drop {id}` throws it away");
    let refused = |why: &str, help: String| Some(NotResent { why: why.to_string(), help });
    if letter.is_cut() {
        return refused("it was too large: only the beginning of its body was kept", drop());
    }
    match letter.sort {
        LetterSort::Call => {
            let again = format!("`paguro dead-letters show {id} | paguro call {name} -` asks again");
            return refused("it is a call: its caller was told, and may have asked again", again);
        }
        LetterSort::Down => return refused("it is news of another worker's end, which is past", drop()),
        LetterSort::Timer if !durable => {
            return refused("the state in which the timer was set is gone: its worker keeps none", drop());
        }
        LetterSort::Cast | LetterSort::Timer => {}
    }
    if worker.kind == Kind::Command {
        return refused("its worker is a command: it takes no messages", drop());
    }
    if is_poison {
        let why = format!("its like ended revision {} three times, and that revision still serves", worker.revision);
        return refused(&why, format!("`paguro upgrade {name} FILE` changes the revision; then send it again"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ComponentHash, Incarnation, RevisionNumber, Tick, TimerId, Timestamp};
    use crate::record::LetterWhy;
    use crate::runtime::Standing;
    use crate::sandbox::Exports;

    fn letter(sort: LetterSort, why: LetterWhy) -> DeadLetterRecord {
        DeadLetterRecord {
            id: 7,
            at: Timestamp(0),
            worker: Name::parse("w").unwrap(),
            sort,
            from: None,
            timer: (sort == LetterSort::Timer).then_some(TimerId(3)),
            why,
            reason: String::new(),
            exit: None,
            revision: RevisionNumber(2),
            bytes: 4,
        }
    }

    fn status(revision: u64, kind: Kind) -> Status {
        Status {
            standing: Standing::Running,
            since: Tick::ZERO,
            up_since: Tick::ZERO,
            incarnation: Incarnation(0),
            component: ComponentHash::of(b""),
            revision: RevisionNumber(revision),
            kind,
            exports: Exports::default(),
            version: None,
            last_exit: None,
            was_asked: false,
            health: None,
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_sent_again() {
        use LetterSort::{Call, Cast, Down, Timer};
        use LetterWhy::{EndedWorker, Poison, Removed};
        let cut = DeadLetterRecord { bytes: 2 << 20, ..letter(Cast, Removed) };
        let cases = [
            (letter(Cast, EndedWorker), 2, Kind::Worker, false, None),
            (letter(Timer, Removed), 2, Kind::Worker, true, None),
            (letter(Cast, Poison), 3, Kind::Worker, true, None),
            (letter(Cast, Poison), 2, Kind::Worker, true, Some("paguro upgrade w FILE")),
            (letter(Timer, Removed), 2, Kind::Worker, false, Some("drop 7")),
            (letter(Down, Removed), 2, Kind::Worker, true, Some("drop 7")),
            (letter(Call, Poison), 3, Kind::Worker, true, Some("show 7 | paguro call w -")),
            (letter(Cast, LetterWhy::Command), 2, Kind::Command, true, Some("drop 7")),
            (cut, 2, Kind::Worker, true, Some("drop 7")),
        ];
        for (letter, revision, kind, durable, expected) in cases {
            let is_poison = letter.why == Poison && letter.revision.0 == revision;
            let told = refusal(&letter, is_poison, &status(revision, kind), durable);
            match expected {
                None => assert_eq!(told, None, "{letter:?}"),
                Some(word) => {
                    assert!(told.as_ref().is_some_and(|told| told.help.contains(word)), "{letter:?} {told:?}")
                }
            }
        }
    }
}
