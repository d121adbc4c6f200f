//! Keys that are to be looked at, and when. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::base::{Name, Tick};

/// What waits to be woken is looked at after this all the same: no single event is relied on.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Between two tries of what another try may help: from the first to the longest. Each try is a line of the key's history,
/// which has a bound.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub struct Backlog {
    keys: HashMap<Name, Entry>,
    ready: VecDeque<Name>,
    /// When those that are not ready are looked at.
    later: BTreeSet<(Tick, Name)>,
    /// Those of `later` that are looked at sooner, when this has changed.
    waiting: HashMap<Name, WaitsFor>,
    /// How often something passing was in the way, of those where it was since the goal or the key changed.
    tried: HashMap<Name, u32>,
    /// Changes that have ended.
    changes: u64,
}

/// What may change about a key that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// It starts, or stops.
    Itself,
    /// A change of it ends.
    Change,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// Its upgrade may be the first thing that it does: nothing of its own could be at fault.
    is_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Later(Tick),
    /// Somebody looks at it. `added`: it is to be looked at once more; `woken`: something about it has changed meanwhile.
    /// `changes`: how many had ended when it was taken.
    InHand {
        added: bool,
        woken: bool,
        changes: u64,
    },
}

impl Backlog {
    /// It is looked at as soon as possible.
    pub fn add(&mut self, key: &Name) {
        match self.keys.get_mut(key) {
            Some(Entry { place: Place::InHand { added, .. }, .. }) => *added = true,
            Some(_) => self.make_ready(key),
            None => {
                self.keys.insert(key.clone(), Entry { place: Place::Ready, is_new: false });
                self.ready.push_back(key.clone());
            }
        }
    }

    /// Something passing was in its way: it is tried after a pause.
    pub fn add_later(&mut self, key: &Name, now: Tick) {
        if let Some(Entry { place: Place::InHand { added, .. }, .. }) = self.keys.get_mut(key) {
            *added = true;
        } else if !self.keys.contains_key(key) {
            self.keys.insert(key.clone(), Entry { place: Place::Ready, is_new: false });
            let at = now.after(self.pause(key));
            self.put_off(key, at);
        }
    }

    /// Nothing is in its way any more, or it is gone.
    pub fn succeeded(&mut self, key: &Name) {
        self.tried.remove(key);
    }

    /// There is another goal: what was in the way says nothing of it.
    pub fn begin_anew(&mut self) {
        self.tried.clear();
    }

    /// It is about to start, and is looked at then.
    pub fn expect(&mut self, key: &Name, is_new: bool, now: Tick) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.is_new &= is_new;
            return self.add(key);
        }
        let at = now.after(WAIT_MAX);
        self.keys.insert(key.clone(), Entry { place: Place::Later(at), is_new });
        self.later.insert((at, key.clone()));
        self.waiting.insert(key.clone(), WaitsFor::Itself);
    }

    /// Something about it has changed.
    pub fn wake(&mut self, key: &Name) {
        match self.keys.get_mut(key) {
            Some(Entry { place: Place::InHand { woken, .. }, .. }) => *woken = true,
            _ if self.waiting.contains_key(key) => self.make_ready(key),
            _ => {}
        }
    }

    /// Something has changed that may be about any of them.
    pub fn wake_all(&mut self) {
        for (key, _) in std::mem::take(&mut self.waiting) {
            self.make_ready(&key);
        }
        // Whoever looks at one may have looked before that.
        for entry in self.keys.values_mut() {
            if let Place::InHand { woken, .. } = &mut entry.place {
                *woken = true;
            }
        }
    }

    /// Some change of a worker has ended.
    pub fn wake_changes(&mut self) {
        let woken: Vec<Name> =
            self.waiting.extract_if(|_, waits_for| *waits_for == WaitsFor::Change).map(|(key, _)| key).collect();
        woken.iter().for_each(|key| self.make_ready(key));
        self.changes += 1;
    }

    /// Takes the next key that is due, and tells whether it is new. The caller reports with `done`, `wait` or `retry`.
    pub fn next(&mut self, now: Tick) -> Option<(Name, bool)> {
        while let Some((_, key)) = self.later.first().filter(|(at, _)| *at <= now).cloned() {
            self.make_ready(&key);
        }
        let key = self.ready.pop_front()?;
        let entry = self.keys.get_mut(&key)?;
        entry.place = Place::InHand { added: false, woken: false, changes: self.changes };
        Some((key, entry.is_new))
    }

    /// It was looked at, and needs no more.
    pub fn done(&mut self, key: &Name) {
        if !self.goes_again(key, true) {
            self.keys.remove(key);
        }
    }

    /// It is looked at when it is woken.
    pub fn wait(&mut self, key: &Name, waits_for: WaitsFor, now: Tick) {
        if waits_for == WaitsFor::Change {
            self.is_old(key);
            // It may have ended while it was looked at.
            let is_late =
                |entry: &Entry| matches!(entry.place, Place::InHand { changes, .. } if changes < self.changes);
            if self.keys.get(key).is_some_and(is_late) {
                self.wake(key);
            }
        }
        if !self.goes_again(key, true) {
            self.put_off(key, now.after(WAIT_MAX));
            self.waiting.insert(key.clone(), waits_for);
        }
    }

    /// It is tried again, after a pause that doubles. Meanwhile it handles messages: it is not new any more.
    pub fn retry(&mut self, key: &Name, now: Tick) {
        self.is_old(key);
        let pause = self.pause(key);
        // What changed is what the try itself has caused, as a rule: only who asks for it cuts the pause short.
        if !self.goes_again(key, false) {
            self.put_off(key, now.after(pause));
        }
    }

    /// Its first start failed: it is about to leave, and new no more.
    pub fn leaves(&mut self, key: &Name, now: Tick) {
        self.is_old(key);
        self.make_ready(key);
        if self.keys.get(key).is_some_and(|entry| entry.place == Place::Ready) {
            self.ready.retain(|ready| ready != key);
            self.put_off(key, now.after(PAUSE));
        }
    }

    fn pause(&mut self, key: &Name) -> Duration {
        let tried = self.tried.entry(key.clone()).or_default();
        *tried += 1;
        PAUSE.saturating_mul(1 << (*tried - 1).min(16)).min(PAUSE_MAX)
    }

    fn is_old(&mut self, key: &Name) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.is_new = false;
        }
    }

    /// Whoever had some in hand is gone: they are tried again.
    pub fn let_go(&mut self, now: Tick) {
        let in_hand = self.keys.iter().filter(|(_, entry)| matches!(entry.place, Place::InHand { .. }));
        let in_hand: Vec<Name> = in_hand.map(|(key, _)| key.clone()).collect();
        in_hand.iter().for_each(|key| self.retry(key, now));
    }

    pub fn is_new(&self, key: &Name) -> bool {
        self.keys.get(key).is_some_and(|entry| entry.is_new)
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// When the next one is due that is not yet.
    pub fn next_at(&self) -> Option<Tick> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether it was asked for while it was in hand, or woken, if that counts.
    fn goes_again(&mut self, key: &Name, also_woken: bool) -> bool {
        let Some(entry) = self.keys.get_mut(key) else { return true };
        debug_assert!(matches!(entry.place, Place::InHand { .. }), "{key:?} is in nobody's hand");
        if matches!(entry.place, Place::InHand { added, woken, .. } if added || woken && also_woken) {
            entry.place = Place::Ready;
            self.ready.push_back(key.clone());
            return true;
        }
        false
    }

    fn put_off(&mut self, key: &Name, at: Tick) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.place = Place::Later(at);
            self.later.insert((at, key.clone()));
        }
    }

    fn make_ready(&mut self, key: &Name) {
        self.waiting.remove(key);
        let Some(entry) = self.keys.get_mut(key) else { return };
        if let Place::Later(at) = entry.place {
            self.later.remove(&(at, key.clone()));
            entry.place = Place::Ready;
            self.ready.push_back(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Name {
        Name::parse(&format!("t/{number}")).unwrap()
    }

    fn at(seconds: u64) -> Tick {
        Tick::at(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_expected_waits_until_it_is_woken_or_long_enough() {
        let mut backlog = Backlog::default();
        backlog.expect(&key(1), true, at(0));
        backlog.expect(&key(2), false, at(0));
        assert_eq!(backlog.next(at(1)), None);
        backlog.wake(&key(1));
        assert_eq!(backlog.next(at(1)), Some((key(1), true)));
        assert_eq!((backlog.next(at(29)), backlog.next_at()), (None, Some(at(30))));
        assert_eq!(backlog.next(at(30)), Some((key(2), false)));
        backlog.done(&key(1));
        backlog.done(&key(2));
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_changes_while_it_is_looked_at_is_looked_at_again() {
        let mut backlog = Backlog::default();
        for end in 0..3 {
            backlog.add(&key(1));
            assert_eq!(backlog.next(at(0)), Some((key(1), false)));
            backlog.wake(&key(1));
            match end {
                0 => backlog.done(&key(1)),
                1 => backlog.wait(&key(1), WaitsFor::Itself, at(0)),
                _ => {
                    backlog.add(&key(1));
                    backlog.retry(&key(1), at(0));
                }
            }
            assert_eq!(backlog.next(at(0)), Some((key(1), false)));
            assert_eq!(backlog.next(at(0)), None, "once");
            backlog.done(&key(1));
        }
        assert!(backlog.is_empty() && backlog.later.is_empty() && backlog.waiting.is_empty());
    }

    #[test]
    fn a_retry_is_not_woken_and_its_pause_doubles_to_a_bound() {
        let mut backlog = Backlog::default();
        backlog.add(&key(1));
        let mut now = at(0);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            assert!(backlog.next(now).is_some());
            // As its own try does.
            backlog.wake(&key(1));
            backlog.retry(&key(1), now);
            backlog.wake_all();
            let due = now.after(Duration::from_secs(seconds));
            assert_eq!((backlog.next(now), backlog.next_at()), (None, Some(due)));
            now = due;
        }
        // What somebody asks for does not wait.
        backlog.add(&key(1));
        assert!(backlog.next(at(0)).is_some());
        backlog.done(&key(1));
        assert!(backlog.later.is_empty());
        // What failed after all is tried no sooner, until there is another goal.
        backlog.add_later(&key(1), at(0));
        assert_eq!(backlog.next_at(), Some(at(600)));
        backlog.add(&key(1));
        assert!(backlog.next(at(0)).is_some());
        backlog.begin_anew();
        backlog.retry(&key(1), at(0));
        assert_eq!(backlog.next_at(), Some(at(1)));
    }

    #[test]
    fn a_key_is_new_until_it_has_had_time_to_handle_messages() {
        let mut backlog = Backlog::default();
        let is_new = |backlog: &mut Backlog| {
            backlog.wake_all();
            backlog.next(at(100)).map(|(_, is_new)| is_new)
        };
        backlog.expect(&key(1), true, at(0));
        assert_eq!(is_new(&mut backlog), Some(true));
        backlog.wait(&key(1), WaitsFor::Itself, at(0));
        assert_eq!(is_new(&mut backlog), Some(true), "it starts");
        backlog.wait(&key(1), WaitsFor::Change, at(0));
        assert_eq!(is_new(&mut backlog), Some(false), "an operator changes it");
        backlog.done(&key(1));
        backlog.expect(&key(1), true, at(0));
        assert_eq!(is_new(&mut backlog), Some(true));
        backlog.retry(&key(1), at(0));
        assert_eq!(is_new(&mut backlog), Some(false));
    }

    #[test]
    fn the_end_of_a_change_wakes_those_that_wait_for_one() {
        let mut backlog = Backlog::default();
        for (number, waits_for) in [(1, WaitsFor::Itself), (2, WaitsFor::Change)] {
            backlog.add(&key(number));
            assert!(backlog.next(at(0)).is_some());
            backlog.wait(&key(number), waits_for, at(0));
        }
        backlog.wake_changes();
        assert_eq!((backlog.next(at(0)), backlog.next(at(0))), (Some((key(2), false)), None));
        // One that ended while the key was looked at is not missed; it is no news to one that waits for itself.
        backlog.wake_changes();
        backlog.wait(&key(2), WaitsFor::Change, at(0));
        assert_eq!((backlog.next(at(0)), backlog.next(at(0))), (Some((key(2), false)), None));
        backlog.wake_changes();
        backlog.wait(&key(2), WaitsFor::Itself, at(0));
        assert_eq!(backlog.next(at(0)), None);
    }

    /// Against a model that keeps one fact about each key, over random uses.
    #[test]
    fn no_key_is_lost_or_twice_in_hand() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut backlog, mut now) = (Backlog::default(), at(0));
            // Whether somebody has it.
            let mut known: HashMap<Name, bool> = HashMap::new();
            for _ in 0..300 {
                let (chosen, holds) = (key(random.u32(0..5)), known.values().filter(|in_hand| **in_hand).count());
                match random.u32(0..9) {
                    0 => {
                        backlog.add(&chosen);
                        known.entry(chosen).or_default();
                    }
                    1 => {
                        backlog.expect(&chosen, random.bool(), now);
                        known.entry(chosen).or_default();
                    }
                    2 => backlog.wake(&chosen),
                    3 => backlog.wake_all(),
                    4 => match random.bool() {
                        true => backlog.wake_changes(),
                        false => backlog.leaves(&chosen, now),
                    },
                    5 => now = now.after(Duration::from_secs(random.u64(0..40))),
                    6 if known.get(&chosen) == Some(&true) => {
                        backlog.done(&chosen);
                        if backlog.keys.contains_key(&chosen) {
                            known.insert(chosen, false);
                        } else {
                            known.remove(&chosen);
                        }
                    }
                    7 if known.get(&chosen) == Some(&true) => {
                        match random.bool() {
                            true => backlog.wait(&chosen, WaitsFor::Change, now),
                            false => backlog.retry(&chosen, now),
                        }
                        known.insert(chosen, false);
                    }
                    _ if holds < 3 => {
                        if let Some((next, _)) = backlog.next(now) {
                            assert_eq!(
                                known.insert(next.clone(), true),
                                Some(false),
                                "{next} is in hand already, or gone"
                            );
                        }
                    }
                    _ => {}
                }
                let mut names: Vec<_> = backlog.keys.keys().cloned().collect();
                names.sort();
                let mut expected: Vec<_> = known.keys().cloned().collect();
                expected.sort();
                assert_eq!(names, expected, "seed {seed}");
            }
            // Each is come to at the latest after the longest pause.
            let in_hand: Vec<Name> =
                known.iter().filter(|(_, in_hand)| **in_hand).map(|(key, _)| key.clone()).collect();
            in_hand.iter().for_each(|key| backlog.done(key));
            now = now.after(PAUSE_MAX);
            while let Some((next, _)) = backlog.next(now) {
                backlog.done(&next);
            }
            assert!(backlog.is_empty() && backlog.ready.is_empty() && backlog.later.is_empty(), "seed {seed}");
            assert!(backlog.waiting.is_empty(), "seed {seed}");
        }
    }
}
