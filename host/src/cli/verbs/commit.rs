//! `paguro commit`: ends probation now; the new revision stays.

use clap::Args;

use super::show_upgrade::{self, Asked};
use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  paguro commit counter")]
pub struct CommitArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: CommitArgs, client: &Client) -> Result<(), CliError> {
    let request = Request::post(ApiPath::worker(&args.name, "commit"), Vec::new());
    show_upgrade::show(&client.send(request).await?, Asked::Commit, args.json, client)
}
