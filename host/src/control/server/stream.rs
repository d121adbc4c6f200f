//! Events and logs: what is kept, as a list; and what comes, as server-sent events that resume.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response, Sse as Stream};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

use super::routes::App;
use crate::control::answer::{event_info, log_info};
use crate::record::{Recorded, Tape};

#[derive(Deserialize)]
pub struct Follow {
    pub after: Option<u64>,
    pub worker: Option<String>,
}

pub async fn events(State(app): State<App>, Query(query): Query<Follow>) -> Response {
    let events = app.host.recorder().events().after(query.after.unwrap_or(0));
    let wanted = events.iter().map(event_info).filter(|event| is_about(event.subject.as_deref(), &query.worker));
    Json(wanted.collect::<Vec<_>>()).into_response()
}

pub async fn logs(State(app): State<App>, Query(query): Query<Follow>) -> Response {
    let lines = app.host.recorder().logs().after(query.after.unwrap_or(0));
    let wanted = lines.iter().map(log_info).filter(|line| is_about(Some(&line.worker), &query.worker));
    Json(wanted.collect::<Vec<_>>()).into_response()
}

pub async fn follow_events(State(app): State<App>, Query(query): Query<Follow>, headers: HeaderMap) -> Response {
    let (after, worker) = (query.place(&headers), query.worker);
    follow(app.host.recorder().events(), after, app.stop.clone(), move |recorded| {
        let info = event_info(recorded);
        is_about(info.subject.as_deref(), &worker).then_some(info)
    })
}

pub async fn follow_logs(State(app): State<App>, Query(query): Query<Follow>, headers: HeaderMap) -> Response {
    let (after, worker) = (query.place(&headers), query.worker);
    follow(app.host.recorder().logs(), after, app.stop.clone(), move |recorded| {
        let info = log_info(recorded);
        is_about(Some(&info.worker), &worker).then_some(info)
    })
}

fn is_about(subject: Option<&str>, worker: &Option<String>) -> bool {
    worker.as_deref().is_none_or(|worker| subject == Some(worker))
}

/// Where a follower is.
struct Place<T> {
    backlog: std::vec::IntoIter<Recorded<T>>,
    live: Receiver<Recorded<T>>,
    stop: watch::Receiver<bool>,
}

fn follow<T, W>(
    tape: &Tape<T>,
    after: u64,
    stop: watch::Receiver<bool>,
    show: impl Fn(&Recorded<T>) -> Option<W> + Send + 'static,
) -> Response
where
    T: Clone + Send + 'static,
    W: Serialize,
{
    let (backlog, live) = tape.follow(after);
    let place = Place { backlog: backlog.into_iter(), live, stop };
    let events = stream::unfold((place, show), async |(mut place, show)| {
        loop {
            let recorded = match place.next().await? {
                Ok(recorded) => recorded,
                Err(missed) => {
                    let sse = Sse::default().event("missed").data(missed.to_string());
                    return Some((Ok::<_, Infallible>(sse), (place, show)));
                }
            };
            if let Some(info) = show(&recorded) {
                // These types always are JSON; a client sees nothing of one that were not.
                let data = serde_json::to_string(&info).unwrap_or_default();
                let sse = Sse::default().id(recorded.seq.to_string()).data(data);
                return Some((Ok(sse), (place, show)));
            }
        }
    });
    Stream::new(events).keep_alive(KeepAlive::default()).into_response()
}

impl<T: Clone> Place<T> {
    /// The next item, or how many were missed; `None` when the host stops.
    async fn next(&mut self) -> Option<Result<Recorded<T>, u64>> {
        if let Some(recorded) = self.backlog.next() {
            return Some(Ok(recorded));
        }
        tokio::select! {
            received = self.live.recv() => match received {
                Ok(recorded) => Some(Ok(recorded)),
                Err(RecvError::Lagged(missed)) => Some(Err(missed)),
                Err(RecvError::Closed) => None,
            },
            _ = self.stop.wait_for(|stop| *stop) => None,
        }
    }
}
