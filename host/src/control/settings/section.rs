//! Walks a parsed TOML text, so that every mistake has a line, a column and a key.
//!
//! Knows the forms of values (durations, sizes, counts, words), not what any key means.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{SettingsError, nearest, one_line, position};
use crate::base::bounds;
use crate::base::units::{parse_duration, parse_size, plural, show_duration, show_size};

/// Longest time a setting may say: a year. Longer: refused, for it is a slip of the pen, and sums of times
/// must not overflow. Who means "for ever" has the word for it where it makes sense.
/// Something that is done more often than this would leave its worker little time for anything else.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
pub(super) const DURATION_MAX: Duration = Duration::from_secs(31_557_600);

/// Said of keys that the design names and this version does not carry out.
const NOT_YET: &str = "is not supported by this version yet";

/// A key that may be written in one section.
pub(super) struct Key {
    pub name: &'static str,
    /// As one would write it; in parentheses where there is no such text.
    pub default: &'static str,
    pub meaning: &'static str,
}

/// The keys of one section.
pub(super) struct Schema {
    /// Such as `limits`; empty for the top of the file.
    pub section: &'static str,
    /// How messages call it.
    pub title: &'static str,
    pub keys: &'static [Key],
    /// Names of sections below this one.
    pub sections: &'static [&'static str],
    /// Keys that are known to come, and are refused.
    pub later: &'static [&'static str],
}

/// Where a text came from; gives errors their place.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// Parses the text as TOML.
    pub fn parse(self) -> Result<Spanned<DeTable<'a>>, SettingsError> {
        if self.text.len() as u64 > bounds::SETTINGS_BYTES_MAX {
            let most = show_size(bounds::SETTINGS_BYTES_MAX);
            return Err(self.error(0..0, "", "the file is too large", format!("{most} are allowed")));
        }
        DeTable::parse(self.text)
            .map_err(|error| self.error(error.span().unwrap_or(0..0), "", one_line(error.message()), ""))
    }

    pub fn error(
        self,
        at: Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> SettingsError {
        let (line, column) = position(self.text, at.start);
        SettingsError {
            path: self.path.to_path_buf(),
            line,
            column,
            key: one_line(key),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Where keys are written: line and column of their values, from 1, by dotted key.
pub type Places = BTreeMap<String, (usize, usize)>;

/// The places of those keys of `schemas` that `text` has; none where it is no TOML.
pub(super) fn places(text: &str, schemas: &[Schema]) -> Places {
    let Ok(document) = DeTable::parse(text) else { return Places::new() };
    fn value<'a, 'b>(table: &'a DeTable<'b>, key: &str) -> Option<&'a Spanned<DeValue<'b>>> {
        table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }
    let mut places = Places::new();
    for schema in schemas {
        let table = match schema.section {
            "" => Some(document.get_ref()),
            section => value(document.get_ref(), section).and_then(|section| match section.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => None,
            }),
        };
        for key in schema.keys {
            if let Some(value) = table.and_then(|table| value(table, key.name)) {
                places.insert(dotted(schema.section, key.name), position(text, value.span().start));
            }
        }
    }
    places
}

/// A table whose keys are all known.
pub(super) struct Section<'a> {
    source: Source<'a>,
    name: &'static str,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// Fails at the first key, in the order of the text, that `schema` does not have.
    pub fn open(source: Source<'a>, schema: &Schema, table: &'a DeTable<'a>) -> Result<Section<'a>, SettingsError> {
        let mut keys: Vec<_> = table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        for key in keys {
            let name: &str = key.get_ref();
            let known = || schema.keys.iter().map(|key| key.name).chain(schema.sections.iter().copied());
            if known().any(|known| known == name) {
                continue;
            }
            let shown = one_line(name);
            let dotted = dotted(schema.section, name);
            if schema.later.contains(&name) {
                return Err(source.error(key.span(), &dotted, format!("`{shown}` {NOT_YET}"), ""));
            }
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its keys are {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(source.error(key.span(), &dotted, format!("`{shown}` is not a key of {}", schema.title), help));
        }
        Ok(Section { source, name: schema.section, table })
    }

    /// The value of `key`, if it is written.
    pub fn field(&self, key: &str) -> Option<Field<'a>> {
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
        Some(Field { source: self.source, key: dotted(self.name, key), value })
    }

    /// The section below this one, if it is written.
    pub fn section(&self, schema: &Schema) -> Result<Option<Section<'a>>, SettingsError> {
        let Some(field) = self.field(schema.section) else { return Ok(None) };
        Section::open(self.source, schema, field.table()?).map(Some)
    }
}

fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_string() } else { format!("{section}.{key}") }
}

/// One value, with its place and key.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub source: Source<'a>,
    pub key: String,
    pub value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Field<'a> {
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) -> SettingsError {
        self.source.error(self.value.span(), &self.key, message, help)
    }

    fn wrong_kind(&self, wanted: &str) -> SettingsError {
        self.error(format!("`{}` must be {wanted}", one_line(&self.key)), "")
    }

    pub fn table(&self) -> Result<&'a DeTable<'a>, SettingsError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.wrong_kind("a table")),
        }
    }

    /// The values of an array, each as a field of the same key.
    pub fn items(&self) -> Result<Vec<Field<'a>>, SettingsError> {
        match self.value.get_ref() {
            DeValue::Array(items) => {
                Ok(items.iter().map(|value| Field { source: self.source, key: self.key.clone(), value }).collect())
            }
            _ => Err(self.wrong_kind("a list")),
        }
    }

    pub fn text(&self) -> Result<&'a str, SettingsError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_kind("a text in quotes")),
        }
    }

    pub fn truth(&self) -> Result<bool, SettingsError> {
        match self.value.get_ref() {
            DeValue::Boolean(truth) => Ok(*truth),
            _ => Err(self.wrong_kind("true or false")),
        }
    }

    /// A text without NUL, which no operating system can pass on.
    pub fn text_without_nul(&self) -> Result<&'a str, SettingsError> {
        let text = self.text()?;
        if text.contains('\0') { Err(self.error(format!("`{}` has a NUL in it", self.key), "")) } else { Ok(text) }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, SettingsError> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write {}", all.join(" or ")),
            };
            self.error(format!("\"{}\" is not a value of `{}`", one_line(text), self.key), help)
        })
    }

    /// A duration within `range`. Written as a text only: a bare number has no unit.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, SettingsError> {
        let DeValue::String(text) = self.value.get_ref() else {
            return Err(self.error(
                format!("`{}` must be a duration", self.key),
                "write it in quotes with its unit, like \"250ms\", \"5s\" or \"2m\"",
            ));
        };
        let duration = parse_duration(text).map_err(|error| self.unreadable(&error))?;
        self.within(duration, range, show_duration, |exact| format!("{exact:?}"))
    }

    fn unreadable(&self, error: &str) -> SettingsError {
        self.error(format!("`{}` cannot be read: {}", self.key, one_line(error)), "")
    }

    /// A duration that is not zero.
    pub fn time(&self) -> Result<Duration, SettingsError> {
        let time = self.duration(Duration::ZERO..=DURATION_MAX)?;
        if time.is_zero() { Err(self.error(format!("`{}` must be more than zero", self.key), "")) } else { Ok(time) }
    }

    /// How often something is done, or how long nothing happens before it is.
    pub fn interval(&self) -> Result<Duration, SettingsError> {
        self.duration(INTERVAL_MIN..=DURATION_MAX)
    }

    /// Bytes, as a text or as a whole number.
    pub fn size(&self, range: RangeInclusive<u64>) -> Result<u64, SettingsError> {
        let bytes = match self.value.get_ref() {
            DeValue::String(text) => parse_size(text).map_err(|error| self.unreadable(&error))?,
            DeValue::Integer(_) => self.whole()?,
            _ => {
                return Err(
                    self.error(format!("`{}` must be a size", self.key), "write it like \"64MiB\", \"16KiB\" or 1000")
                );
            }
        };
        self.within(bytes, range, show_size, |exact| plural(exact, "byte"))
    }

    pub fn count(&self, range: RangeInclusive<u64>) -> Result<u64, SettingsError> {
        let count = self.whole()?;
        self.within(count, range, |count| count.to_string(), |count| count.to_string())
    }

    /// As [`Field::count`], for settings that are kept in 32 bits.
    pub fn count_u32(&self, range: RangeInclusive<u32>) -> Result<u32, SettingsError> {
        let count = self.count(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(count).expect("the range ends within 32 bits"))
    }

    fn whole(&self) -> Result<u64, SettingsError> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            return Err(self.wrong_kind("a whole number"));
        };
        u64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| self.error(format!("`{}` must be a whole number from 0", self.key), "within 64 bits"))
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        value: T,
        range: RangeInclusive<T>,
        rounded: impl Fn(T) -> String,
        exact: impl Fn(T) -> String,
    ) -> Result<T, SettingsError> {
        if range.contains(&value) {
            return Ok(value);
        }
        // Where they would look the same.
        let is_near = [*range.start(), *range.end()].into_iter().any(|bound| rounded(bound) == rounded(value));
        let show = |value| if is_near { exact(value) } else { rounded(value) };
        let message = format!("`{}` cannot be {}", self.key, show(value));
        let help = if value < *range.start() {
            format!("it must be at least {}", show(*range.start()))
        } else {
            format!("it can be at most {}", show(*range.end()))
        };
        Err(self.error(message, help))
    }
}
