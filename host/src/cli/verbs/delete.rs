//! `paguro delete`: drops a worker that is down.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker must be down: `paguro stop` it first. Its state and its history are kept under its name. One \
that has a file in the directory comes back when that file changes; a key of a template when it is started, or with \
its next message where the template starts keys on demand.

Examples:
  paguro delete billing/invoices")]
pub struct DeleteArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
}

pub async fn run(args: DeleteArgs, client: &Client) -> Result<(), CliError> {
    client.send(Request::delete(ApiPath::worker(&args.name, ""))).await?;
    output::note(&format!("deleted {}", args.name));
    Ok(())
}
