//! On `boom` it traps: the host must restart it; `get` counts the messages handled since its snapshot.

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct Trap {
    handled: u64,
}

impl Trap {
    fn handle(&mut self, message: &Value) -> Value {
        match message.as_str() {
            Some("boom") => panic!("boom"),
            Some("get") => json!(self.handled),
            _ => {
                self.handled += 1;
                json!("ok")
            }
        }
    }
}

impl Worker for Trap {
    type Call = Value;
    type Reply = Value;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Trap { handled: 0 })
    }

    fn call(&mut self, _: CallId, request: Value) -> Result<Answer<Value>, String> {
        Ok(self.handle(&request).into())
    }

    fn cast(&mut self, message: Value) -> Result<(), String> {
        self.handle(&message);
        Ok(())
    }
}

worker!(Trap);
