//! The way of a request: the token first, then calls past the router, and everything else through it.
//!
//! The router finds one of forty routes in a tree, keeps the parameters of its path by name, and goes through a boxed
//! service for each layer. All that took as many instructions as the call of a worker itself. What is a call and no
//! more (`POST /v1/workers/{name}/call`, without a query, with a short body of known length) is seen here at its path
//! alone; everything else, calls with a query among it, goes to the router, and is answered in the same way.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use axum::response::IntoResponse;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tower_service::Service;

use super::bodies::{Inbound, Outgoing};
use super::failed::{Answer, Failed};
use super::line::Line;
use super::routes::{self, Api};
use crate::base::{Name, bounds, panics};
use crate::control::Host;
use crate::record::Event;
use crate::runtime::{CALL_DEADLINE, CALL_DEADLINE_MAX};

/// What all connections of one listener share.
pub struct Shared {
    pub api: Arc<Api>,
    pub router: Router,
    /// The hash of the token that clients must show, if they must.
    pub token: Option<blake3::Hash>,
}

/// Answers the requests of one connection.
pub struct Front {
    shared: Arc<Shared>,
    line: Arc<Line>,
}

impl Front {
    pub fn new(shared: Arc<Shared>, line: Arc<Line>) -> Front {
        Front { shared, line }
    }
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Outgoing>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.line.begin();
        let (shared, line) = (self.shared.clone(), self.line.clone());
        if !shared.admits(request.headers()) {
            // Its body, if there is one, goes unread but for what a client needs to see the answer.
            return std::future::ready(Ok(unauthorized(inbound(request).into_body(), line))).boxed();
        }
        line.know();
        let what = (request.method().clone(), request.uri().clone());
        async move {
            let answer = async {
                if !shared.api.host.has_started() {
                    match until_it_has_started(&shared.api.host, request.method(), request.uri()).await {
                        Ok(waited) => drop(request.extensions_mut().insert(waited)),
                        Err(failed) => return failed.into_response(),
                    }
                }
                match called(&request) {
                    Some(name) => call(&shared.api, &name, request).await.unwrap_or_else(IntoResponse::into_response),
                    None => match shared.router.clone().call(inbound(request)).await {
                        Ok(response) => response,
                    },
                }
            };
            let response = whatever_panics(&shared.api.host, what, answer).await;
            Ok(outgoing(&shared.api, response, line))
        }
        .boxed()
    }
}

impl Shared {
    /// Whether a request carries the token, where one is asked for.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        // Hashes are compared, so that the time it takes tells nothing about the token.
        blake3::hash(given) == *token
    }
}

/// What is asked of a worker or a supervisor waits until it is in the tree, within the time of the call: for how long the
/// others take to start nobody waits. How the host is can be asked at any time.
async fn until_it_has_started(host: &Host, method: &Method, uri: &Uri) -> Answer<Waited> {
    let begun = host.recorder().clock().now();
    if !["/v1/workers/", "/v1/supervisors/"].iter().any(|of_one| uri.path().starts_with(of_one)) {
        return Ok(Waited::default());
    }
    let pairs = uri.query().unwrap_or_default().split('&');
    let time = pairs.filter_map(|pair| pair.strip_prefix("timeout_ms=")).find_map(|ms| ms.parse().ok());
    let time = time.map_or(CALL_DEADLINE, Duration::from_millis).min(CALL_DEADLINE_MAX);
    let name = named(uri.path());
    let is_message = ["/call", "/cast"].iter().any(|end| uri.path().ends_with(end));
    let changes_nothing = is_message || method == Method::GET;
    let is_there = || name.as_ref().is_some_and(|name| host.is_there(name, changes_nothing));
    let is_over = host.starting.is_over_within(time, is_there).await;
    if host.starting.is_abandoned() {
        return Err(Failed::new(
            "stopping",
            "the host is stopping: nothing was done",
            "",
            "start the host again: `paguro up`",
        ));
    }
    if is_over {
        return Ok(Waited(host.recorder().clock().now().since(begun)));
    }
    let progress = host.starting.info().unwrap_or_default().to_string();
    let help = "`paguro health` says how far it is; ask again then";
    Err(Failed::new("starting", "the host is starting: nothing was done", progress, help))
}

/// The worker or supervisor that a path is about.
fn named(path: &str) -> Option<Name> {
    let rest = path.strip_prefix("/v1/workers/").or_else(|| path.strip_prefix("/v1/supervisors/"))?;
    let name = percent_decode_str(rest.split('/').next()?).decode_utf8().ok()?;
    Name::parse(&name).ok()
}

/// How much of its time a request has waited for the host's start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waited(pub Duration);

/// A request over which the host's code panics is answered so, and nothing else is hurt.
async fn whatever_panics(
    host: &Host,
    (method, uri): (Method, Uri),
    answer: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let work = async {
        host.services.fuses.at(&Name::root());
        answer.await
    };
    match panics::guarded(work).await {
        Ok(response) => response,
        Err(fault) => {
            let part = format!("the request {method} {}", uri.path());
            let part = part[..part.floor_char_boundary(bounds::GUEST_TEXT_BYTES_MAX)].to_string();
            host.recorder().emit(Event::HostFault { part, fault });
            Failed::internal("a fault of its own code").into_response()
        }
    }
}

fn unauthorized(_unread: Body, line: Arc<Line>) -> Response<Outgoing> {
    let help = "give the host's token with `--token` or PAGURO_TOKEN";
    let mut response = Failed::new("unauthorized", "the token is missing or wrong", "", help).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response.map(|body| Outgoing::new(body, line, None, None))
}

fn inbound(request: Request<Incoming>) -> Request<Body> {
    let waits = request.headers().contains_key(header::EXPECT);
    request.map(|body| Body::new(Inbound::new(body, waits)))
}

/// Counts what an answer holds until it is written.
fn outgoing(api: &Api, response: Response<Body>, line: Arc<Line>) -> Response<Outgoing> {
    // One without a known length makes its parts as they are written.
    let length = response.body().size_hint().exact();
    let recorder = length.is_none().then(|| api.host.recorder().clone());
    let held = api.bodies.answer(length.unwrap_or(0));
    let (response, held) = held.map_or_else(|failed| (failed.into_response(), None), |held| (response, held));
    response.map(|body| Outgoing::new(body, line, held, recorder))
}

/// Reads a short body and calls.
async fn call(api: &Api, name: &str, request: Request<Incoming>) -> Answer<Response<Body>> {
    let waits = request.headers().contains_key(header::EXPECT);
    let waited = request.extensions().get().copied().unwrap_or_default();
    let mut body = Inbound::new(request.into_body(), waits);
    // Most come with their header: nothing is waited for, and no time is set.
    let message = match body.whole().await? {
        Some(whole) => Vec::from(whole),
        None => routes::read_message(api, name, body).await?.bytes,
    };
    let Waited(waited) = waited;
    routes::answer_call(&api.host, name, message, CALL_DEADLINE.saturating_sub(waited)).await
}

/// The worker that a request calls, if it takes this way.
fn called<B: HttpBody>(request: &Request<B>) -> Option<String> {
    let uri = request.uri();
    let is_short = request.body().size_hint().upper().is_some_and(|bytes| bytes <= bounds::BODY_BYTES_UNCOUNTED);
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
        let long = Body::from(vec![0; 1 << 20]);
        assert_eq!(called_by("POST", "/v1/workers/a/call", long), None);
        let of_unknown_length = Body::from_stream(futures::stream::empty::<Result<&[u8], Infallible>>());
        assert_eq!(called_by("POST", "/v1/workers/a/call", of_unknown_length), None);
    }
}
