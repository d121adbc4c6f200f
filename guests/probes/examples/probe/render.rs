//! Between bytes, errors and JSON.

use paguro_sdk::{CallError, ExitReason, StartError};
use serde_json::{Value, json};

/// What is sent for a body in a command: bare text for a string, else JSON.
pub fn body(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// What a test sees of bytes: JSON if they are, else text.
pub fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// `{"ok": value}` or `{"err": kind, ...}`.
pub fn outcome(result: Result<Value, CallError>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(CallError::NotFound) => json!({ "err": "not-found" }),
        Err(CallError::Timeout) => json!({ "err": "timeout" }),
        Err(CallError::Overloaded) => json!({ "err": "overloaded" }),
        Err(CallError::CircuitOpen) => json!({ "err": "circuit-open" }),
        Err(CallError::Cycle(names)) => json!({ "err": "cycle", "names": names }),
        Err(CallError::Down(reason)) => json!({ "err": "down", "reason": exit_reason(reason) }),
        Err(CallError::Rejected(reason)) => json!({ "err": "rejected", "reason": reason }),
        Err(CallError::TooLarge((size, limit))) => {
            json!({ "err": "too-large", "size": size, "limit": limit })
        }
    }
}

/// `"normal"`, `"shutdown"` or `{"failed": why}`.
pub fn exit_reason(reason: ExitReason) -> Value {
    match reason {
        ExitReason::Normal => json!("normal"),
        ExitReason::Shutdown => json!("shutdown"),
        ExitReason::Failed(why) => json!({ "failed": why }),
    }
}

/// A word, or `{"failed": why}`.
pub fn start_error(error: StartError) -> Value {
    match error {
        StartError::AlreadyStarted => json!("already-started"),
        StartError::AlreadyPresent => json!("already-present"),
        StartError::NotPermitted => json!("not-permitted"),
        StartError::Failed(why) => json!({ "failed": why }),
    }
}
