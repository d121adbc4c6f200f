//! `paguro events`: what happened in the host.

use clap::Args;

use crate::cli::api::{ApiPath, Client, SseEvent, follow, pages, parse};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{self, BOLD, DIM, paint, safe, style_of};
use crate::control::wire::EventInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
The host keeps the latest events in memory; decisions are kept for good in `paguro ledger`. With -f the \
stream goes on when the host is started again.

Examples:
  paguro events -f
  paguro events --json | jq -r 'select(.kind == \"rolled-back\") | .text'")]
pub struct EventsArgs {
    /// Go on with events as they come
    #[arg(short, long)]
    follow: bool,

    /// Only events after this number
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    after: u64,

    /// Print the API's JSON, one object per line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: EventsArgs, client: &Client) -> Result<(), CliError> {
    let show = |json: &str| if args.json { output::print_json(json.as_bytes()) } else { show_line(json) };
    if args.follow {
        follow(client, ApiPath::new("events/follow"), args.after, |event: &SseEvent| show(&event.data)).await
    } else {
        pages(client, &ApiPath::new("events"), args.after, show).await
    }
}

fn show_line(json: &str) -> Result<(), CliError> {
    output::print_line(&line(&parse(json.as_bytes())?))
}

/// One event, for people.
pub fn line(event: &EventInfo) -> String {
    let at = paint(DIM, &render::moment(&event.at));
    // Padded before it is painted: escapes have no width.
    let level = paint(style_of(&event.level), &format!("{:<5}", safe(&event.level)));
    let subject = event.subject.as_deref().map(|name| format!("{} ", paint(BOLD, &safe(name)))).unwrap_or_default();
    format!("{at} {level} {subject}{}", safe(&event.text))
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut event = EventInfo {
            seq: 9,
            at: "2026-01-01T00:00:00.000Z".into(),
            kind: "worker-exited".into(),
            level: "warn".into(),
            subject: Some("counter".into()),
            text: "incarnation 0 ended: trap".into(),
        };
        let plain = |event: &EventInfo| strip_str(&line(event)).to_string();
        assert_eq!(plain(&event), "2026-01-01 00:00:00Z warn  counter incarnation 0 ended: trap");
        event.subject = None;
        assert_eq!(plain(&event), "2026-01-01 00:00:00Z warn  incarnation 0 ended: trap");
    }
}
