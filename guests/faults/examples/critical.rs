//! A newer counter that is `critical` once it has handled a message: the host must roll back in probation.

use guest_faults::by_key::{Counter, Request};
use paguro_sdk::{Answer, CallId, Context, Health, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Critical {
    counter: Counter,
    /// Messages since the start or the last `resume`; not part of the state.
    #[serde(skip)]
    handled: u64,
}

impl Critical {
    fn handle(&mut self, request: Request) -> Result<u64, String> {
        self.handled += 1;
        self.counter.handle(request)
    }
}

impl Worker for Critical {
    const SCHEMA: u32 = 2;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Critical {
            counter: Counter::default(),
            handled: 0,
        })
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        self.handle(request).map(Answer::Now)
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.handle(request).map(drop)
    }

    fn upgrade(old: Snapshot) -> Result<Self, String> {
        Ok(Critical {
            counter: Counter::from_older(&old)?,
            handled: 0,
        })
    }

    fn health(&self) -> Health {
        match self.handled {
            0 => Health::Healthy,
            n => Health::Critical(format!("unwell after {n} messages")),
        }
    }
}

worker!(Critical);
