//! Components are loaded side by side: a large one holds up nobody, and what the directory says last
//! is what counts.

use std::time::{Duration, Instant};

use paguro::base::ComponentHash;
use paguro::base::bounds::LARGE_COMPONENT_BYTES;
use paguro::control::{Host, HostOptions};
use paguro::record::Event;
use paguro_tests::{World, call, decisions, event, events_of, guest, standing, until};

/// The file of a large component, which takes seconds to compile.
const LARGE: &str = "stats";

fn count(host: &Host, name: &str, kind: &str) -> usize {
    events_of(host, name).iter().filter(|event| event.kind() == kind).count()
}

async fn is_loading(host: &Host, name: &str) {
    event(host, &format!("{name} is being loaded"), |event| {
        event.kind() == "worker-loading" && event.subject().is_some_and(|subject| subject.as_str() == name)
    })
    .await;
}

/// Workers in the order in which they started.
fn started(host: &Host) -> Vec<String> {
    let all = host.recorder().events().after(0).into_iter().map(|recorded| recorded.item);
    let started = all.filter(|event| matches!(event, Event::WorkerStarted { .. }));
    started.filter_map(|event| event.subject().map(ToString::to_string)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_ones_answer_before_the_large_one_that_came_with_them_is_there() {
    assert!(guest(LARGE).len() as u64 >= LARGE_COMPONENT_BYTES);
    let mut world = World::new();
    world.put("first", "echo");
    let host = world.up().await;
    world.put("a-large", LARGE).put("b-echo", "echo").put("c-counter", "counter-v1").put("d-probe", "probe");
    is_loading(&host, "a-large").await;
    for name in ["b-echo", "c-counter", "d-probe"] {
        until(name, async || standing(&host, name) == "running").await;
    }
    assert_eq!(call(&host, "b-echo", "x").await.as_deref(), Ok("x"));
    assert_eq!(call(&host, "c-counter", "add").await.as_deref(), Ok("1"));
    let told = call(&host, "a-large", "get").await.unwrap_err();
    assert!(
        host.problems().iter().any(|found| found.path == "a-large.wasm" && found.message.contains("try again")),
        "{told}"
    );
    // All else that the directory says is done meanwhile.
    world.remove("b-echo.wasm").write("c-counter.toml", "[limits]\nmailbox = 5\n").put("first", "counter-v1");
    until("one is gone", async || standing(&host, "b-echo") == "absent").await;
    until("one has other settings", async || host.worker("c-counter").unwrap().settings().limits.mailbox == 5).await;
    event(&host, "one is upgraded", |event| event.kind() == "upgrade-requested").await;
    assert_eq!(standing(&host, "a-large"), "absent", "it takes long enough to show all this");
    until("the large one is there at last", async || standing(&host, "a-large") == "running").await;
    assert!(host.problems().iter().all(|found| found.path != "a-large.wasm"));
    assert_eq!(count(&host, "a-large", "worker-loading"), 1, "it is begun once");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_while_it_is_loaded_never_runs() {
    let mut world = World::new();
    let host = world.up().await;
    world.put("a", LARGE);
    is_loading(&host, "a").await;
    world.put("a", "counter-v1");
    until("the new one runs", async || standing(&host, "a") == "running").await;
    assert_eq!(host.worker("a").unwrap().status().component, ComponentHash::of(&guest("counter-v1")));
    assert_eq!(call(&host, "a", "add").await.as_deref(), Ok("1"));
    assert_eq!(decisions(&host, "a"), ["deployed"], "what was thrown away was never decided");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_while_it_is_loaded_never_runs_and_can_come_back() {
    let mut world = World::new();
    let host = world.up().await;
    world.put("folder/a", LARGE).put("folder/b", "echo");
    is_loading(&host, "folder/a").await;
    until("b runs", async || standing(&host, "folder/b") == "running").await;
    world.remove("folder/a.wasm");
    until("it is abandoned", async || host.problems().is_empty()).await;
    assert_eq!(decisions(&host, "folder/a"), [""; 0]);
    world.put("folder/a", "echo");
    until("another of its name runs", async || standing(&host, "folder/a") == "running").await;
    assert_eq!(decisions(&host, "folder/a"), ["deployed"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_change_while_it_is_loaded_are_those_it_starts_with() {
    let mut world = World::new();
    let host = world.up().await;
    world.put("a", LARGE).write("a.toml", "[limits]\nmailbox = 5\n");
    is_loading(&host, "a").await;
    world.write("a.toml", "[limits]\nmailbox = 6\n");
    until("it is begun anew", async || count(&host, "a", "worker-loading") == 2 || host.worker("a").is_ok()).await;
    until("it runs", async || standing(&host, "a") == "running").await;
    assert_eq!(host.worker("a").unwrap().settings().limits.mailbox, 6);
    assert_eq!(decisions(&host, "a"), ["deployed"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_names_of_the_same_bytes_run() {
    let mut world = World::new();
    let host = world.up().await;
    let names: Vec<String> = (0..40).map(|number| format!("echo-{number}")).collect();
    for name in &names {
        world.put(name, "echo");
    }
    for name in &names {
        until(name, async || standing(&host, name) == "running").await;
        assert_eq!(call(&host, name, "x").await.as_deref(), Ok("x"));
        assert_eq!(count(&host, name, "worker-loading"), 1, "{name}");
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_is_in_order_whatever_is_loaded_first() {
    let mut world = World::new();
    world.write("supervisor.toml", "order = [\"probe\", \"floor\", \"echo\"]\n");
    world.put("echo", "echo").put("floor/z", "echo").put("floor/a", "counter-v1").put("probe", "probe");
    world.put("last", "batcher").write("floor/supervisor.toml", "order = [\"a\"]\n");
    let order = ["probe", "floor/a", "floor/z", "echo", "last"];
    // The second time all comes from the cache of compiled code.
    for _ in 0..2 {
        let host = world.up().await;
        assert_eq!(started(&host), order);
        assert!(order.iter().all(|name| count(&host, name, "worker-late") == 0));
        world.down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_starts_without_one_that_takes_too_long_and_stops_while_it_is_loaded() {
    let mut world = World::new();
    world.put("large", LARGE).put("small", "echo");
    let options = HostOptions { first_loads: Duration::from_millis(500), ..HostOptions::new(world.path()) };
    let host = Host::start(options.clone()).await.unwrap();
    world.host = Some(host.clone());
    assert_eq!((standing(&host, "large").as_str(), count(&host, "large", "worker-late")), ("absent", 1));
    // Not all is well while something does not run yet.
    let health = host.health(None, 10).await;
    assert_eq!((health.status.as_str(), health.problems[0].of.as_str()), ("degraded", "large.wasm"));
    assert!(host.doctor().await.iter().any(|found| found.verdict != "ok" && found.detail.contains("large.wasm")));
    let told = call(&host, "large", "get").await.unwrap_err();
    assert_eq!(told, "there is no worker `large`");
    until("the small one runs", async || call(&host, "small", "x").await.as_deref() == Ok("x")).await;
    let begun = Instant::now();
    world.down().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "what is loaded is abandoned: {:?}", begun.elapsed());
    assert_eq!(count(&host, "large", "child-added"), 0);

    let options = HostOptions { recorder: HostOptions::new(world.path()).recorder, ..options };
    let host = Host::start(options).await.unwrap();
    world.host = Some(host.clone());
    until("it comes later", async || standing(&host, "large") == "running").await;
    world.down().await;
}
