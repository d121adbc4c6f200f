//! *Scale*: what a child costs does not grow with the number of its siblings.

use super::*;
use crate::base::Clock;

/// Nanoseconds of the policy's own for each of so many children, from being added until all have stopped.
fn cost(strategy: Strategy, children: u32) -> u128 {
    let clock = Clock::system();
    let simple = strategy == Strategy::SimpleOneForOne;
    let mut world = World::new("sup", self::strategy(strategy, 1), &[]);
    let specs: Vec<ChildSpec> = (0..children).map(|at| world.spec(&at.to_string())).collect();
    let mut inputs: VecDeque<Input> = VecDeque::from([Input::Start]);
    let added = specs.into_iter().map(|spec| Input::Add(Box::new(ChildSpec { declared: !simple, ..spec })));
    let begin = clock.now();
    if simple {
        inputs.extend(added);
    } else {
        added.for_each(|input| inputs.push_front(input));
    }
    inputs.push_back(Input::Stop);
    let mut stopped = 0;
    while let Some(input) = inputs.pop_front() {
        if matches!(input, Input::Stop) && !inputs.is_empty() {
            inputs.push_back(Input::Stop);
            continue;
        }
        for action in world.policy.on(Tick::ZERO, 0, input).1 {
            match action {
                Action::StartChild { name, .. } => inputs.push_back(Input::Started(name)),
                Action::StopChild { name, .. } => inputs.push_back(Input::Stopped(name)),
                Action::StaysDown(_) | Action::Forget(_) => stopped += 1,
                _ => {}
            }
        }
    }
    assert_eq!(stopped, children, "all have started and stopped");
    clock.now().since(begin).as_nanos() / u128::from(children)
}

/// It would be ten times as much from one to the next if each child had to look at all the others.
#[test]
fn what_a_child_costs_does_not_grow_with_the_number_of_its_siblings() {
    for strategy in [Strategy::OneForOne, Strategy::SimpleOneForOne, Strategy::RestForOne] {
        // The best of a few: others use this computer too.
        let best = |children| (0..3).map(|_| cost(strategy, children)).min().unwrap_or_default();
        let costs = [1_000, 10_000, 100_000].map(best);
        let ratio = costs[2] as f64 / costs[0] as f64;
        println!("{strategy:?}: {costs:?} ns for each of 1,000, 10,000 and 100,000 children, ratio {ratio:.1}");
        assert!(costs[2] < costs[1] * 6, "{strategy:?}: {costs:?} ns");
    }
}
