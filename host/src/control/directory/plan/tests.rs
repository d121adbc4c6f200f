use std::time::Duration;

use proptest::prelude::*;

use super::super::{Fingerprint, NotRead, Problem, SupervisorEntry};
use super::*;
use crate::runtime::spec::Shutdown;

fn name(text: &str) -> Name {
    if text == "/" { Name::root() } else { Name::parse(text).unwrap() }
}

fn hash(number: u8) -> ComponentHash {
    ComponentHash([number; 32])
}

fn settings(number: u8) -> WorkerSettings {
    WorkerSettings { shutdown: Shutdown::Time(Duration::from_secs(u64::from(number))), ..WorkerSettings::default() }
}

fn policy(number: u8, order: &[&str]) -> SupervisorSettings {
    let order = order.iter().map(ToString::to_string).collect();
    SupervisorSettings { intensity: u32::from(number), order, ..SupervisorSettings::default() }
}

/// A worker that runs `component`, which is its file.
fn running(component: u8) -> CurrentWorker {
    CurrentWorker {
        component: hash(component),
        file: Some(hash(component)),
        overridden: false,
        rejected: BTreeSet::new(),
        settings: settings(0),
        upgrading: false,
    }
}

fn wanted(component: u8) -> WorkerEntry {
    WorkerEntry {
        path: PathBuf::from(format!("{component}.wasm")),
        file: Fingerprint { len: 1, modified_ns: 1, changed_ns: 1, inode: 1 },
        hash: hash(component),
        settings: Ok(settings(0)),
    }
}

fn bad<T>() -> Result<T, NotRead> {
    Err(NotRead::Problem(Problem::at(std::path::Path::new("x.toml"), "is bad")))
}

fn current(workers: &[(&str, CurrentWorker)], supervisors: &[&str]) -> CurrentTree {
    CurrentTree {
        supervisors: supervisors.iter().map(|text| (name(text), policy(1, &[]))).collect(),
        workers: workers.iter().map(|(text, worker)| (name(text), worker.clone())).collect(),
        ..CurrentTree::default()
    }
}

/// What is loaded when this is the file.
fn load_of(entry: &WorkerEntry) -> Wanted {
    let settings = entry.settings.clone().unwrap_or_default();
    Wanted { path: entry.path.clone(), hash: entry.hash, settings }
}

fn desired(workers: &[(&str, WorkerEntry)], supervisors: &[&str]) -> DesiredTree {
    DesiredTree {
        supervisors: supervisors
            .iter()
            .map(|text| (name(text), SupervisorEntry { settings: Ok(policy(1, &[])) }))
            .collect(),
        workers: workers.iter().map(|(text, worker)| (name(text), worker.clone())).collect(),
        ..DesiredTree::default()
    }
}

/// Short forms of the steps, for tables.
fn shown(steps: &[Step]) -> Vec<String> {
    let show = |step: &Step| match step {
        Step::AddSupervisor { name, .. } => format!("+{name}/"),
        Step::Load { name, .. } => format!("+{name}"),
        Step::LoadTemplate { name, .. } => format!("template {name}"),
        Step::ChangeTemplate { name, .. } => format!("change template {name}"),
        Step::RemoveTemplate { name } => format!("-template {name}"),
        Step::Abandon { name } => format!("abandon {name}"),
        Step::RemoveSupervisor { name } => format!("-{name}/"),
        Step::RemoveWorker { name } => format!("-{name}"),
        Step::ChangePolicy { name, .. } => format!("policy {name}"),
        Step::ChangeSettings { name, .. } => format!("settings {name}"),
        Step::Upgrade { name, hash, .. } => format!("upgrade {name} {}", hash.0[0]),
        Step::SameAgain { name, hash } => format!("same {name} {}", hash.0[0]),
    };
    steps.iter().map(show).collect()
}

#[test]
fn a_component_below_a_simple_one_for_one_supervisor_is_a_template() {
    let simple = SupervisorSettings {
        strategy: crate::runtime::spec::Strategy::SimpleOneForOne,
        ..SupervisorSettings::default()
    };
    let policy = |settings: SupervisorSettings| SupervisorEntry { settings: Ok(settings) };
    let mut now = current(&[], &["/", "d"]);
    let mut said = desired(&[("d/one", wanted(1))], &["/", "d"]);
    now.supervisors.insert(name("d"), simple.clone());
    said.supervisors.insert(name("d"), policy(simple));
    assert_eq!(shown(&plan(&now, &said)), ["template d/one"]);
    now.loading.insert(name("d/one"), load_of(&wanted(1)));
    assert_eq!(shown(&plan(&now, &said)), [""; 0]);
    now.loading.clear();
    now.templates.insert(name("d/one"), load_of(&wanted(1)));
    assert_eq!(shown(&plan(&now, &said)), [""; 0]);
    let other = WorkerEntry { settings: Ok(settings(7)), ..wanted(1) };
    said.workers.insert(name("d/one"), other);
    assert_eq!(shown(&plan(&now, &said)), ["change template d/one"]);
    said.workers.insert(name("d/one"), wanted(2));
    assert_eq!(shown(&plan(&now, &said)), ["template d/one"]);
    said.workers.clear();
    assert_eq!(shown(&plan(&now, &said)), ["-template d/one"]);
    said.held.insert(name("d/one"));
    assert_eq!(shown(&plan(&now, &said)), [""; 0]);
}

/// One worker `a` and its file.
fn steps_for(worker: CurrentWorker, file: WorkerEntry) -> Vec<String> {
    shown(&plan(&current(&[("a", worker)], &["/"]), &desired(&[("a", file)], &["/"])))
}

#[test]
fn rules_for_a_component() {
    let rejected = BTreeSet::from([hash(2)]);
    let base = running(1);
    let table: [(&str, CurrentWorker, u8, &[&str]); 11] = [
        ("the file is what runs", base.clone(), 1, &[]),
        ("the file changed", base.clone(), 2, &["upgrade a 2"]),
        ("started without a file", CurrentWorker { file: None, ..base.clone() }, 1, &["same a 1"]),
        ("the file is what runs again", CurrentWorker { file: Some(hash(2)), ..base.clone() }, 1, &["same a 1"]),
        ("the override is what the file says", CurrentWorker { overridden: true, ..base.clone() }, 1, &["same a 1"]),
        (
            "an override holds while the file is as it was",
            CurrentWorker { file: Some(hash(2)), overridden: true, ..base.clone() },
            2,
            &[],
        ),
        (
            "an override ends when the file changes",
            CurrentWorker { file: Some(hash(2)), overridden: true, ..base.clone() },
            3,
            &["upgrade a 3"],
        ),
        (
            "a rejected file is left",
            CurrentWorker { file: Some(hash(2)), rejected: rejected.clone(), ..base.clone() },
            2,
            &[],
        ),
        (
            "a rejected component is tried again when the file changed to it",
            CurrentWorker { file: Some(hash(3)), rejected, ..base.clone() },
            2,
            &["upgrade a 2"],
        ),
        (
            "an upgrade that was interrupted is taken up again",
            CurrentWorker { file: Some(hash(2)), ..base.clone() },
            2,
            &["upgrade a 2"],
        ),
        ("one upgrade at a time", CurrentWorker { upgrading: true, ..base }, 2, &[]),
    ];
    for (why, worker, file, expected) in table {
        assert_eq!(steps_for(worker, wanted(file)), expected, "{why}");
    }
}

#[test]
fn rules_for_one_that_is_being_loaded() {
    let begun =
        |entry: &WorkerEntry| CurrentTree { loading: [(name("a"), load_of(entry))].into(), ..current(&[], &["/"]) };
    let other_settings = WorkerEntry { settings: Ok(settings(9)), ..wanted(1) };
    let unread = WorkerEntry { settings: Err(NotRead::Waiting), ..wanted(2) };
    let table: [(&str, WorkerEntry, &[&str]); 4] = [
        ("it is begun once", wanted(1), &[]),
        ("the file changed", wanted(2), &["+a"]),
        ("the settings changed", other_settings, &["+a"]),
        ("settings that cannot be read leave it", unread, &[]),
    ];
    for (why, file, expected) in table {
        assert_eq!(shown(&plan(&begun(&wanted(1)), &desired(&[("a", file)], &["/"]))), expected, "{why}");
    }
    let mut gone = desired(&[], &["/"]);
    assert_eq!(shown(&plan(&begun(&wanted(1)), &gone)), ["abandon a"]);
    gone.held = [name("a")].into();
    assert_eq!(plan(&begun(&wanted(1)), &gone), [], "the file is just changing");
    let folder = desired(&[("a/b", wanted(1))], &["/", "a"]);
    assert_eq!(shown(&plan(&begun(&wanted(1)), &folder)), ["abandon a", "+a/", "+a/b"]);
    let mut below = current(&[], &["/", "d"]);
    below.loading = [(name("d/a"), load_of(&wanted(1)))].into();
    assert_eq!(shown(&plan(&below, &desired(&[], &["/"]))), ["abandon d/a", "-d/"]);
}

#[test]
fn rules_for_settings() {
    let other = WorkerEntry { settings: Ok(settings(9)), ..wanted(1) };
    assert_eq!(steps_for(running(1), other.clone()), ["settings a"]);
    assert_eq!(steps_for(CurrentWorker { upgrading: true, ..running(1) }, other), [""; 0]);
    let both = WorkerEntry { settings: Ok(settings(9)), ..wanted(2) };
    assert_eq!(steps_for(running(1), both), ["settings a", "upgrade a 2"]);
    for settings in [bad(), Err(NotRead::Waiting)] {
        let file = WorkerEntry { settings, ..wanted(2) };
        assert_eq!(steps_for(running(1), file.clone()), [""; 0]);
        let new = plan(&current(&[], &["/"]), &desired(&[("a", file)], &["/"]));
        assert_eq!(new, [], "a new worker is not started on a guess");
    }
}

#[test]
fn a_held_worker_is_left_and_one_that_is_gone_is_removed() {
    let now = current(&[("a", running(1)), ("b", CurrentWorker { upgrading: true, ..running(1) })], &["/"]);
    let mut then = desired(&[], &["/"]);
    then.held = [name("a")].into();
    assert_eq!(shown(&plan(&now, &then)), ["-b"]);
    then.held = [Name::root()].into();
    assert_eq!(plan(&now, &then), []);
    then.supervisors.clear();
    assert_eq!(plan(&now, &then), [], "the directory cannot be read");
}

#[test]
fn parents_come_first_and_go_last() {
    let names = [("d/a", wanted(1)), ("d/e/a", wanted(1)), ("b", wanted(1)), ("z", wanted(1))];
    let mut then = desired(&names, &["/", "d", "d/e"]);
    then.supervisors.get_mut(&Name::root()).unwrap().settings = Ok(policy(1, &["z", "d"]));
    then.supervisors.get_mut(&name("d")).unwrap().settings = Ok(policy(1, &["e"]));
    let up = plan(&current(&[], &[]), &then);
    assert_eq!(shown(&up), ["+//", "+z", "+d/", "+d/e/", "+d/e/a", "+d/a", "+b"]);
    let mut now = CurrentTree::default();
    apply(&mut now, up);
    loaded(&mut now);
    let down = plan(&now, &desired(&[], &["/"]));
    assert_eq!(shown(&down), ["-b", "-d/a", "-d/e/a", "-d/e/", "-d/", "-z", "policy /"]);
}

#[test]
fn a_supervisor_stays_while_something_below_it_is_held() {
    let now = current(&[("d/a", running(1)), ("d/b", running(1))], &["/", "d"]);
    let mut then = desired(&[], &["/"]);
    then.held = [name("d/a")].into();
    assert_eq!(shown(&plan(&now, &then)), ["-d/b"]);
}

#[test]
fn bad_policy_keeps_the_old_one_and_starts_nothing_new_above_nothing() {
    let now = current(&[("d/a", running(1))], &["/", "d"]);
    let mut then = desired(&[("d/a", wanted(1)), ("d/b", wanted(1)), ("e/a", wanted(1))], &["/", "d", "e"]);
    then.supervisors.get_mut(&name("d")).unwrap().settings = bad();
    then.supervisors.get_mut(&name("e")).unwrap().settings = bad();
    assert_eq!(shown(&plan(&now, &then)), ["+d/b"], "`d` goes on with what it has; `e` cannot start");
}

#[test]
fn a_worker_becomes_a_supervisor_and_back() {
    let worker = current(&[("a", running(1))], &["/"]);
    let folder = desired(&[("a/b", wanted(1))], &["/", "a"]);
    assert_eq!(shown(&plan(&worker, &folder)), ["-a", "+a/", "+a/b"]);
    let mut now = worker;
    let steps = plan(&now, &folder);
    apply(&mut now, steps);
    loaded(&mut now);
    assert_eq!(shown(&plan(&now, &desired(&[("a", wanted(1))], &["/"]))), ["-a/b", "-a/", "+a"]);
}

/// What happens when all loads are done.
fn loaded(tree: &mut CurrentTree) {
    for (name, Wanted { hash, settings, .. }) in std::mem::take(&mut tree.loading) {
        let worker = CurrentWorker { component: hash, file: Some(hash), settings, ..running(0) };
        assert_eq!(tree.workers.insert(name, worker), None);
    }
}

/// Does what a host does when all goes well, and checks that each step is possible in its turn.
fn apply(tree: &mut CurrentTree, steps: Vec<Step>) {
    fn free(tree: &CurrentTree, name: &Name) {
        assert!(!tree.workers.contains_key(name) && !tree.supervisors.contains_key(name), "{name} is taken");
        assert!(name.parent().is_none_or(|parent| tree.supervisors.contains_key(&parent)), "{name} has no parent");
    }
    for step in steps {
        match step {
            Step::AddSupervisor { name, settings } => {
                free(tree, &name);
                tree.supervisors.insert(name, settings);
            }
            Step::Load { name, wanted } => {
                free(tree, &name);
                tree.loading.insert(name, wanted);
            }
            Step::LoadTemplate { name, wanted } => drop(tree.loading.insert(name, wanted)),
            Step::ChangeTemplate { name, wanted } => *tree.templates.get_mut(&name).unwrap() = wanted,
            Step::RemoveTemplate { name } => assert!(tree.templates.remove(&name).is_some()),
            Step::Abandon { name } => assert!(tree.loading.remove(&name).is_some()),
            Step::RemoveSupervisor { name } => {
                let below = tree.workers.keys().chain(tree.supervisors.keys()).any(|other| other.is_below(&name));
                assert!(!below, "{name} has children");
                assert!(tree.supervisors.remove(&name).is_some());
            }
            Step::RemoveWorker { name } => assert!(tree.workers.remove(&name).is_some()),
            Step::ChangePolicy { name, settings } => *tree.supervisors.get_mut(&name).unwrap() = settings,
            Step::ChangeSettings { name, settings } => tree.workers.get_mut(&name).unwrap().settings = settings,
            Step::Upgrade { name, hash, .. } => {
                let worker = tree.workers.get_mut(&name).unwrap();
                assert!(!worker.upgrading && worker.component != hash);
                (worker.component, worker.file, worker.overridden) = (hash, Some(hash), false);
            }
            Step::SameAgain { name, hash } => {
                let worker = tree.workers.get_mut(&name).unwrap();
                assert_eq!(worker.component, hash);
                (worker.file, worker.overridden) = (Some(hash), false);
            }
        }
    }
}

const SUPERVISORS: [&str; 3] = ["d", "d/e", "f"];
/// `d` and `d/e` can be either.
const WORKERS: [&str; 8] = ["a", "b", "d", "d/a", "d/e", "d/e/a", "d/e/b", "f/a"];

fn pick<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(of)
}

/// A tree of the names above in which each name is one thing and has its parent.
fn whole<S, W>(supervisors: Vec<Option<S>>, workers: Vec<Option<W>>) -> (BTreeMap<Name, S>, BTreeMap<Name, W>) {
    let mut above = BTreeMap::new();
    for (text, supervisor) in SUPERVISORS.iter().zip(supervisors) {
        let parent = name(text).parent().unwrap();
        if let Some(supervisor) = supervisor.filter(|_| parent.is_root() || above.contains_key(&parent)) {
            above.insert(name(text), supervisor);
        }
    }
    let mut below = BTreeMap::new();
    for (text, worker) in WORKERS.iter().zip(workers) {
        let name = name(text);
        let parent = name.parent().unwrap();
        let fits = (parent.is_root() || above.contains_key(&parent)) && !above.contains_key(&name);
        if let Some(worker) = worker.filter(|_| fits) {
            below.insert(name, worker);
        }
    }
    (above, below)
}

fn any_policy() -> impl Strategy<Value = SupervisorSettings> {
    (0..3_u8, prop::sample::select(vec![vec![], vec!["e", "a"], vec!["d", "b"]]))
        .prop_map(|(number, order)| policy(number, &order))
}

fn any_current() -> impl Strategy<Value = CurrentTree> {
    let file = proptest::option::of(0..4_u8);
    let rejected = proptest::collection::btree_set(0..4_u8, 0..3);
    let worker = (0..4_u8, file, any::<bool>(), rejected, 0..3_u8, any::<bool>()).prop_map(
        |(component, file, overridden, rejected, settings_number, upgrading)| CurrentWorker {
            component: hash(component),
            file: file.map(hash),
            overridden,
            rejected: rejected.into_iter().map(hash).collect(),
            settings: settings(settings_number),
            upgrading,
        },
    );
    let supervisors = proptest::collection::vec(pick(any_policy()), SUPERVISORS.len());
    let workers = proptest::collection::vec(pick(worker), WORKERS.len());
    let load = (0..4_u8, 0..3_u8).prop_map(|(number, settings_number)| Wanted {
        settings: settings(settings_number),
        ..load_of(&wanted(number))
    });
    let loads = proptest::collection::vec(pick(load), WORKERS.len());
    (any_policy(), supervisors, workers, loads).prop_map(|(root, supervisors, workers, loads)| {
        let (mut supervisors, mut workers) = whole(supervisors, workers);
        supervisors.insert(Name::root(), root);
        let mut loading = BTreeMap::new();
        for (text, load) in WORKERS.iter().zip(loads) {
            // One that would run is being loaded instead.
            if let Some(load) = load
                && workers.remove(&name(text)).is_some()
            {
                loading.insert(name(text), load);
            }
        }
        CurrentTree { supervisors, workers, loading, ..CurrentTree::default() }
    })
}

fn any_desired() -> impl Strategy<Value = DesiredTree> {
    let supervisor = any_policy().prop_map(Ok).boxed();
    let supervisor = prop_oneof![4 => supervisor, 1 => Just(bad()), 1 => Just(Err(NotRead::Waiting))]
        .prop_map(|settings| SupervisorEntry { settings });
    let worker_settings = (0..3_u8).prop_map(|number| Ok(settings(number))).boxed();
    let worker = (0..4_u8, prop_oneof![4 => worker_settings, 1 => Just(bad())])
        .prop_map(|(number, settings)| WorkerEntry { settings, ..wanted(number) });
    let supervisors = proptest::collection::vec(pick(supervisor.clone()), SUPERVISORS.len());
    let workers = proptest::collection::vec(pick(worker), WORKERS.len());
    let held = proptest::collection::btree_set(prop::sample::select(WORKERS.to_vec()), 0..3);
    (supervisor, supervisors, workers, held).prop_map(|(root, supervisors, workers, held)| {
        let (mut supervisors, mut workers) = whole(supervisors, workers);
        supervisors.insert(Name::root(), root);
        let held: BTreeSet<Name> = held.into_iter().map(name).collect();
        workers.retain(|name, _| !held.contains(name));
        DesiredTree { supervisors, workers, held, ..DesiredTree::default() }
    })
}

proptest! {
    #[test]
    fn planning_again_gives_no_steps(mut now in any_current(), then in any_desired()) {
        let steps = plan(&now, &then);
        apply(&mut now, steps);
        prop_assert_eq!(plan(&now, &then), vec![]);
    }

    #[test]
    fn what_is_held_or_upgraded_is_not_touched(now in any_current(), then in any_desired()) {
        let mut after = now.clone();
        apply(&mut after, plan(&now, &then));
        for (name, worker) in &now.workers {
            if then.is_held(name) || (worker.upgrading && then.workers.contains_key(name)) {
                prop_assert_eq!(after.workers.get(name), Some(worker));
            }
        }
    }

    #[test]
    fn a_tree_without_doubts_is_reached(mut now in any_current(), mut then in any_desired()) {
        then.held.clear();
        for entry in then.supervisors.values_mut() {
            entry.settings = entry.settings.clone().or_else(|_| Ok::<_, NotRead>(policy(0, &[])));
        }
        for entry in then.workers.values_mut() {
            entry.settings = entry.settings.clone().or_else(|_| Ok::<_, NotRead>(settings(0)));
        }
        let steps = plan(&now, &then);
        apply(&mut now, steps);
        loaded(&mut now);
        prop_assert!(now.supervisors.keys().eq(then.supervisors.keys()));
        prop_assert!(now.workers.keys().eq(then.workers.keys()));
    }
}
