//! On `{"flood":NAME}` it casts to NAME until refused: the host must refuse at the mailbox bound and drop nothing.

use paguro_sdk::{Answer, CallId, Context, Worker, cast_raw, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Flood;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Flood(String),
}

impl Worker for Flood {
    type Call = Request;
    /// How many were taken.
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Flood)
    }

    fn call(&mut self, _: CallId, Request::Flood(to): Request) -> Result<Answer<u64>, String> {
        let mut taken = 0;
        while cast_raw(&to, b"add").is_ok() {
            taken += 1;
        }
        Ok(taken.into())
    }
}

worker!(Flood);
