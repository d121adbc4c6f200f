//! The host's own work that may wait for a disk, or that takes long.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Threads for it. They end when they are idle.
const THREADS_MAX: usize = 64;

/// No task ever runs on it: it is there for its threads.
static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.thread_name("blocking").max_blocking_threads(THREADS_MAX);
    // Fails where no thread can be had, and nothing has started yet.
    builder.build().unwrap_or_else(|error| panic!("no runtime for work that blocks: {error}"))
});

/// Does it on a thread of the host's own. Guests' files are on the runtime's threads for blocking work, which a file
/// system that does not answer can hold, all of them: what the host does must not wait for those.
pub fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    THREADS.spawn_blocking(work)
}
