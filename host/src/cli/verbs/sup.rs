//! `paguro sup`: one supervisor, its policy, what of it is used up, and its children.

use clap::Args;

use crate::base::Name;
use crate::base::units::{self, plural};
use crate::cli::api::{ApiPath, Client};
use crate::cli::errors::CliError;
use crate::cli::input::name_or_root;
use crate::cli::output;
use crate::cli::render::{self, BAD, BOLD, Cell, DIM, cell, paint, safe, style_of, styled};
use crate::control::wire::{SupervisedInfo, SupervisorDetail};

#[derive(Args, Debug)]
#[command(after_help = "\
Children come in pages, in start order: `--after` asks for those behind a name. RESTARTS counts those after a \
child's own failures within the period, one that is about to come among them, neither those along with others nor an \
operator's; an isolation begins anew.

Examples:
  paguro sup                                the root
  paguro sup billing
  paguro sup tenants --after tenants/1000 --limit 100")]
pub struct SupArgs {
    /// The supervisor, such as `billing`; without it, the root
    #[arg(value_parser = name_or_root)]
    name: Option<Name>,
    /// Show the children behind this one
    #[arg(long, value_name = "NAME")]
    after: Option<Name>,
    /// Children to show, at most 1000
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(mut args: SupArgs, client: &Client) -> Result<(), CliError> {
    args.name = args.name.filter(|name| !name.is_root());
    let path = ApiPath::supervisor(args.name.as_ref()).query("after", args.after.as_ref().map(Name::as_str));
    let reply = client.get(path.query("limit", Some(args.limit))).await?;
    if args.json {
        return output::print_json(&reply.body);
    }
    let detail: SupervisorDetail = reply.json()?;
    output::print(&draw(&detail))?;
    if let Some(next) = &detail.next {
        let name = args.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        output::note(&format!("more: paguro sup{name} --after {}", safe(next)));
    }
    Ok(())
}

const HEADER: [&str; 7] = ["CHILD", "STATE", "RESTART", "SHUTDOWN", "RESTARTS", "TIER", "NOTES"];

fn draw(info: &SupervisorDetail) -> String {
    let stopped = render::standing(info.running, &info.state);
    let mut out = format!("{}  {}{stopped}\n", paint(BOLD, &safe(&info.name)), safe(&info.strategy));
    let mut line = |label: &str, text: String| {
        out += &format!("  {} {}\n", paint(DIM, &format!("{label:<16}")), safe(&text));
    };
    line("intensity", intensity(info));
    line("backoff", backoff(info));
    if let Some(steps) = steps(info) {
        line("escalation", steps);
    }
    if let Some(policy) = &info.circuit_breaker {
        let text = format!(
            "opens at {} in {}, for {}",
            plural(policy.failures, "failure"),
            age(policy.window_ms),
            age(policy.recovery_ms)
        );
        line("circuit breaker", text);
    }
    if let Some(memory) = info.budget.memory_bytes {
        let taken = units::show_size(info.budget.memory_taken_bytes.unwrap_or_default());
        line("memory budget", format!("{taken} of {} taken", units::show_size(memory)));
    }
    if let Some(cpu) = info.budget.cpu {
        line(
            "cpu budget",
            format!("{} of {cpu} units of fuel per second taken", info.budget.cpu_taken.unwrap_or_default()),
        );
    }
    if !info.order.is_empty() {
        line("order", info.order.join(", "));
    }
    if info.auto_shutdown != "never" {
        line("auto-shutdown", info.auto_shutdown.clone());
    }
    if info.on_demand {
        line("on demand", "the first message to a key starts its child".to_string());
    }
    let counts = &info.counts;
    // Of a template one is known, however many keys there are.
    let known = if info.strategy == "simple-one-for-one" {
        "a template".to_string()
    } else {
        format!("{} known", counts.specs)
    };
    let counted = format!(
        "{known}, {} active: {}, {}",
        counts.active,
        plural(counts.workers as u64, "worker"),
        plural(counts.supervisors as u64, "supervisor")
    );
    line("children", counted);
    if let Some(failed) = &info.restarting_with {
        line("restarting", format!("with {failed}"));
    }
    for restart in info.restarts.iter().rev().take(RESTARTS_SHOWN) {
        line("failed", format!("{} {} ago", restart.child, age(restart.ago_ms)));
    }
    if info.children.is_empty() {
        return out;
    }
    let rows: Vec<Vec<Cell>> = info.children.iter().map(row).collect();
    out + "\n" + &render::table(&HEADER, &rows)
}

/// Of the restarts within the period, the newest.
const RESTARTS_SHOWN: usize = 10;

fn intensity(info: &SupervisorDetail) -> String {
    let period = age(info.period_ms);
    if info.name == "/" {
        // At the root each child has a budget of its own.
        return format!("lets go of a child after more than {} in {period}", plural(info.intensity, "restart"));
    }
    if info.each_key {
        return format!(
            "each key by itself: isolated after more than {} in {period}",
            plural(info.intensity, "restart")
        );
    }
    let used = u32::try_from(info.restarts.len()).unwrap_or(u32::MAX).min(info.intensity);
    format!("{used} of {} in {period} used", plural(info.intensity, "restart"))
}

fn backoff(info: &SupervisorDetail) -> String {
    let backoff = &info.backoff;
    format!(
        "none, then {} to {}, times {}; healthy after {}",
        age(backoff.initial_ms),
        age(backoff.max_ms),
        backoff.factor,
        age(backoff.healthy_after_ms)
    )
}

fn steps(info: &SupervisorDetail) -> Option<String> {
    let steps = [
        ("circuit-break", info.escalation.circuit_break),
        ("isolate", info.escalation.isolate),
        ("escalate", info.escalation.escalate),
    ];
    let written: Vec<String> =
        steps.iter().filter_map(|(step, count)| Some(format!("{step} after {}", (*count)?))).collect();
    (!written.is_empty()).then(|| format!("{} restarts of one child", written.join(", ")))
}

fn row(child: &SupervisedInfo) -> Vec<Cell> {
    let mut notes = Vec::new();
    if child.kind == "supervisor" {
        notes.push("supervisor".to_string());
    }
    if child.significant {
        notes.push("significant".to_string());
    }
    if !child.after.is_empty() {
        notes.push(format!("after {}", child.after.join(", ")));
    }
    vec![
        cell(&child.name),
        styled(style_of(&child.state), &child.state),
        cell(&child.restart),
        cell(&child.shutdown),
        styled(if child.restarts > 0 { BAD } else { render::PLAIN }, child.restarts),
        cell(&child.tier),
        styled(DIM, notes.join("; ")),
    ]
}

fn age(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_policy_what_of_it_is_used_and_the_children() {
        let json = r#"{"name":"billing","running":true,"strategy":"rest-for-one","intensity":3,"period_ms":60000,
            "restarts":[{"child":"billing/db","ago_ms":4200}],"order":["db"],"auto_shutdown":"any-significant",
            "on_demand":false,"tier":"critical",
            "backoff":{"initial_ms":100,"max_ms":30000,"factor":2,"jitter_percent":20,"healthy_after_ms":30000},
            "escalation":{"isolate":2},"budget":{"memory_bytes":1073741824,"memory_taken_bytes":268435456},
            "counts":{"specs":2,"active":1,"supervisors":0,"workers":2},
            "children":[
              {"name":"billing/db","kind":"worker","state":"running","restart":"permanent","shutdown":"5s",
               "significant":false,"after":[],"tier":"normal","restarts":1},
              {"name":"billing/job","kind":"worker","state":"down","restart":"transient","shutdown":"kill",
               "significant":true,"after":["db"],"tier":"normal","restarts":0}]}"#;
        expect![[r#"
            billing  rest-for-one
              intensity        1 of 3 restarts in 1m used
              backoff          none, then 100ms to 30s, times 2; healthy after 30s
              escalation       isolate after 2 restarts of one child
              memory budget    256.0 MiB of 1.0 GiB taken
              order            db
              auto-shutdown    any-significant
              children         2 known, 1 active: 2 workers, 0 supervisors
              failed           billing/db 4s 200ms ago

            CHILD        STATE    RESTART    SHUTDOWN  RESTARTS  TIER    NOTES
            billing/db   running  permanent  5s        1         normal
            billing/job  down     transient  kill      0         normal  significant; after db
        "#]]
        .assert_eq(&strip_str(&draw(&serde_json::from_str(json).unwrap())).to_string());
    }
}
