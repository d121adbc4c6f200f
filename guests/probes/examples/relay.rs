//! A worker for benchmarks; see `relay/worker.rs`. Version 1.

#![allow(missing_docs)]

const VERSION: u8 = 1;

include!("relay/worker.rs");
