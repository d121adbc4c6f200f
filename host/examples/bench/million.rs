//! A million workers with 100 bytes of state each.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use super::support::{Outcome, PATIENCE, Size, resident, show, side_by_side, template};

const LEAN: &str = "durability = \"none\"\n[limits]\nmemory = \"4MiB\"\n";

thread_local! {
    /// All three figures come from one run.
    static FIGURES: RefCell<Option<[f64; 3]>> = const { RefCell::new(None) };
}

pub async fn run(name: &str, size: Size) -> Outcome {
    let workers = size.of(1_000_000, 10_000);
    let known = FIGURES.with_borrow(|figures| *figures);
    let figures = match known {
        Some(figures) => figures,
        None => {
            let figures = measure(workers).await?;
            FIGURES.set(Some(figures));
            figures
        }
    };
    match name {
        "million-create" => show(name, &format!("{workers} workers created"), "ns", &[figures[0]]),
        "million-resident" => show(name, &format!("{workers} workers resident"), "bytes", &[figures[1]]),
        _ => show(name, &format!("of {workers} workers answer"), "count", &[figures[2]]),
    }
    Ok(())
}

async fn measure(workers: usize) -> Outcome<[f64; 3]> {
    let (_dir, host) = template("relay", LEAN, |_| {}).await?;
    let begun = Instant::now();
    side_by_side(&host, workers, 64, |host, name| async move { host.start_worker(&name).await.map(drop) }).await?;
    let created = begun.elapsed();
    println!("{workers} created in {created:?}");
    let resident = resident();
    let begun = Instant::now();
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = answered.clone();
    side_by_side(&host, workers, 64, move |host, name| {
        let counted = counted.clone();
        async move {
            if host.call(&name, "x".into(), PATIENCE).await.is_ok_and(|reply| &reply[..] == b"x") {
                counted.fetch_add(1, Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    println!("{} answered in {:?}", answered.load(Relaxed), begun.elapsed());
    host.stop().await;
    Ok([created.as_secs_f64() * 1e9, resident, answered.load(Relaxed) as f64])
}
