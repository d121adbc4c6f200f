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
    /// It was said that the file cannot be made anew.
    failed: bool,
}

impl OwnersSocket {
    /// The state directory's lock is held, so a file that is there was left behind.
    pub fn open(path: &Path) -> io::Result<OwnersSocket> {
        let (listener, file) = bind(path)?;
        let path = path.to_path_buf();
        Ok(OwnersSocket { path, listener, file, looking: Beside::default(), recorder: None, failed: false })
    }

    /// Says there when it had to be made anew.
    pub fn told_to(self, recorder: &Recorder) -> OwnersSocket {
        OwnersSocket { recorder: Some(recorder.clone()), ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file anew. Where that fails it is tried again after the next look, and said once.
    fn restore(&mut self) -> io::Result<()> {
        let path = self.path.display().to_string();
        let restored = bind(&self.path);
        let is_new = self.failed != restored.is_err();
        self.failed = restored.is_err();
        let event = match &restored {
            Ok(_) => Some(Event::SocketRestored { path }),
            Err(error) if is_new => {
                let message = format!("is gone and cannot be made anew: {error}");
                let help = "put right what lies there; it is tried again".to_string();
                Some(Event::DirectoryProblem { path, message, help })
            }
            Err(_) => None,
        };
        if let Some((recorder, event)) = self.recorder.as_ref().zip(event) {
            recorder.emit(event);
        }
        (self.listener, self.file) = restored?;
        Ok(())
    }
}

/// Whether it is certain that a file is not there any more, once it is time to look.
async fn is_gone(looking: &mut Beside, path: &Path, file: (u64, u64)) -> bool {
    tokio::time::sleep(PAUSE).await;
    let path = path.to_path_buf();
    let is_gone = move || match std::fs::symlink_metadata(&path) {
        Ok(found) => identity(&found) != file,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    looking.run(bounds::LOOK_TIME, is_gone).await == Some(true)
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

    /// An error may be that of a socket which could not be made anew.
    async fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let OwnersSocket { path, listener, file, looking, .. } = self;
            let is_gone = tokio::select! {
                accepted = listener.accept() => return accepted.map(|(stream, _)| (stream, Peer::Socket)),
                is_gone = is_gone(looking, path, *file) => is_gone,
            };
            if is_gone {
                self.restore()?;
            }
        }
    }
}
