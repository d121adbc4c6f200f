//! A caller that goes away cancels what it asked for, down the chain of calls it caused; and what the
//! host wants of a worker does not wait behind what others want.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use paguro::base::Payload;
use paguro::control::Host;
use paguro::control::server::Server;
use paguro::runtime::worker::System;
use paguro::sandbox::Health;
use paguro_tests::{World, ask, guest, standing, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::{Program, paguro};

/// Longer than any of these tests: what ends a call before is not its deadline.
const LONG: Duration = Duration::from_secs(600);

/// Probes whose messages may take long, and a worker that never answers.
async fn probes(names: &[&str]) -> (World, Arc<Host>) {
    let mut world = World::new();
    for name in names {
        world.put(name, "probe").write(&format!("{name}.toml"), "[limits]\ndeadline = \"10m\"\n");
    }
    world.put("mute", "fault-mute");
    let host = world.up().await;
    for name in names.iter().chain(&["mute"]) {
        until(name, async || standing(&host, name) == "running").await;
    }
    (world, host)
}

fn relay(to: &str, body: Value) -> Value {
    json!({"call": {"to": to, "body": body, "timeout": 600_000}})
}

/// A client outside the tree; it goes when the task is aborted.
fn client(host: &Arc<Host>, name: &str, request: Value) -> JoinHandle<()> {
    let (host, name) = (host.clone(), name.to_string());
    tokio::spawn(async move {
        let _ = host.call(&name, Payload::from(request.to_string().as_str()), LONG).await;
    })
}

fn handled(host: &Host, name: &str) -> u64 {
    host.worker(name).unwrap().counters.handled.load(Relaxed)
}

fn cancelled(host: &Host, name: &str) -> u64 {
    host.worker(name).unwrap().counters.seen(|of| &of.cancelled)
}

fn expired(host: &Host, name: &str) -> u64 {
    host.worker(name).unwrap().counters.seen(|of| &of.expired)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_frees_the_whole_chain() {
    let begun = Instant::now();
    let (mut world, host) = probes(&["a", "b", "c"]).await;
    let asking = client(&host, "a", relay("b", relay("c", json!({"defer": "k"}))));
    until("c has the call", async || handled(&host, "c") == 1).await;
    asking.abort();
    until("a and b are free", async || cancelled(&host, "a") == 1 && cancelled(&host, "b") == 1).await;
    for name in ["a", "b"] {
        assert_eq!(ask(&host, name, json!({"echo": 1})).await, Ok(json!(1)), "{name}");
        assert_eq!(host.worker(name).unwrap().status().incarnation.0, 0, "{name} ran on to its end");
    }
    assert_eq!(cancelled(&host, "c"), 0, "it waited for nobody");
    assert_eq!(ask(&host, "c", json!({"answer": ["k", 1]})).await, Ok(json!(false)), "nobody waits for it");
    assert!(begun.elapsed() < LONG / 2);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_that_went_had_asked_for_is_not_begun() {
    let (mut world, host) = probes(&["a", "b", "c", "trace"]).await;
    let busy = client(&host, "c", relay("mute", json!("x")));
    until("c waits", async || handled(&host, "mute") == 1).await;
    let leaves_a_trace = json!({"cast": {"to": "trace", "body": "begun"}});
    let asking = client(&host, "a", relay("b", relay("c", leaves_a_trace)));
    until("the call waits at c", async || host.worker("c").unwrap().waiting() == 1).await;
    asking.abort();
    until("a and b are free", async || cancelled(&host, "a") == 1 && cancelled(&host, "b") == 1).await;
    assert_eq!(host.worker("c").unwrap().waiting(), 1, "it is let go of when its turn comes");
    busy.abort();
    until("its turn came", async || expired(&host, "c") == 1).await;
    assert_eq!(ask(&host, "c", json!({"echo": 1})).await, Ok(json!(1)));
    assert_eq!(ask(&host, "trace", json!("log")).await, Ok(json!([])), "it was not begun");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_frees_the_chain_too_and_leaves_nothing_behind() {
    let (mut world, host) = probes(&["a", "b"]).await;
    let request = relay("b", relay("mute", json!("x"))).to_string();
    // Its caller may be told by the host, or just before by `a`, whose own wait ends with it.
    let _ = host.call("a", request.as_str().into(), Duration::from_millis(100)).await;
    for name in ["a", "b"] {
        assert_eq!(ask(&host, name, json!({"echo": 1})).await, Ok(json!(1)), "{name}");
    }
    // The next caller is another.
    assert_eq!(ask(&host, "a", relay("b", json!({"echo": 2}))).await, Ok(json!({"ok": 2})));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_connection_cancels_its_call() {
    let (mut world, host) = probes(&["a"]).await;
    let socket = world.path().join(".paguro/test.sock");
    let server = Server::open(&socket, None).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(host.clone(), stopped));
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    let body = relay("mute", json!("x")).to_string();
    let length = body.len();
    let head =
        format!("POST /v1/workers/a/call?timeout_ms=600000 HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    until("mute has the call", async || handled(&host, "mute") == 1).await;
    assert_eq!(cancelled(&host, "a"), 0);
    drop(stream);
    until("a is free", async || cancelled(&host, "a") == 1).await;
    assert_eq!(ask(&host, "a", json!({"echo": 1})).await, Ok(json!(1)));
    stop.send_replace(true);
    serving.await.unwrap();
    world.down().await;
}

#[test]
fn a_command_that_is_ended_while_it_waits_cancels_its_call() {
    let mut program = Program::new();
    program.write("a.wasm", &guest("probe"));
    program.write("a.toml", b"[limits]\ndeadline = \"10m\"\n");
    program.write("mute.wasm", &guest("fault-mute"));
    program.up();
    let numbers = |at: usize, key: &str| program.json(&["ps"])[at][key].as_u64();
    program.until("both run", || program.json(&["ps"])[1]["state"] == "running");
    let request = relay("mute", json!("x")).to_string();
    let mut command = paguro(&["call", "a", &request, "--timeout", "10m"], &program.path());
    let mut calling = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    program.until("mute has the call", || numbers(1, "handled") == Some(1));
    // As ctrl-c does; that signal itself is ignored where a shell runs the tests in the background.
    let ended = std::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {}", calling.id())).status();
    assert!(ended.unwrap().success());
    assert!(!calling.wait().unwrap().success());
    program.until("a is free", || numbers(0, "cancelled") == Some(1));
}

/// Fills a worker's mailbox with messages that each take a while.
async fn flooded(host: &Arc<Host>, name: &str, messages: usize) -> Vec<JoinHandle<()>> {
    let flood = (0..messages).map(|_| client(host, name, json!({"busy": 20}))).collect();
    let worker = host.worker(name).unwrap();
    until("the mailbox is full", async || worker.waiting() >= messages - 2).await;
    flood
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooded_worker_tells_its_health_is_upgraded_and_stops_before_all_that_waits() {
    const MESSAGES: usize = 500;
    let (mut world, host) = probes(&["a"]).await;
    let mut other = guest("probe");
    // A custom section that says nothing to anybody, so that it is another component.
    other.extend([0, 6, 4, b'n', b'o', b't', b'e', b'x']);
    host.dry_run("a", other.clone()).await.unwrap();
    let flood = flooded(&host, "a", MESSAGES).await;
    let worker = host.worker("a").unwrap();

    let waited = worker.waiting();
    assert_eq!(worker.ask(|done| System::Health { done }).await, Ok(Some(Health::Healthy)));
    assert!(worker.waiting() + 5 >= waited, "at the next message boundary, not behind {waited}");

    let switched = host.upgrade("a", other, Some(LONG)).await.unwrap();
    assert_eq!(worker.status().revision, switched.revision);
    assert!(worker.waiting() > 0, "upgraded before what waited was handled");
    let handled = || worker.counters.handled.load(Relaxed);
    let before = handled();
    host.stop_worker("a").await.unwrap();
    assert!(handled() <= before + 20, "stopped before what waited was handled");
    assert_eq!(worker.waiting(), 0, "who waited was told");
    assert_eq!(standing(&host, "a"), "down");
    flood.iter().for_each(JoinHandle::abort);
    world.down().await;
}
