//! Paguro runs supervision trees of sandboxed WebAssembly workers and changes their code while they
//! run.

pub mod base;
pub mod change;
pub mod control;
pub mod record;
pub mod runtime;
pub mod sandbox;
