//! From the exports of the contract to the traits. Named by the macros, not by people.

use crate::bindings::batch::exports::paguro::worker::batch;
use crate::bindings::handler::exports::paguro::worker::handler;
use crate::bindings::stateful::exports::paguro::worker::{health, lifecycle, state};
use crate::message;
use crate::types::{Answer, CallId, ExitReason, Health, MonitorId, Snapshot, TimerId};
use crate::{Batch, Context, Worker};

/// Where the worker of this instance lives.
pub trait Instance {
    /// Its type.
    type Worker: Worker;

    /// The worker for a first message that comes before any start.
    fn first() -> Result<Self::Worker, String>;

    /// Lends the worker. `None` until it has started.
    fn with<R>(f: impl FnOnce(&mut Option<Self::Worker>) -> R) -> R;
}

const NOT_STARTED: &str = "the worker has not been started";

/// [`Instance::first`] of a component that the host starts with `init` or `restore-state`.
pub fn not_started<W: Worker>() -> Result<W, String> {
    Err(NOT_STARTED.to_owned())
}

/// [`Instance::first`] of a component that exports nothing to start it with.
pub fn start_untold<W: Worker>() -> Result<W, String> {
    W::init(&Context {
        config_json: "{}".to_owned(),
        ..Context::default()
    })
}

fn started<I: Instance, R>(
    f: impl FnOnce(&mut I::Worker) -> Result<R, String>,
) -> Result<R, String> {
    I::with(|slot| match slot {
        Some(worker) => f(worker),
        None => f(slot.insert(I::first()?)),
    })
}

impl<I: Instance> handler::Guest for I {
    fn handle_call(call: u64, request: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        let request = message::read(&request)?;
        match started::<I, _>(|worker| worker.call(CallId(call), request))? {
            Answer::Now(reply) => message::write(&reply).map(Some),
            Answer::Later => Ok(None),
        }
    }

    fn handle_cast(body: Vec<u8>) -> Result<(), String> {
        let body = message::read(&body)?;
        started::<I, _>(|worker| worker.cast(body))
    }

    fn handle_info(info: handler::Info) -> Result<(), String> {
        match info {
            handler::Info::Timer((timer, body)) => {
                let body = message::read(&body)?;
                started::<I, _>(|worker| worker.timer(TimerId(timer), body))
            }
            handler::Info::Down((monitor, name, reason)) => {
                started::<I, _>(|worker| worker.down(MonitorId(monitor), &name, reason))
            }
        }
    }
}

impl From<lifecycle::Context> for Context {
    fn from(context: lifecycle::Context) -> Self {
        let lifecycle::Context {
            name,
            incarnation,
            component,
            config,
        } = context;
        Context {
            name,
            incarnation,
            component,
            config_json: config,
        }
    }
}

impl<I: Instance> lifecycle::Guest for I {
    fn init(context: lifecycle::Context) -> Result<(), String> {
        let worker = I::Worker::init(&context.into())?;
        I::with(|slot| *slot = Some(worker));
        Ok(())
    }

    fn resume(context: lifecycle::Context) -> Result<(), String> {
        started::<I, _>(|worker| worker.resume(&context.into()))
    }

    fn terminate(reason: ExitReason) {
        I::with(|slot| {
            if let Some(worker) = slot {
                worker.terminate(reason);
            }
        });
    }
}

impl<I: Instance> state::Guest for I {
    fn save_state() -> Result<Snapshot, String> {
        started::<I, _>(|worker| worker.save())
    }

    fn restore_state(snapshot: Snapshot) -> Result<(), String> {
        let worker = I::Worker::restore(snapshot)?;
        I::with(|slot| *slot = Some(worker));
        Ok(())
    }

    fn upgrade_state(old: Snapshot) -> Result<Snapshot, String> {
        if old.schema == I::Worker::SCHEMA {
            return Ok(old);
        }
        I::Worker::upgrade(old)?.save()
    }
}

impl<I: Instance> health::Guest for I {
    fn check() -> health::Status {
        let health = I::with(|slot| match slot {
            Some(worker) => worker.health(),
            None => Health::Critical(NOT_STARTED.to_owned()),
        });
        match health {
            Health::Healthy => health::Status::Healthy,
            Health::Degraded(why) => health::Status::Degraded(why),
            Health::Critical(why) => health::Status::Critical(why),
        }
    }
}

impl<I: Instance<Worker: Batch>> batch::Guest for I {
    /// A message that cannot be read fails alone; the others keep their order and their index.
    fn handle_casts(messages: Vec<Vec<u8>>) -> Vec<(u32, String)> {
        let mut failed = Vec::new();
        let mut indices = Vec::with_capacity(messages.len());
        let mut casts = Vec::with_capacity(messages.len());
        for (index, body) in (0_u32..).zip(messages) {
            match message::read(&body) {
                Ok(cast) => {
                    indices.push(index);
                    casts.push(cast);
                }
                Err(why) => failed.push((index, why)),
            }
        }
        match started::<I, _>(|worker| Ok(worker.casts(casts))) {
            Ok(refused) => failed.extend(
                refused
                    .into_iter()
                    .filter_map(|(position, why)| Some((*indices.get(position as usize)?, why))),
            ),
            Err(why) => failed.extend(indices.into_iter().map(|index| (index, why.clone()))),
        }
        failed
    }
}
