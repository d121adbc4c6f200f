//! Restarts that wait, or whose start takes its time: what is counted, and what operators are told meanwhile.

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::runtime::spec::{Backoff, Strategy};

/// A child of a nested supervisor fails after each of `runs`, in milliseconds, and waits out its backoff. How often it
/// failed until its supervisor gave up; `None`: it never did.
fn gives_up_at(settings: SupervisorSettings, runs: &[u64]) -> Option<usize> {
    let mut world = abc(settings);
    for (failures, run) in runs.iter().enumerate() {
        world.after_ms(*run);
        world.fails("a");
        while world.policy.is_running() && world.policy.child(&world.name("a")).unwrap().state != ChildState::Running {
            let due = world.wake_at.expect("a restart is on its way");
            world.after_ms(u64::try_from(due.since(world.now).as_millis()).unwrap());
        }
        if !world.policy.is_running() {
            return Some(failures + 1);
        }
    }
    None
}

fn within(intensity: u32, period_ms: u64) -> SupervisorSettings {
    SupervisorSettings { intensity, period: Duration::from_millis(period_ms), ..SupervisorSettings::default() }
}

#[test]
fn a_crash_loop_gives_up_however_long_it_waits() {
    assert_eq!(gives_up_at(within(8, 2_000), &[0; 100]), Some(9));
    assert_eq!(gives_up_at(within(10, 10_000), &[0; 100]), Some(11));
    assert_eq!(gives_up_at(within(100, 1_000), &[1; 1_000]), Some(101));
}

#[test]
fn what_others_wait_does_not_count() {
    let mut world = abc(within(3, 1_000));
    ["b", "a", "a"].iter().for_each(|child| world.fails(child));
    assert_eq!(world.restarts(), 3);
    world.after_ms(1_050);
    assert_eq!(world.restarts(), 2, "a has waited for 100 ms; that of b has left the window");
    world.after_ms(51);
    assert_eq!(world.restarts(), 0);
}

proptest! {
    #[test]
    fn failures_whose_run_times_sum_to_less_than_the_period_give_up_at_the_one_beyond_the_intensity(
        intensity in 0_u32..12,
        period in 100_u64..20_000,
        shares in proptest::collection::vec(0_u64..1_000, 12),
        healthy_after in 0_u64..5_000,
    ) {
        let runs: Vec<u64> = shares.iter().map(|share| share * period / 12_001).collect();
        let healthy_after = Duration::from_millis(healthy_after);
        let backoff = Backoff { healthy_after, ..Backoff::default() };
        let settings = SupervisorSettings { backoff, ..within(intensity, period) };
        let beyond = intensity as usize + 1;
        prop_assert_eq!(gives_up_at(settings, &runs), Some(beyond).filter(|beyond| *beyond <= runs.len()));
    }

    #[test]
    fn one_that_runs_longer_than_its_share_of_the_period_never_gives_up(
        intensity in 1_u32..12,
        period in 100_u64..20_000,
        more in proptest::collection::vec(0_u64..1_000, 1..60),
    ) {
        let runs: Vec<u64> = more.iter().map(|more| period / u64::from(intensity) + 1 + more).collect();
        prop_assert_eq!(gives_up_at(within(intensity, period), &runs), None);
    }
}

/// The child `a` has failed, and the try to start it again takes its time.
fn while_it_is_tried_again() -> World {
    let mut world = abc(intensity(3));
    world.slow("a");
    world.fails("a");
    world.forget_trace();
    world
}

#[test]
fn while_a_try_is_under_way_the_child_is_restarting() {
    let mut world = while_it_is_tried_again();
    assert_eq!(world.policy.counts(), Counts { specs: 3, active: 2, supervisors: 0, workers: 3 });
    assert!(world.policy.child(&world.name("a")).unwrap().is_restarting());
    world.start_child("a");
    world.restart_child("a");
    world.tell(Input::DeleteChild(world.name("a")));
    world.ask_for("a", Restart::Permanent);
    world.saw(expect![[r#"
        0     operator starts a -> Restarting
        0     operator restarts a -> Restarting
        0     operator deletes a -> Restarting
        0     operator adds a Permanent -> AlreadyPresent
    "#]]);
    world.started("a");
    assert_eq!(world.policy.counts().active, 3);
    assert!(!world.policy.child(&world.name("a")).unwrap().is_restarting());
}

#[test]
fn a_first_start_is_no_restart() {
    let mut world = World::new("sup", intensity(3), &["a"]);
    world.slow("a");
    world.start();
    assert!(!world.policy.child(&world.name("a")).unwrap().is_restarting());
    assert_eq!(world.policy.counts().active, 1);
}

#[test]
fn an_operators_restart_leaves_a_restart_loop_as_it_is() {
    let mut world = abc(intensity(5));
    world.broken("a");
    world.fails("a");
    world.forget_trace();
    world.restart_child("a");
    world.after_ms(100);
    world.broken("");
    world.after_ms(500);
    world.saw(expect![[r#"
        0     operator restarts a -> Restarting
        100   due -> start a#2
        100   a failed to start -> restart a in 200 ms (3 used), wake at 300
        300   due -> start a#3
        300   a started
    "#]]);
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn an_operators_stop_ends_a_restart_loop() {
    let mut world = abc(intensity(5));
    world.broken("a");
    world.fails("a");
    world.stop_child("a");
    world.after_ms(5_000);
    assert_eq!(world.states(), "a Down, b Running, c Running");
}

/// Those that a round stopped have nothing wrong with them: they start when the round would have, without the one that an
/// operator has stopped.
#[test]
fn those_who_wait_for_a_child_that_is_stopped_start_without_it() {
    let mut world = abc(strategy(Strategy::RestForOne, 5));
    world.broken("a");
    world.fails("a");
    world.broken("");
    world.stop_child("a");
    world.forget_trace();
    world.after_ms(5_000);
    assert_eq!(world.states(), "a Down, b Running, c Running");
    world.saw(expect![[r#"
        100   due -> start b#1
        100   b started -> start c#1
        100   c started
    "#]]);
}
