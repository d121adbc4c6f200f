//! Reads its clocks, whatever the system's show: the host must give it a time, and 1970 while the calendar is before that.

// A guest has no other clocks than these; the ban is for the host's code.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Clock;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Ping,
    /// Seconds since 1970, by its calendar.
    Calendar,
    /// Sleeps for so many milliseconds; those that passed, by its monotonic clock.
    Sleep(u64),
}

impl Worker for Clock {
    type Call = Request;
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Clock)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        match request {
            Request::Ping => Ok(0.into()),
            Request::Calendar => {
                let passed = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Ok(passed.as_secs().into())
            }
            Request::Sleep(ms) => {
                let begun = Instant::now();
                std::thread::sleep(Duration::from_millis(ms));
                Ok(u64::try_from(begun.elapsed().as_millis())
                    .unwrap_or(u64::MAX)
                    .into())
            }
        }
    }

    fn cast(&mut self, _: Request) -> Result<(), String> {
        Ok(())
    }
}

worker!(Clock);
