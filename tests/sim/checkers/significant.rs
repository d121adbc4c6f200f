//! A supervisor shuts down with its significant children: with the first or the last of them that ends by
//! itself for good, and for no other reason (OTP.md, *Significant children*).

use std::collections::{BTreeMap, BTreeSet};

use paguro::base::{ExitReason, Name};
use paguro::record::Event;

use super::book::{Book, demands_restart};
use super::{Checker, Wrong};
use crate::script::AutoShutdown;
use crate::stream::{Entry, Fact, parent};

#[derive(Default)]
pub struct Significant {
    /// Why each worker last ended by itself.
    last: BTreeMap<Name, ExitReason>,
    /// Supervisors that are to shut down, and have not said so.
    closing: BTreeSet<Name>,
}

impl Checker for Significant {
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong) {
        match &entry.fact {
            Fact::Event(Event::WorkerExited { worker, reason, .. }) if !book.was_told() => {
                self.last.insert(worker.clone(), reason.clone());
                self.ended(book, worker, reason);
            }
            Fact::Event(Event::AutoShutdown { supervisor, by }) => {
                self.closing.remove(supervisor);
                if let Some(why) = self.wrongly(book, supervisor, by) {
                    wrong.that(format!("{supervisor:?} shuts down with {by:?}, which {why}"));
                }
            }
            Fact::Event(
                Event::SupervisorStopped { supervisor, .. }
                | Event::SupervisorGaveUp { supervisor, .. }
                | Event::RestartTogether { supervisor, .. },
            ) => {
                self.closing.remove(supervisor);
            }
            Fact::Asked { .. } => self.closing.clear(),
            Fact::Looked(_) => {
                for supervisor in std::mem::take(&mut self.closing) {
                    wrong.that(format!("{supervisor:?} goes on without its significant child"));
                }
            }
            _ => {}
        }
    }
}

impl Significant {
    fn ended(&mut self, book: &Book, worker: &Name, reason: &ExitReason) {
        let supervisor = parent(worker);
        let any = book.supervisors.get(&supervisor).is_some_and(|above| above.auto_shutdown == AutoShutdown::Any);
        let counts = is_significant(book, worker) && !demands_restart(book, worker, reason);
        let calm = book.is_steady(&supervisor) && !book.is_disturbed(worker) && !book.has_round(&supervisor);
        if any && counts && calm && !supervisor.is_root() {
            self.closing.insert(supervisor);
        }
    }

    fn wrongly(&self, book: &Book, supervisor: &Name, by: &Name) -> Option<&'static str> {
        let above = book.supervisors.get(supervisor)?;
        let others = || {
            let others = book.children(supervisor).iter().filter(|child| *child != by && is_significant(book, child));
            others.into_iter().any(|child| book.live.contains_key(child) && !book.is_handled(child))
        };
        if above.auto_shutdown == AutoShutdown::Never {
            return Some("is not to end it");
        }
        if !is_significant(book, by) {
            return Some("is not significant");
        }
        if self.last.get(by).is_some_and(|reason| demands_restart(book, by, reason)) {
            return Some("is to be restarted");
        }
        (above.auto_shutdown == AutoShutdown::All && others()).then_some("is not the last significant one")
    }
}

fn is_significant(book: &Book, child: &Name) -> bool {
    let worker = book.workers.get(child).map(|worker| worker.significant);
    worker.or_else(|| book.supervisors.get(child).map(|supervisor| supervisor.significant)).unwrap_or_default()
}
