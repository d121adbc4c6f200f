//! *Restart*, *Intensity* and *A restart that fails*.

use expect_test::expect;

use super::*;

// Restart.

#[test]
fn restart_types_by_exit_reason() {
    let mut table = String::new();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Killed, trap()] {
            let mut world = World::new("sup", intensity(1), &[]);
            world.add("a", restart);
            world.start();
            let row = format!("{restart:?} {}", reason.word());
            world.exited("a", reason);
            writeln!(table, "{row:<18} {}", world.states()).unwrap();
        }
    }
    expect![[r#"
        Permanent normal   a Running
        Permanent shutdown a Running
        Permanent killed   a Running
        Permanent trap     a Running
        Transient normal   a Down
        Transient shutdown a Down
        Transient killed   a Running
        Transient trap     a Running
        Temporary normal   a Down
        Temporary shutdown a Down
        Temporary killed   a Down
        Temporary trap     a Down
    "#]]
    .assert_eq(&table);
}

#[test]
fn one_that_is_not_restarted_uses_up_nothing() {
    let mut world = World::new("sup", intensity(0), &["a"]);
    world.add("b", Restart::Transient);
    world.add("c", Restart::Temporary);
    world.start();
    world.forget_trace();
    world.exited("b", ExitReason::Normal);
    world.fails("c");
    world.saw(expect![[r#"
        0     b exited: normal
        0     c exited: trap
    "#]]);
    assert_eq!(world.restarts(), 0);
}

#[test]
fn the_spec_of_a_temporary_child_is_forgotten_once_it_has_ended() {
    let mut world = abc(intensity(1));
    world.ask_for("x", Restart::Temporary);
    world.exited("x", ExitReason::Normal);
    world.ask_for("x", Restart::Temporary);
    world.fails("x");
    world.ask_for("x", Restart::Temporary);
    world.stop_child("x");
    world.start_child("x");
    world.saw(expect![[r#"
        0     operator adds x Temporary -> start x#0
        0     x started
        0     x exited: normal -> forget x
        0     operator adds x Temporary -> start x#0
        0     x started
        0     x exited: trap -> forget x
        0     operator adds x Temporary -> start x#0
        0     x started
        0     operator stops x -> stop x
        0     x stopped -> forget x
        0     operator starts x -> NotFound
    "#]]);
}

/// Past OTP: its file is its spec.
#[test]
fn a_temporary_child_that_the_directory_declares_stays_known() {
    let mut world = World::new("sup", intensity(1), &[]);
    world.add("a", Restart::Temporary);
    world.start();
    world.fails("a");
    assert_eq!(world.states(), "a Down");
    world.start_child("a");
    assert_eq!(world.states(), "a Running");
}

#[test]
fn permanent_and_transient_specs_stay_when_a_child_is_not_running() {
    let mut world = abc(intensity(1));
    world.ask_for("x", Restart::Permanent);
    world.ask_for("y", Restart::Transient);
    world.stop_child("x");
    world.exited("y", ExitReason::Normal);
    assert_eq!(world.states(), "a Running, b Running, c Running, x Down, y Down");
}

#[test]
fn every_start_after_the_first_is_another_incarnation() {
    let mut world = World::new("", intensity(1), &["a"]);
    world.start();
    world.stop_child("a");
    world.start_child("a");
    world.restart_child("a");
    world.fails("a");
    world.fails("a");
    world.start_child("a");
    world.broken("a");
    world.restart_child("a");
    world.broken("");
    world.stop();
    world.start();
    world.remove("a");
    world.add("a", Restart::Permanent);
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> UP
        0     operator stops a -> stop a
        0     a stopped
        0     operator starts a -> start a#1
        0     a started
        0     operator restarts a -> stop a
        0     a stopped -> start a#2
        0     a started
        0     a exited: trap -> restart a in 0 ms (1 used), start a#3
        0     a started
        0     a exited: trap -> isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
        0     operator starts a -> start a#4
        0     a started
        0     operator restarts a -> stop a
        0     a stopped -> start a#5
        0     a failed to start
        0     stop -> DOWN
        0     start -> start a#6
        0     a started -> UP
        0     remove a -> stop a
        0     a stopped -> forget a
        0     add a Permanent -> start a#0
        0     a started
    "#]]);
}

// Intensity.

#[test]
fn it_gives_up_when_more_than_intensity_restarts_happen_within_the_period() {
    let mut world = abc(intensity(2));
    world.fails("a");
    world.after_ms(2_000);
    world.fails("b");
    world.after_ms(3_000);
    world.fails("c");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        2000  b exited: trap -> restart b in 0 ms (2 used), start b#1
        2000  b started
        5000  c exited: trap -> give up after 3, last c, stop b
        5000  b stopped -> stop a
        5000  a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn the_window_slides_and_its_bounds_are_inclusive() {
    let mut world = abc(intensity(1));
    world.fails("a");
    world.after_ms(5_001);
    world.fails("b");
    assert_eq!((world.states(), world.restarts()), ("a Running, b Running, c Running".to_string(), 1));
    world.after_ms(5_000);
    world.fails("c");
    assert_eq!(world.states(), "a Down, b Down, c Down");
}

#[test]
fn an_intensity_of_zero_gives_up_at_the_first() {
    let mut world = abc(intensity(0));
    world.fails("b");
    world.saw(expect![[r#"
        0     b exited: trap -> give up after 1, last b, stop c
        0     c stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn one_event_counts_once_however_many_children_it_restarts() {
    let mut world = abc(strategy(Strategy::OneForAll, 2));
    world.fails("a");
    assert_eq!(world.restarts(), 1);
    // A second word about the same end is not a second event.
    world.slow("a");
    world.fails("a");
    world.fails("a");
    world.start_failed("b");
    assert_eq!(world.restarts(), 2);
}

#[test]
fn an_operators_starts_and_restarts_never_count() {
    let mut world = abc(intensity(0));
    for _ in 0..3 {
        world.stop_child("a");
        world.start_child("a");
        world.restart_child("b");
    }
    assert_eq!(world.restarts(), 0);
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn what_an_operator_started_is_restarted_like_any_other() {
    let mut world = abc(intensity(1));
    world.restart_child("a");
    world.fails("a");
    assert_eq!(world.states(), "a Running, b Running, c Running");
    assert_eq!(world.restarts(), 1);
}

#[test]
fn when_it_gives_up_all_are_stopped_in_reverse_and_it_ends_with_shutdown() {
    let mut world = abc(intensity(0));
    world.slow("c");
    world.fails("b");
    world.saw(expect![[r#"
        0     b exited: trap -> give up after 1, last b, stop c
    "#]]);
    world.stopped("c");
    world.saw(expect![[r#"
        0     c stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
    world.start();
    assert_eq!(world.restarts(), 0, "its next life has its whole budget");
}

#[test]
fn the_parent_treats_one_that_gave_up_by_its_own_child_spec() {
    for (restart, expected) in [(Restart::Permanent, "inner Running"), (Restart::Transient, "inner Down")] {
        let mut world = World::new("sup", intensity(1), &[]);
        let inner = ChildSpec { kind: ChildKind::Supervisor, restart, ..world.spec("inner") };
        world.tell(Input::Add(Box::new(inner)));
        world.start();
        world.exited("inner", ExitReason::Shutdown);
        assert_eq!(world.states(), expected);
    }
}

// A restart that fails.

#[test]
fn a_failed_restart_counts_again_on_every_try_and_between_tries_it_serves_others() {
    let mut world = abc(intensity(3));
    world.broken("a");
    world.fails("a");
    world.stop_child("c");
    world.start_child("c");
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     operator stops c -> stop c
        0     c stopped
        0     operator starts c -> start c#1
        0     c started
        100   due -> start a#2
        100   a failed to start -> restart a in 200 ms (3 used), wake at 300
        300   due -> start a#3
        300   a failed to start -> give up after 4, last a, stop c
        300   c stopped -> stop b
        300   b stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn one_for_all_stops_what_had_been_restarted_and_tries_all_anew() {
    let mut world = abc(SupervisorSettings { order: leaves("a b c"), ..strategy(Strategy::OneForAll, 2) });
    world.slow("b");
    world.fails("c");
    world.stopped("b");
    world.start_failed("b");
    world.started("b");
    world.saw(expect![[r#"
        0     c exited: trap -> restart c in 0 ms (1 used), 2 go with c, stop b
        0     b stopped -> stop a
        0     a stopped -> start a#1
        0     a started -> start b#1
        0     b failed to start -> restart b in 0 ms (2 used), 1 go with b, stop a
        0     a stopped -> start a#2
        0     a started -> start b#2
        0     b started -> start c#1
        0     c started
    "#]]);
    assert_eq!(world.restarts(), 2);
}

#[test]
fn rest_for_one_tries_from_the_child_that_failed_and_earlier_ones_stay_up() {
    let mut world = World::new("sup", strategy(Strategy::RestForOne, 2), &["a", "b", "c", "d"]);
    world.start();
    world.forget_trace();
    world.slow("c");
    world.fails("b");
    world.stopped("c");
    world.start_failed("c");
    world.started("c");
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), 2 go with b, stop d
        0     d stopped -> stop c
        0     c stopped -> start b#1
        0     b started -> start c#1
        0     c failed to start -> restart c in 0 ms (2 used), start c#2
        0     c started -> start d#1
        0     d started
    "#]]);
    assert_eq!(world.restarts(), 2);
}

#[test]
fn rounds_that_go_on_failing_give_up() {
    let mut world = abc(strategy(Strategy::RestForOne, 2));
    world.broken("c");
    world.fails("b");
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), 1 go with b, stop c
        0     c stopped -> start b#1
        0     b started -> start c#1
        0     c failed to start -> restart c in 0 ms (2 used), start c#2
        0     c failed to start -> give up after 3, last c, stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn a_temporary_bystander_that_is_stopped_by_a_strategy_does_not_use_up_the_budget() {
    let mut world = World::new("sup", strategy(Strategy::OneForAll, 1), &["a"]);
    world.add("t", Restart::Temporary);
    world.start();
    world.fails("a");
    assert_eq!(world.restarts(), 1);
    assert_eq!(world.states(), "a Running, t Down");
}

#[test]
fn several_restart_loops_are_woken_each_in_its_time() {
    let mut world = abc(intensity(10));
    world.broken("a b");
    world.fails("a");
    world.after_ms(50);
    world.fails("b");
    world.broken("");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        50    b exited: trap -> restart b in 0 ms (3 used), start b#1
        50    b failed to start -> restart b in 100 ms (4 used), wake at 150
        100   due -> wake at 150, start a#2
        100   a started
        150   due -> start b#2
        150   b started
    "#]]);
}

#[test]
fn a_transient_childs_restart_that_fails_in_order_is_tried_again() {
    let mut world = World::new("sup", intensity(3), &[]);
    world.add("t", Restart::Transient);
    world.start();
    world.slow("t");
    world.fails("t");
    world.exited("t", ExitReason::Normal);
    world.slow("");
    world.after_ms(1_000);
    assert_eq!(world.states(), "t Running");
    assert_eq!(world.restarts(), 2);
}
