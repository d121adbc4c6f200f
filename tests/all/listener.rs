//! The API on TCP: only with a token, and only for who has it.

use paguro::control::server::{ServeError, Server};
use paguro_tests::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

const TOKEN: &str = "0123456789abcdef";

/// The status line of a request with these headers.
async fn status(address: std::net::SocketAddr, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v1/host HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_listener_wants_its_token() {
    let mut world = World::new();
    let host = world.up().await;
    let socket = world.path().join(".paguro/test.sock");
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    for bad in [None, Some(TOKEN[1..].to_string())] {
        let refused = Server::open(&socket, Some((local, bad))).await;
        assert!(matches!(refused, Err(ServeError::NoToken)), "none, or one that is too short");
    }
    let server = Server::open(&socket, Some((local, Some(TOKEN.to_string())))).await.unwrap();
    let address = server.tcp_address().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(host, stopped));
    assert!(status(address, "").await.contains("401"));
    assert!(status(address, "authorization: Bearer 0123456789abcdeX\r\n").await.contains("401"));
    assert!(status(address, &format!("authorization: Bearer {TOKEN}\r\n")).await.contains("200"));
    stop.send_replace(true);
    serving.await.unwrap();
    world.down().await;
}
