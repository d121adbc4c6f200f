use std::fs;

use notify::event::{CreateKind, ModifyKind};

use super::*;

/// Long enough that only a notice of the kernel can be the reason for a wake-up.
const NEVER: Duration = Duration::from_secs(3_600);

/// Fails a test that hangs; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn woken(watcher: &mut Watcher) {
    tokio::time::timeout(PATIENCE, watcher.changed()).await.expect("it wakes up");
}

/// A watcher whose watch is live.
async fn live(root: &Path, poll: Duration) -> Watcher {
    let mut watcher = Watcher::with_poll(root, poll);
    while !matches!(watcher.watch, Watch::Live(_)) {
        woken(&mut watcher).await;
    }
    watcher
}

#[tokio::test]
async fn a_change_wakes_it_in_new_directories_too() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = live(root.path(), NEVER).await;
    fs::write(root.path().join("a.wasm"), "x").unwrap();
    woken(&mut watcher).await;
    fs::create_dir(root.path().join("d")).unwrap();
    woken(&mut watcher).await;
    fs::rename(root.path().join("a.wasm"), root.path().join("d/a.wasm")).unwrap();
    woken(&mut watcher).await;
    assert_eq!(watcher.problem(), None);
}

#[tokio::test]
async fn it_polls_where_there_is_no_notice_and_outlives_its_root() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("workers");
    let poll = Duration::from_millis(20);
    let mut watcher = Watcher::with_poll(&root, poll);
    woken(&mut watcher).await;
    woken(&mut watcher).await;
    assert!(!matches!(watcher.watch, Watch::Live(_) | Watch::Checked(..)));
    for _ in 0..2 {
        fs::create_dir(&root).unwrap();
        while !matches!(watcher.watch, Watch::Live(_)) {
            woken(&mut watcher).await;
        }
        fs::remove_dir(&root).unwrap();
        while matches!(watcher.watch, Watch::Live(_) | Watch::Checked(..)) {
            woken(&mut watcher).await;
        }
    }
}

#[tokio::test]
async fn a_dropped_wait_loses_no_wake_up() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = live(root.path(), NEVER).await;
    watcher.wake.try_send(()).unwrap();
    // Ends while the burst is gathered: the wake-up is received and not yet returned.
    let _ = tokio::time::timeout(GATHER / 4, watcher.changed()).await;
    woken(&mut watcher).await;
}

#[test]
fn reading_and_hidden_entries_do_not_matter() {
    let root = Path::new("/srv/.workers");
    let event = |kind, path: &str| Event::new(kind).add_path(root.join(path));
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert!(matters(root, &event(EventKind::Modify(ModifyKind::Any), "a.wasm")));
    assert!(matters(root, &event(written, "d/a.wasm")));
    assert!(matters(root, &event(EventKind::Create(CreateKind::Folder), "d")));
    assert!(!matters(root, &event(read, "a.wasm")));
    assert!(!matters(root, &event(EventKind::Modify(ModifyKind::Any), ".paguro/paguro.db-wal")));
    assert!(!matters(root, &event(EventKind::Create(CreateKind::File), "d/.a.tmp")));
    assert!(matters(root, &Event::new(EventKind::Other)), "the kernel lost notices: look");
    let moved = event(EventKind::Modify(ModifyKind::Any), ".a.tmp").add_path(root.join("a.wasm"));
    assert!(matters(root, &moved));
}
