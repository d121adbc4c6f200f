//! What a supervisor does after a panic in its own task: its children are stopped in reverse order, it ends with the
//! fault as its reason, and its parent decides, as after any end.
//!
//! ```text
//! work panics --> caught --> what it knows is kept --> recover: all stop --> ended --> its parent starts it, or not
//!                   ^                                    |
//!                   +---- panics again, three times -----+--> given up: all below it is let go of, starts fail
//! ```
//!
//! What the policy has come to is not trusted after a panic, which may have been in its midst: a new one begins with
//! the children as they are known, all of them running, and stops them. A stop of one that does not run is answered
//! at once.
//!
//! Nobody is above the root. It stops what is below it and starts anew by itself, a few times; then the host is ended
//! in order, with an exit code of its own: what panics again and again is mended by nothing that runs here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::handle::Order;
use super::{Ask, ChildHandle, ChildState, Driver, Post, Reply, Report, Standing, dismiss, tell};
use crate::base::panics::{self, Hold, Survivor};
use crate::base::units::show_duration;
use crate::base::{ExitReason, HostFault, Tick, bounds};
use crate::record::Event;
use crate::runtime::faults::{Fuse, Fused};
use crate::runtime::supervision::{Answer, Ended, Supervision};

/// Faults in a row after which a supervisor is given up.
const FAULTS_IN_A_ROW_MAX: u8 = 3;

/// Runs a supervisor until it leaves the tree, whatever panics in it.
pub(super) async fn hold(post: Box<Post>, fuse: Option<Arc<dyn Fuse>>) {
    let whom = post.driver.name.clone();
    let survivor = Survivor::new(post);
    let mut fault = None;
    while let Some(post) = survivor.hold() {
        let work = work(post, fault.take());
        let done = match fuse.clone() {
            Some(fuse) => panics::guarded(Fused { whom: whom.clone(), fuse, task: Box::pin(work) }).await,
            None => panics::guarded(work).await,
        };
        match done {
            Ok(()) => return,
            Err(next) => fault = Some(next),
        }
    }
}

async fn work(mut post: Hold<Box<Post>>, fault: Option<HostFault>) {
    if let Some(fault) = fault {
        post.driver.row = post.driver.row.saturating_add(1);
        if post.driver.row > FAULTS_IN_A_ROW_MAX {
            return post.give_up(fault).await;
        }
        post.take_orders();
        post.driver.recover(fault).await;
    }
    post.run().await;
}

impl Post {
    /// What the parent ordered before the fault, and was not carried out: the end that follows is the answer. A start that
    /// came to be carried out after that would start what the parent holds for ended.
    fn take_orders(&mut self) {
        let driver = &mut self.driver;
        while let Ok(order) = self.ordered.try_recv() {
            match order {
                Order::Start => driver.told_to_stop = false,
                Order::Stop { comes_back } => (driver.told_to_stop, driver.comes_back) = (true, comes_back),
                Order::Kill => driver.told_to_stop = true,
                Order::Rest => driver.comes_back = false,
                Order::Rise => driver.comes_back = true,
            }
        }
    }
}

impl Driver {
    /// Stops all that is below it, and ends.
    async fn recover(&mut self, fault: HostFault) {
        let reason = self.fell(fault);
        self.at();
        self.policy = Supervision::after_fault(&self.policy, |name| self.children.contains_key(name));
        // Those that it had been given and had not come to take.
        let unknown: Vec<_> = self.children.keys().filter(|name| self.policy.child(name).is_none()).cloned().collect();
        for name in unknown {
            if let Some(handle) = self.children.remove(&name) {
                dismiss(&handle, &name, &self.services);
            }
        }
        self.isolate_again();
        let end = if self.told_to_stop { Ended::Asked } else { Ended::Itself(reason) };
        let now = self.services.clock.now();
        let actions = self.policy.end(end);
        self.runs.store(self.policy.is_running(), Ordering::Relaxed);
        self.carry_out(now, actions).await;
    }

    /// Carries out what was decided before the fault and may not have been done. A supervisor says itself how it stands.
    fn isolate_again(&self) {
        let now = self.services.clock.now();
        for child in self.policy.children().filter(|child| child.state == ChildState::Isolated) {
            let name = &child.spec.name;
            let Some(ChildHandle::Worker(worker)) = self.children.get(name) else { continue };
            if !matches!(worker.status().standing, Standing::Isolated(_)) {
                self.isolate(name, "decided before a fault of the host in its supervisor".to_string(), now);
            }
        }
    }

    /// Says so, and tells those who wait.
    fn fell(&mut self, fault: HostFault) -> ExitReason {
        let part = match self.name.is_root() {
            true => "the root supervisor: all that is below it is stopped, and starts again".to_string(),
            false => format!("the supervisor {:?}: all that is below it is stopped", self.name),
        };
        self.emit(Event::HostFault { part, fault: fault.clone() });
        let reason = ExitReason::host_fault(fault);
        (self.wake_at, self.start_at) = (None, None);
        self.kill_at.clear();
        self.killed_at.clear();
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            tell(waiting, |_| Reply::Failed(reason.clone()));
        }
        reason
    }

    /// All that was below the root has stopped after a fault of its own.
    pub(super) async fn root_fell(&mut self, now: Tick, reason: ExitReason) {
        self.row = 0;
        self.falls.retain(|at| now.since(*at) < bounds::ROOT_FAULTS_PERIOD);
        self.falls.push(now);
        if self.falls.len() <= bounds::ROOT_FAULTS_MAX {
            self.start_at = Some(now);
            return;
        }
        let (times, period) = (self.falls.len(), show_duration(bounds::ROOT_FAULTS_PERIOD));
        self.services
            .broke(&format!("the root supervisor fell {times} times within {period}, the last time so: {reason}"));
        self.tell_parent(Report::Exited { child: self.name.clone(), reason }).await;
    }
}

impl Post {
    /// Its recoveries panicked as well. All below it is let go of, and whatever is asked of it is refused.
    async fn give_up(&mut self, fault: HostFault) {
        let Post { driver, asked, ordered, reported } = self;
        let reason = driver.fell(fault);
        for (name, handle) in std::mem::take(&mut driver.children) {
            let _ = panics::catch(|| {
                match &handle {
                    ChildHandle::Worker(worker) => worker.kill(),
                    ChildHandle::Supervisor(supervisor) => supervisor.kill(),
                }
                dismiss(&handle, &name, &driver.services);
            });
        }
        driver.policy = Supervision::new(driver.name.clone(), driver.policy.settings().clone());
        driver.runs.store(false, Ordering::Relaxed);
        let child = driver.name.clone();
        if child.is_root() {
            driver.services.broke(&format!("the root supervisor cannot be brought back: {reason}"));
        }
        let report = match driver.told_to_stop {
            true => Report::Stopped { child: child.clone() },
            false => Report::Exited { child: child.clone(), reason: reason.clone() },
        };
        driver.tell_parent(report).await;
        loop {
            tokio::select! {
                biased;
                Some(order) = ordered.recv() => match order {
                    Order::Start => {
                        driver.tell_parent(Report::StartFailed { child: child.clone(), reason: reason.clone() }).await;
                    }
                    Order::Stop { .. } | Order::Kill => {
                        driver.tell_parent(Report::Stopped { child: child.clone() }).await;
                    }
                    Order::Rest | Order::Rise => {}
                },
                Some(_) = reported.recv() => {}
                ask = asked.recv() => match ask {
                    None | Some(Ask::Quit) => return driver.quit(asked),
                    Some(ask) => driver.refuse(ask),
                },
            }
        }
    }
}

impl Driver {
    fn refuse(&mut self, ask: Ask) {
        let done = match ask {
            Ask::Add { spec, handle, done } => {
                dismiss(&handle, &spec.name, &self.services);
                done
            }
            Ask::Look { page, done } => {
                let _ = done.send(self.view(&page));
                return;
            }
            Ask::Change { .. } | Ask::Configure { .. } | Ask::Quit => return,
            Ask::Remove { done, .. }
            | Ask::StartChild { done, .. }
            | Ask::RetryChild { done, .. }
            | Ask::StopChild { done, .. }
            | Ask::RestartChild { done, .. }
            | Ask::IsolateChild { done, .. }
            | Ask::DeleteChild { done, .. } => done,
        };
        let _ = done.send(Reply::Refused(Answer::SupervisorDown));
    }
}
