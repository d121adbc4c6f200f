//! *Changing a running supervisor*, and children that the directory adds and removes.

use expect_test::expect;

use super::*;

#[test]
fn new_flags_hold_from_then_on() {
    let mut world = abc(intensity(3));
    world.fails("a");
    world.fails("b");
    let period = Duration::from_secs(1);
    world.configure(SupervisorSettings { period, ..intensity(1) });
    world.after_ms(1_001);
    world.fails("c");
    world.fails("b");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     b exited: trap -> restart b in 0 ms (2 used), start b#1
        0     b started
        0     configure OneForOne, 1 in 1.00s
        1001  c exited: trap -> restart c in 0 ms (1 used), start c#1
        1001  c started
        1001  b exited: trap -> give up after 2, last b, stop c
        1001  c stopped -> stop a
        1001  a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn a_new_strategy_holds_for_the_next_failure_and_children_go_on_running() {
    let mut world = abc(intensity(9));
    world.configure(strategy(Strategy::OneForAll, 9));
    world.saw(expect![[r#"
        0     configure OneForAll, 9 in 5.00s
    "#]]);
    world.fails("c");
    world.configure(strategy(Strategy::OneForOne, 9));
    world.fails("b");
    world.saw(expect![[r#"
        0     c exited: trap -> restart c in 0 ms (1 used), 2 go with c, stop b
        0     b stopped -> stop a
        0     a stopped -> start a#1, start b#1, start c#1
        0     a started
        0     b started
        0     c started
        0     configure OneForOne, 9 in 5.00s
        0     b exited: trap -> restart b in 0 ms (2 used), start b#2
        0     b started
    "#]]);
}

#[test]
fn a_round_goes_on_under_a_new_strategy() {
    let mut world = abc(strategy(Strategy::OneForAll, 9));
    world.slow("c");
    world.fails("a");
    world.configure(strategy(Strategy::OneForOne, 9));
    world.slow("");
    world.stopped("c");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 2 go with a, stop c
        0     configure OneForOne, 9 in 5.00s
        0     c stopped -> stop b
        0     b stopped -> start a#1, start b#1, start c#1
        0     a started
        0     b started
        0     c started
    "#]]);
}

#[test]
fn a_new_order_is_that_of_the_next_start_and_stop() {
    let mut world = abc(intensity(1));
    world.configure(ordered("c b"));
    world.stop();
    world.start();
    world.saw(expect![[r#"
        0     configure OneForOne, 1 in 5.00s
        0     stop -> stop a
        0     a stopped -> stop b
        0     b stopped -> stop c
        0     c stopped -> DOWN
        0     start -> start c#1
        0     c started -> start b#1
        0     b started -> start a#1
        0     a started -> UP
    "#]]);
}

#[test]
fn a_child_keeps_running_under_its_new_spec() {
    let mut world = abc(intensity(1));
    world.change("a", |spec| spec.restart = Restart::Temporary);
    world.change("x", |spec| spec.restart = Restart::Temporary);
    world.fails("a");
    world.saw(expect![[r#"
        0     change a Temporary
        0     change x Temporary -> NotFound
        0     a exited: trap
    "#]]);
    world.change("b", |spec| spec.shutdown = Shutdown::Kill);
    let (_, actions) = world.feed(Input::StopChild(world.name("b")));
    assert!(matches!(actions[..], [Action::StopChild { shutdown: Shutdown::Kill, .. }]), "{actions:?}");
}

#[test]
fn new_dependencies_change_the_order() {
    let mut world = abc(intensity(1));
    world.change("a", |spec| spec.after = leaves("c"));
    world.stop();
    world.start();
    world.saw(expect![[r#"
        0     change a Permanent
        0     stop -> stop b
        0     b stopped -> stop a
        0     a stopped -> stop c
        0     c stopped -> DOWN
        0     start -> start c#1, start b#1
        0     c started -> start a#1
        0     b started
        0     a started -> UP
    "#]]);
}

#[test]
fn new_children_are_added_and_start_at_once() {
    let mut world = abc(intensity(1));
    world.slow("d");
    world.add("d", Restart::Permanent);
    world.add("e", Restart::Permanent);
    world.saw(expect![[r#"
        0     add d Permanent -> start d#0
        0     add e Permanent -> start e#0
        0     e started
    "#]]);
}

/// What a new child is named in has its place by that, not at the end.
#[test]
fn a_new_child_that_others_wait_for_or_the_order_names_starts_before_them() {
    let mut world = World::new("sup", ordered("first"), &["a"]);
    world.add_after("b", "base");
    world.add("base", Restart::Permanent);
    world.add("first", Restart::Permanent);
    world.start();
    assert_eq!(world.states(), "first Running, a Running, base Running, b Running");
}

#[test]
fn a_child_is_added_to_a_supervisor_that_is_down_and_starts_with_it() {
    let mut world = abc(intensity(1));
    world.stop();
    world.add("d", Restart::Permanent);
    world.ask_for("e", Restart::Permanent);
    assert_eq!(world.states(), "a Down, b Down, c Down, d Down");
    world.start();
    assert_eq!(world.states(), "a Running, b Running, c Running, d Running");
}

#[test]
fn after_an_escalation_a_subtree_is_built_again_from_its_specs() {
    let mut world = abc(intensity(1));
    world.stop_child("b");
    world.isolate_child("c");
    world.fails("a");
    world.fails("a");
    assert_eq!(world.states(), "a Down, b Down, c Isolated");
    world.start();
    // Of an isolated child that says nothing.
    assert_eq!(world.states(), "a Running, b Running, c Isolated");
    world.start_child("c");
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn a_child_that_is_being_isolated_while_its_supervisor_starts_anew_stays_isolated() {
    let mut world = abc(intensity(1));
    world.slow("c");
    world.isolate_child("c");
    world.stop();
    world.stopped("c");
    world.start();
    assert_eq!(world.states(), "a Running, b Running, c Isolated");
}

// Removal.

#[test]
fn a_child_is_removed_whatever_it_is_doing() {
    let mut table = String::new();
    type Prepare = fn(&mut World);
    let cases: [(&str, Prepare); 7] = [
        ("running", |_| {}),
        ("down", |world| world.stop_child("a")),
        ("isolated", |world| world.isolate_child("a")),
        ("starting", |world| {
            world.slow("a");
            world.fails("a");
        }),
        ("stopping", |world| {
            world.slow("a");
            world.stop_child("a");
        }),
        ("restarting", |world| {
            world.broken("a");
            world.fails("a");
        }),
        ("stopping to start again", |world| {
            world.slow("a");
            world.restart_child("a");
        }),
    ];
    for (state, prepare) in cases {
        let mut world = abc(intensity(5));
        prepare(&mut world);
        world.forget_trace();
        world.slow("a");
        world.remove("a");
        world.stopped("a");
        world.after_ms(1_000);
        writeln!(table, "{state}\n{}", world.trace).unwrap();
        assert_eq!(world.states(), "b Running, c Running");
    }
    expect![[r#"
        running
        0     remove a -> stop a
        0     a stopped -> forget a

        down
        0     remove a -> stop a
        0     a stopped -> forget a

        isolated
        0     remove a -> stop a
        0     a stopped -> forget a

        starting
        0     remove a -> stop a
        0     a stopped -> forget a

        stopping
        0     remove a
        0     a stopped -> forget a

        restarting
        0     remove a -> stop a
        0     a stopped -> forget a
        100   due

        stopping to start again
        0     remove a
        0     a stopped -> forget a

    "#]]
    .assert_eq(&table);
}

#[test]
fn a_removal_cannot_be_taken_back() {
    let mut world = abc(intensity(5));
    world.slow("a");
    world.remove("a");
    world.start_child("a");
    world.restart_child("a");
    world.stop_child("a");
    world.isolate_child("a");
    world.add("a", Restart::Permanent);
    world.stopped("a");
    world.saw(expect![[r#"
        0     remove a -> stop a
        0     operator starts a -> NotFound
        0     operator restarts a -> NotFound
        0     operator stops a
        0     operator isolates a
        0     add a Permanent -> AlreadyPresent
        0     a stopped -> forget a
    "#]]);
}

#[test]
fn a_removal_while_the_supervisor_starts_does_not_hold_up_the_others() {
    let mut world = World::new("sup", ordered("a b c"), &["a", "b", "c"]);
    world.slow("a");
    world.start();
    world.remove("b");
    world.remove("a");
    world.stopped("a");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     remove b -> stop b
        0     b stopped -> forget b
        0     remove a -> stop a
        0     a stopped -> forget a, start c#0
        0     c started -> UP
    "#]]);
}

#[test]
fn a_removal_before_the_start_is_not_undone_by_it() {
    let mut world = World::new("sup", intensity(1), &["a", "b", "c"]);
    world.slow("a b");
    world.remove("a");
    world.stop_child("b");
    world.start();
    world.stopped("a");
    world.stopped("b");
    world.started("b");
    world.saw(expect![[r#"
        0     remove a -> stop a
        0     operator stops b -> stop b
        0     start -> start c#0
        0     c started
        0     a stopped -> forget a
        0     b stopped -> start b#0
        0     b started -> UP
    "#]]);
}

#[test]
fn a_removal_while_the_supervisor_stops_is_waited_for() {
    let mut world = abc(intensity(1));
    world.slow("a");
    world.remove("a");
    world.stop();
    world.stopped("a");
    world.saw(expect![[r#"
        0     remove a -> stop a
        0     stop
        0     a stopped -> forget a, stop c
        0     c stopped -> stop b
        0     b stopped -> DOWN
    "#]]);
}
