//! Units: how the programs name them, which way is better, and how people read them.

use super::samples::Summary;

/// In nanoseconds, as are all durations here.
pub const US: f64 = 1e3;
pub const MS: f64 = 1e6;
pub const S: f64 = 1e9;
/// In bytes. 1,024 of them, as for the page and map sizes that these figures are made of.
pub const KB: f64 = 1024.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    PerSecond,
    Bytes,
    Count,
    Ratio,
}

impl Unit {
    /// As the programs write it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::PerSecond => "per-second",
            Unit::Bytes => "bytes",
            Unit::Count => "count",
            Unit::Ratio => "ratio",
        }
    }

    pub fn named(name: &str) -> Option<Unit> {
        let all = [Unit::Nanoseconds, Unit::PerSecond, Unit::Bytes, Unit::Count, Unit::Ratio];
        all.into_iter().find(|unit| unit.name() == name)
    }

    pub fn more_is_better(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::Count)
    }

    /// Three digits and the unit, such as `1.05 us`.
    pub fn show(self, value: f64) -> String {
        let (divisor, suffix) = self.scale(value);
        format!("{}{suffix}", digits(value / divisor))
    }

    /// The same without zeros that say nothing: what is to be reached is exact.
    pub fn show_limit(self, value: f64) -> String {
        let (divisor, suffix) = self.scale(value);
        format!("{}{suffix}", exact(value / divisor))
    }

    /// The spread in the scale of the median, such as `1.02 .. 1.10`; nothing where there is but one sample.
    pub fn show_spread(self, summary: &Summary) -> Option<String> {
        let (divisor, _) = self.scale(summary.median);
        (summary.n > 1).then(|| format!("{} .. {}", digits(summary.p10 / divisor), digits(summary.p90 / divisor)))
    }

    /// What to divide by, and the suffix that then fits.
    fn scale(self, value: f64) -> (f64, &'static str) {
        let scales: &[(f64, &str)] = match self {
            Unit::Nanoseconds => &[(S, " s"), (MS, " ms"), (US, " us"), (1.0, " ns")],
            Unit::PerSecond => &[(1e6, " M/s"), (1e3, " k/s"), (1.0, "/s")],
            Unit::Bytes => &[(KB * KB * KB, " GB"), (KB * KB, " MB"), (KB, " KB"), (1.0, " B")],
            Unit::Count => &[(1.0, "")],
            Unit::Ratio => &[(1.0, " x")],
        };
        let smallest = scales[scales.len() - 1];
        *scales.iter().find(|(divisor, _)| value >= *divisor).unwrap_or(&smallest)
    }
}

/// Three digits; whole numbers beyond that, with commas.
pub fn digits(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => commas(&format!("{value:.0}")),
    }
}

/// The same without zeros at its end.
pub fn exact(value: f64) -> String {
    let number = digits(value);
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number,
    }
}

fn commas(number: &str) -> String {
    let mut with = String::new();
    for (place, digit) in number.chars().enumerate() {
        if place > 0 && (number.len() - place).is_multiple_of(3) {
            with.push(',');
        }
        with.push(digit);
    }
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_three_digits() {
        for (unit, value, shown) in [
            (Unit::Nanoseconds, 44.38, "44.4 ns"),
            (Unit::Nanoseconds, 1049.5, "1.05 us"),
            (Unit::Nanoseconds, 98.0 * S, "98.0 s"),
            (Unit::PerSecond, 1_224_000.0, "1.22 M/s"),
            (Unit::PerSecond, 41_300.0, "41.3 k/s"),
            (Unit::Bytes, 27.5 * KB, "27.5 KB"),
            (Unit::Bytes, 310.0, "310 B"),
            (Unit::Count, 1e6, "1,000,000"),
            (Unit::Ratio, 1.3, "1.30 x"),
            (Unit::Nanoseconds, 0.0, "0.00 ns"),
        ] {
            assert_eq!(unit.show(value), shown);
        }
    }

    #[test]
    fn shows_limits_exactly() {
        assert_eq!(Unit::Nanoseconds.show_limit(50.0 * US), "50 us");
        assert_eq!(Unit::Nanoseconds.show_limit(500.0 * US), "500 us");
        assert_eq!(Unit::Bytes.show_limit(2.0 * KB * KB * KB), "2 GB");
        assert_eq!(Unit::Count.show_limit(1e6), "1,000,000");
        assert_eq!([0.02, 0.7, 10.0, 100.0].map(exact), ["0.02", "0.7", "10", "100"]);
    }

    #[test]
    fn shows_the_spread_in_the_scale_of_the_median() {
        let summary = Summary { median: 1050.0, p10: 980.0, p90: 1100.0, n: 3 };
        assert_eq!(Unit::Nanoseconds.show_spread(&summary).as_deref(), Some("0.98 .. 1.10"));
        assert_eq!(Unit::Nanoseconds.show_spread(&Summary { n: 1, ..summary }), None);
    }

    #[test]
    fn knows_the_names_it_gives() {
        assert_eq!(Unit::named("per-second"), Some(Unit::PerSecond));
        assert_eq!(Unit::named("seconds"), None);
    }
}
