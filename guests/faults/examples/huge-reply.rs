//! On `huge` it replies 64 MiB, on `{"huge":N}` N bytes: the host must refuse the reply at the payload limit.
//!
//! Without the SDK, so that the reply is in memory once and meets that limit before the one on memory.

#![allow(missing_docs)]

wit_bindgen::generate!({ path: "../../wit", world: "stateless-worker", generate_all });

use exports::paguro::worker::handler::{Guest, Info};

const HUGE_BYTES: usize = 64 << 20;

struct HugeReply;

impl Guest for HugeReply {
    fn handle_call(_: u64, request: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        let request = String::from_utf8_lossy(&request);
        if !request.contains("huge") {
            return Ok(Some(b"\"ok\"".to_vec()));
        }
        let digits: String = request.chars().filter(char::is_ascii_digit).collect();
        Ok(Some(json_string(digits.parse().unwrap_or(HUGE_BYTES))))
    }

    fn handle_cast(_: Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    fn handle_info(_: Info) -> Result<(), String> {
        Ok(())
    }
}

/// A JSON string that takes so many bytes, quotes included.
fn json_string(bytes: usize) -> Vec<u8> {
    let mut text = vec![b'x'; bytes.max(2)];
    text[0] = b'"';
    text[bytes.max(2) - 1] = b'"';
    text
}

export!(HugeReply);
