//! A counter. Version 1 keeps one number.

use paguro_sdk::{Answer, CallId, Context, Snapshot, Worker, worker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
struct Counter {
    count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Add(Option<u64>),
    Get,
    Crash,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    Add(Option<u64>),
}

/// What version 2 saves. Knowing it is what lets an operator go back.
#[derive(Deserialize)]
struct CountsByKey {
    counts: BTreeMap<String, u64>,
}

impl Counter {
    fn add(&mut self, by: Option<u64>) {
        self.count = self.count.saturating_add(by.unwrap_or(1));
    }
}

impl Worker for Counter {
    const SCHEMA: u32 = 1;
    type Call = Request;
    type Reply = u64;
    type Cast = Message;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Counter { count: 0 })
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        match request {
            Request::Add(by) => self.add(by),
            Request::Get => {}
            Request::Crash => panic!("asked to crash"),
        }
        Ok(self.count.into())
    }

    fn cast(&mut self, Message::Add(by): Message) -> Result<(), String> {
        self.add(by);
        Ok(())
    }

    fn upgrade(old: Snapshot) -> Result<Self, String> {
        match old.schema {
            2 => {
                let CountsByKey { counts } = old.read()?;
                Ok(Counter {
                    count: counts.into_values().fold(0, u64::saturating_add),
                })
            }
            other => Err(format!("schema {other} is not one that a counter ever had")),
        }
    }
}

worker!(Counter);
