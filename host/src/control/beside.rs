//! Work on file systems, on threads of its own. A file system can hang (a server that is gone, a broken disk), and
//! nothing can call a thread back from there: so it is never one of the runtime's, which a host that stops waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

/// One kind of work that is done once at a time: while a thread hangs in it, no second one is sent after it.
#[derive(Default)]
pub(super) struct Beside {
    busy: Weak<()>,
}

impl Beside {
    /// Begins, unless it is still being done. `None` also where the system gives no thread. An answer that does not
    /// come means that the work panicked.
    pub fn begin<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<oneshot::Receiver<T>> {
        if self.is_busy() {
            return None;
        }
        let busy = Arc::new(());
        self.busy = Arc::downgrade(&busy);
        let (answer, answered) = oneshot::channel();
        let working = move || {
            let done = work();
            drop(busy);
            // An error means that nobody waits any more.
            let _ = answer.send(done);
        };
        std::thread::Builder::new().name("paguro-files".to_string()).spawn(working).ok()?;
        Some(answered)
    }

    pub fn is_busy(&self) -> bool {
        self.busy.strong_count() > 0
    }

    /// Waits for `time` at most. `None`: it is not done by then, or could not begin.
    pub async fn run<T: Send + 'static>(
        &mut self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let answered = self.begin(work)?;
        tokio::time::timeout(time, answered).await.ok()?.ok()
    }
}

/// One that several tasks share.
#[derive(Clone, Default)]
pub(super) struct SharedBeside(Arc<Mutex<Beside>>);

impl SharedBeside {
    pub fn is_busy(&self) -> bool {
        self.lock().is_busy()
    }

    /// As [`Beside::run`], but waits for another to be done first, within the same time.
    pub async fn run<T: Send + 'static>(&self, time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let running = async {
            while self.is_busy() {
                tokio::time::sleep(BUSY_AGAIN).await;
            }
            let answered = self.lock().begin(work)?;
            answered.await.ok()
        };
        tokio::time::timeout(time, running).await.ok()?
    }

    /// As [`Beside::run`], for a thread that may block.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        // What it answers to is this call alone.
        let _begun = self.lock().begin(move || drop(answer.send(work())))?;
        answered.recv_timeout(time).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Beside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two looks at work of another task that is not done.
const BUSY_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_is_left_and_not_begun_twice() {
        let mut beside = Beside::default();
        assert_eq!(beside.run(Duration::from_secs(20), || 1).await, Some(1));
        let (free, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        assert_eq!(beside.run(Duration::from_millis(1), move || hangs.recv().is_ok()).await, None);
        assert!(beside.is_busy());
        assert_eq!(beside.run(Duration::from_secs(20), || 2).await, None, "it is still being done");
        drop(free);
        while beside.is_busy() {
            tokio::task::yield_now().await;
        }
        assert_eq!(beside.run(Duration::from_secs(20), || 3).await, Some(3));
    }

    #[tokio::test]
    async fn what_hangs_for_one_task_is_not_begun_by_another() {
        let shared = SharedBeside::default();
        let (free, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        let (again, short) = (shared.clone(), Duration::from_millis(1));
        assert_eq!(shared.run_blocking(short, move || hangs.recv().is_ok()), None);
        assert_eq!(again.run(short, || -> u8 { unreachable!("it hangs still") }).await, None);
        assert_eq!(again.run_blocking(short, || -> u8 { unreachable!("it hangs still") }), None);
        let waits = tokio::spawn(async move { again.run(Duration::from_secs(20), || 1).await });
        drop(free);
        assert_eq!(waits.await.unwrap(), Some(1), "it had its turn");
    }
}
