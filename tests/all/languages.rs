//! What a worker has of time and chance, whatever it is written in and whenever it was built.

use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::program::Program;

fn ask(program: &Program, what: &str) -> Value {
    serde_json::from_str(&program.ok(&["call", "chance", &format!("{what:?}")])).unwrap()
}

/// Milliseconds since 1970, as the file system has it.
fn now(program: &Program) -> u128 {
    let path = program.beside("now");
    std::fs::write(&path, "").unwrap();
    std::fs::metadata(&path).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// One after another: each takes many seconds to compile.
#[test]
fn time_and_chance_in_javascript_and_python_are_the_hosts_and_not_those_of_the_build() {
    for guest in ["chance", "chance-py"] {
        are_the_hosts(guest);
    }
}

fn are_the_hosts(guest: &str) {
    let program = Program::with(&[("chance", guest)]);
    program.until("it runs", || program.run(&["call", "chance", "\"date\""]).code == 0);
    let before = now(&program);
    let date = u128::from(ask(&program, "date").as_u64().unwrap());
    let after = now(&program);
    // A file system's clock may be some milliseconds behind.
    assert!((before.saturating_sub(50)..=after + 50).contains(&date), "{before} <= {date} <= {after}");
    assert!(ask(&program, "passed").as_f64().unwrap() > 0.0);
    let mut drawn = Vec::new();
    for _ in 0..2 {
        for what in ["random", "uuid", "random", "uuid"] {
            let one = ask(&program, what).to_string();
            assert!(!drawn.contains(&one), "{one} came twice: {drawn:?}");
            drawn.push(one);
        }
        program.ok(&["restart", "chance"]);
    }
}

/// A worker in Rust exports what the contract has; one in another language may have left some of it out.
#[test]
fn a_rollback_to_a_component_with_fewer_exports_is_an_operators_to_allow() {
    let mut program = Program::with(&[("counter", "readme-counter-c")]);
    assert_eq!(program.number(&["call", "counter", "add"]), Some(1));
    let newer = program.file("readme-counter-rs");
    program.ok(&["upgrade", "counter", &newer, "--probation", "0s"]);
    assert_eq!(program.number(&["call", "counter", "add"]), Some(2));
    program.refused(&["rollback", "counter"], 4, &["it exports no `", "--allow-fewer-exports"]);
    program.ok(&["rollback", "counter", "--allow-fewer-exports"]);
    assert_eq!(program.number(&["call", "counter", "add"]), Some(3), "with its state");
    assert_eq!(program.json(&["ps"])[0]["revision"], 4);
    // The state is never let go of.
    let stateless = program.file("echo");
    program.ok(&["commit", "counter"]);
    program.refused(&["upgrade", "counter", &stateless, "--allow-fewer-exports"], 4, &["it exports no `state`"]);
    assert_eq!(program.terminate(), 0);
}
