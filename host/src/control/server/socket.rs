//! The socket of the host's owner: a file that somebody may remove by hand while the host runs. It is made anew then, for
//! no command could reach the host otherwise.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::accept::Listens;
use super::connections::Peer;
use crate::base::bounds;
use crate::control::beside::Beside;
use crate::record::{Event, Recorder};

/// Between two looks at the file, while nobody connects.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct OwnersSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of the file.
    file: (u64, u64),
    looking: Beside,
    recorder: Option<Recorder>,
}

impl OwnersSocket {
    /// The state directory's lock is held, so a file that is there was left behind.
    pub fn open(path: &Path) -> io::Result<OwnersSocket> {
        let (listener, file) = bind(path)?;
        let path = path.to_path_buf();
        Ok(OwnersSocket { path, listener, file, looking: Beside::default(), recorder: None })
    }

    /// Says there when it had to be made anew.
    pub fn told_to(self, recorder: &Recorder) -> OwnersSocket {
        OwnersSocket { recorder: Some(recorder.clone()), ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file anew if it is certain that it is gone. Where that fails it is tried again.
    async fn look(&mut self) {
        let (path, file) = (self.path.clone(), self.file);
        let is_gone = move || match std::fs::symlink_metadata(&path) {
            Ok(found) => identity(&found) != file,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if self.looking.run(bounds::LOOK_TIME, is_gone).await != Some(true) {
            return;
        }
        if let Ok((listener, file)) = bind(&self.path) {
            (self.listener, self.file) = (listener, file);
            if let Some(recorder) = &self.recorder {
                recorder.emit(Event::SocketRestored { path: self.path.display().to_string() });
            }
        }
    }
}

fn identity(found: &std::fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The directory is 0700 already; this is for a state directory that somebody opens up.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok((listener, identity(&std::fs::symlink_metadata(path)?)))
}

impl Listens for OwnersSocket {
    type Stream = UnixStream;
    const KEEPS_SPARE: bool = true;

    async fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| (stream, Peer::Socket)),
                () = tokio::time::sleep(PAUSE) => self.look().await,
            }
        }
    }
}
