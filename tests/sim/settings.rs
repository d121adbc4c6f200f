//! From a plan's settings to the host's.

use std::time::Duration;

use paguro::runtime::spec::{
    self, Backoff, Durability, Escalation, SupervisorAsChild, SupervisorSettings, WorkerSettings,
};
use paguro::sandbox::Limits;
use serde_json::json;

use crate::script::{AutoShutdown, Restart, Shutdown, Strategy, Supervisor, Worker};

pub fn supervisor(plan: &Supervisor) -> SupervisorSettings {
    SupervisorSettings {
        intensity: plan.intensity,
        period: ms(plan.period),
        each_key: plan.each_key,
        order: plan.order.clone(),
        backoff: Backoff {
            initial: ms(plan.backoff),
            max: ms(plan.backoff_max),
            factor: 2,
            jitter_percent: plan.jitter,
            healthy_after: ms(plan.healthy_after),
        },
        strategy: match plan.strategy {
            Strategy::OneForOne => spec::Strategy::OneForOne,
            Strategy::OneForAll => spec::Strategy::OneForAll,
            Strategy::RestForOne => spec::Strategy::RestForOne,
            Strategy::SimpleOneForOne => spec::Strategy::SimpleOneForOne,
        },
        auto_shutdown: match plan.auto_shutdown {
            AutoShutdown::Never => spec::AutoShutdown::Never,
            AutoShutdown::Any => spec::AutoShutdown::AnySignificant,
            AutoShutdown::All => spec::AutoShutdown::AllSignificant,
        },
        escalation: Escalation { circuit_break: None, isolate: plan.isolate, escalate: plan.escalate },
        on_demand: plan.on_demand,
        child: SupervisorAsChild {
            restart: restart(plan.restart),
            shutdown: shutdown(plan.shutdown),
            significant: plan.significant,
            after: plan.after.clone(),
        },
        ..SupervisorSettings::default()
    }
}

fn restart(plan: Restart) -> spec::Restart {
    match plan {
        Restart::Permanent => spec::Restart::Permanent,
        Restart::Transient => spec::Restart::Transient,
        Restart::Temporary => spec::Restart::Temporary,
    }
}

fn shutdown(plan: Shutdown) -> spec::Shutdown {
    match plan {
        Shutdown::Kill => spec::Shutdown::Kill,
        Shutdown::Time(time) => spec::Shutdown::Time(ms(time)),
        Shutdown::Infinity => spec::Shutdown::Infinity,
    }
}

pub fn worker(plan: &Worker) -> WorkerSettings {
    WorkerSettings {
        restart: Some(restart(plan.restart)),
        shutdown: shutdown(plan.shutdown),
        significant: plan.significant,
        after: plan.after.clone(),
        // The database has a thread of its own, whose pace is not the seed's.
        durability: Some(Durability::None),
        limits: Limits {
            mailbox: plan.mailbox,
            deadline: ms(plan.deadline),
            start: ms(plan.start),
            log_lines: u32::MAX,
            ..Limits::default()
        },
        config: json!({ "starts": plan.starts, "terminate": plan.terminate }).to_string(),
        ..WorkerSettings::default()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
