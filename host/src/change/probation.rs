//! The verdict on a revision in probation. Pure: what was seen goes in, what to do comes out.

use crate::base::ComponentHash;
use crate::base::ExitReason;
use crate::sandbox::Health;

/// Something that happened while a revision was on trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The instance ended in a trap, at a limit, or was killed.
    Failed(ExitReason),
    Health(Health),
    /// Its time is over.
    TimeUp,
    /// None was asked for.
    NoTime,
    /// It handled as many messages as probation was to last.
    Enough,
    /// A bound on what is kept for a rollback was reached.
    Full {
        bound: &'static str,
        value: u64,
    },
    /// It was stopped in order.
    Stopped,
    Operator(Order),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Commit,
    RollBack,
    /// By the host: this component of its template was rolled back for all keys.
    Withdraw(ComponentHash),
    /// By the host: another file of its template came meanwhile, which says nothing of this one.
    Supersede(ComponentHash),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    Commit { why: String },
    RollBack { why: String },
}

/// Why, where nothing but an operator's word decided it.
pub const BY_OPERATOR: &str = "an operator said so";

/// Why, where the worker was stopped: nobody can say that it passed.
pub const STOPPED: &str = "probation ended early: it was stopped in order, and nothing bad was seen so far";

/// Rules: DESIGN section 8, *probation*. Every bad sign has been acted upon at once, so whatever else
/// ends a probation ends it with a good verdict.
pub fn verdict(seen: &Seen) -> Verdict {
    let commit = |why: String| Verdict::Commit { why };
    let roll_back = |why: String| Verdict::RollBack { why };
    match seen {
        Seen::Failed(reason) => roll_back(reason.to_string()),
        Seen::Health(Health::Critical(why)) => roll_back(format!("its health is critical: {why}")),
        Seen::Health(Health::Healthy | Health::Degraded(_)) => Verdict::GoOn,
        Seen::TimeUp => commit("probation passed".to_string()),
        Seen::NoTime => commit("no probation was asked for".to_string()),
        Seen::Enough => commit("probation passed: it handled as many messages as were asked".to_string()),
        Seen::Full { bound, value } => {
            commit(format!("probation ended early: {bound} ({value}) was reached, and nothing bad was seen so far"))
        }
        Seen::Stopped => commit(STOPPED.to_string()),
        Seen::Operator(Order::Commit) => commit(BY_OPERATOR.to_string()),
        Seen::Operator(Order::RollBack) => roll_back(BY_OPERATOR.to_string()),
        Seen::Operator(Order::Withdraw(_)) => roll_back("it failed on new keys of its template".to_string()),
        Seen::Operator(Order::Supersede(_)) => roll_back("another file of its template came meanwhile".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Failure, Limit};

    #[test]
    fn bad_signs_roll_back_and_the_end_commits() {
        let trap = ExitReason::Failed(Failure::Limit(Limit::Fuel(7)));
        let cases = [
            (Seen::Failed(trap), "rollback"),
            (Seen::Failed(ExitReason::Killed), "rollback"),
            (Seen::Health(Health::Critical("x".into())), "rollback"),
            (Seen::Health(Health::Degraded("x".into())), "go on"),
            (Seen::Health(Health::Healthy), "go on"),
            (Seen::TimeUp, "commit"),
            (Seen::NoTime, "commit"),
            (Seen::Enough, "commit"),
            (Seen::Full { bound: "keep-bytes", value: 1 }, "commit"),
            (Seen::Stopped, "commit"),
            (Seen::Operator(Order::Commit), "commit"),
            (Seen::Operator(Order::RollBack), "rollback"),
        ];
        for (seen, expected) in cases {
            let said = match verdict(&seen) {
                Verdict::GoOn => "go on",
                Verdict::Commit { .. } => "commit",
                Verdict::RollBack { .. } => "rollback",
            };
            assert_eq!(said, expected, "{seen:?}");
        }
    }

    #[test]
    fn an_early_end_says_which_bound_it_was() {
        let Verdict::Commit { why } = verdict(&Seen::Full { bound: "keep-messages", value: 9 }) else { panic!() };
        assert!(why.contains("keep-messages (9)"), "{why}");
    }
}
