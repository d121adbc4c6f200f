//! Does to files what a test tells it to, by paths as it knows them. It keeps no state. What a command could not do it
//! tells as `error: ...`.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::io;

use paguro_sdk::{Answer, CallId, Context, Worker, worker};
use serde::Deserialize;
use serde::Serialize;

#[derive(Serialize, Deserialize)]
struct Files;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Command {
    /// -> what is in a file
    Read(String),
    /// `[path, text]`
    Write(String, String),
    /// -> the names in a directory, in order
    List(String),
    MakeDir(String),
    /// A file or a symbolic link.
    Remove(String),
    RemoveDir(String),
    /// `[from, to]`
    Rename(String, String),
    /// `[file, its other name]`
    Link(String, String),
    /// `[what it says, the link]`
    Symlink(String, String),
    /// `[file, count]`: opens it so often, and keeps it open. -> how often it could
    Hold(String, u32),
    /// Lets go of all that it holds.
    LetGo,
    /// `[path, count]`: makes so many files, named by number
    Make(String, u32),
    /// -> how many names are in a directory
    Count(String),
    /// Sets the times of what a path leads to.
    Touch(String),
    /// Ends this instance.
    Trap,
}

thread_local! {
    static HELD: RefCell<Vec<fs::File>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" {
    fn utimensat(
        directory: c_int,
        path: *const c_char,
        times: *const c_void,
        flags: c_int,
    ) -> c_int;
}

/// What the C library calls the directory that it works in.
const AT_FDCWD: c_int = -2;

fn touch(path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the path ends with a zero and outlives the call; no times mean now.
    let failed = unsafe { utimensat(AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) } != 0;
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn done(command: Command) -> io::Result<String> {
    match command {
        Command::Read(path) => return fs::read_to_string(path),
        Command::List(path) => {
            let names = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>();
            let mut names = names?;
            names.sort();
            return Ok(names.join(" "));
        }
        Command::Hold(path, count) => {
            let more = (0..count).map_while(|_| fs::File::open(&path).ok());
            return Ok(HELD.with_borrow_mut(|held| {
                held.extend(more);
                held.len().to_string()
            }));
        }
        Command::LetGo => HELD.with_borrow_mut(Vec::clear),
        Command::Make(path, count) => {
            for number in 0..count {
                fs::write(format!("{path}/{number}"), "")?;
            }
        }
        Command::Count(path) => {
            return Ok(fs::read_dir(path)?
                .collect::<io::Result<Vec<_>>>()?
                .len()
                .to_string());
        }
        Command::Touch(path) => touch(&path)?,
        Command::Write(path, text) => fs::write(path, text)?,
        Command::MakeDir(path) => fs::create_dir(path)?,
        Command::Remove(path) => fs::remove_file(path)?,
        Command::RemoveDir(path) => fs::remove_dir(path)?,
        Command::Rename(from, to) => fs::rename(from, to)?,
        Command::Link(file, name) => fs::hard_link(file, name)?,
        // The one name that every target has for it.
        #[allow(deprecated)]
        Command::Symlink(says, link) => fs::soft_link(says, link)?,
        Command::Trap => panic!("asked to trap"),
    }
    Ok("done".to_string())
}

impl Worker for Files {
    type Call = Command;
    type Reply = String;
    type Cast = Command;

    fn init(_: &Context) -> Result<Self, String> {
        Ok(Files)
    }

    fn call(&mut self, _: CallId, command: Command) -> Result<Answer<String>, String> {
        let told = done(command).unwrap_or_else(|error| format!("error: {error}"));
        Ok(told.into())
    }
}

worker!(Files);
