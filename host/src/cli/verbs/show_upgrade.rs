//! What came of an upgrade, a rollback or a commit.

use std::fmt::Write;

use crate::base::units::show_size;
use crate::cli::api::{Client, Reply};
use crate::cli::errors::{CliError, Exit};
use crate::cli::output;
use crate::cli::render::{about, age, count, micros, paint, safe, short, style_of};
use crate::control::wire::{RehearsalInfo, UpgradeInfo};

/// What was asked for: the same outcome is success for one and failure for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Upgrade,
    Rollback,
    Commit,
}

/// Shows the outcome on standard output, what to run next on standard error, and fails where the
/// outcome is not what was asked for.
pub fn show(reply: &Reply, asked: Asked, json: bool, client: &Client) -> Result<(), CliError> {
    let info: UpgradeInfo = reply.json()?;
    let failure = failure(&info, asked, client);
    match &failure {
        _ if json => output::print_json(&reply.body)?,
        // The error says it all; its facts would only stand between the user and it.
        Some(_) => {}
        None => output::print(&facts(&info))?,
    }
    if let Some(error) = failure {
        return Err(error);
    }
    if !json {
        next(&info, client);
    }
    Ok(())
}

fn failure(info: &UpgradeInfo, asked: Asked, client: &Client) -> Option<CliError> {
    let (worker, to) = (&info.worker, short(&info.to));
    let told = match (info.outcome.as_str(), asked) {
        ("called-off", Asked::Rollback) => format!("the rollback of {worker} was called off; it runs as before"),
        ("called-off", _) => format!("the upgrade of {worker} to {to} was called off; it runs as before"),
        ("rolled-back", Asked::Upgrade | Asked::Commit) => {
            let replayed = info.replayed.map(|number| format!(", {} handed back", count(number, "message")));
            // To a commit it is told what serves now, to an upgrade what was made of it.
            let told = match asked {
                Asked::Commit => format!("{worker} is back on revision {}", info.revision),
                _ => format!("revision {} of {worker} was rolled back", info.revision),
            };
            told + &replayed.unwrap_or_default()
        }
        _ => return None,
    };
    let help = client.command(&format!("history {worker}"));
    Some(CliError::new(Exit::CalledOff, told).cause(info.reason.clone().unwrap_or_default()).help(help))
}

/// The headline and what is known, a line each.
fn facts(info: &UpgradeInfo) -> String {
    let (worker, revision) = (&info.worker, info.revision);
    let probation = info.probation_ms.map_or(String::new(), |ms| format!(" for {}", age(ms)));
    let headline = match info.outcome.as_str() {
        "rehearsed" => format!("{worker} could be upgraded; nothing was changed"),
        "probation" => format!("{worker} serves revision {revision}, in probation{probation}"),
        "committed" if info.runs == Some(false) => {
            format!("{worker} has revision {revision} and does not run; its next start is on that")
        }
        "committed" => format!("{worker} serves revision {revision}, committed"),
        "rolled-back" => format!("{worker} is back on revision {revision}"),
        other => format!("{worker} serves revision {revision}: {other}"),
    };
    let mut out = format!("{}\n", paint(style_of(&info.outcome), &safe(&headline)));
    let mut fact = |label: &str, text: String| {
        let _ = writeln!(out, "  {label:<10} {}", safe(&text));
    };
    if info.from == info.to {
        fact("component", short(&info.to).to_string());
    } else {
        fact("component", format!("{} -> {}", short(&info.from), short(&info.to)));
    }
    if let Some(rehearsal) = &info.rehearsal {
        fact("rehearsal", rehearsed(rehearsal));
        fact("state", state(rehearsal));
    }
    if let Some(pause) = info.pause_us {
        fact("pause", micros(pause));
    }
    if let Some(replayed) = info.replayed {
        fact("replayed", count(replayed, "message"));
    }
    if let Some(reason) = &info.reason {
        fact("reason", reason.clone());
    }
    out
}

/// What a rehearsal learnt about the new component, on one line.
pub fn rehearsed(info: &RehearsalInfo) -> String {
    let (took, fuel, memory) = (micros(info.took_us), about(info.fuel), show_size(info.memory_bytes));
    let health = if info.health.is_empty() { String::new() } else { format!(", health {}", info.health) };
    format!("{took}, {fuel} fuel, {memory} memory{health}")
}

/// What it would do to the state, on one line.
pub fn state(info: &RehearsalInfo) -> String {
    let side = |bytes: u64, schema: Option<u32>| match schema {
        Some(schema) => format!("{} (schema {schema})", show_size(bytes)),
        None => show_size(bytes),
    };
    let before = side(info.state_before_bytes, info.schema_before);
    format!("{before} -> {}", side(info.state_after_bytes, info.schema_after))
}

fn next(info: &UpgradeInfo, client: &Client) {
    let worker = &info.worker;
    let lines: &[(String, &str)] = match info.outcome.as_str() {
        "probation" => &[(format!("commit {worker}"), "to keep it now"), (format!("rollback {worker}"), "to go back")],
        "committed" if info.rollback_to.is_some() => &[(format!("rollback {worker}"), "to go back")],
        _ => return,
    };
    for (at, (command, purpose)) in lines.iter().enumerate() {
        let label = if at == 0 { "next:" } else { "     " };
        output::note(&format!("{label} {}  {purpose}", client.command(command)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;
    use crate::cli::target::{Endpoint, HostArgs, Target};

    fn client() -> Client {
        let host = Some(Endpoint::Tcp("h:1".into()));
        let args = HostArgs { dir: Path::new("d").into(), state: None, host, token: None };
        Client::new(Target::of(&args), None)
    }

    fn info(outcome: &str) -> UpgradeInfo {
        let rehearsal = RehearsalInfo {
            took_us: 4_230,
            fuel: 1_234_567,
            memory_bytes: 1_179_648,
            state_before_bytes: 20,
            state_after_bytes: 1_200,
            schema_before: Some(1),
            schema_after: Some(2),
            health: "ok".into(),
        };
        UpgradeInfo {
            worker: "counter".into(),
            outcome: outcome.into(),
            revision: 2,
            from: "0123456789abcdef".into(),
            to: "fedcba9876543210".into(),
            rehearsal: Some(rehearsal),
            pause_us: Some(830),
            runs: Some(true),
            probation_ms: Some(30_000),
            reason: None,
            replayed: None,
            rollback_to: Some(1),
        }
    }

    #[test]
    fn the_facts_of_an_upgrade() {
        expect![[r#"
            counter serves revision 2, in probation for 30s
              component  0123456789ab -> fedcba987654
              rehearsal  4.23ms, 1.2M fuel, 1.1 MiB memory, health ok
              state      20 B (schema 1) -> 1.2 KiB (schema 2)
              pause      830us
        "#]]
        .assert_eq(&strip_str(&facts(&info("probation"))).to_string());
    }

    #[test]
    fn a_worker_that_does_not_run_is_not_said_to_serve() {
        let headline = |runs| {
            let info = UpgradeInfo { runs: Some(runs), ..info("committed") };
            strip_str(&facts(&info)).to_string().lines().next().unwrap_or_default().to_string()
        };
        assert_eq!(headline(false), "counter has revision 2 and does not run; its next start is on that");
        assert_eq!(headline(true), "counter serves revision 2, committed");
    }

    #[test]
    fn a_rollback_is_what_one_asked_for_or_a_failure() {
        let back = UpgradeInfo { reason: Some("trap: unreachable".into()), replayed: Some(3), ..info("rolled-back") };
        assert_eq!(failure(&back, Asked::Rollback, &client()), None);
        let error = failure(&back, Asked::Upgrade, &client()).unwrap();
        assert_eq!(error.exit().code(), 4);
        expect![[r#"
            error: revision 2 of counter was rolled back, 3 messages handed back
              cause: trap: unreachable
              help: paguro --host http://h:1 history counter"#]]
        .assert_eq(&error.to_string());
        for asked in [Asked::Upgrade, Asked::Rollback, Asked::Commit] {
            assert_eq!(failure(&info("called-off"), asked, &client()).map(|error| error.exit().code()), Some(4));
            assert_eq!(failure(&info("committed"), asked, &client()), None);
        }
    }
}
