//! OTP's supervision through the real host, with real guests: strategies, escalation, auto-shutdown,
//! and a policy that changes while everything runs.

use std::sync::Arc;
use std::time::Duration;

use paguro::base::{ExitReason, Name};
use paguro::control::{Host, RequestError};
use paguro::record::Event;
use paguro::runtime::{Page, TreeError};
use paguro_tests::{World, ask, call, event, events_of, standing, until};
use serde_json::json;

/// Room for every restart of a test, and no wait before them.
const PATIENT: &str = "intensity = 100\n[backoff]\ninitial = \"0s\"\nmax = \"0s\"\n";

/// The probes `group/a`, `group/b` and `group/c` under this policy.
async fn group(policy: &str) -> (World, Arc<Host>) {
    let mut world = World::new();
    for leaf in ["a", "b", "c"] {
        world.put(&format!("group/{leaf}"), "probe");
    }
    world.write("group/supervisor.toml", policy);
    let host = world.up().await;
    (world, host)
}

async fn trap(host: &Host, name: &str) {
    let told = ask(host, name, json!("trap")).await.unwrap_err();
    assert!(told.contains("down"), "{told}");
}

fn incarnation(host: &Host, name: &str) -> u64 {
    host.worker(name).map(|worker| worker.status().incarnation.0).unwrap_or(u64::MAX)
}

async fn incarnations(host: &Host, expected: [u64; 3]) {
    until(&format!("the incarnations {expected:?}"), async || {
        ["a", "b", "c"].iter().zip(expected).all(|(leaf, expected)| {
            let name = format!("group/{leaf}");
            standing(host, &name) == "running" && incarnation(host, &name) == expected
        })
    })
    .await;
}

/// Starts and stops of the group's workers from event `after` on, as `+a` and `-a`; exits as `!a`.
fn moves(host: &Host, after: u64) -> Vec<String> {
    let events = host.recorder().events().after(after).into_iter().map(|recorded| recorded.item);
    events
        .filter_map(|event| {
            let leaf = event.subject()?.leaf().to_string();
            match event {
                Event::WorkerStarted { .. } => Some(format!("+{leaf}")),
                Event::WorkerStopped { .. } => Some(format!("-{leaf}")),
                Event::WorkerExited { reason, .. } if !reason.is_orderly() => Some(format!("!{leaf}")),
                _ => None,
            }
        })
        .collect()
}

fn last_event(host: &Host) -> u64 {
    host.recorder().events().after(0).last().map_or(0, |recorded| recorded.seq)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_for_one_restarts_the_one_that_failed() {
    let (mut world, host) = group(PATIENT).await;
    trap(&host, "group/b").await;
    incarnations(&host, [0, 1, 0]).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let (mut world, host) =
        group(&format!("strategy = \"one-for-all\"\norder = [\"a\", \"b\", \"c\"]\n{PATIENT}")).await;
    let before = last_event(&host);
    trap(&host, "group/b").await;
    incarnations(&host, [1, 1, 1]).await;
    assert_eq!(moves(&host, before), ["!b", "-c", "-a", "+a", "+b", "+c"]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_for_one_takes_along_those_that_start_after_it() {
    let (mut world, host) = group(&format!("strategy = \"rest-for-one\"\n{PATIENT}")).await;
    let before = last_event(&host);
    trap(&host, "group/b").await;
    incarnations(&host, [0, 1, 1]).await;
    assert_eq!(moves(&host, before), ["!b", "-c", "+b", "+c"]);
    world.down().await;
}

/// What waits in the mailbox of a sibling is handled by its next incarnation.
#[tokio::test(flavor = "multi_thread")]
async fn a_bystander_loses_no_message() {
    let (mut world, host) = group(&format!("strategy = \"one-for-all\"\n{PATIENT}")).await;
    let busy = {
        let host = host.clone();
        tokio::spawn(async move { ask(&host, "group/a", json!({"busy": 300})).await })
    };
    let worker = host.worker("group/a").unwrap();
    for n in 0..20 {
        host.cast("group/a", json!(n).to_string().into_bytes().into()).unwrap();
    }
    trap(&host, "group/b").await;
    busy.await.unwrap().unwrap();
    incarnations(&host, [1, 1, 1]).await;
    until("all casts are handled", async || worker.waiting() == 0).await;
    let log = ask(&host, "group/a", json!("log")).await.unwrap();
    assert_eq!(log.as_array().map(Vec::len), Some(20), "{log}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_escalates_over_three_levels() {
    let mut world = World::new();
    world.put("top/mid/low/worker", "probe").put("top/other", "probe").put("beside", "probe");
    for supervisor in ["top", "top/mid", "top/mid/low"] {
        world.write(&format!("{supervisor}/supervisor.toml"), "intensity = 0\n");
    }
    let host = world.up().await;
    trap(&host, "top/mid/low/worker").await;
    // Each gives up at once and ends with reason shutdown; permanent, it is restarted by the one above,
    // which gives up too. The root has a restart left for `top`.
    for supervisor in ["top/mid/low", "top/mid", "top"] {
        event(
            &host,
            "giving up",
            |event| matches!(event, Event::SupervisorGaveUp { supervisor: name, .. } if name.as_str() == supervisor),
        )
        .await;
    }
    until("the subtree is built again from its specs", async || {
        standing(&host, "top/mid/low/worker") == "running" && standing(&host, "top/other") == "running"
    })
    .await;
    assert_eq!((incarnation(&host, "top/other"), incarnation(&host, "beside")), (1, 0));
    // Once more within the period: the root lets go of `top`, and of nobody else.
    trap(&host, "top/mid/low/worker").await;
    event(
        &host,
        "the isolation of `top`",
        |event| matches!(event, Event::WorkerIsolated { worker, .. } if worker.as_str() == "top"),
    )
    .await;
    until("all below it is down", async || standing(&host, "top/other") == "down").await;
    assert_eq!(standing(&host, "beside"), "running");
    let health = host.health(None, 100).await;
    assert_eq!((health.status.as_str(), &health.isolated[..]), ("critical", &["top".to_string()][..]));
    host.start_worker("top").await.unwrap();
    assert_eq!(standing(&host, "top/mid/low/worker"), "running");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_supervisor_that_gave_up_is_not_restarted() {
    let mut world = World::new();
    world.put("group/a", "probe").write("group/supervisor.toml", "intensity = 0\nrestart = \"transient\"\n");
    let host = world.up().await;
    trap(&host, "group/a").await;
    until("the group is down", async || standing(&host, "group/a") == "down").await;
    let view = host.supervisor(&Name::root(), Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!(view.children[0].state, "down");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_answers_during_a_restart_loop() {
    let mut world = World::new();
    world.put("group/bad", "probe").put("group/good", "probe");
    world.write("group/supervisor.toml", "intensity = 1000000\n[backoff]\ninitial = \"1ms\"\nmax = \"2ms\"\n");
    let host = world.up().await;
    // From now on every start fails: its configuration takes more than its memory.
    world.write("group/bad.toml", "[limits]\nmemory = \"64KiB\"\n");
    until("the limit holds", async || host.worker("group/bad").unwrap().settings().limits.memory == 65_536).await;
    trap(&host, "group/bad").await;
    until("it is in its restart loop", async || {
        host.worker("group/bad").unwrap().counters.seen(|of| &of.restarts) > 20
    })
    .await;
    let tree = host.tree_info().await.unwrap();
    assert_eq!(tree.children.len(), 1);
    assert_eq!(ask(&host, "group/good", json!({"echo": 1})).await, Ok(json!(1)));
    match host.start_worker("group/bad").await {
        Err(RequestError::Tree(TreeError::Restarting(name) | TreeError::Running(name))) => {
            assert_eq!(name.as_str(), "group/bad");
        }
        other => panic!("{other:?}"),
    }
    // A stop ends the loop, whatever state it is caught in.
    host.stop_worker("group/bad").await.unwrap();
    assert_eq!(standing(&host, "group/bad"), "down");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_significant_child_ends_its_supervisor() {
    let (mut world, host) = group("auto-shutdown = \"any-significant\"\nrestart = \"transient\"\n").await;
    world.write("group/b.toml", "restart = \"transient\"\nsignificant = true\n");
    until("it is significant", async || host.worker("group/b").unwrap().settings().significant).await;
    let before = last_event(&host);
    assert_eq!(ask(&host, "group/b", json!({"stop": "normal"})).await, Ok(json!(null)));
    event(&host, "the shutdown", |event| matches!(event, Event::AutoShutdown { by, .. } if by.as_str() == "group/b"))
        .await;
    until("all are down", async || {
        ["a", "b", "c"].iter().all(|leaf| standing(&host, &format!("group/{leaf}")) == "down")
    })
    .await;
    assert_eq!(moves(&host, before), ["-c", "-a"], "in reverse; it ended in order and is not restarted");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_requests_get_otps_answers() {
    let (mut world, host) = group(PATIENT).await;
    let refused = |answer: Result<_, RequestError>| match answer {
        Err(RequestError::Tree(error)) => error,
        other => panic!("{other:?}"),
    };
    let a = Name::parse("group/a").unwrap();
    assert_eq!(refused(host.start_worker("group/a").await.map(drop)), TreeError::Running(a.clone()));
    assert!(matches!(host.delete_worker("group/a").await, Err(RequestError::RunsStill(_))));
    assert!(matches!(host.start_worker("group/x").await, Err(RequestError::NoWorker { .. })));
    host.stop_worker("group/a").await.unwrap();
    host.stop_worker("group/a").await.unwrap();
    assert_eq!(standing(&host, "group/a"), "down");
    host.start_worker("group/a").await.unwrap();
    host.isolate_worker("group/a").await.unwrap();
    assert_eq!(standing(&host, "group/a"), "isolated");
    match call(&host, "group/a", "\"log\"").await {
        Err(told) => assert!(told.contains("isolated"), "{told}"),
        Ok(reply) => panic!("{reply}"),
    }
    host.start_worker("group/a").await.unwrap();
    host.stop_worker("group/a").await.unwrap();
    host.delete_worker("group/a").await.unwrap();
    assert_eq!(standing(&host, "group/a"), "absent");
    assert!(matches!(host.delete_worker("group/a").await, Err(RequestError::Deleted(_))));
    // Its file is as it was: it does not come back by itself, not with the host either.
    world.down().await;
    let host = world.up().await;
    assert_eq!((standing(&host, "group/a"), standing(&host, "group/b")), ("absent".into(), "running".into()));
    // Removed and put back it has changed, whatever is in it.
    let file = std::fs::read(world.path().join("group/a.wasm")).unwrap();
    world.remove("group/a.wasm");
    let name = Name::parse("group/a").unwrap();
    let forgotten = || host.database().worker(&name).unwrap().is_some_and(|record| record.file.is_none());
    until("it is seen to be gone", async || forgotten()).await;
    world.put_bytes("group/a", &file);
    until("it is back", async || standing(&host, "group/a") == "running").await;
    // The same when both happen between two looks, and the host ends in between.
    host.stop_worker("group/a").await.unwrap();
    host.delete_worker("group/a").await.unwrap();
    world.remove("group/a.wasm");
    world.down().await;
    let host = world.up().await;
    world.put_bytes("group/a", &file);
    until("it is back", async || standing(&host, "group/a") == "running").await;
    host.stop_worker("group/a").await.unwrap();
    host.delete_worker("group/a").await.unwrap();
    world.put("group/a", "echo");
    until("a new file brings it back", async || standing(&host, "group/a") == "running").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changes_in_place_and_a_bad_one_is_refused_whole() {
    let (mut world, host) = group(PATIENT).await;
    let group = Name::parse("group").unwrap();
    let look = async || host.supervisor(&group, Page { after: None, limit: 10 }).await.unwrap();
    world.write("group/supervisor.toml", &format!("strategy = \"one-for-all\"\n{PATIENT}"));
    until("the strategy holds", async || look().await.strategy == "one-for-all").await;
    assert_eq!([incarnation(&host, "group/a"), incarnation(&host, "group/b")], [0, 0], "nothing was restarted for it");
    trap(&host, "group/b").await;
    incarnations(&host, [1, 1, 1]).await;
    // A cycle: refused with the file and the key, and what ran goes on.
    world.write("group/a.toml", "after = [\"b\"]\n").write("group/b.toml", "after = [\"a\"]\n");
    let problem = event(
        &host,
        "the refusal",
        |event| matches!(event, Event::DirectoryProblem { message, .. } if message.contains("cycle")),
    )
    .await;
    assert!(problem.to_string().contains("group/"), "{problem}");
    incarnations(&host, [1, 1, 1]).await;
    world.write("group/supervisor.toml", "strategy = \"one-for-all\"\nintensity = 7\n[escalation]\nisolate = 9\n");
    event(
        &host,
        "the refusal",
        |event| matches!(event, Event::DirectoryProblem { message, .. } if message.contains("never reached")),
    )
    .await;
    assert_eq!(look().await.intensity, 100, "nothing of a bad policy holds");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn escalation_steps_open_the_breaker_and_then_isolate() {
    let steps = "intensity = 10\nperiod = \"60s\"\n[escalation]\ncircuit-break = 1\nisolate = 2\n\
                 [backoff]\ninitial = \"0s\"\nmax = \"0s\"\n";
    let (mut world, host) = group(steps).await;
    trap(&host, "group/b").await;
    until("it is back", async || standing(&host, "group/b") == "running").await;
    trap(&host, "group/b").await;
    let worker = host.worker("group/b").unwrap();
    until("its breaker is open", async || worker.breaker().is_some_and(|breaker| breaker.state == "open")).await;
    let told = ask(&host, "group/b", json!("log")).await.unwrap_err();
    assert_eq!(told, "circuit open");
    // Another worker of the group goes on.
    assert_eq!(ask(&host, "group/a", json!({"echo": 1})).await, Ok(json!(1)));
    world.down().await;
}

/// The dependency is up before the one that names it begins, whatever their names.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_starts_after_those_it_depends_on() {
    let mut world = World::new();
    world.put("api", "probe").put("zdb", "probe").put("cache", "probe");
    world.write("api.toml", "after = [\"zdb\", \"cache\"]\n").write("cache.toml", "after = [\"zdb\"]\n");
    let host = world.up().await;
    assert_eq!(moves(&host, 0), ["+zdb", "+cache", "+api"]);
    world.down().await;
    assert_eq!(events_of(&host, "zdb").last().map(|event| event.kind()), Some("worker-stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_does_not_fit_the_budget_is_refused_and_what_runs_goes_on() {
    let mut world = World::new();
    world.put("group/a", "probe").write("group/a.toml", "[limits]\nmemory = \"64MiB\"\n");
    world.write("group/supervisor.toml", "[budget]\nmemory = \"100MiB\"\n");
    let host = world.up().await;
    assert_eq!(standing(&host, "group/a"), "running");
    world.write("group/b.toml", "[limits]\nmemory = \"64MiB\"\n").put("group/b", "probe");
    event(&host, "the refusal", |event| {
        matches!(event, Event::DirectoryProblem { message, .. } if message.contains("budget") || message.contains("room"))
    })
    .await;
    assert_eq!((standing(&host, "group/a"), standing(&host, "group/b")), ("running".into(), "absent".into()));
    world.write("group/b.toml", "[limits]\nmemory = \"32MiB\"\n");
    until("a smaller one fits", async || standing(&host, "group/b") == "running").await;
    let detail = host.supervisor(&Name::parse("group").unwrap(), Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!(detail.budget.memory_taken_bytes, Some(96 << 20));
    world.down().await;
}

/// One that is to be killed is not asked to stop, which it never would; its neighbour is.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_to_be_killed_ends_at_once_beside_one_that_stops_in_order() {
    let mut world = World::new();
    world.put("group/stubborn", "fault-stubborn").write("group/stubborn.toml", "shutdown = \"kill\"\n");
    world.put("group/counter", "counter-v1");
    let host = world.up().await;
    assert!(call(&host, "group/stubborn", "\"x\"").await.is_ok());
    let begun = std::time::Instant::now();
    host.stop_worker("group").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let reason = |worker: &str| {
        events_of(&host, worker).into_iter().find_map(|event| match event {
            Event::WorkerExited { reason, .. } => Some(reason),
            _ => None,
        })
    };
    assert_eq!(reason("group/stubborn"), Some(ExitReason::Killed));
    assert_eq!(reason("group/counter"), Some(ExitReason::Shutdown));
    world.down().await;
}

/// The state in which a supervisor has a child.
async fn state_of(host: &Host, name: &str) -> String {
    let above = Name::parse(name).unwrap().parent().unwrap();
    let view = host.supervisor(&above, Page { after: None, limit: 100 }).await.unwrap();
    view.children.into_iter().find(|child| child.name == name).map(|child| child.state).unwrap_or_default()
}

/// Messages for a child wait when it is to be started, however long that takes, and no longer than that.
#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_a_child_that_waits_for_its_turn() {
    let mut world = World::new();
    let host = world.up().await;
    world.write("group/supervisor.toml", "strategy = \"rest-for-one\"\norder = [\"a\", \"b\", \"nest\"]\n");
    world.write("group/a.toml", "shutdown = \"kill\"\n[limits]\nstart = \"5m\"\nfuel = 9000000000000\n");
    world.put("group/a", "fault-init-slow");
    until("the first starts", async || standing(&host, "group/a") == "starting").await;
    world.put("group/b", "counter-v1").put("group/nest/c", "counter-v1");
    until("the others are there", async || host.worker("group/b").is_ok() && host.worker("group/nest/c").is_ok()).await;
    let begun = host.clone();
    for round in 0..2 {
        until("it waits", async || state_of(&host, "group/b").await == "waiting").await;
        for name in ["group/b", "group/nest/c"] {
            until(&format!("{name} takes messages, round {round}"), async || host.cast(name, "add".into()).is_ok())
                .await;
            assert_eq!(standing(&host, name), if round == 0 { "down" } else { "restarting" });
        }
        host.stop_worker("group").await.unwrap();
        for name in ["group/b", "group/nest/c"] {
            until(&format!("{name} refuses, round {round}"), async || {
                matches!(host.cast(name, "add".into()), Err(RequestError::Tree(TreeError::SupervisorDown(_))))
            })
            .await;
            assert_eq!(standing(&host, name), "down");
        }
        let begun = begun.clone();
        tokio::spawn(async move { drop(begun.start_worker("group").await) });
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_put_below_a_supervisor_that_does_not_run_refuses_messages() {
    let (mut world, host) = group("").await;
    host.stop_worker("group").await.unwrap();
    world.put("group/d", "counter-v1").put("group/nest/e", "counter-v1");
    for name in ["group/d", "group/nest/e"] {
        until("it is there", async || host.worker(name).is_ok()).await;
        until("it refuses", async || {
            matches!(host.cast(name, "add".into()), Err(RequestError::Tree(TreeError::SupervisorDown(_))))
        })
        .await;
        let told = call(&host, name, "get").await.unwrap_err();
        assert!(told.contains("does not run"), "{told}");
    }
    host.start_worker("group").await.unwrap();
    for name in ["group/d", "group/nest/e"] {
        assert_eq!(call(&host, name, "get").await.as_deref(), Ok("0"));
    }
    world.down().await;
}

/// An isolation holds, and is told, whatever becomes of the supervisor; one that still stops is not down yet.
#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_child_stays_so_when_a_restart_of_its_supervisor_becomes_a_stop() {
    let mut world = World::new();
    world.put("group/a", "counter-v1").put("group/b", "fault-stubborn");
    world.write("group/b.toml", "shutdown = \"2s\"\n[limits]\nfuel = 9000000000000\n");
    let host = world.up().await;
    assert!(call(&host, "group/b", "\"x\"").await.is_ok());
    host.isolate_worker("group/a").await.unwrap();
    let restarting = host.clone();
    let restarting = tokio::spawn(async move { restarting.restart_worker("group").await });
    until("it stops", async || standing(&host, "group/b") == "stopping").await;
    let stopping = host.clone();
    let stopping = tokio::spawn(async move { stopping.stop_worker("group").await });
    stopping.await.unwrap().unwrap();
    let _ = restarting.await.unwrap();
    assert_eq!((standing(&host, "group/a"), standing(&host, "group/b")), ("isolated".into(), "down".into()));
    // What a start of the supervisor does not mend is not told as that.
    let told = call(&host, "group/a", "get").await.unwrap_err();
    assert!(told.contains("isolated"), "{told}");
    assert!(matches!(host.cast("group/a", "add".into()), Err(RequestError::Isolated { .. })));
    host.start_worker("group").await.unwrap();
    assert_eq!(standing(&host, "group/a"), "isolated");
    host.start_worker("group/a").await.unwrap();
    assert_eq!(call(&host, "group/a", "get").await.as_deref(), Ok("0"));
    world.down().await;
}

/// What a worker failed over may be mended by a newer file: it does not sit out the pause that it had earned.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_file_ends_the_pause_before_a_restart() {
    let mut world = World::new();
    world
        .put("w", "fault-init")
        .write("supervisor.toml", "intensity = 100\n[backoff]\ninitial = \"1h\"\nmax = \"1h\"\n");
    let host = world.up().await;
    until("it waits", async || standing(&host, "w") == "restarting").await;
    world.put("w", "counter-v1");
    until("it runs", async || standing(&host, "w") == "running").await;
    assert_eq!(call(&host, "w", "get").await.as_deref(), Ok("0"));
    world.down().await;
}
