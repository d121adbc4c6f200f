//! The pause of a live upgrade.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use paguro::control::Host;

use super::support::{Outcome, PATIENCE, Size, call, guest, host, show};

/// Upgrades back and forth while a client calls without pause. What counts is the time during which the
/// worker takes no messages, as the host measures it; what the client saw goes to the log.
pub async fn pause(name: &str, bytes: usize, size: Size) -> Outcome {
    let (_dir, host) = host(&[("upgrade", "relay")], "").await?;
    call(&host, "upgrade", &format!("fill {bytes}")).await?;
    let (one, other) = (guest("relay")?, guest("relay-b")?);
    let (mut seen, mut pauses) = (Vec::new(), Vec::new());
    let rounds = if bytes > 1 << 16 { size.of(60, 10) } else { size.of(200, 40) };
    for round in 0..rounds {
        let next = if round % 2 == 0 { &other } else { &one };
        let stop = Arc::new(AtomicBool::new(false));
        let client = tokio::spawn(gaps(host.clone(), stop.clone()));
        let switched = host.upgrade("upgrade", next.clone(), Some(PATIENCE)).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        stop.store(true, Ordering::Relaxed);
        seen.push(client.await??);
        pauses.extend(switched.pause.map(|pause| pause.as_secs_f64() * 1e9));
        host.commit("upgrade").await?;
    }
    seen.sort();
    println!("{name}: the longest time between two replies around a switch, median {:?}", seen[seen.len() / 2]);
    show(name, &format!("upgrade pause, {bytes} B of state"), "ns", &pauses);
    host.stop().await;
    Ok(())
}

/// Calls without pause; the longest time from one reply to the next.
async fn gaps(host: Arc<Host>, stop: Arc<AtomicBool>) -> Result<Duration, String> {
    let mut last = Instant::now();
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let reply = host.call("upgrade", "x".into(), PATIENCE).await;
        reply.map_err(|error| error.to_string())?;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    Ok(longest)
}
