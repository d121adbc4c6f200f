//! What a guest is refused that wants to grow, and how its end is told.

use paguro::base::{ExitReason, Failure, Limit};
use paguro::record::Event;
use paguro_tests::{World, event};

/// A command whose core module has `parts` and runs `body`; it ends with a trap of its own.
fn command(parts: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $code
                {parts}
                (func $expect (param i32 i32)
                    (if (i32.ne (local.get 0) (local.get 1)) (then (drop (i32.div_u (i32.const 1) (i32.const 0))))))
                (func (export "run") (result i32) {body} unreachable))
            (core instance $code (instantiate $code))
            (func $run (result (result)) (canon lift (core func $code "run")))
            (component $run (import "run" (func $run (result (result)))) (export "run" (func $run)))
            (instance $run (instantiate $run (with "run" (func $run))))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// Why the command ended.
async fn ends(parts: &str, body: &str, limits: &str) -> Failure {
    let mut world = World::new();
    world.put_bytes("grows", &command(parts, body)).write("grows.toml", &format!("[limits]\n{limits}"));
    let host = world.up().await;
    let ended = event(&host, "its end", |event| matches!(event, Event::WorkerExited { .. })).await;
    world.down().await;
    match ended {
        Event::WorkerExited { reason: ExitReason::Failed(failure), .. } => failure,
        other => panic!("{other:?}"),
    }
}

fn is_own_trap(failure: &Failure) -> bool {
    matches!(failure, Failure::Trap { message, .. } if message.contains("unreachable"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_memorys_own_maximum_refuses_is_not_counted_and_is_no_limit_of_the_hosts() {
    let body = "(call $expect (memory.grow (i32.const 2046)) (i32.const -1))
        (call $expect (memory.grow (i32.const 1)) (i32.const 2))
        (call $expect (memory.grow (i32.const 8)) (i32.const -1))
        (call $expect (memory.size) (i32.const 3))";
    let ended = ends("(memory 2 10)", body, "memory = \"128MiB\"\n").await;
    assert!(is_own_trap(&ended), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tables_own_maximum_refuses_is_not_counted_and_is_no_limit_of_the_hosts() {
    let grow = |by: i32| format!("(table.grow (ref.null func) (i32.const {by}))");
    let body = format!(
        "(call $expect {} (i32.const -1)) (call $expect {} (i32.const 2)) (call $expect {} (i32.const -1))",
        grow(99_998),
        grow(1),
        grow(8),
    );
    let ended = ends("(table 2 10 funcref)", &body, "").await;
    assert!(is_own_trap(&ended), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_is_refused_more_than_its_worker_may_have_is_told_as_the_limit() {
    let body = "(call $expect (memory.grow (i32.const 100)) (i32.const -1))";
    let ended = ends("(memory 1)", body, "memory = \"1MiB\"\n").await;
    assert!(matches!(ended, Failure::Limit(Limit::Memory(1_048_576))), "{ended}");
}

/// Each array refers to the one before, so that nothing can be collected.
#[tokio::test(flavor = "multi_thread")]
async fn a_heap_with_a_collector_is_held_to_the_limit_and_its_end_is_told_as_that() {
    let parts = "(type $bytes (array (mut i8)))
        (type $link (struct (field (ref null $link)) (field (ref $bytes))))
        (global $last (mut (ref null $link)) (ref.null $link))";
    let body = "(loop $more
        (global.set $last (struct.new $link (global.get $last) (array.new $bytes (i32.const 7) (i32.const 65536))))
        (br $more))";
    let ended = ends(parts, body, "memory = \"4MiB\"\n").await;
    assert!(matches!(ended, Failure::Limit(Limit::Memory(_))), "{ended}");
}
