//! Which host a command talks to, and how to say so again in a command that is offered.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::errors::{CliError, Exit};
pub use crate::base::units::quoted;
use crate::record::{TreeLock, TreeLockError, found_state};

/// Where workers are when nothing else is said.
pub const DEFAULT_DIR: &str = "workers";

/// The environment's name for `--dir`.
pub const DIR_VARIABLE: &str = "PAGURO_DIR";

/// The options that say which host is meant. They hold for every verb.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which host")]
pub struct HostArgs {
    /// The directory of workers whose host is meant
    #[arg(long, global = true, value_name = "DIR", env = DIR_VARIABLE, hide_env_values = true, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,

    /// The host's state directory, where it is not DIR/.paguro (beside DIR, .paguro-DIR, where DIR is a link)
    #[arg(long, global = true, value_name = "DIR", env = "PAGURO_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,

    /// The host's address instead: http://HOST:PORT, or the path of its socket
    #[arg(long, global = true, value_name = "URL")]
    pub host: Option<Endpoint>,

    /// The token of a host that listens on TCP (rather in the environment, where `ps` does not show it)
    #[arg(long, global = true, value_name = "TOKEN", env = "PAGURO_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Where a host listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `HOST:PORT`.
    Tcp(String),
    Socket(PathBuf),
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        if text.starts_with("https://") {
            return Err("the host speaks plain HTTP; put a tunnel or a proxy in front of it".to_string());
        }
        if let Some(address) = text.strip_prefix("http://") {
            return tcp(address.trim_end_matches('/'));
        }
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Endpoint::Socket(PathBuf::from(path))),
            None if text.contains('/') => Ok(Endpoint::Socket(PathBuf::from(text))),
            None => tcp(text),
        }
    }
}

fn tcp(address: &str) -> Result<Endpoint, String> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !address.contains('/') => Ok(Endpoint::Tcp(address.to_string())),
        _ => Err("write it as http://HOST:PORT, or as the path of a socket".to_string()),
    }
}

/// The host that was meant, however it was named.
#[derive(Clone, Debug)]
pub struct Target {
    pub endpoint: Endpoint,
    /// Set where the socket was found by its directory.
    dir: Option<PathBuf>,
    /// Where its state is, if it was named.
    state: Option<PathBuf>,
    /// What to repeat so that an offered command reaches the same host, such as `--dir x `.
    flags: String,
}

impl Target {
    pub fn of(args: &HostArgs) -> Target {
        if let Some(endpoint) = &args.host {
            let flags = match endpoint {
                Endpoint::Tcp(address) => format!("--host http://{address} "),
                Endpoint::Socket(path) => format!("--host unix:{} ", quoted(path)),
            };
            return Target { endpoint: endpoint.clone(), dir: None, state: None, flags };
        }
        let state = args.state.clone().unwrap_or_else(|| found_state(&args.dir));
        let mut flags = String::new();
        if !is_implied(&args.dir, DIR_VARIABLE, Some(DEFAULT_DIR)) {
            flags += &format!("--dir {} ", quoted(&args.dir));
        }
        if let Some(state) = args.state.as_ref().filter(|state| !is_implied(state, "PAGURO_STATE", None)) {
            flags += &format!("--state {} ", quoted(state));
        }
        let endpoint = Endpoint::Socket(state.join("paguro.sock"));
        Target { endpoint, dir: Some(args.dir.clone()), state: args.state.clone(), flags }
    }

    /// A command to offer, such as `paguro --dir x ps`.
    pub fn command(&self, rest: &str) -> String {
        format!("paguro {}{rest}", self.flags)
    }

    /// Nobody answers: says where, why, and how to start a host there.
    pub fn unreachable(&self, error: &io::Error) -> CliError {
        let place = match &self.endpoint {
            Endpoint::Tcp(address) => format!("http://{address}"),
            Endpoint::Socket(path) => path.display().to_string(),
        };
        let told = CliError::new(Exit::Unreachable, format!("no host answers at {place}"));
        let Some(dir) = &self.dir else {
            let help = match &self.endpoint {
                Endpoint::Tcp(address) => format!("paguro up DIR --listen {address} --token-file FILE"),
                Endpoint::Socket(_) => {
                    "name the host's directory instead: `--dir DIR`; `paguro up DIR` starts one".to_string()
                }
            };
            return told.cause(error.to_string()).help(help);
        };
        let (shown, argument) = (dir.display(), quoted(dir));
        let state = self.state.as_ref().map(|state| format!(" --state {}", quoted(state))).unwrap_or_default();
        let up = format!("paguro up {argument}{state}");
        if dir.symlink_metadata().is_ok() && !dir.is_dir() {
            return told.cause(format!("{shown} is no directory")).help("name the host's directory: `--dir DIR`");
        }
        if !dir.is_dir() {
            let help = format!("mkdir -p {argument} && {up}");
            return told.cause(format!("the directory {shown} does not exist")).help(help);
        }
        if let Err(TreeLockError::Locked { pid, .. }) = TreeLock::take(dir) {
            let holder = pid.map_or_else(|| "another host".to_string(), |pid| format!("process {pid}"));
            let why =
                format!("{holder} holds the directory {shown} and keeps its state elsewhere, or is just starting");
            return told
                .cause(why)
                .help("name where it keeps its state: `--state DIR`, or the link it was started with: `--dir LINK`");
        }
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no host runs on it".to_string(),
            io::ErrorKind::ConnectionRefused => "the host that made the socket no longer runs".to_string(),
            io::ErrorKind::PermissionDenied => "the socket belongs to another user".to_string(),
            _ => error.to_string(),
        };
        told.cause(format!("the directory {shown} exists; {why}")).help(up)
    }
}

/// Whether a command without the option would mean the same path.
fn is_implied(path: &Path, variable: &str, default: Option<&str>) -> bool {
    match std::env::var_os(variable) {
        Some(value) => path.as_os_str() == value,
        None => default.is_some_and(|default| path.as_os_str() == OsStr::new(default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path) -> HostArgs {
        HostArgs { dir: dir.to_path_buf(), state: None, host: None, token: None }
    }

    #[test]
    fn addresses_are_urls_or_paths() {
        assert_eq!("http://10.0.0.1:7878/".parse(), Ok(Endpoint::Tcp("10.0.0.1:7878".into())));
        assert_eq!("[::1]:7878".parse(), Ok(Endpoint::Tcp("[::1]:7878".into())));
        assert_eq!("unix:p.sock".parse(), Ok(Endpoint::Socket("p.sock".into())));
        assert_eq!("./p.sock".parse(), Ok(Endpoint::Socket("./p.sock".into())));
        for bad in ["https://a:1", "http://a", "a:99999", ":1", "", "http://a:1/v1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_does_not_run_is_told_from_a_directory_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none here");
        let gone = io::Error::from(io::ErrorKind::NotFound);

        let error = Target::of(&args(&missing)).unreachable(&gone);
        assert_eq!(error.exit().code(), 3);
        let text = error.to_string().replace(&dir.path().display().to_string(), "TMP");
        let expected = "error: no host answers at TMP/none here/.paguro/paguro.sock\n  \
             cause: the directory TMP/none here does not exist\n  \
             help: mkdir -p 'TMP/none here' && paguro up 'TMP/none here'";
        assert_eq!(text, expected);

        let text = Target::of(&args(dir.path())).unreachable(&gone).to_string();
        let text = text.replace(&dir.path().display().to_string(), "TMP");
        assert!(text.ends_with("cause: the directory TMP exists; no host runs on it\n  help: paguro up TMP"), "{text}");
    }

    #[test]
    fn offered_commands_reach_the_same_host() {
        assert_eq!(Target::of(&args(Path::new("/a b"))).command("ps"), "paguro --dir '/a b' ps");
        let remote = HostArgs { host: Some(Endpoint::Tcp("h:1".into())), ..args(Path::new("x")) };
        assert_eq!(Target::of(&remote).command("ps"), "paguro --host http://h:1 ps");
        let state = HostArgs { state: Some("/s".into()), ..args(Path::new("/d")) };
        let target = Target::of(&state);
        assert_eq!(target.endpoint, Endpoint::Socket("/s/paguro.sock".into()));
        assert_eq!(target.command("ps"), "paguro --dir /d --state /s ps");
    }
}
