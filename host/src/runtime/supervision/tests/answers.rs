//! *Answers to an operator*, and "ignore".

use expect_test::expect;

use super::*;

/// A child `x`, in every way it can stand.
fn standing() -> Vec<(&'static str, World)> {
    type Prepare = fn(&mut World);
    let cases: [(&str, Prepare); 12] = [
        ("unknown", |world| world.remove("x")),
        ("runs", |_| {}),
        ("starts", |world| {
            world.stop_child("x");
            world.slow("x");
            world.start_child("x");
        }),
        ("waits for a sibling", |world| {
            world.change("x", |spec| spec.after = leaves("b"));
            world.broken("b");
            world.fails("b");
            world.fails("x");
            world.broken("");
        }),
        ("is down", |world| world.stop_child("x")),
        ("is isolated", |world| world.isolate_child("x")),
        ("in its restart loop", |world| {
            world.broken("x");
            world.fails("x");
            world.broken("");
        }),
        ("waits for its round", |world| {
            world.configure(strategy(Strategy::OneForAll, 9));
            world.slow("a");
            world.fails("x");
        }),
        ("is stopped for a round", |world| {
            world.configure(strategy(Strategy::OneForAll, 9));
            world.slow("x");
            world.fails("a");
        }),
        ("is being stopped", |world| {
            world.slow("x");
            world.stop_child("x");
        }),
        ("is being removed", |world| {
            world.slow("x");
            world.remove("x");
        }),
        ("its supervisor is down", |world| world.stop()),
    ];
    let prepared = cases.into_iter().map(|(case, prepare)| {
        let mut world = World::new("sup", intensity(9), &["a", "b", "x"]);
        world.start();
        prepare(&mut world);
        (case, world)
    });
    prepared.collect()
}

fn answers(request: impl Fn(&World) -> Input) -> String {
    let mut table = String::new();
    for (case, mut world) in standing() {
        let input = request(&world);
        let (answer, actions) = world.feed(input);
        let done: Vec<String> = actions.iter().filter_map(did).collect();
        writeln!(
            table,
            "{}",
            format!("{case:<24} {answer:<15} {}", done.join(", "), answer = format!("{answer:?}")).trim_end()
        )
        .unwrap();
    }
    table
}

#[test]
fn start_a_new_child() {
    let request = |world: &World| Input::Add(Box::new(ChildSpec { declared: false, ..world.spec("x") }));
    expect![[r#"
        unknown                  Ok              start x#0
        runs                     AlreadyStarted
        starts                   AlreadyStarted
        waits for a sibling      AlreadyPresent
        is down                  AlreadyPresent
        is isolated              AlreadyPresent
        in its restart loop      AlreadyPresent
        waits for its round      AlreadyPresent
        is stopped for a round   AlreadyPresent
        is being stopped         AlreadyPresent
        is being removed         AlreadyPresent
        its supervisor is down   AlreadyPresent
    "#]]
    .assert_eq(&answers(request));
}

#[test]
fn start_a_stopped_child() {
    expect![[r#"
        unknown                  NotFound
        runs                     AlreadyStarted
        starts                   AlreadyStarted
        waits for a sibling      Restarting
        is down                  Ok              start x#1
        is isolated              Ok              start x#1
        in its restart loop      Restarting
        waits for its round      Restarting
        is stopped for a round   Restarting
        is being stopped         Ok
        is being removed         NotFound
        its supervisor is down   SupervisorDown
    "#]]
    .assert_eq(&answers(|world| Input::StartChild(world.name("x"))));
}

/// Past OTP: out of a restart loop at once, and back from an isolation; what somebody stopped stays so.
#[test]
fn a_child_that_may_be_mended() {
    expect![[r#"
        unknown                  NotFound
        runs                     AlreadyStarted
        starts                   AlreadyStarted
        waits for a sibling      Restarting
        is down                  AlreadyPresent
        is isolated              Ok              start x#1
        in its restart loop      Ok              start x#2
        waits for its round      Restarting
        is stopped for a round   Restarting
        is being stopped         AlreadyPresent
        is being removed         NotFound
        its supervisor is down   AlreadyPresent
    "#]]
    .assert_eq(&answers(|world| Input::RetryChild(world.name("x"))));
}

#[test]
fn stop_a_child() {
    expect![[r#"
        unknown                  NotFound
        runs                     Ok              stop x
        starts                   Ok              stop x
        waits for a sibling      Ok              stop x
        is down                  Ok              stop x
        is isolated              Ok              stop x
        in its restart loop      Ok              stop x
        waits for its round      Ok              stop x
        is stopped for a round   Ok
        is being stopped         Ok
        is being removed         Ok
        its supervisor is down   Ok              stop x
    "#]]
    .assert_eq(&answers(|world| Input::StopChild(world.name("x"))));
}

/// Past OTP: stopped in order if it runs, and started; out of its restart loop at once.
#[test]
fn restart_a_child() {
    expect![[r#"
        unknown                  NotFound
        runs                     Ok              stop x
        starts                   Ok              stop x
        waits for a sibling      Restarting
        is down                  Ok              start x#1
        is isolated              Ok              start x#1
        in its restart loop      Restarting
        waits for its round      Restarting
        is stopped for a round   Restarting
        is being stopped         Ok
        is being removed         NotFound
        its supervisor is down   SupervisorDown
    "#]]
    .assert_eq(&answers(|world| Input::RestartChild(world.name("x"))));
}

/// Past OTP.
#[test]
fn isolate_a_child() {
    expect![[r#"
        unknown                  NotFound
        runs                     Ok              stop x
        starts                   Ok              stop x
        waits for a sibling      Ok              stop x
        is down                  Ok              stop x
        is isolated              Ok              stop x
        in its restart loop      Ok              stop x
        waits for its round      Ok              stop x
        is stopped for a round   Ok
        is being stopped         Ok
        is being removed         Ok
        its supervisor is down   Ok              stop x
    "#]]
    .assert_eq(&answers(|world| Input::IsolateChild(world.name("x"))));
}

#[test]
fn delete_a_childs_spec() {
    expect![[r#"
        unknown                  NotFound
        runs                     AlreadyStarted
        starts                   AlreadyStarted
        waits for a sibling      Restarting
        is down                  Ok              forget x
        is isolated              Ok              forget x
        in its restart loop      Restarting
        waits for its round      Restarting
        is stopped for a round   Restarting
        is being stopped         AlreadyStarted
        is being removed         AlreadyStarted
        its supervisor is down   Ok              forget x
    "#]]
    .assert_eq(&answers(|world| Input::DeleteChild(world.name("x"))));
}

#[test]
fn a_new_child_that_does_not_start_is_dropped_with_its_spec() {
    let mut world = abc(intensity(0));
    world.broken("x");
    world.ask_for("x", Restart::Permanent);
    world.broken("");
    world.ask_for("x", Restart::Permanent);
    world.saw(expect![[r#"
        0     operator adds x Permanent -> start x#0
        0     x failed to start -> forget x
        0     operator adds x Permanent -> start x#0
        0     x started
    "#]]);
    assert_eq!(world.restarts(), 0);
}

#[test]
fn a_stopped_child_that_does_not_start_keeps_its_spec_and_nothing_retries() {
    let mut world = abc(intensity(0));
    world.ask_for("x", Restart::Permanent);
    world.stop_child("x");
    world.broken("a x");
    world.start_child("x");
    world.restart_child("a");
    world.after_ms(60_000);
    assert_eq!(world.states(), "a Down, b Running, c Running, x Down");
    assert_eq!(world.restarts(), 0);
}

#[test]
fn an_operators_start_that_ends_before_it_was_done_is_not_retried() {
    let mut world = abc(intensity(0));
    world.stop_child("a");
    world.slow("a");
    world.start_child("a");
    world.exited("a", ExitReason::Shutdown);
    assert_eq!(world.states(), "a Down, b Running, c Running");
}

#[test]
fn stop_ends_a_restart_loop() {
    let mut world = abc(intensity(5));
    world.broken("a");
    world.fails("a");
    world.stop_child("a");
    world.after_ms(1_000);
    world.saw(expect![[r#"
        0     a exited: trap -> restart a in 0 ms (1 used), start a#1
        0     a failed to start -> restart a in 100 ms (2 used), wake at 100
        0     operator stops a -> stop a
        0     a stopped
        100   due
    "#]]);
    assert_eq!(world.states(), "a Down, b Running, c Running");
}

#[test]
fn the_last_word_of_an_operator_while_a_child_stops_counts() {
    let mut world = abc(intensity(5));
    world.slow("a");
    world.restart_child("a");
    world.stop_child("a");
    world.start_child("a");
    world.stop_child("a");
    world.stopped("a");
    assert_eq!(world.states(), "a Down, b Running, c Running");
    world.slow("");
    world.start_child("a");
    world.slow("a");
    world.stop_child("a");
    world.isolate_child("a");
    world.start_child("a");
    world.slow("");
    world.stopped("a");
    assert_eq!(world.states(), "a Running, b Running, c Running");
}

#[test]
fn an_operators_start_that_was_taken_back_does_not_spoil_the_next_start() {
    let mut world = World::new("", intensity(5), &["a"]);
    world.start();
    world.slow("a");
    world.restart_child("a");
    world.stopped("a");
    world.stop_child("a");
    world.stopped("a");
    world.slow("");
    world.stop();
    world.broken("a");
    world.start();
    assert!(world.states().starts_with("a Restarting"), "{}", world.states());
}

#[test]
fn counts() {
    let mut world = World::new("sup", intensity(9), &["a", "b", "c", "d"]);
    let inner = ChildSpec { kind: ChildKind::Supervisor, ..world.spec("inner") };
    world.tell(Input::Add(Box::new(inner)));
    world.start();
    assert_eq!(world.policy.counts(), Counts { specs: 5, active: 5, supervisors: 1, workers: 4 });
    world.stop_child("a");
    world.isolate_child("b");
    world.broken("c");
    world.fails("c");
    assert_eq!(world.policy.counts(), Counts { specs: 5, active: 2, supervisors: 1, workers: 4 });
    world.slow("d");
    world.stop_child("d");
    assert_eq!(world.policy.counts().active, 2, "one that stops is there yet");
}

// "ignore".

#[test]
fn a_child_that_answers_its_start_with_ignore_is_known_but_down_with_no_error() {
    let mut world = World::new("sup", ordered("a b c"), &["a", "b", "c"]);
    world.ignoring("b");
    world.start();
    world.saw(expect![[r#"
        0     start -> start a#0
        0     a started -> start b#0
        0     b ignored its start -> start c#0
        0     c started -> UP
    "#]]);
    assert_eq!(world.states(), "a Running, b Down, c Running");
    world.ask_for("b", Restart::Permanent);
    world.saw(expect![[r#"
        0     operator adds b Permanent -> AlreadyPresent
    "#]]);
}

#[test]
fn if_it_is_temporary_nothing_is_kept_of_it() {
    let mut world = abc(intensity(0));
    world.ignoring("x y");
    world.ask_for("x", Restart::Temporary);
    world.ask_for("y", Restart::Permanent);
    world.saw(expect![[r#"
        0     operator adds x Temporary -> start x#0
        0     x ignored its start -> forget x
        0     operator adds y Permanent -> start y#0
        0     y ignored its start
    "#]]);
    assert_eq!(world.states(), "a Running, b Running, c Running, y Down");
}

#[test]
fn a_restart_that_is_ignored_is_no_failure() {
    let mut world = abc(intensity(1));
    world.ignoring("a");
    world.fails("a");
    assert_eq!(world.states(), "a Down, b Running, c Running");
    assert_eq!(world.restarts(), 1);
}

/// A file is a spec: it is not forgotten.
#[test]
fn a_temporary_child_with_a_file_that_ignores_its_start_is_known_but_down() {
    let mut world = World::new("sup", intensity(1), &["a"]);
    world.add("t", Restart::Temporary);
    world.ignoring("t");
    world.start();
    assert_eq!(world.states(), "a Running, t Down");
    assert_eq!(world.policy.phase, Phase::Running);
    let counts = world.policy.counts();
    assert_eq!((counts.specs, counts.active), (2, 1));
}
