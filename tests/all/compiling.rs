//! Components that cannot be afforded: the compiler is a process of its own, which is held to its memory and time.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use paguro_tests::guest;

use crate::program::{Program, paguro};

/// A command that ends at once, with these core modules and instances besides.
fn command(besides: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
        {besides}
        (core module $code (func (export "run") (result i32) i32.const 0))
        (core instance $code (instantiate $code))
        (func $run (result (result)) (canon lift (core func $code "run")))
        (component $run (import "run" (func $run (result (result)))) (export "run" (func $run)))
        (instance $run (instantiate $run (with "run" (func $run))))
        (export "wasi:cli/run@0.2.0" (instance $run)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// One function with so many locals, all of them live through so many joins: what a compiler keeps of it grows with
/// the product.
fn joins(locals: usize, joins: usize) -> Vec<u8> {
    let mut text = format!("(func (export \"f\") (param i32) (result i64) (local {})", "i64 ".repeat(locals));
    for join in 0..joins {
        let (to, from) = (1 + join % locals, 1 + join * 7 % locals);
        let _ =
            write!(text, "(if (local.get 0) (then (local.set {to} (i64.add (local.get {from}) (i64.const {join})))))");
    }
    text.push_str("(i64.const 0)");
    for local in 1..=locals {
        let _ = write!(text, "(local.get {local}) (i64.add)");
    }
    command(&format!("(core module {text}))"))
}

/// One module of so many globals, instantiated so many times.
fn globals(globals: usize, instances: usize) -> Vec<u8> {
    let globals = "(global (mut i64) (i64.const 0))".repeat(globals);
    let instances = "(core instance (instantiate $many))".repeat(instances);
    command(&format!("(core module $many {globals}) {instances}"))
}

/// Resident bytes of the host and of its compilers, one for each.
fn resident(program: &Program) -> Vec<u64> {
    let own = program.pid();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    // Compilers are children of whichever thread started them.
    let tasks = std::fs::read_dir(format!("/proc/{own}/task")).into_iter().flatten().flatten();
    let more = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all = more.chain([children]).collect::<Vec<_>>().join(" ");
    let mut pids: Vec<u32> = all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    [vec![own], pids].concat().into_iter().map(resident_of).collect()
}

fn resident_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

fn marks(program: &Program, extension: &str) -> Vec<PathBuf> {
    let cache = program.path().join(".paguro/cache");
    let engines = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let files = engines.flat_map(|engine| std::fs::read_dir(engine.path()).into_iter().flatten().flatten());
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

const COMPILERS: &str = "256MiB";

fn up(program: &mut Program) {
    program.up_as(paguro(&["up", "--compile-memory", COMPILERS], &program.path()));
}

fn events(program: &Program, kind: &str) -> usize {
    program.json_lines(&["events"]).iter().filter(|event| event["kind"] == kind).count()
}

#[test]
fn components_that_cannot_be_afforded_are_refused_within_bounds_and_hold_up_nobody() {
    let mut program = Program::new();
    let costly = joins(3_000, 30_000);
    assert!(costly.len() < 2 << 20, "{}", costly.len());
    for name in ["a-costly", "b-costly", "c-costly"] {
        // Not the same bytes: each is compiled by itself.
        let mut bytes = costly.clone();
        bytes.extend([0, 2, 1, name.as_bytes()[0]]);
        program.write(&format!("{name}.wasm"), &bytes);
    }
    // The same bytes: those that wait for them take no turns.
    for copy in 1..=5 {
        let bytes = std::fs::read(program.path().join("a-costly.wasm")).expect("it is there");
        program.write(&format!("copy-{copy}.wasm"), &bytes);
    }
    program.write("healthy.wasm", &guest("echo"));
    let (stop, watching) = std::sync::mpsc::channel::<()>();
    up(&mut program);
    std::thread::scope(|scope| {
        let watched = &program;
        let watch = scope.spawn(move || {
            let (mut host, mut all) = (0, 0);
            while watching.recv_timeout(Duration::from_millis(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let resident = resident(watched);
                host = host.max(resident[0]);
                all = all.max(resident.iter().sum::<u64>());
            }
            (host, all)
        });
        let begun = Instant::now();
        program.until("the healthy one runs", || program.run(&["call", "healthy", "x"]).code == 0);
        let healthy = begun.elapsed();
        assert!(healthy < Duration::from_secs(20), "the healthy one ran after {healthy:?}");
        program.until("all are banned", || events(&program, "component-banned") == 3);
        stop.send(()).expect("it watches");
        let (host, all) = watch.join().expect("it ends");
        println!("the host took {} MiB, all {} MiB", host >> 20, all >> 20);
        assert!(host < 256 << 20, "the host took {host}");
        // The bound on compilers, what they touch between two looks, and the host.
        assert!(all < (256 + 128 + 256) << 20, "all took {all}");
    });
    let doctor = program.run(&["doctor"]).out;
    assert_eq!(doctor.matches("is not compiled any more").count(), 3, "{doctor}");
    // At the next start nothing is tried.
    assert_eq!(program.terminate(), 0);
    up(&mut program);
    program.until("the healthy one runs", || program.run(&["call", "healthy", "x"]).code == 0);
    assert_eq!((events(&program, "compilation-slow"), events(&program, "component-banned")), (0, 0));
    // A file that changes is tried.
    program.write("a-costly.wasm", &guest("echo"));
    program.until("it runs", || program.run(&["call", "a-costly", "x"]).code == 0);
}

#[test]
fn a_component_that_was_compiled_when_the_host_died_waits_for_an_operator() {
    // Some seconds to compile, and well.
    let slow = joins(300, 4_000);
    let mut program = Program::new();
    program.up();
    let file = program.beside("slow.wasm");
    std::fs::write(&file, &slow).expect("a file is written");
    program.write("slow.wasm", &slow);
    program.until("it is compiled", || !marks(&program, "compiling").is_empty());
    // A stop in order is no sign of anything.
    assert_eq!(program.terminate(), 0);
    assert_eq!(marks(&program, "compiling").len() + marks(&program, "banned").len(), 0);
    // Nor is a stop in order while the host starts.
    let begun = || {
        let mut up = paguro(&["up"], &program.path());
        up.stderr(std::process::Stdio::null());
        let host = up.spawn().expect("the program starts");
        program.until("it is compiled again", || !marks(&program, "compiling").is_empty());
        host
    };
    let mut host = begun();
    let told = std::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {}", host.id())).status();
    assert!(told.expect("there is a shell").success());
    assert!(host.wait().expect("it is our child").success());
    assert_eq!(marks(&program, "compiling").len() + marks(&program, "banned").len(), 0);
    let mut host = begun();
    host.kill().expect("it is our child");
    host.wait().expect("it is our child");
    program.up();
    let doctor = program.run(&["doctor"]).out;
    assert!(doctor.contains("the host ended while it was compiled"), "{doctor}");
    program.until("it is refused", || program.run(&["doctor"]).out.contains("slow.wasm: it is not compiled again"));
    assert_eq!(program.json(&["ps"]).as_array().map(Vec::len), Some(0));
    program.ok(&["check", &file.display().to_string()]);
    program.until("it ran", || events(&program, "worker-started") == 1);
    assert!(!program.run(&["doctor"]).out.contains("not compiled"));
}

#[test]
fn what_the_engine_takes_for_an_instance_is_charged_to_its_memory() {
    let mut program = Program::new();
    program.up();
    let before = resident_of(program.pid());
    // 100,000 globals take 1.6 MB for each of 100 instances.
    program.write("many.wasm", &globals(100_000, 100));
    program.until("it is refused", || program.run(&["doctor"]).out.contains("many.wasm"));
    program.until("it says why", || program.run(&["doctor"]).out.contains("memory"));
    let after = resident_of(program.pid());
    assert!(after < before + (128 << 20), "{before} to {after}");
    // With the memory it needs it runs.
    program.write("many.toml", b"[limits]\nmemory = \"256MiB\"\n");
    program.until("it ran", || events(&program, "worker-started") == 1);
}

#[test]
fn what_a_component_takes_while_it_is_loaded_is_charged_to_the_host() {
    let mut program = Program::new();
    program.up_as(paguro(&["up", "--memory", "128MiB"], &program.path()));
    let before = resident_of(program.pid());
    // Exports of one function, in modules that nobody instantiates: some 40 MB each.
    let exports: String = (0..45_000).map(|n| format!("(export \"{n}\" (func 0))")).collect();
    let modules: String = (0..8).map(|_| format!("(core module (func) {exports})")).collect();
    let bytes = command(&modules);
    for n in 0..6_u8 {
        let mut other = bytes.clone();
        other.extend([0, 2, 1, n]);
        program.write(&format!("listed-{n}.wasm"), &other);
    }
    program.until("one does not fit", || program.ok(&["events"]).contains("no memory left for it"));
    let after = resident_of(program.pid());
    assert!(after < before + (128 << 20) * 3 / 2, "{before} to {after}");
}
