//! Events and logs: what is kept, in pages; and what comes, as server-sent events that resume.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response, Sse as Stream};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;

use super::failed::{Answer, Failed};
use super::routes::{Api, App};
use crate::base::bounds;
use crate::base::ids::normalised;
use crate::control::answer::{event_info, log_info};
use crate::control::wire::{EventInfo, LogInfo};
use crate::record::{Event, Follower, LogLine, Missed, Recorded, Tape, TapePage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    pub after: Option<u64>,
    pub worker: Option<String>,
    limit: Option<usize>,
}

impl Follow {
    /// Where to go on: after `Last-Event-ID` if the client came back, else where it asked.
    fn place(&self, headers: &HeaderMap) -> u64 {
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        last.and_then(|text| text.parse().ok()).or(self.after).unwrap_or(0)
    }
}

pub async fn events(State(app): State<App>, Query(query): Query<Follow>) -> Response {
    Json(list(app.host.recorder().events(), &query, shown_event).await).into_response()
}

pub async fn logs(State(app): State<App>, Query(query): Query<Follow>) -> Response {
    Json(list(app.host.recorder().logs(), &query, shown_line).await).into_response()
}

pub async fn follow_events(
    State(app): State<App>,
    Query(query): Query<Follow>,
    headers: HeaderMap,
) -> Answer<Response> {
    let follower = app.host.recorder().events().follow(query.place(&headers));
    follow(&app, follower, query.worker, shown_event)
}

pub async fn follow_logs(State(app): State<App>, Query(query): Query<Follow>, headers: HeaderMap) -> Answer<Response> {
    let follower = app.host.recorder().logs().follow(query.place(&headers));
    follow(&app, follower, query.worker, shown_line)
}

/// An item as the wire says it, if it is about this worker, or any.
type Shown<T, W> = fn(&Recorded<T>, Option<&str>) -> Option<W>;

fn shown_event(recorded: &Recorded<Event>, worker: Option<&str>) -> Option<EventInfo> {
    let is_about =
        |worker: &str| recorded.item.subject().is_some_and(|subject| subject.to_string() == *normalised(worker));
    worker.is_none_or(is_about).then(|| event_info(recorded))
}

fn shown_line(recorded: &Recorded<LogLine>, worker: Option<&str>) -> Option<LogInfo> {
    worker.is_none_or(|worker| recorded.item.worker.as_str() == &*normalised(worker)).then(|| log_info(recorded))
}

/// A page of what is kept. It gives way between parts of it.
async fn list<T, W>(tape: &Tape<T>, query: &Follow, show: Shown<T, W>) -> Vec<W> {
    let limit = query.limit.unwrap_or(bounds::PAGE_ROWS_MAX).clamp(1, bounds::PAGE_ROWS_MAX);
    let mut after = query.after.unwrap_or(0);
    let mut rows = Vec::new();
    loop {
        let TapePage { items, .. } = tape.page(after, bounds::FOLLOWER_ITEMS_MAX);
        let Some(last) = items.last() else { return rows };
        after = last.seq;
        rows.extend(items.iter().filter_map(|recorded| show(recorded, query.worker.as_deref())));
        if rows.len() >= limit {
            rows.truncate(limit);
            return rows;
        }
        tokio::task::yield_now().await;
    }
}

/// Where a follower is.
struct Place<T> {
    follower: Follower<T>,
    stop: watch::Receiver<bool>,
    worker: Option<String>,
    _leave: OwnedSemaphorePermit,
}

fn follow<T, W>(api: &Api, follower: Follower<T>, worker: Option<String>, show: Shown<T, W>) -> Answer<Response>
where
    T: Send + Sync + 'static,
    W: Serialize + 'static,
{
    let leave = api.followers.clone().try_acquire_owned().map_err(|_| too_many(api))?;
    let place = Place { follower, stop: api.stop.clone(), worker, _leave: leave };
    let events = stream::unfold(place, move |mut place| async move {
        let sse = place.next(show).await?;
        Some((Ok::<_, Infallible>(sse), place))
    });
    Ok(Stream::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn too_many(api: &Api) -> Failed {
    api.refusals.reached("followers", bounds::FOLLOWERS_MAX as u64, "a follower");
    let message = "the host has too many followers of events and logs";
    let cause = format!("{} follow already", bounds::FOLLOWERS_MAX);
    Failed::new("too-many", message, cause, "end one of them, or read pages: `paguro events`, `paguro logs`")
}

impl<T> Place<T> {
    /// The next event of the stream; `None` when the host stops.
    async fn next<W: Serialize>(&mut self, show: Shown<T, W>) -> Option<Sse> {
        loop {
            let next = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return None,
                next = self.follower.next() => next,
            };
            let recorded = match next {
                Ok(recorded) => recorded,
                Err(Missed(missed)) => return Some(Sse::default().event("missed").data(missed.to_string())),
            };
            if let Some(info) = show(&recorded, self.worker.as_deref()) {
                // These types always are JSON; a client sees nothing of one that were not.
                let data = serde_json::to_string(&info).unwrap_or_default();
                return Some(Sse::default().id(recorded.seq.to_string()).data(data));
            }
            // There may be thousands that are about others.
            tokio::task::coop::consume_budget().await;
        }
    }
}
