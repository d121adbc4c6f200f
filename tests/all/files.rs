//! Files that others swap, two hosts on one directory, and what is left on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use paguro::base::{Clock, ComponentHash, Name};
use paguro::control::{Host, HostError, HostOptions};
use paguro::record::{Action, Database};
use paguro_tests::{World, guest, standing, until};
use serde_json::Value;

use crate::program::{Program, paguro, refused, told};

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("there is mkfifo").success());
}

/// Files below a directory, as paths from there.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_swapped_while_the_host_looks_holds_nobody_up() {
    let mut world = World::new();
    let host = world.up().await;
    let beside = world.path().parent().unwrap().to_path_buf();
    for name in ["pipe.wasm", "pipe.toml"] {
        fifo(&beside.join(name));
    }
    let tree = world.path();
    let swapping = tokio::task::spawn_blocking(move || {
        for turn in 0..4_000 {
            for file in ["swapped.wasm", "swapped.toml"] {
                let (part, path) = (beside.join("part"), tree.join(file));
                let _ = fs::remove_file(&part);
                let kind = turn % 3;
                let made = match kind {
                    0 => fs::write(&part, if file.ends_with("wasm") { guest("echo") } else { Vec::new() }),
                    1 => fs::hard_link(beside.join(format!("pipe.{}", file.rsplit('.').next().unwrap())), &part),
                    _ => std::os::unix::fs::symlink(beside.join("pipe.wasm"), &part),
                };
                made.and_then(|()| fs::rename(&part, &path)).unwrap();
            }
        }
    });
    swapping.await.unwrap();
    world.put("good", "echo");
    until("a file that comes then is taken", async || standing(&host, "good") == "running").await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_on_one_directory_are_refused_whatever_their_states() {
    let mut world = World::new();
    world.put("echo", "echo");
    world.up().await;
    let elsewhere = world.path().parent().unwrap().join("elsewhere");
    let second = || Host::start(HostOptions { state: Some(elsewhere.clone()), ..HostOptions::new(world.path()) });
    let error = second().await.err().expect("it is refused");
    assert!(matches!(error, HostError::InUse(_)), "{error}");
    assert!(error.to_string().contains("is in use by "), "{error}");
    assert!(!elsewhere.exists(), "the second leaves no trace");
    let first = world.host.clone().unwrap();
    first.stop().await;
    second().await.expect("the first is gone").stop().await;
    world.down().await;
}

#[test]
fn the_program_says_who_has_the_directory_and_what_to_do() {
    let program = Program::with(&[("echo", "echo")]);
    let state = program.beside("elsewhere").display().to_string();
    let args = ["up", "--state", &state];
    let told = told(&mut paguro(&args, &program.path()));
    refused(&told, &args, 1, &["is in use by ", "stop that host first"]);
}

#[test]
fn a_short_token_is_refused_before_anything_starts() {
    let program = Program::new();
    program.write("echo.wasm", &guest("echo"));
    for args in [&["up", "--listen", "127.0.0.1:0", "--token", "short"][..], &["up", "--listen", "127.0.0.1:0"]] {
        let told = told(&mut paguro(args, &program.path()));
        refused(&told, args, 2, &["token"]);
        assert!(!program.path().join(".paguro").exists(), "nothing has started");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_a_token_is_refused_before_anything_starts() {
    let world = World::new();
    let options = paguro::control::UpOptions {
        dir: world.path(),
        state: None,
        listen: Some(([127, 0, 0, 1], 0).into()),
        token: Some("short".to_string()),
        compilers_bytes_max: None,
        connections: None,
        memory: None,
        fresh: false,
        raise_descriptors: false,
        log: Box::new(|_| {}),
    };
    let error = paguro::control::up(options).await.expect_err("it is refused");
    assert!(error.cause().unwrap_or_default().contains("16 characters"), "{error}");
    assert!(!world.path().join(".paguro").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_leaves_nothing_behind() {
    let mut world = World::new();
    world.put("counter", "counter-v1");
    let host = world.up().await;
    let state = world.path().join(".paguro");
    let kept = || [below(&state.join("cache")), below(&state.join("components"))].concat();
    let entries = || host.database().ledger_last().unwrap().map(|entry| entry.seq);
    let before = (kept(), entries());
    assert_eq!(before.0.len(), 2, "{before:?}");
    host.check(guest("counter-v2"), None).await.unwrap();
    assert_eq!((kept(), entries()), before);
    host.check(guest("counter-v2"), Some("counter")).await.unwrap().against.unwrap().unwrap();
    assert_eq!((kept(), entries()), before, "with a rehearsal");
    host.dry_run("counter", guest("counter-v2")).await.unwrap();
    assert_eq!((kept(), entries()), before, "a dry run");
    host.check(guest("counter-v1"), None).await.unwrap();
    assert_eq!((kept(), entries()), before, "what the host has stays");
    host.check(guest("fault-wrong-types"), None).await.unwrap_err();
    assert_eq!((kept(), entries()), before, "what does not fit");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_goes_with_its_component() {
    let mut world = World::new();
    world.put("echo", "echo");
    world.up().await;
    let cache = world.path().join(".paguro/cache");
    let engine = below(&cache)[0].parent().unwrap().to_path_buf();
    world.down().await;
    let gone = ComponentHash::of(b"gone");
    fs::write(engine.join(format!("{gone}.cwasm")), "code").unwrap();
    let names = || below(&cache).iter().map(|path| path.file_stem().unwrap().to_owned()).collect::<Vec<_>>();
    world.up().await;
    assert_eq!(names(), [ComponentHash::of(&guest("echo")).hex().as_str()]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_loop_decides_is_counted_in_the_ledger() {
    let mut world = World::new();
    world
        .put("keys/template", "echo")
        .write("keys/supervisor.toml", "strategy = \"simple-one-for-one\"\non-demand = true\n");
    let host = world.up().await;
    until("there is a template", async || host.start_worker("keys/k0").await.is_ok()).await;
    for key in 1..200 {
        host.start_worker(&format!("keys/k{key}")).await.unwrap();
        host.stop_worker(&format!("keys/k{key}")).await.unwrap();
    }
    let entries = |host: &Host| host.database().ledger(0, 10_000).unwrap();
    let about: Vec<_> = entries(&host).into_iter().filter(|entry| entry.action == Action::Deployed).collect();
    assert_eq!(about.len(), 1, "the rest is counted");
    world.down().await;
    let database = Database::open(&world.path().join(".paguro/paguro.db"), Clock::system()).unwrap();
    let told = database.ledger_for(&Name::parse("keys").unwrap(), 100).unwrap();
    let deployed: Vec<_> = told.iter().filter(|entry| entry.action == Action::Deployed).collect();
    assert_eq!(deployed.len(), 1);
    assert!(deployed[0].detail.starts_with("199 more within a minute, the last: k199"), "{}", deployed[0].detail);
    database.verify_ledger().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_stops_do_not_make_the_database_grow() {
    let mut world = World::new();
    world.put("echo", "echo");
    world.put("keys/template", "echo").write("keys/supervisor.toml", "strategy = \"simple-one-for-one\"\n");
    let pairs = async |world: &mut World, count: usize| {
        let host = world.up().await;
        // The key of the run before comes back by itself.
        until("the key runs", async || {
            let _ = host.start_worker("keys/a").await;
            standing(&host, "keys/a") == "running"
        })
        .await;
        host.stop_worker("keys/a").await.unwrap();
        for _ in 0..count {
            for name in ["echo", "keys/a"] {
                host.stop_worker(name).await.ok();
                host.start_worker(name).await.unwrap();
            }
        }
        world.down().await;
        fs::metadata(world.path().join(".paguro/paguro.db")).unwrap().len()
    };
    let before = pairs(&mut world, 1).await;
    let after = pairs(&mut world, 500).await;
    assert!(after - before <= 16 << 10, "{} bytes for 1,000 pairs", after - before);
}

#[test]
fn a_ledger_is_trimmed_to_what_was_exported_and_can_be_checked_still() {
    let mut program = Program::with(&[("counter", "counter-v1")]);
    for guest_name in ["counter-v2", "counter-v1", "counter-v2"] {
        program.ok(&["upgrade", "counter", &program.file(guest_name), "--probation", "0s"]);
    }
    let before = program.json(&["ledger"]);
    let before = before.as_array().unwrap();
    let file = program.beside("ledger.jsonl");
    let path = file.display().to_string();
    program.ok(&["ledger", "trim", &path, "--keep", "3"]);
    let exported: Vec<Value> =
        fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(exported, before[..before.len() - 3], "all but the last three");
    let after = program.json(&["ledger"]);
    let after = after.as_array().unwrap();
    assert_eq!(after[..3], before[before.len() - 3..]);
    assert_eq!((after.len(), after[3]["action"].as_str()), (4, Some("ledger-trimmed")));
    let digest = exported.last().unwrap()["digest"].as_str().unwrap();
    assert!(after[3]["detail"].as_str().unwrap().contains(digest), "{}", after[3]);
    program.ok(&["doctor"]);
    program.refused(&["ledger", "trim", &path], 1, &["cannot be made"]);
    // A start continues the chain.
    program.terminate();
    program.up();
    program.ok(&["doctor"]);
    let all = program.beside("all.jsonl").display().to_string();
    program.ok(&["ledger", "trim", &all]);
    assert_eq!(program.json(&["ledger"]).as_array().unwrap().len(), 1);
    program.ok(&["doctor"]);
}
