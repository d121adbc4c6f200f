//! A full disk: what cannot be written is told, and nothing is half done.

use std::sync::Arc;

use paguro::control::{Host, HostOptions};
use paguro_tests::{World, ask, event, events_of};
use serde_json::json;

/// Bytes of the database: room for the tables and for small states.
const BYTES_MAX: u64 = 256 << 10;

async fn on_a_small_disk(world: &World) -> Arc<Host> {
    let options = HostOptions { database_bytes_max: Some(BYTES_MAX), ..HostOptions::new(world.path()) };
    Host::start(options).await.expect("the host starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_fit_is_told_and_the_worker_goes_on() {
    let mut world = World::new();
    world.put("probe", "probe").write("probe.toml", "[snapshot]\nmessages = 1\n");
    let host = on_a_small_disk(&world).await;
    host.cast("probe", r#""small""#.into()).unwrap();
    assert_eq!(ask(&host, "probe", json!("log")).await, Ok(json!([{"cast": "small"}])));
    // Behind everything that was queued: it is on disk.
    host.database().commit(Vec::new()).await.unwrap();

    let large = "x".repeat(2 * BYTES_MAX as usize);
    host.cast("probe", json!(large).to_string().as_str().into()).unwrap();
    let told = event(&host, "the failure", |event| event.kind() == "snapshot-failed").await.to_string();
    assert!(told.contains("full"), "{told}");
    let log = ask(&host, "probe", json!("log")).await.unwrap();
    assert_eq!(log.as_array().unwrap().len(), 2, "it goes on, with what it has");
    assert!(events_of(&host, "probe").iter().all(|event| event.kind() != "worker-exited"));

    // What fits again is saved again.
    ask(&host, "probe", json!("clear")).await.unwrap();
    host.cast("probe", r#""after""#.into()).unwrap();
    assert_eq!(ask(&host, "probe", json!("log")).await, Ok(json!([{"cast": "after"}])));
    host.database().commit(Vec::new()).await.unwrap();
    host.cast("probe", json!(large).to_string().as_str().into()).unwrap();
    ask(&host, "probe", json!("log")).await.unwrap();
    host.stop().await;
    drop(host);

    // The last that was whole is what the next start finds.
    let host = world.up().await;
    assert_eq!(ask(&host, "probe", json!("log")).await, Ok(json!([{"cast": "after"}])));
    host.database().verify_ledger().expect("the ledger is whole");
    world.down().await;
}
