//! When a supervisor looks whether children of an on-demand template idle that cannot hibernate, and which it asks to
//! end. Pure; what a child is doing it is told.

use std::collections::HashMap;
use std::time::Duration;

use crate::base::{Name, Tick, bounds};
use crate::runtime::residents::Rest;

#[derive(Debug, Default)]
pub(super) struct Idlers {
    /// When it looks next; `None`: there is nothing to look for.
    next: Option<Tick>,
    /// Since when each was seen to have nothing to do.
    since: HashMap<Name, Tick>,
}

impl Idlers {
    /// When it is to look next. `after`: how long a child may idle, where it does not go on for ever.
    pub fn next_look(&mut self, now: Tick, after: Option<Duration>) -> Option<Tick> {
        match after {
            Some(after) => {
                let latest = now.after(after / bounds::IDLE_LOOKS);
                // A time that was made shorter holds at once.
                self.next = Some(self.next.map_or(latest, |next| next.min(latest)));
            }
            None => *self = Idlers::default(),
        }
        self.next
    }

    /// It looks now: of all `children` and what each does, those that have idled for so long, and for how long.
    pub fn look<'a>(
        &mut self,
        now: Tick,
        after: Duration,
        children: impl Iterator<Item = (&'a Name, Rest)>,
    ) -> Vec<(Name, Duration)> {
        self.next = Some(now.after(after / bounds::IDLE_LOOKS));
        let mut since = HashMap::new();
        let mut idled = Vec::new();
        for (name, rest) in children {
            if rest != Rest::Idle {
                continue;
            }
            let begun = self.since.get(name).copied().unwrap_or(now);
            let idle = now.since(begun);
            if idle >= after {
                idled.push((name.clone(), idle));
            }
            // One that does not end, for it has a timer, is asked again when the time has passed once more.
            since.insert(name.clone(), if idle >= after { now } else { begun });
        }
        self.since = since;
        idled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_idles_from_look_to_look_for_long_enough_is_asked_to_end() {
        let after = Duration::from_secs(10);
        let at = |s| Tick::at(Duration::from_secs(s));
        let [a, b] = ["a", "b"].map(|name| Name::parse(name).unwrap());
        let mut idlers = Idlers::default();
        assert_eq!(idlers.next_look(at(0), None), None);
        assert_eq!(idlers.next_look(at(0), Some(after)), Some(at(1)));
        assert_eq!(idlers.next_look(at(1), Some(after)), Some(at(1)));
        let mut asked = Vec::new();
        for now in 1..=24 {
            // `a` is used between the fifth look and the sixth; `b` always is.
            let rest = if now == 6 { Rest::Used } else { Rest::Idle };
            let children = [(&a, rest), (&b, Rest::Used)];
            let idled = idlers.look(at(now), after, children.into_iter());
            asked.extend(idled.into_iter().map(|(name, idle)| (now, name, idle)));
            assert_eq!(idlers.next_look(at(now), Some(after)), Some(at(now + 1)));
        }
        assert_eq!(asked, [(17, a.clone(), after)]);
        assert_eq!(idlers.since.len(), 1, "nothing is kept of those that do not idle");
        assert_eq!(idlers.look(at(27), after, [(&a, Rest::Idle)].into_iter()), [(a, after)], "and asked again");
    }
}
