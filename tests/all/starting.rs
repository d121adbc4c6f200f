//! While a host starts, it can be asked: its socket is there first.

use super::program::{Program, paguro};
use paguro_tests::guest;

/// It takes seconds to compile.
const LARGE: &str = "stats";

#[test]
fn while_it_starts_it_says_how_far_it_is_and_calls_wait() {
    let mut program = Program::new();
    program.write("counter.wasm", &guest("counter-v1"));
    program.write("large.wasm", &guest(LARGE));
    program.begin_up();
    program.until("the small one is loaded", || program.run(&["ps"]).err.contains("starting: 1 of 2 components"));
    let health = program.run(&["health", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&health.out).expect("JSON");
    assert_eq!((health.code, &told["status"], &told["starting"]["components"]), (6, &"starting".into(), &2.into()));
    program.refused(&["call", "counter", "add", "--timeout", "1ms"], 1, &["the host is starting", "paguro health"]);
    program.refused(&["up"], 1, &["is in use by process"]);
    // Whoever has time waits, and is served once.
    assert_eq!(program.number(&["call", "counter", "add", "--timeout", "60s"]), Some(1));
    program.until("the large one runs too", || program.run(&["health"]).code == 0);
    assert_eq!(program.terminate(), 0);
}

#[test]
fn a_host_that_is_stopped_while_it_starts_ends_and_leaves_no_socket() {
    let mut program = Program::new();
    program.write("large.wasm", &guest(LARGE));
    program.begin_up();
    assert!(program.socket().exists());
    // Who waits for it is told at once.
    let mut waiting = paguro(&["call", "large", "x", "--timeout", "60s"], &program.path());
    let waiting = waiting.stderr(std::process::Stdio::piped()).spawn().expect("the program starts");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let begun = std::time::Instant::now();
    assert_eq!(program.terminate(), 0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    let told = waiting.wait_with_output().expect("it ends").stderr;
    assert!(String::from_utf8_lossy(&told).contains("the host is stopping"), "{}", String::from_utf8_lossy(&told));
    assert!(!program.socket().exists());
    program.refused(&["ps"], 3, &["paguro up"]);
}
