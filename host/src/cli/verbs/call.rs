//! `paguro call`: one request to a worker, and its reply.

use std::time::Duration;

use clap::Args;

use crate::base::{Name, units};
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::input::Input;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The reply's bytes go to standard output as they are. Text without a newline at its end gets one. \
`-` alone is standard input; give a body that starts with `@` through it.

Examples:
  paguro call counter add
  paguro call orders @order.json --timeout 2s
  echo '{\"id\": 7}' | paguro call orders -")]
pub struct CallArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// What to send: text, @FILE, or `-` for standard input
    #[arg(value_name = "BODY | @FILE | -", allow_negative_numbers = true)]
    body: Option<Input>,

    /// How long to wait for the reply, such as 250ms or 5s [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Duration>,
}

/// A time in which something could answer, as the API has it.
fn timeout(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text)? {
        time if time.as_millis() == 0 => Err("a call takes 1ms or more".to_string()),
        time => Ok(time),
    }
}

pub async fn run(args: CallArgs, client: &Client) -> Result<(), CliError> {
    let body = args.body.unwrap_or_default().read()?;
    let path = ApiPath::worker(&args.name, "call")
        .query("timeout_ms", args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
    let reply = client.send(Request::post(path, body)).await?;
    output::print_bytes(&reply.body)
}
