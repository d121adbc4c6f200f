//! Templates through the real host: children by key, on demand, from guests, a hundred thousand of
//! them, and what becomes of them when the file changes or the host ends.

use std::sync::Arc;
use std::time::Duration;

use paguro::base::{ComponentHash, ExitReason, Name};
use paguro::control::{Host, HostOptions, RequestError};
use paguro::record::Event;
use paguro::runtime::{Page, TreeError};
use paguro_tests::{World, ask, call, decisions, event, guest, standing, until};
use serde_json::json;

async fn template(guest: &str, policy: &str, settings: &str) -> (World, Arc<Host>) {
    let mut world = World::new();
    world.put("tenants/tenant", guest).write("tenants/tenant.toml", settings);
    world.write("tenants/supervisor.toml", &format!("strategy = \"simple-one-for-one\"\n{policy}"));
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    (world, host)
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_child_at_first_and_one_for_each_key_that_is_started() {
    let (mut world, host) = template("counter-v1", "", "").await;
    assert!(host.workers().is_empty());
    host.start_worker("tenants/42").await.unwrap();
    host.start_worker("tenants/7").await.unwrap();
    assert_eq!(call(&host, "tenants/42", "add").await.as_deref(), Ok("1"));
    assert_eq!(call(&host, "tenants/7", "get").await.as_deref(), Ok("0"));
    let again = host.start_worker("tenants/42").await;
    assert!(matches!(again, Err(RequestError::Tree(TreeError::Running(_)))), "{again:?}");
    let nobody = call(&host, "tenants/8", "get").await.unwrap_err();
    assert!(nobody.contains("no worker"), "{nobody}");
    // Stopped, it is forgotten; its state is kept under its name.
    host.stop_worker("tenants/42").await.unwrap();
    assert_eq!(standing(&host, "tenants/42"), "absent");
    host.start_worker("tenants/42").await.unwrap();
    assert_eq!(call(&host, "tenants/42", "get").await.as_deref(), Ok("1"));
    world.down().await;
    // Those that ran come back with the host.
    let host = world.up().await;
    until("both are back", async || {
        standing(&host, "tenants/42") == "running" && standing(&host, "tenants/7") == "running"
    })
    .await;
    assert_eq!(call(&host, "tenants/42", "get").await.as_deref(), Ok("1"));
    host.stop_worker("tenants/7").await.unwrap();
    world.down().await;
    let host = world.up().await;
    until("one is back", async || standing(&host, "tenants/42") == "running").await;
    assert_eq!(standing(&host, "tenants/7"), "absent");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_starts_a_child_on_demand_and_no_message_is_lost() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "").await;
    for _ in 0..50 {
        host.cast("tenants/new", "add".into()).unwrap();
    }
    assert_eq!(call(&host, "tenants/new", "add").await.as_deref(), Ok("51"), "in their order, each once");
    // Many at once ask for the same key: one child.
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move { call(&host, "tenants/both", "add").await })
        })
        .collect();
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(call(&host, "tenants/both", "get").await.as_deref(), Ok("20"));
    world.down().await;
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    assert_eq!(standing(&host, "tenants/both"), "absent", "nobody has asked for it yet");
    assert_eq!(call(&host, "tenants/both", "get").await.as_deref(), Ok("20"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_cannot_start_leaves_no_name_and_its_caller_is_told() {
    let (mut world, host) = template("fault-init", "on-demand = true\n", "").await;
    let failed = host.start_worker("tenants/x").await;
    assert!(matches!(failed, Err(RequestError::NotStarted { .. })), "{failed:?}");
    assert_eq!(standing(&host, "tenants/x"), "absent");
    let told = call(&host, "tenants/y", "get").await.unwrap_err();
    assert!(told.starts_with("down: trap"), "{told}");
    until("nothing is left of it", async || standing(&host, "tenants/y") == "absent").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_with_the_grant_starts_and_stops_children() {
    let (mut world, host) = template("probe", "", "").await;
    world.put("keeper", "probe").put("other", "probe").write("keeper.toml", "[grants]\nchildren = true\n");
    until("they run", async || standing(&host, "keeper") == "running" && standing(&host, "other") == "running").await;
    let start = |key: &str| json!({"start-child": {"template": "tenants", "key": key, "config": {"plan": "pro"}}});
    assert_eq!(ask(&host, "other", start("1")).await, Ok(json!({"err": "not-permitted"})));
    assert_eq!(ask(&host, "keeper", start("1")).await, Ok(json!({"ok": "tenants/1"})));
    assert_eq!(ask(&host, "keeper", start("1")).await, Ok(json!({"err": "already-started"})));
    let context = ask(&host, "tenants/1", json!("context")).await.unwrap();
    assert_eq!(context["config"], json!({"plan": "pro"}));
    assert_eq!(ask(&host, "keeper", json!({"stop-child": "tenants/1"})).await, Ok(json!(true)));
    until("it is gone", async || standing(&host, "tenants/1") == "absent").await;
    assert_eq!(ask(&host, "keeper", json!({"stop-child": "tenants/1"})).await, Ok(json!(false)));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_upgrades_the_children_that_are_there_and_new_ones_start_on_it() {
    let (mut world, host) = template("counter-v1", "", "[upgrade]\nprobation = \"0s\"\n").await;
    for key in ["tenants/1", "tenants/2"] {
        host.start_worker(key).await.unwrap();
        assert_eq!(call(&host, key, "add").await.as_deref(), Ok("1"));
    }
    let old = host.worker("tenants/1").unwrap().status().component;
    world.put("tenants/tenant", "counter-v2");
    until("both are on the new revision", async || {
        ["tenants/1", "tenants/2"].iter().all(|key| {
            let status = host.worker(key).unwrap().status();
            status.component != old && status.standing.word() == "running"
        })
    })
    .await;
    host.start_worker("tenants/3").await.unwrap();
    let component = |key: &str| host.worker(key).unwrap().status().component;
    assert_eq!(component("tenants/3"), component("tenants/1"));
    world.remove("tenants/tenant.wasm");
    until("its children are gone with the file", async || host.workers().is_empty()).await;
    world.down().await;
}

/// Keys are strangers to one another: what one of them fails at stops nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_fails_again_and_again_is_isolated_alone() {
    let (mut world, host) = template("probe", "on-demand = true\n", "").await;
    for key in ["tenants/1", "tenants/2"] {
        assert!(ask(&host, key, json!("context")).await.is_ok());
    }
    for _ in 0..2 {
        ask(&host, "tenants/1", json!("trap")).await.unwrap_err();
    }
    until("it is isolated", async || standing(&host, "tenants/1") == "isolated").await;
    let many = |event: &Event| matches!(event, Event::ManyIsolated { isolated: 1, children: 2, .. });
    event(&host, "the folder says so", many).await;
    let tenants = Name::parse("tenants").unwrap();
    let view = host.supervisor(&tenants, Page { after: None, limit: 10 }).await.unwrap();
    assert!(view.running && view.children.iter().any(|child| child.name == "tenants/2" && child.state == "running"));
    // It stays so when its folder is started anew, until somebody starts it.
    host.restart_worker("tenants").await.unwrap();
    until("the folder runs", async || ask(&host, "tenants/3", json!("context")).await.is_ok()).await;
    assert_eq!(standing(&host, "tenants/1"), "isolated");
    host.start_worker("tenants/1").await.unwrap();
    assert_eq!(standing(&host, "tenants/1"), "running");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_an_intensity_gives_up_for_all_its_keys() {
    let (mut world, host) = template("probe", "on-demand = true\nintensity = 1\n", "").await;
    for key in ["tenants/1", "tenants/2"] {
        ask(&host, key, json!("trap")).await.unwrap_err();
    }
    let gave_up = |event: &Event| matches!(event, Event::SupervisorGaveUp { .. });
    event(&host, "the folder gives up", gave_up).await;
    world.down().await;
}

/// What had a file of its own is no key of the template that its folder has become.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_became_a_template_takes_up_no_former_worker() {
    let mut world = World::new();
    world.put("tenants/a", "counter-v1").put("tenants/b", "counter-v1");
    let host = world.up().await;
    for worker in ["tenants/a", "tenants/b"] {
        until("it answers", async || call(&host, worker, "add").await.is_ok()).await;
    }
    world.down().await;
    world
        .remove("tenants/b.wasm")
        .write("tenants/supervisor.toml", "strategy = \"simple-one-for-one\"\non-demand = true\n");
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    assert_eq!(call(&host, "tenants/a", "get").await.as_deref(), Ok("0"), "the key begins anew");
    assert_eq!(call(&host, "tenants/a", "add").await.as_deref(), Ok("1"));
    world.down().await;
    // From then on it is a key, and goes on from its state.
    world.write("tenants/supervisor.toml", "strategy = \"simple-one-for-one\"\n");
    let host = world.up().await;
    until("it is back", async || standing(&host, "tenants/a") == "running").await;
    assert_eq!(call(&host, "tenants/a", "get").await.as_deref(), Ok("1"));
    assert_eq!(standing(&host, "tenants/b"), "absent");
    world.down().await;
}

/// What a key ran first.
async fn first(host: &Host, key: &str) -> String {
    host.written().await;
    let history = host.history(key).unwrap();
    history.iter().find(|revision| revision.number == 1).unwrap().component.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_start_on_the_component_before_until_the_newer_one_is_committed() {
    let probation = "[upgrade]\nprobation = \"10m\"\n";
    let (mut world, host) = template("counter-v1", "on-demand = true\n", probation).await;
    let [old, new] = ["counter-v1", "counter-v2"].map(|name| ComponentHash::of(&guest(name)));
    assert_eq!(call(&host, "tenants/1", "add").await.as_deref(), Ok("1"));
    world.put("tenants/tenant", "counter-v2");
    until("it is on trial", async || standing(&host, "tenants/1") == "probation").await;
    assert_eq!(call(&host, "tenants/2", "add").await.as_deref(), Ok("1"));
    assert_eq!(first(&host, "tenants/2").await, old.hex());
    // From there it is tried on the new one like all others.
    until("it is on trial too", async || standing(&host, "tenants/2") == "probation").await;
    // A child that is rolled back says nothing about new keys.
    assert!(host.rollback("tenants/2", None).await.unwrap().is_ok());
    assert_eq!(call(&host, "tenants/3", "add").await.as_deref(), Ok("1"));
    assert_eq!(first(&host, "tenants/3").await, old.hex());
    host.commit("tenants/1").await.unwrap();
    event(&host, "new keys follow", |event| event.kind() == "template-committed").await;
    assert_eq!(call(&host, "tenants/4", "add").await.as_deref(), Ok("1"));
    assert_eq!(first(&host, "tenants/4").await, new.hex());
    world.down().await;
}

/// A child on which a component fails stays on what it had, and is not tried again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_was_rolled_back_is_left_so() {
    let (mut world, host) = template("counter-v1", "", "[upgrade]\nprobation = \"10m\"\n").await;
    let old = ComponentHash::of(&guest("counter-v1"));
    host.start_worker("tenants/1").await.unwrap();
    world.put("tenants/tenant", "counter-v2");
    until("it is on trial", async || standing(&host, "tenants/1") == "probation").await;
    call(&host, "tenants/1", "crash").await.unwrap_err();
    until("it is back", async || host.worker("tenants/1").unwrap().status().component == old).await;
    let stays = |event: &Event| matches!(event, Event::DirectoryProblem { message, .. } if message.contains("stay on what they were"));
    event(&host, "it is told", stays).await;
    let switched = decisions(&host, "tenants/1").into_iter().filter(|action| action == "upgrade-switched").count();
    assert_eq!(switched, 1);
    // Not with its next start either.
    host.stop_worker("tenants/1").await.unwrap();
    host.start_worker("tenants/1").await.unwrap();
    assert_eq!(host.worker("tenants/1").unwrap().status().component, old);
    world.down().await;
}

/// Children that were there take over their state and are well; what fails on a new key takes them all back.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_fails_on_new_keys_is_rolled_back_for_all() {
    let probation = "[upgrade]\nprobation = \"10m\"\n";
    let (mut world, host) = template("counter-v1", "", probation).await;
    let old = ComponentHash::of(&guest("counter-v1"));
    for key in ["tenants/1", "tenants/2"] {
        host.start_worker(key).await.unwrap();
        assert_eq!(call(&host, key, "add").await.as_deref(), Ok("1"));
    }
    world.put("tenants/tenant", "fault-init-only");
    for key in ["tenants/1", "tenants/2"] {
        until("it is on trial", async || standing(&host, key) == "probation").await;
        host.commit(key).await.unwrap();
    }
    event(&host, "new keys follow", |event| event.kind() == "template-committed").await;
    host.start_worker("tenants/3").await.unwrap_err();
    event(&host, "all go back", |event| event.kind() == "template-rolled-back").await;
    for key in ["tenants/1", "tenants/2"] {
        until("it is back", async || host.worker(key).unwrap().status().component == old).await;
        assert_eq!(call(&host, key, "get").await.as_deref(), Ok("1"), "with its state");
    }
    host.start_worker("tenants/3").await.unwrap();
    assert_eq!(call(&host, "tenants/3", "add").await.as_deref(), Ok("1"));
    let told = |host: &Host| host.problems().iter().any(|found| found.message.contains("it is not used for new keys"));
    until("the doctor says so", async || told(&host)).await;
    assert_eq!(decisions(&host, "tenants/tenant"), ["upgrade-committed", "rolled-back"]);
    world.down().await;
    // It is not tried again, until the file changes.
    let host = world.up().await;
    until("they are back", async || standing(&host, "tenants/2") == "running").await;
    assert!(told(&host) && host.worker("tenants/2").unwrap().status().component == old);
    host.start_worker("tenants/4").await.unwrap();
    assert_eq!(first(&host, "tenants/4").await, old.hex());
    world.put("tenants/tenant", "counter-v2");
    until("it is on trial", async || standing(&host, "tenants/1") == "probation").await;
    assert!(!told(&host));
    world.down().await;
}

/// A trial goes on over a restart of the host: keys that have no state are on nothing but what served.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_on_trial_takes_no_key_down_over_a_restart() {
    let (mut world, host) = template("echo", "", "[upgrade]\nprobation = \"10m\"\n").await;
    for key in ["tenants/1", "tenants/2"] {
        host.start_worker(key).await.unwrap();
    }
    world.put("tenants/tenant", "fault-init");
    let stays = |event: &Event| event.kind() == "upgrade-called-off" || event.kind() == "directory-problem";
    event(&host, "it is not taken", stays).await;
    world.down().await;
    let host = world.up().await;
    for key in ["tenants/1", "tenants/2"] {
        until("it is back", async || standing(&host, key) == "running").await;
        assert_eq!(call(&host, key, "x").await.as_deref(), Ok("x"));
    }
    world.down().await;
}

/// One that does not run has passed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_run_commits_nothing_for_others() {
    let (mut world, host) = template("counter-v1", "", "[upgrade]\nprobation = \"10m\"\n").await;
    let [old, new] = ["counter-v1", "counter-v2"].map(|name| ComponentHash::of(&guest(name)));
    for key in ["tenants/1", "tenants/2"] {
        host.start_worker(key).await.unwrap();
        call(&host, key, "add").await.unwrap();
    }
    host.isolate_worker("tenants/2").await.unwrap();
    world.put("tenants/tenant", "counter-v2");
    until("one is on trial", async || standing(&host, "tenants/1") == "probation").await;
    until("the other has it", async || host.worker("tenants/2").unwrap().status().component == new).await;
    host.start_worker("tenants/3").await.unwrap();
    assert_eq!(first(&host, "tenants/3").await, old.hex());
    // The operator puts the old one back: what becomes of the trial decides nothing any more.
    world.put("tenants/tenant", "counter-v1");
    let set = |event: &Event| matches!(event, Event::TemplateSet { component, .. } if *component == old);
    until("it is the old one's again", async || {
        host.recorder().events().after(0).iter().filter(|event| set(&event.item)).count() == 2
    })
    .await;
    let _ = host.commit("tenants/1").await;
    host.start_worker("tenants/4").await.unwrap();
    assert_eq!(first(&host, "tenants/4").await, old.hex());
    assert_eq!(decisions(&host, "tenants/tenant"), [""; 0]);
    world.down().await;
    let host = world.up().await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    host.start_worker("tenants/5").await.unwrap();
    assert_eq!(first(&host, "tenants/5").await, old.hex());
    world.down().await;
}

/// Those on trial go back with the others, and one message that nobody could handle takes nobody back.
#[tokio::test(flavor = "multi_thread")]
async fn two_new_keys_that_fail_take_back_those_on_trial_too() {
    let policy = "on-demand = true\n";
    let (mut world, host) = template("counter-v1", policy, "[upgrade]\nprobation = \"10m\"\n").await;
    let old = ComponentHash::of(&guest("counter-v1"));
    for key in ["tenants/1", "tenants/2"] {
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "counter-v2");
    for key in ["tenants/1", "tenants/2"] {
        until("it is on trial", async || standing(&host, key) == "probation").await;
    }
    host.commit("tenants/1").await.unwrap();
    event(&host, "new keys follow", |event| event.kind() == "template-committed").await;
    call(&host, "tenants/evil", "crash").await.unwrap_err();
    until("it runs again", async || call(&host, "tenants/evil", "get").await.is_ok()).await;
    assert!(host.recorder().events().after(0).iter().all(|event| event.item.kind() != "template-rolled-back"));
    call(&host, "tenants/other", "crash").await.unwrap_err();
    event(&host, "all go back", |event| event.kind() == "template-rolled-back").await;
    for key in ["tenants/1", "tenants/2"] {
        until("it is back", async || host.worker(key).unwrap().status().component == old).await;
    }
    for key in ["tenants/evil", "tenants/other"] {
        until("it is there as well", async || runs(&host, key) == Some(old)).await;
    }
    // They are where they belong: nobody stays anywhere.
    let stays = |event: &Event| event.to_string().contains("stay on what they were");
    assert!(host.recorder().events().after(0).iter().all(|event| !stays(&event.item)));
    assert!(!host.problems().iter().any(|found| found.message.contains("stay on what they were")));
    world.down().await;
}

/// What a new key cannot be started on is nothing to go back to: the newer component is the mend.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_component_reaches_new_keys_where_the_older_one_starts_none() {
    let (mut world, host) = template("counter-v1", "", "[upgrade]\nprobation = \"0s\"\n").await;
    host.start_worker("tenants/1").await.unwrap();
    call(&host, "tenants/1", "add").await.unwrap();
    world.put("tenants/tenant", "fault-init-only");
    event(&host, "it is committed", |event| event.kind() == "template-committed").await;
    host.stop_worker("tenants/1").await.unwrap();
    host.start_worker("tenants/2").await.unwrap_err();
    world.put("tenants/tenant", "counter-v2");
    // A single key may be what the older one says no to.
    let tried = std::sync::atomic::AtomicUsize::new(2);
    let next = || format!("tenants/{}", tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    until("a new key starts", async || host.start_worker(&next()).await.is_ok()).await;
    world.down().await;
}

/// Keys that are killed because the host stops, or an operator says so, are not what the component failed on.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_killed_on_trial_are_not_held_against_their_component() {
    let settings = "shutdown = \"kill\"\n[upgrade]\nprobation = \"1h\"\n";
    let (mut world, host) = template("counter-v1", "", settings).await;
    host.start_worker("tenants/0").await.unwrap();
    world.put("tenants/tenant", "counter-v2");
    event(&host, "it is set", |event| event.kind() == "template-set").await;
    for key in ["tenants/1", "tenants/2", "tenants/3"] {
        until("the file is taken", async || host.worker("tenants/0").unwrap().status().revision.0 == 2).await;
        host.start_worker(key).await.unwrap();
        until("it is on trial", async || standing(&host, key) == "probation").await;
    }
    for key in ["tenants/1", "tenants/2"] {
        host.stop_worker(key).await.unwrap();
    }
    world.down().await;
    let host = world.up().await;
    assert!(host.problems().is_empty(), "{:?}", host.problems());
    host.start_worker("tenants/4").await.unwrap();
    until("it is tried again", async || standing(&host, "tenants/4") == "probation").await;
    // Nor are new keys that are killed once it is committed.
    host.commit("tenants/4").await.unwrap();
    event(&host, "new keys follow", |event| event.kind() == "template-committed").await;
    for key in ["tenants/5", "tenants/6"] {
        host.start_worker(key).await.unwrap();
        host.stop_worker(key).await.unwrap();
    }
    // Two that fail take it back, and they alone are told of.
    for key in ["tenants/7", "tenants/8"] {
        host.start_worker(key).await.unwrap();
        call(&host, key, "crash").await.unwrap_err();
    }
    let fell = event(&host, "all go back", |event| event.kind() == "template-rolled-back").await;
    assert!(fell.to_string().contains("2 new keys, the last `tenants/8`"), "{fell}");
    world.down().await;
}

/// An operator's word about one key holds until the file changes, and one that failed alone is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_upgraded_by_command_stays_so_and_one_that_failed_alone_is_told() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"0s\"\n").await;
    call(&host, "tenants/1", "add").await.unwrap();
    host.upgrade("tenants/1", guest("counter-v2"), None).await.unwrap();
    let by_command = ComponentHash::of(&guest("counter-v2"));
    let file = |host: &Host| host.worker_info(&host.worker("tenants/1").unwrap()).unwrap().file;
    until("it is committed", async || file(&host) == "override").await;
    host.stop_worker("tenants/1").await.unwrap();
    until("it is back", async || call(&host, "tenants/1", "get").await.is_ok()).await;
    assert_eq!(host.worker("tenants/1").unwrap().status().component, by_command);
    // A new file is for all.
    world.write("tenants/tenant.toml", "[upgrade]\nprobation = \"1h\"\n").put("tenants/tenant", "counter-v3");
    until("it is on trial", async || standing(&host, "tenants/1") == "probation").await;
    host.rollback("tenants/1", None).await.unwrap().ok().unwrap();
    assert!(host.problems().is_empty(), "an operator's word is no problem: {:?}", host.problems());
    world.down().await;
}

/// A key that was away when all went back goes back when it comes, though what it goes to exports less.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_away_goes_back_to_a_component_that_exports_less() {
    let (mut world, host) = template("readme-counter-c", "", "[upgrade]\nprobation = \"1h\"\n").await;
    let old = ComponentHash::of(&guest("readme-counter-c"));
    for key in ["tenants/1", "tenants/2", "tenants/late"] {
        host.start_worker(key).await.unwrap();
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "readme-counter-rs");
    for key in ["tenants/1", "tenants/2", "tenants/late"] {
        until("it is on trial", async || standing(&host, key) == "probation").await;
        host.commit(key).await.unwrap();
    }
    event(&host, "new keys follow", |event| event.kind() == "template-committed").await;
    for key in ["tenants/2", "tenants/late"] {
        host.stop_worker(key).await.unwrap();
    }
    for key in ["tenants/3", "tenants/4"] {
        host.start_worker(key).await.unwrap();
        let name = Name::parse(key).unwrap();
        let failed = ExitReason::Failed(paguro::base::Failure::Trap { message: String::new(), backtrace: Vec::new() });
        let (worker, incarnation) = (name, Default::default());
        // As if it had failed: this component has no way to.
        host.recorder().emit(Event::WorkerExited { worker, incarnation, reason: failed });
    }
    event(&host, "all go back", |event| event.kind() == "template-rolled-back").await;
    until("it is back", async || host.worker("tenants/1").unwrap().status().component == old).await;
    // An operator puts one on the refused component all the same, and means it.
    let refused = guest("readme-counter-rs");
    let by_command = ComponentHash::of(&refused);
    let upgraded = async || host.upgrade("tenants/1", refused.clone(), Some(Duration::ZERO)).await.is_ok();
    until("its way back has ended", upgraded).await;
    until("it is committed", async || standing(&host, "tenants/1") == "running").await;
    host.start_worker("tenants/2").await.unwrap();
    until("it goes back too", async || host.worker("tenants/2").unwrap().status().component == old).await;
    assert_eq!(call(&host, "tenants/2", "get").await.as_deref(), Ok("1"), "with its state");
    // Another one comes after what the first may have caused.
    host.start_worker("tenants/5").await.unwrap();
    assert_eq!(host.worker("tenants/1").unwrap().status().component, by_command, "an operator's word holds");
    // Nor is it what was refused where somebody puts the old file back.
    let set = || host.recorder().events().after(0).iter().filter(|event| event.item.kind() == "template-set").count();
    let before = set();
    world.put("tenants/tenant", "readme-counter-c");
    until("it is the file", async || set() > before).await;
    host.start_worker("tenants/late").await.unwrap();
    until("it goes back as well", async || runs(&host, "tenants/late") == Some(old)).await;
    until("without probation", async || standing(&host, "tenants/late") == "running").await;
    world.down().await;
}

/// Has a template's newer component fail on two new keys, after `committed` has passed its probation on it.
async fn fall(host: &Arc<Host>, committed: &str, fresh: [&str; 2]) {
    let count = |kind: &str| host.recorder().events().after(0).iter().filter(|event| event.item.kind() == kind).count();
    let (follow, fell) = ("template-committed", "template-rolled-back");
    let (followed, before) = (count(follow), count(fell));
    until("it is on trial", async || standing(host, committed) == "probation").await;
    host.commit(committed).await.unwrap();
    // Another one may have been committed before.
    until("new keys follow", async || count(follow) > followed || count(follow) > before).await;
    for key in fresh {
        call(host, key, "crash").await.unwrap_err();
    }
    until("all go back", async || count(fell) > before).await;
}

fn runs(host: &Host, key: &str) -> Option<ComponentHash> {
    host.worker(key).ok().map(|worker| worker.status().component)
}

/// A key that an operator had put on another component goes back to that one, and the operator's word holds again.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_overridden_is_so_again_after_the_way_back() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    let by_command = ComponentHash::of(&guest("counter-v2"));
    for key in ["tenants/1", "tenants/2"] {
        call(&host, key, "add").await.unwrap();
    }
    host.upgrade("tenants/1", guest("counter-v2"), Some(Duration::ZERO)).await.unwrap();
    until("it is committed", async || standing(&host, "tenants/1") == "running").await;
    world.put("tenants/tenant", "counter-v3");
    until("it is on trial too", async || standing(&host, "tenants/1") == "probation").await;
    fall(&host, "tenants/2", ["tenants/3", "tenants/4"]).await;
    until("it is back", async || standing(&host, "tenants/1") == "running").await;
    assert_eq!(runs(&host, "tenants/1"), Some(by_command));
    let old = ComponentHash::of(&guest("counter-v1"));
    until("all others are", async || {
        ["tenants/2", "tenants/3", "tenants/4"].iter().all(|key| runs(&host, key) == Some(old))
    })
    .await;
    assert_eq!(host.worker_info(&host.worker("tenants/1").unwrap()).unwrap().file, "override");
    assert_eq!(runs(&host, "tenants/1"), Some(by_command));
    world.down().await;
}

/// Keys leave whatever was rolled back for all, also where that was the file before the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_away_while_two_files_failed_is_on_neither() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    let old = ComponentHash::of(&guest("counter-v1"));
    for key in ["tenants/1", "tenants/2"] {
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "counter-v2");
    until("it is on trial", async || standing(&host, "tenants/2") == "probation").await;
    host.commit("tenants/2").await.unwrap();
    host.stop_worker("tenants/2").await.unwrap();
    call(&host, "tenants/late", "add").await.unwrap();
    fall(&host, "tenants/1", ["tenants/3", "tenants/4"]).await;
    until("it is back", async || runs(&host, "tenants/1") == Some(old)).await;
    world.put("tenants/tenant", "counter-v3");
    until("the next is tried", async || standing(&host, "tenants/1") == "probation").await;
    call(&host, "tenants/2", "get").await.unwrap();
    until("it follows", async || standing(&host, "tenants/2") == "probation").await;
    fall(&host, "tenants/1", ["tenants/5", "tenants/6"]).await;
    for key in ["tenants/1", "tenants/2", "tenants/5"] {
        until("it is back on what failed on nobody", async || runs(&host, key) == Some(old)).await;
        until("without another probation", async || standing(&host, key) == "running").await;
    }
    assert_eq!(call(&host, "tenants/2", "get").await.as_deref(), Ok("1"), "with its state");
    world.down().await;
}

/// An operator's upgrade of one key ends by itself, and only then is the key looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_under_an_operators_upgrade_goes_back_when_that_has_failed() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    let (old, newest) = (ComponentHash::of(&guest("counter-v1")), ComponentHash::of(&guest("counter-v2")));
    for key in ["tenants/1", "tenants/2", "tenants/3"] {
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "counter-v2");
    for key in ["tenants/1", "tenants/3"] {
        until("it is on trial", async || standing(&host, key) == "probation").await;
        host.commit(key).await.unwrap();
    }
    host.upgrade("tenants/1", guest("counter-v3"), None).await.unwrap();
    fall(&host, "tenants/2", ["tenants/4", "tenants/5"]).await;
    // And one that is put on what was refused, by somebody who means it.
    until("it is back", async || runs(&host, "tenants/3") == Some(old)).await;
    until("its way back has ended", async || host.upgrade("tenants/3", guest("counter-v2"), None).await.is_ok()).await;
    assert_eq!(standing(&host, "tenants/1"), "probation");
    host.rollback("tenants/1", None).await.unwrap().ok().unwrap();
    until("it goes back further", async || runs(&host, "tenants/1") == Some(old)).await;
    assert_eq!(call(&host, "tenants/1", "get").await.as_deref(), Ok("1"), "with its state");
    assert_eq!((runs(&host, "tenants/3"), standing(&host, "tenants/3")), (Some(newest), "probation".to_string()));
    world.down().await;
}

/// What failed too often on the newer component serves again on the older one, without an operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_isolated_on_what_failed_runs_again_after_the_way_back() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    let old = ComponentHash::of(&guest("counter-v1"));
    for key in ["tenants/1", "tenants/2", "tenants/3"] {
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "counter-v2");
    for key in ["tenants/1", "tenants/3"] {
        until("it is on trial", async || standing(&host, key) == "probation").await;
        host.commit(key).await.unwrap();
    }
    // One that is about to be isolated by itself counts as an operator's too.
    call(&host, "tenants/3", "crash").await.unwrap_err();
    host.isolate_worker("tenants/3").await.unwrap();
    while standing(&host, "tenants/1") != "isolated" {
        let _ = call(&host, "tenants/1", "crash").await;
    }
    fall(&host, "tenants/2", ["tenants/4", "tenants/5"]).await;
    until("it runs", async || standing(&host, "tenants/1") == "running").await;
    assert_eq!(runs(&host, "tenants/1"), Some(old));
    assert_eq!(call(&host, "tenants/1", "get").await.as_deref(), Ok("1"), "with its state");
    until("the other is on it too", async || runs(&host, "tenants/3") == Some(old)).await;
    assert_eq!(standing(&host, "tenants/3"), "isolated", "an operator's word holds");
    world.put("tenants/tenant", "counter-v3");
    until("a new file ends it", async || standing(&host, "tenants/3") == "running").await;
    world.down().await;
}

/// What cannot be saved is the fault of what runs: the newer file is tried when the key runs something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_older_component_cannot_save_its_state_is_brought_along_after_the_way_back() {
    let settings = "[upgrade]\nprobation = \"1h\"\n[limits]\nstate = 28\n";
    let (mut world, host) = template("counter-v1", "on-demand = true\n", settings).await;
    let (old, newest) = (ComponentHash::of(&guest("counter-v1")), ComponentHash::of(&guest("counter-v3")));
    for key in ["tenants/1", "tenants/2"] {
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "counter-v2");
    fall(&host, "tenants/2", ["tenants/3", "tenants/4"]).await;
    until("it is back", async || runs(&host, "tenants/1") == Some(old)).await;
    until("an operator puts it on what failed", async || {
        host.upgrade("tenants/1", guest("counter-v2"), Some(Duration::ZERO)).await.is_ok()
    })
    .await;
    until("it is committed", async || standing(&host, "tenants/1") == "running").await;
    call(&host, "tenants/1", r#"{"add":1000000000}"#).await.unwrap();
    world.put("tenants/tenant", "counter-v3");
    // On the way back it may stand so too, for a moment.
    until("it is on trial", async || {
        standing(&host, "tenants/1") == "probation" && runs(&host, "tenants/1") == Some(newest)
    })
    .await;
    let called_off = |event: &Event| event.kind() == "upgrade-called-off" && event.to_string().contains("state");
    event(&host, "what could not be saved is told", called_off).await;
    world.down().await;
}

/// A component that is refused before its rehearsal leaves no key on one that was rolled back for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_what_failed_goes_back_where_the_newer_file_is_refused() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    let old = ComponentHash::of(&guest("counter-v1"));
    for key in ["tenants/1", "tenants/2"] {
        call(&host, key, "add").await.unwrap();
    }
    world.put("tenants/tenant", "counter-v2");
    fall(&host, "tenants/2", ["tenants/3", "tenants/4"]).await;
    until("it is back", async || runs(&host, "tenants/1") == Some(old)).await;
    until("an operator puts it on what failed", async || {
        host.upgrade("tenants/1", guest("counter-v2"), Some(Duration::ZERO)).await.is_ok()
    })
    .await;
    until("it is committed", async || standing(&host, "tenants/1") == "running").await;
    // It exports less.
    world.put("tenants/tenant", "echo");
    until("it is on what has served", async || runs(&host, "tenants/1") == Some(old)).await;
    until("and serves", async || call(&host, "tenants/1", "get").await.is_ok()).await;
    world.down().await;
}

/// What stands in for a file that cannot be taken is no stand-in once the file is back: the next one is tried on all keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_tried_anew_after_another_had_been_broken_when_the_host_started() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    let old = ComponentHash::of(&guest("counter-v1"));
    call(&host, "tenants/1", "add").await.unwrap();
    world.put("tenants/tenant", "counter-v2");
    until("it is on trial", async || standing(&host, "tenants/1") == "probation").await;
    call(&host, "tenants/1", "crash").await.unwrap_err();
    until("it is back", async || runs(&host, "tenants/1") == Some(old)).await;
    world.put("tenants/tenant", "counter-v1");
    until("it is the same", async || {
        host.worker("tenants/1").is_ok_and(|worker| host.worker_info(&worker).unwrap().file == "same")
    })
    .await;
    world.down().await;
    world.write("tenants/tenant.wasm", "garbage");
    let host = world.up().await;
    assert_eq!(call(&host, "tenants/1", "get").await.as_deref(), Ok("1"));
    assert!(!host.problems().is_empty());
    world.put("tenants/tenant", "counter-v1").put("later", "echo");
    until("a look has ended that was certain of both", async || standing(&host, "later") == "running").await;
    assert!(host.problems().is_empty(), "{:?}", host.problems());
    world.put("tenants/tenant", "counter-v2");
    until("it is tried anew", async || standing(&host, "tenants/1") == "probation").await;
    world.down().await;
}

/// New keys start on the older component until the newer one is committed: but not where that cannot be had any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_component_reaches_new_keys_where_the_older_one_is_lost() {
    let (mut world, host) = template("counter-v1", "on-demand = true\n", "[upgrade]\nprobation = \"1h\"\n").await;
    call(&host, "tenants/1", "add").await.unwrap();
    let old = host.worker("tenants/1").unwrap().status().component;
    world.down().await;
    std::fs::remove_dir_all(world.path().join(".paguro/cache")).unwrap();
    std::fs::write(world.path().join(format!(".paguro/components/{}.wasm", old.hex())), "damaged").unwrap();
    world.put("tenants/tenant", "counter-v2");
    let host = world.up().await;
    until("a new key starts", async || call(&host, "tenants/2", "get").await.is_ok()).await;
    let template = Name::parse("tenants/tenant").unwrap();
    host.written().await;
    let entries = host.database().ledger_for(&template, 1_000).unwrap();
    assert!(entries.iter().any(|entry| entry.detail.contains("the one before cannot be loaded")), "{entries:?}");
    world.down().await;
}

/// Whoever asks what a key ran is told, whether or not it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_stopped_has_its_history() {
    let (mut world, host) = template("counter-v1", "", "").await;
    host.start_worker("tenants/1").await.unwrap();
    host.stop_worker("tenants/1").await.unwrap();
    let history = host.history("tenants/1").unwrap();
    assert_eq!(history.iter().map(|revision| (revision.number, revision.current)).collect::<Vec<_>>(), [(1, false)]);
    assert!(matches!(host.history("tenants/none"), Err(RequestError::NoKey(_))));
    world.down().await;
}

/// A template of which no key ever ran is mended by a new file: there is nothing to go back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_never_ran_takes_a_newer_component_at_once() {
    let (mut world, host) = template("fault-init", "", "").await;
    host.start_worker("tenants/1").await.unwrap_err();
    world.put("tenants/tenant", "counter-v1");
    until("it starts", async || host.start_worker("tenants/1").await.is_ok()).await;
    world.down().await;
}

/// All keys of a folder are told to stop at once, and share one shutdown time.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_stop_are_killed_together() {
    const KEYS: u32 = 8;
    let time = Duration::from_millis(300);
    let stubborn = "shutdown = \"300ms\"\n[limits]\nfuel = 9000000000000\n";
    let (mut world, host) = template("fault-stubborn", "", stubborn).await;
    for key in 0..KEYS {
        host.start_worker(&format!("tenants/{key}")).await.unwrap();
    }
    let begun = std::time::Instant::now();
    host.stop_worker("tenants").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= time && took < time * (KEYS - 2), "{took:?}");
    let killed = host.recorder().events().after(0).into_iter();
    let killed = killed.filter(|event| matches!(event.item, Event::WorkerExited { reason: ExitReason::Killed, .. }));
    assert_eq!(killed.count(), KEYS as usize);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_to_be_killed_are_not_asked() {
    let (mut world, host) = template("fault-stubborn", "", "shutdown = \"kill\"\n").await;
    for key in ["tenants/1", "tenants/2"] {
        host.start_worker(key).await.unwrap();
    }
    let tenants = Name::parse("tenants").unwrap();
    let view = host.supervisor(&tenants, Page { after: None, limit: 10 }).await.unwrap();
    // As the template says.
    let specs = view.children.iter().map(|child| (child.restart.as_str(), child.shutdown.as_str(), child.significant));
    assert_eq!(specs.collect::<Vec<_>>(), [("permanent", "kill", false); 2]);
    let begun = std::time::Instant::now();
    host.stop_worker("tenants").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_come_in_pages() {
    let (mut world, host) = template("counter-v1", "", "durability = \"none\"\n").await;
    for n in 0..25 {
        host.start_worker(&format!("tenants/{n:02}")).await.unwrap();
    }
    let tenants = Name::parse("tenants").unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = host.supervisor(&tenants, Page { after, limit: 10 }).await.unwrap();
        assert_eq!((page.counts.specs, page.counts.workers, page.counts.active), (1, 25, 25));
        seen.extend(page.children.into_iter().map(|child| child.name));
        let Some(next) = page.next else { break };
        after = Some(Name::parse(&next).unwrap());
    }
    seen.sort();
    assert_eq!(seen.len(), 25);
    seen.dedup();
    assert_eq!(seen.len(), 25);
    world.down().await;
}

/// A key that goes on with a component which is not in memory: its first caller waits until it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_caller_of_a_key_waits_for_its_older_component() {
    let (mut world, host) = template("counter-v2", "on-demand = true\n", "").await;
    until("it answers", async || call(&host, "tenants/a", "add").await.is_ok()).await;
    host.stop_worker("tenants/a").await.unwrap();
    host.stop().await;
    world.put("tenants/tenant", "counter-v3");
    let host = world.up().await;
    until("the template is there", async || call(&host, "tenants/b", "get").await.is_ok()).await;
    let answer = call(&host, "tenants/a", "get").await;
    assert!(answer.as_ref().is_ok_and(|answer| answer.contains('1')), "{answer:?}");
    world.down().await;
}

/// Each exports its state, so that the host can put to sleep those it has no room for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_children_are_started_asked_and_stopped() {
    const CHILDREN: usize = 100_000;
    let settings = "durability = \"none\"\n[limits]\nmemory = \"4MiB\"\n";
    let mut world = World::new();
    world.put("tenants/tenant", "counter-v1").write("tenants/tenant.toml", settings);
    world.write("tenants/supervisor.toml", "strategy = \"simple-one-for-one\"\n");
    // Other tests in this process need maps of memory too.
    let options = HostOptions { live_instances_max: Some(2_000), ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.expect("the host starts");
    world.host = Some(host.clone());
    event(&host, "the template", |event| event.kind() == "template-set").await;
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let lanes: Vec<_> = (0..32)
        .map(|_| {
            let (host, next) = (host.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= CHILDREN {
                        return;
                    }
                    host.start_worker(&format!("tenants/{n}")).await.unwrap();
                    if n.is_multiple_of(1_000) {
                        let body = call(&host, &format!("tenants/{n}"), "add").await;
                        assert_eq!(body.as_deref(), Ok("1"));
                    }
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let tenants = Name::parse("tenants").unwrap();
    let view = host.supervisor(&tenants, Page { after: None, limit: 1 }).await.unwrap();
    assert_eq!((view.counts.specs, view.counts.workers, view.counts.active), (1, CHILDREN, CHILDREN));
    // The first ones sleep by now, and wake with what they were told.
    assert_eq!(call(&host, "tenants/1000", "get").await.as_deref(), Ok("1"));
    // A name that nobody has is looked for among a few hundred, which takes no time that others would feel.
    let took = (0..5).map(|_| {
        let begun = std::time::Instant::now();
        assert!(host.worker("tenants/nobody").is_err());
        begun.elapsed()
    });
    let took = took.min().expect("five");
    assert!(took < Duration::from_millis(50), "{took:?}");
    let begun = std::time::Instant::now();
    host.stop_worker("tenants").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(host.workers().is_empty());
    let killed =
        host.recorder().events().after(0).into_iter().any(|recorded| {
            matches!(recorded.item, Event::WorkerExited { reason: paguro::base::ExitReason::Killed, .. })
        });
    assert!(!killed, "all stopped within their shutdown time");
    world.down().await;
}
