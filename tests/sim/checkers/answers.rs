//! What an operator is told is true (OTP.md, *Answers to an operator*).

use std::collections::BTreeMap;

use paguro::base::Name;
use paguro::record::Event;
use paguro::runtime::{Standing, TreeError};

use super::book::Book;
use super::{Checker, Wrong};
use crate::stream::{Entry, Fact, Reached, Request, State, parent};

#[derive(Default)]
pub struct Answers {
    /// What is asked, and whether anything else was that concerns the same.
    open: BTreeMap<u64, Open>,
}

struct Open {
    request: Request,
    alone: bool,
    known: bool,
    keyed: bool,
    /// What became of its subject since.
    started: bool,
    ignored: bool,
    failed: bool,
}

impl Checker for Answers {
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong) {
        match &entry.fact {
            Fact::Asked { ask, request } => self.asked(book, *ask, request),
            Fact::Replied { ask, reply, child } => {
                if let Some(open) = self.open.remove(ask) {
                    replied(book, &open, reply, child.as_ref(), wrong);
                }
            }
            Fact::Event(event) => self.event(event),
            _ => {}
        }
    }

    fn end(&mut self, _: &Book, wrong: &mut Wrong) {
        for open in self.open.values() {
            wrong.that(format!("never answered: {:?}", open.request));
        }
    }
}

impl Answers {
    fn asked(&mut self, book: &Book, ask: u64, request: &Request) {
        let subject = request.subject();
        let mut alone = true;
        for other in self.open.values_mut() {
            let theirs = other.request.subject();
            if theirs == subject || theirs.is_below(&subject) || subject.is_below(&theirs) {
                (alone, other.alone) = (false, false);
            }
        }
        alone &= !book.is_disturbed(&subject) && !book.ends(&subject) && !book.has_round(&parent(&subject));
        let (known, keyed) = (book.is_known(&subject), book.is_keyed(&subject));
        let request = request.clone();
        self.open.insert(ask, Open { request, alone, known, keyed, started: false, ignored: false, failed: false });
    }

    fn event(&mut self, event: &Event) {
        let mut of = |name: &Name, note: &dyn Fn(&mut Open)| {
            self.open.values_mut().filter(|open| open.request.subject() == *name).for_each(note);
        };
        match event {
            Event::WorkerStarted { worker, .. } => of(worker, &|open| open.started = true),
            Event::StartIgnored { worker } => of(worker, &|open| open.ignored = true),
            Event::WorkerStartFailed { worker, .. } | Event::WorkerExited { worker, .. } => {
                of(worker, &|open| open.failed = true);
            }
            Event::SupervisorStarted { supervisor } => {
                of(supervisor, &|open| open.started = true);
                self.disturb(supervisor);
            }
            Event::SupervisorStopped { supervisor, .. } => {
                of(supervisor, &|open| open.failed = true);
                self.disturb(supervisor);
            }
            Event::SupervisorGaveUp { supervisor, .. }
            | Event::AutoShutdown { supervisor, .. }
            | Event::RestartTogether { supervisor, .. } => self.disturb(supervisor),
            // Siblings that are down start with it, where they start together: that is no event of its own.
            Event::RestartScheduled { worker, .. } => self.disturb(&parent(worker)),
            _ => {}
        }
    }

    /// A supervisor starts or ends, or moves its children: answers about what is below may be overtaken.
    fn disturb(&mut self, supervisor: &Name) {
        for open in self.open.values_mut().filter(|open| open.request.subject().is_below(supervisor)) {
            open.alone = false;
        }
    }
}

fn replied(book: &Book, open: &Open, reply: &Result<Reached, TreeError>, child: Option<&State>, wrong: &mut Wrong) {
    let subject = open.request.subject();
    if !open.alone {
        return;
    }
    let up = book.is_up(&parent(&subject));
    let standing = child.map(|child| child.standing.clone());
    let at_rest = matches!(standing, None | Some(Standing::Down | Standing::Isolated(_)));
    let isolated = matches!(standing, Some(Standing::Isolated(_)));
    let is_worker = book.workers.contains_key(&subject);
    let below = book.live.keys().find(|worker| **worker == subject || worker.is_below(&subject));
    let fits = match (&open.request, reply) {
        // A key on demand may be asked for again by the next message, and one whose supervisor is about to start starts
        // with it.
        (Request::Stop(_), Ok(_)) => {
            let comes_back = !up && standing == Some(Standing::Restarting);
            let rests = at_rest || comes_back || !is_worker || book.is_on_demand(&subject);
            below.is_none() && (open.known || open.keyed) && rests
        }
        (Request::Isolate(_), Ok(_)) => below.is_none() && (open.known || open.keyed) && (isolated || !is_worker),
        (Request::Remove(_), Ok(_)) => below.is_none() && (open.known || open.keyed) && child.is_none(),
        (Request::Delete(_), Ok(_)) => below.is_none() && (open.known || open.keyed) && child.is_none(),
        (Request::Start(_) | Request::Restart(_), Ok(Reached::Runs)) => open.started && (open.known || open.keyed),
        (Request::Start(_) | Request::Restart(_), Ok(Reached::Ignored)) => open.ignored,
        (Request::Start(_) | Request::Restart(_), Err(TreeError::NotStarted { .. })) => open.failed,
        (Request::Start(_) | Request::Restart(_), Err(TreeError::Running(_))) => {
            // It runs, starts, or waits for its turn in its supervisor's start.
            (open.known || open.keyed) && !(up && is_worker && isolated)
        }
        (Request::Start(_) | Request::Restart(_) | Request::Delete(_), Err(TreeError::Restarting(_)))
        | (Request::Delete(_), Err(TreeError::Running(_))) => open.known || open.keyed,
        (Request::Start(_) | Request::Restart(_), Err(TreeError::SupervisorDown(_))) => !up,
        (
            Request::Start(_) | Request::Restart(_) | Request::Stop(_) | Request::Isolate(_) | Request::Delete(_),
            Err(TreeError::NotFound(_) | TreeError::NoSupervisor(_)),
        ) => !open.known || open.keyed,
        (Request::Remove(_), Err(TreeError::NotFound(_) | TreeError::NoSupervisor(_))) => !open.known || open.keyed,
        (Request::AddWorker(_) | Request::AddSupervisor(_), Ok(_)) => !open.known,
        (Request::AddWorker(_) | Request::AddSupervisor(_), Err(TreeError::AlreadyThere(_))) => open.known,
        (Request::AddWorker(_) | Request::AddSupervisor(_), Err(TreeError::NoSupervisor(above))) => {
            !above.is_root() && !book.is_known(above)
        }
        (Request::Configure(_) | Request::ConfigureWorker(_), reply) => {
            reply.is_ok() == (open.known || subject.is_root())
        }
        (Request::StartTree | Request::StopTree, reply) => reply.is_ok(),
        _ => false,
    };
    if !fits {
        wrong.that(format!("{:?}: {reply:?}; it stands as {standing:?}, below it runs {below:?}", open.request));
    }
}
