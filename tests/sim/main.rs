//! The simulation: the whole runtime (tree, supervisors, workers, mailboxes, real instances) on one
//! thread, with a clock that is moved by hand and a seed that decides everything else.
//!
//! A seed draws a plan (`script`), the plan is carried out (`world`), and what was recorded on the way
//! (`stream`) is read by the checkers and printed (`text`). The same seed prints the same text, byte for
//! byte. A seed that fails is cut down to what it takes (`shrink`) and kept as a file in `found/` with
//! a test of its name below.
//!
//! | variable | meaning |
//! |---|---|
//! | `PAGURO_SIM_SEEDS` | how many seeds, or which: `500`, `500..900` |
//! | `PAGURO_SIM_SEED` | this seed alone, and its text is printed |

mod checkers;
mod faults;
mod run;
mod script;
mod settings;
mod shrink;
mod stream;
mod text;
mod world;

use std::ops::Range;

use run::{Shelf, trial};

/// Seeds of a plain `cargo test`; `cargo xtask test` asks for more.
const SEEDS: u64 = 1_000;
/// Seeds with faults of the host's own: each place is aimed at about as often as there are plans it takes to come there.
const FAULT_SEEDS: Range<u64> = 0..2_000;

#[test]
fn seeds() {
    if let Ok(seed) = std::env::var("PAGURO_SIM_SEED") {
        return one(seed.parse().expect("a seed is a number"));
    }
    let failed = run::many(wanted(), |seed| trial(&script::plan(seed), Shelf::get()));
    if let Some(seed) = failed.keys().next().copied() {
        for (seed, wrong) in &failed {
            eprintln!("seed {seed}:\n  {}", wrong.join("\n  "));
        }
        let place = shrink::keep(seed);
        panic!(
            "to see one: PAGURO_SIM_SEED={seed} cargo test --workspace --test sim -- --nocapture seeds\n\
             it was cut down to {}; move that to tests/sim/found under a name",
            place.display()
        );
    }
}

/// The host's own code panics, and everybody is accounted for.
#[test]
fn faults() {
    if let Ok(seed) = std::env::var("PAGURO_SIM_SEED") {
        let seed = seed.parse().expect("a seed is a number");
        let (trial, hits) = run::trial_with_faults(seed, Shelf::get(), &faults::places());
        println!("{}\n{hits:?}", trial.text());
        assert!(trial.wrong.is_empty(), "seed {seed}:\n  {}", trial.wrong.join("\n  "));
        return;
    }
    let places = faults::places();
    let coverage = faults::Coverage::default();
    let failed = run::many(FAULT_SEEDS, |seed| {
        let (trial, hits) = run::trial_with_faults(seed, Shelf::get(), &places);
        coverage.add(&hits, &places);
        trial
    });
    for (seed, wrong) in &failed {
        eprintln!("seed {seed}:\n  {}", wrong.join("\n  "));
    }
    assert!(failed.is_empty(), "to see one: PAGURO_SIM_SEED=N cargo test --workspace --test sim -- --nocapture faults");
    let missing = coverage.missing(&places);
    assert!(missing.is_empty(), "no seed had a fault at: {missing:?}");
}

/// Prints what happens under one seed.
fn one(seed: u64) {
    let trial = trial(&script::plan(seed), Shelf::get());
    println!("{}", trial.text());
    assert!(trial.wrong.is_empty(), "seed {seed}:\n  {}", trial.wrong.join("\n  "));
}

fn wanted() -> Range<u64> {
    let Ok(text) = std::env::var("PAGURO_SIM_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().expect("PAGURO_SIM_SEEDS is a number, or two: 500..900");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

#[test]
fn the_same_seed_prints_the_same_text() {
    for seed in 0..50 {
        let plan = script::plan(seed);
        let first = trial(&plan, Shelf::get()).text();
        let second = std::thread::scope(|scope| {
            let other = scope.spawn(|| trial(&plan, Shelf::get()).text());
            other.join().expect("it does not panic")
        });
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert!(first == second, "seed {seed}: {differs:?}");
    }
}

/// Plans that once found something, by what it was.
macro_rules! found {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let plan = include_str!(concat!("found/", stringify!($name), ".json"));
            let trial = trial(&serde_json::from_str(plan).expect("a plan"), Shelf::get());
            assert!(trial.wrong.is_empty(), "{}\n  {}", trial.text(), trial.wrong.join("\n  "));
        })*

        #[test]
        fn what_was_found_is_tested() {
            let tested: &[&str] = &[$(stringify!($name)),*];
            let place = paguro_tests::root().join("tests/sim/found");
            for entry in std::fs::read_dir(place).expect("a directory") {
                let path = entry.expect("an entry").path();
                let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                assert!(tested.contains(&name), "{name} has no test");
            }
        }
    };
}

found! {
    a_restart_is_answered_by_the_start_that_follows_it
    a_kill_of_a_supervisor_ends_all_below_it_at_once
    one_that_became_temporary_in_its_restart_stays_down
    one_whose_call_goes_on_elsewhere_is_told_to_stop
    an_isolation_is_taken_back_while_the_supervisor_starts
}
