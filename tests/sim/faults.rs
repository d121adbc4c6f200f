//! The simulation with faults of the host's own: a panic at one of the places where a driver waits, chosen by the seed,
//! and a few more after it. What must hold then is not what follows from OTP's rules alone, so it has a checker of its
//! own: everybody is accounted for.
//!
//! The places are those lines of the worker's and the supervisor's drivers that look at a fuse (`Driver::at`), read
//! from the source. A seed names one of them, and which time it is reached the fault comes; that each place was hit is
//! asserted over all seeds. Besides, a fault may come as a task goes on with what it waited for, or within a host
//! function on a guest's stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use paguro::base::Name;
use paguro::record::Event;
use paguro::runtime::{Fuse, Spot, Standing};

use crate::stream::{Entry, Fact, Look};

/// What a panic of the simulation says.
pub const SAYS: &str = "a fault of the simulation";

/// A place of the drivers: its file below `host/src`, its line, and its function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    file: String,
    line: u32,
    function: String,
}

impl Place {
    fn is_at(&self, spot: Spot) -> bool {
        matches!(spot, Spot::Await { file, line } if line == self.line && file.ends_with(self.file.as_str()))
    }
}

/// Lines that look at a fuse, in the files of both drivers.
pub fn places() -> Vec<Place> {
    let src = paguro_tests::root().join("host/src");
    let mut files = vec![src.join("runtime/supervisor.rs"), src.join("runtime/supervisor/recovery.rs")];
    let workers = std::fs::read_dir(src.join("runtime/worker")).expect("the worker's driver");
    files.extend(workers.map(|entry| entry.expect("an entry").path()));
    files.sort();
    let mut places = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let name = file.strip_prefix(&src).expect("it lies there").display().to_string();
        let mut function = String::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if let Some((_, rest)) = text.split_once("fn ") {
                function = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            }
            let looks = matches!(text, "self.at();" | "driver.at();" | "self.services.fuses.at(self.shared.name());");
            // Not where it is defined.
            if looks && function != "at" {
                places.push(Place { file: name.clone(), line, function: function.clone() });
            }
        }
    }
    places
}

/// The fuse of one run.
pub struct Faults(Mutex<State>);

struct State {
    rng: Rng,
    /// Which place is to be hit first, and how often it is passed before.
    target: Option<(Place, u32)>,
    /// Others, by how many places of any kind are passed before each.
    others: Vec<u32>,
    is_armed: bool,
    passed: u32,
    /// Who was hit, and where.
    hits: Vec<(Name, Spot)>,
}

impl Faults {
    /// Places are taken in turn, so that so many seeds as there are places aim at each.
    pub fn of(seed: u64, places: &[Place]) -> Arc<Faults> {
        let mut rng = Rng::with_seed(seed ^ 0xfa17);
        let target = places[usize::try_from(seed).unwrap_or(0) % places.len()].clone();
        let target = Some((target, [0, 0, 0, 1, 2, 5][rng.usize(0..6)]));
        let others = (0..rng.u32(0..3)).map(|_| rng.u32(0..400)).collect();
        Arc::new(Faults(Mutex::new(State { rng, target, others, is_armed: false, passed: 0, hits: Vec::new() })))
    }

    pub fn arm(&self, is_armed: bool) {
        self.state().is_armed = is_armed;
    }

    pub fn hits(&self) -> Vec<(Name, Spot)> {
        self.state().hits.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_time(&mut self, spot: Spot) -> bool {
        if let Some((wanted, left)) = &mut self.target
            && wanted.is_at(spot)
        {
            if *left == 0 {
                self.target = None;
                return true;
            }
            *left -= 1;
        }
        self.passed += 1;
        if self.others.last().is_some_and(|at| self.passed >= *at) {
            self.passed = 0;
            self.others.pop();
            // Of a guest's there are few, and of polls many.
            return spot == Spot::Guest || self.rng.bool();
        }
        false
    }
}

impl Fuse for Faults {
    fn reached(&self, whom: &Name, spot: Spot) {
        let mut state = self.state();
        if state.is_armed && state.is_time(spot) {
            state.hits.push((whom.clone(), spot));
            drop(state);
            panic!("{SAYS} at {whom:?}, {spot:?}");
        }
    }
}

/// Whether everybody is accounted for, after the faults and whatever followed.
pub fn check(entries: &[Entry], hits: &[(Name, Spot)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut calls, mut asks): (BTreeMap<u64, &Name>, BTreeMap<u64, String>) = Default::default();
    let mut told = 0;
    let mut last: Option<&Look> = None;
    for entry in entries {
        match &entry.fact {
            Fact::Sent(sent) if sent.deadline.is_some() && sent.refused.is_none() => {
                calls.insert(sent.id, &sent.to);
            }
            Fact::Answered { id, .. } => drop(calls.remove(id)),
            Fact::Asked { ask, request } => drop(asks.insert(*ask, format!("{request:?}"))),
            Fact::Replied { ask, .. } => drop(asks.remove(ask)),
            Fact::Event(Event::HostFault { .. }) => told += 1,
            Fact::Event(Event::WorkerExited { reason, .. } | Event::WorkerStartFailed { reason, .. }) => {
                told += usize::from(reason.is_host_fault());
            }
            // What is under way is seen in the last look before the end.
            Fact::Looked(look) if look.workers.iter().any(|(_, state)| state.standing == Standing::Running) => {
                last = Some(look);
            }
            _ => {}
        }
    }
    wrong.extend(calls.iter().map(|(id, to)| format!("call {id} to {to:?} was never answered")));
    wrong.extend(asks.values().map(|request| format!("never answered: {request}")));
    if told < hits.len().min(1) {
        wrong.push(format!("nobody was told of {hits:?}"));
    }
    for (name, state) in last.into_iter().flat_map(|look| &look.workers) {
        let runs = matches!(state.standing, Standing::Running | Standing::Stopping);
        if runs && state.instances != 1 {
            wrong.push(format!("{name:?} stands as {} with {} instances", state.standing.word(), state.instances));
        }
        if matches!(state.standing, Standing::Down | Standing::Isolated(_) | Standing::Restarting)
            && state.instances > 0
        {
            wrong.push(format!("{name:?} stands as {} and has an instance", state.standing.word()));
        }
    }
    wrong
}

/// Places that a run of the simulation cannot come to: nothing there is durable, sleeps, is upgraded, imported or asked
/// for its health. `tests/all/panics.rs` comes to these. To fill a mailbox with facts takes 20,000 monitors.
fn is_out_of_reach(place: &Place) -> bool {
    let files = ["swap.rs", "sleep.rs", "saving.rs", "away.rs", "health.rs"];
    let functions = ["again", "import", "has_no_room"];
    files.iter().any(|file| place.file.ends_with(file)) || functions.contains(&place.function.as_str())
}

/// Which of the places were hit.
#[derive(Default)]
pub struct Coverage(Mutex<BTreeSet<Place>>);

impl Coverage {
    pub fn add(&self, hits: &[(Name, Spot)], places: &[Place]) {
        let mut hit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, spot) in hits {
            hit.extend(places.iter().find(|place| place.is_at(*spot)).cloned());
        }
    }

    pub fn missing(&self, places: &[Place]) -> Vec<Place> {
        let hit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().filter(|place| !hit.contains(place) && !is_out_of_reach(place)).cloned().collect()
    }
}
