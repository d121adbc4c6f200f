//! The connections that are open: how many there may be, and which make room.
//!
//! A connection takes a place before it is served and gives it back when it ends. Where none is free, the oldest
//! connection on which nobody has shown the token makes room for the new one, then the one that has been idle
//! longest. So half-open connections do not shut out who knows the token, however many there are. Where all are at
//! work the new one is refused.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::line::Line;
use super::patience::{Cut, Patience, Watched};
use crate::base::{Tick, bounds};

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Room {
    /// Over TCP, in all.
    pub tcp: usize,
    /// Over TCP, from one address.
    pub tcp_per_address: usize,
    /// On the socket.
    pub socket: usize,
}

impl Room {
    /// What the process' limit of descriptors has room for; `tcp` is what was asked for.
    pub fn here(tcp: Option<usize>) -> Room {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Room::within(limit.unwrap_or(u64::MAX), tcp)
    }

    /// Within so many descriptors.
    pub fn within(descriptors: u64, tcp: Option<usize>) -> Room {
        let share = usize::try_from(descriptors / bounds::DESCRIPTORS_SHARE).unwrap_or(usize::MAX);
        let tcp = tcp.unwrap_or(bounds::CONNECTIONS_MAX).min(share).max(1);
        let tcp_per_address = (tcp / bounds::CONNECTIONS_PER_ADDRESS_SHARE).max(1);
        Room { tcp, tcp_per_address, socket: bounds::SOCKET_CONNECTIONS_MAX.min(share).max(1) }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Socket,
    Address(IpAddr),
}

impl Peer {
    /// Whoever has one IPv6 address has 2^64 of them: they count as one.
    pub fn of(address: IpAddr) -> Peer {
        Peer::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
            v4 => v4,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Socket => f.write_str("the socket"),
            Peer::Address(address) => address.fmt(f),
        }
    }
}

/// No connection makes room: the name of the bound, and its value.
pub type Full = (&'static str, u64);

pub struct Connections {
    room: Room,
    patience: Patience,
    table: Mutex<Table>,
    /// Those whose tasks have not ended, cut ones among them.
    live: AtomicUsize,
    ended: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// The oldest first.
    open: BTreeMap<u64, Open>,
    tcp: usize,
    socket: usize,
    by_address: HashMap<Peer, usize>,
}

struct Open {
    peer: Peer,
    line: Arc<Line>,
    watched: Watched,
    /// `None` until its task is there.
    task: Option<AbortHandle>,
}

/// A place; given back when it is dropped.
pub struct Permit {
    connections: Arc<Connections>,
    id: u64,
}

impl Connections {
    pub fn new(room: Room, patience: Patience) -> Arc<Connections> {
        let (table, live, ended) = (Mutex::default(), AtomicUsize::new(0), Notify::new());
        Arc::new(Connections { room, patience, table, live, ended })
    }

    pub fn room(&self) -> &Room {
        &self.room
    }

    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Connections over TCP, and on the socket.
    pub fn count(&self) -> (usize, usize) {
        let table = self.table();
        (table.tcp, table.socket)
    }

    pub fn admit(self: &Arc<Self>, peer: Peer, line: &Arc<Line>, now: Tick) -> Result<Permit, Full> {
        let mut table = self.table();
        let of_address = table.by_address.get(&peer).copied().unwrap_or(0);
        let full = |name, max: usize| (name, max as u64);
        if peer == Peer::Socket {
            if table.socket >= self.room.socket && !table.make_room(|other| other == Peer::Socket) {
                return Err(full("socket-connections", self.room.socket));
            }
        } else if of_address >= self.room.tcp_per_address {
            if !table.make_room(|other| other == peer) {
                return Err(full("connections-per-address", self.room.tcp_per_address));
            }
        } else if table.tcp >= self.room.tcp && !table.make_room(|other| other != Peer::Socket) {
            return Err(full("connections", self.room.tcp));
        }
        let id = table.next;
        table.next += 1;
        table.open.insert(id, Open { peer, line: line.clone(), watched: Watched::new(now), task: None });
        table.counted(peer, true);
        self.live.fetch_add(1, Relaxed);
        Ok(Permit { connections: self.clone(), id })
    }

    /// Names the task that serves the connection, so that it can be cut. One that has ended meanwhile is left alone.
    pub fn serve(&self, id: u64, task: AbortHandle) {
        if let Some(open) = self.table().open.get_mut(&id) {
            open.task = Some(task);
        }
    }

    /// Looks at all and cuts those that were waited for long enough.
    pub fn look(&self, now: Tick) -> Vec<(Peer, Cut)> {
        let mut table = self.table();
        let looks = table.open.iter_mut().filter_map(|(id, open)| {
            let cut = open.watched.look(open.line.glance(), now, &self.patience)?;
            open.task.as_ref().map(|_| (*id, open.peer, cut))
        });
        let late: Vec<_> = looks.collect();
        late.into_iter()
            .map(|(id, peer, cut)| {
                table.cut(id);
                (peer, cut)
            })
            .collect()
    }

    /// Waits until a connection ends.
    pub async fn one_ended(&self) {
        self.ended.notified().await;
    }

    /// Waits until all have ended.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.live.load(Relaxed) == 0 {
                return;
            }
            ended.await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Cuts a connection that can be spared, of those that come from there.
    fn make_room(&mut self, from: impl Fn(Peer) -> bool) -> bool {
        let of_there = || self.open.iter().filter(|(_, open)| open.task.is_some() && from(open.peer));
        let worthless = of_there().find(|(_, open)| open.line.glance().is_worthless());
        let idle = || of_there().filter(|(_, open)| open.line.glance().is_idle());
        let spared = worthless.or_else(|| idle().min_by_key(|(id, open)| (open.watched.since(), **id)));
        let Some(id) = spared.map(|(id, _)| *id) else { return false };
        self.cut(id);
        true
    }

    /// It counts no more from now on; its task ends as soon as it is polled.
    fn cut(&mut self, id: u64) {
        if let Some(open) = self.remove(id)
            && let Some(task) = open.task
        {
            task.abort();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.counted(open.peer, false);
        Some(open)
    }

    fn counted(&mut self, peer: Peer, is_new: bool) {
        let change = |count: &mut usize| *count = if is_new { *count + 1 } else { *count - 1 };
        if peer == Peer::Socket {
            return change(&mut self.socket);
        }
        change(&mut self.tcp);
        let of_address = self.by_address.entry(peer).or_default();
        change(of_address);
        if *of_address == 0 {
            self.by_address.remove(&peer);
        }
    }
}

impl Permit {
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connections.table().remove(self.id);
        self.connections.live.fetch_sub(1, Relaxed);
        self.connections.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Connections whose tasks never end by themselves.
    struct Fixture(Arc<Connections>);

    impl Fixture {
        fn new(tcp: usize, tcp_per_address: usize, socket: usize) -> Fixture {
            Fixture(Connections::new(Room { tcp, tcp_per_address, socket }, Patience::default()))
        }

        /// Its line, and its task, which says when it was cut.
        fn open(&self, peer: Peer) -> Result<(Arc<Line>, tokio::task::JoinHandle<()>), Full> {
            let line = Arc::new(Line::default());
            let permit = self.0.admit(peer, &line, Tick::ZERO)?;
            let id = permit.id();
            let task = tokio::spawn(async move {
                let _permit = permit;
                std::future::pending::<()>().await
            });
            self.0.serve(id, task.abort_handle());
            Ok((line, task))
        }
    }

    fn address(last: u8) -> Peer {
        Peer::of(IpAddr::from([10, 0, 0, last]))
    }

    #[tokio::test]
    async fn half_open_connections_make_room_and_those_at_work_do_not() {
        let all = Fixture::new(4, 2, 1);
        let (first, cut) = all.open(address(1)).unwrap();
        let (second, _second) = all.open(address(1)).unwrap();
        second.know();
        second.begin();
        // The third of one address takes the place of its first, which said nothing.
        let (third, third_task) = all.open(address(1)).unwrap();
        assert!(cut.await.unwrap_err().is_cancelled() && first.glance().is_worthless());
        third.know();
        assert_eq!(all.0.count(), (2, 0));
        // One that idles makes room too, one at work does not.
        let (fourth, _fourth) = all.open(address(1)).unwrap();
        assert!(third_task.await.unwrap_err().is_cancelled());
        fourth.know();
        fourth.begin();
        assert_eq!(all.open(address(1)).err(), Some(("connections-per-address", 2)));
        // Others are not touched by that, but by the bound on all.
        let others: Vec<_> = (2..=3).map(|last| all.open(address(last)).unwrap()).collect();
        for (line, _) in &others {
            line.know();
            line.begin();
        }
        assert_eq!(all.open(address(4)).err(), Some(("connections", 4)));
        assert!(all.open(Peer::Socket).is_ok(), "the socket has places of its own");
        assert_eq!(all.0.count(), (4, 1));
    }

    #[tokio::test]
    async fn a_look_cuts_who_is_late_and_the_place_is_free() {
        let all = Fixture::new(4, 4, 4);
        let (_line, task) = all.open(address(1)).unwrap();
        let (known, kept) = all.open(Peer::Socket).unwrap();
        known.know();
        known.begin();
        assert!(all.0.look(Tick::at(Duration::from_secs(1))).is_empty());
        let late = all.0.look(Tick::at(Duration::from_secs(100)));
        assert_eq!(
            late.iter().map(|(peer, cut)| (*peer, cut.0)).collect::<Vec<_>>(),
            [(address(1), "client-greeting-time")]
        );
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(all.0.count(), (0, 1));
        kept.abort();
        all.0.all_ended().await;
    }

    #[test]
    fn room_is_a_share_of_the_descriptors() {
        let small = Room::within(256, None);
        assert_eq!((small.tcp, small.tcp_per_address, small.socket), (32, 8, 32));
        assert_eq!(Room::within(1 << 20, None).tcp, bounds::CONNECTIONS_MAX);
        assert_eq!(Room::within(1 << 20, Some(10_000)).tcp, 10_000);
        assert_eq!(Room::within(1_024, Some(10_000)).tcp, 128, "no more than there is");
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
