//! Replies the bytes it got. For benchmarks, so it is as little as a worker can be: the handler
//! alone, no SDK, no JSON, no WASI.

#![allow(missing_docs)]

wit_bindgen::generate!({ path: "../../wit", world: "stateless-worker", generate_all });

use exports::paguro::worker::handler::{Guest, Info};

struct Echo;

impl Guest for Echo {
    fn handle_call(_: u64, request: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(request))
    }

    fn handle_cast(_: Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    fn handle_info(_: Info) -> Result<(), String> {
        Ok(())
    }
}

export!(Echo);
