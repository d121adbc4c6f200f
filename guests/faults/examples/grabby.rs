//! On `file`, `env`, `net` it reaches for what nobody granted it: the host must give it nothing, and it says so.

use std::fmt::Display;
use std::net::TcpStream;

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Grabby;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    File,
    Env,
    Net,
}

/// `got: ...` or `denied: ...`
fn told<T: Display, E: Display>(result: Result<T, E>) -> String {
    match result {
        Ok(booty) => format!("got: {booty}"),
        Err(error) => format!("denied: {error}"),
    }
}

impl Worker for Grabby {
    type Call = Request;
    type Reply = String;
    type Cast = Request;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Grabby)
    }

    fn call(&mut self, _: CallId, request: Request) -> Result<Answer<String>, String> {
        let answer = match request {
            Request::File => told(std::fs::read_to_string("/etc/passwd")),
            Request::Env => told(std::env::var("PATH").or_else(|_| std::env::var("HOME"))),
            Request::Net => told(TcpStream::connect("127.0.0.1:80").map(|_| "a connection")),
        };
        Ok(answer.into())
    }
}

worker!(Grabby);
