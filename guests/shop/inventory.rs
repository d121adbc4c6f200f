//! Keeps stock, and reserves it for orders.
//!
//! A caller whose call timed out does not know whether it was handled, so each request about an order
//! can be repeated: reserving twice reserves once, releasing what is not reserved does nothing.

use std::collections::BTreeMap;

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Default, Serialize, Deserialize)]
struct Inventory {
    free: BTreeMap<String, u64>,
    reserved: BTreeMap<String, Reservation>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Reservation {
    item: String,
    quantity: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    /// Adds to what is free, and answers with it.
    Stock { item: String, quantity: u64 },
    /// Sets stock aside for an order, and answers with what stays free.
    Reserve {
        order: String,
        item: String,
        quantity: u64,
    },
    /// Gives an order's stock back. Answers whether there was any.
    Release { order: String },
    /// The order's goods have left. Answers whether there were any.
    Take { order: String },
    /// What is free: of one item, or of all.
    Get(Option<String>),
}

/// Stock to begin with, from the settings: `[config.stock]`.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    stock: BTreeMap<String, u64>,
}

impl Inventory {
    fn free(&mut self, item: &str) -> &mut u64 {
        self.free.entry(item.to_owned()).or_default()
    }

    fn reserve(&mut self, order: String, item: String, quantity: u64) -> Result<u64, String> {
        if self.reserved.contains_key(&order) {
            return Ok(*self.free(&item));
        }
        let free = self.free(&item);
        let Some(left) = free.checked_sub(quantity) else {
            return Err(format!("only {free} of {item} left"));
        };
        *free = left;
        self.reserved.insert(order, Reservation { item, quantity });
        Ok(left)
    }

    fn release(&mut self, order: &str) -> bool {
        let Some(Reservation { item, quantity }) = self.reserved.remove(order) else {
            return false;
        };
        let free = self.free(&item);
        *free = free.saturating_add(quantity);
        true
    }

    fn handle(&mut self, request: Request) -> Result<Value, String> {
        Ok(match request {
            Request::Stock { item, quantity } => {
                let free = self.free(&item);
                *free = free.saturating_add(quantity);
                json!(*free)
            }
            Request::Reserve {
                order,
                item,
                quantity,
            } => json!(self.reserve(order, item, quantity)?),
            Request::Release { order } => json!(self.release(&order)),
            Request::Take { order } => json!(self.reserved.remove(&order).is_some()),
            Request::Get(Some(item)) => json!(self.free.get(&item).copied().unwrap_or(0)),
            Request::Get(None) => json!(self.free),
        })
    }
}

impl Worker for Inventory {
    type Call = Request;
    type Reply = Value;
    type Cast = Request;

    fn init(context: &Context) -> Result<Self, String> {
        let Config { stock } = context.config()?;
        Ok(Inventory {
            free: stock,
            reserved: BTreeMap::new(),
        })
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<Value>, String> {
        self.handle(request).map(Answer::Now)
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        self.handle(request).map(drop)
    }
}

worker!(Inventory);
