//! `paguro start`: starts a worker that is stopped or isolated, or a key of a template.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::output;

#[derive(Args, Debug)]
#[command(after_help = "\
The worker goes on with its saved state. Below a simple-one-for-one supervisor the last part of the name is \
a key: a new one starts a child of the template.

Examples:
  paguro start billing/invoices
  paguro start tenants/42 --config '{\"plan\":\"pro\"}'")]
pub struct StartArgs {
    /// The worker, such as `billing/invoices`
    name: Name,
    /// For a new key: its configuration, in the place of its template's
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
}

pub async fn run(args: StartArgs, client: &Client) -> Result<(), CliError> {
    if let Some(config) = &args.config
        && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(config).is_err()
    {
        return Err(CliError::usage("the configuration is no JSON object").help("--config '{\"plan\":\"pro\"}'"));
    }
    let body = args.config.unwrap_or_default().into_bytes();
    client.send(Request::post(ApiPath::worker(&args.name, "start"), body)).await?;
    output::note(&format!("started {}", args.name));
    Ok(())
}
