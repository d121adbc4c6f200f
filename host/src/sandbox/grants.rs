//! What a worker may reach outside itself. Nothing, until `[grants]` says so.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Directories of the host, each under a name the guest knows. A guest cannot leave them, not
    /// by `..` and not by a symbolic link (wasmtime-wasi opens everything relative to a directory
    /// handle, through cap-std).
    pub directories: Vec<DirectoryGrant>,
    /// Environment variables, as `name, value`. The host's own environment is never passed on.
    pub environment: Vec<(String, String)>,
    /// Command line arguments after the first, for commands.
    pub arguments: Vec<String>,
    /// Socket addresses (`ip:port`) that the guest may connect to. Names are never resolved.
    pub connect: Vec<std::net::SocketAddr>,
    /// Whether it may start and stop children of templates that are its siblings or below them
    /// (`children.start`).
    pub children: bool,
}

impl Grants {
    /// For a rehearsal, in which nothing may be at stake: what can be read, and nothing that can be
    /// changed or reached.
    pub fn for_rehearsal(&self) -> Grants {
        let read_only = |grant: &DirectoryGrant| DirectoryGrant { access: Access::Read, ..grant.clone() };
        Grants {
            directories: self.directories.iter().map(read_only).collect(),
            connect: Vec::new(),
            children: false,
            ..self.clone()
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// Where it is on the host.
    pub host: PathBuf,
    /// What the guest calls it, such as `/data`.
    pub guest: String,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}
