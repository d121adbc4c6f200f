//! What guests do with files in what is granted to them, against the real program: nobody else is held up by it.

use std::os::unix::fs::symlink;
use std::process::Command;

use paguro_tests::guest;
use serde_json::{Value, json};

use crate::program::Program;

/// A host with workers that do to files what they are told; all have the directory `shared`.
fn with_workers(limit: Option<&str>, names: &[&str]) -> Program {
    let mut program = Program::new();
    std::fs::create_dir(program.beside("shared")).unwrap();
    for name in names {
        program.write(&format!("{name}.wasm"), &guest("paths"));
        let grant = "{ host = \"../shared\", guest = \"/shared\", access = \"read-write\" }";
        program.write(&format!("{name}.toml"), format!("[grants]\ndirectories = [{grant}]\n").as_bytes());
    }
    program.up_with(limit, &[]);
    for name in names {
        program.until("it runs", || tell(&program, name, json!({ "list": "/shared" })).is_some());
    }
    program
}

/// What the worker says to a command; `None` if there is no answer.
fn tell(program: &Program, name: &str, command: Value) -> Option<String> {
    let answer = program.run(&["call", name, &command.to_string(), "--timeout", "5s"]);
    (answer.code == 0).then(|| serde_json::from_str(&answer.out).unwrap_or(answer.out))
}

#[test]
fn a_pipe_in_a_grant_holds_nobody() {
    let program = with_workers(None, &["paths"]);
    let pipe = program.beside("shared/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink("pipe", program.beside("shared/link")).unwrap();
    for path in ["/shared/pipe", "/shared/link"] {
        let read = tell(&program, "paths", json!({ "read": path })).expect("reading is answered");
        assert!(read.starts_with("error: "), "{read}");
        let written = tell(&program, "paths", json!({ "write": [path, "x"] })).expect("writing is answered");
        assert!(written.starts_with("error: "), "{written}");
        assert_eq!(tell(&program, "paths", json!({ "touch": path })).as_deref(), Some("done"), "{path}");
    }
    assert_eq!(tell(&program, "paths", json!({ "list": "/shared" })).as_deref(), Some("link pipe"));
    // Somebody has the other end now: it is no file all the same.
    let _other_end = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let read = tell(&program, "paths", json!({ "read": "/shared/pipe" })).expect("reading is answered");
    assert!(read.starts_with("error: "), "{read}");
}

#[test]
fn files_are_opened_made_and_listed_as_ever() {
    let program = with_workers(None, &["paths"]);
    let tell = |command| tell(&program, "paths", command).expect("it answers");
    assert_eq!(tell(json!({ "make-dir": "/shared/in" })), "done");
    assert_eq!(tell(json!({ "make": ["/shared/in", 3_000] })), "done");
    assert_eq!(tell(json!({ "count": "/shared/in" })), "3000");
    assert_eq!(tell(json!({ "write": ["/shared/in/0", "longer"] })), "done");
    assert_eq!(tell(json!({ "write": ["/shared/in/0", "short"] })), "done");
    assert_eq!(tell(json!({ "read": "/shared/in/../in/0" })), "short");
    assert_eq!(tell(json!({ "symlink": ["in/0", "/shared/link"] })), "done");
    assert_eq!(tell(json!({ "read": "/shared/link" })), "short");
    symlink("/etc/passwd", program.beside("shared/out")).unwrap();
    for escape in ["/shared/out", "/shared/../workers/paths.toml", "/shared/in/../../workers/paths.toml"] {
        let read = tell(json!({ "read": escape }));
        assert!(read.starts_with("error: "), "{escape}: {read}");
        let touched = tell(json!({ "touch": escape }));
        assert!(touched.starts_with("error: "), "{escape}: {touched}");
    }
    for wrong in
        [json!({ "read": "/shared/in" }), json!({ "count": "/shared/in/0" }), json!({ "read": "/shared/absent" })]
    {
        let told = tell(wrong.clone());
        assert!(told.starts_with("error: "), "{wrong}: {told}");
    }
    let before = std::fs::metadata(program.beside("shared/in/0")).unwrap().modified().unwrap();
    assert_eq!(tell(json!({ "touch": "/shared/link" })), "done");
    assert!(std::fs::metadata(program.beside("shared/in/0")).unwrap().modified().unwrap() > before);
}

#[test]
fn what_is_granted_for_reading_is_not_changed_by_any_way_of_opening() {
    let mut program = Program::new();
    std::fs::create_dir_all(program.beside("shared/in")).unwrap();
    std::fs::write(program.beside("shared/file"), "text").unwrap();
    program.write("paths.wasm", &guest("paths"));
    let grant = "{ host = \"../shared\", guest = \"/shared\", access = \"read\" }";
    program.write("paths.toml", format!("[grants]\ndirectories = [{grant}]\n").as_bytes());
    program.up();
    program.until("it runs", || tell(&program, "paths", json!({ "list": "/shared" })).is_some());
    let tell = |command: Value| tell(&program, "paths", command).expect("it answers");
    let before = std::fs::metadata(program.beside("shared/file")).unwrap().modified().unwrap();
    for command in [
        json!({ "write": ["/shared/file", "x"] }),
        json!({ "write": ["/shared/new", "x"] }),
        json!({ "write": ["/shared/in/../in/new", "x"] }),
        json!({ "touch": "/shared/file" }),
        json!({ "make-dir": "/shared/new" }),
        json!({ "remove": "/shared/file" }),
        json!({ "rename": ["/shared/file", "/shared/other"] }),
        json!({ "link": ["/shared/file", "/shared/other"] }),
        json!({ "symlink": ["file", "/shared/other"] }),
    ] {
        let told = tell(command.clone());
        assert!(told.starts_with("error: "), "{command}: {told}");
    }
    assert_eq!(tell(json!({ "list": "/shared" })), "file in");
    assert_eq!(tell(json!({ "read": "/shared/file" })), "text");
    assert_eq!(std::fs::metadata(program.beside("shared/file")).unwrap().modified().unwrap(), before);
}

#[test]
fn a_pipe_between_two_others_is_left_alone() {
    let program = with_workers(None, &["paths"]);
    let pipe = program.beside("shared/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (opened, is_open) = std::sync::mpsc::sync_channel(1);
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let file = std::fs::OpenOptions::new().write(true).open(pipe);
            opened.send(()).unwrap();
            file
        }
    });
    let read = tell(&program, "paths", json!({ "read": "/shared/pipe" })).expect("it answers");
    assert!(read.starts_with("error: "), "{read}");
    assert!(is_open.try_recv().is_err(), "who waits for a reader goes on waiting");
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    writer.join().unwrap().unwrap();
}

#[test]
fn guests_leave_the_host_its_descriptors() {
    let program = with_workers(Some("-n 128"), &["greedy", "other"]);
    std::fs::write(program.beside("shared/file"), "text").unwrap();
    let hold = |name| tell(&program, name, json!({ "hold": ["/shared/file", 1_000] })).expect("it answers");
    let held = ["greedy", "other"].map(|name| hold(name).parse::<u32>().unwrap());
    assert!((8..64).contains(&held.iter().sum::<u32>()), "{held:?} were opened");
    program.write("late.wasm", &guest("echo"));
    program.until("a new file is taken", || program.run(&["call", "late", "x"]).code == 0);
    assert_eq!(program.run(&["health"]).code, 0);
    let logs = program.run(&["logs", "greedy"]).out;
    assert!(logs.contains("ulimit -n"), "{logs}");
    for name in ["greedy", "other"] {
        assert_eq!(tell(&program, name, json!("let-go")).as_deref(), Some("done"));
    }
    assert_eq!(tell(&program, "other", json!({ "read": "/shared/file" })).as_deref(), Some("text"));
}
