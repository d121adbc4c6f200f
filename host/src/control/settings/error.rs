//! What is wrong in a settings file, and where.

use std::fmt;
use std::path::PathBuf;

/// One mistake in a settings file: the first one found. Shown in one line, with control characters
/// escaped, as `workers/a.toml:3:5: what is wrong; what is allowed`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingsError {
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Dotted, such as `limits.memory`; empty where the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The nearest known key, or what is allowed; empty when `message` says it all.
    pub help: String,
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = one_line(&self.path.to_string_lossy());
        write!(f, "{path}:{}:{}: {}", self.line, self.column, self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}

/// `text` with control characters escaped: what others wrote must not move a terminal's cursor.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

/// The candidate that `word` was most likely meant to be, if one is near enough to be worth
/// offering. The first one wins a tie.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Of Jaro-Winkler's 0 to 1; 0.8 takes a wrong, missing or swapped letter in a word of five.
    const SIMILAR_MIN: f64 = 0.8;
    let mut best = None;
    for candidate in candidates {
        let similarity = strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
        if similarity >= SIMILAR_MIN && best.is_none_or(|(highest, _)| similarity > highest) {
            best = Some((similarity, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Line and column, both from 1, of the byte at `offset`.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let offset = text.floor_char_boundary(offset.min(text.len()));
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nbü = 2\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 6), (2, 1));
        assert_eq!(position(text, text.find('2').unwrap()), (2, 6));
        assert_eq!(position(text, 8), (2, 2), "inside a character is at its start");
        assert_eq!(position(text, 1_000), (3, 1));
    }

    #[test]
    fn only_a_near_word_is_offered() {
        let keys = ["memory", "mailbox", "fuel"];
        assert_eq!(nearest("memry", keys), Some("memory"));
        assert_eq!(nearest("Mail-Box", keys), Some("mailbox"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(one_line("a\u{1b}[31m\nb ü"), "a\\u{1b}[31m\\nb ü");
    }
}
