//! Opens a directory part by part, so that every part is known by what was opened and every symbolic link on the way is
//! seen.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::mounts::{Mounts, Place};
use crate::sandbox::{Identity, OpenedDirectory};

/// Symbolic links on one path. More: it is refused, as the kernel does.
const LINKS_MAX: usize = 40;

/// Directories between one and the root of the file system. More: refused. No path that can be written is deeper.
const DEPTH_MAX: usize = 4_096;

/// A directory, and how it was reached.
pub(super) struct Walked {
    pub directory: OpenedDirectory,
    pub links: Vec<Link>,
}

/// A symbolic link that was followed.
pub(super) struct Link {
    pub path: PathBuf,
    /// The directory that it lies in, and all above that.
    pub within: Vec<Identity>,
    /// Of the directory that it lies in.
    pub place: Place,
}

/// Opens what `path` leads to.
///
/// # Errors
/// There is none, it is no directory, or a part of the path cannot be passed.
pub(super) fn walk(path: &Path, mounts: &Mounts) -> io::Result<Walked> {
    let Passed { stack, links } = pass(path, mounts, End::Directory)?;
    Ok(Walked { directory: readable(top(&stack))?, links })
}

/// The links on the way to a file, and last the directory that the file itself lies in, as if it was one.
pub(super) fn ways(path: &Path, mounts: &Mounts) -> io::Result<Vec<Link>> {
    let Passed { stack, mut links } = pass(path, mounts, End::File)?;
    links.push(link(&stack, path.to_path_buf(), mounts)?);
    Ok(links)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Directory,
    File,
}

struct Passed {
    /// The root first.
    stack: Vec<Part>,
    links: Vec<Link>,
}

fn pass(path: &Path, mounts: &Mounts, end: End) -> io::Result<Passed> {
    let start = if path.is_absolute() { path.to_path_buf() } else { std::env::current_dir()?.join(path) };
    let mut stack = vec![Part { name: OsString::new(), directory: open("/")? }];
    let mut links = Vec::new();
    let mut rest = parts(&start);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            // What was passed on the way here, not what lies above it by now.
            stack.truncate(stack.len().saturating_sub(1).max(1));
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(top(&stack), &name, flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::Directory => stack.push(Part { name, directory: found }),
            FileType::Symlink => {
                if links.len() == LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                links.push(link(&stack, shown(&stack).join(&name), mounts)?);
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    stack.truncate(1);
                }
                let mut passed = parts(target);
                passed.append(&mut rest);
                rest = passed;
            }
            _ if end == End::File && rest.is_empty() => break,
            _ => return Err(Errno::NOTDIR.into()),
        }
        if stack.len() > DEPTH_MAX || rest.len() > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
    }
    Ok(Passed { stack, links })
}

fn link(stack: &[Part], path: PathBuf, mounts: &Mounts) -> io::Result<Link> {
    let within = stack.iter().map(|part| identity(&part.directory)).collect::<io::Result<_>>()?;
    Ok(Link { path, within, place: mounts.find(top(stack))?.1 })
}

fn top(stack: &[Part]) -> BorrowedFd<'_> {
    stack.last().map_or_else(|| unreachable!("the root stays"), |part| part.directory.as_fd())
}

/// What lies above a directory now, nearest first, up to the root of the file system.
pub(super) fn above(directory: impl AsFd) -> io::Result<Vec<Identity>> {
    let mut found = Vec::new();
    let mut here = open_at(directory.as_fd(), ".")?;
    let mut last = identity(&here)?;
    while found.len() < DEPTH_MAX {
        here = open_at(here.as_fd(), "..")?;
        let next = identity(&here)?;
        if next == last {
            return Ok(found);
        }
        found.push(next);
        last = next;
    }
    Err(Errno::NAMETOOLONG.into())
}

struct Part {
    name: OsString,
    directory: OwnedFd,
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_os_string()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

fn shown(stack: &[Part]) -> PathBuf {
    Path::new("/").join(stack.iter().map(|part| &part.name).collect::<PathBuf>())
}

fn open(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn open_at(directory: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The same directory, open for reading.
fn readable(directory: impl AsFd) -> io::Result<OpenedDirectory> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    OpenedDirectory::new(File::from(rustix::fs::openat(directory, ".", flags, Mode::empty())?))
}

fn identity(directory: impl AsFd) -> io::Result<Identity> {
    let found = rustix::fs::fstat(directory)?;
    Ok(Identity { device: found.st_dev, inode: found.st_ino })
}
