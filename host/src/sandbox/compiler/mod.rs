//! Makes machine code of components, in a process of its own where the host names a program for it.
//!
//! A compiler's memory and time grow with what a component asks of it, and a component may be hostile. A process can
//! be bounded and killed; a thread cannot. The process compiles with the same settings as the host, so that the host can
//! load what it answers. The compiler is trusted for what it emits: the process bounds what it uses, no more.

mod artifact;
mod bans;
mod child;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::Engine;

pub use artifact::Artifact;
pub(super) use artifact::{load, unpacked_bytes};
pub(super) use bans::Bans;
pub use bans::compilers_ended;
pub use child::{COMPILER_ARGUMENT, run_if_asked};

/// What one compilation may use.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Bytes of memory. Only a process of its own can be held to it.
    pub memory: u64,
    /// On all cores together; [`bounds::COMPILE_WAIT_FACTOR`](crate::base::bounds::COMPILE_WAIT_FACTOR) times as much by
    /// the wall. Likewise.
    pub time: Duration,
    /// Threads it compiles on.
    pub threads: usize,
    /// Compiles a component even where its compiler died before: an operator says so.
    pub insist: bool,
    /// Set when nobody waits for it any more.
    pub abandoned: Arc<AtomicBool>,
}

impl Terms {
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The component's fault, for good.
    Invalid(String),
    /// It used up what its terms say, or died over it.
    Exceeded(String),
    Abandoned,
    /// The host's fault.
    NotStarted(String),
}

/// Compiles on the host's behalf.
pub(super) enum Compiler {
    /// On threads of this process. Small components have a pool of their own: a pool takes up new work only when it has
    /// finished what it began, so that a small component would wait for all functions of a large one.
    Here {
        small: rayon::ThreadPool,
        small_bytes_max: u64,
    },
    Program(process::Program),
}

impl Compiler {
    pub fn program(path: PathBuf) -> Compiler {
        Compiler::Program(process::Program(path))
    }

    /// Whether it is held to its terms.
    pub fn is_bounded(&self) -> bool {
        matches!(self, Compiler::Program(_))
    }

    pub fn compile(&self, engine: &Engine, bytes: &[u8], terms: &Terms) -> Result<Artifact, Ended> {
        match self {
            Compiler::Program(program) => program.compile(bytes, terms),
            Compiler::Here { small, small_bytes_max } => {
                let compile = || artifact::compile(engine, bytes);
                let is_small = (bytes.len() as u64) < *small_bytes_max;
                let compiled = if is_small { small.install(compile) } else { compile() };
                compiled.map_err(Ended::Invalid)
            }
        }
    }
}
