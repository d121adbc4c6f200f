//! Write a Paguro worker in Rust: one trait, one macro, typed state and messages.
//!
//! ```
//! use paguro_sdk::{Answer, CallId, Context, Worker, worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Counter {
//!     count: u64,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! enum Request {
//!     Add(Option<u64>),
//!     Get,
//! }
//!
//! impl Worker for Counter {
//!     type Call = Request;
//!     type Reply = u64;
//!     type Cast = Request;
//!
//!     fn init(_: &Context) -> Result<Self, String> {
//!         Ok(Counter { count: 0 })
//!     }
//!
//!     fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
//!         if let Request::Add(by) = request {
//!             self.count += by.unwrap_or(1);
//!         }
//!         Ok(self.count.into())
//!     }
//! }
//!
//! worker!(Counter);
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip2`; the file that cargo writes is the component.
//!
//! # What a worker gets without asking
//!
//! - **State.** The type *is* the state. It is saved as JSON with [`Worker::SCHEMA`], so it survives
//!   hibernation, crashes and upgrades. When the layout changes, raise `SCHEMA` and write
//!   [`Worker::upgrade`].
//! - **Messages.** Requests, replies and casts are JSON; how a body is read is in [`mod@message`].
//! - **Logs.** `println!` and `eprintln!` arrive in the worker's log, as [`log`] does.
//!
//! # Which macro
//!
//! | macro | trait | exports |
//! |---|---|---|
//! | [`worker!`] | [`Worker`] | lifecycle, handler, state, health |
//! | [`batch_worker!`] | [`Worker`] + [`Batch`] | the same and batch |
//! | [`handler!`] | [`Worker`] | handler alone: no state to keep, nothing to prepare |
//!
//! # What this crate does not do
//!
//! It never catches a panic: a panic is a trap, and a trap is how a worker says that it failed. Its
//! supervisor knows what to do then.

#[doc(hidden)]
pub mod bindings;
mod context;
#[doc(hidden)]
pub mod export;
mod host;
mod macros;
pub mod message;
mod types;
mod worker;

pub use context::Context;
pub use host::{
    broadcast, call, call_raw, caller, cancel, cast, cast_raw, count, demonitor, gauge, hibernate,
    join, leave, log, members, monitor, reply, reply_raw, send_after, send_after_raw, start_child,
    stop, stop_child,
};
pub use types::{
    Answer, CallError, CallId, ExitReason, Health, Level, MonitorId, Snapshot, StartError, TimerId,
};
pub use worker::{Batch, Worker};
