//! The example workers, in four languages, through the host.

use paguro::control::Host;
use paguro_tests::{World, call, event, standing, until};
use serde_json::Value;

/// A call whose reply is JSON.
async fn json(host: &Host, name: &str, body: &str) -> Value {
    serde_json::from_str(&call(host, name, body).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reserves_stock_and_cancels_what_is_not_paid_in_time() {
    let mut world = World::new();
    world.put("shop/inventory", "inventory").write("shop/inventory.toml", "[config]\nstock = { book = 5 }\n");
    world.put("shop/orders", "orders").write("shop/orders.toml", "[config]\npay-within-ms = 300\n");
    let host = world.up().await;
    let orders = async |request: &str| call(&host, "shop/orders", request).await;
    let free = async || call(&host, "shop/inventory", r#"{"get":"book"}"#).await;

    assert_eq!(orders(r#"{"place":{"order":"a","item":"book","quantity":2}}"#).await.as_deref(), Ok("\"reserved\""));
    assert_eq!(free().await.as_deref(), Ok("3"));
    assert_eq!(orders(r#"{"pay":"a"}"#).await.as_deref(), Ok("\"paid\""));
    assert!(orders(r#"{"place":{"order":"b","item":"book","quantity":9}}"#).await.is_err(), "there are not as many");

    assert_eq!(orders(r#"{"place":{"order":"c","item":"book","quantity":1}}"#).await.as_deref(), Ok("\"reserved\""));
    until("the unpaid order is cancelled", async || orders(r#"{"get":"c"}"#).await.as_deref() == Ok("\"cancelled\""))
        .await;
    assert_eq!(orders(r#"{"ship":"a"}"#).await.as_deref(), Ok("\"shipped\""), "the paid one is not");
    assert_eq!(free().await.as_deref(), Ok("3"), "its stock is free again");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pricing_is_swapped_live_when_its_file_changes() {
    let mut world = World::new();
    world.put("pricing", "pricing").write("pricing.toml", "[upgrade]\nprobation = \"0s\"\n");
    let host = world.up().await;
    until("it is loaded", async || standing(&host, "pricing") == "running").await;
    call(&host, "pricing", r#"{"set":{"item":"tea","cents":400}}"#).await.unwrap();
    let quote = async || json(&host, "pricing", r#"{"quote":{"item":"tea","quantity":1}}"#).await;
    let before = quote().await;
    assert_eq!((&before["item"], &before["quantity"]), (&"tea".into(), &1.into()));

    world.put("pricing", "pricing-v2");
    until("the new rules serve", async || quote().await["version"] != before["version"]).await;
    let after = quote().await;
    assert!(after["cents"].as_f64().is_some_and(|cents| cents > 0.0), "the price list moved with it: {after}");
    until("it is committed at once", async || standing(&host, "pricing") == "running").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_keeps_its_numbers_over_a_host_restart() {
    let mut world = World::new();
    world.put("stats", "stats");
    let host = world.up().await;
    until("it is loaded", async || standing(&host, "stats") == "running").await;
    for number in ["2", "4", "[6, 8]"] {
        host.cast("stats", number.into()).unwrap();
    }
    let get = async |host: &Host| json(host, "stats", "get").await;
    until("all were handled", async || get(&host).await["n"] == 4).await;
    let stats = get(&host).await;
    assert_eq!(
        (stats["mean"].as_f64(), stats["min"].as_f64(), stats["max"].as_f64()),
        (Some(5.0), Some(2.0), Some(8.0))
    );
    world.down().await;
    let host = world.up().await;
    assert_eq!(get(&host).await, stats);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limiter_lets_through_what_its_bucket_holds_and_refills_by_a_timer() {
    let mut world = World::new();
    world.put("limiter", "limiter").write("limiter.toml", "[config]\ncapacity = 2\nrefill-ms = 2000\n");
    let host = world.up().await;
    let take = async || call(&host, "limiter", "take").await.unwrap();
    assert_eq!((take().await.as_str(), take().await.as_str()), ("\"ok\"", "\"ok\""));
    assert_eq!(take().await, "\"wait\"", "it is empty");
    until("it is refilled", async || take().await == "\"ok\"").await;
    event(&host, "it started", |event| event.kind() == "worker-started").await;
    world.down().await;
}
