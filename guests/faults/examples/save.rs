//! A counter of schema 1 whose `save-state` traps: the host must call the upgrade off and tell that the state is lost.

use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Counter {
    count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Add(Option<u64>),
    Get,
}

impl Counter {
    fn handle(&mut self, request: Request) -> u64 {
        if let Request::Add(by) = request {
            self.count = self.count.saturating_add(by.unwrap_or(1));
        }
        self.count
    }
}

impl Worker for Counter {
    const SCHEMA: u32 = 1;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Counter { count: 0 })
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        Ok(self.handle(request).into())
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.handle(request);
        Ok(())
    }

    fn save(&self) -> Result<Snapshot, String> {
        panic!("nothing is saved today")
    }
}

worker!(Counter);
