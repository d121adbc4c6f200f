//! Shares of the processor: what is used is measured by the fuel that the workers' counters show.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use paguro::base::{Account, Clock, Name, Payload, Random, RevisionNumber};
use paguro::record::{Database, Recorder};
use paguro::runtime::spec::{SubtreeBudget, SupervisorSettings, WorkerSettings};
use paguro::runtime::{Launch, Services, Shared, Tree};
use paguro::sandbox::{Limits, Sandbox};
use paguro_tests::{World, ask, guest, standing, until};
use serde_json::json;

/// Fuel per second. One call of `busy` takes about as much; the machine does a hundred times that and more.
const SHARE: u64 = 20_000_000;
const SLICE: u64 = paguro::base::bounds::FUEL_SLICE;
const LONG: Duration = Duration::from_secs(600);

fn fuel(worker: &Shared) -> u64 {
    worker.counters.fuel.load(Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_spins_gets_its_share_and_its_neighbours_run() {
    let mut world = World::new();
    world.put("spin", "fault-spin").put("free", "probe");
    world.write("spin.toml", "shutdown = \"50ms\"\n[limits]\ncpu = 20_000_000\ndeadline = \"2s\"\n");
    let host = world.up().await;
    until("it runs", async || standing(&host, "spin") == "running").await;
    let worker = host.worker("spin").unwrap();
    let (before, begun) = (fuel(&worker), Instant::now());
    let spinning = tokio::spawn({
        let host = host.clone();
        async move { host.call("spin", Payload::from("\"spin\""), LONG).await }
    });
    assert_eq!(ask(&host, "free", json!({"echo": 1})).await, Ok(json!(1)));
    let error = spinning.await.unwrap().unwrap_err();
    let (used, took) = (fuel(&worker) - before, begun.elapsed());
    assert!(error.to_string().contains("spin"), "{error}");
    assert!(took >= Duration::from_secs(2), "the deadline holds, not sooner: {took:?}");
    let most = SHARE as f64 * (1.0 + took.as_secs_f64()) + SLICE as f64;
    assert!(used as f64 <= most, "{used} in {took:?}, of {most}");
    // It was let run for two seconds, after what it may use at once.
    assert!(used >= SHARE * 2, "{used} in {took:?}");

    // One that is held up can be stopped and killed all the same.
    until("it runs again", async || standing(&host, "spin") == "running").await;
    host.cast("spin", Payload::from("\"spin\"")).unwrap();
    until("it spins", async || worker.waiting() == 0).await;
    host.stop_worker("spin").await.unwrap();
    assert_eq!(standing(&host, "spin"), "down");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_that_used_its_share_wait_and_none_is_lost() {
    let mut world = World::new();
    world.put("a", "probe").write("a.toml", "[limits]\ncpu = 20_000_000\n");
    let host = world.up().await;
    let worker = host.worker("a").unwrap();
    let (before, begun) = (fuel(&worker), Instant::now());
    let mut calls = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        let told = host.call("a", Payload::from(r#"{"busy":1}"#), LONG).await;
        assert!(told.is_ok(), "{told:?}");
        calls += 1;
    }
    let (used, took) = (fuel(&worker) - before, begun.elapsed());
    // A snapshot a second is charged too, and not held up.
    let most = SHARE as f64 * (1.0 + took.as_secs_f64()) * 1.01 + SLICE as f64;
    assert!(used as f64 <= most, "{used} in {took:?}, of {most}, by {calls} calls");
    assert!(used as f64 >= SHARE as f64 * took.as_secs_f64() * 0.7, "{used} in {took:?}, by {calls} calls");

    // Without the bound it is as quick as it can be.
    world.write("a.toml", "");
    until("the bound is gone", async || worker.settings().limits.cpu.is_none()).await;
    let begun = Instant::now();
    let before = fuel(&worker);
    until("it runs", async || {
        let _ = host.call("a", Payload::from(r#"{"busy":5}"#), LONG).await;
        fuel(&worker) - before > 10 * SHARE
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    world.down().await;
}

/// A tree without a directory: two probes below a supervisor with a budget, and one beside it.
async fn team(services: &Arc<Services>, budget: Option<u64>) -> (Tree, Vec<Arc<Shared>>) {
    let tree = Tree::new(services, SupervisorSettings::default());
    let budget = SubtreeBudget { cpu: budget, ..SubtreeBudget::default() };
    let settings = SupervisorSettings { budget, ..SupervisorSettings::default() };
    tree.add_supervisor(Name::parse("team").unwrap(), settings).await.unwrap();
    let component = services.sandbox.load(&guest("probe")).unwrap();
    let mut workers = Vec::new();
    for (name, cpu) in [("team/a", None), ("team/b", Some(10_000_000)), ("beside", None)] {
        let limits = Limits { cpu, deadline: LONG, ..Limits::default() };
        let launch = Launch {
            name: Name::parse(name).unwrap(),
            component: component.clone(),
            revision: RevisionNumber(1),
            settings: WorkerSettings { limits, ..WorkerSettings::default() }.into(),
            saved: None,
            breaker: None,
        };
        workers.push(tree.add_worker(launch).await.unwrap());
    }
    tree.start().await.unwrap();
    (tree, workers)
}

/// How much fuel each worker used, and how long that took, while all were kept busy for a while.
async fn all_busy(services: &Arc<Services>, workers: &[Arc<Shared>], time: Duration) -> (Vec<u64>, Duration) {
    let before: Vec<u64> = workers.iter().map(|worker| fuel(worker)).collect();
    let begun = Instant::now();
    let clients: Vec<_> = workers
        .iter()
        .map(|worker| {
            let (services, worker) = (services.clone(), worker.clone());
            tokio::spawn(async move {
                while begun.elapsed() < time {
                    services.call(&worker, Payload::from(r#"{"busy":1}"#), LONG).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let used = workers.iter().zip(before).map(|(worker, before)| fuel(worker) - before);
    (used.collect(), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_below_one_supervisor_share_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let database = Database::open(&dir.path().join("paguro.db"), clock.clone()).unwrap();
    let services = Services::new(
        clock.clone(),
        Random::seeded(1),
        Recorder::new(clock),
        database,
        Sandbox::new(None).unwrap(),
        paguro::runtime::Residents::new(64),
        Account::new(u64::MAX),
    );
    let (tree, workers) = team(&services, Some(SHARE)).await;
    let (used, took) = all_busy(&services, &workers, Duration::from_secs(3)).await;
    let seconds = 1.0 + took.as_secs_f64();
    let most = SHARE as f64 * seconds * 1.01 + 2.0 * SLICE as f64;
    assert!((used[0] + used[1]) as f64 <= most, "{used:?} in {took:?}, of {most} together");
    assert!(used[0] + used[1] >= 2 * SHARE, "{used:?} in {took:?}: they get what there is");
    assert!(used[1] as f64 <= 10_000_000.0 * seconds * 1.01 + SLICE as f64, "{used:?} in {took:?}: its own holds too");
    assert!(used[2] > used[0] + used[1], "{used:?}: the one beside them is not held up");

    // A budget that is lifted holds no longer.
    tree.configure_supervisor(&Name::parse("team").unwrap(), SupervisorSettings::default()).await.unwrap();
    let (used, took) = all_busy(&services, &workers[..1], Duration::from_secs(2)).await;
    assert!(used[0] as f64 > SHARE as f64 * (2.0 + took.as_secs_f64()), "{used:?} in {took:?}");
    tree.ask_to_stop().await;
    tree.stopped().await;
}
