//! On `{"log":N}` it logs N lines, on `log` without end: the host must keep to the log rate and say what it dropped.

use paguro_sdk::{Answer, CallId, Context, Level, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Log;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Log(Option<u64>),
    Print(Option<u64>),
}

impl Worker for Log {
    type Call = Request;
    /// How many lines it wrote.
    type Reply = u64;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Log)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<u64>, String> {
        let lines = match &request {
            Request::Log(lines) | Request::Print(lines) => lines.unwrap_or(u64::MAX),
        };
        for line in 0..lines {
            let text = format!("line {line} of many");
            match request {
                Request::Log(_) => paguro_sdk::log(Level::Info, &text),
                Request::Print(_) => println!("{text}"),
            }
        }
        Ok(lines.into())
    }
}

worker!(Log);
