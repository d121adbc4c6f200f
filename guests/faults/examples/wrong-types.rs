//! It exports `paguro:worker/handler@0.1.0` with other types: the host must refuse it and name the function.

#![allow(missing_docs)]

wit_bindgen::generate!({ path: "wit-wrong", world: "wrong-worker" });

use exports::paguro::worker::handler::Guest;

struct WrongTypes;

impl Guest for WrongTypes {
    fn handle_call(call: String, request: String) -> String {
        call + &request
    }

    fn handle_cast(_: u32) {}

    fn handle_info(info: bool) -> bool {
        info
    }
}

export!(WrongTypes);
