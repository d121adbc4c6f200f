//! A newer counter that takes over an older one's state and traps in `init`: it is well where there is a state, and
//! nowhere else.

use guest_faults::by_key::{Counter, Request};
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct InitOnly(Counter);

impl Worker for InitOnly {
    const SCHEMA: u32 = 2;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        panic!("no new ones today")
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        self.0.handle(request).map(Answer::Now)
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.0.handle(request).map(drop)
    }

    fn upgrade(old: Snapshot) -> Result<Self, String> {
        Counter::from_older(&old).map(InitOnly)
    }
}

worker!(InitOnly);
