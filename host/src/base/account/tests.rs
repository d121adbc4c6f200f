use std::sync::Mutex;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn what_is_held_never_exceeds_the_account_and_is_given_back() {
    let account = Account::new(100);
    let mut bodies = account.take(Holding::Bodies, 60).unwrap();
    assert!(account.take(Holding::Timers, 41).is_none());
    assert!(account.take(Holding::Timers, u64::MAX).is_none());
    assert!(!bodies.grow(41) && bodies.grow(40));
    assert_eq!((account.used(), account.used_by(Holding::Bodies), account.refused()), (100, 100, 3));
    bodies.shrink_to(10);
    assert_eq!(account.used(), 10);
    drop(bodies);
    assert_eq!((account.used(), account.used_by(Holding::Bodies)), (0, 0));
}

#[test]
fn a_refusal_names_the_account_that_is_full_and_takes_from_none() {
    let host = Account::new(100);
    let told = Arc::new(Mutex::new(Vec::new()));
    host.tell({
        let told = told.clone();
        Box::new(move |full| told.lock().unwrap().push(full.clone()))
    });
    let (root, a) = (Account::below(&host, Name::root()), name("a"));
    let a = Account::below(&root, a);
    a.configure(80, false);
    let first = a.try_take(Holding::Timers, 30).unwrap();
    let full = a.try_take(Holding::Timers, 11).unwrap_err();
    assert_eq!(full, Full { owner: Some(name("a")), holding: Holding::Timers, asked: 11, max: 40 });
    assert_eq!(full.to_string(), "11 B more for timers do not fit into the 40 B that all below `a` may take");
    let second = root.take(Holding::Mailboxes, 65).unwrap();
    let full = a.try_take(Holding::Instances, 10).unwrap_err();
    assert_eq!((full.owner, full.max), (None, 100));
    assert_eq!((a.used(), root.used(), host.used()), (30, 95, 95), "what was taken below is given back");
    assert_eq!((a.refused(), root.refused(), host.refused()), (2, 2, 2));
    assert_eq!(told.lock().unwrap().len(), 2);
    assert_eq!(host.used_most_by(), (Holding::Mailboxes, 65));
    drop((first, second));
    assert_eq!((a.used(), root.used(), host.used()), (0, 0, 0));
}

#[test]
fn what_is_held_back_is_for_workers_that_have_files_and_for_their_instances() {
    let host = Account::of_host(800);
    let (files, keys) = (Account::below(&host, name("files")), Account::below(&host, name("keys")));
    keys.configure(u64::MAX, true);
    let below_keys = Account::below(&keys, name("keys/more"));
    let keyed = [Holding::Mailboxes, Holding::Instances].map(|holding| below_keys.max_free(holding));
    assert_eq!(keyed, [300, 700], "an eighth is held back, and half for instances");
    assert_eq!((host.max_free(Holding::Bodies), files.max_free(Holding::Sleepers)), (300, 200));
    assert_eq!((files.max_free(Holding::Mailboxes), files.max_free(Holding::Instances)), (400, 800));
    assert!(below_keys.has_room(Holding::Instances, 700) && !below_keys.has_room(Holding::Instances, 701));
    assert!(below_keys.has_room(Holding::Mailboxes, 300) && !below_keys.has_room(Holding::Mailboxes, 301));
    assert_eq!((host.used(), host.refused() > 0), (0, true));
    let all = (keys.take(Holding::Instances, 600).unwrap(), files.take(Holding::Mailboxes, 100).unwrap());
    assert!(keys.take(Holding::Mailboxes, 1).is_none(), "nor do they take it when instances use what is free");
    assert!(keys.take(Holding::Instances, 1).is_none() && files.take(Holding::Mailboxes, 100).is_some());
    assert!(files.take(Holding::Instances, 100).is_some(), "one that crashed comes back");
    drop(all);
}

impl Account {
    /// The most that fits at once.
    fn max_free(self: &Arc<Self>, holding: Holding) -> u64 {
        (0..=1_000).rev().find(|bytes| self.take(holding, *bytes).is_some()).unwrap()
    }
}

#[test]
fn what_must_not_be_lost_goes_beyond_and_others_wait_until_it_is_given_back() {
    let account = Account::new(100);
    let kept = account.take_anyway(Holding::Sleepers, 150);
    assert_eq!(account.used(), 150);
    assert!(account.take(Holding::Timers, 1).is_none());
    drop(kept);
    assert!(account.take(Holding::Timers, 1).is_some());
}

#[test]
fn a_charge_takes_in_steps_and_follows_to_another_account() {
    const STEP: u64 = bounds::ACCOUNT_STEP_BYTES;
    let (one, other) = (Account::new(STEP * 3), Account::new(STEP * 3));
    let mut charge = Charge::new(Holding::Mailboxes);
    charge.cover(1, || one.clone()).unwrap();
    charge.cover(STEP, || unreachable!("it is covered")).unwrap();
    assert_eq!((charge.bytes(), one.used()), (STEP, STEP));
    charge.cover(STEP + 1, || one.clone()).unwrap();
    assert!(charge.cover(STEP * 3 + 1, || one.clone()).is_err());
    assert_eq!((charge.bytes(), one.used()), (STEP * 2, STEP * 2), "a refusal changes nothing");
    charge.ease(0);
    assert_eq!(one.used(), STEP, "the last step is kept");
    charge.cover(STEP + 1, || other.clone()).unwrap();
    assert_eq!((one.used(), other.used()), (0, STEP * 2));
    charge.cover_anyway(STEP * 4, || other.clone());
    assert_eq!(other.used(), STEP * 4);
    charge.release();
    assert_eq!((charge.bytes(), other.used()), (0, 0));
}

proptest::proptest! {
    /// Whatever is taken, grown, shrunk and dropped, in whichever account of a tree: each account's sum is that of
    /// what is held from it and from those below it, for each holding, and never more than it may be.
    #[test]
    fn the_sum_of_what_is_held_is_what_is_used(
        steps in proptest::collection::vec((0_usize..4, 0_usize..8, 0_u64..60, 0_usize..6), 1..200),
    ) {
        let host = Account::of_host(400);
        let root = Account::below(&host, Name::root());
        let (a, b) = (Account::below(&root, name("a")), Account::below(&root, name("b")));
        a.configure(120, false);
        b.configure(200, true);
        let accounts = [&host, &root, &a, &b];
        let mut held: Vec<Held> = Vec::new();
        for (at, holding, bytes, what) in steps {
            match what {
                0..3 => held.extend(accounts[at].take(Holding::ALL[holding], bytes)),
                3 => {
                    let _ = held.last_mut().is_some_and(|held| held.grow(bytes));
                }
                4 => held.iter_mut().take(1).for_each(|held| held.shrink_to(bytes)),
                _ if held.is_empty() => {}
                _ => drop(held.swap_remove(at % held.len())),
            }
            for account in accounts {
                let is_here = |held: &&Held| held.account.chain().any(|above| std::ptr::eq(above, Arc::as_ptr(account)));
                for holding in Holding::ALL {
                    let sum: u64 = held.iter().filter(is_here).filter(|held| held.holding == holding).map(Held::bytes).sum();
                    proptest::prop_assert_eq!(account.used_by(holding), sum);
                }
                let sum: u64 = held.iter().filter(is_here).map(Held::bytes).sum();
                proptest::prop_assert_eq!(account.used(), sum);
                proptest::prop_assert!(sum <= account.bytes_max());
            }
        }
        drop(held);
        proptest::prop_assert!(accounts.iter().all(|account| account.used() == 0));
    }
}
