//! The only folder that names wasmtime: engine, component check and compile cache, bindings,
//! instance, limits, host imports. No wasmtime type appears in a signature that leaves it.
//!
//! A [`Component`] is compiled code that was found to be a worker or a command; an [`Instance`] is
//! one live wasm store of it. What a guest can reach of the host goes through the [`Outside`] that
//! the runtime hands in.

mod bindings;
mod cache;
mod compiler;
mod component;
mod deadline;
mod engine;
mod fault;
mod files;
mod grants;
mod imports;
mod instance;
mod limits;
mod metadata;
mod output;
mod outside;
mod pace;
mod preopens;
mod stacks;
mod wasi;

pub use compiler::{COMPILER_ARGUMENT, Terms, compilers_ended, run_if_asked};
pub use component::{Component, Exports, Kind};
pub use engine::{CompilerChoice, ComponentError, LoadError, Sandbox, SandboxError, compiler_threads};
pub use fault::Fault;
pub use grants::{Access, DirectoryGrant, Grants, Identity, OpenedDirectory};
pub use instance::{Answer, Context, Health, Instance, InstanceError};
pub use limits::Limits;
pub use metadata::Metadata;
pub use outside::{CallError, Callee, Calling, Fact, LogLevel, LogSink, Outside, StartChildError, Waiting};
pub use pace::{Charged, Pace};
