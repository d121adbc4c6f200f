//! One plan from end to end, and many seeds at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use paguro::base::Name;
use paguro::runtime::Spot;

use crate::faults::{self, Faults, Place};
use crate::script::{Plan, plan};
use crate::stream::Entry;
use crate::{checkers, text, world};

pub use crate::world::Shelf;

/// How one plan went.
pub struct Trial {
    entries: Vec<Entry>,
    /// Empty if all is well.
    pub wrong: Vec<String>,
}

impl Trial {
    pub fn text(&self) -> String {
        text::render(&self.entries)
    }
}

impl Shelf {
    /// The process' one.
    pub fn get() -> &'static Shelf {
        static SHELF: OnceLock<Shelf> = OnceLock::new();
        SHELF.get_or_init(|| Shelf::new(&paguro_tests::guest("sim")))
    }
}

/// Carries out a plan and checks what happened.
pub fn trial(plan: &Plan, shelf: &Shelf) -> Trial {
    let (entries, mut wrong) = play(plan, shelf, None);
    wrong.extend(checkers::check(plan, &entries));
    Trial { entries, wrong }
}

/// The same with faults of the host's own, and where they were. What follows from OTP's rules alone is not checked.
pub fn trial_with_faults(seed: u64, shelf: &Shelf, places: &[Place]) -> (Trial, Vec<(Name, Spot)>) {
    let faults = Faults::of(seed, places);
    let (entries, mut wrong) = play(&plan(seed), shelf, Some(&faults));
    let hits = faults.hits();
    wrong.extend(faults::check(&entries, &hits));
    (Trial { entries, wrong }, hits)
}

fn play(plan: &Plan, shelf: &Shelf, faults: Option<&Arc<Faults>>) -> (Vec<Entry>, Vec<String>) {
    listen_for_panics();
    PANICS.take();
    let played = catch_unwind(AssertUnwindSafe(|| world::play(plan, shelf, faults)));
    let (entries, mut wrong) = played.unwrap_or_default();
    // One in a task of the host ends that task and nothing else, so it would go unseen.
    let wanted = |panic: &String| panic.contains(faults::SAYS);
    let panics = PANICS.take().into_iter().filter(|panic| !wanted(panic));
    wrong.extend(panics.map(|panic| format!("a task panicked: {panic}")));
    (entries, wrong)
}

/// Failures after which no more seeds are begun.
const FAILURES_MAX: usize = 16;
/// A seed takes milliseconds; one that takes this long never ends.
const ENDLESS: Duration = Duration::from_secs(120);

/// Plays these seeds, on as many threads as there are cores, each with a runtime of its own. Gives
/// those that failed, and what was wrong.
pub fn many(seeds: Range<u64>, play: impl Fn(u64) -> Trial + Sync) -> BTreeMap<u64, Vec<String>> {
    Shelf::get();
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::default();
    let playing: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let player = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || locked(&failed).len() >= FAILURES_MAX {
                return;
            }
            locked(&playing).insert(seed, Instant::now());
            let trial = play(seed);
            locked(&playing).remove(&seed);
            if !trial.wrong.is_empty() {
                locked(&failed).insert(seed, trial.wrong);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(player)).collect();
        while players.iter().any(|player| !player.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            let stuck = locked(&playing).iter().find(|(_, since)| since.elapsed() > ENDLESS).map(|(seed, _)| *seed);
            if let Some(seed) = stuck {
                // Nothing can end a thread that goes round in circles.
                eprintln!("seed {seed} never comes to rest");
                std::process::exit(1);
            }
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.to_string();
            let is_wanted = text.contains(faults::SAYS);
            PANICS.with_borrow_mut(|panics| panics.push(text));
            if !is_wanted {
                before(panic);
            }
        }));
    });
}
