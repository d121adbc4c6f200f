//! What the fault guests have in common: a worker that is well until it is told otherwise, and a
//! counter that can stand in for the example of that name.

#[path = "../../counter/by_key.rs"]
#[allow(missing_docs)]
pub mod by_key;

use std::hint::black_box;

/// Computes for ever. The host must be able to stop it anywhere, so it calls nothing.
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
