//! `paguro restart`: stops a worker in order and starts it again.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker keeps its state and its revision; a probation ends with the verdict so far. A restart of a template's \
supervisor lets go of its keys: their states are kept, and they come back when they are started.

Examples:
  paguro restart billing/invoices")]
pub struct RestartArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
}

pub async fn run(args: RestartArgs, client: &Client) -> Result<(), CliError> {
    client.send(Request::post(ApiPath::worker(&args.name, "restart"), Vec::new())).await?;
    output::note(&format!("restarted {}", args.name));
    Ok(())
}
