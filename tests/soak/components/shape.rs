//! What a component is like, drawn from a seed.

use fastrand::Rng;

use crate::plan::magnitude;

/// One component, and how it reaches the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub shape: Shape,
    pub way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    File,
    Check,
    CheckAgainst,
    DryRun,
    Upgrade,
}

impl Way {
    #[cfg(test)]
    pub const NAMES: &[&str] = &["file", "check", "check-against", "dry-run", "upgrade"];

    pub fn name(self) -> &'static str {
        match self {
            Way::File => "file",
            Way::Check => "check",
            Way::CheckAgainst => "check-against",
            Way::DryRun => "dry-run",
            Way::Upgrade => "upgrade",
        }
    }
}

macro_rules! shapes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal { $($field:ident : $type:ty),* })*) => {
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Shape { $($(#[$doc])* $variant { $($field: $type),* },)* }

        impl Shape {
            #[cfg(test)]
            pub const NAMES: &[&str] = &[$($word),*];

            pub fn name(&self) -> &'static str {
                match self { $(Shape::$variant { .. } => $word,)* }
            }
        }
    };
}

shapes! {
    /// A function with so many `i64` locals, all live through so many joins of its control flow.
    Joins = "joins" { locals: u32, joins: u32 }
    /// A module of so many globals, instantiated so many times.
    Globals = "globals" { globals: u32, times: u32 }
    /// A module of so many functions that can be referred to, instantiated so many times.
    Functions = "functions" { functions: u32, times: u32 }
    /// A module with so many tables of so many elements, instantiated so many times.
    Tables = "tables" { tables: u32, elements: u32, times: u32 }
    /// A module with so many memories of so many pages, instantiated so many times.
    Memories = "memories" { memories: u32, pages: u32, times: u32 }
    /// Blocks in blocks, so deep.
    Blocks = "blocks" { depth: u32 }
    /// One expression of so many operators.
    Expression = "expression" { operators: u32 }
    /// So many jump tables of so many targets.
    Jumps = "jumps" { tables: u32, targets: u32 }
    /// So many functions, each a little different, none of them expensive.
    Bodies = "bodies" { functions: u32 }
    /// Components in components, so deep.
    Nested = "nested" { depth: u32 }
    /// Each level instantiates the one below so many times: instances grow as a power.
    Powers = "powers" { fanout: u32, depth: u32 }
    /// Types of the component model that hold one another.
    Types = "types" { count: u32 }
    /// So many imports that nobody offers.
    Imports = "imports" { count: u32 }
    /// So many exports with names of so many bytes.
    Names = "names" { count: u32, bytes: u32 }
    /// A segment of data of so many bytes, placed at so many places.
    Data = "data" { bytes: u32, segments: u32 }
    /// A custom section of so many bytes.
    Custom = "custom" { bytes: u32 }
    /// A start function that never ends.
    Start = "start" {}
    /// A real guest with some of its bytes changed.
    Mutated = "mutated" { guest: usize, changes: u32, seed: u64 }
    /// A real guest that ends early, this far in thousandths.
    Truncated = "truncated" { guest: usize, at: u32 }
    /// A real guest, whole: what is hostile is what it does.
    Fault = "fault" { guest: usize }
    /// Bytes of any kind behind a header.
    Noise = "noise" { bytes: u32, seed: u64 }
}

impl Shape {
    /// Whether it takes long to make, for a test that only wants to see that it can be made.
    #[cfg(test)]
    pub fn is_large(&self) -> bool {
        match *self {
            Shape::Joins { locals, joins } => locals * joins > 1 << 16,
            Shape::Globals { globals: count, .. } | Shape::Functions { functions: count, .. } => count > 1 << 14,
            Shape::Data { bytes, segments } => bytes * segments > 1 << 20,
            Shape::Custom { bytes } => bytes > 1 << 20,
            _ => false,
        }
    }
}

/// Endless steps.
pub struct Plan(Rng);

impl Plan {
    pub fn new(seed: u64) -> Plan {
        Plan(Rng::with_seed(seed))
    }

    /// One of about this magnitude, at most `most`.
    fn about(&mut self, least: u32, most: u32) -> u32 {
        u32::try_from(magnitude(&mut self.0, u64::from(least), u64::from(most))).unwrap_or(most)
    }

    fn shape(&mut self) -> Shape {
        match self.0.u32(0..22) {
            0 => Shape::Joins { locals: self.about(64, 3_000), joins: self.about(64, 30_000) },
            // A minute and more than a gigabyte, and from there on.
            1 => Shape::Joins { locals: self.0.u32(1_000..=3_000), joins: self.0.u32(10_000..=30_000) },
            2 => Shape::Globals { globals: self.about(100, 1_000_000), times: self.about(1, 400) },
            3 => Shape::Functions { functions: self.about(100, 200_000), times: self.about(1, 40) },
            4 => Shape::Tables {
                tables: self.about(1, 100),
                elements: self.about(1, 10_000_000),
                times: self.about(1, 200),
            },
            5 => Shape::Memories {
                memories: self.about(1, 100),
                pages: self.about(1, 65_536),
                times: self.about(1, 200),
            },
            6 => Shape::Blocks { depth: self.about(10, 100_000) },
            7 => Shape::Expression { operators: self.about(10, 500_000) },
            8 => Shape::Jumps { tables: self.about(1, 300), targets: self.about(10, 10_000) },
            9 => Shape::Bodies { functions: self.about(10, 100_000) },
            10 => Shape::Nested { depth: self.about(2, 2_000) },
            11 => Shape::Powers { fanout: self.about(2, 30), depth: self.about(2, 12) },
            12 => Shape::Types { count: self.about(10, 100_000) },
            13 => Shape::Imports { count: self.about(1, 20_000) },
            14 => Shape::Names { count: self.about(1, 2_000), bytes: self.about(10, 90_000) },
            15 => Shape::Data { bytes: self.about(1, 4 << 20), segments: self.about(1, 16) },
            16 => Shape::Custom { bytes: self.about(1, 64 << 20) },
            17 => Shape::Start {},
            18 => Shape::Mutated { guest: self.0.usize(..), changes: self.about(1, 100), seed: self.0.u64(..) },
            19 => Shape::Truncated { guest: self.0.usize(..), at: self.0.u32(0..1_000) },
            20 => Shape::Fault { guest: self.0.usize(..) },
            _ => Shape::Noise { bytes: self.about(1, 1 << 20), seed: self.0.u64(..) },
        }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let shape = self.shape();
        let way = match self.0.u32(0..8) {
            0..=2 => Way::File,
            3 | 4 => Way::Check,
            5 => Way::CheckAgainst,
            6 => Way::DryRun,
            _ => Way::Upgrade,
        };
        Some(Step { shape, way })
    }
}
