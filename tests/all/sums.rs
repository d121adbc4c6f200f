//! Bounds per worker have a sum: whatever one can make the host keep, at however many others, is refused beyond the
//! host's account, the budget of a subtree and the share of a template; and neighbours serve on.

use std::sync::Arc;
use std::time::Duration;

use paguro::change::Outcome;
use paguro::control::{Host, HostOptions, RequestError};
use paguro::record::Event;
use paguro::sandbox::CallError;
use paguro_tests::{World, ask, call, event, events_of, standing, until};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// A body of one MiB in JSON.
fn large() -> Value {
    json!("x".repeat(MIB as usize - 2))
}

async fn up(world: &mut World, account: u64, places: Option<usize>) -> Arc<Host> {
    let options =
        HostOptions { account_bytes_max: Some(account), live_instances_max: places, ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.expect("the host starts");
    world.host = Some(host.clone());
    host
}

fn templates(world: &World, guest: &str, policy: &str, settings: &str) {
    world.put("t/one", guest).write("t/one.toml", settings);
    world.write("t/supervisor.toml", &format!("strategy = \"simple-one-for-one\"\non-demand = true\n{policy}"));
}

fn kept(host: &Host, holding: &str) -> u64 {
    host.memory().by[holding]
}

fn is_overloaded<T>(result: &Result<T, RequestError>) -> bool {
    matches!(result, Err(RequestError::Call { error: CallError::Overloaded, .. }))
}

fn account_full(host: &Host, wanted: &str) -> bool {
    let all = host.recorder().events().after(0).into_iter().map(|recorded| recorded.item);
    all.into_iter().any(|event| matches!(event, Event::AccountFull { holding, .. } if holding == wanted))
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_to_many_keys_fill_their_templates_share_and_no_neighbours() {
    let mut world = World::new();
    // It holds the only place and cannot sleep: what comes for the keys waits.
    world.put("a-hog", "echo").put("neighbour", "probe");
    templates(&world, "probe", "", "[limits]\nstart = \"60s\"\n");
    let host = up(&mut world, 64 * MIB, Some(2)).await;
    call(&host, "neighbour", "\"log\"").await.unwrap();
    let body = large().to_string();
    let sent: Vec<_> = (0..120).map(|n| host.cast(&format!("t/{}", n % 40), body.as_str().into())).collect();
    let (taken, refused) =
        (sent.iter().filter(|sent| sent.is_ok()).count(), sent.iter().filter(|sent| is_overloaded(sent)).count());
    // Half of the account is the template's, and half of that is for instances.
    assert_eq!(taken + refused, 120, "{:?}", sent.iter().find(|sent| sent.is_err() && !is_overloaded(sent)));
    // A key may get the neighbour's place meanwhile. What it has handled is not kept any more.
    let keys = (0..40).filter_map(|n| host.worker(&format!("t/{n}")).ok());
    let handled: u64 = keys.map(|key| key.counters.handled.load(std::sync::atomic::Ordering::Relaxed)).sum();
    assert!((12..=16 + handled as usize).contains(&taken), "{taken} were taken, {handled} of them handled");
    assert!(host.memory().used <= 64 * MIB && kept(&host, "mailboxes") <= 16 * MIB, "{:?}", host.memory());
    let full = event(&host, "it is said", |event| matches!(event, Event::AccountFull { .. })).await;
    assert_eq!(full.subject().map(ToString::to_string).as_deref(), Some("t"));
    assert_eq!(host.memory().holder, "t");
    // Others do not notice.
    host.cast("neighbour", body.as_str().into()).unwrap();
    assert_eq!(ask(&host, "neighbour", json!("log")).await.unwrap().as_array().map(Vec::len), Some(1));
    // The place is free: all that was taken is handled, and there is room again.
    host.stop_worker("a-hog").await.unwrap();
    until("all that was taken is handled", async || kept(&host, "mailboxes") < MIB).await;
    let mut handled = 0;
    for n in 0..40 {
        // Those to which nothing came are new.
        let log = ask(&host, &format!("t/{n}"), json!("log")).await.unwrap();
        handled += log.as_array().map(Vec::len).unwrap_or_default();
    }
    assert_eq!(handled, taken);
    host.cast("t/0", body.as_str().into()).unwrap();
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_keys_that_hibernate_are_counted_until_they_fire_or_are_gone() {
    let mut world = World::new();
    templates(&world, "probe", "", "hibernate-after = \"50ms\"\n");
    let host = up(&mut world, 96 * MIB, None).await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    let mut refused = None;
    for n in 0..60 {
        let key = format!("t/{n}");
        for _ in 0..2 {
            if let Err(error) = ask(&host, &key, json!({"after": [3_600_000, large()]})).await {
                refused = Some(error);
            }
        }
        if refused.is_some() {
            break;
        }
        until("it sleeps", async || standing(&host, &key) == "hibernated").await;
    }
    let refused = refused.expect("an hour of timers at sixty keys does not fit");
    // The message that asks for the timer is counted as well, where it waited.
    assert!(refused.contains("limit: budget memory") || refused == "overloaded", "{refused}");
    assert!(account_full(&host, "timers") || account_full(&host, "mailboxes"));
    let before = kept(&host, "timers");
    assert!((12 * MIB..=24 * MIB).contains(&before), "{before}");
    assert_eq!(standing(&host, "t/0"), "hibernated");
    host.stop_worker("t/0").await.unwrap();
    until("what one held is given back", async || kept(&host, "timers") <= before - 2 * MIB).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_do_not_fit_sleep_on_disk_alone_or_their_workers_stay_awake() {
    const WORKERS: usize = 24;
    let mut world = World::new();
    for n in 0..WORKERS {
        world.put(&format!("w{n}"), "probe").write(&format!("w{n}.toml"), "hibernate-after = \"50ms\"\n");
    }
    world.put("volatile", "probe").write("volatile.toml", "durability = \"none\"\n");
    // A quarter is for states of a MiB each; an instance takes several MiB while it is awake.
    let host = up(&mut world, 48 * MIB, Some(2)).await;
    let body = large().to_string();
    for n in 0..WORKERS {
        let name = format!("w{n}");
        until("it is taken", async || host.cast(&name, body.as_str().into()).is_ok()).await;
        until("it sleeps", async || {
            let handled = host.worker(&name).unwrap().counters.handled.load(std::sync::atomic::Ordering::Relaxed);
            handled > 0 && standing(&host, &name) == "hibernated"
        })
        .await;
    }
    assert!(kept(&host, "sleepers") <= 13 * MIB, "{:?}", host.memory());
    assert!(host.memory().refused > 0, "{:?}", host.memory());
    // One that is kept nowhere but in memory stays awake.
    until("it is taken", async || host.cast("volatile", body.as_str().into()).is_ok()).await;
    until("it is asked", async || ask(&host, "volatile", json!("hibernate")).await.is_ok()).await;
    for n in 0..WORKERS {
        until("it has its state", async || {
            ask(&host, &format!("w{n}"), json!("log")).await.is_ok_and(|log| log.as_array().map(Vec::len) == Some(1))
        })
        .await;
    }
    until("it has its state", async || {
        ask(&host, "volatile", json!("log")).await.is_ok_and(|log| log.as_array().map(Vec::len) == Some(1))
    })
    .await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_of_keys_are_counted_and_refused() {
    let mut world = World::new();
    world.put("keeper", "probe").write("keeper.toml", "[grants]\nchildren = true\n");
    templates(&world, "counter-v1", "", "");
    let host = up(&mut world, 32 * MIB, None).await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    let config = json!({"text": "x".repeat(MIB as usize / 2)});
    let start = |n: usize| json!({"start-child": {"template": "t", "key": n.to_string(), "config": config}});
    let mut started = 0;
    let refused = loop {
        let told = ask(&host, "keeper", start(started)).await.unwrap();
        if told.get("ok").is_none() {
            break told;
        }
        started += 1;
        assert!(started < 60, "nothing is refused");
    };
    assert!(refused.to_string().contains("no memory") || refused.to_string().contains("memory"), "{refused}");
    assert!(kept(&host, "configurations") <= 9 * MIB, "{:?}", host.memory());
    assert!(kept(&host, "configurations") >= started as u64 * MIB / 2);
    let before = kept(&host, "configurations");
    host.stop_worker("t/0").await.unwrap();
    until("it is given back", async || kept(&host, "configurations") <= before - MIB / 2).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_share_new_settings_of_their_template() {
    let mut world = World::new();
    templates(&world, "counter-v1", "", "hibernate-after = \"1h\"\n");
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    let settings = |key: &str| host.worker(key).unwrap().settings();
    for key in ["t/1", "t/2"] {
        call(&host, key, "add").await.unwrap();
    }
    assert!(Arc::ptr_eq(&settings("t/1"), &settings("t/2")));
    world.write("t/one.toml", "hibernate-after = \"2h\"\n[config]\nplan = \"pro\"\n");
    let new = async || ["t/1", "t/2"].iter().all(|key| settings(key).config.contains("pro"));
    until("both have the new settings", new).await;
    assert!(Arc::ptr_eq(&settings("t/1"), &settings("t/2")), "a copy for each is a configuration for each");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_probation_keeps_is_counted_and_ends_it_with_the_verdict_so_far() {
    let mut world = World::new();
    world.put("a", "probe").write("a.toml", "[upgrade]\nprobation = \"10m\"\n");
    let host = up(&mut world, 64 * MIB, None).await;
    let other = [paguro_tests::guest("probe"), custom_section()].concat();
    let switched = host.upgrade("a", other, None).await.unwrap();
    let body = large().to_string();
    let mut outcome = switched.outcome;
    let mut sent = 0;
    let ended = loop {
        if let Ok(ended) = outcome.try_recv() {
            break ended;
        }
        if host.cast("a", body.as_str().into()).is_ok() {
            sent += 1;
        }
        // Its log grows: it is let go of, so that it is not the instance which takes the room.
        let _ = ask(&host, "a", json!("clear")).await;
        assert!(sent < 200, "it keeps without end: {:?}", host.memory());
        assert!(kept(&host, "probation") <= 34 * MIB, "{:?}", host.memory());
    };
    assert!(matches!(&ended, Outcome::Committed { why } if why.contains("host-memory")), "{ended:?}");
    until("it is given back", async || kept(&host, "probation") == 0).await;
    world.down().await;
}

/// A custom section: another component that does the same.
fn custom_section() -> Vec<u8> {
    vec![0, 5, 1, b'x', 1, 2, 3]
}

#[tokio::test(flavor = "multi_thread")]
async fn linear_memory_is_counted_and_what_does_not_fit_ends_its_guest_with_a_true_word() {
    let mut world = World::new();
    world.put("a", "fault-memory").put("b", "counter-v1");
    let host = up(&mut world, 32 * MIB, None).await;
    let before = kept(&host, "instances");
    assert!(before >= 2 * MIB, "two workers in Rust: {:?}", host.memory());
    let told = call(&host, "a", "\"grow\"").await.unwrap_err();
    assert!(told.contains("limit: host memory"), "{told}");
    assert!(account_full(&host, "instances"));
    until("it is given back, and a new instance is there", async || {
        standing(&host, "a") == "running" && kept(&host, "instances") <= before + MIB
    })
    .await;
    assert_eq!(call(&host, "b", "add").await.as_deref(), Ok("1"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_waits_for_memory_and_is_no_failure() {
    let mut world = World::new();
    world.put("a", "probe").write("a.toml", "hibernate-after = \"50ms\"\n");
    let host = up(&mut world, 64 * MIB, Some(1)).await;
    // Its instance takes more than the one that makes room for it had.
    host.cast("a", json!("x".repeat(3 * MIB as usize)).to_string().into()).unwrap();
    let handled = || host.worker("a").unwrap().counters.handled.load(std::sync::atomic::Ordering::Relaxed);
    until("it sleeps", async || handled() == 1 && standing(&host, "a") == "hibernated").await;
    // It holds the only place: what comes for the other waits.
    world.put("hog", "echo");
    until("it runs", async || standing(&host, "hog") == "running").await;
    let waits = tokio::spawn({
        let host = host.clone();
        async move { ask(&host, "a", json!("log")).await }
    });
    until("it waits", async || host.worker("a").unwrap().waiting() == 1).await;
    let mut taken = host.account().take(paguro::base::Holding::Instances, 0).expect("nothing");
    while taken.grow(4_096) {}
    host.stop_worker("hog").await.unwrap();
    while taken.grow(4_096) {}
    event(&host, "no room", |event| matches!(event, Event::AccountFull { holding: "instances", .. })).await;
    assert!(!waits.is_finished());
    drop(taken);
    assert_eq!(waits.await.unwrap().map(|log| log.as_array().map(Vec::len)), Ok(Some(1)));
    assert!(!events_of(&host, "a").iter().any(|event| matches!(event, Event::WorkerExited { .. })));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_bounds_what_all_below_it_make_the_host_keep() {
    let mut world = World::new();
    let lean = "[limits]\nmemory = \"8MiB\"\nstart = \"60s\"\n";
    // It holds the only place and cannot sleep: what comes for the others waits.
    world.put("hog", "echo");
    let host = up(&mut world, 1 << 32, Some(1)).await;
    world.write("team/supervisor.toml", "[budget]\nmemory = \"24MiB\"\n");
    world.put("team/b", "probe").write("team/b.toml", lean).put("beside", "probe").write("beside.toml", lean);
    until("both wait", async || standing(&host, "team/b") == "starting" && standing(&host, "beside") == "starting")
        .await;
    let body = large().to_string();
    let put = |name: &str| (0..40).take_while(|_| host.cast(name, body.as_str().into()).is_ok()).count();
    let (team, beside) = (put("team/b"), put("beside"));
    assert!((9..=12).contains(&team), "{team} MiB, of a budget of 24");
    assert_eq!(beside, 40);
    let full = event(&host, "the budget", |event| matches!(event, Event::AccountFull { .. })).await;
    assert_eq!(full.subject().map(ToString::to_string).as_deref(), Some("team"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_sleep_do_not_hold_every_place() {
    let mut world = World::new();
    world.put("neighbour", "probe");
    templates(&world, "echo", "", "[limits]\nstart = \"60s\"\n");
    world.put("s/one", "counter-v1");
    world.write("s/supervisor.toml", "strategy = \"simple-one-for-one\"\non-demand = true\n");
    let host = up(&mut world, 1 << 32, Some(16)).await;
    until("the templates are there", async || {
        host.recorder().events().after(0).iter().filter(|event| event.item.kind() == "template-set").count() == 2
    })
    .await;
    for n in 0..200 {
        host.cast(&format!("t/{n}"), "x".into()).unwrap();
    }
    until("they have all that they may have", async || {
        host.workers()
            .iter()
            .filter(|worker| worker.name().as_str().starts_with("t/") && worker.status().standing.word() == "running")
            .count()
            == 8
    })
    .await;
    // One that crashed comes back, a new file starts, and so does another template's child.
    assert!(ask(&host, "neighbour", json!("trap")).await.is_err());
    until("it is back", async || ask(&host, "neighbour", json!("log")).await.is_ok()).await;
    world.put("new", "counter-v1");
    until("the new file runs", async || call(&host, "new", "add").await.is_ok()).await;
    for n in 0..40 {
        assert_eq!(call(&host, &format!("s/{n}"), "add").await.as_deref(), Ok("1"));
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_has_so_many_new_keys_in_a_second_and_others_their_own() {
    let mut world = World::new();
    world.put("a", "probe");
    templates(&world, "counter-v1", "new-keys = 2\n", "");
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    let sent: Vec<_> = (0..100).map(|n| host.cast(&format!("t/{n}"), "add".into())).collect();
    let taken = sent.iter().filter(|sent| sent.is_ok()).count();
    assert!((20..=30).contains(&taken), "{taken} of 100 at once");
    assert!(sent.iter().all(|sent| sent.is_ok() || is_overloaded(sent)));
    let refused = event(&host, "it is said", |event| matches!(event, Event::NewKeysRefused { .. })).await;
    assert_eq!(refused.to_string(), "clients asked for more than 2 new keys in a second: those beyond are refused");
    // Those that are there are no new ones, and a worker is another caller.
    assert_eq!(call(&host, "t/0", "get").await.as_deref(), Ok("1"));
    let cast = |n: usize| json!({"cast": {"to": format!("t/w{n}"), "body": "add"}});
    let mut by_worker = 0;
    for n in 0..40 {
        by_worker += usize::from(ask(&host, "a", cast(n)).await == Ok(json!({"ok": null})));
    }
    assert!((20..40).contains(&by_worker), "{by_worker}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_without_state_that_idles_ends_and_the_next_message_starts_it_anew() {
    let mut world = World::new();
    templates(&world, "echo", "idle-stop = \"200ms\"\n", "");
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    // The template's component is loaded, whatever becomes of its children.
    let loaded = kept(&host, "instances");
    assert_eq!(call(&host, "t/a", "1").await.as_deref(), Ok("1"));
    let stopped = event(&host, "it ends", |event| matches!(event, Event::StoppedIdle { .. })).await;
    assert_eq!(stopped.subject().map(ToString::to_string).as_deref(), Some("t/a"));
    until("it is gone", async || standing(&host, "t/a") == "absent").await;
    until("what it took is given back", async || kept(&host, "mailboxes") == 0 && kept(&host, "instances") == loaded)
        .await;
    let exits: Vec<Event> =
        events_of(&host, "t/a").into_iter().filter(|event| event.kind() == "worker-exited").collect();
    assert!(matches!(&exits[..], [Event::WorkerExited { reason, .. }] if reason.is_orderly()), "{exits:?}");
    assert_eq!(call(&host, "t/a", "2").await.as_deref(), Ok("2"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_to_a_child_that_ends_idle_in_that_moment() {
    let mut world = World::new();
    templates(&world, "echo", "idle-stop = \"100ms\"\n", "");
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    // Callers whose pauses are about as long as a child may idle, so that some meet its end.
    let callers = (0..16_u64).map(|caller| {
        let host = host.clone();
        tokio::spawn(async move {
            for round in 0..25_u64 {
                let said = format!("{caller}-{round}");
                assert_eq!(call(&host, &format!("t/{}", caller % 4), &said).await.as_deref(), Ok(said.as_str()));
                tokio::time::sleep(Duration::from_millis(95 + (caller * 7 + round * 3) % 30)).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let ended = host.recorder().events().after(0).iter().filter(|event| event.item.kind() == "stopped-idle").count();
    assert!(ended > 0, "none ended");
    let lost = host.recorder().events().after(0).iter().filter(|event| event.item.kind() == "dead-letter").count();
    assert_eq!(lost, 0);
    world.down().await;
}
