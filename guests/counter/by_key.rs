//! What versions 2 and 3 have in common: a number for each key. The fault guests that stand in for
//! a counter use it too.

use std::collections::BTreeMap;

use paguro_sdk::Snapshot;
use serde::{Deserialize, Serialize};

/// Where version 1's one number goes, and what an `add` without a key adds to.
const DEFAULT_KEY: &str = "default";

/// The state of schema 2.
#[derive(Default, Serialize, Deserialize)]
pub struct Counter {
    counts: BTreeMap<String, u64>,
}

/// What a caller may ask.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Add(Option<Amount>),
    Get(Option<String>),
    Crash,
}

/// What may be cast.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    Add(Option<Amount>),
}

/// `3`, or `{"key":"a","by":3}`.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Amount {
    By(u64),
    To { key: String, by: Option<u64> },
}

/// The state of schema 1.
#[derive(Deserialize)]
struct OneCount {
    count: u64,
}

impl Counter {
    /// Adds, and returns the new number of the key.
    pub fn add(&mut self, amount: Option<Amount>) -> u64 {
        let (key, by) = match amount {
            None => (DEFAULT_KEY.to_owned(), 1),
            Some(Amount::By(by)) => (DEFAULT_KEY.to_owned(), by),
            Some(Amount::To { key, by }) => (key, by.unwrap_or(1)),
        };
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(by);
        *count
    }

    /// Answers a request with the number it is about.
    pub fn handle(&mut self, request: Request) -> Result<u64, String> {
        match request {
            Request::Add(amount) => Ok(self.add(amount)),
            Request::Get(None) => Ok(self
                .counts
                .values()
                .fold(0, |sum, n| sum.saturating_add(*n))),
            Request::Get(Some(key)) => Ok(self.counts.get(&key).copied().unwrap_or(0)),
            Request::Crash => panic!("asked to crash"),
        }
    }

    /// Takes over the state of version 1.
    pub fn from_older(old: &Snapshot) -> Result<Self, String> {
        match old.schema {
            1 => {
                let OneCount { count } = old.read()?;
                Ok(Counter {
                    counts: BTreeMap::from([(DEFAULT_KEY.to_owned(), count)]),
                })
            }
            other => Err(format!("schema {other} is not one that a counter ever had")),
        }
    }
}
