//! Which keys of a template do not run what they should, and why: `doctor` shows it.

use std::collections::BTreeMap;

use crate::base::{ComponentHash, Name};

#[derive(Debug, Default)]
pub struct Staying {
    keys: BTreeMap<Name, Stays>,
    /// Some came that no event has told of.
    is_untold: bool,
}

#[derive(Debug)]
struct Stays {
    on: ComponentHash,
    to: ComponentHash,
    why: String,
    /// No other try would help.
    for_good: bool,
}

impl Staying {
    pub fn note(&mut self, key: &Name, (on, to): (ComponentHash, ComponentHash), why: String, for_good: bool) {
        let stays = Stays { on, to, why, for_good };
        self.is_untold |= for_good;
        self.keys.insert(key.clone(), stays);
    }

    /// Whether nothing brings a key from what it runs to this.
    pub fn for_good(&self, key: &Name, on: ComponentHash, to: ComponentHash) -> bool {
        self.keys.get(key).is_some_and(|stays| stays.for_good && stays.on == on && stays.to == to)
    }

    /// How many there are, and one of them. `runs`: what a key runs, if it is there; those that run another component by now,
    /// or what they should, are forgotten.
    pub fn told(&mut self, to: ComponentHash, runs: impl Fn(&Name) -> Option<ComponentHash>) -> Option<String> {
        self.keys.retain(|key, stays| stays.on != to && runs(key) == Some(stays.on));
        let (key, stays) = self.keys.first_key_value()?;
        let (count, why) = (self.keys.len(), &stays.why);
        Some(format!("{count} of its keys stay on what they were, such as {key:?}: {why}"))
    }

    /// One that stays for good, where one came since this was asked last.
    pub fn untold(&mut self) -> Option<Name> {
        let is_untold = std::mem::take(&mut self.is_untold);
        self.keys.iter().find(|(_, stays)| is_untold && stays.for_good).map(|(key, _)| key.clone())
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
        staying.note(&key("t/1"), (a, b), "trap".to_string(), true);
        staying.note(&key("t/2"), (a, b), "no room".to_string(), false);
        assert!(staying.for_good(&key("t/1"), a, b) && !staying.for_good(&key("t/1"), b, a));
        assert!(!staying.for_good(&key("t/2"), a, b));
        assert_eq!((staying.untold(), staying.untold()), (Some(key("t/1")), None));
        let told = staying.told(b, |_| Some(a)).unwrap();
        assert_eq!(told, "2 of its keys stay on what they were, such as `t/1`: trap");
        let told = staying.told(b, |name| (*name == key("t/2")).then_some(a)).unwrap();
        assert!(told.starts_with("1 of its keys") && told.contains("no room"), "{told}");
        assert_eq!(staying.told(a, |_| Some(a)), None, "it is where it belongs");
    }
}
