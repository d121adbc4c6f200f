//! `paguro ledger`: every decision that was made, by whom and why.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, Request, pages, parse};
use crate::cli::errors::CliError;
use crate::cli::input::name_or_root;
use crate::cli::output;
use crate::cli::render::{self, Cell, DIM, cell, count, styled};
use crate::control::wire::LedgerInfo;

#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
What messages set off by themselves (crashes, restarts, open breakers, quarantines) is in `paguro events`. Entries are never changed; each holds the digest of the one before it. What a guest or a loop decides again and \
again is counted: one entry a minute for each worker and kind. The ledger grows until you trim it.

Examples:
  paguro ledger --limit 20
  paguro ledger --worker counter --json
  paguro ledger trim ledger-2026.jsonl --keep 1000"
)]
pub struct LedgerArgs {
    #[command(subcommand)]
    verb: Option<LedgerVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Subcommand, Debug)]
enum LedgerVerb {
    /// Export the oldest entries to a file, then remove them from the host
    #[command(after_help = "\
FILE must not be there yet: one JSON object a line, oldest first, synced before anything is removed. An entry \
with the digest of the last exported one takes their place, so that the chain can be checked as before. The \
database's file does not shrink; its room is used again.

Examples:
  paguro ledger trim ledger-2026.jsonl
  paguro ledger trim ledger-2026.jsonl --keep 1000")]
    Trim(TrimArgs),
}

#[derive(Args, Debug)]
struct TrimArgs {
    /// Where the entries go
    file: PathBuf,

    /// Leave the latest entries, this many; with 0 all are exported and removed
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: usize,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only entries about this worker
    #[arg(long, value_name = "NAME", value_parser = name_or_root)]
    worker: Option<Name>,

    /// Only entries after this number
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    after: u64,

    /// Only the latest entries, this many [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: LedgerArgs, client: &Client) -> Result<(), CliError> {
    match args.verb {
        Some(LedgerVerb::Trim(trim)) => self::trim(trim, client).await,
        None => show(args.list, client).await,
    }
}

/// The file and its name are on disk: what is removed next is nowhere else.
fn synced(file: &File, path: &Path) -> std::io::Result<()> {
    file.sync_all()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

async fn trim(args: TrimArgs, client: &Client) -> Result<(), CliError> {
    let shown = args.file.display().to_string();
    let failed = |doing: &str, error: std::io::Error| {
        CliError::failed(format!("{shown} cannot be {doing}")).cause(error.to_string()).help(match error.kind() {
            std::io::ErrorKind::NotFound => "make its directory first",
            _ => "name a file that is not there yet, where you may write",
        })
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file)
        .map_err(|error| failed("made", error))?;
    // The last ones wait until it is known that as many come after them.
    let mut latest = Latest { rows: VecDeque::new(), max: args.keep };
    let mut last: Option<LedgerInfo> = None;
    let mut exported = 0_u64;
    let path = ApiPath::new("ledger");
    let export = pages(client, &path, 0, |row| {
        let Some(row) = latest.push(row.to_string()) else { return Ok(()) };
        writeln!(file, "{row}").map_err(|error| failed("written", error))?;
        last = Some(parse(row.as_bytes())?);
        exported += 1;
        Ok(())
    });
    let export = export.await.and_then(|_| synced(&file, &args.file).map_err(|error| failed("synced", error)));
    let Some(last) = export.map(|()| last).inspect_err(|_| unmade(&args.file))? else {
        unmade(&args.file);
        output::note("there is nothing to trim");
        return Ok(());
    };
    let path = ApiPath::new("ledger/trim").query("through", Some(last.seq)).query("digest", Some(&last.digest));
    let reply = client.send(Request::post(path, Vec::new())).await?;
    let told: LedgerInfo = reply.json()?;
    output::note(&format!("{} exported to {shown} and removed; entry {} says so", count(exported, "entry"), told.seq));
    Ok(())
}

/// Nothing was removed from the host: half an export is of no use.
fn unmade(file: &Path) {
    // It stays where it cannot be removed, which harms nobody.
    let _ = std::fs::remove_file(file);
}

async fn show(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let path = ApiPath::new("ledger").query("worker", args.worker.as_ref());
    let mut latest = Latest { rows: VecDeque::new(), max: args.limit.unwrap_or(usize::MAX) };
    pages(client, &path, args.after, |row| {
        latest.push(row.to_string());
        Ok(())
    })
    .await?;
    let rows: Vec<String> = latest.rows.into();
    if args.json {
        return output::print_json(format!("[{}]", rows.join(",")).as_bytes());
    }
    if let Some(name) = args.worker.filter(|_| rows.is_empty() && args.after == 0) {
        output::note(&format!("nothing was decided about {name:?}; `paguro ps` lists what there is"));
    }
    let entries = rows.iter().map(|row| parse(row.as_bytes())).collect::<Result<Vec<LedgerInfo>, _>>()?;
    output::print(&list(&entries))
}

/// Keeps the last `max` rows.
struct Latest {
    rows: VecDeque<String>,
    max: usize,
}

impl Latest {
    /// Gives the row that has no place any more.
    fn push(&mut self, row: String) -> Option<String> {
        self.rows.push_back(row);
        if self.rows.len() > self.max { self.rows.pop_front() } else { None }
    }
}

fn list(entries: &[LedgerInfo]) -> String {
    let rows: Vec<Vec<Cell>> = entries.iter().map(row).collect();
    render::table(&["SEQ", "WHEN", "WORKER", "ACTION", "COMPONENT", "BY", "DIGEST", "DETAIL"], &rows)
}

fn row(entry: &LedgerInfo) -> Vec<Cell> {
    vec![
        cell(entry.seq),
        cell(render::moment(&entry.at)),
        cell(&entry.worker),
        cell(&entry.action),
        cell(entry.component.as_deref().map_or("-", render::short)),
        cell(&entry.by),
        styled(DIM, render::short(&entry.digest)),
        cell(&entry.detail),
    ]
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    #[test]
    fn entries_stand_in_order() {
        let json = r#"[{"seq":1,"at":"2026-01-01T00:00:00Z","worker":"counter","action":"deploy",
            "component":"0123456789abcdef","by":"directory","detail":"counter.wasm","digest":"aa23456789abcdef"},
            {"seq":2,"at":"2026-01-01T00:01:00Z","worker":"counter","action":"stop","by":"operator","detail":"",
            "digest":"bb23456789abcdef"}]"#;
        expect![[r#"
            SEQ  WHEN                  WORKER   ACTION  COMPONENT     BY         DIGEST        DETAIL
            1    2026-01-01 00:00:00Z  counter  deploy  0123456789ab  directory  aa23456789ab  counter.wasm
            2    2026-01-01 00:01:00Z  counter  stop    -             operator   bb23456789ab
        "#]]
        .assert_eq(&strip_str(&list(&serde_json::from_str::<Vec<_>>(json).unwrap())).to_string());
    }

    #[test]
    fn a_limit_keeps_the_latest() {
        let mut latest = Latest { rows: VecDeque::new(), max: 2 };
        let pushed = ["1", "2", "3"].map(|row| latest.push(row.to_string()));
        assert_eq!(pushed, [None, None, Some("1".to_string())]);
        assert_eq!(latest.rows, ["2", "3"]);
    }
}
