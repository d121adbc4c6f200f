use std::time::Duration;

use crate::control::{Host, HostOptions, doctor};
use crate::record::Event;

/// Waits for an event of this kind, from the host's start on.
async fn event(host: &Host, kind: &str) -> Event {
    let mut events = host.recorder().events().follow(0);
    let waiting = async {
        loop {
            let recorded = events.next().await.unwrap();
            if recorded.item.kind() == kind {
                return recorded.item.clone();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {kind}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_does_not_end_is_told_and_holds_nobody_up() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::start(HostOptions::new(root.path())).await.unwrap();
    assert_eq!(host.health(None, 9).await.directory, None);
    std::fs::write(root.path().join(".hang"), "").unwrap();
    event(&host, "look-late").await;
    let health = host.health(None, 9).await;
    assert_eq!(health.status, "degraded");
    assert!(health.directory.unwrap().contains("a look at the directory does not end"));
    let found = doctor::examine(&host).await;
    let errors: Vec<_> = found.iter().filter(|info| info.verdict == "error").collect();
    assert!(errors.iter().any(|info| info.detail.contains("does not end")), "{errors:?}");
    std::fs::remove_file(root.path().join(".hang")).unwrap();
    event(&host, "look-ended").await;
    let begun = std::time::Duration::from_secs(60);
    let healthy = async {
        while host.health(None, 9).await.directory.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(begun, healthy).await.expect("it is well again");
    // One that hangs when the host stops does not hold that up.
    std::fs::write(root.path().join(".hang"), "").unwrap();
    tokio::time::timeout(Duration::from_secs(30), host.stop()).await.expect("the host stops");
    std::fs::remove_file(root.path().join(".hang")).unwrap();
}
