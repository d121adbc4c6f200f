//! What one directory has in it, by name: which entries count, and which cannot be taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::Fingerprint;
use super::{Doubt, Problem};
use crate::base::Name;

/// Entries over all directories of one look. More: the look finds nothing certain and says so, for
/// what was not seen must not count as removed. A hundred times the workers a host has.
pub const ENTRIES_MAX: usize = 100_000;

/// Settings of the supervisor that a directory is.
pub(super) const SUPERVISOR: &str = "supervisor";

/// Everything of one directory that matters.
#[derive(Default)]
pub(super) struct Listing {
    pub children: BTreeMap<Name, Child>,
    /// `supervisor.toml`, or why it cannot be taken.
    pub supervisor: Option<Result<Found, Problem>>,
    pub problems: Vec<Problem>,
}

/// All that goes by one name. A child that can be taken is a component or a directory.
#[derive(Default)]
pub(super) struct Child {
    pub component: Option<Found>,
    pub settings: Option<Found>,
    pub directory: Option<PathBuf>,
    /// Something of this name is there and cannot be taken.
    pub refused: bool,
}

pub(super) struct Found {
    pub path: PathBuf,
    pub state: Fingerprint,
    /// It may be changed by other ways than its path.
    pub doubt: Option<Doubt>,
}

enum Kind {
    Directory,
    LinkedDirectory,
    File(Fingerprint, Option<Doubt>),
    Other,
}

impl Listing {
    /// Reads the entries of `directory`, the supervisor `parent`. Takes one from `entries_left` for
    /// each; ends early when there are none left, with `entries_left` at `None`.
    ///
    /// # Errors
    /// The directory itself cannot be read to its end.
    pub fn read(directory: &Path, parent: &Name, entries_left: &mut Option<usize>) -> Result<Listing, Problem> {
        let unreadable = |error: io::Error| Problem::unreadable(directory, &error).about(parent);
        let mut listing = Listing::default();
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            *entries_left = entries_left.and_then(|left| left.checked_sub(1));
            if entries_left.is_none() {
                break;
            }
            listing.take(&entry, parent);
        }
        Ok(listing)
    }

    /// Children that would be one child, each with what is wrong. Names that differ in case only are
    /// one on some file systems: such a tree could not be copied.
    pub fn collisions(&self, directory: &Path) -> Vec<(Name, Problem)> {
        let mut found = Vec::new();
        let mut by_lower: BTreeMap<String, BTreeSet<&Name>> = BTreeMap::new();
        for (name, child) in &self.children {
            if child.component.is_some() && child.directory.is_some() {
                let leaf = name.leaf();
                let problem = Problem::at(&directory.join(leaf), format!("`{leaf}.wasm` and `{leaf}/` have one name"))
                    .help("rename one of them");
                found.push((name.clone(), problem));
            }
            if child.component.is_some() || child.directory.is_some() {
                by_lower.entry(name.leaf().to_lowercase()).or_default().insert(name);
            }
        }
        for names in by_lower.values().filter(|names| names.len() > 1) {
            let all: Vec<_> = names.iter().map(|name| format!("`{}`", name.leaf())).collect();
            let message = format!("{} differ in case only", all.join(" and "));
            for name in names {
                let problem = Problem::at(&directory.join(name.leaf()), &message).help("rename one of them");
                found.push(((*name).clone(), problem));
            }
        }
        found
    }

    fn take(&mut self, entry: &fs::DirEntry, parent: &Name) {
        let file_name = entry.file_name();
        if file_name.as_encoded_bytes().starts_with(b".") {
            return;
        }
        let path = entry.path();
        let kind = kind(entry);
        let text = file_name.to_string_lossy();
        let is_directory = matches!(kind, Ok(Kind::Directory | Kind::LinkedDirectory));
        let (stem, extension) = match text.rsplit_once('.') {
            _ if is_directory => (&*text, ""),
            Some((stem, extension)) if is_ours(extension) => (stem, extension),
            _ => return,
        };
        if file_name.to_str().is_none() {
            self.problems.push(Problem::at(&path, "its name is not text in UTF-8"));
            return;
        }
        let name = match parent.child(stem) {
            Ok(name) => name,
            Err(error) => {
                self.problems.push(Problem::at(&path, error.to_string()).help("rename it"));
                return;
            }
        };
        if let Err(problem) = self.place(&name, &path, stem, extension, kind) {
            if stem == SUPERVISOR && extension.eq_ignore_ascii_case("toml") {
                self.supervisor = Some(Err(problem));
                return;
            }
            // Settings that cannot be taken hold their worker: defaults would be a guess.
            self.children.entry(name.clone()).or_default().refused = true;
            self.problems.push(problem.about(&name));
        }
    }

    fn place(
        &mut self,
        name: &Name,
        path: &Path,
        stem: &str,
        extension: &str,
        kind: io::Result<Kind>,
    ) -> Result<(), Problem> {
        let kind = kind.map_err(|error| Problem::unreadable(path, &error))?;
        let (state, doubt) = match kind {
            Kind::Directory => {
                let child = self.children.entry(name.clone()).or_default();
                let other = child.directory.replace(path.to_path_buf());
                return other.map_or(Ok(()), |other| Err(alike(&other, path)));
            }
            Kind::LinkedDirectory => {
                return Err(Problem::at(path, "is a symbolic link to a directory, which is not followed")
                    .help("move the directory here"));
            }
            Kind::Other => return Err(Problem::at(path, "is not a file")),
            Kind::File(state, doubt) => (state, doubt),
        };
        if extension != extension.to_ascii_lowercase() {
            let lower = extension.to_ascii_lowercase();
            return Err(
                Problem::at(path, format!("ends in `.{extension}`")).help(format!("rename it to `{stem}.{lower}`"))
            );
        }
        let found = Some(Found { path: path.to_path_buf(), state, doubt });
        match (stem, extension) {
            // One that cannot be taken (`supervisor.TOML`) counts, whichever comes first.
            (SUPERVISOR, "toml") if self.supervisor.is_some() => {}
            (SUPERVISOR, "toml") => self.supervisor = found.map(Ok),
            (SUPERVISOR, _) => {
                return Err(Problem::at(path, "cannot be a worker: `supervisor.toml` is its supervisor's settings")
                    .help("rename it"));
            }
            (_, "toml") => {
                let other = std::mem::replace(&mut self.children.entry(name.clone()).or_default().settings, found);
                return other.map_or(Ok(()), |other| Err(alike(&other.path, path)));
            }
            _ => {
                let other = std::mem::replace(&mut self.children.entry(name.clone()).or_default().component, found);
                return other.map_or(Ok(()), |other| Err(alike(&other.path, path)));
            }
        }
        Ok(())
    }
}

/// Two entries of one name: they differ in how a letter with a mark is spelt, which nobody sees.
fn alike(one: &Path, other: &Path) -> Problem {
    let spelt = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shown = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
        format!("`{}`", name.chars().map(shown).collect::<String>())
    };
    let message = format!("{} and {} have one name, for their letters are spelt in two ways", spelt(one), spelt(other));
    Problem::at(other, message).help("remove one of them")
}

fn is_ours(extension: &str) -> bool {
    extension.eq_ignore_ascii_case("wasm") || extension.eq_ignore_ascii_case("toml")
}

/// A link to a file is as good as the file: deployment tools use them. A link to a directory could
/// lead out of the tree, or back into it.
fn kind(entry: &fs::DirEntry) -> io::Result<Kind> {
    let is_link = entry.file_type()?.is_symlink();
    let metadata = fs::metadata(entry.path())?;
    Ok(match is_link {
        true if metadata.is_dir() => Kind::LinkedDirectory,
        false if metadata.is_dir() => Kind::Directory,
        _ if metadata.is_file() => {
            let doubt = match (is_link, metadata.nlink()) {
                (true, _) => Some(Doubt::Link),
                (false, 2..) => Some(Doubt::SecondName),
                (false, _) => None,
            };
            Kind::File(Fingerprint::of(&metadata), doubt)
        }
        _ => Kind::Other,
    })
}
