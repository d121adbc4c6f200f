use std::sync::atomic::AtomicUsize;

use futures::FutureExt;

use super::Lodger::File;
use super::*;

/// A worker that is as it is told to be, and keeps what it is asked.
struct Fake {
    rest: Mutex<Rest>,
    asks: Mutex<Vec<Ask>>,
    asked: AtomicUsize,
    offered: AtomicBool,
    is_key: bool,
}

impl Fake {
    fn new(rest: Rest) -> Arc<Fake> {
        Fake::of(rest, false)
    }

    fn of(rest: Rest, is_key: bool) -> Arc<Fake> {
        let (asks, asked) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Fake { rest: Mutex::new(rest), asks, asked, offered: AtomicBool::new(false), is_key })
    }

    fn become_idle(&self) {
        *self.rest.lock().unwrap() = Rest::Idle;
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    /// Says yes or no to what it was asked: an ask does not tell which.
    fn answer(&self) {
        let asks = std::mem::take(&mut *self.asks.lock().unwrap());
        drop(asks);
    }
}

impl Sleeper for Fake {
    fn rest(&self) -> Rest {
        let mut rest = self.rest.lock().unwrap();
        let now = *rest;
        if now == Rest::Used {
            *rest = Rest::Idle;
        }
        now
    }

    fn is_key(&self) -> bool {
        self.is_key
    }

    fn is_below(&self, supervisor: &Name) -> bool {
        supervisor.is_root() || self.is_key
    }

    fn please_sleep(&self, ask: Ask) {
        self.asked.fetch_add(1, Relaxed);
        self.asks.lock().unwrap().push(ask);
    }

    fn offered(&self) -> &AtomicBool {
        &self.offered
    }
}

/// The place, if it is there.
async fn now(queued: &mut Queued) -> Option<Place> {
    tokio::select! {
        biased;
        place = queued => Some(place),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn places_are_given_in_the_order_in_which_they_were_asked_for() {
    let residents = Residents::new(1);
    let place = residents.try_place(File).unwrap();
    let (mut first, second, mut third) = (residents.queue(File), residents.queue(File), residents.queue(File));
    assert!(residents.try_place(File).is_none());
    drop(second);
    drop(place);
    assert!(residents.try_place(File).is_none(), "it is the first one's");
    assert!(now(&mut third).await.is_none());
    let place = now(&mut first).await.unwrap();
    assert_eq!((residents.live(), residents.waiting(), residents.handed(&File)), (1, 1, 1));
    drop(place);
    drop(now(&mut third).await.unwrap());
    assert_eq!((residents.live(), residents.waiting()), (0, 0));
}

#[tokio::test]
async fn a_place_that_was_given_to_one_who_left_goes_to_the_next() {
    let residents = Residents::new(1);
    let place = residents.try_place(File).unwrap();
    let (first, mut second) = (residents.queue(File), residents.queue(File));
    drop(place);
    drop(first);
    assert!(now(&mut second).await.is_some());
}

#[tokio::test]
async fn places_beyond_the_bound_are_paid_back_first() {
    let residents = Residents::new(1);
    let (one, beyond) = (residents.try_place(File).unwrap(), residents.place_anyway(File));
    let mut waits = residents.queue(File);
    drop(one);
    assert!(now(&mut waits).await.is_none());
    drop(beyond);
    assert!(now(&mut waits).await.is_some());
}

#[tokio::test]
async fn the_least_recently_used_of_the_idle_is_asked_once_for_each_that_waits() {
    let residents = Residents::new(4);
    let _places: Vec<Place> = (0..4).map(|_| residents.try_place(File).unwrap()).collect();
    let all = [Rest::Busy, Rest::Used, Rest::Idle, Rest::Gone].map(Fake::new);
    for fake in &all {
        residents.offer(fake.clone());
        residents.offer(fake.clone());
    }
    let asked = || all.each_ref().map(|fake| fake.asked());
    let _first = residents.queue(File);
    assert_eq!(asked(), [0, 0, 1, 0]);
    let _second = residents.queue(File);
    assert_eq!(asked(), [0, 1, 1, 0], "what was used comes after what was not");
    assert!(!residents.is_wanted(false));
    let _third = residents.queue(File);
    assert_eq!(asked(), [0, 1, 1, 0]);
    assert!(residents.is_wanted(false), "nobody else is idle: whoever becomes it is to sleep");
    all[0].become_idle();
    let ask = residents.volunteer(false).unwrap();
    assert!(!residents.is_wanted(false) && residents.volunteer(false).is_none());
    drop(ask);
    assert_eq!(asked(), [1, 1, 1, 0], "it said no, and somebody else is asked");
}

#[tokio::test]
async fn after_a_no_the_next_is_asked() {
    let residents = Residents::new(1);
    let place = residents.try_place(File).unwrap();
    let (one, other) = (Fake::new(Rest::Idle), Fake::new(Rest::Idle));
    residents.offer(one.clone());
    residents.offer(other.clone());
    let mut waits = residents.queue(File);
    assert_eq!((one.asked(), other.asked()), (1, 0));
    one.answer();
    assert_eq!((one.asked(), other.asked()), (1, 1));
    drop(place);
    other.answer();
    assert!(now(&mut waits).await.is_some());
    assert!(!residents.is_wanted(false));
}

#[test]
fn how_many_fit_is_what_the_scarcer_of_maps_and_memory_carries() {
    let maps = |count| Some(bounds::MAPS_RESERVE + count * bounds::MAPS_PER_INSTANCE);
    let memory = |count| Some(count * bounds::INSTANCE_BYTES);
    assert_eq!(live_instances_max(maps(1_000), memory(2_000)), 1_000);
    assert_eq!(live_instances_max(maps(3_000), memory(2_000)), 2_000);
    assert_eq!(live_instances_max(Some(10), None), bounds::LIVE_INSTANCES_MIN);
    assert_eq!(live_instances_max(None, None) as u64, bounds::LIVE_INSTANCES_MAX);
}

#[tokio::test]
async fn a_bound_that_the_system_does_not_bear_is_lowered_and_rises_again() {
    let residents = Residents::new(4);
    let place = || Arc::new(residents.try_place(File).unwrap());
    assert!(!residents.refused(place()), "nothing else lives: it is no question of room");
    let mut held: Vec<_> = (0..3).map(|_| place()).collect();
    // The fourth has no room, and others wait: its place is handed to none of them.
    let fourth = place();
    let (mut one, mut other) = (residents.queue(File), residents.queue(File));
    assert!(residents.refused(fourth));
    assert_eq!((residents.max(), residents.configured(), residents.live()), (3, 4, 3));
    assert!((&mut one).now_or_never().is_none());
    held.pop();
    held.push(Arc::new((&mut one).now_or_never().expect("its turn")));
    // Nobody makes room: one more is tried, and who waits gets its place.
    assert!(residents.try_one_more() && !residents.try_one_more());
    let last = (&mut other).now_or_never().expect("its turn");
    assert!(residents.refused(Arc::new(last)));
    assert_eq!(residents.max(), 3);
    // One that asks for more than others do, when few live: the bound does not fall to those few.
    residents.made();
    held.truncate(1);
    assert!(residents.refused(place()));
    assert_eq!(residents.max(), 2);
    for _ in 0..MADE_FOR_ONE_MORE * 5 {
        residents.made();
    }
    assert_eq!(residents.max(), 4, "and no higher than it was set");
}

/// A child of a template `of`.
fn key(of: &str, sleeps: bool) -> Lodger {
    Lodger::Key { of: Name::parse(of).unwrap(), sleeps }
}

#[tokio::test]
async fn children_of_a_template_that_cannot_sleep_leave_places_to_others() {
    let residents = Residents::new(16);
    let (stateless, other, sleeps) = (key("t", false), key("u", false), key("s", true));
    let mut held: Vec<Place> = (0..100).map_while(|_| residents.try_place(stateless.clone())).collect();
    assert_eq!(held.len(), 8, "half");
    let mut waits = residents.queue(stateless.clone());
    assert!(!residents.is_wanted(true) && !residents.is_wanted(false), "nobody's sleep would help it");
    held.extend((0..100).map_while(|_| residents.try_place(other.clone())));
    held.extend((0..100).map_while(|_| residents.try_place(sleeps.clone())));
    assert_eq!(residents.live(), 14, "an eighth is for workers that have files, whatever waits before");
    let mut waits_too = residents.queue(sleeps.clone());
    assert_eq!(residents.try_place(File).map(drop), Some(()));
    held.push(residents.try_place(File).unwrap());
    assert!(now(&mut waits).await.is_none() && now(&mut waits_too).await.is_none());
    // One of its own group goes: then it is its turn.
    drop(held.remove(0));
    assert!(now(&mut waits).await.is_some());
    assert_eq!((residents.share_of(&stateless), residents.share_of(&sleeps)), (8, 14));
}

#[tokio::test]
async fn nobody_is_asked_to_sleep_whose_place_would_help_nobody() {
    let residents = Residents::new(8);
    let _files: Vec<Place> = (0..1).map(|_| residents.try_place(File).unwrap()).collect();
    let _keys: Vec<Place> = (0..7).map(|_| residents.try_place(key("t", true)).unwrap()).collect();
    let (of_file, of_key) = (Fake::of(Rest::Idle, false), Fake::of(Rest::Idle, true));
    residents.offer(of_file.clone());
    let _waits = residents.queue(key("t", true));
    assert_eq!(of_file.asked(), 0, "the keys have all that they may have");
    assert!(residents.is_wanted(true) && !residents.is_wanted(false) && residents.volunteer(false).is_none());
    drop(residents.volunteer(true).expect("an ask"));
    residents.offer(of_key.clone());
    let _file_waits = residents.queue(File);
    // A place of either helps it.
    assert!(of_file.asked() + of_key.asked() >= 1);
}

#[tokio::test]
async fn who_needs_memory_has_one_that_idles_sleep_of_its_own_if_there_is_one() {
    let residents = Residents::new(8);
    let [file, busy, key] =
        [(Rest::Idle, false), (Rest::Busy, true), (Rest::Used, true)].map(|(rest, is_key)| Fake::of(rest, is_key));
    for fake in [&file, &busy, &key] {
        residents.offer(fake.clone());
    }
    let t = Name::parse("t").unwrap();
    residents.make_room_below(&t);
    assert_eq!([&file, &busy, &key].map(|fake| fake.asked()), [0, 0, 1]);
    residents.make_room_below(&t);
    assert_eq!([&file, &busy, &key].map(|fake| fake.asked()), [1, 0, 1], "none of its own idles");
    residents.make_room_below(&t);
    assert_eq!([&file, &busy, &key].map(|fake| fake.asked()), [1, 0, 1]);
}

/// Under the lock of all places no more than a few are looked at; the next look goes on behind them.
#[tokio::test]
async fn who_needs_memory_looks_at_a_few_and_comes_around() {
    let residents = Residents::new(8);
    let all: Vec<_> = (0..200).map(|_| Fake::of(Rest::Busy, true)).collect();
    let last = Fake::of(Rest::Idle, true);
    for fake in all.iter().chain([&last]) {
        residents.offer(fake.clone());
    }
    let t = Name::parse("t").unwrap();
    residents.make_room_below(&t);
    assert_eq!(last.asked(), 0);
    let looks = (1..10).take_while(|_| {
        residents.make_room_below(&t);
        last.asked() == 0
    });
    assert!(looks.count() < 5);
    assert_eq!(last.asked(), 1);
}

#[test]
fn the_bound_on_memory_is_the_least_of_both_versions_of_cgroups() {
    let dir = tempfile::tempdir().unwrap();
    let put = |file: &str, text: &str| {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let least = |groups: &str| least_of_cgroups(dir.path(), groups);
    let v1 = "5:cpu,cpuacct:/a\n4:memory:/a/b\n";
    assert_eq!(least(v1), None);
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/a/memory.limit_in_bytes", "500\n");
    put("memory/a/b/memory.limit_in_bytes", "700\n");
    assert_eq!(least(v1), Some(500));
    assert_eq!(least("4:memory:/docker/elsewhere\n"), Some(9223372036854771712), "the mount's own");
    put("s/memory.max", "max\n");
    put("s/t/memory.max", "600\n");
    assert_eq!(least("0::/s/t\n"), Some(600));
    assert_eq!(least("4:memory:/a/b\n0::/s/t\n"), Some(500));
}
