//! How things look: tables, times, sizes, colours, and text that came from guests made harmless.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tabwriter::TabWriter;

use crate::base::units;

pub const PLAIN: Style = Style::new();
pub const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BUSY: Style = AnsiColor::Yellow.on_default();
pub const TRIAL: Style = AnsiColor::Cyan.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// Characters of a component's hash that people are shown.
const HASH_CHARACTERS: usize = 12;

/// One field of a table.
pub struct Cell {
    text: String,
    style: Style,
}

/// A field in plain type.
pub fn cell(text: impl ToString) -> Cell {
    styled(PLAIN, text)
}

/// A field in colour.
pub fn styled(style: Style, text: impl ToString) -> Cell {
    Cell { text: safe(&text.to_string()), style }
}

/// Lays rows out under a header, two spaces between columns, no spaces at the ends.
pub fn table(header: &[&str], rows: &[Vec<Cell>]) -> String {
    let head: Vec<Cell> = header.iter().map(|word| styled(BOLD, word)).collect();
    let all: Vec<&Vec<Cell>> = std::iter::once(&head).chain(rows).collect();
    let mut layout = TabWriter::new(Vec::new()).padding(2).minwidth(0);
    for row in &all {
        let fields: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
        // Writing to a Vec cannot fail.
        let _ = writeln!(layout, "{}", fields.join("\t"));
    }
    let laid_out = layout.into_inner().unwrap_or_default();
    let laid_out = String::from_utf8_lossy(&laid_out).into_owned();
    laid_out.lines().zip(all).map(|(line, row)| paint_row(line.trim_end(), row)).collect()
}

/// Colours go on after the layout: their escapes would count as width.
fn paint_row(mut rest: &str, row: &[Cell]) -> String {
    let mut out = String::new();
    for cell in row.iter().filter(|cell| !cell.text.is_empty()) {
        // Only spaces lie between two fields, so the first match is the field itself.
        let Some(at) = rest.find(&cell.text) else { continue };
        out.push_str(&rest[..at]);
        out.push_str(&paint(cell.style, &cell.text));
        rest = &rest[at + cell.text.len()..];
    }
    out + rest + "\n"
}

/// `text` in a style; exactly `text` where the style is plain.
pub fn paint(style: Style, text: &str) -> String {
    if style == PLAIN { text.to_string() } else { format!("{style}{text}{style:#}") }
}

/// The colour of a worker's state, a verdict or a level.
pub fn style_of(word: &str) -> Style {
    match word {
        "running" | "hibernated" | "ok" | "committed" => GOOD,
        "probation" | "rehearsed" => TRIAL,
        "starting" | "restarting" | "rolling-back" | "stopping" | "warn" | "override" => BUSY,
        "isolated" | "error" | "called-off" | "rolled-back" | "rejected" => BAD,
        "down" | "debug" | "trace" => DIM,
        _ => PLAIN,
    }
}

/// Beside the name of a supervisor that does not run: how its parent has it. Nothing beside one that runs.
pub fn standing(running: bool, state: &str) -> String {
    match state {
        _ if running => String::new(),
        // A host before this one says no more, and the root has no parent.
        "" | "down" | "running" => format!("  {}", paint(BAD, "stopped")),
        state => format!("  {}", paint(style_of(state), &safe(state))),
    }
}

/// The three lines of an error, in colour.
pub fn error_lines(message: &str, cause: Option<&str>, help: Option<&str>) -> String {
    let mut lines = format!("{} {}\n", paint(BAD, "error:"), safe(message));
    for (label, style, text) in [("cause:", BOLD, cause), ("help:", TRIAL, help)] {
        if let Some(text) = text {
            let _ = writeln!(lines, "  {} {}", paint(style, label), safe(text));
        }
    }
    lines
}

/// One line of text that is harmless on a terminal: nothing in it moves the cursor, changes colours
/// or turns the direction of the text around.
pub fn safe(text: &str) -> String {
    escape(text, |_| false)
}

/// As [`safe`], with newlines and tabs as they are.
pub fn safe_lines(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

/// JSON in which what [`safe`] would escape is escaped as JSON does it: still the same document.
/// White space between values stays.
pub fn safe_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(c),
            c if is_harmful(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A guest's bytes as they are written. Into a pipe they go as they are; text gets a newline at its
/// end if it has none. On a terminal, control characters are escaped.
pub fn reply(bytes: &[u8], terminal: bool) -> Vec<u8> {
    let mut shown = match (std::str::from_utf8(bytes), terminal) {
        (Ok(text), true) => safe_lines(text).into_bytes(),
        (Err(_), true) => bytes.escape_ascii().to_string().into_bytes(),
        (Ok(_), false) => bytes.to_vec(),
        (Err(_), false) => return bytes.to_vec(),
    };
    if !shown.is_empty() && !shown.ends_with(b"\n") {
        shown.push(b'\n');
    }
    shown
}

/// The part of a hash that people are shown.
pub fn short(hash: &str) -> &str {
    hash.get(..HASH_CHARACTERS).unwrap_or(hash)
}

/// `1d 4h`, `2m 5s`, `830ms`: how long something has lasted, in two parts at most.
pub fn age(ms: u64) -> String {
    let (seconds, minutes, hours) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{seconds}s"),
        60_000..3_600_000 => two_parts((minutes, "m"), (seconds % 60, "s")),
        3_600_000..86_400_000 => two_parts((hours, "h"), (minutes % 60, "m")),
        _ => two_parts((hours / 24, "d"), (hours % 24, "h")),
    }
}

fn two_parts((large, large_unit): (u64, &str), (small, small_unit): (u64, &str)) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    }
}

/// A duration in microseconds, for people.
pub fn micros(us: u64) -> String {
    units::show_duration(Duration::from_micros(us))
}

/// `1 message`, `2 messages`.
pub fn count(number: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("1 {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

/// `12_345_678` as `12.3M`: a number of which only the size matters.
pub fn about(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

/// A moment of the wire to the second: `2026-01-01 12:00:00Z`.
pub fn moment(rfc3339: &str) -> String {
    match rfc3339.split_once('T') {
        Some((date, time)) if time.len() >= 8 && time.is_char_boundary(8) => format!("{date} {}Z", &time[..8]),
        _ => rfc3339.to_string(),
    }
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) && !keep(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Control characters, and the characters that reorder or break lines without being seen.
fn is_harmful(c: char) -> bool {
    let invisible =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || invisible
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_line_up_and_colours_take_no_width() {
        let rows = [
            vec![cell("greeter"), styled(GOOD, "running"), cell("")],
            vec![cell("büro/x"), styled(BAD, "isolated"), cell("override")],
        ];
        let coloured = table(&["NAME", "STATE", "FILE"], &rows);
        assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"), "{coloured:?}");
        expect![[r#"
            NAME     STATE     FILE
            greeter  running
            büro/x   isolated  override
        "#]]
        .assert_eq(&anstream::adapter::strip_str(&coloured).to_string());
    }

    #[test]
    fn what_guests_say_cannot_take_over_the_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\nc\t\u{9b}\u{202e}ü"), "a\\u{1b}[2Jb\\nc\\t\\u{9b}\\u{202e}ü");
        assert_eq!(safe_lines("a\nb\u{7}"), "a\nb\\u{7}");
        assert_eq!(safe_json("{\"a\":\"\u{9b}\"}\n"), "{\"a\":\"\\u009b\"}\n");
        assert_eq!(reply(b"a\x1b[2J", true), b"a\\u{1b}[2J\n");
        assert_eq!(reply(b"\xff\x1b", true), b"\\xff\\x1b\n");
    }

    #[test]
    fn a_reply_gets_a_newline_where_it_is_text_without_one() {
        assert_eq!(reply(b"7", false), b"7\n");
        assert_eq!(reply(b"7\n", false), b"7\n");
        assert_eq!(reply(b"7\n", true), b"7\n");
        assert_eq!(reply(b"\xff", false), b"\xff");
        assert_eq!(reply(b"", true), b"");
    }

    #[test]
    fn times_and_numbers_are_short() {
        let shown = [age(830), age(1_999), age(59_999), age(61_000), age(90_061_000), age(60_000), age(0)];
        assert_eq!(shown, ["830ms", "1s", "59s", "1m 1s", "1d 1h", "1m", "0ms"]);
        assert_eq!([about(9_999), about(12_345), about(12_345_678)], ["9999", "12.3k", "12.3M"]);
        assert_eq!(moment("2026-01-01T12:34:56.789Z"), "2026-01-01 12:34:56Z");
        assert_eq!(moment("soon"), "soon");
        assert_eq!([count(1, "message"), count(0, "message")], ["1 message", "0 messages"]);
    }
}
