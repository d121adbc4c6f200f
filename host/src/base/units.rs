//! Durations and sizes as people write them: `"250ms"`, `"64MiB"`.

use std::time::Duration;

use bytesize::ByteSize;

/// Reads `250ms`, `5s`, `1m 30s`. The error says what is allowed.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("`{text}` is not a duration ({error}); write it like \"250ms\", \"5s\" or \"2m\""))
}

/// Reads `64MiB`, `4KB`, `1000` into bytes. The error says what is allowed.
pub fn parse_size(text: &str) -> Result<u64, String> {
    text.trim()
        .parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("`{text}` is not a size; write it like \"64MiB\", \"16KiB\" or \"1000\""))
}

/// `1h 2m`, `12.5ms`, `830us`: a duration for people, three significant figures at most.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        1_000_000_000..60_000_000_000 => (nanos as f64 / 1e9, "s"),
        _ => return humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string(),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}{unit}")
}

/// `64.0 MiB`: a size for people.
pub fn show_size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `3 restarts`.
pub fn plural(count: impl Into<u64>, thing: &str) -> String {
    let count = count.into();
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A path as a shell takes it, and as no option.
pub fn quoted(path: &std::path::Path) -> String {
    let mut text = path.display().to_string();
    if text.starts_with('-') {
        text.insert_str(0, "./");
    }
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_written() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("5").unwrap_err().contains("\"250ms\""));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1000"), Ok(1000));
        assert!(parse_size("lots").unwrap_err().contains("\"64MiB\""));
    }

    #[test]
    fn durations_are_shown_short() {
        assert_eq!(show_duration(Duration::from_nanos(12)), "12ns");
        assert_eq!(show_duration(Duration::from_micros(830)), "830us");
        assert_eq!(show_duration(Duration::from_micros(12_500)), "12.5ms");
        assert_eq!(show_duration(Duration::from_secs(3725)), "1h 2m 5s");
    }
}
