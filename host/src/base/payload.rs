//! The bytes of a request, a reply or a cast.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that the host never looks inside. A whole `Vec`, because that is what the engine's bindings lower
/// from without a copy in between. Cloning shares what is large: a message that is broadcast, or kept for a
/// rollback, is held once. What is small is copied: most are never cloned, and need no second allocation.
#[derive(Clone)]
pub struct Payload(Bytes);

#[derive(Clone)]
enum Bytes {
    Small(Vec<u8>),
    Shared(Arc<Vec<u8>>),
}

/// Bytes that cost about as much to copy as to share: a page.
const SMALL_MAX: usize = 4096;

impl Payload {
    pub fn as_vec(&self) -> &Vec<u8> {
        match &self.0 {
            Bytes::Small(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }

    /// The bytes, without a copy where nobody shares them.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Bytes::Small(bytes) => bytes,
            Bytes::Shared(bytes) => Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec()),
        }
    }
}

impl Default for Payload {
    fn default() -> Payload {
        Payload(Bytes::Small(Vec::new()))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.as_vec() == other.as_vec()
    }
}

impl Eq for Payload {}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_vec()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        // By what it takes, not by what it holds.
        let is_small = bytes.capacity() <= SMALL_MAX;
        Payload(if is_small { Bytes::Small(bytes) } else { Bytes::Shared(Arc::new(bytes)) })
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
        write!(f, "{} bytes", self.len())
    }
}
