//! When to look at the directory again.
//!
//! The kernel's notices are a hint to look now, never the truth: they can be lost, and network file
//! systems have none. What is true is what [`super::Directory::look`] finds, and it is asked every
//! [`POLL`] whatever happens.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use super::Problem;
use crate::control::beside::Beside;

/// How often the directory is looked at without a notice. A look at a thousand files takes a few
/// milliseconds.
pub const POLL: Duration = Duration::from_secs(2);

/// How long notices are gathered into one wake-up: a copy of a file is dozens of them.
const GATHER: Duration = Duration::from_millis(20);

/// Wake-ups that wait. One is enough: it says "look", not at what.
const WAKE_UPS_MAX: usize = 1;

/// Watches one directory and all below it. Hidden entries (the host's own database among them) do
/// not wake it.
pub struct Watcher {
    root: PathBuf,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
    poll: Interval,
    /// A wake-up came and was not returned yet: notices are gathered until this ends.
    due: Option<Pin<Box<Sleep>>>,
    watch: Watch,
    beside: Beside,
    problem: Option<Problem>,
}

/// ```text
///   none ---> starting ---> live <---> checked at each poll ---> none (the root is another directory, or gone)
///     ^          | failed
///     +----------+ tried again at the next poll
/// ```
///
/// Adding watches walks the tree, and a look at the root can hang as any look at a file system: both are done on a thread
/// of their own.
enum Watch {
    None,
    Starting(oneshot::Receiver<Result<Live, Problem>>),
    Live(Live),
    Checked(Live, oneshot::Receiver<Option<Identity>>),
}

struct Live {
    root: Identity,
    /// Ends the watch when dropped.
    _watcher: RecommendedWatcher,
}

/// Device and inode.
type Identity = (u64, u64);

impl Watcher {
    /// Never fails: where watching does not work, polling does, and [`Watcher::problem`] says so.
    /// Must be called in a tokio runtime with time.
    pub fn new(root: &Path) -> Watcher {
        Watcher::with_poll(root, POLL)
    }

    fn with_poll(root: &Path, every: Duration) -> Watcher {
        let (wake, woken) = mpsc::channel(WAKE_UPS_MAX);
        let mut poll = tokio::time::interval(every);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watcher {
            root: root.to_path_buf(),
            wake,
            woken,
            poll,
            due: None,
            watch: Watch::None,
            beside: Beside::default(),
            problem: None,
        }
    }

    /// Returns when it is time to look: at once the first time, after a change, and at least every
    /// [`POLL`]. Dropping the future loses no wake-up.
    pub async fn changed(&mut self) {
        // Kept over a drop of this future: whoever has much else to do comes to it all the same.
        let due = || Some(Box::pin(tokio::time::sleep(GATHER)));
        while self.due.is_none() {
            tokio::select! {
                _ = self.poll.tick() => {
                    self.check_root();
                    self.due = due();
                }
                // The other end is held by `self`: there is always a sender.
                _ = self.woken.recv() => self.due = due(),
                came = came(&mut self.watch) => match came {
                    Came::Started(started) => {
                        (self.watch, self.problem) = match started {
                            Ok(live) => (Watch::Live(live), None),
                            Err(problem) => (Watch::None, Some(problem)),
                        };
                        // What changed before the watch began was not noticed.
                        self.due = due();
                    }
                    Came::Root(root) => self.judge_root(root),
                },
            }
        }
        if let Some(due) = &mut self.due {
            due.await;
        }
        while self.woken.try_recv().is_ok() {}
        self.due = None;
    }

    /// Why changes are only found by polling, if that is so.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    fn check_root(&mut self) {
        self.watch = match std::mem::replace(&mut self.watch, Watch::None) {
            Watch::None => self.start(),
            Watch::Live(live) => {
                let root = self.root.clone();
                match self.beside.begin(move || identity(&root)) {
                    Some(checked) => Watch::Checked(live, checked),
                    None => Watch::Live(live),
                }
            }
            // One that hangs is not asked again: the look says that the file system does.
            under_way @ (Watch::Starting(_) | Watch::Checked(..)) => under_way,
        };
    }

    /// A directory that was removed and made anew has the old path and none of the old watches.
    fn judge_root(&mut self, root: Option<Identity>) {
        self.watch = match (std::mem::replace(&mut self.watch, Watch::None), root) {
            (Watch::Checked(live, _), Some(root)) if live.root == root => Watch::Live(live),
            (_, Some(_)) => self.start(),
            // That the root is missing is the scan's to report.
            (_, None) => Watch::None,
        };
    }

    fn start(&mut self) -> Watch {
        let (root, wake) = (self.root.clone(), self.wake.clone());
        self.beside.begin(move || start(&root, wake)).map_or(Watch::None, Watch::Starting)
    }
}

/// What came of a thread.
enum Came {
    Started(Result<Live, Problem>),
    Root(Option<Identity>),
}

/// Waits for ever where no thread is at work.
async fn came(watch: &mut Watch) -> Came {
    match watch {
        Watch::Starting(started) => Came::Started(started.await.unwrap_or_else(|_| {
            Err(Problem::at(Path::new("."), "cannot be watched: the thread that should do so ended"))
        })),
        Watch::Checked(_, root) => Came::Root(root.await.unwrap_or_default()),
        Watch::None | Watch::Live(_) => std::future::pending().await,
    }
}

fn start(root: &Path, wake: mpsc::Sender<()>) -> Result<Live, Problem> {
    let cannot = |error: notify::Error| {
        Problem::at(root, format!("cannot be watched: {error}"))
            .help(format!("changes are found every {} seconds instead", POLL.as_secs()))
    };
    let before = identity(root).ok_or_else(|| Problem::at(root, "cannot be watched: it is not there"))?;
    let of = root.to_path_buf();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| matters(&of, &event)) {
            // Full: a wake-up waits already, and it comes after this change.
            let _ = wake.try_send(());
        }
    })
    .map_err(cannot)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(cannot)?;
    Ok(Live { root: before, _watcher: watcher })
}

/// Not: reading (our own looks would wake us for ever), and hidden entries (the host's database is
/// written all the time).
fn matters(root: &Path, event: &Event) -> bool {
    let reading = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    !reading && (event.paths.is_empty() || event.paths.iter().any(|path| !is_hidden(root, path)))
}

fn is_hidden(root: &Path, path: &Path) -> bool {
    let starts_with_dot = |part: &OsStr| part.as_bytes().starts_with(b".");
    path.strip_prefix(root).is_ok_and(|below| {
        below.components().any(|part| matches!(part, Component::Normal(part) if starts_with_dot(part)))
    })
}

fn identity(root: &Path) -> Option<Identity> {
    std::fs::metadata(root).ok().filter(|root| root.is_dir()).map(|root| (root.dev(), root.ino()))
}

#[cfg(test)]
mod tests;
