//! A worker that does with files what a test tells it to: a call is a list of operations, the reply what
//! came of each. Its state is nothing.

use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::io::{self, Write};

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct Files;

/// All paths are the guest's own.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Operation {
    /// `[from, to]`
    Rename(String, String),
    /// `[content, link]`
    Symlink(String, String),
    /// `[from, to]`
    Link(String, String),
    Mkdir(String),
    Rmdir(String),
    Remove(String),
    /// `[path, text]`
    Write(String, String),
    /// `[path, text]`
    Append(String, String),
    /// -> at most [`READ_BYTES_MAX`] of it
    Read(String),
    /// -> what a link holds
    ReadLink(String),
    /// -> its kind
    Stat(String),
    /// -> names
    List(String),
    /// Traps: the next instance opens everything anew.
    Trap,
}

/// Enough to know a file by.
const READ_BYTES_MAX: usize = 4_096;

/// `{"ok": value}` or `{"err": why}`
fn carry_out(operation: &Operation) -> Value {
    let done = |result: io::Result<()>| result.map(|()| Value::Null);
    let outcome = match operation {
        Operation::Rename(from, to) => done(fs::rename(from, to)),
        Operation::Symlink(content, link) => done(symlink_raw(content, link)),
        Operation::Link(from, to) => done(fs::hard_link(from, to)),
        Operation::Mkdir(path) => done(fs::create_dir(path)),
        Operation::Rmdir(path) => done(fs::remove_dir(path)),
        Operation::Remove(path) => done(fs::remove_file(path)),
        Operation::Write(path, text) => done(fs::write(path, text)),
        Operation::Append(path, text) => done(append(path, text)),
        Operation::Read(path) => fs::read(path).map(|bytes| {
            let shown = &bytes[..bytes.len().min(READ_BYTES_MAX)];
            json!(String::from_utf8_lossy(shown))
        }),
        Operation::ReadLink(path) => fs::read_link(path).map(|content| json!(content)),
        Operation::Stat(path) => {
            fs::symlink_metadata(path).map(|found| json!(format!("{:?}", found.file_type())))
        }
        Operation::List(path) => list(path),
        Operation::Trap => panic!("asked to trap"),
    };
    match outcome {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "err": error.to_string() }),
    }
}

fn append(path: &str, text: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn list(path: &str) -> io::Result<Value> {
    let names: io::Result<Vec<_>> = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect();
    Ok(json!(
        names?
            .iter()
            .map(|name| name.to_string_lossy())
            .collect::<Vec<_>>()
    ))
}

unsafe extern "C" {
    fn symlink(content: *const c_char, link: *const c_char) -> c_int;
}

/// The standard library has it for WASI in its unstable part alone.
fn symlink_raw(content: &str, link: &str) -> io::Result<()> {
    let (content, link) = (CString::new(content)?, CString::new(link)?);
    // SAFETY: both are strings that end with a zero and live until the call returns.
    match unsafe { symlink(content.as_ptr(), link.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Worker for Files {
    type Call = Vec<Operation>;
    type Reply = Vec<Value>;
    type Cast = Value;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Files)
    }

    fn call(
        &mut self,
        _: CallId,
        operations: Vec<Operation>,
    ) -> Result<Answer<Vec<Value>>, String> {
        Ok(operations.iter().map(carry_out).collect::<Vec<_>>().into())
    }
}

worker!(Files);
