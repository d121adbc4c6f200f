//! What the API says and hears, version 1: JSON under `/v1`. These types are for the wire alone;
//! fields are added within a version, never changed or removed. All times are RFC 3339 (UTC), all
//! durations milliseconds (`_ms`) or microseconds (`_us`), all sizes bytes.
//!
//! A worker's name stands in a path as one segment: its `/` is written `%2F`.
//!
//! ```text
//! GET  /v1/host                             HostInfo
//! GET  /v1/workers                          [WorkerInfo]           paguro ps
//! GET  /v1/workers/{name}                   WorkerInfo
//! GET  /v1/tree                             SupervisorInfo         paguro tree
//! POST /v1/workers/{name}/call?timeout_ms=  body: request          200: the reply's bytes
//! POST /v1/workers/{name}/cast              body: message          202
//! POST /v1/workers/{name}/upgrade?dry_run=&probation_ms=&wait=&fewer_exports=     body: component; 200 UpgradeInfo
//! POST /v1/workers/{name}/rollback?to=&fewer_exports=   200 UpgradeInfo
//! POST /v1/workers/{name}/commit            200 UpgradeInfo
//! POST /v1/workers/{name}/start             body: a new key's configuration, or nothing; 204
//! POST /v1/workers/{name}/stop|restart|isolate                     204
//! DELETE /v1/workers/{name}                 204                    paguro delete
//! GET  /v1/supervisors/{name}?after=&limit=                        SupervisorDetail; `-` is the root
//! GET  /v1/health?after=&limit=             HealthInfo             paguro health
//! GET  /v1/workers/{name}/history           [RevisionInfo]
//! GET  /v1/workers/{name}/state             StateInfo
//! GET  /v1/workers/{name}/state/data        the state's bytes, with headers `paguro-schema`, `content-type`
//! PUT  /v1/workers/{name}/state?schema=     body: the state's bytes, `content-type`; 204
//! POST /v1/check?against=                   body: component; 200 CheckInfo
//! GET  /v1/ledger?after=&worker=            [LedgerInfo]
//! POST /v1/ledger/trim?through=&digest=     200 LedgerInfo of the entry that says so
//! GET  /v1/dead-letters?worker=&before=&limit=   [DeadLetterInfo], newest first, without bodies
//! DELETE /v1/dead-letters?worker=           all of one worker; 200 DroppedInfo
//! GET  /v1/dead-letters/{id}                DeadLetterInfo, with its body
//! POST /v1/dead-letters/{id}/resend         200 DeadLetterInfo
//! DELETE /v1/dead-letters/{id}              204
//! GET  /v1/events?after=&worker=&limit=     [EventInfo], a page; GET /v1/events/follow?after=  server-sent events of it
//! GET  /v1/logs?after=&worker=&limit=       [LogInfo], a page; GET /v1/logs/follow?after=&worker=  server-sent events
//! GET  /v1/doctor                           [DoctorInfo]
//! GET  /v1/openapi.json    GET /metrics
//! ```
//!
//! Errors have a status of 400 and above and an [`ErrorInfo`] as their body. A stream's events carry
//! their number as `id`, so that a client which sends it back in `Last-Event-ID` misses nothing that
//! the host still has; event `missed` says how many were lost.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    pub version: String,
    pub directory: String,
    pub state: String,
    pub pid: u32,
    pub started_at: String,
    pub workers: usize,
    pub supervisors: usize,
    /// Only while it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<StartingInfo>,
}

/// How far the start of a host has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartingInfo {
    /// Components in the directory that are loaded by now, or refused.
    pub loaded: usize,
    /// Components in the directory. 0: it has not been looked at yet.
    pub components: usize,
}

impl std::fmt::Display for StartingInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.components {
            0 => f.write_str("it looks at the directory"),
            components => write!(f, "{} of {components} components are loaded", self.loaded),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub name: String,
    /// `worker` or `command`.
    pub kind: String,
    /// `down`, `starting`, `running`, `hibernated`, `probation`, `rolling-back`, `stopping`, `restarting` or
    /// `isolated`.
    pub state: String,
    /// Why, where the state alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub revision: u64,
    /// blake3 of the component that serves, lowercase hex.
    pub component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How what runs relates to the file in the directory: `same`, `override` (a command put another
    /// revision in its place), `rejected` (the file's component was rolled back or called off),
    /// `newer` (another file waits: for its turn, the end of a change, or settings that can be taken), or `none` (no file).
    pub file: String,
    pub exports: Vec<String>,
    pub incarnation: u64,
    /// Since the last start; absent when it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    pub restarts: u64,
    /// Messages that wait, and how many may.
    pub mailbox: usize,
    pub mailbox_max: usize,
    pub memory_bytes: u64,
    pub memory_max_bytes: u64,
    /// Used since the host started, about one unit for each instruction; added when a message is handled.
    #[serde(default)]
    pub fuel: u64,
    pub handled: u64,
    pub rejected: u64,
    pub expired: u64,
    /// Calls of its own to others that were cut short, because its own caller had gone.
    #[serde(default)]
    pub cancelled: u64,
    pub refused: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// While in probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation_left_ms: Option<u64>,
    /// `closed`, `open` or `half-open`; absent where it has no circuit breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// What its own `health.check` said last, and when: `healthy`, or `degraded` or `critical` with its
    /// reason. Absent where it was never asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorInfo {
    /// `/` for the root.
    pub name: String,
    pub strategy: String,
    pub running: bool,
    /// As its parent has it, where it does not run: `isolated`, `restarting`, `down`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    pub intensity: u32,
    /// The intensity is that of each key of a template by itself.
    #[serde(default)]
    pub each_key: bool,
    pub period_ms: u64,
    /// Restarts within the period.
    pub restarts: u32,
    /// In start order; of a template's, the first ones.
    pub children: Vec<ChildInfo>,
    /// Children that are not shown.
    #[serde(default)]
    pub more: u64,
}

/// One supervisor: its policy, what of it is used up, and a page of its children.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorDetail {
    pub name: String,
    pub running: bool,
    /// As its parent has it, where it does not run: `isolated`, `restarting`, `down`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Why not, where it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub strategy: String,
    pub intensity: u32,
    /// The intensity is that of each key of a template by itself.
    #[serde(default)]
    pub each_key: bool,
    pub period_ms: u64,
    /// Restarts within the period, oldest first.
    pub restarts: Vec<RestartInfo>,
    pub order: Vec<String>,
    pub auto_shutdown: String,
    pub on_demand: bool,
    pub tier: String,
    pub backoff: BackoffInfo,
    pub escalation: EscalationInfo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<BreakerPolicyInfo>,
    pub budget: BudgetInfo,
    /// Whose failure stops and starts others just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarting_with: Option<String>,
    pub counts: CountsInfo,
    /// In start order.
    pub children: Vec<SupervisedInfo>,
    /// The name to ask for the next page with, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartInfo {
    pub child: String,
    pub ago_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackoffInfo {
    pub initial_ms: u64,
    pub max_ms: u64,
    pub factor: u32,
    pub jitter_percent: u32,
    pub healthy_after_ms: u64,
}

/// Restarts of one child within the period beyond which a step is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EscalationInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_break: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerPolicyInfo {
    pub failures: u32,
    pub window_ms: u64,
    pub recovery_ms: u64,
    pub trials: u32,
}

/// What all workers below may use together, and what of it is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_taken_bytes: Option<u64>,
    /// Fuel per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_taken: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CountsInfo {
    pub specs: usize,
    /// Those that start, run or stop; not those in a restart loop.
    pub active: usize,
    pub supervisors: usize,
    pub workers: usize,
}

/// A child as its supervisor has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisedInfo {
    pub name: String,
    /// `worker` or `supervisor`.
    pub kind: String,
    /// `running`, `starting`, `waiting`, `restarting`, `stopping`, `down`, `isolated`; of a worker also
    /// `hibernated`.
    pub state: String,
    pub restart: String,
    pub shutdown: String,
    pub significant: bool,
    pub after: Vec<String>,
    pub tier: String,
    /// Restarts of this child alone within the period.
    pub restarts: u32,
}

/// How everything below the root is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthInfo {
    /// `healthy`; `starting`: the host has not started all that its directory says; `degraded`: something restarts, is degraded, is not taken from the directory, or its breaker is not
    /// closed;
    /// `critical`: something is isolated or says that it does not work.
    pub status: String,
    /// Only while the host starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<StartingInfo>,
    pub totals: TotalsInfo,
    /// Why nothing new is taken from the directory of workers, if that is so; then the status is at least `degraded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Names of isolated workers and supervisors, at most a page of them.
    pub isolated: Vec<String>,
    /// What does not run, or not as the directory says, at most a page of it; then the status is at least `degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemInfo>,
    /// By name.
    pub children: Vec<ChildHealth>,
    /// What guests, clients and files make the host keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryInfo>,
    /// The name to ask for the next page with, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Something that does not run, or not as the directory says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemInfo {
    /// A file, a worker or a supervisor.
    pub of: String,
    pub why: String,
    /// What to do.
    pub help: String,
}

/// The account of memory. All but `refused` in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryInfo {
    pub used: u64,
    pub max: u64,
    /// By what it is for: `mailboxes`, `timers`, `configurations`, `bodies`, `sleepers`, `probation`, `instances`,
    /// `desks`, `workers`.
    pub by: std::collections::BTreeMap<String, u64>,
    /// The supervisor below which most is kept, and how much.
    pub holder: String,
    pub holder_used: u64,
    /// Requests that did not fit, since the host started.
    pub refused: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TotalsInfo {
    pub workers: u64,
    pub running: u64,
    pub hibernated: u64,
    /// Starting, stopping, restarting, rolling back.
    pub moving: u64,
    pub down: u64,
    pub isolated: u64,
    pub degraded: u64,
    pub critical: u64,
    /// Breakers that are open or half-open.
    pub breakers_open: u64,
    /// Restarts since the host started.
    pub restarts: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildHealth {
    pub name: String,
    pub state: String,
    /// What its own `health.check` said last: `healthy`, `degraded: ...`, `critical: ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    pub restarts: u64,
    /// `closed`, `open` or `half-open`; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ChildInfo {
    Worker(Box<WorkerInfo>),
    Supervisor(SupervisorInfo),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpgradeInfo {
    pub worker: String,
    /// `rehearsed` (a dry run), `probation`, `committed`, `called-off` or `rolled-back`.
    pub outcome: String,
    pub revision: u64,
    pub from: String,
    pub to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<RehearsalInfo>,
    /// From the boundary to the first message the new revision could take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_us: Option<u64>,
    /// Whether the worker runs after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation_ms: Option<u64>,
    /// Why it was called off, rolled back or committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages handed to the old revision by a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<u64>,
    /// The revision that `paguro rollback` would go to from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_to: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RehearsalInfo {
    pub took_us: u64,
    pub fuel: u64,
    pub memory_bytes: u64,
    pub state_before_bytes: u64,
    pub state_after_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_before: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_after: Option<u32>,
    pub health: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionInfo {
    pub number: u64,
    pub component: String,
    pub at: String,
    /// `deployed`, `upgrade` or `rollback`.
    pub why: String,
    /// `operator`, `directory` or `host`.
    pub by: String,
    pub verdict: String,
    pub note: String,
    /// Whether it serves now.
    pub current: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateInfo {
    pub schema: u32,
    pub media_type: String,
    pub bytes: u64,
    /// The state itself where it is JSON, `null` too.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub json: Option<serde_json::Value>,
    /// The state itself where it is CBOR, in the diagnostic notation of RFC 8949; not where that is longer than 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cbor: Option<String>,
}

/// A field that is there, whatever is in it.
fn present<'de, D: serde::Deserializer<'de>>(of: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(of).map(Some)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckInfo {
    pub component: String,
    pub bytes: u64,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub exports: Vec<String>,
    pub compile_ms: u64,
    /// With `against`: whether it could take that worker's place, and what a rehearsal learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<RehearsalInfo>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerInfo {
    pub seq: u64,
    pub at: String,
    pub worker: String,
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    pub by: String,
    pub detail: String,
    /// Hash of this entry, which the next one contains.
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventInfo {
    pub seq: u64,
    pub at: String,
    pub kind: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogInfo {
    pub seq: u64,
    pub at: String,
    pub worker: String,
    pub level: String,
    pub text: String,
}

/// A message that was accepted and not handled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterInfo {
    pub id: u64,
    pub at: String,
    pub worker: String,
    /// `call`, `cast`, `timer` or `down`.
    pub sort: String,
    /// Who sent it; for `down` who ended. Absent for a client outside the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `ended-worker`, `poison`, `removed`, `host-stopped`, `command`, `dropped` or `no-room`.
    pub why: String,
    /// The same for people, with the details.
    pub reason: String,
    /// How the worker ended over it: `trap`, `limit`, `failed` or `killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// The revision that did not handle it.
    pub revision: u64,
    pub bytes: u64,
    /// Whether only the beginning of its body was kept.
    pub cut: bool,
    /// Whether it is of a kind that can be sent again. Its worker may refuse it all the same.
    pub resendable: bool,
    /// The body, where it is asked for and is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body, where it is asked for and is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedInfo {
    /// Letters that were thrown away.
    pub letters: u64,
}

/// One thing that `paguro doctor` looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoctorInfo {
    pub what: String,
    /// `ok`, `warn` or `error`.
    pub verdict: String,
    pub detail: String,
    /// What to do about it, if anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

/// Why a request failed, for a person: what failed, why, and what to run next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// One of the words of [`ErrorInfo::CODES`].
    pub code: String,
    pub message: String,
    /// Why, where `message` does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// A command or an act that helps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

impl ErrorInfo {
    /// Every code, with its HTTP status. `called-off` and `rolled-back` end the CLI with 4, `usage`
    /// with 2, all others with 1.
    pub const CODES: &'static [(&'static str, u16)] = &[
        ("usage", 400),
        ("unauthorized", 401),
        ("not-found", 404),
        ("timeout", 504),
        ("overloaded", 503),
        ("circuit-open", 503),
        ("cycle", 508),
        ("down", 502),
        ("rejected", 422),
        ("too-large", 413),
        ("too-many", 429),
        ("request-timeout", 408),
        ("not-a-worker", 415),
        ("same-component", 409),
        ("under-way", 409),
        ("not-in-probation", 409),
        ("nothing-to-roll-back-to", 409),
        ("already-started", 409),
        ("already-present", 409),
        ("running", 409),
        ("restarting", 409),
        ("supervisor-down", 409),
        ("not-started", 409),
        ("no-room", 409),
        ("no-state", 409),
        ("called-off", 409),
        ("rolled-back", 409),
        ("starting", 503),
        ("stopping", 503),
        ("disk", 507),
        ("internal", 500),
    ];
}
