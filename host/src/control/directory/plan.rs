//! What to do so that what runs becomes what the directory says. Pure.
//!
//! Rules for a worker that runs, the first that fits:
//!
//! | the file                                         | is                                     |
//! |--------------------------------------------------|----------------------------------------|
//! | held, or an upgrade is under way                 | left; it is looked at again afterwards |
//! | gone                                             | `RemoveWorker`, even in an upgrade     |
//! | what runs, and an override or another was noted  | `SameAgain`                            |
//! | what runs                                        | left                                   |
//! | not the one last acted upon                      | `Upgrade`                              |
//! | the one last acted upon, and overridden          | left: an operator's word holds         |
//! | the one last acted upon, and rejected            | left: it was rolled back               |
//! | the one last acted upon                          | `Upgrade`: that one was interrupted    |
//!
//! A worker that does not run is loaded first (`Load`), which takes its time, and added when that is
//! done. Rules for one whose component is being loaded, the first that fits:
//!
//! | the file                                         | is                                     |
//! |--------------------------------------------------|----------------------------------------|
//! | held, or its settings cannot be read             | left                                   |
//! | gone                                             | `Abandon`                              |
//! | what is being loaded, with the same settings     | left                                   |
//! | another, or has other settings                   | `Load`, in the place of what was begun |
//!
//! Settings that cannot be read leave the worker as it is, its component too: the new component may
//! have been made for the settings that are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{DesiredTree, WorkerEntry};
use crate::base::{ComponentHash, Name};
use crate::runtime::spec::{self, SupervisorSettings, WorkerSettings};

/// What runs, as far as the directory matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentTree {
    pub supervisors: BTreeMap<Name, SupervisorSettings>,
    pub workers: BTreeMap<Name, CurrentWorker>,
    /// Templates, by the name of their file, as the directory wanted them.
    pub templates: BTreeMap<Name, Wanted>,
    /// Workers and templates that are not there yet, as the directory wanted them when their loads were begun.
    pub loading: BTreeMap<Name, Wanted>,
}

/// A worker as its files want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the component.
    pub path: PathBuf,
    pub hash: ComponentHash,
    pub settings: WorkerSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentWorker {
    /// What runs: the last committed revision.
    pub component: ComponentHash,
    /// The file last acted upon, whatever came of it.
    pub file: Option<ComponentHash>,
    /// An operator upgraded or rolled back by command.
    pub overridden: bool,
    /// Components that were rolled back.
    pub rejected: BTreeSet<ComponentHash>,
    pub settings: WorkerSettings,
    pub upgrading: bool,
}

/// One thing to do. Each names all it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    RemoveWorker {
        name: Name,
    },
    /// Nothing runs below it any more when this step's turn comes.
    RemoveSupervisor {
        name: Name,
    },
    /// Its parent runs when this step's turn comes.
    AddSupervisor {
        name: Name,
        settings: SupervisorSettings,
    },
    ChangePolicy {
        name: Name,
        settings: SupervisorSettings,
    },
    /// Begin to load its component, in the place of another that is being loaded for this name; it
    /// is added when that is done. Its parent runs when this step's turn comes.
    Load {
        name: Name,
        wanted: Wanted,
    },
    /// The same for the template of a simple-one-for-one supervisor.
    LoadTemplate {
        name: Name,
        wanted: Wanted,
    },
    /// The component is as it was, and its settings are not.
    ChangeTemplate {
        name: Name,
        wanted: Wanted,
    },
    /// Its file is gone: its children are stopped.
    RemoveTemplate {
        name: Name,
    },
    /// What is being loaded for it is not wanted any more.
    Abandon {
        name: Name,
    },
    ChangeSettings {
        name: Name,
        settings: WorkerSettings,
    },
    Upgrade {
        name: Name,
        path: PathBuf,
        hash: ComponentHash,
    },
    /// The file is what runs: note it as acted upon and forget the override, if there is one.
    SameAgain {
        name: Name,
        hash: ComponentHash,
    },
}

/// The steps, to be taken in this order: loads that are abandoned; removals, last started first;
/// then additions and changes in start order (`order` of each supervisor, then by name). No steps
/// when there is nothing to do; planning again after the steps were taken gives none.
pub fn plan(current: &CurrentTree, desired: &DesiredTree) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut here = Here::of(current);
    let gone = |name: &&Name| !desired.workers.contains_key(*name) && !desired.is_held(name);
    steps.extend(current.loading.keys().filter(gone).map(|name| Step::Abandon { name: name.clone() }));
    let gone = |name: &&Name| !desired.workers.contains_key(*name) && !desired.is_held(name);
    steps.extend(current.templates.keys().filter(gone).map(|name| Step::RemoveTemplate { name: name.clone() }));
    removals(current, desired, &mut here, &mut steps);
    additions(current, desired, &mut here, &mut steps);
    steps
}

/// Names that are taken while the plan is made.
struct Here {
    supervisors: BTreeSet<Name>,
    workers: BTreeSet<Name>,
}

impl Here {
    fn of(current: &CurrentTree) -> Here {
        Here {
            supervisors: current.supervisors.keys().cloned().collect(),
            workers: current.workers.keys().cloned().collect(),
        }
    }

    /// A worker cannot start where a held supervisor of its name goes on, nor the other way.
    fn has_place_for(&self, name: &Name) -> bool {
        !self.workers.contains(name)
            && !self.supervisors.contains(name)
            && name.parent().is_none_or(|parent| self.supervisors.contains(&parent))
    }
}

fn removals(current: &CurrentTree, desired: &DesiredTree, here: &mut Here, steps: &mut Vec<Step>) {
    let names = current.supervisors.keys().chain(current.workers.keys());
    let order = |name: &Name| current.supervisors.get(name).map_or(&[][..], |settings| &settings.order);
    // A supervisor under which something stays has to stay.
    let mut needed = BTreeSet::new();
    for name in start_order(names, order).into_iter().rev() {
        let is_worker = current.workers.contains_key(&name);
        let wanted =
            if is_worker { desired.workers.contains_key(&name) } else { desired.supervisors.contains_key(&name) };
        if wanted || name.is_root() || needed.contains(&name) || desired.is_held(&name) {
            needed.extend(name.parent());
        } else if is_worker {
            here.workers.remove(&name);
            steps.push(Step::RemoveWorker { name });
        } else {
            here.supervisors.remove(&name);
            steps.push(Step::RemoveSupervisor { name });
        }
    }
}

fn additions(current: &CurrentTree, desired: &DesiredTree, here: &mut Here, steps: &mut Vec<Step>) {
    let names = desired.supervisors.keys().chain(desired.workers.keys());
    let order = |name: &Name| {
        let wanted = desired.supervisors.get(name).and_then(|entry| entry.settings.as_ref().ok());
        wanted.or_else(|| current.supervisors.get(name)).map_or(&[][..], |settings| &settings.order)
    };
    for name in start_order(names, order) {
        if desired.is_held(&name) {
            continue;
        }
        if let Some(entry) = desired.supervisors.get(&name) {
            let Ok(settings) = entry.settings.clone() else { continue };
            match current.supervisors.get(&name) {
                Some(old) if *old == settings => {}
                Some(_) => steps.push(Step::ChangePolicy { name, settings }),
                None if here.has_place_for(&name) => {
                    here.supervisors.insert(name.clone());
                    steps.push(Step::AddSupervisor { name, settings });
                }
                None => {}
            }
        } else if let Some(entry) = desired.workers.get(&name) {
            let Ok(settings) = entry.settings.clone() else { continue };
            if is_template(current, desired, &name) {
                let wanted = Wanted { path: entry.path.clone(), hash: entry.hash, settings };
                steps.extend(template(current, name, wanted));
                continue;
            }
            match current.workers.get(&name) {
                Some(worker) => steps.extend(changes(&name, worker, entry, settings)),
                None if here.has_place_for(&name) => {
                    let wanted = Wanted { path: entry.path.clone(), hash: entry.hash, settings };
                    if current.loading.get(&name) != Some(&wanted) {
                        steps.push(Step::Load { name, wanted });
                    }
                }
                None => {}
            }
        }
    }
}

/// Whether a component is a template: its supervisor is a simple-one-for-one one, or is to be.
fn is_template(current: &CurrentTree, desired: &DesiredTree, name: &Name) -> bool {
    let Some(parent) = name.parent() else { return false };
    let wanted = desired.supervisors.get(&parent).and_then(|entry| entry.settings.as_ref().ok());
    let settings = wanted.or_else(|| current.supervisors.get(&parent));
    settings.is_some_and(|settings| settings.strategy == spec::Strategy::SimpleOneForOne)
}

fn template(current: &CurrentTree, name: Name, wanted: Wanted) -> Option<Step> {
    match current.templates.get(&name) {
        Some(there) if *there == wanted => None,
        Some(there) if there.hash == wanted.hash => Some(Step::ChangeTemplate { name, wanted }),
        _ if current.loading.get(&name) == Some(&wanted) => None,
        _ => Some(Step::LoadTemplate { name, wanted }),
    }
}

/// The table at the top. Settings come first: the new component starts with them.
fn changes(name: &Name, worker: &CurrentWorker, entry: &WorkerEntry, settings: WorkerSettings) -> Vec<Step> {
    let mut steps = Vec::new();
    if worker.upgrading {
        return steps;
    }
    let (name, path, hash) = (name.clone(), entry.path.clone(), entry.hash);
    if settings != worker.settings {
        steps.push(Step::ChangeSettings { name: name.clone(), settings });
    }
    let acted_upon = worker.file == Some(hash);
    if hash == worker.component {
        if worker.overridden || !acted_upon {
            steps.push(Step::SameAgain { name, hash });
        }
    } else if !acted_upon || !(worker.overridden || worker.rejected.contains(&hash)) {
        steps.push(Step::Upgrade { name, path, hash });
    }
    steps
}

/// The names from the root down, each supervisor before its children, children by `order_of` their
/// supervisor and then by name.
fn start_order<'a>(names: impl Iterator<Item = &'a Name>, order_of: impl Fn(&Name) -> &'a [String]) -> Vec<Name> {
    let mut children: BTreeMap<Option<Name>, BTreeSet<Name>> = BTreeMap::new();
    for name in names {
        children.entry(name.parent()).or_default().insert(name.clone());
    }
    let mut ordered = Vec::new();
    let mut stack: Vec<Name> = children.remove(&None).into_iter().flatten().collect();
    // Trees without a root of their own hang from it all the same.
    if stack.is_empty() {
        stack.push(Name::root());
    }
    while let Some(name) = stack.pop() {
        let order = order_of(&name);
        let place = |child: &Name| order.iter().position(|leaf| leaf == child.leaf()).unwrap_or(usize::MAX);
        let mut below: Vec<Name> = children.remove(&Some(name.clone())).into_iter().flatten().collect();
        // Stable: those without a place stay in order of name. Reversed, because a stack turns it.
        below.sort_by_key(place);
        stack.extend(below.into_iter().rev());
        ordered.push(name);
    }
    ordered
}

#[cfg(test)]
mod tests;
