//! `paguro logs`: what workers logged and printed.

use clap::Args;

use crate::base::Name;
use crate::cli::api::{ApiPath, Client, SseEvent, follow, pages, parse};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, BOLD, DIM, paint, safe, style_of};
use crate::control::wire::LogInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
The host keeps the latest lines in memory. With -f the stream goes on when the host is started again.

Examples:
  paguro logs
  paguro logs billing/invoices -f
  paguro logs --json | jq -r 'select(.level == \"error\") | .text'")]
pub struct LogsArgs {
    /// Only this worker's lines
    name: Option<Name>,

    /// Go on with lines as they come
    #[arg(short, long)]
    follow: bool,

    /// Only lines after this number
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    after: u64,

    /// Print the API's JSON, one object per line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: LogsArgs, client: &Client) -> Result<(), CliError> {
    let path = |under| ApiPath::new(under).query("worker", args.name.as_ref());
    let show = |json: &str| if args.json { output::print_json(json.as_bytes()) } else { show_line(json) };
    if args.follow {
        follow(client, path("logs/follow"), args.after, |event: &SseEvent| show(&event.data)).await
    } else {
        let mut lines = 0;
        let counted = |json: &str| {
            lines += 1;
            show(json)
        };
        pages(client, &path("logs"), args.after, counted).await?;
        if let Some(name) = args.name.filter(|_| lines == 0 && args.after == 0 && !args.json) {
            output::note(&format!("no lines of {name:?} are kept; `paguro ps` lists what there is"));
        }
        Ok(())
    }
}

fn show_line(json: &str) -> Result<(), CliError> {
    output::print_line(&line(&parse(json.as_bytes())?))
}

/// One line of a log, for people.
pub fn line(log: &LogInfo) -> String {
    let at = paint(DIM, &render::moment(&log.at));
    // Padded before it is painted: escapes have no width.
    let level = paint(style_of(&log.level), &format!("{:<5}", safe(&log.level)));
    format!("{at} {level} {} {}", paint(BOLD, &safe(&log.worker)), safe(&log.text.replace('\t', "    ")))
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn a_line_cannot_pretend_to_be_two() {
        let log = LogInfo {
            seq: 1,
            at: "2026-01-01T00:00:00.000Z".into(),
            worker: "a/b".into(),
            level: "warn".into(),
            text: "x\ty\n2026 error root forged\u{1b}[1m".into(),
        };
        let shown = strip_str(&line(&log)).to_string();
        assert_eq!(shown, "2026-01-01 00:00:00Z warn  a/b x    y\\n2026 error root forged\\u{1b}[1m");
    }
}
