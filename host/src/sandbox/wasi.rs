//! WASI for one instance: nothing, but what the worker's grants say.

use std::sync::Arc;

use wasmtime_wasi::filesystem::FsPerms;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::grants::{Access, Grants};
use super::output::Output;
use super::outside::{LogLevel, LogSink};

/// Bytes that one call of `wasi:random` may ask for: more is a mistake or an attack.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The view of a guest to which nothing is granted.
pub(super) fn bare(arg0: &str, log: Arc<dyn LogSink>) -> WasiCtx {
    builder(&Grants::default(), arg0, log).build()
}

/// Whether a guest with these grants has [`bare`] for its view.
pub(super) fn is_bare(grants: &Grants) -> bool {
    let Grants { directories, environment, arguments, connect, children: _ } = grants;
    directories.is_empty() && environment.is_empty() && arguments.is_empty() && connect.is_empty()
}

/// The guest's view of WASI. The error names the directory that cannot be opened.
pub(super) fn context(grants: &Grants, arg0: &str, log: Arc<dyn LogSink>) -> Result<WasiCtx, String> {
    let mut builder = builder(grants, arg0, log);
    for directory in &grants.directories {
        let permissions = match directory.access {
            Access::Read => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        builder
            .preopened_dir(&directory.host, &directory.guest, permissions)
            .map_err(|error| format!("the granted directory {} cannot be opened: {error}", directory.host.display()))?;
    }
    Ok(builder.build())
}

/// All of it but the directories.
fn builder(grants: &Grants, arg0: &str, log: Arc<dyn LogSink>) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(Output::new(log.clone(), LogLevel::Info))
        .stderr(Output::new(log, LogLevel::Warn))
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_ip_name_lookup(false)
        .allow_udp(false)
        .allow_tcp(!grants.connect.is_empty())
        .arg(arg0)
        .args(&grants.arguments)
        .envs(&grants.environment);
    let allowed = grants.connect.clone();
    builder.socket_addr_check(move |address, usage| {
        use wasmtime_wasi::sockets::SocketAddrUse;
        // Connecting binds an ephemeral local address first; listening is never granted.
        let allowed = match usage {
            SocketAddrUse::TcpConnect => allowed.contains(&address),
            SocketAddrUse::TcpBind => address.port() == 0,
            _ => false,
        };
        Box::pin(async move { allowed })
    });
    builder
}
