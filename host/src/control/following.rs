//! Where the directory of workers lies. It may be named by a symbolic link (`paguro up current`), which whoever brings out
//! a release moves to the next one: then the host goes on there, with its state.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::beside::SharedBeside;
use super::finding::Finding;
use super::grants::{self, Ground, Refused};
use super::host::{Host, HostError};
use super::settings::one_line;
use crate::base::{Name, bounds};
use crate::record::{Action, By, Change, Database, Event, NewLedgerEntry, TreeLock};

/// The directory of workers, by the path that it was named by, and where that leads.
pub(super) struct Place {
    named: PathBuf,
    leads_to: watch::Sender<PathBuf>,
    looking: SharedBeside,
    not_followed: Mutex<Option<Finding>>,
}

/// Why a path that leads elsewhere is not followed.
struct NotFollowed {
    message: String,
    help: String,
}

impl Place {
    pub fn new(named: &Path, leads_to: &Path) -> Place {
        Place {
            named: std::path::absolute(named).unwrap_or_else(|_| named.to_path_buf()),
            leads_to: watch::Sender::new(leads_to.to_path_buf()),
            looking: SharedBeside::default(),
            not_followed: Mutex::default(),
        }
    }

    /// The path that it was named by, absolute, with its links.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// Why it was not followed when somebody asked last.
    pub(super) fn not_followed(&self) -> Option<Finding> {
        self.not_followed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory, links resolved.
    pub fn directory(&self) -> PathBuf {
        self.leads_to.borrow().clone()
    }

    /// Told when it leads elsewhere.
    pub fn watch(&self) -> watch::Receiver<PathBuf> {
        self.leads_to.subscribe()
    }
}

impl Host {
    /// Looks at the directory now, whether or not anybody has told that it changed. Where the path that it was named by
    /// leads to another directory by now, the host goes on with that one: workers whose files are the same run on, the
    /// others are upgraded, added or removed as if the files had changed in place. The state stays where it is. Why a
    /// path is not followed is an event.
    pub async fn look_again(&self) {
        let mut finding = None;
        if let Err(NotFollowed { message, help }) = self.follow().await {
            let path = one_line(&self.place.named.to_string_lossy());
            finding = Some(Finding::refused(path.clone(), message.clone(), &help));
            self.services.recorder.emit(Event::DirectoryProblem { path, message, help });
        }
        *self.place.not_followed.lock().unwrap_or_else(PoisonError::into_inner) = finding;
        self.changes.nudge();
    }

    fn held_identity(&self) -> Option<(u64, u64)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().and_then(|(_, held)| held.identity())
    }

    async fn follow(&self) -> Result<(), NotFollowed> {
        let (named, state, from) = (self.place.named.clone(), self.state_path.clone(), self.directory());
        let (is_at, held) = (from.clone(), self.held_identity());
        let database = self.services.database.clone();
        let look = move || {
            let found = found(&named, &state, &is_at, held)?;
            if let Some((to, _)) = &found {
                trusted(&named, to, &state, &database)
                    .map_err(|Refused { message, help }| NotFollowed { message, help })?;
            }
            Ok(found)
        };
        let found = self.place.looking.run(bounds::LOOK_TIME, look).await;
        let late = || NotFollowed {
            message: "cannot be looked at: its file system does not answer".to_string(),
            help: "look at the mount, then ask again: `kill -HUP`".to_string(),
        };
        let Some((to, lock)) = found.ok_or_else(late)?? else { return Ok(()) };
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // None: the host has stopped.
            let Some((_, held)) = state.as_mut() else { return Ok(()) };
            if let Some(lock) = lock {
                *held = lock;
            }
        }
        let (from, to_shown) = (from.display().to_string(), to.display().to_string());
        let entry = Change::Ledger(NewLedgerEntry {
            at: self.services.clock.timestamp(),
            worker: Name::root(),
            action: Action::SettingsChanged,
            hash: None,
            by: By::Operator,
            detail: format!("the directory is {to_shown}: the link that names it was moved"),
        });
        if let Err(error) = self.services.database.commit(vec![entry]).await {
            let what = "write that the directory is another";
            self.services.recorder.emit(Event::DatabaseFailed { what, error: error.to_string() });
        }
        self.services.recorder.emit(Event::DirectoryMoved { from, to: to_shown });
        self.place.leads_to.send_replace(to);
        Ok(())
    }
}

/// The directory that is named, if it is not the one where the host is, with its lock. No lock: it is the one that is held,
/// by another path. Blocks on the file systems.
fn found(
    named: &Path,
    state: &Path,
    is_at: &Path,
    held: Option<(u64, u64)>,
) -> Result<Option<(PathBuf, Option<TreeLock>)>, NotFollowed> {
    let refused = |message: String| NotFollowed {
        message,
        help: format!("the host goes on with {}; put it right, then ask again: `kill -HUP`", is_at.display()),
    };
    let to = checked_directory(named).map_err(|error| refused(error.to_string()))?;
    if to == is_at {
        return Ok(None);
    }
    // It would be left behind by the next start.
    let state = state.canonicalize().unwrap_or_else(|_| state.to_path_buf());
    if state.starts_with(is_at) {
        let (state, to) = (state.display(), to.display());
        let help = format!("stop the host, move {state} to a place outside, and start it with `--state` there");
        let message = format!("leads to {to} by now and is not followed: the state lies where it led before");
        return Err(NotFollowed { message, help });
    }
    let is_held = std::fs::metadata(&to).is_ok_and(|found| held == Some((found.dev(), found.ino())));
    if is_held {
        return Ok(Some((to, None)));
    }
    let lock = TreeLock::take(&to).map_err(|error| refused(error.to_string()))?;
    Ok(Some((to, Some(lock))))
}

/// Whether no worker can have made a link on the path by which the directory is named. Blocks on the file systems.
fn trusted(named: &Path, tree: &Path, state: &Path, database: &Database) -> Result<(), Refused> {
    let given = database.granted(bounds::GRANTED_MAX + 1).map_err(|error| Refused {
        message: format!("cannot be judged: the database cannot be read: {error}"),
        help: "`paguro doctor` looks at the disk".to_string(),
    })?;
    let named = std::path::absolute(named).unwrap_or_else(|_| named.to_path_buf());
    let ground = Ground { tree: tree.to_path_buf(), named, state: state.to_path_buf() };
    match grants::link_of_a_guest(&ground, given)? {
        None => Ok(()),
        Some(link) => Err(Refused {
            message: format!("leads through {}, a symbolic link where a worker can write", link.display()),
            help: "name the directory by a path without that link".to_string(),
        }),
    }
}

/// The same, for [`bounds::LOOK_TIME`] at the most.
pub(super) async fn judged(named: &Path, tree: &Path, state: &Path, database: &Database) -> Result<(), Refused> {
    let (named, tree, state) = (named.to_path_buf(), tree.to_path_buf(), state.to_path_buf());
    let database = database.clone();
    let looking = SharedBeside::default();
    let judged = looking.run(bounds::LOOK_TIME, move || trusted(&named, &tree, &state, &database)).await;
    judged.unwrap_or_else(|| {
        Err(Refused {
            message: "cannot be judged: a file system does not answer".to_string(),
            help: "look at the mounts".to_string(),
        })
    })
}

/// A path that stays the same when a link above its last part is moved. One whose parent is not there yet is left as it is.
pub(super) fn steady(path: PathBuf) -> PathBuf {
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match (parent.and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path,
    }
}

/// A state in the directory that is not the one in use is taken for one by mistake.
pub(super) fn warn_of_a_second_state(directory: &Path, in_use: &Path) {
    let inside = directory.join(".paguro");
    let is_in_use = in_use.canonicalize().is_ok_and(|in_use| in_use == inside);
    if !is_in_use && inside.join("paguro.db").exists() {
        let (unused, used) = (inside.display(), in_use.display());
        tracing::warn!(target: "paguro", %unused, %used, "the directory has a state of its own, which is not used");
    }
}

/// The directory that a path names, links resolved.
pub(super) fn checked_directory(path: &Path) -> Result<PathBuf, HostError> {
    let unreadable = |source| HostError::Unreadable { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => HostError::NoDirectory(path.to_path_buf()),
        _ => unreadable(source),
    })?;
    if !metadata.is_dir() {
        return Err(HostError::NotADirectory(path.to_path_buf()));
    }
    std::fs::read_dir(path).map_err(unreadable)?;
    path.canonicalize().map_err(unreadable)
}
