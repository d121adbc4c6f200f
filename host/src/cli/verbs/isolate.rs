//! `paguro isolate`: stops a worker and keeps it so.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker is stopped in order. Nothing starts it by itself, and who calls it is told that it is isolated. \
Isolating a supervisor stops all below it as well: who calls one of those is told that its supervisor does not run. \
`paguro start`, an upgrade or rollback by command, and a new file take it back.

Examples:
  paguro isolate billing/invoices")]
pub struct IsolateArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
}

pub async fn run(args: IsolateArgs, client: &Client) -> Result<(), CliError> {
    client.send(Request::post(ApiPath::worker(&args.name, "isolate"), Vec::new())).await?;
    output::note(&format!("isolated {}", args.name));
    Ok(())
}
