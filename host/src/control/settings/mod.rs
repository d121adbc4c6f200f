//! Settings files: `NAME.toml` of a worker and `supervisor.toml` of a supervisor, from TOML text to
//! the plain data of `runtime::spec`.
//!
//! Everything is checked here, once: a settings value that exists is within its range. Reading the
//! files is `control::directory`'s affair; whether a component fits its settings is the host's.

mod error;
mod grants;
mod json;
mod section;
mod supervisor;
mod tier;
mod worker;

pub use error::{SettingsError, nearest, one_line};
pub use section::Places;
pub use supervisor::{parse_root, parse_supervisor};
pub use tier::Presets;
pub use worker::parse_worker;

/// Which file a key belongs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingsFile {
    /// `NAME.toml`, beside `NAME.wasm`.
    Worker,
    /// `supervisor.toml`, in the supervisor's directory.
    Supervisor,
}

/// What one key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    pub file: SettingsFile,
    /// Such as `limits` for `[limits]`; empty at the top of the file.
    pub section: &'static str,
    pub key: &'static str,
    /// As it would be written in TOML, or in parentheses where words say it.
    pub default: &'static str,
    /// One line.
    pub meaning: &'static str,
}

/// Every key that can be set, in the order of documentation. The README's table is checked against
/// it.
pub fn reference() -> Vec<KeyDoc> {
    let of = |file, schemas: &'static [section::Schema]| {
        schemas.iter().flat_map(move |schema| {
            schema.keys.iter().map(move |key| KeyDoc {
                file,
                section: schema.section,
                key: key.name,
                default: key.default,
                meaning: key.meaning,
            })
        })
    };
    of(SettingsFile::Worker, worker::SCHEMAS).chain(of(SettingsFile::Supervisor, supervisor::SCHEMAS)).collect()
}

/// Where the keys of a settings file are written.
pub fn places(file: SettingsFile, text: &str) -> Places {
    match file {
        SettingsFile::Worker => section::places(text, worker::SCHEMAS),
        SettingsFile::Supervisor => section::places(text, supervisor::SCHEMAS),
    }
}

#[cfg(test)]
mod tests;
