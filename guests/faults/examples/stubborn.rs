//! Told to stop, it spins in `terminate`: the host must kill it after its shutdown time.

use guest_faults::spin;
use paguro_sdk::{Answer, CallId, Context, ExitReason, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Stubborn;

impl Worker for Stubborn {
    type Call = Value;
    type Reply = &'static str;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Stubborn)
    }

    fn call(&mut self, _: CallId, _: Value) -> Result<Answer<&'static str>, String> {
        Ok("ok".into())
    }

    fn terminate(&mut self, _: ExitReason) {
        spin()
    }
}

worker!(Stubborn);
