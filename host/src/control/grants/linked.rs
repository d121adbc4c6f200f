//! Files of the tree that can be changed by other ways than their paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::mounts::Place;
use super::walk::ways;
use super::{Ground, Known, Refused, Site, Writable, recall};
use crate::base::{Name, bounds};
use crate::control::beside::Beside;
use crate::control::directory::Doubt;
use crate::record::GrantedRecord;

/// Those of the doubtful files that a worker may change. `given` is what workers can write now. Blocks on the file
/// systems.
///
/// A symbolic link is judged by the directories that it leads through. Where the second name of a file is nobody knows
/// without a search that a guest can outrun, but hard links do not leave a file system: the file is refused where
/// some worker writes on one that the tree lies on.
pub(in crate::control) fn in_doubt(
    ground: &Ground,
    doubtful: &BTreeMap<Name, Vec<(PathBuf, Doubt)>>,
    given: &[Writable],
    known: &Known,
) -> Vec<(Name, PathBuf, Doubt)> {
    let files = doubtful.iter().flat_map(|(name, files)| files.iter().map(move |(path, doubt)| (name, path, *doubt)));
    let site = Site::survey(ground);
    let judged = files.filter(|(_, path, doubt)| match (&site, doubt) {
        // What cannot be looked at is trusted only where nobody writes.
        (Err(_), _) => !given.is_empty(),
        (Ok(site), Doubt::SecondName) => site.is_written_on(given),
        (Ok(site), Doubt::Link) => site.leads_to_a_guest(path, known),
    });
    judged.map(|(name, path, doubt)| (name.clone(), path.clone(), doubt)).collect()
}

/// The first of the links that name the tree which a worker may have made: it lies where some worker may write, or could
/// at any time since the database was made. Asked before a tree is taken: where there is none, no worker can move a link
/// afterwards either, for what holds one is not granted. Blocks on the file systems.
///
/// # Errors
/// It cannot be found out.
pub(in crate::control) fn link_of_a_guest(
    ground: &Ground,
    given: Vec<GrantedRecord>,
) -> Result<Option<PathBuf>, Refused> {
    if ground.named == ground.tree || given.is_empty() {
        return Ok(None);
    }
    let site = Site::survey(ground)?;
    if site.links.as_ref().is_ok_and(Vec::is_empty) {
        return Ok(None);
    }
    let forgotten = given.len() > bounds::GRANTED_MAX;
    let (writable, unseen) = recalled(given.into_iter().map(Writable::from).collect());
    let known = Known { writable, unseen, forgotten, ..Known::default() };
    let links = site.links.as_ref().map_err(Clone::clone)?;
    Ok(links.iter().find(|link| site.is_a_guests(link, &known)).map(|link| link.path.clone()))
}

/// What they show now, and the file systems of those that did not answer in time: each is asked beside the others.
fn recalled(mut given: Vec<Writable>) -> (Vec<Writable>, BTreeSet<u64>) {
    let mut systems: BTreeMap<u64, Vec<(usize, Writable)>> = BTreeMap::new();
    for (at, writable) in given.iter().enumerate() {
        systems.entry(writable.identity.device).or_default().push((at, writable.clone()));
    }
    let mut unseen: Vec<u64> = given.iter().map(|writable| writable.identity.device).collect();
    // Room for all there are: none waits for it.
    let (tell, seen) = std::sync::mpsc::sync_channel(given.len());
    for given in systems.into_values() {
        let tell = tell.clone();
        let _begun = Beside::default().begin(move || recall(given).try_for_each(|found| tell.try_send(found)).is_ok());
    }
    drop(tell);
    while let Ok((at, reach)) = seen.recv_timeout(bounds::GRANT_TIME / 2) {
        given[at].reach = reach;
        unseen[at] = u64::MAX;
    }
    (given, unseen.into_iter().filter(|device| *device != u64::MAX).collect())
}

impl Site {
    fn is_written_on(&self, given: &[Writable]) -> bool {
        let has_tree = |place: &Place| self.tree.reach.iter().any(|tree| tree.device == place.device);
        given.iter().any(|writable| writable.reach.is_empty() || writable.reach.iter().any(has_tree))
    }

    fn leads_to_a_guest(&self, path: &Path, known: &Known) -> bool {
        // A file that is gone meanwhile is found so at the next look.
        let ways = ways(path, &self.mounts).unwrap_or_default();
        ways.iter().any(|way| self.is_a_guests(way, known))
    }
}
