//! Which keys of a template do not run what they should, and why: `doctor` shows it.

use std::collections::BTreeMap;

use crate::base::{ComponentHash, Name};

#[derive(Debug, Default)]
pub struct Staying {
    keys: BTreeMap<Name, Stays>,
    /// The first that came for good, and that no event has told of.
    untold: Option<Name>,
    /// One was told of: `doctor` has the others.
    is_told: bool,
}

#[derive(Debug)]
struct Stays {
    on: ComponentHash,
    to: ComponentHash,
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
    pub fn note(&mut self, key: &Name, (on, to): (ComponentHash, ComponentHash), why: String, weight: Weight) -> bool {
        let is_first = self.keys.is_empty();
        if weight == Weight::ForGood && !self.is_told {
            self.untold.get_or_insert_with(|| key.clone());
        }
        self.keys.insert(key.clone(), Stays { on, to, why, weight });
        is_first
    }

    /// Whether nothing brings a key from what it runs to this.
    pub fn for_good(&self, key: &Name, on: ComponentHash, to: ComponentHash) -> bool {
        self.keys.get(key).is_some_and(|stays| stays.weight != Weight::Passing && stays.on == on && stays.to == to)
    }

    /// How many there are, and one of them. `runs`: what a key runs, if it is there; those that run another component by now,
    /// or what they should, are forgotten.
    pub fn told(&mut self, to: ComponentHash, runs: impl Fn(&Name) -> Option<ComponentHash>) -> Option<String> {
        self.keys.retain(|key, stays| stays.on != to && runs(key) == Some(stays.on));
        let (key, stays) = self.keys.first_key_value()?;
        Some(self.sentence(key, &stays.why))
    }

    /// The first that stays for good, and what is to be told of it: once.
    pub fn untold(&mut self) -> Option<(Name, String)> {
        let key = self.untold.take()?;
        self.is_told = true;
        let sentence = self.sentence(&key, &self.keys.get(&key)?.why);
        Some((key, sentence))
    }

    fn sentence(&self, key: &Name, why: &str) -> String {
        format!("{} of its keys stay on what they were, such as {key:?}: {why}", self.keys.len())
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
        let mut staying = Staying::default();
        assert!(staying.note(&key("t/0"), (a, b), "rejected before".to_string(), Weight::Known));
        assert_eq!(staying.untold(), None);
        assert!(!staying.note(&key("t/1"), (a, b), "trap".to_string(), Weight::ForGood));
        staying.note(&key("t/2"), (a, b), "no room".to_string(), Weight::Passing);
        assert!(staying.for_good(&key("t/1"), a, b) && !staying.for_good(&key("t/1"), b, a));
        assert!(staying.for_good(&key("t/0"), a, b) && !staying.for_good(&key("t/2"), a, b));
        let sentence = "3 of its keys stay on what they were, such as `t/1`: trap";
        assert_eq!(staying.untold(), Some((key("t/1"), sentence.to_string())));
        staying.note(&key("t/3"), (a, b), "trap".to_string(), Weight::ForGood);
        assert_eq!(staying.untold(), None, "once");
        let told = staying.told(b, |_| Some(a)).unwrap();
        assert_eq!(told, "4 of its keys stay on what they were, such as `t/0`: rejected before");
        let told = staying.told(b, |name| (*name == key("t/2")).then_some(a)).unwrap();
        assert!(told.starts_with("1 of its keys") && told.contains("no room"), "{told}");
        assert_eq!(staying.told(a, |_| Some(a)), None, "it is where it belongs");
    }
}
