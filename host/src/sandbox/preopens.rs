//! `wasi:filesystem/preopens`: the directories that are granted, by handle.
//!
//! The engine's own implementation takes a path and opens it for each instance. A guest that may write beside a
//! directory could put a link in its place, trap, and find whatever the link leads to in its next instance. Here
//! every instance gets the directory that was checked: no path is looked up again.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::preopens;

use super::grants::Grants;
use super::instance::State;

/// What one guest finds, as directory and name.
pub(super) type Preopens = Box<[(Dir, String)]>;

/// The error names a directory that nobody has opened: it was not checked, so it is not given.
pub(super) fn preopens(grants: &Grants) -> Result<Preopens, String> {
    let each = grants.directories.iter().map(|grant| {
        let Some(opened) = &grant.opened else {
            return Err(format!("the granted directory {} was not opened", grant.host.display()));
        };
        Ok((opened.as_dir(grant.access), grant.guest.clone()))
    });
    each.collect()
}

/// Takes the place of the engine's own interface.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let added = preopens::add_to_linker::<State, HasSelf<State>>(linker, |state| state);
    linker.allow_shadowing(false);
    added
}

impl preopens::Host for State {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let State { preopens, table, .. } = self;
        preopens.iter().map(|(dir, name)| Ok((table.push(Descriptor::Dir(dir.clone()))?, name.clone()))).collect()
    }
}
