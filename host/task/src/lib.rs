//! Jobs that run on a runtime's threads, or at once on the thread of whoever gives them something to do.
//!
//! To wake a task of a runtime and to wait for what it answers is two changes of task. Mostly the one who gives a job
//! something to do waits for it, and the job rests: then he runs it himself, until it waits again.
//!
//! - [`Cell`] is a job's state: one [`Word`] that says who may touch it (with the proof), and its work.
//! - [`Job`] is what a user implements: how the work is polled, and where its runtime is.
//! - [`lend`], [`give`] and [`Lent`] run a job on this thread; [`wake`] has its runtime run it, by an [`OfRuntime`].
//! - A thread knows how deep it is in jobs, and which one is due when the outermost has ended ([`run_later`]).
//!
//! It knows neither tokio nor what a job does, so that model checkers can run all of it (`cargo xtask model`).

mod cell;
mod job;
mod sync;
mod thread;
mod word;

pub use cell::Cell;
pub use job::{Job, Lent, OfRuntime, Polled, close, give, lend, wake};
pub use thread::{Due, NESTED_MAX, depth, inside, run_due, run_later};
pub use word::{Rest, Word};
