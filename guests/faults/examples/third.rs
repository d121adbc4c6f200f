//! A newer counter that traps on its third message: the host must roll back and hand all three to the old one.

use guest_faults::by_key::{Counter, Request};
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Third {
    counter: Counter,
    /// Messages since the start or the last `resume`; not part of the state.
    #[serde(skip)]
    handled: u64,
}

impl Third {
    fn handle(&mut self, request: Request) -> Result<u64, String> {
        self.handled += 1;
        assert!(self.handled < 3, "the third message");
        self.counter.handle(request)
    }
}

impl Worker for Third {
    const SCHEMA: u32 = 2;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Third {
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
        Ok(Third {
            counter: Counter::from_older(&old)?,
            handled: 0,
        })
    }
}

worker!(Third);
