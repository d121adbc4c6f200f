//! Where words go: data to standard output, everything else to standard error. Colours are taken
//! away by `anstream` where they are not wanted (`NO_COLOR`, a pipe, a dumb terminal).

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::ProgressBar;

use super::errors::CliError;
use super::render;

/// Time between two frames of the spinner.
const SPINNER_FRAME: Duration = Duration::from_millis(100);

/// Writes finished text, which may hold colours, to standard output.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::output)
}

/// Writes one line to standard output.
pub fn print_line(line: &str) -> Result<(), CliError> {
    print(&format!("{line}\n"))
}

/// Writes JSON as the host sent it, and a newline.
pub fn print_json(json: &[u8]) -> Result<(), CliError> {
    let out = io::stdout();
    let shown = match std::str::from_utf8(json) {
        Ok(text) if out.is_terminal() => render::safe_json(text).into_bytes(),
        _ => json.to_vec(),
    };
    write_all(out.lock(), &[shown.trim_ascii_end(), b"\n"])
}

/// Writes bytes that a guest made: as they are into a pipe or a file, so that nothing is lost; on a
/// terminal without the control characters that could take it over.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let out = io::stdout();
    let shown = render::reply(bytes, out.is_terminal());
    write_all(out.lock(), &[&shown])
}

/// As [`print_bytes`], but adds nothing where it is not a terminal: for what is stored and put back.
pub fn print_bytes_exactly(bytes: &[u8]) -> Result<(), CliError> {
    if io::stdout().is_terminal() { print_bytes(bytes) } else { write_all(io::stdout().lock(), &[bytes]) }
}

/// Writes a line for the person who watches, to standard error. Nobody watching is no error.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Shows that `what` takes its time: a spinner on a terminal, one plain line elsewhere. The spinner
/// goes when the value is dropped.
pub fn progress(what: &str) -> Progress {
    if !io::stderr().is_terminal() {
        note(what);
        return Progress(ProgressBar::hidden());
    }
    let bar = ProgressBar::new_spinner().with_message(what.to_string());
    bar.enable_steady_tick(SPINNER_FRAME);
    Progress(bar)
}

/// See [`progress`].
pub struct Progress(ProgressBar);

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn write_all(mut out: impl Write, parts: &[&[u8]]) -> Result<(), CliError> {
    parts.iter().try_for_each(|part| out.write_all(part)).and_then(|()| out.flush()).map_err(CliError::output)
}
