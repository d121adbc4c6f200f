//! What the host says is true: nothing is well that does not run, and a restart changes nothing by itself.

use std::path::Path;

use paguro::control::{Host, HostOptions};
use paguro::record::Event;
use paguro_tests::{call, event, guest, until};

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
        assert!(code == Some(1) && said.contains(why) && said.contains(" --fresh`"), "{said}");
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

/// Points the directory's path at another, at once, as a tool that brings out releases does.
fn point_at(program: &Program, release: &str) {
    let newer = program.beside("newer");
    std::os::unix::fs::symlink(program.beside(release), &newer).unwrap();
    std::fs::rename(newer, program.path()).unwrap();
}

/// `current`, which leads to `one`, and another release beside it.
fn releases() -> Program {
    let program = Program::new();
    std::fs::remove_dir(program.path()).unwrap();
    for (release, workers) in [("one", &["a", "gone"][..]), ("two", &["a", "new"])] {
        std::fs::create_dir(program.beside(release)).unwrap();
        for worker in workers {
            std::fs::write(program.beside(release).join(format!("{worker}.wasm")), guest("counter-v1")).unwrap();
        }
    }
    std::fs::write(program.beside("two/a.wasm"), guest("counter-v2")).unwrap();
    point_at(&program, "one");
    program
}

#[test]
fn a_link_that_has_moved_is_followed_and_the_state_stays() {
    let mut program = releases();
    program.up();
    program.until("both run", || ["a", "gone"].iter().all(|name| runs(&program, name)));
    assert_eq!(program.number(&["call", "a", "add"]), Some(1));
    assert!(!program.beside("one/.paguro").exists(), "the state lies beside the link");
    point_at(&program, "two");
    program.signal("HUP");
    program.until("the new one runs", || runs(&program, "new"));
    program.until("what is not there is gone", || !program.ok(&["ps"]).contains("gone"));
    let is_newer = |program: &Program| program.json(&["history", "a"]).as_array().is_some_and(|all| all.len() == 2);
    program.until("the other is upgraded", || is_newer(&program));
    assert!(program.ok(&["call", "a", "get"]).contains('1'), "it goes on with its state");
    let two = program.beside("two").canonicalize().unwrap().display().to_string();
    for told in [program.ok(&["ledger"]), program.ok(&["events"])] {
        assert!(
            told.contains(&format!("the directory is {two}")) || told.contains(&format!("workers is {two}")),
            "{told}"
        );
    }
    // The release before is nobody's any more, and this one is held.
    let state = program.beside("other").display().to_string();
    let other = |program: &Program, release: &str| {
        let mut up = crate::program::paguro(&["up", "--state", &state], &program.beside(release));
        let mut up = up.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let ended = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            up.try_wait().unwrap()
        });
        let _ = up.kill();
        up.wait().unwrap();
        ended.and_then(|ended| ended.code())
    };
    assert_eq!(other(&program, "two"), Some(1));
    again(&mut program);
    assert!(is_newer(&program) && program.ok(&["call", "a", "get"]).contains('1'));
    // It is moved while no host runs.
    assert_eq!(program.terminate(), 0);
    point_at(&program, "one");
    program.up();
    program.until("what was gone is back", || runs(&program, "gone"));
    assert!(program.ok(&["call", "a", "get"]).contains('1'));
    assert_eq!(other(&program, "two"), None, "it is free");
}

/// What a link leads to is no guest's to say.
#[test]
fn a_directory_with_the_link_that_names_the_workers_is_not_granted_for_writing() {
    let mut program = releases();
    let aside = program.beside("aside").display().to_string();
    // The second link lies where nothing else of the host's does.
    std::fs::create_dir(&aside).unwrap();
    let link = program.beside("aside/current");
    std::os::unix::fs::symlink(program.beside("one").canonicalize().unwrap(), &link).unwrap();
    std::fs::remove_file(program.path()).unwrap();
    std::os::unix::fs::symlink(&link, program.path()).unwrap();
    let grants = |access: &str| {
        format!("[grants]\ndirectories = [{{ host = \"{aside}\", guest = \"/x\", access = \"{access}\" }}]\n")
    };
    std::fs::write(program.beside("one/a.toml"), grants("read-write")).unwrap();
    program.up();
    until_seen(&program, "which names the directory of workers");
    std::fs::write(program.beside("one/a.toml"), grants("read")).unwrap();
    program.until("it runs", || runs(&program, "a"));
}

/// A worker could have made the link that names the directory: it is followed neither at a start nor after a signal.
#[test]
fn a_link_that_a_worker_could_have_made_is_not_followed() {
    let mut program = releases();
    let aside = program.beside("aside");
    std::fs::create_dir(&aside).unwrap();
    let grants = format!("[grants]\ndirectories = [{{ host = {aside:?}, guest = \"/x\", access = \"read-write\" }}]\n");
    std::fs::write(program.beside("one/a.toml"), grants).unwrap();
    program.up();
    program.until("both run", || ["a", "gone"].iter().all(|name| runs(&program, name)));
    std::os::unix::fs::symlink(program.beside("two"), aside.join("current")).unwrap();
    point_at(&program, "aside/current");
    program.signal("HUP");
    program.until("it is told", || program.ok(&["events"]).contains("a symbolic link where a worker can write"));
    assert!(runs(&program, "gone") && program.run(&["call", "new", "get"]).code != 0);
    assert_eq!(program.terminate(), 0);
    let (code, said) = program.refused_up();
    assert!(code == Some(1) && said.contains("a symbolic link where a worker can write"), "{code:?} {said}");
    point_at(&program, "two");
    program.up();
    program.until("another one is followed", || runs(&program, "new"));
}

/// A release that is renamed while the host runs on it is the same one.
#[test]
fn a_release_that_is_renamed_is_followed_to_its_new_name() {
    let program = {
        let mut program = releases();
        program.up();
        program
    };
    program.until("both run", || ["a", "gone"].iter().all(|name| runs(&program, name)));
    std::fs::rename(program.beside("one"), program.beside("v1")).unwrap();
    point_at(&program, "v1");
    program.signal("HUP");
    program.until("it is followed", || program.ok(&["events"]).contains("v1, it was"));
    std::fs::write(program.beside("v1/more.wasm"), guest("echo")).unwrap();
    program.until("a new file is taken", || program.run(&["call", "more", "x"]).code == 0);
    assert!(runs(&program, "a"));
}

#[test]
fn a_template_whose_settings_are_others_where_a_link_leads_gives_them_to_its_keys() {
    let mut program = releases();
    for (release, settings) in [("one", ""), ("two", "[limits]\nmemory = \"40MiB\"\n")] {
        let folder = program.beside(release).join("rooms");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("room.wasm"), guest("counter-v1")).unwrap();
        std::fs::write(folder.join("room.toml"), settings).unwrap();
        std::fs::write(folder.join("supervisor.toml"), "strategy = \"simple-one-for-one\"\non-demand = true\n")
            .unwrap();
    }
    program.up();
    program.until("a key runs", || runs(&program, "rooms/1"));
    point_at(&program, "two");
    program.signal("HUP");
    let memory = |program: &Program| {
        let all = program.json(&["ps"]);
        let key = all.as_array().unwrap().iter().find(|worker| worker["name"] == "rooms/1").cloned();
        key.map(|key| key["memory_max_bytes"].clone())
    };
    program.until("it has the newer limit", || memory(&program) == Some((40_u64 << 20).into()));
}

#[test]
fn a_link_to_a_directory_with_a_state_is_refused_with_the_way_to_move_that() {
    let mut program = Program::with(&[("a", "counter-v1")]);
    program.until("it runs", || runs(&program, "a"));
    assert_eq!(program.number(&["call", "a", "add"]), Some(1));
    assert_eq!(program.terminate(), 0);
    std::fs::rename(program.path(), program.beside("one")).unwrap();
    point_at(&program, "one");
    let (code, said) = program.refused_up();
    assert!(code == Some(1) && said.contains("the state would stay behind"), "{code:?} {said}");
    let help = said.lines().find_map(|line| line.split_once("`mv ")?.1.split_once('`')).expect("it says how").0;
    let (from, to) = help.split_once(' ').expect("from and to");
    std::fs::rename(from, to).unwrap();
    program.up();
    program.until("it runs", || runs(&program, "a"));
    assert_eq!(program.number(&["call", "a", "get"]), Some(1), "with its state");
}

/// A link in the middle of the path: the state lies where that leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_not_followed_away_from_the_state() {
    let place = tempfile::tempdir().unwrap();
    for release in ["one", "two"] {
        let workers = place.path().join(release).join("workers");
        std::fs::create_dir_all(&workers).unwrap();
        std::fs::write(workers.join("a.wasm"), guest("counter-v1")).unwrap();
    }
    let link = |release: &str| {
        std::os::unix::fs::symlink(place.path().join(release), place.path().join("newer")).unwrap();
        std::fs::rename(place.path().join("newer"), place.path().join("current")).unwrap();
    };
    link("one");
    let host = Host::start(HostOptions::new(place.path().join("current/workers"))).await.unwrap();
    until("it runs", async || call(&host, "a", "get").await.is_ok()).await;
    link("two");
    let before = host.directory();
    host.look_again().await;
    let told =
        |event: &Event| matches!(event, Event::DirectoryProblem { message, .. } if message.contains("not followed"));
    event(&host, "it is told", told).await;
    assert_eq!(host.directory(), before);
    assert!(call(&host, "a", "get").await.is_ok(), "what runs goes on");
    host.stop().await;
}

#[test]
fn a_socket_that_is_removed_or_replaced_is_there_again() {
    let program = Program::with(&[("a", "counter-v1")]);
    for replaced in [false, true] {
        std::fs::remove_file(program.socket()).unwrap();
        if replaced {
            std::fs::write(program.socket(), "not a socket").unwrap();
        }
        program.until("it answers again", || runs(&program, "a"));
    }
    assert_eq!(program.ok(&["events"]).matches("it is there again").count(), 2);
}

/// A template whose file cannot be taken, in each way that a file cannot.
#[test]
fn a_template_goes_on_over_a_restart_whatever_its_file_has_become() {
    let mut program = Program::new();
    std::fs::create_dir(program.path().join("s")).unwrap();
    program.write("s/room.wasm", &guest("counter-v1"));
    program.write("s/supervisor.toml", b"strategy = \"simple-one-for-one\"\non-demand = true\n");
    program.up();
    program.until("a key runs", || runs(&program, "s/1"));
    assert_eq!(program.number(&["call", "s/1", "add"]), Some(1));
    // Not a component at all; one that is cut; a module that the engine refuses.
    let cut = &guest("counter-v1")[..2_000];
    let files: [(&[u8], &str); 3] = [
        (b"not a component", "is not WebAssembly"),
        (cut, "s/room.wasm"),
        (b"\0asm\x0d\0\x01\0\xff\xff\xff", "s/room.wasm"),
    ];
    for (file, told) in files {
        program.write("s/room.wasm", file);
        until_seen(&program, told);
        for _ in 0..2 {
            again(&mut program);
            until_seen(&program, told);
            program.until("new keys start", || runs(&program, "s/new"));
            assert_eq!(program.number(&["call", "s/1", "get"]), Some(1), "with its state");
            assert_eq!(program.run(&["health"]).code, NOT_WELL);
        }
    }
    program.write("s/room.wasm", &guest("counter-v2"));
    program.until("it is upgraded", || program.ok(&["history", "s/1"]).contains("upgrade"));
    program.until("it is well", || program.run(&["health"]).code == 0);
}

/// What did not run is told from what ended over the message, with what starts it.
#[test]
fn a_message_to_a_worker_that_is_down_is_told_as_not_accepted() {
    let mut program = Program::new();
    program.write("once.toml", b"restart = \"temporary\"\n");
    program.write("once.wasm", &guest("counter-v1"));
    std::fs::create_dir(program.path().join("b")).unwrap();
    program.write("b/x.wasm", &guest("counter-v1"));
    program.up();
    program.until("both run", || ["once", "b/x"].iter().all(|name| runs(&program, name)));
    let (_, said) = told(&program, &["call", "once", "crash"]);
    assert!(said.contains("ended before it answered"), "{said}");
    for verb in ["call", "cast"] {
        program.until("it is down", || told(&program, &[verb, "once", "get"]).1.contains("does not run"));
        let (code, said) = told(&program, &[verb, "once", "get"]);
        assert!(code == 1 && said.contains("it ended: trap") && said.contains("`paguro start once`"), "{said}");
    }
    program.ok(&["isolate", "b"]);
    for verb in ["call", "cast"] {
        let (code, said) = told(&program, &[verb, "b/x", "get"]);
        assert!(code == 1 && said.contains("`paguro start b`"), "{verb}: {said}");
    }
    program.ok(&["start", "once"]);
    program.until("it runs", || runs(&program, "once"));
}

/// What was deleted and came back as another file is no news of a deleted worker, and no newer file waits.
#[test]
fn a_worker_that_came_back_after_its_deletion_runs_what_the_file_says() {
    let mut program = Program::new();
    program.write("counter.wasm", &guest("counter-v1"));
    program.up();
    program.until("it runs", || runs(&program, "counter"));
    program.ok(&["stop", "counter"]);
    program.ok(&["delete", "counter"]);
    program.write("counter.wasm", &guest("counter-v2"));
    program.until("it is on trial", || program.ok(&["ps"]).contains("probation"));
    program.until("nothing waits", || !program.ok(&["ps"]).contains("newer"));
    assert!(!program.run(&["doctor"]).out.contains("was deleted"));
}

/// A newer component beside settings that are refused is neither taken nor passed over in silence, and is the file that
/// a deletion is about.
#[test]
fn a_component_beside_refused_settings_waits_and_a_deletion_is_about_it() {
    let mut program = Program::new();
    program.write("counter.wasm", &guest("counter-v1"));
    program.up();
    program.until("it runs", || runs(&program, "counter"));
    program.write("counter.toml", b"nonsense = 1\n");
    program.until("it is refused", || program.run(&["doctor"]).out.contains("nonsense"));
    program.write("counter.wasm", &guest("counter-v2"));
    program.until("it is shown", || program.ok(&["ps"]).contains("newer"));
    let doctor = program.run(&["doctor"]).out;
    assert!(doctor.contains("a newer component waits until the settings beside it are mended"), "{doctor}");
    let events = program.ok(&["events"]);
    assert!(events.contains("a newer component waits until the settings"), "{events}");
    program.ok(&["stop", "counter"]);
    program.ok(&["delete", "counter"]);
    program.write("counter.toml", b"");
    program.until("it is said", || program.run(&["doctor"]).out.contains("its worker was deleted"));
    program.write("other.wasm", &guest("echo"));
    program.until("a look has ended", || runs(&program, "other"));
    assert!(!runs(&program, "counter"), "{}", program.ok(&["ps"]));
    again(&mut program);
    program.until("a look has ended", || runs(&program, "other"));
    assert!(!runs(&program, "counter"), "{}", program.ok(&["ps"]));
}

/// An operator's word against a file ends with that file.
#[test]
fn an_overridden_file_that_is_gone_and_put_back_is_taken() {
    let mut program = Program::new();
    program.write("counter.wasm", &guest("counter-v1"));
    program.up();
    program.until("it runs", || runs(&program, "counter"));
    program.ok(&["upgrade", "counter", &program.file("counter-v2"), "--probation", "0s"]);
    program.until("it is committed", || program.ok(&["ps"]).contains("override"));
    std::fs::remove_file(program.path().join("counter.wasm")).unwrap();
    program.until("it is gone", || !program.ok(&["ps"]).contains("counter"));
    assert!(!program.run(&["doctor"]).out.contains("was deleted"));
    again(&mut program);
    program.write("counter.wasm", &guest("counter-v1"));
    program.until("it is back", || runs(&program, "counter"));
    assert!(!program.ok(&["ps"]).contains("override"), "{}", program.ok(&["ps"]));
}

fn told(program: &Program, args: &[&str]) -> (i32, String) {
    let run = program.run(args);
    (run.code, run.err)
}
