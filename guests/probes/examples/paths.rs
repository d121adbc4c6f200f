//! Does to files what a test tells it to, by paths as it knows them. It keeps no state. What a command could not do it
//! tells as `error: ...`.

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
    /// Ends this instance.
    Trap,
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
