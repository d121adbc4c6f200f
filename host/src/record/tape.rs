//! A tape: the last items of a stream, bounded by number and by bytes, read by place.
//!
//! Items are shared: a reader gets a page of references under the lock and reads them outside of it. A follower
//! holds its place on the tape and at most one page, however far behind it is. What it has not read when it leaves
//! the tape is missed, and the follower is told how much that was.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::base::{Timestamp, bounds};

/// An item with its place in the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<T> {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub item: T,
}

/// What a tape keeps.
pub trait OnTape {
    /// Bytes that it keeps beyond its own size.
    fn heap_bytes(&self) -> usize;
}

/// A bounded tape of items that can be read from any place that is still on it, and followed.
pub struct Tape<T> {
    kept: Mutex<Kept<T>>,
    /// Followers that may wait for the next item. Without one, a push touches nothing but `kept`.
    followers: AtomicUsize,
    pushed: Notify,
}

struct Kept<T> {
    /// Without gaps: the last one has the number before `next`.
    items: VecDeque<Arc<Recorded<T>>>,
    next: u64,
    items_max: usize,
    bytes: usize,
    bytes_max: usize,
}

/// Some items of a tape, oldest first.
#[derive(Debug, PartialEq)]
pub struct TapePage<T> {
    pub items: Vec<Arc<Recorded<T>>>,
    /// Items before them that are no longer kept.
    pub missed: u64,
}

impl<T: OnTape> Tape<T> {
    pub(super) fn new(items_max: usize, bytes_max: usize) -> Tape<T> {
        let kept = Kept { items: VecDeque::new(), next: 1, items_max, bytes: 0, bytes_max };
        Tape { kept: Mutex::new(kept), followers: AtomicUsize::new(0), pushed: Notify::new() }
    }

    pub(super) fn push(&self, at: Timestamp, item: T) {
        let bytes = size_of_item(&item);
        let mut kept = self.kept();
        let recorded = Arc::new(Recorded { seq: kept.next, at, item });
        kept.next += 1;
        // The newest is kept whatever its size is: each item has a bound of its own.
        while !kept.items.is_empty() && (kept.items.len() >= kept.items_max || kept.bytes + bytes > kept.bytes_max) {
            let oldest = kept.items.pop_front();
            kept.bytes -= oldest.map_or(0, |oldest| size_of_item(&oldest.item));
        }
        kept.bytes += bytes;
        kept.items.push_back(recorded);
        drop(kept);
        // A follower counts itself before it looks. Its look came before this push took the lock: then the count
        // is seen here. Or it came after: then it found the item.
        if self.followers.load(Ordering::Relaxed) > 0 {
            self.pushed.notify_waiters();
        }
    }

    /// Bytes of all items.
    pub fn bytes(&self) -> usize {
        self.kept().bytes
    }
}

impl<T> Tape<T> {
    /// At most `limit` items after the one with number `seq`.
    pub fn page(&self, seq: u64, limit: usize) -> TapePage<T> {
        let kept = self.kept();
        let first = kept.next - kept.items.len() as u64;
        let missed = first.saturating_sub(seq.saturating_add(1));
        let skipped = usize::try_from(seq.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let items = kept.items.iter().skip(skipped).take(limit).cloned().collect();
        TapePage { items, missed }
    }

    /// Reads the items after the one with number `seq`, and then those that come: each once.
    pub fn follow(self: &Arc<Self>, seq: u64) -> Follower<T> {
        self.followers.fetch_add(1, Ordering::Relaxed);
        // A number from an earlier life of the host: everything of this one is new to its owner.
        let last = if seq >= self.kept().next { 0 } else { seq };
        Follower { tape: self.clone(), last, page: VecDeque::new() }
    }

    /// From the next item on.
    pub fn follow_new(self: &Arc<Self>) -> Follower<T> {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower { tape: self.clone(), last: self.kept().next.saturating_sub(1), page: VecDeque::new() }
    }

    /// All items after `seq` that are still kept, each a copy: for tests, and for who needs the whole tape.
    pub fn after(&self, seq: u64) -> Vec<Recorded<T>>
    where
        T: Clone,
    {
        let page = self.page(seq, usize::MAX);
        page.items.into_iter().map(|recorded| Recorded::clone(&recorded)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of_item<T: OnTape>(item: &T) -> usize {
    size_of::<Recorded<T>>() + item.heap_bytes()
}

/// A reader of a tape that waits for what comes.
pub struct Follower<T> {
    tape: Arc<Tape<T>>,
    /// The number of the last item that was taken from the tape, or was missed.
    last: u64,
    page: VecDeque<Arc<Recorded<T>>>,
}

/// So many items had left the tape before the follower read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed(pub u64);

impl<T> Follower<T> {
    /// The next item, or how many were missed. `None`: there is none yet.
    pub fn try_next(&mut self) -> Option<Result<Arc<Recorded<T>>, Missed>> {
        if self.page.is_empty() {
            let TapePage { items, missed } = self.tape.page(self.last, bounds::FOLLOWER_ITEMS_MAX);
            self.page = items.into();
            if missed > 0 {
                self.last += missed;
                return Some(Err(Missed(missed)));
            }
        }
        let next = self.page.pop_front()?;
        self.last = next.seq;
        Some(Ok(next))
    }

    /// Waits for the next item. Dropped half way, nothing is lost.
    pub async fn next(&mut self) -> Result<Arc<Recorded<T>>, Missed> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            let tape = self.tape.clone();
            let mut pushed = std::pin::pin!(tape.pushed.notified());
            // It waits from here on: what is pushed after this look wakes it.
            pushed.as_mut().enable();
            if let Some(next) = self.try_next() {
                return next;
            }
            pushed.await;
        }
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        self.tape.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl OnTape for String {
        fn heap_bytes(&self) -> usize {
            self.capacity()
        }
    }

    impl OnTape for u64 {
        fn heap_bytes(&self) -> usize {
            0
        }
    }

    fn tape(items_max: usize, bytes_max: usize, items: std::ops::RangeInclusive<u64>) -> Arc<Tape<u64>> {
        let tape = Arc::new(Tape::new(items_max, bytes_max));
        items.for_each(|n| tape.push(Timestamp(n), n));
        tape
    }

    fn seqs<T>(page: TapePage<T>) -> Vec<u64> {
        page.items.iter().map(|recorded| recorded.seq).collect()
    }

    #[test]
    fn the_tape_is_bounded_keeps_the_newest_and_tells_what_is_missing() {
        let tape = tape(3, usize::MAX, 1..=5);
        assert_eq!(tape.page(0, 10).missed, 2);
        assert_eq!(seqs(tape.page(0, 10)), [3, 4, 5]);
        assert_eq!((tape.page(2, 10).missed, seqs(tape.page(3, 1))), (0, vec![4]));
        assert_eq!((seqs(tape.page(5, 10)), seqs(tape.page(u64::MAX, 10))), (vec![], vec![]));
    }

    #[test]
    fn bytes_are_bounded_as_items_are() {
        let tape = Tape::new(1_000, 64 << 10);
        for _ in 0..200 {
            tape.push(Timestamp(0), "x".repeat(4096));
            assert!(tape.bytes() <= 64 << 10);
        }
        let kept = tape.page(0, 1_000);
        assert_eq!((kept.items.len() as u64 + kept.missed, kept.items.len()), (200, 15));
        // What is larger than the tape is kept alone.
        tape.push(Timestamp(0), "x".repeat(128 << 10));
        assert_eq!(tape.page(0, 1_000).items.len(), 1);
        tape.push(Timestamp(0), "x".to_string());
        assert!(tape.bytes() < 1 << 10);
    }

    #[test]
    fn forty_followers_that_do_not_read_keep_nothing_alive() {
        let tape = tape(1_000, usize::MAX, 1..=1_000);
        let mut followers: Vec<_> = (0..40).map(|_| tape.follow(0)).collect();
        for follower in &mut followers {
            assert_eq!(follower.try_next().map(|next| next.map(|recorded| recorded.seq)), Some(Ok(1)));
        }
        let held: usize = followers.iter().map(|follower| follower.page.len()).sum();
        assert!(held < 40 * bounds::FOLLOWER_ITEMS_MAX, "a page each, and no copies: {held}");
        assert_eq!(Arc::strong_count(&tape.page(1, 1).items[0]), 42, "the tape's, the followers', and this one");
    }

    #[test]
    fn a_follower_that_lags_is_told_how_much_it_missed_and_goes_on() {
        let tape = tape(10, usize::MAX, 1..=2);
        let mut follower = tape.follow(0);
        assert!(matches!(follower.try_next(), Some(Ok(first)) if first.seq == 1));
        (3..=30).for_each(|n| tape.push(Timestamp(n), n));
        let mut told = Vec::new();
        while let Some(next) = follower.try_next() {
            told.push(next.map(|recorded| recorded.seq));
        }
        let mut wanted = vec![Ok(2), Err(Missed(18))];
        wanted.extend((21..=30).map(Ok));
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_number_of_an_earlier_run_begins_from_the_start() {
        let tape = tape(10, usize::MAX, 1..=2);
        let first = |seq| tape.follow(seq).try_next().map(|next| next.map(|recorded| recorded.seq));
        assert_eq!((first(2), first(3), first(u64::MAX)), (None, Some(Ok(1)), Some(Ok(1))));
    }

    #[tokio::test]
    async fn a_follower_that_waits_is_woken() {
        let tape = tape(10, usize::MAX, 1..=1);
        let mut follower = tape.follow(1);
        let pushing = tape.clone();
        let waiting = tokio::spawn(async move { follower.next().await.map(|recorded| recorded.seq) });
        tokio::task::yield_now().await;
        pushing.push(Timestamp(2), 2);
        assert_eq!(waiting.await.unwrap(), Ok(2));
        assert_eq!(tape.followers.load(Ordering::Relaxed), 0);
    }
}
