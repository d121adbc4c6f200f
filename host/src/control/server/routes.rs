//! The routes, each a few lines: read the request, ask the host, say the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::watch;

use super::stream::{self, Follow};
use crate::base::{Name, Payload, RevisionNumber, Snapshot, bounds};
use crate::control::answer;
use crate::control::host::{Host, RequestError};
use crate::control::wire::{DeadLetterInfo, DroppedInfo, ErrorInfo, UpgradeInfo};
use crate::control::{doctor, metrics, openapi};
use crate::record::DatabaseError;
use crate::runtime::{CALL_DEADLINE, Page};

/// Every route, as `METHOD path`: what the OpenAPI document must describe.
pub const ROUTES: &[&str] = &[
    "GET /v1/host",
    "GET /v1/workers",
    "GET /v1/workers/{name}",
    "GET /v1/tree",
    "POST /v1/workers/{name}/call",
    "POST /v1/workers/{name}/cast",
    "POST /v1/workers/{name}/upgrade",
    "POST /v1/workers/{name}/rollback",
    "POST /v1/workers/{name}/commit",
    "POST /v1/workers/{name}/start",
    "POST /v1/workers/{name}/stop",
    "POST /v1/workers/{name}/restart",
    "POST /v1/workers/{name}/isolate",
    "DELETE /v1/workers/{name}",
    "GET /v1/supervisors/{name}",
    "GET /v1/health",
    "GET /v1/workers/{name}/history",
    "GET /v1/workers/{name}/state",
    "PUT /v1/workers/{name}/state",
    "GET /v1/workers/{name}/state/data",
    "POST /v1/check",
    "GET /v1/ledger",
    "GET /v1/dead-letters",
    "DELETE /v1/dead-letters",
    "GET /v1/dead-letters/{id}",
    "DELETE /v1/dead-letters/{id}",
    "POST /v1/dead-letters/{id}/resend",
    "GET /v1/events",
    "GET /v1/events/follow",
    "GET /v1/logs",
    "GET /v1/logs/follow",
    "GET /v1/doctor",
    "GET /v1/openapi.json",
    "GET /metrics",
];

/// Bytes of a request or a state in a body: beyond any payload or state that a worker could take.
/// Components have a bound of their own.
const BODY_BYTES_MAX: usize = 256 << 20;

#[derive(Clone)]
pub struct App {
    pub host: Arc<Host>,
    pub stop: watch::Receiver<bool>,
}

type Answer<T> = Result<T, Failed>;

/// An error on its way out.
pub struct Failed(ErrorInfo);

impl From<RequestError> for Failed {
    fn from(error: RequestError) -> Failed {
        Failed(ErrorInfo::from(&error))
    }
}

impl From<DatabaseError> for Failed {
    fn from(error: DatabaseError) -> Failed {
        Failed(ErrorInfo::from(&RequestError::Database(error)))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let known = ErrorInfo::CODES.iter().find(|(code, _)| *code == self.0.code);
        let status = known.and_then(|(_, status)| StatusCode::from_u16(*status).ok());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}

pub fn router(host: Arc<Host>, stop: watch::Receiver<bool>) -> Router {
    let components = usize::try_from(bounds::COMPONENT_BYTES_MAX).unwrap_or(usize::MAX);
    Router::new()
        .route("/v1/workers/{name}/upgrade", post(upgrade).layer(DefaultBodyLimit::max(components)))
        .route("/v1/check", post(check).layer(DefaultBodyLimit::max(components)))
        .route("/v1/host", get(async |State(app): State<App>| Json(app.host.info())))
        .route("/v1/workers", get(workers))
        .route("/v1/workers/{name}", get(worker).delete(delete))
        .route("/v1/tree", get(async |State(app): State<App>| Answer::Ok(Json(app.host.tree_info().await?))))
        .route("/v1/workers/{name}/call", post(call))
        .route("/v1/workers/{name}/cast", post(cast))
        .route("/v1/workers/{name}/rollback", post(rollback))
        .route("/v1/workers/{name}/commit", post(commit))
        .route("/v1/workers/{name}/start", post(start))
        .route("/v1/workers/{name}/stop", post(stop_worker))
        .route("/v1/workers/{name}/restart", post(restart))
        .route("/v1/workers/{name}/isolate", post(isolate))
        .route("/v1/supervisors/{name}", get(supervisor))
        .route("/v1/health", get(health))
        .route("/v1/workers/{name}/history", get(history))
        .route("/v1/workers/{name}/state", get(state).put(import))
        .route("/v1/workers/{name}/state/data", get(state_data))
        .route("/v1/ledger", get(ledger))
        .route("/v1/dead-letters", get(dead_letters).delete(drop_dead_letters))
        .route("/v1/dead-letters/{id}", get(dead_letter).delete(drop_dead_letter))
        .route("/v1/dead-letters/{id}/resend", post(resend))
        .route("/v1/events", get(stream::events))
        .route("/v1/events/follow", get(stream::follow_events))
        .route("/v1/logs", get(stream::logs))
        .route("/v1/logs/follow", get(stream::follow_logs))
        .route("/v1/doctor", get(async |State(app): State<App>| Json(doctor::examine(&app.host).await)))
        .route("/v1/openapi.json", get(async || Json(openapi::document())))
        .route("/metrics", get(async |State(app): State<App>| metrics::text(&app.host)))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(host.clone(), whatever_panics))
        .with_state(App { host, stop })
}

async fn whatever_panics(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    let part = format!("the request {} {}", request.method(), request.uri().path());
    answered(&host, part, next.run(request)).await
}

/// A request over which the host's code panics is answered so, and nothing else is hurt.
pub(super) async fn answered(host: &Host, part: String, work: impl Future<Output = Response>) -> Response {
    let shown = part.floor_char_boundary(bounds::GUEST_TEXT_BYTES_MAX);
    let work = async {
        host.services.fuses.at(&Name::root());
        work.await
    };
    match host.recorder().watched(&part[..shown], work).await {
        Some(response) => response,
        None => internal("a fault of its own code").into_response(),
    }
}

async fn not_found() -> Failed {
    Failed(ErrorInfo {
        code: "not-found".to_string(),
        message: "the API has no such route".to_string(),
        cause: String::new(),
        help: "GET /v1/openapi.json describes what there is".to_string(),
    })
}

/// A page of a listing by name.
#[derive(Deserialize)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

impl PageQuery {
    fn read(self) -> Answer<Page> {
        let after = self.after.map(|name| Name::parse(&name)).transpose().map_err(|error| {
            let (code, message) = ("usage".to_string(), format!("`after` is no name: {error}"));
            Failed(ErrorInfo {
                code,
                message,
                cause: String::new(),
                help: "leave it out for the first page".to_string(),
            })
        })?;
        let limit = self.limit.unwrap_or(bounds::PAGE_ROWS_MAX).clamp(1, bounds::PAGE_ROWS_MAX);
        Ok(Page { after, limit })
    }
}

async fn workers(State(app): State<App>, Query(query): Query<PageQuery>) -> Answer<Response> {
    let page = query.read()?;
    Ok(Json(app.host.worker_page(page.after.as_ref(), page.limit)?).into_response())
}

async fn supervisor(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer<Response> {
    // A name cannot be empty in a path: `-`, which is no name, stands for the root.
    let name = if name == "-" { Some(Name::root()) } else { Name::parse(&name).ok() };
    let name = name.ok_or_else(|| app.host.worker("").err().map_or_else(|| internal("no error"), Failed::from))?;
    Ok(Json(app.host.supervisor(&name, query.read()?).await?).into_response())
}

async fn health(State(app): State<App>, Query(query): Query<PageQuery>) -> Answer<Response> {
    let page = query.read()?;
    Ok(Json(app.host.health(page.after.as_ref(), page.limit).await).into_response())
}

async fn worker(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let worker = app.host.worker(&name)?;
    Ok(Json(app.host.worker_info(&worker)?).into_response())
}

#[derive(Deserialize)]
struct CallQuery {
    timeout_ms: Option<u64>,
}

async fn call(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<CallQuery>,
    body: Bytes,
) -> Answer<Response> {
    let time = query.timeout_ms.map_or(CALL_DEADLINE, Duration::from_millis);
    answer_call(&app.host, &name, body, time).await
}

/// Calls a worker, and answers with what it answered.
pub async fn answer_call(host: &Host, name: &str, request: Bytes, time: Duration) -> Answer<Response> {
    let reply = host.call(name, Payload::from(Vec::from(request)), time).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], reply.into_vec()).into_response())
}

async fn cast(State(app): State<App>, Path(name): Path<String>, body: Bytes) -> Answer<StatusCode> {
    app.host.cast(&name, Payload::from(Vec::from(body)))?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
struct UpgradeQuery {
    #[serde(default)]
    dry_run: bool,
    probation_ms: Option<u64>,
    #[serde(default)]
    wait: bool,
}

async fn upgrade(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<UpgradeQuery>,
    body: Bytes,
) -> Answer<Json<UpgradeInfo>> {
    // An upgrade goes on to its end even where its client goes away half way.
    let recorder = app.host.recorder().clone();
    let work = async move { recorder.watched("an upgrade by request", run_upgrade(app, name, query, body)).await };
    // An error means that the runtime ends.
    tokio::spawn(work).await.ok().flatten().unwrap_or_else(|| Err(internal("a fault of its own code")))
}

async fn run_upgrade(app: App, name: String, query: UpgradeQuery, body: Bytes) -> Answer<Json<UpgradeInfo>> {
    let worker = app.host.worker(&name)?;
    let from = worker.status();
    if query.dry_run {
        let (to, rehearsal) = app.host.dry_run(&name, Vec::from(body)).await?;
        return Ok(Json(UpgradeInfo {
            worker: name,
            outcome: "rehearsed".to_string(),
            revision: from.revision.0,
            from: from.component.hex(),
            to: to.hex(),
            rehearsal: Some(answer::rehearsal_info(&rehearsal)),
            pause_us: None,
            probation_ms: None,
            reason: None,
            replayed: None,
        }));
    }
    let probation = query.probation_ms.map(Duration::from_millis);
    let mut switched = app.host.upgrade(&name, Vec::from(body), probation).await?;
    let outcome = if query.wait || switched.probation.is_zero() {
        // An error means that the host is stopping, and the verdict is in the ledger.
        (&mut switched.outcome).await.ok()
    } else {
        switched.outcome.try_recv().ok()
    };
    Ok(Json(answer::upgrade_info(worker.name(), &switched, outcome)))
}

#[derive(Deserialize)]
struct RollbackQuery {
    to: Option<u64>,
}

async fn rollback(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<RollbackQuery>,
) -> Answer<Json<UpgradeInfo>> {
    let worker = app.host.worker(&name)?;
    let before = worker.status().component;
    let rolled_back = app.host.rollback(&name, query.to.map(RevisionNumber)).await?;
    Ok(Json(match rolled_back {
        Ok(outcome) => answer::ended_info(&worker, before, outcome),
        Err(mut switched) => {
            let outcome = switched.outcome.try_recv().ok();
            answer::upgrade_info(worker.name(), &switched, outcome)
        }
    }))
}

async fn commit(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<UpgradeInfo>> {
    let worker = app.host.worker(&name)?;
    let before = worker.status().component;
    let outcome = app.host.commit(&name).await?;
    Ok(Json(answer::ended_info(&worker, before, outcome)))
}

async fn start(State(app): State<App>, Path(name): Path<String>, body: Bytes) -> Answer<StatusCode> {
    let config = str::from_utf8(&body).ok().filter(|text| !text.trim().is_empty());
    app.host.start_with(&name, config).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn isolate(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    app.host.isolate_worker(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    app.host.delete_worker(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stop_worker(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    app.host.stop_worker(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    app.host.restart_worker(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn history(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let worker = app.host.worker(&name)?;
    Ok(Json(app.host.history(&worker)?).into_response())
}

async fn state(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    Ok(Json(answer::state_info(&app.host.state(&name).await?)).into_response())
}

async fn state_data(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let state = app.host.state(&name).await?;
    let schema = state.schema.to_string();
    let headers = [("paguro-schema", schema), ("content-type", header_text(&state.media_type))];
    Ok((headers, state.data.into_vec()).into_response())
}

#[derive(Deserialize)]
struct ImportQuery {
    schema: Option<u32>,
}

async fn import(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<ImportQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<StatusCode> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_string);
    let (schema, media_type) = match (query.schema, given) {
        (Some(schema), Some(media_type)) => (schema, media_type.into()),
        // What is not said stays as it is.
        (schema, media_type) => {
            let now = app.host.state(&name).await?;
            (schema.unwrap_or(now.schema), media_type.map_or(now.media_type, Into::into))
        }
    };
    app.host.import(&name, Snapshot { schema, media_type, data: Payload::from(Vec::from(body)) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct CheckQuery {
    against: Option<String>,
}

async fn check(State(app): State<App>, Query(query): Query<CheckQuery>, body: Bytes) -> Answer<Response> {
    let checked = app.host.check(Vec::from(body), query.against.as_deref()).await?;
    Ok(Json(answer::check_info(&checked, query.against.as_deref())).into_response())
}

#[derive(Deserialize)]
struct LedgerQuery {
    #[serde(default)]
    after: u64,
    worker: Option<String>,
}

async fn ledger(State(app): State<App>, Query(query): Query<LedgerQuery>) -> Answer<Response> {
    let database = app.host.database();
    let entries = match query.worker {
        None => database.ledger(query.after, bounds::PAGE_ROWS_MAX)?,
        Some(name) => {
            // A worker that was removed has its story still: only a text that is no name has none.
            let name =
                Name::parse(&name).map_err(|_| RequestError::NoWorker { name, nearest: Vec::new(), problem: None })?;
            let mut entries = database.ledger_for(&name, bounds::PAGE_ROWS_MAX)?;
            entries.retain(|entry| entry.seq > query.after);
            entries
        }
    };
    Ok(Json(entries.iter().map(answer::ledger_info).collect::<Vec<_>>()).into_response())
}

#[derive(Deserialize)]
struct LettersQuery {
    worker: Option<String>,
    before: Option<u64>,
    limit: Option<usize>,
}

async fn dead_letters(State(app): State<App>, Query(query): Query<LettersQuery>) -> Answer<Json<Vec<DeadLetterInfo>>> {
    let limit = query.limit.unwrap_or(bounds::PAGE_ROWS_MAX);
    let letters = app.host.dead_letters(query.worker.as_deref(), query.before, limit).await?;
    Ok(Json(letters.iter().map(answer::dead_letter_info).collect()))
}

async fn dead_letter(State(app): State<App>, Path(id): Path<u64>) -> Answer<Json<DeadLetterInfo>> {
    let (letter, body) = app.host.dead_letter(id).await?;
    Ok(Json(answer::dead_letter_with_body(&letter, body)))
}

async fn resend(State(app): State<App>, Path(id): Path<u64>) -> Answer<Json<DeadLetterInfo>> {
    // To its end even where its client goes away half way: sent and kept would be sent twice.
    let recorder = app.host.recorder().clone();
    let work = async move { recorder.watched("the resend of a dead letter", app.host.resend_dead_letter(id)).await };
    // An error means that the runtime ends.
    let letter = tokio::spawn(work).await.ok().flatten().ok_or_else(|| internal("a fault of its own code"))??;
    Ok(Json(answer::dead_letter_info(&letter)))
}

async fn drop_dead_letter(State(app): State<App>, Path(id): Path<u64>) -> Answer<StatusCode> {
    app.host.drop_dead_letter(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct DropQuery {
    worker: String,
}

async fn drop_dead_letters(State(app): State<App>, Query(query): Query<DropQuery>) -> Answer<Json<DroppedInfo>> {
    let letters = app.host.drop_dead_letters(&query.worker).await?;
    Ok(Json(DroppedInfo { letters }))
}

fn internal(why: &str) -> Failed {
    Failed(ErrorInfo {
        code: "internal".to_string(),
        message: "the host failed to carry this out".to_string(),
        cause: why.to_string(),
        help: "`paguro events` and the host's own output tell more".to_string(),
    })
}

/// A guest's media type may hold anything; a header may not.
fn header_text(text: &str) -> String {
    let visible: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect();
    if visible.is_empty() { "application/octet-stream".to_string() } else { visible }
}

impl Follow {
    /// Where to go on: after `Last-Event-ID` if the client came back, else where it asked.
    pub fn place(&self, headers: &HeaderMap) -> u64 {
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        last.and_then(|text| text.parse().ok()).or(self.after).unwrap_or(0)
    }
}
