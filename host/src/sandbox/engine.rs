//! The engine, the linker, and how a component's bytes become a [`Component`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy};

use super::bindings::BatchWorker;
use super::cache::Cache;
use super::component::{Component, Inner};
use super::instance::State;
use super::metadata::{self, Shape};
use crate::base::{ComponentHash, bounds};

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the WebAssembly engine cannot be set up: {0:#}")]
    Engine(wasmtime::Error),
    #[error("the cache of compiled code in {path} cannot be used")]
    Cache { path: String, source: std::io::Error },
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
    /// Components in use, so that one that many workers run is compiled and held once.
    known: Mutex<HashMap<ComponentHash, Weak<Inner>>>,
}

impl Sandbox {
    /// `cache`: a private directory for compiled code; `None` compiles anew in each process.
    pub fn new(cache: Option<&Path>) -> Result<Sandbox, SandboxError> {
        let engine = Engine::new(&config()).map_err(SandboxError::Engine)?;
        tick(&engine);
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(SandboxError::Engine)?;
        BatchWorker::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(SandboxError::Engine)?;
        let cache = cache.map(|path| {
            Cache::open(path, &engine)
                .map_err(|source| SandboxError::Cache { path: path.display().to_string(), source })
        });
        let cache = cache.transpose()?;
        Ok(Sandbox { shared: Arc::new(Shared { engine, linker, cache, known: Mutex::default() }) })
    }

    /// Checks and compiles a component, or takes it from memory or the cache. Compiling keeps a
    /// core busy for tens of milliseconds to seconds: call it where that may block. What needs an
    /// instance to be checked (the types of exports) is checked by [`Component::try_out`].
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
        if let Some(inner) = self.known(hash) {
            return Ok(Component(inner));
        }
        let code = self.compile(hash, bytes)?;
        let inner = Arc::new(Inner::new(&self.shared.linker, code, hash, size, metadata::read(bytes))?);
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, weak| weak.strong_count() > 0);
        known.insert(hash, Arc::downgrade(&inner));
        Ok(Component(inner))
    }

    fn known(&self, hash: ComponentHash) -> Option<Arc<Inner>> {
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash).and_then(Weak::upgrade)
    }

    fn compile(&self, hash: ComponentHash, bytes: &[u8]) -> Result<wasmtime::component::Component, ComponentError> {
        let engine = &self.shared.engine;
        if let Some(code) = self.shared.cache.as_ref().and_then(|cache| cache.get(engine, hash)) {
            return Ok(code);
        }
        let code = wasmtime::component::Component::from_binary(engine, bytes)
            .map_err(|error| ComponentError::Invalid(one_line(&error)))?;
        if let Some(cache) = &self.shared.cache {
            cache.put(hash, &code);
        }
        Ok(code)
    }
}

/// Counts epochs for as long as the engine lives.
fn tick(engine: &Engine) {
    let engine = engine.weak();
    let ticking = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
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
        // Each worker's memory is mapped when it starts and unmapped when it ends, so that what it
        // used returns to the system at once, and no number of workers has to be fixed beforehand.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}
