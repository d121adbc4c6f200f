//! `paguro health`: how everything is.

use clap::Args;
use serde_json::Value;

use crate::base::units::{plural, show_size};
use crate::cli::api::{ApiPath, Client, parse};
use crate::cli::errors::{CliError, Exit};
use crate::cli::output;
use crate::cli::render::{self, BAD, BOLD, Cell, DIM, cell, paint, safe, style_of, styled};
use crate::control::wire::{ChildHealth, HealthInfo};

#[derive(Args, Debug)]
#[command(after_help = "\
Degraded: something restarts, says that it does not work as it should, or has an open breaker. Critical: \
something is isolated, or says that it does not work. What is in the directory and does not run as it says makes it \
degraded too, unless an operator stopped it while it ran. Ends with 6 unless all is healthy. Without --all only what is not well is listed, and open or half-open breakers.

Examples:
  paguro health
  paguro health --all
  paguro health --json | jq .totals")]
pub struct HealthArgs {
    /// List every worker, the healthy ones too
    #[arg(long)]
    all: bool,
    /// Print the API's JSON, all workers in one
    #[arg(long)]
    json: bool,
}

pub async fn run(args: HealthArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(ApiPath::new("health")).await?;
    let mut report: HealthInfo = reply.json()?;
    if args.json {
        return whole(&reply.body, client).await.and(well(&report.status));
    }
    while let Some(next) = report.next.take() {
        let page: HealthInfo = client.get(ApiPath::new("health").query("after", Some(next))).await?.json()?;
        report.children.extend(page.children);
        report.next = page.next;
    }
    output::print(&draw(&report, args.all))?;
    well(&report.status)
}

/// All pages in one, each worker as the host wrote it.
async fn whole(first: &[u8], client: &Client) -> Result<(), CliError> {
    let mut report: Value = parse(first)?;
    while let Some(next) = report["next"].as_str().map(str::to_string) {
        let mut page: Value = client.get(ApiPath::new("health").query("after", Some(next))).await?.json()?;
        if let (Some(all), Some(more)) = (report["children"].as_array_mut(), page["children"].as_array_mut()) {
            all.append(more);
        }
        report["next"] = page["next"].take();
    }
    if let Some(report) = report.as_object_mut() {
        report.remove("next");
    }
    output::print_json(&serde_json::to_vec(&report).unwrap_or_default())
}

fn well(status: &str) -> Result<(), CliError> {
    if status == "healthy" {
        return Ok(());
    }
    Err(CliError::new(Exit::NotWell, format!("not all is well: {}", safe(status))).help("paguro doctor"))
}

const HEADER: [&str; 7] = ["NAME", "STATE", "HEALTH", "UPTIME", "RESTARTS", "BREAKER", "WHY"];

fn draw(report: &HealthInfo, all: bool) -> String {
    let totals = &report.totals;
    let mut out = format!("{}\n", paint(style(&report.status), &safe(&report.status)));
    if let Some(starting) = report.starting {
        out += &format!("starting: {starting}\n");
    }
    let counts = [
        ("running", totals.running),
        ("hibernated", totals.hibernated),
        ("moving", totals.moving),
        ("down", totals.down),
        ("isolated", totals.isolated),
        ("degraded", totals.degraded),
        ("critical", totals.critical),
        (if totals.breakers_open == 1 { "open breaker" } else { "open breakers" }, totals.breakers_open),
    ];
    let shown: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")).collect();
    let shown = if shown.is_empty() { "nothing runs".to_string() } else { shown.join(", ") };
    out += &format!(
        "{} {shown}, {}\n",
        paint(BOLD, &format!("{}:", plural(totals.workers, "worker"))),
        plural(totals.restarts, "restart")
    );
    if let Some(memory) = &report.memory {
        let (used, max) = (show_size(memory.used), show_size(memory.max));
        let refused =
            if memory.refused > 0 { format!(", {} refused", plural(memory.refused, "request")) } else { String::new() };
        out += &format!("{} {used} of {max}{refused}\n", paint(BOLD, "kept in memory:"));
    }
    if let Some(directory) = &report.directory {
        out += &format!("{} {}\n", paint(BAD, "directory:"), safe(directory));
    }
    for problem in &report.problems {
        out += &format!("{} {}\n", paint(BAD, &format!("{}:", safe(&problem.of))), safe(&problem.why));
    }
    if !report.isolated.is_empty() {
        out += &format!("{} {}\n", paint(BAD, "isolated:"), safe(&report.isolated.join(", ")));
    }
    let listed: Vec<&ChildHealth> = report.children.iter().filter(|child| all || !is_well(child)).collect();
    if listed.is_empty() {
        return out;
    }
    let rows: Vec<Vec<Cell>> = listed.into_iter().map(row).collect();
    out + "\n" + &render::table(&HEADER, &rows)
}

fn is_well(child: &ChildHealth) -> bool {
    matches!(child.state.as_str(), "running" | "hibernated" | "probation" | "down")
        && child.health.as_ref().is_none_or(|health| health == "healthy")
        && child.breaker.as_ref().is_none_or(|breaker| breaker == "closed")
}

fn row(child: &ChildHealth) -> Vec<Cell> {
    let breaker = child.breaker.as_deref().unwrap_or("-");
    vec![
        cell(&child.name),
        styled(style_of(&child.state), &child.state),
        cell(child.health.as_deref().unwrap_or("-")),
        cell(child.uptime_ms.map_or("-".to_string(), render::age)),
        styled(if child.restarts > 0 { BAD } else { render::PLAIN }, child.restarts),
        styled(if breaker == "open" { BAD } else { render::PLAIN }, breaker),
        styled(DIM, child.reason.as_deref().unwrap_or_default()),
    ]
}

fn style(status: &str) -> anstyle::Style {
    match status {
        "healthy" => render::GOOD,
        "degraded" => render::BUSY,
        _ => BAD,
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_not_well_is_listed_with_the_totals() {
        let json = r#"{"status":"critical","totals":{"workers":3,"running":2,"hibernated":0,"moving":0,"down":0,
            "isolated":1,"degraded":0,"critical":0,"breakers_open":1,"restarts":4},"isolated":["a"],
            "problems":[{"of":"b.toml","why":"unknown key `x`","help":"mend it"}],
            "memory":{"used":1048576,"max":1073741824,"by":{},"holder":"t","holder_used":7,"refused":3},
            "children":[{"name":"a","state":"isolated","restarts":4,"reason":"4 restarts in 5s"},
              {"name":"b","state":"running","health":"healthy","uptime_ms":65000,"restarts":0,"breaker":"open"},
              {"name":"c","state":"running","health":"healthy","uptime_ms":65000,"restarts":0}]}"#;
        let report: HealthInfo = serde_json::from_str(json).unwrap();
        expect![[r#"
            critical
            3 workers: 2 running, 1 isolated, 1 open breaker, 4 restarts
            kept in memory: 1.0 MiB of 1.0 GiB, 3 requests refused
            b.toml: unknown key `x`
            isolated: a

            NAME  STATE     HEALTH   UPTIME  RESTARTS  BREAKER  WHY
            a     isolated  -        -       4         -        4 restarts in 5s
            b     running   healthy  1m 5s   0         open
        "#]]
        .assert_eq(&strip_str(&draw(&report, false)).to_string());
        assert!(strip_str(&draw(&report, true)).to_string().contains("\nc     running"));
        let late = HealthInfo { directory: Some("workers: it does not answer".to_string()), ..report };
        assert!(strip_str(&draw(&late, false)).to_string().contains("\ndirectory: workers: it does not answer\n"));
    }
}
