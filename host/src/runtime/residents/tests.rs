use std::sync::atomic::AtomicUsize;

use futures::FutureExt;

use super::*;

/// A worker that is as it is told to be, and keeps what it is asked.
struct Fake {
    rest: Mutex<Rest>,
    asks: Mutex<Vec<Ask>>,
    asked: AtomicUsize,
    offered: AtomicBool,
}

impl Fake {
    fn new(rest: Rest) -> Arc<Fake> {
        let (asks, asked) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Fake { rest: Mutex::new(rest), asks, asked, offered: AtomicBool::new(false) })
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
    let place = residents.try_place().unwrap();
    let (mut first, second, mut third) = (residents.queue(), residents.queue(), residents.queue());
    assert!(residents.try_place().is_none());
    drop(second);
    drop(place);
    assert!(residents.try_place().is_none(), "it is the first one's");
    assert!(now(&mut third).await.is_none());
    let place = now(&mut first).await.unwrap();
    assert_eq!((residents.live(), residents.waiting(), residents.handed()), (1, 1, 1));
    drop(place);
    drop(now(&mut third).await.unwrap());
    assert_eq!((residents.live(), residents.waiting()), (0, 0));
}

#[tokio::test]
async fn a_place_that_was_given_to_one_who_left_goes_to_the_next() {
    let residents = Residents::new(1);
    let place = residents.try_place().unwrap();
    let (first, mut second) = (residents.queue(), residents.queue());
    drop(place);
    drop(first);
    assert!(now(&mut second).await.is_some());
}

#[tokio::test]
async fn places_beyond_the_bound_are_paid_back_first() {
    let residents = Residents::new(1);
    let (one, beyond) = (residents.try_place().unwrap(), residents.place_anyway());
    let mut waits = residents.queue();
    drop(one);
    assert!(now(&mut waits).await.is_none());
    drop(beyond);
    assert!(now(&mut waits).await.is_some());
}

#[tokio::test]
async fn the_least_recently_used_of_the_idle_is_asked_once_for_each_that_waits() {
    let residents = Residents::new(4);
    let _places: Vec<Place> = (0..4).map(|_| residents.try_place().unwrap()).collect();
    let all = [Rest::Busy, Rest::Used, Rest::Idle, Rest::Gone].map(Fake::new);
    for fake in &all {
        residents.offer(fake.clone());
        residents.offer(fake.clone());
    }
    let asked = || all.each_ref().map(|fake| fake.asked());
    let _first = residents.queue();
    assert_eq!(asked(), [0, 0, 1, 0]);
    let _second = residents.queue();
    assert_eq!(asked(), [0, 1, 1, 0], "what was used comes after what was not");
    assert!(!residents.is_wanted());
    let _third = residents.queue();
    assert_eq!(asked(), [0, 1, 1, 0]);
    assert!(residents.is_wanted(), "nobody else is idle: whoever becomes it is to sleep");
    all[0].become_idle();
    let ask = residents.volunteer().unwrap();
    assert!(!residents.is_wanted() && residents.volunteer().is_none());
    drop(ask);
    assert_eq!(asked(), [1, 1, 1, 0], "it said no, and somebody else is asked");
}

#[tokio::test]
async fn after_a_no_the_next_is_asked() {
    let residents = Residents::new(1);
    let place = residents.try_place().unwrap();
    let (one, other) = (Fake::new(Rest::Idle), Fake::new(Rest::Idle));
    residents.offer(one.clone());
    residents.offer(other.clone());
    let mut waits = residents.queue();
    assert_eq!((one.asked(), other.asked()), (1, 0));
    one.answer();
    assert_eq!((one.asked(), other.asked()), (1, 1));
    drop(place);
    other.answer();
    assert!(now(&mut waits).await.is_some());
    assert!(!residents.is_wanted());
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
    let place = || Arc::new(residents.try_place().unwrap());
    assert!(!residents.refused(place()), "nothing else lives: it is no question of room");
    let mut held: Vec<_> = (0..3).map(|_| place()).collect();
    // The fourth has no room, and others wait: its place is handed to none of them.
    let fourth = place();
    let (mut one, mut other) = (residents.queue(), residents.queue());
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
