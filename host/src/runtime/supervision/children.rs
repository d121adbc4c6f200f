//! A supervisor's children in start order, found by name, and by what they wait for.
//!
//! Everything is at most logarithmic in their number: a supervisor with 100,000 children spends on
//! each what one with 1,000 does. Only [`Children::arrange`] walks them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Child, ChildSpec, ChildState};
use crate::base::{Name, Tick, give_back_room};

/// A child's place in the start order. Changes when the order is arranged anew.
pub(super) type Place = u64;

#[derive(Clone, Debug, Default)]
pub(super) struct Children {
    /// Boxed: the map leaves half of its room free where each comes after all others.
    list: BTreeMap<Place, Box<Child>>,
    by_name: HashMap<Name, Place>,
    /// Names of siblings that children are to start after, there or not, and how many name each.
    wanted: HashMap<String, usize>,
    sets: Sets,
    /// Children that rested or stopped and will start, since this was taken.
    risen: Vec<Name>,
}

/// Who is in which state. Derived from the children; kept so that nobody has to be searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sets {
    waiting: BTreeSet<Place>,
    starting: BTreeSet<Place>,
    running: BTreeSet<Place>,
    stopping: BTreeSet<Place>,
    isolated: BTreeSet<Place>,
    /// Restarts with a time of their own.
    due: BTreeSet<(Tick, Place)>,
    /// Restarts that wait for their round.
    joined: BTreeSet<Place>,
    /// Up, and to be stopped by the round.
    leaving: BTreeSet<Place>,
    /// Those that `order` names, while they wait or start.
    named_pending: BTreeSet<Place>,
}

impl Sets {
    /// `present`: the child is in this state from now on; else it was until now.
    fn note(&mut self, place: Place, child: &Child, present: bool) {
        let starts = matches!(child.state, ChildState::Waiting | ChildState::Starting);
        let own = match child.state {
            ChildState::Waiting => Some(&mut self.waiting),
            ChildState::Starting => Some(&mut self.starting),
            ChildState::Running => Some(&mut self.running),
            ChildState::Stopping(_) => Some(&mut self.stopping),
            ChildState::Restarting { due: None } => Some(&mut self.joined),
            ChildState::Restarting { due: Some(due) } => {
                note(&mut self.due, (due, place), present);
                None
            }
            ChildState::Isolated => Some(&mut self.isolated),
            ChildState::Down => None,
        };
        own.into_iter().for_each(|set| note(set, place, present));
        if child.named && starts {
            note(&mut self.named_pending, place, present);
        }
        if child.leaving {
            note(&mut self.leaving, place, present);
        }
    }
}

fn note<T: Ord>(set: &mut BTreeSet<T>, one: T, present: bool) {
    if present {
        set.insert(one);
    } else {
        set.remove(&one);
    }
}

/// Counts each of `leaves` in, or out.
fn want(wanted: &mut HashMap<String, usize>, leaves: &[String], more: bool) {
    for leaf in leaves {
        if more {
            *wanted.entry(leaf.clone()).or_default() += 1;
        } else if let Some(count) = wanted.get_mut(leaf) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(leaf);
            }
        }
    }
}

impl Children {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// In start order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Child> {
        self.list.values().map(|child| &**child)
    }

    /// In start order, behind a place.
    pub fn after(&self, place: Option<Place>) -> impl Iterator<Item = &Child> {
        self.list.range(place.map_or(0, |place| place + 1)..).map(|(_, child)| &**child)
    }

    pub fn places(&self) -> impl DoubleEndedIterator<Item = (Place, &Child)> {
        self.list.iter().map(|(place, child)| (*place, &**child))
    }

    pub fn find(&self, name: &Name) -> Option<Place> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, name: &Name) -> Option<&Child> {
        self.list.get(self.by_name.get(name)?).map(|child| &**child)
    }

    /// `place` comes from this collection, since it was last arranged.
    pub fn at(&self, place: Place) -> &Child {
        &self.list[&place]
    }

    /// Changes what is not among the sets: everything but `spec`, `state`, `leaving` and `named`.
    pub fn at_mut(&mut self, place: Place) -> &mut Child {
        self.list.get_mut(&place).expect("a place names a child until the order is arranged anew")
    }

    pub fn set(&mut self, place: Place, state: ChildState) {
        self.change(place, |child| child.state = state);
    }

    pub fn set_leaving(&mut self, place: Place, leaving: bool) {
        self.change(place, |child| child.leaving = leaving);
    }

    /// A new spec under the same name.
    pub fn set_spec(&mut self, place: Place, spec: ChildSpec) {
        let child = self.list.get_mut(&place).expect("a place names a child until the order is arranged anew");
        want(&mut self.wanted, &child.spec.after, false);
        want(&mut self.wanted, &spec.after, true);
        child.spec = spec;
    }

    fn change(&mut self, place: Place, change: impl FnOnce(&mut Child)) {
        let child = self.list.get_mut(&place).expect("a place names a child until the order is arranged anew");
        self.sets.note(place, child, false);
        let rests = |state: ChildState| state.rests() || matches!(state, ChildState::Stopping(_));
        let rested = rests(child.state);
        change(child);
        if rested && !rests(child.state) {
            self.risen.push(child.spec.name.clone());
        }
        self.sets.note(place, child, true);
    }

    /// Children that rested or stopped and will start, in the order in which that was decided.
    pub fn take_risen(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.risen)
    }

    /// At the end of the order.
    pub fn push(&mut self, child: Child) -> Place {
        let place = self.list.last_key_value().map_or(0, |(last, _)| last + 1);
        self.by_name.insert(child.spec.name.clone(), place);
        want(&mut self.wanted, &child.spec.after, true);
        self.sets.note(place, &child, true);
        self.list.insert(place, Box::new(child));
        place
    }

    pub fn remove(&mut self, place: Place) -> Option<Child> {
        let child = self.list.remove(&place)?;
        self.by_name.remove(&child.spec.name);
        give_back_room(&mut self.by_name);
        want(&mut self.wanted, &child.spec.after, false);
        self.sets.note(place, &child, false);
        Some(*child)
    }

    /// Puts the children into the order that `arrange` gives; it gets them all and returns them all.
    pub fn arrange(&mut self, arrange: impl FnOnce(Vec<Child>) -> Vec<Child>) {
        let before = std::mem::take(self);
        self.risen = before.risen;
        for child in arrange(before.list.into_values().map(|child| *child).collect()) {
            self.push(child);
        }
    }

    /// Whether a child is to start after one whose name ends so.
    pub fn is_wanted(&self, leaf: &str) -> bool {
        self.wanted.contains_key(leaf)
    }

    pub fn waiting(&self) -> &BTreeSet<Place> {
        &self.sets.waiting
    }

    pub fn starting(&self) -> &BTreeSet<Place> {
        &self.sets.starting
    }

    pub fn running(&self) -> &BTreeSet<Place> {
        &self.sets.running
    }

    pub fn stopping(&self) -> &BTreeSet<Place> {
        &self.sets.stopping
    }

    pub fn isolated(&self) -> &BTreeSet<Place> {
        &self.sets.isolated
    }

    pub fn joined(&self) -> &BTreeSet<Place> {
        &self.sets.joined
    }

    pub fn leaving(&self) -> &BTreeSet<Place> {
        &self.sets.leaving
    }

    pub fn named_pending(&self) -> &BTreeSet<Place> {
        &self.sets.named_pending
    }

    /// Restarts by their time.
    pub fn due(&self) -> &BTreeSet<(Tick, Place)> {
        &self.sets.due
    }

    /// The last one in start order that is starting or runs.
    pub fn last_up(&self) -> Option<Place> {
        self.sets.starting.last().max(self.sets.running.last()).copied()
    }

    /// All that are starting or run, in start order.
    pub fn up(&self) -> Vec<Place> {
        self.sets.starting.union(&self.sets.running).copied().collect()
    }

    /// The sets say what the children say.
    #[cfg(test)]
    pub fn assert_consistent(&self) {
        let mut sets = Sets::default();
        for (place, child) in &self.list {
            sets.note(*place, child, true);
            assert_eq!(self.by_name.get(&child.spec.name), Some(place), "{} is not found", child.spec.name);
        }
        assert_eq!(self.by_name.len(), self.list.len(), "a name of no child is found");
        assert_eq!(self.sets, sets);
        let mut wanted = HashMap::new();
        self.list.values().for_each(|child| want(&mut wanted, &child.spec.after, true));
        assert_eq!(self.wanted, wanted);
        assert!(sets.leaving.iter().all(|place| sets.starting.contains(place) || sets.running.contains(place)));
    }
}
