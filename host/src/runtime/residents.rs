//! How many instances may be live at one time, and whose turn it is when there are no more places.
//!
//! An instance takes memory maps, of which a process has a fixed number, and memory. So each live
//! instance holds a [`Place`], and gives it back when it is dropped. Whoever starts or wakes a worker
//! when every place is taken waits in line, and an idle worker that can hibernate is asked to: the
//! least recently used, about (second chance: a ring of those that can sleep, in which one that took a
//! message since it was last looked at is passed over once).
//!
//! Who is asked, and who offers itself:
//!
//! - A worker that can sleep is *offered* to the ring when its instance starts, wakes or ends its
//!   probation, and leaves the ring when it is asked.
//! - Each ask is an [`Ask`], which ends with the worker's yes or no, or with the worker. As many are
//!   under way as wait in line, if there are as many that idle.
//! - Where there are not, `wanted` says so, and a worker that becomes idle sleeps by itself.
//!
//! No wake-up is lost: a worker first shows that it is idle, under its mailbox's lock, and then reads
//! `wanted`; whoever waits first writes `wanted` and then looks at the mailbox under that lock.
//! Whichever comes to the lock second sees what the other wrote.
//!
//! Reaching the bound is no error, but it can be slow: workers that are busy keep their places, those
//! that wait for others' answers too. If all places are held so, calls end at their deadlines and
//! make room; nothing hangs. What cannot sleep (no `state`, commands) keeps its place for good.
//!
//! The bound is reckoned from what the system says of itself. Where that has room for fewer all the same (other
//! programs, a limit on the process), an instance that it refuses lowers the bound to what lives, and who was
//! refused waits in line like the others.
//!
//! A message costs nothing here: that a worker was used is noted under its mailbox's lock, which is
//! taken anyway.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::base::bounds;

/// The places of one host.
pub struct Residents {
    /// As it was set, and what holds: lower while the system has room for fewer.
    configured: usize,
    max: AtomicUsize,
    /// Bytes of states of those that hibernate which may be in memory, and are.
    asleep_max: u64,
    asleep: AtomicU64,
    room: Mutex<Room>,
    /// Who waits in line and nobody was asked for.
    wanted: AtomicUsize,
}

/// Instances made before one more is tried than the system had room for.
const MADE_FOR_ONE_MORE: u64 = 64;

/// Someone who can give a place back.
pub trait Sleeper: Send + Sync {
    /// How it is just now. `Used` once for each time it was used.
    fn rest(&self) -> Rest;
    /// Asks it to sleep; the ask ends when it is dropped.
    fn please_sleep(&self, ask: Ask);
    /// Whether it is in the ring; for [`Residents`] alone.
    fn offered(&self) -> &AtomicBool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It has no instance.
    Gone,
    Busy,
    /// Idle, and used since the last look.
    Used,
    Idle,
}

#[derive(Default)]
struct Room {
    live: usize,
    /// Instances that the system has had room for at one time, as far as is known since the bound was lowered.
    borne: usize,
    /// Those that were made since then.
    made: u64,
    /// Places that were given to somebody who waited, since the start.
    handed: u64,
    last: u64,
    /// In the order in which they came.
    line: BTreeMap<u64, oneshot::Sender<Place>>,
    /// Asks under way.
    asked: usize,
    ring: VecDeque<Weak<dyn Sleeper>>,
    /// The last look around found too few: who becomes idle from now on looks at `wanted`.
    looked: bool,
}

/// Leave to have one live instance.
pub struct Place(Arc<Residents>);

/// Room in memory for the state of one that hibernates.
pub struct AsleepBytes {
    residents: Arc<Residents>,
    bytes: u64,
}

impl Drop for AsleepBytes {
    fn drop(&mut self) {
        self.residents.asleep.fetch_sub(self.bytes, Relaxed);
    }
}

/// A place in the line. Resolves to a place; dropped, it leaves the line.
pub struct Queued {
    residents: Arc<Residents>,
    number: u64,
    place: oneshot::Receiver<Place>,
}

/// One worker was asked to sleep. Dropped when it does or says no.
pub struct Ask(Arc<Residents>);

impl Residents {
    /// `max`: live instances, at least 1.
    pub fn new(max: usize) -> Arc<Residents> {
        Residents::bounded(max, u64::MAX)
    }

    /// `asleep_max`: bytes of states of workers that hibernate which are held in memory.
    pub fn bounded(max: usize, asleep_max: u64) -> Arc<Residents> {
        Arc::new(Residents {
            configured: max.max(1),
            max: AtomicUsize::new(max.max(1)),
            asleep_max,
            asleep: AtomicU64::new(0),
            room: Mutex::default(),
            wanted: AtomicUsize::new(0),
        })
    }

    /// Room in memory for a state of so many bytes, if there is any.
    pub fn keep(self: &Arc<Self>, bytes: u64) -> Option<AsleepBytes> {
        let fits = |kept: u64| kept.checked_add(bytes).filter(|sum| *sum <= self.asleep_max);
        let kept = self.asleep.fetch_update(Relaxed, Relaxed, fits);
        kept.is_ok().then(|| AsleepBytes { residents: self.clone(), bytes })
    }

    pub fn asleep_bytes_max(&self) -> u64 {
        self.asleep_max
    }

    /// Bytes of states of workers that hibernate which are held in memory.
    pub fn asleep_bytes(&self) -> u64 {
        self.asleep.load(Relaxed)
    }

    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// As it was set. More than [`Residents::max`] while the system has room for fewer.
    pub fn configured(&self) -> usize {
        self.configured
    }

    /// The system had no memory or no maps for one more instance, whose place is given back here. What it bore is
    /// the bound from now on. False if nothing else lives: then it is no question of room.
    ///
    /// One that asks for more than others do is refused where others are not: below what the system has borne
    /// the bound sinks by one for each refusal, and with the next instance that is made it is borne again.
    pub fn refused(self: &Arc<Self>, place: Arc<Place>) -> bool {
        let mut room = self.room();
        let others = room.live.saturating_sub(1);
        if others > 0 {
            room.borne = room.borne.saturating_sub(1).max(others);
            self.max.store(self.max().min(room.borne), Relaxed);
        }
        drop(room);
        // Only now: it must not be handed to the next in line.
        drop(place);
        others > 0
    }

    /// An instance was made. A bound that was lowered rises again, slowly: the system may have room by now.
    pub fn made(self: &Arc<Self>) {
        if self.max() >= self.configured {
            return;
        }
        let mut room = self.room();
        room.borne = room.borne.max(room.live);
        room.made += 1;
        let one_more = room.made.is_multiple_of(MADE_FOR_ONE_MORE);
        drop(room);
        if one_more {
            self.try_one_more();
        }
    }

    /// Raises a bound that was lowered by one, and gives the place to who waits. False if it is as it was set.
    pub fn try_one_more(self: &Arc<Self>) -> bool {
        let mut room = self.room();
        let max = self.max();
        if max >= self.configured {
            return false;
        }
        self.max.store(max + 1, Relaxed);
        let given = self.give(&mut room);
        drop(room);
        hand_over(given);
        true
    }

    pub fn live(&self) -> usize {
        self.room().live
    }

    /// How many wait for a place.
    pub fn waiting(&self) -> usize {
        self.room().line.len()
    }

    /// Places that were given to somebody who waited, since the start: who waits sees by it whether
    /// the line moves.
    pub fn handed(&self) -> u64 {
        self.room().handed
    }

    /// A place at once, if there is one and nobody came before.
    pub fn try_place(self: &Arc<Self>) -> Option<Place> {
        let mut room = self.room();
        let free = room.live < self.max() && room.line.is_empty();
        room.live += usize::from(free);
        drop(room);
        free.then(|| Place(self.clone()))
    }

    /// A place even beyond the bound, for what must not wait: an operator's import, the way back of a
    /// rollback. Until as many are given back, nobody else gets one.
    pub fn place_anyway(self: &Arc<Self>) -> Place {
        self.room().live += 1;
        Place(self.clone())
    }

    /// A place, when it is one's turn.
    pub fn queue(self: &Arc<Self>) -> Queued {
        let (sender, place) = oneshot::channel();
        let mut room = self.room();
        room.last += 1;
        let number = room.last;
        room.line.insert(number, sender);
        let given = self.give(&mut room);
        drop(room);
        hand_over(given);
        self.look_around();
        Queued { residents: self.clone(), number, place }
    }

    /// It has an instance and can sleep.
    pub fn offer(&self, sleeper: Arc<dyn Sleeper>) {
        let mut room = self.room();
        if !sleeper.offered().swap(true, Relaxed) {
            room.ring.push_back(Arc::downgrade(&sleeper));
        }
    }

    /// Whether one that becomes idle had better sleep. One relaxed load.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) > 0
    }

    /// One that is idle takes an ask upon itself, if one is wanted.
    pub fn volunteer(self: &Arc<Self>) -> Option<Ask> {
        let mut room = self.room();
        if room.line.len() <= room.asked {
            return None;
        }
        room.asked += 1;
        self.publish(&mut room);
        drop(room);
        Some(Ask(self.clone()))
    }

    /// Hands free places to those who came first.
    fn give(self: &Arc<Self>, room: &mut Room) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut given = Vec::new();
        while room.live < self.max()
            && let Some((_, next)) = room.line.pop_first()
        {
            room.live += 1;
            room.handed += 1;
            given.push((next, Place(self.clone())));
        }
        self.publish(room);
        given
    }

    fn publish(&self, room: &mut Room) {
        let wanted = room.line.len().saturating_sub(room.asked);
        if wanted == 0 {
            room.looked = false;
        }
        self.wanted.store(wanted, Relaxed);
    }

    /// Asks as many idle workers as are wanted.
    fn look_around(self: &Arc<Self>) {
        let mut asks = Vec::new();
        let mut room = self.room();
        // Published before anybody is looked at (see the top).
        self.publish(&mut room);
        let wanted = room.line.len().saturating_sub(room.asked);
        if wanted > 0 && !room.looked {
            // Twice around: the first time some are passed over because they were used.
            let mut left = room.ring.len() * 2;
            while asks.len() < wanted && left > 0 {
                left -= 1;
                let Some(entry) = room.ring.pop_front() else { break };
                let Some(sleeper) = entry.upgrade() else { continue };
                let rest = sleeper.rest();
                if matches!(rest, Rest::Busy | Rest::Used) {
                    room.ring.push_back(entry);
                    continue;
                }
                sleeper.offered().store(false, Relaxed);
                if rest == Rest::Idle {
                    asks.push(sleeper);
                }
            }
            room.asked += asks.len();
            room.looked = asks.len() < wanted;
            self.publish(&mut room);
        }
        drop(room);
        // Without the lock: an ask that finds nobody ends at once, and looks around again.
        for sleeper in asks {
            sleeper.please_sleep(Ask(self.clone()));
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Queued {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Place> {
        Pin::new(&mut self.place).poll(context).map(|place| {
            // The line lets go of nobody but those who left it.
            place.unwrap_or_else(|_| self.residents.place_anyway())
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut room = self.residents.room();
        if room.line.remove(&self.number).is_some() {
            self.residents.publish(&mut room);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = self.0.room();
        room.live -= 1;
        let given = self.0.give(&mut room);
        drop(room);
        hand_over(given);
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.0.room().asked -= 1;
        self.0.look_around();
    }
}

/// Without the lock: who left the line this moment does not take it, and it goes to the next.
fn hand_over(given: Vec<(oneshot::Sender<Place>, Place)>) {
    for (sender, place) in given {
        let _ = sender.send(place);
    }
}

/// Live instances that fit, from `vm.max_map_count` and the bytes of memory that are available, each
/// where it is known. Never below [`bounds::LIVE_INSTANCES_MIN`].
pub fn live_instances_max(map_count_max: Option<u64>, available: Option<u64>) -> usize {
    let maps = map_count_max.map(|maps| maps.saturating_sub(bounds::MAPS_RESERVE) / bounds::MAPS_PER_INSTANCE);
    let memory = available.map(|bytes| bytes / bounds::INSTANCE_BYTES);
    let fit = maps.unwrap_or(u64::MAX).min(memory.unwrap_or(u64::MAX)).min(bounds::LIVE_INSTANCES_MAX);
    usize::try_from(fit).unwrap_or(usize::MAX).max(bounds::LIVE_INSTANCES_MIN)
}

/// The same, of this machine at this moment.
pub fn live_instances_max_here() -> usize {
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().as_deref().and_then(number);
    live_instances_max(maps, available())
}

/// Bytes of states of workers that hibernate which are held in memory, from the memory that is available
/// at this moment: a quarter of it.
pub fn asleep_bytes_max_here() -> u64 {
    available().unwrap_or(u64::MAX) / 4
}

/// Bytes that guests, clients and files may make the host keep together: half of the machine's memory, or of what the
/// host's cgroup has where that is less.
pub fn account_bytes_max_here() -> u64 {
    memory_here().map_or(u64::MAX, |bytes| bytes / 2)
}

/// Bytes that all compilers together may use: half of the memory of the machine or the cgroup, and no more than
/// [`bounds::COMPILERS_BYTES_MAX`].
pub fn compilers_bytes_max_here() -> u64 {
    memory_here().map_or(u64::MAX, |bytes| bytes / 2).min(bounds::COMPILERS_BYTES_MAX)
}

/// Bytes of memory that this process can have: the machine's, or its cgroup's where that is less.
pub fn memory_here() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = number(line.trim_end_matches("kB"))? * 1024;
    Some(cgroup_memory().map_or(machine, |cgroup| cgroup.min(machine)))
}

/// The least `memory.max` from this process' cgroup up to the root (cgroup v2).
fn cgroup_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = std::path::Path::new("/sys/fs/cgroup");
    let own = root.join(own);
    let limits = own.ancestors().take_while(|dir| dir.starts_with(root)).filter_map(|dir| {
        let max = std::fs::read_to_string(dir.join("memory.max")).ok()?;
        number(&max)
    });
    limits.min()
}

fn available() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    number(line.trim_end_matches("kB")).map(|kib| kib * 1024)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests;
