//! Cuts a plan that fails down to what it takes to fail.

use std::path::{Path, PathBuf};

use crate::run::{Shelf, trial};
use crate::script::{Action, Plan, Step, Then, plan};

/// Cuts a seed's plan down and writes it to a file.
pub fn keep(seed: u64) -> PathBuf {
    let small = shrink(plan(seed), |plan| !trial(plan, Shelf::get()).wrong.is_empty());
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{seed}.json"));
    let text = serde_json::to_string_pretty(&small).expect("a plan can be written");
    std::fs::write(&place, text + "\n").expect("a file is written");
    place
}

/// The plan without what it fails without: steps, then workers, then supervisors.
pub fn shrink(plan: Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut plan = plan;
    loop {
        let before = plan.clone();
        plan.steps = without(&plan.steps, |steps| fails(&Plan { steps: steps.to_vec(), ..plan.clone() }));
        // `mute` is what others wait for, and comes first.
        let (mute, others) = plan.workers.split_at(1);
        let with = |others: &[_]| [mute, others].concat();
        plan.workers = with(&without(others, |others| fails(&Plan { workers: with(others), ..plan.clone() })));
        for at in (1..plan.supervisors.len()).rev() {
            let name = format!("{}/", plan.supervisors[at].name);
            let mut less = plan.clone();
            less.supervisors.retain(|other| !format!("{}/", other.name).starts_with(&name));
            less.workers.retain(|worker| !worker.name.starts_with(&name));
            if fails(&less) {
                plan = less;
                break;
            }
        }
        for at in 0..plan.steps.len() {
            let simple = Step { then: Then::Settle, ..plan.steps[at].clone() };
            let mut less = plan.clone();
            less.steps[at] = simple;
            if plan.steps[at].then != Then::Settle && fails(&less) {
                plan = less;
            }
        }
        if plan == before {
            return plan;
        }
    }
}

/// Leaves out what can be left out, halves first.
fn without<T: Clone>(items: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < items.len() {
            let mut less = items.clone();
            less.drain(at..(at + size).min(items.len()));
            if fails(&less) {
                items = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    items
}

#[test]
fn what_is_not_needed_goes() {
    let full = plan(1);
    let kills = |step: &Step| matches!(step.action, Action::Stop(_));
    assert!(full.steps.iter().any(kills));
    let small = shrink(full, |plan| plan.steps.iter().any(kills));
    assert_eq!((small.steps.len(), small.workers.len(), small.supervisors.len()), (1, 1, 1));
}
