//! How far the start of a host has come, for those who ask it meanwhile: its socket is there first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::watch;

use super::wire::StartingInfo;

#[derive(Debug)]
pub(super) struct Starting {
    /// Components that the directory holds.
    wanted: AtomicUsize,
    /// Those of them that were loaded, or refused.
    loaded: AtomicUsize,
    /// Read by each request.
    is_over: AtomicBool,
    /// All that was loaded is in the tree, which starts.
    is_open: AtomicBool,
    is_abandoned: AtomicBool,
    over: watch::Sender<()>,
}

impl Starting {
    pub fn new() -> Starting {
        let (wanted, loaded, is_over, is_open, is_abandoned) = Default::default();
        Starting { wanted, loaded, is_over, is_open, is_abandoned, over: watch::Sender::new(()) }
    }

    pub fn progress(&self, wanted: usize, loaded: usize) {
        self.wanted.store(wanted, Relaxed);
        self.loaded.store(loaded, Relaxed);
    }

    /// The host is stopped before it has started: who waits is told.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, SeqCst);
        self.end();
    }

    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(SeqCst)
    }

    /// What was loaded can be reached by name, and starts.
    pub fn open(&self) {
        self.is_open.store(true, SeqCst);
        self.over.send_replace(());
    }

    /// All was started, or tried; or the start failed.
    pub fn end(&self) {
        self.is_over.store(true, SeqCst);
        self.over.send_replace(());
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Whether it is over within this time, or `is_enough` of one that is [`open`](Starting::open).
    pub async fn is_over_within(&self, time: Duration, is_enough: impl Fn() -> bool) -> bool {
        let mut over = self.over.subscribe();
        let is_over = || self.is_over() || self.is_open.load(SeqCst) && is_enough();
        tokio::time::timeout(time, over.wait_for(|()| is_over())).await.is_ok_and(|waited| waited.is_ok())
    }

    /// `None`: it is over.
    pub fn info(&self) -> Option<StartingInfo> {
        let info = StartingInfo { loaded: self.loaded.load(Relaxed), components: self.wanted.load(Relaxed) };
        (!self.is_over()).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_the_start_is_over_and_not_before() {
        let starting = std::sync::Arc::new(Starting::new());
        starting.progress(40, 12);
        assert_eq!(starting.info(), Some(StartingInfo { loaded: 12, components: 40 }));
        assert!(!starting.is_over_within(Duration::ZERO, || true).await);
        let waiting = tokio::spawn({
            let starting = starting.clone();
            async move { starting.is_over_within(Duration::from_secs(60), || false).await }
        });
        tokio::task::yield_now().await;
        starting.open();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "what it is for is not there");
        assert!(starting.is_over_within(Duration::ZERO, || true).await);
        starting.end();
        assert!(waiting.await.unwrap());
        assert!(starting.is_over_within(Duration::ZERO, || false).await && starting.info().is_none());
    }
}
