//! The standard library's types, or those of a model checker in their place.

#[cfg(loom)]
pub use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(shuttle)]
pub use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(any(loom, shuttle)))]
pub use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(loom)]
pub use loom::thread_local;
#[cfg(shuttle)]
pub use shuttle::thread_local;
#[cfg(not(any(loom, shuttle)))]
pub use std::thread_local;

use std::sync::PoisonError;

/// A lock for which nobody waits, by the proof of [`crate::word`]: a model checker is told where that is not so.
#[inline]
pub fn owned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if cfg!(any(loom, shuttle)) {
        return mutex.try_lock().unwrap_or_else(|_| panic!("two threads run one job"));
    }
    locked(mutex)
}

/// A panic under the lock leaves nothing half done: what is locked here is replaced as a whole.
#[inline]
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
