//! A newer counter whose `upgrade-state` spins: the host must call the upgrade off at its time, in rehearsal.

use guest_faults::by_key::{Counter, Request};
use guest_faults::spin;
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct UpgradeSpins(Counter);

impl Worker for UpgradeSpins {
    /// Like no other counter's, so that there is always something to upgrade.
    const SCHEMA: u32 = 3;
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(UpgradeSpins(Counter::default()))
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        self.0.handle(request).map(Answer::Now)
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.0.handle(request).map(drop)
    }

    fn upgrade(_: Snapshot) -> Result<Self, String> {
        spin()
    }
}

worker!(UpgradeSpins);
