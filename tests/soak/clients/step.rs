//! What a client does, drawn from a seed.

use fastrand::Rng;

use crate::plan::magnitude;
use crate::site::NEIGHBOUR;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub door: Door,
    pub behaviour: Behaviour,
}

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Unix,
    Token,
    NoToken,
    WrongToken,
}

impl Door {
    pub fn name(self) -> &'static str {
        match self {
            Door::Unix => "unix",
            Door::Token => "token",
            Door::NoToken => "no-token",
            Door::WrongToken => "wrong-token",
        }
    }
}

/// Who a large body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Nobody,
    Neighbour,
    Sleeper,
    Start,
    State,
    Check,
}

impl To {
    pub fn target(self) -> String {
        match self {
            To::Nobody => "/v1/workers/nobody/call".to_string(),
            To::Neighbour => format!("/v1/workers/{NEIGHBOUR}/call"),
            To::Sleeper => "/v1/workers/sleeper/cast".to_string(),
            To::Start => "/v1/workers/nobody%2Fkey/start".to_string(),
            To::State => "/v1/workers/nobody/state".to_string(),
            To::Check => "/v1/check".to_string(),
        }
    }
}

macro_rules! behaviours {
    ($($(#[$doc:meta])* $variant:ident = $word:literal { $($field:ident : $type:ty),* })*) => {
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Behaviour { $($(#[$doc])* $variant { $($field: $type),* },)* }

        impl Behaviour {
            #[cfg(test)]
            pub const NAMES: &[&str] = &[$($word),*];

            pub fn name(&self) -> &'static str {
                match self { $(Behaviour::$variant { .. } => $word,)* }
            }
        }
    };
}

behaviours! {
    /// Connects and says nothing.
    Silent = "silent" { connections: u32 }
    /// Begins a header and stops.
    HalfHeader = "half-header" { connections: u32 }
    /// Sends a byte now and then.
    Slow = "slow" { pause_ms: u32, in_body: bool }
    /// Announces a body of this length, and sends little of it.
    HugeLength = "huge-length" { bytes: u64 }
    /// Sends a large body, perhaps all but its last byte.
    Body = "body" { to: To, bytes: u32, finish: bool }
    /// Sends a body in chunks that does not end.
    Chunks = "chunks" { chunk: u32, count: u32 }
    /// Asks for a stream and never reads it.
    Follower = "follower" { what: &'static str }
    /// Makes a worker write what followers do not read.
    Talk = "talk" { lines: u32 }
    /// Sends many requests and reads no answer.
    Pipeline = "pipeline" { requests: u32 }
    /// Sends no HTTP at all.
    Noise = "noise" { bytes: u32, seed: u64 }
    /// A method, a name or a query that is not as it should be.
    Odd = "odd" { method: &'static str, target: String }
    /// Asks for something long and goes away.
    Leave = "leave" { target: &'static str }
}

const STREAMS: [&str; 4] =
    ["/v1/logs/follow", "/v1/events/follow", "/v1/logs/follow?after=0&worker=talker", "/v1/logs?after=0"];
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X-NONE"];
const TARGETS: [&str; 10] = [
    "/",
    "/v1/workers?limit=99999999999999999999",
    "/v1/workers?after=%00",
    "/v1/ledger?after=-1",
    "/v1/ledger?worker=nobody",
    "/metrics",
    "/v1/tree",
    "/v1/doctor",
    "/v1/workers/..%2F..%2Fetc/state",
    "/v1/dead-letters/18446744073709551615",
];

pub struct Plan(Rng);

impl Plan {
    pub fn new(seed: u64) -> Plan {
        Plan(Rng::with_seed(seed))
    }

    fn about(&mut self, least: u32, most: u32) -> u32 {
        u32::try_from(magnitude(&mut self.0, u64::from(least), u64::from(most))).unwrap_or(most)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.usize(..all.len())]
    }

    fn odd(&mut self) -> Behaviour {
        let method = self.pick(&METHODS);
        let long = self.about(1, 60_000) as usize;
        let target = match self.0.u32(0..4) {
            0 => format!("/v1/workers/{}/call", "n".repeat(long)),
            1 => format!("/v1/workers?after={}", "%2F".repeat(long / 3)),
            // Close to a name that there is: the host looks for what was meant.
            2 => "/v1/workers/neighbuor".to_string(),
            _ => self.pick(&TARGETS).to_string(),
        };
        Behaviour::Odd { method, target }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let door = self.pick(&[Door::Unix, Door::Token, Door::NoToken, Door::WrongToken]);
        let behaviour = match self.0.u32(0..24) {
            0 => Behaviour::Silent { connections: self.about(1, 200) },
            1 | 2 => Behaviour::HalfHeader { connections: self.about(1, 200) },
            3 => Behaviour::Slow { pause_ms: self.about(1, 20), in_body: self.0.bool() },
            4 => Behaviour::HugeLength { bytes: magnitude(&mut self.0, 1 << 20, 100_000_000_000_000) },
            5..=7 => Behaviour::Body {
                to: self.pick(&[To::Nobody, To::Neighbour, To::Sleeper, To::Start, To::State, To::Check]),
                bytes: self.about(1 << 16, 100 << 20),
                finish: self.0.bool(),
            },
            8 => Behaviour::Chunks { chunk: self.about(1, 1 << 20), count: self.about(1, 200) },
            9 | 10 => Behaviour::Follower { what: self.pick(&STREAMS) },
            11..=13 => Behaviour::Talk { lines: self.about(10, 2_000) },
            14 => Behaviour::Pipeline { requests: self.about(10, 5_000) },
            15 | 16 => Behaviour::Noise { bytes: self.about(1, 100_000), seed: self.0.u64(..) },
            17..=22 => self.odd(),
            _ => Behaviour::Leave { target: self.pick(&["/v1/workers/sleeper/call", "/v1/workers/talker/restart"]) },
        };
        Some(Step { door, behaviour })
    }
}
