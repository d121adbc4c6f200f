//! Every fault guest, beside healthy neighbours: what the host must be seen to do is the first line
//! of the guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paguro::base::{ExitReason, Failure, Limit};
use paguro::change::{ChangeError, Outcome};
use paguro::control::{Host, RequestError};
use paguro::record::Event;
use paguro_tests::{World, ask, call, event, events_of, guest, standing, until};
use serde_json::json;

/// Enough restarts for every test, and no wait before them.
const PATIENT: &str = "intensity = 100\n[backoff]\ninitial = \"1ms\"\nmax = \"1ms\"\n";
/// Probation that only a verdict or an operator ends.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

/// The worker `fault`, with its settings, and the neighbours `echo` and `counter`.
async fn beside(fault: &str, settings: &str) -> (World, Arc<Host>) {
    let mut world = World::new();
    world.put("fault", fault).put("echo", "echo").put("counter", "counter-v1");
    world.write("fault.toml", settings).write("supervisor.toml", PATIENT);
    let host = world.up().await;
    (world, host)
}

async fn neighbours_are_well(host: &Host) {
    assert_eq!(call(host, "echo", "hello").await.as_deref(), Ok("hello"));
    assert!(call(host, "counter", "add").await.is_ok());
    let exits = |name| events_of(host, name).iter().filter(|event| event.kind() == "worker-exited").count();
    assert_eq!((exits("echo"), exits("counter")), (0, 0));
}

async fn reason_of_exit(host: &Host) -> ExitReason {
    let wanted = |event: &Event| matches!(event, Event::WorkerExited { worker, .. } if worker.as_str() == "fault");
    match event(host, "the fault's exit", wanted).await {
        Event::WorkerExited { reason, .. } => reason,
        other => unreachable!("{other}"),
    }
}

async fn runs_again(host: &Host) {
    until("the fault guest runs again", async || {
        let worker = host.worker("fault").expect("it stays in the tree").status();
        worker.standing.word() == "running" && worker.incarnation.0 > 0
    })
    .await;
}

/// How long calls of `echo` take while something goes wrong, sorted.
async fn latencies(host: &Host, calls: usize) -> Vec<Duration> {
    let mut all = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = Instant::now();
        assert_eq!(call(host, "echo", "hello").await.as_deref(), Ok("hello"));
        all.push(begun.elapsed());
        tokio::task::yield_now().await;
    }
    all.sort();
    all
}

/// On one thread: a guest that held it would hold everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_spins_is_stopped_at_its_deadline_and_others_are_served_meanwhile() {
    let settings = "[limits]\nfuel = 9000000000000\ndeadline = \"1s\"\n";
    let (mut world, host) = beside("fault-spin", settings).await;
    let spinning = tokio::spawn({
        let host = host.clone();
        async move { call(&host, "fault", "spin").await }
    });
    let worker = host.worker("fault").unwrap();
    until("it has begun to spin", async || worker.waiting() == 0).await;
    let latencies = latencies(&host, 200).await;
    assert!(!spinning.is_finished(), "the calls were made while it span");
    let (median, longest) = (latencies[100], latencies[199]);
    assert!(median < Duration::from_millis(5), "median {median:?}");
    assert!(longest < Duration::from_millis(100), "longest {longest:?}");

    let error = spinning.await.unwrap().unwrap_err();
    assert_eq!(error, "down: limit: deadline, 1000 ms for one message");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::Deadline(1_000))));
    runs_again(&host).await;
    assert_eq!(call(&host, "fault", "ping").await.as_deref(), Ok("\"pong\""));
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_spins_is_stopped_when_its_fuel_is_used() {
    let (mut world, host) = beside("fault-spin", "[limits]\nfuel = 5000000\n").await;
    let error = call(&host, "fault", "spin").await.unwrap_err();
    assert_eq!(error, "down: limit: fuel, 5000000 for one message");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::Fuel(5_000_000))));
    runs_again(&host).await;
    // A cast has no caller: that it was lost is told all the same.
    host.cast("fault", "spin".into()).unwrap();
    event(&host, "the dead letter", |event| matches!(event, Event::DeadLetter { sort: "cast", .. })).await;
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_memory_is_refused_more_at_its_limit() {
    let (mut world, host) = beside("fault-memory", "[limits]\nmemory = \"16MiB\"\n").await;
    let error = call(&host, "fault", "grow").await.unwrap_err();
    assert_eq!(error, "down: limit: memory, 16.0 MiB");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::Memory(16 << 20))));
    runs_again(&host).await;
    assert_eq!(call(&host, "fault", "ping").await.as_deref(), Ok("\"pong\""));
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_recurses_for_ever_runs_out_of_its_own_stack() {
    let (mut world, host) = beside("fault-recursion", "").await;
    let error = call(&host, "fault", "dive").await.unwrap_err();
    assert!(error.starts_with("down: limit: stack"), "{error}");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::Stack)));
    runs_again(&host).await;
    assert_eq!(call(&host, "fault", "ping").await.as_deref(), Ok("0"));
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_traps_is_restarted_and_the_trap_names_its_functions() {
    let (mut world, host) = beside("fault-trap", "[snapshot]\nmessages = 1\n").await;
    call(&host, "fault", "a").await.unwrap();
    let error = call(&host, "fault", "boom").await.unwrap_err();
    assert!(error.starts_with("down: trap: "), "{error}");
    let reason = reason_of_exit(&host).await;
    assert_eq!(reason.word(), "trap");
    let frames = reason.backtrace();
    assert!(frames.iter().any(|frame| frame.contains("Trap")), "a name of the guest's own: {frames:?}");
    runs_again(&host).await;
    assert_eq!(call(&host, "fault", "get").await.as_deref(), Ok("1"), "it goes on from its snapshot");
    let said = host.recorder().logs().after(0);
    assert!(said.iter().any(|line| line.item.text.contains("boom")), "what it said on standard error is in its log");
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_answers_costs_its_caller_the_deadline_and_nobody_else() {
    let (mut world, host) = beside("fault-mute", "").await;
    let begun = Instant::now();
    let error = host.call("fault", "x".into(), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, RequestError::Call { error: paguro::sandbox::CallError::Timeout, .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(standing(&host, "fault"), "running", "to be slow is no crime");
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_floods_a_mailbox_is_refused_at_its_bound_and_nothing_is_dropped() {
    let (mut world, host) = beside("fault-flood", "").await;
    world.put("mute", "fault-mute").put("victim", "probe").write("victim.toml", "[limits]\nmailbox = 50\n");
    until("the victim runs", async || standing(&host, "victim") == "running" && standing(&host, "mute") == "running")
        .await;
    // While it waits for an answer that never comes it takes no message.
    let waits = r#"{"call":{"to":"mute","body":"x","timeout":2000}}"#;
    let waiting = tokio::spawn({
        let host = host.clone();
        async move { call(&host, "victim", waits).await }
    });
    let (mute, victim) = (host.worker("mute").unwrap(), host.worker("victim").unwrap());
    until("the victim waits", async || mute.counters.handled.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    assert_eq!(call(&host, "fault", r#"{"flood":"victim"}"#).await.as_deref(), Ok("50"));
    assert_eq!(victim.waiting(), 50);
    let error = call(&host, "victim", "log").await.unwrap_err();
    assert_eq!(error, "overloaded", "others are refused too, at once");
    neighbours_are_well(&host).await;
    waiting.await.unwrap().unwrap();
    until("the victim has caught up", async || victim.waiting() == 0).await;
    let log = call(&host, "victim", "log").await.unwrap();
    assert_eq!(log.matches(r#"{"cast":"add"}"#).count(), 50, "what was accepted was handled");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_replies_too_much_ends_at_the_payload_limit() {
    let (mut world, host) = beside("fault-huge-reply", "[limits]\npayload = \"1MiB\"\n").await;
    let fits = call(&host, "fault", r#"{"huge":1048576}"#).await;
    assert_eq!(fits.map(|reply| reply.len()), Ok(1 << 20), "to the byte");
    for request in [r#"{"huge":1048577}"#, "huge"] {
        let error = call(&host, "fault", request).await.unwrap_err();
        assert_eq!(error, "down: limit: payload, 1.0 MiB", "{request}");
    }
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::Payload(1 << 20))));
    runs_again(&host).await;
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_media_type_is_too_long_ends_at_that_limit() {
    let (mut world, host) = beside("fault-state-as", "[snapshot]\ninterval = \"1h\"\n").await;
    ask(&host, "fault", json!("x".repeat(255))).await.unwrap();
    assert!(host.state("fault").await.is_ok());
    ask(&host, "fault", json!("x".repeat(256))).await.unwrap();
    let error = host.state("fault").await.unwrap_err();
    let RequestError::NoState { why, .. } = error else { panic!("{error}") };
    assert!(why.to_string().contains("limit: media type of the state, 255 bytes"), "{why}");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::MediaType(255))));
    runs_again(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_state_is_too_large_ends_at_the_state_limit() {
    let settings = "[limits]\nstate = \"1MiB\"\n[snapshot]\ninterval = \"1h\"\n";
    let (mut world, host) = beside("fault-huge-state", settings).await;
    call(&host, "fault", "x").await.unwrap();
    let error = host.state("fault").await.unwrap_err();
    let RequestError::NoState { why, .. } = error else { panic!("{error}") };
    assert!(why.to_string().contains("limit: state, 1.0 MiB"), "{why}");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::State(1 << 20))));
    runs_again(&host).await;
    assert!(call(&host, "fault", "x").await.is_ok());
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_logs_too_much_is_cut_and_that_is_said() {
    let (mut world, host) = beside("fault-log", "[limits]\nlog-lines = 10\nfuel = 300000000\n").await;
    for how in ["log", "print"] {
        assert_eq!(call(&host, "fault", &format!(r#"{{"{how}":1000}}"#)).await.as_deref(), Ok("1000"));
    }
    let kept = host.recorder().logs().after(0);
    let kept = kept.iter().filter(|line| line.item.worker.as_str() == "fault").collect::<Vec<_>>();
    let said = kept.iter().filter(|line| line.item.text.contains("more than 10 lines in a second")).count();
    // Ten lines for each second that this took.
    assert!(said >= 1 && kept.len() <= 11 * (said + 1), "{} lines, {said} times said", kept.len());
    let dropped = host.worker("fault").unwrap().counters.seen(|of| &of.log_lines_dropped);
    assert_eq!(dropped as usize + kept.len() - said, 2_000, "each line is kept or counted");
    event(&host, "the bound", |event| matches!(event, Event::BoundReached { bound: "log-lines", value: 10, .. })).await;
    let error = call(&host, "fault", "log").await.unwrap_err();
    assert!(error.starts_with("down: limit: "), "without end it ends at a limit: {error}");
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reaches_for_what_nobody_granted_gets_nothing() {
    let (mut world, host) = beside("fault-grabby", "").await;
    for what in ["file", "env", "net"] {
        let told = call(&host, "fault", what).await.unwrap();
        assert!(told.starts_with("\"denied: "), "{what}: {told}");
    }
    neighbours_are_well(&host).await;

    // The same reach, with a grant for each of two.
    let granted = world.path().join(".granted");
    std::fs::create_dir(&granted).unwrap();
    std::fs::write(granted.join("passwd"), "booty").unwrap();
    let settings =
        "[grants]\ndirectories = [{ host = \".granted\", guest = \"/etc\" }]\nenvironment = { PATH = \"p\" }";
    world.write("fault.toml", settings);
    until("it is restarted with its grants", async || {
        call(&host, "fault", "file").await.as_deref() == Ok("\"got: booty\"")
    })
    .await;
    assert_eq!(call(&host, "fault", "env").await.as_deref(), Ok("\"got: p\""));
    assert!(call(&host, "fault", "net").await.unwrap().starts_with("\"denied: "));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_stop_is_killed_after_its_shutdown_time() {
    let (mut world, host) = beside("fault-stubborn", "shutdown = \"200ms\"\n[limits]\nfuel = 9000000000000\n").await;
    assert!(call(&host, "fault", "x").await.is_ok());
    let begun = Instant::now();
    host.stop_worker("fault").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Killed);
    assert_eq!(standing(&host, "fault"), "down");
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_with_wrong_types_is_refused_with_one_clear_sentence() {
    let mut world = World::new();
    world.put("fault", "fault-wrong-types").put("echo", "echo").put("counter", "counter-v1");
    let host = world.up().await;
    let problem = event(&host, "the problem", |event| event.kind() == "directory-problem").await.to_string();
    assert!(problem.contains("fault.wasm") && problem.contains("`handler`"), "{problem}");
    assert!(problem.contains("expected `u64` found `string`"), "{problem}");
    assert_eq!(problem.lines().count(), 1);
    assert_eq!(standing(&host, "fault"), "absent");
    // As an upgrade it is refused as well, and changes nothing.
    call(&host, "counter", "add").await.unwrap();
    let refused = host.upgrade("counter", guest("fault-wrong-types"), None).await.err().unwrap();
    assert!(matches!(refused, RequestError::Change(ChangeError::Component(_))), "{refused}");
    neighbours_are_well(&host).await;
    let all = host.recorder().events().after(0);
    assert_eq!(all.iter().filter(|event| event.item.kind() == "directory-problem").count(), 1, "said once");
    world.down().await;
}

/// Under the root's defaults: one restart, then it is let go.
async fn never_starts(fault: &str, settings: &str, reason: &str) {
    let mut world = World::new();
    world.put("fault", fault).put("echo", "echo").put("counter", "counter-v1").write("fault.toml", settings);
    let host = world.up().await;
    let wanted = |event: &Event| matches!(event, Event::WorkerIsolated { worker, .. } if worker.as_str() == "fault");
    let isolated = event(&host, "its isolation", wanted).await.to_string();
    assert!(isolated.contains(reason), "{isolated}");
    let failures = events_of(&host, "fault");
    let failures = failures.iter().filter(|event| event.kind() == "worker-start-failed").count();
    assert_eq!(failures, 2, "the start and one restart");
    until("it stands as isolated", async || standing(&host, "fault") == "isolated").await;
    neighbours_are_well(&host).await;
    // By hand it is tried again, and the same reason is told.
    let Err(RequestError::NotStarted { why, .. }) = host.start_worker("fault").await else { panic!("it started") };
    assert!(why.contains(reason), "{why}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_traps_in_init_is_restarted_and_then_isolated() {
    never_starts("fault-init", "", "trap: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_spins_in_init_fails_at_its_start_time() {
    never_starts("fault-init-slow", "[limits]\nstart = \"200ms\"\n", "limit: start, 200 ms").await;
}

/// An upgrade of a counter at 7 that must come to nothing.
async fn is_called_off(fault: &str, phase: &str, reason: &str) {
    let mut world = World::new();
    world.put("counter", "counter-v1").put("echo", "echo");
    world.write("counter.toml", "[limits]\nfuel = 9000000000000\n[upgrade]\nmigrate = \"200ms\"\n");
    let host = world.up().await;
    call(&host, "counter", r#"{"add":7}"#).await.unwrap();
    let before = host.worker("counter").unwrap().status();
    match host.upgrade("counter", guest(fault), LONG).await.err() {
        Some(RequestError::Change(ChangeError::CalledOff { phase: at, reason: why, .. })) => {
            assert_eq!(at, phase, "{why}");
            assert!(why.contains(reason), "{why}");
        }
        other => panic!("{other:?}"),
    }
    event(&host, "the calling off", |event| event.kind() == "upgrade-called-off").await;
    let after = host.worker("counter").unwrap().status();
    assert_eq!((after.component, after.revision), (before.component, before.revision));
    assert_eq!(after.incarnation, before.incarnation, "it never stopped");
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("7"));
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_whose_migration_traps_is_called_off() {
    is_called_off("fault-upgrade", "rehearsed", "trap: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_whose_migration_never_ends_is_called_off_at_its_time() {
    is_called_off("fault-upgrade-slow", "rehearsed", "200 ms").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_does_not_take_the_state_is_called_off() {
    is_called_off("fault-restore", "rehearsed", "nothing is restored today").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_from_one_that_cannot_save_is_called_off_and_the_loss_is_told() {
    let (mut world, host) = beside("fault-save", "[snapshot]\ninterval = \"1h\"\n").await;
    call(&host, "fault", "add").await.unwrap();
    match host.upgrade("fault", guest("counter-v1"), LONG).await.err() {
        Some(RequestError::Change(ChangeError::CalledOff { reason, .. })) => {
            assert!(reason.contains("it ended while its state was saved: trap"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(reason_of_exit(&host).await.word(), "trap");
    runs_again(&host).await;
    assert_eq!(call(&host, "fault", "get").await.as_deref(), Ok("0"), "its state was never saved");
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_on_trial_that_cannot_save_is_rolled_back_with_every_message() {
    let (mut world, host) = beside("echo", "").await;
    call(&host, "counter", r#"{"add":7}"#).await.unwrap();
    let switched = host.upgrade("counter", guest("fault-save"), LONG).await.unwrap();
    assert_eq!(call(&host, "counter", "add").await.as_deref(), Ok("8"));
    // Its state is asked for before the decision: it dies over it.
    let outcome = host.commit("counter").await;
    let outcome = if let Ok(outcome) = outcome { outcome } else { switched.outcome.await.unwrap() };
    let Outcome::RolledBack { why, replayed, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(replayed, 1, "{why}");
    assert!(why.contains("trap"), "{why}");
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("8"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_critical_after_the_switch_is_rolled_back_by_itself() {
    let mut world = World::new();
    world.put("counter", "counter-v1").write("counter.toml", "[upgrade]\nhealth-interval = \"20ms\"\n");
    let host = world.up().await;
    call(&host, "counter", r#"{"add":7}"#).await.unwrap();
    let switched = host.upgrade("counter", guest("fault-critical"), LONG).await.unwrap();
    assert_eq!(call(&host, "counter", "add").await.as_deref(), Ok("8"), "the answer that was given stands");
    let Ok(Outcome::RolledBack { why, replayed, .. }) = switched.outcome.await else { panic!("it was kept") };
    assert!(why.contains("critical: unwell after 1 messages"), "{why}");
    assert_eq!(replayed, 1);
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("8"));
    assert_eq!(host.worker("counter").unwrap().status().revision.0, 1);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_traps_on_its_third_message_is_rolled_back_with_all_three() {
    let mut world = World::new();
    world.put("counter", "counter-v1");
    let host = world.up().await;
    call(&host, "counter", r#"{"add":7}"#).await.unwrap();
    let switched = host.upgrade("counter", guest("fault-third"), LONG).await.unwrap();
    host.cast("counter", "add".into()).unwrap();
    host.cast("counter", r#"{"add":10}"#.into()).unwrap();
    // The third is a call: the one before answers it, and its caller never learns of the trap.
    assert_eq!(call(&host, "counter", r#"{"add":100}"#).await.as_deref(), Ok("118"));
    let Ok(Outcome::RolledBack { replayed, .. }) = switched.outcome.await else { panic!("it was kept") };
    assert_eq!(replayed, 3);
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("118"));
    world.down().await;
}

/// On one thread: a guest that never gives way would stop everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_does_nothing_but_host_calls_or_talks_to_itself_holds_no_thread() {
    let (mut world, host) = beside("fault-host-calls", "[limits]\ndeadline = \"500ms\"\n").await;
    assert_eq!(call(&host, "fault", "myself").await.as_deref(), Ok("\"pong\""), "and goes on talking to itself");
    let handled = || host.worker("fault").unwrap().counters.handled.load(std::sync::atomic::Ordering::Relaxed);
    let before = handled();
    let all = latencies(&host, 200).await;
    until("it talks to itself all the while", async || handled() > before).await;
    assert!(all[100] < Duration::from_millis(20) && all[199] < Duration::from_millis(300), "{:?}", &all[190..]);

    host.cast("fault", "spin".into()).unwrap();
    let all = latencies(&host, 20).await;
    assert!(all[19] < Duration::from_millis(300), "{all:?}");
    assert_eq!(reason_of_exit(&host).await, ExitReason::Failed(Failure::Limit(Limit::Deadline(500))));
    runs_again(&host).await;
    neighbours_are_well(&host).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_makes_the_host_keep_more_and_more_ends_at_a_bound() {
    for (request, limit) in [("timers", "timers"), ("monitors", "facts")] {
        let (mut world, host) = beside("fault-host-calls", "[limits]\ndeadline = \"20s\"\n").await;
        let error = call(&host, "fault", request).await;
        // Monitors beyond their own bound are let go, so that the deadline or the fuel ends the loop.
        let reason = reason_of_exit(&host).await.to_string();
        let bounded = reason.contains(limit) || reason.contains("deadline") || reason.contains("fuel");
        assert!(bounded && error.is_err(), "{request}: {reason}");
        neighbours_are_well(&host).await;
        world.down().await;
    }
}
