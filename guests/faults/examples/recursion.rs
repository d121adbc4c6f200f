//! On `dive` it recurses for ever: the host must turn the exhausted stack into the worker's failure.

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Recursion;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Ping,
    Dive,
}

/// Keeps nothing in linear memory, so that it is the host's stack that ends; and what it does with
/// the result of each step is such that no compiler makes a loop of it.
#[inline(never)]
fn dive(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    dive(depth + 1).rotate_left(7).wrapping_mul(depth | 1) ^ depth
}

impl Worker for Recursion {
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Recursion)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        match request {
            Request::Ping => Ok(0.into()),
            Request::Dive => Ok(dive(std::hint::black_box(1)).into()),
        }
    }
}

worker!(Recursion);
