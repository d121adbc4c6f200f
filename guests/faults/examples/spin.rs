//! On `spin` it never returns: the host must stop it at its fuel or deadline and serve others meanwhile.

use guest_faults::spin;
use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Spin;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Ping,
    Spin,
}

impl Worker for Spin {
    type Call = Request;
    type Reply = &'static str;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Spin)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<&'static str>, String> {
        match request {
            Request::Ping => Ok("pong".into()),
            Request::Spin => spin(),
        }
    }

    fn cast(&mut self, request: Request) -> Result<(), String> {
        match request {
            Request::Ping => Ok(()),
            Request::Spin => spin(),
        }
    }
}

worker!(Spin);
