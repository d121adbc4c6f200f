//! Measures what users feel, through the library and with real guests. `cargo xtask bench` runs it in
//! release, beside Erlang, and makes a table of what it prints.
//!
//! `bench [--quick] NAME...` prints one JSON line for each measurement:
//! `{"name", "what", "unit", "samples"}`. What is slow to build is measured once, what is quick in many
//! rounds; each sample is the mean of one round, unless it says otherwise.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

mod api;
mod calls;
mod floor;
mod million;
mod residents;
mod soak;
mod support;
mod tree;
mod upgrades;

use support::{Outcome, Size};

/// As the program's.
#[global_allocator]
static ALLOCATOR: paguro::base::Allocator = paguro::base::Allocator;

#[tokio::main]
async fn main() -> Outcome {
    paguro::base::Allocator::set_up();
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let quick = names.iter().any(|name| name == "--quick");
    names.retain(|name| name != "--quick");
    let size = Size { quick };
    if names.first().is_some_and(|name| name == "soak") {
        return soak::run(names.get(1).and_then(|minutes| minutes.parse().ok()), size).await;
    }
    if names.is_empty() {
        return Err("which measurements? `cargo xtask bench` knows their names".into());
    }
    for name in &names {
        match name.as_str() {
            "call-64" => calls::guest_to_guest("call-64", 64, size).await?,
            "call-4k" => calls::guest_to_guest("call-4k", 4096, size).await?,
            "pairs-16" => calls::pairs(size).await?,
            "client-call-64" => calls::client(size).await?,
            "floor-call-64" => floor::call(size).await?,
            "cast-64" => calls::casts(size).await?,
            "lookup" => calls::lookup(size).await?,
            "start" => tree::start(size).await?,
            "restart" => tree::restart(size).await?,
            "tree-scale" => tree::scale(size).await?,
            "upgrade-1k" => upgrades::pause("upgrade-1k", 1 << 10, size).await?,
            "upgrade-1m" => upgrades::pause("upgrade-1m", 1 << 20, size).await?,
            "wake-memory" => residents::wake("wake-memory", size).await?,
            "wake-database" => residents::wake("wake-database", size).await?,
            "live-bytes" => residents::live(size).await?,
            "hibernated-bytes" => residents::hibernated(size).await?,
            "million-create" | "million-resident" | "million-answered" => million::run(name, size).await?,
            "api-call-1" => api::call(name, 1, size).await?,
            "api-call-32" => api::call(name, 32, size).await?,
            "axum-echo-1" => api::echo(name, 1, size).await?,
            "axum-echo-32" => api::echo(name, 32, size).await?,
            "cache-to-call" => tree::cache_to_call(size).await?,
            other => return Err(format!("there is no measurement `{other}`").into()),
        }
    }
    Ok(())
}
