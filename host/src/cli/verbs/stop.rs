//! `paguro stop`: stops a worker in order; it stays stopped.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker finishes the message it is at, saves its state and ends; it stays down until `paguro start`.

Examples:
  paguro stop billing/invoices")]
pub struct StopArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
}

pub async fn run(args: StopArgs, client: &Client) -> Result<(), CliError> {
    client.send(Request::post(ApiPath::worker(&args.name, "stop"), Vec::new())).await?;
    output::note(&format!("stopped {}", args.name));
    Ok(())
}
