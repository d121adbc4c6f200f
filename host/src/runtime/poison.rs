//! Which messages are poison: those whose content ended their worker [`bounds::POISON_KILLS`] times.
//! Pure.
//!
//! A message that ends its worker is never retried, so what comes again is its content, in another
//! message: a client that asks again, a job that is sent again. What is remembered is the hash of it.

use std::collections::VecDeque;

use crate::base::bounds;
use crate::record::LetterSort;

/// What a message is, whoever sent it and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content([u8; 32]);

impl Content {
    /// `None` for news of another worker, which is never the same again.
    pub fn of(sort: LetterSort, body: &[u8]) -> Option<Content> {
        let handled_as = match sort {
            // A client may send the same bytes again either way.
            LetterSort::Call | LetterSort::Cast => "message",
            // Other code of the guest handles it: the same bytes are another content.
            LetterSort::Timer => "timer",
            LetterSort::Down => return None,
        };
        let mut hash = blake3::Hasher::new();
        hash.update(handled_as.as_bytes()).update(&[0]).update(body);
        Some(Content(*hash.finalize().as_bytes()))
    }
}

/// What one worker remembers of the messages that ended its revision. Most have nothing to remember.
#[derive(Debug, Default)]
pub struct Poison(Option<Box<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// The one that was seen longest ago first.
    contents: VecDeque<Remembered>,
    quarantined: usize,
}

#[derive(Debug)]
struct Remembered {
    content: Content,
    kills: u32,
}

impl Remembered {
    fn is_poison(&self) -> bool {
        self.kills >= bounds::POISON_KILLS
    }
}

impl Poison {
    /// Whether there is anything to look for: without it no message needs to be hashed.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|memory| memory.quarantined == 0)
    }

    /// A message of this content ended the worker. How often that was.
    pub fn killed(&mut self, content: Content) -> u32 {
        self.0.get_or_insert_default().killed(content)
    }

    pub fn is_poison(&self, content: &Content) -> bool {
        self.0.as_ref().is_some_and(|memory| memory.is_poison(content))
    }

    /// As [`Poison::is_poison`]; one that is has been seen now.
    pub fn meets(&mut self, content: &Content) -> bool {
        let Some(memory) = &mut self.0 else { return false };
        let is_poison = memory.is_poison(content);
        if is_poison && let Some(remembered) = memory.take(content) {
            memory.put(remembered);
        }
        is_poison
    }
}

impl Memory {
    fn killed(&mut self, content: Content) -> u32 {
        let kills = self.take(&content).map_or(1, |before| before.kills.saturating_add(1));
        self.put(Remembered { content, kills });
        if self.contents.len() > bounds::POISON_CONTENTS_MAX {
            let oldest = self.contents.pop_front();
            self.quarantined -= usize::from(oldest.is_some_and(|oldest| oldest.is_poison()));
        }
        kills
    }

    fn is_poison(&self, content: &Content) -> bool {
        self.contents.iter().any(|remembered| remembered.content == *content && remembered.is_poison())
    }

    fn take(&mut self, content: &Content) -> Option<Remembered> {
        let at = self.contents.iter().position(|remembered| remembered.content == *content)?;
        let taken = self.contents.remove(at)?;
        self.quarantined -= usize::from(taken.is_poison());
        Some(taken)
    }

    fn put(&mut self, remembered: Remembered) {
        self.quarantined += usize::from(remembered.is_poison());
        self.contents.push_back(remembered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(n: usize) -> Content {
        Content::of(LetterSort::Call, n.to_string().as_bytes()).unwrap()
    }

    fn quarantine(poison: &mut Poison, n: usize) {
        for kills in 1..=bounds::POISON_KILLS {
            assert_eq!(poison.killed(content(n)), kills);
        }
    }

    #[test]
    fn the_third_kill_makes_it_poison() {
        let mut poison = Poison::default();
        for kills in 1..bounds::POISON_KILLS {
            assert_eq!(poison.killed(content(1)), kills);
            assert!(poison.is_empty() && !poison.meets(&content(1)));
        }
        assert_eq!(poison.killed(content(1)), bounds::POISON_KILLS);
        assert!(!poison.is_empty() && poison.meets(&content(1)) && !poison.meets(&content(2)));
    }

    #[test]
    fn kills_by_others_in_between_do_not_matter() {
        let mut poison = Poison::default();
        for _ in 0..bounds::POISON_KILLS {
            poison.killed(content(1));
            poison.killed(content(2));
        }
        assert!(poison.is_poison(&content(1)) && poison.is_poison(&content(2)));
    }

    #[test]
    fn a_call_and_a_cast_of_the_same_bytes_are_alike_and_a_timer_is_not() {
        let of = |sort| Content::of(sort, b"x");
        assert_eq!(of(LetterSort::Call), of(LetterSort::Cast));
        assert_ne!(of(LetterSort::Timer), of(LetterSort::Call));
        assert_eq!(of(LetterSort::Down), None);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_what_was_seen_longest_ago() {
        let mut poison = Poison::default();
        quarantine(&mut poison, 0);
        quarantine(&mut poison, 1);
        for n in 2..bounds::POISON_CONTENTS_MAX {
            poison.killed(content(n));
        }
        assert!(poison.meets(&content(0)), "it is seen again");
        poison.killed(content(1_000));
        assert_eq!(poison.0.as_ref().unwrap().contents.len(), bounds::POISON_CONTENTS_MAX);
        assert!(poison.is_poison(&content(0)) && !poison.is_poison(&content(1)));
        for n in 2_000..2_000 + bounds::POISON_CONTENTS_MAX {
            poison.killed(content(n));
        }
        assert!(poison.is_empty());
        assert_eq!(poison.killed(content(0)), 1, "it begins anew");
    }
}
