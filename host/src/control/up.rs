//! `paguro up`: a host and its API in the foreground, until a signal stops both in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::answer::{event_info, log_info};
use super::host::{Host, HostError, HostOptions};
use super::server::{ServeError, Server};
use super::wire::{EventInfo, LogInfo};
use crate::record::{DatabaseError, Recorder, StateDirError};
use crate::sandbox::{CompilerChoice, SandboxError};

/// Something to show to whoever runs `paguro up`.
#[derive(Clone, Debug)]
pub enum UpLine {
    Event(EventInfo),
    Log(LogInfo),
}

/// What to run, and where to listen.
pub struct UpOptions {
    pub dir: PathBuf,
    pub state: Option<PathBuf>,
    /// A TCP address besides the Unix socket; needs a token.
    pub listen: Option<SocketAddr>,
    pub token: Option<String>,
    /// Bytes of memory for all compilers together; see [`HostOptions::compilers_bytes_max`].
    pub compilers_bytes_max: Option<u64>,
    /// Called for each event and log line, one after another.
    pub log: Box<dyn Fn(UpLine) + Send + Sync>,
}

/// Why `up` ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("the host cannot start on {}", .dir.display())]
    Host { dir: PathBuf, source: HostError },
    #[error("the API cannot be served")]
    Serve(#[from] ServeError),
    #[error("signals cannot be listened to")]
    Signals(#[from] std::io::Error),
}

impl UpError {
    /// Why, in one line.
    pub fn cause(&self) -> Option<String> {
        match self {
            UpError::Host { source, .. } => Some(source.to_string()),
            UpError::Serve(error) => Some(error.to_string()),
            UpError::Signals(error) => Some(error.to_string()),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            UpError::Host { dir, source } => match source {
                HostError::NoDirectory(_) => {
                    format!("make it with `mkdir {}`, or name another: `paguro up DIR`", dir.display())
                }
                HostError::NotADirectory(_) => "name a directory of components: `paguro up DIR`".to_string(),
                HostError::State(StateDirError::Locked { .. }) => {
                    "stop that host first, or give this one another directory with `--state`".to_string()
                }
                HostError::State(_) | HostError::Unreadable { .. } => {
                    "look at its owner and mode with `ls -ld`".to_string()
                }
                HostError::Database(DatabaseError::Newer { .. }) => {
                    "run that version of Paguro, or give another `--state`".to_string()
                }
                HostError::Database(DatabaseError::DiskFull { .. }) => {
                    "make room on the disk and start again".to_string()
                }
                HostError::Database(_) => {
                    "put a copy of the state directory in its place, or give another `--state`".to_string()
                }
                HostError::Sandbox(SandboxError::Cache { .. }) => {
                    "remove the `cache` directory in the state directory".to_string()
                }
                _ => return None,
            },
            UpError::Serve(ServeError::LongPath(_)) => "give a shorter `--state DIR`".to_string(),
            UpError::Serve(ServeError::NoToken) => "give one with `--token-file FILE` or PAGURO_TOKEN".to_string(),
            UpError::Serve(ServeError::Address { .. }) => "choose another address with `--listen`".to_string(),
            UpError::Serve(_) | UpError::Signals(_) => return None,
        })
    }
}

/// Runs until SIGINT or SIGTERM; then every worker is stopped in order and its state saved.
pub async fn up(options: UpOptions) -> Result<(), UpError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let host_options = HostOptions {
        state: options.state,
        // This very program, whatever lies at its path by now.
        compiler: CompilerChoice::Program("/proc/self/exe".into()),
        compilers_bytes_max: options.compilers_bytes_max,
        ..HostOptions::new(&options.dir)
    };
    let recorder = host_options.recorder.clone();
    let showing = tokio::spawn(show(recorder, options.log));
    let started = tokio::select! {
        started = Host::start(host_options) => started,
        // Nothing runs for good yet: the next start takes up what this one left.
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let host: Arc<Host> = started.map_err(|source| UpError::Host { dir: options.dir, source })?;
    let (stop, stopped) = watch::channel(false);
    let tcp = options.listen.map(|address| (address, options.token));
    let server = match Server::open(&host.socket_path, tcp).await {
        Ok(server) => server,
        Err(error) => {
            host.stop().await;
            return Err(error.into());
        }
    };
    tracing::info!(target: "paguro", socket = %host.socket_path.display(), tcp = ?server.tcp_address(), "ready");
    let serving = tokio::spawn(server.serve(host.clone(), stopped));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // Requests that came are answered while the workers still run.
    stop.send_replace(true);
    let grace = std::time::Duration::from_secs(10);
    if tokio::time::timeout(grace, serving).await.is_err() {
        tracing::warn!(target: "paguro", "some requests did not end in time");
    }
    tokio::select! {
        () = host.stop() => {}
        // Somebody insists: what runs is killed, and the stop goes on from there.
        _ = interrupt.recv() => kill(&host).await,
        _ = terminate.recv() => kill(&host).await,
    }
    // What was said last is shown before the process ends.
    tokio::task::yield_now().await;
    showing.abort();
    let _ = showing.await;
    Ok(())
}

/// Ends every guest's run at once, and finishes the stop.
async fn kill(host: &Host) {
    tracing::warn!(target: "paguro", "asked again: what still runs is killed");
    for worker in host.workers() {
        worker.kill();
    }
    host.finish().await;
}

/// Shows events and log lines as they come; one that lags goes on where the recorder still is.
async fn show(recorder: Recorder, log: Box<dyn Fn(UpLine) + Send + Sync>) {
    let (events, mut live_events) = recorder.events().follow(0);
    let (lines, mut live_lines) = recorder.logs().follow(0);
    events.iter().for_each(|event| log(UpLine::Event(event_info(event))));
    lines.iter().for_each(|line| log(UpLine::Log(log_info(line))));
    loop {
        tokio::select! {
            biased;
            event = live_events.recv() => match event {
                Ok(event) => log(UpLine::Event(event_info(&event))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            line = live_lines.recv() => match line {
                Ok(line) => log(UpLine::Log(log_info(&line))),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}
