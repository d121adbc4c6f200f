//! `paguro ledger`: every decision that was made, by whom and why.

use std::collections::VecDeque;

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, pages, parse};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, Cell, DIM, cell, styled};
use crate::control::wire::LedgerInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
Entries are never changed; each holds the digest of the one before it.

Examples:
  paguro ledger --limit 20
  paguro ledger --worker counter --json")]
pub struct LedgerArgs {
    /// Only entries about this worker
    #[arg(long, value_name = "NAME")]
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
    let entries = rows.iter().map(|row| parse(row.as_bytes())).collect::<Result<Vec<LedgerInfo>, _>>()?;
    output::print(&list(&entries))
}

/// Keeps the last `max` rows.
struct Latest {
    rows: VecDeque<String>,
    max: usize,
}

impl Latest {
    fn push(&mut self, row: String) {
        self.rows.push_back(row);
        if self.rows.len() > self.max {
            self.rows.pop_front();
        }
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
        ["1", "2", "3"].into_iter().for_each(|row| latest.push(row.to_string()));
        assert_eq!(latest.rows, ["2", "3"]);
    }
}
