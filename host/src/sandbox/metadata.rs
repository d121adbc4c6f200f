//! What a component says of itself in its metadata sections: name and version, if it has them.

use wasmparser::{Encoding, Parser, Payload};

/// From the component's own custom sections; nothing in Paguro depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub name: Option<String>,
    pub version: Option<String>,
}

/// What a file with WebAssembly's magic number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Component,
    Module,
    NotWasm,
}

pub(super) fn shape(bytes: &[u8]) -> Shape {
    match Parser::new(0).parse(bytes, true) {
        Ok(wasmparser::Chunk::Parsed { payload: Payload::Version { encoding: Encoding::Component, .. }, .. }) => {
            Shape::Component
        }
        Ok(wasmparser::Chunk::Parsed { payload: Payload::Version { .. }, .. }) => Shape::Module,
        _ => Shape::NotWasm,
    }
}

/// Reads the outermost component's name and version. Anything malformed is left out: the check of
/// the component itself reports it.
pub(super) fn read(bytes: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::Version { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::CustomSection(section)) if depth == 1 => match section.name() {
                "version" => metadata.version = std::str::from_utf8(section.data()).ok().map(clean),
                "component-name" => {
                    if let wasmparser::KnownCustom::ComponentName(reader) = section.as_known() {
                        metadata.name = reader.into_iter().flatten().find_map(|name| match name {
                            wasmparser::ComponentName::Component { name, .. } => Some(clean(name)),
                            _ => None,
                        });
                    }
                }
                _ => {}
            },
            Ok(_) => {}
            Err(_) => break,
        }
    }
    metadata
}

/// Metadata is the author's text: shown on terminals, so no control characters, and short.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
