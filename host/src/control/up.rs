//! `paguro up`: a host and its API in the foreground, until a signal stops both in order.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::answer::{event_info, log_info};
use super::host::{Host, HostError, HostOptions};
use super::server::{Room, ServeError, Server};
use super::state_watch::STATE_GONE;
use super::wire::{EventInfo, LogInfo};
use crate::base::units::quoted;
use crate::base::{bounds, panics};
use crate::record::{DatabaseError, Event, Recorder, StateDirError, TreeLockError};
use crate::sandbox::{CompilerChoice, SandboxError, compilers_ended};

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
    /// Connections over TCP that there may be; by default [`CONNECTIONS_MAX`](crate::base::bounds::CONNECTIONS_MAX).
    /// Never more than the process' descriptors have room for.
    pub connections: Option<usize>,
    /// Raises the process' soft limit of descriptors to the hard one. The program does; one that embeds a host owns
    /// its limits.
    pub raise_descriptors: bool,
    /// Bytes that guests, clients and files may make the host keep; by default half of the memory there is.
    pub memory: Option<u64>,
    /// See [`HostOptions::fresh`].
    pub fresh: bool,
    /// Called for each event and log line, one after another.
    pub log: Box<dyn Fn(UpLine) + Send + Sync>,
}

/// Why `up` ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("the host cannot start on {}", .dir.display())]
    Host { dir: PathBuf, command: String, source: HostError },
    #[error("the API cannot be served")]
    Serve(#[from] ServeError),
    #[error("signals cannot be listened to")]
    Signals(#[from] std::io::Error),
    /// It was stopped in order.
    #[error("the host could not go on, and stopped")]
    Broken { why: String, command: String },
}

impl UpError {
    /// Why, in one line.
    pub fn cause(&self) -> Option<String> {
        match self {
            UpError::Host { source, .. } => Some(source.to_string()),
            UpError::Serve(error) => Some(error.to_string()),
            UpError::Signals(error) => Some(error.to_string()),
            UpError::Broken { why, .. } => Some(why.clone()),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            UpError::Host { dir, command, source } => match source {
                HostError::NoDirectory(_) => {
                    format!("make it with `mkdir -p {}`, or name another: `paguro up DIR`", quoted(dir))
                }
                HostError::NotTrusted { help, .. } => help.clone(),
                HostError::StateBehindLink { inside, beside, .. } => {
                    format!("`mv {} {}`, then start it again", quoted(inside), quoted(beside))
                }
                HostError::NotADirectory(_) => "name a directory of components: `paguro up DIR`".to_string(),
                HostError::State(StateDirError::Locked { .. }) => {
                    "stop that host first, or run this one on a directory of its own".to_string()
                }
                HostError::InUse(TreeLockError::Locked { .. }) => {
                    "stop that host first, or run this one on a directory of its own".to_string()
                }
                HostError::InUse(_) | HostError::State(_) | HostError::Unreadable { .. } => {
                    "look at its owner and mode with `ls -ld`".to_string()
                }
                HostError::Database(DatabaseError::Newer { .. }) => {
                    "run that version of Paguro, or give another `--state`".to_string()
                }
                HostError::Database(DatabaseError::DiskFull { .. }) => {
                    "make room on the disk and start again".to_string()
                }
                HostError::OtherDatabase(_) => format!(
                    "put a copy of the whole state directory in its place; or go on without what is lost: \
                     `{command} --fresh`"
                ),
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
            UpError::Broken { why, command } if why.contains(STATE_GONE) => {
                format!("put the state directory back as it was, then start the host again: `{command}`")
            }
            UpError::Broken { command, .. } => {
                format!("start it again: `{command}`; what it said before, with backtraces, belongs into a report")
            }
            UpError::Serve(_) | UpError::Signals(_) => return None,
        })
    }
}

/// How long requests that came before a stop may take to be answered.
const ANSWERS_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// Runs until SIGINT or SIGTERM; then every worker is stopped in order and its state saved. SIGHUP has it look at the
/// directory at once, and follow the link that names it ([`Host::look_again`]); SIGUSR1, SIGUSR2 and SIGALRM are ignored.
pub async fn up(options: UpOptions) -> Result<(), UpError> {
    let state = options.state.as_ref().map(|state| format!(" --state {}", quoted(state))).unwrap_or_default();
    // To be offered where it must be started again.
    let command = format!("paguro up {}{state}", quoted(&options.dir));
    // Before anything starts: workers that run for a moment have done what they do.
    let tcp = options.listen.map(|address| (address, options.token));
    Server::check(tcp.as_ref())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Each would end the process at once, and none asks for that.
    let _ignored = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()].map(signal);
    if options.raise_descriptors {
        raise_descriptors();
    }
    let host_options = HostOptions {
        state: options.state,
        // This very program, whatever lies at its path by now.
        compiler: CompilerChoice::Program("/proc/self/exe".into()),
        compilers_bytes_max: options.compilers_bytes_max,
        account_bytes_max: options.memory,
        fresh: options.fresh,
        ..HostOptions::new(&options.dir)
    };
    let recorder = host_options.recorder.clone();
    panics::note_panics();
    let showing = tokio::spawn(show_always(recorder, options.log));
    let opened = tokio::select! {
        opened = Host::open(host_options) => opened,
        // Nothing runs yet: the next start takes up what this one left.
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let cannot_start = |source| UpError::Host { dir: options.dir.clone(), command: command.clone(), source };
    let start = opened.map_err(cannot_start)?;
    let host = start.host().clone();
    let (stop, stopped) = watch::channel(false);
    let server = match Server::open(&host.socket_path, tcp).await {
        Ok(server) => server.with_room(room(options.connections)),
        Err(error) => {
            host.stop().await;
            return Err(error.into());
        }
    };
    // Whoever asks meanwhile is told how far it is.
    let tcp_address = server.tcp_address();
    let recorder = host.recorder().clone();
    let serve = server.serve(host.clone(), stopped);
    let mut serving = tokio::spawn(async move { recorder.watched("the API", serve).await });
    let started = tokio::select! {
        started = start.run() => Some(started),
        // Nothing runs for good yet: the next start takes up what this one left.
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    if !matches!(started, Some(Ok(()))) {
        host.starting.abandon();
        stop.send_replace(true);
        let _ = tokio::time::timeout(ANSWERS_TIME, &mut serving).await;
    }
    match started {
        Some(Ok(())) => {}
        Some(Err(source)) => {
            host.stop().await;
            return Err(cannot_start(source));
        }
        None => {
            // What was being compiled did not kill the host.
            compilers_ended(bounds::COMPILERS_END_TIME).await;
            return Ok(());
        }
    }
    tracing::info!(target: "paguro", socket = %host.socket_path.display(), tcp = ?tcp_address, "ready");
    let looks = async {
        while hangup.recv().await.is_some() {
            host.look_again().await;
        }
        std::future::pending::<()>().await
    };
    let broken = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        () = looks => None,
        why = host.broken() => Some(why.to_string()),
        // Nobody could reach it any more, while all seemed well.
        _ = &mut serving => {
            let why = "the API has ended: no request would be answered any more";
            host.recorder().emit(Event::HostBroken { why: why.to_string() });
            Some(why.to_string())
        }
    };
    // Requests that came are answered while the workers still run.
    stop.send_replace(true);
    if !serving.is_finished() && tokio::time::timeout(ANSWERS_TIME, serving).await.is_err() {
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
    match broken {
        Some(why) => Err(UpError::Broken { why, command }),
        None => Ok(()),
    }
}

/// Room for as many connections as were asked for, or as there are descriptors for.
fn room(asked: Option<usize>) -> Room {
    let room = Room::here(asked);
    if asked.is_some_and(|asked| asked > room.tcp) {
        let (asked, tcp) = (asked.unwrap_or_default(), room.tcp);
        tracing::warn!(target: "paguro", asked, tcp, "fewer connections than asked for: `ulimit -Hn` is a bound on them");
    }
    room
}

/// The soft limit is low for programs that know no more than 1,024. Where it cannot be raised, it stays as it is: the
/// bounds on connections follow from it.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(target: "paguro", ?current, ?maximum, %error, "the limit of descriptors is not raised");
    }
}

/// Ends every guest's run at once, and finishes the stop.
async fn kill(host: &Host) {
    tracing::warn!(target: "paguro", "asked again: what still runs is killed");
    for worker in host.workers() {
        worker.kill();
    }
    host.finish().await;
}

/// Shows, whatever panics in it: what is not shown would be missed by whoever looks for why.
async fn show_always(recorder: Recorder, log: Box<dyn Fn(UpLine) + Send + Sync>) {
    let mut seen = (0, 0);
    loop {
        let part = "what shows events and logs";
        if recorder.watched(part, show(&recorder, &log, &mut seen)).await.is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Shows events and log lines as they come; one that lags goes on where the recorder still is.
async fn show(recorder: &Recorder, log: &(dyn Fn(UpLine) + Send + Sync), seen: &mut (u64, u64)) {
    let (mut events, mut lines) = (recorder.events().follow(seen.0), recorder.logs().follow(seen.1));
    loop {
        // Noted first: one over which this panics is passed over.
        let line = tokio::select! {
            biased;
            event = events.next() => event.map(|event| {
                seen.0 = event.seq;
                UpLine::Event(event_info(&event))
            }),
            line = lines.next() => line.map(|line| {
                seen.1 = line.seq;
                UpLine::Log(log_info(&line))
            }),
        };
        if let Ok(line) = line {
            log(line);
        }
        // It has something to show without end while workers log.
        tokio::task::coop::consume_budget().await;
    }
}
