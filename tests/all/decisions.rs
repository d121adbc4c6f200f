//! Decisions are found: in the ledger, the history and the events, at once and after a kill.

use paguro_tests::guest;
use serde_json::Value;

use crate::program::Program;

fn program() -> Program {
    let program = Program::with(&[("counter", "counter-v1")]);
    program.until("it runs", || program.run(&["call", "counter", "\"get\""]).code == 0);
    program
}

/// Action and author of each entry about a worker, in order.
fn ledger(program: &Program, name: &str) -> Vec<(String, String)> {
    let entries = program.json(&["ledger", "--worker", name]);
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_string();
    entries.as_array().unwrap().iter().map(|entry| (word(entry, "action"), word(entry, "by"))).collect()
}

#[test]
fn what_an_operator_does_is_in_the_ledger_at_once_each_time() {
    let mut program = program();
    let state = program.beside("state.json");
    std::fs::write(&state, "{\"count\": 7}").unwrap();
    let state = state.display().to_string();
    let before = ledger(&program, "counter").len();
    for command in [
        &["stop", "counter"][..],
        &["start", "counter"],
        &["restart", "counter"],
        &["isolate", "counter"],
        &["start", "counter"],
        &["state", "import", "counter", &state],
        &["state", "import", "counter", &state],
        &["state", "import", "counter", &state],
        &["stop", "counter"],
        &["delete", "counter"],
    ] {
        program.ok(command);
    }
    program.kill();
    program.up();
    let told: Vec<(String, String)> = ledger(&program, "counter").split_off(before);
    let actions: Vec<&str> = told.iter().map(|(action, _)| action.as_str()).collect();
    let expected = [
        "stopped",
        "started",
        "restarted",
        "isolated",
        "started",
        "state-imported",
        "state-imported",
        "state-imported",
        "stopped",
        "removed",
    ];
    assert_eq!(actions, expected);
    assert!(told.iter().all(|(_, by)| by == "operator"), "{told:?}");
}

#[test]
fn an_isolation_by_the_supervisor_is_in_the_ledger() {
    let program = Program::with(&[("trap", "fault-trap")]);
    let isolated = || ledger(&program, "trap").contains(&("isolated".to_string(), "host".to_string()));
    program.until("it is isolated, and that is on the record", || {
        program.run(&["call", "trap", "\"boom\""]);
        isolated()
    });
}

#[test]
fn an_upgrade_that_was_refused_is_in_history_ledger_and_events() {
    let program = program();
    let said = program.run(&["upgrade", "counter", &program.file("echo")]);
    assert_eq!(said.code, 4, "{}", said.err);
    let history = program.json(&["history", "counter"]);
    let last = history.as_array().unwrap().last().unwrap().clone();
    assert!(last["verdict"] == "called-off" && last["note"].as_str().unwrap().contains("it exports no"), "{history}");
    let entry = ("upgrade-called-off".to_string(), "operator".to_string());
    assert_eq!(ledger(&program, "counter").last(), Some(&entry));
    assert!(program.ok(&["events"]).contains("it exports no"));
    // Again is no other decision, and drives nothing out of the history.
    assert_eq!(program.run(&["upgrade", "counter", &program.file("echo")]).code, 4);
    assert_eq!(program.json(&["history", "counter"]), history);
    // By its file it is the directory's.
    program.write("counter.wasm", &guest("echo"));
    let entry = ("upgrade-called-off".to_string(), "directory".to_string());
    program.until("that is on the record too", || ledger(&program, "counter").last() == Some(&entry));
}

#[test]
fn who_has_the_answer_of_a_rollback_finds_it_in_the_history() {
    let program = program();
    for _ in 0..5 {
        program.ok(&["upgrade", "counter", &program.file("counter-v2"), "--probation", "1h"]);
        program.ok(&["rollback", "counter"]);
        let history = program.json(&["history", "counter"]);
        assert_eq!(history.as_array().unwrap().last().unwrap()["verdict"], "rolled-back", "{history}");
    }
    program.ok(&["upgrade", "counter", &program.file("counter-v2"), "--probation", "1h"]);
    program.ok(&["commit", "counter"]);
    let last = ledger(&program, "counter").pop();
    assert_eq!(last, Some(("upgrade-committed".to_string(), "operator".to_string())));
}

#[test]
fn a_newer_file_that_waits_for_the_end_of_probation_is_told() {
    let program = program();
    program.write("counter.toml", b"[upgrade]\nprobation = \"10m\"\n");
    program.until("the settings hold", || program.ok(&["events"]).contains("settings changed"));
    program.write("counter.wasm", &guest("counter-v2"));
    program.until("it is in probation", || program.ok(&["ps"]).contains("probation"));
    assert!(!program.ok(&["ps"]).contains("newer"));
    program.write("counter.wasm", &guest("counter-v3"));
    program.until("it is told by ps", || program.ok(&["ps"]).contains("newer"));
    let doctor = program.run(&["doctor"]).out;
    assert!(doctor.contains("a newer component waits until the change that is under way has ended in"), "{doctor}");
    assert!(program.ok(&["events"]).contains("a newer component waits"));
    program.ok(&["commit", "counter"]);
    program.until("it has its turn", || program.json(&["history", "counter"]).as_array().unwrap().len() == 3);
    assert!(!program.ok(&["ps"]).contains("newer"));
}

#[test]
fn a_rollback_goes_to_what_served_just_before() {
    let program = program();
    let component = || program.json(&["history", "counter"]).as_array().unwrap().last().unwrap()["component"].clone();
    let first = component();
    let mut served = vec![first];
    for guest_name in ["counter-v2", "counter-v3", "counter-v2"] {
        program.ok(&["upgrade", "counter", &program.file(guest_name), "--probation", "0s"]);
        served.push(component());
    }
    program.ok(&["rollback", "counter"]);
    assert_eq!(component(), served[2]);
}
