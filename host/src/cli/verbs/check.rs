//! `paguro check`: is a file a worker, and would it fit in another's place.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::show_upgrade::{rehearsed, state};
use crate::base::{Name, units};
use crate::cli::api::{ApiPath, Client, Request};
use crate::cli::errors::CliError;
use crate::cli::render::{BAD, GOOD, age, paint, safe, short};
use crate::cli::{input, output};
use crate::control::wire::CheckInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
A running host does the check, because it depends on the host's version and on the worker it would \
replace: start one with `paguro up`. Nothing is changed. Ends with 1 where the file is no worker or \
does not fit.

Examples:
  paguro check counter.wasm
  paguro check counter-v2.wasm --against counter")]
pub struct CheckArgs {
    /// The component, or `-` for standard input
    file: PathBuf,

    /// The worker whose place it could take: rehearsed on a copy of that worker's state
    #[arg(long, value_name = "NAME")]
    against: Option<Name>,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: CheckArgs, client: &Client) -> Result<(), CliError> {
    let component = input::read_file_or_stdin(&args.file)?;
    let path = ApiPath::new("check").query("against", args.against.as_ref());
    let progress = output::progress(&format!("checking {}", args.file.display()));
    let reply = client.send(Request::post(path, component)).await;
    drop(progress);
    let reply = reply?;
    let info: CheckInfo = reply.json()?;
    if args.json {
        output::print_json(&reply.body)?
    } else {
        output::print(&facts(&info))?
    }
    if info.fits == Some(false) {
        let against = info.against.as_deref().unwrap_or("the worker");
        let error = CliError::failed(format!("{} cannot take the place of {against}", args.file.display()));
        return Err(error.cause(info.why_not.unwrap_or_default()));
    }
    Ok(())
}

fn compiled(ms: u64) -> String {
    // Compiled, or found where it was compiled before.
    format!("loaded in {}", age(ms))
}

fn facts(info: &CheckInfo) -> String {
    let mut out = String::new();
    let mut fact = |label: &str, text: &str| {
        let _ = writeln!(out, "{label:<10} {text}");
    };
    let size = units::show_size(info.bytes);
    fact("kind", &safe(&info.kind));
    fact("component", &safe(&format!("{}, {size}, {}", short(&info.component), compiled(info.compile_ms))));
    let named: Vec<&str> = [info.name.as_deref(), info.version.as_deref()].into_iter().flatten().collect();
    if !named.is_empty() {
        fact("calls it", &safe(&named.join(" ")));
    }
    fact("exports", &safe(&info.exports.join(", ")));
    if let Some(fits) = info.fits {
        let against = safe(info.against.as_deref().unwrap_or_default());
        let verdict = if fits { paint(GOOD, "yes") } else { paint(BAD, "no") };
        fact("fits", &format!("{verdict}, in place of {against}"));
    }
    if let Some(rehearsal) = &info.rehearsal {
        fact("rehearsal", &safe(&rehearsed(rehearsal)));
        fact("state", &safe(&state(rehearsal)));
    }
    out
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_check_says_what_it_found() {
        let json = r#"{"component":"0123456789abcdef","bytes":2097152,"kind":"worker","name":"counter",
            "version":"2.0\u001b","exports":["handler","state"],"compile_ms":42,"fits":false,"against":"counter",
            "why_not":"no `lifecycle`"}"#;
        expect![[r#"
            kind       worker
            component  0123456789ab, 2.0 MiB, loaded in 42ms
            calls it   counter 2.0\u{1b}
            exports    handler, state
            fits       no, in place of counter
        "#]]
        .assert_eq(&strip_str(&facts(&serde_json::from_str(json).unwrap())).to_string());
    }
}
