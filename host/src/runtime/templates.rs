//! Templates: what the children of a `simple-one-for-one` supervisor are made of, by key.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::worker::Launch;
use crate::base::{ComponentHash, Name, bounds};

/// Makes children of one template. Implemented above, where components and records are known.
pub trait Template: Send + Sync {
    /// What a child of this name is made of: afresh, or from what is on record of it. `config` is a JSON
    /// object in the place of the template's own. Must not wait; a look into the database is allowed.
    fn launch(&self, name: &Name, config: Option<&str>) -> Result<Launch, NotMade>;

    /// What new children are made of.
    fn component(&self) -> ComponentHash;

    /// What children are brought to: not that, where it was rolled back.
    fn target(&self) -> ComponentHash {
        self.component()
    }

    /// Bytes of a message that a new child takes.
    fn payload_max(&self) -> u64;

    /// Whether the first message to a key starts its child.
    fn is_on_demand(&self) -> bool;

    /// New keys in a second that one caller may have taken up.
    fn new_keys(&self) -> u32 {
        bounds::NEW_KEYS_PER_SECOND
    }

    /// Whether its children end when they have nothing to do for long: they cannot hibernate.
    fn ends_idle(&self) -> bool {
        false
    }
}

/// Why a template made nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// Too much waits for the database: try again when it has caught up.
    Busy,
    Failed(String),
}

/// The templates of a host, by the name of their supervisor.
#[derive(Default)]
pub struct Templates {
    templates: RwLock<HashMap<Name, Arc<dyn Template>>>,
}

impl Templates {
    pub fn get(&self, supervisor: &Name) -> Option<Arc<dyn Template>> {
        self.templates.read().unwrap_or_else(PoisonError::into_inner).get(supervisor).cloned()
    }

    pub fn set(&self, supervisor: Name, template: Arc<dyn Template>) {
        self.templates.write().unwrap_or_else(PoisonError::into_inner).insert(supervisor, template);
    }

    pub fn remove(&self, supervisor: &Name) {
        self.templates.write().unwrap_or_else(PoisonError::into_inner).remove(supervisor);
    }
}
