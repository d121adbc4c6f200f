//! Opening what lies in a granted directory.
//!
//! The engine's own opens as it comes: the opening of a pipe waits in the kernel until somebody opens its other end,
//! and holds a thread until then, whatever becomes of the guest. Here nothing is waited for, and what was opened is
//! asked what it is: a guest gets regular files and directories.

use std::fs::File as SystemFile;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::{Dir, File, FsPerms, OpenMode};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags};
use wasmtime_wasi::runtime::spawn_blocking;

use crate::base::bounds;

/// What a worker's log says of a descriptor that it did not get.
pub(super) const NO_DESCRIPTOR: &str = "no file, directory or socket was opened: workers have as many open as the \
    host lets them, which is half of its limit of descriptors (`ulimit -n`)";

/// How often a path is looked up while directories are renamed beside it, or somebody is to give back a lease of the
/// file; after the first few, with [`LOOKUP_PAUSE`] between them.
const LOOKUPS_MAX: u32 = 256;
const LOOKUPS_AT_ONCE: u32 = 16;
const LOOKUP_PAUSE: Duration = Duration::from_millis(4);

pub(super) struct Open {
    pub follow: bool,
    pub path: String,
    pub open_flags: OpenFlags,
    pub flags: DescriptorFlags,
}

pub(super) enum Opened {
    Directory(Dir),
    File(File),
}

impl Open {
    pub async fn at(self, directory: &Dir) -> Result<Opened, ErrorCode> {
        let Open { follow, path, open_flags, flags } = self;
        let synchronous = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(synchronous) {
            return Err(ErrorCode::Unsupported);
        }
        let creates = open_flags.contains(OpenFlags::CREATE);
        let is_directory = open_flags.contains(OpenFlags::DIRECTORY);
        let alters = creates || open_flags.contains(OpenFlags::TRUNCATE);
        if is_directory && (alters || open_flags.contains(OpenFlags::EXCLUSIVE)) {
            return Err(ErrorCode::Invalid);
        }
        let writes = alters || flags.contains(DescriptorFlags::WRITE);
        if writes && directory.perms != FsPerms::ReadWrite {
            return Err(ErrorCode::NotPermitted);
        }
        // Without writing it is opened for reading, and the mode that is kept with it refuses the rest.
        let reads = flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE);
        let (mode, access) = match (reads, writes) {
            (true, true) => (OpenMode::READ | OpenMode::WRITE, OFlags::RDWR),
            (false, true) => (OpenMode::WRITE, OFlags::WRONLY),
            _ => (OpenMode::READ, OFlags::RDONLY),
        };
        let mut how = access;
        how.set(OFlags::CREATE, creates);
        how.set(OFlags::EXCL, creates && open_flags.contains(OpenFlags::EXCLUSIVE));
        how.set(OFlags::TRUNC, open_flags.contains(OpenFlags::TRUNCATE));
        how.set(OFlags::NOFOLLOW, !follow);

        let start = directory.dir.clone();
        let (file, found) = spawn_blocking(move || opened(&start, &path, how)).await?;
        let perms = directory.perms;
        match found {
            FileType::Directory => Ok(Opened::Directory(Dir::new(file, perms, mode, false))),
            _ if is_directory => Err(ErrorCode::NotDirectory),
            FileType::RegularFile => Ok(Opened::File(File::new(file, perms, mode, false))),
            _ => Err(ErrorCode::Unsupported),
        }
    }
}

/// A descriptor, and what it is of.
fn opened(start: &SystemFile, path: &str, how: OFlags) -> Result<(SystemFile, FileType), ErrorCode> {
    // Nothing is altered for a descriptor that is then refused.
    if how.intersects(OFlags::CREATE | OFlags::TRUNC) && !has_room_for_descriptors() {
        return Err(ErrorCode::Quota);
    }
    // Already the opening of a pipe or a device does something to it.
    let mut asking = OFlags::PATH;
    asking.set(OFlags::NOFOLLOW, how.contains(OFlags::NOFOLLOW));
    match beneath(start, path, asking) {
        Ok(found) => match FileType::from_raw_mode(rustix::fs::fstat(&found).map_err(told)?.st_mode) {
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {}
            _ => return Err(ErrorCode::Unsupported),
        },
        Err(ErrorCode::NoEntry) if how.contains(OFlags::CREATE) => {}
        Err(refused) => return Err(refused),
    }
    let file = beneath(start, path, how | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let file = SystemFile::from(within_share(file)?);
    let found = rustix::fs::fstat(&file).map_err(told)?;
    Ok((file, FileType::from_raw_mode(found.st_mode)))
}

/// Sets the times of what a path leads to, which is neither read nor written for it. With `follow` unset it may be a
/// link.
pub(super) async fn set_times(
    directory: &Dir,
    follow: bool,
    path: String,
    times: [NewTimestamp; 2],
) -> Result<(), ErrorCode> {
    if directory.perms != FsPerms::ReadWrite {
        return Err(ErrorCode::NotPermitted);
    }
    let [accessed, modified] = times;
    let times = Timestamps { last_access: timespec(accessed)?, last_modification: timespec(modified)? };
    let start = directory.dir.clone();
    spawn_blocking(move || {
        let mut how = OFlags::PATH;
        how.set(OFlags::NOFOLLOW, !follow);
        let found = beneath(&start, &path, how)?;
        match rustix::fs::utimensat(&found, "", &times, AtFlags::EMPTY_PATH) {
            // Before Linux 5.8.
            Err(Errno::INVAL) if follow => {
                let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
                rustix::fs::utimensat(CWD, itself, &times, AtFlags::empty())
            }
            done => done,
        }
        .map_err(told)
    })
    .await
}

fn timespec(time: NewTimestamp) -> Result<Timespec, ErrorCode> {
    Ok(match time {
        NewTimestamp::NoChange => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        NewTimestamp::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        NewTimestamp::Timestamp(time) => {
            let (carried, nanoseconds) = (time.nanoseconds / 1_000_000_000, time.nanoseconds % 1_000_000_000);
            let seconds = time.seconds.checked_add(carried.into()).and_then(|seconds| i64::try_from(seconds).ok());
            Timespec { tv_sec: seconds.ok_or(ErrorCode::Overflow)?, tv_nsec: nanoseconds.into() }
        }
    })
}

/// Whether the system looks paths up below a directory (`openat2`, Linux 5.6). Filters of system calls say that it may
/// not, or that it does not.
pub(super) fn below() -> bool {
    static ASKED: LazyLock<bool> = LazyLock::new(|| {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        !matches!(rustix::fs::openat2(CWD, ".", how, Mode::empty(), BELOW), Err(Errno::NOSYS | Errno::PERM))
    });
    *ASKED
}

const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Opens what a path leads to, which cannot be outside of `start`.
fn beneath(start: &SystemFile, path: &str, how: OFlags) -> Result<OwnedFd, ErrorCode> {
    let mode = if how.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    for lookup in 0..LOOKUPS_MAX {
        if lookup >= LOOKUPS_AT_ONCE {
            std::thread::sleep(LOOKUP_PAUSE);
        }
        match rustix::fs::openat2(start, path, how | OFlags::CLOEXEC, mode, BELOW) {
            // A directory was renamed meanwhile, and the kernel could not tell whether the path stays below; or somebody
            // holds a lease of the file, and is asked to give it back.
            Err(Errno::AGAIN) => continue,
            // It leads outside.
            Err(Errno::XDEV) => return Err(ErrorCode::NotPermitted),
            // A pipe that nobody reads, opened for writing.
            Err(Errno::NXIO) => return Err(ErrorCode::Unsupported),
            opened => return opened.map_err(told),
        }
    }
    Err(ErrorCode::Busy)
}

/// Descriptors of guests have small numbers: the system gives the lowest that is free. So no guest takes those that
/// the host keeps back for itself, however many guests there are.
pub(super) fn within_share(descriptor: OwnedFd) -> Result<OwnedFd, ErrorCode> {
    if share_of(&descriptor) { Ok(descriptor) } else { Err(ErrorCode::Quota) }
}

/// Whether another descriptor would be one that guests may have.
pub(super) fn has_room_for_descriptors() -> bool {
    let probe = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    probe.is_ok_and(|probe| share_of(&probe))
}

fn share_of(descriptor: &OwnedFd) -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(u64::MAX);
    limit.is_none_or(|limit| number < limit / bounds::GUESTS_DESCRIPTORS_SHARE)
}

pub(super) fn told(error: Errno) -> ErrorCode {
    match error {
        // The process or the system has no descriptor left.
        Errno::MFILE | Errno::NFILE => ErrorCode::Quota,
        error => ErrorCode::from(std::io::Error::from(error)),
    }
}
