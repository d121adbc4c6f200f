//! What the integration tests share: a directory of real components, a host on it, and ways to wait
//! for a condition.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paguro::base::Name;
use paguro::control::{Host, HostOptions};
use paguro::record::Event;
use serde_json::Value;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// The bytes of a built guest. `cargo xtask test` builds them all first.
pub fn guest(name: &str) -> Vec<u8> {
    let path = root().join("target/guests").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask guests`", path.display()))
}

/// A directory of workers, and a host on it.
pub struct World {
    dir: tempfile::TempDir,
    pub host: Option<Arc<Host>>,
}

/// How long a condition may take to come true on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    pub fn new() -> World {
        let dir = tempfile::Builder::new().prefix("paguro").tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("workers")).expect("an empty directory");
        World { dir, host: None }
    }

    /// The directory that is the tree.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("workers")
    }

    /// Puts a guest into the directory under a name, by renaming, as a careful user does.
    pub fn put(&self, name: &str, guest_name: &str) -> &World {
        self.put_bytes(name, &guest(guest_name))
    }

    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> &World {
        let path = self.path().join(format!("{name}.wasm"));
        std::fs::create_dir_all(path.parent().expect("it lies in the directory")).expect("a directory");
        let part = self.dir.path().join("part");
        std::fs::write(&part, bytes).expect("a file is written");
        std::fs::rename(&part, &path).expect("a file is renamed");
        self
    }

    /// Writes a file below the directory, such as `greeter.toml`.
    pub fn write(&self, file: &str, text: &str) -> &World {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().expect("it lies in the directory")).expect("a directory");
        std::fs::write(path, text).expect("a file is written");
        self
    }

    pub fn remove(&self, file: &str) -> &World {
        std::fs::remove_file(self.path().join(file)).expect("the file is there");
        self
    }

    pub async fn up(&mut self) -> Arc<Host> {
        let host = Host::start(HostOptions::new(self.path())).await.expect("the host starts");
        self.host = Some(host.clone());
        host
    }

    /// Stops the host in order, so that another can take its state.
    pub async fn down(&mut self) {
        if let Some(host) = self.host.take() {
            host.stop().await;
        }
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// A call whose reply is text.
pub async fn call(host: &Host, name: &str, body: &str) -> Result<String, String> {
    match host.call(name, body.into(), Duration::from_secs(5)).await {
        Ok(reply) => Ok(String::from_utf8_lossy(&reply).to_string()),
        Err(paguro::control::RequestError::Call { error, .. }) => Err(error.to_string()),
        Err(other) => Err(other.to_string()),
    }
}

/// Waits until a condition holds; says what was waited for if it never does.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for an event, from the host's start on.
pub async fn event(host: &Host, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut events = host.recorder().events().follow(0);
    let waiting = async {
        loop {
            match events.next().await {
                Ok(recorded) if wanted(&recorded.item) => return recorded.item.clone(),
                Ok(_) | Err(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// How a worker stands, in a word.
pub fn standing(host: &Host, name: &str) -> String {
    host.worker(name).map(|worker| worker.status().standing.word().to_string()).unwrap_or_else(|_| "absent".to_string())
}

/// What happened to one worker or supervisor so far.
pub fn events_of(host: &Host, name: &str) -> Vec<Event> {
    let all = host.recorder().events().after(0).into_iter().map(|recorded| recorded.item);
    all.filter(|event| event.subject().is_some_and(|subject| subject.as_str() == name)).collect()
}

/// A call whose request and reply are JSON.
pub async fn ask(host: &Host, name: &str, request: Value) -> Result<Value, String> {
    let reply = call(host, name, &request.to_string()).await?;
    Ok(serde_json::from_str(&reply).unwrap_or(Value::String(reply)))
}

/// The ledger's actions about one worker, in order.
pub fn decisions(host: &Host, name: &str) -> Vec<String> {
    let name = Name::parse(name).expect("it is a name");
    let entries = host.database().ledger_for(&name, 1_000).expect("the ledger can be read");
    entries.iter().map(|entry| entry.action.to_string()).collect()
}
