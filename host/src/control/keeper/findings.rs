//! What the keeper tells of the directory: what waits, what is refused, and why.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::{Keeper, granting};
use crate::base::units::show_duration;
use crate::base::{ComponentHash, Name, Tick};
use crate::control::directory::{CurrentTree, CurrentWorker, WorkerEntry};
use crate::control::finding::{Finding, FindingKind};
use crate::control::settings::one_line;
use crate::record::{Event, WaitsFor};

/// Said of a look at the directory that does not end, to whoever asks.
const LOOK_IS_LATE: &str = "a look at the directory does not end: its file system does not answer";

/// What of a worker's files waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    component: Option<ComponentHash>,
    settings: bool,
    waits_for: WaitsFor,
}

impl Waiting {
    fn what(&self) -> &'static str {
        match (self.component, self.settings) {
            (Some(_), true) => "component and newer settings",
            (Some(_), false) => "component",
            (None, _) => "settings file",
        }
    }
}

impl Keeper {
    /// Files that are newer than what is being tried: they have their turn when that has ended. And newer components
    /// beside settings that are refused.
    pub(super) fn note_what_waits(&mut self, current: &CurrentTree) {
        let mut waiting = self.waiting_for_settings(current);
        for (name, worker) in current.workers.iter().filter(|(_, worker)| worker.upgrading) {
            let Some(entry) = self.said.workers.get(name) else { continue };
            let is_new = entry.hash != worker.component && worker.file != Some(entry.hash);
            let component = is_new && !self.changes.is_under_way_to(name, entry.hash);
            let settings = entry.settings.as_ref().is_ok_and(|settings| *settings != worker.settings);
            if component || settings {
                waiting.insert(
                    name.clone(),
                    Waiting { component: component.then_some(entry.hash), settings, waits_for: WaitsFor::Change },
                );
            }
        }
        for (name, waits) in &waiting {
            if self.waiting.get(name) != Some(waits) {
                let until = self.changes.probation_left(name).filter(|_| waits.waits_for == WaitsFor::Change);
                let (worker, what, waits_for) = (name.clone(), waits.what(), waits.waits_for);
                self.services.recorder.emit(Event::FileWaits { worker, what, waits_for, until });
            }
        }
        self.waiting = waiting;
        // Files that were tried and are not run.
        let is_rejected = |(name, worker): &(&Name, &CurrentWorker)| {
            let said = self.said.workers.get(*name);
            // What an operator runs in its place is meant so.
            !worker.overridden
                && said.is_some_and(|said| said.hash != worker.component && worker.rejected.contains(&said.hash))
        };
        self.rejected = current.workers.iter().filter(is_rejected).map(|(name, _)| name.clone()).collect();
    }

    fn waiting_for_settings(&self, current: &CurrentTree) -> BTreeMap<Name, Waiting> {
        let runs = |name: &Name| {
            let worker = current.workers.get(name).map(|worker| (worker.component, worker.file));
            worker.or_else(|| current.templates.get(name).map(|wanted| (wanted.hash, None)))
        };
        let waits = |(name, entry): (&Name, &WorkerEntry)| {
            let (component, file) = runs(name)?;
            let is_new = entry.settings.is_err() && entry.hash != component && file != Some(entry.hash);
            let component = is_new.then_some(entry.hash)?;
            let waits_for = WaitsFor::Settings;
            Some((name.clone(), Waiting { component: Some(component), settings: false, waits_for }))
        };
        self.said.workers.iter().filter(|(name, _)| !self.said.is_held(name)).filter_map(waits).collect()
    }

    /// Shows what holds now to whoever asks: `paguro doctor`, and who asks for a worker in vain.
    pub(super) fn publish(&self) {
        let looked = self.reported.iter().map(|problem| Finding {
            path: one_line(&problem.path.to_string_lossy()),
            kind: if problem.is_warning { FindingKind::Warning } else { FindingKind::Refused },
            message: problem.message.clone(),
            help: problem.help.clone(),
        });
        let refused = self.refused.iter().map(|(name, refusal)| {
            let help = "`paguro check FILE` says what is wrong; a file that changes is tried again";
            Finding::refused(format!("{name}.wasm"), refusal.why.clone(), help)
        });
        let failed = self.tries.iter().filter(|(name, _)| self.services.registry.get(name).is_none());
        let failed = failed.filter_map(|(name, tries)| Some((name, tries.failed.clone()?)));
        let failed = failed.filter(|(name, _)| !self.templates.contains_key(*name)).map(|(name, why)| {
            Finding::refused(format!("{name}.wasm"), why, "it is tried again by itself; `paguro events` tells each try")
        });
        let fell = self.templates.iter().filter_map(|(name, held)| Some((name, held.fell()?)));
        let fell = fell.map(|(name, (to, why))| {
            let message = format!("it is not used for new keys, and all go back to {}: {why}", to.short());
            Finding::refused(format!("{name}.wasm"), message, "a file that changes is tried again")
        });
        let stayed = self.templates.iter().filter_map(|(name, held)| Some((name, held.stayed()?)));
        let stayed = stayed
            .map(|(name, which)| Finding::refused(format!("{name}.wasm"), which, "a file that changes is tried again"));
        let help = "`paguro history NAME` or `paguro events` has the reason; a file that changes is tried again";
        let rejected = self.rejected.iter().map(|name| {
            let message = "its component was refused, called off or rolled back: what ran before goes on";
            Finding::refused(format!("{name}.wasm"), message.to_string(), help)
        });
        let waiting = self.waiting.iter().map(|(name, waits)| {
            let (what, waits_for) = (waits.what(), waits.waits_for);
            let (left, help) = match waits_for {
                WaitsFor::Change => (
                    self.changes.probation_left(name).map(|left| format!(" in {}", show_duration(left))),
                    format!("`paguro commit {name}` or `paguro rollback {name}` ends it now"),
                ),
                WaitsFor::Settings => (None, format!("`paguro doctor` says what is wrong with {name}.toml")),
            };
            let left = left.unwrap_or_default();
            let file = if waits.component.is_some() { "wasm" } else { "toml" };
            Finding {
                path: format!("{name}.{file}"),
                kind: FindingKind::Waiting,
                message: format!("a newer {what} waits until {waits_for}{left}"),
                help,
            }
        });
        let deleted = self.files.deleted();
        // One that is back is deleted no more.
        let is_away = |name: &Name| self.said.workers.contains_key(name) && self.services.registry.get(name).is_none();
        let deleted = deleted.into_iter().filter(is_away).map(|name| Finding {
            path: format!("{name}.wasm"),
            kind: FindingKind::Waiting,
            message: "its worker was deleted: it is not taken until it changes, or was gone and is put back"
                .to_string(),
            help: String::new(),
        });
        let settings = |name: &Name| format!("{name}.toml");
        let grants = self.granting.refused.iter().map(|(name, why)| {
            Finding::refused(settings(name), why.clone(), "mend `[grants]` in that file, or what it names")
        });
        let moved = self.granting.moved.iter().map(|(name, path)| {
            let (message, help) = granting::moved(path);
            Finding { path: settings(name), kind: FindingKind::Warning, message, help }
        });
        let stuck = self.granting.stuck().map(|name| {
            let late = granting::late();
            Finding::refused(settings(name), late.message, &late.help)
        });
        let late = self.late.as_ref().map(|(_, begun)| Finding {
            path: self.root.display().to_string(),
            kind: FindingKind::Unseen,
            message: self.late_for(*begun),
            help: "look at the mount: a file that changes is taken when it answers again".to_string(),
        });
        let loading = self.loads.names().map(|name| Finding {
            path: format!("{name}.wasm"),
            // The keys of a template run on what they have.
            kind: if self.templates.contains_key(name) { FindingKind::Waiting } else { FindingKind::Loading },
            message: "it is being read, checked and compiled; try again in a moment".to_string(),
            help: String::new(),
        });
        let all = loading
            .chain(waiting)
            .chain(deleted)
            .chain(fell)
            .chain(stayed)
            .chain(rejected)
            .chain(looked)
            .chain(refused)
            .chain(failed)
            .chain(grants)
            .chain(moved)
            .chain(stuck)
            .chain(late)
            .collect();
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    fn late_for(&self, begun: Tick) -> String {
        let passed = show_duration(self.services.clock.now().since(begun));
        format!("{LOOK_IS_LATE} (begun {passed} ago); what runs goes on, nothing new is taken")
    }
}
