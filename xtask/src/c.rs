//! C guests: bindings by `wit-bindgen-c`, compiled by `zig cc`, made a component by `wit-component`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use wit_bindgen_core::Files;
use wit_component::ComponentEncoder;
use wit_parser::Resolve;

use crate::shell::{command, run};
use crate::{paths, tools};

/// What the bindings are called, whatever the world: `worker.h`, `worker_list_u8_t`. So one helper
/// header serves them all.
const BINDINGS: &str = "worker";

pub fn build(name: &str, source: &Path, world: &str) -> Result<()> {
    let work = paths::work(name);
    fs::create_dir_all(&work)?;
    write_bindings(&work, world)?;
    let module = work.join("module.wasm");
    compile(source, &work, &module)?;
    let component = ComponentEncoder::default()
        .module(&fs::read(&module)?)?
        .validate(true)
        .encode()
        .context("the module is not what the world wants")?;
    fs::write(paths::component(name), component)?;
    Ok(())
}

fn write_bindings(work: &Path, world: &str) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(paths::guest_wit())?;
    let world = resolve.select_world(&[package], Some(world))?;
    let options = wit_bindgen_c::Opts { rename_world: Some(BINDINGS.into()), ..Default::default() };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    for (file, content) in files.iter() {
        fs::write(work.join(file), content)?;
    }
    Ok(())
}

fn compile(source: &Path, work: &Path, module: &Path) -> Result<()> {
    let mut zig = command(tools::venv_program("python"), work);
    // Its caches stay in this repository, not in somebody's home.
    let cache = paths::tools().join("zig-cache");
    zig.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
    zig.args(["-m", "ziglang", "cc", "--target=wasm32-wasi", "-mexec-model=reactor"]);
    // zig turns on checks for undefined behaviour that bring a runtime of their own.
    zig.args(["-std=c11", "-Os", "-Wall", "-Wextra"]);
    // The exports have the contract's arguments, whether a worker needs them or not.
    zig.args(["-Wno-unused-parameter", "-fno-sanitize=undefined"]);
    zig.arg("-I").arg(work).arg("-I").arg(paths::guests().join("c"));
    // The linker's own is 16 MiB, which each instance would take.
    zig.arg("-Wl,-z,stack-size=65536");
    zig.arg(source).args(["worker.c", "worker_component_type.o", "-o"]).arg(module);
    run(&mut zig).map(drop)
}
