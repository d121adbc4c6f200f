//! The compiler's own process: it reads a component from standard input, compiles it, and writes what came of it to
//! standard output. It opens no path, and it knows no host.
//!
//! ```text
//!   standard input    the component's bytes, to the end
//!   standard output   one byte: COMPILED or INVALID
//!                     COMPILED: eight bytes, the cost of an instance; then the code, to the end
//!                     INVALID: why, in UTF-8, to the end
//! ```

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, nice, setrlimit};
use wasmtime::Engine;

use super::artifact::{self, Artifact};
use crate::base::bounds;
use crate::sandbox::engine;

pub(super) const COMPILED: u8 = 0;
pub(super) const INVALID: u8 = 1;

/// The program's first argument when it is to be the compiler.
pub const COMPILER_ARGUMENT: &str = "compile-component";

/// How much less a compiler's threads count than those of workers, in steps of the system's scheduler.
const NICENESS: i32 = 5;

/// Whether this program was started as the compiler, by its arguments; then what it has to end with. An embedding
/// program that names itself in `HostOptions::compiler` asks this first thing in its `main`.
pub fn run_if_asked(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<ExitCode> {
    if arguments.nth(1)? != COMPILER_ARGUMENT {
        return None;
    }
    let number = |text: Option<std::ffi::OsString>| text?.to_str()?.parse::<u64>().ok();
    let (memory, parent) = (number(arguments.next()), number(arguments.next()));
    Some(match (memory, parent) {
        (Some(memory), Some(parent)) => run(memory, parent),
        _ => {
            eprintln!("this is the host's own compiler; it is not for people: `paguro check FILE` checks a component");
            ExitCode::from(2)
        }
    })
}

fn run(memory: u64, parent: u64) -> ExitCode {
    let Ok(()) = confine(memory, parent) else { return ExitCode::FAILURE };
    let mut bytes = Vec::new();
    let read = io::stdin().take(bounds::COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    if read.is_err() {
        return ExitCode::FAILURE;
    }
    // A panic is a fault of the compiler over this component. Its text is worth more than the signal of an abort.
    let compiled = catch_unwind(AssertUnwindSafe(|| {
        let engine = Engine::new(&engine::config()).map_err(|error| engine::one_line(&error))?;
        artifact::compile(&engine, &bytes)
    }));
    let compiled = compiled.unwrap_or_else(|panic| Err(format!("the compiler gave up: {}", said(panic.as_ref()))));
    match answer(compiled) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads any more.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Bounds this process before it has read anything. The host watches what it uses besides.
fn confine(memory: u64, parent: u64) -> Result<(), ()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(drop)?;
    // A host that died before this line sends no signal any more.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| u64::from(pid.get().unsigned_abs())) != Some(parent) {
        return Err(());
    }
    let wanted = memory.saturating_add(bounds::COMPILER_OWN_BYTES);
    let hard = getrlimit(Resource::Data).maximum;
    let data = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
    setrlimit(Resource::Data, Rlimit { current: data, maximum: data }).map_err(drop)?;
    // A core dump of hostile input is of no use to anybody.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(drop)?;
    // It is a courtesy: a system that refuses it loses nothing.
    let _ = nice(NICENESS);
    Ok(())
}

fn answer(compiled: Result<Artifact, String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match compiled {
        Ok(Artifact { code, instance_bytes }) => {
            out.write_all(&[COMPILED])?;
            out.write_all(&instance_bytes.to_le_bytes())?;
            out.write_all(&code)?;
        }
        Err(why) => {
            out.write_all(&[INVALID])?;
            out.write_all(why.as_bytes())?;
        }
    }
    out.flush()
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}
