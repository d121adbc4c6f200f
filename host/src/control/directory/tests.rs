use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;
use crate::base::{Tick, bounds};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A directory on disk, a directory in memory, and a clock that is moved by hand.
pub(super) struct Disk {
    pub root: tempfile::TempDir,
    directory: Directory,
    now: Tick,
}

impl Disk {
    pub fn new() -> Disk {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(root.path());
        Disk { root, directory, now: Tick::ZERO }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn component(&self, file: &str, revision: u8) -> ComponentHash {
        let bytes = [COMPONENT, &[revision]].concat();
        self.write(file, &bytes);
        ComponentHash::of(&bytes)
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }

    pub fn look(&mut self) -> Look {
        self.directory.look(self.now)
    }

    /// Two looks, far enough apart that everything is settled.
    pub fn settled(&mut self) -> DesiredTree {
        self.look();
        self.now = self.now.after(SETTLE);
        let look = self.look();
        assert_eq!(look.again, None);
        look.tree
    }

    /// All problems, paths relative to the root.
    fn problems(&mut self) -> Vec<String> {
        let root = format!("{}/", self.root.path().display());
        self.settled().problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect()
    }
}

pub(super) fn name(text: &str) -> Name {
    if text == "/" { Name::root() } else { Name::parse(text).unwrap() }
}

fn names<T>(map: &BTreeMap<Name, T>) -> Vec<String> {
    map.keys().map(ToString::to_string).collect()
}

#[test]
fn folders_are_supervisors_and_files_are_workers() {
    let mut disk = Disk::new();
    let hash = disk.component("greeter.wasm", 1);
    disk.write("greeter.toml", "shutdown = 'kill'");
    disk.component("billing/invoices.wasm", 1);
    disk.component("billing/eu/vat.v2.wasm", 1);
    disk.write("billing/eu/vat.v2.toml", "restart = 'temporary'");
    disk.write("billing/supervisor.toml", "intensity = 7");
    disk.write("README.md", "not ours");
    disk.write(".paguro/x.wasm", "hidden");
    disk.write(".half.wasm", "hidden");
    let tree = disk.settled();
    assert_eq!(tree.problems, []);
    assert_eq!(names(&tree.supervisors), ["/", "billing", "billing/eu"]);
    assert_eq!(names(&tree.workers), ["billing/eu/vat.v2", "billing/invoices", "greeter"]);
    let greeter = &tree.workers[&name("greeter")];
    assert_eq!((greeter.hash, &greeter.path), (hash, &disk.path("greeter.wasm")));
    assert_eq!(greeter.settings.as_ref().unwrap().shutdown, crate::runtime::spec::Shutdown::Kill);
    let vat = tree.workers[&name("billing/eu/vat.v2")].settings.as_ref().unwrap();
    assert_eq!(vat.restart, Some(crate::runtime::spec::Restart::Temporary));
    assert_eq!(tree.supervisors[&name("billing")].settings.as_ref().unwrap().intensity, 7);
}

/// A keyboard and a file system may spell one letter in two ways.
#[test]
fn names_that_read_alike_are_one_name() {
    let mut disk = Disk::new();
    disk.component("bu\u{308}ro.wasm", 1);
    disk.write("b\u{fc}ro.toml", "shutdown = 'kill'");
    let tree = disk.settled();
    assert_eq!(tree.problems, []);
    assert_eq!(names(&tree.workers), ["b\u{fc}ro"]);
    let settings = tree.workers[&name("b\u{fc}ro")].settings.as_ref().unwrap();
    assert_eq!(settings.shutdown, crate::runtime::spec::Shutdown::Kill);
    // A second component of that name: which of them is meant nobody can tell.
    disk.component("b\u{fc}ro.wasm", 2);
    let problems = disk.problems().join("\n");
    let both = problems.contains("`b\\u{fc}ro.wasm`") && problems.contains("`bu\\u{308}ro.wasm`");
    assert!(both && problems.contains("have one name"), "{problems}");
    assert_eq!(names(&disk.settled().workers), [""; 0]);
}

#[test]
fn a_file_that_is_being_written_holds_its_worker() {
    let mut disk = Disk::new();
    disk.component("a.wasm", 1);
    let look = disk.look();
    assert_eq!((names(&look.tree.workers), look.again), (vec![], Some(SETTLE)));
    assert!(look.tree.is_held(&name("a")));
    disk.now = disk.now.after(Duration::from_millis(60));
    disk.write("a.wasm", [COMPONENT, b"more and more"].concat());
    assert_eq!(disk.look().again, Some(SETTLE), "it changed: the wait starts anew");
    disk.now = disk.now.after(Duration::from_millis(60));
    assert_eq!(disk.look().again, Some(Duration::from_millis(40)));
    assert_eq!(names(&disk.settled().workers), ["a"]);
}

#[test]
fn replaced_in_place_and_by_rename() {
    let mut disk = Disk::new();
    let first = disk.component("a.wasm", 1);
    assert_eq!(disk.settled().workers[&name("a")].hash, first);
    let second = disk.component("a.wasm", 2);
    assert!(disk.look().tree.is_held(&name("a")));
    assert_eq!(disk.settled().workers[&name("a")].hash, second);
    let third = disk.component(".a.tmp", 3);
    fs::rename(disk.path(".a.tmp"), disk.path("a.wasm")).unwrap();
    assert!(disk.look().tree.is_held(&name("a")));
    assert_eq!(disk.settled().workers[&name("a")].hash, third);
}

#[test]
fn removed_and_written_anew_is_never_gone() {
    let mut disk = Disk::new();
    disk.component("d/a.wasm", 1);
    disk.write("d/a.toml", "shutdown = 'kill'");
    disk.settled();
    disk.remove("d/a.wasm");
    let look = disk.look();
    assert!(look.tree.is_held(&name("d/a")) && look.again == Some(SETTLE));
    assert_eq!(look.tree.problems, [], "its settings are not called an orphan meanwhile");
    let second = disk.component("d/a.wasm", 2);
    assert_eq!(disk.settled().workers[&name("d/a")].hash, second);
    fs::remove_dir_all(disk.path("d")).unwrap();
    assert!(disk.look().tree.is_held(&name("d/a")));
    let tree = disk.settled();
    assert!(!tree.is_held(&name("d/a")));
    assert_eq!((names(&tree.workers), names(&tree.supervisors)), (vec![], vec!["/".to_string()]));
}

#[test]
fn settings_that_change_or_go_wait_too() {
    let mut disk = Disk::new();
    disk.component("a.wasm", 1);
    disk.write("a.toml", "shutdown = 'kill'");
    disk.write("supervisor.toml", "intensity = 3");
    disk.settled();
    disk.write("a.toml", "shutdown = '1s'");
    disk.write("supervisor.toml", "intensity = 40");
    let tree = disk.look().tree;
    assert_eq!(tree.workers[&name("a")].settings, Err(NotRead::Waiting));
    assert_eq!(tree.supervisors[&Name::root()].settings, Err(NotRead::Waiting));
    let tree = disk.settled();
    let shutdown = |tree: &DesiredTree| tree.workers[&name("a")].settings.as_ref().unwrap().shutdown;
    assert_eq!(shutdown(&tree), crate::runtime::spec::Shutdown::Time(Duration::from_secs(1)));
    assert_eq!(tree.supervisors[&Name::root()].settings.as_ref().unwrap().intensity, 40);
    disk.remove("a.toml");
    assert_eq!(disk.look().tree.workers[&name("a")].settings, Err(NotRead::Waiting));
    assert_eq!(shutdown(&disk.settled()), WorkerSettings::default().shutdown);
}

#[test]
fn bad_settings_are_reported_and_do_not_hide_the_worker() {
    let mut disk = Disk::new();
    disk.component("a.wasm", 1);
    disk.write("a.toml", "\n  [limts]");
    disk.write("supervisor.toml", "order = ['b']\nintensity = 'x'");
    let tree = disk.settled();
    assert!(
        matches!(&tree.workers[&name("a")].settings, Err(NotRead::Problem(problem)) if problem.place == Some((2, 4)))
    );
    assert!(matches!(tree.supervisors[&Name::root()].settings, Err(NotRead::Problem(_))));
    assert_eq!(
        disk.problems(),
        [
            "a.toml:2:4: `limts` is not a key of a worker's settings; did you mean `limits`?",
            "supervisor.toml:2:13: `intensity` must be a whole number",
        ]
    );
}

#[test]
fn what_is_no_component_is_said_in_one_line_and_holds_its_name() {
    let mut disk = Disk::new();
    disk.write("empty.wasm", "");
    disk.write("module.wasm", b"\0asm\x01\0\0\0");
    disk.write("script.wasm", "#!/bin/sh");
    disk.write("zeros.wasm", [0; 4096]);
    let large = fs::File::create(disk.path("large.wasm")).unwrap();
    large.set_len(bounds::COMPONENT_BYTES_MAX + 1).unwrap();
    let tree = disk.settled();
    assert_eq!(names(&tree.workers), Vec::<String>::new());
    for leaf in ["empty", "module", "script", "zeros", "large"] {
        assert!(tree.is_held(&name(leaf)), "{leaf}");
    }
    assert!(tree.problems.iter().all(|problem| problem.name.is_some()));
    assert_eq!(
        disk.problems(),
        [
            "empty.wasm: is empty; if it is still being written, it is looked at again when it changes",
            "large.wasm: is too large: 128.0 MiB; 128.0 MiB are allowed",
            "module.wasm: is a core module, not a component; make it one with `wasm-tools component new`, or build for the target `wasm32-wasip2`",
            "script.wasm: is not WebAssembly; a component begins with `\\0asm`",
            "zeros.wasm: is not WebAssembly: it begins with zeros; if it is still being written, it is looked at again when it changes",
        ]
    );
}

#[test]
fn two_of_one_name_are_both_refused() {
    let mut disk = Disk::new();
    disk.component("a.wasm", 1);
    disk.component("a/b.wasm", 1);
    disk.component("Orders.wasm", 1);
    disk.component("orders.wasm", 1);
    let tree = disk.settled();
    assert_eq!((names(&tree.workers), names(&tree.supervisors)), (vec![], vec!["/".to_string()]));
    assert!(tree.is_held(&name("a/b")) && tree.is_held(&name("orders")) && tree.is_held(&name("Orders")));
    assert_eq!(
        disk.problems(),
        [
            "Orders: `Orders` and `orders` differ in case only; rename one of them",
            "a: `a.wasm` and `a/` have one name; rename one of them",
            "orders: `Orders` and `orders` differ in case only; rename one of them",
        ]
    );
}

#[test]
fn names_and_entries_that_cannot_be_taken() {
    use std::os::unix::ffi::OsStrExt;
    let mut disk = Disk::new();
    disk.component("my worker.wasm", 1);
    disk.component("a\u{1b}b.wasm", 1);
    disk.component("upper.WASM", 1);
    disk.component("supervisor.wasm", 1);
    fs::create_dir(disk.path("bad dir")).unwrap();
    fs::write(disk.root.path().join(std::ffi::OsStr::from_bytes(b"x\xff.wasm")), COMPONENT).unwrap();
    symlink("/nowhere/at/all", disk.path("broken.wasm")).unwrap();
    symlink("/", disk.path("linked")).unwrap();
    fs::create_dir(disk.path("folder.wasm")).unwrap();
    let problems = disk.problems().join("\n");
    expect_test::expect![[r#"
        a\u{1b}b.wasm: `a\u{1b}b` is no name: '\u{1b}' is not allowed (letters, digits, `-`, `_`, `.` and `@` are); rename it
        bad dir: `bad dir` is no name: ' ' is not allowed (letters, digits, `-`, `_`, `.` and `@` are); rename it
        broken.wasm: cannot be read: No such file or directory (os error 2)
        linked: is a symbolic link to a directory, which is not followed; move the directory here
        my worker.wasm: `my worker` is no name: ' ' is not allowed (letters, digits, `-`, `_`, `.` and `@` are); rename it
        supervisor.wasm: cannot be a worker: `supervisor.toml` is its supervisor's settings; rename it
        upper.WASM: ends in `.WASM`; rename it to `upper.wasm`
        x�.wasm: its name is not text in UTF-8"#]].assert_eq(&problems);
    assert!(!problems.contains('\u{1b}'));
    assert!(disk.settled().is_held(&name("broken")));
}

#[test]
fn a_linked_file_is_as_good_as_the_file() {
    let mut disk = Disk::new();
    let hash = disk.component(".data/1/a.wasm", 1);
    let next = disk.component(".data/2/a.wasm", 2);
    symlink(disk.path(".data/1"), disk.path(".data/now")).unwrap();
    symlink(disk.path(".data/now/a.wasm"), disk.path("a.wasm")).unwrap();
    assert_eq!(disk.settled().workers[&name("a")].hash, hash);
    disk.remove(".data/now");
    symlink(disk.path(".data/2"), disk.path(".data/now")).unwrap();
    assert_eq!(disk.settled().workers[&name("a")].hash, next);
}

#[test]
fn settings_of_nobody_name_the_nearest_worker() {
    let mut disk = Disk::new();
    disk.component("greeter.wasm", 1);
    disk.write("greter.toml", "");
    disk.write("zzz.toml", "");
    disk.component("d/a.wasm", 1);
    disk.write("d.toml", "");
    assert_eq!(
        disk.problems(),
        [
            format!("d.toml: belongs to no worker; settings of `d` are in {}", "d/supervisor.toml"),
            "greter.toml: belongs to no worker; did you mean `greeter.toml`?".into(),
            "zzz.toml: belongs to no worker; there is no `zzz.wasm` beside it".into(),
        ]
    );
}

#[test]
fn settings_that_cannot_be_taken_hold_their_worker() {
    let mut disk = Disk::new();
    disk.component("a.wasm", 1);
    symlink("/nowhere", disk.path("a.toml")).unwrap();
    symlink("/nowhere", disk.path("supervisor.toml")).unwrap();
    let tree = disk.settled();
    assert!(tree.is_held(&name("a")) && !tree.is_held(&Name::root()));
    assert!(tree.supervisors[&Name::root()].settings.is_err());
    assert_eq!(disk.problems().len(), 2);
}

#[test]
fn a_directory_that_is_not_there_holds_everything() {
    let mut disk = Disk::new();
    disk.component("a.wasm", 1);
    disk.settled();
    let elsewhere = disk.root.path().with_extension("moved");
    fs::rename(disk.root.path(), &elsewhere).unwrap();
    let tree = disk.settled();
    assert!(tree.is_held(&name("a")) && tree.supervisors.is_empty());
    assert_eq!(tree.problems.len(), 1);
    fs::rename(&elsewhere, disk.root.path()).unwrap();
    assert_eq!(names(&disk.settled().workers), ["a"]);
}

#[test]
fn a_deep_directory_is_held() {
    let mut disk = Disk::new();
    let deep = vec!["d"; DEPTH_MAX + 1].join("/");
    disk.component(&format!("{deep}/a.wasm"), 1);
    let tree = disk.settled();
    assert!(tree.is_held(&name(&deep)) && tree.is_held(&name(&format!("{deep}/a"))));
    assert_eq!(tree.supervisors.len(), DEPTH_MAX + 1, "the root is one of them");
    assert!(tree.problems[0].message.starts_with("lies too deep"));
}

/// From what is on disk to the steps, over two looks, as a host does it.
#[test]
fn a_half_written_file_changes_nothing_that_runs() {
    let mut disk = Disk::new();
    let hash = disk.component("a.wasm", 1);
    let mut current = CurrentTree::default();
    current.supervisors.insert(Name::root(), SupervisorSettings::default());
    let step = plan(&current, &disk.settled());
    assert!(matches!(&step[..], [Step::Load { wanted, .. }] if wanted.hash == hash));
    let worker = CurrentWorker {
        component: hash,
        file: Some(hash),
        overridden: false,
        rejected: BTreeSet::new(),
        settings: WorkerSettings::default(),
        upgrading: false,
    };
    current.workers.insert(name("a"), worker);
    for bytes in [b"\0as".as_slice(), b"", b"garbage"] {
        disk.write("a.wasm", bytes);
        assert_eq!(plan(&current, &disk.look().tree), []);
        assert_eq!(plan(&current, &disk.settled()), []);
    }
    let next = disk.component("a.wasm", 2);
    assert!(matches!(&plan(&current, &disk.settled())[..], [Step::Upgrade { hash, .. }] if *hash == next));
    disk.remove("a.wasm");
    assert_eq!(plan(&current, &disk.look().tree), [], "it may come back");
    assert_eq!(plan(&current, &disk.settled()), [Step::RemoveWorker { name: name("a") }]);
}
