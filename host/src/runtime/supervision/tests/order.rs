//! *Defaults* and *Start and stop order*.

use expect_test::expect;

use super::*;
use crate::runtime::spec::{AutoShutdown, SupervisorAsChild, WorkerSettings};

// Defaults.

#[test]
fn the_defaults_are_otps() {
    let settings = SupervisorSettings::default();
    assert_eq!(settings.strategy, Strategy::OneForOne);
    assert_eq!((settings.intensity, settings.period), (1, Duration::from_secs(5)));
    assert_eq!(settings.auto_shutdown, AutoShutdown::Never);
    let worker = WorkerSettings::default();
    assert_eq!((worker.restart, worker.significant), (None, false), "permanent, but for a command");
    assert_eq!(worker.shutdown, Shutdown::Time(Duration::from_secs(5)));
    let supervisor = SupervisorAsChild::default();
    assert_eq!((supervisor.restart, supervisor.significant), (Restart::Permanent, false));
    assert_eq!(supervisor.shutdown, Shutdown::Infinity);
}

// Start and stop order.

#[test]
fn children_start_one_after_another_in_order() {
    let mut world = World::new("sup", ordered("c a b"), &["a", "b", "c"]);
    world.slow("a");
    world.start();
    world.saw(expect![[r#"
        0     start -> start c#0
        0     c started -> start a#0
    "#]]);
    world.started("a");
    world.saw(expect![[r#"
        0     a started -> start b#0
        0     b started -> UP
    "#]]);
}

#[test]
fn a_supervisor_has_started_when_all_have() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("a b");
    world.start();
    world.started("b");
    world.saw(expect![[r#"
        0     start -> start a#0, start b#0, start c#0
        0     c started
        0     b started
    "#]]);
    world.started("a");
    world.saw(expect![[r#"
        0     a started -> UP
    "#]]);
}

#[test]
fn a_supervisor_has_not_started_while_one_waits_for_a_sibling_in_its_backoff() {
    let mut world = World::new("sup", intensity(9), &["a", "c"]);
    world.slow("c");
    world.start();
    world.broken("a");
    world.fails("a");
    world.add_after("b", "a");
    world.started("c");
    world.broken("");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     start -> start a#0, start c#0
        0     a started
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     add b Permanent
        0     c started
        100   due -> start a#2
        100   a started -> start b#0
        100   b started -> UP
    "#]]);
}

#[test]
fn a_supervisor_has_not_started_while_a_round_waits() {
    let mut world = World::new("sup", strategy(Strategy::OneForAll, 9), &["a", "b"]);
    world.slow("b");
    world.start();
    world.broken("a");
    world.fails("a");
    world.stopped("b");
    world.stopped("b");
    world.broken("");
    world.slow("");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     start -> start a#0, start b#0
        0     a started
        0     a exited: trap -> restart a in 0 ms (1 used), 1 go with a, stop b
        0     b stopped -> start a#1, start b#1
        0     a failed to start -> restart a in 100 ms (2 used), 1 go with a, stop b
        0     b stopped -> wake at 100
        100   due -> start a#2, start b#2
        100   a started
        100   b started -> UP
    "#]]);
}

#[test]
fn a_supervisor_without_children_starts_and_stops_at_once() {
    let mut world = World::new("sup", intensity(1), &[]);
    world.start();
    world.stop();
    world.saw(expect![[r#"
        0     start -> UP
        0     stop -> DOWN
    "#]]);
}

#[test]
fn stop_is_in_reverse_one_after_another() {
    let mut world = abc(intensity(1));
    world.slow("b");
    world.stop();
    world.saw(expect![[r#"
        0     stop -> stop c
        0     c stopped -> stop b
    "#]]);
    world.stopped("b");
    world.saw(expect![[r#"
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_stop_while_children_start_stops_those_that_had_begun() {
    let mut world = World::new("sup", ordered("a b c"), &["a", "b", "c"]);
    world.slow("b");
    world.start();
    world.stop();
    world.started("b");
    world.stopped("b");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     stop -> stop b
        0     b started
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn if_one_fails_to_start_those_started_are_stopped_in_reverse_and_the_start_fails_naming_the_child() {
    let mut world = World::new("sup", ordered("a b c d"), &["a", "b", "c", "d"]);
    world.broken("c");
    world.start();
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     b started -> start c#0
        0     c failed to start -> stop b
        0     b stopped -> stop a
        0     a stopped -> NOT STARTED: cannot be started: its child `sup/c` did not start: trap: oops
    "#]]);
    assert_eq!(world.states(), "a Down, b Down, c Down, d Down");
    world.broken("");
    world.start();
    assert_eq!(world.states(), "a Running, b Running, c Running, d Running");
}

#[test]
fn a_start_that_fails_stops_those_that_start_beside_it_too() {
    let mut world = World::new("sup", intensity(9), &["a", "b", "c"]);
    world.slow("c");
    world.broken("b");
    world.start();
    world.stopped("c");
    world.saw(expect![[r#"
        0     start -> start a#0, start b#0, start c#0
        0     a started
        0     b failed to start -> stop c
        0     c stopped -> stop a
        0     a stopped -> NOT STARTED: cannot be started: its child `sup/b` did not start: trap: oops
    "#]]);
}

#[test]
fn the_start_fails_whatever_the_childs_restart_type() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let mut world = World::new("sup", intensity(9), &["a"]);
        world.add("b", restart);
        world.broken("b");
        world.start();
        assert_eq!(world.policy.phase, Phase::Down, "{restart:?}");
        assert_eq!(world.restarts(), 0);
    }
}

/// A nested supervisor that gives up while it starts says `exited`, never `started`.
#[test]
fn an_end_before_the_start_was_done_is_a_start_that_failed() {
    let mut world = World::new("sup", intensity(9), &["a", "b"]);
    world.slow("b");
    world.start();
    world.exited("b", ExitReason::Shutdown);
    world.saw(expect![[r#"
        0     start -> start a#0, start b#0
        0     a started
        0     b exited: shutdown -> stop a
        0     a stopped -> NOT STARTED: cannot be started: its child `sup/b` did not start: shutdown
    "#]]);
}

/// Its parent waits for `stopped`: should it hear only of the failed start, it would wait for ever.
#[test]
fn a_stop_that_comes_while_the_failed_start_is_undone_is_answered() {
    let mut world = World::new("sup", ordered("a b"), &["a", "b"]);
    world.slow("b");
    world.start();
    world.slow("a");
    world.start_failed("b");
    world.stop();
    world.stopped("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     b failed to start -> stop a
        0     stop
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn children_added_later_go_to_the_end() {
    let mut world = abc(ordered("c"));
    world.add("0", Restart::Permanent);
    world.stop();
    world.saw(expect![[r#"
        0     add 0 Permanent -> start 0#0
        0     0 started
        0     stop -> stop 0
        0     0 stopped -> stop b
        0     b stopped -> stop a
        0     a stopped -> stop c
        0     c stopped -> DOWN
    "#]]);
}

#[test]
fn a_child_added_while_the_supervisor_starts_waits_its_turn() {
    let mut world = World::new("sup", ordered("a b"), &["a", "b"]);
    world.slow("a");
    world.start();
    world.add("z", Restart::Permanent);
    world.started("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     add z Permanent
        0     a started -> start b#0
        0     b started -> start z#0
        0     z started -> UP
    "#]]);
}

/// What begins after the supervisor's own start is the directory's affair, not the start's.
#[test]
fn a_child_added_while_the_supervisor_starts_does_not_fail_it() {
    let mut world = World::new("sup", intensity(0), &["a"]);
    world.slow("a");
    world.broken("z");
    world.start();
    world.add("z", Restart::Permanent);
    world.started("a");
    assert_eq!(world.policy.phase, Phase::Running);
    assert_eq!(world.states(), "a Running, z Isolated");
}

#[test]
fn an_operators_start_waits_its_turn_while_the_supervisor_starts() {
    let mut world = World::new("sup", ordered("a b"), &["b", "c", "a"]);
    world.slow("b");
    world.start();
    world.stop_child("c");
    world.start_child("c");
    world.started("b");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     operator stops c -> stop c
        0     c stopped
        0     operator starts c
        0     b started -> start c#0
        0     c started -> UP
    "#]]);
}

#[test]
fn a_start_while_it_stops_or_runs_changes_nothing() {
    let mut world = abc(intensity(1));
    world.start();
    world.slow("c");
    world.stop();
    world.start();
    world.stopped("c");
    world.saw(expect![[r#"
        0     start
        0     stop -> stop c
        0     start
        0     c stopped -> stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_child_that_waits_for_its_turn_can_be_stopped_and_does_not_hold_up_the_others() {
    let mut world = World::new("sup", ordered("a b c"), &["a", "b", "c"]);
    world.slow("a");
    world.start();
    world.stop_child("b");
    world.started("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     operator stops b -> stop b
        0     b stopped
        0     a started -> start c#0
        0     c started -> UP
    "#]]);
}
