//! Measures what users feel, through the library and with real guests. `cargo xtask bench [NAME]`
//! runs it in release.
//!
//! - `upgrade`: the pause that clients see: from the last reply before a switch to the first one
//!   after it, with 1 KB and 1 MB of state, under calls without pause.
//! - `call`: a call from this process to a guest and back, 64 bytes.
//! - `restart`: from a trap to the first reply of the next incarnation.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paguro::control::{Host, HostOptions};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let wanted = std::env::args().nth(1);
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if let Some(name) = wanted.as_deref().filter(|name| !["upgrade", "call", "restart"].contains(name)) {
        return Err(format!("there is no benchmark `{name}`; there are: upgrade, call, restart").into());
    }
    if wants("upgrade") {
        upgrade("1 KB", 1 << 10, 200).await?;
        upgrade("1 MB", 1 << 20, 20).await?;
    }
    if wants("call") {
        calls().await?;
    }
    if wants("restart") {
        restart().await?;
    }
    Ok(())
}

fn guest(name: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the root")?;
    let path = root.join("target/guests").join(format!("{name}.wasm"));
    std::fs::read(&path).map_err(|error| format!("{}: {error}; run `cargo xtask guests`", path.display()).into())
}

/// A host on a fresh directory with these workers. The directory goes when the returned guard does.
async fn host(workers: &[(&str, &str)], settings: &str) -> Result<(Scratch, Arc<Host>), Box<dyn std::error::Error>> {
    let dir = Scratch(std::env::temp_dir().join(format!("paguro-bench-{}-{}", std::process::id(), workers[0].0)));
    std::fs::create_dir_all(&dir.0)?;
    for (name, guest_name) in workers {
        std::fs::write(dir.0.join(format!("{name}.wasm")), guest(guest_name)?)?;
        std::fs::write(dir.0.join(format!("{name}.toml")), settings)?;
    }
    let host = Host::start(HostOptions::new(&dir.0)).await?;
    Ok((dir, host))
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Upgrades back and forth under load. The longest time between two replies around each switch is
/// what a client saw of it; the host's own figure stands beside it.
async fn upgrade(label: &str, bytes: usize, rounds: usize) -> Outcome {
    let (_dir, host) = host(&[("upgrade", "counter-v2")], "").await?;
    // Keys of 16 bytes make up the state.
    let keys = bytes / 24;
    for key in 0..keys {
        let request = format!("{{\"add\":{{\"key\":\"key-{key:012}\",\"by\":1}}}}");
        host.call("upgrade", request.into(), Duration::from_secs(5)).await?;
    }
    let state = host.state("upgrade").await?.len();
    let (v2, v3) = (guest("counter-v2")?, guest("counter-v3")?);
    let (mut seen, mut own) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let next = if round % 2 == 0 { &v3 } else { &v2 };
        let stop = Arc::new(AtomicBool::new(false));
        let client = tokio::spawn(gaps(host.clone(), stop.clone()));
        let switched = host.upgrade("upgrade", next.clone(), Some(Duration::from_secs(60))).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        stop.store(true, Ordering::Relaxed);
        seen.push(client.await??);
        own.extend(switched.pause);
        host.commit("upgrade").await?;
    }
    show(&format!("upgrade pause, {label} of state ({state} B), as a client sees it"), seen);
    show(&format!("upgrade pause, {label} of state, as the host measures it"), own);
    host.stop().await;
    Ok(())
}

/// Calls without pause; the longest time from one reply to the next.
async fn gaps(host: Arc<Host>, stop: Arc<AtomicBool>) -> Result<Duration, String> {
    let mut last = Instant::now();
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let reply = host.call("upgrade", "{\"get\":\"none\"}".into(), Duration::from_secs(5)).await;
        reply.map_err(|error| error.to_string())?;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    Ok(longest)
}

async fn calls() -> Outcome {
    let (_dir, host) = host(&[("echo", "echo")], "").await?;
    let body = paguro::base::Payload::from(vec![1_u8; 64]);
    let mut batches = Vec::new();
    for _ in 0..21 {
        const CALLS: u32 = 5_000;
        let begun = Instant::now();
        for _ in 0..CALLS {
            host.call("echo", body.clone(), Duration::from_secs(5)).await?;
        }
        batches.push(begun.elapsed() / CALLS);
    }
    show("call, 64 B, this process to a guest and back (mean of 5,000)", batches);
    host.stop().await;
    Ok(())
}

async fn restart() -> Outcome {
    let backoff = "intensity = 1000000\nperiod = \"1s\"\n[backoff]\ninitial = \"1us\"\nmax = \"1us\"\n";
    let (dir, host) = host(&[("crash", "counter-v1")], "").await?;
    std::fs::write(dir.0.join("supervisor.toml"), backoff)?;
    while !host.recorder().events().after(0).iter().any(|event| event.item.kind() == "policy-changed") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut times = Vec::new();
    for _ in 0..200 {
        // The reply to the crash is its failure: from there on the worker is on its way back.
        let crash = host.call("crash", "crash".into(), Duration::from_secs(5)).await;
        let begun = Instant::now();
        if crash.is_ok() {
            return Err("the worker did not crash".into());
        }
        host.call("crash", "get".into(), Duration::from_secs(5)).await?;
        times.push(begun.elapsed());
    }
    show("crash to the first reply of the next incarnation", times);
    host.stop().await;
    Ok(())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: median {:?}, p90 {:?}, p99 {:?}, max {:?} (n = {})",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        times.len()
    );
}
