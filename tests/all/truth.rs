//! What the host says is true: nothing is well that does not run, and a restart changes nothing by itself.

use std::path::Path;

use paguro_tests::guest;

use crate::program::Program;

/// Ends with it where something is not well.
const NOT_WELL: i32 = 6;

fn again(program: &mut Program) {
    assert_eq!(program.terminate(), 0);
    program.up();
}

fn runs(program: &Program, name: &str) -> bool {
    program.run(&["call", name, "\"get\"", "--timeout", "5s"]).code == 0
}

fn folder(program: &Program, policy: &str) {
    std::fs::create_dir_all(program.path().join("s")).unwrap();
    program.write("s/a.wasm", &guest("counter-v1"));
    program.write("s/b.wasm", &guest("counter-v1"));
    program.write("s/supervisor.toml", policy.as_bytes());
}

/// Until a file was looked at that has just been written.
fn until_seen(program: &Program, words: &str) {
    program.until(words, || program.run(&["doctor"]).out.contains(words));
}

#[test]
fn a_name_in_order_or_after_that_is_gone_takes_nobody_along() {
    let mut program = Program::new();
    folder(&program, "order = [\"a\", \"b\"]\n");
    program.write("c.wasm", &guest("counter-v1"));
    program.write("c.toml", b"after = [\"d\"]\n");
    program.write("d.wasm", &guest("counter-v1"));
    program.up();
    program.until("all run", || ["s/a", "s/b", "c", "d"].iter().all(|name| runs(&program, name)));
    for gone in ["s/b.wasm", "d.wasm"] {
        std::fs::remove_file(program.path().join(gone)).unwrap();
    }
    until_seen(&program, "`order` names `b`, which is not here: it is passed over");
    for _ in 0..2 {
        assert!(["s/a", "c"].iter().all(|name| runs(&program, name)));
        until_seen(&program, "`after` names `d`, which is not here: it is passed over");
        let health = program.run(&["health"]);
        assert_eq!((health.code, health.out.lines().next()), (0, Some("healthy")), "a warning is no fault");
        again(&mut program);
    }
}

#[test]
fn settings_that_were_refused_while_it_ran_are_refused_after_a_restart_and_it_goes_on() {
    let mut program = Program::new();
    folder(&program, "intensity = 7\n");
    program.write("c.wasm", &guest("counter-v1"));
    program.write("c.toml", b"[limits]\nmemory = \"40MiB\"\n");
    program.write("supervisor.toml", b"intensity = 9\n");
    program.up();
    program.until("all run", || ["s/a", "s/b", "c"].iter().all(|name| runs(&program, name)));
    program.write("s/supervisor.toml", b"intensty = 8\n");
    program.write("c.toml", b"[limits]\nmemroy = \"50MiB\"\n");
    program.write("supervisor.toml", b"intensity = \"many\"\n");
    until_seen(&program, "intensty");
    until_seen(&program, "memroy");
    for _ in 0..3 {
        assert!(["s/a", "s/b", "c"].iter().all(|name| runs(&program, name)));
        assert_eq!(program.json(&["sup", "s"])["intensity"], 7);
        assert_eq!(program.json(&["sup"])["intensity"], 9);
        let memory = program.json(&["ps"]);
        assert!(memory.to_string().contains(&(40_u64 << 20).to_string()), "{memory}");
        for command in ["health", "doctor"] {
            let said = program.run(&[command]);
            assert_eq!(said.code, NOT_WELL, "{command}: {}", said.out);
            assert!(["intensty", "memroy"].iter().all(|word| said.out.contains(word)), "{command}: {}", said.out);
        }
        again(&mut program);
    }
    // One that can be carried out is taken, and holds over a restart.
    program.write("s/supervisor.toml", b"intensity = 8\n");
    program.write("c.toml", b"");
    program.write("supervisor.toml", b"");
    program.until("it is well", || program.run(&["health"]).code == 0);
    again(&mut program);
    assert_eq!(program.json(&["sup", "s"])["intensity"], 8);
    assert_eq!(program.run(&["health"]).code, 0);
}

#[test]
fn settings_that_became_impossible_while_the_host_was_down_leave_what_ran() {
    let mut program = Program::new();
    folder(&program, "");
    program.up();
    program.until("all run", || ["s/a", "s/b"].iter().all(|name| runs(&program, name)));
    assert_eq!(program.terminate(), 0);
    program.write("s/supervisor.toml", b"strategy = \"simple-one-for-one\"\n");
    program.up();
    program.until("all run", || ["s/a", "s/b"].iter().all(|name| runs(&program, name)));
    let said = program.run(&["doctor"]);
    assert!(said.code == NOT_WELL && said.out.contains("one template, and here are"), "{}", said.out);
    assert_eq!(program.json(&["sup", "s"])["strategy"], "one-for-one");
}

#[test]
fn a_file_that_cannot_be_taken_leaves_what_ran_over_a_restart_too() {
    let mut program = Program::new();
    folder(&program, "");
    program.up();
    program.until("all run", || ["s/a", "s/b"].iter().all(|name| runs(&program, name)));
    assert_eq!(program.ok(&["call", "s/a", "\"add\""]).trim(), "1");
    program.write("s/a.wasm", b"not a component");
    until_seen(&program, "is not WebAssembly");
    for _ in 0..2 {
        assert_eq!(program.ok(&["call", "s/a", "\"get\""]).trim(), "1");
        assert_eq!(program.run(&["health"]).code, NOT_WELL);
        again(&mut program);
        until_seen(&program, "is not WebAssembly");
        program.until("it runs", || runs(&program, "s/a"));
    }
    program.write("s/a.wasm", &guest("counter-v2"));
    program.until("it is upgraded", || program.ok(&["history", "s/a"]).contains("upgrade"));
}

#[test]
fn copies_that_are_lost_or_cut_are_made_anew_from_the_same_bytes() {
    let mut program = Program::with(&[("a", "counter-v1"), ("b", "echo"), ("c", "echo")]);
    program.until("it runs", || runs(&program, "a"));
    let components = program.path().join(".paguro/components");
    let copies = || -> Vec<_> { std::fs::read_dir(&components).unwrap().map(|entry| entry.unwrap().path()).collect() };
    for damage in [|path: &Path| std::fs::remove_file(path), |path: &Path| std::fs::write(path, "cut")] {
        assert!(program.ok(&["call", "a", "\"add\""]).trim().parse::<u32>().is_ok());
        assert_eq!(program.terminate(), 0);
        assert_eq!(copies().len(), 2);
        copies().iter().for_each(|path| damage(path).unwrap());
        program.up();
        program.until("it runs", || runs(&program, "a"));
        assert_eq!(program.run(&["call", "c", "x"]).code, 0);
        assert_eq!(program.run(&["health"]).code, 0);
        program.until("it is told", || program.ok(&["events"]).contains("is made anew from"));
        assert!(copies().iter().all(|path| std::fs::metadata(path).unwrap().len() > 100));
    }
    // Where the bytes are nowhere, that is said and not well.
    assert_eq!(program.terminate(), 0);
    copies().iter().for_each(|path| std::fs::remove_file(path).unwrap());
    program.write("a.wasm", &guest("counter-v2"));
    program.up();
    until_seen(&program, "there is no component");
    let health = program.run(&["health"]);
    assert!(health.code == NOT_WELL && health.out.contains("a.wasm"), "{}", health.out);
}

#[test]
fn a_database_that_is_gone_or_older_is_noticed_and_taken_only_when_asked() {
    let mut program = Program::with(&[("a", "counter-v1")]);
    program.until("it runs", || runs(&program, "a"));
    assert_eq!(program.terminate(), 0);
    let database = program.path().join(".paguro/paguro.db");
    let older = std::fs::read(&database).unwrap();
    program.up();
    program.until("it runs", || runs(&program, "a"));
    assert_eq!(program.ok(&["call", "a", "\"add\""]).trim(), "1");
    // Killed: what is noted is at most as far as what was written.
    program.kill();
    program.up();
    assert_eq!(program.terminate(), 0);
    let refused = |program: &mut Program, why: &str| {
        let (code, said) = program.refused_up();
        assert!(code == Some(1) && said.contains(why) && said.contains("paguro up --fresh"), "{said}");
    };
    std::fs::write(&database, older).unwrap();
    refused(&mut program, "does not reach entry");
    std::fs::write(&database, "").unwrap();
    refused(&mut program, "is gone or empty");
    std::fs::remove_file(&database).unwrap();
    refused(&mut program, "is gone or empty");
    std::fs::remove_file(program.path().join(".paguro/marker")).unwrap();
    refused(&mut program, "the copies of components that it names are there");
    program.up_with(None, &["--fresh"]);
    program.until("it runs", || runs(&program, "a"));
    assert_eq!(program.ok(&["call", "a", "\"get\""]).trim(), "0");
    again(&mut program);
}

#[test]
fn a_host_whose_state_directory_is_removed_says_so_and_ends() {
    for gone in [".paguro", ".paguro/paguro.db", ".paguro/lock"] {
        let mut program = Program::with(&[("a", "counter-v1")]);
        program.until("it runs", || runs(&program, "a"));
        let path = program.path().join(gone);
        std::fs::rename(&path, program.beside("away")).unwrap();
        assert_eq!(program.ended(), Some(5), "{gone}");
        let said = std::fs::read_to_string(program.beside("up.log")).unwrap();
        assert!(said.contains("was removed or replaced"), "{said}");
    }
}

#[test]
fn signals_that_ask_for_no_end_do_not_end_it() {
    let mut program = Program::with(&[("a", "counter-v1")]);
    program.until("it runs", || runs(&program, "a"));
    for signal in ["HUP", "USR1", "USR2", "ALRM", "HUP"] {
        program.signal(signal);
        assert!(runs(&program, "a"), "after {signal}");
    }
    assert_eq!(program.terminate(), 0);
}

#[test]
fn a_variable_that_is_not_replaced_is_told() {
    let mut program = Program::new();
    program.write("a.wasm", &guest("counter-v1"));
    program.write("a.toml", b"[grants]\nenvironment = { KEY = \"${SECRET}\", OTHER = \"plain\" }\n");
    program.up();
    until_seen(&program, "the value of `KEY` is given as it is written");
    assert!(runs(&program, "a"));
    assert_eq!(program.run(&["health"]).code, 0);
}

#[test]
fn what_an_operator_deleted_stays_so_while_its_folder_cannot_be_taken() {
    let mut program = Program::new();
    folder(&program, "");
    program.up();
    program.until("all run", || ["s/a", "s/b"].iter().all(|name| runs(&program, name)));
    program.ok(&["stop", "s/b"]);
    program.ok(&["delete", "s/b"]);
    assert_eq!(program.terminate(), 0);
    // A folder is no link: its name is held.
    std::fs::rename(program.path().join("s"), program.beside("away")).unwrap();
    std::os::unix::fs::symlink(program.beside("away"), program.path().join("s")).unwrap();
    program.up();
    program.until("the other runs", || runs(&program, "s/a"));
    assert_eq!(program.run(&["health"]).code, NOT_WELL);
    again(&mut program);
    program.until("the other runs", || runs(&program, "s/a"));
    std::fs::remove_file(program.path().join("s")).unwrap();
    std::fs::rename(program.beside("away"), program.path().join("s")).unwrap();
    program.until("it is well", || program.run(&["health"]).code == 0);
    again(&mut program);
    assert!(runs(&program, "s/a") && !runs(&program, "s/b"), "{}", program.ok(&["ps"]));
}

#[test]
fn a_state_directory_that_took_the_place_of_the_hosts_is_not_written_to() {
    let mut program = Program::with(&[("a", "counter-v1")]);
    program.until("it runs", || runs(&program, "a"));
    assert_eq!(program.terminate(), 0);
    let (state, backup) = (program.path().join(".paguro"), program.beside("backup"));
    let copied = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    };
    copied(&state, &backup);
    program.up();
    program.until("it runs", || runs(&program, "a"));
    std::fs::rename(&state, program.beside("old")).unwrap();
    copied(&backup, &state);
    assert_eq!(program.ended(), Some(5));
    program.up();
    program.until("it runs", || runs(&program, "a"));
}

#[test]
fn a_worker_that_ended_by_a_fault_and_is_not_started_again_is_told() {
    let mut program = Program::new();
    program.write("job.wasm", &guest("command-fail"));
    program.write("job.toml", b"restart = \"temporary\"\n");
    program.up();
    program.until("it is told by health", || program.run(&["health"]).code == NOT_WELL);
    let doctor = program.run(&["doctor"]);
    assert!(doctor.code == NOT_WELL && doctor.out.contains("worker job: it does not run"), "{}", doctor.out);
}
