//! Policies that cannot be: refused whole, before anything changes.

use std::collections::BTreeMap;

use crate::base::units::show_size;
use crate::runtime::spec::{AutoShutdown, Restart, Strategy, SupervisorSettings};

/// A child, as far as its supervisor's policy has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The last part of its name.
    pub leaf: String,
    pub is_worker: bool,
    /// `None`: not written, so that it depends on the component.
    pub restart: Option<Restart>,
    pub significant: bool,
    pub after: Vec<String>,
    /// What it takes from the budget of those above: a worker's limits, a supervisor's own budget.
    pub memory: u64,
    pub cpu: Option<u64>,
}

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The child in whose file the key is; `None` for the supervisor's own.
    pub child: Option<String>,
    pub key: &'static str,
    /// Reads on from the key: `a cycle: a after b after a`.
    pub reason: String,
    /// What to do; may be empty.
    pub help: String,
}

/// Everything about `settings` and `children` that cannot be carried out. `is_root`: nobody is above.
pub fn check(settings: &SupervisorSettings, children: &[Sibling], is_root: bool) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let simple = settings.strategy == Strategy::SimpleOneForOne;
    shape(settings, children, simple, is_root, &mut refusals);
    if !simple {
        significant(settings, children, is_root, &mut refusals);
        dependencies(settings, children, &mut refusals);
    }
    escalation(settings, &mut refusals);
    budget(settings, children, simple, &mut refusals);
    refusals
}

fn own(key: &'static str, reason: String, help: &str) -> Refusal {
    Refusal { child: None, key, reason, help: help.to_string() }
}

fn of(child: &Sibling, key: &'static str, reason: String, help: &str) -> Refusal {
    Refusal { child: Some(child.leaf.clone()), key, reason, help: help.to_string() }
}

fn shape(
    settings: &SupervisorSettings,
    children: &[Sibling],
    simple: bool,
    is_root: bool,
    refusals: &mut Vec<Refusal>,
) {
    if !simple {
        if settings.on_demand {
            let reason = "`on-demand` is for children of a template".to_string();
            refusals.push(own("on-demand", reason, "write strategy = \"simple-one-for-one\", or leave it out"));
        }
        return;
    }
    if is_root {
        let reason = "the root's children are files, not keys of a template".to_string();
        refusals.push(own("strategy", reason, "put the template into a directory of its own"));
    }
    let templates: Vec<&str> =
        children.iter().filter(|child| child.is_worker).map(|child| child.leaf.as_str()).collect();
    if let [first, second, ..] = templates[..] {
        let reason = format!("a simple-one-for-one supervisor has one template, and here are `{first}` and `{second}`");
        refusals.push(own("strategy", reason, "keep one component in this directory"));
    }
    for child in children {
        if !child.is_worker {
            let reason =
                format!("a simple-one-for-one supervisor has no supervisors below it, and here is `{}`", child.leaf);
            refusals.push(own("strategy", reason, "move that directory beside this one"));
        }
        if child.significant {
            let reason = "a child of a template cannot be significant".to_string();
            refusals.push(of(child, "significant", reason, "leave `significant` out"));
        }
        if !child.after.is_empty() {
            let reason = "children of a template have no siblings to start after".to_string();
            refusals.push(of(child, "after", reason, "leave `after` out"));
        }
    }
    if !settings.order.is_empty() {
        let reason = "children of a template have no order".to_string();
        refusals.push(own("order", reason, "leave `order` out"));
    }
    if settings.auto_shutdown != AutoShutdown::Never {
        let reason = "children of a template cannot be significant, so nothing would shut it down".to_string();
        refusals.push(own("auto-shutdown", reason, "leave `auto-shutdown` out"));
    }
}

fn significant(settings: &SupervisorSettings, children: &[Sibling], is_root: bool, refusals: &mut Vec<Refusal>) {
    if is_root && settings.auto_shutdown != AutoShutdown::Never {
        let reason = "the root cannot shut itself down".to_string();
        refusals.push(own("auto-shutdown", reason, "put these workers into a directory of their own"));
    }
    for child in children.iter().filter(|child| child.significant) {
        // A worker's default is permanent; only a command's is not, and that is known when it is compiled.
        if child.restart.unwrap_or(Restart::Permanent) == Restart::Permanent {
            let reason = match child.restart {
                Some(_) => "a permanent child cannot be significant: it is always restarted",
                None => "a significant child says itself whether it is restarted",
            };
            let help = "write restart = \"transient\" or \"temporary\" beside it";
            refusals.push(of(child, "significant", reason.to_string(), help));
        }
        if settings.auto_shutdown == AutoShutdown::Never {
            let reason = "a significant child needs a supervisor with `auto-shutdown`".to_string();
            let help = "write auto-shutdown = \"any-significant\" or \"all-significant\" in supervisor.toml";
            refusals.push(of(child, "significant", reason, help));
        }
    }
}

fn dependencies(settings: &SupervisorSettings, children: &[Sibling], refusals: &mut Vec<Refusal>) {
    let known: BTreeMap<&str, &Sibling> = children.iter().map(|child| (child.leaf.as_str(), child)).collect();
    if let Some((child, cycle)) = cycle(settings, &known) {
        let reason = format!("a cycle: {}", cycle.join(" after "));
        refusals.push(Refusal { child, key: "after", reason, help: "take one of them out".to_string() });
    }
}

/// What is passed over, and is no reason to refuse: names in `order` and `after` of which there is no child, for a file that
/// is removed must not take those along that name it; and what is said of keys where there are none.
pub fn absent(settings: &SupervisorSettings, children: &[Sibling]) -> Vec<Refusal> {
    if settings.strategy == Strategy::SimpleOneForOne {
        return Vec::new();
    }
    let known: BTreeMap<&str, &Sibling> = children.iter().map(|child| (child.leaf.as_str(), child)).collect();
    let default = SupervisorSettings::default();
    let of_keys =
        [("new-keys", settings.new_keys != default.new_keys), ("idle-stop", settings.idle_stop != default.idle_stop)];
    let of_keys = of_keys.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| {
        let reason = format!("`{key}` is for children of a template, of which there are none here: it is passed over");
        own(key, reason, "")
    });
    let is_absent = |named: &&String| !known.contains_key(named.as_str());
    let mut absent: Vec<Refusal> = of_keys.collect();
    for named in settings.order.iter().filter(is_absent) {
        let reason = format!("`order` names `{named}`, which is not here: it is passed over");
        absent.push(own("order", reason, &nearest(named, known.keys())));
    }
    for child in children {
        for named in child.after.iter().filter(is_absent) {
            let reason = format!("`after` names `{named}`, which is not here: it is passed over");
            absent.push(of(child, "after", reason, &nearest(named, known.keys())));
        }
    }
    absent
}

fn nearest<'a>(named: &str, known: impl Iterator<Item = &'a &'a str>) -> String {
    let near = known.map(|leaf| (strsim::jaro_winkler(named, leaf), leaf)).max_by(|a, b| a.0.total_cmp(&b.0));
    near.filter(|(score, _)| *score > 0.8).map(|(_, leaf)| format!("did you mean `{leaf}`?")).unwrap_or_default()
}

/// A cycle of `after`, and of what `order` puts one after another. Names who starts after whom, the
/// first again at the end; and in whose file one of the edges is.
fn cycle(settings: &SupervisorSettings, known: &BTreeMap<&str, &Sibling>) -> Option<(Option<String>, Vec<String>)> {
    let needs = |leaf: &str| -> Vec<String> {
        let mut needs: Vec<String> = known.get(leaf).map(|child| child.after.clone()).unwrap_or_default();
        if let Some(at) = settings.order.iter().position(|named| named == leaf) {
            needs.extend(at.checked_sub(1).map(|before| settings.order[before].clone()));
        } else {
            needs.extend(settings.order.last().cloned());
        }
        needs.retain(|need| known.contains_key(need.as_str()));
        needs
    };
    let mut done: BTreeMap<String, bool> = BTreeMap::new();
    for first in known.keys() {
        // Depth first, with the way kept: `done` is false for those on it.
        let mut way: Vec<(String, Vec<String>)> = Vec::new();
        if !done.contains_key(*first) {
            done.insert((*first).to_string(), false);
            way.push(((*first).to_string(), needs(first)));
        }
        while let Some((leaf, rest)) = way.last_mut() {
            let Some(next) = rest.pop() else {
                done.insert(leaf.clone(), true);
                way.pop();
                continue;
            };
            match done.get(&next) {
                Some(true) => {}
                Some(false) => {
                    let from = way.iter().position(|(leaf, _)| *leaf == next).unwrap_or_default();
                    let mut around: Vec<String> = way[from..].iter().map(|(leaf, _)| leaf.clone()).collect();
                    around.push(next);
                    let writes = |leaf: &&String| known.get(leaf.as_str()).is_some_and(|child| !child.after.is_empty());
                    return Some((around.iter().find(writes).cloned(), around));
                }
                None => {
                    done.insert(next.clone(), false);
                    let needed = needs(&next);
                    way.push((next, needed));
                }
            }
        }
    }
    None
}

fn escalation(settings: &SupervisorSettings, refusals: &mut Vec<Refusal>) {
    let steps = settings.escalation;
    let named = [
        ("escalation.circuit-break", steps.circuit_break),
        ("escalation.isolate", steps.isolate),
        ("escalation.escalate", steps.escalate),
    ];
    let intensity = settings.intensity;
    // Isolation and escalation go before the supervisor's own end; a breaker opens only with a restart.
    let reached = |key, count| if key == "escalation.circuit-break" { count < intensity } else { count <= intensity };
    for (key, step) in named {
        if let Some(count) = step.filter(|count| !reached(key, *count)) {
            let reason = format!("more than {count} restarts are never reached: `intensity` is {intensity}");
            refusals.push(own(key, reason, "lower it, or raise `intensity`"));
        }
    }
    let written: Vec<(&'static str, u32)> = named.into_iter().filter_map(|(key, step)| Some((key, step?))).collect();
    for pair in written.windows(2) {
        let ((before, low), (key, high)) = (pair[0], pair[1]);
        if high <= low {
            let reason = format!("{high} is not more than `{before}`, which is {low}: that step would never be taken");
            refusals.push(own(key, reason, "raise it, or leave one of them out"));
        }
    }
}

fn budget(settings: &SupervisorSettings, children: &[Sibling], simple: bool, refusals: &mut Vec<Refusal>) {
    if let Some(budget) = settings.budget.memory {
        for child in children.iter().filter(|child| child.memory > budget) {
            let (needs, has) = (show_size(child.memory), show_size(budget));
            let reason = format!("`{}` alone may use {needs}, and the budget is {has}", child.leaf);
            refusals.push(own("budget.memory", reason, "raise the budget, or lower `limits.memory` of that child"));
        }
        // Summed in 128 bits: limits of many children go beyond 64.
        let sum: u128 = children.iter().map(|child| u128::from(child.memory)).sum();
        if !simple && sum > u128::from(budget) && children.iter().all(|child| child.memory <= budget) {
            let sum = show_size(u64::try_from(sum).unwrap_or(u64::MAX));
            let reason = format!("the children may use {sum} together, and the budget is {}", show_size(budget));
            refusals.push(own("budget.memory", reason, "raise the budget, or lower `limits.memory` of the children"));
        }
    }
    if let Some(budget) = settings.budget.cpu {
        for (child, cpu) in children.iter().filter_map(|child| Some((child, child.cpu.filter(|cpu| *cpu > budget)?))) {
            let reason =
                format!("`{}` alone may use {cpu} units of fuel per second, and the budget is {budget}", child.leaf);
            refusals.push(own("budget.cpu", reason, "raise the budget, or lower `limits.cpu` of that child"));
        }
        let sum: u128 = children.iter().filter_map(|child| child.cpu).map(u128::from).sum();
        if !simple && sum > u128::from(budget) && children.iter().all(|child| child.cpu.is_none_or(|cpu| cpu <= budget))
        {
            let reason =
                format!("the children may use {sum} units of fuel per second together, and the budget is {budget}");
            refusals.push(own("budget.cpu", reason, "raise the budget, or lower `limits.cpu` of the children"));
        }
    }
}
