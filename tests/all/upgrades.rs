//! Upgrades under load: no call fails, none is lost, each is counted exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use paguro::base::Name;
use paguro::change::Outcome;
use paguro::control::Host;
use paguro::record::Verdict;
use paguro_tests::{World, call, guest, until};

/// Clients that call without pause.
const CLIENTS: usize = 8;
/// DESIGN's number.
const UPGRADES: usize = 1_000;
/// Probation that only a verdict or an operator ends.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

/// Clients that add one at a time, and what they were told.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Result<u64, String>>>,
}

impl Load {
    fn on(host: &Arc<Host>) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..CLIENTS).map(|_| {
            let (host, stop, answered) = (host.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut mine = 0;
                while !stop.load(Ordering::Relaxed) {
                    call(&host, "counter", "add").await?;
                    mine += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(mine)
            })
        });
        let clients = clients.collect();
        Load { stop, answered, clients }
    }

    /// Waits until the clients were answered some more times.
    async fn more(&self, calls: u64) {
        let target = self.answered.load(Ordering::Relaxed) + calls;
        until("the clients are answered", async || self.answered.load(Ordering::Relaxed) >= target).await;
    }

    /// How often all clients together were answered; an error of any of them is one here.
    async fn end(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = 0;
        for client in self.clients {
            all += client.await.map_err(|error| error.to_string())??;
        }
        Ok(all)
    }
}

/// Commits, unless the load was so quick that probation came to its end before: it keeps 100,000 messages.
async fn commit(host: &Host) {
    if let Err(error) = host.commit("counter").await {
        let revisions = host.database().revisions(&Name::parse("counter").unwrap()).unwrap();
        let last = revisions.last().unwrap();
        assert!(last.verdict == Verdict::Committed && last.note.contains("keep-messages"), "{error:?}: {last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_upgrades_under_load_lose_nothing() {
    let mut world = World::new();
    world.put("counter", "counter-v1");
    let host = world.up().await;
    let (v1, v2) = (guest("counter-v1"), guest("counter-v2"));
    let load = Load::on(&host);
    for n in 0..UPGRADES {
        let next = if n % 2 == 0 { &v2 } else { &v1 };
        let switched = host.upgrade("counter", next.clone(), LONG).await.unwrap();
        assert!(switched.pause.is_some());
        commit(&host).await;
    }
    load.more(100).await;
    let answered = load.end().await.unwrap();
    assert_eq!(call(&host, "counter", "get").await, Ok(answered.to_string()));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenth_upgrade_going_bad_loses_nothing_either() {
    let mut world = World::new();
    world.put("counter", "counter-v2");
    let host = world.up().await;
    let (v2, v1, bad) = (guest("counter-v2"), guest("counter-v1"), guest("fault-third"));
    let load = Load::on(&host);
    let mut rolled_back = 0;
    for n in 1..=UPGRADES {
        if n % 10 == 0 {
            let switched = host.upgrade("counter", bad.clone(), LONG).await.unwrap();
            match switched.outcome.await.unwrap() {
                Outcome::RolledBack { replayed, .. } => {
                    assert!(replayed >= 3);
                    rolled_back += 1;
                }
                other => panic!("{other:?}"),
            }
        } else {
            // Two kinds of component in turn, whatever the last one was.
            let current = host.worker("counter").unwrap().status().component;
            let next = if paguro::base::ComponentHash::of(&v2) == current { &v1 } else { &v2 };
            host.upgrade("counter", next.clone(), LONG).await.unwrap();
            commit(&host).await;
        }
    }
    assert_eq!(rolled_back, UPGRADES / 10);
    load.more(100).await;
    let answered = load.end().await.unwrap();
    assert_eq!(call(&host, "counter", "get").await, Ok(answered.to_string()));
    let verified = host.database().verify_ledger().unwrap();
    assert!(verified > UPGRADES as u64 * 3, "{verified}");
    world.down().await;
}
