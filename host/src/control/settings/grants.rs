//! `[grants]` of `NAME.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use super::error::{SettingsError, one_line};
use super::section::{Field, Key, Schema, Section};
use crate::sandbox::{Access, DirectoryGrant, Grants};

pub(super) const SCHEMA: Schema = Schema {
    section: "grants",
    title: "[grants]",
    keys: &[
        Key {
            name: "directories",
            default: "[]",
            meaning: "directories: { host = \"../data\", guest = \"/data\", access = \"read\" or \"read-write\" }",
        },
        Key { name: "environment", default: "{}", meaning: "environment variables: { NAME = \"value\" }" },
        Key { name: "arguments", default: "[]", meaning: "command line arguments after the first" },
        Key { name: "connect", default: "[]", meaning: "addresses it may connect to: \"127.0.0.1:80\"" },
        Key {
            name: "children",
            default: "false",
            meaning: "whether it may start and stop children of templates beside or below it",
        },
    ],
    sections: &[],
    later: &[],
};

const DIRECTORY: Schema = Schema {
    section: "grants.directories",
    title: "a granted directory",
    keys: &[
        Key { name: "host", default: "(required)", meaning: "" },
        Key { name: "guest", default: "(required)", meaning: "" },
        Key { name: "access", default: "\"read\"", meaning: "" },
    ],
    sections: &[],
    later: &[],
};

/// `path` is the settings file's: relative host directories start beside it.
pub(super) fn read(path: &Path, section: &Section<'_>) -> Result<Grants, SettingsError> {
    let mut grants = Grants::default();
    if let Some(field) = section.field("directories") {
        for item in field.items()? {
            let directory = directory(path, &item)?;
            if grants.directories.iter().any(|other| other.guest == directory.guest) {
                return Err(item.error(format!("`{}` is granted twice", one_line(&directory.guest)), ""));
            }
            grants.directories.push(directory);
        }
    }
    if let Some(field) = section.field("environment") {
        grants.environment = environment(&field)?;
    }
    if let Some(field) = section.field("arguments") {
        for item in field.items()? {
            grants.arguments.push(item.text_without_nul()?.to_string());
        }
    }
    if let Some(field) = section.field("connect") {
        grants.connect = connect(&field)?;
    }
    if let Some(field) = section.field("children") {
        grants.children = field.truth()?;
    }
    Ok(grants)
}

fn directory(path: &Path, item: &Field<'_>) -> Result<DirectoryGrant, SettingsError> {
    let section = Section::open(item.source, &DIRECTORY, item.table()?)?;
    let required = |key: &str| {
        section.field(key).ok_or_else(|| {
            item.error(
                format!("a granted directory has no `{key}`"),
                "write { host = \"../data\", guest = \"/data\", access = \"read\" }",
            )
        })
    };
    let host = required("host")?;
    let guest = required("guest")?;
    let host_path = host.text_without_nul()?;
    if host_path.is_empty() {
        return Err(host.error("`grants.directories.host` is empty", "write `.` for the settings file's own directory"));
    }
    let guest_path = guest.text_without_nul()?;
    if !guest_path.starts_with('/') || guest_path.split('/').any(|part| part == "." || part == "..") {
        return Err(guest.error(
            format!("`{}` is not a directory a guest can have", one_line(guest_path)),
            "write an absolute path without `.` and `..`, like \"/data\"",
        ));
    }
    let access = match section.field("access") {
        Some(field) => field.word(&[("read", Access::Read), ("read-write", Access::ReadWrite)])?,
        None => Access::Read,
    };
    let beside = path.parent().unwrap_or(Path::new(""));
    Ok(DirectoryGrant { host: beside.join(host_path), guest: guest_path.to_string(), access, opened: None })
}

/// By name, so that the order in the file does not make the settings differ.
fn environment(field: &Field<'_>) -> Result<Vec<(String, String)>, SettingsError> {
    let mut variables = Vec::new();
    for (name, value) in field.table()?.iter() {
        let at = name.span();
        let name: &str = name.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{}` cannot be the name of an environment variable", one_line(name));
            return Err(field.source.error(at, &field.key, message, ""));
        }
        let value = Field { source: field.source, key: one_line(&format!("{}.{name}", field.key)), value };
        variables.push((name.to_string(), value.text_without_nul()?.to_string()));
    }
    variables.sort();
    Ok(variables)
}

fn connect(field: &Field<'_>) -> Result<Vec<SocketAddr>, SettingsError> {
    let mut addresses = BTreeSet::new();
    for item in field.items()? {
        let text = item.text()?;
        let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).ok_or_else(|| {
            item.error(
                format!("`{}` is not an address to connect to", one_line(text)),
                "write `ip:port`, like \"127.0.0.1:80\" or \"[::1]:80\"; names are never resolved",
            )
        })?;
        addresses.insert(address);
    }
    Ok(addresses.into_iter().collect())
}
