//! The directory is the tree: what is put into it, changed in it and taken out of it.

use std::sync::Arc;
use std::time::Duration;

use paguro::base::ComponentHash;
use paguro::control::Host;
use paguro::record::Event;
use paguro_tests::{World, ask, call, decisions, event, events_of, guest, standing, until};
use serde_json::json;

/// Probation that only a verdict or an operator ends.
const LONG: &str = "[upgrade]\nprobation = \"1h\"\n";

fn problems(host: &Host) -> Vec<String> {
    let all = host.recorder().events().after(0).into_iter().map(|recorded| recorded.item);
    all.filter(|event| event.kind() == "directory-problem").map(|event| event.to_string()).collect()
}

/// Waits for a problem that holds all the words.
async fn problem(host: &Host, words: &[&str]) -> String {
    let wanted = |event: &Event| {
        let text = event.to_string();
        event.kind() == "directory-problem" && words.iter().all(|word| text.contains(word))
    };
    event(host, &format!("a problem with {words:?}"), wanted).await.to_string()
}

fn file_of(host: &Host, name: &str) -> String {
    host.worker_info(&host.worker(name).unwrap()).unwrap().file
}

fn component(host: &Host, name: &str) -> ComponentHash {
    host.worker(name).unwrap().status().component
}

async fn runs(host: &Host, name: &str, guest_name: &str) {
    let hash = ComponentHash::of(&guest(guest_name));
    until(&format!("{name} runs {guest_name}"), async || {
        let Ok(worker) = host.worker(name) else { return false };
        let info = host.worker_info(&worker).unwrap();
        // A moment after the switch the probation takes orders.
        let settled = info.state == "running" || info.probation_left_ms.is_some();
        settled && info.component == hash.hex()
    })
    .await;
}

async fn counter_at(count: u64, settings: &str) -> (World, Arc<Host>) {
    let mut world = World::new();
    world.put("counter", "counter-v1").write("counter.toml", settings);
    let host = world.up().await;
    call(&host, "counter", &json!({ "add": count }).to_string()).await.unwrap();
    (world, host)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_is_a_live_upgrade() {
    let (mut world, host) = counter_at(7, LONG).await;
    world.put("counter", "counter-v2");
    runs(&host, "counter", "counter-v2").await;
    assert_eq!(standing(&host, "counter"), "probation");
    assert_eq!(call(&host, "counter", r#"{"add":{"key":"a","by":1}}"#).await.as_deref(), Ok("1"));
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("8"));
    host.commit("counter").await.unwrap();
    assert_eq!(file_of(&host, "counter"), "same");
    assert!(events_of(&host, "counter").iter().all(|event| event.kind() != "worker-exited"), "it never stopped");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_in_place_or_by_a_restart_and_it_says_which() {
    let (mut world, host) = counter_at(7, "").await;
    let changes = || events_of(&host, "counter").into_iter().filter(|event| event.kind() == "settings-changed");
    world.write("counter.toml", "[limits]\nmailbox = 5\n");
    until("the limit changed", async || host.worker("counter").unwrap().settings().limits.mailbox == 5).await;
    until("it is told", async || changes().count() == 1).await;
    assert_eq!(changes().last().unwrap().to_string(), "settings changed: limits in place, nothing by a restart");
    assert!(events_of(&host, "counter").iter().all(|event| event.kind() != "worker-exited"), "not restarted");

    world.write("counter.toml", "[limits]\nmailbox = 6\n[config]\nrate = 3\n");
    until("it is told", async || changes().count() == 2).await;
    assert_eq!(changes().last().unwrap().to_string(), "settings changed: limits in place, config by a restart");
    let started = || events_of(&host, "counter").iter().filter(|event| event.kind() == "worker-started").count();
    until("it started again", async || started() == 2).await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"), "with its state");
    assert!(decisions(&host, "counter").contains(&"settings-changed".to_string()));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_reaches_the_guest() {
    let mut world = World::new();
    world.put("probe", "probe").write("probe.toml", "[config]\nrate = 3\nnames = [\"a\"]\n");
    let host = world.up().await;
    let config = async || ask(&host, "probe", json!("context")).await.map(|context| context["config"].clone());
    assert_eq!(config().await, Ok(json!({"rate": 3, "names": ["a"]})));
    world.write("probe.toml", "[config]\nrate = 4\n");
    until("the new one is there", async || config().await == Ok(json!({"rate": 4}))).await;
    world.remove("probe.toml");
    until("the default is back", async || config().await == Ok(json!({}))).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_removed_stops_and_its_state_waits_for_it() {
    let (mut world, host) = counter_at(7, "").await;
    world.remove("counter.wasm");
    until("it is gone", async || standing(&host, "counter") == "absent").await;
    assert!(call(&host, "counter", "get").await.is_err());
    world.put("counter", "counter-v1");
    runs(&host, "counter", "counter-v1").await;
    assert_eq!(call(&host, "counter", "add").await.as_deref(), Ok("8"));
    let told = decisions(&host, "counter");
    assert_eq!(told.iter().filter(|action| *action == "removed").count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|action| *action == "deployed").count(), 1, "it is no new worker: {told:?}");

    // Removed while the host is down: it does not start; and comes back as it was.
    world.down().await;
    world.remove("counter.wasm").put("echo", "echo");
    let host = world.up().await;
    assert_eq!((standing(&host, "counter").as_str(), standing(&host, "echo").as_str()), ("absent", "running"));
    world.put("counter", "counter-v1");
    runs(&host, "counter", "counter-v1").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("8"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_come_and_go_with_what_is_in_them() {
    let mut world = World::new();
    world.put("echo", "echo");
    let host = world.up().await;
    world.put("shop/floor/counter", "counter-v1").write("shop/supervisor.toml", "intensity = 9\n");
    until("it runs", async || standing(&host, "shop/floor/counter") == "running").await;
    call(&host, "shop/floor/counter", "add").await.unwrap();
    let tree = serde_json::to_value(host.tree_info().await.unwrap()).unwrap();
    let shop = tree["children"].as_array().unwrap().iter().find(|child| child["name"] == "shop").unwrap();
    assert_eq!((&shop["intensity"], &shop["children"][0]["name"]), (&json!(9), &json!("shop/floor")));
    std::fs::remove_dir_all(world.path().join("shop")).unwrap();
    until("it is gone", async || standing(&host, "shop/floor/counter") == "absent").await;
    until("its supervisors are gone", async || host.tree_info().await.unwrap().children.len() == 1).await;
    assert_eq!(call(&host, "echo", "x").await.as_deref(), Ok("x"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_reported_once_and_what_ran_goes_on() {
    let (mut world, host) = counter_at(7, "").await;
    let whole = guest("counter-v2");
    let module = wat::parse_str("(module)").unwrap();
    let empty = wat::parse_str("(component)").unwrap();
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("half", &whole[..whole.len() / 2], &["half.wasm", "not a whole, valid component"]),
        ("empty", b"", &["empty.wasm", "is empty"]),
        ("text", b"#!/bin/sh\necho\n", &["text.wasm", "is not WebAssembly"]),
        ("module", &module, &["module.wasm", "is a core module, not a component"]),
        ("idle", &empty, &["idle.wasm", "not a worker"]),
        ("wrong", &guest("fault-wrong-types"), &["wrong.wasm", "`handler`"]),
    ];
    for (name, bytes, _) in cases {
        world.put_bytes(name, bytes);
    }
    for (name, _, words) in cases {
        let told = problem(&host, words).await;
        assert_eq!(told.lines().count(), 1, "{told}");
        assert_eq!(standing(&host, name), "absent");
    }
    // The same in the place of one that runs, one after another.
    for (name, bytes, words) in cases {
        let before = problems(&host).len();
        world.put_bytes("counter", bytes);
        let path = world.path().join("counter.wasm").display().to_string();
        problem(&host, &[&path, words[1]]).await;
        assert!(problems(&host).len() > before, "{name}");
        assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"), "{name}");
    }
    assert_eq!(host.worker("counter").unwrap().status().revision.0, 1);
    // One that is whole at last is taken.
    world.put_bytes("counter", &whole).put_bytes("half", &whole);
    runs(&host, "counter", "counter-v2").await;
    runs(&host, "half", "counter-v2").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    for (name, _, words) in cases {
        let path = world.path().join(format!("{name}.wasm")).display().to_string();
        let told = problems(&host).iter().filter(|text| text.contains(&path) && text.contains(words[1])).count();
        assert_eq!(told, 1, "{name} is told once");
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_still_being_written_is_not_taken() {
    use std::io::Write;

    let (mut world, host) = counter_at(7, "").await;
    let whole = guest("counter-v2");
    let mut file = std::fs::File::create(world.path().join("counter.wasm")).unwrap();
    // In pieces, each sooner than a file counts as settled.
    for piece in whole.chunks(whole.len() / 20) {
        file.write_all(piece).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(file);
    runs(&host, "counter", "counter-v2").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_clash_or_are_none_are_reported() {
    let (mut world, host) = counter_at(7, "").await;
    world.put("counter/inner", "echo");
    problem(&host, &["`counter.wasm` and `counter/` have one name"]).await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"), "what ran goes on");
    std::fs::remove_dir_all(world.path().join("counter")).unwrap();

    world.put("Echo", "echo").put("echo", "echo");
    problem(&host, &["`Echo` and `echo` differ in case only"]).await;
    world.put("bad\u{7}name", "echo");
    let told = problem(&host, &["bad", "no name"]).await;
    assert!(!told.contains('\u{7}'), "{told:?}");
    world.put("supervisor", "echo");
    problem(&host, &["cannot be a worker"]).await;
    // What is hidden, and what is neither component nor settings, is nobody's business.
    world.put(".hidden", "echo").write("README.md", "x");
    world.put("last", "echo");
    until("the last runs", async || standing(&host, "last") == "running").await;
    assert_eq!(host.workers().len(), 2, "counter and last");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_toml_names_file_line_key_and_the_nearest() {
    let (mut world, host) = counter_at(7, "shutdown = \"1s\"\n").await;
    let cases: [(&str, &[&str]); 4] = [
        ("[limits]\nmemry = \"1MiB\"\n", &["counter.toml:2:1", "memry", "memory"]),
        ("[limits]\nmemory = 5\n", &["counter.toml:2:10", "limits.memory"]),
        ("shutdown = \"soon\"\n", &["counter.toml:1:12", "soon"]),
        ("shutdown = \n", &["counter.toml:1:"]),
    ];
    for (text, words) in cases {
        world.write("counter.toml", text);
        let told = problem(&host, words).await;
        assert_eq!(told.lines().count(), 1, "{told}");
        assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
        assert_eq!(
            host.worker("counter").unwrap().settings().shutdown,
            paguro::runtime::spec::Shutdown::Time(Duration::from_secs(1))
        );
    }
    world.write("supervisor.toml", "intensty = 3\n");
    problem(&host, &["supervisor.toml:1:1", "intensity"]).await;
    world.write("supervisor.toml", "intensity = 3\n").write("counter.toml", "shutdown = \"2s\"\n");
    event(&host, "the policy is taken at last", |event| event.kind() == "policy-changed").await;
    event(&host, "the settings are taken at last", |event| event.kind() == "settings-changed").await;
    assert_eq!(host.tree_info().await.unwrap().intensity, 3);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_hold_a_new_worker_back_and_nobody_else() {
    let mut world = World::new();
    world.put("a", "echo").write("a.toml", "restart = \"never\"\n").put("b", "echo");
    let host = world.up().await;
    problem(&host, &["a.toml:1:11", "never", "temporary"]).await;
    assert_eq!((standing(&host, "a").as_str(), standing(&host, "b").as_str()), ("absent", "running"));
    world.write("a.toml", "restart = \"temporary\"\n");
    until("it runs", async || standing(&host, "a") == "running").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_rolled_back_is_not_tried_again_until_it_changes() {
    let (mut world, host) = counter_at(7, LONG).await;
    world.put("counter", "fault-third");
    runs(&host, "counter", "fault-third").await;
    for _ in 0..3 {
        call(&host, "counter", "add").await.unwrap();
    }
    event(&host, "the rollback", |event| event.kind() == "rolled-back").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("10"));
    assert_eq!(file_of(&host, "counter"), "rejected");
    // Something else changes: the directory is looked at anew, and the file is left alone.
    world.put("echo", "echo");
    until("echo runs", async || standing(&host, "echo") == "running").await;
    let switches = |host: &Host| events_of(host, "counter").iter().filter(|e| e.kind() == "upgrade-requested").count();
    assert_eq!(switches(&host), 1);
    world.down().await;

    let host = world.up().await;
    world.put("echo2", "echo");
    until("echo2 runs", async || standing(&host, "echo2") == "running").await;
    assert_eq!((switches(&host), file_of(&host, "counter").as_str()), (0, "rejected"));
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("10"));

    world.put("counter", "counter-v2");
    runs(&host, "counter", "counter-v2").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("10"));
    host.commit("counter").await.unwrap();
    assert_eq!(file_of(&host, "counter"), "same");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_was_called_off_leaves_the_file_rejected() {
    let (mut world, host) = counter_at(7, "").await;
    world.put("counter", "fault-upgrade");
    event(&host, "the calling off", |event| event.kind() == "upgrade-called-off").await;
    until("it is shown", async || file_of(&host, "counter") == "rejected").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    // The one that runs, put back, is what the directory says again.
    world.put("counter", "counter-v1");
    until("it is the same again", async || file_of(&host, "counter") == "same").await;
    let tried = events_of(&host, "counter").iter().filter(|e| e.kind() == "upgrade-called-off").count();
    assert_eq!(tried, 1);
    // And the same mistake, made anew, is tried anew.
    world.put("counter", "fault-upgrade");
    until("it is tried", async || {
        events_of(&host, "counter").iter().filter(|e| e.kind() == "upgrade-called-off").count() == 2
    })
    .await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_overrides_the_file_until_the_file_changes() {
    let (mut world, host) = counter_at(7, LONG).await;
    host.upgrade("counter", guest("counter-v2"), Some(Duration::ZERO)).await.unwrap().outcome.await.unwrap();
    until("the override is shown", async || file_of(&host, "counter") == "override").await;
    // It holds over a look at the directory, and over a restart of the host.
    world.put("echo", "echo");
    until("echo runs", async || standing(&host, "echo") == "running").await;
    assert_eq!(component(&host, "counter"), ComponentHash::of(&guest("counter-v2")));
    world.down().await;
    let host = world.up().await;
    world.put("echo2", "echo");
    until("echo2 runs", async || standing(&host, "echo2") == "running").await;
    assert_eq!(file_of(&host, "counter"), "override");
    assert_eq!(component(&host, "counter"), ComponentHash::of(&guest("counter-v2")));
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    world.put("counter", "counter-v3");
    runs(&host, "counter", "counter-v3").await;
    host.commit("counter").await.unwrap();
    assert_eq!(file_of(&host, "counter"), "same");
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok(r#"{"count":7}"#));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_command_overrides_the_file() {
    let (mut world, host) = counter_at(7, LONG).await;
    world.put("counter", "counter-v2");
    runs(&host, "counter", "counter-v2").await;
    let told = host.rollback("counter", None).await;
    assert!(matches!(told, Ok(Ok(_))));
    until("the override is shown", async || file_of(&host, "counter") == "override").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    world.put("counter", "counter-v3");
    runs(&host, "counter", "counter-v3").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_while_the_host_was_down_upgrades_with_its_state() {
    let (mut world, _) = counter_at(7, "").await;
    world.down().await;
    world.put("counter", "counter-v2");
    let host = world.up().await;
    runs(&host, "counter", "counter-v2").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    assert_eq!(host.worker("counter").unwrap().status().revision.0, 2);
    let started = events_of(&host, "counter").into_iter().find(|event| event.kind() == "worker-started").unwrap();
    let first = ComponentHash::of(&guest("counter-v1")).short();
    assert!(started.to_string().starts_with(&format!("started from its snapshot on {first}")), "{started}");
    world.down().await;

    // And one that cannot be is called off; what ran before goes on.
    world.put("counter", "fault-upgrade");
    let host = world.up().await;
    event(&host, "the calling off", |event| event.kind() == "upgrade-called-off").await;
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_policy_holds_at_once_and_restarts_nobody() {
    let mut world = World::new();
    world.put("trap", "fault-trap").put("echo", "echo").write("supervisor.toml", "intensity = 0\n");
    let host = world.up().await;
    call(&host, "trap", "boom").await.unwrap_err();
    until("it is let go at once", async || standing(&host, "trap") == "isolated").await;
    world.write("supervisor.toml", "intensity = 5\n[backoff]\ninitial = \"1ms\"\n");
    until("the policy holds", async || host.tree_info().await.unwrap().intensity == 5).await;
    host.start_worker("trap").await.unwrap();
    for _ in 0..3 {
        until("it answers", async || call(&host, "trap", "x").await.is_ok()).await;
        call(&host, "trap", "boom").await.unwrap_err();
    }
    until("it runs", async || standing(&host, "trap") == "running").await;
    assert_eq!(events_of(&host, "echo").iter().filter(|event| event.kind() == "worker-started").count(), 1);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_start_order() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.put(name, "echo");
    }
    world.write("supervisor.toml", "order = [\"c\", \"b\"]\n");
    let host = world.up().await;
    let subjects = |kind: &str| -> Vec<String> {
        let all = host.recorder().events().after(0).into_iter().map(|recorded| recorded.item);
        let all = all.filter(|event| event.kind() == kind);
        all.filter_map(|event| event.subject().map(ToString::to_string)).collect()
    };
    assert_eq!(subjects("worker-started"), ["c", "b", "a"]);
    host.stop().await;
    assert_eq!(subjects("worker-stopped"), ["a", "b", "c"], "stopped in the opposite order");
    world.down().await;
}
