//! `paguro up`: runs the host in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{events, logs};
use crate::base::bounds::COMPILERS_BYTES_MIN;
use crate::base::units::{parse_size, show_size};
use crate::cli::errors::{CliError, Exit};
use crate::cli::target::HostArgs;
use crate::cli::{input, output};
use crate::control::server::{TOKEN_CHARS_MIN, is_long_enough};
use crate::control::{self, UpError, UpLine, UpOptions};

#[derive(Args, Debug)]
#[command(after_help = "\
Every component in DIR runs as a worker; a folder is a supervisor. Adding a file starts a worker, \
replacing it is a live upgrade, removing it stops the worker. Ctrl-C stops all in order; the next start \
goes on with their saved state.

Examples:
  paguro up
  paguro up /srv/workers --state /var/lib/paguro
  PAGURO_TOKEN=$(cat token) paguro up --listen 127.0.0.1:7878")]
pub struct UpArgs {
    /// The directory of workers [default: --dir]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Listen on TCP too, such as 127.0.0.1:7878; needs a token
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// The file that holds the token; else PAGURO_TOKEN does
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Memory for all compilers together, such as 1GiB [default: 2GiB, or half of the machine's if that is less]
    #[arg(long, value_name = "SIZE", value_parser = compile_memory)]
    compile_memory: Option<u64>,

    /// Connections over TCP at one time, a quarter of them from one address [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,

    /// Start although the database is gone or is not the one that was there last; what it lacks is lost
    #[arg(long)]
    fresh: bool,

    /// Memory that workers, clients and files may make the host keep, such as 2GiB [default: half of what there is]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
}

/// The least with which a worker of any language starts.
const MEMORY_MIN: u64 = 16 << 20;

fn memory(text: &str) -> Result<u64, String> {
    at_least(MEMORY_MIN, text)
}

fn compile_memory(text: &str) -> Result<u64, String> {
    at_least(COMPILERS_BYTES_MIN, text)
}

fn at_least(least: u64, text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < least {
        return Err(format!("{} are too little: give {} or more", show_size(bytes), show_size(least)));
    }
    Ok(bytes)
}

/// Runs until the host has stopped.
pub async fn run(args: UpArgs, host: &HostArgs) -> Result<(), CliError> {
    control::up(options(args, host)?).await.map_err(told)
}

fn options(args: UpArgs, host: &HostArgs) -> Result<UpOptions, CliError> {
    if host.host.is_some() {
        return Err(CliError::usage("`paguro up` runs a host here; `--host` names one that runs elsewhere")
            .help("paguro up DIR --listen ADDR"));
    }
    let token = match &args.token_file {
        Some(file) => Some(read_token(file)?),
        None => host.token.clone().map(|token| token.trim().to_string()).filter(|token| !token.is_empty()),
    };
    if args.listen.is_some() && token.is_none() {
        return Err(CliError::usage("`--listen` needs a token")
            .cause("whoever reaches the port without one could run code here")
            .help("give one in PAGURO_TOKEN or with --token-file FILE"));
    }
    if args.listen.is_some() && token.as_deref().is_some_and(|token| !is_long_enough(token)) {
        return Err(CliError::usage(format!("the token has fewer than {TOKEN_CHARS_MIN} characters"))
            .cause("one that can be guessed is none")
            .help("openssl rand -hex 32"));
    }
    let dir = args.directory.unwrap_or_else(|| host.dir.clone());
    let connections = args.connections.map(|connections| connections as usize);
    let (state, listen, compilers_bytes_max) = (host.state.clone(), args.listen, args.compile_memory);
    Ok(UpOptions {
        dir,
        state,
        listen,
        token,
        compilers_bytes_max,
        connections,
        memory: args.memory,
        fresh: args.fresh,
        raise_descriptors: true,
        log: Box::new(log),
    })
}

fn read_token(file: &std::path::Path) -> Result<String, CliError> {
    let bytes = input::read_file(file)?;
    let token = String::from_utf8_lossy(&bytes).trim().to_string();
    let is_sendable = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    if is_sendable {
        return Ok(token);
    }
    let told = CliError::usage(format!("{} holds no token", file.display()));
    Err(told.cause("a token is one line of letters, digits and signs").help("openssl rand -hex 32"))
}

/// The same lines that `paguro events` and `paguro logs` show.
fn log(line: UpLine) {
    match line {
        UpLine::Event(event) => output::note(&events::line(&event)),
        UpLine::Log(log) => output::note(&logs::line(&log)),
    }
}

fn told(error: UpError) -> CliError {
    let exit = if matches!(error, UpError::Broken { .. }) { Exit::Broken } else { Exit::Failed };
    CliError::new(exit, error.to_string())
        .cause(error.cause().unwrap_or_default())
        .help(error.help().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn host() -> HostArgs {
        HostArgs { dir: "d".into(), state: Some("s".into()), host: None, token: None }
    }

    fn args() -> UpArgs {
        UpArgs {
            directory: None,
            listen: None,
            token_file: None,
            compile_memory: None,
            connections: None,
            memory: None,
            fresh: false,
        }
    }

    fn refused(args: UpArgs, host: &HostArgs) -> CliError {
        options(args, host).err().expect("it is refused")
    }

    #[test]
    fn the_directory_is_the_argument_or_the_option() {
        let both = options(UpArgs { directory: Some("x".into()), ..args() }, &host()).ok().unwrap();
        assert_eq!((both.dir.as_path(), both.state.as_deref()), (Path::new("x"), Some(Path::new("s"))));
        assert_eq!(options(args(), &host()).ok().unwrap().dir, Path::new("d"));
    }

    #[test]
    fn memory_is_a_size_that_a_worker_can_start_with() {
        assert_eq!((memory("2GiB"), memory("16MiB")), (Ok(2 << 30), Ok(16 << 20)));
        assert_eq!(memory("1MiB"), Err("1.0 MiB are too little: give 16.0 MiB or more".to_string()));
        assert!(memory("much").is_err());
    }

    #[test]
    fn a_port_needs_a_token() {
        let listen = UpArgs { listen: Some("127.0.0.1:1".parse().unwrap()), ..args() };
        assert_eq!(refused(listen, &host()).exit().code(), 2);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let listen = Some("127.0.0.1:1".parse().unwrap());
        let with = || UpArgs { listen, token_file: Some(file.clone()), ..args() };
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        assert_eq!(options(with(), &host()).ok().unwrap().token.as_deref(), Some("0123456789abcdef"));
        for bad in ["\n", "0123456789abcde\n"] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(refused(with(), &host()).exit().code(), 2, "{bad}");
        }
        let short = HostArgs { token: Some("short".into()), ..host() };
        assert_eq!(refused(UpArgs { listen, ..args() }, &short).exit().code(), 2);
    }
}
