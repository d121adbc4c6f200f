//! The host as a whole: the directory that is its tree, the API, and the library's [`Host`].

mod answer;
mod beside;
mod cbor;
mod dead_letters;
pub mod directory;
mod doctor;
mod errors;
mod finding;
mod following;
mod grants;
mod host;
mod keeper;
mod metrics;
mod openapi;
pub mod server;
pub mod settings;
mod starting;
mod state_watch;
mod supervision;
mod up;
pub mod wire;

pub use dead_letters::NotResent;
pub use finding::{Finding, FindingKind};
pub use host::{Checked, Host, HostError, HostOptions, RequestError};
pub use up::{UpError, UpLine, UpOptions, up};
