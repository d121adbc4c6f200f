//! What is to be done about one key of a template, so that it comes to run what the template says. Pure.
//!
//! A rule looks at how things are, not at what happened: whatever was missed, failed or was in the way, the next look
//! decides as the first one would have.

use crate::base::ComponentHash;
use crate::record::By;

/// What the keys of a template are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    pub to: ComponentHash,
    /// The template's file. Another one than `to` where it was rolled back for all keys.
    pub file: ComponentHash,
    /// What has served well: keys on a refused component go there at once, also one on which it failed before. Not known of a
    /// newer file that replaced it.
    pub serves: Option<ComponentHash>,
    /// Components that were rolled back for all keys, the newest last.
    pub refused: Vec<ComponentHash>,
}

/// How a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    pub runs: ComponentHash,
    /// It is about to be up or down.
    pub is_passing: bool,
    /// A change of it, which may be in probation.
    pub change: Option<ChangeView>,
    /// An operator put it on what it runs, and the template's file is still the one that this overrides.
    pub is_overridden: bool,
    /// Why [`Goal::to`] was called off or rolled back for it before.
    pub rejects: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeView {
    pub to: ComponentHash,
    pub by: By,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be, or on its way there.
    Done,
    /// Look again when it has changed.
    Wait,
    /// Its probation on a refused component ends.
    Withdraw(ComponentHash),
    /// An upgrade like any other.
    Upgrade,
    /// Away from a refused component, to this one: without probation, and whatever it exports less.
    GoBack(ComponentHash),
    /// It is not tried, for this reason.
    Stays(String),
}

pub fn step(goal: &Goal, key: &KeyView) -> Step {
    if let Some(change) = key.change {
        let is_operators = change.by == By::Operator;
        return match () {
            () if change.to == goal.to && !is_operators => Step::Done,
            () if goal.refused.contains(&change.to) && !is_operators => Step::Withdraw(change.to),
            // It may end on what it was before, or on a component that the template does not want any more.
            () => Step::Wait,
        };
    }
    if key.runs == goal.to || key.is_overridden {
        return Step::Done;
    }
    if key.is_passing {
        return Step::Wait;
    }
    let serves = goal.serves.filter(|_| goal.refused.contains(&key.runs));
    match (&key.rejects, serves) {
        (_, Some(serves)) if serves == goal.to => Step::GoBack(serves),
        // The newer file did not mend it for this key.
        (Some(_), Some(serves)) if serves != key.runs => Step::GoBack(serves),
        (Some(why), _) => Step::Stays(why.clone()),
        (None, _) => Step::Upgrade,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> ComponentHash {
        ComponentHash::of(text.as_bytes())
    }

    fn goal(to: &str, file: &str, refused: &[&str]) -> Goal {
        let refused = refused.iter().map(|text| hash(text)).collect();
        Goal { to: hash(to), file: hash(file), serves: Some(hash(to)), refused }
    }

    fn trying(to: &str, before: &str, refused: &[&str]) -> Goal {
        Goal { serves: Some(hash(before)), ..goal(to, to, refused) }
    }

    fn on(runs: &str) -> KeyView {
        KeyView { runs: hash(runs), is_passing: false, change: None, is_overridden: false, rejects: None }
    }

    fn changing(runs: &str, to: &str, by: By) -> KeyView {
        KeyView { change: Some(ChangeView { to: hash(to), by }), ..on(runs) }
    }

    #[test]
    fn a_key_goes_forward_to_the_file_and_back_from_one_that_was_refused() {
        let (forward, fell) = (trying("b", "a", &[]), goal("a", "b", &["b"]));
        assert_eq!(step(&forward, &on("a")), Step::Upgrade);
        assert_eq!(step(&forward, &on("b")), Step::Done);
        assert_eq!(step(&fell, &on("b")), Step::GoBack(hash("a")));
        assert_eq!(step(&fell, &on("a")), Step::Done);
        // One that was on neither was never on what failed: an upgrade as any other.
        assert_eq!(step(&fell, &on("older")), Step::Upgrade);
        // What failed before the last file is no better now.
        let twice = goal("a", "c", &["b", "c"]);
        assert_eq!(step(&twice, &on("b")), Step::GoBack(hash("a")));
        // Nor where the file that served is put back.
        assert_eq!(step(&goal("a", "a", &["b"]), &on("b")), Step::GoBack(hash("a")));
        let newer = trying("c", "a", &["b"]);
        assert_eq!(step(&newer, &on("b")), Step::Upgrade, "a newer file may mend it");
        let rejects = Some("trap".to_string());
        assert_eq!(step(&newer, &KeyView { rejects, ..on("b") }), Step::GoBack(hash("a")), "or not");
        let committed = Goal { serves: None, ..newer };
        assert_eq!(step(&committed, &on("b")), Step::Upgrade, "nobody knows yet how it takes to this key");
    }

    #[test]
    fn an_operators_word_holds_and_his_upgrade_is_left_alone() {
        let fell = goal("a", "b", &["b"]);
        assert_eq!(step(&fell, &KeyView { is_overridden: true, ..on("b") }), Step::Done);
        assert_eq!(step(&fell, &changing("b", "x", By::Operator)), Step::Wait);
        assert_eq!(step(&fell, &changing("a", "b", By::Operator)), Step::Wait);
        assert_eq!(step(&fell, &changing("x", "b", By::Directory)), Step::Withdraw(hash("b")));
        assert_eq!(step(&fell, &changing("b", "a", By::Host)), Step::Done);
        assert_eq!(step(&fell, &changing("a", "other", By::Directory)), Step::Wait);
    }

    #[test]
    fn what_failed_on_a_key_is_not_tried_again_and_never_keeps_it_on_what_was_refused() {
        let rejects = Some("rolled back: trap".to_string());
        let forward = goal("b", "b", &[]);
        assert_eq!(
            step(&forward, &KeyView { rejects: rejects.clone(), ..on("a") }),
            Step::Stays("rolled back: trap".into())
        );
        assert_eq!(step(&goal("a", "b", &["b"]), &KeyView { rejects, ..on("b") }), Step::GoBack(hash("a")));
        assert_eq!(step(&forward, &KeyView { is_passing: true, ..on("a") }), Step::Wait);
    }

    /// A key and its template, as far as [`step`] knows them.
    struct Model {
        random: fastrand::Rng,
        goal: Goal,
        runs: ComponentHash,
        change: Option<(ChangeView, ComponentHash)>,
        /// What an operator put it on, and over which file.
        overrides: Option<(ComponentHash, ComponentHash)>,
        rejects: Vec<ComponentHash>,
        /// Components that fail on this key.
        fails: Vec<ComponentHash>,
    }

    impl Model {
        fn any(&mut self) -> ComponentHash {
            hash(["a", "b", "c", "d"][self.random.usize(0..4)])
        }

        fn serves(&self) -> ComponentHash {
            self.goal.serves.unwrap_or(self.goal.to)
        }

        fn view(&self) -> KeyView {
            let files = [self.goal.to, self.goal.file];
            let is_overridden = self.overrides.is_some_and(|(on, over)| on == self.runs && files.contains(&over));
            let rejects = self.rejects.contains(&self.goal.to).then(|| "it failed".to_string());
            let change = self.change.map(|(change, _)| change);
            KeyView { runs: self.runs, is_passing: false, change, is_overridden, rejects }
        }

        /// Something that nobody who brings keys along has a say in.
        fn befalls(&mut self) {
            let other = self.any();
            match self.random.u32(0..5) {
                // Another file; what serves is what did.
                0 if other != self.goal.file => {
                    let serving = self.serves();
                    self.rejects.retain(|rejected| *rejected != other);
                    self.goal.refused.retain(|refused| *refused != other);
                    self.goal.serves = Some(serving);
                    (self.goal.to, self.goal.file) = (other, other);
                }
                // Another key has passed its probation.
                1 if self.serves() != self.goal.to => self.goal.serves = None,
                // Back for all.
                2 if self.serves() != self.goal.to => {
                    self.goal.to = self.serves();
                    self.goal.refused.push(self.goal.file);
                }
                3 if self.change.is_none() && other != self.runs => {
                    self.change = Some((ChangeView { to: other, by: By::Operator }, self.runs));
                }
                _ => self.ends(),
            }
        }

        /// The change that is under way ends, one way or the other.
        fn ends(&mut self) {
            let Some((change, from)) = self.change.take() else { return };
            if self.fails.contains(&change.to) || self.random.bool() {
                self.runs = from;
                if change.by != By::Operator {
                    self.rejects.push(change.to);
                }
                return;
            }
            self.runs = change.to;
            let over = self.goal.to;
            self.overrides = (change.by == By::Operator && over != change.to).then_some((change.to, over));
        }

        fn brings(&mut self) -> bool {
            match step(&self.goal, &self.view()) {
                Step::Done | Step::Wait => {
                    let is_under_way = self.change.is_some();
                    self.ends();
                    return is_under_way;
                }
                Step::Stays(_) => return false,
                Step::Withdraw(of) => {
                    let (change, from) = self.change.take().expect("only a change is withdrawn");
                    assert!(change.to == of && change.by != By::Operator);
                    (self.runs, self.change) = (from, None);
                    self.rejects.push(of);
                }
                Step::Upgrade => {
                    assert!(!self.rejects.contains(&self.goal.to), "what failed is not tried again");
                    if self.fails.contains(&self.goal.to) && self.random.bool() {
                        // Called off: it never switched.
                        self.rejects.push(self.goal.to);
                        return true;
                    }
                    self.change = Some((ChangeView { to: self.goal.to, by: By::Directory }, self.runs));
                }
                Step::GoBack(to) => {
                    assert!(!self.goal.refused.contains(&to) && self.goal.serves == Some(to));
                    self.runs = to;
                }
            }
            true
        }
    }

    /// Whatever came before: left alone, a key comes to rest, and where it should be.
    #[test]
    fn no_key_rests_on_what_was_refused() {
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let fails = ["a", "b", "c", "d"].into_iter().filter(|_| random.u32(0..4) == 0).map(hash).collect();
            let (goal, runs) = (goal("a", "a", &[]), hash("a"));
            let mut model = Model { random, goal, runs, change: None, overrides: None, rejects: Vec::new(), fails };
            for _ in 0..30 {
                match model.random.bool() {
                    true => model.befalls(),
                    false => drop(model.brings()),
                }
            }
            let steps = (0..20).take_while(|_| model.brings()).count();
            assert!(steps < 20, "seed {seed}: it comes to no rest");
            let view = model.view();
            let is_right = model.runs == model.goal.to || view.is_overridden;
            let is_left = view.rejects.is_some();
            // Where something has served, that is where it is.
            let is_left = is_left && (model.goal.serves.is_none() || !model.goal.refused.contains(&model.runs));
            assert!(is_right || is_left, "seed {seed}: it rests on {:?} with {:?}", model.runs, model.goal);
        }
    }
}
