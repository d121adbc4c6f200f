//! On `grow` it takes memory for ever: the host must refuse at the limit, fail it, and lose nothing else.

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};

const STEP_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Memory;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Ping,
    Grow,
}

impl Worker for Memory {
    type Call = Request;
    type Reply = &'static str;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Memory)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<&'static str>, String> {
        let Request::Grow = request else {
            return Ok("pong".into());
        };
        let mut hoard = Vec::new();
        loop {
            // Written to, so that the pages are real, and kept, so that none comes back.
            hoard.push(std::hint::black_box(vec![0xa5_u8; STEP_BYTES]));
        }
    }
}

worker!(Memory);
