//! The engine, the linker, and how a component's bytes become a [`Component`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy};

use super::bindings::BatchWorker;
use super::cache::Cache;
use super::component::{Component, Inner};
use super::imports;
use super::instance::State;
use super::metadata::{self, Shape};
use super::stacks::Stacks;
use crate::base::{ComponentHash, bounds};

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the WebAssembly engine cannot be set up: {0:#}")]
    Engine(wasmtime::Error),
    #[error("the cache of compiled code in {path} cannot be used")]
    Cache { path: String, source: std::io::Error },
    #[error("there are no threads for compilers: {0}")]
    Compilers(rayon::ThreadPoolBuildError),
}

/// Why bytes are not a component that can run here. Each is one clear sentence for its user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    #[error("not WebAssembly: it does not start with the bytes `\\0asm`")]
    NotWasm,
    #[error(
        "a core WebAssembly module, not a component; build for the target `wasm32-wasip2`, or make it a component \
         with `wasm-tools component new`"
    )]
    Module,
    #[error("not a whole, valid component: {0}")]
    Invalid(String),
    #[error("not a worker: it exports neither `paguro:worker/handler@0.1.0` nor `wasi:cli/run`")]
    NotWorker,
    #[error("not a worker that fits: its export `{interface}` has other types than the contract: {why}")]
    WrongTypes { interface: &'static str, why: String },
    #[error("it asks for something that this host does not give: {0}")]
    Imports(String),
    #[error("{size} bytes large, where {limit} are allowed")]
    Large { size: u64, limit: u64 },
}

/// Compiles components and makes instances of them. One for a host; cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    /// Compiles small components. A pool takes up new work only when it has finished what it
    /// began: in one pool with a large component, a small one would wait for all its functions.
    small: rayon::ThreadPool,
    /// Components in use, so that one that many workers run is compiled and held once.
    known: Mutex<HashMap<ComponentHash, Arc<Known>>>,
}

/// A component that is in use or being compiled. Locked while it is being compiled: whoever wants the
/// same one waits, and finds it.
#[derive(Default)]
struct Known(Mutex<Weak<Inner>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, Weak<Inner>> {
        // A compiler that panicked left nothing behind: there is no component yet.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sandbox {
    /// `cache`: a private directory for compiled code; `None` compiles anew in each process.
    pub fn new(cache: Option<&Path>) -> Result<Sandbox, SandboxError> {
        let sandbox = Sandbox::deterministic(cache)?;
        tick(&sandbox.shared.engine);
        Ok(sandbox)
    }

    /// A sandbox in which a guest gives way by fuel alone, so always at the same place: without the
    /// thread that counts epochs, time on the wall decides nothing. For simulations; a guest that
    /// does nothing but call the host would hold its thread.
    pub fn deterministic(cache: Option<&Path>) -> Result<Sandbox, SandboxError> {
        let engine = Engine::new(&config()).map_err(SandboxError::Engine)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(SandboxError::Engine)?;
        BatchWorker::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(SandboxError::Engine)?;
        imports::define_call(&mut linker).map_err(SandboxError::Engine)?;
        let cache = cache.map(|path| {
            Cache::open(path, &engine)
                .map_err(|source| SandboxError::Cache { path: path.display().to_string(), source })
        });
        let cache = cache.transpose()?;
        let small = rayon::ThreadPoolBuilder::new()
            .num_threads(bounds::small_loads())
            .thread_name(|number| format!("compiler-{number}"))
            .stack_size(COMPILER_STACK_BYTES)
            .build()
            .map_err(SandboxError::Compilers)?;
        Ok(Sandbox { shared: Arc::new(Shared { engine, linker, cache, small, known: Mutex::default() }) })
    }

    /// Checks and compiles a component, or takes it from memory or the cache. Compiling keeps all
    /// cores busy for tens of milliseconds to seconds: call it where that may block. One component is
    /// compiled once, however many ask for it at the same time. What needs an instance to be checked
    /// (the types of exports) is checked by [`Component::try_out`].
    pub fn load(&self, bytes: &[u8]) -> Result<Component, ComponentError> {
        let size = bytes.len() as u64;
        if size > bounds::COMPONENT_BYTES_MAX {
            return Err(ComponentError::Large { size, limit: bounds::COMPONENT_BYTES_MAX });
        }
        match metadata::shape(bytes) {
            Shape::Component => {}
            Shape::Module => return Err(ComponentError::Module),
            Shape::NotWasm => return Err(ComponentError::NotWasm),
        }
        let hash = ComponentHash::of(bytes);
        let known = self.known(hash);
        let mut known = known.lock();
        if let Some(inner) = known.upgrade() {
            return Ok(Component(inner));
        }
        let code = self.compile(hash, bytes)?;
        let inner = Arc::new(Inner::new(&self.shared.linker, code, hash, size, metadata::read(bytes))?);
        *known = Arc::downgrade(&inner);
        Ok(Component(inner))
    }

    /// The component's place, which is free where nobody uses or compiles it.
    fn known(&self, hash: ComponentHash) -> Arc<Known> {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose only owner is this map is locked by nobody, and while the map is locked nobody
        // gets at it: asking it does not wait.
        known.retain(|other, known| *other == hash || Arc::strong_count(known) > 1 || known.lock().strong_count() > 0);
        known.entry(hash).or_default().clone()
    }

    fn compile(&self, hash: ComponentHash, bytes: &[u8]) -> Result<wasmtime::component::Component, ComponentError> {
        let engine = &self.shared.engine;
        if let Some(code) = self.shared.cache.as_ref().and_then(|cache| cache.get(engine, hash)) {
            return Ok(code);
        }
        let compile = || wasmtime::component::Component::from_binary(engine, bytes);
        let is_small = (bytes.len() as u64) < bounds::LARGE_COMPONENT_BYTES;
        let code = if is_small { self.shared.small.install(compile) } else { compile() };
        let code = code.map_err(|error| ComponentError::Invalid(one_line(&error)))?;
        if let Some(cache) = &self.shared.cache {
            cache.put(hash, &code);
        }
        Ok(code)
    }
}

/// Bytes of a compiling thread's stack: one that waits for a part of its component takes up another
/// component on top of it.
const COMPILER_STACK_BYTES: usize = 16 << 20;

/// Epochs that have passed in this process, wrapped around: a clock that costs a load. It stands where nothing ticks.
static EPOCHS: AtomicU32 = AtomicU32::new(0);

pub(super) fn epoch() -> u32 {
    EPOCHS.load(Relaxed)
}

/// Counts epochs for as long as the engine lives.
fn tick(engine: &Engine) {
    let engine = engine.weak();
    let ticking = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            EPOCHS.fetch_add(1, Relaxed);
            drop(engine);
            std::thread::sleep(bounds::EPOCH);
        }
    };
    // Without the thread (the system gives none) fuel still preempts; only host calls do not.
    if let Err(error) = std::thread::Builder::new().name("epochs".to_string()).spawn(ticking) {
        tracing::error!(%error, "no thread for epochs");
    }
}

/// The causes of an error, joined into one line.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect();
    causes.join(": ")
}

fn config() -> Config {
    let mut config = Config::new();
    config
        // Workers never run two exports at once, and without it a call costs half (DESIGN 12).
        .concurrency_support(false)
        // Fuel both meters and preempts: a guest gives way every `bounds::FUEL_SLICE`.
        .consume_fuel(true)
        // Host calls cost no fuel: epochs preempt a guest that does nothing else.
        .epoch_interruption(true)
        // Nothing in the contract needs memories of more than 4 GiB.
        .wasm_memory64(false)
        .max_wasm_stack(bounds::WASM_STACK_BYTES)
        .async_stack_size(bounds::FIBER_STACK_BYTES)
        .with_host_stack(Arc::new(Stacks::default()))
        // Each worker's memory is mapped when it starts and unmapped when it ends, so that what it
        // used returns to the system at once, and no number of workers has to be fixed beforehand.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that ends at once.
    const COMMAND: &str = r#"(component
        (core module $code (func (export "run") (result i32) i32.const 0))
        (core instance $code (instantiate $code))
        (func $run (result (result)) (canon lift (core func $code "run")))
        (component $run (import "run" (func $run (result (result)))) (export "run" (func $run)))
        (instance $run (instantiate $run (with "run" (func $run))))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#;

    #[test]
    fn the_same_component_is_compiled_once_by_all_who_ask() {
        let bytes = wat::parse_str(COMMAND).unwrap();
        let sandbox = Sandbox::new(None).unwrap();
        let begin = std::sync::Barrier::new(8);
        let load = || {
            begin.wait();
            sandbox.load(&bytes).unwrap()
        };
        let loaded: Vec<Component> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(loaded.iter().all(|component| Arc::ptr_eq(&component.0, &loaded[0].0)), "all share one");
        drop(loaded);
        sandbox.known(ComponentHash([0; 32]));
        assert_eq!(sandbox.shared.known.lock().unwrap().len(), 1, "what nobody uses is forgotten");
    }
}
