//! What starts, restarts and stops cost.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paguro::base::{CallId, Payload};
use paguro::change::Nobody;
use paguro::control::Host;
use paguro::sandbox::{Grants, Instance, Limits, Sandbox};

use super::support::{
    Outcome, PATIENCE, Scratch, Size, call, each, guest, rounds, show, side_by_side, task, template, until,
};

/// Nothing on disk, and little memory: what is measured is the tree.
const LEAN: &str = "durability = \"none\"\n[limits]\nmemory = \"4MiB\"\n";

/// One child of a template after another, each until it runs.
pub async fn start(size: Size) -> Outcome {
    let (_dir, host) = template("relay", LEAN, |_| {}).await?;
    let count = size.of(2_000, 500);
    let next = std::cell::Cell::new(0);
    let samples = rounds(size.of(5, 3), async || {
        let first = next.replace(next.get() + count);
        let starting = host.clone();
        let each = task(async move {
            let begun = Instant::now();
            for n in first..first + count {
                starting.start_worker(&format!("many/{n}")).await?;
            }
            Ok(each(begun, count))
        });
        let each = each.await?;
        for n in first..first + count {
            host.stop_worker(&format!("many/{n}")).await?;
        }
        Ok(each)
    });
    show("start", "start a worker of a known component", "ns", &samples.await?);
    host.stop().await;
    Ok(())
}

/// From the request that makes it trap to an answer of the next incarnation, without backoff, so that what is
/// measured is the host's own work. Each sample is one crash.
pub async fn restart(size: Size) -> Outcome {
    let dir = Scratch::new("crash")?;
    let backoff = "intensity = 1000000\nperiod = \"1s\"\n[backoff]\ninitial = \"0s\"\nmax = \"0s\"\n";
    dir.write("supervisor.toml", backoff)?;
    dir.write("crash.wasm", guest("relay")?)?;
    // An error kernel's restarts never wait for a place among those of the whole tree.
    dir.write("crash.toml", "tier = \"error-kernel\"\ndurability = \"none\"\n")?;
    let host = dir.host().await?;
    until(|| host.worker("crash").is_ok_and(|worker| worker.lives())).await;
    let crashing = host.clone();
    let crashes = task(async move {
        let (mut samples, mut told) = (Vec::new(), Vec::new());
        for round in 0..size.of(500, 100) {
            // Each in other words: what kills three times is quarantined.
            let request = format!("die {round}");
            let begun = Instant::now();
            if crashing.call("crash", request.into(), PATIENCE).await.is_ok() {
                return Err("the worker did not crash".into());
            }
            told.push(begun.elapsed());
            call(&crashing, "crash", "x").await?;
            samples.push(begun.elapsed().as_secs_f64() * 1e9);
        }
        Ok((samples, told))
    });
    let (samples, mut told) = crashes.await?;
    told.sort();
    let took = host.recorder().events().after(0).into_iter().filter_map(|recorded| match recorded.item {
        paguro::record::Event::WorkerStarted { took, .. } => Some(took),
        _ => None,
    });
    let mut took: Vec<Duration> = took.collect();
    took.sort();
    println!("the caller was told after {:?}; the start took {:?}", told[told.len() / 2], took[took.len() / 2]);
    show("restart", "crash to ready", "ns", &samples);
    host.stop().await;
    Ok(())
}

/// What a child of a template costs to start and to stop: at 100,000 over at 1,000.
pub async fn scale(size: Size) -> Outcome {
    let mut costs = Vec::new();
    for children in [1_000, size.of(100_000, 10_000)] {
        let (_dir, host) = template("relay", LEAN, |_| {}).await?;
        let begun = Instant::now();
        let start = |host: Arc<Host>, name: String| async move { host.start_worker(&name).await.map(drop) };
        side_by_side(&host, children, 64, start).await?;
        let started = each(begun, children);
        let begun = Instant::now();
        host.stop_worker("many").await?;
        let stopped = each(begun, children);
        println!("{children} children: start {:.1} us, stop {:.1} us each", started / 1e3, stopped / 1e3);
        costs.push(started + stopped);
        host.stop().await;
    }
    show("tree-scale", "cost of a child among 100,000 over among 1,000", "ratio", &[costs[1] / costs[0]]);
    Ok(())
}

/// Compiled code from the cache in a process that has not seen it, until a guest has answered.
pub async fn cache_to_call(size: Size) -> Outcome {
    let dir = Scratch::new("cache")?;
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o700))?;
    let bytes = guest("relay")?;
    Sandbox::new(Some(&dir.0))?.load(&bytes)?;
    let samples = rounds(size.of(51, 21), async || {
        let sandbox = Sandbox::new(Some(&dir.0))?;
        let begun = Instant::now();
        let component = sandbox.load(&bytes)?;
        let (limits, grants) = (Limits::default(), Grants::default());
        let mut instance =
            Instance::create(&component, &limits, &grants, Box::new(Nobody::default()), Arc::new(Nobody::default()))
                .await?;
        instance.handle_call(CallId(1), &Payload::from("x")).await.map_err(|fault| format!("{fault:?}"))?;
        Ok(each(begun, 1))
    });
    show("cache-to-call", "compiled component from cache to first call", "ns", &samples.await?);
    Ok(())
}
