//! The client against a host that says what the test tells it to, over a real socket.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::base::Name;
use crate::cli::api::{follow, pages};
use crate::cli::target::HostArgs;

const HOST: &str =
    r#"{"version":"0","directory":"d","state":"s","pid":1,"started_at":"A","workers":0,"supervisors":0}"#;

fn client(socket: &Path) -> Client {
    let endpoint = Some(Endpoint::Socket(socket.to_path_buf()));
    Client::new(
        Target::of(&HostArgs { dir: "d".into(), state: None, host: endpoint, token: None }),
        Some("secret\n".into()),
    )
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Gives one answer to each connection, closes it, and returns the requests.
async fn serve(listener: UnixListener, answers: Vec<String>) -> Vec<String> {
    let mut requests = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 16 << 10];
        let length = stream.read(&mut request).await.unwrap();
        requests.push(String::from_utf8_lossy(&request[..length]).to_string());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    requests
}

/// Runs `ask` against a host with these answers.
async fn against<T>(answers: Vec<String>, ask: impl AsyncFnOnce(Client) -> T) -> (Vec<String>, T) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::join!(serve(listener, answers), ask(client(&socket)))
}

#[tokio::test]
async fn a_request_carries_its_path_token_and_body() {
    let (requests, reply) = against(vec![answer("200 OK", "7")], async |client| {
        let path = ApiPath::worker(&Name::parse("a/b").unwrap(), "call").query("timeout_ms", Some(5));
        client.send(Request::post(path, b"body".to_vec())).await
    })
    .await;
    assert_eq!(reply.unwrap().body.as_ref(), b"7");
    let request = requests[0].to_lowercase();
    assert!(request.starts_with("post /v1/workers/a%2fb/call?timeout_ms=5 http/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: bearer secret\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nbody"), "{request}");
}

#[tokio::test]
async fn errors_of_the_api_and_of_others_are_told_apart() {
    let body = r#"{"code":"rolled-back","message":"m","cause":"c","help":"h"}"#;
    let answers = vec![answer("409 Conflict", body), answer("502 Bad Gateway", "<html>\u{1b}")];
    let (_, (ours, theirs)) = against(answers, async |client| {
        (client.get(ApiPath::new("tree")).await.unwrap_err(), client.get(ApiPath::new("tree")).await.unwrap_err())
    })
    .await;
    assert_eq!((ours.exit().code(), ours.to_string().as_str()), (4, "error: m\n  cause: c\n  help: h"));
    assert_eq!(theirs.exit().code(), 1);
    assert!(theirs.to_string().starts_with("error: the answer was 502 Bad Gateway, not from"), "{theirs}");
}

#[tokio::test]
async fn a_host_that_goes_away_is_unreachable() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123".to_string();
    let (_, (torn, gone)) = against(vec![String::new(), short], async |client| {
        (client.get(ApiPath::new("tree")).await.unwrap_err(), client.get(ApiPath::new("tree")).await.unwrap_err())
    })
    .await;
    assert_eq!((torn.exit(), gone.exit()), (Exit::Unreachable, Exit::Unreachable));
    let missing = client(Path::new("/nowhere/s")).get(ApiPath::new("tree")).await.unwrap_err();
    assert!(missing.to_string().starts_with("error: no host answers at /nowhere/s\n"), "{missing}");
}

#[tokio::test]
async fn a_full_page_is_followed_by_the_next() {
    let full: Vec<String> = (1..=crate::base::bounds::PAGE_ROWS_MAX).map(|seq| format!(r#"{{"seq":{seq}}}"#)).collect();
    let answers = vec![answer("200 OK", &format!("[{}]", full.join(","))), answer("200 OK", r#"[{"seq":1001}]"#)];
    let mut rows = 0;
    let (requests, told) = against(answers, async |client| {
        pages(&client, &ApiPath::new("ledger"), 0, |_| {
            rows += 1;
            Ok(())
        })
        .await
    })
    .await;
    assert_eq!((told, rows), (Ok(()), 1001));
    assert!(requests[1].starts_with("GET /v1/ledger?after=1000 "), "{}", requests[1]);
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_that_was_shown() {
    let stream = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{text}");
    let answers = vec![
        answer("200 OK", HOST),
        stream("id: 4\ndata: four\n\nid: 5\ndata: fi"),
        answer("200 OK", HOST),
        stream("id: 5\ndata: five\n\n"),
        answer("200 OK", &HOST.replace("\"A\"", "\"B\"")),
        stream("id: 1\ndata: one\n\n"),
    ];
    let mut shown = Vec::new();
    let (requests, told) = against(answers, async |client| {
        follow(&client, ApiPath::new("events/follow"), 3, |event| {
            shown.push(event.data.clone());
            // As if the reader had closed the pipe.
            if shown.len() == 3 { Err(CliError::quiet()) } else { Ok(()) }
        })
        .await
    })
    .await;
    assert_eq!(told, Err(CliError::quiet()));
    assert_eq!(shown, ["four", "five", "one"]);
    let ids: Vec<bool> = [(1, 3), (3, 4), (5, 0)]
        .iter()
        .map(|(at, id)| requests[*at].contains(&format!("last-event-id: {id}\r\n")))
        .collect();
    assert_eq!(ids, [true; 3], "{requests:#?}");
}
