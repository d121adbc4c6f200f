//! A queue that hardly ever holds anything.

use std::collections::VecDeque;

/// A queue that takes one word while it is empty, for what each of a million workers has and hardly any uses.
#[derive(Debug)]
pub struct RareQueue<T>(
    #[allow(clippy::box_collection, reason = "one word where a queue has four")] Option<Box<VecDeque<T>>>,
);

impl<T> RareQueue<T> {
    pub const fn new() -> RareQueue<T> {
        RareQueue(None)
    }

    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.is_empty())
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub fn push_front(&mut self, item: T) {
        self.0.get_or_insert_default().push_front(item);
    }

    /// What came first. The room that it took stays until [`RareQueue::take`].
    pub fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    pub fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        self.0.get_or_insert_default().extend(items);
    }

    /// All of it, in order; nothing is left.
    pub fn take(&mut self) -> VecDeque<T> {
        self.0.take().map_or_else(VecDeque::new, |queue| *queue)
    }
}

impl<T> Default for RareQueue<T> {
    fn default() -> RareQueue<T> {
        RareQueue::new()
    }
}

impl<T> From<VecDeque<T>> for RareQueue<T> {
    fn from(items: VecDeque<T>) -> RareQueue<T> {
        RareQueue((!items.is_empty()).then(|| Box::new(items)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue_and_one_word() {
        let mut queue = RareQueue::new();
        assert!(queue.is_empty() && queue.pop_front().is_none());
        queue.push_back(2);
        queue.push_front(1);
        queue.extend([3, 4]);
        assert_eq!((queue.len(), queue.pop_front()), (4, Some(1)));
        assert_eq!(queue.take(), [2, 3, 4]);
        assert!(queue.is_empty() && RareQueue::from(queue.take()).is_empty());
        assert_eq!(size_of_val(&queue), size_of::<usize>());
    }
}
