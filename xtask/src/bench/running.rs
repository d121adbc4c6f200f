//! Runs the two programs in turn and collects what they print.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use super::Length;
use super::erlang::Erlang;
use super::measurements::{Measurement, Reference};
use super::samples::{Figures, Line, Program, parse};
use crate::paths;
use crate::progress::Progress;
use crate::shell::command;

/// What is run.
pub struct Programs {
    pub paguro: PathBuf,
    pub erlang: Option<Erlang>,
}

/// What came of all rounds.
#[derive(Default)]
pub struct Outcome {
    pub figures: Figures,
    /// What could not be measured and why, a line or more for each.
    pub failures: Vec<String>,
}

/// One run of one program: a measurement, or several that come from one set of workers.
struct Step<'a> {
    round: usize,
    program: Program,
    names: Vec<&'a str>,
}

/// Measures in rounds, and within a round each measurement with Paguro and then with Erlang: what disturbs
/// the machine for a while disturbs both. A step that fails costs its own figures alone and is not tried again,
/// so that the figures of many minutes are not lost to the last one.
pub fn measure(programs: &Programs, chosen: &[&Measurement], length: Length) -> Outcome {
    let steps = steps(chosen, length.rounds(), programs.erlang.is_some());
    let progress = Progress::new(steps.len() as u64);
    let mut outcome = Outcome::default();
    let mut failed: Vec<(Program, &[&str])> = Vec::new();
    for step in &steps {
        if !failed.contains(&(step.program, &step.names)) {
            let (names, name) = (step.names.join(", "), step.program.name());
            progress.doing(&format!("round {} of {}: {names}, {name}", step.round + 1, length.rounds()));
            match programs.run(step, length, &progress).and_then(|lines| accept(lines, &step.names, chosen)) {
                Ok(lines) => lines.into_iter().for_each(|line| outcome.figures.add(step.program, line)),
                Err(error) => {
                    failed.push((step.program, &step.names));
                    outcome.failures.push(format!("{names}, {name}: {error:#}"));
                }
            }
        }
        progress.advance(1);
    }
    outcome
}

fn steps<'a>(chosen: &[&'a Measurement], rounds: usize, with_erlang: bool) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for round in 0..rounds {
        for together in chosen.chunk_by(|one, next| one.is_of_the_million() && next.is_of_the_million()) {
            if round > 0 && together.iter().any(|measurement| measurement.is_of_the_million()) {
                continue;
            }
            let names: Vec<&str> = together.iter().map(|measurement| measurement.name).collect();
            let erlang = together.iter().filter(|measurement| measurement.reference == Some(Reference::Erlang));
            let erlang: Vec<&str> = erlang.map(|measurement| measurement.name).collect();
            steps.push(Step { round, program: Program::Paguro, names });
            if with_erlang && !erlang.is_empty() {
                steps.push(Step { round, program: Program::Erlang, names: erlang });
            }
        }
    }
    steps
}

/// The lines that were asked for: every one of them, in the unit that its goal is in.
fn accept(lines: Vec<Line>, asked: &[&str], chosen: &[&Measurement]) -> Result<Vec<Line>> {
    for name in asked {
        if !lines.iter().any(|line| line.name == *name) {
            bail!("it printed no figure for {name}");
        }
    }
    let lines: Vec<Line> = lines.into_iter().filter(|line| asked.contains(&line.name.as_str())).collect();
    for line in &lines {
        if let Some(Measurement { unit, .. }) = chosen.iter().find(|measurement| measurement.name == line.name)
            && *unit != line.unit
        {
            bail!("{} is in {}, not in {}", line.name, line.unit.name(), unit.name());
        }
    }
    Ok(lines)
}

impl Programs {
    fn run(&self, step: &Step, length: Length, progress: &Progress) -> Result<Vec<Line>> {
        match (step.program, &self.erlang) {
            (Program::Paguro, _) => {
                let mut paguro = command(&self.paguro, paths::root());
                paguro.args((length == Length::Quick).then_some("--quick")).args(&step.names);
                run(&mut paguro, progress)
            }
            (Program::Erlang, Some(erlang)) => run(&mut erlang.command(&step.names, length), progress),
            (Program::Erlang, None) => bail!("Erlang is not installed"),
        }
    }
}

/// Runs to the end. Lines of JSON are figures; all else is for who watches.
fn run(command: &mut Command, progress: &Progress) -> Result<Vec<Line>> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both at once: a program whose other pipe is full would wait for ever.
    let figures = thread::scope(|scope| {
        scope.spawn(|| each_line(stderr, |line| progress.say(line)));
        let mut figures = Vec::new();
        each_line(stdout, |line| match line.starts_with('{') {
            true => figures.push(parse(line)),
            false => progress.say(line),
        });
        figures
    });
    let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status}); above it says why");
    }
    figures.into_iter().collect()
}

/// To the end of it, or to its first error, which is the end of the program too.
fn each_line(pipe: Option<impl Read>, mut with: impl FnMut(&str)) {
    for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')).map_while(Result::ok) {
        with(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measurements::choose;
    use crate::bench::unit::Unit;

    fn shown(names: &[&str], rounds: usize, with_erlang: bool) -> Vec<String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let chosen = choose(&names, Length::Full).expect("all are known");
        let steps = steps(&chosen, rounds, with_erlang);
        steps.iter().map(|step| format!("{} {} {}", step.round, step.program.name(), step.names.join("+"))).collect()
    }

    #[test]
    fn rounds_alternate_between_the_programs() {
        let expected = [
            "0 Paguro client-call-64",
            "0 Paguro floor-call-64",
            "0 Paguro lookup",
            "0 Erlang lookup",
            "1 Paguro client-call-64",
            "1 Paguro floor-call-64",
            "1 Paguro lookup",
            "1 Erlang lookup",
        ];
        assert_eq!(shown(&["lookup", "client-call-64"], 2, true), expected);
        assert_eq!(shown(&["lookup"], 1, false), ["0 Paguro lookup"]);
    }

    #[test]
    fn a_million_workers_are_made_once() {
        assert_eq!(shown(&["million"], 3, true), ["0 Paguro million-create+million-resident+million-answered"]);
    }

    #[test]
    fn what_was_asked_for_is_there_and_in_its_unit() {
        let chosen = choose(&["call-64".to_owned()], Length::Full).expect("it is known");
        let line = |name: &str, unit| Line { name: name.into(), what: "a call".into(), unit, samples: vec![1.0] };
        let checked = |lines| accept(lines, &["call-64"], &chosen).map(|lines| lines.len()).ok();
        assert_eq!(checked(vec![line("call-64", Unit::Nanoseconds), line("more", Unit::Count)]), Some(1));
        assert_eq!(checked(vec![line("call-64", Unit::PerSecond)]), None);
        assert_eq!(checked(vec![]), None);
    }

    #[test]
    fn figures_are_told_from_the_rest() {
        let figure = r#"{"name":"call-64","what":"a call","unit":"ns","samples":[1]}"#;
        let script = |text: &str| run(Command::new("sh").args(["-c", text]), &Progress::new(0));
        let lines = script(&format!("echo warming up; echo '{figure}'; echo hm >&2")).expect("it is well");
        assert_eq!(lines.len(), 1);
        assert!(script("echo '{no figure'").is_err());
        assert!(script(&format!("echo '{figure}'; exit 3")).is_err());
    }
}
