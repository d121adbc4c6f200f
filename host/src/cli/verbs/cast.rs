//! `paguro cast`: one message to a worker, and no reply.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::input::Input;

#[derive(Args, Debug)]
#[command(after_help = "\
Ends with 0 once the message is in the worker's mailbox; what became of it, `paguro events` and the worker's log tell.

Examples:
  paguro cast stats 42
  paguro cast stats @numbers.json")]
pub struct CastArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// What to send: text, @FILE, or `-` for standard input
    #[arg(value_name = "BODY | @FILE | -", allow_negative_numbers = true)]
    body: Option<Input>,
}

pub async fn run(args: CastArgs, client: &Client) -> Result<(), CliError> {
    let body = args.body.unwrap_or_default().read()?;
    client.send(Request::post(ApiPath::worker(&args.name, "cast"), body)).await?;
    Ok(())
}
