//! The table: for a terminal, and in Markdown.

use super::judge::Row;
use super::unit::digits;

const HEADER: [&str; 6] = ["", "Paguro", "reference", "ratio", "target", ""];

/// For a terminal: the names that `cargo xtask bench` takes, in columns.
pub fn text(rows: &[Row]) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| cells(row, row.measurement.name)));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// For the README: in words.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = format!("|{}|\n|---|---|---|---|---|---|\n", HEADER.join("|"));
    for row in rows {
        let cells = cells(row, &row.what).map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn cells(row: &Row, first: &str) -> [String; 6] {
    let unit = row.measurement.unit;
    let ours = row.ours.map(|summary| match unit.show_spread(&summary) {
        Some(spread) => format!("{} ({spread})", unit.show(summary.median)),
        None => unit.show(summary.median),
    });
    let reference = row.reference.map(|(whose, summary)| format!("{whose} {}", unit.show(summary.median)));
    let ratio = row.ratio().map(|ratio| format!("{} x", digits(ratio)));
    [
        first.to_owned(),
        ours.unwrap_or_default(),
        reference.unwrap_or_default(),
        ratio.unwrap_or_default(),
        row.goal().unwrap_or_default(),
        row.verdict.word().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::judge::tests::example;

    #[test]
    fn a_line_has_all_there_is() {
        let text = text(&example());
        let call = text.lines().find(|line| line.starts_with("call-64")).expect("it is there");
        let words: Vec<&str> = call.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
        assert_eq!(words, ["call-64", "655 ns (651 .. 692)", "Erlang 1.05 us", "0.62 x", "at most 0.7 x", "met"]);
        assert!(text.lines().any(|line| line.starts_with("call-4k") && line.ends_with("missed")));
    }

    #[test]
    fn what_is_missing_stays_empty() {
        let text = text(&example());
        let start = text.lines().find(|line| line.starts_with("start ")).expect("it is there");
        assert!(start.contains("9.00 us") && start.ends_with("at most 4 x"), "{start}");
    }

    #[test]
    fn markdown_has_six_cells_in_every_line() {
        for line in markdown(&example()).lines() {
            assert_eq!(line.matches('|').count(), 7, "{line}");
        }
    }
}
