//! Turns at loading components: reading and compiling keeps cores and memory busy.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::bounds;

/// Two lanes, each first come, first served: one for large components, one after another, because
/// a compiler uses every core there is and much memory; one for small ones, a few side by side, so
/// that they pass the large ones. Clones share the lanes.
#[derive(Clone)]
pub struct Lanes {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// The right to load one component; given back when it is dropped.
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes { small: Arc::new(Semaphore::new(bounds::small_loads())), large: Arc::new(Semaphore::new(1)) }
    }
}

impl Lanes {
    /// Waits for the turn of a component of this size.
    pub async fn turn(&self, bytes: u64) -> Turn {
        let lane = if bytes < bounds::LARGE_COMPONENT_BYTES { &self.small } else { &self.large };
        // An error would mean that the semaphore was closed, which nobody does.
        Turn { _permit: lane.clone().acquire_owned().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn small_ones_pass_a_large_one() {
        let lanes = Lanes::default();
        let large = lanes.turn(bounds::LARGE_COMPONENT_BYTES).await;
        assert!(lanes.turn(bounds::COMPONENT_BYTES_MAX).now_or_never().is_none(), "one large one at a time");
        let small: Vec<Turn> =
            (0..bounds::small_loads()).map(|_| lanes.turn(1).now_or_never().expect("there is room")).collect();
        assert!(lanes.turn(1).now_or_never().is_none(), "no more than the bound says");
        drop((large, small));
        assert!(lanes.turn(bounds::COMPONENT_BYTES_MAX).now_or_never().is_some());
        assert!(lanes.turn(1).now_or_never().is_some());
    }
}
