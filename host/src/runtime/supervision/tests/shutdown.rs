//! *Shutdown*.

use expect_test::expect;

use super::*;

#[test]
fn a_child_is_told_its_shutdown_time_and_why() {
    let seconds = Shutdown::Time(Duration::from_secs(2));
    for shutdown in [Shutdown::Kill, seconds, Shutdown::Infinity] {
        let mut world = World::new("sup", intensity(1), &[]);
        let spec = ChildSpec { shutdown, ..world.spec("a") };
        world.tell(Input::Add(Box::new(spec)));
        world.start();
        let (_, actions) = world.feed(Input::Stop);
        let name = world.name("a");
        assert_eq!(actions, [Action::StopChild { name, reason: ExitReason::Shutdown, shutdown, comes_back: false }]);
    }
}

#[test]
fn a_child_that_ends_with_another_reason_while_it_is_stopped_never_hangs_or_fails_the_stop() {
    let mut world = abc(intensity(0));
    world.slow("c");
    world.stop();
    world.fails("c");
    world.stopped("c");
    world.saw(expect![[r#"
        0     stop -> stop c
        0     c exited: trap
        0     c stopped -> stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn the_same_of_a_child_that_an_operator_stops() {
    let mut world = abc(intensity(0));
    world.slow("b");
    world.stop_child("b");
    world.fails("b");
    world.stopped("b");
    world.stop();
    world.saw(expect![[r#"
        0     operator stops b -> stop b
        0     b exited: trap
        0     b stopped
        0     stop -> stop c
        0     c stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
    assert_eq!(world.restarts(), 0);
}

#[test]
fn the_same_of_a_child_that_a_strategy_stops() {
    let mut world = abc(strategy(Strategy::OneForAll, 1));
    world.slow("c");
    world.fails("a");
    world.fails("c");
    world.slow("");
    world.stopped("c");
    assert_eq!(world.states(), "a Running, b Running, c Running");
    assert_eq!(world.restarts(), 1);
}

#[test]
fn a_child_that_ends_by_itself_while_its_supervisor_stops_is_not_restarted() {
    let mut world = abc(intensity(1));
    world.slow("c");
    world.stop();
    world.fails("a");
    world.fails("b");
    world.stopped("c");
    world.saw(expect![[r#"
        0     stop -> stop c
        0     a exited: trap
        0     b exited: trap
        0     c stopped -> DOWN
    "#]]);
}

#[test]
fn a_start_that_fails_while_its_supervisor_stops_is_only_noted() {
    let mut world = World::new("sup", intensity(9), &["a", "b", "c"]);
    world.slow("a c");
    world.start();
    world.stop();
    world.start_failed("a");
    world.stopped("c");
    world.saw(expect![[r#"
        0     start -> start a#0, start b#0, start c#0
        0     b started
        0     stop -> stop c
        0     a failed to start
        0     c stopped -> stop b
        0     b stopped -> DOWN
    "#]]);
}

#[test]
fn a_stop_that_comes_while_it_gives_up_is_answered() {
    let mut world = abc(intensity(0));
    world.slow("c");
    world.fails("b");
    world.stop();
    world.stopped("c");
    world.saw(expect![[r#"
        0     b exited: trap -> give up after 1, last b, stop c
        0     stop
        0     c stopped -> stop a
        0     a stopped -> DOWN
    "#]]);
}

#[test]
fn a_stop_that_comes_after_it_gave_up_is_answered() {
    let mut world = abc(intensity(0));
    world.fails("b");
    world.forget_trace();
    world.stop();
    world.saw(expect![[r#"
        0     stop -> DOWN
    "#]]);
}

#[test]
fn what_waits_to_be_restarted_does_not_hold_up_the_stop() {
    let mut world = abc(intensity(9));
    world.broken("c");
    world.fails("c");
    world.stop();
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     c exited: trap -> restart c in 0 ms (1 used), start c#1
        0     c failed to start -> restart c in 100 ms (2 used), wake at 100
        0     stop -> stop b
        0     b stopped -> stop a
        0     a stopped -> DOWN
        100   due
    "#]]);
}

#[test]
fn a_child_that_an_operator_stops_is_waited_for() {
    let mut world = abc(intensity(1));
    world.slow("a");
    world.stop_child("a");
    world.stop();
    world.stopped("a");
    world.saw(expect![[r#"
        0     operator stops a -> stop a
        0     stop
        0     a stopped -> stop c
        0     c stopped -> stop b
        0     b stopped -> DOWN
    "#]]);
}
