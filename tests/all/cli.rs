//! The program from outside: each verb, what bad input gets, and what is left after a crash.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use paguro_tests::guest;
use serde_json::json;

use crate::program::{Program, paguro, refused, told};

#[test]
fn each_verb_does_what_it_says() {
    let mut program = Program::with(&[("counter", "counter-v1"), ("probe", "probe")]);
    let (v2, state) = (program.file("counter-v2"), program.beside("state").display().to_string());
    assert_eq!(program.ok(&["call", "counter", r#"{"add":41}"#]).trim(), "41");
    program.ok(&["cast", "counter", "add"]);
    program.until("the cast is handled", || program.ok(&["call", "counter", "get"]).trim() == "42");

    let ps = program.json(&["ps"]);
    assert_eq!(
        (&ps[0]["name"], &ps[0]["state"], &ps[0]["revision"]),
        (&json!("counter"), &json!("running"), &json!(1))
    );
    assert!(program.ok(&["ps"]).contains("counter"));
    assert_eq!(program.json(&["tree"])["children"][1]["name"], "probe");
    assert!(program.ok(&["tree"]).contains("one-for-one"));

    assert_eq!(program.json(&["check", &v2])["kind"], "worker");
    assert_eq!(program.json(&["check", &v2, "--against", "counter"])["fits"], true);
    let dry = program.json(&["upgrade", "counter", &v2, "--dry-run"]);
    assert_eq!((&dry["outcome"], &dry["rehearsal"]["schema_after"]), (&json!("rehearsed"), &json!(2)));
    let upgraded = program.json(&["upgrade", "counter", &v2, "--probation", "1h"]);
    assert_eq!((&upgraded["outcome"], &upgraded["revision"]), (&json!("probation"), &json!(2)));
    assert_eq!(program.json(&["ps"])[0]["state"], "probation");
    assert_eq!(program.json(&["rollback", "counter"])["outcome"], "rolled-back");
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "42");
    program.ok(&["upgrade", "counter", &v2, "--probation", "1h"]);
    assert_eq!(program.json(&["commit", "counter"])["outcome"], "committed");
    let verdicts: Vec<_> =
        program.json(&["history", "counter"]).as_array().unwrap().iter().map(|r| r["verdict"].clone()).collect();
    assert_eq!(verdicts, ["superseded", "rolled-back", "committed"]);
    let back = program.json(&["rollback", "counter", "--to", "1"]);
    assert_eq!(back["outcome"], "probation", "an earlier revision is upgraded to, with the state");
    program.ok(&["commit", "counter"]);
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "42");

    assert_eq!(program.json(&["state", "show", "counter"])["json"]["count"], 42);
    program.ok(&["state", "export", "counter", "-o", &state]);
    program.ok(&["call", "counter", "add"]);
    program.ok(&["state", "import", "counter", &state]);
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "42");

    program.ok(&["stop", "counter"]);
    assert_eq!(program.json(&["ps"])[0]["state"], "down");
    program.ok(&["start", "counter"]);
    program.ok(&["restart", "counter"]);
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "42");

    program.ok(&["call", "probe", r#"{"log-line":"said by a probe"}"#]);
    assert!(program.ok(&["logs", "probe"]).contains("said by a probe"));
    assert!(program.json_lines(&["logs"]).iter().any(|line| line["text"] == "said by a probe"));
    let events = program.json_lines(&["events"]);
    for kind in ["host-started", "upgrade-switched", "rolled-back", "upgrade-committed", "worker-stopped"] {
        assert!(events.iter().any(|event| event["kind"] == kind), "{kind}");
    }
    let ledger = program.json(&["ledger", "--worker", "counter"]);
    for action in ["deployed", "upgrade-committed", "rolled-back", "state-imported"] {
        assert!(ledger.as_array().unwrap().iter().any(|entry| entry["action"] == action), "{action}");
    }
    assert!(program.json(&["doctor"]).as_array().unwrap().iter().all(|finding| finding["verdict"] != "error"));
    assert!(program.ok(&["completions", "bash"]).contains("paguro"));
    assert_eq!(program.terminate(), 0);
}

#[test]
fn a_directory_that_is_none_is_named() {
    let program = Program::new();
    let missing = program.beside("none");
    let up = |dir: &std::path::Path| told(&mut paguro(&["up"], dir));
    refused(&up(&missing), &["up"], 1, &["there is no directory", "mkdir"]);
    let file = program.beside("file");
    std::fs::write(&file, "x").unwrap();
    refused(&up(&file), &["up"], 1, &["is not a directory"]);
    refused(&told(&mut paguro(&["ps"], &missing)), &["ps"], 3, &["does not exist", "paguro up"]);
    program.refused(&["ps"], 3, &["no host runs on it", "paguro up"]);
    assert!(!program.path().join(".paguro").exists(), "who only asks leaves nothing");
}

#[test]
fn a_second_host_is_told_who_runs_there() {
    let program = Program::with(&[("counter", "counter-v1")]);
    program.refused(&["up"], 1, &["is in use by process", &program.pid().to_string()]);
    assert_eq!(program.ok(&["call", "counter", "add"]).trim(), "1", "the first goes on");
}

#[test]
fn a_database_of_a_newer_version_is_left_as_it_is() {
    let mut program = Program::with(&[("counter", "counter-v1")]);
    program.ok(&["call", "counter", "add"]);
    program.terminate();
    let path = program.path().join(".paguro/paguro.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let own = bytes[60..64].to_vec();
    // `PRAGMA user_version`, big-endian, in SQLite's header.
    bytes[60..64].copy_from_slice(&1_000_000_u32.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    program.refused(&["up"], 1, &["newer", "--state"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was changed");
    bytes[60..64].copy_from_slice(&own);
    std::fs::write(&path, &bytes).unwrap();
    program.up();
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "1");
}

#[test]
fn what_belongs_to_the_owner_is_nobody_elses() {
    let program = Program::with(&[("counter", "counter-v1")]);
    let mode = |file: &str| std::fs::metadata(program.path().join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".paguro"), 0o700);
    assert_eq!(mode(".paguro/cache"), 0o700);
    assert_eq!(mode(".paguro/paguro.sock"), 0o600);
    assert_eq!(mode(".paguro/paguro.db") & 0o077, 0);
}

#[test]
fn bad_input_gets_one_clear_error_and_changes_nothing() {
    let program = Program::new();
    program.write("counter.toml", b"[limits]\npayload = \"1KiB\"\n[upgrade]\nprobation = \"1h\"\n");
    program.write("counter.wasm", &guest("counter-v1"));
    let mut program = program;
    program.up();
    program.ok(&["call", "counter", r#"{"add":7}"#]);
    let (v1, v2) = (program.file("counter-v1"), program.file("counter-v2"));
    let [huge, large, text] = ["huge.wasm", "large", "text"].map(|file| program.beside(file));
    // Sparse: takes no space on the disk.
    File::create(&huge).unwrap().set_len(200 << 20).unwrap();
    std::fs::write(&large, "x".repeat(2_000)).unwrap();
    std::fs::write(&text, "no component").unwrap();
    let [huge, large, text] = [huge, large, text].map(|path| path.display().to_string());
    let body = format!("@{large}");

    program.refused(&["call", "countr", "get"], 1, &["there is no worker", "did you mean `counter`"]);
    program.refused(&["call", "../x", "get"], 2, &["no name"]);
    program.refused(&["call", "counter", &body], 1, &["too large", "limits"]);
    program.refused(&["cast", "counter", &body], 1, &["too large"]);
    program.refused(&["call", "counter", "@/nowhere"], 2, &["/nowhere", "no such file"]);
    program.refused(&["call", "counter", "nonsense"], 1, &["rejected"]);
    program.refused(&["call", "counter", "crash"], 1, &["ended before it answered", "trap"]);
    program.until("it runs again", || program.run(&["call", "counter", "get"]).code == 0);
    program.ok(&["state", "show", "counter"]);
    for verb in ["check", "upgrade"] {
        for (file, words) in [(&huge, "too large"), (&text, "not WebAssembly")] {
            let args: &[&str] = if verb == "check" { &[verb, file] } else { &[verb, "counter", file] };
            program.refused(args, 1, &[words]);
        }
    }
    program.refused(&["check", "/nowhere"], 2, &["no such file"]);
    program.refused(&["upgrade", "counter", &v1], 1, &["runs this component already"]);
    program.refused(&["rollback", "counter"], 1, &["nothing to roll", "back"]);
    program.refused(&["rollback", "counter", "--to", "9"], 1, &["no revision 9"]);
    program.refused(&["commit", "counter"], 1, &["not in probation"]);
    program.refused(&["start", "counter"], 1, &["counter"]);
    program.refused(&["nonsense"], 2, &["unrecognized"]);
    program.refused(&["upgrade", "counter"], 2, &["<FILE>"]);
    let history = program.json(&["history", "counter"]);
    assert_eq!(history.as_array().unwrap().len(), 1, "nothing half done: {history}");

    program.ok(&["upgrade", "counter", &v2]);
    program.refused(&["upgrade", "counter", &program.file("counter-v3")], 1, &["under way", "in probation"]);
    assert_eq!(program.json(&["ps"])[0]["state"], "probation");
    // Unreadable: told, and left.
    std::fs::set_permissions(&v1, Permissions::from_mode(0o000)).unwrap();
    if File::open(&v1).is_err() {
        program.refused(&["check", &v1], 2, &["no permission"]);
    }
}

#[test]
fn of_two_upgrades_at_once_one_is_refused() {
    let program = Program::with(&[("counter", "counter-v1")]);
    let files = [program.file("counter-v2"), program.file("counter-v3")];
    let both = std::thread::scope(|scope| {
        let run = |file: &str| program.run(&["upgrade", "counter", file, "--probation", "1h"]);
        let tasks = files.each_ref().map(|file| scope.spawn(move || run(file)));
        tasks.map(|task| task.join().unwrap())
    });
    let (done, refusals): (Vec<_>, Vec<_>) = both.iter().partition(|told| told.code == 0);
    assert_eq!((done.len(), refusals.len()), (1, 1), "{both:?}");
    refused(refusals[0], &["upgrade"], 1, &["under way"]);
    assert_eq!(program.json(&["history", "counter"]).as_array().unwrap().len(), 2);
}

#[test]
fn an_upgrade_that_comes_to_nothing_ends_with_four() {
    let mut program = Program::new();
    program.write("counter.toml", b"[upgrade]\nhealth-interval = \"20ms\"\n");
    program.write("counter.wasm", &guest("counter-v1"));
    program.up();
    program.ok(&["call", "counter", r#"{"add":7}"#]);
    let (bad, critical) = (program.file("fault-upgrade"), program.file("fault-critical"));
    program.refused(&["upgrade", "counter", &bad], 4, &["called off", "trap"]);
    program.refused(&["upgrade", "counter", &bad, "--dry-run"], 4, &["called off", "trap"]);
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| program.run(&["upgrade", "counter", &critical, "--wait"]));
        program.until("it is in probation", || program.json(&["ps"])[0]["state"] == "probation");
        program.ok(&["call", "counter", "add"]);
        waiting.join().unwrap()
    });
    refused(&waited, &["upgrade"], 4, &["rolled back", "critical"]);
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "8");
}

#[test]
fn a_stop_in_order_saves_the_state() {
    let mut program = Program::with(&[("counter", "counter-v1")]);
    program.ok(&["call", "counter", r#"{"add":7}"#]);
    assert_eq!(program.terminate(), 0);
    program.refused(&["ps"], 3, &["no host"]);
    program.up();
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "7");
}

#[test]
fn a_host_that_is_killed_in_probation_comes_back_on_the_old_revision() {
    let mut program = Program::new();
    program.write("counter.toml", b"[snapshot]\nmessages = 1\n");
    program.write("counter.wasm", &guest("counter-v1"));
    program.up();
    program.ok(&["call", "counter", r#"{"add":7}"#]);
    program.ok(&["upgrade", "counter", &program.file("counter-v2"), "--probation", "1h"]);
    program.ok(&["call", "counter", "add"]);
    program.kill();
    program.up();
    let ps = program.json(&["ps"]);
    assert_eq!((&ps[0]["revision"], &ps[0]["state"]), (&json!(1), &json!("running")));
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "7", "the state from before the switch");
    let ledger = program.json(&["ledger", "--worker", "counter"]);
    let recovered = ledger.as_array().unwrap().iter().find(|entry| entry["action"] == "recovered").expect("it says so");
    assert!(recovered["detail"].as_str().unwrap().contains("probation of revision 2"), "{recovered}");
    assert_eq!(program.json(&["history", "counter"])[1]["verdict"], "interrupted");
    assert!(program.json_lines(&["events"]).iter().any(|event| event["kind"] == "recovered"));
}

#[test]
fn a_host_that_is_killed_during_calls_keeps_what_was_saved() {
    let mut program = Program::new();
    program.write("counter.toml", b"[snapshot]\nmessages = 1\n");
    program.write("counter.wasm", &guest("counter-v1"));
    program.up();
    let bad = program.file("fault-upgrade");
    let mut count = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            program.ok(&["call", "counter", "add"]);
        }
        // A decision is durable when it is told, and what was queued before it is so as well.
        program.refused(&["upgrade", "counter", &bad], 4, &["called off"]);
        let saved = count + 5;
        let answered = std::thread::scope(|scope| {
            let program = &program;
            let add = || program.run(&["call", "counter", "add"]).code == 0;
            let clients: Vec<_> =
                (0..2).map(|_| scope.spawn(move || (0..).take_while(|_| add()).count() as u64)).collect();
            let enough = || program.number(&["call", "counter", "get"]) >= Some(saved + 20);
            program.until("enough calls were answered", enough);
            program.kill_now();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<u64>()
        });
        program.reap();
        program.up();
        count = program.number(&["call", "counter", "get"]).expect("it answers");
        assert!(count >= saved, "{count}, where {saved} were saved");
        // Each client may have had one call that was counted and whose answer never left.
        assert!(count <= saved + answered + 2, "{count}, where {} were answered", saved + answered);
    }
    let ledger = program.json(&["ledger"]);
    let ledger = ledger.as_array().unwrap();
    assert_eq!(ledger.iter().filter(|entry| entry["action"] == "host-started").count(), 4);
    assert_eq!(ledger.iter().filter(|entry| entry["action"] == "host-stopped").count(), 0);
}

/// Resident bytes of a process, and the most they have ever been.
fn resident(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    (kib("VmRSS:"), kib("VmHWM:"))
}

#[test]
fn the_memory_of_one_that_took_too_much_comes_back() {
    let mut program = Program::new();
    program.write("fault.toml", b"[limits]\nmemory = \"256MiB\"\n");
    program.write("supervisor.toml", b"intensity = 100\n[backoff]\ninitial = \"1ms\"\n");
    program.write("fault.wasm", &guest("fault-memory"));
    program.write("echo.wasm", &guest("echo"));
    program.up();
    program.ok(&["call", "fault", "ping"]);
    let (before, _) = resident(program.pid());
    for _ in 0..3 {
        program.refused(&["call", "fault", "grow"], 1, &["limit: memory, 256.0 MiB"]);
        program.until("it runs again", || program.run(&["call", "fault", "ping"]).code == 0);
    }
    assert_eq!(program.ok(&["call", "echo", "x"]).trim(), "x");
    let (_, most) = resident(program.pid());
    assert!(most > before + (200 << 20), "it was really taken: {before} before, {most} at most");
    program.until("the memory is back", || resident(program.pid()).0 < before + (16 << 20));
}
