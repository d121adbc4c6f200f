//! Orders, each a small state machine:
//!
//! ```text
//!     new --reserved by inventory--> reserved --pay--> paid --ship--> shipped
//!      |                               |                |
//!      +--no stock: refused            +--cancel, or----+--cancel--> cancelled
//!                                         not paid in time
//! ```
//!
//! A cancelled order gives its stock back. The timers are the host's, so an order that nobody pays
//! is cancelled in time even if this worker was restarted, upgraded or asleep meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use paguro_sdk::{
    Answer, CallId, Context, TimerId, Worker, call, cancel, cast, send_after, worker,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const RESERVE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Orders {
    orders: BTreeMap<String, Order>,
    /// Read from the settings at each start; not part of the state.
    #[serde(skip)]
    config: Config,
    #[serde(skip)]
    inventory: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    item: String,
    quantity: u64,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<TimerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    New,
    Reserved,
    Paid,
    Shipped,
    Cancelled,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Place {
        order: String,
        item: String,
        quantity: u64,
    },
    Pay(String),
    Ship(String),
    Cancel(String),
    Get(String),
    List,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    Expire(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Config {
    /// How long an order may stay unpaid. 15 minutes unless the settings say otherwise.
    pay_within_ms: Option<u64>,
    /// Full name of the worker that keeps the stock: `inventory` beside this one, unless set.
    inventory: Option<String>,
}

impl Orders {
    fn configure(&mut self, context: &Context) -> Result<(), String> {
        self.config = context.config()?;
        self.inventory = self
            .config
            .inventory
            .clone()
            .unwrap_or_else(|| context.sibling("inventory"));
        Ok(())
    }

    fn order(&mut self, id: &str) -> Result<&mut Order, String> {
        self.orders
            .get_mut(id)
            .ok_or_else(|| format!("there is no order {id}"))
    }

    fn place(&mut self, id: String, item: String, quantity: u64) -> Result<Status, String> {
        if self
            .orders
            .get(&id)
            .is_some_and(|order| order.status != Status::New)
        {
            return Err(format!("order {id} exists"));
        }
        // Kept as `new` before the call: should this worker die in it, placing the order again
        // continues where it was, and the inventory knows a repeated reservation.
        let new = Order {
            item: item.clone(),
            quantity,
            status: Status::New,
            timer: None,
        };
        self.orders.insert(id.clone(), new);
        let request = json!({ "reserve": { "order": id, "item": item, "quantity": quantity } });
        let reserved: Result<Value, _> = call(&self.inventory, &request, RESERVE_TIMEOUT);
        if let Err(error) = reserved {
            // The call may have been handled after all, and then the stock is to go back.
            self.release(&id);
            self.orders.remove(&id);
            return Err(format!("not reserved: {}", String::from(error)));
        }
        let pay_within = Duration::from_millis(self.config.pay_within_ms.unwrap_or(15 * 60 * 1000));
        let timer = send_after(pay_within, &Message::Expire(id.clone()));
        let order = self.order(&id)?;
        order.status = Status::Reserved;
        order.timer = Some(timer);
        Ok(order.status)
    }

    /// Moves an order on, if it is where it must be.
    fn advance(&mut self, id: &str, from: &[Status], to: Status) -> Result<Status, String> {
        let order = self.order(id)?;
        if !from.contains(&order.status) {
            return Err(format!("order {id} is {:?}, not {from:?}", order.status).to_lowercase());
        }
        order.status = to;
        if let Some(timer) = order.timer.take() {
            cancel(timer);
        }
        match to {
            Status::Cancelled => self.release(id),
            Status::Shipped => self.tell_inventory("take", id),
            _ => {}
        }
        Ok(to)
    }

    fn release(&self, id: &str) {
        self.tell_inventory("release", id);
    }

    /// A cast: nothing here depends on when the inventory gets to it.
    fn tell_inventory(&self, what: &str, id: &str) {
        if let Err(error) = cast(&self.inventory, &json!({ what: { "order": id } })) {
            eprintln!(
                "{what} of order {id} not told to {}: {}",
                self.inventory,
                String::from(error)
            );
        }
    }
}

impl Worker for Orders {
    type Call = Request;
    type Reply = Value;
    type Cast = Message;

    fn init(context: &Context) -> Result<Self, String> {
        let mut orders = Orders {
            orders: BTreeMap::new(),
            config: Config::default(),
            inventory: String::new(),
        };
        orders.configure(context)?;
        Ok(orders)
    }

    fn resume(&mut self, context: &Context) -> Result<(), String> {
        self.configure(context)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<Value>, String> {
        let status = match request {
            Request::Place {
                order,
                item,
                quantity,
            } => self.place(order, item, quantity)?,
            Request::Pay(id) => self.advance(&id, &[Status::Reserved], Status::Paid)?,
            Request::Ship(id) => self.advance(&id, &[Status::Paid], Status::Shipped)?,
            Request::Cancel(id) => {
                self.advance(&id, &[Status::Reserved, Status::Paid], Status::Cancelled)?
            }
            Request::Get(id) => self.order(&id)?.status,
            Request::List => return Ok(json!(self.orders).into()),
        };
        Ok(json!(status).into())
    }

    fn cast(&mut self, Message::Expire(id): Message) -> Result<(), String> {
        // A payment that was ahead of the timer in the mailbox has settled it.
        if self.order(&id)?.status == Status::Reserved {
            self.advance(&id, &[Status::Reserved], Status::Cancelled)?;
        }
        Ok(())
    }
}

worker!(Orders);
