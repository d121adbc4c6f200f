//! The whole story in small: drop, call, upgrade, roll back, crash, come back.

use std::time::Duration;

use paguro::change::Outcome;
use paguro_tests::{World, call, event, guest, standing, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_dropped_in_runs_and_answers() {
    let mut world = World::new();
    world.put("counter", "counter-v1");
    let host = world.up().await;
    assert_eq!(call(&host, "counter", "add").await.as_deref(), Ok("1"));
    assert_eq!(call(&host, "counter", r#"{"add":4}"#).await.as_deref(), Ok("5"));
    world.put("billing/counter", "counter-v1");
    until("the second worker runs", async || standing(&host, "billing/counter") == "running").await;
    assert_eq!(call(&host, "billing/counter", "add").await.as_deref(), Ok("1"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_keeps_the_state_and_a_rollback_the_messages() {
    let mut world = World::new();
    world.put("counter", "counter-v1");
    let host = world.up().await;
    call(&host, "counter", r#"{"add":41}"#).await.unwrap();
    let probation = Some(Duration::from_secs(600));
    let switched = host.upgrade("counter", guest("counter-v2"), probation).await.unwrap();
    assert_eq!(standing(&host, "counter"), "probation");
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("41"));
    assert_eq!(call(&host, "counter", r#"{"add":{"key":"a","by":1}}"#).await.as_deref(), Ok("1"));
    let outcome = host.commit("counter").await.unwrap();
    assert!(matches!(outcome, Outcome::Committed { .. }));
    assert!(matches!(switched.outcome.await, Ok(Outcome::Committed { .. })));

    // fault-third traps on its third message: the one before it has all three.
    let switched = host.upgrade("counter", guest("fault-third"), probation).await.unwrap();
    for _ in 0..3 {
        call(&host, "counter", "add").await.unwrap();
    }
    let Ok(Outcome::RolledBack { replayed, why, .. }) = switched.outcome.await else {
        panic!("it was not rolled back")
    };
    assert_eq!(replayed, 3, "{why}");
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("45"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_restarted_and_the_state_comes_back() {
    let mut world = World::new();
    world.put("counter", "counter-v1").write("counter.toml", "[snapshot]\nmessages = 1\n");
    let host = world.up().await;
    call(&host, "counter", r#"{"add":7}"#).await.unwrap();
    let error = call(&host, "counter", "crash").await.unwrap_err();
    assert!(error.contains("trap"), "{error}");
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    event(&host, "the exit", |event| event.kind() == "worker-exited").await;
    world.down().await;
    let host = world.up().await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    world.down().await;
}
