//! What a guest has open in granted directories: who closes it, and what it costs.
//!
//! The close of a file may wait for its file system (a network mount writes what it holds back), and the engine closes
//! wherever the last handle is let go of: on the thread that runs the guest, which no time limit cuts short. So one more
//! handle of each file is kept here, and what nobody else has any more is closed on a thread for files.

use std::fs::File;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::base::{bounds, panics};

#[derive(Default)]
pub(in crate::sandbox) struct OpenFiles {
    files: Vec<Arc<File>>,
    /// One handle for each listing, and this one.
    listings: Arc<()>,
    /// Files after which it is looked for those that are closed by now.
    look_at: usize,
}

impl OpenFiles {
    pub fn keep(&mut self, file: &Arc<File>) {
        if self.files.len() >= self.look_at {
            self.close();
            self.look_at = 2 * self.files.len() + 1;
        }
        self.files.push(file.clone());
    }

    /// For a listing to hold.
    pub fn listing(&self) -> Arc<()> {
        self.listings.clone()
    }

    /// Closes what nobody else has.
    pub fn close(&mut self) {
        close_aside(self.files.extract_if(.., |file| Arc::strong_count(file) == 1).collect());
    }

    /// Bytes that the host may hold for all that is open. Each handle may be a stream, which reads ahead.
    pub fn cost(&self) -> u64 {
        let handles: usize = self.files.iter().map(|file| Arc::strong_count(file) - 1).sum();
        let listings = Arc::strong_count(&self.listings) - 1;
        handles as u64 * bounds::FILE_HANDLE_BYTES + listings as u64 * bounds::LISTING_BYTES
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        close_aside(std::mem::take(&mut self.files));
    }
}

fn close_aside(files: Vec<Arc<File>>) {
    if files.is_empty() {
        return;
    }
    // Without a runtime nobody else is held up. Where there is no thread to be had they are closed here.
    if let Ok(runtime) = Handle::try_current() {
        let _ = panics::catch(|| drop(runtime.spawn_blocking(move || drop(files))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_closed_on_another_thread_when_nobody_else_has_it() {
        let mut open = OpenFiles::default();
        let file = Arc::new(tempfile::tempfile().unwrap());
        open.keep(&file);
        let stream = file.clone();
        assert_eq!(open.cost(), 2 * bounds::FILE_HANDLE_BYTES);
        drop(file);
        open.close();
        assert_eq!((open.files.len(), open.cost()), (1, bounds::FILE_HANDLE_BYTES));
        let kept = Arc::downgrade(&stream);
        drop(stream);
        assert!(kept.upgrade().is_some(), "whoever lets go last does not close it");
        open.close();
        assert_eq!((open.files.len(), open.cost()), (0, 0));
        while kept.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
        let listing = open.listing();
        assert_eq!(open.cost(), bounds::LISTING_BYTES);
        drop(listing);
        for _ in 0..1_000 {
            open.keep(&Arc::new(tempfile::tempfile().unwrap()));
        }
        assert!(open.files.len() <= 2, "{} are kept of those that are closed", open.files.len());
    }
}
