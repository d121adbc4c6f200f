//! The contract's imports: turns bindings' types into base types and asks the [`Outside`].

use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use super::bindings::paguro::worker::{children, control, messaging, registry, timers, types};
use super::fault::{LimitReached, cut};
use super::instance::State;
use super::outside::{CallError, Callee, Calling, LogLevel, StartChildError};
use crate::base::{CallId, ExitReason, Failure, MonitorId, Payload, TimerId};

type Trappable<T> = wasmtime::Result<T>;

type Called = Result<Vec<u8>, messaging::CallError>;

/// Defines `call` in place of what the bindings define, which makes a `String` of the callee's name for each call.
/// Here the name is looked at where it lies in the guest's memory: most guests call whom they called before. Like
/// all that is handed over, it is counted against what a guest may hand over in one call.
pub(super) fn define_call(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut messaging = linker.instance(MESSAGING)?;
    messaging.func_wrap_async(
        "call",
        |mut store: StoreContextMut<'_, State>, (to, request, timeout_ms): (WasmStr, Vec<u8>, Option<u32>)| {
            Box::new(async move {
                let name = to.to_str(&store)?;
                let other = (!store.data().outside.sent_last_to(&name)).then(|| name.into_owned());
                let to = other.as_deref().map_or(Callee::Last, Callee::Named);
                Ok((store.data_mut().send_call(to, request, timeout_ms).await,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

const MESSAGING: &str = "paguro:worker/messaging@0.1.0";

impl State {
    async fn send_call(&mut self, to: Callee<'_>, request: Vec<u8>, timeout_ms: Option<u32>) -> Called {
        let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let answer = match self.outside.call(to, Payload::from(request), timeout) {
            Calling::Ended(answer) => answer,
            Calling::Waits(answer) => answer.await,
        };
        answer.map(Payload::into_vec).map_err(Into::into)
    }
}

impl types::Host for State {}

impl messaging::Host for State {
    /// Not reached: [`define_call`] stands in its place.
    async fn call(&mut self, to: String, request: Vec<u8>, timeout_ms: Option<u32>) -> Trappable<Called> {
        Ok(self.send_call(Callee::Named(&to), request, timeout_ms).await)
    }

    fn cast(&mut self, to: String, message: Vec<u8>) -> Trappable<Result<(), messaging::CallError>> {
        Ok(self.outside.cast(&to, Payload::from(message)).map_err(Into::into))
    }

    fn reply(&mut self, call: u64, outcome: Result<Vec<u8>, String>) -> Trappable<bool> {
        Ok(self.outside.reply(CallId(call), outcome.map(Payload::from).map_err(|why| cut(&why).to_string())))
    }

    fn caller(&mut self, call: u64) -> Trappable<Option<String>> {
        Ok(self.outside.caller(CallId(call)))
    }
}

impl timers::Host for State {
    fn send_after(&mut self, delay_ms: u64, message: Vec<u8>) -> Trappable<u64> {
        let delay = Duration::from_millis(delay_ms);
        match self.outside.send_after(delay, Payload::from(message)) {
            Ok(timer) => Ok(timer.0),
            Err(limit) => Err(LimitReached(limit).into()),
        }
    }

    fn cancel(&mut self, timer: u64) -> Trappable<bool> {
        Ok(self.outside.cancel(TimerId(timer)))
    }
}

impl registry::Host for State {
    fn join(&mut self, group: String) -> Trappable<()> {
        self.outside.join(cut(&group));
        Ok(())
    }

    fn leave(&mut self, group: String) -> Trappable<()> {
        self.outside.leave(cut(&group));
        Ok(())
    }

    fn members(&mut self, group: String) -> Trappable<Vec<String>> {
        Ok(self.outside.members(cut(&group)))
    }

    fn broadcast(&mut self, group: String, message: Vec<u8>) -> Trappable<u32> {
        Ok(self.outside.broadcast(cut(&group), Payload::from(message)))
    }

    fn monitor(&mut self, name: String) -> Trappable<u64> {
        match self.outside.monitor(&name) {
            Ok(monitor) => Ok(monitor.0),
            Err(limit) => Err(LimitReached(limit).into()),
        }
    }

    fn demonitor(&mut self, monitor: u64) -> Trappable<()> {
        self.outside.demonitor(MonitorId(monitor));
        Ok(())
    }
}

impl children::Host for State {
    async fn start(
        &mut self,
        template: String,
        key: String,
        config: String,
    ) -> Trappable<Result<String, children::StartError>> {
        Ok(self.outside.start_child(&template, &key, &config).await.map_err(|error| match error {
            StartChildError::AlreadyStarted => children::StartError::AlreadyStarted,
            StartChildError::AlreadyPresent => children::StartError::AlreadyPresent,
            StartChildError::NotPermitted => children::StartError::NotPermitted,
            StartChildError::Failed(why) => children::StartError::Failed(why),
        }))
    }

    async fn stop(&mut self, name: String) -> Trappable<bool> {
        Ok(self.outside.stop_child(&name).await)
    }
}

impl control::Host for State {
    fn log(&mut self, level: control::Level, message: String) -> Trappable<()> {
        let level = match level {
            control::Level::Trace => LogLevel::Trace,
            control::Level::Debug => LogLevel::Debug,
            control::Level::Info => LogLevel::Info,
            control::Level::Warn => LogLevel::Warn,
            control::Level::Error => LogLevel::Error,
        };
        self.log.line(level, &message);
        Ok(())
    }

    fn count(&mut self, metric: String, by: u64) -> Trappable<()> {
        self.outside.count(cut(&metric), by);
        Ok(())
    }

    fn gauge(&mut self, metric: String, value: f64) -> Trappable<()> {
        self.outside.gauge(cut(&metric), value);
        Ok(())
    }

    fn stop(&mut self, reason: types::ExitReason) -> Trappable<()> {
        let reason = reason.into();
        if let ExitReason::Failed(Failure::Own(why)) = &reason {
            self.stated = Some(why.as_str().into());
        }
        self.outside.stop(reason);
        Ok(())
    }

    fn hibernate(&mut self) -> Trappable<()> {
        self.outside.hibernate();
        Ok(())
    }
}

impl From<types::ExitReason> for ExitReason {
    fn from(reason: types::ExitReason) -> ExitReason {
        match reason {
            types::ExitReason::Normal => ExitReason::Normal,
            types::ExitReason::Shutdown => ExitReason::Shutdown,
            types::ExitReason::Failed(why) => ExitReason::Failed(Failure::Own(cut(&why).to_string())),
        }
    }
}

impl From<&ExitReason> for types::ExitReason {
    fn from(reason: &ExitReason) -> types::ExitReason {
        match reason {
            ExitReason::Normal => types::ExitReason::Normal,
            ExitReason::Shutdown => types::ExitReason::Shutdown,
            ExitReason::Killed | ExitReason::Failed(_) => types::ExitReason::Failed(reason.to_string()),
        }
    }
}

impl From<CallError> for messaging::CallError {
    fn from(error: CallError) -> messaging::CallError {
        match error {
            CallError::NotFound => messaging::CallError::NotFound,
            CallError::Timeout => messaging::CallError::Timeout,
            CallError::Overloaded => messaging::CallError::Overloaded,
            CallError::CircuitOpen => messaging::CallError::CircuitOpen,
            CallError::Cycle(names) => messaging::CallError::Cycle(names),
            CallError::Down(reason) => messaging::CallError::Down((&reason).into()),
            CallError::Rejected(why) => messaging::CallError::Rejected(why),
            CallError::TooLarge { size, limit } => messaging::CallError::TooLarge((size, limit)),
        }
    }
}
