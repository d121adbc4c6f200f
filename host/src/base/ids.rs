//! What things are called.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::bounds;

/// Full name of a worker or supervisor in the tree, such as `billing/invoices`. The root
/// supervisor's name is empty and is shown as `/`. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("`{0}` is no name: a part cannot be empty, `.` or `..`")]
    Dots(String),
    #[error("`{name}` is no name: {found:?} is not allowed (letters, digits, `-`, `_`, `.` and `@` are)")]
    Character { name: String, found: char },
    #[error("`{0}` is no name: a part cannot start with `.`")]
    Hidden(String),
    #[error("the name is {0} bytes long; {max} are allowed", max = bounds::NAME_BYTES_MAX)]
    Long(usize),
}

/// In NFC. Most names are ASCII, which always is.
pub(crate) fn normalised(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { text.into() } else { ComposingNormalizerBorrowed::new_nfc().normalize(text) }
}

impl Name {
    /// The root supervisor.
    pub fn root() -> Name {
        Name(Arc::from(""))
    }

    /// Normalised to NFC: what reads alike is one name, however a keyboard or a file system spells it.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        // A text has at most three times the bytes of its NFC: a longer one is not even looked at.
        if text.len() > 3 * bounds::NAME_BYTES_MAX {
            return Err(NameError::Long(text.len()));
        }
        let text = &*normalised(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > bounds::NAME_BYTES_MAX {
            return Err(NameError::Long(text.len()));
        }
        for part in text.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return Err(NameError::Dots(text.escape_debug().to_string()));
            }
            if part.starts_with('.') {
                return Err(NameError::Hidden(text.escape_debug().to_string()));
            }
            let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
            if let Some(found) = part.chars().find(|c| !allowed(*c)) {
                return Err(NameError::Character { name: text.escape_debug().to_string(), found });
            }
        }
        Ok(Name(Arc::from(text)))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The supervisor above; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        if self.is_root() {
            return None;
        }
        match self.0.rsplit_once('/') {
            Some((parent, _)) => Some(Name(Arc::from(parent))),
            None => Some(Name::root()),
        }
    }

    /// The last part: the name among its siblings.
    pub fn leaf(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, leaf)| leaf)
    }

    /// The name of a child of this supervisor.
    pub fn child(&self, leaf: &str) -> Result<Name, NameError> {
        if self.is_root() { Name::parse(leaf) } else { Name::parse(&format!("{self}/{leaf}")) }
    }

    /// Whether `self` lies below `above` in the tree.
    pub fn is_below(&self, above: &Name) -> bool {
        if above.is_root() {
            return !self.is_root();
        }
        self.0.strip_prefix(&*above.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// A name hashes and compares as its text, so that a text finds it in a map.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "/" } else { &self.0 })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

/// blake3 hash of a component's bytes: what a component is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentHash(pub [u8; 32]);

impl ComponentHash {
    pub fn of(bytes: &[u8]) -> ComponentHash {
        ComponentHash(*blake3::hash(bytes).as_bytes())
    }

    /// Lowercase hex, 64 characters.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first 12 characters: enough for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_string()
    }

    pub fn from_hex(text: &str) -> Option<ComponentHash> {
        blake3::Hash::from_hex(text).ok().map(|hash| ComponentHash(*hash.as_bytes()))
    }
}

impl fmt::Display for ComponentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for ComponentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Defines a number that names one thing and cannot be mistaken for another.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// The number after this one.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number!(
    /// One pending call. Unique for the host's life.
    CallId
);
number!(
    /// One pending timer. Unique within its worker.
    TimerId
);
number!(
    /// One active monitor. Unique within its worker.
    MonitorId
);
number!(
    /// How many times a worker was restarted.
    Incarnation
);
number!(
    /// Number of a revision in its worker's history, from 1.
    RevisionNumber
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_without_surprises() {
        for good in ["greeter", "billing/invoices", "tenants/42", "a.b_c-d@e", "büro"] {
            assert_eq!(Name::parse(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "..", "a/../b", "a//b", "/a", "a/", ".hidden", "a\nb", "a b", "a\u{7}", "a\\b"] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Name::parse(&"x".repeat(bounds::NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn what_reads_alike_is_one_name() {
        let spelt = ["b\u{fc}ro", "bu\u{308}ro"].map(|spelt| Name::parse(spelt).unwrap());
        assert_eq!(spelt[0], spelt[1]);
        assert_eq!(spelt[1].as_str(), "b\u{fc}ro");
        // A combining mark alone is not a letter.
        assert!(Name::parse("\u{308}").is_err());
        assert!(Name::parse(&"u\u{308}".repeat(bounds::NAME_BYTES_MAX / 2)).is_ok());
        assert!(Name::parse(&"u\u{308}".repeat(bounds::NAME_BYTES_MAX)).is_err());
    }

    #[test]
    fn a_control_character_is_never_printed_raw() {
        let error = Name::parse("a\u{1b}[31mb").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn parents_and_children() {
        let name = Name::parse("a/b/c").unwrap();
        assert_eq!(name.parent(), Some(Name::parse("a/b").unwrap()));
        assert_eq!(name.leaf(), "c");
        assert!(name.is_below(&Name::parse("a").unwrap()));
        assert!(name.is_below(&Name::root()));
        assert!(!Name::parse("ab").unwrap().is_below(&Name::parse("a").unwrap()));
        assert_eq!(Name::parse("a").unwrap().parent(), Some(Name::root()));
        assert_eq!(Name::root().child("a"), Name::parse("a"));
    }
}
