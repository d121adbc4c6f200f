//! `paguro upgrade`: puts another component in a worker's place while it runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::show_upgrade::{self, Asked};
use crate::base::{Name, units};
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::{input, output};

#[derive(Args, Debug)]
#[command(after_help = "\
The new component is rehearsed on a copy of the worker's state first; if that fails nothing happens. \
After the switch it is in probation: if it traps, reaches a limit or is in a critical state, the old \
revision comes back by itself, with its state, and handles what came since. The command returns once \
the new revision serves; with --wait it returns with probation's verdict. It ends with 4 where the \
upgrade was called off or rolled back.

Examples:
  paguro upgrade counter counter-v2.wasm --dry-run
  paguro upgrade counter counter-v2.wasm --probation 2m
  paguro upgrade counter counter-v2.wasm --wait && echo kept")]
pub struct UpgradeArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// The new component, or `-` for standard input
    file: PathBuf,

    /// Rehearse only: say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// How long the old revision can come back by itself [default: the worker's own, else 30s]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    probation: Option<Duration>,

    /// Go on also where the component exports no `lifecycle`, `health` or `batch`, which the running one does
    #[arg(long, conflicts_with = "dry_run")]
    allow_fewer_exports: bool,

    /// Return with the verdict, when probation has ended
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: UpgradeArgs, client: &Client) -> Result<(), CliError> {
    let component = input::read_file_or_stdin(&args.file)?;
    let path = ApiPath::worker(&args.name, "upgrade")
        .flag("dry_run", args.dry_run)
        .query("probation_ms", args.probation.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
        .flag("wait", args.wait)
        .flag("fewer_exports", args.allow_fewer_exports);
    let progress = output::progress(&doing(&args, component.len() as u64));
    let reply = client.send(Request::post(path, component)).await;
    drop(progress);
    show_upgrade::show(&reply?, Asked::Upgrade, args.json, client)
}

fn doing(args: &UpgradeArgs, bytes: u64) -> String {
    let (name, file) = (&args.name, args.file.display());
    let size = units::show_size(bytes);
    match (args.dry_run, args.wait) {
        (true, _) => format!("rehearsing {file} ({size}) on a copy of the state of {name}"),
        (_, true) => format!("upgrading {name} to {file} ({size}), then waiting for the verdict"),
        _ => format!("upgrading {name} to {file} ({size})"),
    }
}
