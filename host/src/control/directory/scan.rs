//! One look at the whole directory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{FileCache, Fingerprint, hash_component, read_text, too_large};
use super::listing::{Child, ENTRIES_MAX, Found, Listing};
use super::settle::{Settle, Settling};
use super::{DesiredTree, Doubt, NotRead, Problem, SupervisorEntry, WorkerEntry};
use crate::base::{ComponentHash, Name, Tick, bounds};
use crate::control::settings::{
    SettingsError, SettingsFile, nearest, parse_root, parse_supervisor, parse_worker, places,
};
use crate::runtime::spec::{SupervisorSettings, WorkerSettings};

/// Directories below each other. A deeper one is reported and held: a name has 255 bytes.
pub const DEPTH_MAX: usize = 16;

/// The directory, and what was seen of it before: only files that changed are read.
pub struct Directory {
    root: PathBuf,
    settling: Settling,
    files: FileCache,
    /// Components, to know whose file it was when one is gone.
    names: BTreeMap<PathBuf, Name>,
    /// Files that had a second name when they were seen, by inode. Whoever wrote there can have removed it since.
    second_names: HashMap<PathBuf, u64>,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub tree: DesiredTree,
    /// Some files are still changing: look again after this time.
    pub again: Option<Duration>,
}

impl Directory {
    pub fn new(root: &Path) -> Directory {
        Directory {
            root: root.to_path_buf(),
            settling: Settling::default(),
            files: FileCache::default(),
            names: BTreeMap::new(),
            second_names: HashMap::new(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads what changed. Blocks, for as long as hashing the changed files takes. Never fails: what
    /// cannot be read is held and among the problems. Nothing is taken at the first look, for it
    /// takes two to know that a file is not changing.
    pub fn look(&mut self, now: Tick) -> Look {
        #[cfg(test)]
        hang(&self.root);
        let mut scan = Scan {
            now,
            directory: self,
            tree: DesiredTree::default(),
            again: None,
            entries_left: Some(ENTRIES_MAX),
            seen: HashSet::new(),
            doubts: Vec::new(),
        };
        let root = scan.directory.root.clone();
        scan.supervisor(&root, &Name::root(), 0);
        scan.missing();
        scan.finish()
    }
}

/// A file system that does not answer, for tests: as long as there is a file `.hang` in the root.
#[cfg(test)]
fn hang(root: &Path) {
    while root.join(".hang").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Scan<'a> {
    now: Tick,
    directory: &'a mut Directory,
    tree: DesiredTree,
    again: Option<Duration>,
    /// `None`: there were more than [`ENTRIES_MAX`].
    entries_left: Option<usize>,
    seen: HashSet<PathBuf>,
    /// Problems that count only where their name is not held, because a file is just being replaced.
    doubts: Vec<(Name, Problem)>,
}

impl Scan<'_> {
    fn supervisor(&mut self, path: &Path, name: &Name, depth: usize) {
        if depth > DEPTH_MAX {
            let problem = Problem::at(path, format!("lies too deep: {DEPTH_MAX} directories are allowed"));
            return self.hold(name, Some(problem));
        }
        let mut listing = match Listing::read(path, name, &mut self.entries_left) {
            Ok(listing) => listing,
            Err(problem) => return self.hold(name, Some(problem)),
        };
        self.tree.problems.append(&mut listing.problems);
        let settings = self.supervisor_settings(path, name, &mut listing);
        let settings = settings.map_err(|error| self.note(name, error));
        self.tree.supervisors.insert(name.clone(), SupervisorEntry { settings });
        for (name, problem) in listing.collisions(path) {
            self.hold(&name, Some(problem));
        }
        let workers: Vec<Name> = listing
            .children
            .iter()
            .filter(|(_, child)| child.component.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for (name, child) in listing.children {
            self.child(&name, child, &workers, depth);
        }
    }

    fn child(&mut self, name: &Name, child: Child, siblings: &[Name], depth: usize) {
        if child.refused {
            self.hold(name, None);
        }
        if self.tree.held.contains(name) {
            return;
        }
        match (child.component, child.directory, child.settings) {
            (Some(component), _, settings) => self.worker(name, component, settings),
            (None, Some(directory), settings) => {
                if let Some(settings) = settings {
                    let inside = directory.join("supervisor.toml");
                    let help = format!("settings of `{name}` are in {}", inside.display());
                    self.orphan(name, settings, help);
                }
                self.supervisor(&directory, name, depth + 1);
            }
            (None, None, Some(settings)) => {
                let help = match nearest(name.leaf(), siblings.iter().map(Name::leaf)) {
                    Some(near) => format!("did you mean `{near}.toml`?"),
                    None => format!("there is no `{}.wasm` beside it", name.leaf()),
                };
                self.orphan(name, settings, help);
            }
            (None, None, None) => {}
        }
    }

    fn worker(&mut self, name: &Name, component: Found, settings: Option<Found>) {
        self.doubt(name, &component);
        settings.iter().for_each(|found| self.doubt(name, found));
        let Found { path, state: file, .. } = component;
        self.directory.names.insert(path.clone(), name.clone());
        // Both are observed before either is judged, so that their waits run side by side.
        let settled = self.observe(&path, Some(file));
        // Its name may be spelt otherwise than the component's.
        let settings_path = settings.as_ref().map_or_else(|| path.with_extension("toml"), |found| found.path.clone());
        let settings = self.worker_settings(&settings_path, settings);
        let settings = settings.map_err(|error| self.note(name, error));
        if !settled {
            return self.hold(name, None);
        }
        match self.component(&path, file) {
            Ok(hash) => {
                self.tree.workers.insert(name.clone(), WorkerEntry { path, file, hash, settings });
            }
            Err(NotRead::Waiting) => self.hold(name, None),
            Err(NotRead::Problem(problem)) => self.hold(name, Some(problem)),
        }
    }

    fn component(&mut self, path: &Path, file: Fingerprint) -> Result<ComponentHash, NotRead> {
        if let Some((_, hash)) = self.directory.files.components.get(path).filter(|(known, _)| *known == file) {
            return Ok(*hash);
        }
        if file.len > bounds::COMPONENT_BYTES_MAX {
            return Err(NotRead::Problem(too_large(path, file.len, bounds::COMPONENT_BYTES_MAX)));
        }
        let hash = hash_component(path, file);
        self.unchanged(path, file, matches!(hash, Err(NotRead::Waiting)))?;
        let hash = hash?;
        self.directory.files.components.insert(path.to_path_buf(), (file, hash));
        Ok(hash)
    }

    fn worker_settings(&mut self, path: &Path, found: Option<Found>) -> Result<WorkerSettings, NotRead> {
        self.settings(path, found, SettingsFile::Worker, |files| &mut files.workers, parse_worker)
    }

    fn supervisor_settings(
        &mut self,
        directory: &Path,
        name: &Name,
        listing: &mut Listing,
    ) -> Result<SupervisorSettings, NotRead> {
        let path = directory.join("supervisor.toml");
        let found = listing.supervisor.take().transpose().map_err(NotRead::Problem)?;
        found.iter().for_each(|found| self.doubt(name, found));
        let parse = if name.is_root() { parse_root } else { parse_supervisor };
        self.settings(&path, found, SettingsFile::Supervisor, |files| &mut files.supervisors, parse)
    }

    /// The settings in a file; all defaults where there is none.
    fn settings<T: Clone + Default>(
        &mut self,
        path: &Path,
        found: Option<Found>,
        kind: SettingsFile,
        cache: impl Fn(&mut FileCache) -> &mut HashMap<PathBuf, (Fingerprint, T)>,
        parse: impl Fn(&Path, &str) -> Result<T, SettingsError>,
    ) -> Result<T, NotRead> {
        let state = found.map(|found| found.state);
        if !self.observe(path, state) {
            return Err(NotRead::Waiting);
        }
        let Some(state) = state else { return Ok(T::default()) };
        self.tree.settings_files.insert(path.to_path_buf(), state);
        let cache_of = |scan: &mut Self| cache(&mut scan.directory.files).get(path).cloned();
        if let Some((_, settings)) = cache_of(self).filter(|(known, _)| *known == state) {
            let places = self.directory.files.places.get(path).cloned();
            self.tree.places.extend(places.map(|places| (path.to_path_buf(), places)));
            let text = self.directory.files.texts.get(path).cloned();
            self.tree.texts.extend(text.map(|text| (path.to_path_buf(), text)));
            return Ok(settings);
        }
        if state.len > bounds::SETTINGS_BYTES_MAX {
            return Err(NotRead::Problem(too_large(path, state.len, bounds::SETTINGS_BYTES_MAX)));
        }
        let text = read_text(path, state);
        self.unchanged(path, state, matches!(text, Err(NotRead::Waiting)))?;
        let text = text?;
        let settings = parse(path, &text).map_err(|error| NotRead::Problem(error.into()))?;
        let places = Arc::new(places(kind, &text));
        self.directory.files.places.insert(path.to_path_buf(), places.clone());
        self.tree.places.insert(path.to_path_buf(), places);
        let text: Arc<str> = text.into();
        self.directory.files.texts.insert(path.to_path_buf(), text.clone());
        self.tree.texts.insert(path.to_path_buf(), text);
        cache(&mut self.directory.files).insert(path.to_path_buf(), (state, settings.clone()));
        Ok(settings)
    }

    fn orphan(&mut self, name: &Name, settings: Found, help: String) {
        if self.observe(&settings.path, Some(settings.state)) {
            let problem = Problem::at(&settings.path, "belongs to no worker").help(help);
            self.doubts.push((name.clone(), problem));
        }
    }

    fn observe(&mut self, path: &Path, state: Option<Fingerprint>) -> bool {
        self.seen.insert(path.to_path_buf());
        match self.directory.settling.observe(self.now, path, state) {
            Settle::Settled => true,
            Settle::Wait(time) => {
                self.wait(time);
                false
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.again = Some(self.again.map_or(time, |earlier| earlier.min(time)));
    }

    fn doubt(&mut self, name: &Name, found: &Found) {
        let (path, inode) = (&found.path, found.state.inode);
        let doubt = match found.doubt {
            Some(doubt) => Some(doubt),
            None => (self.directory.second_names.get(path) == Some(&inode)).then_some(Doubt::SecondName),
        };
        if doubt == Some(Doubt::SecondName) {
            self.directory.second_names.insert(path.clone(), inode);
        }
        if let Some(doubt) = doubt {
            self.tree.doubtful.entry(name.clone()).or_default().push((path.clone(), doubt));
        }
    }

    /// What was read counts only if nobody wrote meanwhile, and no other file was `swapped` in.
    fn unchanged(&mut self, path: &Path, before: Fingerprint, swapped: bool) -> Result<(), NotRead> {
        let after = fs::metadata(path).map(|metadata| Fingerprint::of(&metadata));
        if !swapped && after.is_ok_and(|after| after == before) {
            return Ok(());
        }
        self.directory.settling.disturb(path);
        self.wait(super::SETTLE);
        Err(NotRead::Waiting)
    }

    fn hold(&mut self, name: &Name, problem: Option<Problem>) {
        self.tree.held.insert(name.clone());
        self.tree.problems.extend(problem.map(|problem| problem.about(name)));
    }

    fn note(&mut self, name: &Name, error: NotRead) -> NotRead {
        let NotRead::Problem(problem) = error else { return error };
        let problem = problem.about(name);
        self.tree.problems.push(problem.clone());
        NotRead::Problem(problem)
    }

    /// Files that were there and are not: held until they have stayed away.
    fn missing(&mut self) {
        let seen = &self.seen;
        for path in self.directory.settling.missing(|path| seen.contains(path)) {
            let gone = match self.directory.settling.observe(self.now, &path, None) {
                Settle::Settled => true,
                Settle::Wait(time) => {
                    self.wait(time);
                    false
                }
            };
            if gone {
                self.directory.names.remove(&path);
            } else if let Some(name) = self.directory.names.get(&path) {
                self.tree.held.insert(name.clone());
            }
        }
    }

    fn finish(mut self) -> Look {
        if self.entries_left.is_none() {
            self.tree = DesiredTree::default();
            self.doubts.clear();
            let root = self.directory.root.clone();
            let problem = Problem::at(&root, format!("has too many entries: {ENTRIES_MAX} are allowed"));
            self.hold(&Name::root(), Some(problem));
        } else {
            self.directory.files.keep_only(&self.seen);
            self.directory.second_names.retain(|path, _| self.seen.contains(path));
        }
        for (name, problem) in std::mem::take(&mut self.doubts) {
            if !self.tree.is_held(&name) {
                self.tree.problems.push(problem);
            }
        }
        self.tree.problems.sort();
        Look { tree: self.tree, again: self.again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_changed_are_read() {
        let root = tempfile::tempdir().unwrap();
        let component = root.path().join("a.wasm");
        fs::write(&component, b"\0asm\x0d\0\x01\0").unwrap();
        let mut directory = Directory::new(root.path());
        let mut now = Tick::ZERO;
        let mut hash = |directory: &mut Directory| {
            directory.look(now);
            now = now.after(super::super::SETTLE);
            directory.look(now).tree.workers.values().next().map(|worker| worker.hash)
        };
        assert_eq!(hash(&mut directory), Some(ComponentHash::of(b"\0asm\x0d\0\x01\0")));
        // What is not read again is believed.
        let planted = ComponentHash([7; 32]);
        directory.files.components.get_mut(&component).unwrap().1 = planted;
        assert_eq!(hash(&mut directory), Some(planted));
        fs::write(&component, b"\0asm\x0d\0\x01\0!").unwrap();
        assert_eq!(hash(&mut directory), Some(ComponentHash::of(b"\0asm\x0d\0\x01\0!")));
    }
}
