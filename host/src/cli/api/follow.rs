//! A stream that goes on when its connection breaks: it continues after the last event that was
//! shown, and says what was lost.

use std::time::Duration;

use http_body_util::BodyExt;

use super::client::{Client, Request};
use super::path::ApiPath;
use super::sse::{SseEvent, SseParser};
use crate::cli::errors::{CliError, Exit};
use crate::cli::output::note;
use crate::cli::render::safe;
use crate::control::wire::HostInfo;

/// Time between the first attempts to reach a host that went away.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);

/// Time between attempts once it has been away for long: a host that starts is found soon, and one
/// that does not costs nothing.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(4);

/// Shows every event after the number `after`, then those that come, until showing fails or the
/// host refuses. A host that cannot be reached at the start is an error; one that goes away later
/// is waited for.
pub async fn follow(
    client: &Client,
    path: ApiPath,
    after: u64,
    mut show: impl FnMut(&SseEvent) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut started_at = started_at(client).await?;
    let mut last = after;
    loop {
        match follow_once(client, &path, &mut last, &mut show).await {
            Err(error) if error.exit() != Exit::Unreachable => return Err(error),
            _ => note("the stream broke off; waiting for the host"),
        }
        let now = wait_for(client).await?;
        if now != started_at {
            // A new host counts from 1 again; the old numbers would hide its first events.
            note("the host was started again");
            (started_at, last) = (now, 0);
        }
    }
}

/// Returns when the connection ends.
async fn follow_once(
    client: &Client,
    path: &ApiPath,
    last: &mut u64,
    show: &mut impl FnMut(&SseEvent) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let request = Request::get(path.clone().query("after", Some(*last))).after_event(*last);
    let mut body = client.open(request).await?.into_body();
    let mut parser = SseParser::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client.broke_off(&error))?;
        let Some(bytes) = frame.data_ref() else { continue };
        let events = parser.push(bytes).map_err(|_| CliError::failed("an event of the stream has no end"))?;
        for event in events {
            match event.event.as_str() {
                "missed" => note(&missed(&event.data)),
                _ => show(&event)?,
            }
            *last = event.id.unwrap_or(*last);
        }
    }
    Ok(())
}

fn missed(data: &str) -> String {
    format!("(missed {}: they came faster than they were read, or are no longer kept)", safe(data))
}

async fn wait_for(client: &Client) -> Result<String, CliError> {
    let mut delay = RETRY_DELAY_MIN;
    loop {
        tokio::time::sleep(delay).await;
        match started_at(client).await {
            Err(error) if error.exit() == Exit::Unreachable => delay = (delay * 2).min(RETRY_DELAY_MAX),
            told => return told,
        }
    }
}

/// What tells one run of the host from the next.
async fn started_at(client: &Client) -> Result<String, CliError> {
    Ok(client.get(ApiPath::new("host")).await?.json::<HostInfo>()?.started_at)
}
