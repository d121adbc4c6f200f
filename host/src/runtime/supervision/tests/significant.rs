//! *Significant children*. What is refused is in `check`.

use expect_test::expect;

use super::*;
use crate::runtime::spec::AutoShutdown;

/// The permanent `a`, the significant `s` and `t`, and `z`.
fn significant(auto_shutdown: AutoShutdown, restart: Restart) -> World {
    let mut world = World::new("sup", SupervisorSettings { auto_shutdown, ..intensity(1) }, &["a"]);
    world.add_significant("s", restart);
    world.add_significant("t", restart);
    world.add("z", Restart::Permanent);
    world.start();
    world.forget_trace();
    world
}

#[test]
fn any_significant_ends_the_supervisor_when_one_ends_by_itself() {
    let mut world = significant(AutoShutdown::AnySignificant, Restart::Transient);
    world.exited("s", ExitReason::Normal);
    world.saw(expect![[r#"
        0     s exited: normal -> shut down with s, stop z
        0     z stopped -> stop t
        0     t stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn all_significant_ends_it_when_the_last_one_does() {
    let mut world = significant(AutoShutdown::AllSignificant, Restart::Transient);
    world.exited("t", ExitReason::Normal);
    world.exited("s", ExitReason::Normal);
    world.saw(expect![[r#"
        0     t exited: normal
        0     s exited: normal -> shut down with s, stop z
        0     z stopped -> stop a
        0     a stopped -> DOWN with shutdown
    "#]]);
}

#[test]
fn never_ends_it_for_none() {
    let mut world = significant(AutoShutdown::Never, Restart::Temporary);
    world.fails("s");
    world.fails("t");
    assert_eq!(world.states(), "a Running, s Down, t Down, z Running");
}

/// A transient child's normal end, a temporary child's any end.
#[test]
fn which_ends_count() {
    let mut table = String::new();
    for restart in [Restart::Transient, Restart::Temporary] {
        for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Killed, trap()] {
            let mut world = significant(AutoShutdown::AnySignificant, restart);
            let row = format!("{restart:?} {}", reason.word());
            world.exited("s", reason);
            writeln!(table, "{row:<18} {:?}", world.policy.phase).unwrap();
        }
    }
    expect![[r#"
        Transient normal   Down
        Transient shutdown Down
        Transient killed   Running
        Transient trap     Running
        Temporary normal   Down
        Temporary shutdown Down
        Temporary killed   Down
        Temporary trap     Down
    "#]]
    .assert_eq(&table);
}

#[test]
fn an_operators_stop_does_not_count() {
    let mut world = significant(AutoShutdown::AnySignificant, Restart::Transient);
    world.stop_child("s");
    world.isolate_child("t");
    assert_eq!(world.states(), "a Running, s Down, t Isolated, z Running");
}

#[test]
fn a_stop_by_strategy_does_not_count() {
    for restart in [Restart::Transient, Restart::Temporary] {
        let mut world = significant(AutoShutdown::AnySignificant, restart);
        world.configure(SupervisorSettings {
            auto_shutdown: AutoShutdown::AnySignificant,
            ..strategy(Strategy::OneForAll, 1)
        });
        world.slow("z");
        world.fails("a");
        // By itself, but it was to be stopped anyway.
        world.exited("t", ExitReason::Normal);
        world.slow("");
        world.stopped("z");
        assert_eq!(world.policy.phase, Phase::Running, "{restart:?}");
    }
}

/// The last that is up: one that an operator has stopped is not waited for.
#[test]
fn all_significant_counts_those_that_are_there() {
    let mut world = significant(AutoShutdown::AllSignificant, Restart::Transient);
    world.stop_child("s");
    world.exited("t", ExitReason::Normal);
    assert_eq!(world.policy.phase, Phase::Down);
}

#[test]
fn all_significant_waits_for_one_in_its_restart_loop() {
    let mut world = significant(AutoShutdown::AllSignificant, Restart::Transient);
    world.configure(SupervisorSettings { auto_shutdown: AutoShutdown::AllSignificant, ..intensity(9) });
    world.broken("s");
    world.fails("s");
    world.exited("t", ExitReason::Normal);
    assert_eq!(world.policy.phase, Phase::Running);
    world.broken("");
    world.after_ms(1_000);
    world.exited("s", ExitReason::Normal);
    assert_eq!(world.policy.phase, Phase::Down);
}

#[test]
fn it_ends_with_shutdown_so_that_a_transient_supervisor_is_not_restarted() {
    let mut world = significant(AutoShutdown::AnySignificant, Restart::Temporary);
    world.slow("a t z");
    world.fails("s");
    ["z", "t"].iter().for_each(|leaf| world.stopped(leaf));
    let (_, actions) = world.feed(Input::Stopped(world.name("a")));
    assert_eq!(actions.last(), Some(&Action::SelfEnded(Ended::Itself(ExitReason::Shutdown))));
}

#[test]
fn one_that_was_added_and_never_ran_has_not_ended() {
    let mut world = significant(AutoShutdown::AnySignificant, Restart::Transient);
    world.broken("x");
    world.add_significant("x", Restart::Temporary);
    assert_eq!(world.policy.phase, Phase::Running);
}

#[test]
fn one_that_answers_its_start_with_ignore_has_not_ended() {
    let mut world = significant(AutoShutdown::AnySignificant, Restart::Transient);
    world.ignoring("s");
    world.restart_child("s");
    assert_eq!(world.states(), "a Running, s Down, t Running, z Running");
}

/// The rule that is in force when a child ends is the one that counts, and a change of it ends nothing.
#[test]
fn auto_shutdown_can_be_changed_while_the_supervisor_runs() {
    use AutoShutdown::{AllSignificant, AnySignificant, Never};
    // From, to, and after how many ends it shuts down.
    for (from, to, ends) in [
        (Never, AnySignificant, 1),
        (Never, AllSignificant, 2),
        (AnySignificant, AllSignificant, 2),
        (AllSignificant, AnySignificant, 1),
    ] {
        let mut world = significant(from, Restart::Transient);
        world.configure(SupervisorSettings { auto_shutdown: to, ..intensity(1) });
        assert_eq!(world.policy.phase, Phase::Running, "{from:?} to {to:?}");
        for (ended, child) in (1..=ends).zip(["s", "t"]) {
            assert_eq!(world.policy.phase, Phase::Running, "{from:?} to {to:?}, before {child}");
            world.exited(child, ExitReason::Normal);
            let phase = if ended == ends { Phase::Down } else { Phase::Running };
            assert_eq!(world.policy.phase, phase, "{from:?} to {to:?}, after {child}");
        }
    }
}

/// A supervisor that shut down with its significant children is one more end, which counts above if it is significant.
#[test]
fn a_shutdown_goes_on_above_where_the_supervisor_is_significant() {
    for (is_significant, phase) in [(true, Phase::Down), (false, Phase::Running)] {
        let mut world = World::new(
            "sup",
            SupervisorSettings { auto_shutdown: AutoShutdown::AnySignificant, ..intensity(1) },
            &["a"],
        );
        let spec = ChildSpec {
            kind: ChildKind::Supervisor,
            restart: Restart::Transient,
            shutdown: Shutdown::Infinity,
            significant: is_significant,
            ..world.spec("below")
        };
        world.tell(Input::Add(Box::new(spec)));
        world.start();
        // As it does once its own significant child has ended (`any_significant_ends_the_supervisor_...`).
        world.exited("below", ExitReason::Shutdown);
        assert_eq!(world.policy.phase, phase);
        let states = if is_significant { "a Down, below Down" } else { "a Running, below Down" };
        assert_eq!(world.states(), states);
    }
}
