//! Burns no fuel but host calls, and messages to itself without end: neighbours must be served, memory be bounded.

use paguro_sdk::{Answer, CallId, Context, Worker, cast_raw, monitor, send_after_raw, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct HostCalls {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Ping,
    /// Casts to itself for ever, one message after another.
    Myself,
    /// Casts a large message to nobody, for ever.
    Spin,
    /// Monitors what does not exist, for ever.
    Monitors,
    /// Sets timers of 1 MB for ever.
    Timers,
}

impl Worker for HostCalls {
    type Call = Request;
    type Reply = String;
    type Cast = Request;

    fn init(context: &Context) -> Result<Self, String> {
        Ok(HostCalls {
            name: context.name.clone(),
        })
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<String>, String> {
        self.cast(request)?;
        Ok("pong".to_string().into())
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        let large = vec![b'x'; 1_000_000];
        match request {
            Request::Ping => Ok(()),
            Request::Myself => {
                cast_raw(&self.name, b"myself").map_err(|error| format!("{error:?}"))
            }
            Request::Spin => loop {
                let _ = cast_raw("nobody", &large);
            },
            Request::Monitors => loop {
                monitor(std::str::from_utf8(&large).unwrap_or("x"));
            },
            Request::Timers => loop {
                send_after_raw(std::time::Duration::from_secs(60), &large);
            },
        }
    }
}

worker!(HostCalls);
