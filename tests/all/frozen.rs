//! Every name that users, scripts and older versions rely on, in one list: `tests/frozen.txt`. A name may be added, never
//! changed or removed. `PAGURO_FREEZE=1` adds what is new to the list.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;

use paguro::base::Clock;
use paguro::cli::Exit;
use paguro::control::server::ROUTES;
use paguro::control::settings::{SettingsFile, reference};
use paguro::control::wire::ErrorInfo;
use paguro::record::{Action, By, Database, Verdict, Why};
use paguro_tests::root;
use rusqlite::{Connection, OpenFlags};

#[test]
fn names_that_others_rely_on_stay_as_they_are() {
    let path = root().join("tests/frozen.txt");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let kept: BTreeSet<String> = kept.lines().map(str::to_string).collect();
    let found = names();
    let gone: Vec<&String> = kept.difference(&found).collect();
    assert!(gone.is_empty(), "names that others rely on were changed or removed: {gone:#?}");
    let new: Vec<&String> = found.difference(&kept).collect();
    if std::env::var_os("PAGURO_FREEZE").is_some() {
        let all: Vec<&str> = found.iter().map(String::as_str).collect();
        fs::write(path, all.join("\n") + "\n").expect("the list can be written");
    } else {
        assert!(new.is_empty(), "names that are not in the list yet; `PAGURO_FREEZE=1` adds them: {new:#?}");
    }
}

fn names() -> BTreeSet<String> {
    let mut names = Names(BTreeSet::new());
    command_line(&mut names);
    http(&mut names);
    words(&mut names);
    settings(&mut names);
    database(&mut names);
    names.0
}

struct Names(BTreeSet<String>);

impl Names {
    fn add(&mut self, kind: &str, name: impl Display) {
        self.0.insert(format!("{kind} {name}"));
    }
}

/// Verbs with their arguments, and exit codes.
fn command_line(names: &mut Names) {
    for section in paguro::cli::reference().split("\n## ").skip(1) {
        let verb = section.lines().next().unwrap_or_default();
        names.add("verb", verb);
        let options = section.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        for word in
            options.flat_map(|line| line.split([' ', ',']).take_while(|word| word.is_empty() || word.starts_with('-')))
        {
            if word.len() > 1 {
                names.add("option", format!("{verb} {word}"));
            }
        }
    }
    let codes =
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::CalledOff, Exit::Broken, Exit::NotWell];
    for exit in codes {
        names.add("exit", format!("{exit:?} {}", exit.code()));
    }
}

/// Routes, errors, and the fields of what is told. The name of an object is the code's own and may change; its fields may not.
fn http(names: &mut Names) {
    ROUTES.iter().for_each(|route| names.add("route", route));
    ErrorInfo::CODES.iter().for_each(|(code, status)| names.add("error", format!("{code} {status}")));
    for object in source("host/src/control/wire.rs").split("pub struct ").skip(1) {
        let name = object.split([' ', '(', ';']).next().unwrap_or_default();
        let body = object.split_once("{\n").and_then(|(_, rest)| rest.split_once("\n}")).map_or("", |(body, _)| body);
        for field in body.lines().filter_map(|line| line.trim_start().strip_prefix("pub ")?.split_once(':')) {
            names.add("field", format!("{name}.{}", field.0));
        }
    }
}

/// Words of the ledger, of revisions, of events and of metrics.
fn words(names: &mut Names) {
    Action::ALL.iter().for_each(|action| names.add("ledger-action", action));
    By::ALL.iter().for_each(|by| names.add("ledger-by", by));
    Why::ALL.iter().for_each(|why| names.add("revision-why", why));
    Verdict::ALL.iter().for_each(|verdict| names.add("revision-verdict", verdict));
    let events = source("host/src/record/event.rs");
    let kinds = events.split_once("pub fn kind(&self)").expect("events have kinds").1;
    let kinds = kinds.split_once("\n    }\n").expect("a function ends").0;
    quoted(kinds).for_each(|kind| names.add("event", kind));
    for name in quoted(&source("host/src/control/metrics.rs")).filter(|word| word.starts_with("paguro_")) {
        names.add("metric", name.split(['{', ' ']).next().unwrap_or_default());
    }
}

fn settings(names: &mut Names) {
    for key in reference() {
        let file = match key.file {
            SettingsFile::Worker => "worker.toml",
            SettingsFile::Supervisor => "supervisor.toml",
        };
        let section = if key.section.is_empty() { String::new() } else { format!("{}.", key.section) };
        names.add("setting", format!("{file} {section}{}", key.key));
    }
}

fn database(names: &mut Names) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("paguro.db");
    drop(Database::open(&path, Clock::system()).expect("an empty database"));
    let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it can be read");
    let columns = "SELECT m.name || '.' || c.name || ' ' || c.type FROM sqlite_schema m, pragma_table_info(m.name) c \
                   WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'";
    let mut columns = database.prepare(columns).expect("it is SQL");
    let columns = columns.query_map([], |row| row.get::<_, String>(0)).expect("it can be asked");
    columns.for_each(|column| names.add("column", column.expect("it is text")));
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("the source is text")
}

/// What stands between quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}
