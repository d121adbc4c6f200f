//! Settings of workers and supervisors, as plain data with the defaults. How they are written in
//! TOML is `control::settings`' affair.

use std::time::Duration;

use crate::base::bounds;
use crate::sandbox::{Grants, Limits};

/// When a child that ended is started again (OTP.md, *Restart*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Unless the reason is `normal` or `shutdown`.
    Transient,
    /// Never.
    Temporary,
}

/// How a child is stopped (OTP.md, *Shutdown*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once, without asking.
    Kill,
    /// Ask, wait this long, then kill.
    Time(Duration),
    /// Ask and wait for ever.
    Infinity,
}

/// Which children are restarted when one fails (OTP.md, *Strategies*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The one that failed.
    OneForOne,
    /// All: the others are stopped in reverse order, then all start in order.
    OneForAll,
    /// The one that failed and those that start after it.
    RestForOne,
    /// One for one, for children by key of one template; none at first. On stop all are told at once.
    SimpleOneForOne,
}

/// Whether a supervisor ends when significant children end by themselves (OTP.md, *Significant
/// children*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Refuses significant children.
    Never,
    /// With the first.
    AnySignificant,
    /// With the last.
    AllSignificant,
}

/// How much depends on a child: a preset for what is not written (`Tier::presets` in
/// `control::settings`), and who waits first in a restart storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Everything else stands on it. Its restarts never wait for others'.
    ErrorKernel,
    Critical,
    #[default]
    Normal,
    /// Nice to have. Its restarts wait first.
    Peripheral,
}

/// When callers of a worker that fails are turned away at once, with `circuit-open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// It opens at this many failed messages within `window`. At least 1.
    pub failures: u32,
    pub window: Duration,
    /// How long it stays open before trial calls are let through.
    pub recovery: Duration,
    /// Calls let through at one time on trial; as many have to go well, one after another, before it
    /// closes. At least 1.
    pub trials: u32,
}

impl Default for BreakerSettings {
    fn default() -> BreakerSettings {
        BreakerSettings { failures: 5, window: Duration::from_secs(10), recovery: Duration::from_secs(10), trials: 1 }
    }
}

/// What follows when *one* child restarts more often than this within the supervisor's `period`, in
/// place of one more restart. `None`: that step is left out. Where several are reached, the last in
/// this order holds. The supervisor's own `intensity` stands beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Escalation {
    /// The child is restarted, and its circuit breaker opens.
    pub circuit_break: Option<u32>,
    /// The child is let go of; the others go on.
    pub isolate: Option<u32>,
    /// The supervisor gives up, and its parent decides.
    pub escalate: Option<u32>,
}

/// What all workers below a supervisor may use together. `None`: no bound of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubtreeBudget {
    /// Bytes: the sum of the workers' `limits.memory`.
    pub memory: Option<u64>,
    /// Fuel per second: the sum of the workers' `limits.cpu`; those that have none share what there is.
    pub cpu: Option<u64>,
}

/// A token bucket: `per_second` on average, `burst` at once. Both at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// How many messages a worker takes. Beyond: refused with `overloaded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// From all callers together.
    pub messages: Option<Rate>,
    /// From each caller: a worker by its name; all clients outside the tree count as one.
    pub per_caller: Option<Rate>,
}

/// What of a worker's state survives a crash and a host restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: every start is a fresh one, as in OTP.
    None,
    /// The last snapshot.
    Snapshot,
}

/// When a snapshot is taken between those on stop and before upgrades. Whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEvery {
    /// Messages handled since the last one: a crash of the worker loses fewer than this, one of the
    /// host fewer than twice this.
    pub messages: u64,
    /// Time since the last one, when a message was handled since.
    pub interval: Duration,
}

/// What becomes of the state and the messages since the switch when probation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRollback {
    /// The state from before the switch, and every message since handed to the old revision.
    Replay,
    /// The old component's `upgrade-state` takes the new one's state. Falls back to `Replay` where
    /// the new instance cannot save its state any more.
    Downgrade,
    /// The state from before the switch; messages since are let go, and counted.
    Drop,
}

/// How an upgrade of this worker goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeSettings {
    /// How long the old revision can come back by itself. Zero commits at once.
    pub probation: Duration,
    /// Messages after which probation ends before its time; `None`: by time only.
    pub probation_messages: Option<u64>,
    /// How often `health.check` is asked during probation.
    pub health_interval: Duration,
    /// Wall-clock time for `upgrade-state`, `restore-state` and `resume` together, in the
    /// rehearsal and again in the switch.
    pub migrate: Duration,
    /// Messages kept for a rollback. When reached, probation ends with the verdict so far.
    pub keep_messages: usize,
    /// Bytes kept for a rollback, requests and what was sent to others together.
    pub keep_bytes: u64,
    pub on_rollback: OnRollback,
}

impl Default for UpgradeSettings {
    fn default() -> UpgradeSettings {
        UpgradeSettings {
            probation: Duration::from_secs(30),
            probation_messages: None,
            health_interval: Duration::from_secs(1),
            migrate: Duration::from_secs(5),
            keep_messages: 100_000,
            keep_bytes: 64 << 20,
            on_rollback: OnRollback::Replay,
        }
    }
}

/// All settings of a worker. `None` where the default depends on the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Default: permanent; transient for a command, whose aim it is to end.
    pub restart: Option<Restart>,
    pub shutdown: Shutdown,
    /// Its own end can end its supervisor (`auto-shutdown`). Not for permanent children.
    pub significant: bool,
    /// Siblings that are started before it.
    pub after: Vec<String>,
    /// `None`: its supervisor's.
    pub tier: Option<Tier>,
    /// `None`: its supervisor's, if that has one, or its tier's.
    pub circuit_breaker: Option<BreakerSettings>,
    pub rate: RateLimits,
    /// How often `health.check` is asked outside of probation, where it is exported.
    pub health_interval: Duration,
    /// Default: snapshot where the component exports `state`, else none.
    pub durability: Option<Durability>,
    pub snapshot: SnapshotEvery,
    /// Idle this long, it hibernates, where it exports `state`. `None`: when it asks for it, or when
    /// there is no room for all.
    pub hibernate_after: Option<Duration>,
    pub limits: Limits,
    /// A JSON object, handed to the guest in its context.
    pub config: String,
    pub grants: Grants,
    pub upgrade: UpgradeSettings,
}

impl Default for WorkerSettings {
    fn default() -> WorkerSettings {
        WorkerSettings {
            restart: None,
            shutdown: Shutdown::Time(Duration::from_secs(5)),
            significant: false,
            after: Vec::new(),
            tier: None,
            circuit_breaker: None,
            rate: RateLimits::default(),
            health_interval: Duration::from_secs(30),
            durability: None,
            snapshot: SnapshotEvery { messages: 1_000, interval: Duration::from_secs(1) },
            hibernate_after: None,
            limits: Limits::default(),
            config: "{}".to_string(),
            grants: Grants::default(),
            upgrade: UpgradeSettings::default(),
        }
    }
}

/// How long to wait before a restart. The first restart after a healthy time never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second restart.
    pub initial: Duration,
    /// Never longer than this.
    pub max: Duration,
    /// Each wait is this many times the one before.
    pub factor: u32,
    /// Up to this many percent are taken off at random, so that many do not restart in step.
    pub jitter_percent: u32,
    /// A child that ran this long is healthy again: the count starts anew.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2,
            jitter_percent: 20,
            healthy_after: Duration::from_secs(30),
        }
    }
}

/// Settings of a supervisor: OTP's defaults (OTP.md, *Defaults*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorSettings {
    pub strategy: Strategy,
    /// It gives up when more than this many restarts happen within `period`.
    pub intensity: u32,
    pub period: Duration,
    /// Under simple-one-for-one: each key has `intensity` for itself and is isolated beyond it. So where no `intensity`
    /// is written: keys are strangers to one another, and what one of them fails at says nothing about the others.
    pub each_key: bool,
    /// Children that start first, one after another in this order; the others follow.
    pub order: Vec<String>,
    pub auto_shutdown: AutoShutdown,
    /// Under simple-one-for-one: the first message to a key starts its child.
    pub on_demand: bool,
    /// With `on_demand`, new keys in a second that one caller may have taken up, on average. At least 1.
    pub new_keys: u32,
    /// With `on_demand`: children that export no `state` and idle this long end. `None`: never.
    pub idle_stop: Option<Duration>,
    pub backoff: Backoff,
    pub escalation: Escalation,
    /// For children that have none of their own.
    pub circuit_breaker: Option<BreakerSettings>,
    pub budget: SubtreeBudget,
    pub tier: Tier,
    /// What its parent does about this supervisor.
    pub child: SupervisorAsChild,
}

/// A supervisor's own child spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorAsChild {
    pub restart: Restart,
    /// `Infinity`, or a time after which all below it is killed; never `Kill` or zero.
    pub shutdown: Shutdown,
    pub significant: bool,
    pub after: Vec<String>,
}

impl Default for SupervisorAsChild {
    fn default() -> SupervisorAsChild {
        SupervisorAsChild {
            restart: Restart::Permanent,
            shutdown: Shutdown::Infinity,
            significant: false,
            after: Vec::new(),
        }
    }
}

impl Default for SupervisorSettings {
    fn default() -> SupervisorSettings {
        SupervisorSettings {
            strategy: Strategy::OneForOne,
            intensity: 1,
            period: Duration::from_secs(5),
            each_key: true,
            order: Vec::new(),
            auto_shutdown: AutoShutdown::Never,
            on_demand: false,
            new_keys: bounds::NEW_KEYS_PER_SECOND,
            idle_stop: Some(bounds::IDLE_STOP),
            backoff: Backoff::default(),
            escalation: Escalation::default(),
            circuit_breaker: None,
            budget: SubtreeBudget::default(),
            tier: Tier::default(),
            child: SupervisorAsChild::default(),
        }
    }
}

/// What a change of a worker's settings means for one that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// Keys that hold from now on.
    pub in_place: Vec<&'static str>,
    /// Keys that need a new instance: what the guest was told or given when it started.
    pub restart: Vec<&'static str>,
}

impl SettingsChange {
    pub fn between(old: &WorkerSettings, new: &WorkerSettings) -> SettingsChange {
        let mut change = SettingsChange::default();
        let mut note = |key, differs: bool| {
            if differs {
                change.in_place.push(key);
            }
        };
        note("restart", old.restart != new.restart);
        note("shutdown", old.shutdown != new.shutdown);
        note("significant", old.significant != new.significant);
        note("after", old.after != new.after);
        note("tier", old.tier != new.tier);
        note("circuit-breaker", old.circuit_breaker != new.circuit_breaker);
        note("rate", old.rate != new.rate);
        note("health-interval", old.health_interval != new.health_interval);
        note("durability", old.durability != new.durability);
        note("snapshot", old.snapshot != new.snapshot);
        note("hibernate-after", old.hibernate_after != new.hibernate_after);
        note("limits", old.limits != new.limits);
        note("upgrade", old.upgrade != new.upgrade);
        if old.config != new.config {
            change.restart.push("config");
        }
        if old.grants != new.grants {
            change.restart.push("grants");
        }
        change
    }

    pub fn is_empty(&self) -> bool {
        self.in_place.is_empty() && self.restart.is_empty()
    }
}
