//! What must be true of every run, whatever its seed. Each checker reads the one stream, keeps its own
//! account of what must follow, and asks the runtime nothing.

mod answers;
mod book;
mod budgets;
mod messages;
mod order;
mod orphans;
mod significant;

use book::Book;

use crate::script::Plan;
use crate::stream::Entry;

/// One rule, and what it needs to know.
trait Checker {
    /// Sees an entry; the book is as it was before it.
    fn see(&mut self, book: &Book, entry: &Entry, wrong: &mut Wrong);

    /// Nothing follows.
    fn end(&mut self, _: &Book, _: &mut Wrong) {}
}

/// What was found, each with the moment.
pub struct Wrong {
    at: u64,
    found: Vec<String>,
}

impl Wrong {
    fn that(&mut self, what: String) {
        self.found.push(format!("at {}.{:03}: {what}", self.at / 1_000, self.at % 1_000));
    }
}

/// Everything that is wrong with a run.
pub fn check(plan: &Plan, entries: &[Entry]) -> Vec<String> {
    let mut book = Book::new(plan, entries);
    let mut checkers: [Box<dyn Checker>; 6] = [
        Box::new(order::Order::default()),
        Box::new(budgets::Budgets::default()),
        Box::new(orphans::Orphans::default()),
        Box::new(significant::Significant::default()),
        Box::new(messages::Messages::default()),
        Box::new(answers::Answers::default()),
    ];
    let mut wrong = Wrong { at: 0, found: Vec::new() };
    for (at, entry) in entries.iter().enumerate() {
        wrong.at = entry.at;
        book.at = at;
        for checker in &mut checkers {
            checker.see(&book, entry, &mut wrong);
        }
        book.take(entry);
    }
    for checker in &mut checkers {
        checker.end(&book, &mut wrong);
    }
    wrong.found
}
