//! The traits that a worker implements.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Answer, CallId, Context, ExitReason, Health, MonitorId, Snapshot, TimerId};

/// A worker with state. The type is the state.
///
/// Every method handles its message to the end before the next is taken. A panic is a trap: the
/// instance is gone and the supervisor decides what comes next.
pub trait Worker: Serialize + DeserializeOwned + 'static {
    /// Version of the layout of the state. Raise it whenever the layout changes, and teach
    /// [`Worker::upgrade`] the older one.
    const SCHEMA: u32 = 1;

    /// What a caller may ask.
    type Call: DeserializeOwned;
    /// What it gets. `serde_json::Value` if answers differ in kind.
    type Reply: Serialize;
    /// Messages that nobody waits for, timers included.
    type Cast: DeserializeOwned;

    /// Makes the first state. Not called when the worker continues from a snapshot.
    ///
    /// # Errors
    /// Fails the start.
    fn init(context: &Context) -> Result<Self, String>;

    /// A request whose caller waits. `Ok(value.into())` answers it now, [`Answer::Later`] promises
    /// a [`crate::reply`].
    ///
    /// # Errors
    /// Handed to the caller as `rejected`; the worker is well and carries on.
    fn call(&mut self, call: CallId, request: Self::Call) -> Result<Answer<Self::Reply>, String>;

    /// A message that nobody waits for.
    ///
    /// # Errors
    /// Logged and counted.
    fn cast(&mut self, message: Self::Cast) -> Result<(), String> {
        let _ = message;
        Err("this worker takes no casts".to_owned())
    }

    /// A timer set with [`crate::send_after`] fired. Unless you say otherwise, it is a cast to
    /// oneself.
    ///
    /// # Errors
    /// Logged and counted.
    fn timer(&mut self, timer: TimerId, message: Self::Cast) -> Result<(), String> {
        let _ = timer;
        self.cast(message)
    }

    /// A worker that [`crate::monitor`] watches stopped.
    ///
    /// # Errors
    /// Logged and counted.
    fn down(&mut self, monitor: MonitorId, name: &str, reason: ExitReason) -> Result<(), String> {
        let _ = (monitor, name, reason);
        Ok(())
    }

    /// Asked on a schedule and during probation. Answer quickly.
    fn health(&self) -> Health {
        Health::Healthy
    }

    /// The worker continues from a snapshot: after hibernation, a crash, an upgrade or a rollback.
    /// The place to read the configuration again.
    ///
    /// # Errors
    /// Fails the start, or calls the upgrade off.
    fn resume(&mut self, context: &Context) -> Result<(), String> {
        let _ = context;
        Ok(())
    }

    /// The last call into an instance that stops in order. Not called after a trap.
    fn terminate(&mut self, reason: ExitReason) {
        let _ = reason;
    }

    /// Turns a snapshot of another schema, older or newer, into a state of this one. Must be a pure
    /// function of `old`: rehearsals run it on a copy. [`Snapshot::read`] gives the old layout its
    /// type.
    ///
    /// # Errors
    /// Says that the snapshot cannot be taken over; the upgrade is called off.
    fn upgrade(old: Snapshot) -> Result<Self, String> {
        Err(format!(
            "schema {} is not known to this worker, which has {}",
            old.schema,
            Self::SCHEMA
        ))
    }

    /// Saves the state. JSON, unless you have a reason.
    ///
    /// # Errors
    /// Refuses; an upgrade under way is called off.
    fn save(&self) -> Result<Snapshot, String> {
        Snapshot::json(Self::SCHEMA, self)
    }

    /// Takes back what [`Worker::save`] made.
    ///
    /// # Errors
    /// Fails the start, or calls the upgrade off.
    fn restore(snapshot: Snapshot) -> Result<Self, String> {
        snapshot.read()
    }
}

/// A worker that takes many casts, several at a time.
pub trait Batch: Worker {
    /// Handles these casts in order, each to its end. Returns the index and the reason of each that
    /// failed.
    fn casts(&mut self, messages: Vec<Self::Cast>) -> Vec<(u32, String)> {
        let mut failed = Vec::new();
        for (index, message) in (0..).zip(messages) {
            if let Err(reason) = self.cast(message) {
                failed.push((index, reason));
            }
        }
        failed
    }
}

impl Snapshot {
    /// A snapshot that the host can show, compare and edit.
    ///
    /// # Errors
    /// If the state's own `Serialize` fails.
    pub fn json<T: Serialize>(schema: u32, state: &T) -> Result<Self, String> {
        let data =
            serde_json::to_vec(state).map_err(|e| format!("the state cannot be written: {e}"))?;
        Ok(Snapshot {
            schema,
            media_type: "application/json".to_owned(),
            data,
        })
    }

    /// The state in a JSON snapshot.
    ///
    /// # Errors
    /// If it is not JSON, or not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        if self.media_type != "application/json" {
            return Err(format!(
                "the state is {}, not application/json",
                self.media_type
            ));
        }
        serde_json::from_slice(&self.data)
            .map_err(|e| format!("the state of schema {} does not fit: {e}", self.schema))
    }
}
