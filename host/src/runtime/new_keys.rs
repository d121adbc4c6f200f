//! How many new keys of on-demand templates each caller may have taken up in a time. Pure.
//!
//! A key costs the host memory and a row in the database for as long as it is there, and whoever can name a template
//! can make up names without end. A worker is one caller; all children of one template together are one, or each key
//! could make as many again; and all clients outside the tree are one.

use std::collections::HashMap;

use super::rate::Callers;
use super::spec::Rate;
use crate::base::{Name, Tick, bounds};

/// By the supervisor of the template.
#[derive(Debug, Default)]
pub struct NewKeys {
    of: HashMap<Name, Keys>,
}

#[derive(Debug)]
struct Keys {
    per_second: u32,
    callers: Callers<Option<Name>>,
}

impl NewKeys {
    /// Whether one more is taken up. `caller`: `None` stands for clients. `per_second`: at least 1.
    pub fn take(&mut self, supervisor: &Name, caller: Option<Name>, per_second: u32, now: Tick) -> bool {
        if self.of.get(supervisor).is_none_or(|keys| keys.per_second != per_second) {
            let rate = Rate { per_second, burst: per_second.saturating_mul(bounds::NEW_KEYS_BURST) };
            let callers = Callers::new(rate, bounds::NEW_KEYS_CALLERS_MAX);
            self.of.insert(supervisor.clone(), Keys { per_second, callers });
        }
        self.of.get_mut(supervisor).is_some_and(|keys| keys.callers.of(&caller, now).take(now))
    }

    /// The supervisor has left the tree.
    pub fn forget(&mut self, supervisor: &Name) {
        self.of.remove(supervisor);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_caller_has_its_burst_and_then_its_rate() {
        let name = |text| Name::parse(text).unwrap();
        let (mut keys, t) = (NewKeys::default(), name("t"));
        let at = |ms| Tick::at(Duration::from_millis(ms));
        let taken = |keys: &mut NewKeys, caller: Option<Name>, now| {
            (0..1_000).filter(|_| keys.take(&t, caller.clone(), 10, now)).count()
        };
        assert_eq!(taken(&mut keys, None, at(0)), 100);
        assert_eq!(taken(&mut keys, None, at(500)), 5);
        assert_eq!(taken(&mut keys, Some(name("a")), at(500)), 100, "others have their own");
        assert!(keys.take(&name("u"), None, 10, at(500)), "and so has each template");
        assert!(keys.take(&t, None, 20, at(500)), "another rate begins anew");
        keys.forget(&t);
        assert_eq!(keys.of.len(), 1);
    }
}
