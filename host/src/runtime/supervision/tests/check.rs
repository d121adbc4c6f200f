//! Policies that cannot be, each with the key and the reason; *A bad new policy is refused whole*.

use expect_test::{Expect, expect};

use super::*;
use crate::runtime::spec::{AutoShutdown, Escalation, SubtreeBudget};

fn sibling(leaf: &str) -> Sibling {
    Sibling {
        leaf: leaf.to_string(),
        is_worker: true,
        restart: None,
        significant: false,
        after: Vec::new(),
        memory: 0,
        cpu: None,
    }
}

fn siblings(of: &str) -> Vec<Sibling> {
    leaves(of).iter().map(|leaf| sibling(leaf)).collect()
}

fn after(leaf: &str, after: &str) -> Sibling {
    Sibling { after: leaves(after), ..sibling(leaf) }
}

fn refused(settings: &SupervisorSettings, children: &[Sibling], is_root: bool, expected: Expect) {
    shown(check(settings, children, is_root), expected);
}

fn shown(refusals: Vec<Refusal>, expected: Expect) {
    let mut text = String::new();
    for Refusal { child, key, reason, help } in refusals {
        let help = if help.is_empty() { help } else { format!(" ({help})") };
        writeln!(text, "{}{key}: {reason}{help}", child.map(|leaf| format!("{leaf}: ")).unwrap_or_default()).unwrap();
    }
    expected.assert_eq(&text);
}

fn simple() -> SupervisorSettings {
    SupervisorSettings { strategy: Strategy::SimpleOneForOne, ..SupervisorSettings::default() }
}

#[test]
fn what_can_be_is_not_refused() {
    let transient = Sibling { restart: Some(Restart::Transient), significant: true, ..after("c", "a b") };
    let children = [sibling("a"), after("b", "a"), transient];
    let settings = SupervisorSettings {
        order: leaves("a b"),
        auto_shutdown: AutoShutdown::AllSignificant,
        escalation: Escalation { circuit_break: Some(1), isolate: None, escalate: Some(2) },
        ..intensity(2)
    };
    refused(&settings, &children, false, expect![[""]]);
    refused(&SupervisorSettings::default(), &[], true, expect![[""]]);
    refused(&SupervisorSettings { on_demand: true, ..simple() }, &[sibling("room")], false, expect![[""]]);
}

#[test]
fn significant_is_refused_on_permanent_children() {
    let settings = SupervisorSettings { auto_shutdown: AutoShutdown::AnySignificant, ..SupervisorSettings::default() };
    let unwritten = Sibling { significant: true, ..sibling("a") };
    let permanent = Sibling { restart: Some(Restart::Permanent), significant: true, ..sibling("b") };
    refused(
        &settings,
        &[unwritten, permanent],
        false,
        expect![[r#"
            a: significant: a significant child says itself whether it is restarted (write restart = "transient" or "temporary" beside it)
            b: significant: a permanent child cannot be significant: it is always restarted (write restart = "transient" or "temporary" beside it)
        "#]],
    );
}

#[test]
fn never_refuses_significant_children() {
    let child = Sibling { restart: Some(Restart::Temporary), significant: true, ..sibling("a") };
    refused(
        &SupervisorSettings::default(),
        &[child],
        false,
        expect![[r#"
        a: significant: a significant child needs a supervisor with `auto-shutdown` (write auto-shutdown = "any-significant" or "all-significant" in supervisor.toml)
    "#]],
    );
}

#[test]
fn significant_is_refused_under_simple_one_for_one() {
    let child = Sibling { restart: Some(Restart::Temporary), significant: true, ..sibling("room") };
    refused(
        &simple(),
        &[child],
        false,
        expect![[r#"
        room: significant: a child of a template cannot be significant (leave `significant` out)
    "#]],
    );
}

#[test]
fn the_root_cannot_shut_itself_down() {
    let settings = SupervisorSettings { auto_shutdown: AutoShutdown::AllSignificant, ..SupervisorSettings::default() };
    refused(
        &settings,
        &[],
        true,
        expect![[r#"
        auto-shutdown: the root cannot shut itself down (put these workers into a directory of their own)
    "#]],
    );
}

#[test]
fn a_template_has_one_component_and_nothing_else() {
    let inner = Sibling { is_worker: false, ..sibling("inner") };
    let settings =
        SupervisorSettings { order: leaves("room"), auto_shutdown: AutoShutdown::AnySignificant, ..simple() };
    refused(
        &settings,
        &[after("room", "hall"), sibling("hall"), inner],
        true,
        expect![[r#"
        strategy: the root's children are files, not keys of a template (put the template into a directory of its own)
        strategy: a simple-one-for-one supervisor has one template, and here are `room` and `hall` (keep one component in this directory)
        room: after: children of a template have no siblings to start after (leave `after` out)
        strategy: a simple-one-for-one supervisor has no supervisors below it, and here is `inner` (move that directory beside this one)
        order: children of a template have no order (leave `order` out)
        auto-shutdown: children of a template cannot be significant, so nothing would shut it down (leave `auto-shutdown` out)
    "#]],
    );
}

#[test]
fn on_demand_is_for_templates() {
    let settings = SupervisorSettings { on_demand: true, ..SupervisorSettings::default() };
    refused(
        &settings,
        &[],
        false,
        expect![[r#"
        on-demand: `on-demand` is for children of a template (write strategy = "simple-one-for-one", or leave it out)
    "#]],
    );
}

#[test]
fn names_that_are_not_here_are_told_with_the_nearest_and_no_reason_to_refuse() {
    let children = [sibling("greeter"), after("a", "greetr")];
    refused(&ordered("grete x"), &children, false, expect![[""]]);
    shown(
        absent(&ordered("grete x"), &children),
        expect![[r#"
        order: `order` names `grete`, which is not here: it is passed over (did you mean `greeter`?)
        order: `order` names `x`, which is not here: it is passed over
        a: after: `after` names `greetr`, which is not here: it is passed over (did you mean `greeter`?)
    "#]],
    );
    shown(absent(&simple(), &children), expect![[""]]);
}

#[test]
fn a_cycle_is_refused_and_named() {
    let settings = SupervisorSettings::default();
    refused(
        &settings,
        &[after("a", "b"), after("b", "c"), after("c", "a"), sibling("d")],
        false,
        expect![[r#"
        a: after: a cycle: a after b after c after a (take one of them out)
    "#]],
    );
    refused(
        &settings,
        &[after("a", "a")],
        false,
        expect![[r#"
        a: after: a cycle: a after a (take one of them out)
    "#]],
    );
    refused(&settings, &[sibling("a"), after("b", "a"), after("c", "a b"), after("d", "b c")], false, expect![[""]]);
}

#[test]
fn a_cycle_through_the_order_is_refused_too() {
    // Named one after another, the other way round.
    refused(
        &ordered("a b"),
        &[after("a", "b"), sibling("b")],
        false,
        expect![[r#"
        a: after: a cycle: a after b after a (take one of them out)
    "#]],
    );
    // One that the order does not name comes after those it does.
    refused(
        &ordered("a"),
        &[after("a", "z"), sibling("z")],
        false,
        expect![[r#"
        a: after: a cycle: a after z after a (take one of them out)
    "#]],
    );
    refused(&ordered("a b"), &[sibling("a"), after("b", "a"), after("z", "a")], false, expect![[""]]);
}

#[test]
fn a_step_that_would_never_be_taken_is_refused() {
    let steps = |circuit_break, isolate, escalate, allowed| SupervisorSettings {
        escalation: Escalation { circuit_break, isolate, escalate },
        ..intensity(allowed)
    };
    // Not beyond the one before it.
    refused(
        &steps(Some(3), Some(3), Some(1), 9),
        &[],
        false,
        expect![[r#"
        escalation.isolate: 3 is not more than `escalation.circuit-break`, which is 3: that step would never be taken (raise it, or leave one of them out)
        escalation.escalate: 1 is not more than `escalation.isolate`, which is 3: that step would never be taken (raise it, or leave one of them out)
    "#]],
    );
    refused(
        &steps(Some(3), None, Some(2), 9),
        &[],
        false,
        expect![[r#"
        escalation.escalate: 2 is not more than `escalation.circuit-break`, which is 3: that step would never be taken (raise it, or leave one of them out)
    "#]],
    );
    // Beyond the intensity: the supervisor has given up. One that isolates goes before that; a breaker does not.
    refused(
        &steps(Some(2), Some(3), None, 2),
        &[],
        false,
        expect![[r#"
        escalation.circuit-break: more than 2 restarts are never reached: `intensity` is 2 (lower it, or raise `intensity`)
        escalation.isolate: more than 3 restarts are never reached: `intensity` is 2 (lower it, or raise `intensity`)
    "#]],
    );
    refused(&steps(Some(1), Some(2), None, 2), &[], false, expect![[""]]);
    refused(
        &steps(Some(0), None, None, 0),
        &[],
        true,
        expect![[r#"
        escalation.circuit-break: more than 0 restarts are never reached: `intensity` is 0 (lower it, or raise `intensity`)
    "#]],
    );
}

#[test]
fn a_budget_that_does_not_hold_its_children_is_refused() {
    let needs = |leaf: &str, memory: u64, cpu: u64| Sibling { memory: memory << 20, cpu: Some(cpu), ..sibling(leaf) };
    let budget = SubtreeBudget { memory: Some(64 << 20), cpu: Some(100) };
    let settings = SupervisorSettings { budget, ..SupervisorSettings::default() };
    refused(&settings, &[needs("a", 64, 100)], false, expect![[""]]);
    refused(
        &settings,
        &[needs("a", 65, 101), needs("b", 10, 10)],
        false,
        expect![[r#"
        budget.memory: `a` alone may use 65.0 MiB, and the budget is 64.0 MiB (raise the budget, or lower `limits.memory` of that child)
        budget.cpu: `a` alone may use 101 units of fuel per second, and the budget is 100 (raise the budget, or lower `limits.cpu` of that child)
    "#]],
    );
    refused(
        &settings,
        &[needs("a", 40, 60), needs("b", 40, 60)],
        false,
        expect![[r#"
        budget.memory: the children may use 80.0 MiB together, and the budget is 64.0 MiB (raise the budget, or lower `limits.memory` of the children)
        budget.cpu: the children may use 120 units of fuel per second together, and the budget is 100 (raise the budget, or lower `limits.cpu` of the children)
    "#]],
    );
    // As many children of a template as fit.
    refused(&SupervisorSettings { budget, ..simple() }, &[needs("room", 40, 60)], false, expect![[""]]);
    let huge = Sibling { memory: u64::MAX, ..sibling("a") };
    refused(
        &settings,
        &[huge.clone(), Sibling { leaf: "b".to_string(), ..huge }],
        false,
        expect![[r#"
        budget.memory: `a` alone may use 16.0 EiB, and the budget is 64.0 MiB (raise the budget, or lower `limits.memory` of that child)
        budget.memory: `b` alone may use 16.0 EiB, and the budget is 64.0 MiB (raise the budget, or lower `limits.memory` of that child)
    "#]],
    );
}

#[test]
fn one_name_in_the_order_twice_hangs_nobody() {
    let mut world = World::new("sup", ordered("a b a"), &["a", "b"]);
    world.start();
    assert_eq!(world.states(), "a Running, b Running");
    refused(&ordered("a b a"), &siblings("a b"), false, expect![[""]]);
}
