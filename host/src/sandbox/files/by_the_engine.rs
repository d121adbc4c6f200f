//! Opening where the system has no `openat2`: by the engine's own, which walks part by part. A path is asked what it
//! leads to first. A second worker can exchange that in between for a pipe that lies in both their grants, and hold a
//! thread for files with it.

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorType, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};

use super::super::instance::State;
use super::Refused;
use super::opening::{self, Open};

pub(super) async fn open_at(
    state: &mut State,
    directory: &Resource<Descriptor>,
    open: Open,
) -> Result<Resource<Descriptor>, Refused> {
    let Open { follow, path, open_flags, flags } = open;
    if !opening::has_room_for_descriptors() {
        return Err(ErrorCode::Quota.into());
    }
    let makes = open_flags.contains(OpenFlags::CREATE);
    asked(state, directory, follow, &path, makes).await?;
    let opened = state.filesystem().open_at(borrowed(directory), path_flags(follow), path, open_flags, flags).await;
    Ok(opened?)
}

pub(super) async fn set_times_at(
    state: &mut State,
    directory: &Resource<Descriptor>,
    follow: bool,
    path: String,
    [accessed, modified]: [NewTimestamp; 2],
) -> Result<(), Refused> {
    if follow {
        asked(state, directory, follow, &path, false).await?;
    }
    let set = state.filesystem().set_times_at(borrowed(directory), path_flags(follow), path, accessed, modified).await;
    Ok(set?)
}

/// An error unless the path leads to what can be opened without waiting.
async fn asked(
    state: &mut State,
    directory: &Resource<Descriptor>,
    follow: bool,
    path: &str,
    may_be_absent: bool,
) -> Result<(), Refused> {
    let found = state.filesystem().stat_at(borrowed(directory), path_flags(follow), path.to_owned()).await;
    match found.map_err(Refused::from) {
        Ok(found) => match found.type_ {
            DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => Ok(()),
            _ => Err(ErrorCode::Unsupported.into()),
        },
        Err(Refused::Told(ErrorCode::NoEntry)) if may_be_absent => Ok(()),
        Err(refused) => Err(refused),
    }
}

fn borrowed(directory: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(directory.rep())
}

fn path_flags(follow: bool) -> PathFlags {
    if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() }
}
