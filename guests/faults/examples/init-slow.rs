//! It spins in `init`: the host must fail the start at the start time, and hold nobody else up.

use guest_faults::spin;
use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde_json::Value;

#[derive(serde::Serialize, serde::Deserialize)]
struct InitSpins;

impl Worker for InitSpins {
    type Call = Value;
    type Reply = Value;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        spin()
    }

    fn call(&mut self, _: CallId, request: Value) -> Result<Answer<Value>, String> {
        Ok(request.into())
    }
}

worker!(InitSpins);
