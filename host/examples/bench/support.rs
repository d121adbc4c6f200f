//! A host on a fresh directory, rounds, and what is printed.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paguro::base::Payload;
use paguro::control::{Host, HostOptions, RequestError};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// For calls that are to be answered in any case.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Size {
    pub quick: bool,
}

impl Size {
    /// `full`, or a part of it.
    pub fn of(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

pub fn guest(name: &str) -> Outcome<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the root")?;
    let path = root.join("target/guests").join(format!("{name}.wasm"));
    std::fs::read(&path).map_err(|error| format!("{}: {error}; run `cargo xtask guests`", path.display()).into())
}

/// A directory of its own, which goes with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(what: &str) -> Outcome<Scratch> {
        let dir = std::env::temp_dir().join(format!("paguro-bench-{}-{what}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Outcome {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, bytes)?)
    }

    pub async fn host(&self) -> Outcome<Arc<Host>> {
        Ok(Host::start(HostOptions::new(&self.0)).await?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A host with these workers, by name and guest.
pub async fn host(workers: &[(&str, &str)], settings: &str) -> Outcome<(Scratch, Arc<Host>)> {
    let dir = Scratch::new(workers[0].0)?;
    for (name, guest_name) in workers {
        dir.write(&format!("{name}.wasm"), guest(guest_name)?)?;
        dir.write(&format!("{name}.toml"), settings)?;
    }
    let host = dir.host().await?;
    for (name, _) in workers {
        until(|| host.worker(name).is_ok_and(|worker| worker.lives())).await;
    }
    Ok((dir, host))
}

/// A host with a template `many` of this guest.
pub async fn template(
    guest_name: &str,
    settings: &str,
    options: impl FnOnce(&mut HostOptions),
) -> Outcome<(Scratch, Arc<Host>)> {
    let dir = Scratch::new("many")?;
    dir.write("many/supervisor.toml", "strategy = \"simple-one-for-one\"\n")?;
    dir.write("many/one.wasm", guest(guest_name)?)?;
    dir.write("many/one.toml", settings)?;
    let mut opts = HostOptions::new(&dir.0);
    options(&mut opts);
    let host = Host::start(opts).await?;
    // The template is in force when a first child of it can be started.
    for _ in 0..5_000 {
        if host.start_worker("many/first").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host.stop_worker("many/first").await?;
    Ok((dir, host))
}

pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub async fn call(host: &Host, to: &str, request: &str) -> Outcome<Payload> {
    Ok(host.call(to, request.into(), PATIENCE).await?)
}

/// Runs `round` so many times after one that does not count; what each returns is a sample.
pub async fn rounds<F: Future<Output = Outcome<f64>>>(count: usize, mut round: impl FnMut() -> F) -> Outcome<Vec<f64>> {
    round().await?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        samples.push(round().await?);
    }
    Ok(samples)
}

/// Nanoseconds since then, for each of so many.
pub fn each(begun: Instant, count: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / count as f64
}

pub fn show(name: &str, what: &str, unit: &str, samples: &[f64]) {
    println!("{}", serde_json::json!({"name": name, "what": what, "unit": unit, "samples": samples}));
}

/// Does this in a task of the runtime, where a client of the host is: the thread of `main` is not one of the
/// runtime's, and each answer to it would wake it up.
pub async fn task<T: Send + 'static>(work: impl Future<Output = Outcome<T>> + Send + 'static) -> Outcome<T> {
    tokio::spawn(work).await?
}

/// Does one thing for every child of `many`, so many at a time, each lane in a task of its own.
pub async fn side_by_side<F>(
    host: &Arc<Host>,
    children: usize,
    lanes: usize,
    act: impl Fn(Arc<Host>, String) -> F + Clone + Send + 'static,
) -> Outcome
where
    F: Future<Output = Result<(), RequestError>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let lane = |_| {
        let (host, next, act) = (host.clone(), next.clone(), act.clone());
        task(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= children {
                    return Ok(());
                }
                act(host.clone(), format!("many/{n}")).await?;
            }
        })
    };
    futures::future::try_join_all((0..lanes).map(lane)).await?;
    Ok(())
}

/// Bytes of memory in use by this process, after what is free was given back as far as can be.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    line("Rss:") * 1024.0
}
