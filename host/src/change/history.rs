//! What a worker can be rolled back to. Pure.

use crate::base::{ComponentHash, Name, RevisionNumber};
use crate::record::{RevisionRecord, Verdict, Why};

use super::error::ChangeError;

/// The revision to go back to: the one that was asked for, or else the newest one before the current
/// that served well, with another component. `refused`: components that are gone back to only where they are asked for.
pub fn rollback_target(
    worker: &Name,
    revisions: &[RevisionRecord],
    current: ComponentHash,
    refused: &[ComponentHash],
    asked: Option<RevisionNumber>,
) -> Result<RevisionRecord, ChangeError> {
    if let Some(number) = asked {
        let found = revisions.iter().find(|revision| revision.number == number).cloned();
        let found = found.ok_or_else(|| ChangeError::NoSuchRevision { worker: worker.clone(), revision: number })?;
        if found.component == current {
            return Err(ChangeError::SameComponent { worker: worker.clone(), component: current });
        }
        return Ok(found);
    }
    let served = |verdict: &Verdict| matches!(verdict, Verdict::Committed | Verdict::Superseded);
    let newest = |of: &[RevisionRecord]| {
        of.iter().rposition(|revision| revision.component == current && served(&revision.verdict))
    };
    let mut place = newest(revisions);
    // A rollback put an earlier component back, so the search goes on from where that component was before. Else a second
    // rollback would return to what the first one left.
    while let Some(at) = place.filter(|at| revisions[*at].why == Why::Rollback) {
        match newest(&revisions[..at]) {
            Some(before) => place = Some(before),
            None => break,
        }
    }
    let before = &revisions[..place.unwrap_or(revisions.len())];
    before
        .iter()
        .rev()
        .find(|revision| {
            let is_other = revision.component != current && !refused.contains(&revision.component);
            served(&revision.verdict) && is_other
        })
        .cloned()
        .ok_or_else(|| ChangeError::NothingToRollBackTo(worker.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::record::By;

    fn revision(number: u64, component: &str, verdict: Verdict) -> RevisionRecord {
        RevisionRecord {
            number: RevisionNumber(number),
            component: ComponentHash::of(component.as_bytes()),
            at: Timestamp(0),
            why: Why::Upgrade,
            by: By::Operator,
            verdict,
            note: String::new(),
        }
    }

    fn target(revisions: &[RevisionRecord], current: &str, asked: Option<u64>) -> Result<u64, String> {
        let name = Name::parse("w").unwrap();
        let current = ComponentHash::of(current.as_bytes());
        let found = rollback_target(&name, revisions, current, &[], asked.map(RevisionNumber));
        found.map(|revision| revision.number.0).map_err(|error| error.to_string())
    }

    #[test]
    fn goes_back_to_the_newest_that_served_well() {
        let revisions = [
            revision(1, "a", Verdict::Superseded),
            revision(2, "b", Verdict::RolledBack),
            revision(3, "c", Verdict::CalledOff),
            revision(4, "d", Verdict::Committed),
        ];
        assert_eq!(target(&revisions, "d", None), Ok(1));
        assert_eq!(target(&revisions, "d", Some(2)), Ok(2));
        assert!(target(&revisions, "d", Some(4)).is_err());
        assert!(target(&revisions, "d", Some(9)).unwrap_err().contains("no revision 9"));
    }

    #[test]
    fn rolling_back_twice_goes_further_back_and_not_forth() {
        let mut revisions = vec![
            revision(1, "a", Verdict::Superseded),
            revision(2, "b", Verdict::Superseded),
            revision(3, "c", Verdict::Superseded),
        ];
        assert_eq!(target(&revisions, "c", None), Ok(2));
        revisions.push(RevisionRecord { why: Why::Rollback, ..revision(4, "b", Verdict::Committed) });
        assert_eq!(target(&revisions, "b", None), Ok(1));
    }

    #[test]
    fn a_component_that_was_used_before_is_rolled_back_to_what_was_just_before_it() {
        let mut revisions = vec![
            revision(1, "a", Verdict::Superseded),
            revision(2, "b", Verdict::Superseded),
            revision(3, "c", Verdict::Superseded),
            revision(4, "b", Verdict::Committed),
        ];
        assert_eq!(target(&revisions, "b", None), Ok(3));
        let mut again = vec![
            revision(1, "a", Verdict::Superseded),
            revision(2, "b", Verdict::Superseded),
            revision(3, "a", Verdict::Superseded),
            revision(4, "c", Verdict::Superseded),
            RevisionRecord { why: Why::Rollback, ..revision(5, "a", Verdict::Committed) },
        ];
        assert_eq!(target(&again, "a", None), Ok(2));
        again[4].verdict = Verdict::Superseded;
        again.push(RevisionRecord { why: Why::Rollback, ..revision(6, "b", Verdict::Committed) });
        assert_eq!(target(&again, "b", None), Ok(1));
        revisions.push(revision(5, "b", Verdict::RolledBack));
        assert_eq!(target(&revisions, "b", None), Ok(3), "one that did not serve is none of it");
    }

    #[test]
    fn a_first_revision_has_nothing_before_it() {
        let revisions = [revision(1, "a", Verdict::Committed)];
        assert!(target(&revisions, "a", None).unwrap_err().contains("nothing to roll"));
    }
}
