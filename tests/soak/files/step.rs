//! What becomes of a name in the tree, drawn from a seed.

use fastrand::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file of this sort takes the place of what the name is, or changes places with it.
    Put {
        name: &'static str,
        sort: Sort,
        exchange: bool,
    },
    Remove {
        name: &'static str,
    },
    /// So many names become components, settle, and turn into this after a while: as the host opens the first, it
    /// knows the others as files.
    Turn {
        names: u32,
        after_ms: u32,
        sort: Sort,
    },
    /// Somebody goes on writing.
    Grow {
        name: &'static str,
        pieces: u32,
    },
    Move {
        from: &'static str,
        to: &'static str,
    },
    /// The host is asked for what it makes of it.
    Ask {
        target: &'static str,
    },
    /// Long enough now and then for a file to settle.
    Pause {
        ms: u32,
    },
}

impl Step {
    #[cfg(test)]
    pub const NAMES: &[&str] = &["put", "remove", "turn", "grow", "move", "ask", "pause"];

    pub fn name(&self) -> &'static str {
        match self {
            Step::Put { .. } => "put",
            Step::Remove { .. } => "remove",
            Step::Turn { .. } => "turn",
            Step::Grow { .. } => "grow",
            Step::Move { .. } => "move",
            Step::Ask { .. } => "ask",
            Step::Pause { .. } => "pause",
        }
    }
}

macro_rules! sorts {
    ($($(#[$doc:meta])* $variant:ident = $word:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sort { $($(#[$doc])* $variant,)* }

        impl Sort {
            pub const ALL: [Sort; sorts!(@count $($variant)*)] = [$(Sort::$variant),*];

            #[cfg(test)]
            pub fn name(self) -> &'static str {
                match self { $(Sort::$variant => $word,)* }
            }
        }
    };
    (@count) => { 0 };
    (@count $first:ident $($rest:ident)*) => { 1 + sorts!(@count $($rest)*) };
}

sorts! {
    Component = "component"
    OtherComponent = "other-component"
    HalfComponent = "half-component"
    Empty = "empty"
    Settings = "settings"
    WrongSettings = "wrong-settings"
    /// Larger than settings may be.
    HugeSettings = "huge-settings"
    Fifo = "fifo"
    Socket = "socket"
    Directory = "directory"
    Link = "link"
    LinkToNothing = "link-to-nothing"
    LinkToItself = "link-to-itself"
    LinkToFifo = "link-to-fifo"
    /// It has no end.
    LinkToDevice = "link-to-device"
    LinkToState = "link-to-state"
    /// A folder that holds itself.
    LinkToTree = "link-to-tree"
    /// A terabyte that takes no room.
    Sparse = "sparse"
    /// As large as a component may be, and nothing but zeros.
    SparseButSmall = "sparse-but-small"
    Unreadable = "unreadable"
}

/// Names that all hands change: workers, their settings, a folder and what is in it.
const NAMES: [&str; 9] = [
    "a.wasm",
    "b.wasm",
    "c.wasm",
    "a.toml",
    "b.toml",
    "supervisor.toml",
    "folder",
    "folder/a.wasm",
    "folder/supervisor.toml",
];
const MOVES: [(&str, &str); 6] = [
    ("folder", "folder2"),
    ("folder2", "folder"),
    ("a.wasm", "c.wasm"),
    ("a.toml", "b.toml"),
    ("folder/a.wasm", "a.wasm"),
    ("folder2", "folder/inner"),
];
const TARGETS: [&str; 4] = ["/v1/doctor", "/v1/health", "/v1/tree", "/v1/workers"];

pub struct Plan(Rng);

impl Plan {
    pub fn new(seed: u64) -> Plan {
        Plan(Rng::with_seed(seed))
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.usize(..all.len())]
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let name = self.pick(&NAMES);
        Some(match self.0.u32(0..40) {
            0..=1 => Step::Remove { name },
            2 => Step::Grow { name, pieces: self.0.u32(1..40) },
            3..=4 => {
                let (from, to) = self.pick(&MOVES);
                Step::Move { from, to }
            }
            5 => Step::Ask { target: self.pick(&TARGETS) },
            // The host looks twice, a tenth of a second apart: what settles is what it opens.
            6..=12 => Step::Pause { ms: self.pick(&[1, 10, 100, 110, 150, 250]) },
            39 => Step::Turn {
                names: self.0.u32(1..=20),
                after_ms: self.0.u32(95..400),
                sort: if self.0.bool() { Sort::Fifo } else { self.pick(&Sort::ALL) },
            },
            // A component comes more often than the rest: it is what makes the host open a file.
            13..=20 => Step::Put { name, sort: Sort::Component, exchange: self.0.bool() },
            _ => Step::Put { name, sort: self.pick(&Sort::ALL), exchange: self.0.bool() },
        })
    }
}
