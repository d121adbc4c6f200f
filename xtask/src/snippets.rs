//! Workers that stand in a markdown file, built as they stand there: an example that a reader copies
//! must be one that works.
//!
//! A fenced code block directly below a comment `<!-- worker: NAME.LANG -->`, with LANG `rs`, `c`,
//! `js` or `py`, is a whole source file. It becomes the component `readme-NAME-LANG`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::catalogue::{Guest, LIFECYCLE, Recipe, STATEFUL, STATELESS};
use crate::paths;

struct Snippet {
    name: String,
    language: String,
    source: String,
}

/// The guests in markdown files, of those that exist. The same worker may stand in several of them,
/// if it is the same.
pub fn of(files: &[PathBuf]) -> Result<Vec<Guest>> {
    let mut snippets: Vec<Snippet> = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        let found = find(&fs::read_to_string(file)?).with_context(|| format!("in {}", file.display()))?;
        for snippet in found {
            match snippets.iter().find(|known| known.is_called_as(&snippet)) {
                None => snippets.push(snippet),
                Some(known) if known.source == snippet.source => {}
                Some(_) => bail!("{} has another {}", file.display(), snippet.name),
            }
        }
    }
    snippets.iter().map(unpack).collect()
}

impl Snippet {
    fn is_called_as(&self, other: &Self) -> bool {
        (&self.name, &self.language) == (&other.name, &other.language)
    }
}

fn find(markdown: &str) -> Result<Vec<Snippet>> {
    let mut snippets = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(file) =
            line.trim().strip_prefix("<!-- worker:").and_then(|rest| rest.strip_suffix("-->")).map(str::trim)
        else {
            continue;
        };
        let Some((name, language)) = file.rsplit_once('.') else {
            bail!("`{file}` is not NAME.LANG");
        };
        if !lines.next().is_some_and(|line| line.starts_with("```")) {
            bail!("no code block follows the comment about {file}");
        }
        let source: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        let source = source.join("\n") + "\n";
        snippets.push(Snippet { name: name.into(), language: language.into(), source });
    }
    Ok(snippets)
}

/// A worker in a file of its own, as a guest that is built like a snippet.
pub fn by_hand(name: &str, language: &str, source: &str) -> Result<Guest> {
    lay_out(format!("by-hand-{name}"), language, source)
}

fn unpack(snippet: &Snippet) -> Result<Guest> {
    let Snippet { name, language, source } = snippet;
    lay_out(format!("readme-{name}-{language}"), language, source)
}

/// Writes the source where its language's tools want it.
fn lay_out(name: String, language: &str, source: &str) -> Result<Guest> {
    let directory = paths::components().join(".snippets").join(&name);
    let put = |file: &str, content: &str| -> Result<PathBuf> {
        let path = directory.join(file);
        write_if_changed(&path, content)?;
        Ok(path)
    };
    let world = world(source);
    let recipe = match language {
        "rs" => {
            put("src/lib.rs", source)?;
            // The same versions as the guests have; cargo adds what this crate is called.
            let lock = fs::read_to_string(paths::guests().join("Cargo.lock"))?;
            if !directory.join("Cargo.lock").exists() {
                put("Cargo.lock", &lock)?;
            }
            Recipe::RustCrate { manifest: put("Cargo.toml", &manifest(&name))? }
        }
        "c" => Recipe::C { source: put("worker.c", source)?, world },
        // Inside `guests/js`, nothing would be gained: a snippet imports nothing but the contract.
        "js" => Recipe::JavaScript { source: put("worker.js", source)?, world },
        "py" => {
            put("app.py", source)?;
            Recipe::Python { directory: directory.clone(), world }
        }
        other => bail!("`{other}` is none of rs, c, js, py"),
    };
    Ok(Guest { name, recipe })
}

/// The world is told by what the source speaks of: a worker that can restore a state has one.
fn world(source: &str) -> &'static str {
    let speaks_of = |words: &[&str]| words.iter().any(|word| source.contains(word));
    if speaks_of(&["lifecycle", "Lifecycle"]) {
        LIFECYCLE
    } else if speaks_of(&["restore_state", "restoreState", "PAGURO_STATE"]) {
        STATEFUL
    } else {
        STATELESS
    }
}

fn manifest(name: &str) -> String {
    let sdk = paths::guests().join("sdk");
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\npaguro-sdk = {{ path = \"{sdk}\" }}\n\
         serde = {{ version = \"1\", features = [\"derive\"] }}\nserde_json = \"1\"\n\n\
         [profile.release]\nopt-level = \"s\"\nlto = true\ncodegen-units = 1\npanic = \"abort\"\n\
         strip = \"debuginfo\"\n\n[workspace]\n",
        sdk = sdk.display()
    )
}

/// Untouched files keep their time, and cargo its peace.
fn write_if_changed(path: &Path, content: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn takes_the_block_below_the_comment() {
        let text = "a\n```rust\nno\n```\n<!-- worker: greeter.rs -->\n```rust\nfn x() {}\n```\n";
        let found = find(text).expect("the text is well formed");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "greeter");
        assert_eq!(found[0].language, "rs");
        assert_eq!(found[0].source, "fn x() {}\n");
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(find("<!-- worker: greeter -->\n```\n```\n").is_err());
        assert!(find("<!-- worker: greeter.rs -->\n\n```\n```\n").is_err());
    }
}
