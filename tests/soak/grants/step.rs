//! What guests do with files, and what somebody does to their directories, drawn from a seed.

use fastrand::Rng;
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One worker does all of these in one call.
    Operations {
        worker: &'static str,
        operations: Value,
    },
    /// A worker is stopped and started: what it is granted is opened anew, or should not be.
    Restart {
        worker: &'static str,
    },
    /// A worker's settings are written anew.
    Settings {
        worker: usize,
        number: u32,
    },
    Move {
        what: &'static str,
        how: Moved,
    },
}

impl Step {
    #[cfg(test)]
    pub fn name(&self) -> &'static str {
        match self {
            Step::Operations { .. } => "operations",
            Step::Restart { .. } => "restart",
            Step::Settings { .. } => "settings",
            Step::Move { .. } => "move",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Aside,
    Back,
    Exchanged,
    Removed,
    Made,
    LinkToWorkers,
    LinkToState,
    LinkToAll,
    Unlinked,
}

impl Moved {
    const ALL: [Moved; 9] = [
        Moved::Aside,
        Moved::Back,
        Moved::Exchanged,
        Moved::Removed,
        Moved::Made,
        Moved::LinkToWorkers,
        Moved::LinkToState,
        Moved::LinkToAll,
        Moved::Unlinked,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Moved::Aside => "aside",
            Moved::Back => "back",
            Moved::Exchanged => "exchanged",
            Moved::Removed => "removed",
            Moved::Made => "made",
            Moved::LinkToWorkers => "link-to-workers",
            Moved::LinkToState => "link-to-state",
            Moved::LinkToAll => "link-to-all",
            Moved::Unlinked => "unlinked",
        }
    }
}

/// Whose steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    Guest,
    /// Somebody on the machine.
    Outside,
}

pub const WORKERS: [&str; 5] = ["alone", "nested", "below", "above", "reader"];
/// Directories that are granted, as they lie beside the tree.
pub const DIRECTORIES: [&str; 3] = ["shared/b", "shared", "other"];
/// Names that guests give, and nobody else.
pub const NAMES: [&str; 6] = ["gq-a", "gq-b", "gq-c", "gq-d", "gq-e", "gq-f"];
/// Where links and paths lead.
const PLACES: [&str; 16] = [
    "..",
    "../..",
    "../workers",
    "../workers/.paguro",
    "../../workers/.paguro",
    "../outside",
    "../outside/secret.txt",
    "../../outside/secret.txt",
    "../workers/neighbour.toml",
    "/etc",
    "/etc/passwd",
    "../../../../../../../etc/passwd",
    "b",
    ".",
    "b/../..",
    "/proc/self/root/etc/passwd",
];
/// What may be found once one is through.
const BOOTY: [&str; 9] = [
    "secret.txt",
    "deeper/key.pem",
    "passwd",
    "paguro.db",
    ".paguro/paguro.db",
    "neighbour.toml",
    "workers/neighbour.toml",
    "outside/secret.txt",
    "etc/passwd",
];

pub struct Plan {
    random: Rng,
    hand: Hand,
}

impl Plan {
    pub fn new(seed: u64, hand: Hand) -> Plan {
        Plan { random: Rng::with_seed(seed), hand }
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.usize(..all.len())]
    }

    /// A path as the guest sees it.
    fn path(&mut self) -> String {
        let root = self.pick(&["/a", "/a", "/b"]);
        let rest = match self.random.u32(0..10) {
            0 => return root.to_string(),
            1 => self.pick(&PLACES).to_string(),
            2 | 3 => self.pick(&BOOTY).to_string(),
            4 => format!("{}/{}", self.pick(&NAMES), self.pick(&BOOTY)),
            5 => format!("{}/{}", self.pick(&NAMES), self.pick(&NAMES)),
            6 => "b".to_string(),
            7 => format!("b/{}", self.pick(&BOOTY)),
            _ => self.pick(&NAMES).to_string(),
        };
        format!("{root}/{rest}")
    }

    fn operation(&mut self) -> Value {
        let text = super::WRITTEN;
        match self.random.u32(0..14) {
            0 | 1 => json!({ "rename": [self.path(), self.path()] }),
            2 | 3 => json!({ "symlink": [self.pick(&PLACES), self.path()] }),
            4 => json!({ "link": [self.path(), self.path()] }),
            5 => json!({ "mkdir": self.path() }),
            6 => json!({ "rmdir": self.path() }),
            7 => json!({ "remove": self.path() }),
            8 => json!({ "write": [self.path(), text] }),
            9 => json!({ "append": [self.path(), text] }),
            10 | 11 => json!({ "read": self.path() }),
            12 => json!({ "list": self.path() }),
            _ => json!({ "stat": self.path() }),
        }
    }

    /// The way out that was found once, step by step, among others.
    fn the_known_way(&mut self) -> Value {
        let to = self.pick(&["../workers", "../outside", "../workers/.paguro", ".."]);
        json!([
            { "rename": ["/a/b", format!("/a/{}", self.pick(&NAMES))] },
            { "symlink": [to, "/a/b"] },
            "trap",
        ])
    }

    /// Reads everything that may have come into reach.
    fn the_harvest(&mut self) -> Value {
        let root = self.pick(&["/a", "/b", "/a/b"]);
        let mut all = vec![json!({ "list": root })];
        all.extend(BOOTY.iter().map(|booty| json!({ "read": format!("{root}/{booty}") })));
        all.push(json!({ "write": [format!("{root}/{}", self.pick(&NAMES)), super::WRITTEN] }));
        Value::Array(all)
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.random.u32(0..30) == 0 {
            return Some(Step::Restart { worker: self.pick(&WORKERS) });
        }
        if self.hand == Hand::Outside {
            return Some(match self.random.u32(0..20) {
                0 => Step::Settings { worker: self.random.usize(..WORKERS.len()), number: self.random.u32(..) },
                // Made comes more often than the rest: without a directory there is nothing to grant.
                1..=5 => Step::Move { what: self.pick(&DIRECTORIES), how: Moved::Made },
                _ => Step::Move { what: self.pick(&DIRECTORIES), how: self.pick(&Moved::ALL) },
            });
        }
        let operations = match self.random.u32(0..10) {
            0 => self.the_known_way(),
            1..=3 => self.the_harvest(),
            _ => {
                let mut all: Vec<Value> = (0..self.random.usize(1..12)).map(|_| self.operation()).collect();
                if self.random.u32(0..10) == 0 {
                    all.push(json!("trap"));
                }
                Value::Array(all)
            }
        };
        Some(Step::Operations { worker: self.pick(&WORKERS), operations })
    }
}
