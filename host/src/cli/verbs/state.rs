//! `paguro state`: a worker's state, shown, taken out and put in.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::base::{Name, units};
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::{input, output, render, target};
use crate::control::wire::StateInfo;

#[derive(Args, Debug)]
pub struct StateArgs {
    #[command(subcommand)]
    verb: StateVerb,
}

#[derive(Subcommand, Debug)]
enum StateVerb {
    /// Show a worker's state: its JSON, or its size and schema
    #[command(after_help = "Examples:\n  paguro state show counter")]
    Show(ShowArgs),
    /// Write a worker's state, as it is, to a file or standard output
    #[command(
        after_help = "Examples:\n  paguro state export counter -o counter.state\n  paguro state export counter | jq ."
    )]
    Export(ExportArgs),
    /// Put a state in the place of a worker's own
    #[command(after_help = "\
The worker takes it as it would after a restart; if it refuses, it keeps the state it has.

Examples:
  paguro state export counter -o counter.state
  paguro state import counter counter.state --schema 2 --media-type application/json")]
    Import(ImportArgs),
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// Print the API's JSON: schema, media type, size, and the state where it is JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ExportArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ImportArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// The state, or `-` for standard input
    file: PathBuf,

    /// The version of its layout [default: that of the state it replaces]
    #[arg(long, value_name = "N")]
    schema: Option<u32>,

    /// Its media type [default: that of the state it replaces]
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
}

pub async fn run(args: StateArgs, client: &Client) -> Result<(), CliError> {
    match args.verb {
        StateVerb::Show(args) => show(args, client).await,
        StateVerb::Export(args) => export(args, client).await,
        StateVerb::Import(args) => import(args, client).await,
    }
}

async fn show(args: ShowArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(ApiPath::worker(&args.name, "state")).await?;
    if args.json {
        return output::print_json(&reply.body);
    }
    let info: StateInfo = reply.json()?;
    match (&info.json, &info.cbor) {
        (Some(json), _) => {
            output::note(&about(&info));
            output::print_line(&render::safe_json(&format!("{json:#}")))
        }
        (None, Some(cbor)) => {
            output::note(&about(&info));
            output::print_line(&render::safe(cbor))
        }
        (None, None) => output::print_line(&about(&info)),
    }
}

fn about(info: &StateInfo) -> String {
    let media_type = render::safe(&info.media_type);
    format!("schema {}, {media_type}, {}", info.schema, units::show_size(info.bytes))
}

async fn export(args: ExportArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(ApiPath::worker(&args.name, "state/data")).await?;
    let Some(file) = &args.output else {
        return output::print_bytes_exactly(&reply.body);
    };
    std::fs::write(file, &reply.body)
        .map_err(|error| CliError::failed(format!("cannot write {}", file.display())).cause(error.to_string()))?;
    let (schema, media_type) = (reply.header("paguro-schema"), reply.header("content-type"));
    output::note(&format!("wrote {} to {}", units::show_size(reply.body.len() as u64), file.display()));
    output::note(&format!("back again: {}", client.command(&import_command(&args.name, file, schema, media_type))));
    Ok(())
}

fn import_command(name: &Name, file: &Path, schema: Option<&str>, media_type: Option<&str>) -> String {
    let option = |flag: &str, value: Option<&str>| {
        value.map(|value| format!(" --{flag} {}", target::quoted(Path::new(&render::safe(value))))).unwrap_or_default()
    };
    let file = target::quoted(file);
    format!("state import {name} {file}{}{}", option("schema", schema), option("media-type", media_type))
}

async fn import(args: ImportArgs, client: &Client) -> Result<(), CliError> {
    let state = input::read_file_or_stdin(&args.file)?;
    let (schema, media_type) = match (args.schema, args.media_type) {
        (Some(schema), Some(media_type)) => (schema, media_type),
        (schema, media_type) => {
            let now: StateInfo = client.get(ApiPath::worker(&args.name, "state")).await?.json()?;
            (schema.unwrap_or(now.schema), media_type.unwrap_or(now.media_type))
        }
    };
    let bytes = units::show_size(state.len() as u64);
    let path = ApiPath::worker(&args.name, "state").query("schema", Some(schema));
    client.send(Request::put(path, state, &media_type)).await?;
    output::note(&format!(
        "{} took over the state of {bytes} (schema {schema}, {})",
        args.name,
        render::safe(&media_type)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_says_how_to_put_it_back() {
        let name = Name::parse("a/b").unwrap();
        let command = import_command(&name, Path::new("my state"), Some("2"), Some("application/json"));
        assert_eq!(command, "state import a/b 'my state' --schema 2 --media-type application/json");
        assert_eq!(import_command(&name, Path::new("s"), None, None), "state import a/b s");
    }

    #[test]
    fn a_state_that_is_null_is_shown_and_one_that_is_not_there_is_not() {
        let info = |json: &str| serde_json::from_str::<StateInfo>(json).unwrap().json;
        assert_eq!(info(r#"{"schema":1,"media_type":"application/json","bytes":4,"json":null}"#), Some(().into()));
        assert_eq!(info(r#"{"schema":1,"media_type":"x/y","bytes":4}"#), None);
    }

    #[test]
    fn a_state_that_is_not_json_is_described() {
        let info =
            StateInfo { schema: 3, media_type: "application/cbor\u{1b}".into(), bytes: 2048, json: None, cbor: None };
        assert_eq!(about(&info), "schema 3, application/cbor\\u{1b}, 2.0 KiB");
    }
}
