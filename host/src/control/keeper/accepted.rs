//! Settings that were accepted last, kept over restarts of the host. A file that is refused leaves what runs as it is;
//! so it must be after a restart, where nothing runs yet and the file is all there is to go by.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Event, Keeper};
use crate::base::{ComponentHash, Name};
use crate::control::directory::{DesiredTree, NotRead, SupervisorEntry, WorkerEntry};
use crate::control::settings::{parse_root, parse_supervisor, parse_worker};
use crate::record::{AcceptedSettings, Change, Database, SettingsOf};
use crate::runtime::spec::{Strategy, SupervisorSettings, WorkerSettings};

#[derive(Default)]
pub(super) struct Accepted {
    known: BTreeMap<Name, AcceptedSettings>,
    /// For whom they take the place of what the directory says, since the last look.
    stand_in: BTreeSet<Name>,
    /// Names of which the directory says nothing certain, and in whose place stands what was there.
    brought_back: BTreeSet<Name>,
}

impl Accepted {
    /// What cannot be read is not known: then a file that is refused has nothing in its place.
    pub fn of(database: &Database) -> Accepted {
        Accepted { known: database.accepted().unwrap_or_default().into_iter().collect(), ..Accepted::default() }
    }

    pub fn root(&self) -> Option<SupervisorSettings> {
        self.supervisor(&Name::root())
    }

    /// Workers and templates that were in force.
    pub fn workers(&self) -> impl Iterator<Item = &Name> {
        self.known.iter().filter(|(_, known)| known.of == SettingsOf::Worker).map(|(name, _)| name)
    }

    /// Whether the directory says nothing certain of this name, though what was there is brought back.
    pub fn is_uncertain(&self, name: &Name) -> bool {
        let mut above = Some(name.clone());
        while let Some(name) = above {
            if self.brought_back.contains(&name) {
                return true;
            }
            above = name.parent();
        }
        false
    }

    fn supervisor(&self, name: &Name) -> Option<SupervisorSettings> {
        let parse = if name.is_root() { parse_root } else { parse_supervisor };
        parse(Path::new("supervisor.toml"), self.text(name, SettingsOf::Supervisor)?).ok()
    }

    /// What its paths are relative to is its file in `root`.
    fn worker(&self, root: &Path, name: &Name) -> Option<WorkerSettings> {
        parse_worker(&root.join(format!("{}.toml", name.as_str())), self.text(name, SettingsOf::Worker)?).ok()
    }

    fn text(&self, name: &Name, of: SettingsOf) -> Option<&str> {
        self.known.get(name).filter(|known| known.of == of).map(|known| &*known.text)
    }
}

/// The policy that the root had last.
pub(in crate::control) fn root_policy(database: &Database) -> SupervisorSettings {
    Accepted::of(database).root().unwrap_or_default()
}

impl Keeper {
    /// Puts what was accepted last in the place of settings that cannot be read and of files that cannot be taken, for
    /// what ran and does not run now.
    pub(super) fn go_on_with_accepted(&mut self) {
        self.accepted.stand_in.clear();
        self.accepted.brought_back.clear();
        let supervisors = self.said.supervisors.iter().map(|(name, entry)| (name, entry.settings.as_ref().err()));
        let workers = self.said.workers.iter().map(|(name, entry)| (name, entry.settings.as_ref().err()));
        let refused = supervisors.chain(workers).filter(|(_, error)| matches!(error, Some(NotRead::Problem(_))));
        let refused: Vec<Name> = refused.map(|(name, _)| name.clone()).filter(|name| !self.is_in_force(name)).collect();
        for name in refused {
            self.stand_in(&name);
        }
        for name in self.held_for_a_problem() {
            self.bring_back(&name);
        }
    }

    /// Refuses what cannot be, and puts what was accepted in its place where that ran before and fits.
    pub(super) fn go_on_where_refused(&mut self, refuse: impl Fn(&mut Keeper)) {
        // Nobody's settings changed but while they were in force: nothing can take their place.
        let changed: Vec<Name> = self.changed_while_away();
        let before = (!changed.is_empty()).then(|| self.said.clone());
        refuse(self);
        let Some(before) = before else { return };
        let is_refused = |tree: &DesiredTree, name: &Name| match tree.supervisors.get(name) {
            Some(entry) => entry.settings.is_err(),
            None => tree.workers.get(name).is_some_and(|entry| entry.settings.is_err()),
        };
        let refused: Vec<Name> = changed.into_iter().filter(|name| is_refused(&self.said, name)).collect();
        if refused.is_empty() {
            return;
        }
        let problems = std::mem::replace(&mut self.said, before).problems;
        for name in &refused {
            self.stand_in(name);
        }
        refuse(self);
        // Why they were refused is as true as before.
        let about = |name: &Option<Name>| name.as_ref().is_some_and(|name| refused.contains(name));
        self.said.problems.extend(problems.into_iter().filter(|problem| about(&problem.name)));
        self.said.problems.sort();
        self.said.problems.dedup();
    }

    /// Keeps what is in force now.
    pub(super) async fn keep_accepted(&mut self) {
        let root = Name::root();
        if !self.said.supervisors.contains_key(&root) && !self.said.is_held(&root) {
            // Nothing was seen yet: a look is late.
            return;
        }
        let mut changes = Vec::new();
        for (name, of, text) in self.in_force() {
            if self.accepted.known.get(&name).is_none_or(|known| (known.of, &known.text) != (of, &text)) {
                changes.push((name, Some(AcceptedSettings { of, text })));
            }
        }
        let is_there = |name: &Name| {
            let said = &self.said;
            said.supervisors.contains_key(name)
                || said.workers.contains_key(name)
                || said.is_held(name)
                || self.accepted.is_uncertain(name)
        };
        changes.extend(self.accepted.known.keys().filter(|name| !is_there(name)).map(|name| (name.clone(), None)));
        if changes.is_empty() {
            return;
        }
        let writes = changes.iter().cloned().map(|(name, settings)| match settings {
            Some(settings) => Change::Accepted(name, settings),
            None => Change::AcceptedGone(name),
        });
        match self.services.database.commit(writes.collect()).await {
            Ok(()) => {
                for (name, settings) in changes {
                    match settings {
                        Some(settings) => drop(self.accepted.known.insert(name, settings)),
                        None => drop(self.accepted.known.remove(&name)),
                    }
                }
            }
            // The next look tries again.
            Err(error) => self
                .services
                .recorder
                .emit(Event::DatabaseFailed { what: "write which settings are in force", error: error.to_string() }),
        }
    }

    /// The settings files whose word is in force.
    fn in_force(&self) -> Vec<(Name, SettingsOf, Arc<str>)> {
        let mut in_force = Vec::new();
        let text = |path: PathBuf| self.said.texts.get(&path).cloned().unwrap_or_default();
        let is_own = |name: &Name| !self.accepted.stand_in.contains(name);
        for (name, entry) in self.said.supervisors.iter().filter(|(name, _)| is_own(name)) {
            if entry.settings.as_ref().is_ok_and(|settings| self.policies.get(name) == Some(settings)) {
                let path = self.root.join(name.as_str()).join("supervisor.toml");
                in_force.push((name.clone(), SettingsOf::Supervisor, text(path)));
            }
        }
        for (name, entry) in self.said.workers.iter().filter(|(name, _)| is_own(name)) {
            let Ok(settings) = &entry.settings else { continue };
            let worker = self.services.registry.get(name);
            let is_in_force = match (&worker, self.templates.get(name)) {
                (Some(worker), _) => *worker.settings() == *settings,
                (None, Some(held)) => held.wanted.settings == *settings,
                (None, None) => false,
            };
            if is_in_force {
                in_force.push((name.clone(), SettingsOf::Worker, text(entry.path.with_extension("toml"))));
            }
        }
        in_force
    }

    fn is_in_force(&self, name: &Name) -> bool {
        self.policies.contains_key(name)
            || self.templates.contains_key(name)
            || self.services.registry.get(name).is_some()
    }

    fn stand_in(&mut self, name: &Name) {
        let done = if let Some(settings) = self.accepted.supervisor(name)
            && let Some(entry) = self.said.supervisors.get_mut(name)
        {
            entry.settings = Ok(settings);
            true
        } else if !self.was_removed(name)
            && let Some(settings) = self.accepted.worker(&self.root, name)
            && let Some(entry) = self.said.workers.get_mut(name)
        {
            entry.settings = Ok(settings);
            true
        } else {
            false
        };
        if done {
            self.accepted.stand_in.insert(name.clone());
        }
    }

    /// Names that the directory would have run, were it not for a problem with what lies there.
    fn held_for_a_problem(&self) -> Vec<Name> {
        let has_problem: BTreeSet<&Name> = self
            .said
            .problems
            .iter()
            .filter(|problem| !problem.is_warning)
            .filter_map(|problem| problem.name.as_ref())
            .collect();
        let held = self.said.held.iter().filter(|name| has_problem.contains(name));
        held.filter(|held| self.accepted_below(held).any(|name| self.should_run(name))).cloned().collect()
    }

    /// This name and all below it, as far as they were in force.
    fn accepted_below<'a>(&'a self, held: &'a Name) -> impl Iterator<Item = &'a Name> {
        let known = self.accepted.known.keys();
        known.filter(move |name| held.is_root() || *name == held || name.is_below(held))
    }

    /// Whether it was in force and is not, for no other reason than what the directory says now.
    fn should_run(&self, name: &Name) -> bool {
        !self.is_in_force(name)
            && match self.accepted.known[name].of {
                SettingsOf::Supervisor => true,
                SettingsOf::Worker => self.acted_upon_last(name).is_some(),
            }
    }

    fn was_removed(&self, name: &Name) -> bool {
        matches!(self.services.database.worker(name), Ok(Some(record)) if record.removed)
    }

    /// The worker or the supervisor of this name, and all below it, as they were.
    fn bring_back(&mut self, held: &Name) {
        let below = self.accepted_below(held).map(|name| (name.clone(), self.accepted.known[name].of));
        let below: Vec<(Name, SettingsOf)> = below.collect();
        for (name, of) in below {
            match of {
                SettingsOf::Supervisor => {
                    if let Some(settings) = self.accepted.supervisor(&name) {
                        self.said.supervisors.insert(name.clone(), SupervisorEntry { settings: Ok(settings) });
                        self.accepted.stand_in.insert(name);
                    }
                }
                SettingsOf::Worker => {
                    if let (Some(settings), Some(hash)) =
                        (self.accepted.worker(&self.root, &name), self.acted_upon_last(&name))
                    {
                        let path = self.root.join(format!("{}.wasm", name.as_str()));
                        let entry = WorkerEntry { path, file: Default::default(), hash, settings: Ok(settings) };
                        self.said.workers.insert(name.clone(), entry);
                        self.accepted.stand_in.insert(name);
                    }
                }
            }
        }
        self.accepted.brought_back.insert(held.clone());
        self.said.held.remove(held);
        // What runs there goes on as it is, accepted or not.
        let runs = self.services.registry.all().into_iter().map(|worker| worker.name().clone());
        let is_key = |name: &Name| name.parent().is_some_and(|above| self.services.templates.get(&above).is_some());
        let runs = runs.filter(|name| !is_key(name)).chain(self.templates.keys().cloned());
        let below = runs.filter(|name| held.is_root() || name == held || name.is_below(held));
        self.said.held.extend(below.collect::<Vec<_>>());
    }

    /// The file of a worker or a template that the host has, as it was acted upon last.
    fn acted_upon_last(&self, name: &Name) -> Option<ComponentHash> {
        if let Some(held) = self.templates.get(name) {
            return Some(held.wanted.hash);
        }
        let record = self.services.database.worker(name).ok().flatten().filter(|record| !record.removed);
        record.map(|record| record.file.unwrap_or(record.component)).or_else(|| {
            let above = name.parent().and_then(|parent| self.said.supervisors.get(&parent));
            let policy = above.and_then(|above| above.settings.as_ref().ok());
            let policy = policy.or_else(|| self.policies.get(&name.parent()?));
            let is_template = policy.is_some_and(|policy| policy.strategy == Strategy::SimpleOneForOne);
            self.serving_before(name).filter(|_| is_template)
        })
    }

    /// Those that ran, do not run now, and have other settings than then.
    fn changed_while_away(&self) -> Vec<Name> {
        let text = |path: PathBuf| self.said.texts.get(&path).cloned().unwrap_or_default();
        let supervisors = self.said.supervisors.keys().map(|name| {
            let path = self.root.join(name.as_str()).join("supervisor.toml");
            (name, SettingsOf::Supervisor, path)
        });
        let workers =
            self.said.workers.iter().map(|(name, entry)| (name, SettingsOf::Worker, entry.path.with_extension("toml")));
        let changed = supervisors.chain(workers).filter(|&(name, of, ref path)| {
            !self.accepted.stand_in.contains(name)
                && !self.is_in_force(name)
                && self.accepted.text(name, of).is_some_and(|known| *known != *text(path.clone()))
        });
        changed.map(|(name, ..)| name.clone()).collect()
    }
}
