//! What the compiler makes of a component: machine code, and what an instance of it costs the host.

use wasmtime::{Engine, component};
use wasmtime_environ::component::{
    ComponentArtifacts, GlobalInitializer, InstantiateModule, StaticModuleIndex, VMComponentOffsets,
};
use wasmtime_environ::object::read::elf::ElfFile64;
use wasmtime_environ::object::{Endianness, Object, ObjectSection};
use wasmtime_environ::{HostPtr, Module, VMOffsets, obj};

use crate::base::bounds;
use crate::base::units::show_size;
use crate::sandbox::engine::one_line;

/// Compiled code, and what was learnt of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Artifact {
    /// For [`component::Component::deserialize`].
    pub code: Vec<u8>,
    /// Bytes of the engine's own memory that one instance takes, over all core instances nested in it: globals, tables
    /// of functions, records. Linear memory and table elements come on top.
    pub instance_bytes: u64,
}

/// Bytes that the engine keeps for one core instance besides its context: the instance itself, its entry in the store,
/// and the allocator's share. The type is private to the engine; a thousand empty instances were measured with 0.9 KB
/// each.
const CORE_INSTANCE_BYTES: u64 = 1024;

/// Compiles a component. What it takes depends on the bytes alone, which may be hostile: only a process with bounds of
/// its own should call it with bytes that nobody vouches for.
///
/// # Errors
/// The component is not valid, or would keep too much memory of the host once it is loaded.
pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Artifact, String> {
    let code = engine.precompile_component(bytes).map_err(|error| one_line(&error))?;
    let instance_bytes = instance_bytes(&code)?;
    Ok(Artifact { code, instance_bytes })
}

/// The compiled component's lists of functions, globals and types, packed.
fn metadata(code: &[u8]) -> Result<&[u8], String> {
    let unreadable = |error: String| format!("the compiler's output cannot be read: {error}");
    let file = ElfFile64::<Endianness>::parse(code).map_err(|error| unreadable(error.to_string()))?;
    let section = file.section_by_name(obj::ELF_WASMTIME_INFO);
    let metadata = section.ok_or_else(|| unreadable("it has no metadata".to_string()))?;
    metadata.data().map_err(|error| unreadable(error.to_string()))
}

/// Bytes that a loaded component's lists take in the host, about, for as long as it is loaded.
pub fn unpacked_bytes(code: &[u8]) -> u64 {
    metadata(code).map_or(0, |packed| (packed.len() as u64).saturating_mul(bounds::METADATA_UNPACKS_TO))
}

fn instance_bytes(code: &[u8]) -> Result<u64, String> {
    let unreadable = |error: String| format!("the compiler's output cannot be read: {error}");
    let metadata = metadata(code)?;
    // The host unpacks this when it loads the code, and keeps it.
    if metadata.len() as u64 > bounds::COMPONENT_METADATA_BYTES_MAX {
        let (size, max) = (show_size(metadata.len() as u64), show_size(bounds::COMPONENT_METADATA_BYTES_MAX));
        return Err(format!("its lists of functions, globals and types take {size}, where {max} are allowed"));
    }
    let artifacts: ComponentArtifacts =
        postcard::from_bytes(metadata).map_err(|error| unreadable(error.to_string()))?;
    let modules = &artifacts.static_modules;
    let of_module = |index: StaticModuleIndex| core_instance_bytes(&modules[index].module);
    let component = &artifacts.info.component;
    let nested = component.initializers.iter().map(|initializer| match initializer {
        GlobalInitializer::InstantiateModule(InstantiateModule::Static(index, _), _) => of_module(*index),
        // Nothing hands a module to a component here; were it so, the host's bound on core instances holds.
        GlobalInitializer::InstantiateModule(InstantiateModule::Import(..), _) => CORE_INSTANCE_BYTES,
        _ => 0,
    });
    let own = u64::from(VMComponentOffsets::new(HostPtr, component).size_of_vmctx());
    Ok(nested.fold(own, u64::saturating_add))
}

fn core_instance_bytes(module: &Module) -> u64 {
    u64::from(VMOffsets::new(HostPtr, module).size_of_vmctx()) + CORE_INSTANCE_BYTES
}

/// Loads compiled code.
///
/// # Safety
/// The code was made by [`compile`] with an engine of the same settings, and is unchanged since.
#[allow(unsafe_code)]
pub unsafe fn load(engine: &Engine, code: &[u8]) -> Result<component::Component, wasmtime::Error> {
    // SAFETY: who calls vouches for it.
    unsafe { component::Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::engine;

    fn compiled(text: &str) -> Artifact {
        let engine = Engine::new(&engine::config()).unwrap();
        compile(&engine, &wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn an_instance_costs_what_its_nested_instances_cost_together() {
        let globals = "(global (mut i64) (i64.const 0))".repeat(10_000);
        let times = |count: usize| {
            let instances = "(core instance (instantiate $m))".repeat(count);
            compiled(&format!("(component (core module $m {globals}) {instances})")).instance_bytes
        };
        let (one, ten) = (times(1), times(10));
        // A global takes 16 bytes.
        assert!((160_000..200_000).contains(&one), "{one}");
        assert!((9 * one..=10 * one).contains(&ten), "{one} {ten}");
    }

    #[test]
    fn functions_that_can_be_referred_to_cost_each_instance() {
        let functions = "(func)".repeat(5_000);
        let exports: String = (0..5_000).map(|n| format!("(export \"{n}\" (func {n}))")).collect();
        let text = format!("(component (core module $m {functions} {exports}) (core instance (instantiate $m)))");
        assert!(compiled(&text).instance_bytes > 5_000 * 16);
    }
}
