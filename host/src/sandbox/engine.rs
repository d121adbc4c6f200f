//! The engine, the linker, and how a component's bytes become a [`Component`].

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy};

use super::bindings::BatchWorker;
use super::cache::Cache;
use super::compiler::{self, Compiler, Ended, Terms};
use super::component::{Component, Inner};
use super::imports;
use super::instance::State;
use super::metadata::{self, Shape};
use super::stacks::Stacks;
use super::{files, preopens};
use crate::base::units::show_size;
use crate::base::{Account, ComponentHash, Holding, bounds};

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
    #[error("it cannot be compiled within bounds: {0}")]
    NotCompiled(String),
    #[error("it is not compiled again, because its compiler died before: {0}; `paguro check FILE` tries once more")]
    Banned(String),
}

/// Why a component could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is no component that can run here: it never will be.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// Its compiler used up what the terms say, or died.
    #[error("{0}")]
    Exceeded(String),
    #[error("nobody waits for it any more")]
    Abandoned,
    /// The host's account has no room for so many bytes that it takes while it is loaded.
    #[error("the host has no memory left for it: it takes {} while it is loaded", show_size(*.0))]
    NoRoom(u64),
    /// The compiler could not be run: a fault of the host.
    #[error("{0}")]
    NoCompiler(String),
}

/// Which program compiles, where components are not compiled in this process.
#[derive(Clone, Debug, Default)]
pub enum CompilerChoice {
    /// In this process. A hostile component then takes what memory and time it likes.
    #[default]
    InProcess,
    /// A program that calls [`run_if_asked`](super::run_if_asked) first thing. `paguro` itself is one.
    Program(PathBuf),
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
    compiler: Compiler,
    /// Components in use, so that one that many workers run is compiled and held once.
    known: Mutex<HashMap<ComponentHash, Arc<Known>>>,
    /// What loaded components are charged to, if somebody counts.
    account: OnceLock<Arc<Account>>,
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
    /// Compiles in this process. `cache`: a private directory for compiled code; `None` compiles anew in each process.
    pub fn new(cache: Option<&Path>) -> Result<Sandbox, SandboxError> {
        Sandbox::with_compiler(cache, CompilerChoice::InProcess)
    }

    pub fn with_compiler(cache: Option<&Path>, compiler: CompilerChoice) -> Result<Sandbox, SandboxError> {
        let sandbox = Sandbox::untimed(cache, compiler)?;
        tick(&sandbox.shared.engine);
        Ok(sandbox)
    }

    /// A sandbox in which a guest gives way by fuel alone, so always at the same place: without the
    /// thread that counts epochs, time on the wall decides nothing. For simulations; a guest that
    /// does nothing but call the host would hold its thread.
    pub fn deterministic(cache: Option<&Path>) -> Result<Sandbox, SandboxError> {
        Sandbox::untimed(cache, CompilerChoice::InProcess)
    }

    fn untimed(cache: Option<&Path>, compiler: CompilerChoice) -> Result<Sandbox, SandboxError> {
        let engine = Engine::new(&config()).map_err(SandboxError::Engine)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(SandboxError::Engine)?;
        preopens::add_to_linker(&mut linker).map_err(SandboxError::Engine)?;
        files::add_to_linker(&mut linker).map_err(SandboxError::Engine)?;
        BatchWorker::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(SandboxError::Engine)?;
        imports::define_call(&mut linker).map_err(SandboxError::Engine)?;
        let cache = cache.map(|path| {
            Cache::open(path, &engine)
                .map_err(|source| SandboxError::Cache { path: path.display().to_string(), source })
        });
        let cache = cache.transpose()?;
        let compiler = match compiler {
            CompilerChoice::Program(program) => Compiler::program(program),
            CompilerChoice::InProcess => {
                let small = rayon::ThreadPoolBuilder::new()
                    .num_threads(bounds::small_loads())
                    .thread_name(|number| format!("compiler-{number}"))
                    .stack_size(COMPILER_STACK_BYTES)
                    .build()
                    .map_err(SandboxError::Compilers)?;
                Compiler::Here { small, small_bytes_max: bounds::LARGE_COMPONENT_BYTES }
            }
        };
        Ok(Sandbox {
            shared: Arc::new(Shared {
                engine,
                linker,
                cache,
                compiler,
                known: Mutex::default(),
                account: OnceLock::new(),
            }),
        })
    }

    /// Charges what loaded components take to an account, from now on. Once.
    pub fn charge_to(&self, account: &Arc<Account>) {
        let _ = self.shared.account.set(account.clone());
    }

    /// [`Sandbox::load_on`] with all the time and memory that there may be: for embedding programs and tests.
    pub fn load(&self, bytes: &[u8]) -> Result<Component, ComponentError> {
        let terms = Terms {
            memory: bounds::COMPILERS_BYTES_MAX,
            time: bounds::COMPILE_TIME,
            threads: compiler_threads(),
            insist: true,
            abandoned: Arc::default(),
        };
        self.load_on(bytes, &terms).map_err(|error| match error {
            LoadError::Component(error) => error,
            other => ComponentError::NotCompiled(other.to_string()),
        })
    }

    /// Checks and compiles a component, or takes it from memory or the cache. Compiling keeps cores busy
    /// for tens of milliseconds to seconds: call it where that may block. One component is
    /// compiled once, however many ask for it at the same time. What needs an instance to be checked
    /// (the types of exports) is checked by [`Component::try_out`].
    ///
    /// # Errors
    /// See [`LoadError`]. A component whose compiler died is not banned by that: see [`Sandbox::ban`].
    pub fn load_on(&self, bytes: &[u8], terms: &Terms) -> Result<Component, LoadError> {
        let size = bytes.len() as u64;
        if size > bounds::COMPONENT_BYTES_MAX {
            return Err(ComponentError::Large { size, limit: bounds::COMPONENT_BYTES_MAX }.into());
        }
        match metadata::shape(bytes) {
            Shape::Component => {}
            Shape::Module => return Err(ComponentError::Module.into()),
            Shape::NotWasm => return Err(ComponentError::NotWasm.into()),
        }
        let hash = ComponentHash::of(bytes);
        let known = self.known(hash);
        let mut known = known.lock();
        if let Some(inner) = known.upgrade() {
            return Ok(Component(inner));
        }
        let (code, cost, unpacked) = self.compile(hash, bytes, terms)?;
        let held = match self.shared.account.get() {
            Some(account) => Some(account.take(Holding::Instances, unpacked).ok_or(LoadError::NoRoom(unpacked))?),
            None => None,
        };
        let inner = Inner::new(&self.shared.linker, code, hash, size, metadata::read(bytes), cost, held)?;
        let inner = Arc::new(inner);
        *known = Arc::downgrade(&inner);
        Ok(Component(inner))
    }

    /// Whether a component can be had without compiling it, as far as is known without reading it.
    pub fn is_compiled(&self, hash: ComponentHash) -> bool {
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        // One that is locked is being compiled.
        let lives = known.is_some_and(|known| known.0.try_lock().is_ok_and(|inner| inner.strong_count() > 0));
        lives || self.shared.cache.as_ref().is_some_and(|cache| cache.has(hash))
    }

    /// The component is not compiled again until an operator says so, also after the host's next start.
    pub fn ban(&self, hash: ComponentHash, why: &str) {
        if let Some(cache) = &self.shared.cache {
            cache.bans.ban(hash, why);
        }
    }

    /// Components that are not compiled, and why.
    pub fn banned(&self) -> Vec<(ComponentHash, String)> {
        self.shared.cache.as_ref().map(|cache| cache.bans.all()).unwrap_or_default()
    }

    /// Removes compiled code of every component that is not in `kept`. For the host's start.
    pub fn retain(&self, kept: &BTreeSet<ComponentHash>) {
        if let Some(cache) = &self.shared.cache {
            cache.retain(kept);
        }
    }

    /// Whether compiled code of it is on disk.
    pub fn is_cached(&self, hash: ComponentHash) -> bool {
        self.shared.cache.as_ref().is_some_and(|cache| cache.has(hash))
    }

    /// Removes compiled code of one component. What runs of it runs on; who wants it next compiles it.
    pub fn uncache(&self, hash: ComponentHash) {
        if let Some(cache) = &self.shared.cache {
            cache.remove(hash);
        }
    }

    /// The component's place, which is free where nobody uses or compiles it.
    fn known(&self, hash: ComponentHash) -> Arc<Known> {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose only owner is this map is locked by nobody, and while the map is locked nobody
        // gets at it: asking it does not wait.
        known.retain(|other, known| *other == hash || Arc::strong_count(known) > 1 || known.lock().strong_count() > 0);
        known.entry(hash).or_default().clone()
    }

    /// The code, what an instance of it costs, and what the component takes while it is loaded.
    fn compile(
        &self,
        hash: ComponentHash,
        bytes: &[u8],
        terms: &Terms,
    ) -> Result<(wasmtime::component::Component, u64, u64), LoadError> {
        let Shared { engine, cache, compiler, .. } = &*self.shared;
        if let Some(compiled) = cache.as_ref().and_then(|cache| cache.get(engine, hash)) {
            return Ok(compiled);
        }
        let banned = cache.as_ref().filter(|_| !terms.insist).and_then(|cache| cache.bans.why(hash));
        if let Some(why) = banned {
            return Err(ComponentError::Banned(why).into());
        }
        if terms.is_abandoned() {
            return Err(LoadError::Abandoned);
        }
        // A compiler in this process cannot be stopped, and goes down with a host that is killed for other reasons. What an
        // operator asks for is not tried again by itself.
        let marks = compiler.is_bounded() && !terms.insist;
        let compiling = cache.as_ref().filter(|_| marks).map(|cache| cache.bans.begin(hash));
        let made = compiler.compile(engine, bytes, terms);
        drop(compiling);
        let made = made.map_err(|ended| match ended {
            Ended::Invalid(why) => ComponentError::Invalid(why).into(),
            Ended::Exceeded(why) => LoadError::Exceeded(why),
            Ended::Abandoned => LoadError::Abandoned,
            Ended::NotStarted(why) => LoadError::NoCompiler(why),
        })?;
        // SAFETY: the compiler made it of these settings: it is this program (`COMPILER_ARGUMENT`), or the one that an
        // embedding program vouches for, and the engine refuses code of another version or other settings.
        #[allow(unsafe_code)]
        let code = unsafe { compiler::load(engine, &made.code) };
        let code = code.map_err(|error| LoadError::NoCompiler(one_line(&error)))?;
        if let Some(cache) = cache {
            cache.put(hash, &made);
            cache.bans.lift(hash);
        }
        Ok((code, made.instance_bytes, compiler::unpacked_bytes(&made.code)))
    }
}

/// Threads on which one component is compiled.
pub fn compiler_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(bounds::COMPILER_THREADS_MAX)
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

pub(super) fn config() -> Config {
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

    #[test]
    fn what_is_in_the_cache_needs_no_compiler() {
        let bytes = wat::parse_str(COMMAND).unwrap();
        let cache = tempfile::Builder::new().permissions(private()).tempdir().unwrap();
        let nowhere = || CompilerChoice::Program("/nowhere/compiler".into());
        let terms = Terms {
            memory: u64::MAX,
            time: std::time::Duration::MAX,
            threads: 1,
            insist: false,
            abandoned: Arc::default(),
        };
        let without = Sandbox::with_compiler(Some(cache.path()), nowhere()).unwrap();
        assert!(matches!(without.load_on(&bytes, &terms), Err(LoadError::NoCompiler(_))));
        let made = Sandbox::new(Some(cache.path())).unwrap().load(&bytes).unwrap();
        assert!(without.is_compiled(made.hash()));
        let loaded = without.load_on(&bytes, &terms).unwrap();
        assert_eq!(loaded.instance_overhead_bytes(), made.instance_overhead_bytes());
        assert!(made.instance_overhead_bytes() > 0);
        // One that is banned is not even tried, unless an operator insists.
        let other = wat::parse_str(COMMAND.replace("i32.const 0", "i32.const 1")).unwrap();
        without.ban(ComponentHash::of(&other), "it took too long");
        let banned = without.load_on(&other, &terms);
        assert!(matches!(banned, Err(LoadError::Component(ComponentError::Banned(why))) if why == "it took too long"));
        let insisting = Terms { insist: true, ..terms };
        assert!(matches!(without.load_on(&other, &insisting), Err(LoadError::NoCompiler(_))));
    }

    fn private() -> std::fs::Permissions {
        std::os::unix::fs::PermissionsExt::from_mode(0o700)
    }
}
