//! Circuit breakers and rate limits: who is turned away, when, with what, and what survives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use paguro::base::{Clock, Name, Timestamp};
use paguro::control::Host;
use paguro::record::{BreakerRecord, Change, Database};
use paguro_tests::{World, ask, call, events_of, guest, standing, until};
use serde_json::{Value, json};

/// Opens at the second failure, and every message is saved.
fn breaker(recovery: &str) -> String {
    format!("[circuit-breaker]\nfailures = 2\nwindow = \"1h\"\nrecovery = \"{recovery}\"\n[snapshot]\nmessages = 1\n")
}

/// Probes `a` and `b`; `b` has these settings, and may fail as often as it likes.
async fn probes(settings: &str) -> (World, Arc<Host>) {
    let mut world = World::new();
    world.put("a", "probe").put("b", "probe").write("b.toml", settings);
    world.write("supervisor.toml", "intensity = 1000\n[backoff]\nmax = \"10ms\"\ninitial = \"1ms\"\n");
    let host = world.up().await;
    (world, host)
}

fn state(host: &Host, name: &str) -> &'static str {
    host.worker(name).unwrap().breaker().map_or("none", |breaker| breaker.state)
}

async fn trap(host: &Host, name: &str) {
    until("it runs", async || standing(host, name) == "running").await;
    let told = ask(host, name, json!("trap")).await.unwrap_err();
    assert!(told.contains("trap"), "{told}");
}

fn relay(to: &str, body: Value) -> Value {
    json!({"call": {"to": to, "body": body, "timeout": null}})
}

fn turns(host: &Host, name: &str) -> Vec<&'static str> {
    let events = events_of(host, name);
    events.iter().map(|event| event.kind()).filter(|kind| kind.starts_with("breaker-")).collect()
}

/// Messages that were let through, whatever became of them.
fn taken(host: &Host, name: &str) -> u64 {
    host.worker(name).unwrap().counters.handled.load(Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_opens_after_so_many_traps_tries_again_and_closes() {
    let (mut world, host) = probes(&breaker("4s")).await;
    assert_eq!((state(&host, "a"), state(&host, "b")), ("none", "closed"));
    // A timer is no caller: it fires while nobody gets through.
    ask(&host, "b", json!({"after": [300, "a fact"]})).await.unwrap();
    trap(&host, "b").await;
    assert_eq!(
        ask(&host, "b", json!({"fail": "an error is an answer"})).await.unwrap_err(),
        "rejected: an error is an answer"
    );
    assert_eq!(state(&host, "b"), "closed");
    trap(&host, "b").await;
    assert_eq!(state(&host, "b"), "open", "before the caller was told");
    assert!(host.worker("b").unwrap().breaker().unwrap().until.is_some());

    assert_eq!(ask(&host, "b", json!("log")).await, Err("circuit open".to_string()));
    let refused = json!({"err": "circuit-open"});
    assert_eq!(ask(&host, "a", relay("b", json!("log"))).await, Ok(refused.clone()));
    assert_eq!(ask(&host, "a", json!({"cast": {"to": "b", "body": 1}})).await, Ok(refused));
    assert!(host.cast("b", "1".into()).is_err());

    until("its recovery is over", async || state(&host, "b") == "half-open").await;
    assert_eq!(turns(&host, "b"), ["breaker-opened"], "it turns with the first caller");
    let log = ask(&host, "b", json!("log")).await.unwrap();
    assert_eq!(state(&host, "b"), "closed");
    assert_eq!(log[0]["timer"], "a fact");
    assert_eq!(turns(&host, "b"), ["breaker-opened", "breaker-half-open", "breaker-closed"]);
    assert_eq!(ask(&host, "a", relay("b", json!({"echo": 1}))).await, Ok(json!({"ok": 1})));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_fails_opens_it_again() {
    let (mut world, host) = probes(&breaker("200ms")).await;
    trap(&host, "b").await;
    trap(&host, "b").await;
    until("its recovery is over", async || state(&host, "b") == "half-open").await;
    trap(&host, "b").await;
    assert_eq!(turns(&host, "b"), ["breaker-opened", "breaker-half-open", "breaker-opened"]);
    until("it is tried again", async || ask(&host, "b", json!("log")).await.is_ok()).await;
    assert_eq!(state(&host, "b"), "closed");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_run_out_and_casts_that_end_the_worker_count_once_each() {
    let mut world = World::new();
    world.put("mute", "fault-mute").write("mute.toml", &breaker("1h"));
    world.put("batcher", "batcher").write("batcher.toml", &breaker("1h"));
    world.write("supervisor.toml", "intensity = 100\n");
    let host = world.up().await;
    let failures = |name: &str| host.worker(name).unwrap().breaker().unwrap().failures;
    for count in [1, 2] {
        // Seen by the caller, and by the worker when it comes to it: one message.
        assert!(host.call("mute", "x".into(), Duration::from_millis(50)).await.is_err());
        assert_eq!(failures("mute"), count);
    }
    assert_eq!(call(&host, "mute", "x").await.unwrap_err(), "circuit open");

    for body in ["1", "trap", "2"] {
        host.cast("batcher", body.into()).unwrap();
    }
    until("it has them but for one", async || {
        let got = ask(&host, "batcher", json!("get")).await.unwrap();
        got["casts"] == json!([1, 2])
    })
    .await;
    assert_eq!(failures("batcher"), 1, "the others of its batch went well in the end");
    host.cast("batcher", "trap".into()).unwrap();
    until("the second", async || state(&host, "batcher") == "open").await;
    assert!(host.cast("batcher", "3".into()).is_err());
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_one_survives_the_host_and_an_operators_restart_but_not_a_new_revision() {
    let (mut world, host) = probes(&breaker("1h")).await;
    ask(&host, "a", json!({"cast": {"to": "b", "body": "kept"}})).await.unwrap();
    until("it is handled", async || taken(&host, "b") == 1).await;
    trap(&host, "b").await;
    trap(&host, "b").await;
    world.down().await;

    let host = world.up().await;
    assert_eq!(state(&host, "b"), "open");
    assert_eq!(ask(&host, "b", json!("log")).await, Err("circuit open".to_string()));
    assert_eq!(ask(&host, "a", json!({"echo": 1})).await, Ok(json!(1)));
    let recovered = events_of(&host, "b").iter().any(|event| event.to_string().contains("circuit breaker"));
    assert!(recovered, "the start says what it recovered");
    host.restart_worker("b").await.unwrap();
    assert_eq!(state(&host, "b"), "open", "the same code");

    let mut other = guest("probe");
    other.extend([0, 6, 4, b'n', b'o', b't', b'e', b'x']);
    host.upgrade("b", other, None).await.unwrap();
    assert_eq!(state(&host, "b"), "half-open");
    assert_eq!(ask(&host, "b", json!("log")).await, Ok(json!([{"cast": "kept"}])));
    assert_eq!(state(&host, "b"), "closed");
    world.down().await;
    let host = world.up().await;
    assert_eq!(state(&host, "b"), "closed", "that was written down too");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_time_ended_while_the_host_was_down_is_half_open_and_one_that_was_removed_is_closed() {
    let (mut world, _) = probes(&breaker("1h")).await;
    world.down().await;
    let name = Name::parse("b").unwrap();
    let database = Database::open(&world.path().join(".paguro/paguro.db"), Clock::system()).unwrap();
    let past = BreakerRecord { opened_at: Timestamp(1), until: Timestamp(2), failures: 2 };
    database.commit(vec![Change::PutBreaker(name.clone(), past)]).await.unwrap();
    database.close().await;
    drop(database);

    let host = world.up().await;
    assert_eq!(state(&host, "b"), "half-open");
    trap(&host, "b").await;
    assert_eq!(state(&host, "b"), "open");
    world.remove("b.wasm");
    until("it is gone", async || host.worker("b").is_err()).await;
    until("so is its breaker", async || host.database().breaker(&name).unwrap().is_none()).await;
    world.put("b", "probe");
    until("it is back", async || standing(&host, "b") == "running").await;
    assert_eq!(state(&host, "b"), "closed");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_change_hold_at_once() {
    let (mut world, host) = probes(&breaker("1h")).await;
    trap(&host, "b").await;
    trap(&host, "b").await;
    assert_eq!(state(&host, "b"), "open");
    world.write("b.toml", "");
    until("it has none any more", async || state(&host, "b") == "none").await;
    assert_eq!(ask(&host, "b", json!({"echo": 1})).await, Ok(json!(1)));
    assert_eq!(turns(&host, "b"), ["breaker-opened", "breaker-closed"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_no_more_messages_than_its_rate() {
    let (mut world, host) = probes("[rate]\nper-second = 1\nburst = 3\n").await;
    let sent = (0..100).filter(|number| host.cast("b", number.to_string().as_str().into()).is_ok()).count();
    assert!((3..100).contains(&sent), "{sent} of 100 at once");
    let refused = host.worker("b").unwrap().counters.seen(|of| &of.refused);
    assert_eq!(refused, 100 - sent as u64);
    until("those are handled", async || taken(&host, "b") == sent as u64).await;
    // Calls, casts and broadcasts are one.
    ask(&host, "b", json!({"join": "g"})).await.ok();
    let mut told = Vec::new();
    for _ in 0..20 {
        told.push(ask(&host, "a", relay("b", json!({"echo": 1}))).await.unwrap());
    }
    assert!(told.contains(&json!({"err": "overloaded"})), "{told:?}");
    assert!(turns(&host, "b").is_empty());
    until("a second later there is room", async || ask(&host, "b", json!({"echo": 1})).await.is_ok()).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_a_rate_of_its_own() {
    let (mut world, host) = probes("[rate]\ncaller-per-second = 1\ncaller-burst = 2\n").await;
    world.put("c", "probe");
    until("c runs", async || standing(&host, "c") == "running").await;
    ask(&host, "b", json!({"join": "g"})).await.unwrap();
    let overloaded = json!({"err": "overloaded"});
    let mut told = Vec::new();
    for number in 0..10 {
        let request = json!({"cast": {"to": "b", "body": number}});
        told.push(ask(&host, "a", request).await.unwrap());
    }
    assert_eq!(told[..2], [json!({"ok": null}), json!({"ok": null})]);
    assert!(told.contains(&overloaded), "{told:?}");
    // A broadcast is a cast from its sender; facts are from nobody.
    let mut broadcasts = Vec::new();
    for _ in 0..10 {
        broadcasts.push(ask(&host, "a", json!({"broadcast": ["g", "x"]})).await.unwrap());
    }
    assert!(broadcasts.contains(&json!(0)), "{broadcasts:?}");
    for _ in 0..2 {
        assert_eq!(ask(&host, "c", relay("b", json!({"echo": 1}))).await, Ok(json!({"ok": 1})), "c sent nothing yet");
    }
    let clients = (0..100).filter(|_| host.cast("b", "1".into()).is_ok()).count();
    assert!((1..100).contains(&clients), "clients outside the tree are one caller: {clients}");
    world.down().await;
}
