//! Messages between workers: what a caller is told, what survives an upgrade, what is sent once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use paguro::change::Outcome;
use paguro::control::{Host, RequestError};
use paguro::record::Event;
use paguro::sandbox::CallError;
use paguro_tests::{World, ask, call, event, events_of, guest, standing, until};
use serde_json::{Value, json};

/// Probation that only a verdict or an operator ends.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

async fn probes(names: &[&str]) -> (World, Arc<Host>) {
    let mut world = World::new();
    for name in names {
        world.put(name, "probe");
    }
    let host = world.up().await;
    (world, host)
}

/// A probe of other bytes and so of another hash: a custom section says nothing to anybody.
fn other_probe() -> Vec<u8> {
    let mut bytes = guest("probe");
    bytes.extend([0, 6, 4, b'n', b'o', b't', b'e', b'x']);
    bytes
}

async fn log(host: &Host, name: &str) -> Value {
    ask(host, name, json!("log")).await.expect("a probe tells its log")
}

async fn logs(host: &Host, name: &str, entries: usize) -> Value {
    until(&format!("{entries} entries in the log of {name}"), async || {
        log(host, name).await.as_array().is_some_and(|all| all.len() >= entries)
    })
    .await;
    log(host, name).await
}

/// Begins a call without waiting for it, and returns once the worker has taken it.
async fn begun(host: &Arc<Host>, name: &str, request: Value) -> tokio::task::JoinHandle<Result<Value, String>> {
    let worker = host.worker(name).unwrap();
    let before = worker.counters.handled.load(Relaxed);
    let (host, name) = (host.clone(), name.to_string());
    let calling = tokio::spawn(async move { ask(&host, &name, request).await });
    until("the call is taken", async || worker.counters.handled.load(Relaxed) > before).await;
    calling
}

/// Ends a probation; how many messages were handed over.
async fn roll_back(host: &Host, name: &str) -> usize {
    match host.rollback(name, None).await {
        Ok(Ok(Outcome::RolledBack { replayed, .. })) => replayed,
        Ok(Ok(other)) => panic!("{other:?}"),
        Ok(Err(_)) => panic!("it was not in probation"),
        Err(error) => panic!("{error}"),
    }
}

fn relay(to: &str, body: Value) -> Value {
    json!({"call": {"to": to, "body": body, "timeout": null}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_of_calls_fails_at_once_and_is_named() {
    let (mut world, host) = probes(&["a", "b", "c"]).await;
    let around = relay("b", relay("c", relay("a", json!("log"))));
    let told = ask(&host, "a", around).await.unwrap();
    assert_eq!(told, json!({"ok": {"ok": {"err": "cycle", "names": ["c", "a", "b", "c"]}}}));
    let told = ask(&host, "a", relay("a", json!("log"))).await.unwrap();
    assert_eq!(told, json!({"err": "cycle", "names": ["a", "a"]}));
    assert_eq!(ask(&host, "a", relay("b", json!({"echo": 1}))).await, Ok(json!({"ok": 1})), "nothing is left of it");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_a_call_can_fail_is_told_to_the_guest_that_made_it() {
    let (mut world, host) = probes(&["a", "b"]).await;
    world.write("b.toml", "[limits]\npayload = \"1KiB\"\n").put("mute", "fault-mute");
    until("the new settings hold", async || host.worker("b").unwrap().settings().limits.payload == 1024).await;
    until("mute runs", async || standing(&host, "mute") == "running").await;
    let cases = [
        (relay("nobody", json!("log")), json!({"err": "not-found"})),
        (relay("../b", json!("log")), json!({"err": "not-found"})),
        (relay("b", json!({"fail": "not today"})), json!({"err": "rejected", "reason": "not today"})),
        (json!({"call": {"to": "mute", "body": "x", "timeout": 50}}), json!({"err": "timeout"})),
        (relay("b", json!({"echo": "x".repeat(2000)})), json!({"err": "too-large", "size": 2011, "limit": 1024})),
        (relay("b", json!("caller")), json!({"ok": "a"})),
    ];
    for (request, expected) in cases {
        assert_eq!(ask(&host, "a", request.clone()).await, Ok(expected), "{request}");
    }
    assert_eq!(ask(&host, "b", json!("caller")).await, Ok(Value::Null), "a client is nobody");
    let told = ask(&host, "a", relay("b", json!("trap"))).await.unwrap();
    assert_eq!(told["err"], "down", "{told}");
    assert!(told["reason"]["failed"].as_str().unwrap().contains("trap"), "{told}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_calls_and_casts_at_once() {
    let (mut world, host) = probes(&["a", "b"]).await;
    world.put("mute", "fault-mute").write("b.toml", "[limits]\nmailbox = 2\n");
    until("the new bound holds", async || host.worker("b").unwrap().settings().limits.mailbox == 2).await;
    until("mute runs", async || standing(&host, "mute") == "running").await;
    let waits = json!({"call": {"to": "mute", "body": "x", "timeout": 3000}});
    let waiting = tokio::spawn({
        let host = host.clone();
        async move { ask(&host, "b", waits).await }
    });
    let mute = host.worker("mute").unwrap();
    until("b waits", async || mute.counters.handled.load(Relaxed) == 1).await;
    for number in [1, 2] {
        host.cast("b", number.to_string().as_str().into()).unwrap();
    }
    assert_eq!(ask(&host, "a", json!({"cast": {"to": "b", "body": 3}})).await, Ok(json!({"err": "overloaded"})));
    assert_eq!(ask(&host, "a", relay("b", json!("log"))).await, Ok(json!({"err": "overloaded"})));
    assert_eq!(waiting.await.unwrap(), Ok(json!({"err": "timeout"})));
    until("b has caught up", async || host.worker("b").unwrap().waiting() == 0).await;
    assert_eq!(logs(&host, "b", 2).await, json!([{"cast": 1}, {"cast": 2}]));
    assert_eq!(host.worker("b").unwrap().counters.seen(|of| &of.refused), 2);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_call_is_not_begun_and_a_late_reply_is_never_seen() {
    let (mut world, host) = probes(&["a", "b"]).await;
    world.put("mute", "fault-mute");
    until("mute runs", async || standing(&host, "mute") == "running").await;
    let waiting = tokio::spawn({
        let host = host.clone();
        async move { ask(&host, "b", json!({"call": {"to": "mute", "body": "x", "timeout": 500}})).await }
    });
    let mute = host.worker("mute").unwrap();
    until("b waits", async || mute.counters.handled.load(Relaxed) == 1).await;
    // It would leave a trace if it were begun.
    let cast = json!({"cast": {"to": "a", "body": "a trace"}}).to_string();
    let error = host.call("b", cast.as_str().into(), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, RequestError::Call { error: CallError::Timeout, .. }), "{error}");
    waiting.await.unwrap().unwrap();
    assert_eq!(ask(&host, "b", json!({"echo": 1})).await, Ok(json!(1)), "b goes on");
    assert_eq!(host.worker("b").unwrap().counters.seen(|of| &of.expired), 1);
    assert_eq!(log(&host, "a").await, json!([]), "what nobody waited for was not begun");

    // A deferred call that ran out: the answer finds nobody.
    let deferred = host.call("b", r#"{"defer":"k"}"#.into(), Duration::from_millis(50)).await;
    assert!(deferred.is_err());
    assert_eq!(ask(&host, "b", json!({"answer": ["k", 7]})).await, Ok(json!(false)));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_reply_moves_with_the_worker_through_upgrade_and_rollback() {
    let (mut world, host) = probes(&["a", "b"]).await;
    let first = begun(&host, "a", json!({"defer": "first"})).await;
    let second = begun(&host, "a", json!({"defer": "second"})).await;
    let third = begun(&host, "a", json!({"defer": "third"})).await;
    assert_eq!(ask(&host, "a", json!({"answer": ["first", 1]})).await, Ok(json!(true)));
    assert_eq!(first.await.unwrap(), Ok(json!(1)));

    host.upgrade("a", other_probe(), LONG).await.unwrap();
    assert_eq!(ask(&host, "a", json!({"answer": ["second", 2]})).await, Ok(json!(true)), "by the new revision");
    assert_eq!(second.await.unwrap(), Ok(json!(2)));
    let fourth = begun(&host, "a", json!({"defer": "fourth"})).await;
    roll_back(&host, "a").await;

    assert_eq!(ask(&host, "a", json!({"answer": ["third", 3]})).await, Ok(json!(true)), "by the old one again");
    assert_eq!(third.await.unwrap(), Ok(json!(3)));
    assert_eq!(ask(&host, "a", json!({"decline": ["fourth", "no"]})).await, Ok(json!(true)));
    assert_eq!(fourth.await.unwrap(), Err("rejected: no".to_string()), "opened on trial, handed over, closed here");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_once_whatever_becomes_of_the_revision() {
    let (mut world, host) = probes(&["a"]).await;
    let cancelled = ask(&host, "a", json!({"after": [60_000, "never"]})).await.unwrap();
    assert_eq!(ask(&host, "a", json!({"cancel": cancelled})).await, Ok(json!(true)));
    assert_eq!(ask(&host, "a", json!({"cancel": cancelled})).await, Ok(json!(false)));
    let kept = ask(&host, "a", json!({"after": [60_000, "kept"]})).await.unwrap();
    ask(&host, "a", json!({"after": [1, "now"]})).await.unwrap();
    assert_eq!(logs(&host, "a", 1).await[0]["timer"], "now");

    // Set before the switch, fired on trial, and not again after the rollback but as a message
    // that is handed over.
    // Compiled beforehand, so that the upgrade is quick.
    host.dry_run("a", other_probe()).await.unwrap();
    ask(&host, "a", json!({"after": [1_000, "on trial"]})).await.unwrap();
    host.upgrade("a", other_probe(), LONG).await.unwrap();
    let at_switch = log(&host, "a").await.as_array().unwrap().len();
    assert_eq!(at_switch, 1, "it was to fire on trial");
    assert_eq!(logs(&host, "a", 2).await[1]["timer"], "on trial");
    ask(&host, "a", json!({"after": [1, "new"]})).await.unwrap();
    logs(&host, "a", 3).await;
    ask(&host, "a", json!({"after": [60_000, "set on trial"]})).await.unwrap();
    roll_back(&host, "a").await;

    // The old revision took all messages again: it set its own two timers anew.
    let told = logs(&host, "a", 3).await;
    until("the handed over message has set its timer, which fires", async || {
        let told = log(&host, "a").await;
        told.as_array().unwrap().iter().filter(|entry| entry["timer"] == "on trial").count() == 1
    })
    .await;
    assert_eq!(told[0]["timer"], "now");
    assert_eq!(ask(&host, "a", json!({"cancel": kept})).await, Ok(json!(true)), "it is set still");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_tells_of_an_end_once_and_with_its_reason() {
    let (mut world, host) = probes(&["a", "b"]).await;
    let monitor = ask(&host, "a", json!({"monitor": "b"})).await.unwrap();
    let ended = ask(&host, "a", json!({"monitor": "b"})).await.unwrap();
    ask(&host, "a", json!({"demonitor": ended})).await.unwrap();
    ask(&host, "b", json!("trap")).await.unwrap_err();
    let told = logs(&host, "a", 1).await;
    assert_eq!((&told[0]["down"], &told[0]["id"]), (&json!("b"), &monitor), "{told}");
    assert!(told[0]["reason"]["failed"].as_str().unwrap().contains("trap"), "{told}");
    ask(&host, "a", json!("clear")).await.unwrap();

    // Nobody of that name, and one that does not run: told at once, each with a reason of its own.
    until("b runs again", async || standing(&host, "b") == "running").await;
    host.stop_worker("b").await.unwrap();
    for (name, reason) in [("nobody", "no-such-worker"), ("not a name", "no-such-worker"), ("b", "not-running")] {
        ask(&host, "a", json!({ "monitor": name })).await.unwrap();
        let told = logs(&host, "a", 1).await;
        assert_eq!((&told[0]["down"], &told[0]["reason"]), (&json!(name), &json!({ "failed": reason })), "{told}");
        ask(&host, "a", json!("clear")).await.unwrap();
    }
    host.start_worker("b").await.unwrap();

    // Set before the switch, kept through an upgrade: a stop is told as one.
    until("b runs again", async || standing(&host, "b") == "running").await;
    ask(&host, "a", json!({"monitor": "b"})).await.unwrap();
    host.upgrade("a", other_probe(), LONG).await.unwrap();
    host.commit("a").await.unwrap();
    host.stop_worker("b").await.unwrap();
    let told = logs(&host, "a", 1).await;
    assert_eq!((&told[0]["down"], &told[0]["reason"]), (&json!("b"), &json!("shutdown")), "{told}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_reaches_its_members_and_membership_moves_with_the_worker() {
    let (mut world, host) = probes(&["a", "b", "c"]).await;
    for name in ["a", "b", "c"] {
        ask(&host, name, json!({"join": "g"})).await.unwrap();
    }
    ask(&host, "c", json!({"leave": "g"})).await.unwrap();
    assert_eq!(ask(&host, "c", json!({"members": "g"})).await, Ok(json!(["a", "b"])));
    assert_eq!(ask(&host, "c", json!({"broadcast": ["g", "hi"]})).await, Ok(json!(2)));
    assert_eq!(logs(&host, "a", 1).await, json!([{"cast": "hi"}]));
    assert_eq!(logs(&host, "b", 1).await, json!([{"cast": "hi"}]));

    host.upgrade("a", other_probe(), LONG).await.unwrap();
    ask(&host, "a", json!({"leave": "g"})).await.unwrap();
    ask(&host, "a", json!({"join": "h"})).await.unwrap();
    assert_eq!(ask(&host, "c", json!({"members": "g"})).await, Ok(json!(["b"])));
    roll_back(&host, "a").await;
    // Put back, then left and joined again by the messages that were handed over.
    until("the handed over messages are handled", async || {
        ask(&host, "c", json!({"members": "h"})).await == Ok(json!(["a"]))
            && ask(&host, "c", json!({"members": "g"})).await == Ok(json!(["b"]))
    })
    .await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_on_trial_is_not_sent_again_after_a_rollback() {
    let (mut world, host) = probes(&["a", "b"]).await;
    host.upgrade("a", other_probe(), LONG).await.unwrap();
    for number in 0..20 {
        let sent = ask(&host, "a", json!({"cast": {"to": "b", "body": number}})).await;
        assert_eq!(sent, Ok(json!({"ok": null})));
    }
    // A call has an effect too: it is replayed with the answer of the first time.
    let called = ask(&host, "a", relay("b", json!({"cast": {"to": "b", "body": "by call"}}))).await;
    assert_eq!(called, Ok(json!({"ok": {"ok": null}})));
    assert_eq!(logs(&host, "b", 21).await.as_array().unwrap().len(), 21);
    assert_eq!(roll_back(&host, "a").await, 21);
    // Behind the replay: when it is answered, all was handed over.
    ask(&host, "a", json!({"cast": {"to": "b", "body": "after"}})).await.unwrap();
    let told = logs(&host, "b", 22).await;
    let told: Vec<_> = told.as_array().unwrap().iter().map(|entry| entry["cast"].clone()).collect();
    let mut expected: Vec<Value> = (0..20).map(|number| json!(number)).collect();
    expected.extend([json!("by call"), json!("after")]);
    assert_eq!(told, expected, "each once, in order");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_come_in_batches_and_one_that_traps_costs_only_itself() {
    let mut world = World::new();
    world.put("batcher", "batcher").put("gate", "probe").put("mute", "fault-mute");
    world.write("batcher.toml", "[snapshot]\nmessages = 1\n").write("supervisor.toml", "intensity = 100\n");
    let host = world.up().await;
    let got = async || ask(&host, "batcher", json!("get")).await.unwrap();
    let numbers = |got: &Value| got["casts"].as_array().unwrap().len();
    // Pushed in one go, they wait together while the first is handled.
    let mut together = false;
    for _ in 0..100 {
        for number in 0..100 {
            host.cast("batcher", number.to_string().as_str().into()).unwrap();
        }
        until("all came", async || numbers(&got().await) >= 100).await;
        let all = ask(&host, "batcher", json!("clear")).await.unwrap();
        assert_eq!(all["casts"], json!((0..100).collect::<Vec<_>>()), "each once, in order");
        together |= all["batches"].as_array().unwrap().iter().any(|size| size.as_u64().unwrap() > 1);
    }
    assert!(together, "casts that wait are handed over together");

    for body in ["1", "2", "trap", "3", "fail", "4"] {
        host.cast("batcher", body.into()).unwrap();
    }
    until("the good ones came", async || numbers(&got().await) >= 4).await;
    assert_eq!(got().await["casts"], json!([1, 2, 3, 4]));
    event(&host, "the letter", |event| matches!(event, Event::DeadLetter { sort: "cast", bytes: 4, .. })).await;
    event(&host, "the refusal", |event| matches!(event, Event::MessageFailed { sort: "cast", .. })).await;
    let letters = events_of(&host, "batcher").iter().filter(|event| event.kind() == "dead-letter").count();
    assert_eq!(letters, 1, "only the one at fault");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_as_normal_or_as_failed() {
    let mut world = World::new();
    world.put("well", "command-ok").put("bad", "command-fail").put("echo", "echo");
    let host = world.up().await;
    let ended = |name: &'static str| move |event: &Event| matches!(event, Event::WorkerExited { worker, .. } if worker.as_str() == name);
    let told = event(&host, "the good end", ended("well")).await.to_string();
    assert_eq!(told, "incarnation 0 ended: normal");
    until("it is left alone", async || standing(&host, "well") == "down").await;
    let told = event(&host, "the bad end", ended("bad")).await.to_string();
    // WASI 0.2 has no codes but 0 and 1: the 3 that the guest exits with is lost on its own side.
    assert_eq!(told, "incarnation 0 ended: exited with code 1");
    until("it is let go after its restarts", async || standing(&host, "bad") == "isolated").await;
    let restarts = events_of(&host, "bad").iter().filter(|event| event.kind() == "worker-started").count();
    assert_eq!(restarts, 2, "the start and one restart");
    assert_eq!(events_of(&host, "well").iter().filter(|event| event.kind() == "worker-started").count(), 1);
    let error = call(&host, "well", "x").await;
    assert!(error.is_err(), "{error:?}");
    assert_eq!(call(&host, "echo", "x").await.as_deref(), Ok("x"));
    let said = host.recorder().logs().after(0);
    for text in ["done", "about to exit with 3"] {
        assert!(said.iter().any(|line| line.item.text == text), "{text}");
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_stops_itself_is_treated_as_its_reason_says() {
    let mut world = World::new();
    world.put("a", "probe").put("b", "probe").write("b.toml", "restart = \"transient\"\n");
    let host = world.up().await;
    ask(&host, "b", json!({"stop": "normal"})).await.unwrap();
    until("a transient one that ended well stays down", async || standing(&host, "b") == "down").await;
    ask(&host, "a", json!({"stop": "had enough"})).await.unwrap();
    let ended = |event: &Event| matches!(event, Event::WorkerExited { worker, .. } if worker.as_str() == "a");
    let told = event(&host, "its end", ended).await.to_string();
    assert_eq!(told, "incarnation 0 ended: stopped itself: had enough");
    until("a permanent one runs again", async || {
        ask(&host, "a", json!("context")).await.is_ok_and(|context| context["incarnation"] == 1)
    })
    .await;
    world.down().await;
}
