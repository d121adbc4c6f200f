//! Health on a schedule: outside of probation the worker's own task asks.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use paguro::base::{Payload, Timestamp};
use paguro::control::Host;
use paguro::record::Event;
use paguro::sandbox::Health;
use paguro_tests::{World, ask, event, events_of, until};
use serde_json::json;

fn health(host: &Host, name: &str) -> Option<(Health, Timestamp)> {
    host.worker(name).unwrap().status().health
}

/// Waits until it was asked once more.
async fn asked_again(host: &Host, name: &str) {
    let before = health(host, name).map(|(_, at)| at);
    until("it is asked", async || health(host, name).map(|(_, at)| at) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_on_a_schedule_and_only_another_word_is_an_event() {
    let mut world = World::new();
    world.put("a", "probe").write("a.toml", "health-interval = \"10ms\"\n");
    let host = world.up().await;
    asked_again(&host, "a").await;
    assert_eq!(health(&host, "a").unwrap().0, Health::Healthy);

    ask(&host, "a", json!({"health": {"degraded": "tired"}})).await.unwrap();
    let changed =
        |to: &'static str| move |event: &Event| matches!(event, Event::HealthChanged { status, .. } if status == to);
    event(&host, "the change", changed("degraded: tired")).await;
    ask(&host, "a", json!({"health": {"degraded": "more so"}})).await.unwrap();
    until("the newest reason", async || {
        health(&host, "a").is_some_and(|(health, _)| health == Health::Degraded("more so".into()))
    })
    .await;
    let counters = &host.worker("a").unwrap().counters;
    let handled = counters.handled.load(Relaxed);
    for _ in 0..3 {
        asked_again(&host, "a").await;
    }
    assert_eq!(counters.handled.load(Relaxed), handled, "a check is no message");
    ask(&host, "a", json!({"health": "healthy"})).await.unwrap();
    event(&host, "the change back", changed("healthy")).await;
    let told: Vec<String> = events_of(&host, "a")
        .into_iter()
        .filter_map(|event| match event {
            Event::HealthChanged { status, .. } => Some(status),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["degraded: tired", "healthy"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_interval_holds_at_once_and_a_busy_worker_is_asked_too() {
    let mut world = World::new();
    world.put("a", "probe").write("a.toml", "durability = \"none\"\n");
    let host = world.up().await;
    assert_eq!(ask(&host, "a", json!({"echo": 1})).await, Ok(json!(1)));
    assert!(health(&host, "a").is_none(), "not before its first time");
    world.write("a.toml", "durability = \"none\"\nhealth-interval = \"10ms\"\n");
    asked_again(&host, "a").await;

    let worker = host.worker("a").unwrap();
    let busy: Vec<_> = (0..400)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move {
                let _ = host.call("a", Payload::from(r#"{"busy":5}"#), Duration::from_secs(600)).await;
            })
        })
        .collect();
    until("they wait", async || worker.waiting() > 300).await;
    asked_again(&host, "a").await;
    assert!(worker.waiting() > 0, "among what waits, not after it");
    busy.iter().for_each(tokio::task::JoinHandle::abort);
    world.down().await;
}
