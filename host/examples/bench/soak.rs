//! Mixed load for minutes: starts, stops, calls, casts, crashes, upgrades, hibernation. Every answer is
//! looked at, and the memory in use is to end where it began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use paguro::control::Host;

use super::support::{Outcome, PATIENCE, Scratch, Size, call, guest, resident, until};

const WORKERS: usize = 5_000;
const LIVE: usize = 500;
/// Memory may end that much above where it was after the first part.
const GROWTH_MAX: f64 = 1.10;

#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    casts: AtomicU64,
    crashes: AtomicU64,
    restarts: AtomicU64,
    upgrades: AtomicU64,
    wrong: AtomicU64,
}

pub async fn run(minutes: Option<f64>, size: Size) -> Outcome {
    let time = Duration::from_secs_f64(minutes.unwrap_or(if size.quick { 0.5 } else { 10.0 }) * 60.0);
    let dir = Scratch::new("soak")?;
    let policy = "intensity = 1000000\nperiod = \"1s\"\n[backoff]\ninitial = \"0s\"\nmax = \"0s\"\n";
    dir.write("many/supervisor.toml", format!("strategy = \"simple-one-for-one\"\n{policy}"))?;
    dir.write("many/one.wasm", guest("relay")?)?;
    dir.write("many/one.toml", "durability = \"none\"\ntier = \"error-kernel\"\n")?;
    dir.write("single.wasm", guest("relay")?)?;
    let mut options = paguro::control::HostOptions::new(&dir.0);
    options.live_instances_max = Some(LIVE);
    let host = Host::start(options).await?;
    until(|| host.worker("single").is_ok()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 0..WORKERS {
        host.start_worker(&format!("many/{n}")).await?;
    }
    let counts = Arc::new(Counts::default());
    let end = Instant::now() + time;
    let mut lanes: Vec<_> = (0..16).map(|lane| tokio::spawn(load(host.clone(), counts.clone(), lane, end))).collect();
    lanes.push(tokio::spawn(upgrades(host.clone(), counts.clone(), end)));
    let (begun, mut first, mut last) = (Instant::now(), 0.0, 0.0);
    while Instant::now() < end {
        tokio::time::sleep((time / 20).max(Duration::from_secs(1))).await;
        last = resident();
        // What the first part fills up (pools, records, logs) is bounded, and full by then.
        if first == 0.0 && begun.elapsed() > time / 4 {
            first = last;
        }
        let count = |of: &AtomicU64| of.load(Relaxed);
        println!(
            "{:>4.0} s: {:.1} MB resident; {} calls, {} casts, {} crashes, {} restarts, {} upgrades, {} wrong answers",
            begun.elapsed().as_secs_f64(),
            last / 1e6,
            count(&counts.calls),
            count(&counts.casts),
            count(&counts.crashes),
            count(&counts.restarts),
            count(&counts.upgrades),
            count(&counts.wrong)
        );
    }
    for lane in lanes {
        lane.await?;
    }
    host.stop().await;
    if counts.wrong.load(Relaxed) > 0 {
        return Err("there were wrong answers".into());
    }
    println!("memory: {:.1} MB after a quarter, {:.1} MB at the end", first / 1e6, last / 1e6);
    if last > first * GROWTH_MAX { Err("memory grew".into()) } else { Ok(()) }
}

async fn load(host: Arc<Host>, counts: Arc<Counts>, lane: u64, end: Instant) {
    let mut random = fastrand::Rng::with_seed(lane);
    let mut turn = 0_u64;
    while Instant::now() < end {
        turn += 1;
        let name = format!("many/{}", random.usize(..WORKERS));
        let body = format!("{lane} {turn}");
        match random.u32(..1_000) {
            0..2 => {
                // Who dies may have been stopped by another lane: both are failures here.
                let _ = host.call(&name, format!("die {body}").into(), PATIENCE).await;
                counts.crashes.fetch_add(1, Relaxed);
            }
            2..4 => {
                let _ = host.stop_worker(&name).await;
                let _ = host.start_worker(&name).await;
                counts.restarts.fetch_add(1, Relaxed);
            }
            4..200 => {
                let _ = host.cast(&name, body.into());
                counts.casts.fetch_add(1, Relaxed);
            }
            _ => {
                counts.calls.fetch_add(1, Relaxed);
                // One that crashes or is stopped just now says so; an answer must be the right one.
                let answer = host.call(&name, body.as_str().into(), PATIENCE).await;
                if answer.is_ok_and(|answer| &answer[..] != body.as_bytes()) {
                    counts.wrong.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

async fn upgrades(host: Arc<Host>, counts: Arc<Counts>, end: Instant) {
    let (Ok(one), Ok(other)) = (guest("relay"), guest("relay-b")) else { return };
    let mut turn = 0;
    while Instant::now() < end {
        turn += 1;
        let next = if turn % 2 == 0 { &one } else { &other };
        if host.upgrade("single", next.clone(), Some(PATIENCE)).await.is_ok() {
            let _ = host.commit("single").await;
            counts.upgrades.fetch_add(1, Relaxed);
        }
        if call(&host, "single", "still there").await.is_err() {
            counts.wrong.fetch_add(1, Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
