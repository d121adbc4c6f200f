//! It promises every answer and gives none: the host must end each call at its deadline with `timeout`.

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Mute;

impl Worker for Mute {
    type Call = Value;
    type Reply = Value;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Mute)
    }

    fn call(&mut self, _: CallId, _: Value) -> Result<Answer<Value>, String> {
        Ok(Answer::Later)
    }
}

worker!(Mute);
