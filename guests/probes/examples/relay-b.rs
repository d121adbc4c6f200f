//! A worker for benchmarks; see `relay/worker.rs`. Version 2.

#![allow(missing_docs)]

const VERSION: u8 = 2;

include!("relay/worker.rs");
