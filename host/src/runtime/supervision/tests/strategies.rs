//! *Strategies*.

use expect_test::expect;

use super::*;
use crate::runtime::spec::Escalation;

#[test]
fn strategies_act_only_on_children_that_are_to_be_restarted() {
    for each in [Strategy::OneForAll, Strategy::RestForOne] {
        let mut world = World::new("sup", strategy(each, 0), &["a", "z"]);
        world.add("b", Restart::Transient);
        world.add("c", Restart::Temporary);
        world.start();
        world.exited("b", ExitReason::Normal);
        world.fails("c");
        assert_eq!(world.states(), "a Running, z Running, b Down, c Down");
    }
}

#[test]
fn one_for_one_restarts_the_child_alone() {
    let mut world = abc(intensity(1));
    world.fails("b");
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), start b#1
        0     b started
    "#]]);
}

#[test]
fn one_for_all_stops_the_others_in_reverse_then_starts_all_in_order() {
    let mut world = abc(SupervisorSettings { order: leaves("a b c"), ..strategy(Strategy::OneForAll, 1) });
    world.fails("b");
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), 2 go with b, stop c
        0     c stopped -> stop a
        0     a stopped -> start a#1
        0     a started -> start b#1
        0     b started -> start c#1
        0     c started
    "#]]);
}

#[test]
fn rest_for_one_stops_those_after_the_failed_child_in_reverse_then_starts_them() {
    let mut world = World::new("sup", strategy(Strategy::RestForOne, 1), &["a", "b", "c", "d"]);
    world.start();
    world.forget_trace();
    world.fails("b");
    world.saw(expect![[r#"
        0     b exited: trap -> restart b in 0 ms (1 used), 2 go with b, stop d
        0     d stopped -> stop c
        0     c stopped -> start b#1
        0     b started -> start c#1
        0     c started -> start d#1
        0     d started
    "#]]);
}

#[test]
fn rest_for_one_of_the_last_is_one_for_one() {
    let mut world = abc(strategy(Strategy::RestForOne, 1));
    world.fails("c");
    world.saw(expect![[r#"
        0     c exited: trap -> restart c in 0 ms (1 used), start c#1
        0     c started
    "#]]);
}

#[test]
fn a_round_waits_for_each_that_it_stops() {
    let mut world = abc(strategy(Strategy::OneForAll, 1));
    world.slow("b c");
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 2 go with a, stop c
    "#]]);
    assert_eq!(world.policy.round_of(), Some(&world.name("a")));
    world.stopped("c");
    world.saw(expect![[r#"
        0     c stopped -> stop b
    "#]]);
    world.slow("");
    world.stopped("b");
    world.saw(expect![[r#"
        0     b stopped -> start a#1, start b#1, start c#1
        0     a started
        0     b started
        0     c started
    "#]]);
    assert_eq!(world.policy.round_of(), None);
}

#[test]
fn who_is_stopped_to_come_back_is_told_so() {
    let mut world = World::new("sup", strategy(Strategy::OneForAll, 1), &["a", "b"]);
    world.add("t", Restart::Temporary);
    world.start();
    world.slow("b t");
    let comes_back = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::StopChild { name, comes_back, .. } => Some((name.leaf().to_string(), comes_back)),
            _ => None,
        })
    };
    let (_, actions) = world.feed(Input::Exited(world.name("a"), trap()));
    assert_eq!(comes_back(actions), Some(("t".to_string(), false)));
    let (_, actions) = world.feed(Input::Stopped(world.name("t")));
    assert_eq!(comes_back(actions), Some(("b".to_string(), true)));
}

#[test]
fn a_temporary_bystander_is_stopped_and_not_restarted() {
    let mut world = World::new("sup", strategy(Strategy::OneForAll, 1), &["a"]);
    world.start();
    world.ask_for("x", Restart::Temporary);
    world.add("t", Restart::Temporary);
    world.forget_trace();
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 2 go with a, stop t
        0     t stopped -> stop x
        0     x stopped -> forget x, start a#1
        0     a started
    "#]]);
    assert_eq!(world.states(), "a Running, t Down");
}

#[test]
fn a_transient_bystander_starts_with_the_others() {
    let mut world = World::new("sup", strategy(Strategy::OneForAll, 1), &["a"]);
    world.add("b", Restart::Transient);
    world.start();
    world.fails("a");
    assert_eq!(world.states(), "a Running, b Running");
}

#[test]
fn all_start_with_a_round_but_what_is_isolated_or_temporary() {
    let mut world = World::new("sup", strategy(Strategy::OneForAll, 1), &["a", "b", "c"]);
    world.add("t", Restart::Temporary);
    world.add("d", Restart::Transient);
    world.start();
    world.exited("d", ExitReason::Normal);
    world.stop_child("b");
    world.stop_child("t");
    world.isolate_child("c");
    world.fails("a");
    assert_eq!(world.states(), "a Running, b Running, c Isolated, t Down, d Running");
}

#[test]
fn rest_for_one_starts_those_after_the_failed_one_that_were_stopped_and_none_before_it() {
    let mut world = abc(strategy(Strategy::RestForOne, 1));
    world.stop_child("a");
    world.stop_child("c");
    world.fails("b");
    assert_eq!(world.states(), "a Down, b Running, c Running");
}

#[test]
fn one_that_ends_by_itself_before_the_round_stops_it_is_not_counted_and_comes_back() {
    let mut world = abc(strategy(Strategy::OneForAll, 1));
    world.slow("c");
    world.fails("a");
    world.fails("b");
    world.slow("");
    world.stopped("c");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 2 go with a, stop c
        0     b exited: trap
        0     c stopped -> start a#1, start b#1, start c#1
        0     a started
        0     b started
        0     c started
    "#]]);
    assert_eq!(world.restarts(), 1);
}

#[test]
fn a_failure_during_a_round_begins_it_anew() {
    let mut world = World::new("sup", strategy(Strategy::RestForOne, 9), &["a", "b", "c", "d"]);
    world.start();
    world.forget_trace();
    world.slow("d");
    world.fails("c");
    // Before it in the order: the round is now from here on.
    world.fails("b");
    world.slow("");
    world.stopped("d");
    world.saw(expect![[r#"
        0     c exited: trap -> restart c in 0 ms (1 used), 1 go with c, stop d
        0     b exited: trap -> restart b in 0 ms (2 used)
        0     d stopped -> start b#1
        0     b started -> start c#1
        0     c started -> start d#1
        0     d started
    "#]]);
}

#[test]
fn a_round_takes_back_what_it_was_about_to_start() {
    let mut world = abc(SupervisorSettings { order: leaves("a b c"), ..strategy(Strategy::OneForAll, 9) });
    world.slow("b");
    world.fails("c");
    world.forget_trace();
    world.stopped("b");
    world.saw(expect![[r#"
        0     b stopped -> stop a
        0     a stopped -> start a#1
        0     a started -> start b#1
    "#]]);
    world.fails("a");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (2 used), 1 go with a, stop b
    "#]]);
    world.slow("");
    world.stopped("b");
    world.saw(expect![[r#"
        0     b stopped -> start a#2
        0     a started -> start b#2
        0     b started -> start c#1
        0     c started
    "#]]);
}

#[test]
fn an_operators_stop_takes_a_child_out_of_the_round() {
    let mut table = String::new();
    // The one that failed, one that is stopped for it, one that was, one that is about to be.
    for leaf in ["b", "c", "d", "a"] {
        let mut world = World::new("sup", strategy(Strategy::OneForAll, 9), &["a", "b", "c", "d"]);
        world.start();
        world.slow("c");
        world.fails("b");
        world.slow.insert(world.name(leaf));
        world.stop_child(leaf);
        if leaf != "c" {
            world.stopped(leaf);
        }
        world.slow("");
        world.stopped("c");
        writeln!(table, "{leaf}: {}", world.states()).unwrap();
    }
    expect![[r#"
        b: a Running, b Down, c Running, d Running
        c: a Running, b Running, c Down, d Running
        d: a Running, b Running, c Running, d Down
        a: a Down, b Running, c Running, d Running
    "#]]
    .assert_eq(&table);
}

#[test]
fn an_operators_restart_within_a_round_comes_back_with_it() {
    let mut world = abc(strategy(Strategy::RestForOne, 9));
    world.slow("c");
    world.fails("a");
    world.restart_child("b");
    world.forget_trace();
    world.slow("");
    world.stopped("c");
    world.saw(expect![[r#"
        0     c stopped -> start a#1
        0     a started -> start b#1
        0     b started -> start c#1
        0     c started
    "#]]);
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn a_removal_within_a_round_is_not_undone_by_it() {
    let mut world = abc(strategy(Strategy::OneForAll, 9));
    world.slow("c");
    world.fails("a");
    world.remove("b");
    world.remove("c");
    world.slow("");
    world.stopped("c");
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 2 go with a, stop c
        0     remove b -> stop b
        0     b stopped -> forget b
        0     remove c
        0     c stopped -> forget c, start a#1
        0     a started
    "#]]);
    assert_eq!(world.states(), "a Running");
}

#[test]
fn a_stop_of_the_supervisor_ends_the_round() {
    let mut world = abc(strategy(Strategy::OneForAll, 9));
    world.slow("c");
    world.fails("a");
    world.stop();
    world.stopped("c");
    world.after_ms(10_000);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), 2 go with a, stop c
        0     stop
        0     c stopped -> stop b
        0     b stopped -> DOWN
    "#]]);
}

// simple-one-for-one.

fn template(settings: SupervisorSettings) -> World {
    let simple = SupervisorSettings { strategy: Strategy::SimpleOneForOne, ..settings };
    let mut world = World::new("rooms", simple, &[]);
    world.start();
    world
}

#[test]
fn a_template_has_no_child_at_first_and_children_are_started_by_key() {
    let mut world = template(intensity(1));
    world.ask_for("7", Restart::Permanent);
    world.ask_for("8", Restart::Permanent);
    world.saw(expect![[r#"
        0     start -> UP
        0     operator adds 7 Permanent -> start 7#0
        0     7 started
        0     operator adds 8 Permanent -> start 8#0
        0     8 started
    "#]]);
}

#[test]
fn on_stop_all_children_of_a_template_are_told_at_once() {
    let mut world = template(intensity(1));
    ["1", "2", "3"].iter().for_each(|key| world.ask_for(key, Restart::Permanent));
    world.forget_trace();
    world.slow("1 2 3");
    world.stop();
    world.saw(expect![[r#"
        0     stop -> stop 1, stop 2, stop 3
    "#]]);
    ["2", "3", "1"].iter().for_each(|key| world.stopped(key));
    world.saw(expect![[r#"
        0     2 stopped -> forget 2
        0     3 stopped -> forget 3
        0     1 stopped -> forget 1, DOWN
    "#]]);
    world.start();
    world.saw(expect![[r#"
        0     start -> UP
    "#]]);
}

#[test]
fn a_child_of_a_template_is_restarted_alone() {
    let mut world = template(intensity(1));
    ["1", "2"].iter().for_each(|key| world.ask_for(key, Restart::Permanent));
    world.forget_trace();
    world.fails("1");
    world.saw(expect![[r#"
        0     1 exited: trap -> restart 1 in 0 ms (1 used), start 1#1
        0     1 started
    "#]]);
}

#[test]
fn nothing_is_kept_of_a_child_of_a_template_that_ended_or_did_not_start() {
    let mut world = template(intensity(1));
    world.ask_for("1", Restart::Transient);
    world.exited("1", ExitReason::Normal);
    world.ask_for("2", Restart::Permanent);
    world.stop_child("2");
    world.broken("3");
    world.ask_for("3", Restart::Permanent);
    world.ignoring("4");
    world.ask_for("4", Restart::Permanent);
    world.saw(expect![[r#"
        0     start -> UP
        0     operator adds 1 Transient -> start 1#0
        0     1 started
        0     1 exited: normal -> forget 1
        0     operator adds 2 Permanent -> start 2#0
        0     2 started
        0     operator stops 2 -> stop 2
        0     2 stopped -> forget 2
        0     operator adds 3 Permanent -> start 3#0
        0     3 failed to start -> forget 3
        0     operator adds 4 Permanent -> start 4#0
        0     4 ignored its start -> forget 4
    "#]]);
    assert_eq!(world.states(), "");
}

#[test]
fn where_no_intensity_is_written_each_key_has_a_budget_of_its_own() {
    let mut world = template(SupervisorSettings::default());
    (1..=20).for_each(|key| world.ask_for(&key.to_string(), Restart::Permanent));
    world.forget_trace();
    for key in ["1", "2", "1", "3", "3", "2"] {
        world.fails(key);
    }
    world.saw(expect![[r#"
        0     1 exited: trap -> restart 1 in 0 ms (1 used), start 1#1
        0     1 started
        0     2 exited: trap -> restart 2 in 0 ms (1 used), start 2#1
        0     2 started
        0     1 exited: trap -> isolate 1: it needed 2 restarts within 5.00s, the last after: trap: oops
        0     3 exited: trap -> restart 3 in 0 ms (1 used), start 3#1
        0     3 started
        0     3 exited: trap -> isolate 3: it needed 2 restarts within 5.00s, the last after: trap: oops, MANY ISOLATED: 2 of 20
        0     2 exited: trap -> isolate 2: it needed 2 restarts within 5.00s, the last after: trap: oops
    "#]]);
    // Those that are isolated are told of again only after there were fewer.
    world.start_child("1");
    world.start_child("2");
    world.forget_trace();
    ["4", "4"].iter().for_each(|key| world.fails(key));
    world.saw(expect![[r#"
        0     4 exited: trap -> restart 4 in 0 ms (1 used), start 4#1
        0     4 started
        0     4 exited: trap -> isolate 4: it needed 2 restarts within 5.00s, the last after: trap: oops, MANY ISOLATED: 2 of 20
    "#]]);
    assert_eq!(world.policy.counts().active, 18);
}

/// A step that is written is the folder's.
#[test]
fn a_key_with_a_budget_of_its_own_can_still_end_its_folder_by_a_written_step() {
    let escalation = Escalation { escalate: Some(1), ..Escalation::default() };
    let mut world = template(SupervisorSettings { intensity: 5, escalation, ..SupervisorSettings::default() });
    ["1", "2"].iter().for_each(|key| world.ask_for(key, Restart::Permanent));
    world.forget_trace();
    ["1", "2", "1"].iter().for_each(|key| world.fails(key));
    world.saw(expect![[r#"
        0     1 exited: trap -> restart 1 in 0 ms (1 used), start 1#1
        0     1 started
        0     2 exited: trap -> restart 2 in 0 ms (1 used), start 2#1
        0     2 started
        0     1 exited: trap -> give up after 2, last 1, forget 1, stop 2
        0     2 stopped -> forget 2, DOWN with shutdown
    "#]]);
}

#[test]
fn a_template_whose_intensity_is_written_gives_up_like_any_other() {
    let mut world = template(intensity(0));
    ["1", "2", "3"].iter().for_each(|key| world.ask_for(key, Restart::Permanent));
    world.forget_trace();
    world.fails("2");
    world.saw(expect![[r#"
        0     2 exited: trap -> give up after 1, last 2, forget 2, stop 1, stop 3
        0     1 stopped -> forget 1
        0     3 stopped -> forget 3, DOWN with shutdown
    "#]]);
}

#[test]
fn a_key_that_ignores_the_start_of_its_restart_is_forgotten() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let mut world = template(intensity(3));
        world.ask_for("1", restart);
        world.ask_for("2", restart);
        world.ignoring("1");
        world.fails("1");
        assert_eq!(world.states(), "2 Running");
        assert_eq!(world.policy.counts().workers, 1);
        world.stop();
        assert_eq!((world.states().as_str(), &world.policy.phase), ("", &Phase::Down));
    }
}

#[test]
fn a_key_in_its_restart_loop_is_counted_and_its_stop_ends_the_loop() {
    let mut world = template(intensity(5));
    ["1", "2"].iter().for_each(|key| world.ask_for(key, Restart::Permanent));
    world.broken("1");
    world.fails("1");
    assert_eq!(world.policy.counts(), Counts { specs: 1, active: 1, supervisors: 0, workers: 2 });
    assert!(world.policy.child(&world.name("1")).unwrap().is_restarting());
    world.stop_child("1");
    world.forget_trace();
    world.after_ms(10_000);
    world.saw(expect![[r#"
        100   due
    "#]]);
    assert_eq!(world.states(), "2 Running", "no later start follows");
    // Nor does one hold up the stop of its folder.
    world.broken("2");
    world.fails("2");
    world.stop();
    assert_eq!((world.states().as_str(), &world.policy.phase), ("", &Phase::Down));
}
