//! What a worker may use. Each limit has a default, is enforced, and has a fault guest that proves
//! it (`guests/faults`).

use std::time::Duration;

/// Limits of one worker. All hold for each instance by itself: during probation a worker has two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, over all memories of the component. When the guest asks for more,
    /// its `memory.grow` fails; if it then traps, the exit reason names this limit.
    pub memory: u64,
    /// Elements of all tables.
    pub table_elements: u64,
    /// Fuel for one message: about one unit for each WebAssembly instruction.
    pub fuel: u64,
    /// Fuel per second, over all messages: one that has used more waits, and its messages' deadlines
    /// hold meanwhile. A start is not charged. `None`: no bound of its own.
    pub cpu: Option<u64>,
    /// Wall-clock time for one message, the calls it makes to other workers included.
    pub deadline: Duration,
    /// Wall-clock time from instantiation to the end of `init` or `resume`. Fuel is not counted
    /// then: interpreters burn much of it once.
    pub start: Duration,
    /// Bytes of one request, reply or cast.
    pub payload: u64,
    /// Bytes of a snapshot.
    pub state: u64,
    /// Messages that wait. More are refused with `overloaded`.
    pub mailbox: usize,
    /// Log lines in one second. More are dropped, counted, and said to be.
    pub log_lines: u32,
}

impl Default for Limits {
    /// Memory: a Python worker needs about 40 MiB to start, a Rust one 1.2. Fuel: a tight loop burns
    /// it in about a second. Mailbox and deadline: DESIGN section 6.
    fn default() -> Limits {
        Limits {
            memory: 128 << 20,
            table_elements: 100_000,
            fuel: 10_000_000_000,
            cpu: None,
            deadline: Duration::from_secs(5),
            start: Duration::from_secs(10),
            payload: 4 << 20,
            state: 64 << 20,
            mailbox: 1_000,
            log_lines: 200,
        }
    }
}
