//! Paguro runs supervision trees of sandboxed WebAssembly workers and changes their code while they
//! run: a native host in the manner of Erlang/OTP.
//!
//! The binary `paguro` is one user of this library; another program embeds a [`control::Host`]:
//!
//! ```no_run
//! use std::time::Duration;
//! use paguro::control::{Host, HostOptions};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! // Every `.wasm` file in `workers` runs as a supervised worker.
//! let host = Host::start(HostOptions::new("workers")).await?;
//! let reply = host.call("counter", "add".into(), Duration::from_secs(5)).await?;
//! println!("{}", String::from_utf8_lossy(&reply));
//!
//! // A newer component takes over live, with the state; for 30 s the old one can come back.
//! let newer = std::fs::read("counter-v2.wasm")?;
//! let switched = host.upgrade("counter", newer, Some(Duration::from_secs(30))).await?;
//! println!("revision {} after a pause of {:?}", switched.revision, switched.pause);
//! host.commit("counter").await?;
//!
//! host.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The modules are layers, in this order of dependence: each names only those above it.

pub mod base;
pub mod change;
pub mod cli;
pub mod control;
pub mod record;
pub mod runtime;
pub mod sandbox;
