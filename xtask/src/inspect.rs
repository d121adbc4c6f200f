//! What a component says of itself.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wit_component::DecodedWasm;

/// The interfaces that a component imports and exports, by their full names.
pub struct Interface {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Reads a component, all of it: one that is cut short or invalid is an error.
pub fn component(path: &Path) -> Result<Interface> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let decoded = wit_component::decode(&bytes).with_context(|| format!("{} is not a component", path.display()))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        bail!("{} is a WIT package, not a component", path.display());
    };
    let world = &resolve.worlds[world];
    let names = |items: Vec<_>| items.into_iter().map(|key| resolve.name_world_key(key)).collect();
    Ok(Interface { imports: names(world.imports.keys().collect()), exports: names(world.exports.keys().collect()) })
}
