//! Takes casts in batches and remembers them. Call `get` -> `{"batches":[sizes],"casts":[bodies]}`.
//! A cast `fail` is refused, a cast or a call `trap` traps.

use paguro_sdk::{Answer, Batch, CallId, Context, Worker, batch_worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Batcher {
    batches: Vec<usize>,
    casts: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Get,
    Clear,
    Trap,
}

impl Worker for Batcher {
    type Call = Request;
    type Reply = Batcher;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Batcher::default())
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<Batcher>, String> {
        match request {
            Request::Get => Ok(self.clone().into()),
            Request::Clear => Ok(std::mem::take(self).into()),
            Request::Trap => panic!("asked to trap"),
        }
    }

    fn cast(&mut self, message: Value) -> Result<(), String> {
        match message.as_str() {
            Some("fail") => return Err("asked to fail".to_owned()),
            Some("trap") => panic!("asked to trap"),
            _ => self.casts.push(message),
        }
        Ok(())
    }
}

impl Batch for Batcher {
    fn casts(&mut self, messages: Vec<Value>) -> Vec<(u32, String)> {
        self.batches.push(messages.len());
        let mut failed = Vec::new();
        for (index, message) in (0..).zip(messages) {
            if let Err(reason) = self.cast(message) {
                failed.push((index, reason));
            }
        }
        failed
    }
}

batch_worker!(Batcher);
