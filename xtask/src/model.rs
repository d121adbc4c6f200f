//! `cargo xtask model`: the executor (`host/task`) under two model checkers; with `--mutants`, each of a list of small
//! faults put into it, to see that a model notices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::paths;
use crate::shell::{command, stream};

#[derive(Args)]
pub struct Options {
    /// Put each fault of the list into a copy, and see that a model notices
    #[arg(long)]
    mutants: bool,
}

pub fn run(options: &Options) -> Result<()> {
    if options.mutants { mutants() } else { check() }
}

/// Both checkers, each in a target directory of its own: their flag changes how everything is compiled.
pub fn check() -> Result<()> {
    for checker in CHECKERS {
        stream(&mut tests(checker, paths::root()))?;
    }
    Ok(())
}

/// All interleavings of few threads, and many of more.
const CHECKERS: [&str; 2] = ["loom", "shuttle"];

fn tests(checker: &str, workspace: &Path) -> Command {
    let mut cargo = command("cargo", workspace);
    cargo
        .args(["test", "--release", "-p", "paguro-task", "--test", "model", "--target-dir"])
        .arg(paths::root().join("target/model").join(checker))
        .env("RUSTFLAGS", format!("--cfg {checker}"));
    cargo
}

/// A fault: in `file`, `find` becomes `put`.
struct Mutant {
    file: &'static str,
    find: &'static str,
    put: &'static str,
    /// Why no model notices it, if none does.
    survives: Option<&'static str>,
}

const fn killed(file: &'static str, find: &'static str, put: &'static str) -> Mutant {
    Mutant { file, find, put, survives: None }
}

const fn survives(file: &'static str, find: &'static str, put: &'static str, why: &'static str) -> Mutant {
    Mutant { file, find, put, survives: Some(why) }
}

const LOCKS: &str = "the lock of the work, which each poll takes, orders what polls write";
const FAST: &str = "no fault, only slower: the runtime was told, and comes";

/// Every ordering weakened, every wake-up and every check taken out.
const MUTANTS: &[Mutant] = &[
    // What is given must be seen.
    killed("word.rs", "fetch_or(WOKEN, Release)", "fetch_or(WOKEN, Relaxed)"),
    killed("word.rs", "fetch_update(Acquire, Relaxed, |word| (word", "fetch_update(Relaxed, Relaxed, |word| (word"),
    killed("word.rs", "fetch_update(AcqRel, Acquire, |word| match", "fetch_update(Release, Acquire, |word| match"),
    survives(
        "word.rs",
        "fetch_update(AcqRel, Acquire, |word| match",
        "fetch_update(Acquire, Acquire, |word| match",
        LOCKS,
    ),
    survives(
        "word.rs",
        "fetch_update(AcqRel, Acquire, |word| match",
        "fetch_update(AcqRel, Relaxed, |word| match",
        LOCKS,
    ),
    survives("word.rs", "self.0.swap(DONE, Release);", "self.0.swap(DONE, Relaxed);", LOCKS),
    survives("word.rs", "self.0.swap(DONE, AcqRel)", "self.0.swap(DONE, Relaxed)", LOCKS),
    survives("word.rs", "self.0.load(Acquire) & DONE", "self.0.load(Relaxed) & DONE", LOCKS),
    // One runs it.
    killed("word.rs", "(word & (RUNNING | DONE) == 0)", "(word & DONE == 0)"),
    killed("word.rs", "(word & (RUNNING | DONE) == 0)", "(word & RUNNING == 0)"),
    // No wake-up is lost.
    killed("word.rs", "fetch_or(WOKEN, Release) == 0", "fetch_or(WOKEN, Release) == DONE"),
    survives("word.rs", "_ => Some(WOKEN),", "_ => Some(0),", "the runtime is told twice, and not never"),
    killed("word.rs", "_ if word & DONE != 0 => None,", ""),
    killed("word.rs", "RUNNING => Some(0),", "RUNNING => Some(WOKEN),"),
    killed("word.rs", "Ok(_) if may_go_on => Rest::GoesOn,", ""),
    killed("word.rs", "Ok(_) => Rest::IsWoken,", "Ok(_) => Rest::Rests,"),
    killed("job.rs", "None => wake(job),", "None => {}"),
    killed("job.rs", "Rest::IsWoken => tell_runtime(self.job),", "Rest::IsWoken => {}"),
    killed(
        "job.rs",
        "    if job.cell().word.wake() {\n        tell_runtime(job);\n    }",
        "    job.cell().word.wake();",
    ),
    killed("job.rs", "        if owes_a_poll {\n            wake(self.running.job);\n        }\n", ""),
    killed("job.rs", "Some(waker) => waker.wake_by_ref(),", "Some(_) => {}"),
    killed("job.rs", "*locked(&cell.runtime) = Some(context.waker().clone());", ""),
    killed("job.rs", "*locked(&self.job.cell().runtime) = None;", ""),
    killed(
        "job.rs",
        "        if let Some(waker) = &*locked(&self.job.cell().runtime) {\n            waker.wake_by_ref();\n        }\n",
        "",
    ),
    killed("job.rs", "None => cell.is_done(),", "None => false,"),
    killed("job.rs", "            is_due = true;\n", ""),
    survives("job.rs", "        let is_due = self.was_woken;", "        let is_due = false;", FAST),
    // Its work is let go of, once.
    killed("word.rs", "swap(DONE, AcqRel) & RUNNING == 0", "swap(DONE, AcqRel) & RUNNING != 0"),
    killed("job.rs", "Rest::IsOver => let_go(&**self.job),", "Rest::IsOver => {}"),
    killed(
        "job.rs",
        "        self.job.cell().word.finish();\n        let_go(&**self.job);",
        "        self.job.cell().word.finish();",
    ),
    killed(
        "job.rs",
        "        self.job.cell().word.finish();\n        let_go(&**self.job);",
        "        let_go(&**self.job);",
    ),
    killed("job.rs", "        self.has_rested = true;\n        false", "        false"),
    // A thread that is lent.
    survives("job.rs", "        if self.is_outermost {\n            run_due();\n        }\n", "", FAST),
    survives(
        "job.rs",
        "self.cell().word.is_woken()\n            && let",
        "let",
        "a poll that nothing is there for changes nothing",
    ),
];

/// A fault that makes a model run on and on is noticed too.
const TIME: Duration = Duration::from_secs(120);

fn mutants() -> Result<()> {
    let copy = paths::root().join("target/model/mutant");
    let (mut unnoticed, mut unexpected) = (Vec::new(), Vec::new());
    for (number, mutant) in MUTANTS.iter().enumerate() {
        put_into(mutant, &copy)?;
        let begun = Instant::now();
        let noticed = CHECKERS.iter().find_map(|checker| noticed(checker, &copy).transpose()).transpose()?;
        let what = one_line(mutant);
        let took = begun.elapsed().as_secs_f32();
        match (&noticed, mutant.survives) {
            (Some(by), None) => println!("{number:3}  noticed by {by} in {took:.0} s  {what}"),
            (None, Some(why)) => println!("{number:3}  not noticed: {why}  {what}"),
            (None, None) => unnoticed.push(what),
            (Some(_), Some(_)) => unexpected.push(what),
        }
    }
    for what in &unexpected {
        println!("noticed after all: {what}");
    }
    if !unnoticed.is_empty() {
        bail!("no model notices:\n  {}", unnoticed.join("\n  "));
    }
    Ok(())
}

fn one_line(mutant: &Mutant) -> String {
    let short = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}: `{}` -> `{}`", mutant.file, short(mutant.find), short(mutant.put))
}

/// A workspace of the executor alone, with the fault in it.
fn put_into(mutant: &Mutant, copy: &Path) -> Result<()> {
    let (source, task) = (paths::root().join("host/task"), copy.join("task"));
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    for directory in ["src", "tests"] {
        fs::create_dir_all(task.join(directory))?;
        for entry in fs::read_dir(source.join(directory))? {
            let path: PathBuf = entry?.path();
            fs::copy(&path, task.join(directory).join(path.file_name().context("a file has a name")?))?;
        }
    }
    fs::copy(source.join("Cargo.toml"), task.join("Cargo.toml"))?;
    fs::copy(paths::root().join("Cargo.lock"), copy.join("Cargo.lock"))?;
    let whole = fs::read_to_string(paths::root().join("Cargo.toml"))?;
    let package = whole.split("[workspace.package]").nth(1).and_then(|rest| rest.split("\n[").next());
    let package = package.context("Cargo.toml has a [workspace.package]")?;
    let manifest = format!("[workspace]\nresolver = \"3\"\nmembers = [\"task\"]\n\n[workspace.package]{package}");
    fs::write(copy.join("Cargo.toml"), manifest)?;
    let file = task.join("src").join(mutant.file);
    let text = fs::read_to_string(&file)?;
    if text.matches(mutant.find).count() != 1 {
        bail!("the list is older than the code: it is not there once: {}", one_line(mutant));
    }
    Ok(fs::write(&file, text.replace(mutant.find, mutant.put))?)
}

/// The checker, if it finds the fault.
fn noticed(checker: &'static str, copy: &Path) -> Result<Option<&'static str>> {
    // A fault that does not compile is none.
    stream(tests(checker, copy).arg("--no-run").stderr(Stdio::null()))?;
    let mut child = tests(checker, copy)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!status.success()).then_some(checker));
        }
        if begun.elapsed() > TIME {
            child.kill()?;
            child.wait()?;
            return Ok(Some(checker));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
