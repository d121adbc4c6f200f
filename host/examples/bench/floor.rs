//! The floor: the same guest called through the engine alone, as it is configured for workers.

use std::time::Instant;

use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Config, Engine, Store};

use super::support::{Outcome, Size, each, guest, show};

type Call = TypedFunc<(u64, Vec<u8>), (Result<Option<Vec<u8>>, String>,)>;

pub async fn call(size: Size) -> Outcome {
    let mut config = Config::new();
    config.concurrency_support(false).consume_fuel(true).epoch_interruption(true).wasm_memory64(false);
    let engine = Engine::new(&config)?;
    let component = Component::from_binary(&engine, &guest("echo")?)?;
    let mut store = Store::new(&engine, ());
    store.set_fuel(u64::MAX)?;
    store.fuel_async_yield_interval(Some(1_000_000))?;
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = Linker::new(&engine).instantiate_async(&mut store, &component).await?;
    let handler = instance.get_export_index(&mut store, None, "paguro:worker/handler@0.1.0").ok_or("no handler")?;
    let handle = instance.get_export_index(&mut store, Some(&handler), "handle-call").ok_or("no handle-call")?;
    let handle: Call = instance.get_typed_func(&mut store, handle)?;
    let times = size.of(50_000, 20_000);
    let mut samples = Vec::new();
    // The first round does not count.
    for round in 0..=size.of(21, 7) {
        let begun = Instant::now();
        for _ in 0..times {
            let reply = handle.call_async(&mut store, (1, vec![1; 64])).await?;
            assert!(matches!(reply, (Ok(Some(bytes)),) if bytes.len() == 64));
        }
        if round > 0 {
            samples.push(each(begun, times));
        }
    }
    show("floor-call-64", "bare wasmtime async call, 64 B", "ns", &samples);
    Ok(())
}
