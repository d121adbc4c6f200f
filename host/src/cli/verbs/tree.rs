//! `paguro tree`: who supervises whom.

use clap::Args;

use crate::base::units::plural;
use crate::cli::api::{ApiPath, Client};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, BAD, BOLD, DIM, paint, safe, style_of};
use crate::control::wire::{ChildInfo, SupervisorInfo, WorkerInfo};

#[derive(Args, Debug)]
#[command(after_help = "\
A supervisor shows its strategy and how many restarts its intensity leaves within its period; children \
stand in start order. Of a template's children the first are shown.

Examples:
  paguro tree
  paguro tree --json")]
pub struct TreeArgs {
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: TreeArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(ApiPath::new("tree")).await?;
    if args.json {
        return output::print_json(&reply.body);
    }
    output::print(&draw(&reply.json()?))
}

fn draw(root: &SupervisorInfo) -> String {
    let mut out = format!("{}\n", supervisor(root));
    draw_children(root, "", &mut out);
    out
}

fn draw_children(parent: &SupervisorInfo, indent: &str, out: &mut String) {
    for (at, child) in parent.children.iter().enumerate() {
        let last = at + 1 == parent.children.len() && parent.more == 0;
        let (branch, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let line = match child {
            ChildInfo::Worker(info) => worker(info),
            ChildInfo::Supervisor(info) => supervisor(info),
        };
        *out += &format!("{indent}{}{line}\n", paint(DIM, branch));
        if let ChildInfo::Supervisor(info) = child {
            draw_children(info, &format!("{indent}{}", paint(DIM, below)), out);
        }
    }
    if parent.more > 0 {
        let name = if parent.name == "/" { String::new() } else { format!(" {}", safe(&parent.name)) };
        let hint = format!("and {} more: paguro sup{name}", parent.more);
        *out += &format!("{indent}{}{}\n", paint(DIM, "└── "), paint(DIM, &hint));
    }
}

fn supervisor(info: &SupervisorInfo) -> String {
    let name = match leaf(&info.name) {
        "" => "/".to_string(),
        leaf => format!("{}/", safe(leaf)),
    };
    let left = info.intensity.saturating_sub(info.restarts);
    let period = render::age(info.period_ms);
    // At the root each child has a budget of its own.
    let used = match info.name.as_str() {
        "/" => format!("{} of each in {period}", plural(info.intensity, "restart")),
        _ if info.each_key => format!("{} of each key in {period}", plural(info.intensity, "restart")),
        _ => format!("{left} of {} left in {period}", plural(info.intensity, "restart")),
    };
    let style = if info.restarts > 0 { style_of("warn") } else { DIM };
    let stopped = render::standing(info.running, &info.state);
    format!("{}  {}  {}{stopped}", paint(BOLD, &name), safe(&info.strategy), paint(style, &used))
}

fn worker(info: &WorkerInfo) -> String {
    let state = paint(style_of(&info.state), &safe(&info.state));
    let facts = format!("revision {}  {}", info.revision, safe(render::short(&info.component)));
    let reason = info.reason.as_ref().map(|reason| format!("  {}", safe(reason))).unwrap_or_default();
    let restarts = if info.restarts > 0 { paint(BAD, &format!("  restarts {}", info.restarts)) } else { String::new() };
    let breaker = match info.breaker.as_deref() {
        None | Some("closed") => String::new(),
        Some(breaker) => paint(BAD, &format!("  breaker {}", safe(breaker))),
    };
    format!("{}  {state}  {}{restarts}{breaker}{reason}", safe(leaf(&info.name)), paint(DIM, &facts))
}

fn leaf(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    fn worker_json(name: &str, state: &str) -> String {
        format!(
            r#"{{"type":"worker","name":"{name}","kind":"worker","state":"{state}","revision":1,
            "component":"0123456789abcdef","file":"same","exports":[],"incarnation":0,"restarts":0,
            "mailbox":0,"mailbox_max":9,"memory_bytes":0,"memory_max_bytes":0,"handled":0,
            "rejected":0,"expired":0,"refused":0}}"#
        )
    }

    #[test]
    fn branches_show_who_is_below_whom() {
        let json = format!(
            r#"{{"name":"/","strategy":"one-for-one","running":true,"intensity":3,"period_ms":5000,"restarts":0,
            "children":[{{"type":"supervisor","name":"billing","strategy":"rest-for-one","running":false,
              "intensity":1,"period_ms":60000,"restarts":1,"children":[{},{}]}},{}]}}"#,
            worker_json("billing/ledger", "running"),
            worker_json("billing/invoices", "isolated"),
            worker_json("greeter", "probation"),
        );
        expect![[r#"
            /  one-for-one  3 restarts of each in 5s
            ├── billing/  rest-for-one  0 of 1 restart left in 1m  stopped
            │   ├── ledger  running  revision 1  0123456789ab
            │   └── invoices  isolated  revision 1  0123456789ab
            └── greeter  probation  revision 1  0123456789ab
        "#]]
        .assert_eq(&strip_str(&draw(&serde_json::from_str(&json).unwrap())).to_string());
    }
}
