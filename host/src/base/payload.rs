//! The bytes of a request, a reply or a cast.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that the host never looks inside. Cloning shares them: a message that is broadcast, or
/// kept for a rollback, is held once. A whole `Vec` behind the `Arc`, because that is what the
/// engine's bindings lower from without a copy in between.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(Arc<Vec<u8>>);

impl Payload {
    pub fn as_vec(&self) -> &Vec<u8> {
        &self.0
    }

    /// The bytes, without a copy where nobody shares them.
    pub fn into_vec(self) -> Vec<u8> {
        Arc::try_unwrap(self.0).unwrap_or_else(|shared| shared.to_vec())
    }
}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(Arc::new(bytes))
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Payload {
        Payload::from(bytes.to_vec())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        Payload::from(text.into_bytes())
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Payload {
        Payload::from(text.as_bytes())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
