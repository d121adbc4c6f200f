//! What a seed decides: the shape of a tree, the settings of what is in it, and what is done to it.
//! Plain data, drawn before anything runs, so that a plan can be cut down while it still fails, and
//! kept as a file (`found/`) when it has found something.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// One run of the simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides what the host itself leaves to chance.
    pub seed: u64,
    /// Milliseconds by which the clocks move at one time.
    pub grain: u64,
    /// The root first; a parent before its children.
    pub supervisors: Vec<Supervisor>,
    pub workers: Vec<Worker>,
    pub steps: Vec<Step>,
    /// Bytes that the account of memory has left for what is no instance; `None`: more than is ever used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Empty: the root.
    pub name: String,
    pub intensity: u32,
    /// Milliseconds, as are all times here.
    pub period: u64,
    pub order: Vec<String>,
    pub backoff: u64,
    pub backoff_max: u64,
    pub jitter: u32,
    pub healthy_after: u64,
    pub strategy: Strategy,
    pub auto_shutdown: AutoShutdown,
    /// Escalation steps: restarts of one child within the period.
    pub isolate: Option<u32>,
    pub escalate: Option<u32>,
    /// As a child of its parent.
    pub restart: Restart,
    pub shutdown: Shutdown,
    pub after: Vec<String>,
    pub significant: bool,
    /// Under simple-one-for-one: what its children are made of. Their keys are `k0`, `k1`, ...
    pub template: Option<Box<Worker>>,
    pub on_demand: bool,
    /// Under simple-one-for-one: each key has the intensity for itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    OneForOne,
    OneForAll,
    RestForOne,
    SimpleOneForOne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutoShutdown {
    Never,
    Any,
    All,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub name: String,
    pub restart: Restart,
    pub shutdown: Shutdown,
    pub mailbox: usize,
    /// Time for one message, and for a start.
    pub deadline: u64,
    pub start: u64,
    /// What becomes of its starts, by incarnation; those beyond the list go well.
    pub starts: Vec<Fate>,
    /// How long `terminate` takes.
    pub terminate: u64,
    /// Siblings that start before it.
    pub after: Vec<String>,
    pub significant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    Permanent,
    Transient,
    Temporary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    Kill,
    Time(u64),
    Infinity,
}

/// As the guest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    Well,
    Error,
    Trap,
    Slow(u64),
    /// It stops itself in its start.
    Ignore,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub action: Action,
    pub then: Then,
}

/// What follows an action before the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// The next one at once, before anybody has seen this one.
    Go,
    /// Until nobody has anything to do.
    Settle,
    /// So many milliseconds.
    Pass(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    Cast {
        to: String,
        operation: String,
    },
    Call {
        to: String,
        operation: String,
        deadline: u64,
    },
    /// Many at once.
    Flood {
        to: String,
        casts: u32,
        calls: u32,
    },
    Start(String),
    Stop(String),
    Restart(String),
    Isolate(String),
    Delete(String),
    Remove(String),
    AddWorker(Worker),
    AddSupervisor(Supervisor),
    Configure(Supervisor),
    ConfigureWorker(Worker),
    Nothing,
}

/// A worker that answers no call and never fails: others wait for it to let time pass.
pub const MUTE: &str = "mute";

const STEPS: usize = 60;
/// No call waits longer, and no guest is busy longer with one thing.
pub const LONGEST_WAIT: u64 = 2_000;

/// What the seed says.
pub fn plan(seed: u64) -> Plan {
    let mut dice = Dice { rng: Rng::with_seed(seed) };
    let mut supervisors = vec![dice.supervisor("")];
    supervisors[0].order = vec![MUTE.to_string()];
    for name in ["a", "b", "a/c", "t"] {
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        if supervisors.iter().any(|supervisor| supervisor.name == parent) && dice.one_in(2) {
            supervisors.push(if name == "t" { dice.templated(name) } else { dice.supervisor(name) });
        }
    }
    let mut workers = vec![mute()];
    for supervisor in supervisors.iter().filter(|supervisor| supervisor.template.is_none()) {
        for at in 0..dice.rng.usize(1..=3) {
            workers.push(dice.worker(&below(&supervisor.name, &format!("w{at}"))));
        }
    }
    let mut cast = Cast { supervisors: supervisors.clone(), workers: workers.clone() };
    let steps = (0..STEPS).map(|_| Step { action: dice.action(&mut cast), then: dice.then() }).collect();
    let grain = dice.pick(&[1, 5, 20]);
    // Where there are no keys, of which the host would have to make fewer: one plan of three. Drawn last, so that a
    // seed's other decisions are what they were.
    let has_keys = supervisors.iter().any(|supervisor| supervisor.template.is_some());
    let account = (!has_keys && dice.one_in(3)).then(|| dice.pick(&[8_192, 20_480, 65_536]));
    Plan { seed, grain, supervisors, workers, steps, account }
}

/// Who takes part, as far as the script knows.
struct Cast {
    supervisors: Vec<Supervisor>,
    workers: Vec<Worker>,
}

struct Dice {
    rng: Rng,
}

impl Dice {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())].clone()
    }

    fn supervisor(&mut self, name: &str) -> Supervisor {
        let backoff = self.pick(&[0, 10, 100, 400]);
        Supervisor {
            name: name.to_string(),
            intensity: self.pick(&[0, 1, 1, 2, 3, 6]),
            period: self.pick(&[500, 2_000, 5_000]),
            order: if self.one_in(4) { vec!["w1".to_string()] } else { Vec::new() },
            backoff,
            backoff_max: backoff * self.pick(&[1, 3, 10]),
            jitter: self.pick(&[0, 20, 100]),
            healthy_after: self.pick(&[300, 2_000]),
            strategy: match name {
                "" => self.pick(&[Strategy::OneForOne, Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
                _ => self.pick(&[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
            },
            auto_shutdown: self.pick(&[AutoShutdown::Never, AutoShutdown::Any, AutoShutdown::All]),
            isolate: self.pick(&[None, None, Some(1), Some(2)]),
            escalate: self.pick(&[None, None, Some(1), Some(2)]),
            restart: self.pick(&[Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary]),
            shutdown: self.pick(&[Shutdown::Infinity, Shutdown::Infinity, Shutdown::Time(40), Shutdown::Time(1_000)]),
            after: if self.one_in(4) { vec!["w0".to_string()] } else { Vec::new() },
            significant: self.one_in(3),
            template: None,
            on_demand: false,
            each_key: false,
        }
        .fitting()
    }

    /// A supervisor whose children are keys of a template.
    fn templated(&mut self, name: &str) -> Supervisor {
        // Keys are never significant.
        let template = Worker { significant: false, ..self.worker(&below(name, "template")) };
        let template = Some(Box::new(template));
        let on_demand = self.one_in(2);
        let strategy = Strategy::SimpleOneForOne;
        let each_key = self.one_in(2);
        Supervisor { strategy, template, on_demand, each_key, order: Vec::new(), ..self.supervisor(name) }
    }

    fn worker(&mut self, name: &str) -> Worker {
        let fates = if self.one_in(2) { self.rng.usize(1..=5) } else { 0 };
        Worker {
            name: name.to_string(),
            restart: self.pick(&[Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary]),
            shutdown: self.pick(&[Shutdown::Kill, Shutdown::Time(50), Shutdown::Time(1_000), Shutdown::Infinity]),
            mailbox: self.pick(&[3, 10, 1_000]),
            deadline: self.pick(&[400, 5_000]),
            start: self.pick(&[200, 10_000]),
            starts: (0..fates).map(|_| self.fate()).collect(),
            terminate: self.pick(&[0, 0, 0, 30, 300]),
            after: match name.rsplit('/').next() {
                Some("w1" | "w3") if self.one_in(4) => vec!["w0".to_string()],
                Some("w2") if self.one_in(4) => vec!["w0".to_string(), "w1".to_string()],
                _ => Vec::new(),
            },
            significant: self.one_in(2),
        }
        .fitting()
    }

    fn fate(&mut self) -> Fate {
        match self.rng.u32(0..20) {
            0..2 => Fate::Error,
            2..4 => Fate::Trap,
            4..7 => Fate::Slow(self.pick(&[20, 150, 700])),
            7 => Fate::Ignore,
            _ => Fate::Well,
        }
    }

    fn then(&mut self) -> Then {
        match self.rng.u32(0..10) {
            0..4 => Then::Go,
            4..6 => Then::Settle,
            _ => Then::Pass(self.pick(&[1, 7, 60, 60, 250, 1_500])),
        }
    }

    fn action(&mut self, cast: &mut Cast) -> Action {
        match self.rng.u32(0..100) {
            0..30 => Action::Cast { to: self.receiver(cast), operation: self.operation(cast) },
            30..60 => Action::Call {
                to: self.receiver(cast),
                operation: self.operation(cast),
                deadline: self.pick(&[50, 300, LONGEST_WAIT]),
            },
            60..65 => {
                Action::Flood { to: self.receiver(cast), casts: self.pick(&[0, 5, 20]), calls: self.pick(&[0, 5, 20]) }
            }
            65..71 => Action::Start(self.child(cast)),
            71..77 => Action::Stop(self.child(cast)),
            77..82 => Action::Restart(self.child(cast)),
            82 => Action::Isolate(self.child(cast)),
            83 => Action::Delete(self.child(cast)),
            84..87 => Action::Remove(self.receiver(cast)),
            87..91 => {
                let parents: Vec<&Supervisor> =
                    cast.supervisors.iter().filter(|parent| parent.template.is_none()).collect();
                let parent = self.pick(&parents).name.clone();
                let name = below(&parent, &format!("w{}", self.rng.u32(0..5)));
                let worker = self.worker(&name);
                cast.workers.push(worker.clone());
                Action::AddWorker(worker)
            }
            91..92 => {
                let supervisor = self.supervisor("d");
                cast.supervisors.push(supervisor.clone());
                Action::AddSupervisor(supervisor)
            }
            92..96 => {
                let before = self.pick(&cast.supervisors);
                let name = before.name.clone();
                let mut supervisor = match before.template {
                    // What its children are made of is not the supervisor's affair.
                    Some(template) => {
                        Supervisor { template: Some(template), on_demand: before.on_demand, ..self.templated(&name) }
                    }
                    None => self.supervisor(&name),
                };
                if name.is_empty() {
                    supervisor.order.insert(0, MUTE.to_string());
                }
                Action::Configure(supervisor)
            }
            96..98 => {
                let names: Vec<String> = cast.workers.iter().skip(1).map(|worker| worker.name.clone()).collect();
                let name = self.pick(&names);
                Action::ConfigureWorker(self.worker(&name))
            }
            _ => Action::Nothing,
        }
    }

    /// A worker that is known to the script, whether or not it is there.
    fn receiver(&mut self, cast: &Cast) -> String {
        let keyed: Vec<&Supervisor> = cast.supervisors.iter().filter(|one| one.template.is_some()).collect();
        if !keyed.is_empty() && self.one_in(3) {
            return below(&self.pick(&keyed).name, &format!("k{}", self.rng.u32(0..3)));
        }
        let others: Vec<&Worker> = cast.workers.iter().filter(|worker| worker.name != MUTE).collect();
        others[self.rng.usize(0..others.len())].name.clone()
    }

    fn child(&mut self, cast: &Cast) -> String {
        let below_root = cast.supervisors.len() - 1;
        if below_root > 0 && self.one_in(4) {
            return cast.supervisors[self.rng.usize(1..=below_root)].name.clone();
        }
        self.receiver(cast)
    }

    fn operation(&mut self, cast: &Cast) -> String {
        match self.rng.u32(0..20) {
            0..3 => "die".to_string(),
            3..5 => format!("slow {}", self.pick(&[5, 80, 350, 900])),
            5 => format!("leave {}", self.pick(&["normal", "shutdown", "unwell"])),
            6 => "never".to_string(),
            7 => "refuse no".to_string(),
            8..11 => format!("cast {} ID {}", self.receiver(cast), self.plain()),
            11..13 => format!("call {} ID {}", self.receiver(cast), self.plain()),
            13 => format!("after {} ID {}", self.pick(&[1, 100, 800]), self.plain()),
            _ => "count".to_string(),
        }
    }

    /// What a worker asks of another.
    fn plain(&mut self) -> String {
        self.pick(&["count", "count", "slow 40", "die", "refuse no"]).to_string()
    }
}

fn mute() -> Worker {
    Worker {
        name: MUTE.to_string(),
        restart: Restart::Permanent,
        shutdown: Shutdown::Time(1_000),
        mailbox: 1_000,
        deadline: 5_000,
        start: 10_000,
        starts: Vec::new(),
        terminate: 0,
        after: Vec::new(),
        significant: false,
    }
}

impl Supervisor {
    /// Without what the host refuses.
    fn fitting(self) -> Supervisor {
        Supervisor { significant: self.significant && self.restart != Restart::Permanent, ..self }
    }
}

impl Worker {
    fn fitting(self) -> Worker {
        Worker { significant: self.significant && self.restart != Restart::Permanent, ..self }
    }
}

fn below(parent: &str, leaf: &str) -> String {
    if parent.is_empty() { leaf.to_string() } else { format!("{parent}/{leaf}") }
}
