//! Its state is 300 MiB, or what its memory lets it have: the host must refuse the snapshot at the limit.

use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const HUGE_BYTES: usize = 300 << 20;

#[derive(Serialize, Deserialize)]
struct HugeState;

impl Worker for HugeState {
    type Call = Value;
    type Reply = &'static str;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(HugeState)
    }

    fn call(&mut self, _: CallId, _: Value) -> Result<Answer<&'static str>, String> {
        Ok("ok".into())
    }

    fn save(&self) -> Result<Snapshot, String> {
        let mut data = Vec::new();
        let mut bytes = HUGE_BYTES;
        // Less and less, until it is granted: what is to be met is the limit on state.
        while data.try_reserve_exact(bytes).is_err() {
            bytes = bytes / 4 * 3;
        }
        data.resize(bytes, b'x');
        let media_type = "application/octet-stream".to_owned();
        Ok(Snapshot {
            schema: Self::SCHEMA,
            media_type,
            data,
        })
    }
}

worker!(HugeState);
