//! Which keys of a template do not run what they should, and why: `doctor` shows it.

use std::collections::BTreeMap;

use crate::base::{ComponentHash, Name};

#[derive(Debug, Default)]
pub struct Staying {
    /// By key, and by whether it is the way back that cannot be gone.
    keys: BTreeMap<(Name, bool), Stays>,
    /// One came for good, and no event has told of any.
    is_untold: bool,
    /// One was told of: `doctor` has the others.
    is_told: bool,
}

/// From what, to what, and whether as an upgrade or as the way back, which asks for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub from: ComponentHash,
    pub to: ComponentHash,
    pub is_back: bool,
}

#[derive(Debug)]
struct Stays {
    way: Way,
    why: String,
    weight: Weight,
}

/// What is known of a key that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Another try may help.
    Passing,
    /// No other try would.
    ForGood,
    /// Nor would it, and that was found long ago: no news.
    Known,
}

impl Staying {
    /// Whether it is the first one.
    pub fn note(&mut self, key: &Name, way: Way, why: String, weight: Weight) -> bool {
        if weight == Weight::Known && self.for_good(key, way) {
            // It was news, and may not have been told yet.
            return false;
        }
        let is_first = self.keys.is_empty();
        self.is_untold |= weight == Weight::ForGood && !self.is_told;
        self.keys.insert((key.clone(), way.is_back), Stays { way, why, weight });
        is_first
    }

    /// Whether nothing brings a key along this way.
    pub fn for_good(&self, key: &Name, way: Way) -> bool {
        let stays = self.keys.get(&(key.clone(), way.is_back));
        stays.is_some_and(|stays| stays.weight != Weight::Passing && stays.way == way)
    }

    /// How many there are, and one of them. `runs`: what a key runs, if it is there; those that run another component by now,
    /// or what they should, are forgotten.
    pub fn told(&mut self, to: ComponentHash, runs: impl Fn(&Name) -> Option<ComponentHash>) -> Option<String> {
        self.prune(to, runs);
        let ((key, _), stays) = self.keys.first_key_value()?;
        Some(self.sentence(key, &stays.why))
    }

    /// One that stays for good, and what is to be told of it: once.
    pub fn untold(
        &mut self,
        to: ComponentHash,
        runs: impl Fn(&Name) -> Option<ComponentHash>,
    ) -> Option<(Name, String)> {
        if !std::mem::take(&mut self.is_untold) {
            return None;
        }
        self.prune(to, runs);
        let ((key, _), stays) = self.keys.iter().find(|(_, stays)| stays.weight == Weight::ForGood)?;
        self.is_told = true;
        Some((key.clone(), self.sentence(key, &stays.why)))
    }

    fn prune(&mut self, to: ComponentHash, runs: impl Fn(&Name) -> Option<ComponentHash>) {
        self.keys.retain(|(key, _), stays| stays.way.from != to && runs(key) == Some(stays.way.from));
    }

    fn sentence(&self, key: &Name, why: &str) -> String {
        let once =
            |((key, is_back), _): &(&(Name, bool), &Stays)| !is_back || !self.keys.contains_key(&(key.clone(), false));
        let count = self.keys.iter().filter(once).count();
        format!("{count} of its keys stay on what they were, such as {key:?}: {why}")
    }

    /// Another file is another try for all.
    pub fn clear(&mut self) {
        *self = Staying::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_of_those_that_still_stay() {
        let hash = |text: &str| ComponentHash::of(text.as_bytes());
        let key = |text| Name::parse(text).unwrap();
        let (a, b) = (hash("a"), hash("b"));
        let way = |from, to| Way { from, to, is_back: false };
        let on_a = |_: &Name| Some(a);
        let mut staying = Staying::default();
        assert!(staying.note(&key("t/0"), way(a, b), "rejected before".to_string(), Weight::Known));
        assert_eq!(staying.untold(b, on_a), None);
        assert!(!staying.note(&key("t/1"), way(a, b), "trap".to_string(), Weight::ForGood));
        assert!(!staying.note(&key("t/1"), way(a, b), "known by now".to_string(), Weight::Known));
        staying.note(&key("t/2"), way(a, b), "no room".to_string(), Weight::Passing);
        assert!(staying.for_good(&key("t/1"), way(a, b)) && !staying.for_good(&key("t/1"), way(b, a)));
        assert!(staying.for_good(&key("t/0"), way(a, b)) && !staying.for_good(&key("t/2"), way(a, b)));
        let back = Way { is_back: true, ..way(a, b) };
        assert!(!staying.for_good(&key("t/1"), back));
        staying.note(&key("t/1"), back, "nor back".to_string(), Weight::ForGood);
        assert!(staying.for_good(&key("t/1"), back) && staying.for_good(&key("t/1"), way(a, b)), "both hold");
        let sentence = "3 of its keys stay on what they were, such as `t/1`: trap";
        assert_eq!(staying.untold(b, on_a), Some((key("t/1"), sentence.to_string())));
        staying.note(&key("t/3"), way(a, b), "trap".to_string(), Weight::ForGood);
        assert_eq!(staying.untold(b, on_a), None, "once");
        let told = staying.told(b, |_| Some(a)).unwrap();
        assert_eq!(told, "4 of its keys stay on what they were, such as `t/0`: rejected before");
        let told = staying.told(b, |name| (*name == key("t/2")).then_some(a)).unwrap();
        assert!(told.starts_with("1 of its keys") && told.contains("no room"), "{told}");
        assert_eq!(staying.told(a, |_| Some(a)), None, "it is where it belongs");
        staying.clear();
        staying.note(&key("t/1"), way(a, b), "withdrawn".to_string(), Weight::ForGood);
        assert_eq!(staying.untold(a, on_a), None, "and none of those is told of");
    }
}
