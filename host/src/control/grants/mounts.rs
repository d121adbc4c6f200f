//! Where a directory lies in its file system, whatever paths lead to it.
//!
//! A bind mount shows one directory under two paths that have no directory above in common. The kernel's table of
//! mounts tells of each mount which part of which file system it shows, so that a directory's place in its file system
//! can be compared.
//!
//! What this does not see: a file system that is made of another (the layers below an overlay), and a server's
//! directory that is mounted twice as two file systems.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A directory's place in its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Place {
    /// As the kernel writes it: `8:1`.
    pub device: String,
    /// From the root of the file system.
    pub path: PathBuf,
}

impl Place {
    /// Whether `other` is this directory, or lies in it.
    pub fn covers(&self, other: &Place) -> bool {
        self.device == other.device && other.path.starts_with(&self.path)
    }
}

/// The mounts that this process sees, as of one moment.
pub(super) struct Mounts(Vec<Mount>);

struct Mount {
    id: u64,
    shows: Place,
    point: PathBuf,
}

impl Mounts {
    /// # Errors
    /// There is no `/proc`, or it says what nobody understands. Then nothing can be said of any place.
    pub fn now() -> io::Result<Mounts> {
        let table = std::fs::read("/proc/self/mountinfo")?;
        let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| mount(line).ok_or_else(|| io::Error::other("a mount cannot be read")))
            .collect::<Result<_, _>>()
            .map(Mounts)
    }

    /// The path that leads to a directory now, and its place.
    ///
    /// # Errors
    /// It was removed, or this process cannot reach it by any path.
    pub fn find(&self, directory: impl AsFd) -> io::Result<(PathBuf, Place)> {
        let descriptor = directory.as_fd().as_raw_fd();
        if rustix::fs::fstat(&directory)?.st_nlink == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}"))?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        let mount = self.0.iter().find(|mount| Some(mount.id) == id);
        let unknown = || io::Error::other("the mount that it lies on is not known");
        let mount = mount.ok_or_else(unknown)?;
        let below = path.strip_prefix(&mount.point).map_err(|_| unknown())?;
        let place = Place { device: mount.shows.device.clone(), path: joined(&mount.shows.path, below) };
        Ok((path, place))
    }

    /// What is mounted below a path, as the path of each from there and what it shows.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Place)> {
        self.0.iter().filter_map(move |mount| {
            let below = mount.point.strip_prefix(path).ok()?;
            (!below.as_os_str().is_empty()).then_some((below, &mount.shows))
        })
    }
}

/// `join` would end in a slash.
fn joined(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_path_buf() } else { path.join(below) }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime ...`: see proc_pid_mountinfo(5).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let id = text()?.parse().ok()?;
    let _parent = text()?;
    let device = text()?.to_string();
    let mut path = || fields.next().map(unescaped);
    let (root, point) = (path()?, path()?);
    Some(Mount { id, shows: Place { device, path: root }, point })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = (*byte == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(value) => {
                bytes.push(value);
                rest = &after[3..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = br"36 35 98:0 /a\040b /mnt/c\134d rw,noatime master:1 - ext3 /dev/root rw";
        let mount = mount(line).unwrap();
        assert_eq!((mount.id, mount.shows.device.as_str()), (36, "98:0"));
        assert_eq!((mount.shows.path.as_path(), mount.point.as_path()), (Path::new("/a b"), Path::new(r"/mnt/c\d")));
    }

    #[test]
    fn a_directory_is_found_and_a_removed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().canonicalize().unwrap().join("made");
        std::fs::create_dir(&made).unwrap();
        let opened = File::open(&made).unwrap();
        let mounts = Mounts::now().unwrap();
        let (path, place) = mounts.find(&opened).unwrap();
        assert_eq!(path, made);
        let (_, above) = mounts.find(File::open(dir.path()).unwrap()).unwrap();
        assert!(above.covers(&place) && !place.covers(&above) && place.covers(&place));
        std::fs::remove_dir(&made).unwrap();
        assert!(mounts.find(&opened).is_err());
    }
}
