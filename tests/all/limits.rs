//! A host that the system gives little: few file descriptors, little room for memory.

use std::os::unix::net::UnixStream;

use paguro_tests::guest;

use super::program::Program;

#[test]
fn with_few_file_descriptors_it_serves_whoever_else_is_connected() {
    let mut program = Program::new();
    let bytes = guest("counter-v1");
    for n in 0..40 {
        program.write(&format!("w{n}.wasm"), &bytes);
    }
    // Fewer than workers and what the host itself needs: a worker takes none.
    program.up_within("-n 48");
    for n in 0..40 {
        assert_eq!(program.ok(&["call", &format!("w{n}"), "add"]).trim(), "1");
    }
    // More connections than there are descriptors, and nobody says anything on them.
    let socket = program.path().join(".paguro/paguro.sock");
    let held: Vec<UnixStream> = (0..100).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    assert!(held.len() > 48, "{}", held.len());
    // Those that say nothing make room: whoever has a request gets in.
    assert_eq!(program.ok(&["call", "w0", "add"]).trim(), "2");
    let open = format!("/proc/{}/fd", program.pid());
    assert!(std::fs::read_dir(&open).is_ok_and(|open| open.count() < 48), "descriptors are kept back");
    drop(held);
    assert_eq!(program.ok(&["call", "w0", "add"]).trim(), "3");
    assert_eq!(program.terminate(), 0);
}

#[test]
fn where_the_system_has_room_for_few_instances_all_workers_answer_by_turns() {
    const WORKERS: usize = 30;
    let mut program = Program::new();
    let bytes = guest("counter-v1");
    for n in 0..WORKERS {
        program.write(&format!("w{n}.wasm"), &bytes);
    }
    // KiB of address space. An instance reserves 4 GiB of it, so there is room for about ten.
    program.up_within("-v 50000000");
    for round in 1..=3_u64 {
        for n in 0..WORKERS {
            let name = format!("w{n}");
            assert_eq!(program.number(&["call", &name, "add"]), Some(round), "{name}");
        }
    }
    // All at once, so that many wait in line for what the system refuses.
    std::thread::scope(|scope| {
        for n in 0..WORKERS {
            let program = &program;
            scope.spawn(move || assert_eq!(program.number(&["call", &format!("w{n}"), "add"]), Some(4), "w{n}"));
        }
    });
    let doctor = program.run(&["doctor"]).out;
    assert!(doctor.contains("the system refused more"), "{doctor}");
    assert_eq!(program.terminate(), 0);
    program.up();
    assert_eq!(program.number(&["call", "w29", "add"]), Some(5));
}
