//! The routes, each a few lines: read the request, ask the host, say the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use super::bodies::{Bodies, Limit, Received};
use super::connections::Connections;
use super::failed::{Answer, Failed, Refusals, in_one_form};
use super::front::Waited;
use super::stream;
use crate::base::units::show_duration;
use crate::base::{ComponentHash, Name, Payload, RevisionNumber, Snapshot, bounds};
use crate::control::answer;
use crate::control::errors::more_than;
use crate::control::host::{Host, RequestError};
use crate::control::wire::{DeadLetterInfo, DroppedInfo, UpgradeInfo};
use crate::control::{doctor, metrics, openapi};
use crate::runtime::{CALL_DEADLINE, Page, Shared};
use crate::sandbox::CallError;

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
    "POST /v1/ledger/trim",
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

/// What the routes share.
pub struct Api {
    pub host: Arc<Host>,
    pub stop: watch::Receiver<bool>,
    pub connections: Arc<Connections>,
    pub bodies: Bodies,
    pub refusals: Arc<Refusals>,
    /// Leave to follow events or logs.
    pub followers: Arc<Semaphore>,
    /// Turns to have a state shown.
    exports: Semaphore,
    /// The turn to have the host looked over.
    examination: Semaphore,
}

pub type App = Arc<Api>;

impl Api {
    pub fn new(host: Arc<Host>, stop: watch::Receiver<bool>, connections: Arc<Connections>) -> App {
        let refusals = Arc::new(Refusals::new(host.recorder().clone()));
        let clock = host.recorder().clock();
        let bodies = Bodies::new(&host.services.account, clock, connections.patience(), &refusals);
        Arc::new(Api {
            bodies,
            stop,
            connections,
            refusals,
            followers: Arc::new(Semaphore::new(bounds::FOLLOWERS_MAX)),
            exports: Semaphore::new(bounds::STATE_EXPORTS_AT_ONCE),
            examination: Semaphore::new(1),
            host,
        })
    }
}

pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/workers/{name}/upgrade", post(upgrade))
        .route("/v1/check", post(check))
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
        .route("/v1/ledger/trim", post(trim_ledger))
        .route("/v1/dead-letters", get(dead_letters).delete(drop_dead_letters))
        .route("/v1/dead-letters/{id}", get(dead_letter).delete(drop_dead_letter))
        .route("/v1/dead-letters/{id}/resend", post(resend))
        .route("/v1/events", get(stream::events))
        .route("/v1/events/follow", get(stream::follow_events))
        .route("/v1/logs", get(stream::logs))
        .route("/v1/logs/follow", get(stream::follow_logs))
        .route("/v1/doctor", get(examine))
        .route("/v1/openapi.json", get(async || Json(openapi::document())))
        .route("/metrics", get(async |State(app): State<App>| metrics::answer(app)))
        .fallback(async || {
            Failed::new("not-found", "the API has no such route", "", "GET /v1/openapi.json describes what there is")
        })
        .with_state(app)
        .layer(map_response(in_one_form))
}

/// A page of a listing by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

impl PageQuery {
    fn read(self) -> Answer<Page> {
        let after = self.after.map(|name| Name::parse(&name)).transpose().map_err(|error| {
            Failed::new("usage", format!("`after` is no name: {error}"), "", "leave it out for the first page")
        })?;
        let limit = self.limit.unwrap_or(bounds::PAGE_ROWS_MAX).clamp(1, bounds::PAGE_ROWS_MAX);
        Ok(Page { after, limit })
    }
}

async fn workers(State(app): State<App>, Query(query): Query<PageQuery>) -> Answer<Response> {
    let page = query.read()?;
    Ok(Json(app.host.worker_page(page.after.as_ref(), page.limit).await?).into_response())
}

async fn supervisor(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer<Response> {
    // A name cannot be empty in a path: `-`, which is no name, stands for the root.
    let name = if name == "-" { Some(Name::root()) } else { Name::parse(&name).ok() };
    let name =
        name.ok_or_else(|| app.host.worker("").err().map_or_else(|| Failed::internal("no error"), Failed::from))?;
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
#[serde(deny_unknown_fields)]
struct CallQuery {
    timeout_ms: Option<u64>,
}

async fn call(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<CallQuery>,
    waited: Option<Extension<Waited>>,
    body: Body,
) -> Answer<Response> {
    let Waited(waited) = waited.map_or_else(Waited::default, |waited| waited.0);
    let time = query.timeout_ms.map_or(CALL_DEADLINE, Duration::from_millis).saturating_sub(waited);
    let Received { bytes, held: _held } = read_message(&app, &name, body).await?;
    answer_call(&app.host, &name, bytes, time).await
}

/// Reads a message for a worker: first who it is, and what it takes.
pub async fn read_message(
    app: &Api,
    name: &str,
    body: impl HttpBody<Data = Bytes, Error: std::fmt::Display> + Unpin,
) -> Answer<Received> {
    let (worker, limit) = app.host.payload_limit(name)?;
    let too_large = |size| {
        let (worker, error) = (worker.clone(), CallError::TooLarge { size, limit });
        Failed::from(RequestError::Call { worker, error })
    };
    app.bodies.read(body, Limit { bytes: limit, too_large: &too_large }).await
}

/// Calls a worker, and answers with what it answered.
pub async fn answer_call(host: &Host, name: &str, request: Vec<u8>, time: Duration) -> Answer<Response> {
    let reply = host.call(name, Payload::from(request), time).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], reply.into_vec()).into_response())
}

async fn cast(State(app): State<App>, Path(name): Path<String>, body: Body) -> Answer<StatusCode> {
    let Received { bytes, held: _held } = read_message(&app, &name, body).await?;
    app.host.cast(&name, Payload::from(bytes))?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeQuery {
    #[serde(default)]
    dry_run: bool,
    probation_ms: Option<u64>,
    #[serde(default)]
    wait: bool,
    #[serde(default)]
    fewer_exports: bool,
}

async fn upgrade(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<UpgradeQuery>,
    body: Body,
) -> Answer<Json<UpgradeInfo>> {
    app.host.worker(&name)?;
    let most = bounds::PROBATION_MAX;
    if let Some(asked) = query.probation_ms.map(Duration::from_millis).filter(|asked| *asked > most) {
        // Exact, where it would look like the bound.
        let is_near = show_duration(asked) == show_duration(most);
        let shown = if is_near { format!("{asked:?}") } else { show_duration(asked) };
        let message = format!("probation cannot last {shown}");
        let help = format!("`--probation` takes {} ({most:?}) at the most", show_duration(most));
        return Err(Failed::new("usage", message, "", &help));
    }
    let body = read_component(&app, body).await?;
    // An upgrade goes on to its end even where its client goes away half way.
    let recorder = app.host.recorder().clone();
    let work = async move { recorder.watched("an upgrade by request", run_upgrade(app, name, query, body)).await };
    // An error means that the runtime ends.
    tokio::spawn(work).await.ok().flatten().unwrap_or_else(|| Err(Failed::internal("a fault of its own code")))
}

async fn read_component(app: &Api, body: Body) -> Answer<Received> {
    let limit = bounds::COMPONENT_BYTES_MAX;
    let help = "a component of this size is not run; leave out its debug information, for one";
    let too_large = |size| too_large("component", size, limit, help);
    app.bodies.read(body, Limit { bytes: limit, too_large: &too_large }).await
}

fn too_large(what: &str, size: u64, limit: u64, help: &str) -> Failed {
    let cause = more_than(size, limit);
    Failed::new("too-large", format!("the {what} is too large"), cause, help)
}

async fn run_upgrade(app: App, name: String, query: UpgradeQuery, body: Received) -> Answer<Json<UpgradeInfo>> {
    let Received { bytes, held: _held } = body;
    let worker = app.host.worker(&name)?;
    let from = worker.status();
    if query.dry_run {
        let (to, rehearsal) = app.host.dry_run(&name, bytes).await?;
        return Ok(Json(UpgradeInfo {
            worker: name,
            outcome: "rehearsed".to_string(),
            revision: from.revision.0,
            from: from.component.hex(),
            to: to.hex(),
            rehearsal: Some(answer::rehearsal_info(&rehearsal)),
            pause_us: None,
            runs: None,
            probation_ms: None,
            reason: None,
            replayed: None,
            rollback_to: None,
        }));
    }
    let probation = query.probation_ms.map(Duration::from_millis);
    let mut switched = app.host.upgrade_with(&name, bytes, probation, query.fewer_exports).await?;
    let outcome = if query.wait || switched.probation.is_zero() {
        // An error means that the host is stopping, and the verdict is in the ledger.
        (&mut switched.outcome).await.ok()
    } else {
        switched.outcome.try_recv().ok()
    };
    Ok(Json(with_way_back(&app, &worker, answer::upgrade_info(&worker, &switched, outcome))))
}

/// Whether it could be rolled back from here.
fn with_way_back(app: &Api, worker: &Shared, info: UpgradeInfo) -> UpgradeInfo {
    UpgradeInfo { rollback_to: app.host.rollback_to(worker).map(|revision| revision.0), ..info }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackQuery {
    to: Option<u64>,
    #[serde(default)]
    fewer_exports: bool,
}

async fn rollback(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<RollbackQuery>,
) -> Answer<Json<UpgradeInfo>> {
    let worker = app.host.worker(&name)?;
    let before = worker.status().component;
    let rolled_back = app.host.rollback_with(&name, query.to.map(RevisionNumber), query.fewer_exports).await?;
    let info = match rolled_back {
        Ok(outcome) => answer::ended_info(&worker, before, outcome),
        Err(mut switched) => {
            let outcome = switched.outcome.try_recv().ok();
            answer::upgrade_info(&worker, &switched, outcome)
        }
    };
    Ok(Json(with_way_back(&app, &worker, info)))
}

async fn commit(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<UpgradeInfo>> {
    let worker = app.host.worker(&name)?;
    let before = worker.status().component;
    let outcome = app.host.commit(&name).await?;
    Ok(Json(with_way_back(&app, &worker, answer::ended_info(&worker, before, outcome))))
}

async fn start(State(app): State<App>, Path(name): Path<String>, body: Body) -> Answer<StatusCode> {
    app.host.startable(&name)?;
    let limit = bounds::SETTINGS_BYTES_MAX;
    let help = "a configuration is kept for good; give what is large as a message, or as a file by a grant";
    let too_large = |size| too_large("configuration", size, limit, help);
    let Received { bytes, held: _held } = app.bodies.read(body, Limit { bytes: limit, too_large: &too_large }).await?;
    let config = str::from_utf8(&bytes).ok().filter(|text| !text.trim().is_empty());
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
    app.host.written().await;
    Ok(Json(app.host.history(&name)?).into_response())
}

async fn state(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let state = shown_state(&app, &name).await?;
    let json = crate::record::blocking(move || answer::state_json(&state)).await.map_err(Failed::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn state_data(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let state = shown_state(&app, &name).await?;
    let schema = state.schema.to_string();
    let headers = [("paguro-schema", schema), ("content-type", header_text(&state.media_type))];
    Ok((headers, state.data.into_vec()).into_response())
}

/// A state, in its turn: it is counted as an answer when it has come, and until then these are all there are.
async fn shown_state(app: &Api, name: &str) -> Answer<Snapshot> {
    app.host.worker(name)?;
    let _turn = app.exports.acquire().await.map_err(Failed::internal)?;
    Ok(app.host.state(name).await?)
}

async fn examine(State(app): State<App>) -> Answer<Response> {
    let _turn = app.examination.acquire().await.map_err(Failed::internal)?;
    Ok(Json(doctor::examine(&app.host).await).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    schema: Option<u32>,
}

async fn import(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<ImportQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let limit = app.host.worker(&name)?.settings().limits.state;
    let too_large = |size| too_large("state", size, limit, "`state` under [limits] in its settings raises the limit");
    let Received { bytes, held: _held } = app.bodies.read(body, Limit { bytes: limit, too_large: &too_large }).await?;
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_string);
    let (schema, media_type) = match (query.schema, given) {
        (Some(schema), Some(media_type)) => (schema, media_type.into()),
        // What is not said stays as it is.
        (schema, media_type) => {
            let now = shown_state(&app, &name).await?;
            (schema.unwrap_or(now.schema), media_type.map_or(now.media_type, Into::into))
        }
    };
    app.host.import(&name, Snapshot { schema, media_type, data: Payload::from(bytes) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckQuery {
    against: Option<String>,
}

async fn check(State(app): State<App>, Query(query): Query<CheckQuery>, body: Body) -> Answer<Response> {
    if let Some(against) = &query.against {
        app.host.worker(against)?;
    }
    let Received { bytes, held: _held } = read_component(&app, body).await?;
    let checked = app.host.check(bytes, query.against.as_deref()).await?;
    Ok(Json(answer::check_info(&checked, query.against.as_deref())).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    #[serde(default)]
    after: u64,
    worker: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrimQuery {
    through: u64,
    digest: String,
}

async fn trim_ledger(State(app): State<App>, Query(query): Query<TrimQuery>) -> Answer<Response> {
    let digest = ComponentHash::from_hex(&query.digest)
        .ok_or_else(|| RequestError::NotTrimmed { why: "the digest is not 64 hexadecimal digits".to_string() })?;
    let entry = app.host.trim_ledger(query.through, digest).await?;
    Ok(Json(answer::ledger_info(&entry)).into_response())
}

async fn ledger(State(app): State<App>, Query(query): Query<LedgerQuery>) -> Answer<Response> {
    app.host.written().await;
    let database = app.host.database();
    let entries = match query.worker {
        None => database.ledger(query.after, bounds::PAGE_ROWS_MAX)?,
        Some(name) => {
            // A worker that was removed has its story still: only a text that is no name has none.
            let parsed = if name == "/" { Ok(Name::root()) } else { Name::parse(&name) };
            let name = parsed.map_err(|_| RequestError::NoWorker { name, nearest: Vec::new(), problem: None })?;
            let mut entries = database.ledger_for(&name, bounds::PAGE_ROWS_MAX)?;
            entries.retain(|entry| entry.seq > query.after);
            entries
        }
    };
    Ok(Json(entries.iter().map(answer::ledger_info).collect::<Vec<_>>()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
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
    let letter = tokio::spawn(work).await.ok().flatten();
    let letter = letter.ok_or_else(|| Failed::internal("a fault of its own code"))??;
    Ok(Json(answer::dead_letter_info(&letter)))
}

async fn drop_dead_letter(State(app): State<App>, Path(id): Path<u64>) -> Answer<StatusCode> {
    app.host.drop_dead_letter(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropQuery {
    worker: String,
}

async fn drop_dead_letters(State(app): State<App>, Query(query): Query<DropQuery>) -> Answer<Json<DroppedInfo>> {
    let letters = app.host.drop_dead_letters(&query.worker).await?;
    Ok(Json(DroppedInfo { letters }))
}

/// A guest's media type may hold anything; a header may not.
fn header_text(text: &str) -> String {
    let visible: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect();
    if visible.is_empty() { "application/octet-stream".to_string() } else { visible }
}
