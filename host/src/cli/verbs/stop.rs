//! `paguro stop`: stops a worker in order; it stays stopped.

use clap::Args;

use crate::base::{ExitReason, Name};
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::control::wire::WorkerInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker finishes the message it is at, saves its state and ends. It stays down until `paguro start`, or until \
its supervisor starts it with others, as in OTP: under one-for-all and rest-for-one when one of them fails, and \
when the supervisor itself is started anew. A key of a template that starts its children on demand comes back with \
its next message. A stop ends probation, with the verdict so far; a template's keys are let go of with it.

Examples:
  paguro stop billing/invoices")]
pub struct StopArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
}

pub async fn run(args: StopArgs, client: &Client) -> Result<(), CliError> {
    client.send(Request::post(ApiPath::worker(&args.name, "stop"), Vec::new())).await?;
    output::note(&format!("stopped {}{}", args.name, how(&args.name, client).await));
    Ok(())
}

/// What an operator would not expect of a stop.
async fn how(name: &Name, client: &Client) -> &'static str {
    // A supervisor is no worker, and another may have deleted it.
    let Ok(reply) = client.get(ApiPath::worker(name, "")).await else { return "" };
    match reply.json::<WorkerInfo>().ok().and_then(|info| info.last_exit) {
        Some(exit) if exit == ExitReason::Killed.to_string() => {
            ": it did not end within its `shutdown` time and was killed; what it had changed since its last snapshot is \
             gone"
        }
        _ => "",
    }
}
