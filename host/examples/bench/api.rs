//! Calls over the Unix-socket API, and a bare axum echo on such a socket as its floor.

use std::path::Path;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use paguro::control::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::support::{Outcome, Scratch, Size, host, show};

/// Through the host to the guest `echo`.
pub async fn call(name: &str, clients: usize, size: Size) -> Outcome {
    let (dir, host) = host(&[("echo", "echo")], "").await?;
    let socket = dir.0.join("bench.sock");
    let server = Server::open(&socket, None).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(server.serve(host.clone(), stopped));
    let samples = throughput(&socket, "/v1/workers/echo/call", clients, size).await?;
    show(name, &format!("call over the Unix-socket API, {clients} clients"), "per-second", &samples);
    let _ = stop.send(true);
    serving.await?;
    host.stop().await;
    Ok(())
}

pub async fn echo(name: &str, clients: usize, size: Size) -> Outcome {
    let dir = Scratch::new("axum")?;
    let socket = dir.0.join("bench.sock");
    let listener = UnixListener::bind(&socket)?;
    let app = Router::new().route("/echo", post(async |body: Bytes| body));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let samples = throughput(&socket, "/echo", clients, size).await?;
    show(name, &format!("bare axum echo on a Unix socket, {clients} clients"), "per-second", &samples);
    serving.abort();
    Ok(())
}

/// Requests in a second by so many clients, each with one connection that it keeps.
async fn throughput(socket: &Path, path: &str, clients: usize, size: Size) -> Outcome<Vec<f64>> {
    let body = [b'x'; 64];
    let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head.as_bytes(), &body].concat();
    let times = size.of(40_000, 8_000) / clients;
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(UnixStream::connect(socket).await?);
    }
    let mut samples = Vec::new();
    for round in 0..size.of(8, 4) {
        let begun = Instant::now();
        let lanes = connections.into_iter().map(|mut connection| {
            let request = request.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                for _ in 0..times {
                    connection.write_all(&request).await?;
                    answer(&mut connection, &mut buffer).await?;
                }
                Ok::<UnixStream, std::io::Error>(connection)
            })
        });
        connections = Vec::new();
        for lane in lanes.collect::<Vec<_>>() {
            connections.push(lane.await??);
        }
        if round > 0 {
            samples.push((times * clients) as f64 / begun.elapsed().as_secs_f64());
        }
    }
    Ok(samples)
}

/// Reads one reply of 64 bytes.
async fn answer(connection: &mut UnixStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut read = 0;
    loop {
        let more = connection.read(&mut buffer[read..]).await?;
        if more == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read += more;
        let end = buffer[..read].windows(4).position(|four| four == b"\r\n\r\n");
        if end.is_some_and(|end| read >= end + 4 + 64) {
            let well = buffer[..read].starts_with(b"HTTP/1.1 200");
            return if well { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) };
        }
    }
}
