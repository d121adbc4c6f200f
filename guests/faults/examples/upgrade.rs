//! A newer counter whose `upgrade-state` traps: the host must call the upgrade off in rehearsal, at no cost.

use guest_faults::by_key::{Counter, Request};
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Upgrade(Counter);

impl Worker for Upgrade {
    /// Like no other counter's, so that there is always something to upgrade.
    const SCHEMA: u32 = 3;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Upgrade(Counter::default()))
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        self.0.handle(request).map(Answer::Now)
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.0.handle(request).map(drop)
    }

    fn upgrade(_: Snapshot) -> Result<Self, String> {
        panic!("no upgrade today")
    }
}

worker!(Upgrade);
