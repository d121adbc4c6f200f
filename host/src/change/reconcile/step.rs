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
    /// While `to` is being tried: what serves.
    pub before: Option<ComponentHash>,
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
    /// It was found that nothing brings it from what it runs to [`Goal::to`].
    pub stays: bool,
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
    if key.runs == goal.to || key.is_overridden || key.stays {
        return Step::Done;
    }
    if key.is_passing {
        return Step::Wait;
    }
    let is_on_refused = goal.refused.contains(&key.runs);
    match (&key.rejects, goal.before) {
        // It serves others.
        (_, None) if is_on_refused => Step::GoBack(goal.to),
        (Some(_), Some(before)) if is_on_refused && before != key.runs => Step::GoBack(before),
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
        Goal { to: hash(to), file: hash(file), before: None, refused }
    }

    fn trying(to: &str, before: &str, refused: &[&str]) -> Goal {
        Goal { before: Some(hash(before)), ..goal(to, to, refused) }
    }

    fn on(runs: &str) -> KeyView {
        let (change, rejects) = (None, None);
        KeyView { runs: hash(runs), is_passing: false, change, is_overridden: false, rejects, stays: false }
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
        assert_eq!(step(&forward, &KeyView { stays: true, ..on("a") }), Step::Done);
        assert_eq!(step(&forward, &KeyView { is_passing: true, ..on("a") }), Step::Wait);
    }
}
