//! `paguro dead-letters`: messages that were accepted and not handled.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};

use crate::base::{Name, bounds, units};
use crate::cli::api::{ApiPath, Client, Request, parse};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, Cell, cell, styled};
use crate::control::wire::{DeadLetterInfo, DroppedInfo};

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A message is here because it ended its worker, was quarantined, or waited when its worker or the host \
went; the newest stands first. `paguro dead-letters show` has its body.

Examples:
  paguro dead-letters --worker billing/invoices
  paguro dead-letters show 12
  paguro dead-letters resend 12"
)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    verb: Option<LettersVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Subcommand, Debug)]
enum LettersVerb {
    /// Print the body of a dead letter
    #[command(after_help = "\
The body goes to standard output as it is, what is known of it to standard error.

Examples:
  paguro dead-letters show 12
  paguro dead-letters show 12 | paguro call counter -")]
    Show(ShowArgs),
    /// Put dead letters into their worker's mailbox again
    #[command(
        after_help = "\
Casts, and timers of a worker that keeps its state. What is sent again is no dead letter any more; what is \
refused stays, and so does what comes after it. A quarantined one is refused until the worker is upgraded.

Examples:
  paguro dead-letters resend 12 13
  paguro dead-letters resend --worker counter --all",
        override_usage = "paguro dead-letters resend <ID>... | --worker <NAME> --all"
    )]
    Resend(ChoiceArgs),
    /// Throw dead letters away
    #[command(
        after_help = "\
Examples:
  paguro dead-letters drop 12 13
  paguro dead-letters drop --worker counter --all",
        override_usage = "paguro dead-letters drop <ID>... | --worker <NAME> --all"
    )]
    Drop(ChoiceArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only those of this worker, which may be gone
    #[arg(long, value_name = "NAME")]
    worker: Option<Name>,

    /// Only the newest, this many [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// Its number
    id: u64,

    /// Print the API's JSON: all that is known, and the body as `text` or `base64`
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ChoiceArgs {
    /// Their numbers
    #[arg(value_name = "ID", required_unless_present = "worker", conflicts_with_all = ["worker", "all"])]
    ids: Vec<u64>,

    /// Of this worker; needs --all
    #[arg(long, value_name = "NAME", requires = "all")]
    worker: Option<Name>,

    /// All of that worker, oldest first; needs --worker
    #[arg(long, requires = "worker")]
    all: bool,
}

pub async fn run(args: DeadLettersArgs, client: &Client) -> Result<(), CliError> {
    match args.verb {
        None => list(args.list, client).await,
        Some(LettersVerb::Show(args)) => show(args, client).await,
        Some(LettersVerb::Resend(args)) => resend(args, client).await,
        Some(LettersVerb::Drop(args)) => drop_them(args, client).await,
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let letters = all(client, args.worker.as_ref(), args.limit.unwrap_or(usize::MAX)).await?;
    if args.json {
        let rows: Vec<String> = letters.iter().map(ToString::to_string).collect();
        return output::print_json(format!("[{}]", rows.join(",")).as_bytes());
    }
    output::print(&table(&known(letters)?))
}

/// The newest `limit` letters, newest first, with whatever the host says of them.
async fn all(client: &Client, worker: Option<&Name>, limit: usize) -> Result<Vec<serde_json::Value>, CliError> {
    let (mut letters, mut before) = (Vec::new(), None::<u64>);
    while letters.len() < limit {
        let rows = (limit - letters.len()).min(bounds::PAGE_ROWS_MAX);
        let path = ApiPath::new("dead-letters").query("worker", worker);
        let path = path.query("before", before).query("limit", Some(rows));
        let page: Vec<serde_json::Value> = client.get(path).await?.json()?;
        let is_last = page.len() < rows;
        before = page.last().and_then(|letter| letter["id"].as_u64());
        letters.extend(page);
        if is_last || before.is_none() {
            break;
        }
    }
    Ok(letters)
}

fn known(letters: Vec<serde_json::Value>) -> Result<Vec<DeadLetterInfo>, CliError> {
    letters.iter().map(|letter| parse(letter.to_string().as_bytes())).collect()
}

async fn show(args: ShowArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(letter(args.id, "")).await?;
    if args.json {
        return output::print_json(&reply.body);
    }
    let info: DeadLetterInfo = reply.json()?;
    output::note(&about(&info));
    match (info.text, info.base64) {
        (Some(text), _) => output::print_bytes_exactly(text.as_bytes()),
        (None, Some(base64)) => {
            let bytes = BASE64.decode(base64);
            let bytes =
                bytes.map_err(|error| CliError::failed("the host's answer is no base64").cause(error.to_string()))?;
            output::print_bytes_exactly(&bytes)
        }
        (None, None) => Ok(()),
    }
}

fn about(info: &DeadLetterInfo) -> String {
    let from = info.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let cut = if info.cut { format!(", cut to {}", units::show_size(KEPT)) } else { String::new() };
    let text = format!(
        "{} of {}{cut}{from} to {}, revision {}, {}: {}",
        info.sort,
        units::show_size(info.bytes),
        info.worker,
        info.revision,
        render::moment(&info.at),
        info.reason
    );
    render::safe(&text)
}

const KEPT: u64 = bounds::DEAD_LETTER_BODY_BYTES_MAX as u64;

async fn resend(args: ChoiceArgs, client: &Client) -> Result<(), CliError> {
    let mut ids = args.ids;
    if let Some(worker) = &args.worker {
        let letters = known(all(client, Some(worker), usize::MAX).await?)?;
        let (again, not): (Vec<_>, Vec<_>) = letters.iter().rev().partition(|letter| letter.resendable);
        if !not.is_empty() {
            output::note(&format!("left: {} that cannot be sent again", render::count(not.len() as u64, "letter")));
        }
        ids = again.iter().map(|letter| letter.id).collect();
    }
    for id in &ids {
        // The first that fails ends it: those behind it must not overtake it.
        let info: DeadLetterInfo = client.send(Request::post(letter(*id, "resend"), Vec::new())).await?.json()?;
        output::note(&format!("{id} is in the mailbox of {} again", info.worker));
    }
    if ids.is_empty() {
        output::note("nothing to send again");
    }
    Ok(())
}

async fn drop_them(args: ChoiceArgs, client: &Client) -> Result<(), CliError> {
    if let Some(worker) = &args.worker {
        let path = ApiPath::new("dead-letters").query("worker", Some(worker));
        let dropped: DroppedInfo = client.send(Request::delete(path)).await?.json()?;
        output::note(&format!("dropped {} of {worker}", render::count(dropped.letters, "letter")));
    }
    for id in &args.ids {
        client.send(Request::delete(letter(*id, ""))).await?;
        output::note(&format!("dropped {id}"));
    }
    Ok(())
}

fn letter(id: u64, under: &str) -> ApiPath {
    let slash = if under.is_empty() { "" } else { "/" };
    ApiPath::new(&format!("dead-letters/{id}{slash}{under}"))
}

fn table(letters: &[DeadLetterInfo]) -> String {
    let rows: Vec<Vec<Cell>> = letters.iter().map(row).collect();
    render::table(&["ID", "WHEN", "WORKER", "SORT", "FROM", "SIZE", "WHY", "REASON"], &rows)
}

fn row(letter: &DeadLetterInfo) -> Vec<Cell> {
    let style = if letter.why == "poison" { render::BAD } else { render::PLAIN };
    vec![
        cell(letter.id),
        cell(render::moment(&letter.at)),
        cell(&letter.worker),
        cell(&letter.sort),
        cell(letter.from.as_deref().unwrap_or("-")),
        cell(units::show_size(letter.bytes)),
        styled(style, &letter.why),
        cell(&letter.reason),
    ]
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    fn info(id: u64, why: &str) -> DeadLetterInfo {
        DeadLetterInfo {
            id,
            at: "2026-01-01T12:00:00.250Z".into(),
            worker: "counter".into(),
            sort: "cast".into(),
            from: (id == 2).then(|| "shop/orders".into()),
            why: why.into(),
            reason: "it ended the worker: trap: unreachable\u{1b}".into(),
            exit: Some("trap".into()),
            revision: 3,
            bytes: 2 << 20,
            cut: true,
            resendable: false,
            text: None,
            base64: None,
        }
    }

    #[test]
    fn letters_stand_in_a_table() {
        let table = table(&[info(2, "poison"), info(1, "ended-worker")]);
        expect![[r#"
            ID  WHEN                  WORKER   SORT  FROM         SIZE     WHY           REASON
            2   2026-01-01 12:00:00Z  counter  cast  shop/orders  2.0 MiB  poison        it ended the worker: trap: unreachable\u{1b}
            1   2026-01-01 12:00:00Z  counter  cast  -            2.0 MiB  ended-worker  it ended the worker: trap: unreachable\u{1b}
        "#]]
        .assert_eq(&strip_str(&table).to_string());
    }

    #[test]
    fn one_is_told_in_a_line() {
        expect![[r"cast of 2.0 MiB, cut to 1.0 MiB from shop/orders to counter, revision 3, 2026-01-01 12:00:00Z: it ended the worker: trap: unreachable\u{1b}"]]
            .assert_eq(&about(&info(2, "poison")));
    }
}
