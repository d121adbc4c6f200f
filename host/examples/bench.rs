//! Measures what users feel, through the library and with real guests. `cargo xtask bench [NAME]`
//! runs it in release.
//!
//! - `upgrade`: the pause that clients see: from the last reply before a switch to the first one
//!   after it, with 1 KB and 1 MB of state, under calls without pause.
//! - `call`: a call from this process to a guest and back, 64 bytes.
//! - `tree`: from a trap to ready and to the first reply, without backoff; what each child of a template
//!   costs to start and to stop, at 1,000, 10,000 and 100,000 of them.
//! - `residents`: memory and memory maps of live workers and of those that hibernate, and what a wake takes.

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
    if let Some(name) = wanted.as_deref().filter(|name| !["upgrade", "call", "tree", "residents"].contains(name)) {
        return Err(format!("there is no benchmark `{name}`; there are: upgrade, call, tree, residents").into());
    }
    if wants("upgrade") {
        upgrade("1 KB", 1 << 10, 200).await?;
        upgrade("1 MB", 1 << 20, 20).await?;
    }
    if wants("call") {
        calls().await?;
    }
    if wants("tree") {
        restart().await?;
        scale().await?;
    }
    if wants("residents") {
        for (guest_name, request) in [("counter-v1", "get"), ("readme-counter-js", "get"), ("readme-counter-py", "get")]
        {
            residents(guest_name, request, 200, None).await?;
        }
        residents("counter-v1", "get", 10_000, Some(64)).await?;
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

/// A worker that traps, with no backoff, so that what is measured is the host's own work.
async fn restart() -> Outcome {
    let backoff = "intensity = 1000000\nperiod = \"1s\"\n[backoff]\ninitial = \"0s\"\nmax = \"0s\"\n";
    let dir = Scratch(std::env::temp_dir().join(format!("paguro-bench-{}-crash", std::process::id())));
    std::fs::create_dir_all(&dir.0)?;
    std::fs::write(dir.0.join("supervisor.toml"), backoff)?;
    std::fs::write(dir.0.join("crash.wasm"), guest("counter-v1")?)?;
    // An error kernel's restarts never wait for a place among those of the whole tree.
    std::fs::write(dir.0.join("crash.toml"), "tier = \"error-kernel\"\n")?;
    let host = Host::start(HostOptions::new(&dir.0)).await?;
    let worker = host.worker("crash")?;
    let (mut ready, mut replied) = (Vec::new(), Vec::new());
    for round in 0..500 {
        // Until the snapshot of the last round is on disk: its sync is not the restart's.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let before = worker.status().incarnation;
        // The reply to the crash is its failure: from there on the worker is on its way back.
        // Each in other words: what kills three times is quarantined.
        let request = format!("\"crash\"{}", " ".repeat(round));
        let crash = host.call("crash", request.as_str().into(), Duration::from_secs(5)).await;
        let begun = Instant::now();
        if crash.is_ok() {
            return Err("the worker did not crash".into());
        }
        while worker.status().incarnation == before || worker.status().standing.word() != "running" {
            std::hint::spin_loop();
        }
        ready.push(begun.elapsed());
        host.call("crash", "get".into(), Duration::from_secs(5)).await?;
        replied.push(begun.elapsed());
    }
    show("crash to ready, from the caller's error to a running worker, no backoff", ready);
    show("crash to the first reply of the next incarnation", replied);
    host.stop().await;
    Ok(())
}

/// Starts that many children of one template, sends each a message, and stops the template.
async fn scale() -> Outcome {
    let mut costs = Vec::new();
    for children in [1_000_usize, 10_000, 100_000] {
        let dir = Scratch(std::env::temp_dir().join(format!("paguro-bench-{}-scale", std::process::id())));
        std::fs::create_dir_all(dir.0.join("many"))?;
        std::fs::write(dir.0.join("many/supervisor.toml"), "strategy = \"simple-one-for-one\"\n")?;
        std::fs::write(dir.0.join("many/one.wasm"), guest("counter-v1")?)?;
        // Nothing on disk: what is measured is the tree.
        std::fs::write(dir.0.join("many/one.toml"), "durability = \"none\"\n[limits]\nmemory = \"4MiB\"\n")?;
        let host = Host::start(HostOptions::new(&dir.0)).await?;
        let begun = Instant::now();
        side_by_side(&host, children, async |host, name| host.start_worker(&name).await.map(drop)).await?;
        let started = begun.elapsed();
        let begun = Instant::now();
        side_by_side(&host, children, async |host, name| {
            host.call(&name, "get".into(), Duration::from_secs(60)).await.map(drop)
        })
        .await?;
        let called = begun.elapsed();
        let begun = Instant::now();
        host.stop_worker("many").await?;
        let stopped = begun.elapsed();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / children as f64;
        println!(
            "{children} children of a template: start {:.1} us, call {:.1} us, stop {:.1} us each ({:.2} s, {:.2} s, {:.2} s)",
            each(started),
            each(called),
            each(stopped),
            started.as_secs_f64(),
            called.as_secs_f64(),
            stopped.as_secs_f64()
        );
        costs.push(each(started) + each(stopped));
        host.stop().await;
    }
    println!("cost per child, start and stop: at 100,000 {:.2} times that at 1,000", costs[2] / costs[0]);
    Ok(())
}

/// Does one thing for every child, 64 at a time.
async fn side_by_side(
    host: &Arc<Host>,
    children: usize,
    act: impl AsyncFn(Arc<Host>, String) -> Result<(), paguro::control::RequestError>,
) -> Outcome {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let lane = async || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= children {
                return Ok::<(), paguro::control::RequestError>(());
            }
            act(host.clone(), format!("many/{n}")).await?;
        }
    };
    futures::future::try_join_all((0..64).map(|_| lane())).await?;
    Ok(())
}

/// Starts workers of one component, all at first or as many as may be live, calls each once, and says
/// what each takes more than the first ten.
async fn residents(guest_name: &str, request: &'static str, workers: usize, live_max: Option<usize>) -> Outcome {
    let bytes = guest(guest_name)?;
    let mut at = Vec::new();
    let mut wakes = Vec::new();
    for workers in [10, workers] {
        let dir = Scratch(std::env::temp_dir().join(format!("paguro-bench-{}-residents", std::process::id())));
        std::fs::create_dir_all(&dir.0)?;
        std::fs::write(dir.0.join("w0.wasm"), &bytes)?;
        for n in 1..workers {
            std::fs::hard_link(dir.0.join("w0.wasm"), dir.0.join(format!("w{n}.wasm")))?;
        }
        let begun = Instant::now();
        let options = HostOptions { live_instances_max: live_max, ..HostOptions::new(&dir.0) };
        let host = Host::start(options).await?;
        println!("{workers} workers of {guest_name} started in {:?}", begun.elapsed());
        let fresh = maps()?;
        for n in 0..workers {
            let begun = Instant::now();
            host.call(&format!("w{n}"), request.into(), Duration::from_secs(5)).await?;
            wakes.push(begun.elapsed());
        }
        at.push((fresh, maps()?, resident()?));
        host.stop().await;
    }
    let more = (workers - 10) as u64;
    let each = |of: fn(&(u64, u64, u64)) -> u64| of(&at[1]).saturating_sub(of(&at[0])) as f64 / more as f64;
    println!(
        "{guest_name}, {live_max:?} live: {:.2} memory maps each, {:.2} after a call, {:.0} B resident each",
        each(|at| at.0),
        each(|at| at.1),
        each(|at| at.2)
    );
    show("a call to each in turn", wakes);
    Ok(())
}

fn maps() -> Result<u64, std::io::Error> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count() as u64)
}

/// Bytes of this process in memory.
fn resident() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse::<u64>()? * 1024)
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
