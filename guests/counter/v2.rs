//! A counter. Version 2 keeps a number for each key.

mod by_key;

use by_key::{Counter, Message, Request};
use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};

impl Worker for Counter {
    const SCHEMA: u32 = 2;
    type Call = Request;
    type Reply = u64;
    type Cast = Message;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Counter::default())
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        self.handle(request).map(Answer::Now)
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
