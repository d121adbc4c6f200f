use super::super::tests::{Disk, name};
use super::super::{CurrentTree, CurrentWorker, Step, plan};
use super::*;
use crate::runtime::spec::{BreakerSettings, Tier};

/// A directory, and a host that does what the plan says.
struct Host {
    disk: Disk,
    current: CurrentTree,
    before: BTreeSet<Name>,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Host {
        let mut host = Host { disk: Disk::new(), current: CurrentTree::default(), before: BTreeSet::new() };
        host.current.supervisors.insert(Name::root(), SupervisorSettings::default());
        host.write(files);
        host
    }

    /// A component where there is no text.
    fn write(&mut self, files: &[(&str, &str)]) {
        for (file, text) in files {
            match file.ends_with(".wasm") {
                true => drop(self.disk.component(file, 1)),
                false => self.disk.write(file, text),
            }
        }
    }

    fn admitted(&mut self) -> DesiredTree {
        let tree = self.disk.settled();
        self.admit(tree)
    }

    fn admit(&self, mut tree: DesiredTree) -> DesiredTree {
        let settings = |worker: &CurrentWorker| Arc::new(worker.settings.clone());
        let templates = self.current.templates.iter();
        let templates = templates.map(|(name, wanted)| (name.clone(), Arc::new(wanted.settings.clone())));
        let workers = self.current.workers.iter().map(|(name, worker)| (name.clone(), settings(worker)));
        let workers = workers.chain(templates).collect();
        let running = Running { supervisors: &self.current.supervisors, workers: &workers, before: &self.before };
        admit(self.disk.root.path(), running, &mut tree);
        let once = tree.clone();
        admit(self.disk.root.path(), running, &mut tree);
        assert_eq!(tree, once, "it says the same of what it said");
        tree
    }

    /// One look, and what follows. Returns what is refused, one in a line.
    fn look(&mut self) -> String {
        let tree = self.admitted();
        let refused = self.shown(&tree);
        for step in plan(&self.current, &tree) {
            self.take(step);
        }
        let again = self.admitted();
        // Sums may differ: what was admitted counts from now on.
        let whom = |tree: &DesiredTree| -> Vec<_> {
            tree.problems.iter().map(|problem| (problem.name.clone(), problem.place)).collect()
        };
        assert_eq!(whom(&again), whom(&tree), "it holds as long as the files do");
        assert_eq!(plan(&self.current, &again), []);
        refused
    }

    fn shown(&self, tree: &DesiredTree) -> String {
        let root = format!("{}/", self.disk.root.path().display());
        let lines: Vec<_> = tree.problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect();
        lines.join("\n")
    }

    fn take(&mut self, step: Step) {
        let current = &mut self.current;
        match step {
            Step::AddSupervisor { name, settings } | Step::ChangePolicy { name, settings } => {
                current.supervisors.insert(name, settings);
            }
            Step::Load { name, wanted } => {
                let worker = CurrentWorker {
                    component: wanted.hash,
                    file: Some(wanted.hash),
                    overridden: false,
                    rejected: BTreeSet::new(),
                    settings: wanted.settings,
                    upgrading: false,
                };
                current.workers.insert(name, worker);
            }
            Step::ChangeSettings { name, settings } => current.workers.get_mut(&name).unwrap().settings = settings,
            Step::LoadTemplate { name, wanted } | Step::ChangeTemplate { name, wanted } => {
                current.templates.insert(name, wanted);
            }
            Step::RemoveTemplate { name } => drop(current.templates.remove(&name)),
            Step::RemoveWorker { name } => drop(current.workers.remove(&name)),
            Step::RemoveSupervisor { name } => drop(current.supervisors.remove(&name)),
            other => panic!("{other:?}"),
        }
    }

    /// As a host that starts anew on what the last one knew.
    fn restart(&mut self) {
        self.before = self.current.workers.keys().cloned().collect();
        self.current = CurrentTree::default();
        self.current.supervisors.insert(Name::root(), SupervisorSettings::default());
    }

    fn runs(&self) -> Vec<String> {
        let supervisors = self.current.supervisors.keys().map(|name| format!("{name}/"));
        let workers = self.current.workers.keys().chain(self.current.templates.keys()).map(ToString::to_string);
        supervisors.skip(1).chain(workers).collect()
    }

    fn policy(&self, of: &str) -> &SupervisorSettings {
        &self.current.supervisors[&name(of)]
    }
}

const MEMORY: &str = "[limits]\nmemory = '100MiB'";

/// What is impossible from the start: the files, what is refused, and what runs.
#[test]
fn what_cannot_be_is_refused_whole_with_its_file_its_key_and_the_reason() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);
    let table: &[Case<'_>] = &[
        (
            "a significant worker that is permanent",
            &[
                ("d/supervisor.toml", "auto-shutdown = 'any-significant'"),
                ("d/a.wasm", ""),
                ("d/a.toml", "significant = true"),
                ("d/b.wasm", ""),
            ],
            "d/a.toml:1:15: `significant`: a significant child says itself whether it is restarted; write restart = \"transient\" or \"temporary\" beside it",
            &["d/", "d/b"],
        ),
        (
            "a significant supervisor that is permanent",
            &[
                ("d/supervisor.toml", "auto-shutdown = 'any-significant'"),
                ("d/e/supervisor.toml", "significant = true"),
                ("d/e/a.wasm", ""),
            ],
            "d/e/supervisor.toml:1:15: `significant`: a permanent child cannot be significant: it is always restarted; write restart = \"transient\" or \"temporary\" beside it",
            &["d/"],
        ),
        (
            "a significant worker without auto-shutdown",
            &[("d/a.wasm", ""), ("d/a.toml", "significant = true\nrestart = 'transient'")],
            "d/a.toml:1:15: `significant`: a significant child needs a supervisor with `auto-shutdown`; write auto-shutdown = \"any-significant\" or \"all-significant\" in supervisor.toml",
            &["d/"],
        ),
        (
            "a supervisor that is to be killed",
            &[("d/supervisor.toml", "shutdown = '0s'"), ("d/a.wasm", "")],
            "d/supervisor.toml:1:12: `shutdown` cannot be \"0s\": a supervisor needs time to stop what is below it; write \"infinity\" or a duration like \"30s\"",
            &[],
        ),
        (
            "a period of nothing",
            &[("d/supervisor.toml", "period = '0s'"), ("d/a.wasm", "")],
            "d/supervisor.toml:1:10: `period` must be more than zero",
            &[],
        ),
        (
            "a cycle",
            &[("a.wasm", ""), ("a.toml", "after = ['b']"), ("b.wasm", ""), ("b.toml", "after = ['a']")],
            "a.toml:1:9: `after`: a cycle: a after b after a; take one of them out",
            &["b"],
        ),
        (
            "after a sibling that is not there",
            &[("a.wasm", ""), ("a.toml", "after = ['bb']"), ("bbb.wasm", "")],
            "a.toml:1:9: `after` names `bb`, which is not here: it is passed over; did you mean `bbb`?",
            &["a", "bbb"],
        ),
        (
            "an order that names nobody",
            &[("d/supervisor.toml", "order = ['greter']"), ("d/greeter.wasm", "")],
            "d/supervisor.toml:1:9: `order` names `greter`, which is not here: it is passed over; did you mean `greeter`?",
            &["d/", "d/greeter"],
        ),
        (
            "two templates",
            &[("d/supervisor.toml", "strategy = 'simple-one-for-one'"), ("d/a.wasm", ""), ("d/b.wasm", "")],
            "d/supervisor.toml:1:12: `strategy`: a simple-one-for-one supervisor has one template, and here are `a` and `b`; keep one component in this directory",
            &[],
        ),
        (
            "a supervisor beside a template",
            &[("d/supervisor.toml", "strategy = 'simple-one-for-one'"), ("d/a.wasm", ""), ("d/e/b.wasm", "")],
            "d/supervisor.toml:1:12: `strategy`: a simple-one-for-one supervisor has no supervisors below it, and here is `e`; move that directory beside this one",
            &[],
        ),
        (
            "a budget smaller than one worker",
            &[("d/supervisor.toml", "[budget]\nmemory = '64MiB'"), ("d/a.wasm", ""), ("d/a.toml", MEMORY)],
            "d/supervisor.toml:2:10: `budget.memory`: `a` alone may use 100.0 MiB, and the budget is 64.0 MiB; raise the budget, or lower `limits.memory` of that child",
            &[],
        ),
        (
            "a budget smaller than one worker's share",
            &[
                ("d/supervisor.toml", "[budget]\ncpu = 1_000_000"),
                ("d/a.wasm", ""),
                ("d/a.toml", "[limits]\ncpu = 2_000_000"),
            ],
            "d/supervisor.toml:2:7: `budget.cpu`: `a` alone may use 2000000 units of fuel per second, and the budget is 1000000; raise the budget, or lower `limits.cpu` of that child",
            &[],
        ),
        (
            "a budget smaller than all together",
            &[
                ("d/supervisor.toml", "[budget]\nmemory = '300MiB'"),
                ("d/a.wasm", ""),
                ("d/b.wasm", ""),
                ("d/e/c.wasm", ""),
            ],
            "d/supervisor.toml:2:10: `budget.memory`: the children may use 384.0 MiB together, and the budget is 300.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &[],
        ),
        (
            "auto-shutdown at the root, which goes on with the defaults",
            &[("supervisor.toml", "intensity = 9\nauto-shutdown = 'any-significant'"), ("a.wasm", "")],
            "supervisor.toml:2:17: `auto-shutdown`: the root cannot shut itself down; put these workers into a directory of their own",
            &["a"],
        ),
        (
            "a template at the root",
            &[("supervisor.toml", "strategy = 'simple-one-for-one'")],
            "supervisor.toml:1:12: `strategy`: a supervisor that runs cannot become one of a template, nor the other way; it takes effect when the host is started again, or the directory is removed and put back\n\
             supervisor.toml:1:12: `strategy`: the root's children are files, not keys of a template; put the template into a directory of its own",
            &[],
        ),
        (
            "the root as a child",
            &[("supervisor.toml", "restart = 'transient'"), ("a.wasm", "")],
            "supervisor.toml:1:11: `restart` has no meaning at the root: no supervisor is above it; leave it out",
            &["a"],
        ),
        (
            "on demand without a template",
            &[("d/supervisor.toml", "on-demand = true"), ("d/a.wasm", "")],
            "d/supervisor.toml:1:13: `on-demand` is for children of a template; write strategy = \"simple-one-for-one\", or leave it out",
            &[],
        ),
        (
            "a step that the intensity never lets it reach",
            &[("d/supervisor.toml", "intensity = 2\n[escalation]\nisolate = 3"), ("d/a.wasm", "")],
            "d/supervisor.toml:3:11: `escalation.isolate`: more than 3 restarts are never reached: `intensity` is 2; lower it, or raise `intensity`",
            &[],
        ),
        (
            "a step behind another",
            &[("d/supervisor.toml", "intensity = 9\n[escalation]\nisolate = 3\nescalate = 3"), ("d/a.wasm", "")],
            "d/supervisor.toml:4:12: `escalation.escalate`: 3 is not more than `escalation.isolate`, which is 3: that step would never be taken; raise it, or leave one of them out",
            &[],
        ),
    ];
    for (what, files, refused, runs) in table {
        let mut host = Host::new(&[("z.wasm", "")]);
        host.write(files);
        // One at the top keeps away from templates.
        if *what == "a template at the root" {
            host.disk.remove("z.wasm");
            assert_eq!((host.look().as_str(), host.runs()), (*refused, vec![]), "{what}");
            continue;
        }
        assert_eq!(host.look(), *refused, "{what}");
        let runs: Vec<String> = runs.iter().chain(&["z"]).map(ToString::to_string).collect();
        assert_eq!(host.runs(), runs, "{what}");
        assert_eq!(host.policy("/").intensity, 1, "{what}");
    }
}

/// What runs, what is written then, what is refused of it, and what runs then.
#[test]
fn what_runs_goes_on_when_what_is_new_cannot_be() {
    type Files<'a> = &'a [(&'a str, &'a str)];
    let budget: Files<'_> = &[
        ("d/supervisor.toml", "[budget]\nmemory = '256MiB'"),
        ("d/m.wasm", ""),
        ("d/m.toml", MEMORY),
        ("d/n.wasm", ""),
        ("d/n.toml", MEMORY),
    ];
    let significant: Files<'_> = &[
        ("d/supervisor.toml", "auto-shutdown = 'any-significant'"),
        ("d/m.wasm", ""),
        ("d/m.toml", "significant = true\nrestart = 'transient'"),
    ];
    type Case<'a> = (&'a str, Files<'a>, Files<'a>, &'a str, &'a [&'a str]);
    let table: &[Case<'_>] = &[
        (
            "a new worker for which there is no room, though it comes first",
            budget,
            &[("d/a.wasm", "")],
            "d/a.wasm: does not go with `budget.memory` of `d`: the children may use 328.0 MiB together, and the budget is 256.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &["d/", "d/m", "d/n"],
        ),
        (
            "one of two fits",
            budget,
            &[("d/a.wasm", ""), ("d/b.wasm", ""), ("d/b.toml", "[limits]\nmemory = '50MiB'")],
            "d/a.wasm: does not go with `budget.memory` of `d`: the children may use 328.0 MiB together, and the budget is 256.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &["d/", "d/b", "d/m", "d/n"],
        ),
        (
            "a worker that asks for more",
            budget,
            &[("d/m.toml", "[limits]\nmemory = '200MiB'")],
            "d/m.toml:2:10: does not go with `budget.memory` of `d`: the children may use 300.0 MiB together, and the budget is 256.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &["d/", "d/m", "d/n"],
        ),
        (
            "a new directory for which there is no room",
            budget,
            &[("d/e/a.wasm", "")],
            "d/e/supervisor.toml: does not go with `budget.memory` of `d`: the children may use 328.0 MiB together, and the budget is 256.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &["d/", "d/m", "d/n"],
        ),
        (
            "a new worker further down",
            &[("d/supervisor.toml", "[budget]\nmemory = '256MiB'"), ("d/e/m.wasm", ""), ("d/e/n.wasm", "")],
            &[("d/e/a.wasm", "")],
            "d/e/a.wasm: does not go with `budget.memory` of `d`: `e` alone may use 384.0 MiB, and the budget is 256.0 MiB; raise the budget, or lower `limits.memory` of that child",
            &["d/", "d/e/", "d/e/m", "d/e/n"],
        ),
        (
            "less budget than is in use",
            budget,
            &[("d/supervisor.toml", "intensity = 9\n[budget]\nmemory = '150MiB'")],
            "d/supervisor.toml:3:10: `budget.memory`: the children may use 200.0 MiB together, and the budget is 150.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &["d/", "d/m", "d/n"],
        ),
        (
            "less budget than is in use, and a new worker that fits the old one",
            budget,
            &[
                ("d/supervisor.toml", "[budget]\nmemory = '150MiB'"),
                ("d/a.wasm", ""),
                ("d/a.toml", "[limits]\nmemory = '1MiB'"),
            ],
            "d/supervisor.toml:2:10: `budget.memory`: the children may use 200.0 MiB together, and the budget is 150.0 MiB; raise the budget, or lower `limits.memory` of the children",
            &["d/", "d/a", "d/m", "d/n"],
        ),
        (
            "more budget and more memory in one moment",
            budget,
            &[("d/supervisor.toml", "[budget]\nmemory = '400MiB'"), ("d/m.toml", "[limits]\nmemory = '300MiB'")],
            "",
            &["d/", "d/m", "d/n"],
        ),
        (
            "less of both in one moment",
            budget,
            &[
                ("d/supervisor.toml", "[budget]\nmemory = '20MiB'"),
                ("d/m.toml", "[limits]\nmemory = '10MiB'"),
                ("d/n.toml", "[limits]\nmemory = '10MiB'"),
            ],
            "",
            &["d/", "d/m", "d/n"],
        ),
        (
            "an order for a worker that comes with it",
            budget,
            &[
                ("d/supervisor.toml", "order = ['a']\n[budget]\nmemory = '256MiB'"),
                ("d/a.wasm", ""),
                ("d/a.toml", "[limits]\nmemory = '1MiB'"),
            ],
            "",
            &["d/", "d/a", "d/m", "d/n"],
        ),
        (
            "no auto-shutdown any more, and a worker that needs it",
            significant,
            &[("d/supervisor.toml", "auto-shutdown = 'never'")],
            "d/supervisor.toml: `significant` of `m`: a significant child needs a supervisor with `auto-shutdown`; write auto-shutdown = \"any-significant\" or \"all-significant\" in supervisor.toml",
            &["d/", "d/m"],
        ),
        (
            "a significant worker becomes permanent",
            significant,
            &[("d/m.toml", "significant = true")],
            "d/m.toml:1:15: `significant`: a significant child says itself whether it is restarted; write restart = \"transient\" or \"temporary\" beside it",
            &["d/", "d/m"],
        ),
        (
            "the one that closes a cycle",
            &[("a.wasm", ""), ("a.toml", "after = ['b']"), ("b.wasm", "")],
            &[("b.toml", "after = ['a']")],
            "b.toml:1:9: does not go with `after` of `a`: a cycle: a after b after a; take one of them out",
            &["a", "b"],
        ),
        (
            "a second template",
            &[("d/supervisor.toml", "strategy = 'simple-one-for-one'"), ("d/t.wasm", "")],
            &[("d/a.wasm", "")],
            "d/a.wasm: does not go with `strategy` of `d`: a simple-one-for-one supervisor has one template, and here are `a` and `t`; keep one component in this directory",
            &["d/", "d/t"],
        ),
        (
            "a template in the place of workers",
            &[("d/a.wasm", "")],
            &[("d/supervisor.toml", "strategy = 'simple-one-for-one'")],
            "d/supervisor.toml:1:12: `strategy`: a supervisor that runs cannot become one of a template, nor the other way; it takes effect when the host is started again, or the directory is removed and put back",
            &["d/", "d/a"],
        ),
        (
            "workers in the place of a template",
            &[("d/supervisor.toml", "strategy = 'simple-one-for-one'"), ("d/t.wasm", "")],
            &[("d/supervisor.toml", "strategy = 'one-for-all'"), ("d/a.wasm", "")],
            "d/a.wasm: does not go with `strategy` of `d`: a simple-one-for-one supervisor has one template, and here are `a` and `t`; keep one component in this directory\n\
             d/supervisor.toml:1:12: `strategy`: a supervisor that runs cannot become one of a template, nor the other way; it takes effect when the host is started again, or the directory is removed and put back",
            &["d/", "d/t"],
        ),
    ];
    for (what, first, then, refused, runs) in table {
        let mut host = Host::new(first);
        assert_eq!(host.look(), "", "{what}");
        let before = host.current.clone();
        host.write(then);
        assert_eq!(host.look(), *refused, "{what}");
        assert_eq!(host.runs(), *runs, "{what}");
        for (name, worker) in before.workers.iter().filter(|_| !refused.is_empty()) {
            assert_eq!(host.current.workers.get(name), Some(worker), "{what}: {name} was changed");
        }
        for (name, policy) in before.supervisors.iter().filter(|_| !refused.is_empty()) {
            assert_eq!(host.current.supervisors.get(name), Some(policy), "{what}: {name} was changed");
        }
    }
}

#[test]
fn a_file_that_goes_leaves_a_wrong_order_and_stops_nothing_else() {
    let mut host = Host::new(&[("d/supervisor.toml", "order = ['b', 'a']"), ("d/a.wasm", ""), ("d/b.wasm", "")]);
    assert_eq!(host.look(), "");
    host.disk.remove("d/b.wasm");
    let refused = "d/supervisor.toml:1:9: `order` names `b`, which is not here: it is passed over";
    assert_eq!((host.look().as_str(), host.runs()), (refused, vec!["d/".to_string(), "d/a".to_string()]));
    host.write(&[("d/c.wasm", "")]);
    assert_eq!(host.look(), refused);
    assert_eq!(host.runs(), ["d/", "d/a", "d/c"]);
    host.write(&[("d/c.toml", "after = ['a']")]);
    assert_eq!(host.look(), refused);
    assert_eq!(host.current.workers[&name("d/c")].settings.after, ["a"]);
    host.write(&[("d/supervisor.toml", "order = ['a']\nintensity = 5")]);
    assert_eq!(host.look(), "");
    assert_eq!(host.policy("d").intensity, 5);
}

#[test]
fn a_name_that_is_being_replaced_is_there() {
    let mut host = Host::new(&[
        ("supervisor.toml", "order = ['d']"),
        ("d/supervisor.toml", "order = ['a']"),
        ("d/a.wasm", ""),
        ("d/b.wasm", ""),
    ]);
    assert_eq!(host.look(), "");
    host.disk.remove("d/a.wasm");
    let tree = host.disk.look().tree;
    assert!(tree.is_held(&name("d/a")));
    assert_eq!(host.admit(tree).problems, []);
    std::fs::remove_dir_all(host.disk.path("d")).unwrap();
    let tree = host.disk.look().tree;
    assert!(tree.is_held(&name("d/b")) && !tree.supervisors.contains_key(&name("d")));
    assert_eq!(host.admit(tree).problems, [], "the directory stays as long as what is held in it");
}

#[test]
fn a_host_that_starts_again_has_room_for_what_it_had_room_for() {
    let mut host =
        Host::new(&[("d/supervisor.toml", "[budget]\nmemory = '256MiB'"), ("d/m.wasm", ""), ("d/n.wasm", "")]);
    assert_eq!(host.look(), "");
    host.write(&[("d/a.wasm", "")]);
    let refused = host.look();
    assert!(refused.starts_with("d/a.wasm: does not go with `budget.memory` of `d`"), "{refused}");
    host.restart();
    assert_eq!(host.look(), refused);
    assert_eq!(host.runs(), ["d/", "d/m", "d/n"]);
}

#[test]
fn many_that_do_not_fit_are_refused_without_trying_each() {
    let mut host = Host::new(&[("d/supervisor.toml", "[budget]\nmemory = '128MiB'"), ("d/a.wasm", "")]);
    assert_eq!(host.look(), "");
    for number in 0..3 * bounds::REFUSED_ONE_BY_ONE_MAX {
        host.write(&[(&format!("d/b{number}.wasm"), "")]);
    }
    assert_eq!(host.look().lines().count(), 3 * bounds::REFUSED_ONE_BY_ONE_MAX);
    assert_eq!(host.runs(), ["d/", "d/a"]);
}

/// The worker's file, its supervisor's, and the breaker's failures that hold.
#[test]
fn a_worker_has_its_own_breaker_then_its_supervisors_then_its_tiers() {
    let breaker = |failures: u32| format!("[circuit-breaker]\nfailures = {failures}");
    let table = [
        ("", "", None, Tier::Normal),
        ("", "tier = 'peripheral'", Some(3), Tier::Peripheral),
        ("tier = 'critical'", "tier = 'peripheral'", Some(10), Tier::Critical),
        ("tier = 'normal'", "tier = 'peripheral'", None, Tier::Normal),
        ("tier = 'critical'", &breaker(7), Some(7), Tier::Critical),
        (&breaker(8), &breaker(7), Some(8), Tier::Normal),
        (&breaker(8), "tier = 'peripheral'", Some(8), Tier::Peripheral),
    ];
    for (worker, supervisor, failures, tier) in table {
        let mut host = Host::new(&[("d/supervisor.toml", supervisor), ("d/a.wasm", ""), ("d/a.toml", worker)]);
        assert_eq!(host.look(), "");
        let settings = &host.current.workers[&name("d/a")].settings;
        assert_eq!(settings.circuit_breaker.map(|breaker| breaker.failures), failures, "{worker} / {supervisor}");
        assert_eq!(settings.tier, Some(tier), "{worker} / {supervisor}");
    }
}

#[test]
fn a_supervisors_breaker_changes_its_workers_and_a_refused_one_does_not() {
    let mut host = Host::new(&[("d/supervisor.toml", "[circuit-breaker]"), ("d/a.wasm", "")]);
    assert_eq!(host.look(), "");
    let breaker = |host: &Host| host.current.workers[&name("d/a")].settings.circuit_breaker;
    assert_eq!(breaker(&host), Some(BreakerSettings::default()));
    host.write(&[("d/supervisor.toml", "[circuit-breaker]\nfailures = 9")]);
    let steps = {
        let tree = host.admitted();
        plan(&host.current, &tree)
    };
    assert!(
        matches!(&steps[..], [Step::ChangePolicy { .. }, Step::ChangeSettings { name: changed, .. }] if *changed == name("d/a"))
    );
    assert_eq!(host.look(), "");
    let nine = Some(BreakerSettings { failures: 9, ..BreakerSettings::default() });
    assert_eq!(breaker(&host), nine);
    for text in ["on-demand = true\n[circuit-breaker]\nfailures = 1", "[circuit-breaker", "intensity = 'x'"] {
        host.write(&[("d/supervisor.toml", text)]);
        assert_ne!(host.look(), "");
        assert_eq!(breaker(&host), nine, "{text}");
    }
}
