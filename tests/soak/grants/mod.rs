//! Grants by file operations: workers that may write in a directory, and somebody on the machine who moves the
//! directories about, try together to get at what nobody was granted.
//!
//! What must never be seen in a worker's reply: the canaries, the host's own files, other workers' files, `/etc`. What
//! must never be written: the same. Somebody outside only ever points at places that may not be granted at all; where
//! else he points is his to say.

mod step;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use paguro_tests::guest;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use self::step::{Hand, Moved, Plan, Step};
use crate::http::{Request, word};
use crate::run::{Kind, Run};
use crate::site::{Site, files_below};

pub struct Grants;

/// Where it is on the machine, where in the guest, and what it is granted for.
type Granted = (&'static str, &'static str, &'static str);

/// Workers, and what each is granted: alone, one above another, beside one another, and to be read alone.
const GRANTED: [(&str, &[Granted]); 5] = [
    ("alone", &[("../other", "/a", "read-write")]),
    ("nested", &[("../shared", "/a", "read-write"), ("../shared/b", "/b", "read-write")]),
    ("below", &[("../shared/b", "/b", "read-write")]),
    ("above", &[("../shared", "/a", "read-write")]),
    ("reader", &[("../data", "/a", "read")]),
];

/// What a guest writes begins with this, so that it is known wherever it turns up.
const WRITTEN: &str = "written by a guest";

/// Characters of what was asked and of what was shown.
const TEXT_SHOWN: usize = 160;

impl Kind for Grants {
    fn name(&self) -> &'static str {
        "grants"
    }

    fn prepare(&self, site: &Site) {
        fs::create_dir_all(site.path("shared/b")).expect("a directory");
        fs::write(site.path("data/read-only.txt"), "as it was\n").expect("a file");
        // Workers that end again and again come back: else there would soon be nobody left to try.
        site.write(
            "supervisor.toml",
            "intensity = 1000000\nperiod = \"1s\"\n[backoff]\ninitial = \"1ms\"\nmax = \"1ms\"\n",
        );
        for (name, grants) in GRANTED {
            site.write(&format!("{name}.toml"), &settings(site, grants, 0));
            site.put(name, &guest("files"));
        }
        site.write("neighbour.toml", &format!("# {}\n", site.canary));
    }

    fn hands(&self) -> usize {
        3
    }

    fn work(&self, hand: usize, seed: u64, site: &Site, run: &Run) {
        let role = if hand == 0 { Hand::Outside } else { Hand::Guest };
        for step in Plan::new(seed, role).take_while(|_| run.goes_on()) {
            match &step {
                Step::Operations { worker, operations } => operate(site, run, worker, &operations.to_string()),
                Step::Restart { worker } => {
                    let mut outcome = ask(site, run, &format!("/v1/workers/{worker}/restart"), b"").0;
                    if outcome == "409" {
                        // One that was isolated, because it could not start without its directory, is taken back.
                        outcome = format!("then {}", ask(site, run, &format!("/v1/workers/{worker}/start"), b"").0);
                    }
                    run.tally.count("restart", outcome);
                }
                Step::Settings { worker, number } => {
                    let (name, grants) = GRANTED[worker % GRANTED.len()];
                    site.write(&format!("{name}.toml"), &settings(site, grants, *number));
                    run.tally.count("settings", "written");
                    run.pause(Duration::from_millis(300));
                }
                Step::Move { what, how } => {
                    run.tally.count(how.name(), if moved(site, what, *how).is_ok() { "done" } else { "failed" });
                    run.pause(Duration::from_millis(5));
                }
            }
        }
        if role == Hand::Outside {
            put_right(site);
            look_around(site, run);
        }
    }
}

fn settings(site: &Site, grants: &[Granted], number: u32) -> String {
    let grant = |(host, guest, access): &Granted| {
        format!("{{ host = \"{host}\", guest = \"{guest}\", access = \"{access}\" }}")
    };
    let list: Vec<String> = grants.iter().map(grant).collect();
    // Grants, and something that changes the file.
    let (canary, list) = (&site.canary, list.join(", "));
    format!("# {canary}\n[grants]\ndirectories = [{list}]\narguments = [\"{number}\"]\n")
}

fn ask(site: &Site, run: &Run, target: &str, body: &[u8]) -> (String, String) {
    let request = Request::post(target, body).within(Duration::from_secs(5));
    let answer = site.connect().and_then(|mut client| client.ask(&request, &|| run.goes_on()));
    let text = answer.as_ref().map(crate::http::Answer::text).unwrap_or_default();
    (word(&answer), text)
}

fn operate(site: &Site, run: &Run, worker: &str, operations: &str) {
    let (outcome, reply) = ask(site, run, &format!("/v1/workers/{worker}/call"), operations.as_bytes());
    run.tally.count("operations", outcome);
    if let Some(mark) = forbidden(site).iter().find(|mark| reply.contains(mark.as_str())) {
        let short = |text: &str| text.chars().take(TEXT_SHOWN).collect::<String>();
        run.escape(format!("{worker} was shown {mark:?}: {} -> {}", short(operations), short(&reply)));
    }
}

/// What lies only where nobody is granted anything, and what no guest writes: the canaries, which all settings hold as
/// well; the beginning of a database; names in the state directory and in the tree; the users of the machine.
fn forbidden(site: &Site) -> [String; 5] {
    let text = ["SQLite format 3", "paguro.sock", "neighbour.wasm", "root:x:0"].map(String::from);
    let [database, socket, worker, users] = text;
    [site.canary.clone(), database, socket, worker, users]
}

/// What somebody does to a granted directory from outside.
fn moved(site: &Site, what: &str, how: Moved) -> std::io::Result<()> {
    let (path, aside) = (site.path(what), site.path(&format!("aside-{}", what.replace('/', "-"))));
    match how {
        Moved::Aside => fs::rename(&path, &aside),
        Moved::Back => fs::rename(&aside, &path),
        Moved::Exchanged => {
            fs::create_dir_all(&aside)?;
            Ok(renameat_with(CWD, &path, CWD, &aside, RenameFlags::EXCHANGE)?)
        }
        Moved::Removed => fs::remove_dir_all(&path),
        Moved::Made => fs::create_dir_all(&path),
        Moved::LinkToWorkers => linked(&site.workers(), &path, &aside),
        Moved::LinkToState => linked(&site.state(), &path, &aside),
        Moved::LinkToAll => linked(&site.path(""), &path, &aside),
        Moved::Unlinked => fs::remove_file(&path),
    }
}

/// Puts a link in the place of a directory, in one step.
fn linked(to: &Path, path: &Path, aside: &Path) -> std::io::Result<()> {
    let link = aside.with_extension("link");
    // What changed places with the last one.
    if fs::remove_file(&link).is_err() {
        let _ = fs::remove_dir_all(&link);
    }
    symlink(to, &link)?;
    Ok(renameat_with(CWD, &link, CWD, path, RenameFlags::EXCHANGE)?)
}

/// Takes away the links that lead to what is looked at next.
fn put_right(site: &Site) {
    for what in step::DIRECTORIES {
        let _ = fs::remove_file(site.path(what));
    }
}

/// Looks for what guests wrote where they may not.
fn look_around(site: &Site, run: &Run) {
    let names: BTreeSet<&str> = step::NAMES.into_iter().collect();
    let state = site.state();
    for (path, content) in files_below(&site.workers()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_known = path.starts_with(&state) && (name.starts_with("paguro.db") || name.ends_with(".wasm"));
        let written = !is_known && content.windows(WRITTEN.len()).any(|window| window == WRITTEN.as_bytes());
        if names.contains(name) || written {
            run.escape(format!("a guest wrote {}", path.display()));
        }
    }
    if fs::read_to_string(site.path("data/read-only.txt")).is_ok_and(|text| text != "as it was\n") {
        run.escape("a guest wrote what it may read alone".to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_seeds() {
        let words = ["operations", "restart"];
        crate::plan::check(|seed| Plan::new(seed, Hand::Guest), Step::name, &words);
        let words = ["move", "restart", "settings"];
        crate::plan::check(|seed| Plan::new(seed, Hand::Outside), Step::name, &words);
        assert_eq!(GRANTED.map(|(name, _)| name), step::WORKERS);
    }

    #[test]
    fn what_a_guest_writes_where_it_may_not_is_found() {
        let site = Site::new(5);
        let run = Run::for_tests();
        look_around(&site, &run);
        assert_eq!(run.escapes(), Vec::<String>::new());
        fs::create_dir_all(site.state()).unwrap();
        fs::write(site.state().join("x"), "x").unwrap();
        fs::write(site.path("workers/other.toml"), WRITTEN).unwrap();
        look_around(&site, &run);
        let found = run.escapes();
        assert_eq!(found.len(), 1, "{found:?}");
        fs::write(site.state().join(step::NAMES[0]), "x").unwrap();
        look_around(&site, &run);
        assert_eq!(run.escapes().len(), 3);
    }
}
