//! Listings that come in pages: the ledger, kept events, kept log lines.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::client::{Client, parse};
use super::path::ApiPath;
use crate::base::bounds::PAGE_ROWS_MAX;
use crate::cli::errors::CliError;

/// What all rows of a paged listing have.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// Gives every row after `after` to `show` as the host wrote it, oldest first. A page that is not
/// full is the last one.
pub async fn pages(
    client: &Client,
    path: &ApiPath,
    mut after: u64,
    mut show: impl FnMut(&str) -> Result<(), CliError>,
) -> Result<(), CliError> {
    loop {
        let reply = client.get(path.clone().query("after", Some(after))).await?;
        let rows = rows(&reply.body)?;
        for row in &rows {
            show(row)?;
        }
        let Some(last) = rows.last() else { return Ok(()) };
        let reached = parse::<Numbered>(last.as_bytes())?.seq;
        if rows.len() < PAGE_ROWS_MAX || reached <= after {
            return Ok(());
        }
        after = reached;
    }
}

/// The elements of a JSON array, each as it is written there: what this version does not know of a
/// row reaches the reader of `--json` all the same.
fn rows(json: &[u8]) -> Result<Vec<&str>, CliError> {
    // Whether it is an array of JSON at all.
    parse::<Vec<IgnoredAny>>(json)?;
    let text = str::from_utf8(json).map_err(|_| CliError::failed("the host's answer is not UTF-8"))?;
    let mut rest = text.trim_start().strip_prefix('[').unwrap_or_default();
    let mut rows = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let mut elements = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        let Some(Ok(_)) = elements.next() else { return Ok(rows) };
        let (row, after) = rest.split_at(elements.byte_offset());
        rows.push(row);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_as_they_are_written() {
        let json = br#" [ {"b":1,"a":"],{"} , {"seq":2,"new":[{}]} ] "#;
        assert_eq!(rows(json).unwrap(), [r#"{"b":1,"a":"],{"}"#, r#"{"seq":2,"new":[{}]}"#]);
        assert!(rows(b"[]").unwrap().is_empty());
        assert!(rows(b"{}").is_err() && rows(b"[{]").is_err());
    }
}
