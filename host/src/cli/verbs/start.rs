//! `paguro start`: starts a worker that is stopped or isolated.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker goes on with its saved state.

Examples:
  paguro start billing/invoices")]
pub struct StartArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
}

pub async fn run(args: StartArgs, client: &Client) -> Result<(), CliError> {
    client.send(Request::post(ApiPath::worker(&args.name, "start"), Vec::new())).await?;
    output::note(&format!("started {}", args.name));
    Ok(())
}
