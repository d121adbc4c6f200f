//! A newer counter whose `restore-state` answers `err`: the host must call the upgrade off in rehearsal.

use guest_faults::by_key::{Counter, Request};
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Restore(Counter);

impl Worker for Restore {
    const SCHEMA: u32 = 2;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Restore(Counter::default()))
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        self.0.handle(request).map(Answer::Now)
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.0.handle(request).map(drop)
    }

    fn upgrade(old: Snapshot) -> Result<Self, String> {
        Counter::from_older(&old).map(Restore)
    }

    fn restore(_: Snapshot) -> Result<Self, String> {
        Err("nothing is restored today".to_owned())
    }
}

worker!(Restore);
