//! What the README says is true: its workers run as they stand there, its tables are what the host
//! itself says, and its commands exist.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use paguro::change::Outcome;
use paguro::control::Host;
use paguro::control::settings::{KeyDoc, SettingsFile, reference};
use paguro_tests::{World, call, guest, root, standing, until};

/// The languages, each able to take over from the one before it.
const LANGUAGES: [&str; 4] = ["c", "js", "py", "rs"];

/// What a block of shell commands in the README may start with.
const PROGRAMS: [&str; 11] =
    ["cargo", "cd", "cp", "curl", "export", "mkdir", "node", "npm", "paguro", "sleep", "python3"];

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("the README is text")
}

fn counter(language: &str) -> Vec<u8> {
    guest(&format!("readme-counter-{language}"))
}

async fn count(host: &Host, name: &str) -> String {
    let state = host.state(name).await.expect("a counter has a state");
    assert_eq!((state.schema, &*state.media_type), (1, "application/json"), "{name}");
    let state: serde_json::Value = serde_json::from_slice(&state.data).expect("the state is JSON");
    state["count"].to_string()
}

/// One test and one host, because compiling the largest of them takes longer than all the rest.
#[tokio::test(flavor = "multi_thread")]
async fn every_worker_of_the_readme_counts_keeps_its_state_and_takes_over_from_another() {
    let mut world = World::new();
    for language in LANGUAGES {
        world.put_bytes(language, &counter(language));
    }
    let host = world.up().await;
    for language in LANGUAGES {
        until(language, async || standing(&host, language) == "running").await;
        assert_eq!(call(&host, language, "add").await.as_deref(), Ok("1"), "{language}");
        assert_eq!(call(&host, language, "\"add\"").await.as_deref(), Ok("2"), "{language}");
        host.cast(language, "add".into()).expect("the mailbox is open");
        assert_eq!(call(&host, language, "get").await.as_deref(), Ok("3"), "{language}");
        assert_eq!(count(&host, language).await, "3", "{language}");
    }
    world.down().await;
    let host = world.up().await;
    for language in LANGUAGES {
        until(language, async || standing(&host, language) == "running").await;
        assert_eq!(call(&host, language, "get").await.as_deref(), Ok("3"), "{language}, started again");
    }
    for (count, language) in (4..).zip(&LANGUAGES[1..]) {
        let switched = host.upgrade("c", counter(language), None).await;
        switched.unwrap_or_else(|error| panic!("to {language}: {error}"));
        assert!(matches!(host.commit("c").await, Ok(Outcome::Committed { .. })), "{language}");
        assert_eq!(call(&host, "c", "add").await, Ok(count.to_string()), "{language}");
    }
    // What an author says no to is the caller's; what nobody caught ends the worker, and says why.
    for (language, fault) in [("js", "Error: asked to fail"), ("py", "ValueError: asked to fail")] {
        let rejected = call(&host, language, "nonsense").await.unwrap_err();
        assert_eq!(rejected, "rejected: neither add nor get: nonsense", "{language}");
        let down = call(&host, language, "fail").await.unwrap_err();
        assert!(down.starts_with(&format!("down: trap: {fault}")), "{language}: {down}");
        until("it runs again", async || call(&host, language, "get").await.is_ok()).await;
        let exits = host.worker(language).unwrap().counters.seen(|of| &of.exits);
        assert_eq!(exits, 1, "{language}: one fault, and no more");
        let lines = host.recorder().logs().after(0);
        assert!(lines.iter().any(|line| line.item.text.contains(fault)), "{language}: the log has it");
    }
    // On probation it goes back.
    let before = host.worker("py").unwrap().status().component;
    host.upgrade("py", counter("js"), Some(Duration::from_secs(600))).await.unwrap();
    call(&host, "py", "fail").await.unwrap_err();
    until("it is back", async || host.worker("py").unwrap().status().component == before).await;
    world.down().await;
}

#[test]
fn the_settings_of_the_readme_are_those_of_the_host() {
    for (word, file) in [("worker", SettingsFile::Worker), ("supervisor", SettingsFile::Supervisor)] {
        let mut wanted = "| key | default | meaning |\n|---|---|---|\n".to_string();
        reference().iter().filter(|doc| doc.file == file).for_each(|doc| wanted += &row(doc));
        let found = readme().contains(&format!("<!-- settings: {word} -->\n{wanted}\n"));
        assert!(found, "below `<!-- settings: {word} -->` the README should have\n\n{wanted}");
    }
}

fn row(doc: &KeyDoc) -> String {
    let name = match doc.section {
        "" => doc.key.to_string(),
        section => format!("{section}.{}", doc.key),
    };
    // What stands in parentheses is words, not TOML.
    let default = match doc.default.strip_prefix('(').and_then(|words| words.strip_suffix(')')) {
        Some(words) => words.to_string(),
        None => format!("`{}`", doc.default),
    };
    format!("| `{name}` | {default} | {} |\n", doc.meaning)
}

#[test]
fn the_commands_of_the_readme_are_those_of_the_cli() {
    let reference = paguro::cli::reference();
    let help: Vec<(&str, &str)> =
        reference.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let readme = readme();
    for (verb, text) in &help {
        let only_holds_others = help.iter().any(|(other, _)| other.starts_with(&format!("{verb} ")));
        let shown = readme.contains(&format!("| `{verb} ")) || readme.contains(&format!("| `{verb}`"));
        assert!(shown || only_holds_others, "`{verb}` is not in the README: {text}");
    }
    let general = help.first().expect("the first section is about all verbs").1;
    for command in shell_lines(&readme).chain(commands_in_the_table(&readme)) {
        let words: Vec<&str> = command.split(" #").next().unwrap_or_default().split_whitespace().collect();
        let Some(("paguro", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) else { continue };
        let verb = |length: usize| format!("paguro {}", rest[..length.min(rest.len())].join(" "));
        let found = [2, 1].iter().find_map(|length| help.iter().find(|(known, _)| *known == verb(*length)));
        let (verb, text) = found.unwrap_or_else(|| panic!("`{command}` is no command"));
        for flag in rest.iter().filter(|word| word.starts_with('-')) {
            let known = text.contains(flag) || general.contains(flag);
            assert!(known, "`{verb}` has no {flag}, which the README says");
        }
    }
}

#[test]
fn the_shell_commands_of_the_readme_start_with_programs_that_are_known() {
    let readme = readme();
    assert!(shell_lines(&readme).count() > 10, "the README has commands");
    let known: BTreeSet<&str> = PROGRAMS.into_iter().collect();
    for line in shell_lines(&readme) {
        for command in line.split(" #").next().unwrap_or_default().split("&&") {
            let program = command.split_whitespace().next().unwrap_or_default();
            // The environment is made by the line above it.
            let known = known.contains(program) || program.starts_with(".venv/bin/");
            assert!(known, "`{program}`, in `{line}`");
        }
    }
}

#[test]
fn each_worker_of_the_readme_is_under_thirty_lines() {
    let readme = readme();
    for language in LANGUAGES {
        let (_, from) = readme.split_once(&format!("<!-- worker: counter.{language} -->\n```")).expect(language);
        let lines = from.lines().skip(1).take_while(|line| !line.starts_with("```")).count();
        assert!((5..30).contains(&lines), "{language} has {lines} lines");
    }
}

/// Every line of every `sh` block.
fn shell_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    markdown.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        if is_fence {
            inside = *line == "```sh";
        }
        inside && !is_fence && !line.is_empty()
    })
}

/// The first cell of every row whose first cell is a command.
fn commands_in_the_table(markdown: &str) -> impl Iterator<Item = &str> {
    markdown.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next())
}
