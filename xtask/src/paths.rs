//! Where things are. All paths come from here, so that no other file joins them from strings twice.

use std::path::{Path, PathBuf};

/// The root of the repository: xtask is one level below it.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The guests' own workspace.
pub fn guests() -> PathBuf {
    root().join("guests")
}

/// The contract, with the worlds that the C, JavaScript and Python guests are built for.
pub fn guest_wit() -> PathBuf {
    guests().join("wit")
}

/// Where finished components go: `<name>.wasm`.
pub fn components() -> PathBuf {
    root().join("target/guests")
}

/// Where one component goes.
pub fn component(name: &str) -> PathBuf {
    components().join(format!("{name}.wasm"))
}

/// Where a guest's generated sources and intermediate files go.
pub fn work(name: &str) -> PathBuf {
    components().join(".work").join(name)
}

/// Where cargo puts the host's own binaries.
pub fn host_binaries() -> PathBuf {
    root().join("target/debug")
}

/// Where the measuring program is, built with optimisation.
pub fn bench_program() -> PathBuf {
    root().join("target/release/examples/bench")
}

/// Where the figures of a benchmark go, and what was compiled for it.
pub fn bench() -> PathBuf {
    root().join("target/bench")
}

/// The Erlang side of the benchmark.
pub fn erlang_peer() -> PathBuf {
    root().join("xtask/bench/paguro_peer.erl")
}

/// Tools that xtask installs for itself.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}
