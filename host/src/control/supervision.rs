//! Supervisors and the health of what they supervise, as the wire says it.

use std::time::Duration;

use super::finding::FindingKind;
use super::host::{Host, RequestError};
use super::wire::{
    BackoffInfo, BreakerPolicyInfo, BudgetInfo, ChildHealth, CountsInfo, EscalationInfo, HealthInfo, MemoryInfo,
    ProblemInfo, RestartInfo, SupervisedInfo, SupervisorDetail, TotalsInfo,
};
use crate::base::units::show_duration;
use crate::base::{ExitReason, Holding, Name, bounds};
use crate::runtime::spec::{AutoShutdown, Restart, Shutdown, Strategy, SupervisorSettings, Tier};
use crate::runtime::supervision::{ChildKind, ChildState};
use crate::runtime::{ChildView, Page, Shared, Standing, View};

impl Host {
    /// One supervisor and a page of its children. The root's name is empty.
    pub async fn supervisor(&self, name: &Name, page: Page) -> Result<SupervisorDetail, RequestError> {
        if let Some(after) = &page.after {
            let is_there = self.services.registry.get(after).is_some() || self.tree.runs(after).is_some();
            if after.parent().as_ref() != Some(name) || !is_there {
                return Err(crate::runtime::TreeError::NotFound(after.clone()).into());
            }
        }
        let view = self.tree.look(name, page).await;
        let view = view.ok_or_else(|| crate::runtime::TreeError::NoSupervisor(name.clone()))?;
        let taken = self.services.budget_used(name);
        let state = if view.running { "" } else { self.state_of(name).await };
        Ok(SupervisorDetail { state: state.to_string(), ..self.detail(name, view, taken) })
    }

    /// How its parent has this supervisor; empty: nobody does.
    pub(super) async fn state_of(&self, name: &Name) -> &'static str {
        let Some(parent) = name.parent() else { return "" };
        let mut page = Page { after: None, limit: bounds::PAGE_ROWS_MAX };
        while let Some(View { children, more, .. }) = self.tree.look(&parent, page).await {
            if let Some(child) = children.iter().find(|child| child.spec.name == *name) {
                return child_word(child);
            }
            let Some(last) = children.into_iter().next_back().filter(|_| more) else { break };
            page = Page { after: Some(last.spec.name), limit: bounds::PAGE_ROWS_MAX };
        }
        ""
    }

    fn detail(&self, name: &Name, view: View, taken: Option<(u64, u64)>) -> SupervisorDetail {
        let View { settings, running, fell, restarts, counts, round, children, more } = view;
        let next = children.last().filter(|_| more).map(|child| child.spec.name.to_string());
        let (backoff, steps, budget) = (settings.backoff, settings.escalation, settings.budget);
        SupervisorDetail {
            name: if name.is_root() { "/".to_string() } else { name.to_string() },
            running,
            state: String::new(),
            reason: fell.filter(|_| !running).map(|why| why.to_string()),
            strategy: strategy(settings.strategy).to_string(),
            intensity: settings.intensity,
            each_key: is_each_key(&settings),
            period_ms: ms(settings.period),
            restarts: restarts
                .into_iter()
                .map(|(ago, child)| RestartInfo { child: child.to_string(), ago_ms: ms(ago) })
                .collect(),
            order: settings.order,
            auto_shutdown: auto_shutdown(settings.auto_shutdown).to_string(),
            on_demand: settings.on_demand,
            tier: tier(settings.tier).to_string(),
            backoff: BackoffInfo {
                initial_ms: ms(backoff.initial),
                max_ms: ms(backoff.max),
                factor: backoff.factor,
                jitter_percent: backoff.jitter_percent,
                healthy_after_ms: ms(backoff.healthy_after),
            },
            escalation: EscalationInfo {
                circuit_break: steps.circuit_break,
                isolate: steps.isolate,
                escalate: steps.escalate,
            },
            circuit_breaker: settings.circuit_breaker.map(|policy| BreakerPolicyInfo {
                failures: policy.failures,
                window_ms: ms(policy.window),
                recovery_ms: ms(policy.recovery),
                trials: policy.trials,
            }),
            budget: BudgetInfo {
                memory_bytes: budget.memory,
                memory_taken_bytes: taken.filter(|_| budget.memory.is_some()).map(|(memory, _)| memory),
                cpu: budget.cpu,
                cpu_taken: taken.filter(|_| budget.cpu.is_some()).map(|(_, cpu)| cpu),
            },
            restarting_with: round.map(|name| name.to_string()),
            counts: CountsInfo {
                specs: counts.specs,
                active: counts.active,
                supervisors: counts.supervisors,
                workers: counts.workers,
            },
            children: children.into_iter().map(|child| self.supervised(child)).collect(),
            next,
        }
    }

    fn supervised(&self, child: ChildView) -> SupervisedInfo {
        let word = child_word(&child);
        let ChildView { spec, state, restarts, .. } = child;
        let worker = self.services.registry.get(&spec.name);
        let hibernates = worker.is_some_and(|worker| worker.status().standing.word() == "hibernated");
        let state = if hibernates && state == ChildState::Running { "hibernated" } else { word };
        SupervisedInfo {
            name: spec.name.to_string(),
            kind: match spec.kind {
                ChildKind::Worker => "worker",
                ChildKind::Supervisor => "supervisor",
            }
            .to_string(),
            state: state.to_string(),
            restart: restart(spec.restart).to_string(),
            shutdown: shutdown(spec.shutdown),
            significant: spec.significant,
            after: spec.after,
            tier: tier(spec.tier).to_string(),
            restarts,
        }
    }

    /// How everything is: totals over all, and a page of workers.
    pub async fn health(&self, after: Option<&Name>, limit: usize) -> HealthInfo {
        let mut totals = TotalsInfo::default();
        let mut isolated = Vec::new();
        let mut fallen = Vec::new();
        let (gone, stopped) = self.fallen().await;
        let down: Vec<String> =
            gone.iter().map(Name::to_string).chain(stopped.iter().map(|problem| problem.of.clone())).collect();
        let mut pages = self.services.registry.pages();
        while let Some(page) = pages.next().await {
            for worker in &page {
                add(&mut totals, &mut isolated, self.child_health(worker));
                fallen.extend(fallen_worker(worker, &down).filter(|_| fallen.len() < bounds::FINDINGS_MAX));
            }
        }
        isolated.extend(gone.into_iter().map(|name| name.to_string()));
        isolated.truncate(bounds::PAGE_ROWS_MAX);
        let faults = self.problems().into_iter().filter(|finding| finding.kind.is_fault());
        let (late, faults): (Vec<_>, Vec<_>) = faults.partition(|finding| finding.kind == FindingKind::Unseen);
        let directory = late.first().map(|finding| format!("{}: {}", finding.path, finding.message));
        let mut problems: Vec<ProblemInfo> = faults
            .into_iter()
            .map(|finding| ProblemInfo { of: finding.path, why: finding.message, help: finding.help })
            .chain(stopped)
            .chain(fallen)
            .collect();
        problems.truncate(bounds::FINDINGS_MAX);
        let moving = directory.is_some()
            || !problems.is_empty()
            || totals.moving > 0
            || totals.degraded > 0
            || totals.breakers_open > 0;
        let starting = self.starting.info();
        let status = match () {
            () if !isolated.is_empty() || totals.critical > 0 => "critical",
            () if starting.is_some() => "starting",
            () if moving => "degraded",
            () => "healthy",
        };
        let page = self.services.registry.page(after, limit);
        let more = page.len() == limit;
        let children: Vec<ChildHealth> = page.iter().map(|worker| self.child_health(worker)).collect();
        let next = children.last().filter(|_| more).map(|child| child.name.clone());
        let memory = Some(self.memory());
        let status = status.to_string();
        HealthInfo { status, starting, totals, directory, isolated, problems, children, memory, next }
    }

    /// Supervisors that their parents let go of, which have nobody below them that could say so; and what does not run
    /// with why.
    async fn fallen(&self) -> (Vec<Name>, Vec<ProblemInfo>) {
        let (mut isolated, mut stopped) = (Vec::new(), Vec::new());
        for name in self.tree.supervisor_names() {
            let Some(view) = self.tree.look(&name, Page { after: None, limit: bounds::PAGE_ROWS_MAX }).await else {
                continue;
            };
            if let Some(why) = view.fell.filter(|_| !view.running) {
                let help = format!("`paguro events` says how it came to that, then `paguro start {name}`");
                let why = format!("the supervisor does not run: {why}");
                stopped.push(ProblemInfo { of: name.to_string(), why, help });
            }
            let gone = view
                .children
                .into_iter()
                .filter(|child| child.state == ChildState::Isolated && child.spec.kind == ChildKind::Supervisor);
            isolated.extend(gone.map(|child| child.spec.name));
        }
        (isolated, stopped)
    }

    /// Supervisors that do not run, and nobody asked them to stop.
    pub(super) async fn fallen_supervisors(&self) -> Vec<ProblemInfo> {
        let (isolated, mut fallen) = self.fallen().await;
        for name in isolated {
            if fallen.iter().all(|problem| problem.of != name.as_str()) {
                let help = format!("`paguro events` says how it came to that, then `paguro start {name}`");
                fallen.push(ProblemInfo { of: name.to_string(), why: "the supervisor is isolated".to_string(), help });
            }
        }
        fallen
    }

    /// What guests, clients and files make the host keep.
    pub fn memory(&self) -> MemoryInfo {
        let account = &self.services.account;
        let (holder, holder_used) = self.services.accounts.largest();
        MemoryInfo {
            used: account.used(),
            max: account.bytes_max(),
            by: Holding::ALL.map(|holding| (holding.word().to_string(), account.used_by(holding))).into(),
            holder: holder.to_string(),
            holder_used,
            refused: account.refused(),
        }
    }

    fn child_health(&self, worker: &Shared) -> ChildHealth {
        let status = worker.status();
        let now = self.services.clock.now();
        let runs = status.standing.is_up();
        let reason = match &status.standing {
            Standing::Isolated(why) => Some(why.to_string()),
            Standing::Down | Standing::Restarting => status.last_exit.as_ref().map(ToString::to_string),
            _ => None,
        };
        ChildHealth {
            name: worker.name().to_string(),
            state: status.standing.word().to_string(),
            health: health(worker),
            uptime_ms: runs.then(|| ms(now.since(status.up_since))),
            restarts: worker.counters.seen(|of| &of.restarts),
            breaker: breaker(worker),
            reason,
        }
    }
}

/// How a child is, as its supervisor has it.
pub(super) fn child_word(child: &ChildView) -> &'static str {
    match child.state {
        _ if child.restarting => "restarting",
        ChildState::Running => "running",
        ChildState::Starting => "starting",
        ChildState::Waiting => "waiting",
        ChildState::Restarting { .. } => "restarting",
        ChildState::Stopping(_) => "stopping",
        ChildState::Down => "down",
        ChildState::Isolated => "isolated",
    }
}

/// One that does not run because it failed, and that nothing starts again.
/// `fallen`: supervisors that do not run.
pub(super) fn fallen_worker(worker: &Shared, fallen: &[String]) -> Option<ProblemInfo> {
    let status = worker.status();
    // However it ended: one that was asked to, and does not run, is as it was asked to be.
    let failed = |why: &&ExitReason| !why.is_orderly() && !status.was_asked;
    let why = status.last_exit.as_ref().filter(failed).filter(|_| status.standing == Standing::Down)?;
    let name = worker.name();
    // The topmost: a start of it starts all below.
    let above = fallen
        .iter()
        .filter(|above| name.as_str().strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('/')));
    let help = match above.min_by_key(|above| above.len()) {
        Some(above) => format!("`paguro logs {name}`; mend its file or settings, then `paguro start {above}`"),
        None => format!("`paguro logs {name}`, then `paguro start {name}` or a new file"),
    };
    Some(ProblemInfo { of: name.to_string(), why: format!("it does not run: {why}"), help })
}

/// One that runs, or is about to, and is not well.
pub(super) fn ailing_worker(worker: &Shared) -> Option<ProblemInfo> {
    let (status, name) = (worker.status(), worker.name());
    let has_failed = status.last_exit.as_ref().is_some_and(|why| !why.is_orderly());
    let is_failing = status.standing == Standing::Restarting && has_failed;
    if !status.standing.is_up() && !is_failing {
        return None;
    }
    let last = || status.last_exit.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let says = health(worker).filter(|health| health != "healthy");
    let (why, help) = match () {
        () if status.standing == Standing::Restarting => {
            (format!("it is restarting{}", last()), format!("`paguro logs {name}` tells more"))
        }
        () if breaker(worker).is_some_and(|breaker| breaker == "open") => {
            let why = format!("its circuit breaker is open{}", last());
            (why, format!("`paguro logs {name}` tells more; it tries again by itself"))
        }
        () => (format!("it says that it is {}", says?), format!("`paguro logs {name}` tells more")),
    };
    Some(ProblemInfo { of: name.to_string(), why, help })
}

/// Counts one worker.
fn add(totals: &mut TotalsInfo, isolated: &mut Vec<String>, child: ChildHealth) {
    totals.workers += 1;
    totals.restarts += child.restarts;
    let says = |word: &str| child.health.as_ref().is_some_and(|health| health.starts_with(word));
    totals.degraded += u64::from(says("degraded"));
    totals.critical += u64::from(says("critical"));
    // One that is half-open has no failure that counts still, and waits for a message.
    totals.breakers_open += u64::from(child.breaker.as_ref().is_some_and(|breaker| breaker == "open"));
    match child.state.as_str() {
        "running" | "probation" => totals.running += 1,
        "hibernated" => totals.hibernated += 1,
        "down" => totals.down += 1,
        "isolated" => {
            totals.isolated += 1;
            if isolated.len() < bounds::PAGE_ROWS_MAX {
                isolated.push(child.name);
            }
        }
        _ => totals.moving += 1,
    }
}

/// What the worker's own `health.check` said last.
pub(super) fn health(worker: &Shared) -> Option<String> {
    worker.status().health.map(|(health, _)| health.to_string())
}

/// How the worker's circuit breaker stands, if it has one.
pub(super) fn breaker(worker: &Shared) -> Option<String> {
    worker.breaker().map(|view| view.state.to_string())
}

/// Whether the budget of restarts is that of each key.
pub(super) fn is_each_key(settings: &SupervisorSettings) -> bool {
    settings.each_key && settings.strategy == Strategy::SimpleOneForOne
}

pub(super) fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one-for-one",
        Strategy::OneForAll => "one-for-all",
        Strategy::RestForOne => "rest-for-one",
        Strategy::SimpleOneForOne => "simple-one-for-one",
    }
}

fn auto_shutdown(auto: AutoShutdown) -> &'static str {
    match auto {
        AutoShutdown::Never => "never",
        AutoShutdown::AnySignificant => "any-significant",
        AutoShutdown::AllSignificant => "all-significant",
    }
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::ErrorKernel => "error-kernel",
        Tier::Critical => "critical",
        Tier::Normal => "normal",
        Tier::Peripheral => "peripheral",
    }
}

fn restart(restart: Restart) -> &'static str {
    match restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    }
}

fn shutdown(shutdown: Shutdown) -> String {
    match shutdown {
        Shutdown::Kill => "kill".to_string(),
        Shutdown::Infinity => "infinity".to_string(),
        Shutdown::Time(time) => show_duration(time),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
