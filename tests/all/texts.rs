//! What people are told when something is not there, or not so: why, and what helps.

use paguro_tests::guest;

use super::program::Program;

#[test]
fn a_worker_that_was_deleted_is_told_as_that() {
    let mut program = Program::with(&[("counter", "counter-v1"), ("cron", "echo")]);
    program.ok(&["stop", "counter"]);
    program.ok(&["delete", "counter"]);
    for verb in [&["call", "counter", "get"][..], &["start", "counter"], &["restart", "counter"]] {
        program.refused(verb, 1, &["`counter` was deleted", "not taken until it changes", "put it back"]);
    }
    assert!(program.ok(&["history", "counter"]).contains("deployed"), "its history is kept");
    // As it says.
    let file = program.path().join("counter.wasm");
    std::fs::remove_file(&file).expect("it is there");
    program.until("it is gone", || program.run(&["call", "counter", "get"]).err.contains("there is no worker"));
    program.write("counter.wasm", &guest("counter-v1"));
    program.until("it is back", || program.run(&["call", "counter", "get"]).out.trim() == "0");
    assert_eq!(program.terminate(), 0);
}

#[test]
fn a_supervisor_is_no_worker_and_its_keys_are_told_how_they_are_reached() {
    let mut program = Program::new();
    for folder in ["rooms", "team"] {
        std::fs::create_dir(program.path().join(folder)).expect("a directory is made");
        program.write(&format!("{folder}/a.wasm"), &guest("counter-v1"));
    }
    program.write("rooms/supervisor.toml", b"strategy = \"simple-one-for-one\"\non-demand = true\n");
    program.up();
    let newer = program.file("counter-v2");
    for verb in [&["call", "rooms", "add"][..], &["upgrade", "rooms", &newer]] {
        program.refused(verb, 1, &["`rooms` is a supervisor", "`rooms/KEY`", "replace the component"]);
    }
    program.refused(&["call", "team", "add"], 1, &["`team` is a supervisor", "paguro sup team"]);
    assert_eq!(program.number(&["call", "rooms/1", "add"]), Some(1));
    program.ok(&["stop", "rooms"]);
    program.refused(
        &["call", "rooms/1", "add"],
        1,
        &["the supervisor of `rooms/1` does not run", "paguro start rooms`"],
    );
    program.ok(&["start", "rooms"]);
    assert_eq!(program.number(&["call", "rooms/1", "add"]), Some(2));
    assert_eq!(program.terminate(), 0);
}

/// What never ran, and has no state, is not what a newer file has to be like.
#[test]
fn a_file_takes_the_place_of_one_that_never_ran() {
    let mut program = Program::with(&[("other", "echo")]);
    program.write("n.wasm", &guest("fault-init"));
    program.until("it is isolated", || program.run(&["ps"]).out.contains("isolated"));
    program.write("n.wasm", &guest("echo"));
    program.until("it answers", || program.run(&["call", "n", "x"]).out.trim() == "x");
    assert_eq!(program.terminate(), 0);
}

/// A file that is not taken leaves the host in good health no longer than it is there.
#[test]
fn a_file_that_is_rejected_shows_in_health_and_doctor() {
    let mut program = Program::with(&[("counter", "counter-v1")]);
    program.write("counter.wasm", &guest("fault-upgrade"));
    program.until("it is told", || program.run(&["health"]).code == 6);
    assert!(program.run(&["doctor"]).out.contains("called off or rolled back"));
    program.write("counter.wasm", &guest("counter-v1"));
    program.until("all is well", || program.run(&["health"]).code == 0);
    assert_eq!(program.terminate(), 0);
}

#[test]
fn times_are_never_cut_in_silence() {
    let mut program = Program::with(&[("counter", "counter-v1")]);
    let newer = program.file("counter-v2");
    program.refused(
        &["upgrade", "counter", &newer, "--probation", "25h"],
        2,
        &["cannot last 1day 1h", "1day (86400s) at the most"],
    );
    assert_eq!(program.number(&["call", "counter", "add", "--timeout", "99999999999999999s"]), Some(1));
    program.write("counter.toml", b"[limits]\ndeadline = \"5 parsecs\"\n");
    program.until("it is told which key", || program.run(&["doctor"]).out.contains("`limits.deadline` cannot be read"));
    assert_eq!(program.terminate(), 0);
}

#[test]
fn a_state_in_cbor_is_shown() {
    let mut program = Program::with(&[("state", "fault-state-as")]);
    let shown = program.run(&["state", "show", "state"]);
    assert_eq!(shown.out.trim(), r#"{"n": 7}"#, "{}", shown.err);
    assert_eq!(program.json(&["state", "show", "state"])["cbor"], r#"{"n": 7}"#);
    program.ok(&["call", "state", "\"application/octet-stream\""]);
    assert!(program.ok(&["state", "show", "state"]).contains("application/octet-stream, 4 B"));
    assert_eq!(program.terminate(), 0);
}
