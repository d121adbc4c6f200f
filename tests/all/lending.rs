//! A caller's thread runs the worker that it calls: answers, chains, and that nobody pays for another
//! who computes for ever.

use std::time::{Duration, Instant};

use paguro::base::Payload;
use paguro::control::{Host, HostOptions};
use paguro_tests::{World, ask, call, guest, standing, until};
use serde_json::{Value, json};

const LEAN: &str = "durability = \"none\"\n[limits]\nmemory = \"4MiB\"\n";

/// With every thread of the runtime held up, only the caller's own can run what it calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_worker_is_run_by_its_caller_and_so_is_whom_that_one_calls() {
    let mut world = World::new();
    world.put("echo", "echo").put("relay", "relay");
    let host = world.up().await;
    for name in ["echo", "relay"] {
        until("it runs", async || standing(&host, name) == "running").await;
        assert_eq!(call(&host, name, "x").await.as_deref(), Ok("x"));
    }
    let (held, holds) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = tokio::spawn(async move {
        held.send(()).unwrap();
        let _ = released.recv_timeout(Duration::from_secs(60));
    });
    holds.recv().unwrap();
    // Polled by hand: a timer would need the thread that is held up.
    for (name, body, reply) in [("echo", "x", "x"), ("relay", "call echo 3 8", "")] {
        let called = std::pin::pin!(call(&host, name, body));
        let std::task::Poll::Ready(answer) = futures::poll!(called) else { panic!("{name} was not run by its caller") };
        assert_eq!(answer.as_deref(), Ok(reply));
    }
    release.send(()).unwrap();
    holder.await.unwrap();
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_calls_longer_than_one_thread_runs_is_answered() {
    const LINKS: usize = 55;
    let mut world = World::new();
    let bytes = guest("probe");
    for n in 0..LINKS {
        world.put_bytes(&format!("w{n}"), &bytes);
    }
    let host = world.up().await;
    let last = json!({"echo": "the end"});
    let chain = (1..LINKS).rev().fold(last, |inner, n| json!({"call": {"to": format!("w{n}"), "body": inner}}));
    let mut answer = ask(&host, "w0", chain).await.unwrap();
    for _ in 1..LINKS {
        let inner = answer["ok"].take();
        answer = inner.as_str().map_or(inner.clone(), |text| serde_json::from_str(text).unwrap_or(inner.clone()));
    }
    assert_eq!(answer, Value::from("the end"));
    world.down().await;
}

/// What is handed over on the caller's thread is answered there, and each answer goes to whose call it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_and_one_to_a_call_that_follows_it_are_not_taken_for_each_other() {
    let mut world = World::new();
    let bytes = guest("probe");
    world.put_bytes("a", &bytes).put_bytes("b", &bytes);
    let host = world.up().await;
    for round in 0..100 {
        let call = json!({"call": {"to": "b", "body": {"echo": round}}});
        let early = ask(&host, "a", json!({"early": ["early", call]})).await;
        assert_eq!(early, Ok(Value::from("early")));
        assert_eq!(ask(&host, "a", json!("clear")).await, Ok(json!([{"ok": round}])));
    }
    world.down().await;
}

/// The caller has left its thread when the answer comes: it was given a place for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_handed_over_is_answered_later_and_from_anywhere() {
    let mut world = World::new();
    let bytes = guest("probe");
    world.put_bytes("a", &bytes).put_bytes("b", &bytes);
    // Nothing that would wake it but what is sent to it.
    for name in ["a.toml", "b.toml"] {
        world.write(name, "durability = \"none\"\nhealth-interval = \"1h\"\n");
    }
    let host = world.up().await;
    for round in 0..50 {
        let (one, other) = (host.clone(), host.clone());
        let deferred = tokio::spawn(async move { ask(&one, "b", json!({"defer": "own"})).await });
        let through = json!({"call": {"to": "b", "body": {"defer": "of a"}}});
        let through = tokio::spawn(async move { ask(&other, "a", through).await });
        for key in ["own", "of a"] {
            until("it is open", async || {
                let answered = ask(&host, "b", json!({"answer": [key, round]})).await;
                answered == Ok(Value::from(true))
            })
            .await;
        }
        assert_eq!(deferred.await.unwrap(), Ok(Value::from(round)));
        assert_eq!(through.await.unwrap(), Ok(json!({"ok": round})));
    }
    world.down().await;
}

/// A call goes past the mailbox only where nothing waits in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_does_not_overtake_what_its_sender_cast_before_it() {
    let mut world = World::new();
    world.put("probe", "probe");
    let host = world.up().await;
    assert_eq!(ask(&host, "probe", json!("log")).await, Ok(json!([])));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let host = host.clone();
            tokio::spawn(async move {
                for round in 0..250 {
                    let message = json!([sender, round]);
                    host.cast("probe", Payload::from(message.to_string())).unwrap();
                    let log = ask(&host, "probe", json!("log")).await.unwrap();
                    assert!(log.as_array().unwrap().contains(&json!({"cast": message})), "{sender} {round}");
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    world.down().await;
}

/// On one thread, where whoever does not give way stops all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_calls_one_that_computes_for_ever_and_its_neighbours_go_on() {
    let mut world = World::new();
    world.put("spin", "fault-spin").write("spin.toml", "[limits]\ndeadline = \"2s\"\nfuel = 1000000000000\n");
    world.put("echo", "echo").put("relay", "relay");
    let host = world.up().await;
    until("it runs", async || standing(&host, "relay") == "running").await;
    // A guest's thread and a client's, both lent to the spinner.
    let lenders: Vec<_> = [("relay", "call spin 1 4"), ("spin", "spin")]
        .into_iter()
        .map(|(name, body)| {
            let host = host.clone();
            tokio::spawn(async move { host.call(name, body.into(), Duration::from_secs(10)).await })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        let one = Instant::now();
        assert_eq!(call(&host, "echo", "x").await.as_deref(), Ok("x"));
        slowest = slowest.max(one.elapsed());
        calls += 1;
        tokio::task::yield_now().await;
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(calls > 100, "{calls}");
    for lender in lenders {
        assert!(lender.await.unwrap().is_err());
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_over_a_bound_of_five_hundred_live_instances_all_answer_at_once() {
    const CHILDREN: usize = 50_000;
    let mut world = World::new();
    world.put("many/one", "counter-v1").write("many/one.toml", LEAN);
    let policy = "strategy = \"simple-one-for-one\"\non-demand = true\nnew-keys = 100000\n";
    world.write("many/supervisor.toml", policy);
    let options = HostOptions { live_instances_max: Some(500), ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.unwrap();
    world.host = Some(host.clone());
    until("the template is there", async || call(&host, "many/0", "get").await.is_ok()).await;
    for n in 1..CHILDREN {
        host.start_worker(&format!("many/{n}")).await.unwrap();
    }
    // More than forty-nine thousand of them hibernate, and are woken at once.
    for round in 1..=2 {
        let calls: Vec<_> = (0..CHILDREN)
            .map(|n| {
                let host = host.clone();
                tokio::spawn(async move {
                    let reply = host.call(&format!("many/{n}"), "add".into(), Duration::from_secs(120)).await;
                    reply.is_ok_and(|reply| reply == Payload::from(round.to_string()))
                })
            })
            .collect();
        for (n, called) in calls.into_iter().enumerate() {
            assert!(called.await.unwrap(), "round {round}, {n}");
        }
    }
    let live: usize = host
        .workers()
        .iter()
        .map(|worker| usize::from(worker.instances.load(std::sync::atomic::Ordering::Relaxed)))
        .sum();
    assert!(live <= 500, "{live}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_left_the_tree_leaves_nothing_in_memory() {
    let mut world = World::new();
    world.put("many/one", "relay").write("many/one.toml", "hibernate-after = \"20ms\"\n");
    world.write("many/supervisor.toml", "strategy = \"simple-one-for-one\"\n");
    let host = world.up().await;
    until("the template is there", async || host.start_worker("many/a").await.is_ok()).await;
    let worker = std::sync::Arc::downgrade(&host.worker("many/a").unwrap());
    // Run by a caller, by the runtime, put to sleep and woken.
    for _ in 0..2 {
        assert_eq!(call(&host, "many/a", "x").await.as_deref(), Ok("x"));
        host.cast("many/a", "x".into()).unwrap();
        until("it sleeps", async || standing(&host, "many/a") == "hibernated").await;
    }
    host.stop_worker("many/a").await.unwrap();
    until("nobody knows it", async || worker.strong_count() == 0).await;
    world.down().await;
}

/// A host whose runtime ends before it was stopped: workers that have no task there go too.
#[test]
fn a_runtime_that_ends_takes_its_workers_along() {
    let world = World::new();
    world.put("echo", "echo").put("counter", "counter-v1");
    world.write("counter.toml", "hibernate-after = \"10ms\"\n");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let workers = runtime.block_on(async {
        let host = Host::start(HostOptions::new(world.path())).await.unwrap();
        assert_eq!(call(&host, "echo", "x").await.as_deref(), Ok("x"));
        until("it sleeps", async || standing(&host, "counter") == "hibernated").await;
        host.workers().iter().map(std::sync::Arc::downgrade).collect::<Vec<_>>()
    });
    assert_eq!(workers.len(), 2);
    runtime.shutdown_timeout(Duration::from_secs(30));
    assert!(workers.iter().all(|worker| worker.upgrade().is_none()), "a worker is left in memory");
}

/// As whoever embeds the host may: each thread with a runtime of its own, which ends.
#[tokio::test(flavor = "multi_thread")]
async fn callers_on_other_runtimes_are_answered_and_leave_the_worker_well() {
    let mut world = World::new();
    world.put("a", "probe");
    let host = world.up().await;
    let host_of = host.clone();
    for round in 0..5_usize {
        let host = host.clone();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let after = json!({"after": [20, round]});
            runtime.block_on(async {
                let _ = ask(&host, "a", after).await;
                ask(&host, "a", json!({"echo": round})).await
            })
        });
        assert_eq!(other.join().unwrap(), Ok(json!(round)));
        until("the timer fired that was set from there", async || {
            ask(&host_of, "a", json!("log")).await.is_ok_and(|log| log.as_array().is_some_and(|log| log.len() > round))
        })
        .await;
    }
    assert_eq!(ask(&host, "a", json!({"echo": "well"})).await, Ok(json!("well")));
    world.down().await;
}
