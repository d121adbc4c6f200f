//! No message is lost, none is handled twice, and between two their order is kept (DESIGN section 6).
//!
//! A guest logs each message it takes, with its own incarnation: so what became of a message is known
//! even where the instance that took it has ended.

use std::collections::BTreeMap;

use paguro::base::{ExitReason, Name};
use paguro::record::Event;
use paguro::runtime::{Outcome, Standing};
use paguro::sandbox::CallError;

use super::book::Book;
use super::{Checker, Wrong};
use crate::stream::{Entry, Fact, Sent, State, name};

#[derive(Default)]
pub struct Messages {
    messages: BTreeMap<u64, Message>,
    /// In the order in which they were taken.
    taken: Vec<u64>,
    /// How many each incarnation took.
    counts: BTreeMap<(Name, usize, u64), u64>,
    /// What a worker sends and has no outcome of yet.
    sending: BTreeMap<Name, u64>,
    /// Casts that were given up when a worker was removed, and messages that ended their worker.
    removed: BTreeMap<(Name, usize), u64>,
    fatal: BTreeMap<Name, u64>,
    /// Why each incarnation ended.
    /// How each worker ended last, or why it did not start.
    /// When it ended, and why. The newest last.
    all_ends: BTreeMap<Name, Vec<(u64, ExitReason)>>,
    ends: BTreeMap<(Name, usize, u64), (u64, ExitReason)>,
}

struct Message {
    /// `None`: a client outside the tree.
    from: Option<Name>,
    to: Name,
    life: usize,
    /// The how manieth of all it was that was sent.
    place: usize,
    operation: String,
    sort: Sort,
    accepted: Accepted,
    taken: Option<Taken>,
    answered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// With the moment at which nobody waits any more, where that is known.
    Call(Option<u64>),
    Cast,
    Timer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    Yes,
    No,
    /// Who sent it ended before it could say.
    Unknown,
}

struct Taken {
    /// By which worker of that name, and in which incarnation.
    life: usize,
    incarnation: u64,
    /// The how manieth message of that incarnation it was.
    place: u64,
}

impl Checker for Messages {
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong) {
        match &entry.fact {
            Fact::Sent(sent) => self.sent(book, sent, wrong),
            Fact::Said { worker, text } => self.said(book, entry.at, worker, text, wrong),
            Fact::Answered { id, outcome } => self.answered(book, entry.at, *id, outcome, wrong),
            Fact::Event(Event::WorkerExited { worker, incarnation, reason }) => {
                self.all_ends.entry(worker.clone()).or_default().push((entry.at, reason.clone()));
                let life = (worker.clone(), book.life(worker), incarnation.0);
                self.ends.insert(life, (entry.at, reason.clone()));
            }
            Fact::Event(Event::WorkerStartFailed { worker, reason, .. }) => {
                self.all_ends.entry(worker.clone()).or_default().push((entry.at, reason.clone()));
            }
            Fact::Event(Event::DeadLetter { worker, sort: "cast", reason, .. }) => {
                if reason.starts_with("it ended the worker") {
                    *self.fatal.entry(worker.clone()).or_default() += 1;
                } else {
                    *self.removed.entry((worker.clone(), life(book, worker))).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, _: &Book, wrong: &mut Wrong) {
        self.in_order(wrong);
        self.none_lost(wrong);
        self.fatal_ones_are_letters(wrong);
    }
}

impl Messages {
    fn sent(&mut self, book: &Book, sent: &Sent, wrong: &mut Wrong) {
        let accepted = if sent.refused.is_none() { Accepted::Yes } else { Accepted::No };
        if let Some(why) = refused_wrongly(book, sent) {
            wrong.that(format!("message {} to {:?}: {why}", sent.id, sent.to));
        }
        let sort = sent.deadline.map_or(Sort::Cast, |deadline| Sort::Call(Some(deadline)));
        self.add(book, sent.id, None, &sent.to, &sent.operation, sort, accepted);
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of the message")]
    fn add(
        &mut self,
        book: &Book,
        id: u64,
        from: Option<&Name>,
        to: &Name,
        operation: &str,
        sort: Sort,
        accepted: Accepted,
    ) {
        let message = Message {
            from: from.cloned(),
            to: to.clone(),
            life: life(book, to),
            place: self.messages.len(),
            operation: operation.to_string(),
            sort,
            accepted,
            taken: None,
            answered: false,
        };
        self.messages.insert(id, message);
    }

    /// What a guest logs is what it does: `took ID`, `call NAME ID OPERATION`, `cast` likewise, `so
    /// OUTCOME`, `timer TIMER ID OPERATION`, each after its incarnation.
    fn said(&mut self, book: &Book, at: u64, worker: &Name, text: &str, wrong: &mut Wrong) {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let (Some(incarnation), Some(word)) = (number(0), words.get(1)) else { return };
        match *word {
            "took" => {
                let Some(id) = number(2) else { return };
                self.sending.remove(worker);
                self.took(book, at, worker, id, incarnation, wrong);
            }
            sort @ ("call" | "cast") => {
                let Some(id) = number(3) else { return };
                let sort = if sort == "call" { Sort::Call(None) } else { Sort::Cast };
                let operation = words[4..].join(" ");
                self.add(book, id, Some(worker), &name(words[2]), &operation, sort, Accepted::Unknown);
                self.sending.insert(worker.clone(), id);
            }
            "so" => {
                let Some(id) = self.sending.remove(worker) else { return };
                let Some(message) = self.messages.get_mut(&id) else { return };
                message.answered = true;
                message.accepted = match (words[2], words.get(3)) {
                    ("no:", Some(&("not-found" | "overloaded" | "cycle" | "too-large" | "circuit-open"))) => {
                        Accepted::No
                    }
                    ("no:", Some(&("down" | "timeout"))) => Accepted::Unknown,
                    _ => Accepted::Yes,
                };
                if matches!(message.sort, Sort::Cast) && words[2] == "no:" {
                    message.accepted = Accepted::No;
                }
            }
            "timer" => {
                let Some(id) = number(3) else { return };
                let operation = words[4..].join(" ");
                self.add(book, id, Some(worker), worker, &operation, Sort::Timer, Accepted::Unknown);
            }
            _ => {}
        }
    }

    fn took(&mut self, book: &Book, at: u64, worker: &Name, id: u64, incarnation: u64, wrong: &mut Wrong) {
        let count = self.counts.entry((worker.clone(), book.life(worker), incarnation)).or_default();
        *count += 1;
        // Those that `mute` gets from workers that wait have no number.
        if id == 0 {
            return;
        }
        let Some(message) = self.messages.get_mut(&id) else {
            return wrong.that(format!("{worker:?} took message {id}, which nobody sent"));
        };
        if message.to != *worker || message.life != life(book, worker) {
            wrong.that(format!("{worker:?} took message {id}, which was for {:?}", message.to));
        }
        if message.taken.is_some() {
            wrong.that(format!("{worker:?} took message {id} twice"));
        }
        if let Sort::Call(Some(deadline)) = message.sort
            && at >= deadline
        {
            wrong.that(format!("{worker:?} took message {id}, for which nobody waited since {deadline}"));
        }
        message.taken = Some(Taken { life: book.life(worker), incarnation, place: *count });
        self.taken.push(id);
    }

    fn answered(&mut self, book: &Book, at: u64, id: u64, outcome: &Outcome, wrong: &mut Wrong) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        let Sort::Call(Some(deadline)) = message.sort else { return };
        if std::mem::replace(&mut message.answered, true) {
            wrong.that(format!("message {id} was answered twice"));
        }
        if at > deadline + book.grain {
            wrong.that(format!("message {id} was answered at {at}, its deadline was {deadline}"));
        }
        let fits = match (outcome, &message.taken) {
            (Ok(reply), Some(taken)) if message.operation == "count" => {
                **reply == *format!("\"{}\"", taken.place).as_bytes()
            }
            (Ok(_), taken) => taken.is_some(),
            (Err(CallError::Rejected(_)), taken) => taken.is_some(),
            (Err(CallError::Timeout), None) => at >= deadline,
            // Who holds a call when it ends tells its caller at once.
            (Err(CallError::Timeout), Some(taken)) => {
                let end = self.ends.get(&(message.to.clone(), taken.life, taken.incarnation));
                at >= deadline && end.is_none_or(|(end, _)| end + book.grain >= deadline)
            }
            // It waited when its worker came to rest: removed, stopped, or let go of after it ended so.
            (Err(CallError::Down(reason)), None) => {
                let removed = *reason == ExitReason::Shutdown && book.life(&message.to) > 0;
                // He may be told when another that was started meanwhile has ended too.
                let ends = self.all_ends.get(&message.to).map_or(&[][..], |ends| ends);
                let just_now = ends.iter().filter(|(end, _)| end + book.grain >= at);
                removed || just_now.chain(ends.last()).any(|(_, end)| end == reason)
            }
            (Err(CallError::Down(reason)), Some(taken)) => {
                let end = self.ends.get(&(message.to.clone(), taken.life, taken.incarnation));
                // Who is told first, the caller or the record, is not said.
                end.is_none_or(|(_, end)| end == reason)
            }
            _ => false,
        };
        if !fits {
            wrong.that(format!("message {id} ({}) was answered {outcome:?}", message.operation));
        }
    }

    /// What one sender sends to one receiver is taken in the order in which it was sent.
    fn in_order(&self, wrong: &mut Wrong) {
        let mut last: BTreeMap<(Option<&Name>, &Name), usize> = BTreeMap::new();
        for id in &self.taken {
            let message = &self.messages[id];
            // A timer's is sent when it fires.
            if message.sort == Sort::Timer {
                continue;
            }
            let before = last.insert((message.from.as_ref(), &message.to), message.place);
            if before.is_some_and(|before| before > message.place) {
                wrong.that(format!("{:?} took message {id} after one that was sent later", message.to));
            }
        }
        for (id, message) in &self.messages {
            if message.accepted == Accepted::No && message.taken.is_some() {
                wrong.that(format!("message {id} was refused, and taken by {:?}", message.to));
            }
        }
    }

    fn none_lost(&self, wrong: &mut Wrong) {
        let mut lost: BTreeMap<(Name, usize), (u64, u64)> = BTreeMap::new();
        for (id, message) in &self.messages {
            match (message.sort, message.accepted) {
                (Sort::Call(Some(_)), Accepted::Yes) if !message.answered => {
                    wrong.that(format!("message {id} was never answered"));
                }
                (Sort::Cast, accepted) if accepted != Accepted::No && message.taken.is_none() => {
                    let lost = lost.entry((message.to.clone(), message.life)).or_default();
                    if accepted == Accepted::Yes { lost.0 += 1 } else { lost.1 += 1 }
                }
                _ => {}
            }
        }
        let receivers: std::collections::BTreeSet<_> = lost.keys().chain(self.removed.keys()).collect();
        for receiver in receivers {
            let (known, unknown) = lost.get(receiver).copied().unwrap_or_default();
            let letters = self.removed.get(receiver).copied().unwrap_or_default();
            if letters < known || letters > known + unknown {
                wrong.that(format!(
                    "{:?} was sent {known} casts (and perhaps {unknown}) that it never took; {letters} are dead letters",
                    receiver.0
                ));
            }
        }
    }

    /// A cast that ends its worker becomes a dead letter, and the worker ends of it.
    fn fatal_ones_are_letters(&self, wrong: &mut Wrong) {
        let mut fatal: BTreeMap<&Name, u64> = BTreeMap::new();
        for (id, message) in self.messages.iter().filter(|(_, message)| message.operation == "die") {
            let Some(taken) = &message.taken else { continue };
            let end = self.ends.get(&(message.to.clone(), taken.life, taken.incarnation));
            if end.is_none_or(|(_, end)| end.word() != "trap") {
                wrong.that(format!("message {id} was to end {:?}, which ended as {end:?}", message.to));
            }
            if message.sort == Sort::Cast {
                *fatal.entry(&message.to).or_default() += 1;
            }
        }
        for (worker, count) in fatal {
            let letters = self.fatal.get(worker).copied().unwrap_or_default();
            if letters < count {
                wrong.that(format!("{count} casts ended {worker:?}, and {letters} of them are dead letters"));
            }
        }
    }
}

/// Which worker of a name a message is for. A key's child comes with the message, so a guest's own word
/// does not say which one it was: all of that key count as one.
fn life(book: &Book, worker: &Name) -> usize {
    if book.is_keyed(worker) { 0 } else { book.life(worker) }
}

/// A message is refused for a reason that can be seen, and accepted where there is none.
fn refused_wrongly(book: &Book, sent: &Sent) -> Option<String> {
    let Some(State { standing, waiting, .. }) = &sent.receiver else {
        return (sent.refused != Some(CallError::NotFound)).then(|| format!("{:?}, and it is not there", sent.refused));
    };
    let at_rest = matches!(standing, Standing::Down | Standing::Isolated(_));
    // One that was never started waits for its first start, and its messages with it.
    let takes = !at_rest || !book.was_tried(&sent.to);
    let max = book.workers.get(&sent.to).map_or(usize::MAX, |worker| worker.mailbox);
    let fits = match &sent.refused {
        None => *waiting < max && takes,
        Some(CallError::Down(_)) => at_rest,
        Some(CallError::Overloaded) => takes && (*waiting >= max || book.is_short_of_memory),
        Some(_) => false,
    };
    (!fits).then(|| format!("{:?}, with {waiting} waiting of {max}, {}", sent.refused, standing.word()))
}
