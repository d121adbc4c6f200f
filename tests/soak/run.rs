//! One run of one kind, from an empty directory to the verdict.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use paguro_tests::guest;

use crate::http::Request;
use crate::neighbour;
use crate::plan::seed_of_hand;
use crate::processor::Processor;
use crate::resident::Resident;
use crate::say::say;
use crate::site::{NEIGHBOUR, Site};
use crate::subject::{self, Subject};
use crate::tally::Tally;
use crate::verdict::{FUSE_BYTES, Figures, STOP_TIME, TAKE_TIME, size};

/// A kind of hostile input.
pub trait Kind: Sync {
    fn name(&self) -> &'static str;

    /// Lays out what it needs, before the host starts.
    fn prepare(&self, site: &Site);

    /// Descriptors that the host may have, where that matters.
    fn descriptors(&self) -> Option<u32> {
        None
    }

    /// Threads that work at the same time.
    fn hands(&self) -> usize;

    /// Does what the seed says, until [`Run::goes_on`] says no.
    fn work(&self, hand: usize, seed: u64, site: &Site, run: &Run);
}

/// What hands and observers share.
pub struct Run {
    ends: Instant,
    over: AtomicBool,
    pub tally: Tally,
    escapes: Mutex<Vec<String>>,
}

/// Findings of one sort say no more than the first ones.
const ESCAPES_MAX: usize = 20;

impl Run {
    fn new(time: Duration) -> Run {
        let (over, escapes) = (AtomicBool::new(false), Mutex::default());
        Run { ends: Instant::now() + time, over, tally: Tally::default(), escapes }
    }

    pub fn goes_on(&self) -> bool {
        Instant::now() < self.ends && !self.over.load(Ordering::Relaxed)
    }

    /// Waits, but not beyond the end.
    pub fn pause(&self, time: Duration) {
        let until = (Instant::now() + time).min(self.ends);
        while self.goes_on() && Instant::now() < until {
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
    }

    /// Something was read or written that nobody was granted.
    pub fn escape(&self, what: String) {
        let mut escapes = self.escapes.lock().unwrap_or_else(PoisonError::into_inner);
        if escapes.len() < ESCAPES_MAX {
            escapes.push(what);
        }
    }

    #[cfg(test)]
    pub fn escapes(&self) -> Vec<String> {
        self.escapes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(test)]
    pub fn for_tests() -> Run {
        Run::new(Duration::from_secs(60))
    }

    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The seed of a plain `cargo test`, and for how long the input comes then.
const SEED: u64 = 10;
const SECONDS: u64 = 10;
/// How long the neighbour is called before anything else happens.
const BASE_TIME: Duration = Duration::from_secs(2);
/// Hands yield to the host and to the neighbour: on a small machine they would take the processor from both, and the
/// figures would be theirs.
const NICE: i32 = 10;

/// One at a time: two would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs one kind, and panics with what was wrong.
pub fn soak(kind: &dyn Kind) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = from_environment("PAGURO_SOAK_SEED", SEED);
    let seconds = from_environment("PAGURO_SOAK_SECONDS", SECONDS);
    say(&format!("soak {}: seed {seed}, {seconds} s", kind.name()));
    let site = Site::new(seed);
    site.put(NEIGHBOUR, &guest("echo"));
    kind.prepare(&site);
    let mut subject = Subject::up(&site, kind.descriptors());
    let figures = measure(kind, seed, Duration::from_secs(seconds), &site, &mut subject);
    let wrong = figures.wrong();
    let verdict = if wrong.is_empty() { "well" } else { "FAILED" };
    say(&format!("soak {}: seed {seed}, {seconds} s: {}; {verdict}", kind.name(), figures.line()));
    for line in &wrong {
        say(&format!("  wrong: {line}"));
    }
    if !wrong.is_empty() {
        for line in &subject.told().last {
            say(&format!("  host: {}", line.chars().take(LINE_SHOWN).collect::<String>()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} things are wrong; again: cargo xtask soak {} --seconds {seconds} --seed {seed}",
        wrong.len(),
        kind.name()
    );
}

/// Characters of a line of the host's that are shown.
const LINE_SHOWN: usize = 300;

fn from_environment(name: &str, or: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return or };
    text.parse().unwrap_or_else(|_| panic!("{name} is a number, and not {text:?}"))
}

fn measure(kind: &dyn Kind, seed: u64, time: Duration, site: &Site, subject: &mut Subject) -> Figures {
    let mut figures = Figures { has_compilers: subject.has_compilers, ..Figures::default() };
    let before = Run::new(BASE_TIME);
    neighbour_is_there(site);
    figures.base_calls = neighbour::call(site, &|| before.goes_on());
    figures.base = Resident::of(subject.pid());

    let processor = Processor::of(subject.pid());
    let run = Run::new(time);
    std::thread::scope(|scope| {
        for hand in 0..kind.hands() {
            let run = &run;
            scope.spawn(move || {
                let _ = rustix::process::nice(NICE);
                kind.work(hand, seed_of_hand(seed, hand), site, run);
            });
        }
        let calls = scope.spawn(|| neighbour::call(site, &|| run.goes_on()));
        let late = scope.spawn(|| neighbour::lateness(&|| run.goes_on()));
        watch(&run, subject, &mut figures);
        figures.processor = Processor::of(subject.pid()).since(processor);
        figures.calls = calls.join().expect("the neighbour's caller does not panic");
        figures.lateness = late.join().expect("it only sleeps").percentile(99);
    });
    figures.steps = run.tally.steps();
    run.tally.lines().iter().for_each(|line| say(&format!("  {line}")));

    if figures.ended.is_none() && figures.cut_short.is_none() {
        figures.answers = subject::answers(site, Duration::from_secs(5));
        figures.taken = takes_a_file(site);
        figures.after = Resident::of(subject.pid());
        figures.stopped = Some(subject.stop(STOP_TIME));
    }
    figures.panics = subject.told().panics;
    figures.escapes = run.escapes.into_inner().unwrap_or_else(PoisonError::into_inner);
    figures.escapes.extend(site.disturbed());
    figures
}

/// Looks at the host until the time is over, or until it has ended or takes so much that it must be ended.
fn watch(run: &Run, subject: &mut Subject, figures: &mut Figures) {
    const LOOK: Duration = Duration::from_millis(50);
    while run.goes_on() {
        let now = Resident::of(subject.pid());
        figures.peak = figures.peak.or_more(now);
        figures.ended = subject.ended();
        if figures.ended.is_some() {
            break;
        }
        if now.sum() > FUSE_BYTES {
            figures.cut_short = Some(format!("the host had {}, and was killed", size(now.sum())));
            subject.kill();
            break;
        }
        std::thread::sleep(LOOK);
    }
    run.end();
}

fn neighbour_is_there(site: &Site) {
    let target = format!("/v1/workers/{NEIGHBOUR}/call");
    until_called(site, &target, paguro_tests::PATIENCE).expect("the neighbour comes up");
}

/// Puts a new file into the tree and waits until its worker answers.
fn takes_a_file(site: &Site) -> Option<Duration> {
    site.try_put("fresh", &guest("echo")).ok()?;
    until_called(site, "/v1/workers/fresh/call", TAKE_TIME)
}

fn until_called(site: &Site, target: &str, time: Duration) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let request = Request::post(target, b"there?").within(Duration::from_secs(2));
        let asked = site.connect().and_then(|mut client| client.ask(&request, &|| begun.elapsed() < time));
        if asked.is_ok_and(|answer| answer.status == 200) {
            return Some(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
