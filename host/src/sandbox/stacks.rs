//! The stacks on which guests run, used again: to map one, to touch its pages for the first time and to unmap it
//! is a good part of what a short life of an instance costs, the last above all, for which the other cores are
//! interrupted.
//!
//! The engine keeps a stack with its store from call to call. One that is seldom called gives the memory of it back
//! after each call ([`Lent::release`]): a guest that went deep once would keep all of that.
//!
//! Guests cannot read their stack, and the engine writes what it reads: what the one before left on it is seen
//! by nobody.

use std::cell::RefCell;
use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;
use wasmtime::{StackCreator, StackMemory};

use crate::base::bounds;

/// Makes stacks, and takes back those that are let go of.
#[derive(Default)]
pub(super) struct Stacks(Arc<Free>);

/// Stacks of one size that nobody uses. The one that was used last is first.
#[derive(Default)]
struct Free(Mutex<Vec<Mapping>>);

impl Free {
    fn stacks(&self) -> MutexGuard<'_, Vec<Mapping>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory of a stack: a page that cannot be touched, and above it what can.
struct Mapping {
    base: *mut c_void,
    bytes: usize,
}

// SAFETY: it owns memory, as a `Box` does; nothing about it belongs to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Mapping {}
// SAFETY: shared, it gives away nothing but addresses.
#[allow(unsafe_code)]
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `usable`: bytes without the guard page, whole pages.
    fn new(usable: usize) -> io::Result<Mapping> {
        let guard = page_size();
        let bytes = usable + guard;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        #[allow(unsafe_code)]
        let base = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let mapping = Mapping { base, bytes };
        let usable = mapping.usable();
        // SAFETY: the range is a part of the mapping just made, which nobody else knows.
        #[allow(unsafe_code)]
        unsafe { mprotect(usable.start as *mut c_void, usable.len(), MprotectFlags::READ | MprotectFlags::WRITE) }?;
        Ok(mapping)
    }

    fn usable(&self) -> Range<usize> {
        let base = self.base as usize;
        base + page_size()..base + self.bytes
    }

    /// Gives back the memory of the deep part, which few calls use: what a guest once used of it would stay.
    fn trim(&self) {
        let Range { start, end } = self.usable();
        let kept = bounds::FREE_STACK_BYTES.min(end - start);
        // SAFETY: nobody runs on a stack that was let go of, and who gets it next expects nothing on it.
        #[allow(unsafe_code)]
        let trimmed = unsafe { madvise(start as *mut c_void, end - start - kept, Advice::LinuxDontNeed) };
        // It fails for no range that is mapped; and then the memory stays in use, no more.
        debug_assert!(trimmed.is_ok());
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with these bounds, and nothing refers to it once its owner goes.
        #[allow(unsafe_code)]
        let unmapped = unsafe { munmap(self.base, self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A stack in use.
struct Stack {
    /// Always there, until it is let go of.
    mapping: Option<Mapping>,
    /// Where it lies; gone before the mapping is anybody else's.
    place: Option<Arc<Range<usize>>>,
    free: Arc<Free>,
}

thread_local! {
    /// What the engine was given last on this thread.
    static LAST: RefCell<Weak<Range<usize>>> = const { RefCell::new(Weak::new()) };
}

/// A stack that the engine has, for as long as it has it.
#[derive(Default)]
pub(super) struct Lent(Weak<Range<usize>>);

/// What the engine was given before on this thread, put back when this is dropped.
struct Outer(Weak<Range<usize>>);

impl Drop for Outer {
    fn drop(&mut self) {
        LAST.set(std::mem::take(&mut self.0));
    }
}

impl Lent {
    /// Runs what polls the engine for one store, whose stack this is to be, and notes the stack that the engine takes
    /// for it. Every poll of a store goes through here: those that run within it, for other stores, keep theirs to
    /// themselves. One whose stack is known has the engine take no other.
    pub fn note<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        if self.0.strong_count() > 0 {
            return poll();
        }
        let _outer = Outer(LAST.with_borrow_mut(std::mem::take));
        let polled = poll();
        let last = LAST.with_borrow_mut(std::mem::take);
        if last.strong_count() > 0 {
            self.0 = last;
        }
        polled
    }

    /// Gives its memory back to the system; what is used of it again is zero then.
    ///
    /// # Safety
    ///
    /// Nothing runs on it, or waits on it, and nothing can begin to before this returns.
    #[allow(unsafe_code)]
    pub unsafe fn release(&self) {
        let Some(place) = self.0.upgrade() else { return };
        // SAFETY: it is mapped as long as its place is known, and nobody needs what is on it.
        let released = unsafe { madvise(place.start as *mut c_void, place.len(), Advice::LinuxDontNeed) };
        debug_assert!(released.is_ok());
    }
}

impl Stack {
    fn usable(&self) -> Range<usize> {
        self.mapping.as_ref().map_or(0..0, Mapping::usable)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.place = None;
        let Some(mapping) = self.mapping.take() else { return };
        mapping.trim();
        let mut stacks = self.free.stacks();
        if stacks.len() < bounds::FREE_STACKS_MAX {
            stacks.push(mapping);
        } else {
            drop(stacks);
            drop(mapping);
        }
    }
}

// SAFETY: each stack is memory of its own, of the size that was asked for, page-aligned at both ends, with a page
// below it that cannot be touched. It is nobody else's until it is dropped, which the engine does when nothing
// runs on it any more. One that was used before is not zeroed: the engine asks for that only where
// `async_stack_zeroing` is set, and then a new one is made.
#[allow(unsafe_code)]
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let usable = size.next_multiple_of(page_size());
        let known = if zeroed { None } else { self.0.stacks().pop() };
        let mapping = match known.filter(|known| known.usable().len() == usable) {
            Some(known) => known,
            None => Mapping::new(usable).map_err(wasmtime::Error::new)?,
        };
        let place = Arc::new(mapping.usable());
        LAST.set(Arc::downgrade(&place));
        Ok(Box::new(Stack { mapping: Some(mapping), place: Some(place), free: self.0.clone() }))
    }
}

// SAFETY: the bounds are those of the mapping, which does not move and lives as long as this.
#[allow(unsafe_code)]
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.usable().end as *mut u8
    }

    fn range(&self) -> Range<usize> {
        self.usable()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.usable().start;
        (start - page_size()) as *mut u8..start as *mut u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 1 << 20;

    #[test]
    fn a_stack_that_was_let_go_of_is_used_again_and_no_two_share_one() {
        let stacks = Stacks::default();
        let first = stacks.new_stack(SIZE, false).unwrap();
        let second = stacks.new_stack(SIZE, false).unwrap();
        let (one, other) = (first.range(), second.range());
        assert!(one.len() == SIZE && (one.end <= other.start || other.end <= one.start), "{one:?} {other:?}");
        assert_eq!(first.guard_range().end as usize, one.start);
        drop(first);
        assert_eq!(stacks.new_stack(SIZE, false).unwrap().range(), one);
        drop(second);
        assert_eq!(stacks.0.stacks().len(), 2);
    }

    #[test]
    fn no_more_are_kept_than_the_bound_and_of_each_only_the_top() {
        let stacks = Stacks::default();
        let many: Vec<_> = (0..bounds::FREE_STACKS_MAX + 3).map(|_| stacks.new_stack(SIZE, false).unwrap()).collect();
        drop(many);
        assert_eq!(stacks.0.stacks().len(), bounds::FREE_STACKS_MAX);

        let stack = stacks.new_stack(SIZE, false).unwrap();
        let (deep, top) = (stack.range().start as *mut u8, (stack.range().end - 1) as *mut u8);
        // SAFETY: both lie within the stack, which is this test's own as long as it is held.
        #[allow(unsafe_code)]
        unsafe {
            (*deep, *top) = (7, 9);
        }
        drop(stack);
        let again = stacks.new_stack(SIZE, false).unwrap();
        assert_eq!(again.range().start as *mut u8, deep, "the same");
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let found = unsafe { (*deep, *top) };
        assert_eq!(found, (0, 9));
    }

    #[test]
    fn one_that_the_engine_has_gives_its_memory_back_and_one_that_it_let_go_of_is_left_alone() {
        let stacks = Stacks::default();
        let mut lent = Lent::default();
        let stack = lent.note(|| stacks.new_stack(SIZE, false).unwrap());
        let top = (stack.range().end - 1) as *mut u8;
        // SAFETY: the stack is this test's own, and nothing runs on it.
        #[allow(unsafe_code)]
        let found = unsafe {
            *top = 9;
            lent.release();
            let found = *top;
            *top = 8;
            found
        };
        assert_eq!(found, 0);
        drop(stack);
        let again = stacks.new_stack(SIZE, false).unwrap();
        assert_eq!(again.range().end - 1, top as usize, "the same");
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let found = unsafe {
            lent.release();
            *top
        };
        assert_eq!(found, 8, "it is another's by now");
    }

    #[test]
    fn nobody_takes_the_stack_of_another_for_its_own() {
        let stacks = Stacks::default();
        let new = || stacks.new_stack(SIZE, false).unwrap();
        let place = |lent: &Lent| lent.0.upgrade().map(|place| (*place).clone());
        // Left over by who took no note of it.
        let _other = new();
        let [mut outer, mut inner, mut none] = [Lent::default(), Lent::default(), Lent::default()];
        none.note(|| ());
        assert_eq!(place(&none), None);
        // One runs another, which gets its stack within.
        let (first, second) = outer.note(|| {
            let within = inner.note(new);
            none.note(|| ());
            (new(), within)
        });
        assert_eq!((place(&outer), place(&inner)), (Some(first.range()), Some(second.range())));
        assert_eq!(place(&none), None);
        // One that had its stack before runs another.
        let mut third = Lent::default();
        let within = outer.note(|| third.note(new));
        assert_eq!((place(&outer), place(&third)), (Some(first.range()), Some(within.range())));
        // One that gets none runs one that panics.
        let mut fourth = Lent::default();
        let mut panics = || {
            none.note(|| {
                let _new = new();
                panic!("this is what the test is for")
            })
        };
        fourth.note(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> () { panics() })).unwrap_err());
        assert_eq!(place(&fourth), None);
    }

    #[test]
    fn one_that_is_asked_for_zeroed_is_new() {
        let stacks = Stacks::default();
        drop(stacks.new_stack(SIZE, false).unwrap());
        let zeroed = stacks.new_stack(SIZE, true).unwrap();
        assert_eq!(stacks.0.stacks().len(), 1, "the used one is still there");
        drop(zeroed);
    }
}
