//! Messages: what a call, a cast and a lookup cost.

use std::time::Instant;

use paguro::base::Payload;

use super::support::{Outcome, PATIENCE, Size, call, each, host, rounds, show};

/// Neither deadline nor fuel nor mailbox is what is measured.
const WIDE: &str = "durability = \"none\"\n[limits]\ndeadline = \"5m\"\nfuel = 1000000000000\nmailbox = 1000000\n";

/// One guest calls another in a loop. What the client's call around it costs is far below one part in a
/// thousand.
pub async fn guest_to_guest(name: &str, bytes: usize, size: Size) -> Outcome {
    let (_dir, host) = host(&[("a", "relay"), ("b", "echo")], WIDE).await?;
    let times = size.of(50_000, 10_000);
    let request = format!("call b {times} {bytes}");
    let samples = rounds(size.of(11, 5), async || {
        let begun = Instant::now();
        call(&host, "a", &request).await?;
        Ok(each(begun, times))
    });
    show(name, &format!("guest to guest call, {bytes} B"), "ns", &samples.await?);
    host.stop().await;
    Ok(())
}

/// Sixteen guests call one each, all at once.
pub async fn pairs(size: Size) -> Outcome {
    let names: Vec<(String, &str)> =
        (0..16).flat_map(|n| [(format!("a{n}"), "relay"), (format!("b{n}"), "echo")]).collect();
    let workers: Vec<(&str, &str)> = names.iter().map(|(name, guest)| (name.as_str(), *guest)).collect();
    let (_dir, host) = host(&workers, WIDE).await?;
    let times = size.of(20_000, 5_000);
    let samples = rounds(size.of(7, 3), async || {
        let begun = Instant::now();
        let calls = (0..16).map(|n| {
            let host = host.clone();
            tokio::spawn(async move {
                host.call(&format!("a{n}"), format!("call b{n} {times} 64").into(), PATIENCE * 5).await.is_ok()
            })
        });
        for called in calls.collect::<Vec<_>>() {
            assert!(called.await?);
        }
        Ok(16.0 * times as f64 / begun.elapsed().as_secs_f64())
    });
    show("pairs-16", "16 pairs calling at once, 64 B", "per-second", &samples.await?);
    host.stop().await;
    Ok(())
}

pub async fn client(size: Size) -> Outcome {
    let (_dir, host) = host(&[("echo", "echo")], "").await?;
    let times = size.of(20_000, 10_000);
    let bytes = [1_u8; 64];
    let samples = rounds(size.of(21, 7), async || {
        let begun = Instant::now();
        for _ in 0..times {
            host.call("echo", Payload::from(&bytes[..]), PATIENCE).await?;
        }
        Ok(each(begun, times))
    });
    show("client-call-64", "client in the host's process to guest call, 64 B", "ns", &samples.await?);
    host.stop().await;
    Ok(())
}

/// From the first cast until a call that came after them is answered.
pub async fn casts(size: Size) -> Outcome {
    let (_dir, host) = host(&[("sink", "relay")], WIDE).await?;
    let times = size.of(200_000, 50_000);
    let bytes = [1_u8; 64];
    let samples = rounds(size.of(11, 5), async || {
        let begun = Instant::now();
        for _ in 0..times {
            host.cast("sink", Payload::from(&bytes[..]))?;
        }
        call(&host, "sink", "count").await?;
        Ok(each(begun, times))
    });
    show("cast-64", "cast and drain, 64 B", "ns", &samples.await?);
    host.stop().await;
    Ok(())
}

pub async fn lookup(size: Size) -> Outcome {
    let (_dir, host) = host(&[("echo", "echo")], "").await?;
    let times = size.of(1_000_000, 200_000);
    let samples = rounds(size.of(11, 5), async || {
        let begun = Instant::now();
        for _ in 0..times {
            std::hint::black_box(host.worker(std::hint::black_box("echo"))?);
        }
        Ok(each(begun, times))
    });
    show("lookup", "name lookup", "ns", &samples.await?);
    host.stop().await;
    Ok(())
}
