//! `paguro rollback`: goes back to an earlier revision.

use clap::Args;

use super::show_upgrade::{self, Asked};
use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
In probation, the old revision comes back with its state from before the switch and handles every \
message since.

Examples:
  paguro rollback counter
  paguro history counter && paguro rollback counter --to 1")]
pub struct RollbackArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// The revision to go back to, as `paguro history` numbers them [default: the one that served before what runs came; revisions from after that, and components that were called off or rolled back, are passed over]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,

    /// Go back also where that revision exports no `lifecycle`, `health` or `batch`, which the running one does
    #[arg(long)]
    allow_fewer_exports: bool,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: RollbackArgs, client: &Client) -> Result<(), CliError> {
    let path =
        ApiPath::worker(&args.name, "rollback").query("to", args.to).flag("fewer_exports", args.allow_fewer_exports);
    let progress = output::progress(&format!("rolling {} back", args.name));
    let reply = client.send(Request::post(path, Vec::new())).await;
    drop(progress);
    show_upgrade::show(&reply?, Asked::Rollback, args.json, client)
}
