//! Which directories may be granted, and the opening of them: once, before anything uses them.
//!
//! A worker must never reach the host's state, nor write where it could put workers or settings, or it would grant
//! itself what it likes. Why it cannot:
//!
//! 1. A grant is opened here, part by part, and what was opened is what is checked and what every instance gets
//!    (`sandbox::preopens`). No path is looked up between the check and the use, nor after it.
//! 2. The check asks what the opened directory *is* (device and inode), what lies above it, and which part of which
//!    file system it and the mounts below it show. A link, a bind mount or another name changes none of that.
//! 3. A guest stays in what was opened: the engine resolves its paths beneath the handle (`openat2` with
//!    `RESOLVE_BENEATH`). It can rename within and between its grants only, and neither the tree nor the state nor
//!    anything above them lies in a grant by 2, so it cannot bring them into one.
//! 4. A guest can put links where it may write, and the host opens paths anew after a change of the settings or a start
//!    of the host. So no symbolic link is followed that lies in or below a directory which some worker may write,
//!    or could write at any time since the database was made: `Known::writable` is written before a handle is given.
//!    What remains are links that no guest has made.
//! 5. Within such a directory a guest can put another of *its* directories in the place of one that is granted to a
//!    second worker. That one stays with the handle that it has. When its settings are taken anew it gets what lies
//!    there, which the guest could write before: nobody reaches more than the two could reach together.
//! 6. Hard links: a guest can link files between its own grants. A settings file or component that has a second name
//!    may have it in a grant, so it is not taken while a worker can write on its file system; nor is one that is a
//!    symbolic link through a directory that a worker can write (`linked`).
//!
//! What changes the tree or the mounts outside of any guest (an operator who moves the tree into a grant) is found by
//! [`recheck`], at every look.

mod linked;
mod mounts;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use self::linked::{in_doubt, link_of_a_guest};
use self::mounts::Mounts;
pub(super) use self::mounts::Place;
use self::walk::{Link, walk};
use crate::record::GrantedRecord;
use crate::sandbox::{Access, DirectoryGrant, Grants, Identity, OpenedDirectory};

/// What may never be granted.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// The directory of workers.
    pub tree: PathBuf,
    /// The path that names it, perhaps by symbolic links.
    pub named: PathBuf,
    /// The host's own state.
    pub state: PathBuf,
}

/// A directory that some worker may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writable {
    pub path: PathBuf,
    pub identity: Identity,
    /// What it shows; nothing where that could not be found out.
    pub reach: Vec<Place>,
}

impl From<GrantedRecord> for Writable {
    fn from(record: GrantedRecord) -> Writable {
        let identity = Identity { device: record.device, inode: record.inode };
        Writable { path: record.path.into(), identity, reach: Vec::new() }
    }
}

/// Which directories workers may write, or could.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Given for writing at any time since the database was made.
    pub writable: Vec<Writable>,
    /// Asked for now by any settings in the tree.
    pub wanted: Vec<PathBuf>,
    /// File systems of such directories whose paths did not answer: every link there may be a guest's.
    pub unseen: BTreeSet<u64>,
    /// More were given than are remembered: every link may be a guest's.
    pub forgotten: bool,
}

/// Why grants are refused: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub message: String,
    pub help: String,
}

fn refused(message: impl Into<String>, help: impl Into<String>) -> Refused {
    Refused { message: message.into(), help: help.into() }
}

/// Grants with their directories opened and checked.
pub(super) struct Opened {
    pub grants: Grants,
    /// Those of them that may be written.
    pub writable: Vec<Writable>,
}

/// Opens what `grants` name. A grant that is written in `kept` in the same way keeps the directory it has there.
/// Blocks on the file systems.
pub(super) fn open(ground: &Ground, grants: &Grants, kept: &Grants, known: &Known) -> Result<Opened, Refused> {
    let site = Site::survey(ground)?;
    // One that leads nowhere just now may be a link of a guest's the next moment.
    site.links.as_ref().map_err(Clone::clone)?;
    let mut grants = grants.clone();
    let mut lots = Vec::new();
    for grant in &mut grants.directories {
        let before = kept.directories.iter().find(|other| *other == grant).and_then(|other| other.opened.clone());
        let directory = match before {
            Some(directory) => directory,
            None => Arc::new(site.open(grant, known)?),
        };
        let lot = Lot::of(directory.file(), directory.identity(), &site.mounts, Hidden::Counts);
        grant.opened = Some(directory);
        match lot {
            Ok(lot) => {
                site.check(grant, &lot)?;
                lots.push((grant.clone(), lot));
            }
            // One that was removed has nothing in it and nothing above it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unknown(grant, &error)),
        }
    }
    overlap(&lots)?;
    let writable = lots.into_iter().filter(|(grant, _)| grant.access == Access::ReadWrite);
    let writable = writable.map(|(_, lot)| Writable { path: lot.path, identity: lot.identity, reach: lot.reach });
    Ok(Opened { writable: writable.collect(), grants })
}

/// What became of grants since they were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The path leads to the directory that was opened.
    Same,
    /// It leads to another one, or to none: what was opened was moved or removed.
    Moved(PathBuf),
    /// It could not be given now.
    Refused(Refused),
}

/// Looks at opened grants again. Blocks on the file systems.
pub(super) fn recheck(ground: &Ground, grants: &Grants) -> Since {
    let site = match Site::survey(ground) {
        Ok(site) => site,
        // The tree or the state cannot be looked at: that is not the grants' fault, and others say so.
        Err(_) => return Since::Same,
    };
    let mut since = Since::Same;
    for grant in &grants.directories {
        let Some(opened) = &grant.opened else { continue };
        let lot = Lot::of(opened.file(), opened.identity(), &site.mounts, Hidden::Counts);
        if let Ok(lot) = &lot
            && let Err(refused) = site.check(grant, lot)
        {
            return Since::Refused(refused);
        }
        let there = walk(&grant.host, &site.mounts).map(|walked| walked.directory.identity());
        if lot.is_err() || there.ok() != Some(opened.identity()) {
            since = Since::Moved(grant.host.clone());
        }
    }
    since
}

/// What directories that were given for writing in an earlier run show now, where they can still be found. Each is
/// looked for when it is asked for: the file system of one can hang.
pub(super) fn recall(given: Vec<(usize, Writable)>) -> impl Iterator<Item = (usize, Vec<Place>)> {
    let mounts = Mounts::now();
    given.into_iter().map(move |(at, Writable { path, identity, .. })| {
        #[cfg(test)]
        tests::hang(&path);
        let found = || {
            let mounts = mounts.as_ref().ok()?;
            let walked = walk(&path, mounts).ok().filter(|walked| walked.directory.identity() == identity)?;
            Lot::of(walked.directory.file(), identity, mounts, Hidden::Counts).ok()
        };
        (at, found().map(|lot| lot.reach).unwrap_or_default())
    })
}

/// Whether what is mounted in hidden entries is a part of a directory. It is none of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hidden {
    Counts,
    IsApart,
}

/// What a directory is and where it lies.
struct Lot {
    path: PathBuf,
    identity: Identity,
    above: Vec<Identity>,
    /// Its place, and what is mounted below it.
    reach: Vec<Place>,
}

impl Lot {
    fn of(directory: &File, identity: Identity, mounts: &Mounts, hidden: Hidden) -> io::Result<Lot> {
        let (path, place) = mounts.find(directory)?;
        let mut reach = vec![place];
        let below = mounts.below(&path).filter(|(below, _)| hidden == Hidden::Counts || !is_hidden(below));
        reach.extend(below.map(|(_, shown)| shown.clone()));
        Ok(Lot { above: walk::above(directory)?, path, identity, reach })
    }

    fn is_or_lies_in(&self, other: &Lot) -> bool {
        self.identity == other.identity
            || self.above.contains(&other.identity)
            || self.reach.iter().any(|place| other.reach.iter().any(|shown| shown.covers(place)))
    }
}

/// Hidden entries are no part of the tree.
fn is_hidden(below: &Path) -> bool {
    below.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// The tree, the state and the mounts as they are now.
struct Site {
    tree: Lot,
    state: Lot,
    /// The links by which the tree is named: whoever moves one says what the host runs.
    links: Result<Vec<Link>, Refused>,
    mounts: Mounts,
}

impl Site {
    fn survey(ground: &Ground) -> Result<Site, Refused> {
        let mounts = Mounts::now().map_err(|error| {
            refused(
                format!("no directory can be granted: /proc/self/mountinfo cannot be read: {error}"),
                "mount /proc: the host reads there which paths show one directory",
            )
        })?;
        let lot = |path: &Path, hidden| {
            let walked = walk(path, &mounts)?;
            Lot::of(walked.directory.file(), walked.directory.identity(), &mounts, hidden)
        };
        let cannot = |path: &Path| {
            let path = path.display().to_string();
            move |error| refused(format!("no directory can be granted while {path} cannot be looked at: {error}"), "")
        };
        let tree = lot(&ground.tree, Hidden::IsApart).map_err(cannot(&ground.tree))?;
        let state = lot(&ground.state, Hidden::Counts).map_err(cannot(&ground.state))?;
        let links = walk(&ground.named, &mounts).map(|walked| walked.links).map_err(cannot(&ground.named));
        Ok(Site { tree, state, links, mounts })
    }

    fn open(&self, grant: &DirectoryGrant, known: &Known) -> Result<OpenedDirectory, Refused> {
        let shown = grant.host.display();
        let walked = walk(&grant.host, &self.mounts).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                refused(format!("there is no directory {shown} to grant"), "make it, or name another")
            }
            _ => refused(format!("the directory {shown} cannot be opened: {error}"), "look at its mode with `ls -ld`"),
        })?;
        match walked.links.iter().find(|link| self.is_a_guests(link, known)) {
            None => Ok(walked.directory),
            Some(link) => Err(refused(
                format!(
                    "the directory {shown} cannot be granted: {} is a symbolic link where a worker can write",
                    link.path.display()
                ),
                "grant the directory that it should lead to, by a path without that link",
            )),
        }
    }

    /// Whether a guest may have made the link: it lies where one can write, or could.
    fn is_a_guests(&self, link: &Link, known: &Known) -> bool {
        let lies_in = |identity: Identity, reach: &[Place]| {
            link.within.contains(&identity) || reach.iter().any(|place| place.covers(&link.place))
        };
        // Whatever those lead to now. What is given later was in nobody's hands before.
        let lies_in_wanted = |path: &PathBuf| {
            let Ok(walked) = walk(path, &self.mounts) else { return false };
            let identity = walked.directory.identity();
            let lot = Lot::of(walked.directory.file(), identity, &self.mounts, Hidden::Counts);
            lot.map_or(true, |lot| lies_in(identity, &lot.reach))
        };
        known.forgotten
            || link.within.last().is_some_and(|within| known.unseen.contains(&within.device))
            || known.writable.iter().any(|writable| lies_in(writable.identity, &writable.reach))
            || known.wanted.iter().any(lies_in_wanted)
    }

    fn check(&self, grant: &DirectoryGrant, lot: &Lot) -> Result<(), Refused> {
        let shown = grant.host.display();
        let (tree, state) = (&self.tree, &self.state);
        if lot.is_or_lies_in(state) || state.is_or_lies_in(lot) {
            return Err(refused(
                format!("the directory {shown} cannot be granted: the host keeps its own state there"),
                "grant a directory outside the tree of workers",
            ));
        }
        let has_link = |link: &Link| {
            link.within.contains(&lot.identity) || lot.reach.iter().any(|place| place.covers(&link.place))
        };
        if grant.access == Access::ReadWrite
            && let Some(link) = self.links.iter().flatten().find(|link| has_link(link))
        {
            let message = format!(
                "the directory {shown} cannot be granted for writing: the link {} lies there, which names the directory of \
                 workers",
                link.path.display()
            );
            return Err(refused(message, "grant another directory, or put that link elsewhere"));
        }
        let would_put_workers = tree.is_or_lies_in(lot) || lot.is_or_lies_in(tree) && !is_apart(lot, tree);
        if grant.access == Access::ReadWrite && would_put_workers {
            return Err(refused(
                format!("the directory {shown} cannot be granted for writing: a worker could put workers there"),
                "grant a directory outside the tree, or one whose name starts with `.`",
            ));
        }
        Ok(())
    }
}

/// Whether a directory that lies in the tree lies in a hidden entry of it, by whatever path it is seen.
fn is_apart(lot: &Lot, tree: &Lot) -> bool {
    let by_path = lot.path.strip_prefix(&tree.path).is_ok_and(is_hidden);
    // All that it shows of the tree has to lie in hidden entries.
    let mut shown = lot.reach.iter().flat_map(|place| {
        tree.reach.iter().filter(|part| part.covers(place)).map(|part| place.path.strip_prefix(&part.path))
    });
    let mut some = false;
    let by_place = shown.all(|below| {
        some = true;
        below.is_ok_and(is_hidden)
    });
    by_place && (some || by_path)
}

/// One worker's grants may not lie in each other where it could move the inner one.
fn overlap(lots: &[(DirectoryGrant, Lot)]) -> Result<(), Refused> {
    for (outer, around) in lots.iter().filter(|(grant, _)| grant.access == Access::ReadWrite) {
        let within = |lot: &Lot| lot.identity != around.identity && lot.is_or_lies_in(around);
        if let Some((inner, _)) = lots.iter().find(|(_, lot)| within(lot)) {
            let (inner, outer) = (inner.host.display(), outer.host.display());
            return Err(refused(
                format!("{inner} lies in {outer}, which is granted for writing: the worker could move it"),
                "grant the outer directory alone, or the outer one for reading",
            ));
        }
    }
    Ok(())
}

fn unknown(grant: &DirectoryGrant, error: &io::Error) -> Refused {
    let shown = grant.host.display();
    refused(
        format!("the directory {shown} cannot be granted: the host cannot find out where it lies: {error}"),
        "grant a directory that this process reaches by a path",
    )
}
