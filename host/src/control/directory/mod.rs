//! The directory is the tree: what is on disk, what follows from it, and when to look again.
//!
//! [`Directory::look`] reads the disk into a [`DesiredTree`]; [`admit`] refuses in it what cannot be
//! carried out; [`plan()`] compares it with what runs and says what to do; [`Watcher`] says when to look. A file that is being written, cannot be
//! read, or is no component *holds* its name: what ran under it before goes on.
//!
//! Nothing here starts or stops anything, and nothing here knows whether a component is valid
//! beyond its first bytes.

mod admission;
mod file;
mod listing;
mod plan;
mod scan;
mod settle;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use admission::{Running, admit};
pub use file::{Fingerprint, read_component};
pub use listing::ENTRIES_MAX;
pub use plan::{CurrentTree, CurrentWorker, Step, Wanted, plan};
pub use scan::{DEPTH_MAX, Directory, Look};
pub use settle::{SETTLE, Settle, Settling};
pub use watch::{POLL, Watcher};

use super::settings::{Places, SettingsError, one_line};
use crate::base::{ComponentHash, Name};
use crate::runtime::spec::{SupervisorSettings, WorkerSettings};

/// What the directory says should run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredTree {
    /// The root is among them, unless the directory cannot be read.
    pub supervisors: BTreeMap<Name, SupervisorEntry>,
    pub workers: BTreeMap<Name, WorkerEntry>,
    /// Names of which the directory says nothing certain just now. Neither they nor what is below
    /// them is started, changed or removed.
    pub held: BTreeSet<Name>,
    /// In order of path; each path is named once or more.
    pub problems: Vec<Problem>,
    /// Where keys are written in the settings files that could be read.
    pub places: BTreeMap<PathBuf, Arc<Places>>,
    /// What those say.
    pub texts: BTreeMap<PathBuf, Arc<str>>,
    /// What the settings files looked like when they were read.
    pub settings_files: BTreeMap<PathBuf, Fingerprint>,
    /// Files that may be changed by other ways than their paths, by whose they are. Whether that is a danger depends
    /// on what workers may write, which nobody knows here.
    pub doubtful: BTreeMap<Name, Vec<(PathBuf, Doubt)>>,
}

/// How a file can be changed by another way than its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It has a second name somewhere (a hard link), or had one: what it holds may have been written there.
    SecondName,
    /// It is a symbolic link.
    Link,
}

impl DesiredTree {
    /// Whether `name` or a supervisor above it is held.
    pub fn is_held(&self, name: &Name) -> bool {
        let mut above = Some(name.clone());
        while let Some(name) = above {
            if self.held.contains(&name) {
                return true;
            }
            above = name.parent();
        }
        false
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorEntry {
    pub settings: Result<SupervisorSettings, NotRead>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerEntry {
    /// Of the component.
    pub path: PathBuf,
    pub file: Fingerprint,
    pub hash: ComponentHash,
    pub settings: Result<WorkerSettings, NotRead>,
}

/// Why settings are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// The file is changing; look again soon.
    Waiting,
    /// It is wrong, or cannot be carried out. Also in [`DesiredTree::problems`].
    Problem(Problem),
}

/// Something in the directory that cannot be taken, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub path: PathBuf,
    /// Line and column from 1, in a settings file.
    pub place: Option<(usize, usize)>,
    /// The worker or supervisor it is about, where that is known.
    pub name: Option<Name>,
    /// Reads on from the path: `is empty`.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
    /// It is taken all the same.
    pub is_warning: bool,
}

impl Problem {
    fn at(path: &Path, message: impl Into<String>) -> Problem {
        Problem {
            path: path.to_path_buf(),
            place: None,
            name: None,
            message: message.into(),
            help: String::new(),
            is_warning: false,
        }
    }

    fn unreadable(path: &Path, error: &io::Error) -> Problem {
        Problem::at(path, format!("cannot be read: {error}"))
    }

    /// A file system hangs.
    pub(in crate::control) fn late(path: &Path) -> Problem {
        Problem::at(path, "cannot be read: its file system does not answer")
            .help("look at the mount; it is tried again")
    }

    fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = help.into();
        self
    }

    fn about(mut self, name: &Name) -> Problem {
        self.name = Some(name.clone());
        self
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Problem {
        Problem {
            path: error.path,
            place: Some((error.line, error.column)),
            name: None,
            message: error.message,
            help: error.help,
            is_warning: false,
        }
    }
}

/// One line, control characters escaped: `workers/a.wasm: is empty; help`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.path.to_string_lossy()))?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}

#[cfg(test)]
mod tests;
