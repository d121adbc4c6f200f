//! The way of a call: past the router.
//!
//! The router finds one of forty routes in a tree, keeps the parameters of its path by name, and goes through a boxed
//! service for each layer. All that took as many instructions as the call of a worker itself. What is a call and no
//! more (`POST /v1/workers/{name}/call`, without a query, with a body of known, modest length) is seen here at its path
//! alone; everything else, calls with a query among it, goes to the router, and is answered in the same way.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use percent_encoding::percent_decode_str;
use tower_service::Service;

use super::routes::{self, App};
use crate::runtime::CALL_DEADLINE;

/// Bytes of a body that takes this way.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub struct Front {
    pub app: App,
    pub rest: Router,
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(name) = called(&request) else { return self.rest.call(request).boxed() };
        let host = self.app.host.clone();
        let part = format!("the request {} {}", request.method(), request.uri().path());
        let answer = async move {
            let Ok(body) = to_bytes(request.into_body(), BODY_BYTES_MAX).await else {
                // It broke off.
                return Ok(StatusCode::BAD_REQUEST.into_response());
            };
            let answer = async { routes::answer_call(&host, &name, body, CALL_DEADLINE).await.into_response() };
            Ok(routes::answered(&host, part, answer).await)
        };
        answer.boxed()
    }
}

/// The worker that a request calls, if it takes this way.
fn called(request: &Request) -> Option<String> {
    let uri = request.uri();
    let is_short = request.body().size_hint().upper().is_some_and(|bytes| bytes <= BODY_BYTES_MAX as u64);
    if request.method() != Method::POST || uri.query().is_some() || !is_short {
        return None;
    }
    let name = uri.path().strip_prefix("/v1/workers/")?.strip_suffix("/call")?;
    if name.is_empty() || name.contains('/') {
        return None;
    }
    percent_decode_str(name).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn calls_alone_take_this_way() {
        let called_by = |method: &str, uri: &str, body: Body| {
            called(&Request::builder().method(method).uri(uri).body(body).unwrap())
        };
        let short = || Body::from("x");
        assert_eq!(called_by("POST", "/v1/workers/a/call", short()).as_deref(), Some("a"));
        assert_eq!(called_by("POST", "/v1/workers/many%2F1/call", short()).as_deref(), Some("many/1"));
        for (method, uri) in [
            ("GET", "/v1/workers/a/call"),
            ("POST", "/v1/workers/a/call?timeout_ms=1"),
            ("POST", "/v1/workers/a/cast"),
            ("POST", "/v1/workers/a/b/call"),
            ("POST", "/v1/workers//call"),
            ("POST", "/v1/workers/call"),
            ("POST", "/v1/workers/%ff/call"),
        ] {
            assert_eq!(called_by(method, uri, short()), None, "{method} {uri}");
        }
        let long = Body::from(vec![0; BODY_BYTES_MAX + 1]);
        assert_eq!(called_by("POST", "/v1/workers/a/call", long), None);
        let of_unknown_length = Body::from_stream(futures::stream::empty::<Result<&[u8], Infallible>>());
        assert_eq!(called_by("POST", "/v1/workers/a/call", of_unknown_length), None);
    }
}
