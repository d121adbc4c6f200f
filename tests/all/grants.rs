//! Directories that are granted: what was checked is what is used, whatever is done to paths.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use paguro::control::{Host, HostOptions};
use paguro::record::{Change, Event, GrantedRecord};
use paguro_tests::{World, call, event, standing, until};
use serde_json::{Value, json};

/// A tree in a place of its own, with directories beside it.
struct Place(World);

impl Place {
    fn new(beside: &[&str]) -> Place {
        let place = Place(World::new());
        for path in beside {
            fs::create_dir_all(place.beside(path)).unwrap();
        }
        place
    }

    fn beside(&self, path: &str) -> PathBuf {
        self.0.path().parent().unwrap().join(path)
    }

    /// A worker that does to files what it is told.
    fn put(&self, name: &str, grants: &[(&str, &str)]) -> &Place {
        self.0.put(name, "paths").write(&format!("{name}.toml"), &granted(grants));
        self
    }
}

/// Settings that grant directories beside the tree, for reading and writing.
fn granted(grants: &[(&str, &str)]) -> String {
    let one =
        |(host, guest): &(&str, &str)| format!("{{ host = \"{host}\", guest = \"{guest}\", access = \"read-write\" }}");
    format!("[grants]\ndirectories = [{}]\n", grants.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// What the worker says to a command.
async fn told(host: &Host, name: &str, command: Value) -> String {
    let told = call(host, name, &command.to_string()).await;
    let told = told.unwrap_or_else(|error| format!("failed: {error}"));
    serde_json::from_str(&told).unwrap_or(told)
}

/// Ends the worker's instance, and waits for the next.
async fn trap(host: &Arc<Host>, name: &str) {
    let before = host.worker(name).unwrap().status().incarnation;
    assert!(call(host, name, "\"trap\"").await.is_err());
    until("its next instance runs", async || {
        let status = host.worker(name).unwrap().status();
        status.incarnation > before && standing(host, name) == "running"
    })
    .await;
}

async fn problem(host: &Host, words: &[&str]) -> String {
    let wanted = |event: &Event| {
        let text = event.to_string();
        event.kind() == "directory-problem" && words.iter().all(|word| text.contains(word))
    };
    event(host, &format!("a problem with {words:?}"), wanted).await.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cannot_have_a_directory_and_one_in_it_that_it_could_move() {
    let mut place = Place::new(&["shared/b"]);
    place.put("paths", &[("../shared", "/shared"), ("../shared/b", "/b")]);
    let host = place.0.up().await;
    let told = problem(&host, &["shared/b lies in ", "the worker could move it"]).await;
    assert!(told.contains("grant the outer directory alone"), "{told}");
    assert_eq!(standing(&host, "paths"), "absent");
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_granted_directory_leads_nobody_anywhere() {
    let mut place = Place::new(&["shared/b"]);
    fs::write(place.beside("shared/b/mine"), "text").unwrap();
    place.put("mover", &[("../shared", "/shared")]).put("victim", &[("../shared/b", "/b")]);
    let host = place.0.up().await;
    assert_eq!(told(&host, "victim", json!({ "list": "/b" })).await, "mine");

    assert_eq!(told(&host, "mover", json!({ "rename": ["/shared/b", "/shared/c"] })).await, "done");
    assert_eq!(told(&host, "mover", json!({ "symlink": ["../workers", "/shared/b"] })).await, "done");
    let through = told(&host, "mover", json!({ "list": "/shared/b" })).await;
    assert!(through.starts_with("error: "), "the engine follows no link out of a grant: {through}");

    // The next instance, one that an operator starts, and one that a change of other settings starts.
    trap(&host, "victim").await;
    assert_eq!(told(&host, "victim", json!({ "list": "/b" })).await, "mine");
    host.restart_worker("victim").await.unwrap();
    assert_eq!(told(&host, "victim", json!({ "list": "/b" })).await, "mine");
    place.0.write("victim.toml", &format!("config = {{ n = 1 }}\n{}", granted(&[("../shared/b", "/b")])));
    event(&host, "new settings", |event| matches!(event, Event::SettingsChanged { .. })).await;
    problem(&host, &["victim", "shared/b was moved, removed or replaced"]).await;
    let listed = told(&host, "victim", json!({ "list": "/b" })).await;
    assert_eq!(listed, "mine");
    place.0.down().await;

    // A host that starts has to open it anew.
    let host = place.0.up().await;
    problem(&host, &["victim", "shared/b cannot be granted"]).await;
    assert_eq!(standing(&host, "victim"), "absent");
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_a_worker_made_in_an_earlier_run_is_not_followed() {
    let mut place = Place::new(&["shared", "secret"]);
    fs::write(place.beside("secret/key"), "secret").unwrap();
    place.put("maker", &[("../shared", "/shared")]);
    let host = place.0.up().await;
    assert_eq!(told(&host, "maker", json!({ "symlink": ["../secret", "/shared/b"] })).await, "done");
    place.0.down().await;
    // Its settings change while nobody looks.
    place.0.write("maker.toml", &granted(&[("../shared/b", "/b")]));
    let host = place.0.up().await;
    problem(&host, &["maker", "shared/b is a symbolic link where a worker can write"]).await;
    assert_eq!(standing(&host, "maker"), "absent");
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_is_not_granted_at_the_next_look_either() {
    let place = Place::new(&["shared"]);
    place.0.put("paths", "paths");
    let options = HostOptions { database_bytes_max: Some(256 << 10), ..HostOptions::new(place.0.path()) };
    let host = Host::start(options).await.unwrap();
    until("it runs", async || standing(&host, "paths") == "running").await;
    // The disk fills up with records that lie beside the one to come.
    let shared = place.beside("shared").canonicalize().unwrap();
    let (found, path) = (fs::metadata(&shared).unwrap(), shared.display().to_string());
    let mut inode = found.ino() + 100_000;
    for pad in [16_384, 2_048, 0] {
        let fill = async |inode| {
            let path = format!("{path}{}", "~".repeat(pad));
            let record = GrantedRecord { path, device: found.dev(), inode };
            host.database().commit(vec![Change::Granted(record)]).await.is_ok()
        };
        while fill(inode).await {
            inode -= 1;
        }
    }
    place.0.write("paths.toml", &granted(&[("../shared", "/shared")]));
    let mut tries = host.recorder().events().follow(0);
    let two = async {
        for _ in 0..2 {
            while !tries.next().await.unwrap().item.to_string().contains("write what is granted") {}
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), two).await.expect("two looks refuse it");
    let listed = told(&host, "paths", json!({ "list": "/shared" })).await;
    assert!(listed.starts_with("error: "), "{listed}");
    let problems = host.problems();
    assert!(
        problems.iter().any(|found| found.message.contains("the database cannot write that it is")),
        "{problems:?}"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_the_operator_is_as_good_as_what_it_leads_to_when_it_is_taken() {
    let mut place = Place::new(&["disk/data", "other"]);
    fs::write(place.beside("disk/data/mine"), "text").unwrap();
    symlink("disk/data", place.beside("data")).unwrap();
    symlink("workers", place.beside("tree")).unwrap();
    place.put("paths", &[("../data", "/data")]).put("greedy", &[("../tree", "/data")]);
    let host = place.0.up().await;
    assert_eq!(told(&host, "paths", json!({ "list": "/data" })).await, "mine");
    problem(&host, &["greedy", "tree cannot be granted"]).await;
    // After the start it leads elsewhere.
    fs::remove_file(place.beside("data")).unwrap();
    symlink("workers", place.beside("data")).unwrap();
    trap(&host, "paths").await;
    assert_eq!(told(&host, "paths", json!({ "list": "/data" })).await, "mine");
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_renamed_takes_the_grant_along() {
    let mut place = Place::new(&["parent/data"]);
    place.put("paths", &[("../parent/data", "/data")]);
    let host = place.0.up().await;
    assert_eq!(told(&host, "paths", json!({ "write": ["/data/a", "text"] })).await, "done");
    fs::rename(place.beside("parent"), place.beside("renamed")).unwrap();
    fs::create_dir(place.beside("parent")).unwrap();
    symlink("../workers", place.beside("parent/data")).unwrap();
    trap(&host, "paths").await;
    assert_eq!(told(&host, "paths", json!({ "write": ["/data/b", "text"] })).await, "done");
    assert_eq!(told(&host, "paths", json!({ "list": "/data" })).await, "a b");
    assert!(place.beside("renamed/data/b").exists() && !place.0.path().join("b").exists());
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_moved_into_a_grant_takes_the_grant_back() {
    let mut place = Place::new(&["shared", "links"]);
    // The host knows the tree by a path that still leads to it: only then can it see what became of it.
    place.put("paths", &[("../shared", "/shared")]);
    let host = place.0.up().await;
    assert_eq!(told(&host, "paths", json!({ "list": "/shared" })).await, "");
    fs::rename(place.0.path(), place.beside("shared/workers")).unwrap();
    symlink("shared/workers", place.0.path()).unwrap();
    problem(&host, &["paths", "shared cannot be granted"]).await;
    until("it is stopped", async || standing(&host, "paths") == "absent").await;
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_removed_and_made_again_is_given_when_the_settings_are_written_anew() {
    let mut place = Place::new(&["data"]);
    place.put("paths", &[("../data", "/data")]);
    let host = place.0.up().await;
    fs::remove_dir(place.beside("data")).unwrap();
    fs::create_dir(place.beside("data")).unwrap();
    fs::write(place.beside("data/new"), "text").unwrap();
    trap(&host, "paths").await;
    assert_eq!(told(&host, "paths", json!({ "list": "/data" })).await, "", "it keeps the one it was given");
    problem(&host, &["paths", "data was moved, removed or replaced", "touch"]).await;
    assert!(host.problems().iter().any(|found| found.path == "paths.toml" && found.message.contains("was moved")));
    place.0.write("paths.toml", &granted(&[("../data", "/data")]));
    until("it has the new one", async || told(&host, "paths", json!({ "list": "/data" })).await == "new").await;
    assert!(host.problems().is_empty(), "{:?}", host.problems());
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_worker_can_write_by_another_name_are_not_taken() {
    let mut place = Place::new(&["shared", "secret"]);
    fs::write(place.beside("secret/key"), "secret").unwrap();
    place.put("paths", &[("../shared", "/shared")]);
    let settings = place.0.path().join("paths.toml");
    let host = place.0.up().await;
    fs::hard_link(&settings, place.beside("shared/own.toml")).unwrap();
    let more = granted(&[("../shared", "/shared"), ("../secret", "/secret")]);
    assert_eq!(told(&host, "paths", json!({ "write": ["/shared/own.toml", more] })).await, "done");
    problem(&host, &["paths.toml", "a second name"]).await;
    // It hides what it did.
    assert_eq!(told(&host, "paths", json!({ "remove": "/shared/own.toml" })).await, "done");
    place.0.put("later", "echo");
    until("the directory is looked at", async || standing(&host, "later") == "running").await;
    trap(&host, "paths").await;
    let booty = told(&host, "paths", json!({ "read": "/secret/key" })).await;
    assert!(booty.starts_with("error: "), "{booty}");
    // A copy that the operator puts in its place counts.
    fs::write(place.beside("copy"), granted(&[("../shared", "/other")])).unwrap();
    fs::rename(place.beside("copy"), &settings).unwrap();
    until("it has its new settings", async || {
        told(&host, "paths", json!({ "write": ["/other/a", "x"] })).await == "done"
    })
    .await;
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_behind_a_link_through_a_grant_are_not_taken() {
    let mut place = Place::new(&["shared", "kept"]);
    fs::write(place.beside("shared/other.wasm"), paguro_tests::guest("echo")).unwrap();
    fs::write(place.beside("kept/good.wasm"), paguro_tests::guest("echo")).unwrap();
    symlink("../shared/other.wasm", place.0.path().join("other.wasm")).unwrap();
    symlink("../kept/good.wasm", place.0.path().join("good.wasm")).unwrap();
    place.put("paths", &[("../shared", "/shared")]);
    let host = place.0.up().await;
    problem(&host, &["other.wasm", "a symbolic link through a directory where a worker can write"]).await;
    assert_eq!(standing(&host, "other"), "absent");
    assert_eq!(standing(&host, "good"), "running", "a link that no worker can change is as good as the file");
    place.0.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rehearsals_and_upgrades_use_what_was_opened() {
    let mut place = Place::new(&["data"]);
    fs::write(place.beside("data/mine"), "text").unwrap();
    place.put("paths", &[("../data", "/data")]);
    let host = place.0.up().await;
    fs::rename(place.beside("data"), place.beside("moved")).unwrap();
    // Another component of the same code: a custom section is added.
    let mut bytes = paguro_tests::guest("paths");
    bytes.extend([0, 2, 1, b'x']);
    host.dry_run("paths", bytes.clone()).await.unwrap();
    host.upgrade("paths", bytes, Some(std::time::Duration::ZERO)).await.unwrap();
    assert_eq!(told(&host, "paths", json!({ "list": "/data" })).await, "mine");
    place.0.down().await;
}
