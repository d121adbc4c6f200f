//! A worker that does what a test tells it to. Each command is a call; `probe/commands.rs` lists
//! them. Everything that reaches it otherwise (casts, timers, monitors) goes to its log, in order,
//! and the log is its state.
//!
//! A body inside a command that is a JSON string is sent as its bare text, so that `{"cast":{"to":
//! "counter","body":"add"}}` casts the three letters; any other body is sent as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use paguro_sdk::{
    Answer, CallId, Context, ExitReason, Health, Level, MonitorId, TimerId, Worker, worker,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[path = "probe/commands.rs"]
mod commands;
#[path = "probe/render.rs"]
mod render;

use commands::Command;
use render::{body, outcome, parsed};

#[derive(Serialize, Deserialize)]
struct Probe {
    log: Vec<Value>,
    open: BTreeMap<String, CallId>,
    #[serde(default)]
    health: Health,
    #[serde(skip)]
    context: Context,
    #[serde(skip)]
    resumed: bool,
}

impl Probe {
    fn handle(&mut self, call: CallId, command: Command) -> Result<Answer<Value>, String> {
        let answer = match command {
            Command::Echo(value) => value,
            Command::Log => json!(self.log),
            Command::Clear => json!(std::mem::take(&mut self.log)),
            Command::Defer(key) => {
                self.open.insert(key, call);
                return Ok(Answer::Later);
            }
            Command::Early(value, then) => {
                paguro_sdk::reply_raw(call, Ok(body(&value)));
                let answer = ask_host(*then);
                self.log.push(answer);
                return Ok(Answer::Later);
            }
            Command::Answer(key, value) => match self.open.remove(&key) {
                Some(open) => json!(paguro_sdk::reply_raw(open, Ok(body(&value)))),
                None => return Err(format!("no call is open under {key}")),
            },
            Command::Decline(key, why) => match self.open.remove(&key) {
                Some(open) => json!(paguro_sdk::reply_raw(open, Err(why))),
                None => return Err(format!("no call is open under {key}")),
            },
            Command::Context => json!({
                "name": self.context.name,
                "incarnation": self.context.incarnation,
                "component": self.context.component,
                "config": parsed(self.context.config_json.as_bytes()),
                "resumed": self.resumed,
            }),
            Command::Caller => json!(paguro_sdk::caller(call)),
            Command::Health(health) => {
                self.health = health;
                Value::Null
            }
            Command::Fail(why) => return Err(why),
            Command::Trap => panic!("asked to trap"),
            other => ask_host(other),
        };
        Ok(answer.into())
    }
}

/// The commands that the host carries out.
fn ask_host(command: Command) -> Value {
    match command {
        Command::Call {
            to,
            body: request,
            timeout,
        } => {
            let timeout = timeout.map(Duration::from_millis);
            outcome(paguro_sdk::call_raw(&to, &body(&request), timeout).map(|b| parsed(&b)))
        }
        Command::Cast { to, body: message } => {
            outcome(paguro_sdk::cast_raw(&to, &body(&message)).map(|()| Value::Null))
        }
        Command::After(delay_ms, message) => {
            json!(paguro_sdk::send_after_raw(
                Duration::from_millis(delay_ms),
                &body(&message)
            ))
        }
        Command::Cancel(timer) => json!(paguro_sdk::cancel(timer)),
        Command::Join(group) => json!(paguro_sdk::join(&group)),
        Command::Leave(group) => json!(paguro_sdk::leave(&group)),
        Command::Members(group) => json!(paguro_sdk::members(&group)),
        Command::Broadcast(group, message) => json!(paguro_sdk::broadcast(&group, &message)),
        Command::Monitor(name) => json!(paguro_sdk::monitor(&name)),
        Command::Demonitor(monitor) => json!(paguro_sdk::demonitor(monitor)),
        Command::StartChild {
            template,
            key,
            config,
        } => match paguro_sdk::start_child(&template, &key, &config) {
            Ok(name) => json!({ "ok": name }),
            Err(error) => json!({ "err": render::start_error(error) }),
        },
        Command::StopChild(name) => json!(paguro_sdk::stop_child(&name)),
        Command::Stop(reason) => json!(paguro_sdk::stop(&match reason.as_str() {
            "normal" => ExitReason::Normal,
            "shutdown" => ExitReason::Shutdown,
            _ => ExitReason::Failed(reason),
        })),
        Command::Hibernate => json!(paguro_sdk::hibernate()),
        Command::Count(metric, by) => json!(paguro_sdk::count(&metric, by)),
        Command::Gauge(metric, value) => json!(paguro_sdk::gauge(&metric, value)),
        Command::LogLine(text) => json!(paguro_sdk::log(Level::Info, &text)),
        Command::Print(text) => json!(println!("{text}")),
        Command::Busy(millions) => json!(busy(millions)),
        // `handle` has taken all others.
        _ => Value::Null,
    }
}

/// Some millions of steps that the compiler cannot leave out.
fn busy(millions: u64) -> u64 {
    let mut x = 1_u64;
    for _ in 0..millions.saturating_mul(1_000_000) {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    x >> 32
}

impl Worker for Probe {
    type Call = Command;
    type Reply = Value;
    type Cast = Value;

    fn init(context: &Context) -> Result<Self, String> {
        Ok(Probe {
            log: Vec::new(),
            open: BTreeMap::new(),
            health: Health::Healthy,
            context: context.clone(),
            resumed: false,
        })
    }

    fn resume(&mut self, context: &Context) -> Result<(), String> {
        self.context = context.clone();
        self.resumed = true;
        Ok(())
    }

    fn call(&mut self, call: CallId, command: Command) -> Result<Answer<Value>, String> {
        self.handle(call, command)
    }

    fn cast(&mut self, message: Value) -> Result<(), String> {
        self.log.push(json!({ "cast": message }));
        Ok(())
    }

    fn timer(&mut self, timer: TimerId, message: Value) -> Result<(), String> {
        self.log.push(json!({ "timer": message, "id": timer }));
        Ok(())
    }

    fn down(&mut self, monitor: MonitorId, name: &str, reason: ExitReason) -> Result<(), String> {
        self.log.push(json!({
            "down": name,
            "id": monitor,
            "reason": render::exit_reason(reason),
        }));
        Ok(())
    }

    fn health(&self) -> Health {
        self.health.clone()
    }

    fn terminate(&mut self, reason: ExitReason) {
        println!("terminate: {}", render::exit_reason(reason));
    }
}

worker!(Probe);
