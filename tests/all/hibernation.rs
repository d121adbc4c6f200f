//! Hibernation: what a worker keeps while it has no instance, what wakes it, and that the number of
//! live instances has a bound which nobody notices.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use paguro::change::Outcome;
use paguro::control::{Host, HostOptions};
use paguro::record::{Change, Event};
use paguro::runtime::Standing;
use paguro_tests::{World, ask, call, event, events_of, guest, standing, until};
use serde_json::{Value, json};

/// Short, so that a test does not wait, and longer than the steps between that must find it awake.
const SOON: &str = "hibernate-after = \"50ms\"\n";
/// Probation that only a verdict or an operator ends.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

async fn one(guest: &str, settings: &str) -> (World, Arc<Host>) {
    let mut world = World::new();
    world.put("a", guest).write("a.toml", settings);
    let host = world.up().await;
    (world, host)
}

async fn asleep(host: &Host, name: &str) {
    until(&format!("{name} hibernates"), async || standing(host, name) == "hibernated").await;
}

fn count(host: &Host, name: &str, wanted: impl Fn(&Event) -> bool) -> usize {
    events_of(host, name).iter().filter(|event| wanted(event)).count()
}

fn woke(event: &Event) -> bool {
    matches!(event, Event::WorkerWoke { .. })
}

fn slept(event: &Event) -> bool {
    matches!(event, Event::WorkerHibernated { .. })
}

async fn log(host: &Host, name: &str) -> Value {
    ask(host, name, json!("log")).await.expect("a probe tells its log")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_sleeps_and_wakes_on_a_call_as_the_same_incarnation() {
    let (mut world, host) = one("counter-v1", SOON).await;
    for n in 1..=3 {
        assert_eq!(call(&host, "a", "add").await, Ok(n.to_string()));
    }
    asleep(&host, "a").await;
    let worker = host.worker("a").unwrap();
    assert_eq!((worker.instances.load(Relaxed), worker.counters.memory.load(Relaxed)), (0, 0));
    assert!(worker.lives());
    let state = host.state("a").await.unwrap();
    assert_eq!(standing(&host, "a"), "hibernated", "to show its state does not wake it");
    assert!(!state.is_empty());
    let health = host.health(None, 10).await;
    let told = health.children.iter().map(|child| (&*child.state, child.uptime_ms.is_some())).collect::<Vec<_>>();
    assert_eq!(told, [("hibernated", true)], "it is up, and since when is told");
    assert!(host.worker_info(&worker).unwrap().uptime_ms.is_some());

    assert_eq!(call(&host, "a", "add").await, Ok("4".to_string()));
    assert_eq!(worker.status().incarnation.0, 0);
    assert_eq!((worker.counters.seen(|of| &of.restarts), worker.counters.seen(|of| &of.exits)), (0, 0));
    assert_eq!(count(&host, "a", woke), 1);
    asleep(&host, "a").await;
    host.cast("a", "add".into()).unwrap();
    until("a cast wakes it too", async || count(&host, "a", woke) == 2).await;
    assert_eq!(call(&host, "a", "get").await, Ok("5".to_string()));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_sleeps_when_it_asks_to_and_messages_keep_their_order() {
    let (mut world, host) = one("probe", "").await;
    ask(&host, "a", json!("hibernate")).await.unwrap();
    asleep(&host, "a").await;
    for n in 0..50 {
        host.cast("a", n.to_string().as_str().into()).unwrap();
    }
    let casts: Vec<Value> = (0..50).map(|n| json!({"cast": n})).collect();
    assert_eq!(log(&host, "a").await, json!(casts));
    let context = ask(&host, "a", json!("context")).await.unwrap();
    assert_eq!((&context["incarnation"], &context["resumed"]), (&json!(0), &json!(true)));
    assert_eq!((count(&host, "a", slept), count(&host, "a", woke)), (1, 1));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_groups_monitors_and_open_calls_outlive_the_instance() {
    let mut world = World::new();
    world.put("a", "probe").put("b", "probe");
    let host = world.up().await;
    ask(&host, "a", json!({"join": "g"})).await.unwrap();
    ask(&host, "a", json!({"monitor": "b"})).await.unwrap();
    ask(&host, "b", json!({"monitor": "a"})).await.unwrap();
    let worker = host.worker("a").unwrap();
    let handled = worker.counters.handled.load(Relaxed);
    let open = tokio::spawn({
        let host = host.clone();
        async move { ask(&host, "a", json!({"defer": "k"})).await }
    });
    until("the call is taken", async || worker.counters.handled.load(Relaxed) > handled).await;
    ask(&host, "a", json!({"after": [300, "ring"]})).await.unwrap();
    ask(&host, "a", json!("hibernate")).await.unwrap();
    asleep(&host, "a").await;
    assert_eq!(ask(&host, "b", json!({"members": "g"})).await, Ok(json!(["a"])));

    until("the timer wakes it", async || count(&host, "a", woke) == 1).await;
    until("the timer is handled", async || log(&host, "a").await[0]["timer"] == "ring").await;
    assert_eq!(ask(&host, "a", json!({"answer": ["k", "late"]})).await, Ok(json!(true)));
    assert_eq!(open.await.unwrap(), Ok(json!("late")));

    ask(&host, "a", json!("hibernate")).await.unwrap();
    asleep(&host, "a").await;
    assert_eq!(log(&host, "b").await, json!([]), "nobody is told that it slept");
    host.stop_worker("b").await.unwrap();
    until("its monitor wakes it", async || log(&host, "a").await[1]["down"] == "b").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sleeps_is_stopped_without_a_wake_and_starts_with_its_state() {
    let (mut world, host) = one("probe", SOON).await;
    host.cast("a", "1".into()).unwrap();
    asleep(&host, "a").await;
    host.stop_worker("a").await.unwrap();
    assert_eq!(standing(&host, "a"), "down");
    assert_eq!(count(&host, "a", woke), 0);
    host.start_worker("a").await.unwrap();
    assert_eq!(log(&host, "a").await, json!([{"cast": 1}]));
    asleep(&host, "a").await;
    host.restart_worker("a").await.unwrap();
    assert_eq!(log(&host, "a").await, json!([{"cast": 1}]));
    asleep(&host, "a").await;
    world.down().await;
    let host = world.up().await;
    assert_eq!(log(&host, "a").await, json!([{"cast": 1}]), "a host's stop loses nothing either");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_on_disk_once_it_sleeps() {
    // The interval and the count would not have come yet.
    let (mut world, host) = one("counter-v1", &format!("{SOON}[snapshot]\ninterval = \"1h\"\n")).await;
    assert_eq!(call(&host, "a", "add").await.as_deref(), Ok("1"));
    event(&host, "it hibernates", slept).await;
    let name = paguro::base::Name::parse("a").unwrap();
    let record = host.database().snapshot(&name).unwrap().expect("a snapshot is on disk");
    assert_eq!(record.snapshot, host.state("a").await.unwrap());
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_sleeps_too_and_keeps_its_state_in_memory() {
    let (mut world, host) = one("counter-v1", &format!("durability = \"none\"\n{SOON}")).await;
    call(&host, "a", "add").await.unwrap();
    asleep(&host, "a").await;
    let name = paguro::base::Name::parse("a").unwrap();
    assert!(host.database().snapshot(&name).unwrap().is_none());
    assert_eq!(call(&host, "a", "add").await.as_deref(), Ok("2"));
    asleep(&host, "a").await;
    host.restart_worker("a").await.unwrap();
    assert_eq!(call(&host, "a", "get").await.as_deref(), Ok("0"), "a restart starts afresh");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_save_stays_awake_and_is_left_in_peace() {
    let (mut world, host) = one("fault-save", SOON).await;
    event(&host, "it was tried", |event| matches!(event, Event::SnapshotFailed { .. } | Event::WorkerExited { .. }))
        .await;
    assert_ne!(standing(&host, "a"), "hibernated");
    assert_eq!(count(&host, "a", slept), 0);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_that_fails_is_a_fault_of_the_worker() {
    let (mut world, host) = one("fault-restore", SOON).await;
    asleep(&host, "a").await;
    host.cast("a", "x".into()).unwrap();
    event(&host, "it failed", |event| matches!(event, Event::WorkerExited { .. })).await;
    assert_eq!(count(&host, "a", woke), 0);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_one_that_sleeps_is_on_probation_and_can_come_back() {
    let (mut world, host) = one("counter-v1", SOON).await;
    call(&host, "a", "add").await.unwrap();
    asleep(&host, "a").await;
    host.upgrade("a", guest("counter-v2"), LONG).await.unwrap();
    assert_eq!(standing(&host, "a"), "probation");
    assert_eq!(call(&host, "a", "add").await.as_deref(), Ok("2"));
    let rolled_back = host.rollback("a", None).await.unwrap();
    assert!(matches!(rolled_back, Ok(Outcome::RolledBack { replayed: 1, .. })));
    assert_eq!(call(&host, "a", "get").await.as_deref(), Ok("2"), "the old revision woke and has what came since");

    asleep(&host, "a").await;
    host.upgrade("a", guest("counter-v2"), LONG).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(standing(&host, "a"), "probation", "nobody sleeps on trial");
    host.commit("a").await.unwrap();
    asleep(&host, "a").await;
    assert_eq!(call(&host, "a", "add").await.as_deref(), Ok("3"));

    asleep(&host, "a").await;
    let bad = host.upgrade("a", guest("fault-third"), LONG).await.unwrap();
    for _ in 0..5 {
        call(&host, "a", "add").await.unwrap();
    }
    assert!(matches!(bad.outcome.await, Ok(Outcome::RolledBack { .. })));
    assert_eq!(call(&host, "a", "get").await.as_deref(), Ok("8"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_into_one_that_sleeps_holds() {
    let mut world = World::new();
    world.put("a", "counter-v1").write("a.toml", SOON).put("b", "counter-v1");
    let host = world.up().await;
    call(&host, "b", "add").await.unwrap();
    let state = host.state("b").await.unwrap();
    asleep(&host, "a").await;
    host.import("a", state).await.unwrap();
    assert_eq!(call(&host, "a", "get").await.as_deref(), Ok("1"));
    asleep(&host, "a").await;
    assert_eq!(call(&host, "a", "add").await.as_deref(), Ok("2"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_workers_answer_from_eight_places() {
    const WORKERS: usize = 50;
    let mut world = World::new();
    let bytes = guest("counter-v1");
    for n in 0..WORKERS {
        world.put_bytes(&format!("w{n}"), &bytes);
    }
    let options = || HostOptions { live_instances_max: Some(8), ..HostOptions::new(world.path()) };
    let host = Host::start(options()).await.unwrap();
    for round in 1..=2 {
        let calls = (0..WORKERS).map(|n| {
            let host = host.clone();
            tokio::spawn(async move { (n, call(&host, &format!("w{n}"), "add").await) })
        });
        for called in calls.collect::<Vec<_>>() {
            let (n, answer) = called.await.unwrap();
            assert_eq!(answer, Ok(round.to_string()), "w{n}");
        }
        let live: usize = host.workers().iter().map(|worker| usize::from(worker.instances.load(Relaxed))).sum();
        assert!(live <= 8, "{live}");
    }
    let (asleep, awake): (Vec<_>, Vec<_>) =
        host.workers().iter().map(|worker| worker.status().standing).partition(|s| *s == Standing::Hibernated);
    assert!(asleep.len() >= WORKERS - 8, "{}", asleep.len());
    assert!(awake.iter().all(|standing| *standing == Standing::Running));
    assert!(host.workers().iter().all(|worker| worker.status().incarnation.0 == 0));
    host.stop().await;
    let host = Host::start(options()).await.unwrap();
    assert_eq!(call(&host, "w49", "get").await.as_deref(), Ok("2"));
    host.stop().await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_can_sleep_a_start_waits_and_says_why_it_failed() {
    let mut world = World::new();
    // It has no `state`.
    world.put("a", "echo");
    let options = HostOptions { live_instances_max: Some(1), ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.unwrap();
    world.write("b.toml", "[limits]\nstart = \"200ms\"\n").put("b", "echo");
    let failed = event(&host, "it failed", |event| matches!(event, Event::WorkerStartFailed { .. })).await;
    let why = failed.to_string();
    assert!(why.contains("no room for one more live instance: 1 of 1 are live and none can hibernate"), "{why}");
    until("it is let go of", async || standing(&host, "b") == "isolated").await;
    // One that waits obeys a stop, and starts as soon as there is room.
    // Settings that changed start it by themselves.
    world.write("b.toml", "[limits]\nstart = \"1m\"\n");
    until("it waits", async || standing(&host, "b") == "starting").await;
    host.stop_worker("b").await.unwrap();
    assert_eq!(standing(&host, "b"), "down");
    let starting = tokio::spawn({
        let host = host.clone();
        async move { host.start_worker("b").await }
    });
    until("it waits", async || standing(&host, "b") == "starting").await;
    host.stop_worker("a").await.unwrap();
    starting.await.unwrap().unwrap();
    assert_eq!(call(&host, "b", "x").await.as_deref(), Ok("x"));
    host.stop().await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_one_that_sleeps_from_one_that_holds_the_last_place_ends_at_its_deadline() {
    let mut world = World::new();
    world.put("a", "probe").put("b", "probe");
    let options = HostOptions { live_instances_max: Some(1), ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.unwrap();
    let relay = json!({"call": {"to": "b", "body": "log", "timeout": 200}});
    assert_eq!(ask(&host, "a", relay).await, Ok(json!({"err": "timeout"})));
    assert_eq!(log(&host, "b").await, json!([]), "then there is room");
    host.stop().await;
    world.down().await;
}

/// With no room in memory for any state of one that sleeps.
#[tokio::test(flavor = "multi_thread")]
async fn states_that_have_no_room_in_memory_come_back_from_the_database() {
    let mut world = World::new();
    world.put("a", "relay").write("a.toml", SOON).put("b", "counter-v1").write("b.toml", SOON);
    let options = || HostOptions { asleep_bytes_max: Some(0), ..HostOptions::new(world.path()) };
    let host = Host::start(options()).await.unwrap();
    call(&host, "a", "fill 100000").await.unwrap();
    for n in 1..=3 {
        assert_eq!(call(&host, "b", "add").await, Ok(n.to_string()));
        asleep(&host, "a").await;
        asleep(&host, "b").await;
        assert_eq!(host.state("a").await.unwrap().len(), 100_000);
    }
    // An upgrade, a rollback, a restart and an import of one whose state is away.
    host.upgrade("b", guest("counter-v2"), LONG).await.unwrap();
    let rolled_back = host.rollback("b", None).await.unwrap();
    assert!(matches!(rolled_back, Ok(Outcome::RolledBack { .. })));
    assert_eq!(call(&host, "b", "get").await.as_deref(), Ok("3"));
    asleep(&host, "b").await;
    host.restart_worker("b").await.unwrap();
    assert_eq!(call(&host, "b", "add").await.as_deref(), Ok("4"));
    asleep(&host, "b").await;
    host.stop().await;
    let host = Host::start(options()).await.unwrap();
    assert_eq!(call(&host, "b", "get").await.as_deref(), Ok("4"));
    assert_eq!(host.state("a").await.unwrap().len(), 100_000);
    host.upgrade("a", guest("relay-b"), LONG).await.unwrap();
    assert_eq!(host.state("a").await.unwrap().len(), 100_000);
    host.stop().await;
    world.down().await;
}

/// Its only copy is on the disk, and cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_cannot_be_read_back_is_never_taken_for_an_empty_one() {
    let mut world = World::new();
    world.put("b", "counter-v1").write("b.toml", SOON);
    let host = Host::start(HostOptions { asleep_bytes_max: Some(0), ..HostOptions::new(world.path()) }).await.unwrap();
    world.host = Some(host.clone());
    assert_eq!(call(&host, "b", "add").await.as_deref(), Ok("1"));
    asleep(&host, "b").await;
    let name = paguro::base::Name::parse("b").unwrap();
    let stored = async || host.database().snapshot(&name).unwrap().is_some();
    until("its state is on the disk", stored).await;
    let kept = host.database().snapshot(&name).unwrap().unwrap();
    host.database().commit(vec![Change::DropSnapshot(name.clone())]).await.unwrap();
    until("there is no export of nothing", async || host.state("b").await.is_err()).await;
    event(&host, "it says why", |event| event.to_string().contains("could not be read back")).await;
    until("it is let go of", async || standing(&host, "b") == "isolated").await;
    assert!(host.upgrade("b", guest("counter-v2"), LONG).await.is_err(), "no migration of nothing");
    assert!(host.database().snapshot(&name).unwrap().is_none(), "and nothing was written in its place");
    host.database().commit(vec![Change::PutSnapshot(name, kept)]).await.unwrap();
    host.start_worker("b").await.unwrap();
    assert_eq!(call(&host, "b", "add").await.as_deref(), Ok("2"));
    world.down().await;
}
