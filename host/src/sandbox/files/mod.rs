//! `wasi:filesystem/types`, where the engine's own would let a guest hold a thread or the host's memory: opening,
//! listing, and setting times by path. All else of the interface is the engine's.

mod by_the_engine;
mod listing;
mod open;
mod opening;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DirectoryEntry, ErrorCode, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode as SocketError, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{FsError, TcpSocket};
use wasmtime_wasi::sockets::WasiSocketsView;

use self::listing::Listing;
pub(super) use self::open::OpenFiles;
use self::opening::{Open, Opened};
use super::instance::State;
use super::outside::LogLevel;
use crate::base::bounds;

const TYPES: &str = "wasi:filesystem/types@0.2.12";
const TCP_CREATE_SOCKET: &str = "wasi:sockets/tcp-create-socket@0.2.12";

type Done<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Takes the place of the engine's own functions.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let added = define(linker);
    linker.allow_shadowing(false);
    added
}

fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker
        .instance(TCP_CREATE_SOCKET)?
        .func_wrap("create-tcp-socket", |mut store: StoreContextMut<'_, State>, (family,): (IpAddressFamily,)| {
            socket(store.data_mut(), family)
        })?;
    let mut types = linker.instance(TYPES)?;
    types.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Listing>::new_own(rep))?;
        Ok(())
    })?;
    types.resource("descriptor", ResourceType::host::<Descriptor>(), |mut store, rep| {
        let State { table, files, .. } = store.data_mut();
        table.delete(Resource::<Descriptor>::new_own(rep))?;
        files.close();
        Ok(())
    })?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: StoreContextMut<'_, State>, (file, offset): (Resource<Descriptor>, u64)| {
            let state = store.data_mut();
            done(charged(state).and_then(|()| Ok(state.filesystem().read_via_stream(file, offset)?)))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, State>, (file, offset): (Resource<Descriptor>, u64)| {
            let state = store.data_mut();
            done(charged(state).and_then(|()| Ok(state.filesystem().write_via_stream(file, offset)?)))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: StoreContextMut<'_, State>, (file,): (Resource<Descriptor>,)| {
            let state = store.data_mut();
            done(charged(state).and_then(|()| Ok(state.filesystem().append_via_stream(file)?)))
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, State>,
         (directory, path_flags, path, open_flags, flags): (_, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move {
                let open = Open { follow: path_flags.contains(PathFlags::SYMLINK_FOLLOW), path, open_flags, flags };
                done(open_at(store.data_mut(), &directory, open).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-times-at",
        |mut store: StoreContextMut<'_, State>,
         (directory, path_flags, path, accessed, modified): (_, PathFlags, String, NewTimestamp, NewTimestamp)| {
            Box::new(async move {
                let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
                done(set_times_at(store.data_mut(), &directory, follow, path, [accessed, modified]).await)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move { done(read_directory(store.data_mut(), &directory).await) })
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, State>, (listing,): (Resource<Listing>,)| {
            Box::new(async move { done(next_entry(store.data_mut(), &listing).await) })
        },
    )?;
    Ok(())
}

/// Why a guest's call gave nothing.
enum Refused {
    /// The guest is told.
    Told(ErrorCode),
    /// It broke a rule of its resources, and traps.
    Trap(wasmtime::Error),
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused::Told(code)
    }
}

impl From<FsError> for Refused {
    fn from(error: FsError) -> Refused {
        match error.downcast() {
            Ok(code) => Refused::Told(code),
            Err(trap) => Refused::Trap(trap),
        }
    }
}

impl From<wasmtime::component::ResourceTableError> for Refused {
    fn from(error: wasmtime::component::ResourceTableError) -> Refused {
        Refused::Trap(error.into())
    }
}

fn done<T>(result: Result<T, Refused>) -> Done<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(Refused::Told(code)) => Ok((Err(code),)),
        Err(Refused::Trap(error)) => Err(error),
    }
}

/// Charges one more of what can be open, before it is.
fn charged(state: &mut State) -> Result<(), Refused> {
    let cost = state.files.cost() + bounds::FILE_HANDLE_BYTES;
    if state.meter.covers_files(cost) { Ok(()) } else { Err(ErrorCode::InsufficientMemory.into()) }
}

fn directory_of(state: &State, descriptor: &Resource<Descriptor>) -> Result<Dir, Refused> {
    match state.table.get(descriptor)? {
        Descriptor::Dir(dir) => Ok(dir.clone()),
        Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
    }
}

async fn open_at(
    state: &mut State,
    directory: &Resource<Descriptor>,
    open: Open,
) -> Result<Resource<Descriptor>, Refused> {
    charged(state)?;
    if !opening::below() {
        let opened = by_the_engine::open_at(state, directory, open).await?;
        let file = match state.table.get(&opened)? {
            Descriptor::Dir(dir) => dir.dir.clone(),
            Descriptor::File(file) => file.file.clone(),
        };
        state.files.keep(&file);
        return Ok(opened);
    }
    let directory = directory_of(state, directory)?;
    let opened = open.at(&directory).await;
    let descriptor = match told_of_bounds(state, opened)? {
        Opened::Directory(dir) => {
            state.files.keep(&dir.dir);
            Descriptor::Dir(dir)
        }
        Opened::File(file) => {
            state.files.keep(&file.file);
            Descriptor::File(file)
        }
    };
    Ok(state.table.push(descriptor)?)
}

async fn set_times_at(
    state: &mut State,
    directory: &Resource<Descriptor>,
    follow: bool,
    path: String,
    times: [NewTimestamp; 2],
) -> Result<(), Refused> {
    if !opening::below() {
        return by_the_engine::set_times_at(state, directory, follow, path, times).await;
    }
    let directory = directory_of(state, directory)?;
    Ok(opening::set_times(&directory, follow, path, times).await?)
}

async fn read_directory(state: &mut State, directory: &Resource<Descriptor>) -> Result<Resource<Listing>, Refused> {
    charged(state)?;
    let directory = directory_of(state, directory)?;
    let listing = Listing::of(&directory, state.files.listing()).await;
    let listing = told_of_bounds(state, listing)?;
    Ok(state.table.push(listing)?)
}

async fn next_entry(state: &mut State, listing: &Resource<Listing>) -> Result<Option<DirectoryEntry>, Refused> {
    Ok(state.table.get_mut(listing)?.next().await?)
}

/// A bound that was reached is in the worker's log as well: the guest may keep its error to itself.
fn told_of_bounds<T>(state: &State, result: Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    if matches!(result, Err(ErrorCode::Quota)) {
        state.log.line(LogLevel::Warn, opening::NO_DESCRIPTOR);
    }
    result
}

fn socket(state: &mut State, family: IpAddressFamily) -> wasmtime::Result<(Result<Resource<TcpSocket>, SocketError>,)> {
    if !opening::has_room_for_descriptors() {
        state.log.line(LogLevel::Warn, opening::NO_DESCRIPTOR);
        return Ok((Err(SocketError::NewSocketLimit),));
    }
    match tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), family) {
        Ok(socket) => Ok((Ok(socket),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}
