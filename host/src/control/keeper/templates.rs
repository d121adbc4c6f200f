//! Templates: what a file in the directory of a simple-one-for-one supervisor is to its children.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;

use super::{Keeper, in_time};
use crate::base::{ComponentHash, Name};
use crate::change::{Candidate, ComponentTemplate, Keys, Reconciler, Rollout};
use crate::control::directory::Wanted;
use crate::record::{Change, Event};
use crate::runtime::spec::SettingsChange;
use crate::runtime::{Services, Shared, Tree};
use crate::sandbox::Component;

/// A template as it is in force.
pub(super) struct Held {
    pub wanted: Wanted,
    component: Component,
    keys: Keys,
    rollout: Arc<Rollout>,
    /// Brings its children to what the rollout says.
    reconciler: Arc<Reconciler>,
    /// What it was before, as long as new keys may start on that.
    older: Option<Component>,
    /// Its file could not be taken when the host started.
    stands_in: bool,
}

impl Held {
    /// Why its newest component was rolled back for all keys, and to what.
    pub fn fell(&self) -> Option<(ComponentHash, String)> {
        self.rollout.fell()
    }

    /// Which of its children stay on what they were.
    pub fn stayed(&self) -> Option<String> {
        self.reconciler.stayed()
    }
}

const NEW_SETTINGS: &str = "new settings of a template's children";

/// Children of one template that start, or are upgraded, side by side.
const SIDE_BY_SIDE: usize = 16;

impl Keeper {
    /// A new component, or the first: children that are there are upgraded to it, one by one; new ones
    /// start on the one before until it is committed.
    /// `stands_in`: its file cannot be taken, and it is what was there before.
    pub(super) fn set_template(&mut self, name: Name, wanted: Wanted, component: Component, stands_in: bool) {
        let Some(supervisor) = name.parent() else { return };
        let keys = self.policies.get(&supervisor).map(Keys::from).unwrap_or_default();
        let before = self.templates.remove(&name);
        let reconciler = match &before {
            Some(before) => before.reconciler.clone(),
            None => Reconciler::new(&self.changes, &self.tree, &supervisor),
        };
        let candidate = Candidate {
            changes: &self.changes,
            reconciler: &reconciler,
            template: &name,
            newest: component.hash(),
            before: before.as_ref().map(|before| &*before.rollout),
        };
        let rollout = if stands_in && before.is_none() {
            Rollout::as_it_was(candidate)
        } else {
            self.rollout(candidate, &supervisor, &wanted)
        };
        reconciler.follow(&rollout, wanted.path.clone());
        let older = before.as_ref().map(|before| before.component.clone());
        let held = Held { wanted, component, keys, rollout, reconciler: reconciler.clone(), older, stands_in };
        self.put(&name, held);
        match before {
            Some(before) => {
                let configuring = self.configuring_children(&name, &before.wanted);
                let (services, component) =
                    (self.services.clone(), self.templates.get(&name).map(|held| held.component.hash()));
                tokio::spawn(async move {
                    // Settings first: the newer component may have been made for them.
                    services.recorder.watched(NEW_SETTINGS, configuring).await;
                    // A file that changes is tried again, also where it is one that was there before.
                    if let Some(component) =
                        component.filter(|component| *component != before.component.hash() && !before.stands_in)
                    {
                        let anew = vec![Change::ClearRejectionsBelow(supervisor, component)];
                        if let Err(error) = services.database.commit(anew).await {
                            let what = "forget what failed on a template's children";
                            services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
                        }
                    }
                    reconciler.look_at_all();
                });
            }
            // Those of the last run come back, unless their messages bring them.
            None if !keys.on_demand => self.to_resume.push(supervisor),
            None => {}
        }
    }

    /// The same component with other settings.
    pub(super) async fn change_template(&mut self, name: Name, mut wanted: Wanted) {
        let kept = self.templates.get(&name).map(|held| held.wanted.settings.grants.clone()).unwrap_or_default();
        if self.grant(&name, &mut wanted.settings, &kept).await {
            self.renew_template(name, wanted);
        }
    }

    /// What stood in for a file is no stand-in once the file says the same: the next one is another file.
    pub(super) fn settle_stand_ins(&mut self) {
        for (name, held) in self.templates.iter_mut().filter(|(_, held)| held.stands_in) {
            let is_certain = !self.accepted.is_uncertain(name) && !self.said.is_held(name);
            held.stands_in =
                !is_certain || self.said.workers.get(name).is_none_or(|said| said.hash != held.wanted.hash);
        }
    }

    pub(super) fn renew_template(&mut self, name: Name, wanted: Wanted) {
        let Some(held) = self.templates.remove(&name) else { return };
        let before = held.wanted.clone();
        self.put(&name, Held { wanted, ..held });
        let (recorder, configuring) = (self.services.recorder.clone(), self.configuring_children(&name, &before));
        tokio::spawn(async move { recorder.watched(NEW_SETTINGS, configuring).await });
        let settings = self.templates.get(&name).map(|held| held.wanted.settings.clone()).unwrap_or_default();
        let change = SettingsChange::between(&before.settings, &settings);
        if change.is_empty() {
            return;
        }
        let (in_place, restarted) = (change.in_place, change.restart);
        self.services.recorder.emit(Event::SettingsChanged { name, in_place, restarted });
    }

    /// Whether children start on demand is the supervisor's to say.
    pub(super) fn refresh_template(&mut self, supervisor: &Name) {
        let keys = self.policies.get(supervisor).map(Keys::from).unwrap_or_default();
        let of_it = |name: &&Name| name.parent().as_ref() == Some(supervisor);
        let Some(name) = self.templates.keys().find(of_it).cloned() else { return };
        if let Some(held) = self.templates.remove(&name) {
            self.put(&name, Held { keys, ..held });
        }
    }

    /// How the newest component of a template stands: over a restart of the host too.
    fn rollout(&self, candidate: Candidate, supervisor: &Name, wanted: &Wanted) -> Arc<Rollout> {
        let Candidate { changes, template: name, newest, before, .. } = candidate;
        let probation = wanted.settings.upgrade.probation;
        if let Some(before) = before {
            before.retire();
        }
        // What cannot be read is not known.
        let known = self.services.database.template(name).ok().flatten();
        let has = |component: &ComponentHash| changes.component_files().has(component);
        let served = before.map(|before| before.serving()).or(known.map(|known| known.serving)).filter(has);
        let Some(served) = served else { return Rollout::committed(candidate) };
        if served == newest {
            let is_watched = before.is_none() && !probation.is_zero();
            let watched = known.and_then(|known| known.before).filter(|_| is_watched).filter(has);
            return match watched {
                Some(before) => Rollout::watched(candidate, before, probation),
                None => Rollout::serves_already(candidate),
            };
        }
        if known.is_some_and(|known| known.refused == Some(newest)) {
            return Rollout::rolled_back(candidate, served);
        }
        // One that no key is on, nor ever kept a state with, may be what is to be mended.
        let runs = |child: &Arc<Shared>| child.status().component == served && child.status().standing.is_up();
        let is_used = children(&self.services, supervisor).iter().any(runs)
            || self.services.database.is_used_below(supervisor, served).unwrap_or(true);
        if is_used { Rollout::trying(candidate, served, probation) } else { Rollout::committed(candidate) }
    }

    /// What new keys of a template started on last, as far as the host still has it.
    pub(super) fn serving_before(&self, template: &Name) -> Option<ComponentHash> {
        let known = self.services.database.template(template).ok().flatten()?;
        Some(known.serving).filter(|serving| self.changes.component_files().has(serving))
    }

    fn put(&mut self, name: &Name, held: Held) {
        let Some(supervisor) = name.parent() else { return };
        let Held { wanted, component, keys, rollout, older, .. } = &held;
        let (settings, older) = (wanted.settings.clone(), older.as_ref());
        let template =
            ComponentTemplate::new(&self.changes, component.clone(), settings, *keys, rollout.clone(), older);
        self.services.templates.set(supervisor, Arc::new(template));
        self.services.recorder.emit(Event::TemplateSet { name: name.clone(), component: component.hash() });
        self.templates.insert(name.clone(), held);
    }

    /// Its file is gone: what comes under its name next has nothing to do with it.
    pub(super) async fn template_is_gone(&mut self, name: &Name) {
        if let Err(error) = self.services.database.submit(vec![Change::DropTemplate(name.clone())]) {
            self.database_failed("forget a template", error.to_string());
        }
        self.remove_template(name).await;
    }

    /// Its children are stopped and leave the tree; their states are kept under their names.
    pub(super) async fn remove_template(&mut self, name: &Name) {
        if let Some(held) = self.templates.remove(name) {
            held.rollout.retire();
            held.reconciler.end();
        }
        let Some(supervisor) = name.parent() else { return };
        self.services.templates.remove(&supervisor);
        let removing = children(&self.services, &supervisor).into_iter().map(|child| {
            let tree = self.tree.clone();
            // One that left meanwhile is no error.
            async move { drop(tree.remove(child.name()).await) }
        });
        futures::stream::iter(removing).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>().await;
    }

    /// New settings hold for children that are there, but for a configuration of their own.
    fn configuring_children(&self, template: &Name, before: &Wanted) -> impl Future<Output = ()> + Send + use<> {
        let (tree, services, supervisor) = (self.tree.clone(), self.services.clone(), template.parent());
        let after = self.templates.get(template).map(|held| held.wanted.settings.clone()).unwrap_or_default();
        let before = before.settings.clone();
        async move {
            let change = SettingsChange::between(&before, &after);
            let Some(supervisor) = supervisor.filter(|_| !change.is_empty()) else { return };
            // Shared by all that have no configuration of their own.
            let after = Arc::new(after);
            let (tree, after, before, change) = (&tree, &after, &before, &change);
            let configuring = children(&services, &supervisor).into_iter().map(|child| async move {
                let mut settings = after.clone();
                let current = child.settings().config.clone();
                let keeps_its_own = current != before.config;
                if keeps_its_own {
                    Arc::make_mut(&mut settings).config = current;
                }
                // One that left meanwhile is no error. One that does not stop holds up nobody: it goes on by itself.
                let _ = in_time(tree.configure_worker(&child, settings)).await;
                if !change.restart.is_empty() && !keeps_its_own && child.lives() {
                    let _ = in_time(tree.restart_child(child.name())).await;
                }
            });
            futures::stream::iter(configuring).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>().await;
        }
    }

    /// Children that ran when the host ended come back.
    pub(super) fn resume_children(&mut self) {
        for supervisor in std::mem::take(&mut self.to_resume) {
            let (tree, services) = (self.tree.clone(), self.services.clone());
            tokio::spawn(async move {
                let resuming = resume(&tree, &services, &supervisor);
                services.recorder.watched("the return of a template's children", resuming).await;
            });
        }
    }

    pub(super) fn wanted_templates(&self) -> BTreeMap<Name, Wanted> {
        self.templates.iter().map(|(name, held)| (name.clone(), held.wanted.clone())).collect()
    }
}

async fn resume(tree: &Tree, services: &Services, supervisor: &Name) {
    let known = match services.database.workers_below(supervisor) {
        Ok(known) => known,
        Err(error) => {
            let (what, error) = ("read the children of a template", error.to_string());
            return services.recorder.emit(Event::DatabaseFailed { what, error });
        }
    };
    let starting = known.into_iter().filter(|record| record.keyed).map(|record| async move {
        if let Err(error) = tree.resume_child(&record.name).await {
            let (path, message) = (record.name.to_string(), error.to_string());
            services.recorder.emit(Event::DirectoryProblem { path, message, help: String::new() });
        }
    });
    futures::stream::iter(starting).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>().await;
}

/// The children of a template that are there.
fn children(services: &Services, supervisor: &Name) -> Vec<Arc<Shared>> {
    services.making_is_done();
    let all = services.registry.all().into_iter();
    all.filter(|worker| worker.name().parent().as_ref() == Some(supervisor)).collect()
}
