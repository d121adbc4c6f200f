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
//! Children of templates have less than all places: a part is held back for workers that have files, and children of one
//! template that cannot sleep take half at the most ([`Lodger`]). Who finds its own share taken waits, and holds up
//! nobody else in line; nobody is asked to sleep whose place would not help.
//!
//! The bound is reckoned from what the system says of itself. Where that has room for fewer all the same (other
//! programs, a limit on the process), an instance that it refuses lowers the bound to what lives, and who was
//! refused waits in line like the others.
//!
//! A message costs nothing here: that a worker was used is noted under its mailbox's lock, which is
//! taken anyway.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::base::{Account, Held, Holding, Name, bounds};

/// The places of one host.
pub struct Residents {
    /// As it was set, and what holds: lower while the system has room for fewer.
    configured: usize,
    max: AtomicUsize,
    /// Bytes of states of those that hibernate which may be in memory, and are.
    asleep_max: u64,
    asleep: AtomicU64,
    room: Mutex<Room>,
    /// Who waits in line and nobody was asked for: whom a place of a worker that has a file helps, and whom one of a
    /// child of a template helps.
    wanted: [AtomicUsize; 2],
}

/// For whom a place is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lodger {
    /// A worker that has a file.
    File,
    /// A child of a template, of this supervisor.
    Key {
        of: Name,
        /// It can hibernate.
        sleeps: bool,
    },
}

impl Lodger {
    fn is_key(&self) -> bool {
        matches!(self, Lodger::Key { .. })
    }
}

/// Instances made before one more is tried than the system had room for.
const MADE_FOR_ONE_MORE: u64 = 64;

/// Someone who can give a place back.
pub trait Sleeper: Send + Sync {
    /// How it is just now. `Used` once for each time it was used.
    fn rest(&self) -> Rest;
    /// Whether it is a child of a template.
    fn is_key(&self) -> bool;
    fn is_below(&self, supervisor: &Name) -> bool;
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
    last: u64,
    /// Of them, children of templates.
    keys: usize,
    /// Those that live or wait, by who shares with whom.
    groups: BTreeMap<Lodger, Group>,
    /// Asks under way.
    asked: usize,
    ring: VecDeque<Weak<dyn Sleeper>>,
    /// The last look around found too few: who becomes idle from now on looks at `wanted`.
    looked: bool,
}

#[derive(Default)]
struct Group {
    live: usize,
    /// Places that were given to those of it that waited, while there are any.
    handed: u64,
    /// In the order in which they came.
    line: BTreeMap<u64, oneshot::Sender<Place>>,
}

/// What each may have of `max` places.
#[derive(Clone, Copy)]
struct Shares {
    max: usize,
    keys: usize,
    stateless: usize,
}

impl Shares {
    fn of(max: usize) -> Shares {
        let (keys, stateless) = (max - max / bounds::PLACES_FILES_PART, max.div_ceil(bounds::PLACES_STATELESS_PART));
        Shares { max, keys, stateless }
    }

    /// How many more of this group may live, as far as its own share and that of its kind go.
    fn left_of(self, room: &Room, lodger: &Lodger, live: usize) -> usize {
        match lodger {
            Lodger::File => usize::MAX,
            Lodger::Key { sleeps: true, .. } => self.keys.saturating_sub(room.keys),
            Lodger::Key { sleeps: false, .. } => {
                self.keys.saturating_sub(room.keys).min(self.stateless.saturating_sub(live))
            }
        }
    }
}

impl Room {
    fn live_of(&self, lodger: &Lodger) -> usize {
        self.groups.get(lodger).map_or(0, |group| group.live)
    }

    fn waiting(&self) -> usize {
        self.groups.values().map(|group| group.line.len()).sum()
    }

    fn enters(&mut self, lodger: &Lodger) {
        self.live += 1;
        self.keys += usize::from(lodger.is_key());
        self.groups.entry(lodger.clone()).or_default().live += 1;
    }

    fn leaves(&mut self, lodger: &Lodger) {
        self.live -= 1;
        self.keys -= usize::from(lodger.is_key());
        if let Some(group) = self.groups.get_mut(lodger) {
            group.live -= 1;
        }
        self.tidy(lodger);
    }

    /// Nothing is kept of those of whom none lives or waits.
    fn tidy(&mut self, lodger: &Lodger) {
        if self.groups.get(lodger).is_some_and(|group| group.live == 0 && group.line.is_empty()) {
            self.groups.remove(lodger);
        }
    }

    /// Whose turn it is, of those whose share is not taken.
    fn next(&self, shares: Shares) -> Option<Lodger> {
        if self.live >= shares.max {
            return None;
        }
        let first = |(lodger, group): (&Lodger, &Group)| {
            let number = *group.line.first_key_value()?.0;
            (shares.left_of(self, lodger, group.live) > 0).then(|| (number, lodger.clone()))
        };
        self.groups.iter().filter_map(first).min_by_key(|(number, _)| *number).map(|(_, lodger)| lodger)
    }

    /// Who waits and would have a place if one of a worker with a file were free, and if one of a key were.
    fn helped(&self, shares: Shares) -> [usize; 2] {
        let mut helped = [0, 0];
        for (lodger, group) in self.groups.iter().filter(|(_, group)| !group.line.is_empty()) {
            let own = match lodger {
                Lodger::Key { sleeps: false, .. } => shares.stateless.saturating_sub(group.live),
                _ => usize::MAX,
            };
            let waiting = group.line.len().min(own);
            helped[1] += waiting;
            if !lodger.is_key() || self.keys < shares.keys {
                helped[0] += waiting;
            }
        }
        helped
    }
}

/// Leave to have one live instance.
pub struct Place(Arc<Residents>, Lodger);

/// Room in memory for a state. Boxed: each that sleeps has one.
pub struct AsleepBytes(Box<Kept>);

struct Kept {
    /// `None`: of one that is awake, or that could not be written.
    residents: Option<Arc<Residents>>,
    held: Held,
}

impl AsleepBytes {
    /// Room for what is in memory anyway.
    pub fn anyway(account: &Arc<Account>, bytes: u64) -> AsleepBytes {
        AsleepBytes(Box::new(Kept { residents: None, held: account.take_anyway(Holding::Sleepers, bytes) }))
    }

    /// Bytes of the state of one that is awake; `None` for one that hibernates.
    pub fn of_awake(&self) -> Option<u64> {
        self.0.residents.is_none().then(|| self.0.held.bytes())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(residents) = &self.residents {
            residents.asleep.fetch_sub(self.held.bytes(), Relaxed);
        }
    }
}

/// A place in the line. Resolves to a place; dropped, it leaves the line.
pub struct Queued {
    residents: Arc<Residents>,
    lodger: Lodger,
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
            wanted: Default::default(),
        })
    }

    /// Room in memory for a state of so many bytes, if there is any here and in the account.
    pub fn keep(self: &Arc<Self>, bytes: u64, account: &Arc<Account>) -> Option<AsleepBytes> {
        let fits = |kept: u64| kept.checked_add(bytes).filter(|sum| *sum <= self.asleep_max);
        self.asleep.fetch_update(Relaxed, Relaxed, fits).ok()?;
        let Some(held) = account.take(Holding::Sleepers, bytes) else {
            self.asleep.fetch_sub(bytes, Relaxed);
            return None;
        };
        Some(AsleepBytes(Box::new(Kept { residents: Some(self.clone()), held })))
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
        self.room().waiting()
    }

    /// Places that were given to those of its group that waited: who waits sees by it whether the line moves.
    pub fn handed(&self, lodger: &Lodger) -> u64 {
        self.room().groups.get(lodger).map_or(0, |group| group.handed)
    }

    /// What it may have of all places, with those that share with it.
    pub fn share_of(&self, lodger: &Lodger) -> usize {
        let shares = Shares::of(self.max());
        match lodger {
            Lodger::File => shares.max,
            Lodger::Key { sleeps: true, .. } => shares.keys,
            Lodger::Key { sleeps: false, .. } => shares.stateless,
        }
    }

    /// A place at once, if there is one and nobody came before.
    pub fn try_place(self: &Arc<Self>, lodger: Lodger) -> Option<Place> {
        let shares = Shares::of(self.max());
        let mut room = self.room();
        // Whoever waits and could have one has been given it already.
        let is_first = room.groups.get(&lodger).is_none_or(|group| group.line.is_empty());
        let free = is_first && room.live < shares.max && shares.left_of(&room, &lodger, room.live_of(&lodger)) > 0;
        if !free {
            return None;
        }
        room.enters(&lodger);
        drop(room);
        Some(Place(self.clone(), lodger))
    }

    /// A place even beyond the bound, for what must not wait: an operator's import, the way back of a
    /// rollback. Until as many are given back, nobody else gets one.
    pub fn place_anyway(self: &Arc<Self>, lodger: Lodger) -> Place {
        self.room().enters(&lodger);
        Place(self.clone(), lodger)
    }

    /// A place, when it is one's turn.
    pub fn queue(self: &Arc<Self>, lodger: Lodger) -> Queued {
        let (sender, place) = oneshot::channel();
        let mut room = self.room();
        room.last += 1;
        let number = room.last;
        room.groups.entry(lodger.clone()).or_default().line.insert(number, sender);
        let given = self.give(&mut room);
        drop(room);
        hand_over(given);
        self.look_around();
        Queued { residents: self.clone(), lodger, number, place }
    }

    /// It has an instance and can sleep.
    pub fn offer(&self, sleeper: Arc<dyn Sleeper>) {
        let mut room = self.room();
        if !sleeper.offered().swap(true, Relaxed) {
            room.ring.push_back(Arc::downgrade(&sleeper));
        }
    }

    /// Whether one that becomes idle had better sleep. One relaxed load.
    pub fn is_wanted(&self, is_key: bool) -> bool {
        self.wanted[usize::from(is_key)].load(Relaxed) > 0
    }

    /// One that is idle takes an ask upon itself, if one is wanted.
    pub fn volunteer(self: &Arc<Self>, is_key: bool) -> Option<Ask> {
        let mut room = self.room();
        if room.helped(Shares::of(self.max()))[usize::from(is_key)] <= room.asked {
            return None;
        }
        room.asked += 1;
        self.publish(&mut room);
        drop(room);
        Some(Ask(self.clone()))
    }

    /// Asks one idle worker to sleep whose memory is wanted, not its place: the least recently used, about, of those
    /// below this supervisor; of all, if there is none.
    pub fn make_room_below(self: &Arc<Self>, supervisor: &Name) {
        let mut room = self.room();
        let mut wants = |is_below: bool| {
            // Twice around: the first time some are passed over because they were used. Half of the looks for each of
            // both, under the lock of all places.
            for _ in 0..(room.ring.len() * 2).min(bounds::ROOM_LOOKS_MAX / 2) {
                let entry = room.ring.pop_front()?;
                let Some(sleeper) = entry.upgrade() else { continue };
                if (is_below && !sleeper.is_below(supervisor)) || sleeper.rest() != Rest::Idle {
                    room.ring.push_back(entry);
                    continue;
                }
                sleeper.offered().store(false, Relaxed);
                room.asked += 1;
                return Some(sleeper);
            }
            None
        };
        let found = wants(true).or_else(|| wants(false));
        self.publish(&mut room);
        drop(room);
        if let Some(sleeper) = found {
            sleeper.please_sleep(Ask(self.clone()));
        }
    }

    /// Hands free places to those who came first.
    fn give(self: &Arc<Self>, room: &mut Room) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut given = Vec::new();
        while let Some(lodger) = room.next(Shares::of(self.max())) {
            room.enters(&lodger);
            let Some(group) = room.groups.get_mut(&lodger) else { break };
            group.handed += 1;
            let Some((_, next)) = group.line.pop_first() else { break };
            given.push((next, Place(self.clone(), lodger)));
        }
        self.publish(room);
        given
    }

    /// Says who is wanted, and returns it: of workers that have files, and of keys.
    fn publish(&self, room: &mut Room) -> [usize; 2] {
        let wanted = room.helped(Shares::of(self.max())).map(|helped| helped.saturating_sub(room.asked));
        // Who was passed over because its place would not have helped may help now.
        let help_more = wanted[0] > self.wanted[0].load(Relaxed);
        if wanted == [0, 0] || help_more {
            room.looked = false;
        }
        for (shown, wanted) in self.wanted.iter().zip(wanted) {
            shown.store(wanted, Relaxed);
        }
        wanted
    }

    /// Asks as many idle workers as are wanted.
    fn look_around(self: &Arc<Self>) {
        let mut asks = Vec::new();
        let mut room = self.room();
        // Published before anybody is looked at (see the top).
        let [of_files, of_keys] = self.publish(&mut room);
        let wanted = of_files.max(of_keys);
        if wanted > 0 && !room.looked {
            // Twice around: the first time some are passed over because they were used.
            let mut left = room.ring.len() * 2;
            while asks.len() < wanted && left > 0 {
                left -= 1;
                let Some(entry) = room.ring.pop_front() else { break };
                let Some(sleeper) = entry.upgrade() else { continue };
                if asks.len() >= if sleeper.is_key() { of_keys } else { of_files } {
                    // Its place would help nobody.
                    room.ring.push_back(entry);
                    continue;
                }
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
            place.unwrap_or_else(|_| self.residents.place_anyway(self.lodger.clone()))
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut room = self.residents.room();
        let line = room.groups.get_mut(&self.lodger).map(|group| &mut group.line);
        if line.is_some_and(|line| line.remove(&self.number).is_some()) {
            room.tidy(&self.lodger);
            self.residents.publish(&mut room);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = self.0.room();
        room.leaves(&self.1);
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

/// The least bound on memory from this process' cgroup up to the root, of either version.
fn cgroup_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    least_of_cgroups(Path::new("/sys/fs/cgroup"), &groups)
}

/// `root`: where cgroups are mounted; `groups`: as `/proc/self/cgroup` says it. Version 2 has a line `0::/PATH` and
/// files `memory.max`, version 1 one of `ID:memory:/PATH` and `memory/PATH/memory.limit_in_bytes`, which says a number
/// near 2^63 for none. In a container the path may be one outside of what is mounted: the mount's own files count.
fn least_of_cgroups(root: &Path, groups: &str) -> Option<u64> {
    let of_version_1 = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|controller| controller == "memory").then(|| path.to_string())
    };
    let v2 =
        groups.lines().find_map(|line| line.strip_prefix("0::")).map(|path| (root.to_path_buf(), path.to_string()));
    let v1 = groups.lines().find_map(of_version_1).map(|path| (root.join("memory"), path));
    let limits = [(v2, "memory.max"), (v1, "memory.limit_in_bytes")].into_iter().filter_map(|(group, file)| {
        let (top, path) = group?;
        let own = top.join(path.trim_start_matches('/'));
        let dirs = own.ancestors().take_while(|dir| dir.starts_with(&top));
        dirs.filter_map(|dir| number(&std::fs::read_to_string(dir.join(file)).ok()?)).min()
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
