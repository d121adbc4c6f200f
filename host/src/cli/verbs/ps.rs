//! `paguro ps`: what runs, one line per worker.

use clap::Args;

use crate::base::bounds::PAGE_ROWS_MAX;
use crate::base::units;
use crate::cli::api::{ApiPath, Client};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, BAD, Cell, DIM, cell, paint, safe, styled};
use crate::control::wire::{HostInfo, WorkerInfo};

#[derive(Args, Debug)]
#[command(after_help = "\
FILE is shown where what runs is not what the directory holds: `override` after an upgrade or rollback \
by command, `rejected` where the file's component was refused, called off or rolled back, `newer` where the file waits \
for a change that is under way, for its settings to be mended or for its turn (`paguro doctor` says for which), `none` without a file. RESTARTS counts an operator's as well.

Examples:
  paguro ps
  paguro ps --json | jq '.[] | select(.state != \"running\") | .name'")]
pub struct PsArgs {
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: PsArgs, client: &Client) -> Result<(), CliError> {
    let workers = all(client).await?;
    if args.json {
        return output::print_json(&serde_json::to_vec(&workers).unwrap_or_default());
    }
    let workers: Vec<WorkerInfo> = workers
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()
        .map_err(|error| CliError::failed("the host's answer cannot be understood").cause(error.to_string()))?;
    let host: HostInfo = client.get(ApiPath::new("host")).await?.json()?;
    if let Some(starting) = host.starting {
        output::note(&format!("starting: {starting}"));
    } else if workers.is_empty() {
        output::note(
            "no workers; put a component into the directory to start one, or see `paguro doctor` if one is there \
             (`paguro tree` shows templates, whose children start with their first message)",
        );
    }
    if workers.is_empty() {
        return Ok(());
    }
    output::print(&list(&workers))
}

/// Page by page, each worker as the host wrote it.
async fn all(client: &Client) -> Result<Vec<serde_json::Value>, CliError> {
    let mut workers: Vec<serde_json::Value> = Vec::new();
    loop {
        let after = workers.last().and_then(|last| last["name"].as_str().map(str::to_string));
        let page: Vec<serde_json::Value> = client.get(ApiPath::new("workers").query("after", after)).await?.json()?;
        let full = page.len() >= PAGE_ROWS_MAX;
        workers.extend(page);
        if !full {
            return Ok(workers);
        }
    }
}

const HEADER: [&str; 9] = ["NAME", "STATE", "REV", "COMPONENT", "UPTIME", "RESTARTS", "MAILBOX", "MEMORY", "FILE"];

fn list(workers: &[WorkerInfo]) -> String {
    let rows: Vec<Vec<Cell>> = workers.iter().map(row).collect();
    // The column is there only where somebody has something in it.
    let shown = if workers.iter().all(|worker| worker.file == "same") { HEADER.len() - 1 } else { HEADER.len() };
    let table = render::table(&HEADER[..shown], &rows);
    let mut lines = table.lines();
    let mut out = String::new();
    out.extend(lines.next().map(|header| format!("{header}\n")));
    for (line, worker) in lines.zip(workers) {
        out += &format!("{line}\n");
        if let Some(reason) = reason(worker) {
            out += &format!("  {}\n", paint(DIM, &safe(reason)));
        }
    }
    out
}

fn row(worker: &WorkerInfo) -> Vec<Cell> {
    let state = match worker.probation_left_ms {
        Some(left) => format!("{} ({} left)", worker.state, render::age(left)),
        None => worker.state.clone(),
    };
    vec![
        cell(&worker.name),
        styled(render::style_of(&worker.state), state),
        cell(worker.revision),
        cell(render::short(&worker.component)),
        cell(worker.uptime_ms.map_or("-".to_string(), render::age)),
        styled(if worker.restarts > 0 { BAD } else { render::PLAIN }, worker.restarts),
        cell(format!("{}/{}", worker.mailbox, worker.mailbox_max)),
        cell(units::show_size(worker.memory_bytes)),
        styled(render::style_of(&worker.file), if worker.file == "same" { "" } else { &worker.file }),
    ]
}

/// Why a worker does not run; the last exit says it where the host gives no reason.
fn reason(worker: &WorkerInfo) -> Option<&str> {
    let isolated = worker.state == "isolated";
    worker.reason.as_deref().or(worker.last_exit.as_deref().filter(|_| isolated))
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    fn worker(name: &str, state: &str, rest: &str) -> WorkerInfo {
        let json = format!(
            r#"{{"name":"{name}","kind":"worker","state":"{state}","revision":3,
            "component":"0123456789abcdef0123","file":"same","exports":["handler"],"incarnation":0,
            "mailbox":0,"mailbox_max":1000,"memory_bytes":1179648,"memory_max_bytes":67108864,
            "handled":1,"rejected":0,"expired":0,"refused":0,"restarts":0{rest}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn every_worker_has_a_line_and_an_isolated_one_its_reason() {
        let mut override_ = worker("billing/invoices", "probation", r#","uptime_ms":65000,"probation_left_ms":28000"#);
        override_.file = "override".into();
        let isolated = worker("spinner", "isolated", r#","reason":"4 restarts in 5s:\u001b[2J trap""#);
        let workers = [worker("counter", "running", r#","uptime_ms":3700000"#), override_, isolated];
        expect![[r#"
            NAME              STATE                 REV  COMPONENT     UPTIME  RESTARTS  MAILBOX  MEMORY   FILE
            counter           running               3    0123456789ab  1h 1m   0         0/1000   1.1 MiB
            billing/invoices  probation (28s left)  3    0123456789ab  1m 5s   0         0/1000   1.1 MiB  override
            spinner           isolated              3    0123456789ab  -       0         0/1000   1.1 MiB
              4 restarts in 5s:\u{1b}[2J trap
        "#]]
        .assert_eq(&strip_str(&list(&workers)).to_string());
    }

    #[test]
    fn the_file_column_is_left_out_where_all_files_run() {
        let text = list(&[worker("counter", "running", "")]);
        assert!(!text.contains("FILE"), "{text}");
    }
}
