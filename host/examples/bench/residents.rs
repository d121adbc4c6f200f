//! What workers take of memory, live and hibernated, and what it takes to wake one.

use std::time::{Duration, Instant};

use super::support::{Outcome, PATIENCE, Size, call, resident, show, side_by_side, task, template, until};

const LEAN: &str = "durability = \"none\"\n[limits]\nmemory = \"4MiB\"\n";

/// Bytes that so many children take, each after one call.
async fn taken(children: usize, live: Option<usize>) -> Outcome<f64> {
    let (_dir, host) = template("relay", LEAN, |options| options.live_instances_max = live).await?;
    let before = resident();
    side_by_side(&host, children, 16, |host, name| async move {
        host.start_worker(&name).await?;
        host.call(&name, "x".into(), PATIENCE).await.map(drop)
    })
    .await?;
    let after = resident();
    let maps = std::fs::read_to_string("/proc/self/maps")?.lines().count();
    println!("{children} children, {live:?} of them live: {maps} memory maps in all");
    host.stop().await;
    Ok(after - before)
}

/// What something else gives back between two looks at resident memory is taken off a worker's share: then it is measured
/// again.
const TRIES: usize = 5;

/// Per worker, of as many as need no hibernation. What the first ones take is what all share.
pub async fn live(size: Size) -> Outcome {
    let count = size.of(4_000, 1_000);
    taken(100, None).await?;
    let bytes = taken(count, None).await? / count as f64;
    show("live-bytes", "resident bytes per live Rust worker", "bytes", &[bytes]);
    Ok(())
}

pub async fn hibernated(size: Size) -> Outcome {
    const LIVE: usize = 64;
    let count = size.of(50_000, 5_000);
    let mut bytes = -1.0;
    for _ in 0..TRIES {
        let few = taken(LIVE * 2, Some(LIVE)).await?;
        bytes = (taken(count, Some(LIVE)).await? - few) / (count - LIVE * 2) as f64 - 100.0;
        if bytes > 0.0 {
            break;
        }
    }
    if bytes <= 0.0 {
        return Err(
            format!("resident memory was below zero for each of {TRIES} tries: something else gives it back").into()
        );
    }
    show("hibernated-bytes", "resident bytes per hibernated worker, beyond its state", "bytes", &[bytes]);
    Ok(())
}

/// From the call to its reply, of workers that sleep, one after another. Each sample is one call.
pub async fn wake(name: &str, size: Size) -> Outcome {
    const WORKERS: usize = 100;
    let database = name == "wake-database";
    let settings = "hibernate-after = \"10ms\"\n[limits]\nmemory = \"4MiB\"\n";
    let (_dir, host) = template("relay", settings, |options| {
        options.asleep_bytes_max = database.then_some(0);
    })
    .await?;
    side_by_side(&host, WORKERS, 16, |host, name| async move { host.start_worker(&name).await.map(drop) }).await?;
    let asleep = |n: usize| {
        host.worker(&format!("many/{n}")).is_ok_and(|worker| worker.status().standing.word() == "hibernated")
    };
    let mut samples = Vec::new();
    for round in 0..size.of(10, 3) {
        until(|| (0..WORKERS).all(asleep)).await;
        // Their snapshots have gone to the disk by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let host = host.clone();
        let took = task(async move {
            let mut took = Vec::with_capacity(WORKERS);
            for n in 0..WORKERS {
                let begun = Instant::now();
                call(&host, &format!("many/{n}"), "x").await?;
                took.push(begun.elapsed().as_secs_f64() * 1e9);
            }
            Ok(took)
        });
        let took = took.await?;
        if round > 0 {
            samples.extend(took);
        }
    }
    let what = if database {
        "wake from hibernation, state in the database"
    } else {
        "wake from hibernation, state in memory"
    };
    show(name, what, "ns", &samples);
    host.stop().await;
    Ok(())
}
