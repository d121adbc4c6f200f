//! The OpenAPI document that the host serves, made from one table. A test holds it against the
//! server's routes.

use serde_json::{Map, Value, json};

/// Method, path, what it does, query parameters, what the body is, what comes back.
struct Operation(&'static str, &'static str, &'static str, &'static [&'static str], Option<&'static str>, &'static str);

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const EVENTS: &str = "text/event-stream";
const TEXT: &str = "text/plain";

const OPERATIONS: &[Operation] = &[
    Operation("get", "/v1/host", "The host itself", &[], None, JSON),
    Operation("get", "/v1/workers", "Workers by name, in pages", &["after", "limit"], None, JSON),
    Operation("get", "/v1/workers/{name}", "One worker", &[], None, JSON),
    Operation("get", "/v1/tree", "The tree, from its root", &[], None, JSON),
    Operation(
        "post",
        "/v1/workers/{name}/call",
        "Sends a request; answers with the reply",
        &["timeout_ms"],
        Some(BYTES),
        BYTES,
    ),
    Operation(
        "post",
        "/v1/workers/{name}/cast",
        "Sends a message; 202 when it is in the mailbox",
        &[],
        Some(BYTES),
        JSON,
    ),
    Operation(
        "post",
        "/v1/workers/{name}/upgrade",
        "Upgrades to the component in the body",
        &["dry_run", "probation_ms", "wait", "fewer_exports"],
        Some("application/wasm"),
        JSON,
    ),
    Operation(
        "post",
        "/v1/workers/{name}/rollback",
        "Goes back to an earlier revision",
        &["to", "fewer_exports"],
        None,
        JSON,
    ),
    Operation("post", "/v1/workers/{name}/commit", "Ends probation now", &[], None, JSON),
    Operation(
        "post",
        "/v1/workers/{name}/start",
        "Starts a worker that is down, or a key of a template with the configuration in the body",
        &[],
        Some(JSON),
        JSON,
    ),
    Operation("post", "/v1/workers/{name}/isolate", "Stops a worker and keeps it so", &[], None, JSON),
    Operation("delete", "/v1/workers/{name}", "Drops a worker that is down", &[], None, JSON),
    Operation(
        "get",
        "/v1/supervisors/{name}",
        "A supervisor, its policy and a page of its children; `-` is the root",
        &["after", "limit"],
        None,
        JSON,
    ),
    Operation("get", "/v1/health", "How everything is: totals, and a page of workers", &["after", "limit"], None, JSON),
    Operation("post", "/v1/workers/{name}/stop", "Stops a worker in order", &[], None, JSON),
    Operation("post", "/v1/workers/{name}/restart", "Stops and starts a worker", &[], None, JSON),
    Operation("get", "/v1/workers/{name}/history", "Its revisions", &[], None, JSON),
    Operation("get", "/v1/workers/{name}/state", "Its state, shown", &[], None, JSON),
    Operation("put", "/v1/workers/{name}/state", "Replaces its state", &["schema"], Some(BYTES), JSON),
    Operation(
        "get",
        "/v1/workers/{name}/state/data",
        "Its state's bytes; the schema is in the header `paguro-schema`",
        &[],
        None,
        BYTES,
    ),
    Operation(
        "post",
        "/v1/check",
        "Whether a file is a worker, and would fit",
        &["against"],
        Some("application/wasm"),
        JSON,
    ),
    Operation("get", "/v1/ledger", "Decisions, oldest first", &["after", "worker"], None, JSON),
    Operation(
        "post",
        "/v1/ledger/trim",
        "Removes the entries up to `through`, which were exported: `digest` is that entry's",
        &["through", "digest"],
        None,
        JSON,
    ),
    Operation(
        "get",
        "/v1/dead-letters",
        "Messages that were not handled, newest first, without their bodies",
        &["worker", "before", "limit"],
        None,
        JSON,
    ),
    Operation("delete", "/v1/dead-letters", "Throws all of one worker away", &["worker"], None, JSON),
    Operation("get", "/v1/dead-letters/{id}", "One of them, with its body", &[], None, JSON),
    Operation("delete", "/v1/dead-letters/{id}", "Throws it away", &[], None, JSON),
    Operation("post", "/v1/dead-letters/{id}/resend", "Puts it into the mailbox again", &[], None, JSON),
    Operation("get", "/v1/events", "Events that are kept, in pages", &["after", "worker", "limit"], None, JSON),
    Operation(
        "get",
        "/v1/events/follow",
        "Events as they come; resumes with Last-Event-ID",
        &["after", "worker"],
        None,
        EVENTS,
    ),
    Operation("get", "/v1/logs", "Log lines that are kept, in pages", &["after", "worker", "limit"], None, JSON),
    Operation(
        "get",
        "/v1/logs/follow",
        "Log lines as they come; resumes with Last-Event-ID",
        &["after", "worker"],
        None,
        EVENTS,
    ),
    Operation("get", "/v1/doctor", "What the host depends on", &[], None, JSON),
    Operation("get", "/v1/openapi.json", "This document", &[], None, JSON),
    Operation("get", "/metrics", "Metrics in Prometheus' text format", &[], None, TEXT),
];

pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.1).or_insert_with(|| json!({}));
        path[operation.0] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Paguro", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0" } },
        "paths": paths,
        "components": { "schemas": { "Error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": { "type": "string", "enum": super::wire::ErrorInfo::CODES.iter().map(|(code, _)| *code).collect::<Vec<_>>() },
                "message": { "type": "string" },
                "cause": { "type": "string" },
                "help": { "type": "string" },
            },
        } } },
    })
}

fn described(Operation(_, path, what, query, body, answer): &Operation) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if path.contains("{name}") {
        parameters.push(json!({
            "name": "name", "in": "path", "required": true, "schema": { "type": "string" },
            "description": "Full name; its `/` written `%2F`",
        }));
    }
    if path.contains("{id}") {
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }));
    }
    parameters.extend(
        query
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } })),
    );
    let mut described = json!({
        "summary": what,
        "parameters": parameters,
        "responses": {
            "2XX": { "description": "Done", "content": { *answer: {} } },
            "default": { "description": "Failed", "content": { JSON: { "schema": { "$ref": "#/components/schemas/Error" } } } },
        },
    });
    if let Some(body) = body {
        described["requestBody"] = json!({ "content": { *body: {} } });
    }
    described
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let described: BTreeSet<String> = super::OPERATIONS
            .iter()
            .map(|operation| format!("{} {}", operation.0.to_uppercase(), operation.1))
            .collect();
        let served: BTreeSet<String> = crate::control::server::ROUTES.iter().map(ToString::to_string).collect();
        assert_eq!(described, served);
    }

    #[test]
    fn the_document_is_whole() {
        let document = super::document();
        let upgrade = &document["paths"]["/v1/workers/{name}/upgrade"]["post"];
        assert_eq!(upgrade["parameters"].as_array().map(Vec::len), Some(5));
    }
}
