//! A counter. Version 3 answers with an object: the state is that of version 2, so nothing is
//! migrated, and callers that expect a number break.

mod by_key;

use by_key::{Counter, Message, Request};
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::Serialize;

/// The changed answer.
#[derive(Serialize)]
pub struct Reply {
    count: u64,
}

impl Worker for Counter {
    const SCHEMA: u32 = 2;
    type Call = Request;
    type Reply = Reply;
    type Cast = Message;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Counter::default())
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<Reply>, String> {
        let count = self.handle(request)?;
        Ok(Reply { count }.into())
    }

    fn cast(&mut self, Message::Add(amount): Message) -> Result<(), String> {
        self.add(amount);
        Ok(())
    }

    fn upgrade(old: Snapshot) -> Result<Self, String> {
        Counter::from_older(&old)
    }
}

worker!(Counter);
