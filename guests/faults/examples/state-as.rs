//! Its state is of the media type that it is called with, and one item of CBOR: `{"n": 7}`.

use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct StateAs(String);

impl Worker for StateAs {
    type Call = String;
    type Reply = &'static str;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(StateAs("application/cbor".to_owned()))
    }

    fn call(&mut self, _: CallId, media_type: String) -> Result<Answer<&'static str>, String> {
        self.0 = media_type;
        Ok("ok".into())
    }

    fn save(&self) -> Result<Snapshot, String> {
        Ok(Snapshot {
            schema: Self::SCHEMA,
            media_type: self.0.clone(),
            data: b"\xa1\x61n\x07".to_vec(),
        })
    }
}

worker!(StateAs);
