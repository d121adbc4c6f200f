//! It traps in `init`: the host must fail the start, restart it as its policy says, and then give up.

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde_json::Value;

#[derive(serde::Serialize, serde::Deserialize)]
struct InitTraps;

impl Worker for InitTraps {
    type Call = Value;
    type Reply = Value;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        panic!("no start today")
    }

    fn call(&mut self, _: CallId, request: Value) -> Result<Answer<Value>, String> {
        Ok(request.into())
    }
}

worker!(InitTraps);
