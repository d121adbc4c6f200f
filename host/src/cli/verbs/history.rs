//! `paguro history`: the revisions of one worker.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, BOLD, Cell, PLAIN, cell, style_of, styled};
use crate::control::wire::RevisionInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
`*` marks the revision that serves. Its number is what `paguro rollback NAME --to` takes.

Examples:
  paguro history counter")]
pub struct HistoryArgs {
    /// The worker, such as `billing/invoices`
    name: Name,

    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: HistoryArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(ApiPath::worker(&args.name, "history")).await?;
    if args.json {
        return output::print_json(&reply.body);
    }
    output::print(&list(&reply.json::<Vec<RevisionInfo>>()?))
}

fn list(revisions: &[RevisionInfo]) -> String {
    let rows: Vec<Vec<Cell>> = revisions.iter().map(row).collect();
    render::table(&["REV", "COMPONENT", "WHEN", "WHY", "BY", "VERDICT", "NOTE"], &rows)
}

fn row(revision: &RevisionInfo) -> Vec<Cell> {
    let (style, mark) = if revision.current { (BOLD, " *") } else { (PLAIN, "") };
    vec![
        styled(style, format!("{}{mark}", revision.number)),
        cell(render::short(&revision.component)),
        cell(render::moment(&revision.at)),
        cell(&revision.why),
        cell(&revision.by),
        styled(style_of(&revision.verdict), &revision.verdict),
        cell(&revision.note),
    ]
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    #[test]
    fn revisions_tell_the_story() {
        let revision = |number, why: &str, verdict: &str, note: &str| RevisionInfo {
            number,
            component: format!("{number}23456789abcdef"),
            at: "2026-01-01T12:00:00.250Z".into(),
            why: why.into(),
            by: "directory".into(),
            verdict: verdict.into(),
            note: note.into(),
            current: number == 1,
        };
        let list = list(&[
            revision(1, "deployed", "committed", ""),
            revision(2, "upgrade", "rolled-back", "trap: unreachable"),
        ]);
        expect![[r#"
            REV  COMPONENT     WHEN                  WHY       BY         VERDICT      NOTE
            1 *  123456789abc  2026-01-01 12:00:00Z  deployed  directory  committed
            2    223456789abc  2026-01-01 12:00:00Z  upgrade   directory  rolled-back  trap: unreachable
        "#]]
        .assert_eq(&strip_str(&list).to_string());
    }
}
