//! The host's own work that may wait for a disk, or that takes long.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Threads for it. They never end: where the system has no thread to give, what is to be done waits for one of these.
const THREADS_MAX: usize = 32;
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// No task ever runs on it: it is there for its threads.
static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.thread_name("blocking").max_blocking_threads(THREADS_MAX).thread_keep_alive(FOR_EVER);
    let threads = builder.build().unwrap_or_else(|error| panic!("no runtime for work that blocks: {error}"));
    // The first is there before there are guests that could take the system's last.
    drop(threads.spawn_blocking(|| ()));
    threads
});

/// Does it on a thread of the host's own. Guests' files are on the runtime's threads for blocking work, which a file
/// system that does not answer can hold, all of them: what the host does must not wait for those.
pub fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    THREADS.spawn_blocking(work)
}
