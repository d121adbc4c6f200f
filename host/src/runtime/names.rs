//! What is found by its place in the order of names: pages, and names like another.
//!
//! Kept beside the table by name, with a lock of its own: who reads pages holds up nobody who looks a worker up.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{PoisonError, RwLock};

use crate::base::{Name, bounds};

pub struct Names<V> {
    order: RwLock<BTreeMap<Name, V>>,
}

impl<V> Default for Names<V> {
    fn default() -> Names<V> {
        Names { order: RwLock::default() }
    }
}

impl<V: Clone> Names<V> {
    pub fn insert(&self, name: Name, value: V) {
        self.order.write().unwrap_or_else(PoisonError::into_inner).insert(name, value);
    }

    /// Takes a name out whose value is this one.
    pub fn remove_if(&self, name: &Name, is_its_own: impl Fn(&V) -> bool) {
        let mut order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        if order.get(name).is_some_and(is_its_own) {
            order.remove(name);
        }
    }

    /// The first `limit` values after a name, in order of name.
    pub fn page(&self, after: Option<&Name>, limit: usize) -> Vec<V> {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        let after = after.map_or(Unbounded, Excluded);
        order.range::<Name, _>((after, Unbounded)).take(limit).map(|(_, value)| value.clone()).collect()
    }

    /// The names most like this one, best first: what somebody may have meant. Looks at no more than
    /// [`bounds::SUGGESTION_NAMES_MAX`].
    pub fn nearest(&self, name: &str) -> Vec<String> {
        if name.len() > bounds::NAME_BYTES_MAX {
            return Vec::new();
        }
        let scored = self.about(name).into_iter().map(|known| {
            let whole = strsim::jaro_winkler(name, known.as_str());
            let leaf = strsim::jaro_winkler(name, known.leaf());
            (whole.max(leaf), known.to_string())
        });
        let mut near: Vec<(f64, String)> = scored.filter(|(score, _)| *score > 0.7).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.dedup();
        near.into_iter().take(bounds::SUGGESTIONS_MAX).map(|(_, name)| name).collect()
    }

    /// Where the name would be, before and after it, then from the start: where there are few, these are all.
    fn about(&self, name: &str) -> Vec<Name> {
        const EACH: usize = bounds::SUGGESTION_NAMES_MAX / 4;
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        if order.len() <= bounds::SUGGESTION_NAMES_MAX {
            return order.keys().cloned().collect();
        }
        let before = order.range::<str, _>((Unbounded, Excluded(name))).rev().take(EACH);
        let after = order.range::<str, _>((Excluded(name), Unbounded)).take(EACH);
        before.chain(after).map(|(known, _)| known).chain(order.keys().take(2 * EACH)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: impl IntoIterator<Item = String>) -> Names<Name> {
        let all = Names::default();
        for name in names {
            let name = Name::parse(&name).unwrap();
            all.insert(name.clone(), name);
        }
        all
    }

    #[test]
    fn pages_are_in_order_and_meet() {
        let all = names((0..1_000).map(|n| format!("w{n:03}")));
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = all.page(after.as_ref(), 64);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            seen.extend(page.iter().map(Name::to_string));
        }
        assert_eq!(seen, (0..1_000).map(|n| format!("w{n:03}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_name_that_another_took_stays() {
        let name = Name::parse("a").unwrap();
        let all = Names::default();
        all.insert(name.clone(), 2);
        all.remove_if(&name, |value| *value == 1);
        assert_eq!(all.page(None, 10), [2]);
        all.remove_if(&name, |value| *value == 2);
        assert!(all.page(None, 10).is_empty());
    }

    #[test]
    fn suggestions_are_the_same_among_few_and_are_looked_for_among_a_bounded_number() {
        let few = names(["greeter", "billing/invoices", "clock"].map(str::to_string));
        assert_eq!(few.nearest("greter"), ["greeter"]);
        assert_eq!(few.nearest("invoces"), ["billing/invoices"]);
        let many = names((0..100_000).map(|n| format!("tenants/user-{n:06}")).chain(["clock".to_string()]));
        assert_eq!(many.about("tenants/user-05000").len(), bounds::SUGGESTION_NAMES_MAX);
        assert!(many.nearest("tenants/user-05000x").iter().all(|near| near.starts_with("tenants/user-0500")));
        assert_eq!(many.nearest("cloc"), ["clock"]);
        assert!(many.nearest(&"x".repeat(300)).is_empty());
    }
}
