//! `paguro isolate`: stops a worker and keeps it so.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker is stopped in order, and nothing starts it by itself. `paguro call` says that it is isolated; a worker \
that calls it gets the error `down`. `paguro start`, an upgrade or rollback by command, and a new file take that back. \
Isolating a supervisor stops all below it as well; only `paguro start` takes that back.

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
