//! Turns what wasmtime reports into exit reasons. A guest's fault is data from here on.

use crate::base::{Failure, Limit, bounds};

/// What a call into a guest can end with besides its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The export returned an error; the instance is well.
    Refused(String),
    /// The instance trapped or reached a limit. It must be dropped.
    Dead(Failure),
}

impl Fault {
    /// As a failure of the worker, where a refusal is one.
    pub fn into_failure(self, export: &'static str) -> Failure {
        match self {
            Fault::Refused(message) => Failure::Refused { export, message },
            Fault::Dead(failure) => failure,
        }
    }
}

/// Carried through wasmtime as an error by an import that reached a limit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LimitReached(pub Limit);

/// What was in force when the call began, to name the limit that ended it.
pub(super) struct InForce {
    pub fuel: u64,
    /// Bytes that the guest may hand over in one call.
    pub copies: u64,
    /// A memory or table limit that the guest ran against during this call.
    pub denied: Option<Limit>,
}

/// Why the guest ended, from wasmtime's error.
pub(super) fn failure(error: &wasmtime::Error, in_force: &InForce) -> Failure {
    if let Some(LimitReached(limit)) = error.downcast_ref::<LimitReached>() {
        return Failure::Limit(*limit);
    }
    if let Some(wasmtime_wasi::I32Exit(code)) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return Failure::ExitCode(*code);
    }
    let trap = error.downcast_ref::<wasmtime::Trap>();
    match trap {
        Some(wasmtime::Trap::OutOfFuel) => return Failure::Limit(Limit::Fuel(in_force.fuel)),
        Some(wasmtime::Trap::StackOverflow) => return Failure::Limit(Limit::Stack),
        _ => {}
    }
    // A language runtime that is refused memory gives up with a trap of its own, and so does the engine's collector: the
    // reason a reader wants is the refusal.
    let gives_up = trap.is_some() || error.is::<wasmtime::GcHeapOutOfMemory<()>>();
    if let Some(limit) = in_force.denied.filter(|_| gives_up) {
        return Failure::Limit(limit);
    }
    let message = trap.map_or_else(|| error.root_cause().to_string(), |trap| trap.to_string());
    let message = cut(message.strip_prefix("wasm trap: ").unwrap_or(&message)).to_string();
    // wasmtime gives this error no public type; its text is what there is.
    if message.contains("fuel allocated for hostcalls has been exhausted") {
        return Failure::Limit(Limit::HostCopies(in_force.copies));
    }
    Failure::Trap { message, backtrace: backtrace(error) }
}

/// Whether the system refused memory to the engine itself. What a guest ended with is never that: of its text
/// nothing is read here.
pub(super) fn is_no_room(error: &wasmtime::Error) -> bool {
    let is_guests = error.is::<wasmtime::Trap>() || error.is::<wasmtime::WasmBacktrace>();
    // ENOMEM, in the words of the standard library; the engine gives its cause no public type.
    !is_guests && error.chain().any(|cause| cause.to_string().contains("(os error 12)"))
}

/// The part of a guest's text that the host keeps: errors end in events, the ledger and statuses.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(bounds::GUEST_TEXT_BYTES_MAX)]
}

/// Function names of the guest's frames, innermost first.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<wasmtime::WasmBacktrace>() else { return Vec::new() };
    let frames = trace.frames().iter().take(bounds::BACKTRACE_FRAMES_MAX);
    frames
        .map(|frame| {
            let symbol = frame.symbols().iter().find_map(|symbol| symbol.name());
            let name = symbol.or(frame.func_name()).map(str::to_string);
            let name = name.unwrap_or_else(|| format!("function {}", frame.func_index()));
            cut(&readable(&name)).to_string()
        })
        .collect()
}

/// A name as its author wrote it: without mangling, and without the hash, which tells a reader
/// nothing.
fn readable(name: &str) -> String {
    let name = name.strip_prefix("wasm!").unwrap_or(name);
    let name = format!("{:#}", rustc_demangle::demangle(name));
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => rest.to_string(),
        _ => name,
    }
}
