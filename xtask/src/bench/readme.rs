//! The place in the README where the figures stand.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;

const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

/// Whether there is such a place: to be asked before minutes of measuring.
pub fn check() -> Result<()> {
    splice(&read()?, "").map(drop)
}

/// Puts the table there, and the chart beside it.
pub fn update(table: &str, chart: &str) -> Result<()> {
    fs::write(file(), splice(&read()?, table)?).context("cannot write README.md")?;
    let docs = paths::root().join("docs");
    fs::create_dir_all(&docs).context("cannot make docs")?;
    fs::write(docs.join("bench.svg"), chart).context("cannot write docs/bench.svg")?;
    eprintln!("wrote README.md and docs/bench.svg");
    Ok(())
}

/// `text` with `block` between the two comments, which stay.
fn splice(text: &str, block: &str) -> Result<String> {
    let missing = || format!("README.md has no `{BEGIN}` with a `{END}` after it");
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

fn read() -> Result<String> {
    fs::read_to_string(file()).context("cannot read README.md")
}

fn file() -> PathBuf {
    paths::root().join("README.md")
}

#[cfg(test)]
mod tests {
    use super::splice;

    #[test]
    fn replaces_what_is_between_and_nothing_else() {
        let once = splice("a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n", "new\n").expect("both are there");
        assert_eq!(once, "a\n<!-- bench -->\nnew\n<!-- /bench -->\nb\n");
        assert_eq!(splice(&once, "new\n").expect("both are there"), once);
    }

    #[test]
    fn says_what_is_missing() {
        for text in ["", "<!-- bench -->", "<!-- /bench --> <!-- bench -->"] {
            assert!(splice(text, "").is_err(), "{text}");
        }
    }
}
