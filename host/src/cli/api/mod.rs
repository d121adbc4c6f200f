//! The client's side of the API: requests, answers, pages and streams.

mod body;
mod client;
mod follow;
mod pages;
mod path;
mod sse;

pub use client::{Client, Reply, Request, parse};
pub use follow::follow;
pub use pages::pages;
pub use path::ApiPath;
pub use sse::SseEvent;
