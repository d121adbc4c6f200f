//! What Paguro adds: starts side by side, `after`, escalation steps, budgets of one child, backoff,
//! restart storms, isolation.

use expect_test::expect;

use super::*;
use crate::base::bounds::STARTS_AT_ONCE;
use crate::runtime::spec::{Backoff, Escalation};

// Side by side.

#[test]
fn children_start_side_by_side_where_nothing_forbids_it() {
    for each in [Strategy::OneForOne, Strategy::OneForAll] {
        let mut world = World::new("sup", strategy(each, 1), &["a", "b", "c"]);
        world.slow("a b c");
        world.start();
        assert_eq!(world.trace, "0     start -> start a#0, start b#0, start c#0\n");
    }
}

#[test]
fn rest_for_one_starts_one_after_another() {
    let mut world = World::new("sup", strategy(Strategy::RestForOne, 1), &["a", "b", "c"]);
    world.slow("b");
    world.start();
    world.started("b");
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     b started -> start c#0
        0     c started -> UP
    "#]]);
}

#[test]
fn those_that_the_order_names_start_one_after_another_and_then_the_others_side_by_side() {
    let mut world = World::new("sup", ordered("d b"), &["a", "b", "c", "d"]);
    world.slow("a b c d");
    world.start();
    world.started("d");
    world.started("b");
    world.saw(expect![[r#"
        0     start -> start d#0
        0     d started -> start b#0
        0     b started -> start a#0, start c#0
    "#]]);
}

#[test]
fn a_child_starts_after_those_it_names_and_holds_up_nobody_else() {
    let mut world = World::new("sup", intensity(1), &[]);
    world.add_after("web", "db cache");
    ["cache", "db", "other"].iter().for_each(|leaf| world.add(leaf, Restart::Permanent));
    world.forget_trace();
    world.slow("cache db web");
    world.start();
    world.started("cache");
    world.started("db");
    world.started("web");
    world.slow("");
    world.stop();
    world.saw(expect![[r#"
        0     start -> start cache#0, start db#0, start other#0
        0     other started
        0     cache started
        0     db started -> start web#0
        0     web started -> UP
        0     stop -> stop other
        0     other stopped -> stop web
        0     web stopped -> stop db
        0     db stopped -> stop cache
        0     cache stopped -> DOWN
    "#]]);
}

#[test]
fn a_restart_waits_for_those_it_names_too() {
    let mut world = World::new("sup", intensity(9), &["a"]);
    world.add_after("b", "a");
    world.start();
    world.forget_trace();
    world.broken("a");
    world.fails("a");
    world.broken("");
    world.fails("b");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     b exited: trap -> restart b in 0 ms (3 used)
        100   due -> start a#2
        100   a started -> start b#1
        100   b started
    "#]]);
}

#[test]
fn one_that_is_down_for_good_is_not_waited_for() {
    let mut world = World::new("", intensity(0), &["a", "b", "c"]);
    world.add_after("d", "a b c gone");
    world.broken("a");
    world.ignoring("b");
    world.slow("c");
    world.start();
    world.stop_child("c");
    world.stopped("c");
    assert_eq!(world.states(), "a Isolated, b Down, c Down, d Running");
}

/// `check` refuses them beforehand; nothing hangs on it.
#[test]
fn dependencies_that_go_round_hang_nobody() {
    let mut world = World::new("sup", intensity(1), &[]);
    [("a", "b"), ("b", "c"), ("c", "a"), ("d", "d")].iter().for_each(|(leaf, after)| world.add_after(leaf, after));
    world.start();
    assert_eq!(world.policy.phase, Phase::Running);
    assert!(world.policy.children().all(|child| child.state == ChildState::Running));
}

#[test]
fn a_chain_of_dependencies_may_be_as_long_as_there_are_children() {
    let mut world = World::new("sup", intensity(1), &[]);
    let last = 300;
    world.add("0", Restart::Permanent);
    // Backwards, so that all have to change places.
    for at in (1..=last).rev() {
        world.add_after(&at.to_string(), &(at - 1).to_string());
    }
    let order: Vec<String> = world.policy.children().map(|child| child.spec.name.leaf().to_string()).collect();
    assert_eq!(order, (0..=last).map(|at| at.to_string()).collect::<Vec<_>>());
}

#[test]
fn not_too_many_start_at_one_time() {
    let mut world = World::new("sup", intensity(1), &[]);
    let leaves: Vec<String> = (0..STARTS_AT_ONCE + 2).map(|at| at.to_string()).collect();
    leaves.iter().for_each(|leaf| world.add(leaf, Restart::Permanent));
    let begun = |actions: &[Action]| actions.iter().filter(|one| matches!(one, Action::StartChild { .. })).count();
    assert_eq!(begun(&world.feed(Input::Start).1), STARTS_AT_ONCE);
    assert_eq!(begun(&world.feed(Input::Started(world.name("7"))).1), 1);
    assert_eq!(begun(&world.feed(Input::Ignored(world.name("8"))).1), 1);
    assert_eq!(begun(&world.feed(Input::Started(world.name("9"))).1), 0);
}

// Escalation steps.

fn steps(circuit_break: Option<u32>, isolate: Option<u32>, escalate: Option<u32>) -> SupervisorSettings {
    let backoff = Backoff { initial: Duration::ZERO, ..Backoff::default() };
    SupervisorSettings { escalation: Escalation { circuit_break, isolate, escalate }, backoff, ..intensity(9) }
}

#[test]
fn beyond_circuit_break_the_child_is_restarted_and_its_breaker_opens() {
    let mut world = abc(steps(Some(1), None, None));
    world.fails("a");
    world.fails("b");
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     b exited: trap -> restart b in 0 ms (2 used), start b#1
        0     b started
        0     a exited: trap -> break the circuit of a after 2, restart a in 0 ms (3 used), start a#2
        0     a started
    "#]]);
}

#[test]
fn beyond_isolate_the_child_is_let_go_of_and_the_others_go_on() {
    let mut world = abc(steps(Some(1), Some(2), None));
    (0..3).for_each(|_| world.fails("a"));
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     a exited: trap -> break the circuit of a after 2, restart a in 0 ms (2 used), start a#2
        0     a started
        0     a exited: trap -> isolate a: it needed 3 restarts within 5.00s, the last after: trap: oops
    "#]]);
    assert_eq!(world.states(), "a Isolated, b Running, c Running");
    assert_eq!(world.restarts(), 0, "its restarts do not use up the budget of the others");
}

#[test]
fn beyond_escalate_the_supervisor_gives_up_before_its_intensity_is_reached() {
    let mut world = abc(steps(None, None, Some(1)));
    world.fails("a");
    world.fails("b");
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     b exited: trap -> restart b in 0 ms (2 used), start b#1
        0     b started
        0     a exited: trap -> give up after 2, last a, stop c
        0     c stopped -> stop b
        0     b stopped -> DOWN with shutdown
    "#]]);
}

/// Circuit-break, isolate, escalate at these counts; how many failures of `a`; what follows the last.
#[test]
fn where_several_are_reached_the_last_holds() {
    let mut table = String::new();
    let cases = [
        ("sup", 9, steps(Some(1), Some(1), None), 2),
        ("sup", 9, steps(Some(1), Some(1), Some(1)), 2),
        ("sup", 9, steps(Some(1), Some(2), Some(3)), 2),
        ("sup", 0, steps(None, Some(1), None), 1),
        ("sup", 1, steps(None, Some(1), None), 2),
        ("sup", 1, steps(Some(1), None, None), 2),
        ("", 9, steps(None, None, Some(1)), 2),
        ("", 9, steps(Some(1), None, None), 2),
        ("", 0, steps(Some(1), Some(2), None), 1),
    ];
    for (sup, intensity, settings, failures) in cases {
        let Escalation { circuit_break, isolate, escalate } = settings.escalation;
        let mut world = World::new(sup, SupervisorSettings { intensity, ..settings }, &["a"]);
        world.start();
        (1..failures).for_each(|_| world.fails("a"));
        world.slow("a");
        let (_, actions) = world.feed(Input::Exited(world.name("a"), trap()));
        let done: Vec<String> = actions.iter().filter_map(did).collect();
        let show = |step: Option<u32>| step.map_or("-".to_string(), |step| step.to_string());
        let of = if sup.is_empty() { "root" } else { sup };
        let steps = [circuit_break, isolate, escalate].map(show).join(" ");
        writeln!(table, "{of:<4} {intensity} {steps}  {failures}: {}", done.join(", ")).unwrap();
    }
    expect![[r#"
        sup  9 1 1 -  2: isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
        sup  9 1 1 1  2: give up after 2, last a, DOWN with shutdown
        sup  9 1 2 3  2: break the circuit of a after 2, restart a in 0 ms (2 used), start a#2
        sup  0 - 1 -  1: give up after 1, last a, DOWN with shutdown
        sup  1 - 1 -  2: isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
        sup  1 1 - -  2: give up after 2, last a, DOWN with shutdown
        root 9 - - 1  2: isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
        root 9 1 - -  2: break the circuit of a after 2, restart a in 0 ms (2 used), start a#2
        root 0 1 2 -  1: isolate a: it needed 1 restart within 5.00s, the last after: trap: oops
    "#]]
    .assert_eq(&table);
}

#[test]
fn steps_count_one_child_within_the_period() {
    let mut world = abc(steps(None, Some(1), None));
    for _ in 0..3 {
        ["a", "b", "c"].iter().for_each(|leaf| world.fails(leaf));
        world.after_ms(5_001);
    }
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn one_isolated_during_a_round_does_not_hold_it_up() {
    let settings = SupervisorSettings { strategy: Strategy::RestForOne, ..steps(None, Some(1), None) };
    let mut world = World::new("sup", settings, &["a", "b", "c", "d"]);
    world.start();
    world.fails("b");
    world.slow("d");
    world.fails("c");
    world.forget_trace();
    world.fails("b");
    world.slow("");
    world.stopped("d");
    world.saw(expect![[r#"
        0     b exited: trap -> isolate b: it needed 2 restarts within 5.00s, the last after: trap: oops
        0     d stopped -> start c#2
        0     c started -> start d#2
        0     d started
    "#]]);
    assert_eq!(world.states(), "a Running, b Isolated, c Running, d Running");
}

// Budgets of one child, at the root.

#[test]
fn the_root_isolates_the_child_and_its_neighbours_go_on() {
    let mut world = World::new("", intensity(1), &["a", "b"]);
    world.start();
    world.forget_trace();
    world.fails("a");
    world.fails("a");
    world.fails("b");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        0     a exited: trap -> isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
        0     b exited: trap -> restart b in 0 ms (1 used), start b#1
        0     b started
    "#]]);
    assert_eq!(world.states(), "a Isolated, b Running");
    world.start_child("a");
    world.fails("a");
    world.fails("a");
    world.saw(expect![[r#"
        0     operator starts a -> start a#2
        0     a started
        0     a exited: trap -> restart a in 0 ms (1 used), start a#3
        0     a started
        0     a exited: trap -> isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
    "#]]);
}

/// Who fails, in order and at once, and what becomes of all: under the root each child has the
/// whole intensity, in a nested supervisor all share it.
#[test]
fn at_the_root_one_childs_failures_do_not_isolate_another() {
    let mut table = String::new();
    for (sup, allowed, failures) in [
        ("", 0, "a"),
        ("", 1, "abc"),
        ("", 1, "abb"),
        ("", 2, "aabbcc"),
        ("", 2, "aabbcca"),
        ("", 2, "aaabbccc"),
        ("sup", 2, "ab"),
        ("sup", 2, "abc"),
    ] {
        let mut world = World::new(sup, intensity(allowed), &["a", "b", "c"]);
        world.start();
        for leaf in failures.chars() {
            world.fails(&leaf.to_string());
            // Past the delay before a restart, and all within the period.
            world.after_ms(300);
        }
        let of = if sup.is_empty() { "root" } else { sup };
        writeln!(table, "{of:<4} {allowed} {failures:<8} {}", world.states()).unwrap();
    }
    expect![[r#"
        root 0 a        a Isolated, b Running, c Running
        root 1 abc      a Running, b Running, c Running
        root 1 abb      a Running, b Isolated, c Running
        root 2 aabbcc   a Running, b Running, c Running
        root 2 aabbcca  a Isolated, b Running, c Running
        root 2 aaabbccc a Isolated, b Running, c Isolated
        sup  2 ab       a Running, b Running, c Running
        sup  2 abc      a Down, b Down, c Down
    "#]]
    .assert_eq(&table);
}

#[test]
fn the_root_starts_the_others_when_one_does_not_start() {
    for each in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut world = World::new("", strategy(each, 0), &["a", "b", "c"]);
        world.broken("b");
        world.start();
        assert_eq!(world.states(), "a Running, b Isolated, c Running", "{each:?}");
        assert_eq!(world.policy.phase, Phase::Running);
    }
}

#[test]
fn the_root_tries_a_first_start_again_without_disturbing_the_others() {
    let mut world = World::new("", strategy(Strategy::OneForAll, 3), &["a", "b"]);
    world.broken("b");
    world.start();
    world.broken("");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     start -> start a#0, start b#0
        0     a started
        0     b failed to start -> restart b in 0 ms (1 used), start b#1
        0     b failed to start -> restart b in 100 ms (2 used), wake at 100, UP
        100   due -> start b#2
        100   b started
    "#]]);
}

#[test]
fn a_new_start_forgets_the_restarts_of_each_child() {
    let mut world = World::new("", intensity(1), &["a"]);
    world.start();
    world.fails("a");
    world.stop();
    world.start();
    world.forget_trace();
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#3
        0     a started
    "#]]);
    let a = world.name("a");
    assert_eq!(world.policy.restarts_of(&a, world.now), 1);
}

/// Strategies hold at the root too; what is isolated is the child that failed.
#[test]
fn the_root_may_take_siblings_along() {
    let mut world = World::new("", strategy(Strategy::OneForAll, 1), &["a", "b"]);
    world.start();
    world.forget_trace();
    world.fails("a");
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 1 go with a, stop b
        0     b stopped -> start a#1, start b#1
        0     a started
        0     b started
        0     a exited: trap -> isolate a: it needed 2 restarts within 5.00s, the last after: trap: oops
    "#]]);
    assert_eq!(world.states(), "a Isolated, b Running");
}

// Children that the directory adds.

#[test]
fn an_added_child_that_does_not_start_has_a_budget_of_its_own_and_is_then_isolated() {
    let mut world = abc(intensity(2));
    world.broken("x");
    world.add("x", Restart::Permanent);
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     add x Permanent -> start x#0
        0     x failed to start -> restart x in 0 ms (1 used), start x#1
        0     x failed to start -> restart x in 100 ms (2 used), wake at 100
        100   due -> start x#2
        100   x failed to start -> isolate x: it needed 3 restarts within 5.00s, the last after: trap: oops
    "#]]);
    assert_eq!(world.restarts(), 0);
    assert_eq!(world.states(), "a Running, b Running, c Running, x Isolated");
}

#[test]
fn an_added_child_that_does_not_start_disturbs_nobody() {
    for each in [Strategy::OneForAll, Strategy::RestForOne] {
        let mut world = abc(SupervisorSettings { order: leaves("x"), ..strategy(each, 2) });
        world.broken("x");
        world.add("x", Restart::Permanent);
        world.broken("");
        world.after_ms(1_000);
        assert!(!world.trace.contains("stop"), "{}", world.trace);
        assert_eq!(world.states(), "x Running, a Running, b Running, c Running");
        world.fails("x");
        assert_eq!(world.restarts(), 1, "from now on it fails as one that ran");
        assert!(world.trace.contains("3 go with x"), "{}", world.trace);
    }
}

// Backoff.

#[test]
fn there_is_no_delay_before_the_first_restart_and_none_after_a_healthy_time() {
    let mut world = abc(intensity(10));
    for _ in 0..3 {
        world.fails("a");
        world.after_ms(1_000);
    }
    world.after_ms(Backoff::default().healthy_after.as_millis() as u64);
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a started
        1000  a exited: trap -> restart a in 100 ms (2 used), wake at 1100
        1100  due -> start a#2
        1100  a started
        2000  a exited: trap -> restart a in 200 ms (3 used), wake at 2200
        2200  due -> start a#3
        2200  a started
        33000 a exited: trap -> restart a in 0 ms (1 used), start a#4
        33000 a started
    "#]]);
}

/// The time since an earlier life began says nothing about a start that was never done.
#[test]
fn a_start_that_was_never_done_is_no_healthy_time() {
    let mut world = abc(intensity(10));
    world.after_ms(Backoff::default().healthy_after.as_millis() as u64);
    world.slow("a");
    world.fails("a");
    world.fails("a");
    world.after_ms(100);
    world.fails("a");
    world.saw(expect![[r#"
        30000 a exited: trap -> restart a in 0 ms (1 used), start a#1
        30000 a exited: trap -> restart a in 100 ms (2 used), wake at 30100
        30100 due -> start a#2
        30100 a exited: trap -> restart a in 200 ms (3 used), wake at 30300
    "#]]);
}

#[test]
fn a_round_waits_for_the_backoff_of_the_one_that_failed() {
    let mut world = abc(strategy(Strategy::OneForAll, 9));
    world.fails("a");
    world.forget_trace();
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 100 ms (2 used), 2 go with a, stop c
        0     c stopped -> stop b
        0     b stopped -> wake at 100
    "#]]);
    world.after_ms(100);
    world.saw(expect![[r#"
        100   due -> start a#2, start b#2, start c#2
        100   a started
        100   b started
        100   c started
    "#]]);
}

#[test]
fn two_failures_in_one_round_wait_for_the_longer_backoff() {
    let mut world = World::new("sup", strategy(Strategy::RestForOne, 9), &["a", "b", "c"]);
    world.start();
    world.fails("b");
    world.fails("b");
    world.forget_trace();
    // Its first: no wait of its own.
    world.fails("a");
    world.after_ms(100);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (3 used), wake at 100
        100   due -> start a#1
        100   a started -> start b#2
        100   b started -> start c#2
        100   c started
    "#]]);
}

// Restart storms.

#[test]
fn a_restart_waits_for_those_elsewhere_in_the_tree() {
    let mut world = abc(intensity(9));
    world.storm = Duration::from_millis(250);
    world.fails("a");
    world.after_ms(250);
    // Its backoff is over before the storm is, and the other way round.
    world.fails("a");
    world.after_ms(250);
    world.storm = Duration::from_millis(50);
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 250 ms (1 used), wake at 250
        250   due -> start a#1
        250   a started
        250   a exited: trap -> restart a in 250 ms (2 used), wake at 500
        500   due -> start a#2
        500   a started
        500   a exited: trap -> restart a in 200 ms (3 used), wake at 700
    "#]]);
}

#[test]
fn a_storm_is_asked_about_the_childs_tier_and_only_for_restarts() {
    let mut world = abc(intensity(1));
    world.change("a", |spec| spec.tier = Tier::Critical);
    let mut asked = Vec::new();
    let inputs = [
        Input::StopChild(world.name("b")),
        Input::Stopped(world.name("b")),
        Input::StartChild(world.name("b")),
        Input::Exited(world.name("a"), trap()),
        Input::Exited(world.name("c"), trap()),
    ];
    for input in inputs {
        let storm = &mut |tier| {
            asked.push(tier);
            Duration::ZERO
        };
        world.policy.at(&mut Moment { now: world.now, jitter: 0, storm }, input);
    }
    assert_eq!(asked, [Tier::Critical], "the last one made it give up");
}

// Isolation by an operator.

#[test]
fn an_operator_isolates_a_child_whatever_it_is_doing_until_one_starts_it() {
    let mut world = abc(intensity(9));
    world.broken("b");
    world.fails("b");
    world.broken("");
    world.isolate_child("b");
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), start b#1
        0     b failed to start -> restart b in 100 ms (2 used), wake at 100
        0     operator isolates b -> stop b
        0     b stopped -> isolate b: by an operator
        100   due
    "#]]);
    assert_eq!(world.states(), "a Running, b Isolated, c Running");
    world.start_child("b");
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn an_operators_stop_takes_an_isolation_back() {
    let mut world = abc(intensity(9));
    world.isolate_child("b");
    world.stop_child("b");
    assert_eq!(world.states(), "a Running, b Down, c Running");
}

#[test]
fn an_isolation_is_never_counted_and_takes_nobody_along() {
    let mut world = abc(strategy(Strategy::OneForAll, 0));
    world.isolate_child("b");
    assert_eq!((world.states(), world.restarts()), ("a Running, b Isolated, c Running".to_string(), 0));
}

/// Clients make keys, so isolated ones must not pile up without end.
#[test]
fn a_key_beyond_the_isolated_ones_that_are_kept_leaves() {
    let settings = SupervisorSettings { each_key: true, ..strategy(Strategy::SimpleOneForOne, 0) };
    let mut world = World::new("sup", settings, &[]);
    world.start();
    for key in 0..bounds::ISOLATED_KEYS_MAX {
        let leaf = format!("k{key}");
        world.ask_for(&leaf, Restart::Permanent);
        world.fails(&leaf);
    }
    assert_eq!(world.policy.children.isolated().len(), bounds::ISOLATED_KEYS_MAX);
    world.forget_trace();
    world.ask_for("one-more", Restart::Permanent);
    world.fails("one-more");
    assert!(world.trace.ends_with("-> NOT ISOLATED: one-more, forget one-more\n"), "{}", world.trace);
    assert_eq!(world.policy.children.len(), bounds::ISOLATED_KEYS_MAX);
    // Where an operator starts one of those, there is room for another.
    world.start_child("k7");
    world.ask_for("one-more", Restart::Permanent);
    world.fails("one-more");
    assert!(world.trace.contains("isolate one-more"), "{}", world.trace);
}
