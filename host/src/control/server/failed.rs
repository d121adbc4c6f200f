//! An error on its way out.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::control::host::RequestError;
use crate::control::wire::ErrorInfo;
use crate::record::{DatabaseError, Event, Recorder};

pub type Answer<T> = Result<T, Failed>;

/// An error on its way out.
#[derive(Debug)]
pub struct Failed(pub Box<ErrorInfo>);

impl Failed {
    pub fn new(code: &str, message: impl Into<String>, cause: impl Into<String>, help: &str) -> Failed {
        let (code, help) = (code.to_string(), help.to_string());
        Failed(Box::new(ErrorInfo { code, message: message.into(), cause: cause.into(), help }))
    }

    pub fn internal(why: impl Display) -> Failed {
        let help = "`paguro events` and the host's own output tell more";
        Failed::new("internal", "the host failed to carry this out", why.to_string(), help)
    }
}

impl From<RequestError> for Failed {
    fn from(error: RequestError) -> Failed {
        Failed(Box::new(ErrorInfo::from(&error)))
    }
}

impl From<DatabaseError> for Failed {
    fn from(error: DatabaseError) -> Failed {
        Failed::from(RequestError::Database(error))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let known = ErrorInfo::CODES.iter().find(|(code, _)| *code == self.0.code);
        let status = known.and_then(|(_, status)| StatusCode::from_u16(*status).ok());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}

/// Bytes of another's text that are told on.
const TEXT_BYTES_MAX: usize = 4_096;

/// What the layers below refuse by themselves (a query that cannot be read, a path that is no text, a method that a route
/// does not have) is told in the API's own form.
pub async fn in_one_form(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_own = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
    if !is_error || response.headers().get(header::CONTENT_TYPE).is_some_and(is_own) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, TEXT_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).escape_debug().to_string();
    let code = match status {
        StatusCode::NOT_FOUND => "not-found",
        status if status.is_client_error() => "usage",
        _ => "internal",
    };
    let message = match status {
        StatusCode::METHOD_NOT_ALLOWED => "this route has no such method".to_string(),
        _ => "the request cannot be read".to_string(),
    };
    let help = "GET /v1/openapi.json describes what there is".to_string();
    let info = ErrorInfo { code: code.to_string(), message, cause: text, help };
    let mut told = (status, Json(info)).into_response();
    if let Some(allowed) = parts.headers.get(header::ALLOW) {
        told.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    told
}

/// Counts how often each bound of the API was reached, and says so once a second for each: clients in a loop must not
/// drive everything else off the record.
pub struct Refusals {
    recorder: Recorder,
    by_bound: Mutex<BTreeMap<&'static str, Refused>>,
}

struct Refused {
    count: u64,
    /// The second in which it was said last.
    said: u64,
}

impl Refusals {
    pub fn new(recorder: Recorder) -> Refusals {
        Refusals { recorder, by_bound: Mutex::default() }
    }

    pub fn reached(&self, bound: &'static str, value: u64, from: impl Display) {
        let second = self.recorder.clock().now().time().as_secs();
        let mut by_bound = self.by_bound();
        let is_new = !by_bound.contains_key(bound);
        let refused = by_bound.entry(bound).or_insert(Refused { count: 0, said: second });
        refused.count += 1;
        let is_said = !is_new && std::mem::replace(&mut refused.said, second) == second;
        drop(by_bound);
        if !is_said {
            self.recorder.emit(Event::ClientRefused { bound, value, from: from.to_string() });
        }
    }

    /// How often each was reached since the start.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.by_bound().iter().map(|(bound, refused)| (*bound, refused.count)).collect()
    }

    fn by_bound(&self) -> MutexGuard<'_, BTreeMap<&'static str, Refused>> {
        self.by_bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::Clock;

    #[test]
    fn a_bound_is_said_once_a_second_and_counted_each_time() {
        let clock = Clock::manual();
        let refusals = Refusals::new(Recorder::new(clock.clone()));
        for _ in 0..3 {
            (0..100).for_each(|_| refusals.reached("connections", 4, "10.0.0.1"));
            refusals.reached("bodies", 4, "the socket");
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(refusals.recorder.events().after(0).len(), 6);
        assert_eq!(refusals.counts(), [("bodies", 3), ("connections", 300)]);
    }
}
