//! What cannot be carried out is refused here, whole, before anything changes: impossible policies,
//! children for which a policy has no room. What runs goes on as it is. Pure.
//!
//! What [`check()`] says against a supervisor's policy with its children as they would be is laid to
//! the first of these that explains it:
//!
//! 1. a child's own key: that child's settings, if they are new or changed;
//! 2. new children, where the policy fits those that were there before: those that it has no room
//!    for, in start order;
//! 3. changed settings of children that run, likewise;
//! 4. the policy, if it is new or changed: it is refused, and the one that is in force is looked at in
//!    its place. A supervisor that does not run has none: it is not started, nor anything below it.
//!
//! What is wrong with what is in force already is a problem that is shown, and nobody else's fault. Names in
//! `order` and `after` of which there is no file are no reason to refuse anything: they are passed over, and shown.
//!
//! Settings that depend on those above (a worker's tier and circuit breaker) are filled in here too,
//! from the policy that is in force afterwards: so they change with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DesiredTree, NotRead, Problem};
use crate::base::{Name, bounds};
use crate::runtime::spec::{Strategy, SupervisorSettings, WorkerSettings};
use crate::runtime::supervision::{Refusal, Sibling, absent, check};

/// What is in force before the directory's word is followed.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    pub supervisors: &'a BTreeMap<Name, SupervisorSettings>,
    pub workers: &'a BTreeMap<Name, Arc<WorkerSettings>>,
    /// Workers and templates that are not among `workers` and come before new ones all the same: those
    /// that are being loaded, and those that a host ran here before this one.
    pub before: &'a BTreeSet<Name>,
}

/// Refuses in `tree` what cannot be carried out: those settings become [`NotRead::Problem`], so that
/// they are neither taken nor started. `root` is the directory's path. Said again of a tree that was
/// taken, it refuses the same.
pub fn admit(root: &Path, running: Running<'_>, tree: &mut DesiredTree) {
    let mut admission = Admission::new(root, running, tree);
    // Those below come first: what they take counts above. A name sorts after all that are above it.
    let mut names: Vec<Name> = admission.tree.supervisors.keys().cloned().collect();
    while let Some(name) = names.pop() {
        admission.supervisor(&name);
        // Each is refused once at the most.
        names.append(&mut admission.again);
    }
    admission.warn();
    admission.inherit();
    tree.problems.sort();
    tree.problems.dedup();
}

struct Admission<'a> {
    root: &'a Path,
    running: Running<'a>,
    tree: &'a mut DesiredTree,
    /// Direct children, held ones among them.
    children: BTreeMap<Name, BTreeSet<Name>>,
    /// Whose new settings are left out of account for the moment.
    without: BTreeSet<Name>,
    /// Supervisors whose change was refused after those below were looked at.
    again: Vec<Name>,
}

/// A child that is new or changed, as far as those above it care.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    class: Class,
    /// In the start order of the supervisor that is looked at.
    place: usize,
    name: Name,
}

/// In the order in which room is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Before,
    Changed,
    New,
}

impl Admission<'_> {
    fn new<'a>(root: &'a Path, running: Running<'a>, tree: &'a mut DesiredTree) -> Admission<'a> {
        let mut children: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
        for name in tree.supervisors.keys().chain(tree.workers.keys()).chain(&tree.held) {
            // What is above a held name stays for it.
            let mut below = name.clone();
            while let Some(parent) = below.parent() {
                if !children.entry(parent.clone()).or_default().insert(below) {
                    break;
                }
                below = parent;
            }
        }
        Admission { root, running, tree, children, without: BTreeSet::new(), again: Vec::new() }
    }

    fn supervisor(&mut self, name: &Name) {
        if self.tree.is_held(name) {
            return;
        }
        let wanted = self.tree.supervisors.get(name).and_then(|entry| entry.settings.clone().ok());
        let current = self.running.supervisors.get(name);
        let is_refused = match wanted {
            Some(wanted) if Some(&wanted) != current => !self.takes(name, &wanted, Policy::Moved),
            _ => true,
        };
        if let Some(current) = current.filter(|_| is_refused) {
            self.takes(name, current, Policy::InForce);
        }
    }

    /// Refuses children until `policy` holds for what is left, or the policy, which is then false.
    fn takes(&mut self, name: &Name, policy: &SupervisorSettings, is: Policy) -> bool {
        if self.wrong(name, policy, &[]).is_empty() {
            return true;
        }
        let units = self.units(name, policy);
        let known = self.known(name, &units, is);
        let wrong = self.refuse_own_keys(name, policy, &units, &known);
        if !wrong.is_empty() && !self.make_room(name, policy, is, &units, &known, wrong) {
            return false;
        }
        self.say_what_is_left(name, policy);
        true
    }

    /// What was wrong before: it is said of the files that have it, and changes nothing.
    fn say_what_is_left(&mut self, name: &Name, policy: &SupervisorSettings) {
        let (of_children, own): (Vec<_>, Vec<_>) =
            self.wrong(name, policy, &[]).into_iter().partition(|refusal| refusal.child.is_some());
        for refusal in &of_children {
            let child = refusal.child.as_ref().and_then(|leaf| name.child(leaf).ok());
            if let Some(child) = child.filter(|child| self.is_wanted(child)) {
                self.refuse_child(&child, refusal);
            }
        }
        if self.is_wanted(name) {
            self.refuse_policy(name, &own);
        }
    }

    /// What is wrong with what is in force, and cannot be laid to what would change. A policy that
    /// changes answers for its own keys.
    fn known(&mut self, name: &Name, units: &[Unit], is: Policy) -> Vec<Refusal> {
        let Some(current) = self.running.supervisors.get(name) else { return Vec::new() };
        self.without = units.iter().map(|unit| unit.name.clone()).collect();
        let mut known = self.wrong(name, current, &[]);
        self.without.clear();
        known.retain(|refusal| is == Policy::InForce || refusal.child.is_some());
        known
    }

    /// Rule 1. Returns what is wrong after that.
    fn refuse_own_keys(
        &mut self,
        name: &Name,
        policy: &SupervisorSettings,
        units: &[Unit],
        known: &[Refusal],
    ) -> Vec<Refusal> {
        // Each turn but the last refuses a unit.
        loop {
            let wrong = self.wrong(name, policy, known);
            let mut is_done = true;
            for refusal in &wrong {
                let Some(child) = refusal.child.as_ref().and_then(|leaf| name.child(leaf).ok()) else { continue };
                if units.iter().any(|unit| unit.name == child) && self.is_wanted(&child) {
                    self.refuse_child(&child, refusal);
                    is_done = false;
                }
            }
            if is_done {
                return wrong;
            }
        }
    }

    /// Rules 2 to 4. False: the policy was refused.
    fn make_room(
        &mut self,
        name: &Name,
        policy: &SupervisorSettings,
        is: Policy,
        units: &[Unit],
        known: &[Refusal],
        wrong: Vec<Refusal>,
    ) -> bool {
        let units: Vec<&Unit> = units.iter().filter(|unit| self.is_wanted(&unit.name)).collect();
        let of = |class| units.iter().filter(move |unit| unit.class == class).map(|unit| unit.name.clone());
        let is_first = is == Policy::Moved && !self.has_old_children(name, &units);
        if is_first {
            self.refuse_policy(name, &wrong);
            return false;
        }
        let new: Vec<Name> = of(Class::New).collect();
        let before: Vec<Name> = of(Class::Before).chain(of(Class::Changed)).collect();
        self.without = new.iter().cloned().collect();
        if self.wrong(name, policy, known).is_empty() {
            self.give_room(name, policy, known, &new, &mut 0);
            return true;
        }
        self.without.extend(of(Class::Changed));
        if is == Policy::InForce {
            self.without.extend(of(Class::Before));
        }
        let base = self.wrong(name, policy, known);
        if is == Policy::Moved && !base.is_empty() {
            self.without.clear();
            self.refuse_policy(name, &base);
            return false;
        }
        let all: Vec<Name> = before.into_iter().chain(new).filter(|name| self.without.contains(name)).collect();
        self.give_room(name, policy, known, &all, &mut 0);
        true
    }

    /// Takes in those of `names` for which there is room, the first first; all are in `without`.
    fn give_room(
        &mut self,
        name: &Name,
        policy: &SupervisorSettings,
        known: &[Refusal],
        names: &[Name],
        refused: &mut usize,
    ) {
        if names.is_empty() {
            return;
        }
        self.without.retain(|name| !names.contains(name));
        let wrong = self.wrong(name, policy, known);
        let Some(first) = wrong.first() else { return };
        if names.len() == 1 || *refused >= bounds::REFUSED_ONE_BY_ONE_MAX {
            *refused += names.len();
            names.iter().for_each(|child| self.refuse_for_want_of_room(name, child, first));
            return;
        }
        self.without.extend(names.iter().cloned());
        let (earlier, later) = names.split_at(names.len() / 2);
        self.give_room(name, policy, known, earlier, refused);
        self.give_room(name, policy, known, later, refused);
    }

    /// Everything that is wrong with `policy` and the children as they are taken to be now.
    fn wrong(&self, name: &Name, policy: &SupervisorSettings, known: &[Refusal]) -> Vec<Refusal> {
        let is_simple = |policy: &SupervisorSettings| policy.strategy == Strategy::SimpleOneForOne;
        let mut refusals = check(policy, &self.siblings(name, policy), name.is_root());
        if self.running.supervisors.get(name).is_some_and(|current| is_simple(current) != is_simple(policy)) {
            refusals.push(Refusal {
                child: None,
                key: "strategy",
                reason: "a supervisor that runs cannot become one of a template, nor the other way".to_string(),
                help: "it takes effect when the host is started again, or the directory is removed and put back"
                    .to_string(),
            });
        }
        refusals.retain(|refusal| !known.contains(refusal));
        refusals
    }

    fn siblings(&self, name: &Name, policy: &SupervisorSettings) -> Vec<Sibling> {
        let mut siblings = Vec::new();
        for child in self.children.get(name).into_iter().flatten() {
            match self.sibling(child) {
                Some(sibling) => siblings.push(sibling),
                // What is not known yet is neither a template nor something else.
                None if policy.strategy == Strategy::SimpleOneForOne => {}
                None => siblings.push(named_only(child)),
            }
        }
        siblings
    }

    /// Names that are passed over in what will be in force.
    fn warn(&mut self) {
        self.without.clear();
        let mut warnings = Vec::new();
        for name in self.tree.supervisors.keys().filter(|name| !self.tree.is_held(name)) {
            let Some(policy) = self.policy(name) else { continue };
            for absent in absent(policy, &self.siblings(name, policy)) {
                let of = absent.child.as_ref().and_then(|leaf| name.child(leaf).ok());
                let of = of.unwrap_or_else(|| name.clone());
                let problem = self.problem(self.file(&of), &of, absent.key, with_key(&absent), &absent);
                warnings.push(Problem { is_warning: true, ..problem });
            }
        }
        for (name, entry) in &self.tree.workers {
            let Ok(settings) = &entry.settings else { continue };
            for (key, _) in settings.grants.environment.iter().filter(|(_, value)| value.contains("${")) {
                let absent = Refusal {
                    child: None,
                    key: "grants.environment",
                    reason: format!("the value of `{key}` is given as it is written: `${{...}}` is not replaced"),
                    help: "write the value itself".to_string(),
                };
                let problem = self.problem(self.file(name), name, absent.key, with_key(&absent), &absent);
                warnings.push(Problem { is_warning: true, ..problem });
            }
        }
        self.tree.problems.append(&mut warnings);
    }

    /// A child as it would be; `None` if nothing is known of it but the name.
    fn sibling(&self, name: &Name) -> Option<Sibling> {
        if self.is_supervisor(name) {
            let child = &self.policy(name)?.child;
            let Taken { memory, cpu } = self.taken(name);
            return Some(Sibling {
                leaf: name.leaf().to_string(),
                is_worker: false,
                restart: Some(child.restart),
                significant: child.significant,
                after: child.after.clone(),
                memory,
                cpu,
            });
        }
        let settings = self.worker(name)?;
        Some(Sibling {
            leaf: name.leaf().to_string(),
            is_worker: true,
            restart: settings.restart,
            significant: settings.significant,
            after: settings.after.clone(),
            memory: settings.limits.memory,
            cpu: settings.limits.cpu,
        })
    }

    /// What a child takes of the budgets above it. Depth is bounded by that of the directory.
    fn taken(&self, name: &Name) -> Taken {
        if !self.is_supervisor(name) {
            let limits = self.worker(name).map(|settings| &settings.limits);
            return limits.map(|limits| Taken { memory: limits.memory, cpu: limits.cpu }).unwrap_or_default();
        }
        let Some(policy) = self.policy(name) else { return Taken::default() };
        let mut taken = Taken::default();
        for below in self.children.get(name).into_iter().flatten().map(|child| self.taken(child)) {
            taken.memory = taken.memory.saturating_add(below.memory);
            taken.cpu = match (taken.cpu, below.cpu) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                (sum, more) => sum.or(more),
            };
        }
        Taken { memory: policy.budget.memory.unwrap_or(taken.memory), cpu: policy.budget.cpu.or(taken.cpu) }
    }

    /// The children that are new or changed, and those further down that take from the same budget.
    fn units(&self, name: &Name, policy: &SupervisorSettings) -> Vec<Unit> {
        let mut units = Vec::new();
        for child in self.children.get(name).into_iter().flatten() {
            let place = policy.order.iter().position(|leaf| leaf == child.leaf()).unwrap_or(usize::MAX);
            self.units_of(child, place, &mut units);
        }
        units.sort();
        units
    }

    fn units_of(&self, name: &Name, place: usize, units: &mut Vec<Unit>) {
        if self.tree.is_held(name) {
            return;
        }
        if let Some(class) = self.class(name) {
            units.push(Unit { class, place, name: name.clone() });
        }
        if self.running.supervisors.contains_key(name) && self.is_supervisor(name) {
            for child in self.children.get(name).into_iter().flatten() {
                self.units_of(child, place, units);
            }
        }
    }

    fn class(&self, name: &Name) -> Option<Class> {
        let is_changed = if let Some(entry) = self.tree.supervisors.get(name) {
            let wanted = entry.settings.as_ref().ok()?;
            let current = self.running.supervisors.get(name);
            current.map(|current| (&current.child, current.budget) != (&wanted.child, wanted.budget))
        } else {
            let wanted = self.tree.workers.get(name)?.settings.as_ref().ok()?;
            let current = self.running.workers.get(name);
            let facts = |of: &WorkerSettings| (of.restart, of.significant, of.limits.memory, of.limits.cpu);
            current.map(|current| facts(current) != facts(wanted) || current.after != wanted.after)
        };
        match is_changed {
            Some(true) => Some(Class::Changed),
            Some(false) => None,
            None if self.was_before(name) => Some(Class::Before),
            None => Some(Class::New),
        }
    }

    fn was_before(&self, name: &Name) -> bool {
        let mut from = self.running.before.range(name.clone()..);
        from.next().is_some_and(|first| first == name)
            || self.is_supervisor(name) && self.running.before.iter().any(|before| before.is_below(name))
    }

    fn has_old_children(&self, name: &Name, units: &[&Unit]) -> bool {
        units.iter().any(|unit| unit.class == Class::Before)
            || self
                .children
                .get(name)
                .into_iter()
                .flatten()
                .any(|child| self.running.workers.contains_key(child) || self.running.supervisors.contains_key(child))
    }

    fn is_supervisor(&self, name: &Name) -> bool {
        self.tree.supervisors.contains_key(name)
            || !self.tree.workers.contains_key(name) && self.running.supervisors.contains_key(name)
    }

    /// Whether the settings that the directory has for it are good so far.
    fn is_wanted(&self, name: &Name) -> bool {
        match self.tree.supervisors.get(name) {
            Some(entry) => entry.settings.is_ok(),
            None => self.tree.workers.get(name).is_some_and(|entry| entry.settings.is_ok()),
        }
    }

    /// The policy that will be in force, as far as is known; `None`: it will not run.
    fn policy(&self, name: &Name) -> Option<&SupervisorSettings> {
        let entry = self.tree.supervisors.get(name).filter(|_| !self.without.contains(name));
        entry.and_then(|entry| entry.settings.as_ref().ok()).or_else(|| self.running.supervisors.get(name))
    }

    fn worker(&self, name: &Name) -> Option<&WorkerSettings> {
        let entry = self.tree.workers.get(name).filter(|_| !self.without.contains(name));
        let wanted = entry.and_then(|entry| entry.settings.as_ref().ok());
        wanted.or_else(|| self.running.workers.get(name).map(|settings| &**settings))
    }

    /// For a key of its own file.
    fn refuse_child(&mut self, name: &Name, refusal: &Refusal) {
        let path = self.file(name);
        self.refuse(name, self.problem(path, name, refusal.key, with_key(refusal), refusal));
    }

    /// For a key of the file of the supervisor `above`.
    fn refuse_for_want_of_room(&mut self, above: &Name, name: &Name, refusal: &Refusal) {
        let (child, key) = (refusal.child.as_deref(), refusal.key);
        if child == Some(name.leaf()) && name.parent().as_ref() == Some(above) {
            return self.refuse_child(name, refusal);
        }
        let owner = match child {
            Some(leaf) => format!("`{leaf}`"),
            None if above.is_root() => "the root".to_string(),
            None => format!("`{above}`"),
        };
        let message = format!("does not go with `{key}` of {owner}: {}", refusal.reason);
        let own_key = match key {
            "budget.memory" => "limits.memory",
            "budget.cpu" => "limits.cpu",
            key => key,
        };
        // The file that is surely there, if it has no settings.
        let settings = self.file(name);
        let component = self.tree.workers.get(name).map(|entry| entry.path.clone());
        let path = component.filter(|_| !self.tree.places.contains_key(&settings)).unwrap_or(settings);
        self.refuse(name, self.problem(path, name, own_key, message, refusal));
    }

    fn refuse_policy(&mut self, name: &Name, refusals: &[Refusal]) {
        for refusal in refusals {
            let message = match &refusal.child {
                Some(leaf) => format!("`{}` of `{leaf}`: {}", refusal.key, refusal.reason),
                None => with_key(refusal),
            };
            self.refuse(name, self.problem(self.file(name), name, refusal.key, message, refusal));
        }
    }

    fn problem(&self, path: PathBuf, name: &Name, key: &str, message: String, refusal: &Refusal) -> Problem {
        let place = self.tree.places.get(&path).and_then(|places| places.get(key)).copied();
        let help = refusal.help.clone();
        Problem { place, path, name: Some(name.clone()), message, help, is_warning: false }
    }

    fn refuse(&mut self, name: &Name, problem: Problem) {
        self.tree.problems.push(problem.clone());
        if let Some(entry) = self.tree.supervisors.get_mut(name) {
            if entry.settings.is_ok() {
                entry.settings = Err(NotRead::Problem(problem));
                self.again.extend(self.running.supervisors.contains_key(name).then(|| name.clone()));
            }
        } else if let Some(entry) = self.tree.workers.get_mut(name) {
            entry.settings = Err(NotRead::Problem(problem));
        }
    }

    /// Where its settings are, or would be.
    fn file(&self, name: &Name) -> PathBuf {
        match self.tree.workers.get(name) {
            Some(entry) => entry.path.with_extension("toml"),
            None => self.root.join(name.as_str()).join("supervisor.toml"),
        }
    }

    /// A worker's own word, then its supervisor's, then the preset of its tier.
    fn inherit(&mut self) {
        let mut above = BTreeMap::new();
        for name in self.tree.workers.keys() {
            let parent = name.parent().unwrap_or_else(Name::root);
            above.entry(parent).or_insert_with_key(|parent| {
                self.policy(parent).map(|policy| (policy.tier, policy.circuit_breaker)).unwrap_or_default()
            });
        }
        for (name, entry) in &mut self.tree.workers {
            let Ok(settings) = &mut entry.settings else { continue };
            let Some((tier, breaker)) = name.parent().and_then(|parent| above.get(&parent).copied()) else { continue };
            let tier = settings.tier.unwrap_or(tier);
            settings.tier = Some(tier);
            settings.circuit_breaker = settings.circuit_breaker.or(breaker).or(tier.presets().circuit_breaker);
        }
    }
}

/// Which policy is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// The one that is in force.
    InForce,
    /// Another: the supervisor is new, or its file changed.
    Moved,
}

#[derive(Default)]
struct Taken {
    /// Bytes.
    memory: u64,
    /// Fuel per second.
    cpu: Option<u64>,
}

fn named_only(name: &Name) -> Sibling {
    let leaf = name.leaf().to_string();
    Sibling { leaf, is_worker: true, restart: None, significant: false, after: Vec::new(), memory: 0, cpu: None }
}

fn with_key(refusal: &Refusal) -> String {
    let key = format!("`{}`", refusal.key);
    if refusal.reason.starts_with(&key) { refusal.reason.clone() } else { format!("{key}: {}", refusal.reason) }
}

#[cfg(test)]
mod tests;
