//! What a command sends: given on the command line, or read from a file or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::errors::CliError;
use crate::base::{Name, NameError, bounds, units};

/// `BODY`, `@FILE` or `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input {
    #[default]
    Empty,
    Text(String),
    File(PathBuf),
    Stdin,
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Input, String> {
        match text.strip_prefix('@') {
            Some("") => Err("`@` needs a file's name after it, such as @order.json".to_string()),
            Some(file) => Ok(Input::File(PathBuf::from(file))),
            None if text == "-" => Ok(Input::Stdin),
            None if text.is_empty() => Ok(Input::Empty),
            None => Ok(Input::Text(text.to_string())),
        }
    }
}

impl Input {
    /// The bytes to send.
    pub fn read(self) -> Result<Vec<u8>, CliError> {
        match self {
            Input::Empty => Ok(Vec::new()),
            Input::Text(text) => Ok(text.into_bytes()),
            Input::File(path) => read_file(&path),
            Input::Stdin => bounded(io::stdin().lock(), "standard input"),
        }
    }
}

/// A name as it is shown: `/` is the root.
pub fn name_or_root(text: &str) -> Result<Name, NameError> {
    if text == "/" { Ok(Name::root()) } else { Name::parse(text) }
}

/// Reads a file, or standard input where `path` is `-`.
pub fn read_file_or_stdin(path: &Path) -> Result<Vec<u8>, CliError> {
    if path == Path::new("-") { Input::Stdin.read() } else { read_file(path) }
}

/// Reads a whole file.
pub fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    let shown = path.display().to_string();
    // Before the file is opened: opening a pipe would wait for its writer.
    let about = std::fs::metadata(path).map_err(|error| unreadable(&shown, &error))?;
    if about.is_dir() {
        return Err(CliError::usage(format!("cannot read {shown}")).cause("it is a directory"));
    }
    let file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    bounded(file, &shown)
}

/// The host takes nothing larger than [`bounds::COMPONENT_BYTES_MAX`]; what is larger is refused
/// here, before it fills this program's memory.
fn bounded(from: impl Read, name: &str) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let max = bounds::COMPONENT_BYTES_MAX;
    from.take(max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > max {
        let cause = format!("it has more than {}, the most that the host takes", units::show_size(max));
        return Err(CliError::failed(format!("{name} is too large")).cause(cause));
    }
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> CliError {
    let told = CliError::usage(format!("cannot read {name}"));
    match error.kind() {
        io::ErrorKind::NotFound => told.cause("there is no such file"),
        io::ErrorKind::PermissionDenied => told.cause("you have no permission to read it"),
        _ => told.cause(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_a_file_or_standard_input() {
        assert_eq!("hello".parse(), Ok(Input::Text("hello".into())));
        assert_eq!("@order.json".parse(), Ok(Input::File("order.json".into())));
        assert_eq!("-".parse(), Ok(Input::Stdin));
        assert_eq!("-1".parse(), Ok(Input::Text("-1".into())));
        assert_eq!("".parse(), Ok(Input::Empty));
        assert!("@".parse::<Input>().is_err());
    }

    #[test]
    fn files_are_read_whole_or_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        std::fs::write(&path, b"a\0b").unwrap();
        assert_eq!(Input::File(path).read().unwrap(), b"a\0b");
        let missing = Input::File("/nowhere/body".into()).read().unwrap_err();
        assert_eq!(missing.to_string(), "error: cannot read /nowhere/body\n  cause: there is no such file");
        assert_eq!(missing.exit().code(), 2);
        assert!(read_file(dir.path()).unwrap_err().to_string().contains("it is a directory"));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_fills_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge.wasm");
        // Sparse: takes no space on the disk.
        File::create(&path).unwrap().set_len(200 << 20).unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(error.to_string().contains("more than 128.0 MiB"), "{error}");
        assert_eq!(error.exit().code(), 1);
    }
}
