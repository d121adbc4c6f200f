//! No worker has two instances, none outlives its supervisor, and each start is another incarnation.

use std::collections::BTreeMap;

use paguro::base::Name;
use paguro::record::Event;
use paguro::runtime::Standing;

use super::book::Book;
use super::{Checker, Wrong};
use crate::stream::{Entry, Fact, Look, Request, SupervisorState};

#[derive(Default)]
pub struct Orphans {
    /// The newest incarnation of each worker, by which worker of that name it is.
    newest: BTreeMap<(Name, usize), u64>,
}

impl Checker for Orphans {
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong) {
        match &entry.fact {
            Fact::Event(Event::WorkerStarted { worker, incarnation, .. }) => {
                if book.live.contains_key(worker) {
                    wrong.that(format!("{worker:?} started twice"));
                }
                let life = (worker.clone(), book.life(worker));
                let before = self.newest.insert(life, incarnation.0);
                if before.is_some_and(|before| before >= incarnation.0) {
                    wrong.that(format!("{worker:?} started as {incarnation:?} after {before:?}"));
                }
            }
            Fact::Event(Event::WorkerExited { worker, incarnation, .. })
                if book.live.get(worker) != Some(&incarnation.0) =>
            {
                let live = book.live.get(worker);
                wrong.that(format!("{worker:?} ended as {incarnation:?}; what ran was {live:?}"));
            }
            Fact::Event(Event::SupervisorStopped { supervisor, .. }) => {
                let left: Vec<&Name> = book.live.keys().filter(|worker| worker.is_below(supervisor)).collect();
                if !left.is_empty() {
                    wrong.that(format!("{supervisor:?} has ended, and below it run {left:?}"));
                }
            }
            Fact::Replied { ask, .. } if book.request(*ask) == Some(&Request::StopTree) && !book.live.is_empty() => {
                wrong.that(format!("the tree has stopped, and these run: {:?}", book.live));
            }
            Fact::Looked(look) => looked(book, look, wrong),
            _ => {}
        }
    }
}

/// What the workers themselves say must agree with what was recorded of them.
fn looked(book: &Book, look: &Look, wrong: &mut Wrong) {
    for (name, state) in &look.workers {
        let live = book.live.contains_key(name);
        if state.instances != usize::from(live) {
            wrong.that(format!("{name:?} has {} instances; recorded as live: {live}", state.instances));
        }
        if live && !matches!(state.standing, Standing::Running | Standing::Stopping) {
            wrong.that(format!("{name:?} runs and stands as {}", state.standing.word()));
        }
        if !live && matches!(state.standing, Standing::Running) {
            wrong.that(format!("{name:?} stands as running and does not"));
        }
        let ended =
            |(above, state): &&(Name, SupervisorState)| name.is_below(above) && !state.running && book.has_ended(above);
        if let Some((above, _)) = look.supervisors.iter().find(ended)
            && live
        {
            wrong.that(format!("{name:?} runs below {above:?}, which does not"));
        }
    }
}
