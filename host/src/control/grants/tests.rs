use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A file system that does not answer: as long as there is a file `.hang`.
pub(super) fn hang(path: &Path) {
    while path.join(".hang").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A tree with its state in it, and a place beside it.
struct World {
    dir: tempfile::TempDir,
    ground: Ground,
}

impl World {
    fn new(made: &[&str]) -> World {
        let dir = tempfile::tempdir().unwrap();
        for path in ["workers/.paguro/cache"].iter().chain(made) {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let tree = dir.path().join("workers");
        let ground = Ground { state: tree.join(".paguro"), named: tree.clone(), tree };
        World { dir, ground }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn grant(&self, host: &str, access: Access) -> DirectoryGrant {
        DirectoryGrant { host: self.path(host), guest: format!("/{host}"), access, opened: None }
    }

    fn open_all(&self, grants: &[(&str, Access)], known: &Known) -> Result<Opened, Refused> {
        let directories = grants.iter().map(|(host, access)| self.grant(host, *access)).collect();
        open(&self.ground, &Grants { directories, ..Grants::default() }, &Grants::default(), known)
    }

    fn open(&self, host: &str, access: Access) -> Result<Opened, Refused> {
        self.open_all(&[(host, access)], &Known::default())
    }
}

use Access::{Read, ReadWrite};

fn why(opened: Result<Opened, Refused>) -> String {
    opened.err().map(|refused| refused.message).unwrap_or_default()
}

#[test]
fn what_would_let_a_worker_grant_itself_more_is_refused() {
    let world = World::new(&["workers/data", "workers/.data", "outside"]);
    symlink(&world.ground.state, world.path("link")).unwrap();
    symlink(&world.ground.tree, world.path("tree-link")).unwrap();
    symlink(world.path("outside"), world.path("good-link")).unwrap();
    let cases = [
        ("outside", ReadWrite, false),
        ("good-link", ReadWrite, false),
        ("workers/.data", ReadWrite, false),
        ("workers/data", Read, false),
        ("workers/data", ReadWrite, true),
        ("workers/not-there-yet", ReadWrite, true),
        ("not-there", Read, true),
        ("outside/../workers/data", ReadWrite, true),
        ("workers/.paguro/cache", Read, true),
        ("link", Read, true),
        ("tree-link", ReadWrite, true),
        ("workers", Read, true),
        (".", Read, true),
        ("/", Read, true),
    ];
    for (host, access, expected) in cases {
        assert_eq!(world.open(host, access).is_err(), expected, "{host} {access:?}");
    }
}

#[test]
fn what_was_opened_stays_whatever_takes_its_place() {
    let world = World::new(&["shared/b"]);
    let opened = world.open("shared/b", ReadWrite).ok().unwrap();
    let identity = opened.grants.directories[0].opened.as_ref().unwrap().identity();
    fs::rename(world.path("shared/b"), world.path("shared/c")).unwrap();
    symlink("../workers", world.path("shared/b")).unwrap();
    // The settings are read again and say the same.
    let again =
        open(&world.ground, &world.open("shared", Read).ok().unwrap().grants, &Grants::default(), &Known::default());
    assert!(again.is_ok());
    let wanted = Grants { directories: vec![world.grant("shared/b", ReadWrite)], ..Grants::default() };
    let kept = open(&world.ground, &wanted, &opened.grants, &Known::default()).ok().unwrap();
    assert_eq!(kept.grants.directories[0].opened.as_ref().unwrap().identity(), identity);
    assert_eq!(recheck(&world.ground, &kept.grants), Since::Moved(world.path("shared/b")));
    // A worker that has it not yet is refused.
    assert!(open(&world.ground, &wanted, &Grants::default(), &Known::default()).is_err());
}

#[test]
fn a_link_that_a_worker_can_have_made_is_not_followed() {
    let world = World::new(&["shared", "elsewhere"]);
    symlink(world.path("elsewhere"), world.path("shared/b")).unwrap();
    let open = |known: &Known| world.open_all(&[("shared/b", Read)], known);
    assert!(open(&Known::default()).is_ok(), "nobody could make it but the operator");
    let wanted = Known { wanted: vec![world.path("shared")], ..Known::default() };
    assert!(why(open(&wanted)).contains("is a symbolic link where a worker can write"), "{}", why(open(&wanted)));
    let writable = world.open("shared", ReadWrite).ok().unwrap().writable;
    let once = Known { writable, ..Known::default() };
    assert!(open(&once).is_err(), "one that could write there once");
    let before = Writable { reach: Vec::new(), ..once.writable[0].clone() };
    let recalled: Vec<_> = recall(vec![(7, before)]).collect();
    assert_eq!(recalled, [(7, once.writable[0].reach.clone())]);
    let device = once.writable[0].identity.device;
    assert!(open(&Known { unseen: [device].into(), ..Known::default() }).is_err(), "its file system did not answer");
    assert!(open(&Known { unseen: [device + 1].into(), ..Known::default() }).is_ok(), "another did not");
    assert!(open(&Known { forgotten: true, ..Known::default() }).is_err());
    fs::rename(world.path("shared"), world.path("renamed")).unwrap();
    assert!(world.open_all(&[("renamed/b", Read)], &once).is_err(), "by what it is, not by its path");
}

#[test]
fn a_worker_cannot_have_a_directory_and_one_that_it_can_move() {
    let world = World::new(&["shared/b", "other"]);
    let both = |outer, inner| world.open_all(&[("shared", outer), ("shared/b", inner)], &Known::default());
    assert!(why(both(ReadWrite, Read)).contains("the worker could move it"));
    assert!(why(both(ReadWrite, ReadWrite)).contains("the worker could move it"));
    assert!(both(Read, ReadWrite).is_ok(), "it can read all and write a part");
    assert!(world.open_all(&[("shared", ReadWrite), ("other", ReadWrite)], &Known::default()).is_ok());
    let twice = world.open_all(&[("shared", ReadWrite), ("other/../shared", Read)], &Known::default());
    assert!(twice.is_ok(), "one directory under two names");
}

#[test]
fn a_tree_that_is_moved_into_a_grant_is_found() {
    let world = World::new(&["shared"]);
    let opened = world.open("shared", ReadWrite).ok().unwrap();
    assert_eq!(recheck(&world.ground, &opened.grants), Since::Same);
    fs::rename(&world.ground.tree, world.path("shared/workers")).unwrap();
    let tree = world.path("shared/workers");
    let moved = Ground { state: tree.join(".paguro"), named: tree.clone(), tree };
    assert!(matches!(recheck(&moved, &opened.grants), Since::Refused(_)));
}

#[test]
fn a_grant_that_is_removed_and_made_again_is_another() {
    let world = World::new(&["data"]);
    let opened = world.open("data", ReadWrite).ok().unwrap();
    fs::remove_dir(world.path("data")).unwrap();
    assert_eq!(recheck(&world.ground, &opened.grants), Since::Moved(world.path("data")));
    fs::create_dir(world.path("data")).unwrap();
    assert_eq!(recheck(&world.ground, &opened.grants), Since::Moved(world.path("data")));
    let kept = open(&world.ground, &opened.grants, &opened.grants, &Known::default());
    assert!(kept.is_ok(), "what was removed can be kept");
    let anew = open(&world.ground, &opened.grants, &Grants::default(), &Known::default()).ok().unwrap();
    assert_eq!(recheck(&world.ground, &anew.grants), Since::Same);
}

#[test]
fn a_parent_that_is_renamed_changes_nothing() {
    let world = World::new(&["parent/data"]);
    let opened = world.open("parent/data", ReadWrite).ok().unwrap();
    fs::rename(world.path("parent"), world.path("renamed")).unwrap();
    symlink("workers", world.path("parent")).unwrap();
    assert_eq!(recheck(&world.ground, &opened.grants), Since::Moved(world.path("parent/data")));
    fs::write(world.path("renamed/data/file"), "x").unwrap();
    let handle = opened.grants.directories[0].opened.as_ref().unwrap();
    assert!(rustix::fs::statat(handle.file(), "file", rustix::fs::AtFlags::empty()).is_ok());
}

/// Bind mounts need rights that tests seldom have: the table of mounts is made up.
mod mounted {
    use super::*;

    fn lot(path: &str, reach: &[(&str, &str)]) -> Lot {
        let place = |(device, path): &(&str, &str)| Place { device: (*device).into(), path: (*path).into() };
        let inode = reach.iter().flat_map(|(device, path)| device.bytes().chain(path.bytes()));
        let identity = Identity { device: 1, inode: inode.fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte)) };
        Lot { path: path.into(), identity, above: Vec::new(), reach: reach.iter().map(place).collect() }
    }

    fn check(grant: &Lot, access: Access) -> bool {
        let tree = lot("/srv/workers", &[("8:1", "/srv/workers"), ("8:2", "/part")]);
        let state = lot("/srv/workers/.paguro", &[("8:1", "/srv/workers/.paguro")]);
        let mounts = Mounts::now().unwrap();
        let granted = DirectoryGrant { host: grant.path.clone(), guest: "/data".into(), access, opened: None };
        Site { tree, state, links: Ok(Vec::new()), mounts }.check(&granted, grant).is_ok()
    }

    #[test]
    fn a_bind_mount_of_what_may_not_be_granted_is_refused() {
        let cases = [
            ("of the tree", lot("/mnt/a", &[("8:1", "/srv/workers")]), false, false),
            ("of a folder in it", lot("/mnt/a", &[("8:1", "/srv/workers/sub")]), true, false),
            ("of a hidden one", lot("/mnt/a", &[("8:1", "/srv/workers/.data")]), true, true),
            ("of what lies above", lot("/mnt/a", &[("8:1", "/srv")]), false, false),
            ("of the state", lot("/mnt/a", &[("8:1", "/srv/workers/.paguro/cache")]), false, false),
            ("that holds one of the tree", lot("/data", &[("8:3", "/"), ("8:1", "/srv/workers/sub")]), true, false),
            (
                "that holds one of the state",
                lot("/data", &[("8:3", "/"), ("8:1", "/srv/workers/.paguro")]),
                false,
                false,
            ),
            ("of what is mounted in the tree", lot("/data", &[("8:2", "/")]), true, false),
            ("of another file system", lot("/data", &[("8:3", "/srv/workers")]), true, true),
            ("of a neighbour", lot("/data", &[("8:1", "/srv/workers2")]), true, true),
            ("in a hidden entry", lot("/srv/workers/.data", &[("8:9", "/")]), true, true),
        ];
        for (what, grant, for_reading, for_writing) in cases {
            assert_eq!(check(&grant, Read), for_reading, "{what}, for reading");
            assert_eq!(check(&grant, ReadWrite), for_writing, "{what}, for writing");
        }
    }
}
